"""Simplified silhouettes: how much nearer each row is to its own centre than to the next one, for many models in one read.

The silhouette of a row is ``(b - a) / max(a, b)`` with a its distance to the nearest centre and b to the second nearest,
where Rousseeuw (1987) has mean distances to all rows of the clusters: those would need all pairs of rows. Source: Hruschka,
de Castro and Campello 2004.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.kernels.kmeans import (
    LloydParams,
    lloyd_workspace,
    prepare_rows,
    refuse_zero,
    relative_centers,
    tile_of,
)
from daskml_core.sweep import Array, Block, Kernel


class Silhouettes(NamedTuple):
    """Sums of the rows' weighted silhouettes (n_models,), and the rows' weight."""

    sums: Array
    weight: float


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _silhouette(X: Any, s: Any, C: Any, shift: Any, cosine: bool, tile: int) -> Any:  # pragma: no cover - compiled
    """Weighted sum of one model's silhouettes, and the first row without a direction or -1."""
    n, d = X.shape
    k = C.shape[0]
    minus_2C = C * C.dtype.type(-2)
    norms = np.zeros(k, dtype=X.dtype)
    for j in range(k):
        for f in range(d):
            norms[j] += C[j, f] * C[j, f]
    table = np.empty(k * tile, dtype=X.dtype)
    best = np.empty(tile, dtype=X.dtype)
    second = np.empty(tile, dtype=X.dtype)
    prepared = np.empty((tile if cosine or len(shift) > 0 else 0, d), dtype=X.dtype)
    total = 0.0
    for lo in range(0, n, tile):
        size = min(tile, n - lo)
        x = X[lo : lo + size]
        if len(prepared) > 0:
            bad = prepare_rows(x, shift, cosine, prepared)
            if bad >= 0:
                return total, lo + bad
            x = prepared[:size]
        P = table[: k * size].reshape(k, size)
        np.dot(minus_2C, x.T, P)
        best[:size] = np.inf
        second[:size] = np.inf
        for j in range(k):
            p = P[j]
            c = norms[j]
            for i in range(size):
                v = p[i] + c
                second[i] = min(second[i], max(best[i], v))
                best[i] = min(best[i], v)
        for i in range(size):
            square = 0.0
            for f in range(d):
                square += float(x[i, f]) * x[i, f]
            a = max(best[i] + square, 0.0)
            b = max(second[i] + square, 0.0)
            if not cosine:
                a, b = math.sqrt(a), math.sqrt(b)
            w = s[lo + i] if len(s) > 0 else 1.0
            if b > 0:
                total += w * (b - a) / b
    return total, -1


def silhouettes(block: Block, params: LloydParams) -> Silhouettes:
    """Silhouettes of every model over one block; reads X once for each. A model of one centre has none (NaN)."""
    s = np.zeros(0) if block.weight is None else block.weight
    sums = np.full(len(params.centers), np.nan)
    for j, centers in enumerate(params.centers):
        if len(centers) < 2:
            continue
        C, shift = relative_centers(centers, params, block.X.dtype)
        tile = tile_of(len(C), C.shape[1], block.X.itemsize)
        sums[j], bad = _silhouette(block.X, s, C, shift, params.cosine, tile) if block.n_rows else (0.0, -1)
        refuse_zero(block, bad)
    return Silhouettes(sums, float(block.n_rows if block.weight is None else s.sum()))


SILHOUETTES = Kernel(silhouettes, "silhouettes", lloyd_workspace, lambda d, p: 8 * len(p.centers))
