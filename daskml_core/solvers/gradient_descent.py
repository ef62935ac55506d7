"""Gradient descent: distributed because the engine computes each gradient where the data lies.

One iteration is one sweep: every block gives its gradient, the partials are summed along the tree, the step is taken
here, and the new parameters go out with the next sweep.

Sources: Polyak 1964 (heavy ball); Nesterov 1983 and Beck and Teboulle 2009 (FISTA, algorithm 4 with backtracking);
O'Donoghue and Candes 2015 (restart when the momentum points uphill). Deviation: backtracking tries three rates in one
sweep, so that a rejected rate costs no sweep of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.solvers.linesearch import record, stationarity
from daskml_core.sweep import Array
from daskml_core.validate import one_of, positive, unit_interval

Momentum = Literal["none", "heavy_ball", "nesterov"]


@dataclass(frozen=True)
class GradientDescentState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    value: float
    grad: Array
    """Gradient of the smooth part at ``base``."""
    base: Array
    """Where the gradient was taken: ``theta``, or Nesterov's extrapolated point."""
    base_value: float
    rate: float
    grad_norm: float
    previous: Array | None = None
    t: float = 1.0
    """Nesterov's sequence."""
    n_iter: int = 0
    step: float = 0.0
    converged: bool = False
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        return record(self, learning_rate=self.rate)


def gradient_descent(
    objective: Objective,
    theta: Array | None = None,
    state: GradientDescentState | None = None,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    learning_rate: float | Literal["backtracking"] = "backtracking",
    momentum: Momentum = "nesterov",
    momentum_coefficient: float | None = None,
) -> Asks:
    """Minimise by (proximal) gradient steps; one sweep an iteration. Returns the last `GradientDescentState`.

    Parameters
    ----------
    learning_rate : a constant, or "backtracking".
    momentum : "none" (plain), "heavy_ball" or "nesterov".
    momentum_coefficient : of the heavy ball, below 1, 0.9 by default; Nesterov's follows its own sequence.
    """
    one_of("momentum", momentum, get_args(Momentum))
    if momentum != "heavy_ball" and momentum_coefficient is not None:
        raise ValueError(f'momentum_coefficient is of momentum="heavy_ball", not of {momentum!r}.')
    coefficient = 0.9 if momentum_coefficient is None else unit_interval("momentum_coefficient", momentum_coefficient)
    if learning_rate != "backtracking":
        learning_rate = positive("learning_rate", learning_rate)
    if state is None:
        assert theta is not None
        first: Evaluation
        if learning_rate == "backtracking":
            first, diagonal = yield from objective.curvature_diagonal(theta)
            rate = 1.0 / float(diagonal.max())
        else:
            first = yield from objective.evaluate(theta)
            rate = learning_rate
        assert first.grad is not None
        norm = stationarity(objective, theta, first.grad)
        state = GradientDescentState(
            theta, first.value, first.grad, theta, first.value, rate, norm, converged=norm <= tol
        )
    while True:
        stop = yield state
        if stop or state.converged or state.stalled or state.n_iter >= max_iter:
            return state
        factors = (1.0,) if learning_rate != "backtracking" else (2.0, 1.0, 0.25)
        state = yield from _step(objective, state, factors, momentum, coefficient, tol)


def _step(
    objective: Objective,
    state: GradientDescentState,
    factors: tuple[float, ...],
    momentum: Momentum,
    coefficient: float,
    tol: float,
) -> Asks:
    """One iteration: a proximal gradient step with the largest rate that keeps its promise, and the next gradient."""
    penalised = objective.penalised()
    t_next = (1 + np.sqrt(1 + 4 * state.t**2)) / 2
    points, bases = [], []
    for factor in factors:
        moved = state.base - factor * state.rate * state.grad
        if momentum == "heavy_ball" and state.previous is not None:
            moved += coefficient * (state.theta - state.previous)
        point = np.where(penalised, objective.penalty.prox(moved, factor * state.rate), moved)
        points.append(point)
        beta = (state.t - 1) / t_next if momentum == "nesterov" else 0.0
        bases.append(point + beta * (point - state.theta))
    # Values at the points and gradients at the places extrapolated from them, all in one sweep.
    evaluations: list[Evaluation] = yield from objective.evaluate_many([*points, *bases], order=1)
    at_points, at_bases = evaluations[: len(points)], evaluations[len(points) :]
    chosen = _largest_good_rate(state, factors, points, at_points)
    if chosen is None:
        if len(factors) == 1:
            raise ValueError(
                f"Gradient descent diverged: the objective is not finite at iteration {state.n_iter + 1} with "
                f'learning_rate={state.rate:g}. Use a smaller one, or learning_rate="backtracking".'
            )
        if state.rate < 1e-18:
            return replace(state, stalled=True)
        return replace(state, rate=state.rate * factors[-1] / 4, n_iter=state.n_iter + 1)
    point, at_point, base, at_base = points[chosen], at_points[chosen], bases[chosen], at_bases[chosen]
    uphill = momentum == "nesterov" and float((state.base - point) @ (point - state.theta)) > 0
    if uphill or not np.isfinite(at_base.value):
        base, at_base, t_next = point, at_point, 1.0
    assert at_point.grad is not None and at_base.grad is not None
    norm = stationarity(objective, point, at_point.grad)
    length = float(np.abs(point - state.theta).max())
    return GradientDescentState(
        theta=point,
        value=at_point.value,
        grad=at_base.grad,
        base=base,
        base_value=at_base.value,
        rate=state.rate * factors[chosen],
        grad_norm=norm,
        previous=state.theta,
        t=float(t_next),
        n_iter=state.n_iter + 1,
        step=length,
        converged=norm <= tol,
    )


def _largest_good_rate(
    state: GradientDescentState, factors: tuple[float, ...], points: list[Array], evaluations: list[Evaluation]
) -> int | None:
    """Number of the first (largest) rate that is no longer than the curvature along the step allows.

    The test is ``(grad(x+) - grad(y)) (x+ - y) <= |x+ - y|**2 / rate``. For a convex objective it implies the quadratic
    upper bound of Beck and Teboulle (step 2), and unlike a comparison of values it keeps its meaning when the values
    differ by rounding alone.
    """
    for i, (factor, point, at) in enumerate(zip(factors, points, evaluations, strict=True)):
        if not np.isfinite(at.value):
            continue
        if len(factors) == 1:
            return i
        d = point - state.base
        assert at.grad is not None
        if float((at.grad - state.grad) @ d) <= float(d @ d) / (factor * state.rate):
            return i
    return None
