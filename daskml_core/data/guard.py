"""Reading zarr where chunks may be missing, damaged or slow to come: tried again, looked for first, named when they fail."""

from __future__ import annotations

import errno
import gzip
import logging
import math
import os
import time
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.chunks import Selection, directory, grid_of, hull, key_of, label
from daskml_core.data.frames import HEAD_BYTES, declared_bytes
from daskml_core.data.stores import is_lasting, is_transport
from daskml_core.errors import DamagedChunkError, MissingChunksError, StoreError, StoreReadError
from daskml_core.sweep import Array

log = logging.getLogger("daskml_core")

FIRST_PAUSE_S = 0.1
LASTING = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors of the operating system that waiting does not cure."""


MOST_TIMES, MOST_BESIDE = 4, 1 << 20
"""A chunk may say that it decodes to so many times its array's chunk, and so many bytes more (filters, text)."""


class ReadPolicy(NamedTuple):
    """How to read, decided where the fit starts: workers have settings of their own."""

    retries: int = 3
    fill: bool = False
    follow_links: bool = False

    @classmethod
    def from_settings(cls) -> ReadPolicy:
        """What ``daskml-core.read-retries``, ``missing-chunks`` and ``links`` say."""
        from daskml_core.engine.settings import setting

        return cls(int(setting("read-retries")), setting("missing-chunks") == "fill", setting("links") == "follow")


def _last_codec(array: Any) -> str | None:
    """Name of the codec that is decoded first, which allocates; ``None`` for shards and plain chunks."""
    if getattr(array, "shards", None) or not array.compressors:
        return None
    name = type(array.compressors[-1]).__name__.lower()
    return name.removesuffix("codec")


class GuardedArray:
    """A zarr array that names what it cannot read; takes its place in recipes and in Dask's graphs.

    An ``OSError``, or another library's error of the way to a store, is tried again ``policy.retries`` times, after pauses
    that double, each with a line in the log of ``daskml_core``; errors that waiting does not cure (permissions) are not.
    Anything else that reading raises comes from decoding: the chunks in question are read one by one to find which it is.
    """

    def __init__(self, array: Any, policy: ReadPolicy) -> None:
        self.array, self.policy = array, policy
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunks = array.chunks
        self.codec = _last_codec(array)
        self.object_bytes = math.prod(array.chunks) * max(1, np.dtype(array.dtype).itemsize)

    def __getitem__(self, index: Any) -> Array:
        """The selected part as a NumPy array.

        Raises
        ------
        MissingChunksError : a chunk of a local store that is not there (any more), unless it stands for the fill value.
        DamagedChunkError : a chunk that fails its checksum or its decoding.
        StoreReadError : an ``OSError`` that did not go away.
        """
        for attempt in range(self.policy.retries + 1):
            try:
                self._require_files(index)
                return self._values(index)
            except (StoreError, MemoryError):
                raise
            except gzip.BadGzipFile as error:  # an OSError, but of the decoder
                raise self._damage(index, error) from error
            except OSError as error:
                if attempt == self.policy.retries or error.errno in LASTING or is_lasting(error):
                    raise self._failed(index, error, attempt) from error
                self._wait(index, error, attempt)
            except Exception as error:
                if not is_transport(error):
                    raise self._damage(index, error) from error
                if attempt == self.policy.retries or is_lasting(error):
                    raise self._failed(index, error, attempt) from error
                self._wait(index, error, attempt)
        raise AssertionError("the last attempt raises or returns")

    def _values(self, index: Any) -> Array:
        return self.array[index]

    def _wait(self, index: Any, error: Exception, attempt: int) -> None:
        """A line in the log, and a pause."""
        pause = FIRST_PAUSE_S * 2**attempt
        log.warning(
            "Reading %s of array %s failed (%s: %s); trying again in %.1f s, %d of %d.",
            index,
            label(self.array),
            type(error).__name__,
            error,
            pause,
            attempt + 1,
            self.policy.retries,
        )
        time.sleep(pause)

    def _selection(self, index: Any) -> Selection | None:
        """The index as slices, or ``None`` where it is something else."""
        selection = hull(index)
        return None if selection is None or len(selection) > self.ndim else selection

    def _require_files(self, index: Any) -> None:
        """Look for the files of a local store: zarr takes one that is not there for the fill value."""
        base, selection = directory(self.array), self._selection(index)
        if base is None or selection is None:
            return
        grid = grid_of(self.array)
        for coords in grid.touched(selection):
            key = key_of(self.array, coords)
            try:
                with open(os.path.join(base, key), "rb", buffering=0) as file:
                    head = file.read(HEAD_BYTES)
            except FileNotFoundError:
                if self.policy.fill:
                    continue
                from daskml_core.data.source import missing_message

                lo, stop = grid.rows(coords)
                raise MissingChunksError(
                    missing_message(self.array, f"{key} (rows {lo} to {stop - 1})"), label(self.array), key, (lo, stop)
                ) from None
            if not head:
                raise self._damaged(key, grid.rows(coords), "it is empty")
            said = None if self.codec is None else declared_bytes(self.codec, head)
            if said is not None and said > MOST_TIMES * self.object_bytes + MOST_BESIDE:
                why = f"it says that it decodes to {said:,} bytes where {self.object_bytes:,} belong"
                raise self._damaged(key, grid.rows(coords), why)

    def _damage(self, index: Any, error: Exception) -> StoreError:
        """The error for the first chunk that cannot be read by itself."""
        grid, selection = grid_of(self.array), self._selection(index)
        if selection is not None:
            for coords in grid.touched(selection):
                try:
                    self.array[grid.region(coords)]
                except Exception as own:
                    return self._damaged(key_of(self.array, coords), grid.rows(coords), f"{type(own).__name__}: {own}")
        return DamagedChunkError(
            f"Array {label(self.array)} cannot be decoded at {index}: {type(error).__name__}: {error}",
            label(self.array),
        )

    def _damaged(self, key: str, rows: tuple[int, int], why: str) -> DamagedChunkError:
        what = "Shard" if getattr(self.array, "shards", None) else "Chunk"
        return DamagedChunkError(
            f"{what} {key!r} (rows {rows[0]} to {rows[1] - 1}) of array {label(self.array)} is damaged: {why[:300]}. "
            "Restore it; daskml_core.data.verify lists every chunk that is damaged.",
            label(self.array),
            key,
            rows,
        )

    def _failed(self, index: Any, error: Exception, attempt: int) -> StoreReadError:
        selection = self._selection(index)
        rows = None
        if selection:
            lo, stop, _ = selection[0].indices(self.shape[0])
            rows = (lo, stop)
        where = f"rows {rows[0]} to {rows[1] - 1}" if rows else str(index)
        return StoreReadError(
            f"Reading {where} of array {label(self.array)} failed {attempt + 1} times: {type(error).__name__}: {error}. "
            "daskml-core.read-retries says how often it is tried again.",
            label(self.array),
            None,
            rows,
        )


class GuardedView(GuardedArray):
    """xarray's view of a whole zarr array, under guard: its decoded values are read, its chunks are looked for."""

    def __init__(self, view: Any, array: Any, policy: ReadPolicy) -> None:
        super().__init__(array, policy)
        self.view, self.dtype = view, view.dtype

    def _values(self, index: Any) -> Array:
        return np.asarray(self.view[index])
