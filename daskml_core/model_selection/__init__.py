"""Splits, cross-validation and searches over data that does not fit in memory: one sweep, many models."""

from daskml_core.model_selection._display import LearningCurveDisplay
from daskml_core.model_selection._folds import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from daskml_core.model_selection._halving import HalvingGridSearchCV, HyperbandSearchCV
from daskml_core.model_selection._learning import learning_curve
from daskml_core.model_selection._run import SearchPlan
from daskml_core.model_selection._search import GridSearchCV, RandomizedSearchCV
from daskml_core.model_selection._split import train_test_split
from daskml_core.model_selection._validation import cross_val_predict, cross_val_score, cross_validate

__all__ = [
    "GridSearchCV",
    "GroupKFold",
    "HalvingGridSearchCV",
    "HyperbandSearchCV",
    "KFold",
    "LearningCurveDisplay",
    "PredefinedSplit",
    "RandomizedSearchCV",
    "SearchPlan",
    "StratifiedKFold",
    "TimeSeriesSplit",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "train_test_split",
]
