"""One class against the rest in a batch: a linear machine of several classes is as many models as it has classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daskml_core.engine import Engine
from daskml_core.linear_model._data import TrainingSet
from daskml_core.model_selection._batch import LinearBatch
from daskml_core.model_selection._folds import Folds
from daskml_core.model_selection._job import Job
from daskml_core.objective import LinearObjective
from daskml_core.sweep import Array


class OneClass:
    """What a batch asks of an estimator, for one of a machine's classes."""

    class_weight = None
    """It weighs the class's own rows only, in the objective."""

    def __init__(self, machine: Any, number: int) -> None:
        self.machine, self.number = machine, number
        self.solver: str = machine.solver
        self.solver_options: Mapping[str, Any] | None = machine.solver_options
        self.tol, self.max_iter, self.random_state = machine.tol, machine.max_iter, machine.random_state

    def _objective(self, data: TrainingSet) -> LinearObjective:
        objective: LinearObjective = self.machine._of_class(data, self.number)
        return objective

    def _start(self, objective: LinearObjective, data: TrainingSet) -> Array:
        start: Array = self.machine._start(objective, data)
        return start


class MachinesBatch:
    """Machines of several classes; parameters as of `LinearBatch`, which trains the classes' models."""

    def __init__(self, data: TrainingSet, folds: Folds, jobs: Sequence[Job], scaler: Any = None) -> None:
        self.data = data
        self._of: dict[int, list[Job]] = {id(job): self._classes(job) for job in jobs}
        self.inner = LinearBatch(data, folds, self._all(jobs), scaler)

    @property
    def target_sweeps(self) -> int:
        """Sweeps over the targets alone."""
        return self.inner.target_sweeps

    def _classes(self, job: Job) -> list[Job]:
        assert self.data.classes is not None
        K = len(self.data.classes)
        return [Job(OneClass(job.estimator, k), job.setting * K + k, job.split, job.cells) for k in range(K)]

    def _all(self, jobs: Sequence[Job]) -> list[Job]:
        return [part for job in jobs for part in self._of[id(job)]]

    def kernels(self, jobs: Sequence[Job]) -> list[tuple[Any, Any]]:
        """Kernels with parameters of the right size, for the memory plan."""
        return self.inner.kernels(self._all(jobs))

    def held_bytes(self, jobs: Sequence[Job]) -> int:
        """What the solvers of these jobs hold between sweeps."""
        return self.inner.held_bytes(self._all(jobs))

    def train(self, engine: Engine, jobs: Sequence[Job]) -> None:
        """Train the models of all classes side by side."""
        self.inner.train(engine, self._all(jobs))
        for job in jobs:
            self._gather(job)

    def refit(self, engine: Engine, job: Job, others: Sequence[Job]) -> None:
        """Train a machine on all rows."""
        self._of[id(job)] = self._classes(job)
        pairs = [(part, [self._of[id(o)][k] for o in others]) for k, part in enumerate(self._of[id(job)])]
        self.inner.refit_together(engine, pairs)
        self._gather(job)

    def _gather(self, job: Job) -> None:
        """The machine of its classes' models."""
        parts = self._of[id(job)]
        first = parts[0]
        assert self.data.classes is not None
        job.objective, job.data, job.scaler = first.objective, first.data, first.scaler
        job.theta = np.array([part.theta for part in parts])
        job.state = functools.reduce(_worse, [part.state for part in parts])
        labels = self.data.classes.tolist()
        job.history = [row | {"class": c} for c, part in zip(labels, parts, strict=True) for row in part.history]


def _worse(a: Any, b: Any) -> Any:
    """The state that is further from the end; of two that are not, the one that took longer."""
    return max(a, b, key=lambda state: (not state.converged, state.n_iter, state.grad_norm))
