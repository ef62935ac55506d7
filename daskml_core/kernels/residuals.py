"""What a picture of a regression's errors needs: their range, then counts on a grid, with moments along it.

Conventions: ``block.y`` is a structured array with the fields ``t`` (truth) and ``p`` (prediction), one target each, as in
`daskml_core.kernels.pairs`. The error is truth minus prediction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daskml_core.kernels.pairs import _finite, _weight
from daskml_core.sweep import Array, Block, Kernel


class Spread(NamedTuple):
    """Moments and ranges of the rows of three columns: prediction, truth, error (3,)."""

    weight: float
    mean: Array
    scatter: Array
    smallest: Array
    largest: Array


def _columns(block: Block) -> tuple[Array, Array, Array]:
    t = np.asarray(_finite(block.y["t"], "y_true", block), dtype=np.float64)
    p = np.asarray(_finite(block.y["p"], "y_pred", block), dtype=np.float64)
    return p, t, t - p


def spread(block: Block, params: None) -> Spread:
    """Moments and ranges over one block."""
    V, s = np.stack(_columns(block)), _weight(block)
    total = float(s.sum())
    mean = V @ s / total if total > 0 else np.zeros(3)
    scatter = np.square(V - mean[:, None]) @ s
    return Spread(total, mean, scatter, V.min(axis=1, initial=np.inf), V.max(axis=1, initial=-np.inf))


def merge_spread(a: Spread, b: Spread) -> Spread:
    """Moments of two disjoint sets of rows taken together (Chan, Golub and LeVeque 1979)."""
    smallest, largest = np.minimum(a.smallest, b.smallest), np.maximum(a.largest, b.largest)
    if a.weight == 0 or b.weight == 0:
        return (b if a.weight == 0 else a)._replace(smallest=smallest, largest=largest)
    n = a.weight + b.weight
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + delta**2 * (a.weight * b.weight / n)
    return Spread(n, a.mean + delta * (b.weight / n), scatter, smallest, largest)


class ErrorGrid(NamedTuple):
    """Edges of the grid's bins (n + 1,), equally wide, and whether its y axis is the truth (or the error)."""

    x_edges: Array
    y_edges: Array
    truth: bool


class ErrorCounts(NamedTuple):
    """Weight of the rows in each bin (n_x, n_y); rows beyond the edges count in the outermost bins, and in ``outside``."""

    counts: Array
    sums: Array
    """Of y and its square in each bin of x (2, n_x), about the middle of the y axis; rows beyond it included."""
    outside: float


def _places(values: Array, edges: Array) -> tuple[Array, Array]:
    """Bin of each value, and whether it lies beyond the edges."""
    n = len(edges) - 1
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n - 1)
    return place, (values < edges[0]) | (values > edges[-1])


def error_counts(block: Block, params: ErrorGrid) -> ErrorCounts:
    """Counts over one block."""
    p, t, e = _columns(block)
    s, y = _weight(block), t if params.truth else e
    n_x, n_y = len(params.x_edges) - 1, len(params.y_edges) - 1
    i, beyond_x = _places(p, params.x_edges)
    j, beyond_y = _places(y, params.y_edges)
    counts = np.bincount(i * n_y + j, weights=s, minlength=n_x * n_y).reshape(n_x, n_y)
    about = y - 0.5 * (params.y_edges[0] + params.y_edges[-1])
    sums = np.stack([np.bincount(i, weights=s * about**k, minlength=n_x) for k in (1, 2)])
    return ErrorCounts(counts, sums, float(s[beyond_x | beyond_y].sum()))


SPREAD = Kernel(spread, "error-spread", workspace=lambda n, d, p: 8 * 8 * n)
ERROR_COUNTS = Kernel(
    error_counts,
    "error-counts",
    workspace=lambda n, d, p: 8 * 10 * n,
    partial_bytes=lambda d, p: 8 * (len(p.x_edges) + 2) * len(p.y_edges),
)
