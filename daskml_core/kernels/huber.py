"""Huber's regression with its scale estimated together with the coefficients (Owen 2007), one block at a time.

With r = x w + b - y the loss of a row is ``sigma + r**2 / sigma`` where ``|r| <= epsilon sigma`` and
``sigma + 2 epsilon |r| - epsilon**2 sigma`` beyond; it is jointly convex in (w, b, sigma).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.linear import FoldMask, tile_rows
from daskml_core.sweep import Array, Block, Kernel


class HuberParams(NamedTuple):
    """theta (d + 2, n_points): coefficients, intercept and scale, one column a point."""

    thetas: Array
    epsilon: float | Array
    """The same for all points, or each point's own (n_points,)."""
    fit_intercept: bool
    order: int
    folds: FoldMask | None = None
    """How much of each row a point sees."""


class HuberPartial(NamedTuple):
    """Sums over rows; ``value`` (n_points,), ``grad`` (d + 2, n_points), ``hess`` (n_points, d + 2, d + 2)."""

    value: Array
    grad: Array
    hess: Array | None


def huber_loss(block: Block, params: HuberParams) -> HuberPartial:
    """Summed loss and derivatives in (w, b, sigma), float64; reads X once."""
    thetas, _, fit_intercept, order, folds = params
    p, m = thetas.shape
    epsilons = np.broadcast_to(np.asarray(params.epsilon, dtype=np.float64), (m,))
    place = None if folds is None else folds.rows(block)
    table = None if folds is None else folds.table(np.float64)
    value, grad = np.zeros(m), np.zeros((p, m))
    hess = np.zeros((m, p, p)) if order > 1 else None
    step = tile_rows(p, 8)
    for lo in range(0, block.n_rows, step):
        rows = slice(lo, lo + step)
        x, y = block.X[rows].astype(np.float64), block.y[rows]
        weight = np.ones(len(x)) if block.weight is None else block.weight[rows]
        A = np.column_stack([x, np.full(len(x), float(fit_intercept)), np.zeros(len(x))])
        for j in range(m):
            sigma, epsilon = thetas[-1, j], epsilons[j]
            s = weight if table is None or place is None else weight * table[place[rows], j]
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


def _stack(requests: Sequence[HuberParams]) -> HuberParams:
    first = requests[0]
    folds = None
    if first.folds is not None:
        folds = first.folds._replace(weight=np.concatenate([p.folds.weight for p in requests if p.folds], axis=-1))
    epsilon = np.concatenate([np.broadcast_to(p.epsilon, (p.thetas.shape[1],)) for p in requests])
    return first._replace(thetas=np.hstack([p.thetas for p in requests]), epsilon=epsilon, folds=folds)


def _split(partial: HuberPartial, requests: Sequence[HuberParams]) -> list[HuberPartial]:
    stops = np.cumsum([p.thetas.shape[1] for p in requests])
    places = [slice(int(stop) - p.thetas.shape[1], int(stop)) for p, stop in zip(requests, stops, strict=True)]
    hess = partial.hess
    return [
        HuberPartial(partial.value[k].copy(), partial.grad[:, k].copy(), None if hess is None else hess[k].copy())
        for k in places
    ]


def _stack_key(params: HuberParams) -> Any:
    return (params.fit_intercept, params.order, None if params.folds is None else params.folds.cell_of)


HUBER_LOSS = Kernel(
    huber_loss,
    lambda p: f"huber-{('loss', 'gradient', 'hessian')[p.order]}",
    lambda n, d, p: 4 * 8 * (d + 2) * min(n, 8192),
    lambda d, p: 8 * (d + 2) * p.thetas.shape[1] * (1 + (d + 2 if p.order > 1 else 0)),
    stack=_stack,
    split=_split,
    stack_key=_stack_key,
)
