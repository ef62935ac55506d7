"""Newton's method with exact Hessians: value, gradient and Hessian at the unit step in one sweep an iteration.

Source: Nocedal and Wright, Numerical Optimization (2006), section 3.3, with backtracking. About 6 sweeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.solvers.linesearch import backtrack, is_negligible, record, short_step, stationarity
from daskml_core.sweep import Array


@dataclass(frozen=True)
class NewtonState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    value: float
    grad: Array
    hess: Array
    grad_norm: float
    n_iter: int = 0
    step: float = 0.0
    converged: bool = False
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        return record(self)


def solve_spd(hess: Array, rhs: Array) -> Array:
    """``hess^-1 rhs`` for a positive semi-definite matrix; the shortest solution where it is singular."""
    return inverse_spd(hess)(rhs)


def inverse_spd(hess: Array) -> Callable[[Array], Array]:
    """What `solve_spd` does with a right-hand side, for several of them.

    Cholesky, not lstsq: 4 times cheaper, and it is what nearly every problem allows. The scaling to a unit diagonal
    makes the test for singularity independent of the features' units.
    """
    diagonal = np.diagonal(hess).copy()
    diagonal[diagonal <= 0] = 1.0
    scale = 1.0 / np.sqrt(diagonal)
    scaled = hess * scale[:, None] * scale
    try:
        factor = linalg.cho_factor(scaled, check_finite=False)
        # An unscaled pivot near rounding means that Cholesky went through by luck.
        if np.diagonal(factor[0]).min() > 1e-7:
            return lambda rhs: np.asarray(linalg.cho_solve(factor, rhs * scale) * scale)
    except linalg.LinAlgError:
        pass
    eigenvalues, vectors = linalg.eigh(hess)
    keep = eigenvalues > 1e-12 * max(eigenvalues[-1], 0.0)
    if not keep.any():
        return np.asarray
    kept, largest = vectors[:, keep], eigenvalues[keep]
    return lambda rhs: np.asarray(kept @ ((kept.T @ rhs) / largest))


def newton(
    objective: Objective,
    theta: Array | None = None,
    state: NewtonState | None = None,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
) -> Asks:
    """Minimise a smooth objective; one sweep an iteration. Returns the last `NewtonState`.

    Stops when the largest entry of the gradient of the mean objective is at most ``tol``, or when the step cannot lower
    the objective by more than rounding.
    """
    if state is None:
        assert theta is not None
        first: Evaluation = yield from objective.evaluate(theta, order=2)
        state = newton_state(objective, theta, first, tol)
    while True:
        stop = yield state
        if stop or state.converged or state.stalled or state.n_iter >= max_iter:
            return state
        step = -solve_spd(state.hess, state.grad)
        slope = float(step @ state.grad)
        if is_negligible(objective, -slope, state.value):
            return replace(state, theta=short_step(state.theta, step), converged=True)
        point, trial = yield from backtrack(objective, state.theta, step, state.value, slope, order=2)
        if point is None:
            state = replace(state, stalled=True)
            continue
        moved = float(np.abs(point - state.theta).max())
        state = newton_state(objective, point, trial, tol, state.n_iter + 1, moved)


def newton_state(
    objective: Objective, theta: Array, at: Evaluation, tol: float, n_iter: int = 0, step: float = 0.0
) -> NewtonState:
    """A state from an evaluation of order 2."""
    assert at.grad is not None and at.hess is not None
    grad_norm = stationarity(objective, theta, at.grad)
    return NewtonState(theta, at.value, at.grad, at.hess, grad_norm, n_iter, step, grad_norm <= tol)
