"""Checksums of row-blocks as kernels see them: whether the data of a fit is still what it was."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np

from daskml_core.sweep import Array, Block, Kernel, Sweep


class Checksums(NamedTuple):
    """Checksums of blocks: (n, 4) block number and crc32 of X, y and the weights, 0 for what is not there."""

    table: Array


def _crc(column: Any) -> int:
    if column is None:
        return 0
    if column.dtype.hasobject:
        return zlib.crc32(repr(column.tolist()).encode())
    return zlib.crc32(memoryview(column.reshape(-1).view(np.uint8))) if column.size else 1


def checksum_block(block: Block, params: None = None) -> Checksums:
    """Checksums of one block; crc32 runs at the speed of memory, and tells apart what changed by accident."""
    return Checksums(np.array([[block.number, *(_crc(c) for c in (block.X, block.y, block.weight))]], dtype=np.int64))


def merge_checksums(a: Checksums, b: Checksums) -> Checksums:
    """Checksums of two runs of blocks."""
    return Checksums(np.concatenate([a.table, b.table]))


CHECKSUM = Kernel(checksum_block, "checksum")
CHECKSUM_SWEEP = Sweep(CHECKSUM, None, merge_checksums)
