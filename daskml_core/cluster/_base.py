"""What the k-means estimators share: checks, assignment of rows to centres for any container."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import run_sweeps
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import SweepEstimator, load_features
from daskml_core.kernels.kmeans import CENTER_DISTANCES, NEAREST_CENTER, Assignment, LloydParams, lloyd_sweep
from daskml_core.solvers.lloyd import common_shift
from daskml_core.sweep import Array
from daskml_core.validate import positive_integer

METRICS = ("euclidean", "cosine")


def check_clusters(n_clusters: Any, n_rows: int | None = None) -> int:
    """A number of clusters, at most one a row."""
    k = positive_integer("n_clusters", n_clusters)
    if n_rows is not None and k > n_rows:
        raise ValueError(f"n_samples={n_rows} should be >= n_clusters={k}.")
    return k


def check_weights(blocks: RowBlocks) -> None:
    """Refuse weights that sum to zero, in a sweep over them where they lie in memory."""
    from daskml_core.kernels.moments import TOTAL_WEIGHT

    if blocks.weight is None:
        return
    (total,) = run_sweeps(RowBlocks(None, None, blocks.weight, blocks.lengths, blocks.dtype), TOTAL_WEIGHT)
    if not total > 0:
        raise ValueError(f"The sample weights sum to zero ({total:g}); at least one must be positive.")


class CentroidModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, SweepEstimator):
    """A model that is its centres; rows belong to the nearest one."""

    cluster_centers_: Array
    labels_: Any
    metric: str = "euclidean"

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_metric(self) -> bool:
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {list(METRICS)}, got {self.metric!r}.")
        return self.metric == "cosine"

    def _centers(self) -> LloydParams:
        centers = self.cluster_centers_
        return LloydParams((centers,), common_shift(centers), self.metric == "cosine")

    def _set_rows(self, X: Any, rows: Array) -> None:
        """Labels and sizes; a warning where rows were too few or too much alike for the clusters asked for."""
        self.cluster_sizes_ = np.asarray(rows)
        self.labels_ = self.predict(X)
        distinct = int(np.count_nonzero(rows))
        if distinct < len(rows):
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters ({len(rows)}). Possibly due to "
                "duplicate points in X.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def predict(self, X: Any) -> Any:
        """Number of the nearest centre of each row (n_rows,), int32; same container as X, lazy for lazy input."""
        check_is_fitted(self)
        return self._map(X, NEAREST_CENTER, self._centers(), np.int32, None, "label")

    def transform(self, X: Any) -> Any:
        """Distances to all centres (n_rows, n_clusters), in X's dtype; ``1 - cosine`` for that metric; lazy as X."""
        check_is_fitted(self)
        k = len(self.cluster_centers_)
        dtype = self.cluster_centers_.dtype
        return self._map(X, CENTER_DISTANCES, self._centers(), dtype, k, "distance", np.arange(k), column="cluster")

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the weighted sum of squared distances of X to the nearest centres, in one sweep."""
        check_is_fitted(self)
        blocks = load_features(self, X, sample_weight, self._feature_dim, reset=False)
        centers = self.cluster_centers_
        answer: tuple[Assignment, ...]
        (answer,) = run_sweeps(blocks, lloyd_sweep(centers, common_shift(centers), cosine=self.metric == "cosine"))
        return -answer[0].inertia
