"""The library's own exceptions and warnings; everything else is a plain ``ValueError`` or ``TypeError``."""

from __future__ import annotations

from typing import Any

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "BlockError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "ConvergenceWarning",
    "DamagedChunkError",
    "FitInterrupted",
    "MemoryPlanError",
    "MissingChunksError",
    "ModelFileError",
    "StoreChangedError",
    "StoreError",
    "StoreReadError",
    "SweepTimeoutError",
    "UnencryptedWarning",
    "UnfinishedStoreError",
    "UnsupportedDataError",
    "UntrustedStoreError",
    "WorkersKilledError",
]


class MemoryPlanError(MemoryError):
    """A fit cannot keep its memory promise; raised before a chunk is read, naming the number that would fit."""


class UnsupportedDataError(TypeError):
    """A container, dtype or layout that the library does not take yet; the message says what to do instead."""


class StoreError(ValueError):
    """A zarr store that does not hold what it says it holds; the message names the array, the chunk and its rows.

    Attributes
    ----------
    array : name of the array, with the store it lies in.
    chunk : key of the (first) chunk or shard, or ``None`` where it is not about one.
    rows : first row of that chunk and the one after its last, counted along the array's first dimension, or ``None``.
    """

    def __init__(
        self, message: str, array: str = "", chunk: str | None = None, rows: tuple[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.array, self.chunk, self.rows = message, array, chunk, rows

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel from workers: all four attributes must arrive.
        return type(self), (self.message, self.array, self.chunk, self.rows)

    def in_block(self, what: str, index: int) -> StoreError:
        """The same error, naming the row-block and the column (X, y, sample_weight) as well."""
        message = f"Block {index} of {what}: {self.message}"
        return type(self)(message, self.array, self.chunk, self.rows)


class MissingChunksError(StoreError):
    """Chunks or shards that are not in the store: zarr would read them as the fill value without a word."""


class DamagedChunkError(StoreError):
    """A chunk that is empty, cut short, or fails its checksum or its decoding."""


class StoreChangedError(StoreError):
    """A store whose metadata or chunks were written, removed or replaced while they were read."""


class StoreReadError(StoreError, OSError):
    """Reading failed, also when it was tried again."""


class UntrustedStoreError(StoreError):
    """A store that asks for what is not done unasked: codecs that run code, links out of the store, absurd sizes."""


class UnfinishedStoreError(ValueError):
    """A store that another write has begun and not ended; writing into it would mix two results."""


class ModelFileError(ValueError):
    """A file that is no model of this library, or that asks for what a model does not: code, unknown classes, sizes."""


class UnencryptedWarning(UserWarning):
    """Data is about to travel between machines without encryption."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used: another fit writes it, or another version of the library has written it."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint of other data, other settings or other versions; the message names the difference."""


class CheckpointWarning(UserWarning):
    """A checkpoint that could not be written, or of which only a part could be read; the fit goes on."""


class BlockError(RuntimeError):
    """Reading a block, or a kernel on it, has failed; the message names the sweep, the block, its rows and its source."""


class FitInterrupted(RuntimeError):
    """A fit that cannot go on where it runs: the message says why, and where its checkpoint is. The same fit continues."""


class WorkersKilledError(FitInterrupted):
    """Every worker that took on a block has died; the message names the block, and the memory plan."""


class SweepTimeoutError(FitInterrupted):
    """A sweep took longer than ``daskml-core.sweep-timeout``; the message names the blocks that are outstanding."""
