"""Choosing rows as first centres: k-means++ in memory, and draws by squared distance over all blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.kernels.kmeans import LloydParams, assign, labels_for, prepare_rows, tile_of
from daskml_core.kernels.nearest import nearest_rows, pack_centers, panel_rows, room_for
from daskml_core.sweep import Array, Block, Kernel, Sweep


def kmeans_plus_plus(
    X: Array, weight: Array | None, k: int, rng: np.random.Generator, n_candidates: int | None = None
) -> Array:
    """Row numbers (k,) of k centres: greedy k-means++ (Arthur and Vassilvitskii 2007).

    X (rows, d) float64. Each centre is the best of ``n_candidates`` (2 + log k) rows drawn in proportion to
    ``weight * squared distance`` to the centres so far. Where all rows lie on centres, rows are drawn by weight.
    """
    n = len(X)
    s = np.ones(n) if weight is None else weight
    trials = n_candidates or 2 + int(np.log(k))
    norms = np.einsum("ij,ij->i", X, X)
    chosen = np.empty(k, dtype=np.intp)
    chosen[0] = rng.choice(n, p=s / s.sum())
    squared = _to_rows(X, norms, chosen[:1])[0]
    for c in range(1, k):
        mass = np.cumsum(s * squared)
        if mass[-1] <= 0:  # fewer distinct rows than centres
            chosen[c] = rng.choice(n, p=s / s.sum())
            continue
        draws = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right")
        table = np.minimum(_to_rows(X, norms, np.minimum(draws, n - 1)), squared)
        best = int(np.argmin(table @ s))
        chosen[c], squared = min(int(draws[best]), n - 1), table[best]
    return chosen


def _to_rows(X: Array, norms: Array, rows: Array) -> Array:
    """Squared distances (len(rows), n) of all rows to some of them."""
    out = X[rows] @ X.T
    out *= -2
    out += norms
    out += norms[rows][:, None]
    np.maximum(out, 0, out=out)
    out[np.arange(len(rows)), rows] = 0  # rounding must not let a centre be drawn again
    return np.asarray(out)


def two_nearest(X: Array, C: Array) -> tuple[Array, Array, Array]:
    """Nearest centre of each row, and the squared distances (rows,) to it and to the second nearest, in float64."""
    n, d = X.shape
    label = labels_for(n, X.dtype)
    first, second = np.empty(n), np.empty(n)
    origin = C.mean(axis=0, dtype=np.float64)
    centers = np.require(C.astype(np.float64) - origin, dtype=X.dtype, requirements=["C", "A"])
    _two_nearest(X, centers, origin.astype(X.dtype), tile_of(d, X.itemsize), panel_rows(X.dtype), label, first, second)
    return label[:n], first, second


@numba.njit(cache=True, nogil=True)
def _two_nearest(
    X: Any, C: Any, origin: Any, tile: int, panel_size: int, label: Any, first: Any, second: Any
) -> None:  # pragma: no cover - compiled
    n, d = X.shape
    packed, lengths = pack_centers(C)
    found = room_for(tile, panel_size, C, True)
    x = np.empty((tile, d), dtype=X.dtype)
    for lo in range(0, n, tile):
        size = min(tile, n - lo)
        prepare_rows(X[lo : lo + size], origin, False, x)
        nearest_rows(x[:size], packed, lengths, found, label[lo:])
        for i in range(size):
            first[lo + i] = max(found.norms[i] + found.best[i], 0.0)
            second[lo + i] = max(found.norms[i] + found.second[i], 0.0)


class DrawParams(NamedTuple):
    """Rows to draw, and the centres that distances are taken to: ``None`` draws by weight alone."""

    n: int
    lloyd: LloydParams | None
    seed: int
    round: int


class Draw(NamedTuple):
    """Drawn rows with their keys, smallest first, and the weighted sum of squared distances of all rows."""

    keys: Array
    X: Array
    cost: float


def draw_rows(block: Block, params: DrawParams) -> Draw:
    """Rows drawn without replacement in proportion to ``weight * squared distance`` to the nearest centre.

    The ``n`` smallest of the keys ``E / mass`` with E exponential (Efraimidis and Spirakis 2006): one sweep, without
    the total of all masses, and the same rows for any workers. Random numbers come from ``[seed, round, block]``.
    """
    mass = np.ones(block.n_rows) if block.weight is None else block.weight.copy()
    if params.lloyd is not None:
        mass *= assign(block, params.lloyd.centers[0], params.lloyd, distances=True)[1]
    rng = np.random.default_rng([params.seed, params.round, block.number])
    exponential = rng.standard_exponential(block.n_rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        keys = np.where(mass > 0, exponential / mass, np.inf)
    kept = np.argpartition(keys, params.n)[: params.n] if len(keys) > params.n else np.arange(len(keys))
    kept = kept[np.isfinite(keys[kept])]
    kept = kept[np.argsort(keys[kept], kind="stable")]
    return Draw(keys[kept], block.X[kept], float(mass.sum()))


def merge_draws(n: int) -> Any:
    """Combines two draws into the ``n`` rows with the smallest keys."""
    return _Smallest(n)


class _Smallest(NamedTuple):
    n: int

    def __call__(self, a: Draw, b: Draw) -> Draw:
        keys = np.concatenate([a.keys, b.keys])
        order = np.argsort(keys, kind="stable")[: self.n]
        return Draw(keys[order], np.concatenate([a.X, b.X])[order], a.cost + b.cost)


def _workspace(n_rows: int, n_features: int, params: DrawParams) -> int:
    k = 1 if params.lloyd is None else len(params.lloyd.centers[0])
    return 5 * 8 * n_rows + 8 * 1024 * (k + n_features) + 16 * k * n_features


DRAW = Kernel(
    draw_rows,
    "draw-far-rows",
    _workspace,
    partial_bytes=lambda d, p: p.n * 8 * (d + 1),
)


def draw_sweep(n: int, lloyd: LloydParams | None, seed: int, number: int) -> Sweep:
    """The sweep that draws ``n`` rows in round ``number``."""
    return Sweep(DRAW, DrawParams(n, lloyd, seed, number), merge_draws(n))
