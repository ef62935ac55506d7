"""Steps along a direction, several lengths tried in one sweep."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.objective import Asks, Evaluation, Objective
from daskml_core.sweep import Array

SUFFICIENT_DECREASE = 1e-4
ROUNDING = 1e-13
"""Differences of the objective below this part of its size are rounding, not progress."""


def noise(value: float) -> float:
    """Change of an objective of this size that rounding alone can cause."""
    return ROUNDING * max(1.0, abs(value))


def backtrack(objective: Objective, theta: Array, step: Array, value: float, slope: float, order: int) -> Asks:
    """The point to go on from along ``step``, and its evaluation; ``(None, None)`` when no length lowers the objective.

    ``slope`` is the directional derivative at ``theta``. The unit step comes first, in one sweep with all that the next
    iteration needs. Should it fail, ten shorter ones are tried together in one more.
    """
    point = theta + step
    trial: Evaluation = yield from objective.evaluate(point, order)
    if sufficient(trial, value, SUFFICIENT_DECREASE * slope):
        return point, trial
    lengths = 0.5 ** np.arange(1, 31, 3) if not np.isfinite(trial.value) else 0.5 ** np.arange(1, 11)
    trials: list[Evaluation] = yield from objective.evaluate_many([theta + t * step for t in lengths])
    values = np.array([e.value for e in trials])
    values[~np.isfinite(values)] = np.inf
    best = int(np.argmin(values))
    if not values[best] < value + noise(value) or values[best] >= value:
        return None, None
    point = theta + lengths[best] * step
    trial = yield from objective.evaluate(point, order)
    return point, trial


def sufficient(trial: Evaluation, value: float, decrease: float) -> bool:
    """Whether a trial is finite and lower by the demanded decrease, up to rounding."""
    finite = bool(np.isfinite(trial.value)) and (trial.grad is None or bool(np.isfinite(trial.grad).all()))
    return finite and trial.value <= value + decrease + noise(value)


def stationarity(objective: Objective, theta: Array, grad: Array) -> float:
    """Largest entry of the smallest subgradient; what ``tol`` is compared with, as in scikit-learn's lbfgs."""
    penalised = objective.penalised()
    smallest = np.where(penalised, objective.penalty.min_norm_subgradient(theta, grad), grad)
    return float(np.abs(smallest).max(initial=0.0))


def record(state: Any, **extra: float) -> dict[str, Any]:
    """A row of the history, the same columns for every solver."""
    return {"n_iter": state.n_iter, "loss": state.value, "grad_norm": state.grad_norm, "step": state.step} | extra
