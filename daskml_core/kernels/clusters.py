"""What measures of a clustering need of the rows and their labels: moments of each cluster, distances to them.

Conventions
-----------
y        (rows,) labels of any kind, as the user has them
classes  (k,) sorted distinct labels, or ``None`` where labels are the numbers of centres
C        (k, d) float64 centres, one a class

Sums are in float64, and so are distances: rows are widened a tile at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel, Sweep


def codes_of(labels: Array) -> tuple[Array, Array]:
    """Sorted distinct labels, and the number of each row's label among them (rows,)."""
    if labels.dtype.kind in "iu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if high - low < 4 * len(labels) and high < 2**62 and low > -(2**62):  # counting is faster than sorting
            shifted = labels.astype(np.int64) - low
            seen = np.bincount(shifted, minlength=high - low + 1) > 0
            return (np.flatnonzero(seen) + low).astype(labels.dtype), (np.cumsum(seen) - 1)[shifted]
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, codes.reshape(-1)


def codes_among(labels: Array, classes: Array | None, k: int, block: Block) -> Array:
    """The number of each row's class (rows,), int64.

    Raises
    ------
    ValueError : a label that is no class, or no number of a centre.
    """
    if classes is not None:
        place = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        bad = classes[place] != labels
    else:
        if labels.dtype.kind not in "iub":
            raise ValueError(f"With centers, labels must be integers that number them, got dtype {labels.dtype}.")
        bad = (labels < 0) | (labels >= k)
        place = labels
    if np.any(bad):
        row = int(np.argmax(bad))
        raise ValueError(
            f"The label {labels[row]} in block {block.number}, row {block.start + row} is no number of one of the "
            f"{k} centers."
            if classes is None
            else f"The label {labels[row]} in block {block.number}, row {block.start + row} was not there before: the "
            "labels differ from one read to the next."
        )
    return np.ascontiguousarray(place, dtype=np.int64)


class ClusterMoments(NamedTuple):
    """Number of rows, mean and sum of squared distances to it for each cluster, classes sorted."""

    classes: Array
    rows: Array
    """(k,)"""
    mean: Array
    """(k, d)"""
    scatter: Array
    """(k,)"""


@numba.njit(cache=True, nogil=True)
def _sums(X: Any, code: Any, sums: Any) -> None:  # pragma: no cover - compiled
    for i in range(X.shape[0]):
        total = sums[code[i]]
        for f in range(X.shape[1]):
            total[f] += X[i, f]


@numba.njit(cache=True, nogil=True)
def _scatter(X: Any, code: Any, C: Any, squared: Any, plain: Any) -> None:  # pragma: no cover - compiled
    """Adds squared distances to the row's own centre, and plain ones, by cluster."""
    for i in range(X.shape[0]):
        c = C[code[i]]
        total = 0.0
        for f in range(X.shape[1]):
            diff = X[i, f] - c[f]
            total += diff * diff
        squared[code[i]] += total
        plain[code[i]] += np.sqrt(total)


def cluster_moments(block: Block, params: None) -> ClusterMoments:
    """Moments of the clusters in one block; reads X twice, from cache where the block is small."""
    X = block.X
    classes, codes = codes_of(block.y)
    k, d = len(classes), X.shape[1]
    rows = np.bincount(codes, minlength=k)
    mean, scatter = np.zeros((k, d)), np.zeros(k)
    if k:
        _sums(X, codes, mean)
        mean /= rows[:, None]
        _scatter(X, codes, mean, scatter, np.zeros(k))
    return ClusterMoments(classes, rows, mean, scatter)


def merge_cluster_moments(a: ClusterMoments, b: ClusterMoments) -> ClusterMoments:
    """Moments of two disjoint sets of rows taken together (Chan, Golub and LeVeque 1979)."""
    if not len(a.classes) or not len(b.classes):
        return a if len(a.classes) else b
    classes = np.union1d(a.classes, b.classes)
    at_a, at_b = np.searchsorted(classes, a.classes), np.searchsorted(classes, b.classes)
    rows = np.zeros(len(classes), dtype=np.int64)
    mean, scatter = np.zeros((len(classes), a.mean.shape[1])), np.zeros(len(classes))
    rows[at_a], mean[at_a], scatter[at_a] = a.rows, a.mean, a.scatter
    delta = b.mean - mean[at_b]
    total = rows[at_b] + b.rows
    scatter[at_b] += b.scatter + np.square(delta).sum(axis=1) * (rows[at_b] * (b.rows / total))
    mean[at_b] += delta * (b.rows / total)[:, None]
    rows[at_b] = total
    return ClusterMoments(classes, rows, mean, scatter)


class CenterParams(NamedTuple):
    """Centres that distances are taken to."""

    C: Array
    classes: Array | None = None
    cosine: bool = False


class ClusterSums(NamedTuple):
    """Number of rows, and a sum over them, of each class (k,)."""

    rows: Array
    total: Array


def distances_to_own(block: Block, params: CenterParams) -> ClusterSums:
    """Sums of the rows' distances to their own centres."""
    k = len(params.C)
    codes = codes_among(block.y, params.classes, k, block)
    total = np.zeros(k)
    if len(codes):
        _scatter(block.X, codes, params.C, np.zeros(k), total)
    return ClusterSums(np.bincount(codes, minlength=k), total)


def _unit(X: Array, block: Block, lo: int) -> Array:
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    zero = np.flatnonzero(lengths == 0)
    if len(zero):
        raise ValueError(
            f'Row {block.start + lo + int(zero[0])} (block {block.number}) is a zero vector: metric="cosine" needs a '
            "direction. Drop such rows."
        )
    return np.asarray(X / lengths)


@numba.njit(cache=True, nogil=True)
def _to_distances(P: Any, x: Any, xx: Any, Q: Any, qq: Any, cosine: bool) -> None:  # pragma: no cover - compiled
    """Products ``P[i, j] = x_i q_j`` become distances, by difference where the products would leave few digits."""
    n, m = P.shape
    for i in range(n):
        for j in range(m):
            size = xx[i] + qq[j]
            v = 2.0 - 2.0 * P[i, j] if cosine else size - 2.0 * P[i, j]
            if v < 1e-6 * size:
                v = 0.0
                for f in range(x.shape[1]):
                    diff = x[i, f] - Q[j, f]
                    v += diff * diff
            P[i, j] = v / 2.0 if cosine else np.sqrt(v)


def _distances(x: Array, Q: Array, qq: Array, cosine: bool) -> Array:
    """Distances (rows, m) between a tile's rows and others, both prepared."""
    P = x @ Q.T
    _to_distances(P, x, np.einsum("ij,ij->i", x, x), Q, qq, cosine)
    return P


def _prepared(X: Array, shift: Array, cosine: bool, block: Block, lo: int) -> Array:
    """Rows in float64, at length one for the cosine metric, relative to ``shift`` otherwise."""
    wide = X.astype(np.float64)
    return _unit(wide, block, lo) if cosine else wide - shift


def simplified_silhouettes(block: Block, params: CenterParams) -> ClusterSums:
    """Sums of ``(b - a) / max(a, b)`` with a row's distances a to its own and b to the nearest other centre."""
    k, X = len(params.C), block.X
    codes = codes_among(block.y, params.classes, k, block)
    shift = params.C.mean(axis=0)
    C = np.ascontiguousarray(params.C if params.cosine else params.C - shift)
    norms = np.einsum("ij,ij->i", C, C)
    total = np.zeros(k)
    step = _tile(k, X.shape[1])
    for lo in range(0, len(X), step):
        x = _prepared(X[lo : lo + step], shift, params.cosine, block, lo)
        D = _distances(x, C, norms, params.cosine)
        mine = codes[lo : lo + step]
        own = np.arange(len(x)), mine
        a = D[own].copy()
        D[own] = np.inf
        total += np.bincount(mine, weights=_silhouette(a, D.min(axis=1)), minlength=k)
    return ClusterSums(np.bincount(codes, minlength=k), total)


def _silhouette(a: Array, b: Array) -> Array:
    larger = np.maximum(a, b)
    return np.asarray(np.where(larger > 0, (b - a) / np.where(larger > 0, larger, 1.0), 0.0))


class QueryParams(NamedTuple):
    """Rows that distances are taken from, to all rows of the data."""

    Q: Array
    """(m, d) float64"""
    classes: Array
    cosine: bool = False


@numba.njit(cache=True, nogil=True)
def _add_rows(D: Any, code: Any, sums: Any) -> None:  # pragma: no cover - compiled
    for i in range(D.shape[0]):
        total = sums[code[i]]
        for j in range(D.shape[1]):
            total[j] += D[i, j]


def distances_to_clusters(block: Block, params: QueryParams) -> Array:
    """Sums (k, m) of the distances from each query row to the block's rows of each cluster."""
    X, k = block.X, len(params.classes)
    codes = codes_among(block.y, params.classes, k, block)
    sums = np.zeros((k, len(params.Q)))
    shift = params.Q.mean(axis=0)
    Q = params.Q - shift
    if params.cosine:  # a query without a direction is a row of some block too, and is refused there
        lengths = np.linalg.norm(params.Q, axis=1, keepdims=True)
        Q = params.Q / np.where(lengths > 0, lengths, 1.0)
    norms = np.einsum("ij,ij->i", Q, Q)
    step = _tile(len(Q), X.shape[1])
    for lo in range(0, len(X), step):
        x = _prepared(X[lo : lo + step], shift, params.cosine, block, lo)
        _add_rows(_distances(x, Q, norms, params.cosine), codes[lo : lo + step], sums)
    return sums


def silhouettes_of(sums: Array, rows: Array, codes: Array) -> Array:
    """Silhouettes (m,) from sums (k, m) of distances to clusters of ``rows`` (k,); 0 for a row alone in its cluster."""
    own = codes, np.arange(len(codes))
    size = rows[codes]
    a = sums[own] / np.maximum(size - 1, 1)
    means = sums / rows[:, None]
    means[own] = np.inf
    return np.where(size > 1, _silhouette(a, means.min(axis=0)), 0.0)


def _tile(k: int, d: int) -> int:
    """Rows whose table of k distances stays within 2 MiB, 16 at least."""
    return int(max(16, min(tile_rows(d, 8), (1 << 18) // max(1, k))))


def _codes_workspace(n_rows: int) -> int:
    return 24 * n_rows


def _table_workspace(n_rows: int, k: int, d: int) -> int:
    return _codes_workspace(n_rows) + 8 * (_tile(k, d) * (k + 2 * d) + 3 * k * d)


CLUSTER_MOMENTS = Kernel(cluster_moments, "cluster-moments", lambda n, d, p: _codes_workspace(n))
DISTANCES_TO_OWN = Kernel(
    distances_to_own, "distances-to-own-center", lambda n, d, p: _codes_workspace(n), lambda d, p: 16 * len(p.C)
)
SIMPLIFIED = Kernel(
    simplified_silhouettes,
    "simplified-silhouettes",
    lambda n, d, p: _table_workspace(n, len(p.C), d),
    lambda d, p: 16 * len(p.C),
)
DISTANCES_TO_CLUSTERS = Kernel(
    distances_to_clusters,
    "distances-to-clusters",
    lambda n, d, p: _table_workspace(n, len(p.Q), d),
    lambda d, p: 8 * len(p.classes) * len(p.Q),
)


def moments_sweep() -> Sweep:
    """The sweep that brings the moments of all clusters."""
    return Sweep(CLUSTER_MOMENTS, None, merge_cluster_moments)
