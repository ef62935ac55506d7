"""K-means by repeated bisection."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from daskml_core.cluster._base import CentroidModel, check_clusters, check_weights
from daskml_core.cluster._init import first_centers
from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import load_features, sample_budget
from daskml_core.kernels.bisecting import (
    DRAW_FROM_LEAVES,
    HALVES,
    LEAF_OF_ROWS,
    HalvesParams,
    LeafDrawParams,
    Tree,
    refuse_zero_sweep,
)
from daskml_core.kernels.sample import DRAW_ROWS, RowSample, SampleParams, sample_sweep
from daskml_core.solvers.bisecting_kmeans import (
    DRAWN_ROWS,
    ENOUGH_ROWS,
    BisectingState,
    Settings,
    best_tree,
    bisecting_kmeans,
    first_state,
    follow,
    tree_of,
)
from daskml_core.solvers.in_memory import Asks
from daskml_core.solvers.kmeans_seeding import Sampled, sample_size
from daskml_core.sweep import Array, Block
from daskml_core.validate import non_negative, positive_integer, random_seed

INITS = ("auto", "k-means++", "random")
STRATEGIES = ("biggest_inertia", "largest_cluster")


class BisectingKMeans(CentroidModel):
    """K-means by splitting the worst cluster in two until there are k; the clusters form a tree.

    All clusters that may still have to be split are split in the same sweeps, so that k - 1 bisections take about as many
    sweeps as the path to the deepest cluster; the result is that of one bisection after another.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"auto", "k-means++", "random"} or callable, default="auto"
        How the first two centres of each bisection are found.

        - "auto": as in the best of eight trees (fewer beyond 100 clusters) that are grown on a sample by "k-means++".
        - "k-means++", "random": on sampled rows of the cluster.
        - a callable is called as ``init(X_sample, 2, random_state)``, with sampled rows of the cluster.
    n_init : int, default=1
        Runs of each bisection from different first centres, in the same sweeps; the best is kept.
    init_size : int, optional
        Rows of the sample that is drawn over all blocks; 20,000 or 100 a cluster, whichever is more, within 64 MiB. A
        cluster with fewer than 200 of them draws 1000 rows of its own. Data no larger than the sample is read once.
    random_state : int, optional
        ``None`` is a fixed seed.
    max_iter : int, default=300
        Iterations of each bisection.
    tol : float, default=1e-4
        A bisection stops when the squared movements of its centres sum to less than ``tol`` times the mean variance of
        the features in the cluster that is split. (scikit-learn does not scale it here.)
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" clusters directions.
    bisecting_strategy : {"biggest_inertia", "largest_cluster"}, default="biggest_inertia"
        Which cluster is split next: that of the largest sum of squares, or of most rows.

    Attributes
    ----------
    cluster_centers_ : ndarray (n_clusters, n_features)
        Means of the rows of each cluster; clusters in the order of the tree's leaves.
    labels_ : (n_rows,) int32; same container as X, lazy for lazy input
    inertia_ : float
        The weighted sum of squared distances of the rows to the centres of their clusters, exact. Not of the nearest
        centres: see `predict`.
    cluster_sizes_ : ndarray (n_clusters,) of numbers of rows
    n_iter_ : int
        Iterations of all bisections in the tree.
    n_sweeps_ : float
        Complete reads of the data.
    history_ : list of dict
        A row a sweep: clusters that the tree has so far, bisections that are known, and the tree's inertia.
    converged_ : bool
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.cluster import BisectingKMeans
    >>> X = da.from_array([[1.0], [2.0], [10.0], [11.0], [50.0]], chunks=(2, 1))
    >>> model = BisectingKMeans(n_clusters=3).fit(X)
    >>> sorted(model.cluster_centers_.ravel().tolist())
    [1.5, 10.5, 50.0]
    >>> model.inertia_
    1.0
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Callable[..., Array] = "auto",
        n_init: int = 1,
        init_size: int | None = None,
        random_state: int | None = None,
        max_iter: int = 300,
        tol: float = 1e-4,
        metric: str = "euclidean",
        bisecting_strategy: str = "biggest_inertia",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.init_size = init_size
        self.random_state = random_state
        self.max_iter = max_iter
        self.tol = tol
        self.metric = metric
        self.bisecting_strategy = bisecting_strategy

    def _check_params(self, blocks: RowBlocks) -> None:
        check_clusters(self.n_clusters, blocks.n_rows)
        positive_integer("max_iter", self.max_iter)
        positive_integer("n_init", self.n_init)
        non_negative("tol", self.tol)
        self._check_metric()
        if self.init_size is not None and positive_integer("init_size", self.init_size) < 2:
            raise ValueError(f"init_size={self.init_size} must be at least 2: a bisection needs two centres.")
        if self.bisecting_strategy not in STRATEGIES:
            raise ValueError(f"bisecting_strategy must be one of {list(STRATEGIES)}, got {self.bisecting_strategy!r}.")
        if not callable(self.init) and not (isinstance(self.init, str) and self.init in INITS):
            raise ValueError(f"init must be one of {list(INITS)} or a callable, got {self.init!r}.")

    def _settings(self, blocks: RowBlocks, seed: int) -> Settings:
        cosine, tol = self.metric == "cosine", float(self.tol)

        init = "k-means++" if self.init == "auto" else self.init

        def start(path: str, run: int, pool: Sampled, rng: np.random.Generator) -> Array:
            return first_centers(init, pool, 2, rng, blocks, tol=tol, cosine=cosine)

        return Settings(
            int(self.n_clusters),
            start,
            n_init=int(self.n_init),
            by_rows=self.bisecting_strategy == "largest_cluster",
            tol=tol,
            max_iter=int(self.max_iter),
            cosine=cosine,
            seed=seed,
            draw_bytes=sample_budget(),
        )

    def _solver(self, blocks: RowBlocks, settings: Settings) -> Asks:
        rows = self._sample_rows(blocks)
        drawn: RowSample = yield sample_sweep(rows, blocks.n_rows, settings.seed, blocks.dtype.itemsize)
        whole = len(drawn.X) == blocks.n_rows
        if settings.cosine and not drawn.X.any(axis=1).all():
            yield refuse_zero_sweep(blocks.n_features, blocks.dtype)  # names the row, where the sample cannot
        pool = Sampled(drawn.X, drawn.weight)
        if not whole and pool.weight is not None:
            pool = Sampled(pool.X[pool.weight > 0], pool.weight[pool.weight > 0])
        if self.init == "auto" and settings.n_clusters > 1 and (whole or len(pool.X) >= ENOUGH_ROWS):
            block = Block(pool.X, None, pool.weight, 0, 0)
            tree = best_tree(first_state(pool, len(pool.X), whole=True), replace(settings, n_init=1), block)
            settings = replace(settings, start=follow(tree, settings.start))
        return (yield from bisecting_kmeans(first_state(pool, blocks.n_rows, whole=whole), settings))

    def _sample_rows(self, blocks: RowBlocks) -> int:
        if self.init_size is not None:
            return min(int(self.init_size), blocks.n_rows)
        k = int(self.n_clusters)
        return min(sample_size(k, blocks.n_features, blocks.dtype.itemsize, sample_budget()), blocks.n_rows)

    def _kernels(self, blocks: RowBlocks) -> list[tuple[Any, Any]]:
        """Kernels with parameters of the right size, for the memory plan."""
        k, d = int(self.n_clusters), blocks.n_features
        zero = np.zeros((), blocks.dtype)
        # Clusters that may have to be split are fewer than k, and so are those that are split and needed; splits made
        # in vain are about as many again.
        tree = Tree(np.zeros((2 * k, 2), dtype=np.int64), np.broadcast_to(zero, (2 * k, 2, d)), self.metric == "cosine")
        pairs = np.broadcast_to(zero, (max(1, k - 1) * int(self.n_init), 2, d))
        leaves = tuple(range(max(1, min(k - 1, sample_budget() // (DRAWN_ROWS * 8 * (d + 2))))))
        rows, itemsize = self._sample_rows(blocks), blocks.dtype.itemsize
        kernels: list[tuple[Any, Any]] = [(DRAW_ROWS, SampleParams(rows, blocks.n_rows, 0, itemsize))]
        kernels.append((HALVES, HalvesParams(tree, np.zeros(1), pairs)))
        if rows < blocks.n_rows:
            kernels.append((DRAW_FROM_LEAVES, LeafDrawParams(tree, leaves, leaves, 0, DRAWN_ROWS)))
        return kernels

    @resumable
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Self:
        """Split the clusters.

        Parameters
        ----------
        X : array-like (n_rows, n_features): NumPy, dask.array, zarr.Array, xarray DataArray or Dataset, DataFrame.
        y : ignored, as in scikit-learn.
        sample_weight : array-like (n_rows,), optional.
        feature_dim : name of the feature dimension of a DataArray, where it cannot be told.
        checkpoint : directory or URL where an interrupted fit is kept, so that the same fit goes on from there (user guide).

        Raises
        ------
        ValueError : NaN or infinity, negative weights (block and row are named), more clusters than rows, a zero vector
            under the cosine metric.
        MemoryPlanError : a block that cannot be worked on within the memory limit; nothing has been read then.

        Warns
        -----
        ConvergenceWarning : fewer distinct rows than clusters, or a bisection reached ``max_iter``.
        """
        blocks = load_features(self, X, sample_weight, feature_dim)
        self._check_params(blocks)
        check_weights(blocks)
        settings = self._settings(blocks, random_seed(self.random_state))
        (outcome,) = self._drive([self._solver(blocks, settings)], blocks, self._kernels(blocks))
        state: BisectingState = outcome.state
        self.history_ = outcome.history
        leaves = [state.nodes[path] for path in state.leaves]
        self.cluster_centers_ = np.stack([leaf.center for leaf in leaves]).astype(blocks.dtype)
        self.inertia_ = float(sum(leaf.inertia for leaf in leaves))
        inner = {path[:i] for path in state.leaves for i in range(len(path))}
        self._tree = tree_of(state.nodes, sorted(inner), settings.cosine)[0]
        splits = [node.split for node in state.inner if node.split is not None]
        self.n_iter_ = max(1, sum(split.n_iter for split in splits))
        self.converged_ = all(split.converged for split in splits)
        self._set_rows(X, np.array([leaf.rows for leaf in leaves]))
        if not self.converged_:
            short = sum(not split.converged for split in splits)
            warnings.warn(
                f"{type(self).__name__} did not converge: {short} of {len(splits)} bisections reached "
                f"max_iter={self.max_iter}. Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def predict(self, X: Any) -> Any:
        """Cluster of each row (n_rows,), int32, going down the tree by the nearer of two centres.

        As scikit-learn's: near the border of a cluster another centre than its own may be the nearest. Same container as
        X, lazy for lazy input.
        """
        check_is_fitted(self)
        return self._map(X, LEAF_OF_ROWS, self._tree, np.int32, None, "label")

    def plan(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; nothing is read."""
        model = clone(self)  # a plan leaves no trace
        blocks = load_features(model, X, sample_weight, feature_dim)
        model._check_params(blocks)
        sweeps = "1 for a sample, then one an iteration of all bisections that can go on side by side"
        return model._plan(blocks, model._kernels(blocks), sweeps)
