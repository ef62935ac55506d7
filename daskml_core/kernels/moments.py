"""Moments and ranges of the features, combined pairwise so that nothing cancels (Chan, Golub and LeVeque 1979)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel, Sweep


class FeatureMoments(NamedTuple):
    """Weighted moments of each feature (d,), float64, and the rows they come from."""

    n_rows: int
    weight: float
    mean: Array
    scatter: Array
    smallest: Array
    largest: Array


def feature_moments(block: Block, params: None) -> FeatureMoments:
    """Moments of one block; reads X once."""
    d = block.X.shape[1]
    total = FeatureMoments(0, 0.0, np.zeros(d), np.zeros(d), np.full(d, np.inf), np.full(d, -np.inf))
    step = tile_rows(d, 8)
    for lo in range(0, block.n_rows, step):
        x = block.X[lo : lo + step].astype(np.float64)
        s = None if block.weight is None else block.weight[lo : lo + step]
        weight = float(len(x) if s is None else s.sum())
        mean = x.mean(axis=0) if s is None else s @ x / weight if weight > 0 else np.zeros(d)
        centred = np.square(x - mean)
        scatter = centred.sum(axis=0) if s is None else s @ centred
        total = merge_moments(total, FeatureMoments(len(x), weight, mean, scatter, x.min(axis=0), x.max(axis=0)))
    return total


def merge_moments(a: FeatureMoments, b: FeatureMoments) -> FeatureMoments:
    """Moments of two disjoint sets of rows taken together."""
    rows = a.n_rows + b.n_rows
    smallest, largest = np.minimum(a.smallest, b.smallest), np.maximum(a.largest, b.largest)
    if a.weight == 0 or b.weight == 0:
        return (b if a.weight == 0 else a)._replace(n_rows=rows, smallest=smallest, largest=largest)
    n = a.weight + b.weight
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + delta**2 * (a.weight * b.weight / n)
    return FeatureMoments(rows, n, a.mean + delta * (b.weight / n), scatter, smallest, largest)


class AffineParams(NamedTuple):
    """``(x - shift) * factor``, or its inverse ``x / factor + shift`` (d,); then clipped."""

    shift: Array
    factor: Array
    inverse: bool = False
    offset: float | Array = 0.0
    clip: tuple[float, float] | None = None


def affine(block: Block, params: AffineParams) -> Array:
    """Rescaled rows, in X's dtype."""
    out = np.empty_like(block.X)
    step = tile_rows(block.X.shape[1], 8)
    for lo in range(0, len(out), step):
        x = block.X[lo : lo + step].astype(np.float64)
        if params.inverse:
            x = (x - params.offset) / params.factor + params.shift
        else:
            x = (x - params.shift) * params.factor + params.offset
        if params.clip is not None:
            np.clip(x, *params.clip, out=x)
        out[lo : lo + step] = x
    return out


def _total_weight(block: Block, params: None) -> float:
    return float(block.n_rows if block.weight is None else block.weight.sum())


TOTAL_WEIGHT = Sweep(Kernel(_total_weight, "total-weight"))
"""Asks for the weight of all rows; reads the weights alone where there is nothing else."""

FEATURE_MOMENTS = Kernel(feature_moments, "feature-moments", lambda n, d, p: 3 * 8 * d * min(n, 8192))
AFFINE = Kernel(affine, "rescale", lambda n, d, p: 4 * d * n + 2 * 8 * d * min(n, 8192))
