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
    read_tile,
    refuse_zero,
    relative_centers,
    room_for_rows,
    tile_of,
)
from daskml_core.kernels.nearest import nearest_rows, pack_centers, panel_rows, room_for
from daskml_core.sweep import Array, Block, Kernel


class Silhouettes(NamedTuple):
    """Sums of the rows' weighted silhouettes (n_models,), and the rows' weight."""

    sums: Array
    weight: float


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _silhouette(
    X: Any, s: Any, C: Any, shift: Any, cosine: bool, tile: int, panel_size: int
) -> Any:  # pragma: no cover - compiled
    """Weighted sum of one model's silhouettes, and the first row without a direction or -1."""
    n = len(X)
    packed, lengths = pack_centers(C)
    found = room_for(tile, panel_size, C, True)
    label = np.empty(len(found.best), dtype=np.int32)
    prepared = room_for_rows(X, shift, cosine, tile)
    total = 0.0
    for lo in range(0, n, tile):
        x, bad = read_tile(X, lo, shift, cosine, prepared, tile)
        if bad >= 0:
            return total, bad
        size = len(x)
        nearest_rows(x, packed, lengths, found, label)
        for i in range(size):
            a = max(found.norms[i] + found.best[i], 0.0)
            b = max(found.norms[i] + found.second[i], 0.0)
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
        sizes = tile_of(C.shape[1], block.X.itemsize), panel_rows(block.X.dtype)
        sums[j], bad = _silhouette(block.X, s, C, shift, params.cosine, *sizes) if block.n_rows else (0.0, -1)
        refuse_zero(block, bad)
    return Silhouettes(sums, float(block.n_rows if block.weight is None else s.sum()))


SILHOUETTES = Kernel(silhouettes, "silhouettes", lloyd_workspace, lambda d, p: 8 * len(p.centers))
