"""Grids: xarray objects whose samples lie on several dimensions, such as time, latitude and longitude.

Each chunk of the sample dimensions is a row-block, its samples in C order. Nothing is stacked, indexed or copied: a block is
reshaped where it is read. Samples with NaN (a mask, a coast, clouds) are found in one sweep and left out from then on; their
bits, compressed, travel with the recipes.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.data.blocks import BlockedArray, Derived, RowBlocks
from daskml_core.data.from_dask import from_dask, may_read
from daskml_core.data.from_xarray import feature_labels, find_feature_dim, stack_features
from daskml_core.data.kind import is_dataarray, package_of
from daskml_core.data.missing import without_fill
from daskml_core.data.read import compute_dtype
from daskml_core.kernels.complete import Complete, keep

LATITUDES = ("lat", "latitude", "nav_lat")


@dataclass(frozen=True)
class Grid:
    """Where the samples lie."""

    dims: tuple[str, ...]
    """In the order in which samples are counted."""
    sizes: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]
    template: Any
    """A DataArray on these dimensions, with their coordinates; never read."""


def is_grid(X: Any) -> bool:
    """Whether X is a DataArray of three dimensions or more, or a Dataset with a variable of two or more."""
    if is_dataarray(X):
        return bool(X.ndim > 2)
    return package_of(X) == "xarray" and any(array.ndim > 1 for array in X.data_vars.values())


def chunked(array: Any) -> Any:
    """The DataArray with Dask chunks: those of its file where it was opened without, otherwise automatic ones."""
    if array.chunks is not None:
        return array
    if array.dtype.kind in "OT":  # text, whose size Dask cannot tell
        return array.chunk()
    preferred = array.encoding.get("preferred_chunks")
    return array.chunk({dim: preferred[dim] for dim in array.dims} if preferred else "auto")


def sizes_of(array: Any) -> dict[str, tuple[int, ...]]:
    """Chunks by dimension of the values alone: coordinates may be chunked in another way."""
    return dict(zip(map(str, array.dims), array.chunks, strict=True))


def _common_chunks(arrays: list[Any], dims: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The finest chunks that every array's chunks can be merged to.

    Arrays in memory follow the others; so do those that lack a dimension (a height, a land mask), which are small beside the
    rest: stored in one chunk, they would have all chunks of the others merged.
    """
    lazy = [array for array in arrays if array.chunks is not None]
    lacking = [dim for dim in dims if not any(dim in array.dims for array in lazy)]
    arrays = lazy + [chunked(array) for array in arrays if array.chunks is None and set(array.dims) & set(lacking)]
    found = {}
    for dim in dims:
        deciding = [a for a in arrays if set(a.dims) == set(dims)] or [a for a in arrays if dim in a.dims]
        ends = [set(np.cumsum(sizes_of(a)[dim]).tolist()) for a in deciding]
        shared = sorted(set.intersection(*ends))
        found[dim] = tuple(int(n) for n in np.diff([0, *shared]))
    return found


def _tell_merge(array: Any, chunks: dict[str, tuple[int, ...]], name: str) -> None:
    block = array.dtype.itemsize * int(np.prod([max(chunks[dim]) for dim in array.dims], dtype=np.int64))
    warnings.warn(
        f"The variables are chunked differently: chunks of {name!r} are merged, up to {block / 2**20:.1f} MiB a block. "
        "Chunk them alike where they are opened or written to avoid this.",
        UserWarning,
        stacklevel=4,
    )


def flatten_features(X: Any, feature_dim: str | None) -> tuple[BlockedArray, tuple[str, ...] | None, Grid]:
    """Row-blocks of a grid, its features' names, and where its samples lie; see also `features_of`.

    A Dataset's variables are its features; a variable that lacks some of the dimensions is repeated along them.
    """
    X = without_fill(X)
    if hasattr(X, "data_vars"):
        return _flatten_variables(X)
    _, names, _, grid = features_of(X, feature_dim)
    dim, array = find_feature_dim(X, feature_dim), chunked(X)
    return from_dask(array.data, feature_axis=array.dims.index(dim)), names, grid


def features_of(X: Any, feature_dim: str | None) -> tuple[int, tuple[str, ...] | None, np.dtype[Any], Grid]:
    """Number, names and common dtype of a grid's features, and where its samples lie; no graph is looked at."""
    X = without_fill(X)
    if hasattr(X, "data_vars"):
        arrays = list(X.data_vars.values())
        dims = tuple(dict.fromkeys(str(dim) for array in arrays for dim in array.dims))
        chunks = _common_chunks(arrays, dims)
        sizes = tuple(sum(chunks[dim]) for dim in dims)
        grid = Grid(dims, sizes, tuple(chunks[dim] for dim in dims), _template(X, dims))
        return len(arrays), tuple(map(str, X.data_vars)), np.result_type(*(a.dtype for a in arrays)), grid
    dim = find_feature_dim(X, feature_dim)
    array = chunked(X)
    template = X.isel({dim: 0}, drop=True)
    dims = tuple(str(d) for d in template.dims)
    grid = Grid(dims, template.shape, tuple(sizes_of(array)[d] for d in dims), template)
    return X.sizes[dim], feature_labels(X, dim), X.dtype, grid


def _flatten_variables(X: Any) -> tuple[BlockedArray, tuple[str, ...], Grid]:
    _, names, dtype, grid = features_of(X, None)
    arrays, chunks = list(X.data_vars.values()), dict(zip(grid.dims, grid.chunks, strict=True))
    columns = []
    for array in arrays:
        if array.chunks is not None and any(len(sizes_of(array)[dim]) > len(chunks[dim]) for dim in array.dims):
            _tell_merge(array, chunks, str(array.name))
        columns.append(from_dask(on_grid(array, grid.dims, chunks).data, feature_axis=None))
    first, *others = columns
    stacked = first.map(stack_features, dtype, dtype=dtype, others=others)
    return replace(stacked, trailing=(len(columns),), in_memory=False, encoded_bytes=None), names or (), grid


def _template(X: Any, dims: tuple[str, ...]) -> Any:
    """A DataArray of one repeated number with all coordinates of a Dataset."""
    import xarray as xr

    nothing = np.broadcast_to(np.float32(0), tuple(X.sizes[dim] for dim in dims))
    return xr.DataArray(nothing, dims=dims, coords=X.coords)


def on_grid(array: Any, dims: tuple[str, ...], chunks: dict[str, tuple[int, ...]]) -> Any:
    """A DataArray repeated along the dimensions it lacks, in the grid's order and chunks."""
    lacking = {dim: sum(chunks[dim]) for dim in dims if dim not in array.dims}
    if lacking:
        array = array.expand_dims(lacking)
    return array.transpose(*dims).chunk(chunks)


def _tell_other_chunks(value: Any, what: str) -> None:
    warnings.warn(
        f"{what} is chunked in another way than X: its chunks are cut and merged to X's. Held for it: at most "
        f"{value.nbytes / 2**20:.1f} MiB. Chunk it as X to avoid this.",
        UserWarning,
        stacklevel=4,
    )


def flatten_column(value: Any, grid: Grid, what: str) -> BlockedArray:
    """Row-blocks of a target or of weights on (some of) a grid's dimensions, in the order of its samples.

    Raises
    ------
    ValueError : other dimensions, sizes or coordinate labels than the grid's.
    """
    import xarray as xr

    if what == "sample_weight" and isinstance(value, str):
        value = cosine_of_latitude(grid.template.coords, value)
    if isinstance(value, numbers.Real):
        value = xr.DataArray(float(value))
    if not isinstance(value, xr.DataArray):
        if getattr(value, "shape", None) != grid.sizes:
            raise ValueError(
                f"With X on a grid, {what} is a DataArray on some of its dimensions {grid.dims}, or an array of its shape "
                f"{grid.sizes}; got {type(value).__name__} of shape {getattr(value, 'shape', None)}."
            )
        value = xr.DataArray(value, dims=grid.dims)
    value = without_fill(aligned(value, grid, what))
    chunks = dict(zip(grid.dims, grid.chunks, strict=True))
    if value.chunks is not None and any(sizes_of(value)[dim] != chunks[dim] for dim in value.dims):
        _tell_other_chunks(value, what)
    return from_dask(on_grid(value, grid.dims, chunks).data, feature_axis=None)


def aligned(value: Any, grid: Grid, what: str) -> Any:
    """The DataArray with its labels in the grid's order.

    Raises
    ------
    ValueError : other dimensions, sizes or coordinate labels than the grid's.
    """
    strange = [str(dim) for dim in value.dims if dim not in grid.dims]
    if strange:
        raise ValueError(f"{what} has dimensions {strange} that X lacks. X has its samples on {grid.dims}.")
    for dim in value.dims:
        size = dict(zip(grid.dims, grid.sizes, strict=True))[dim]
        labels, own = grid.template.indexes.get(dim), value.indexes.get(dim)
        if value.sizes[dim] != size:
            raise ValueError(f"{what} has {value.sizes[dim]} labels along {dim!r} where X has {size}.")
        if labels is None or own is None or labels.equals(own):
            continue
        if not (labels.is_unique and own.is_unique and set(labels) == set(own)):
            raise ValueError(
                f"X and {what} have different coordinates along {dim!r}. Align them first, e.g. "
                f"xarray.align(X, {what}, join='inner'), or drop the coordinates."
            )
        value = value.sel({dim: labels})
    return value


def cosine_of_latitude(coords: Any, name: str) -> Any:
    """Weights that count a sample by the area it stands for: ``sample_weight="cos_lat"``.

    Raises
    ------
    ValueError : another name, or no coordinate that is the latitude, or one that is not in degrees.
    """
    if name != "cos_lat":
        raise ValueError(f'sample_weight={name!r} is not known: "cos_lat", or weights by name of their dimensions.')
    found = [c for c in coords if coords[c].attrs.get("standard_name") == "latitude"]
    found = found or [c for c in coords if str(c).lower() in LATITUDES]
    if len(found) != 1:
        raise ValueError(
            f'sample_weight="cos_lat" needs one coordinate that is the latitude (standard_name, or one of {LATITUDES}); '
            f"found {[str(c) for c in found]} among {[str(c) for c in coords]}."
        )
    latitude = coords[found[0]]
    degrees = np.asarray(latitude.values, dtype=np.float64)
    if np.nanmax(np.abs(degrees), initial=0.0) > 90 + 1e-9:
        raise ValueError(
            f"The coordinate {found[0]!r} is not a latitude in degrees: it reaches {np.nanmax(degrees):g}."
        )
    return latitude.copy(data=np.clip(np.cos(np.deg2rad(degrees)), 0.0, None))


def load_grid(X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> RowBlocks:
    """Row-blocks of all samples of a grid, complete or not."""
    matrix, names, grid = flatten_features(X, feature_dim)
    lengths = tuple(int(n) for n in matrix.lengths if n is not None)
    if len(lengths) < matrix.n_blocks:
        raise ValueError("The sizes of X's chunks are not known. Call compute_chunk_sizes() on it first.")
    if sum(lengths) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {matrix.trailing[0]})) while a minimum of 1 is required."
        )
    target = None if y is None else flatten_column(y, grid, "y")
    weight = None if sample_weight is None else flatten_column(sample_weight, grid, "sample_weight")
    if weight is not None and weight.dtype.kind not in "fiub":
        raise ValueError(f"sample_weight has dtype {weight.dtype}; weights are real numbers. Convert them first.")
    return RowBlocks(matrix, target, weight, lengths, compute_dtype(matrix.dtype), names)


def keep_complete(blocks: RowBlocks, find_complete: Callable[[RowBlocks], list[Complete]]) -> RowBlocks:
    """The data set without the samples that lack a value; found in one sweep, unless there can be none.

    Raises
    ------
    ValueError : no sample is complete.
    """
    found = complete_parts(blocks, find_complete)
    if found is None:
        return blocks
    counted = blocks.counted + 1.0
    if all(part.packed is None for part in found):
        return replace(blocks, counted=counted)
    X, y, weight = (None if column is None else kept(column, found) for column in (blocks.X, blocks.y, blocks.weight))
    return replace(blocks, X=X, y=y, weight=weight, lengths=tuple(part.n_rows for part in found), counted=counted)


def complete_parts(
    blocks: RowBlocks, find_complete: Callable[[RowBlocks], list[Complete]]
) -> Sequence[Complete] | None:
    """The complete samples of each block; ``None`` where all are, or count as such because nothing may be read."""
    if not may_read() or all(column.dtype.kind in "iub" for column in blocks.columns):
        return None
    found = sorted(find_complete(blocks))
    if sum(part.n_rows for part in found) == 0:
        raise ValueError("No sample of the grid is complete: every one has a NaN among its features, target or weight.")
    return found


def kept(column: BlockedArray, found: Sequence[Complete]) -> BlockedArray:
    """The complete samples of a column."""
    recipes = tuple(
        recipe if part.packed is None else Derived((recipe,), keep, (part.packed,))
        for recipe, part in zip(column.recipes, found, strict=True)
    )
    lengths = tuple(part.n_rows for part in found)
    return replace(column, recipes=recipes, lengths=lengths, in_memory=False, encoded_bytes=None)
