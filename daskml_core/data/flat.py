"""A grid as the matrix of its complete samples, for what works on rows: folds, splits, out-of-fold predictions.

Nothing is stacked or read but one look at which samples are complete; rows come in the order of the grid's chunks, and
within a chunk in C order.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.data.from_xarray import FEATURE_DIMS, stack_features
from daskml_core.data.grid import (
    Grid,
    chunked,
    complete_parts,
    flatten_column,
    flatten_features,
    kept,
    load_grid,
    sizes_of,
)
from daskml_core.data.grid_output import with_nan
from daskml_core.data.kind import is_dataarray
from daskml_core.data.split import as_dask
from daskml_core.kernels.complete import Complete, is_missing
from daskml_core.sweep import Array


@dataclass(frozen=True)
class Flat:
    """The complete samples of a grid."""

    X: Any
    """DataArray (sample, feature), lazy, with the features' names."""
    y: Any
    sample_weight: Any
    others: Mapping[str, Any]
    """Further columns by the names under which they were given."""
    grid: Grid
    parts: Sequence[Complete] | None
    """Which samples of each block are complete; ``None`` where all are."""
    counted: float
    """Sweeps that it took to find them."""

    def onto_grid(self, rows: Any, *, columns: tuple[str, Any] | None = None, name: str | None = None) -> Any:
        """A lazy DataArray on the grid of one value (or row) a complete sample; NaN elsewhere."""
        import dask.array as da
        import xarray as xr

        rows = da.asarray(rows)
        result = rows.dtype if self.parts is None else with_nan(rows.dtype)
        chunks = tuple(len(sizes) for sizes in self.grid.chunks)
        lengths = [int(np.prod(shape)) for shape in _shapes(self.grid)]
        if self.parts is not None:
            lengths = [part.n_rows for part in self.parts]
        rows = rows.rechunk((tuple(lengths), *rows.chunks[1:]))
        width = rows.shape[1:]
        blocks = np.empty(chunks, dtype=object)
        for i, (place, shape) in enumerate(zip(np.ndindex(*chunks), _shapes(self.grid), strict=True)):
            packed = None if self.parts is None else self.parts[i].packed
            values = rows.blocks[i].map_blocks(
                _spread, packed, shape, result, dtype=result, chunks=tuple((n,) for n in (*shape, *width)),
                drop_axis=list(range(rows.ndim)), new_axis=list(range(len(shape) + len(width))),
            )  # fmt: skip
            blocks[place] = values
        dims = list(self.grid.dims)
        coords = {key: c for key, c in self.grid.template.coords.items() if set(c.dims) <= set(dims)}
        joined = _joined(blocks)
        if columns is not None:
            dims.append(columns[0])
            if columns[1] is not None:
                coords[columns[0]] = columns[1]
        return xr.DataArray(joined, dims=dims, coords=coords, name=name)


def _joined(blocks: Any) -> Any:
    """The chunks put together along every dimension of the samples."""
    import dask.array as da

    while blocks.ndim:
        axis = blocks.ndim - 1
        joined = np.empty(blocks.shape[:-1], dtype=object)
        for place in np.ndindex(*blocks.shape[:-1]):
            joined[place] = da.concatenate(list(blocks[place]), axis=axis)
        blocks = joined
    return blocks.item()


def _shapes(grid: Grid) -> list[tuple[int, ...]]:
    """Shape of each chunk, in the order of the row-blocks."""
    places = np.ndindex(*(len(sizes) for sizes in grid.chunks))
    return [tuple(sizes[k] for sizes, k in zip(grid.chunks, place, strict=True)) for place in places]


def _spread(rows: Array, packed: bytes | None, shape: tuple[int, ...], dtype: Any) -> Array:
    """Rows of the complete samples at their places in a chunk."""
    if packed is None:
        return np.asarray(rows, dtype=dtype).reshape(*shape, *rows.shape[1:])
    n = int(np.prod(shape))
    bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
    out = np.full((n, *rows.shape[1:]), np.nan, dtype=dtype)
    out[np.unpackbits(bits, count=n).view(bool)] = rows
    return out.reshape(*shape, *rows.shape[1:])


def flatten(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    find_complete: Callable[[RowBlocks], list[Complete]],
    feature_dim: str | None = None,
    others: Mapping[str, Any] | None = None,
    coords: Sequence[str] = (),
) -> Flat:
    """The complete samples of a grid as rows; ``y``, weights and ``others`` may lie on some of its dimensions.

    Parameters
    ----------
    coords : coordinates of the grid that the rows are to keep; they are read.

    Raises
    ------
    ValueError : as for a fit to the grid; a coordinate that is not there.
    """
    import xarray as xr

    blocks = load_grid(X, y, sample_weight, feature_dim)
    _, _, grid = flatten_features(X, feature_dim)
    further = {what: flatten_column(value, grid, what) for what, value in (others or {}).items()}
    parts = complete_parts(_with_marks(blocks, list(further.values())), find_complete)
    looked = 0.0 if parts is None else 1.0
    if parts is not None and all(part.packed is None for part in parts):
        parts = None

    def column(source: BlockedArray) -> Any:
        return as_dask(source if parts is None else kept(source, parts))

    labels: dict[str, Any] = {} if blocks.feature_names is None else {"feature": list(blocks.feature_names)}
    for name in coords:
        if name not in grid.template.coords:
            raise ValueError(f"coord={name!r} is not a coordinate of X: {[str(c) for c in grid.template.coords]}.")
        values = flatten_column(grid.template.coords[name].reset_coords(drop=True), grid, name)
        labels[name] = ("sample", np.asarray(column(values)))
    assert blocks.X is not None
    matrix = xr.DataArray(column(blocks.X), dims=("sample", "feature"), coords=labels)
    target, weight = (None if c is None else column(c) for c in (blocks.y, blocks.weight))
    rest = {what: column(value) for what, value in further.items()}
    return Flat(matrix, target, weight, rest, grid, parts, looked)


def _with_marks(blocks: RowBlocks, others: Sequence[BlockedArray]) -> RowBlocks:
    """A data set of X and y whose weights are NaN where the weights or one of the other columns lack a value."""
    columns = [*([] if blocks.weight is None else [blocks.weight]), *others]
    if not others or all(column.dtype.kind in "iub" for column in others):
        return blocks
    marks = columns[0].map(_marks, dtype=np.float64, others=columns[1:])
    return replace(blocks, weight=replace(marks, trailing=()))


def _marks(*columns: Array) -> Array:
    marks = np.ones(len(columns[0]))
    for values in columns:
        marks[is_missing(values, len(values))] = np.nan
    return marks


OUTPUT_DIMS = ("class", "target", "output", *FEATURE_DIMS)
"""Dimensions that are not of samples in a target or a prediction."""


def _output_dim(value: Any) -> str | None:
    """The dimension of a DataArray's outputs, where it has one: the last of those that are called so."""
    return next((str(dim) for dim in reversed(value.dims) if dim in OUTPUT_DIMS), None)


def on_samples(value: Any) -> bool:
    """Whether a target or a prediction is a DataArray with two or more dimensions of samples."""
    return is_dataarray(value) and value.ndim - (_output_dim(value) is not None) > 1


def flatten_columns(
    truth: Any, prediction: Any, sample_weight: Any, find_complete: Callable[[RowBlocks], list[Complete]]
) -> tuple[BlockedArray, BlockedArray, BlockedArray | None]:
    """Truth, prediction and weights on a grid as columns of the samples that have all of them."""
    lead = prediction if on_samples(prediction) else truth
    first = lead.isel({_output_dim(lead): 0}, drop=True) if _output_dim(lead) is not None else lead
    array = chunked(first)
    sizes = sizes_of(array)
    dims = tuple(str(dim) for dim in array.dims)
    grid = Grid(dims, array.shape, tuple(sizes[dim] for dim in dims), first)

    def column(value: Any, what: str) -> BlockedArray:
        dim = _output_dim(value) if hasattr(value, "dims") else None
        if dim is None:
            return flatten_column(value, grid, what)
        outputs = [flatten_column(value.isel({dim: i}, drop=True), grid, what) for i in range(value.sizes[dim])]
        dtype = np.result_type(*(output.dtype for output in outputs))
        stacked = outputs[0].map(stack_features, dtype, dtype=dtype, others=outputs[1:])
        return replace(stacked, trailing=(len(outputs),), in_memory=False, encoded_bytes=None)

    columns = [column(truth, "y_true"), column(prediction, "y_pred")]
    if sample_weight is not None:
        columns.append(flatten_column(sample_weight, grid, "sample_weight"))
    lengths = tuple(int(np.prod(shape)) for shape in _shapes(grid))
    marks = replace(columns[0].map(_marks, dtype=np.float64, others=columns[1:]), trailing=())
    parts = complete_parts(RowBlocks(None, marks, None, lengths, np.dtype(np.float64)), find_complete)
    assert parts is not None
    found = [kept(c, parts) for c in columns]
    return found[0], found[1], found[2] if sample_weight is not None else None
