"""Steps along a direction, several lengths tried in one sweep."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.sweep import Array

SUFFICIENT_DECREASE = 1e-4

HALVES = 0.5 ** np.arange(1, 11)
"""Parts of a failed step that are tried together."""

FAR = 0.5 ** np.array([*range(1, 11), 14, 19, 25])
"""The same where nearly all rows may be beyond their kink: such steps are far too long."""


SHORT = 1e-6
"""Relative length of steps that are taken although the objective shows no decrease."""


def noise(objective: Objective, value: float) -> float:
    """Change of the objective that rounding of the rows' values can cause: its error, not that of its optimum."""
    return 1e-2 * np.sqrt(objective.rounding) * max(1.0, abs(value))


def is_negligible(objective: Objective, decrease: float, value: float) -> bool:
    """Whether a promised decrease is beyond what the data's precision can show."""
    return decrease <= objective.rounding * max(1.0, abs(value))


def short_step(theta: Array, step: Array) -> Array:
    """The end of a step that is too small for the objective to show, taken where it is short, and not looked at again.

    Values have half the digits that their minimiser has: where they differ by rounding alone, at 1e-17 relatively, theta
    is known to 3e-9, and a gradient tells more. A long step there goes along a flat valley, and is left.
    """
    short = np.abs(step).max(initial=0.0) <= SHORT * max(1.0, float(np.abs(theta).max(initial=0.0)))
    return theta + step if short else theta


def backtrack(objective: Objective, theta: Array, step: Array, value: float, slope: float, order: int) -> Asks:
    """The point to go on from along ``step``, and its evaluation; ``(None, None)`` when no length lowers the objective.

    ``slope`` is the directional derivative at ``theta``. The unit step comes first, in one sweep with all that the next
    iteration needs. Should it fail, shorter ones are tried together in one more.
    """
    point = theta + step
    trial: Evaluation = yield from objective.evaluate(point, order)
    if _sufficient(objective, trial, step, value, slope):
        return point, trial
    lengths = FAR if objective.overshoots else HALVES
    if not np.isfinite(trial.value):
        lengths = 0.5 ** np.arange(1, 31, 3)
    # With their gradients: some columns more of a product, and the chosen point needs no sweep of its own. So many
    # Hessians would cost more than that.
    points = [theta + t * step for t in lengths]
    trials: list[Evaluation] = yield from objective.evaluate_many(points, 1 if order == 1 else 0)
    values = np.array([e.value for e in trials])
    values[~np.isfinite(values)] = np.inf
    best = int(np.argmin(values))
    if values[best] >= value:
        return None, None
    if order > 1:
        trials[best] = yield from objective.evaluate(points[best], order)
    return points[best], trials[best]


def _sufficient(objective: Objective, trial: Evaluation, step: Array, value: float, slope: float) -> bool:
    """Whether a trial lowers the objective enough (Armijo), or flattens it where values differ by rounding alone.

    The second is the approximate Wolfe condition of Hager and Zhang (2005, equation 4.1): near the optimum the gradient
    still tells down from up when the values no longer do. With an l1 part there is no such slope.
    """
    assert trial.grad is not None
    if not (np.isfinite(trial.value) and np.isfinite(trial.grad).all()):
        return False
    if trial.value <= value + SUFFICIENT_DECREASE * slope:
        return True
    if objective.penalty.l1:
        return bool(trial.value <= value + noise(objective, value))
    flat = 0.9 * slope <= float(trial.grad @ step) <= (2 * SUFFICIENT_DECREASE - 1) * slope
    return flat and bool(trial.value <= value + 1e-6 * abs(value))


def stationarity(objective: Objective, theta: Array, grad: Array) -> float:
    """Largest entry of the smallest subgradient; what ``tol`` is compared with, as in scikit-learn's lbfgs."""
    penalised = objective.penalised()
    smallest = np.where(penalised, objective.penalty.min_norm_subgradient(theta, grad), grad)
    return float(np.abs(smallest).max(initial=0.0))


def record(state: Any, **extra: float) -> dict[str, Any]:
    """A row of the history, the same columns for every solver."""
    return {"n_iter": state.n_iter, "loss": state.value, "grad_norm": state.grad_norm, "step": state.step} | extra
