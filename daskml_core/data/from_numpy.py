"""NumPy arrays as row-blocks: views of the user's memory, cut by a rule of shape and dtype alone."""

from __future__ import annotations

import numpy as np

from daskml_core.data.blocks import BlockedArray, InMemory
from daskml_core.sweep import Array

BLOCK_BYTES = 16 << 20
"""Bytes of a block of an array without chunks; fixed, so that results do not depend on the machine."""


def from_numpy(a: Array) -> BlockedArray:
    """Row-blocks of an in-memory array; nothing is copied."""
    row_bytes = max(1, a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)))
    rows = max(1, BLOCK_BYTES // row_bytes)
    bounds = list(range(0, len(a), rows)) or [0]
    parts = [a[lo : lo + rows] for lo in bounds]
    return BlockedArray(
        recipes=tuple(InMemory(part) for part in parts),
        lengths=tuple(len(part) for part in parts),
        trailing=tuple(int(n) for n in a.shape[1:]),
        dtype=a.dtype,
        in_memory=True,
    )
