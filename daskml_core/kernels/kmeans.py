"""Lloyd's assignment: the nearest centre of each row, and what the centres need of the rows, in one read of a block.

The nearest centre is found by `daskml_core.kernels.nearest`. The inertia is the true sum of squares: of the clusters' sums
and the rows' squared lengths, in float64, and where clusters are so tight that these would cancel, of differences by row.
Bounds that spare distances (Hamerly 2010) cost more than the products they save at these widths.

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

from daskml_core.kernels.nearest import nearest_rows, pack_centers, panel_rows, room_for
from daskml_core.sweep import Array, Block, Kernel, Sweep

FAR_ROWS = 256
"""Most rows that a sweep brings along to fill empty clusters with."""


CANCELS = 1e-3
"""Part of the rows' squared lengths below which the inertia is taken from differences."""


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
def room_for_rows(X: Any, shift: Any, cosine: bool, tile: int) -> Any:  # pragma: no cover - compiled
    """Room for a tile of prepared rows; none where rows are taken as they lie."""
    return np.empty((tile if cosine or len(shift) > 0 else 0, X.shape[1]), dtype=X.dtype)


@numba.njit(cache=True, nogil=True)
def read_tile(
    X: Any, lo: int, shift: Any, cosine: bool, prepared: Any, tile: int
) -> Any:  # pragma: no cover - compiled
    """Rows from ``lo`` on as the search wants them, and -1 or the first row of the block that has no direction."""
    x = X[lo : min(lo + tile, X.shape[0])]
    if len(prepared) == 0:
        return x, -1
    bad = prepare_rows(x, shift, cosine, prepared)
    return prepared[: len(x)], lo + bad if bad >= 0 else -1


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


@numba.njit(cache=True, nogil=True)
def _count_rows(label: Any, s: Any, weight: Any, rows: Any) -> None:  # pragma: no cover - compiled
    for i in range(len(label)):
        rows[label[i]] += 1
    for i in range(len(s)):
        weight[label[i]] += s[i]


@numba.njit(cache=True, nogil=True)
def _keep_farthest(
    squared: Any, label: Any, s: Any, start: int, far_distance: Any, far_row: Any, far_label: Any
) -> None:  # pragma: no cover - compiled
    """Keep the farthest rows, farthest first."""
    m = len(far_distance)
    if m == 0:
        return
    for i in range(len(squared)):
        q = squared[i]
        if q > far_distance[m - 1] and (len(s) == 0 or s[i] > 0.0):
            place = m - 1
            while place > 0 and far_distance[place - 1] < q:
                far_distance[place] = far_distance[place - 1]
                far_row[place] = far_row[place - 1]
                far_label[place] = far_label[place - 1]
                place -= 1
            far_distance[place] = q
            far_row[place] = start + i
            far_label[place] = label[i]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _total(values: Any, s: Any) -> float:  # pragma: no cover - compiled
    """Weighted sum."""
    total = 0.0
    if len(s) > 0:
        for i in range(len(values)):
            total += s[i] * values[i]
    else:
        for i in range(len(values)):
            total += values[i]
    return total


@numba.njit(cache=True, nogil=True)
def _assign(
    X: Any, C: Any, shift: Any, cosine: bool, tile: int, panel_size: int, label: Any, squared: Any
) -> int:  # pragma: no cover - compiled
    """Labels of a block's rows, and squared distances where there is room; -1, or the first row without a direction."""
    n = len(X)
    packed, lengths = pack_centers(C)
    found = room_for(tile, panel_size, C, False)
    prepared = room_for_rows(X, shift, cosine, tile)
    for lo in range(0, n, tile):
        x, bad = read_tile(X, lo, shift, cosine, prepared, tile)
        if bad >= 0:
            return bad
        size = len(x)
        nearest_rows(x, packed, lengths, found, label[lo:])
        if len(squared) > 0:
            _distances(x, label[lo:], C, squared[lo : lo + size])
    return -1


@numba.njit(cache=True, nogil=True)
def _lloyd(
    X: Any, s: Any, C: Any, shift: Any, cosine: bool, tile: int, panel_size: int, label: Any, sums: Any, weight: Any,
    rows: Any, far_distance: Any, far_row: Any, far_label: Any
) -> Any:  # fmt: skip  # pragma: no cover - compiled
    """One model over one block: fills the labels, the sums and the far rows.

    Returns (inertia, first row without a direction or -1).
    """
    n, d = X.shape
    packed, lengths = pack_centers(C)
    found = room_for(tile, panel_size, C, False)
    squared = np.empty(tile)
    prepared = room_for_rows(X, shift, cosine, tile)
    of_rows, rough = 0.0, 0.0
    for lo in range(0, n, tile):
        x, bad = read_tile(X, lo, shift, cosine, prepared, tile)
        if bad >= 0:
            return 0.0, bad
        size = len(x)
        nearest_rows(x, packed, lengths, found, label[lo:])
        weights = s[lo : lo + size] if len(s) > 0 else s
        labels = label[lo : lo + size]
        _sum_rows(x, labels, weights, sums)
        _count_rows(labels, weights, weight, rows)
        for i in range(size):
            squared[i] = found.norms[i] + found.best[i]
        of_rows += _total(found.norms[:size], weights)
        rough += _total(squared[:size], weights)
        _keep_farthest(squared[:size], labels, weights, lo, far_distance, far_row, far_label)
    if len(s) == 0:
        for j in range(len(rows)):
            weight[j] = rows[j]
    if rough > CANCELS * of_rows:
        inertia = of_rows
        for j in range(C.shape[0]):
            part = 0.0
            for f in range(d):
                c = float(C[j, f])
                part += c * (weight[j] * c - 2.0 * sums[j, f])
            inertia += part
        return inertia, -1
    inertia = 0.0
    far_distance[:] = -np.inf
    near = np.empty(tile, dtype=X.dtype)
    for lo in range(0, n, tile):
        x, _ = read_tile(X, lo, shift, cosine, prepared, tile)
        size = len(x)
        weights = s[lo : lo + size] if len(s) > 0 else s
        labels = label[lo : lo + size]
        _distances(x, labels, C, near)
        inertia += _total(near[:size], weights)
        _keep_farthest(near[:size], labels, weights, lo, far_distance, far_row, far_label)
    return inertia, -1


def tile_of(d: int, itemsize: int) -> int:
    """Rows of a tile: they are read several times, from a quarter of a MiB of cache."""
    return int(min(1024, max(128, (1 << 18) // max(1, d * itemsize) // 64 * 64)))


def labels_for(n_rows: int, dtype: Any) -> Array:
    """Room (rows filled up to whole panels,) for labels."""
    size = panel_rows(dtype)
    return np.empty(-(-n_rows // size) * size, dtype=np.int32)


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
    labels = labels_for(len(X), X.dtype)
    squared = np.empty(len(X) if distances else 0, dtype=X.dtype)
    if len(X):
        relative, shift = relative_centers(C, params, X.dtype)
        tile = tile_of(X.shape[1], X.itemsize)
        bad = _assign(X, relative, shift, params.cosine, tile, panel_rows(X.dtype), labels, squared)
        refuse_zero(block, bad)
    return labels[: len(X)], squared


def lloyd_block(block: Block, params: LloydParams) -> tuple[Assignment, ...]:
    """The `Assignment` of each model over one block; reads X once for each of them."""
    return tuple(_one_model(block, C, params) for C in params.centers)


def _one_model(block: Block, C: Array, params: LloydParams) -> Assignment:
    X, s = block.X, np.zeros(0) if block.weight is None else block.weight
    relative, shift = relative_centers(C, params, X.dtype)
    k, d = relative.shape
    sums, weight, rows = np.zeros((k, d)), np.zeros(k), np.zeros(k, dtype=np.int64)
    distance, row = np.full(params.far, -np.inf), np.zeros(params.far, dtype=np.int64)
    label = np.zeros(params.far, dtype=np.int64)
    inertia, bad = _lloyd(
        X, s, relative, shift, params.cosine, tile_of(d, X.itemsize), panel_rows(X.dtype), labels_for(len(X), X.dtype),
        sums, weight, rows, distance, row, label,
    )  # fmt: skip
    refuse_zero(block, bad)
    if len(shift):
        sums += weight[:, None] * shift.astype(np.float64)
    found = distance > -np.inf
    return Assignment(
        sums, weight, rows, float(inertia), _far(block, row[found], label[found], relative, shift, params)
    )


def _far(block: Block, row: Array, label: Array, C: Array, shift: Array, params: LloydParams) -> FarRows:
    """The rows that were found to be far, with their distances by difference; rows on their centre are not far."""
    X = block.X[row].astype(np.float64)
    if params.cosine:
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    offset = X - C[label] - (shift if len(shift) else 0.0)
    distance = np.einsum("ij,ij->i", offset, offset)
    order = np.lexsort([row, -distance])
    order = order[distance[order] > 0]
    weight = np.ones(len(row)) if block.weight is None else block.weight[row]
    return FarRows(distance[order], block.start + row[order], label[order], weight[order], X[order])


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
    tile = tile_of(n_features, 4)
    return 4 * n_rows + 8 * (tile * (n_features + 5) + n_features * panel_rows(np.float32) + 3 * widest * n_features)


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
    tile = tile_of(d, 8)
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
