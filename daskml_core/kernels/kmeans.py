"""Lloyd's assignment: the nearest centre of each row, and what the centres need of the rows, in one read of a block.

Distances come from one matrix product a tile, ``|c|^2 - 2 c x`` into a table of (k, rows of the tile), whose running
minimum is taken along the rows, so that the loop runs in vector registers. The distance to the chosen centre alone is
then computed as a difference, where nothing cancels: the inertia is the true sum of squares. Bounds that spare distances
(Hamerly 2010) cost more than the products they save at these widths.

Conventions
-----------
C      (k, d) centres in X's dtype; several models have a tuple of them, of any k
shift  (d,) in X's dtype, subtracted from rows and centres before the product, so that an offset common to all rows does
       not eat the digits of the distances; ``None`` where there is none
cosine rows are scaled to length one as they are read; the centres are of length one already
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.sweep import Array, Block, Kernel, Sweep

FAR_ROWS = 256
"""Most rows that a sweep brings along to fill empty clusters with."""


class LloydParams(NamedTuple):
    """Centres of one or more models."""

    centers: tuple[Array, ...]
    shift: Array | None = None
    cosine: bool = False
    far: int = 0
    """Rows farthest from their centres to bring along, for each model."""


class FarRows(NamedTuple):
    """The rows farthest from their centres, farthest first; ties by row number."""

    distance: Array
    row: Array
    """Global row numbers."""
    label: Array
    weight: Array
    X: Array


class Assignment(NamedTuple):
    """What a model's centres need of the rows: sums and counts, never means."""

    sums: Array
    """(k, d) weighted sums of the rows of each cluster."""
    weight: Array
    """(k,) their weight."""
    rows: Array
    """(k,) their number, rows of weight zero included."""
    inertia: float
    """Weighted sum of squared distances to the nearest centre."""
    far: FarRows


@numba.njit(cache=True, nogil=True)
def prepare_rows(x: Any, shift: Any, cosine: bool, out: Any) -> int:  # pragma: no cover - compiled
    """Rows of a tile, shifted or scaled to length one, into ``out``; -1, or the first row that has no direction."""
    n, d = x.shape
    if cosine:
        for i in range(n):
            total = 0.0
            for f in range(d):
                total += x[i, f] * x[i, f]
            if total == 0.0:
                return i
            scale = 1.0 / math.sqrt(total)
            for f in range(d):
                out[i, f] = x[i, f] * scale
    else:
        for i in range(n):
            for f in range(d):
                out[i, f] = x[i, f] - shift[f]
    return -1


@numba.njit(cache=True, nogil=True)
def _nearest(x: Any, C: Any, minus_2C: Any, norms: Any, table: Any, best: Any, label: Any) -> None:  # pragma: no cover
    """Label of each row of a tile, and in ``best`` its squared distance less ``|x|^2``."""
    n = x.shape[0]
    k = C.shape[0]
    P = table[: k * n].reshape(k, n)
    np.dot(minus_2C, x.T, P)
    first = P[0]
    c = norms[0]
    for i in range(n):
        best[i] = first[i] + c
        label[i] = 0
    for j in range(1, k):
        p = P[j]
        c = norms[j]
        for i in range(n):
            v = p[i] + c
            closer = v < best[i]
            best[i] = v if closer else best[i]
            label[i] = j if closer else label[i]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squared_distance(x: Any, c: Any) -> float:  # pragma: no cover - compiled
    total = x[0] * 0
    for f in range(len(c)):
        diff = x[f] - c[f]
        total += diff * diff
    return total


@numba.njit(cache=True, nogil=True)
def _distances(x: Any, label: Any, C: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Squared distance of each row to its centre, by difference."""
    for i in range(x.shape[0]):
        out[i] = _squared_distance(x[i], C[label[i]])


@numba.njit(cache=True, nogil=True)
def _sum_rows(x: Any, label: Any, s: Any, sums: Any) -> None:  # pragma: no cover - compiled
    d = x.shape[1]
    if len(s) > 0:
        for i in range(x.shape[0]):
            total, v, w = sums[label[i]], x[i], s[i]
            for f in range(d):
                total[f] += w * v[f]
    else:
        for i in range(x.shape[0]):
            total, v = sums[label[i]], x[i]
            for f in range(d):
                total[f] += v[f]


# Three short loops, not one: in one the distance, the sums and the list of far rows wait for each other, at twice the time.
@numba.njit(cache=True, nogil=True)
def _accumulate(
    squared: Any,
    label: Any,
    s: Any,
    start: int,
    weight: Any,
    rows: Any,
    far_distance: Any,
    far_row: Any,
    far_label: Any,
) -> float:  # pragma: no cover - compiled
    """Count a tile's rows; keeps the far rows sorted. Returns the tile's part of the inertia."""
    m = len(far_distance)
    weighted = len(s) > 0
    inertia = 0.0
    for i in range(len(squared)):
        q = float(squared[i])
        w = s[i] if weighted else 1.0
        rows[label[i]] += 1
        if weighted:
            weight[label[i]] += w
        inertia += w * q
        if m > 0 and q > far_distance[m - 1] and w > 0.0:
            place = m - 1
            while place > 0 and far_distance[place - 1] < q:
                far_distance[place] = far_distance[place - 1]
                far_row[place] = far_row[place - 1]
                far_label[place] = far_label[place - 1]
                place -= 1
            far_distance[place] = q
            far_row[place] = start + i
            far_label[place] = label[i]
    return inertia


@numba.njit(cache=True, nogil=True)
def _lloyd(
    X: Any, s: Any, C: Any, shift: Any, cosine: bool, tile: int, sums: Any, weight: Any, rows: Any,
    far_distance: Any, far_row: Any, far_label: Any, labels: Any, squared: Any
) -> Any:  # fmt: skip  # pragma: no cover - compiled
    """One model over one block: fills the sums, or labels and squared distances where there is room for them.

    Returns (inertia, first row without a direction or -1).
    """
    n, d = X.shape
    k = C.shape[0]
    minus_2C = C * C.dtype.type(-2)
    norms = np.zeros(k, dtype=X.dtype)
    for j in range(k):
        for f in range(d):
            norms[j] += C[j, f] * C[j, f]
    table = np.empty(k * tile, dtype=X.dtype)
    best = np.empty(tile, dtype=X.dtype)
    label = np.empty(tile, dtype=np.int32)
    prepared = np.empty((tile if cosine or len(shift) > 0 else 0, d), dtype=X.dtype)
    inertia = 0.0
    for lo in range(0, n, tile):
        size = min(tile, n - lo)
        x = X[lo : lo + size]
        if len(prepared) > 0:
            bad = prepare_rows(x, shift, cosine, prepared)
            if bad >= 0:
                return inertia, lo + bad
            x = prepared[:size]
        _nearest(x, C, minus_2C, norms, table, best, label)
        if len(labels) > 0:
            labels[lo : lo + size] = label[:size]
        if len(labels) == 0 or len(squared) > 0:
            _distances(x, label, C, best)
        if len(squared) > 0:
            squared[lo : lo + size] = best[:size]
        if len(labels) == 0:
            weights = s[lo : lo + size] if len(s) > 0 else s
            _sum_rows(x, label, weights, sums)
            inertia += _accumulate(best[:size], label, weights, lo, weight, rows, far_distance, far_row, far_label)
    if len(s) == 0 and len(labels) == 0:
        for j in range(k):
            weight[j] = rows[j]
    return inertia, -1


def tile_of(k: int, d: int, itemsize: int) -> int:
    """Rows of a tile: table and rows together stay within a MiB of cache."""
    rows = (1 << 20) // max(1, (k + d) * itemsize)
    return int(min(1024, max(128, rows // 64 * 64)))


def refuse_zero(block: Block, bad: int) -> None:
    if bad >= 0:
        raise ValueError(
            f'Row {block.start + bad} (block {block.number}) is a zero vector: metric="cosine" needs a direction. '
            "Drop such rows."
        )


_NONE = np.zeros(0, dtype=np.int32)


def relative_centers(C: Array, params: LloydParams, dtype: Any) -> tuple[Array, Array]:
    """Centres and shift as the compiled code takes them: contiguous, in the rows' dtype, centres relative to the shift."""
    if params.shift is None or params.cosine:
        return np.require(C, dtype=dtype, requirements=["C", "A"]), np.zeros(0, dtype=dtype)
    shift = np.asarray(params.shift, dtype=dtype)
    return np.require(C.astype(np.float64) - shift, dtype=dtype, requirements=["C", "A"]), shift


def assign(block: Block, C: Array, params: LloydParams, *, distances: bool = False) -> tuple[Array, Array]:
    """Labels (rows,) int32 of one model, and squared distances (rows,) where they are asked for."""
    X = block.X
    labels = np.empty(len(X), dtype=np.int32)
    squared = np.empty(len(X) if distances else 0, dtype=X.dtype)
    if len(X):
        relative, shift = relative_centers(C, params, X.dtype)
        k, d = relative.shape
        empty = np.zeros(0)
        _, bad = _lloyd(
            X, empty, relative, shift, params.cosine, tile_of(k, d, X.itemsize), np.zeros((0, 0)), empty, _NONE, empty,
            _NONE, _NONE, labels, squared,
        )  # fmt: skip
        refuse_zero(block, bad)
    return labels, squared


def lloyd_block(block: Block, params: LloydParams) -> tuple[Assignment, ...]:
    """The `Assignment` of each model over one block; reads X once for each of them."""
    return tuple(_one_model(block, C, params) for C in params.centers)


def _one_model(block: Block, C: Array, params: LloydParams) -> Assignment:
    X, s = block.X, np.zeros(0) if block.weight is None else block.weight
    relative, shift = relative_centers(C, params, X.dtype)
    k, d = relative.shape
    sums, weight, rows = np.zeros((k, d)), np.zeros(k), np.zeros(k, dtype=np.int64)
    # Below zero, so that rows on their centre are kept too while there is room.
    far_distance, far_row = np.full(params.far, -1.0), np.zeros(params.far, dtype=np.int64)
    far_label = np.zeros(params.far, dtype=np.int64)
    inertia, bad = _lloyd(
        X, s, relative, shift, params.cosine, tile_of(k, d, X.itemsize), sums, weight, rows, far_distance, far_row,
        far_label, _NONE, np.zeros(0, dtype=X.dtype),
    )  # fmt: skip
    refuse_zero(block, bad)
    if len(shift):
        sums += weight[:, None] * shift.astype(np.float64)
    kept = far_distance > 0
    index = far_row[kept]
    far = X[index].astype(np.float64)
    if params.cosine:
        far /= np.linalg.norm(far, axis=1, keepdims=True)
    weights = np.ones(len(index)) if block.weight is None else block.weight[index]
    return Assignment(
        sums,
        weight,
        rows,
        float(inertia),
        FarRows(far_distance[kept], block.start + index, far_label[kept], weights, far),
    )


def _merge_far(a: FarRows, b: FarRows, keep: int) -> FarRows:
    if not len(a.row) or not len(b.row):
        return b if len(b.row) else a
    joined = FarRows(*(np.concatenate([p, q]) for p, q in zip(a, b, strict=True)))
    order = np.lexsort([joined.row, -joined.distance])[:keep]
    return FarRows(*(p[order] for p in joined))


def merge_assignments(a: tuple[Assignment, ...], b: tuple[Assignment, ...]) -> tuple[Assignment, ...]:
    """Assignments of two disjoint sets of rows taken together, model by model."""
    return tuple(
        Assignment(
            p.sums + q.sums,
            p.weight + q.weight,
            p.rows + q.rows,
            p.inertia + q.inertia,
            _merge_far(p.far, q.far, far_rows(len(p.rows))),
        )
        for p, q in zip(a, b, strict=True)
    )


def far_rows(k: int) -> int:
    """Far rows to bring along for k clusters: as many as may be empty, within reason."""
    return min(k, FAR_ROWS)


def _stack(params: Sequence[LloydParams]) -> LloydParams:
    return params[0]._replace(centers=tuple(C for p in params for C in p.centers))


def _split(partial: tuple[Assignment, ...], params: Sequence[LloydParams]) -> list[tuple[Assignment, ...]]:
    answers, start = [], 0
    for p in params:
        answers.append(partial[start : start + len(p.centers)])
        start += len(p.centers)
    return answers


def _stack_key(params: LloydParams) -> Any:
    return (None if params.shift is None else params.shift.tobytes(), params.cosine, params.far)


def lloyd_workspace(n_rows: int, n_features: int, params: LloydParams) -> int:
    widest = max((len(C) for C in params.centers), default=1)
    tile = tile_of(widest, n_features, 4)
    return 8 * (tile * (widest + n_features + 3) + 2 * widest * n_features)


def _lloyd_partial(n_features: int, params: LloydParams) -> int:
    clusters = sum(len(C) for C in params.centers)
    return clusters * (8 * n_features + 16) + len(params.centers) * params.far * (8 * n_features + 32)


LLOYD = Kernel(
    lloyd_block,
    "lloyd-assign",
    lloyd_workspace,
    partial_bytes=_lloyd_partial,
    stack=_stack,
    split=_split,
    stack_key=_stack_key,
)


def lloyd_sweep(centers: Array, shift: Array | None, *, cosine: bool) -> Sweep:
    """The sweep that assigns every row to the nearest of one model's centres (k, d)."""
    return Sweep(LLOYD, LloydParams((centers,), shift, cosine, far_rows(len(centers))), merge_assignments)


def nearest_center(block: Block, params: LloydParams) -> Array:
    """Label of each row (rows,), int32."""
    return assign(block, params.centers[0], params)[0]


def center_distances(block: Block, params: LloydParams) -> Array:
    """Distances to all centres (rows, k) in X's dtype: Euclidean, or ``1 - cosine``; computed in float64."""
    X = block.X
    C, shift = relative_centers(params.centers[0], params, np.float64)
    k, d = C.shape
    out = np.empty((len(X), k), dtype=X.dtype)
    tile = tile_of(k, d, 8)
    for lo in range(0, len(X), tile):
        x = X[lo : lo + tile].astype(np.float64)
        if params.cosine:
            lengths = np.linalg.norm(x, axis=1)
            zero = np.flatnonzero(lengths == 0)
            refuse_zero(block, lo + int(zero[0]) if len(zero) else -1)
            out[lo : lo + tile] = 1 - (x @ C.T) / lengths[:, None]
            continue
        if len(shift):
            x -= shift
        squared = (x * x).sum(axis=1)[:, None] - 2 * (x @ C.T) + (C * C).sum(axis=1)
        out[lo : lo + tile] = np.sqrt(np.maximum(squared, 0))
    return out


NEAREST_CENTER = Kernel(nearest_center, "nearest-center", lloyd_workspace)
CENTER_DISTANCES = Kernel(
    center_distances,
    "center-distances",
    lambda n, d, p: 8 * (n * len(p.centers[0]) + 3 * 1024 * (d + len(p.centers[0]))),
)
