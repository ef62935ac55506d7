"""Mini-batch k-means through the rows of one block, starting from another block's centres.

Source: Sculley 2010, "Web-scale k-means clustering", algorithm 1: each centre moves towards the mean of the batch's rows
with the rate 1 / (rows it has had). Reassignment of starved centres and the stopping rule are scikit-learn's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.kmeans import Assignment, LloydParams, lloyd_block
from daskml_core.kernels.sample import RowSample, join_samples
from daskml_core.sweep import Array, Block, Kernel


class MiniBatchParams(NamedTuple):
    """Settings of a fit, and the epoch."""

    batch_size: int
    n_rows: int
    """Of the whole data: the smoothed inertia forgets at the rate of batches in it."""
    reassignment_ratio: float
    max_no_improvement: int | None
    threshold: float
    """Squared movement of the centres in a batch below which the chain ends; 0 for never."""
    shuffle: bool
    seed: int
    epoch: int
    max_batches: int


class MiniBatchCarry(NamedTuple):
    """All that one block hands to the next."""

    centers: Array
    """(k, d) float64"""
    weight: Array
    """(k,) weight of the rows that each centre has had"""
    batches: int = 0
    since_reassignment: int = 0
    inertia: float = float("nan")
    """Of a row, smoothed over batches."""
    best: float = float("inf")
    stale: int = 0
    moved: float = float("nan")
    rows: int = 0
    done: bool = False


def minibatch_block(block: Block, request: tuple[MiniBatchParams, MiniBatchCarry]) -> MiniBatchCarry:
    """The carry after the batches of one block, rows in an order drawn from ``[seed, epoch, block]``."""
    p, carry = request
    if carry.done or not block.n_rows:
        return carry
    rng = np.random.default_rng([p.seed, p.epoch, block.number])
    X, weight = block.X, block.weight
    order = rng.permutation(block.n_rows) if p.shuffle else None
    for lo in range(0, block.n_rows, p.batch_size):
        rows: Any = slice(lo, lo + p.batch_size)
        if order is not None:  # a batch at a time: a block in another order would be another block in memory
            rows = order[rows]
        batch = Block(X[rows], None, None if weight is None else weight[rows], block.number, block.start)
        carry = _step(batch, p, carry, rng)
        if carry.done:
            break
    return carry


def _step(batch: Block, p: MiniBatchParams, carry: MiniBatchCarry, rng: np.random.Generator) -> MiniBatchCarry:
    """The carry after one batch."""
    old = carry.centers
    # The shift is one of the centres: close enough to the rows, and no work to find.
    (a,) = lloyd_block(batch, LloydParams((old.astype(batch.X.dtype),), shift=old[0]))
    total = carry.weight + a.weight
    new = old.copy()
    had = total > 0
    new[had] = (old[had] * carry.weight[had, None] + a.sums[had]) / total[had, None]
    since = carry.since_reassignment + batch.n_rows
    if p.reassignment_ratio > 0 and ((total == 0).any() or since >= 10 * len(old)):
        since = 0
        new, total = _reassign(new, total, batch, p.reassignment_ratio, rng)
    moved = float(np.square(new - old).sum())
    return _judge(carry, a, batch.n_rows, p)._replace(centers=new, weight=total, since_reassignment=since, moved=moved)


def _reassign(
    centers: Array, weight: Array, batch: Block, ratio: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Centres with less than ``ratio`` times the largest weight start again from rows of the batch."""
    starved = weight < ratio * weight.max()
    most = batch.n_rows // 2
    if starved.sum() > most:
        starved[np.argsort(weight, kind="stable")[most:]] = False
    candidates = np.arange(batch.n_rows) if batch.weight is None else np.flatnonzero(batch.weight > 0)
    n = min(int(starved.sum()), len(candidates))
    if not n:
        return centers, weight
    which = np.flatnonzero(starved)[:n]
    centers, weight = centers.copy(), weight.copy()
    centers[which] = batch.X[rng.choice(candidates, size=n, replace=False)]
    kept = np.setdiff1d(np.arange(len(weight)), which)
    if len(kept):
        weight[which] = weight[kept].min()
    return centers, weight


def _judge(carry: MiniBatchCarry, a: Assignment, rows: int, p: MiniBatchParams) -> MiniBatchCarry:
    """Count the batch, and end the chain where batches have not become better for a while."""
    batches = carry.batches + 1
    weight = float(a.weight.sum())
    mean = a.inertia / weight if weight > 0 else 0.0
    carry = carry._replace(batches=batches, rows=carry.rows + rows)
    if batches == 1:  # of the first centres, which were made for the sample
        return carry
    share = min(1.0, 2 * rows / (p.n_rows + 1))
    smoothed = mean if np.isnan(carry.inertia) else carry.inertia * (1 - share) + mean * share
    stale = 0 if smoothed < carry.best else carry.stale + 1
    patience = p.max_no_improvement
    done = (patience is not None and stale >= patience) or batches >= p.max_batches
    done = done or (p.threshold > 0 and carry.moved <= p.threshold)
    return carry._replace(inertia=smoothed, best=min(carry.best, smoothed), stale=stale, done=done)


def _workspace(n_rows: int, n_features: int, params: MiniBatchParams) -> int:
    return 8 * n_rows + 3 * 8 * min(n_rows, params.batch_size) * (n_features + 2)


MINIBATCH = Kernel(minibatch_block, "mini-batch-k-means", _workspace)


class CollectParams(NamedTuple):
    """Rows to take from each block of a chain, and the seed."""

    per_block: int
    seed: int


def collect_rows(block: Block, request: tuple[CollectParams, RowSample | None]) -> RowSample:
    """The sample with rows of one more block, drawn from ``[seed, block]``."""
    p, sample = request
    n = min(p.per_block, block.n_rows)
    rng = np.random.default_rng([p.seed, block.number])
    rows: Any = np.sort(rng.choice(block.n_rows, size=n, replace=False))
    drawn = RowSample(np.array(block.X[rows]), None, None if block.weight is None else block.weight[rows])
    return drawn if sample is None else join_samples(sample, drawn)


COLLECT = Kernel(collect_rows, "collect-rows", lambda n, d, p: 8 * p.per_block * (d + 1))
