"""The library's own exceptions and warnings; everything else is a plain ``ValueError`` or ``TypeError``."""

from sklearn.exceptions import ConvergenceWarning

__all__ = ["ConvergenceWarning", "MemoryPlanError", "UnsupportedDataError"]


class MemoryPlanError(MemoryError):
    """A fit cannot keep its memory promise; raised before a chunk is read, naming the number that would fit."""


class UnsupportedDataError(TypeError):
    """A container, dtype or layout that the library does not take yet; the message says what to do instead."""
