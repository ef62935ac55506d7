"""Row-wise results in the user's own kind of container, lazy where the input was lazy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from daskml_core.data.blocks import BlockedArray, Recipe
from daskml_core.data.grid import is_grid
from daskml_core.data.grid_output import Columns, map_grid, run_row_map
from daskml_core.data.identity import identity, name_of
from daskml_core.data.kind import is_lazy, package_of
from daskml_core.data.load import as_blocked
from daskml_core.data.missing import as_result
from daskml_core.data.read import compute_dtype, read_block
from daskml_core.sweep import Array, RowMap


def _apply(
    recipe: Recipe,
    row_map: RowMap,
    dtype: Any,
    index: int,
    start: int,
    names: Any,
    futures: dict[Any, Any] | None = None,
) -> Array:
    """One output block."""
    block = read_block((recipe, None, None), futures or {}, dtype, index, start, -1, check=True, names=names)
    return run_row_map(row_map, block)


def map_rows(
    X: Any, row_map: RowMap, *, feature_dim: str | None = None, columns: Columns | None = None, name: str | None = None
) -> Any:
    """The kernel's row for each row of X.

    Returns
    -------
    NumPy for NumPy, lists and pandas, computed now; a lazy Dask array for Dask and zarr, with X's row chunks; a
    DataArray for xarray, with the sample dimension's coordinates, lazy where X is; where the output has a column a
    feature, with the features' coordinates and in the order of X's dimensions.

    Raises
    ------
    ValueError : NaN or infinity in X, naming block and row; for lazy input when the result is computed. On a grid of
        several sample dimensions a sample with NaN has NaN for its result.
    """
    if is_grid(X):
        return map_grid(X, row_map, feature_dim=feature_dim, columns=columns, name=name)
    column, names = as_blocked(X, feature_dim=feature_dim)
    lazy = is_lazy(X) and getattr(X, "chunks", True) is not None
    if package_of(X) == "xarray":
        return _map_xarray(X, column, names, row_map, feature_dim, columns, name)
    return _lazy(column, row_map, names, identity(X)) if lazy else _computed(column, row_map, names)


def _computed(column: BlockedArray, row_map: RowMap, names: Any) -> Array:
    dtype = compute_dtype(column.dtype)
    lengths = [length or 0 for length in column.lengths]
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    calls = [
        functools.partial(_apply, recipe, row_map, dtype, i, starts[i], names)
        for i, recipe in enumerate(column.recipes)
    ]
    if len(calls) == 1:
        return calls[0]()
    import dask

    graph = {(row_map.kernel.task_name(row_map.params), i): (call,) for i, call in enumerate(calls)}
    return np.concatenate(dask.threaded.get(graph, list(graph)))


def _lazy(column: BlockedArray, row_map: RowMap, names: Any, of: str) -> Any:
    """A Dask array with one block a row-block of X; the parameters travel once, as a task of their own."""
    import dask
    import dask.array as da

    dtype = compute_dtype(column.dtype)
    name = name_of(row_map, of, str(dtype), names)
    shared = dask.delayed(row_map, name=f"parameters-of-{name}", pure=False)
    width = () if row_map.n_columns is None else (row_map.n_columns,)
    known = column.known
    starts = np.concatenate([[0], np.cumsum([n or 0 for n in column.lengths])]).tolist()
    parts = []
    for i, (recipe, length) in enumerate(zip(column.recipes, column.lengths, strict=True)):
        futures = {key: column.futures[key] for key in recipe.needs}
        place = starts[i] if known else 0
        block = dask.delayed(_apply, pure=False)(
            _Opaque(recipe), shared, dtype, i, place, names, futures, dask_key_name=(name, i)
        )
        rows = np.nan if length is None else length
        parts.append(da.from_delayed(block, shape=(rows, *width), dtype=row_map.dtype))
    return da.concatenate(parts, axis=0, allow_unknown_chunksizes=not known)


class _Opaque:
    """A recipe that Dask must not look into: its graph is run inside the task."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def read(self, values: Any) -> Array:
        return self.recipe.read(values)


def _map_xarray(
    X: Any,
    column: BlockedArray,
    names: Any,
    row_map: RowMap,
    feature_dim: str | None,
    columns: Columns | None,
    name: str | None,
) -> Any:
    import xarray as xr

    from daskml_core.data.from_xarray import dataset_dim, find_feature_dim

    kept = set()
    if hasattr(X, "data_vars"):
        dim = dataset_dim(X)
        lazy = any(array.chunks is not None for array in X.data_vars.values())
    else:
        features = find_feature_dim(X, feature_dim)
        dim = next(str(d) for d in X.dims if d != features)
        lazy = X.chunks is not None
        if columns is not None and columns[0] == features:  # one output a feature: the features' coordinates hold
            kept = {features}
    values = _lazy(column, row_map, names, identity(X)) if lazy else _computed(column, row_map, names)
    kept.add(dim)
    coords = {key: as_result(coord) for key, coord in X.coords.items() if set(coord.dims) <= kept}
    dims = [dim]
    if row_map.n_columns is not None:
        other, labels = columns or ("output", None)
        dims.append(other)
        if labels is not None and other not in coords:
            coords[other] = labels
    result = xr.DataArray(values, dims=dims, coords=coords, name=name)
    return result.transpose(*X.dims) if kept == set(dims) and len(dims) == 2 else result
