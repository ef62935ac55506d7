"""L-BFGS with a metric: limited-memory quasi-Newton steps that start from a given inverse Hessian.

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5. Deviation: the initial inverse
Hessian is not a multiple of the identity but a *metric*, either the diagonal of an upper bound of the Hessian, or the
Hessian of a sample of rows; with the latter, two or three gradient sweeps are enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.solvers.linesearch import backtrack, is_negligible, record, short_step, stationarity
from daskml_core.solvers.newton import solve_spd
from daskml_core.sweep import Array
from daskml_core.validate import positive_integer


@dataclass(frozen=True)
class LBFGSState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    value: float
    grad: Array
    metric: Array
    """(p,) diagonal or (p, p) matrix, an approximation of the Hessian."""
    grad_norm: float
    pairs: tuple[tuple[Array, Array], ...] = ()
    """Last steps s and gradient differences y."""
    n_iter: int = 0
    step: float = 0.0
    converged: bool = False
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        return record(self)


def apply_metric(metric: Array, vector: Array) -> Array:
    """``metric^-1 vector``."""
    return vector / metric if metric.ndim == 1 else solve_spd(metric, vector)


def two_loop(state: LBFGSState) -> Array:
    """The quasi-Newton direction, algorithm 7.4."""
    q = state.grad.copy()
    alphas = []
    for s, y in reversed(state.pairs):
        alpha = (s @ q) / (s @ y)
        q -= alpha * y
        alphas.append(alpha)
    r = apply_metric(state.metric, q)
    if state.pairs and state.metric.ndim == 1:
        # A diagonal bound is a rough metric: scale it by the newest curvature (equation 7.20). A sample's Hessian is
        # already in the right units.
        s, y = state.pairs[-1]
        r *= (s @ y) / (y @ apply_metric(state.metric, y))
    for (s, y), alpha in zip(state.pairs, reversed(alphas), strict=True):
        r += (alpha - (y @ r) / (s @ y)) * s
    return -r


def lbfgs(
    objective: Objective,
    theta: Array | None = None,
    state: LBFGSState | None = None,
    *,
    metric: Array | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
    memory: int = 10,
) -> Asks:
    """Minimise a smooth objective; one gradient sweep an iteration. Returns the last `LBFGSState`.

    Parameters
    ----------
    theta : where to start; or ``state``, to go on from.
    metric : approximation of the Hessian, (p,) or (p, p); by default a diagonal bound found with the first gradient.
    memory : number of pairs kept.
    """
    positive_integer("memory", memory)
    if state is None:
        assert theta is not None
        if metric is None:
            first, metric = yield from objective.curvature_diagonal(theta)
        else:
            first = yield from objective.evaluate(theta)
        assert metric is not None
        state = lbfgs_state(objective, theta, first, tol, metric, ())
    while True:
        stop = yield state
        if stop or state.converged or state.stalled or state.n_iter >= max_iter:
            return state
        step = two_loop(state)
        slope = float(step @ state.grad)
        if slope >= 0:
            state = replace(state, pairs=())
            step = two_loop(state)
            slope = float(step @ state.grad)
        if is_negligible(objective, -slope, state.value):
            return replace(state, theta=short_step(state.theta, step), converged=True)
        point, trial = yield from backtrack(objective, state.theta, step, state.value, slope, order=1)
        if point is None:
            # A fresh start along the metric's own direction before giving up.
            state = replace(state, pairs=(), stalled=not state.pairs)
            continue
        s, y = point - state.theta, trial.grad - state.grad
        pairs = state.pairs
        if s @ y > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
            pairs = (*pairs, (s, y))[-memory:]
        moved = float(np.abs(s).max())
        state = lbfgs_state(objective, point, trial, tol, state.metric, pairs, state.n_iter + 1, moved)


def lbfgs_state(
    objective: Objective,
    theta: Array,
    at: Evaluation,
    tol: float,
    metric: Array,
    pairs: tuple[tuple[Array, Array], ...] = (),
    n_iter: int = 0,
    step: float = 0.0,
) -> LBFGSState:
    """A state from an evaluation of order 1."""
    assert at.grad is not None
    grad_norm = stationarity(objective, theta, at.grad)
    return LBFGSState(theta, at.value, at.grad, metric, grad_norm, pairs, n_iter, step, grad_norm <= tol)
