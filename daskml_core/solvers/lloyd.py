"""Lloyd's algorithm: assign every row to its nearest centre, move the centres to the means, until they stand still.

One sweep an iteration. The labels are never stored: when no row changes its cluster, the sums are the same to the bit,
and so are the centres; that is how the end is seen.

Sources: Lloyd 1982; for directions (``cosine``) Dhillon and Modha 2001. Empty clusters as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.kernels.kmeans import Assignment, lloyd_sweep
from daskml_core.solvers.in_memory import Asks
from daskml_core.sweep import Array


@dataclass(frozen=True)
class LloydState:
    """All that the solver knows at the head of its loop."""

    centers: Array
    n_iter: int = 0
    inertia: float = float("nan")
    """Of the centres that the last sweep assigned rows to."""
    moved: float = float("nan")
    """Sum of squared distances that the centres moved by in the last iteration."""
    rows: Array | None = None
    threshold: float = float("nan")
    """``tol`` times the mean variance of the features."""
    relocated: int = 0
    """Empty clusters that were filled so far."""
    converged: bool = False
    exact: bool = False
    """Whether ``inertia`` and ``rows`` are those of ``centers`` themselves."""

    @property
    def target(self) -> float:
        """What the centres' shift must come down to."""
        return float(np.sqrt(self.threshold))

    def record(self) -> dict[str, Any]:
        return {"n_iter": self.n_iter, "inertia": self.inertia, "center_shift": float(np.sqrt(self.moved))}


def common_shift(centers: Array) -> Array | None:
    """An offset worth subtracting: where the centres are much closer to each other than to the origin."""
    mean = centers.mean(axis=0, dtype=np.float64)
    spread = float(np.square(centers - mean).sum(axis=1).mean())
    return mean if float(mean @ mean) > spread else None


def lloyd(
    centers: Array | None = None,
    state: LloydState | None = None,
    *,
    tol: float = 1e-4,
    max_iter: int = 300,
    cosine: bool = False,
) -> Asks:
    """Minimise the weighted sum of squared distances from ``centers`` (k, d); one sweep an iteration.

    Stops when the centres moved by less than ``tol`` times the mean variance of the features, squared and summed
    (scikit-learn's rule), or when no label changes. One more sweep then finds the inertia of the last centres, except
    where they are those of the last sweep already.
    """
    if state is None:
        assert centers is not None
        state = LloydState(centers)
    while True:
        stop = yield state
        if stop or state.converged or state.n_iter >= max_iter:
            break
        answer = yield lloyd_sweep(state.centers, common_shift(state.centers), cosine=cosine)
        state = _move(state, answer[0], tol, cosine)
    if not state.exact:
        answer = yield lloyd_sweep(state.centers, common_shift(state.centers), cosine=cosine)
        state = replace(state, inertia=answer[0].inertia, rows=answer[0].rows, exact=True)
    return state


def _move(state: LloydState, a: Assignment, tol: float, cosine: bool) -> LloydState:
    """The centres moved to the means of their rows."""
    old = state.centers
    threshold = state.threshold
    if np.isnan(threshold):
        threshold = tol * mean_variance(a, old)
    sums, weight, filled = fill_empty(a)
    full = weight > 0
    new = old.astype(np.float64)
    new[full] = sums[full] / weight[full, None]
    if cosine:
        lengths = np.linalg.norm(new, axis=1)
        ahead = lengths > 0  # rows that cancel have no mean direction: the centre stays
        new[ahead] /= lengths[ahead, None]
        new[~ahead] = old[~ahead]
    new = new.astype(old.dtype)
    still = bool(np.array_equal(new, old))
    moved = float(np.square(new.astype(np.float64) - old).sum())
    return LloydState(
        new,
        n_iter=state.n_iter + 1,
        inertia=a.inertia,
        moved=moved,
        rows=a.rows,
        threshold=threshold,
        relocated=state.relocated + filled,
        converged=still or moved <= threshold,
        exact=still,
    )


def mean_variance(a: Assignment, centers: Array) -> float:
    """Mean over the features of the rows' variance, from what a sweep brought: no sweep of its own.

    ``sum |x - m|^2`` is the inertia plus ``2 (S_j - n_j c_j) (c_j - m) + n_j |c_j - m|^2`` over the clusters.
    """
    total = float(a.weight.sum())
    mean = a.sums.sum(axis=0) / total
    C = centers.astype(np.float64)
    offset = C - mean
    cross = 2 * float(((a.sums - a.weight[:, None] * C) * offset).sum())
    scatter = a.inertia + cross + float(a.weight @ np.square(offset).sum(axis=1))
    return max(scatter, 0.0) / total / len(mean)


def fill_empty(a: Assignment) -> tuple[Array, Array, int]:
    """Sums and weights with the farthest rows moved into the empty clusters, and how many were filled.

    No two clusters get the same row: centres must not be duplicates.
    """
    empty = np.flatnonzero(a.weight <= 0)
    if not len(empty) or not len(a.far.row):
        return a.sums, a.weight, 0
    sums, weight = a.sums.copy(), a.weight.copy()
    _, first = np.unique(a.far.X, axis=0, return_index=True)
    filled = 0
    for i in np.sort(first):
        if filled == len(empty):
            break
        label, w = a.far.label[i], a.far.weight[i]
        if weight[label] - w <= 0:  # the last row of its cluster: moving it would empty that one
            continue
        j = empty[filled]
        sums[label] -= w * a.far.X[i]
        weight[label] -= w
        sums[j], weight[j] = w * a.far.X[i], w
        filled += 1
    return sums, weight, filled
