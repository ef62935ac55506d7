"""Eight pictures of fits on lazy data, side by side: every number in them was reduced by sweeps.

The data come with scikit-learn (tumours, digits, diabetes). Run: ``python examples/pictures.py [directory]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dask.array as da
import matplotlib

matplotlib.use("Agg")  # a file, not a window
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from daskml_core.cluster import KMeansSearch
from daskml_core.inspection import (
    CoefficientPathDisplay,
    ConfusionMatrixDisplay,
    HistoryDisplay,
    KMeansSearchDisplay,
    LearningCurveDisplay,
    PrecisionRecallDisplay,
    ResidualsDisplay,
    RocCurveDisplay,
)
from daskml_core.linear_model import Lasso, LogisticRegression, Ridge
from daskml_core.model_selection import train_test_split
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler


def lazy(*arrays: np.ndarray) -> list[da.Array]:
    """The arrays in blocks of a hundred rows."""
    return [da.from_array(array, chunks=(100, *array.shape[1:])) for array in arrays]


def main(directory: Path) -> None:
    """Fit, and draw."""
    figure, axes = plt.subplots(2, 4, figsize=(19, 8.6), layout="constrained")
    images = load_digits()
    X, X_test, y, y_test = train_test_split(*lazy(images.data, images.target), random_state=0, stratify=images.target)
    digits = LogisticRegression(C=0.01).fit(X, y)
    matrix = ConfusionMatrixDisplay.from_estimator(digits, X_test, y_test, ax=axes[0, 0], colorbar=False, cmap="Blues")
    print(f"digits: {matrix.confusion_matrix.trace()} of {matrix.confusion_matrix.sum()} right")

    tumours = load_breast_cancer()
    kind = np.array(tumours.target_names)[tumours.target]
    # Two features of thirty: with all of them there is little to see.
    X, X_test, y, y_test = train_test_split(*lazy(tumours.data[:, [1, 4]], kind), random_state=0, stratify=kind)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    options = {"pos_label": "malignant", "plot_chance_level": True, "name": "two features"}
    roc = RocCurveDisplay.from_estimator(model, X_test, y_test, ax=axes[0, 1], **options)
    PrecisionRecallDisplay.from_estimator(model, X_test, y_test, ax=axes[0, 2], **options)
    print(f"tumours: area under the ROC curve {roc.roc_auc:.3f}")

    whole = lazy(tumours.data, kind)
    LearningCurveDisplay.from_estimator(
        make_pipeline(StandardScaler(), LogisticRegression()), *whole, cv=5, shuffle=True, scoring="neg_log_loss",
        negate_score=True, ax=axes[0, 3],
    )  # fmt: skip

    table = load_diabetes(as_frame=True)
    X, y = table.data, table.target
    CoefficientPathDisplay.from_estimator(Lasso(), X, y, values=np.logspace(-2.5, 0.7, 60), ax=axes[1, 0], n_labels=6)
    ResidualsDisplay.from_estimator(Ridge(alpha=0.1).fit(X, y), X, y, bins=(24, 20), ax=axes[1, 1])

    standardised = StandardScaler().fit_transform(whole[0])
    for solver in ("newton", "lbfgs", "gradient_descent"):
        fit = LogisticRegression(solver=solver, tol=1e-6, max_iter=500).fit(standardised, whole[1])
        HistoryDisplay.from_estimator(fit, name=solver, excess=True, ax=axes[1, 2])

    search = KMeansSearch(n_clusters=range(2, 15), n_references=1, random_state=0).fit(lazy(images.data)[0])
    KMeansSearchDisplay.from_estimator(search, ax=axes[1, 3])

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "pictures.png"
    figure.savefig(path, dpi=65)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data"))
