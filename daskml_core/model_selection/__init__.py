"""Splits, cross-validation and searches over data that does not fit in memory: one sweep, many models."""

from daskml_core.model_selection._folds import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from daskml_core.model_selection._split import train_test_split

__all__ = [
    "GroupKFold",
    "KFold",
    "PredefinedSplit",
    "StratifiedKFold",
    "TimeSeriesSplit",
    "train_test_split",
]
