"""Huber's regression with its scale estimated together with the coefficients (Owen 2007), one block at a time.

With r = x w + b - y the loss of a row is ``sigma + r**2 / sigma`` where ``|r| <= epsilon sigma`` and
``sigma + 2 epsilon |r| - epsilon**2 sigma`` beyond; it is jointly convex in (w, b, sigma).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel


class HuberParams(NamedTuple):
    """theta (d + 2, n_points): coefficients, intercept and scale, one column a point."""

    thetas: Array
    epsilon: float
    fit_intercept: bool
    order: int


class HuberPartial(NamedTuple):
    """Sums over rows; ``value`` (n_points,), ``grad`` (d + 2, n_points), ``hess`` (n_points, d + 2, d + 2)."""

    value: Array
    grad: Array
    hess: Array | None


def huber_loss(block: Block, params: HuberParams) -> HuberPartial:
    """Summed loss and derivatives in (w, b, sigma), float64; reads X once."""
    thetas, epsilon, fit_intercept, order = params
    p, m = thetas.shape
    value, grad = np.zeros(m), np.zeros((p, m))
    hess = np.zeros((m, p, p)) if order > 1 else None
    step = tile_rows(p, 8)
    for lo in range(0, block.n_rows, step):
        rows = slice(lo, lo + step)
        x, y = block.X[rows].astype(np.float64), block.y[rows]
        s = np.ones(len(x)) if block.weight is None else block.weight[rows]
        A = np.column_stack([x, np.full(len(x), float(fit_intercept)), np.zeros(len(x))])
        for j in range(m):
            sigma = thetas[-1, j]
            r = A[:, :-1] @ thetas[:-1, j] - y
            inner = np.abs(r) <= epsilon * sigma
            tail = 2 * epsilon * np.abs(r) - epsilon**2 * sigma
            value[j] += s @ (sigma + np.where(inner, r * r / sigma, tail))
            if not order:
                continue
            slope = np.where(inner, 2 * r / sigma, 2 * epsilon * np.sign(r))
            grad[:-1, j] += np.dot(A[:, :-1].T, s * slope)
            grad[-1, j] += s @ (1 - np.where(inner, (r / sigma) ** 2, epsilon**2))
            if hess is not None:
                B = A[inner]
                B[:, -1] = -r[inner] / sigma
                hess[j] += 2 / sigma * np.dot(B.T, s[inner, None] * B)
    return HuberPartial(value, grad, hess)


HUBER_LOSS = Kernel(
    huber_loss,
    lambda p: f"huber-{('loss', 'gradient', 'hessian')[p.order]}",
    lambda n, d, p: 4 * 8 * (d + 2) * min(n, 8192),
    lambda d, p: 8 * (d + 2) * p.thetas.shape[1] * (1 + (d + 2 if p.order > 1 else 0)),
)
