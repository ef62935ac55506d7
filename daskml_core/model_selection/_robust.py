"""Huber's regressions in a batch: every setting on every split, in lockstep from the start that each would have alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from daskml_core.engine import Engine, drive
from daskml_core.kernels.huber import HUBER_LOSS, HuberParams
from daskml_core.kernels.linear import FoldMask
from daskml_core.linear_model._data import TrainingSet
from daskml_core.model_selection._batch import LinearBatch, NotBatchable
from daskml_core.model_selection._folds import Folds
from daskml_core.model_selection._job import Job


class HuberBatch:
    """Parameters as of `LinearBatch`, which knows the training rows of a job."""

    def __init__(self, data: TrainingSet, folds: Folds, jobs: Sequence[Job], scaler: Any = None) -> None:
        if scaler is not None:
            raise NotBatchable("a scaler is not part of HuberRegressor's objective")
        self.data, self.folds = data, folds
        self.rows = LinearBatch(data, folds, jobs)
        self.target_sweeps = self.rows.target_sweeps

    def kernels(self, jobs: Sequence[Job]) -> list[tuple[Any, Any]]:
        """The kernel with parameters of the right size, for the memory plan."""
        thetas = np.broadcast_to(np.zeros(()), (self.data.blocks.n_features + 2, len(jobs)))
        weight = np.broadcast_to(np.zeros(()), (self.folds.n_cells, len(jobs)))
        return [(HUBER_LOSS, HuberParams(thetas, 1.0, True, 2, FoldMask(self.folds.cell_of, weight)))]

    def held_bytes(self, jobs: Sequence[Job]) -> int:
        """What the solvers hold between sweeps: a Hessian each."""
        return 8 * len(jobs) * (self.data.blocks.n_features + 2) * (self.data.blocks.n_features + 28)

    def train(self, engine: Engine, jobs: Sequence[Job]) -> None:
        """Train jobs over the engine's data; their ``theta`` and ``state`` are set."""
        solvers = []
        for job in jobs:
            assert job.data is not None
            plain = job.estimator._objective(job.data)
            job.objective = replace(plain, folds=self.rows.mask(job))
            solvers.append(job.estimator._solver(job.objective, job.estimator._start(plain, job.data)))
        for job, outcome in zip(jobs, drive(solvers, engine), strict=True):
            job.state, job.history, job.theta = outcome.state, outcome.history, np.asarray(outcome.state.theta)

    def refit(self, engine: Engine, job: Job, others: Sequence[Job]) -> None:
        """Train a job on all rows, from where its setting's models on the splits have ended."""
        self.rows.prepare(job)
        assert job.data is not None
        job.objective = job.estimator._objective(job.data)
        start = np.mean([other.theta for other in others if other.theta is not None], axis=0)
        (outcome,) = drive([job.estimator._solver(job.objective, start)], engine)
        job.state, job.history, job.theta = outcome.state, outcome.history, np.asarray(outcome.state.theta)
