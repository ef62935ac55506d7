"""zarr arrays as row-blocks: one block a run of chunks along the rows, all feature chunks merged where it is read."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.blocks import BlockedArray, Values
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.source import inspect
from daskml_core.data.trust import refuse_absurd
from daskml_core.sweep import Array

SMALLEST_BLOCK_BYTES = 1 << 20
"""Neighbouring chunks are read together up to this size: a rule of the store alone, never of the machine."""


class ZarrRows(NamedTuple):
    """Rows ``start:stop`` of a (guarded) zarr array; carries the array's metadata, not its chunks."""

    array: Any
    start: int
    stop: int
    transposed: bool = False

    @property
    def needs(self) -> tuple[Any, ...]:
        return ()

    def read(self, values: Values) -> Array:
        if self.transposed:
            return np.asarray(self.array[:, self.start : self.stop]).T
        return np.asarray(self.array[self.start : self.stop])

    def part(self, start: int, stop: int) -> ZarrRows:
        """Rows ``start:stop`` of the run."""
        return self._replace(start=self.start + start, stop=self.start + stop)


def from_zarr(array: Any, *, transposed: bool = False) -> BlockedArray:
    """Row-blocks of a zarr array; with ``transposed`` the rows are its second dimension.

    The store is checked first, without reading a chunk: files are listed, metadata is looked through.

    Raises
    ------
    UntrustedStoreError, MissingChunksError, DamagedChunkError : see `daskml_core.data.source.inspect`.
    """
    if array.ndim == 0:
        raise ValueError("Expected 2D array, got a zarr array without dimensions instead.")
    rows_axis = 1 if transposed else 0
    n_rows = int(array.shape[rows_axis])
    trailing = tuple(int(n) for axis, n in enumerate(array.shape) if axis != rows_axis)
    dtype = np.dtype(array.dtype)
    row_bytes = max(1, dtype.itemsize * math.prod(trailing))
    chunk_rows = int(array.chunks[rows_axis])
    merged = max(1, SMALLEST_BLOCK_BYTES // max(1, chunk_rows * row_bytes))
    rows = chunk_rows * merged
    refuse_absurd(array, rows_axis, rows)
    policy = ReadPolicy.from_settings()
    source = inspect(array, fill=policy.fill, follow_links=policy.follow_links)
    guarded = GuardedArray(array, policy)
    bounds = list(range(0, n_rows, rows)) or [0]
    recipes = tuple(ZarrRows(guarded, lo, min(lo + rows, n_rows), transposed) for lo in bounds)
    lengths = tuple(recipe.stop - recipe.start for recipe in recipes)
    # Feature chunks reach beyond the array's edge: decoding takes whole chunks.
    width = math.prod(
        -(-n // c) * c for axis, (n, c) in enumerate(zip(array.shape, array.chunks, strict=True)) if axis != rows_axis
    )
    # The encoded chunks of a block are in memory together while they are decoded. Of shards only parts are read.
    across = math.prod(
        -(-n // c) for axis, (n, c) in enumerate(zip(array.shape, array.chunks, strict=True)) if axis != rows_axis
    )
    whole = source.largest_bytes is not None and not getattr(array, "shards", None)
    encoded = source.largest_bytes * across * min(merged, -(-n_rows // chunk_rows)) if whole else None
    return BlockedArray(
        recipes=recipes,
        lengths=lengths,
        trailing=trailing,
        dtype=dtype,
        encoded_bytes=None if encoded is None else (encoded,),
        source_bytes=min(rows, -(-n_rows // chunk_rows) * chunk_rows) * max(1, width) * dtype.itemsize,
        sources=(source,),
    )
