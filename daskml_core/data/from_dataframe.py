"""Tables: pandas and Dask DataFrames, and their Series."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.data.blocks import BlockedArray
from daskml_core.data.from_dask import from_dask
from daskml_core.data.from_numpy import from_numpy
from daskml_core.errors import UnsupportedDataError


def column_names(frame: Any) -> tuple[str, ...] | None:
    """Names of the columns where all are strings, as scikit-learn asks."""
    names = list(frame.columns)
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None


def _numpy_dtype(dtype: Any) -> np.dtype[Any] | None:
    """NumPy's dtype for a column of numbers, ``None`` where it holds none."""
    dtype = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", None)
    return dtype if dtype is not None and dtype.kind in "fiub" else None


def _may_be_missing(dtype: Any) -> np.dtype[Any]:
    """A dtype that takes a column's missing values: pandas' own integers and booleans become float64, as scikit-learn's."""
    own = _numpy_dtype(dtype)
    assert own is not None
    return own if isinstance(dtype, np.dtype) or own.kind == "f" else np.dtype(np.float64)


def _common_dtype(frame: Any) -> np.dtype[Any]:
    for name, dtype in frame.dtypes.items():
        if _numpy_dtype(dtype) is None:
            raise UnsupportedDataError(
                f"Column {name!r} has dtype {dtype}, which holds no numbers. Encode it (e.g. one-hot) or drop it."
            )
    kinds = [_may_be_missing(dtype) for dtype in frame.dtypes]
    return np.result_type(*kinds) if kinds else np.dtype(np.float64)


def refuse_no_numbers(frame: Any) -> None:
    """Refuse a DataFrame with a column of text, dates or categories, naming it."""
    _common_dtype(frame)


def one_column(frame: Any) -> Any:
    """The Series of a DataFrame with a single column, which may hold anything; other tables as they are."""
    return frame[frame.columns[0]] if frame.ndim == 2 and len(frame.columns) == 1 else frame


def from_pandas(frame: Any) -> BlockedArray:
    """Row-blocks of a pandas DataFrame or Series."""
    if frame.ndim == 2:
        return from_numpy(frame.to_numpy(dtype=_common_dtype(frame)))
    dtype = _numpy_dtype(frame.dtype)
    if dtype is None or isinstance(frame.dtype, np.dtype):
        return from_numpy(frame.to_numpy())
    # pandas' own integers and booleans would come out as objects.
    return from_numpy(frame.to_numpy(dtype=_may_be_missing(frame.dtype) if frame.hasnans else dtype))


def from_dask_dataframe(frame: Any) -> BlockedArray:
    """Row-blocks of a Dask DataFrame or Series, one a partition; a sweep finds their lengths."""
    if frame.ndim == 2:
        dtype = _common_dtype(frame)
    elif isinstance(frame.dtype, np.dtype):
        return from_dask(frame.to_dask_array())
    else:
        # Without saying so Dask converts pandas' own dtypes to objects as well, but warns.
        dtype = np.dtype(object) if _numpy_dtype(frame.dtype) is None else _may_be_missing(frame.dtype)
    return from_dask(frame.astype(dtype).to_dask_array())
