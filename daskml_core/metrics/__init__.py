"""Metrics of lazy or in-memory predictions: one sweep each, weighted, equal to scikit-learn's."""

from daskml_core.metrics._classification import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from daskml_core.metrics._probability import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from daskml_core.metrics._regression import (
    d2_poisson_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

__all__ = [
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "confusion_matrix",
    "d2_poisson_score",
    "f1_score",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
]
