"""The rows of one side of a split, in the container they came in; lazily where that is lazy."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.data.kind import is_lazy
from daskml_core.data.split import select
from daskml_core.model_selection._split import _column
from daskml_core.sweep import Array


def take_rows(array: Any, mask: Array, *, lazy: bool = True, feature_dim: str | None = None) -> Any:
    """Rows of an array where the mask is set.

    Parameters
    ----------
    mask : (n_rows,) bool
    lazy : whether lazy arrays stay so; otherwise the rows are read now, as NumPy, which has them first.
    feature_dim : of a DataArray, where it cannot be told.
    """
    if array is None:
        return None
    if not is_lazy(array):
        if hasattr(array, "iloc"):
            return array.iloc[np.flatnonzero(mask)]
        if hasattr(array, "shape") and hasattr(array, "__getitem__"):
            return array[np.flatnonzero(mask)]
        return [row for row, wanted in zip(array, mask, strict=True) if wanted]
    column, axis = _column(array, feature_dim)
    bounds = np.cumsum([int(n or 0) for n in column.lengths])[:-1]
    chosen = select(array, column, np.split(mask, bounds), axis)
    return chosen if lazy else np.asarray(chosen.T if axis else chosen)
