"""K-means by Lloyd's algorithm."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from daskml_core.cluster._base import CentroidModel, check_clusters, check_weights
from daskml_core.cluster._init import INITS, explicit_centers, first_centers
from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import CheckpointPath, Plan, resumable, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import load_features, sample_budget
from daskml_core.kernels.kmeans import LLOYD, LloydParams, far_rows, lloyd_sweep
from daskml_core.kernels.sample import DRAW_ROWS, RowSample, SampleParams, sample_sweep
from daskml_core.kernels.seeding import DRAW, DrawParams
from daskml_core.solvers.in_memory import Asks, answer_from
from daskml_core.solvers.kmeans_seeding import (
    ROUNDS,
    as_sampled,
    kmeans_parallel,
    sample_size,
)
from daskml_core.solvers.lloyd import lloyd
from daskml_core.sweep import Array, Block, Sweep, Work
from daskml_core.validate import is_count, non_negative, positive_integer, random_seed

IN_PROCESS_WORK = 200_000_000
"""Multiplications an iteration (rows x clusters x features) below which a sample that is all of the data is solved at
once: starting tasks for each iteration would cost more."""


class KMeans(CentroidModel):
    """K-means by Lloyd's algorithm: one sweep over the data an iteration, one or two before the first.

    Minimises the weighted sum of squared distances of the rows to the nearest of k centres.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"auto", "k-means||", "k-means++", "random"}, array (n_clusters, n_features) or callable, default="auto"
        How the first centres are found. All but "k-means||" and an array draw a sample over all blocks in one sweep,
        ``init_size`` rows; data no larger is its own sample.

        - "auto": the sample's own solution, by breathing k-means, so that the data needs few iterations. Measured best
          for every number of clusters and rows.
        - "k-means++": k-means++ on the sample, as exact as scikit-learn's.
        - "random": rows of the sample.
        - "k-means||": six sweeps (Bahmani et al. 2012), for clusters too small for a sample.
        - a callable is called as ``init(X_sample, n_clusters, random_state)``.
    n_init : "auto" or int, default="auto"
        Runs from different first centres, each on a sample of its own, in lockstep: a sweep is shared by all runs. The
        best is kept. "auto" is 10 for "random" and a callable, otherwise 1.
    init_size : int, optional
        Rows of the sample; 20,000 or 100 a cluster, whichever is more, within 64 MiB.
    max_iter : int, default=300
    tol : float, default=1e-4
        Stops when the squared movements of the centres sum to less than ``tol`` times the mean variance of the features.
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" clusters directions: rows and centres are scaled to length one.
    random_state : int, optional
        ``None`` is a fixed seed: fits are reproducible unless asked otherwise.

    Attributes
    ----------
    cluster_centers_ : ndarray (n_clusters, n_features), in the dtype that X is computed in
    labels_ : (n_rows,) int32; same container as X, lazy for lazy input
    inertia_ : float
        The weighted sum of squared distances to ``cluster_centers_``, exact.
    cluster_sizes_ : ndarray (n_clusters,) of numbers of rows
    init_size_ : int
        Rows that the first centres were found on; 0 where all or none were looked at.
    n_iter_ : int
    n_sweeps_ : float
        Complete reads of the data: those before the first iteration, ``n_iter_`` (of the longest run), and one for the
        inertia of the last centres.
    history_ : list of dict
        ``inertia`` and ``center_shift`` of every iteration of the best run; ``pandas.DataFrame(model.history_)``.
    converged_ : bool
    n_features_in_, feature_names_in_

    Notes
    -----
    Clusters that lose all rows are moved to the rows farthest from their centres, found in the same sweep; no two of
    them to the same row. The bits are the same for any number of workers and threads.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.cluster import KMeans
    >>> X = da.from_array([[1.0, 2.0], [1.0, 4.0], [10.0, 2.0], [10.0, 4.0]], chunks=(3, 2))
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.inertia_
    4.0
    >>> model.cluster_centers_[model.predict([[0.0, 0.0], [12.0, 3.0]])]
    array([[ 1.,  3.],
           [10.,  3.]])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Array | Callable[..., Array] = "auto",
        n_init: str | int = "auto",
        init_size: int | None = None,
        max_iter: int = 300,
        tol: float = 1e-4,
        metric: str = "euclidean",
        random_state: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.init_size = init_size
        self.max_iter = max_iter
        self.tol = tol
        self.metric = metric
        self.random_state = random_state

    def _check_params(self, blocks: RowBlocks) -> int:
        """The number of runs, after refusing parameters out of range."""
        k = check_clusters(self.n_clusters, blocks.n_rows)
        positive_integer("max_iter", self.max_iter)
        non_negative("tol", self.tol)
        self._check_metric()
        if self.init_size is not None and positive_integer("init_size", self.init_size) < k:
            raise ValueError(f"init_size={self.init_size} must be at least n_clusters={k}.")
        if isinstance(self.init, str):
            if self.init not in INITS:
                raise ValueError(f"init must be one of {list(INITS)}, an array or a callable, got {self.init!r}.")
        elif not callable(self.init):
            explicit_centers(self.init, k, blocks, cosine=self.metric == "cosine")
            if self.n_init not in ("auto", 1):
                warnings.warn(
                    f"Explicit initial center position passed: performing only one init in {type(self).__name__} "
                    f"instead of n_init={self.n_init}.",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return 1
        if self.n_init == "auto":
            return 10 if callable(self.init) or self.init == "random" else 1
        if not is_count(self.n_init):
            raise ValueError(f'n_init must be "auto" or a positive integer, got {self.n_init!r}.')
        return int(self.n_init)

    def _solver(self, blocks: RowBlocks, run: int, seed: int, sample: Sweep) -> Asks:
        """One run: first centres, then Lloyd's iterations."""
        k, cosine = int(self.n_clusters), self.metric == "cosine"
        options: dict[str, Any] = {"tol": float(self.tol), "max_iter": int(self.max_iter), "cosine": cosine}
        if isinstance(self.init, str) and self.init == "k-means||":
            start = yield from kmeans_parallel(k, seed + run, cosine=cosine, dtype=blocks.dtype)
            return (yield from lloyd(start, **options))
        if not isinstance(self.init, str) and not callable(self.init):
            return (yield from lloyd(explicit_centers(self.init, k, blocks, cosine=cosine), **options))
        drawn: RowSample = yield sample
        rows, rng = as_sampled(drawn, cosine=cosine), np.random.default_rng([seed, run])
        if cosine and not rows.X.any(axis=1).all():
            yield lloyd_sweep(np.eye(1, blocks.n_features, dtype=blocks.dtype), None, cosine=True)  # names the row
        if len(rows.X) < k:  # rows of positive weight are rare: only draws by weight find them
            start = yield from kmeans_parallel(k, seed + run, cosine=cosine, dtype=blocks.dtype)
            return (yield from lloyd(start, **options))
        find = functools.partial(first_centers, self.init, rows, k, rng, blocks, tol=float(self.tol), cosine=cosine)
        start = yield Work("first-centers", (self.init, rows, k, seed, run, float(self.tol), cosine), find)
        solver = lloyd(np.ascontiguousarray(start), **options)
        if len(drawn.X) == blocks.n_rows and drawn.X.size * k <= IN_PROCESS_WORK:
            return (yield from answer_from(solver, Block(drawn.X, None, drawn.weight, 0, 0)))
        return (yield from solver)

    def _sample_rows(self, blocks: RowBlocks) -> int:
        k = int(self.n_clusters)
        if self.init_size is not None:
            return min(int(self.init_size), blocks.n_rows)
        wanted = max(k, sample_size(k, blocks.n_features, blocks.dtype.itemsize, sample_budget()))
        return min(wanted, blocks.n_rows)

    def _kernels(self, blocks: RowBlocks, runs: int) -> list[tuple[Any, Any]]:
        """Kernels with parameters of the right size, for the memory plan."""
        k, d = int(self.n_clusters), blocks.n_features
        centers = np.broadcast_to(np.zeros((), blocks.dtype), (k, d))
        kernels: list[tuple[Any, Any]] = [(LLOYD, LloydParams((centers,) * runs, far=far_rows(k)))]
        if isinstance(self.init, str) and self.init == "k-means||":
            candidates = np.broadcast_to(np.zeros((), blocks.dtype), (2 * k * ROUNDS, d))
            kernels.append((LLOYD, LloydParams((candidates,) * runs)))
            kernels += [(DRAW, DrawParams(2 * k, LloydParams((candidates,)), 0, 1))] * runs
        elif isinstance(self.init, str) or callable(self.init):
            itemsize = blocks.dtype.itemsize
            rows = self._sample_rows(blocks)
            # A sample a run: runs on one sample all end near that sample's optimum.
            drawn = runs if rows < blocks.n_rows else 1
            kernels += [(DRAW_ROWS, SampleParams(rows, blocks.n_rows, 0, itemsize))] * drawn
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
        """Find the centres.

        Parameters
        ----------
        X : array-like (n_rows, n_features): NumPy, dask.array, zarr.Array, xarray DataArray or Dataset, DataFrame.
        y : ignored, as in scikit-learn.
        sample_weight : array-like (n_rows,), optional.
        feature_dim : name of the feature dimension of a DataArray, where it cannot be told.
        checkpoint : directory or URL where an interrupted fit is kept, so that the same fit goes on from there (user guide).

        Raises
        ------
        ValueError : NaN or infinity, negative weights (block and row are named), more clusters than rows, centres of
            another shape, a zero vector under the cosine metric.
        MemoryPlanError : a block that cannot be worked on within the memory limit; nothing has been read then.

        Warns
        -----
        ConvergenceWarning : fewer distinct rows than clusters, or ``max_iter`` reached.
        """
        blocks = load_features(self, X, sample_weight, feature_dim)
        runs = self._check_params(blocks)
        check_weights(blocks)
        seed = random_seed(self.random_state)
        rows = self._sample_rows(blocks)
        samples = [sample_sweep(rows, blocks.n_rows, seed + run, blocks.dtype.itemsize) for run in range(runs)]
        if rows == blocks.n_rows:
            samples = samples[:1] * runs
        solvers = [self._solver(blocks, run, seed, sample) for run, sample in enumerate(samples)]
        outcomes = self._drive(solvers, blocks, self._kernels(blocks, runs), fitted=_fitted_at)
        best = min(outcomes, key=lambda outcome: outcome.state.inertia)
        state = best.state
        self.cluster_centers_ = state.centers
        self.inertia_ = float(state.inertia)
        self.n_iter_ = int(state.n_iter)
        self.converged_ = bool(state.converged)
        sampled = (isinstance(self.init, str) and self.init != "k-means||") or callable(self.init)
        self.init_size_ = rows if sampled and rows < blocks.n_rows else 0
        self.history_ = best.history
        self._set_rows(X, state.rows)
        if not self.converged_ and not stopped_early():
            warnings.warn(
                f"{type(self).__name__} did not converge: max_iter={self.max_iter} was reached while the centres still "
                f"moved by {state.moved:.3g} (squared, summed; {state.threshold:.3g} was asked for). Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def plan(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; nothing is read."""
        model = clone(self)  # a plan leaves no trace
        blocks = load_features(model, X, sample_weight, feature_dim)
        runs = model._check_params(blocks)
        before = f"{ROUNDS + 1}" if isinstance(model.init, str) and model.init == "k-means||" else "1"
        sweeps = f"{before} for the first centres, one an iteration (at most {model.max_iter}), 1 for the inertia"
        return model._plan(blocks, model._kernels(blocks, runs), sweeps)


def _fitted_at(state: Any) -> dict[str, Any]:
    """The model of a run that stopped at a state."""
    return {"cluster_centers_": state.centers, "inertia_": float(state.inertia), "n_iter_": int(state.n_iter)}
