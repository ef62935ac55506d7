"""One model of a batch: its parts, its neighbours on the path of settings, and which of those are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskml_core.linear_model._data import TrainingSet
from daskml_core.objective import Evaluation, LinearObjective
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
        return estimator._stopping()
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
    machine = () if objective.classes is None else tuple(map(float, np.concatenate(objective.classes)))
    intercept = objective.intercept_scaling or 0.0
    stop = stopping(job.estimator)[:2]
    return ((repr(objective.loss), machine), objective.size, weights, intercept, objective.penalty.l1 > 0, *stop)


def of_one_kind(a: Job, b: Job) -> bool:
    """Whether two jobs on the same rows differ in the strength of their smooth penalty alone."""
    one = a.objective is not None and b.objective is not None and not b.objective.penalty.l1
    return one and _kind(a) == _kind(b)


def of_one_loss(a: Job, b: Job) -> bool:
    """Whether two jobs' losses and parameters are the same, so that their Hessians can be compared."""
    return _kind(a)[:4] == _kind(b)[:4]


def other_penalty(one: LinearObjective, other: LinearObjective, at: Any) -> Evaluation:
    """What a state of one objective tells of another whose smooth penalty differs: the loss and its derivatives stay."""
    l2, penalised = other.penalty.l2 - one.penalty.l2, other.penalised()
    weaker = l2 * np.where(penalised, at.theta, 0.0)
    hess = at.hess + np.diag(l2 * penalised) if hasattr(at, "hess") else None
    return Evaluation(at.value + 0.5 * float(weaker @ at.theta), at.grad + weaker, hess)


def alike(lead: Job, job: Job, at: tuple[Array, Array]) -> bool:
    """Whether two settings' gradients at the first one's solution differ by nothing that the tolerance would notice.

    Of smooth penalties; with an l1 part the coefficients that are zero differ, and those should be each setting's own.
    """
    if not of_one_kind(lead, job):
        return False
    assert lead.objective is not None and job.objective is not None
    theta = job.objective.scaled(*at)
    weaker = abs(job.objective.penalty.l2 - lead.objective.penalty.l2)
    largest = float(np.abs(theta[job.objective.penalised()]).max(initial=0.0))
    return weaker * largest <= ALIKE * stopping(job.estimator)[0]
