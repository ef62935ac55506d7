"""Whether an array is finite, at memory speed."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from daskml_core.sweep import Array


@numba.njit(cache=True, nogil=True)
def _largest_exponent(bits: Any, mask: Any) -> Any:  # pragma: no cover - compiled
    """Largest exponent field. An integer maximum vectorises; a sum of floats would not without reordering them."""
    top = bits[0] & mask
    for i in range(len(bits)):
        field = bits[i] & mask
        if field > top:
            top = field
    return top


def all_finite(a: Array) -> bool:
    """Whether a C-contiguous float32 or float64 array holds neither NaN nor infinity.

    >>> all_finite(np.array([1.0, np.inf]))
    False
    """
    if a.size == 0:
        return True
    unsigned: Any = np.uint32 if a.dtype == np.float32 else np.uint64
    mask = unsigned(0x7F800000 if a.dtype == np.float32 else 0x7FF0000000000000)
    return bool(_largest_exponent(a.reshape(-1).view(unsigned), mask) != mask)


def first_missing(labels: Array) -> int | None:
    """Number of the first object that is None, NaN or pandas.NA."""
    return next((i for i, label in enumerate(labels.tolist()) if is_no_value(label)), None)


def is_no_value(label: Any) -> bool:
    """Whether an object is None, NaN or pandas.NA."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA answers neither yes nor no
        return True
