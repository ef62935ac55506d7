"""Stochastic gradient descent through the rows of one block, starting from another block's weights.

The update is scikit-learn's: one row at a time by default, l2 by shrinking the weights (a lazily kept scale), l1 by the
cumulative truncated gradient (Tsuruoka, Tsujii and Ananiadou 2009), averages as in Polyak and Juditsky 1992.

Conventions: m models share the rows; y holds class codes, or numbers for a regression. One-against-rest model j has the
positive class ``j``, or 1 where there is one model; the multinomial model's m columns are its classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.sweep import Array, Block, Kernel

LOSSES = {
    "hinge": 0,
    "squared_hinge": 1,
    "log_loss": 2,
    "modified_huber": 3,
    "perceptron": 4,
    "squared_error": 5,
    "huber": 6,
    "epsilon_insensitive": 7,
    "squared_epsilon_insensitive": 8,
    "poisson": 9,
    "multinomial": 10,
}
CLASSIFICATION = ("hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron")
SCHEDULES = {"constant": 0, "optimal": 1, "invscaling": 2, "adaptive": 3}


class SGDParams(NamedTuple):
    """Settings of a fit, and the epoch."""

    loss: int
    epsilon: float
    alpha: float
    """Strength of the penalty, and what the "optimal" schedule is computed from."""
    penalised: bool
    l1_ratio: float
    schedule: int
    power_t: float
    fit_intercept: bool
    average_from: float
    """Update from which averages are kept; 0 for never."""
    batch_size: int
    shuffle: bool
    seed: int
    epoch: int
    classes: int
    """Number of classes; 0 for a regression."""
    class_factors: Array | None = None
    """(m, 2) weight of the rest and of the positive class in each one-against-rest model."""


class SGDCarry(NamedTuple):
    """All that one block hands to the next."""

    W: Array
    """(d, m)"""
    b: Array
    """(m,)"""
    mean_W: Array
    mean_b: Array
    q: Array
    """(d, m) l1 penalty that each weight has received."""
    u: float
    """l1 penalty that each weight should have received."""
    t: float
    """Number of the next update, from 1."""
    eta: float
    sum_loss: float
    n_rows: int


@numba.njit(cache=True, nogil=True, inline="always")
def _loss_and_slope(kind: int, y: float, p: float, epsilon: float) -> Any:  # pragma: no cover - compiled
    """Loss and its derivative in p; y is -1 or 1 for the first five."""
    z = y * p
    if kind == 2:
        if z > 18:
            e = math.exp(-z)
            return e, -y * e
        if z < -18:
            return -z, -y
        e = math.exp(-z)
        return math.log1p(e), -y * e / (1.0 + e)
    if kind == 0 or kind == 4:
        threshold = 1.0 if kind == 0 else 0.0
        if z <= threshold:
            return threshold - z, -y
        return 0.0, 0.0
    if kind == 1:
        gap = 1.0 - z
        if gap > 0:
            return gap * gap, -2.0 * y * gap
        return 0.0, 0.0
    if kind == 3:
        if z >= 1.0:
            return 0.0, 0.0
        if z >= -1.0:
            return (1.0 - z) * (1.0 - z), -2.0 * y * (1.0 - z)
        return -4.0 * z, -4.0 * y
    r = p - y
    if kind == 5:
        return 0.5 * r * r, r
    if kind == 6:
        if abs(r) <= epsilon:
            return 0.5 * r * r, r
        return epsilon * (abs(r) - 0.5 * epsilon), epsilon if r > 0 else -epsilon
    if kind == 9:
        mean = math.exp(min(p, 700.0))
        return mean - y * p, mean - y
    gap = abs(r) - epsilon
    if gap <= 0:
        return 0.0, 0.0
    sign = 1.0 if r > 0 else -1.0
    if kind == 7:
        return gap, sign
    return gap * gap, 2.0 * gap * sign


@numba.njit(cache=True, nogil=True)
def _softmax(z: Any, label: int) -> float:  # pragma: no cover - compiled
    """Cross-entropy of one row; z becomes its slopes."""
    top = z.max()
    own = z[label]
    total = 0.0
    for j in range(len(z)):
        z[j] = math.exp(z[j] - top)
        total += z[j]
    for j in range(len(z)):
        z[j] /= total
    z[label] -= 1.0
    return math.log(total) + top - own


# Only the dot product may be summed in any order: with it the loop runs in vector registers, and nothing else changes.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(x: Any, v: Any) -> float:  # pragma: no cover - compiled
    total = 0.0
    for i in range(len(v)):
        total += x[i] * v[i]
    return total


@numba.njit(cache=True, nogil=True)
def _descend(
    X: Any,
    y: Any,
    s: Any,
    order: Any,
    V: Any,
    b: Any,
    mean_V: Any,
    mean_b: Any,
    q: Any,
    u: float,
    t: float,
    eta0: float,
    kind: int,
    epsilon: float,
    alpha: float,
    penalised: bool,
    l1_ratio: float,
    schedule: int,
    power_t: float,
    fit_intercept: bool,
    average_from: float,
    batch_size: int,
    binary: bool,
    regression: bool,
    factors: Any,
) -> Any:  # pragma: no cover - compiled
    """Rows in ``order``; V, mean_V and q are (m, d), changed in place. Returns (u, t, sum of losses)."""
    m, d = V.shape
    scale = np.ones(m)
    slopes = np.zeros((batch_size, m))
    total = 0.0
    n = len(order)
    optimal_start = 1.0 / (math.sqrt(1.0 / math.sqrt(alpha)) * alpha) if schedule == 1 else 0.0
    start = 0
    while start < n:
        stop = min(start + batch_size, n)
        eta = eta0
        if schedule == 1:
            eta = 1.0 / (alpha * (optimal_start + t - 1.0))
        elif schedule == 2:
            eta = eta0 / t**power_t
        for k in range(start, stop):
            i = order[k]
            x = X[i]
            weight = s[i] if len(s) > 0 else 1.0
            z = slopes[k - start]
            for j in range(m):
                z[j] = scale[j] * _dot(x, V[j]) + b[j]
            if kind == 10:
                total += _softmax(z, int(y[i]))
                for j in range(m):
                    z[j] *= weight
                continue
            for j in range(m):
                target = y[i]
                own_weight = weight
                if not regression:
                    positive = target == 1.0 if binary else target == j
                    target = 1.0 if positive else -1.0
                    if len(factors) > 0:
                        own_weight *= factors[j, 1 if positive else 0]
                loss, slope = _loss_and_slope(kind, target, z[j], epsilon)
                total += loss
                z[j] = min(max(slope, -1e12), 1e12) * own_weight
        shrink = max(0.0, 1.0 - (1.0 - l1_ratio) * eta * alpha) if penalised else 1.0
        for j in range(m):
            if shrink != 1.0:
                scale[j] *= shrink
                if scale[j] < 1e-9:
                    for f in range(d):
                        V[j, f] *= scale[j]
                    scale[j] = 1.0
            step = 0.0
            for k in range(start, stop):
                update = -eta * slopes[k - start, j] / (stop - start)
                step += update
                if update != 0.0:
                    x = X[order[k]]
                    c = update / scale[j]
                    for f in range(d):
                        V[j, f] += c * x[f]
            if fit_intercept:
                b[j] += step
        if average_from > 0 and t >= average_from:
            share = 1.0 / (t - average_from + 1.0)
            for j in range(m):
                for f in range(d):
                    mean_V[j, f] += share * (scale[j] * V[j, f] - mean_V[j, f])
                mean_b[j] += share * (b[j] - mean_b[j])
        if penalised and l1_ratio > 0.0:
            u += l1_ratio * eta * alpha
            for j in range(m):
                for f in range(d):
                    z = scale[j] * V[j, f]
                    new = z
                    if z > 0.0:
                        new = max(0.0, z - (u + q[j, f]))
                    elif z < 0.0:
                        new = min(0.0, z + (u - q[j, f]))
                    if new != z:
                        q[j, f] += new - z
                        V[j, f] = new / scale[j]
        t += 1.0
        start = stop
    for j in range(m):
        for f in range(d):
            V[j, f] *= scale[j]
    return u, t, total


def sgd_block(block: Block, request: tuple[SGDParams, SGDCarry]) -> SGDCarry:
    """The carry after one pass over a block's rows, in an order drawn from ``[seed, epoch, block]``."""
    p, carry = request
    n = block.n_rows
    if n == 0:
        return carry
    if p.shuffle:
        order = np.random.default_rng([p.seed, p.epoch, block.number]).permutation(n)
    else:
        order = np.arange(n)
    V, mean_V, q = (np.array(a.T, order="C") for a in (carry.W, carry.mean_W, carry.q))
    b, mean_b = carry.b.copy(), carry.mean_b.copy()
    s = np.zeros(0) if block.weight is None else block.weight
    y = block.y.astype(np.float64, copy=False)
    u, t, loss = _descend(
        block.X, y, s, order, V, b, mean_V, mean_b, q, carry.u, carry.t, carry.eta, p.loss, p.epsilon, p.alpha, p.penalised,
        p.l1_ratio, p.schedule, p.power_t, p.fit_intercept, p.average_from, p.batch_size, p.classes == 2,
        p.classes == 0, np.zeros((0, 2)) if p.class_factors is None else p.class_factors,
    )  # fmt: skip
    return SGDCarry(
        V.T.copy(), b, mean_V.T.copy(), mean_b, q.T.copy(), u, t, carry.eta, carry.sum_loss + loss, carry.n_rows + n
    )


def _workspace(n_rows: int, n_features: int, params: SGDParams) -> int:
    return 8 * n_rows + 3 * 8 * n_features * max(1, params.classes)


SGD_BLOCK = Kernel(sgd_block, "sgd-chain", _workspace)
