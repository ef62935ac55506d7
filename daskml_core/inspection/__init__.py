"""All pictures in one place: Display classes in scikit-learn's manner, for data that does not fit in memory.

Each is made by ``from_estimator`` or ``from_predictions``, which reduce lazy data by sweeps, or from arrays that are reduced
already, and drawn by ``plot(ax=...)``; afterwards it has ``ax_`` and ``figure_``. Those that belong to a family stand there
too, where scikit-learn has them.
"""

from daskml_core.cluster._display import KMeansSearchDisplay
from daskml_core.cluster._map import ClusterMapDisplay
from daskml_core.inspection._history import HistoryDisplay
from daskml_core.linear_model._display import CoefficientPathDisplay
from daskml_core.metrics._display import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    ResidualsDisplay,
    RocCurveDisplay,
)
from daskml_core.model_selection._display import LearningCurveDisplay
from daskml_core.svm._display import DecisionRegionDisplay

__all__ = [
    "ClusterMapDisplay",
    "CoefficientPathDisplay",
    "ConfusionMatrixDisplay",
    "DecisionRegionDisplay",
    "HistoryDisplay",
    "KMeansSearchDisplay",
    "LearningCurveDisplay",
    "PrecisionRecallDisplay",
    "ResidualsDisplay",
    "RocCurveDisplay",
]
