"""Metrics of lazy or in-memory predictions and clusterings: one or two sweeps each, equal to scikit-learn's."""

from daskml_core.metrics._classification import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from daskml_core.metrics._clustering import (
    calinski_harabasz_score,
    davies_bouldin_score,
    silhouette_samples,
    silhouette_score,
)
from daskml_core.metrics._curves import precision_recall_curve, roc_curve
from daskml_core.metrics._display import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    ResidualsDisplay,
    RocCurveDisplay,
)
from daskml_core.metrics._labelings import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
    v_measure_score,
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
    "ConfusionMatrixDisplay",
    "PrecisionRecallDisplay",
    "ResidualsDisplay",
    "RocCurveDisplay",
    "accuracy_score",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "calinski_harabasz_score",
    "confusion_matrix",
    "d2_poisson_score",
    "davies_bouldin_score",
    "f1_score",
    "homogeneity_completeness_v_measure",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "normalized_mutual_info_score",
    "precision_recall_curve",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "roc_curve",
    "root_mean_squared_error",
    "silhouette_samples",
    "silhouette_score",
    "v_measure_score",
]
