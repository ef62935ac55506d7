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


def _common_dtype(frame: Any) -> np.dtype[Any]:
    for name, dtype in frame.dtypes.items():
        if getattr(dtype, "kind", "O") not in "fiub":
            raise UnsupportedDataError(
                f"Column {name!r} has dtype {dtype}, which holds no numbers. Encode it (e.g. one-hot) or drop it."
            )
    kinds = [dtype if isinstance(dtype, np.dtype) else dtype.numpy_dtype for dtype in frame.dtypes]
    return np.result_type(*kinds) if kinds else np.dtype(np.float64)


def from_pandas(frame: Any) -> BlockedArray:
    """Row-blocks of a pandas DataFrame or Series."""
    if frame.ndim == 1:
        return from_numpy(frame.to_numpy())
    return from_numpy(frame.to_numpy(dtype=_common_dtype(frame)))


def from_dask_dataframe(frame: Any) -> BlockedArray:
    """Row-blocks of a Dask DataFrame or Series, one a partition; a sweep finds their lengths."""
    if frame.ndim == 1:
        return from_dask(frame.to_dask_array())
    dtype = _common_dtype(frame)
    return from_dask(frame.astype(dtype).to_dask_array())
