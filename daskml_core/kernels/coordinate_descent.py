"""Coordinate descent on a small dense quadratic with an l1 penalty: no data, only its d x d matrix."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from daskml_core.sweep import Array


@numba.njit(cache=True, nogil=True)
def _descend(
    Q: Any, q: Any, l1: Any, w: Any, max_iter: int, tol: float, positive: bool
) -> int:  # pragma: no cover - compiled
    p = len(w)
    g = Q @ w + q
    for sweep in range(max_iter):
        worst = 0.0
        for j in range(p):
            h = Q[j, j]
            if h <= 0.0:
                continue
            z = w[j] - g[j] / h
            cut = l1[j] / h
            new = 0.0
            if z > cut:
                new = z - cut
            elif z < -cut and not positive:
                new = z + cut
            elif l1[j] == 0.0 and not positive:
                new = z
            if l1[j] == 0.0 and positive and z > 0.0:
                new = z
            delta = new - w[j]
            if delta != 0.0:
                w[j] = new
                for i in range(p):
                    g[i] += delta * Q[i, j]
                worst = max(worst, abs(delta) * h)
        if worst <= tol:
            return sweep + 1
    return max_iter


def minimise_quadratic(
    Q: Array, q: Array, l1: Array, w0: Array, *, tol: float, max_iter: int = 10_000, positive: bool = False
) -> Array:
    """``argmin_w  w'Qw / 2 + q'w + sum_j l1_j |w_j|`` by cyclic coordinate descent (Friedman et al. 2010).

    Q (p, p) positive semi-definite; q, l1 and w0 (p,). ``tol`` bounds the change of the gradient by any single
    coordinate in the last pass.
    """
    w = np.array(w0, dtype=np.float64)
    _descend(
        np.ascontiguousarray(Q, dtype=np.float64),
        q.astype(np.float64),
        l1.astype(np.float64),
        w,
        max_iter,
        tol,
        positive,
    )
    return w
