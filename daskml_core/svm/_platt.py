"""Platt scaling: decisions of a machine as probabilities.

Source: Platt 1999; Lin, Lin and Weng 2007 for the Newton iteration and its targets. As in libsvm, but weighted.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from daskml_core.sweep import Array


def platt(f: Array, first: Array, weight: Array) -> tuple[float, float]:
    """A and B of ``P(first class | f) = 1 / (1 + exp(A f + B))``.

    f (rows,) decisions of rows that the machine was not trained on; first (rows,) bool; weight (rows,).

    >>> f = np.linspace(-3, 3, 61)
    >>> A, B = platt(f, f > 0, np.ones(61))
    >>> A < 0, abs(B) < 0.2
    (True, True)
    """
    n_first, n_second = float(weight @ first), float(weight @ ~first)
    target = np.where(first, (n_first + 1) / (n_first + 2), 1 / (n_second + 2))
    A, B = 0.0, float(np.log((n_second + 1) / (n_first + 1)))
    value = _loss(f, target, weight, A, B)
    for _ in range(100):
        p = expit(-(A * f + B))
        d1, d2 = weight * (target - p), weight * p * (1 - p)
        h11, h12, h22 = float(d2 @ (f * f)) + 1e-12, float(d2 @ f), float(d2.sum()) + 1e-12
        g1, g2 = float(d1 @ f), float(d1.sum())
        if max(abs(g1), abs(g2)) < 1e-5:
            break
        det = h11 * h22 - h12 * h12
        dA, dB = -(h22 * g1 - h12 * g2) / det, -(h11 * g2 - h12 * g1) / det
        slope, step = g1 * dA + g2 * dB, 1.0
        while step >= 1e-10:
            new = _loss(f, target, weight, A + step * dA, B + step * dB)
            if new < value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        A, B, value = A + step * dA, B + step * dB, new
    return A, B


def _loss(f: Array, target: Array, weight: Array, A: float, B: float) -> float:
    z = A * f + B
    return float(weight @ (target * z + np.logaddexp(0, -z)))
