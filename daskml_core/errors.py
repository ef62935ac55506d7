"""The library's own exceptions and warnings; everything else is a plain ``ValueError`` or ``TypeError``."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "BlockError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "ConvergenceWarning",
    "FitInterrupted",
    "MemoryPlanError",
    "SweepTimeoutError",
    "UnsupportedDataError",
    "WorkersKilledError",
]


class MemoryPlanError(MemoryError):
    """A fit cannot keep its memory promise; raised before a chunk is read, naming the number that would fit."""


class UnsupportedDataError(TypeError):
    """A container, dtype or layout that the library does not take yet; the message says what to do instead."""


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
