"""Centred Gram matrices for least squares in one sweep, and a tall-skinny QR where they are too ill-conditioned.

Each block computes means and centred cross products, and two partials are combined by the pairwise update of Chan, Golub
and LeVeque (1979): nothing is lost to cancellation, even with features whose mean is a million times their spread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel


class GramPartial(NamedTuple):
    """Weighted moments of the columns of ``[X, y]``, float64."""

    sum_weight: float
    mean: Array
    """(d + t,)"""
    scatter: Array
    """(d + t, d + t) centred cross products."""


def _columns(block: Block, rows: slice) -> tuple[Array, Array | None]:
    """``[X, y]`` of a tile in float64, and its weights."""
    y = block.y[rows]
    A = np.column_stack([block.X[rows], y]).astype(np.float64, copy=False)
    return A, None if block.weight is None else block.weight[rows]


def _width(block: Block) -> int:
    return block.X.shape[1] + (1 if block.y.ndim == 1 else block.y.shape[1])


def gram(block: Block, params: None) -> GramPartial:
    """Moments of one block; reads X once."""
    p = _width(block)
    total = GramPartial(0.0, np.zeros(p), np.zeros((p, p)))
    step = tile_rows(p, 8)
    for lo in range(0, block.n_rows, step):
        A, s = _columns(block, slice(lo, lo + step))
        weight = float(len(A) if s is None else s.sum())
        if weight <= 0:
            continue
        mean = (A.sum(axis=0) if s is None else s @ A) / weight
        A -= mean
        if s is not None:
            A *= np.sqrt(s)[:, None]
        total = merge_gram(total, GramPartial(weight, mean, np.dot(A.T, A)))
    return total


def merge_gram(a: GramPartial, b: GramPartial) -> GramPartial:
    """Moments of two disjoint sets of rows taken together (Chan, Golub and LeVeque 1979, equation 2.1)."""
    if a.sum_weight == 0 or b.sum_weight == 0:
        return b if a.sum_weight == 0 else a
    n = a.sum_weight + b.sum_weight
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.sum_weight * b.sum_weight / n)
    return GramPartial(n, a.mean + delta * (b.sum_weight / n), scatter)


def triangular_factor(block: Block, mean: Array) -> Array:
    """R of the QR decomposition of the centred, weighted columns ``[X, y] - mean`` of one block."""
    p = _width(block)
    R = np.zeros((p, p))
    step = max(4 * p, tile_rows(p, 8))
    for lo in range(0, block.n_rows, step):
        A, s = _columns(block, slice(lo, lo + step))
        A = A - mean
        if s is not None:
            A *= np.sqrt(s)[:, None]
        R = merge_factors(R, A)
    return R


def merge_factors(a: Array, b: Array) -> Array:
    """R of two stacked matrices (Demmel, Grigori, Hoemmen and Langou 2012, TSQR)."""
    (R,) = linalg.qr(np.vstack([a, b]), mode="r", check_finite=False, overwrite_a=True)
    p = a.shape[1]
    return np.array(R[:p])


def _tile_workspace(n_rows: int, n_features: int, params: Any) -> int:
    return 3 * 8 * (n_features + 1) * min(n_rows, max(4 * n_features, 8192))


def _square(n_features: int, params: Any) -> int:
    return 8 * (n_features + 1) ** 2


GRAM = Kernel(gram, "gram-matrix", _tile_workspace, _square)
TRIANGULAR_FACTOR = Kernel(triangular_factor, "tall-skinny-qr", _tile_workspace, _square)
