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
"""Running maxima kept side by side, so that the search for the largest entry runs in vector registers."""

NEVER = 1e300
"""Taken from F where a variable cannot move that way: no branch in the loops."""

CURVATURE = 1e-12
"""Least curvature along a pair (libsvm's TAU): duplicate rows, and kernels that are not positive."""

RBF, LINEAR, POLY, SIGMOID = range(4)
"""Kernels whose rows are computed in compiled code, when they are needed."""

FAST = {"nsz", "reassoc", "contract", "arcp"}


@numba.njit(cache=True, nogil=True)
def _last_of_largest(best: Any, place: Any) -> int:
    """The lane of the largest entry; among equals the one that stands last."""
    top = 0
    for lane in range(LANES):
        if best[lane] > best[top] or (best[lane] == best[top] and place[lane] + lane > place[top] + top):
            top = lane
    return top


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _second(F: Any, low: Any, diagonal: Any, Ki: Any, Fi: float, Kii: float, best: Any, place: Any) -> int:
    """The variable that, paired with the one of row ``Ki``, gains most by the second-order model; -1 for none."""
    for lane in range(LANES):
        best[lane] = 0.0
        place[lane] = -LANES - 1
    for start in range(0, len(F), LANES):
        f, k = F[start : start + LANES], Ki[start : start + LANES]
        d, never = diagonal[start : start + LANES], low[start : start + LANES]
        for lane in range(LANES):
            slope = Fi - f[lane] - never[lane]
            slope = slope if slope > 0.0 else 0.0
            curvature = Kii + d[lane] - 2 * k[lane]
            curvature = curvature if curvature > CURVATURE else CURVATURE
            gain = slope * slope / curvature
            better = gain >= best[lane]  # among equals the last, as libsvm
            best[lane] = gain if better else best[lane]
            place[lane] = start if better else place[lane]
    top = _last_of_largest(best, place)
    return place[top] + top if best[top] > 0.0 else -1


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _move(F: Any, Ki: Any, Kj: Any, t: float, up: Any, low: Any, best: Any, place: Any, least: Any) -> Any:
    """Update F after a step; returns the up variable with the largest F, and the violation ``max F[up] - min F[low]``."""
    for lane in range(LANES):
        best[lane] = -NEVER
        least[lane] = NEVER
        place[lane] = 0
    for start in range(0, len(F), LANES):
        f, a, b = F[start : start + LANES], Ki[start : start + LANES], Kj[start : start + LANES]
        never, nor = up[start : start + LANES], low[start : start + LANES]
        for lane in range(LANES):
            value = f[lane] - t * (a[lane] - b[lane])
            f[lane] = value
            below = value + nor[lane]
            least[lane] = below if below < least[lane] else least[lane]
            value = value - never[lane]
            better = value >= best[lane]
            best[lane] = value if better else best[lane]
            place[lane] = start if better else place[lane]
    top = _last_of_largest(best, place)
    bottom = least[0]
    for lane in range(LANES):
        if least[lane] < bottom:
            bottom = least[lane]
    return place[top] + top, best[top] - bottom


@numba.njit(cache=True, nogil=True)
def _mark(t: int, beta: Any, lo: Any, hi: Any, up: Any, low: Any) -> None:
    up[t] = 0.0 if beta[t] < hi[t] else NEVER
    low[t] = 0.0 if beta[t] > lo[t] else NEVER


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _product(x: Any, right: Any, row: Any) -> None:
    """``row = x @ right``."""
    row[:] = x[0] * right[0]
    for k in range(1, len(x)):
        a, b = x[k], right[k]
        for t in range(len(row)):
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
def _ready(K: Any, i: int, missing: Any, left: Any, right: Any, kind: int, numbers: Any, row: Any) -> None:
    """Row ``i`` of the matrix, if it was not asked for before."""
    if missing[i]:
        missing[i] = False
        _product(left[i], right, row)
        _finish(row, kind, numbers[0], numbers[1], int(numbers[2]))
        K[i] = row


@numba.njit(cache=True, nogil=True)
def _smo(
    K: Any, diagonal: Any, missing: Any, left: Any, right: Any, kind: int, numbers: Any, F: Any, beta: Any, lo: Any,
    hi: Any, tol: float, max_steps: int,
) -> Any:  # fmt: skip
    q = len(F)
    up, low = np.empty(q), np.empty(q)
    for t in range(q):
        _mark(t, beta, lo, hi, up, low)
    best, least, place = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    row = np.empty(K.shape[1], dtype=right.dtype)
    _ready(K, 0, missing, left, right, kind, numbers, row)
    i, violation = _move(F, K[0], K[0], 0.0, up, low, best, place, least)
    steps = 0
    while violation >= tol and steps < max_steps:
        _ready(K, i, missing, left, right, kind, numbers, row)
        j = _second(F, low, diagonal, K[i], F[i], diagonal[i], best, place)
        if j < 0:
            break
        _ready(K, j, missing, left, right, kind, numbers, row)
        curvature = max(diagonal[i] + diagonal[j] - 2 * K[i, j], CURVATURE)
        t = min((F[i] - F[j]) / curvature, hi[i] - beta[i], beta[j] - lo[j])
        # Bounds are met to the bit: what is at its bound must not be taken for free.
        beta[i] = hi[i] if t == hi[i] - beta[i] else beta[i] + t
        beta[j] = lo[j] if t == beta[j] - lo[j] else beta[j] - t
        _mark(i, beta, lo, hi, up, low)
        _mark(j, beta, lo, hi, up, low)
        i, violation = _move(F, K[i], K[j], t, up, low, best, place, least)
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
    missing: Array
    """(q,) rows not computed yet"""
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
        lazy = Lazy(nothing, nothing, np.zeros(q, dtype=np.bool_), K.diagonal()[:q])
    wide[4, :q] = lazy.diagonal
    steps, violation = _smo(
        K, wide[4], lazy.missing, lazy.left, lazy.right, lazy.kind, lazy.numbers, wide[0], wide[1], wide[2], wide[3],
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
