"""Loading: whatever the user has becomes a `RowBlocks`, without reading more than the lengths that are not known."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from daskml_core.data import grid
from daskml_core.data.blocks import BlockedArray, RowBlocks, cut
from daskml_core.data.from_numpy import from_numpy
from daskml_core.data.kind import is_dataarray, package_of
from daskml_core.data.read import compute_dtype
from daskml_core.errors import UnsupportedDataError
from daskml_core.kernels.complete import Complete


def _kind(value: Any) -> str:
    package, name = package_of(value), type(value).__name__
    if package == "dask":
        return "dask array" if hasattr(value, "numblocks") else "dask dataframe"
    if package == "zarr":
        if not hasattr(value, "chunks"):
            raise UnsupportedDataError(f"A zarr {name} is no array. Pass one of its arrays, e.g. group['X'].")
        return "zarr"
    if package == "xarray":
        return "dataset" if hasattr(value, "data_vars") else "dataarray"
    if package == "pandas":
        return "pandas"
    if package in ("scipy", "sparse"):
        raise UnsupportedDataError(
            f"Sparse input ({name}) is not supported yet. Make it dense, e.g. X.toarray(), or a Dask array of dense "
            "blocks."
        )
    return "numpy"


def _blocked(value: Any, feature_dim: str | None) -> tuple[BlockedArray, tuple[str, ...] | None]:
    kind = _kind(value)
    if kind == "dask array":
        from daskml_core.data.from_dask import from_dask

        return _text_as_objects(from_dask(value)), None
    if kind == "zarr":
        from daskml_core.data.from_zarr import from_zarr

        return _text_as_objects(from_zarr(value)), None
    if kind in ("pandas", "dask dataframe"):
        from daskml_core.data import from_dataframe

        convert = from_dataframe.from_pandas if kind == "pandas" else from_dataframe.from_dask_dataframe
        return convert(value), from_dataframe.column_names(value) if value.ndim == 2 else None
    if kind in ("dataarray", "dataset"):
        from daskml_core.data import from_xarray
        from daskml_core.data.from_dask import from_dask
        from daskml_core.data.missing import without_fill

        value = without_fill(value)
        if grid.is_grid(value):
            column, names, _ = grid.flatten_features(value, feature_dim)
            return column, names
        if kind == "dataset":
            return from_xarray.from_dataset(value, lambda a: _blocked(a, None)[0], cut)
        return from_xarray.from_dataarray(value, feature_dim, from_dask, from_numpy)
    refuse_masked(value, "X")  # targets and weights have been looked at under their own names
    return from_numpy(np.asarray(value)), None


def _text_as_objects(column: BlockedArray) -> BlockedArray:
    """Labels of NumPy's variable-width text, as zarr reads them, as objects: they have no buffer to measure or to sort."""
    return column.map(_objects, dtype=object) if column.dtype.kind == "T" else column


def _objects(rows: Any) -> Any:
    return np.asarray(rows).astype(object)


def refuse_masked(value: Any, what: str) -> None:
    """Refuse a NumPy array with masked values: as a plain array it would show what is behind the mask."""
    if np.ma.is_masked(value):
        raise ValueError(f"{what} holds masked values. Fill them or drop the rows, e.g. np.ma.filled({what}, 0).")


def as_blocked(X: Any, *, feature_dim: str | None = None) -> tuple[BlockedArray, tuple[str, ...] | None]:
    """Row-blocks of a matrix, and its features' names where it has any; nothing is read.

    Raises
    ------
    ValueError : X is not two-dimensional.
    UnsupportedDataError : sparse or object data.
    """
    ndim = getattr(X, "ndim", None)
    if ndim is not None and ndim != 2 and _kind(X) not in ("dataarray", "dataset"):
        raise ValueError(
            f"Expected 2D array, got {ndim}D array instead. Reshape your data: X.reshape(-1, 1) for a single feature, "
            "X.reshape(1, -1) for a single sample."
        )
    column, names = _blocked(X, feature_dim)
    if len(column.trailing) != 1:
        raise ValueError(
            f"Expected 2D array, got {len(column.trailing) + 1}D array instead. Reshape your data: X.reshape(-1, 1) "
            "for a single feature."
        )
    compute_dtype(column.dtype)
    return column, names


def refuse_feature_dim(X: Any, feature_dim: str | None) -> None:
    """Refuse the name of a dimension for data whose dimensions have no names: it would do nothing."""
    if feature_dim is not None and not is_dataarray(X):
        raise ValueError(
            f"feature_dim={feature_dim!r} names a dimension of a DataArray; X is of type {type(X).__name__}: leave it out."
        )


def refuse_no_numbers(X: Any) -> None:
    """Refuse paths, text, dates, categories and masks in memory, of which scikit-learn's own checks say less, or nothing."""
    if isinstance(X, str | os.PathLike):
        raise TypeError(f"X is the path {os.fspath(X)!r}. Open what is there first, e.g. with daskml_core.open.")
    if _kind(X) == "pandas" and X.ndim == 2:
        from daskml_core.data import from_dataframe

        from_dataframe.refuse_no_numbers(X)
    elif isinstance(X, np.ndarray) and X.dtype.kind in "USmM":
        compute_dtype(X.dtype)
    refuse_masked(X, "X")


def as_column(y: Any, what: str = "y") -> BlockedArray:
    """Row-blocks of a target or of weights; nothing is read.

    Raises
    ------
    ValueError : weights that are no real numbers, wrong dimensions.
    """
    column = _column(y, what)
    if what == "sample_weight" and column.dtype.kind not in "fiub":
        raise ValueError(f"sample_weight has dtype {column.dtype}; weights are real numbers. Convert them first.")
    return column


def _column(y: Any, what: str) -> BlockedArray:
    refuse_masked(y, what)
    if _kind(y) == "numpy":
        y = np.asarray(y)
    if _kind(y) == "numpy" and y.ndim == 0:
        raise ValueError(f"{what} should be a 1d array, got a scalar: {y!r}.")
    if _kind(y) in ("pandas", "dask dataframe"):
        from daskml_core.data import from_dataframe

        return _blocked(from_dataframe.one_column(y), None)[0]
    if getattr(y, "ndim", 1) > 2:
        raise ValueError(f"{what} should be a 1d array, got an array of {y.ndim} dimensions instead.")
    if _kind(y) == "dataarray" and y.ndim == 2:
        from daskml_core.data.from_dask import from_dask

        return from_dask(y.data) if y.chunks is not None else from_numpy(y.values)
    column, _ = _blocked(y, None)
    if len(column.trailing) > 1:
        raise ValueError(f"{what} should be a 1d array, got an array of {len(column.trailing) + 1} dimensions instead.")
    return column


def load(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    feature_dim: str | None = None,
    count_rows: Callable[[BlockedArray], BlockedArray],
    find_complete: Callable[[RowBlocks], list[Complete]] | None = None,
) -> RowBlocks:
    """The data set of a fit.

    Parameters
    ----------
    X : array-like (n_rows, n_features); NumPy, dask.array, zarr.Array, DataArray, Dataset, pandas or Dask DataFrame.
    y, sample_weight : array-likes (n_rows,) in any of these, cut at X's rows wherever they are read.
    feature_dim : name of a DataArray's feature dimension, where it cannot be told.
    count_rows : fills in lengths that the source does not know; the engine's does it in one sweep.
    find_complete : finds the rows without NaN, in one sweep; they alone are taken from a grid. ``None`` takes no grids.

    Raises
    ------
    ValueError : numbers of rows that differ, no rows, wrong dimensions, other coordinates of y than of X.
    UnsupportedDataError : sparse or object data.
    """
    if grid.is_grid(X):
        if find_complete is None:
            raise ValueError("X is a grid of several sample dimensions, which this function does not take.")
        blocks = grid.load_grid(X, y, sample_weight, feature_dim)
        return grid.keep_complete(blocks, find_complete)
    matrix, names = as_blocked(X, feature_dim=feature_dim)
    counted_bytes = _bytes_to_count(matrix)
    matrix = count_rows(matrix)
    if matrix.n_rows == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {matrix.trailing[0]})) while a minimum of 1 is required."
        )
    lengths = tuple(int(n) for n in matrix.lengths if n is not None)
    columns: list[BlockedArray | None] = []
    for value, what in ((y, "y"), (sample_weight, "sample_weight")):
        if value is None:
            columns.append(None)
            continue
        if what == "sample_weight" and isinstance(value, str):
            if package_of(X) != "xarray":
                raise ValueError(f"sample_weight={value!r} needs coordinates: give X as a DataArray or a Dataset.")
            value = grid.cosine_of_latitude(X.coords, value)
        if package_of(X) == package_of(value) == "xarray":
            from daskml_core.data.from_xarray import in_the_order_of

            value = in_the_order_of(X, value, what)
        if what == "sample_weight" and isinstance(value, numbers.Real):
            value = np.full(matrix.n_rows, float(value))
        column = as_column(value, what)
        if what == "sample_weight" and column.trailing:
            raise ValueError(f"Sample weights must be 1D array or scalar, got {len(column.trailing) + 1} dimensions.")
        counted_bytes += _bytes_to_count(column)
        column = count_rows(column)
        if column.n_rows != matrix.n_rows:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: X has {matrix.n_rows}, "
                f"{what} has {column.n_rows}."
            )
        columns.append(cut(column, lengths))
    row_bytes = matrix.row_bytes + sum(column.row_bytes for column in columns if column is not None)
    counted = counted_bytes / max(1, row_bytes)
    return RowBlocks(matrix, columns[0], columns[1], lengths, compute_dtype(matrix.dtype), names, counted)


def _bytes_to_count(column: BlockedArray) -> int:
    """Bytes a row that are read from the source to find the column's lengths."""
    return 0 if column.known or column.in_memory else column.row_bytes
