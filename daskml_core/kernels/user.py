"""A user's own value and gradient, as a kernel; parameters may be one array or a dict of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from daskml_core.sweep import Array, Block, Kernel

ValueAndGrad = Callable[[Any, Any, Any], tuple[float, Any]]


class Layout(NamedTuple):
    """How parameters lie in a flat vector."""

    names: tuple[str, ...] | None
    shapes: tuple[tuple[int, ...], ...]

    def pack(self, w: Any) -> Array:
        """Flat float64 vector of an array, or of a dict's arrays in the order of the start point's keys."""
        parts = [w] if self.names is None else [w[name] for name in self.names]
        for part, shape in zip(parts, self.shapes, strict=True):
            if np.shape(part) != shape:
                raise ValueError(f"A gradient has shape {np.shape(part)} where its parameter has {shape}.")
        return np.concatenate([np.ravel(np.asarray(part, dtype=np.float64)) for part in parts])

    def unpack(self, theta: Array) -> Any:
        """The parameters as the user gave them."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = [p.reshape(s) for p, s in zip(np.split(theta, np.cumsum(sizes)[:-1]), self.shapes, strict=True)]
        return parts[0] if self.names is None else dict(zip(self.names, parts, strict=True))


def layout_of(w: Any) -> Layout:
    """Layout of a start point."""
    if isinstance(w, Mapping):
        return Layout(tuple(w), tuple(np.shape(value) for value in w.values()))
    return Layout(None, (np.shape(w),))


class UserParams(NamedTuple):
    """Points (n_points, p) at which to evaluate the user's function."""

    thetas: Array
    function: ValueAndGrad
    layout: Layout


class UserPartial(NamedTuple):
    """Summed values (n_points,), gradients (n_points, p), and rows."""

    value: Array
    grad: Array
    n_rows: int


def user_loss(block: Block, params: UserParams) -> UserPartial:
    """The user's sums over one block."""
    value, grad = np.zeros(len(params.thetas)), np.zeros_like(params.thetas)
    if block.n_rows:
        for j, theta in enumerate(params.thetas):
            v, g = params.function(params.layout.unpack(theta), block.X, block.y)
            value[j], grad[j] = float(v), params.layout.pack(g)
    return UserPartial(value, grad, block.n_rows)


class UserStep(NamedTuple):
    """Settings of mini-batch descent on a user's function."""

    function: ValueAndGrad
    layout: Layout
    learning_rate: float
    decay: float
    momentum: float
    batch_size: int
    l2: float
    seed: int
    epoch: int


class UserCarry(NamedTuple):
    """Where mini-batch descent stands."""

    theta: Array
    velocity: Array
    t: int
    sum_loss: float
    n_rows: int


def user_sgd(block: Block, request: tuple[UserStep, UserCarry]) -> UserCarry:
    """Mini-batch steps over one block, rows in an order drawn from ``[seed, epoch, block]``."""
    p, carry = request
    theta, velocity = carry.theta.copy(), carry.velocity.copy()
    t, total = carry.t, carry.sum_loss
    order = np.random.default_rng([p.seed, p.epoch, block.number]).permutation(block.n_rows)
    for lo in range(0, len(order), p.batch_size):
        rows = order[lo : lo + p.batch_size]
        y = None if block.y is None else block.y[rows]
        value, grad = p.function(p.layout.unpack(theta), block.X[rows], y)
        rate = p.learning_rate / (1 + p.decay * t)
        velocity = p.momentum * velocity - rate * (p.layout.pack(grad) / len(rows) + p.l2 * theta)
        theta = theta + velocity
        total += float(value)
        t += 1
    return UserCarry(theta, velocity, t, total, carry.n_rows + len(order))


def _workspace(n_rows: int, n_features: int, params: Any) -> int:
    # What a user's function takes cannot be known: predictions, residuals and two more numbers a row are counted.
    return 4 * 8 * n_rows


USER_LOSS = Kernel(user_loss, "user-gradient", _workspace)
USER_SGD = Kernel(
    user_sgd, "user-sgd", lambda n, d, p: 8 * n + _workspace(p.batch_size, d, p) + 8 * d * min(n, p.batch_size)
)
