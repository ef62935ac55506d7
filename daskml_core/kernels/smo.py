"""Sequential minimal optimisation of the box-constrained quadratic problem behind every support vector machine.

Conventions
-----------
All machines are one problem in ``beta = y alpha`` (libsvm's signs taken into the box)::

    maximise  c beta - beta K beta / 2   subject to  lo <= beta <= hi,  sum(beta) constant

K     (q, q) kernel matrix, float32 or float64
c     (q,): y for classification, ``t -/+ epsilon`` for the two variables of a regression's row, 0 for one class
F     (q,) gradient ``c - K beta``, kept up to date
A variable is *up* where it may grow (``beta < hi``) and *low* where it may shrink (``beta > lo``). The point is optimal
to ``tol`` where ``max F[up] - min F[low] < tol``: libsvm's stopping rule.

Source: Fan, Chen and Lin 2005, "Working set selection using second order information", WSS 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.kernels.exponential import exp_row
from daskml_core.sweep import Array

LANES = 64
"""Entries of a tile. A search keeps the largest value of each tile, and then looks for it in its tile: maxima alone stay in
vector registers, and a place beside each would not."""

NEVER = 1e300
"""Taken from F where a variable cannot move that way: no branch in the loops."""

CURVATURE = 1e-12
"""Least curvature along a pair (libsvm's TAU): duplicate rows, and kernels that are not positive."""

RBF, LINEAR, POLY, SIGMOID = range(4)
"""Kernels whose rows are computed in compiled code, when they are needed."""

FAST = {"nsz", "reassoc", "contract", "arcp"}
SAME = {"nsz", "contract"}
"""Where a value is computed twice, with the same bits: no other order of the sums."""

MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
"""All bits of a number but its sign."""


@numba.njit(cache=True, nogil=True, inline="always")
def _ordered(x: Any) -> Any:
    """An integer that compares as ``x`` does: maxima of integers are compiled to vector registers, of floats not."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> 63) & MAGNITUDE)


@numba.njit(cache=True, nogil=True)
def _last_tile(tops: Any) -> int:
    """The tile of the largest entry; among equals the last."""
    most, best = tops[0], 0
    for tile in range(len(tops)):
        most = tops[tile] if tops[tile] > most else most
    for tile in range(len(tops)):
        place = tile if tops[tile] == most else 0
        best = place if place > best else best
    return best


@numba.njit(cache=True, nogil=True, fastmath=SAME, inline="always")
def _gain(slope: float, curvature: float) -> Any:
    """Bits of the second-order gain of a pair: it is not negative."""
    slope = slope if slope > 0.0 else 0.0
    curvature = curvature if curvature > CURVATURE else CURVATURE
    return np.float64(slope * slope / curvature).view(np.int64)


@numba.njit(cache=True, nogil=True, fastmath=SAME)
def _second(F: Any, low: Any, diagonal: Any, Ki: Any, Fi: float, Kii: float, tops: Any) -> int:
    """The variable that, paired with the one of row ``Ki``, gains most by the second-order model; -1 for none.

    Among equals it is the last, as in libsvm.
    """
    for tile in range(len(tops)):
        start = tile * LANES
        f, k = F[start : start + LANES], Ki[start : start + LANES]
        d, never = diagonal[start : start + LANES], low[start : start + LANES]
        most = np.int64(0)
        for lane in range(LANES):
            gain = _gain(Fi - f[lane] - never[lane], Kii + d[lane] - 2 * k[lane])
            most = gain if gain > most else most
        tops[tile] = most
    tile = _last_tile(tops)
    start, most, j = tile * LANES, tops[tile], -1
    f, k = F[start : start + LANES], Ki[start : start + LANES]
    d, never = diagonal[start : start + LANES], low[start : start + LANES]
    for lane in range(LANES):
        gain = _gain(Fi - f[lane] - never[lane], Kii + d[lane] - 2 * k[lane])
        place = lane if gain == most else -1
        j = place if place > j else j
    return start + j if most > 0 else -1


@numba.njit(cache=True, nogil=True, fastmath=SAME)
def _move(F: Any, Ki: Any, Kj: Any, t: float, up: Any, low: Any, tops: Any) -> Any:
    """Update F after a step; returns the up variable with the largest F, and the violation ``max F[up] - min F[low]``.

    Among equals it is the last, as in libsvm.
    """
    bottom = MAGNITUDE
    for tile in range(len(tops)):
        start = tile * LANES
        f, a, b = F[start : start + LANES], Ki[start : start + LANES], Kj[start : start + LANES]
        never, nor = up[start : start + LANES], low[start : start + LANES]
        most, least = -MAGNITUDE, MAGNITUDE
        for lane in range(LANES):
            value = f[lane] - t * (a[lane] - b[lane])
            f[lane] = value
            above, below = _ordered(value - never[lane]), _ordered(value + nor[lane])
            most = above if above > most else most
            least = below if below < least else least
        tops[tile] = most
        bottom = least if least < bottom else bottom
    tile = _last_tile(tops)
    start, most, i = tile * LANES, tops[tile], 0
    f, never = F[start : start + LANES], up[start : start + LANES]
    for lane in range(LANES):
        place = lane if _ordered(f[lane] - never[lane]) == most else 0
        i = place if place > i else i
    smallest = np.int64(bottom ^ ((bottom >> 63) & MAGNITUDE)).view(np.float64)
    return start + i, f[i] - never[i] - smallest


@numba.njit(cache=True, nogil=True)
def _mark(t: int, beta: Any, lo: Any, hi: Any, up: Any, low: Any) -> None:
    up[t] = 0.0 if beta[t] < hi[t] else NEVER
    low[t] = 0.0 if beta[t] > lo[t] else NEVER


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _product(x: Any, right: Any, row: Any) -> None:
    """``row = x @ right``; eight features at a time, for the row is read and written once for all of them."""
    d, n = len(x), len(row)
    row[:] = 0
    whole = d - d % 8
    for k in range(0, whole, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
        b0, b1, b2, b3 = right[k], right[k + 1], right[k + 2], right[k + 3]
        b4, b5, b6, b7 = right[k + 4], right[k + 5], right[k + 6], right[k + 7]
        for t in range(n):
            row[t] += (
                ((a0 * b0[t] + a1 * b1[t]) + (a2 * b2[t] + a3 * b3[t]))
                + ((a4 * b4[t] + a5 * b5[t]) + (a6 * b6[t] + a7 * b7[t]))
            )  # fmt: skip
    for k in range(whole, d):
        a, b = x[k], right[k]
        for t in range(n):
            row[t] += a * b[t]


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _finish(row: Any, kind: int, gamma: float, coef0: float, degree: int) -> None:
    """Kernel values of products, as `daskml_core.kernels.kernel_functions.values` has them."""
    if kind == RBF:
        exp_row(row)
    elif kind == POLY:
        for t in range(len(row)):
            base = gamma * row[t] + coef0
            value = base if degree else 1.0
            for _ in range(1, degree):
                value *= base
            row[t] = value
    elif kind == SIGMOID:  # tanh z = (exp 2z - 1) / (exp 2z + 1), which is 1 to the last bit from z = 19
        for t in range(len(row)):
            row[t] = min(max(2 * (gamma * row[t] + coef0), -60.0), 60.0)
        exp_row(row)
        for t in range(len(row)):
            row[t] = (row[t] - 1) / (row[t] + 1)


@numba.njit(cache=True, nogil=True)
def _ready(K: Any, i: int, slot: Any, n: int, left: Any, right: Any, kind: int, numbers: Any, row: Any) -> int:
    """Row ``i`` of the matrix in the next slot, if it was not asked for before; returns how many slots are taken."""
    if slot[i] >= 0:
        return n
    _product(left[i], right, row)
    _finish(row, kind, numbers[0], numbers[1], int(numbers[2]))
    K[n] = row
    slot[i] = n
    return n + 1


@numba.njit(cache=True, nogil=True)
def _smo(
    K: Any, diagonal: Any, slot: Any, left: Any, right: Any, kind: int, numbers: Any, F: Any, beta: Any, lo: Any,
    hi: Any, tol: float, max_steps: int,
) -> Any:  # fmt: skip
    q = len(F)
    up, low = np.empty(q), np.empty(q)
    for t in range(q):
        _mark(t, beta, lo, hi, up, low)
    tops = np.empty(q // LANES, dtype=np.int64)
    row = np.empty(K.shape[1], dtype=right.dtype)
    n = slot.max() + 1
    n = _ready(K, 0, slot, n, left, right, kind, numbers, row)
    i, violation = _move(F, K[slot[0]], K[slot[0]], 0.0, up, low, tops)
    steps = 0
    while violation >= tol and steps < max_steps:
        n = _ready(K, i, slot, n, left, right, kind, numbers, row)
        Ki = K[slot[i]]
        j = _second(F, low, diagonal, Ki, F[i], diagonal[i], tops)
        if j < 0:
            break
        n = _ready(K, j, slot, n, left, right, kind, numbers, row)
        curvature = max(diagonal[i] + diagonal[j] - 2 * Ki[j], CURVATURE)
        t = min((F[i] - F[j]) / curvature, hi[i] - beta[i], beta[j] - lo[j])
        # Bounds are met to the bit: what is at its bound must not be taken for free.
        beta[i] = hi[i] if t == hi[i] - beta[i] else beta[i] + t
        beta[j] = lo[j] if t == beta[j] - lo[j] else beta[j] - t
        _mark(i, beta, lo, hi, up, low)
        _mark(j, beta, lo, hi, up, low)
        i, violation = _move(F, Ki, K[slot[j]], t, up, low, tops)
        steps += 1
    return steps, violation


def padded(n: int) -> int:
    """Columns of a kernel matrix of ``n`` variables as `smo` wants it."""
    return -(-n // LANES) * LANES


class Lazy(NamedTuple):
    """A matrix whose rows are computed when a step first needs them: where few rows ever move, most are not."""

    left: Array
    """(q, d), or (q, d + 2) for rbf, as of `daskml_core.kernels.kernel_functions`; in K's precision, or float64"""
    right: Array
    """(d, padded(q)), or (d + 2, padded(q))"""
    slot: Array
    """(q,) where in K a variable's row stands, in the order in which they were needed; -1 where it is not computed yet"""
    diagonal: Array
    """(q,) of the matrix"""
    kind: int = RBF
    numbers: tuple[float, float, float] = (1.0, 0.0, 3.0)
    """gamma, coef0 and degree"""


def smo(
    K: Array, F: Array, beta: Array, lo: Array, hi: Array, tol: float, max_steps: int, lazy: Lazy | None = None
) -> tuple[int, float]:
    """Steps taken, and the violation that is left; ``beta`` and ``F`` (q,) are moved in place.

    K (q, padded(q)) float32 or float64, rows complete unless they are ``lazy``; columns beyond q are never chosen. A step
    costs two passes over q entries, 0.5 ns each.
    """
    q = len(F)
    if not q:
        return 0, -NEVER
    wide = np.zeros((5, padded(q)))
    for target, source in zip(wide, (F, beta, lo, hi), strict=False):
        target[:q] = source
    if lazy is None:
        nothing = np.empty((0, 0), dtype=K.dtype)
        lazy = Lazy(nothing, nothing, np.arange(q), K.diagonal()[:q])
    wide[4, :q] = lazy.diagonal
    steps, violation = _smo(
        K, wide[4], lazy.slot, lazy.left, lazy.right, lazy.kind, lazy.numbers, wide[0], wide[1], wide[2], wide[3],
        tol, max_steps,
    )  # fmt: skip
    F[:], beta[:] = wide[0, :q], wide[1, :q]
    return int(steps), float(violation)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _axpy(a: float, x: Any, out: Any) -> None:
    for t in range(len(out)):
        out[t] += a * x[t]


@numba.njit(cache=True, nogil=True)
def add_rows(table: Any, slots: Any, coef: Any, out: Any) -> None:
    """``out += coef @ table[slots]`` without a copy of the rows; tiles stay in the first cache."""
    n = len(out)
    for start in range(0, n, 2048):
        stop = min(n, start + 2048)
        o = out[start:stop]
        for s in range(len(slots)):
            _axpy(coef[s], table[slots[s], start:stop], o)
