"""K-means for several numbers of clusters at once, and what helps to choose among them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskml_core.cluster._base import CentroidModel, check_clusters, check_weights
from daskml_core.cluster._kmeans import IN_PROCESS_WORK, KMeans
from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import CheckpointPath, Engine, Plan, drive, resumable, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import load_features
from daskml_core.html import records_table
from daskml_core.kernels.kmeans import LloydParams
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.kernels.silhouette import SILHOUETTES, Silhouettes
from daskml_core.search_html import ShownSearch
from daskml_core.solvers.breathing import SAMPLE_ITERATIONS, breathe
from daskml_core.solvers.in_memory import Asks, answer_from, solve_in_memory
from daskml_core.solvers.kmeans_seeding import Sampled, as_sampled, plus_plus
from daskml_core.solvers.lloyd import LloydState, common_shift, lloyd
from daskml_core.sweep import Array, Block, Sweep, Work
from daskml_core.validate import is_count, random_seed

CRITERIA = ("silhouette", "gap", "elbow")

REFERENCE_ROWS = 100
"""Rows a cluster of the uniform reference data that the gap statistic compares with, at least 5,000 in all."""


class Choice(NamedTuple):
    """What each number of clusters gives, all (n,)."""

    n_clusters: Array
    inertia: Array
    silhouette: Array
    gap: Array
    gap_error: Array


class KMeansSearch(ShownSearch, CentroidModel):
    """K-means for several numbers of clusters at once, in the sweeps of one.

    All models of all numbers of clusters are trained in lockstep: a sweep is shared by all that have not converged. One more
    sweep gives the silhouettes of all.

    Parameters
    ----------
    n_clusters : iterable of int or int, default=(2, ..., 10)
    init, init_size, max_iter, tol, metric : as in `KMeans`. All numbers of clusters share one sample.
    n_init : int, default=1
        Runs of each number of clusters. With ``init="auto"`` they compete on the sample, and the best, improved by
        breathing k-means, goes over the data; with other ways to start, all runs go over the data.
    criterion : {"silhouette", "gap", "elbow"}, default="silhouette"
        How the number of clusters is chosen: the largest simplified silhouette; the smallest k whose gap is within one
        standard error of the next; or the point where the logarithms of the inertias are
        farthest below the line from first to last.
    n_references : int, default=10
        Uniform data sets in the sample's bounding box that the gap statistic compares with; 0 for none.
    random_state : int, optional
        ``None`` is a fixed seed.

    Attributes
    ----------
    n_clusters_ : ndarray of the numbers of clusters, increasing
    inertias_, silhouettes_, gaps_, gap_errors_ : ndarrays, one value for each
    best_n_clusters_ : int
    models_ : list of fitted `KMeans`, without ``labels_``
    cluster_centers_, labels_, inertia_, cluster_sizes_, n_iter_, converged_ : of the best
    n_sweeps_ : float
        Complete reads of the data, all models together.
    n_features_in_, feature_names_in_

    Notes
    -----
    The gap statistic (Tibshirani, Walther and Hastie 2001) is ``E log W_ref - log W`` with W the inertia over n - k.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from daskml_core.cluster import KMeansSearch
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(900, 2)) + 20 * (np.arange(900) % 3)[:, None]
    >>> search = KMeansSearch(range(2, 6)).fit(da.from_array(X, chunks=(100, 2)))
    >>> search.best_n_clusters_, search.n_sweeps_
    (3, 2.0)
    """

    def __init__(
        self,
        n_clusters: Iterable[int] | int = (2, 3, 4, 5, 6, 7, 8, 9, 10),
        *,
        init: Any = "auto",
        n_init: int = 1,
        init_size: int | None = None,
        max_iter: int = 300,
        tol: float = 1e-4,
        metric: str = "euclidean",
        criterion: str = "silhouette",
        n_references: int = 10,
        random_state: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.init_size = init_size
        self.max_iter = max_iter
        self.tol = tol
        self.metric = metric
        self.criterion = criterion
        self.n_references = n_references
        self.random_state = random_state

    def _ks(self) -> list[int]:
        given: Any = self.n_clusters
        several = isinstance(given, Iterable) and not isinstance(given, str)
        ks = sorted({check_clusters(k) for k in (given if several else [given])})
        if not ks:
            raise ValueError("n_clusters must hold at least one number.")
        return ks

    def _templates(self, blocks: RowBlocks) -> list[KMeans]:
        """A `KMeans` for each number of clusters, after the checks."""
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {list(CRITERIA)}, got {self.criterion!r}.")
        if not is_count(self.n_references, least=0):
            raise ValueError(f"n_references must be a whole number not below 0, got {self.n_references!r}.")
        if self.criterion == "gap" and not self.n_references:
            raise ValueError('criterion="gap" needs n_references of at least 1.')
        if self.criterion == "gap" and self.metric == "cosine":
            raise ValueError('criterion="gap" compares with data in a box, which metric="cosine" has none of.')
        ks = self._ks()
        if not isinstance(self.init, str) and not callable(self.init):
            raise ValueError("init must be a name or a callable: centres that are given are of one number of clusters.")
        models = [
            KMeans(
                k, init=self.init, n_init=self.n_init, init_size=self.init_size, max_iter=self.max_iter, tol=self.tol,
                metric=self.metric, random_state=self.random_state,
            )
            for k in ks
        ]  # fmt: skip
        for model in models:
            model._check_params(blocks)
        return models

    def _runs(self) -> int:
        """Runs of each number of clusters that go over the data."""
        return 1 if isinstance(self.init, str) and self.init == "auto" else int(self.n_init)

    def _kernels(self, blocks: RowBlocks, models: Sequence[KMeans]) -> list[tuple[Any, Any]]:
        kernels = [pair for model in models for pair in model._kernels(blocks, self._runs())[:1]]
        kernels += models[-1]._kernels(blocks, 1)[1:]
        centers = tuple(np.broadcast_to(np.zeros((), blocks.dtype), (m.n_clusters, blocks.n_features)) for m in models)
        return [*kernels, (SILHOUETTES, LloydParams(centers))]

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
        """Find centres for every number of clusters; X (n_rows, n_features) in any container. Returns self."""
        blocks = load_features(self, X, sample_weight, feature_dim)
        models = self._templates(blocks)
        check_weights(blocks)
        seed = random_seed(self.random_state)
        rows = max(model._sample_rows(blocks) for model in models)
        sample = sample_sweep(rows, blocks.n_rows, seed, blocks.dtype.itemsize)
        plan = [(j, run) for j in range(len(models)) for run in range(self._runs())]
        solvers: list[Any] = [self._solver(models[j], blocks, run, seed, sample) for j, run in plan]
        gaps = self.metric == "euclidean" and int(self.n_references) > 0
        references = range(int(self.n_references) if gaps else 0)
        solvers += [_reference(sample, self._ks(), seed, number, float(self.tol)) for number in references]
        engine = Engine(blocks, kernels=self._kernels(blocks, models))
        try:
            outcomes = drive(solvers, engine)
            for j, model in enumerate(models):
                _accept(model, min((o for (i, _), o in zip(plan, outcomes, strict=False) if i == j), key=_inertia))
            found = self._silhouettes(engine, models)
        finally:
            engine.close()
        self.n_sweeps_ = round(engine.n_sweeps, 6)
        self.models_ = models
        for model in models:
            for attribute in ("n_features_in_", "feature_names_in_", "_feature_dim"):
                if hasattr(self, attribute):
                    setattr(model, attribute, getattr(self, attribute))
        self.n_clusters_ = np.array(self._ks())
        self.inertias_ = np.array([model.inertia_ for model in models])
        self.silhouettes_ = found.sums / found.weight
        logs = np.array([outcome.state for outcome in outcomes[len(plan) :]])
        self._set_gaps(logs.reshape(len(references), len(models)), blocks.n_rows, found.weight)
        self._choose(X)
        return self

    def _solver(self, model: KMeans, blocks: RowBlocks, run: int, seed: int, sample: Sweep) -> Asks:
        if not (isinstance(self.init, str) and self.init == "auto"):
            return (yield from model._solver(blocks, run, seed, sample))
        drawn: RowSample = yield sample
        k, cosine, tol = int(model.n_clusters), self.metric == "cosine", float(self.tol)
        rows = as_sampled(drawn, cosine=cosine)
        find = functools.partial(self._first_centers, rows, k, seed)
        centers = yield Work("first-centers", (rows, k, seed, int(self.n_init), tol, cosine), find)
        solver = lloyd(centers, tol=tol, max_iter=int(self.max_iter), cosine=cosine)
        if len(drawn.X) == blocks.n_rows and drawn.X.size * k <= IN_PROCESS_WORK:
            return (yield from answer_from(solver, Block(drawn.X, None, drawn.weight, 0, 0)))
        return (yield from solver)

    def _first_centers(self, rows: Sampled, k: int, seed: int) -> Array:
        """The best of several runs on a sample, improved by breathing k-means."""
        cosine, tol = self.metric == "cosine", float(self.tol)
        best: LloydState | None = None
        for start in range(int(self.n_init)):
            rng = np.random.default_rng([seed, start, k])
            solver = lloyd(plus_plus(rows, k, rng), tol=tol, max_iter=SAMPLE_ITERATIONS, cosine=cosine)
            state: LloydState = solve_in_memory(solver, rows.block)
            best = state if best is None or state.inertia < best.inertia else best
        assert best is not None
        return breathe(best.centers, rows.block, np.random.default_rng([seed, k]), tol=tol, cosine=cosine).centers

    def _silhouettes(self, engine: Engine, models: Sequence[KMeans]) -> Silhouettes:
        """One sweep for all models; they share a shift, that of the first."""
        centers = tuple(model.cluster_centers_ for model in models)
        params = LloydParams(centers, common_shift(centers[0]), self.metric == "cosine")
        found: Silhouettes
        (found,) = engine.sweep(Sweep(SILHOUETTES, params))
        return found

    def _set_gaps(self, logs: Array, n_rows: int, weight: float) -> None:
        n = len(self.n_clusters_)
        if not len(logs):
            self.gaps_, self.gap_errors_ = np.full(n, np.nan), np.full(n, np.nan)
            return
        with np.errstate(divide="ignore"):
            freedom = weight * np.maximum(1 - self.n_clusters_ / n_rows, 1 / n_rows)
            self.gaps_ = logs.mean(axis=0) - np.log(self.inertias_ / freedom)
        self.gap_errors_ = logs.std(axis=0) * np.sqrt(1 + 1 / len(logs))

    def _choose(self, X: Any) -> None:
        best = _best(self.criterion, self.results_)
        model = self.models_[best]
        self.best_n_clusters_ = int(self.n_clusters_[best])
        for attribute in ("cluster_centers_", "inertia_", "n_iter_", "converged_", "history_"):
            setattr(self, attribute, getattr(model, attribute))
        self._set_rows(X, model.cluster_sizes_)
        late = [model.n_clusters for model in self.models_ if not model.converged_]
        if late and not stopped_early():
            warnings.warn(
                f"KMeansSearch did not converge for n_clusters={late}: max_iter={self.max_iter} was reached. Raise max_iter "
                "or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    @property
    def results_(self) -> Choice:
        """Inertia, silhouette and gap of each number of clusters, as a named tuple of arrays."""
        check_is_fitted(self, "inertias_")
        return Choice(self.n_clusters_, self.inertias_, self.silhouettes_, self.gaps_, self.gap_errors_)

    def _summary_html(self) -> str:
        """A row a number of clusters; nothing before a fit."""
        if not hasattr(self, "inertias_"):
            return ""
        found = self.results_
        columns = ["clusters", "inertia", "simplified silhouette"]
        tables = [found.n_clusters, found.inertia, found.silhouette]
        if np.isfinite(found.gap).any():
            columns, tables = [*columns, "gap", "error of gap"], [*tables, found.gap, found.gap_error]
        return records_table(
            f"{type(self).__name__}: {len(found.n_clusters)} numbers of clusters side by side, "
            f"{self.n_sweeps_:.3g} sweeps over the data",
            columns,
            list(zip(*tables, strict=True)),
            best=list(found.n_clusters).index(self.best_n_clusters_),
        )

    def plot(self, axes: Any = None) -> Any:
        """Draw inertias, silhouettes and gaps over the number of clusters; returns a `KMeansSearchDisplay`."""
        from daskml_core.cluster._display import KMeansSearchDisplay

        return KMeansSearchDisplay(self.results_, self.best_n_clusters_).plot(axes)

    def plan(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; nothing is read."""
        blocks = load_features(self, X, sample_weight, feature_dim)
        models = self._templates(blocks)
        sweeps = f"one an iteration of the slowest model (at most {self.max_iter}), 1 before, 1-2 after, for all models"
        return self._plan(blocks, self._kernels(blocks, models), sweeps)


def _inertia(outcome: Any) -> float:
    return float(outcome.state.inertia)


def _accept(model: KMeans, outcome: Any) -> None:
    """Take a run as the fitted model."""
    state = outcome.state
    model.cluster_centers_ = state.centers
    model.inertia_ = float(state.inertia)
    model.n_iter_ = int(state.n_iter)
    model.converged_ = bool(state.converged)
    model.history_ = outcome.history
    model.cluster_sizes_ = np.asarray(state.rows)


def _reference(
    sample: Sweep, ks: Sequence[int], seed: int, number: int, tol: float
) -> Generator[Any, Any, list[float]]:
    """Logarithms of the inertias of uniform data over n - k, for each k."""
    drawn: RowSample = yield sample
    rng = np.random.default_rng([seed, 1 + number, 77])
    low, high = drawn.X.min(axis=0).astype(np.float64), drawn.X.max(axis=0).astype(np.float64)
    n = max(5000, REFERENCE_ROWS * ks[-1])
    X = rng.uniform(low, high, size=(n, len(low))).astype(drawn.X.dtype)
    rows = Sampled(X, None)
    logs = []
    for k in ks:
        solver = lloyd(plus_plus(rows, k, rng), tol=tol, max_iter=SAMPLE_ITERATIONS)
        state: LloydState = solve_in_memory(solver, rows.block)
        logs.append(float(np.log(max(state.inertia, np.finfo(np.float64).tiny) / (n - k))))
    return logs


def _best(criterion: str, found: Choice) -> int:
    """Place of the number of clusters that a criterion chooses."""
    n = len(found.n_clusters)
    if n == 1:
        return 0
    if criterion == "silhouette":
        return int(np.nanargmax(found.silhouette))
    if criterion == "gap":
        enough = np.flatnonzero(found.gap[:-1] >= found.gap[1:] - found.gap_error[1:])
        return int(enough[0]) if len(enough) else int(np.argmax(found.gap))
    k = found.n_clusters.astype(np.float64)
    W = np.log(np.maximum(found.inertia, np.finfo(np.float64).tiny))
    line = W[0] + (W[-1] - W[0]) * (k - k[0]) / (k[-1] - k[0])
    return int(np.argmax(line - W))
