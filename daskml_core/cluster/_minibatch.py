"""Mini-batch k-means, for data of which one sweep is already expensive, or that keeps arriving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from daskml_core.cluster._base import CentroidModel, check_clusters, check_weights
from daskml_core.cluster._init import INITS, explicit_centers, first_centers
from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.estimator import load_features
from daskml_core.kernels.kmeans import LLOYD, Assignment, LloydParams, far_rows, lloyd_sweep
from daskml_core.kernels.minibatch import MINIBATCH, MiniBatchCarry, MiniBatchParams
from daskml_core.solvers.in_memory import Asks
from daskml_core.solvers.kmeans_seeding import as_sampled
from daskml_core.solvers.lloyd import common_shift
from daskml_core.solvers.minibatch_kmeans import MiniBatchState, minibatch_kmeans, rows_of_few_blocks
from daskml_core.sweep import Array
from daskml_core.validate import non_negative, positive_integer, random_seed


class MiniBatchKMeans(CentroidModel):
    """K-means on small batches of rows: good centres after a part of a sweep (Sculley 2010).

    Blocks are taken in random order, and the rows of each in batches; the centres travel from block to block and stop
    when batches become no better. First centres are found on rows of at most 16 blocks, and a batch never spans two
    blocks: small blocks make small batches. Blocks that hold different kinds of rows (data sorted on disk) are better
    served by `KMeans`.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"auto", "k-means++", "random"}, array (n_clusters, n_features) or callable, default="auto"
        As in `KMeans`, on ``init_size`` rows.
    max_iter : int, default=100
        Epochs at most.
    batch_size : int, default=1024
    init_size : int, optional
        Rows for the first centres; 20,000 or 100 a cluster, whichever is more.
    compute_labels : bool, default=True
        Take one more sweep for ``inertia_`` and ``cluster_sizes_``, and give ``labels_``.
    max_no_improvement : int or None, default=10
        Stops after so many batches that did not lower the smoothed inertia.
    tol : float, default=0.0
        Stops when the squared movement of the centres in a batch is below ``tol`` times the mean variance of the
        features of the first rows.
    reassignment_ratio : float, default=0.01
        Centres that have had fewer rows than this part of the largest start again from random rows.
    random_state : int, optional
        ``None`` is a fixed seed.

    Attributes
    ----------
    cluster_centers_ : ndarray (n_clusters, n_features)
    labels_, cluster_sizes_ : as in `KMeans`, with ``compute_labels``.
    inertia_ : float
        Exact with ``compute_labels``; otherwise the smoothed inertia of a row times the number of rows.
    n_iter_ : int
        Epochs begun.
    n_steps_ : int
        Batches.
    n_sweeps_ : float
        Complete reads of the data, fractions counted.
    history_ : list of dict
        One row a sixteenth of an epoch.
    counts_ : ndarray (n_clusters,)
        Weight of the rows that each centre has had.
    converged_ : bool
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.cluster import MiniBatchKMeans
    >>> X = np.random.default_rng(0).normal(size=(5000, 2)) + np.repeat([[0, 0], [20, 20]], 2500, axis=0)
    >>> MiniBatchKMeans(2).fit(X).cluster_centers_.round().tolist() in ([[0, 0], [20, 20]], [[20, 20], [0, 0]])
    True
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: str | Array | Callable[..., Array] = "auto",
        max_iter: int = 100,
        batch_size: int = 1024,
        init_size: int | None = None,
        compute_labels: bool = True,
        max_no_improvement: int | None = 10,
        tol: float = 0.0,
        reassignment_ratio: float = 0.01,
        random_state: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.init_size = init_size
        self.compute_labels = compute_labels
        self.max_no_improvement = max_no_improvement
        self.tol = tol
        self.reassignment_ratio = reassignment_ratio
        self.random_state = random_state

    def _check_params(self, blocks: RowBlocks) -> None:
        k = check_clusters(self.n_clusters, blocks.n_rows)
        for name in ("max_iter", "batch_size"):
            positive_integer(name, getattr(self, name))
        non_negative("tol", self.tol)
        non_negative("reassignment_ratio", self.reassignment_ratio)
        if self.max_no_improvement is not None:
            positive_integer("max_no_improvement", self.max_no_improvement)
        if self.init_size is not None and positive_integer("init_size", self.init_size) < k:
            raise ValueError(f"init_size={self.init_size} must be at least n_clusters={k}.")
        if isinstance(self.init, str):
            names = [name for name in INITS if name != "k-means||"]
            if self.init not in names:
                raise ValueError(f"init must be one of {names}, an array or a callable, got {self.init!r}.")
        elif not callable(self.init):
            explicit_centers(self.init, k, blocks, cosine=False)

    def _start(self, blocks: RowBlocks, seed: int) -> Asks:
        """First centres, and the variance that ``tol`` is relative to."""
        k = int(self.n_clusters)
        wanted = max(20_000, 100 * k) if self.init_size is None else int(self.init_size)
        sample = yield from rows_of_few_blocks(min(wanted, blocks.n_rows), blocks.n_blocks, seed)
        rows = as_sampled(sample, cosine=False)
        if len(rows.X) < k:  # short blocks, or few rows of positive weight: all rows of those blocks
            sample = yield from rows_of_few_blocks(blocks.n_rows, blocks.n_blocks, seed, whole=True)
            rows = as_sampled(sample, cosine=False)
        if len(rows.X) < k:
            raise ValueError(
                f"The first centres are found on {len(rows.X)} rows of {min(16, blocks.n_blocks)} blocks, fewer than "
                f"n_clusters={k}. Use larger blocks, or KMeans."
            )
        rng = np.random.default_rng(seed)
        centers = first_centers(self.init, rows, k, rng, blocks, tol=1e-4, cosine=False)
        return centers.astype(np.float64), float(rows.X.var(axis=0, dtype=np.float64).mean())

    def _solver(self, blocks: RowBlocks, seed: int) -> Asks:
        centers, variance = yield from self._start(blocks, seed)
        params = self._params(blocks, seed, variance)
        state = MiniBatchState(MiniBatchCarry(centers, np.zeros(len(centers))))
        return (yield from minibatch_kmeans(params, blocks.n_blocks, state, max_iter=int(self.max_iter)))

    def _params(self, blocks: RowBlocks, seed: int, variance: float) -> MiniBatchParams:
        size = min(int(self.batch_size), max(blocks.lengths))
        patience = self.max_no_improvement
        return MiniBatchParams(
            batch_size=size,
            n_rows=blocks.n_rows,
            reassignment_ratio=float(self.reassignment_ratio),
            max_no_improvement=None if patience is None else int(patience),
            threshold=float(self.tol) * variance,
            shuffle=True,
            seed=seed,
            epoch=0,
            max_batches=max(1, int(self.max_iter) * -(-blocks.n_rows // size)),
        )

    def _kernels(self, blocks: RowBlocks) -> list[tuple[Any, Any]]:
        centers = np.broadcast_to(np.zeros((), blocks.dtype), (int(self.n_clusters), blocks.n_features))
        kernels: list[tuple[Any, Any]] = [(MINIBATCH, self._params(blocks, 0, 1.0))]
        if self.compute_labels:
            kernels.append((LLOYD, LloydParams((centers,), far=far_rows(len(centers)))))
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
        """Find the centres; X (n_rows, n_features) in any container. Returns self."""
        blocks = load_features(self, X, sample_weight, feature_dim)
        self._check_params(blocks)
        check_weights(blocks)

        def fitted(state: MiniBatchState) -> dict[str, Any]:
            return {"cluster_centers_": state.carry.centers.astype(blocks.dtype)}

        solver = self._solver(blocks, random_seed(self.random_state))
        (outcome,) = self._drive([solver], blocks, self._kernels(blocks), fitted=fitted)
        state: MiniBatchState = outcome.state
        self._set(state.carry, blocks)
        self.history_ = outcome.history
        self.n_iter_ = max(1, state.epoch + (state.part > 0))
        self.converged_ = bool(state.carry.done)
        per_row = state.carry.inertia if np.isfinite(state.carry.inertia) else 0.0
        self.inertia_ = per_row * blocks.n_rows
        if self.compute_labels:
            self._assess(X, blocks)
        return self

    def _set(self, carry: MiniBatchCarry, blocks: RowBlocks) -> None:
        self._carry = carry
        self.cluster_centers_ = carry.centers.astype(blocks.dtype)
        self.counts_ = carry.weight
        self.n_steps_ = carry.batches

    def _assess(self, X: Any, blocks: RowBlocks) -> None:
        """Inertia and sizes of the last centres, in one sweep."""
        centers = self.cluster_centers_
        sweep = lloyd_sweep(centers, common_shift(centers), cosine=False)
        before = self.n_sweeps_
        answer: tuple[Assignment, ...] = self._drive([_once(sweep)], blocks, [(LLOYD, sweep.params)])[0].state
        self.n_sweeps_ = round(self.n_sweeps_ + before, 6)
        self.inertia_ = answer[0].inertia
        self._set_rows(X, answer[0].rows)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Self:
        """Move the centres by the rows of X, in their order; the first call also finds the first centres. Returns self."""
        first = not hasattr(self, "_carry")
        blocks = load_features(self, X, sample_weight, feature_dim, reset=first)
        if first:
            self._check_params(blocks)
        check_weights(blocks)
        (outcome,) = self._drive([self._partial(blocks, first)], blocks, self._kernels(blocks))
        carry: MiniBatchCarry = outcome.state.carry
        self._set(carry, blocks)
        if self.compute_labels:
            self.labels_ = self.predict(X)
        return self

    def _partial(self, blocks: RowBlocks, first: bool) -> Asks:
        seed = random_seed(self.random_state)
        if first:
            centers, _ = yield from self._start(blocks, seed)
            carry = MiniBatchCarry(centers, np.zeros(len(centers)))
        else:
            carry = self._carry
        params = self._params(blocks, seed + carry.batches, 0.0)
        # Data that keeps arriving has no end: no batch stops the chain.
        params = params._replace(shuffle=False, max_no_improvement=None, threshold=0.0, max_batches=np.iinfo(int).max)
        return (
            yield from minibatch_kmeans(params, blocks.n_blocks, MiniBatchState(carry._replace(done=False)), max_iter=1)
        )

    def plan(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; nothing is read."""
        model = clone(self)  # a plan leaves no trace
        blocks = load_features(model, X, sample_weight, feature_dim)
        model._check_params(blocks)
        last = ", 1 for the inertia" if model.compute_labels else ""
        return model._plan(blocks, model._kernels(blocks), f"a part of one, at most {model.max_iter}{last}")


def _once(sweep: Any) -> Asks:
    """A solver that asks one thing."""
    return (yield sweep)
