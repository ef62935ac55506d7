"""Least squares for many settings and splits from one sweep: a centred Gram matrix a cell gives everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from daskml_core.data.cell_targets import CELL_TARGET_MOMENTS, CellTargetParams, merge_cell_targets
from daskml_core.engine import Engine
from daskml_core.kernels.cell_sums import (
    CELL_GRAMS,
    CELL_MOMENTS,
    SPLIT_FACTORS,
    CellParams,
    FactorParams,
    merge_cell_grams,
    merge_cell_moments,
    merge_split_factors,
)
from daskml_core.kernels.gram import GramPartial, merge_gram
from daskml_core.kernels.moments import merge_moments
from daskml_core.linear_model._data import TrainingSet
from daskml_core.model_selection._batch import fit_scaler, merged, shift_and_scale
from daskml_core.model_selection._folds import Folds
from daskml_core.model_selection._job import Job
from daskml_core.solvers.least_squares import LeastSquaresState, about_zero, is_ill_conditioned
from daskml_core.sweep import Array, Sweep


class GramBatch:
    """Least-squares models on sets of cells, in one sweep; two where a Gram matrix is ill-conditioned and that matters.

    Parameters as of `daskml_core.model_selection._batch.LinearBatch`.
    """

    def __init__(self, data: TrainingSet, folds: Folds, jobs: Sequence[Job], scaler: Any = None) -> None:
        self.data, self.folds, self.jobs, self.scaler = data, folds, list(jobs), scaler
        self.target_sweeps = 0
        self._params = CellParams(folds.cell_of, folds.n_cells)
        self.grams: tuple[GramPartial, ...] | None = None
        self._moments: Any = None
        self._factors: dict[tuple[int, bool], Array] = {}

    def kernels(self, jobs: Sequence[Job]) -> list[tuple[Any, Any]]:
        """Kernels for the memory plan."""
        kernels = [(CELL_GRAMS, self._params)]
        return kernels + ([(CELL_MOMENTS, self._params)] if self.scaler is not None else [])

    def held_bytes(self, jobs: Sequence[Job]) -> int:
        """Solutions are made one after the other; nothing is held but the matrices themselves."""
        return 0

    def observe(self, engine: Engine) -> None:
        """The Gram matrices of the cells."""
        if self.grams is not None:
            return
        sweeps = [Sweep(CELL_GRAMS, self._params, merge_cell_grams)]
        if self.scaler is not None:
            sweeps.append(Sweep(CELL_MOMENTS, self._params, merge_cell_moments))
        self.grams, *rest = engine.sweep(*sweeps)
        self._moments = rest[0] if rest else None

    def train(self, engine: Engine, jobs: Sequence[Job]) -> None:
        """Train jobs; their estimators are fitted."""
        self.observe(engine)
        prepared = [(job, *self._state(job)) for job in jobs]
        self._factorise(engine, prepared)
        blocks = self.data.blocks
        assert blocks.y is not None
        for job, state, center in prepared:
            factor = self._factors.get((job.split, job.estimator.fit_intercept))
            if factor is not None and job.estimator._exact_above() is not None:
                d = state.n_features
                _, scale = (center, np.ones(d)) if job.scaler is None else shift_and_scale(job.scaler, d)
                factor = factor / np.concatenate([scale, np.ones(len(factor) - d)])
                state = LeastSquaresState(d, state.moments, factor, n_iter=2)
            job.estimator._solve(state, not blocks.y.trailing)
            job.estimator.n_iter_ = getattr(job.estimator, "n_iter_", state.n_iter)
            job.estimator.converged_ = getattr(job.estimator, "converged_", True)

    refit_needs_sweep = False

    def refit(self, engine: Engine, job: Job, others: Sequence[Job]) -> None:
        """Train a job on all rows."""
        self.train(engine, [job])

    def _state(self, job: Job) -> tuple[LeastSquaresState, Array]:
        """Moments of the job's (scaled) training rows, and the centre of the rows as they are."""
        assert self.grams is not None
        d = self.data.blocks.n_features
        moments = merged(self.grams, job.cells, merge_gram)
        if not moments.sum_weight > 0:
            raise ValueError(f"The sample weights of split {job.split} sum to zero.")
        shift = np.zeros(len(moments.mean))
        raw_mean = moments.mean
        if self.scaler is not None:
            job.scaler = fit_scaler(self.scaler, merged(self._moments, job.cells, merge_moments), self.data.blocks)
            by, scale = shift_and_scale(job.scaler, d)
            shift[:d] = by
            factor = np.concatenate([scale, np.ones(len(moments.mean) - d)])
            moments = GramPartial(
                moments.sum_weight, (moments.mean - shift) / factor, moments.scatter / factor / factor[:, None]
            )
        if job.estimator.fit_intercept:
            return LeastSquaresState(d, moments), raw_mean
        return LeastSquaresState(d, about_zero(moments)), shift

    def _factorise(self, engine: Engine, prepared: Sequence[tuple[Job, LeastSquaresState, Array]]) -> None:
        """A triangular factor for every split whose Gram matrix has lost too many digits."""
        wanted: dict[tuple[int, bool], tuple[Array, Array]] = {}
        for job, state, center in prepared:
            key = (job.split, job.estimator.fit_intercept)
            ridge = job.estimator._exact_above()
            if ridge is None or key in self._factors or key in wanted:
                continue
            if is_ill_conditioned(state, ridge):
                wanted[key] = (job.cells, center)
        if wanted:
            cells, centers = (np.array(part) for part in zip(*wanted.values(), strict=True))
            params = FactorParams(self.folds.cell_of, cells, centers)
            (factors,) = engine.sweep(Sweep(SPLIT_FACTORS, params, merge_split_factors))
            self._factors |= dict(zip(wanted, factors, strict=True))


def target_moments_sweep(folds: Folds) -> Sweep:
    """Moments of a numeric target, cell by cell; over the targets alone."""
    params = CellTargetParams(folds.cell_of, folds.n_cells, None)
    return Sweep(CELL_TARGET_MOMENTS, params, merge_cell_targets)
