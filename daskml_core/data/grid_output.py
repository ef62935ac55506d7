"""Row-wise results on a grid: a lazy DataArray on the samples' dimensions, NaN where a sample lacks a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.data.from_xarray import find_feature_dim
from daskml_core.data.grid import Grid, chunked, features_of, on_grid
from daskml_core.data.identity import name_of
from daskml_core.data.missing import as_result, without_fill
from daskml_core.data.read import compute_dtype, refuse_not_finite
from daskml_core.data.zarr_in_dask import refuse_incomplete
from daskml_core.kernels.complete import rows_kept, rows_with_nan
from daskml_core.sweep import Array, Block, RowMap

Columns = tuple[str, Any]
"""Name of the output's second dimension, and its labels (or ``None``)."""


def run_row_map(row_map: RowMap, block: Block) -> Array:
    """The kernel's rows for a block, in the output's dtype."""
    from daskml_core.engine.blas import single_threaded_blas

    with single_threaded_blas():
        rows = row_map.kernel(block, row_map.params)
    return np.asarray(rows, dtype=row_map.dtype)


def with_nan(dtype: Any) -> np.dtype[Any]:
    """The dtype that holds a result or NaN: as xarray's own ``where`` has it.

    >>> with_nan("int32"), with_nan("float32"), with_nan("<U3")
    (dtype('float64'), dtype('float32'), dtype('O'))
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float64 if dtype.itemsize > 2 else np.float32) if dtype.kind in "iu" else np.dtype(object)


def _map_chunk(rows: Array, row_map: RowMap, dtype: Any, names: Any, result: Any, block_info: Any = None) -> Array:
    """One chunk (samples..., features) of the output."""
    shape = rows.shape[:-1]
    X = np.require(rows.reshape(-1, rows.shape[-1]), dtype=dtype, requirements=["C", "A"])
    missing = rows_with_nan(X)
    place = block_info[0]["array-location"] if block_info else []
    number = block_info[0]["chunk-location"] if block_info else 0
    kept = rows_kept(X, ~missing) if missing.any() else X
    refuse_not_finite(kept, "X", f"{number} at {place}", 0, names)
    out = run_row_map(row_map, Block(kept, None, None, 0, 0))
    if missing.any():
        whole = np.full((len(X), *out.shape[1:]), np.nan, dtype=result)
        whole[~missing] = out
        out = whole
    return np.asarray(out, dtype=result).reshape(*shape, *out.shape[1:])


def map_grid(X: Any, row_map: RowMap, *, feature_dim: str | None, columns: Columns | None, name: str | None) -> Any:
    """The kernel's row for each sample of a grid.

    Returns
    -------
    DataArray on the samples' dimensions, in X's order, and one more where there are several columns. Lazy, with X's chunks;
    coordinates that lie on these dimensions alone are kept, scalar ones (a grid mapping) as well. Integers become floats
    and text objects where X can hold NaN, so that a sample that lacks a value has NaN.
    """
    import dask.array as da
    import xarray as xr

    X = without_fill(X)
    _, names, held, grid = features_of(X, feature_dim)
    source, own = _features_last(X, grid, feature_dim)
    refuse_incomplete(source)
    dtype = compute_dtype(held)
    result = with_nan(row_map.dtype) if held.kind == "f" else np.dtype(row_map.dtype)
    last = source.ndim - 1
    chunks = source.chunks[:last] if row_map.n_columns is None else (*source.chunks[:last], (row_map.n_columns,))
    values = da.map_blocks(
        _map_chunk,
        source,
        row_map,
        dtype,
        names,
        result,
        name=name_of(row_map, source.name, str(dtype), names),
        dtype=result,
        chunks=chunks,
        drop_axis=[last] if row_map.n_columns is None else None,
        meta=np.empty((0,) * len(chunks), dtype=result),
    )
    dims = [*grid.dims]
    coords = grid.template.coords
    kept = {key: as_result(coord) for key, coord in coords.items() if set(coord.dims) <= set(grid.dims)}
    if row_map.n_columns is not None:
        other, labels = columns or ("output", None)
        dims.append(other)
        if own is not None and other == own.name:
            kept[other] = as_result(own)
        elif labels is not None:
            kept[other] = labels
    answer = xr.DataArray(values, dims=dims, coords=kept, name=name)
    if (mapping := _grid_mapping(X)) is not None:
        answer.attrs["grid_mapping"] = mapping
    return answer.transpose(*X.dims) if not hasattr(X, "data_vars") and set(dims) == set(X.dims) else answer


def _grid_mapping(X: Any) -> Any:
    """The grid mapping that X names, or all variables of a Dataset that name one."""
    arrays = [X, *X.data_vars.values()] if hasattr(X, "data_vars") else [X]
    named = {a.attrs.get("grid_mapping", a.encoding.get("grid_mapping")) for a in arrays} - {None}
    return named.pop() if len(named) == 1 else None


def _features_last(X: Any, grid: Grid, feature_dim: str | None) -> tuple[Any, Any]:
    """A Dask array (samples..., features), all features in one chunk, and the coordinate of the features."""
    import dask.array as da

    if hasattr(X, "data_vars"):
        chunks = dict(zip(grid.dims, grid.chunks, strict=True))
        parts = [on_grid(array, grid.dims, chunks).data for array in X.data_vars.values()]
        stacked = da.stack([part.astype(np.result_type(*parts)) for part in parts], axis=-1)
        return stacked.rechunk({-1: -1}), None
    dim = find_feature_dim(X, feature_dim)
    array = chunked(X).transpose(*grid.dims, dim)
    return array.data.rechunk({array.ndim - 1: -1}), X.coords.get(dim)
