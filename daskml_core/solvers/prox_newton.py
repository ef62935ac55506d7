"""Proximal Newton for l1 penalties: a quadratic model minimised by coordinate descent in d x d, then a line search.

Source: Lee, Sun and Saunders 2014, algorithm 1; the subproblem by cyclic coordinate descent (Friedman et al. 2010).
About 6 sweeps with exact Hessians, 3-4 gradient sweeps with the Hessian of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.kernels.coordinate_descent import minimise_quadratic
from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.solvers.linesearch import backtrack, is_negligible, record, stationarity
from daskml_core.sweep import Array

SLOW = 0.5
"""A fixed Hessian that lowers the stationarity by less than this factor is replaced by exact ones."""


@dataclass(frozen=True)
class ProxNewtonState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    value: float
    grad: Array
    hess: Array
    fixed: bool
    """Whether ``hess`` is a sample's, and only gradients are asked of the data."""
    grad_norm: float
    n_iter: int = 0
    step: float = 0.0
    converged: bool = False
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        return record(self)


def prox_newton(
    objective: Objective,
    theta: Array | None = None,
    state: ProxNewtonState | None = None,
    *,
    metric: Array | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
) -> Asks:
    """Minimise an objective with an l1 part; one sweep an iteration. Returns the last `ProxNewtonState`.

    Parameters
    ----------
    metric : a fixed approximation of the Hessian (p, p); exact Hessians by default, and as soon as it serves badly.
    """
    if state is None:
        assert theta is not None
        first: Evaluation = yield from objective.evaluate(theta, order=1 if metric is not None else 2)
        hess = metric if metric is not None else first.hess
        assert hess is not None
        state = prox_newton_state(objective, theta, first, tol, hess, metric is not None)
    while True:
        stop = yield state
        if stop or state.converged or state.stalled or state.n_iter >= max_iter:
            return state
        step, model_decrease = _direction(objective, state, tol)
        if is_negligible(objective, model_decrease, state.value):
            return replace(state, converged=True)
        order = 1 if state.fixed else 2
        point, trial = yield from backtrack(objective, state.theta, step, state.value, -model_decrease, order)
        if point is None:
            if not state.fixed:
                state = replace(state, stalled=True)
                continue
            exact: Evaluation = yield from objective.evaluate(state.theta, order=2)
            assert exact.hess is not None
            state = replace(state, hess=exact.hess, fixed=False, n_iter=state.n_iter + 1)
            continue
        moved = float(np.abs(point - state.theta).max())
        hess = state.hess if state.fixed else trial.hess
        previous = state.grad_norm
        state = prox_newton_state(objective, point, trial, tol, hess, state.fixed, state.n_iter + 1, moved)
        if state.fixed and not state.converged and state.n_iter > 1 and state.grad_norm > SLOW * previous:
            exact = yield from objective.evaluate(state.theta, order=2)
            assert exact.hess is not None
            state = replace(state, hess=exact.hess, fixed=False)


def _direction(objective: Objective, state: ProxNewtonState, tol: float) -> tuple[Array, float]:
    """Step to the minimum of the quadratic model, and the decrease that the model promises."""
    penalised = objective.penalised()
    l1 = np.where(penalised, objective.penalty.l1, 0.0)
    q = state.grad - state.hess @ state.theta
    target = minimise_quadratic(
        state.hess, q, l1, state.theta, tol=min(0.1 * tol, 0.01 * state.grad_norm), max_iter=5000
    )
    step = target - state.theta
    change = float(l1 @ (np.abs(target) - np.abs(state.theta)))
    return step, -(float(state.grad @ step) + change)


def prox_newton_state(
    objective: Objective,
    theta: Array,
    at: Evaluation,
    tol: float,
    hess: Array,
    fixed: bool,
    n_iter: int = 0,
    step: float = 0.0,
) -> ProxNewtonState:
    assert at.grad is not None
    grad_norm = stationarity(objective, theta, at.grad)
    return ProxNewtonState(theta, at.value, at.grad, hess, fixed, grad_norm, n_iter, step, grad_norm <= tol)
