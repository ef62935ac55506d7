"""Which rows of a block are complete: no NaN among their features, target and weight."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from daskml_core.sweep import Array, Block, Kernel


class Complete(NamedTuple):
    """The complete rows of one block. Masks of coasts and scenes shrink to a hundredth and less."""

    block: int
    n_rows: int
    """Complete ones."""
    packed: bytes | None
    """One bit a row, compressed; ``None`` where all rows are complete."""


def _is_missing(values: Array | None, n: int) -> Array:
    if values is None or values.dtype.kind not in "fO":
        return np.zeros(n, dtype=bool)
    missing: Array = np.isnan(values) if values.dtype.kind == "f" else (values == None) | (values != values)  # noqa: E711
    return np.asarray(missing.reshape(n, -1).any(axis=1)) if n else np.zeros(0, dtype=bool)


def complete_rows(block: Block, params: None) -> tuple[Complete, ...]:
    """The complete rows of a block."""
    n = block.n_rows
    missing = _is_missing(block.X, n) | _is_missing(block.y, n) | _is_missing(block.weight, n)
    if not missing.any():
        return (Complete(block.number, n, None),)
    return (Complete(block.number, int(n - missing.sum()), zlib.compress(np.packbits(~missing).tobytes())),)


def keep(values: Array, packed: bytes) -> Array:
    """The rows that a mask of `complete_rows` names."""
    bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
    return np.asarray(values[np.unpackbits(bits, count=len(values)).view(bool)])


def join(a: tuple[Complete, ...], b: tuple[Complete, ...]) -> tuple[Complete, ...]:
    """Blocks of two parts of the data."""
    return a + b


# A byte a number for the comparison, and the bits: a fortieth of what they take for data without any masks.
COMPLETE_ROWS = Kernel(
    complete_rows, "find-complete-rows", lambda n, d, p: n * (d + 3), partial_bytes=lambda d, p: 64, gathers=False
)
