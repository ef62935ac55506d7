"""One model of a batch: its parts, its neighbours on the path of settings, and which of those are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskml_core.linear_model._data import TrainingSet
from daskml_core.objective import LinearObjective
from daskml_core.sweep import Array

ALIKE = 0.1
"""Settings whose gradients at one point differ by less than this part of the tolerance share their sweeps."""


@dataclass(eq=False)
class Job:
    """One model to train: an estimator with its parameters set, on the training rows of one split."""

    estimator: Any
    setting: int
    split: int
    """-1 for all rows."""
    cells: Array
    """(n_cells,) bool, the training cells."""
    data: TrainingSet | None = None
    factors: Array | None = None
    """(n_classes,) class weights."""
    scaler: Any = None
    objective: LinearObjective | None = None
    theta: Array | None = None
    state: Any = None
    history: Sequence[dict[str, Any]] = ()


def stopping(estimator: Any) -> tuple[float, int, Any]:
    """Tolerance, iterations and solver options of an estimator."""
    if hasattr(estimator, "_stopping"):
        return estimator._stopping()  # type: ignore[no-any-return]
    return float(estimator.tol), int(estimator.max_iter), estimator.solver_options


def by_strength(job: Job) -> tuple[Any, ...]:
    """Alike problems are neighbours, the strongest penalty first: there the start at zero is close."""
    objective = job.objective
    assert objective is not None
    penalty = objective.penalty
    return (*_kind(job)[:5], -(penalty.l1 + penalty.l2), job.setting)


def _kind(job: Job) -> tuple[Any, ...]:
    """Jobs of one kind differ in the strength of their penalty alone."""
    objective = job.objective
    assert objective is not None
    weights = repr(getattr(job.estimator, "class_weight", None))
    intercept = objective.intercept_scaling or 0.0
    stop = stopping(job.estimator)[:2]
    return (repr(objective.loss), objective.size, weights, intercept, objective.penalty.l1 > 0, *stop)


def alike(lead: Job, job: Job, at: tuple[Array, Array]) -> bool:
    """Whether two settings' gradients at the first one's solution differ by nothing that the tolerance would notice.

    Of smooth penalties; with an l1 part the coefficients that are zero differ, and those should be each setting's own.
    """
    if _kind(lead) != _kind(job) or job.objective is None or lead.objective is None or job.objective.penalty.l1:
        return False
    theta = job.objective.scaled(*at)
    weaker = abs(job.objective.penalty.l2 - lead.objective.penalty.l2)
    largest = float(np.abs(theta[job.objective.penalised()]).max(initial=0.0))
    return weaker * largest <= ALIKE * stopping(job.estimator)[0]
