"""First centres for k-means: from a sample over all blocks (1 sweep), or by k-means|| (6 sweeps).

Measured on 4M x 32: the sample wins for every k. k-means|| takes distances to ever more candidates, as much work as 30
iterations of Lloyd's; it is there for data whose small clusters a sample would miss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.kmeans import LLOYD, LloydParams, merge_assignments
from daskml_core.kernels.sample import RowSample
from daskml_core.kernels.seeding import Draw, draw_sweep, kmeans_plus_plus
from daskml_core.solvers.breathing import SAMPLE_ITERATIONS, breathe
from daskml_core.solvers.in_memory import Asks, solve_in_memory
from daskml_core.solvers.lloyd import LloydState, common_shift, lloyd
from daskml_core.sweep import Array, Block, Sweep

ROUNDS = 5
"""Of k-means||; Bahmani et al. find no gain beyond."""


def sample_size(k: int, n_features: int, itemsize: int, sample_bytes: int) -> int:
    """Rows to draw: 20,000 or 100 a cluster, within ``sample_bytes``.

    >>> sample_size(20, 32, 4, 64 << 20)
    20000
    """
    return max(1, min(max(20_000, 100 * k), sample_bytes // max(1, (n_features + 1) * itemsize)))


class Sampled(NamedTuple):
    """Rows in memory that stand for the data."""

    X: Array
    """(rows, d) in the data's dtype; of length one under the cosine metric."""
    weight: Array | None

    @property
    def block(self) -> Block:
        return Block(self.X, None, self.weight, 0, 0)


def as_sampled(sample: RowSample, *, cosine: bool) -> Sampled:
    """A drawn sample without its rows of weight zero."""
    X, weight = sample.X, sample.weight
    if weight is not None and (weight == 0).any():
        X, weight = X[weight > 0], weight[weight > 0]
    if cosine:
        lengths = np.linalg.norm(X.astype(np.float64), axis=1)
        X = (X / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(X.dtype)
    return Sampled(X, weight)


Seed = Callable[[Sampled, np.random.Generator], Array]
"""Chooses centres (k, d) among rows in memory."""


def plus_plus(rows: Sampled, k: int, rng: np.random.Generator) -> Array:
    """Greedy k-means++."""
    X = rows.X.astype(np.float64)
    return np.array(rows.X[kmeans_plus_plus(X - X.mean(axis=0), rows.weight, k, rng)])


def random_rows(rows: Sampled, k: int, rng: np.random.Generator) -> Array:
    """k different rows, drawn by weight."""
    p = None if rows.weight is None else rows.weight / rows.weight.sum()
    enough = p is None or np.count_nonzero(p) >= k
    return np.array(rows.X[rng.choice(len(rows.X), size=k, replace=not enough, p=p)])


def solve_sample(rows: Sampled, k: int, rng: np.random.Generator, *, tol: float, cosine: bool) -> Array:
    """A solution on the sample as good as can be had: k-means++, then breathing; the data then needs few iterations."""
    return breathe(plus_plus(rows, k, rng), rows.block, rng, tol=tol, cosine=cosine).centers


def kmeans_parallel(k: int, seed: int, *, cosine: bool, dtype: Any) -> Asks:
    """k-means||: centres (k, d) after `ROUNDS` rounds of 2 k rows each, and one sweep that weighs them.

    Bahmani et al. 2012, algorithm 2, with two deviations. The first round draws 2 k rows uniformly, where theirs draws
    one: it costs the same sweep. Each round draws exactly 2 k rows, by keys, where theirs draws 2 k in the mean. The
    candidates, at most 10 k, are weighted by the rows nearest to them and clustered in memory.
    """
    drawn: Draw = yield draw_sweep(2 * k, None, seed, 0)
    candidates = _directions(drawn.X, cosine)
    for number in range(1, ROUNDS):
        params = LloydParams((candidates,), common_shift(candidates), cosine)
        drawn = yield draw_sweep(2 * k, params, seed, number)
        if not len(drawn.X):  # every row lies on a candidate
            break
        candidates = np.concatenate([candidates, _directions(drawn.X, cosine)])
    params = LloydParams((candidates,), common_shift(candidates), cosine)
    answer = yield Sweep(LLOYD, params, merge_assignments)
    weight = answer[0].weight
    rows = Sampled(candidates[weight > 0], weight[weight > 0])
    rng = np.random.default_rng([seed, ROUNDS])
    if len(rows.X) <= k:
        spare = candidates[weight <= 0][: k - len(rows.X)]
        start = np.concatenate([rows.X, spare])
        return np.resize(start, (k, start.shape[1])).astype(dtype)
    start = plus_plus(rows, k, rng)
    solver = lloyd(start, tol=1e-4, max_iter=SAMPLE_ITERATIONS, cosine=cosine)
    state: LloydState = solve_in_memory(solver, rows.block)
    return state.centers.astype(dtype)


def _directions(X: Array, cosine: bool) -> Array:
    if not cosine:
        return X
    lengths = np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(X / lengths, dtype=X.dtype)
