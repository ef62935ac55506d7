"""Training many linear models in one conversation with the data: every setting on the training rows of every split.

The default solver's order of events: one sweep draws a sample for all models and finds what scalers need; the path of
settings is solved on the sample, each from its neighbour's solution; one sweep finds the gradient at those solutions cell by
cell, for all splits at the price of one; a step common to all splits, and a second such sweep; then every model goes its own
way in lockstep, with its setting's sample Hessian as metric, and leaves when it has converged. Splits differ from each other
much less than the sample from the data: most models are there after one step of their own. Other solvers run in lockstep
from the start.

Penalties that the tolerance cannot tell apart (C of 10 and of 100 on a million rows) are led by one of them: a gradient of
the loss is a gradient of every setting, for only the penalty's own is another. What follows is checked against the tolerance
by its own gradient, and moved along the tangent of the path.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone

from daskml_core.data.blocks import RowBlocks
from daskml_core.data.cell_targets import (
    CELL_CLASSES,
    CELL_TARGET_MOMENTS,
    CellClasses,
    CellTargetParams,
    merge_cell_targets,
)
from daskml_core.data.targets import TargetMoments, merge_target_moments
from daskml_core.engine import Engine, drive, run_sweeps, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import sample_budget
from daskml_core.kernels.cell_sums import (
    CELL_LOSS,
    CELL_MOMENTS,
    CELL_SQUARES,
    CellLossParams,
    CellLossPartial,
    CellParams,
    merge_cell_moments,
)
from daskml_core.kernels.cells import Codes
from daskml_core.kernels.linear import SECOND_MOMENTS, FoldMask, SecondMoments, linear_loss, second_moments
from daskml_core.kernels.moments import FeatureMoments, merge_moments
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.linear_model._data import TrainingSet, class_factors
from daskml_core.linear_model._solve import NEWTON_LIMIT, kernels_of, start_solver
from daskml_core.model_selection._folds import Folds
from daskml_core.model_selection._job import Job, alike, by_strength, of_one_kind, other_penalty, stopping
from daskml_core.objective import Evaluation, LinearObjective
from daskml_core.solvers.in_memory import solve_in_memory
from daskml_core.solvers.lbfgs import lbfgs_state
from daskml_core.solvers.newton import newton, newton_state, solve_spd
from daskml_core.solvers.prox_newton import prox_newton, prox_newton_state
from daskml_core.solvers.sampled_newton import complete_metric, correct, in_memory_tol, sample_size
from daskml_core.sweep import Array, Block, Sweep, add
from daskml_core.validate import random_seed

MAX_SHARED_CELLS = 64
"""Cells up to which a gradient a cell is cheaper than a gradient a model."""

METRIC_BYTES = 64 << 20
"""Most that metrics of each setting and split may take; beyond it the splits of a setting share one."""

DIFFERENT = 0.2
"""Splits whose features' second moments differ so much from those of all rows have metrics of their own."""

PATIENCE = 12
"""Gradient steps of a model in a batch before exact Hessians: a model alone takes 3, but many Hessians are dear."""

CHAIN = 5
"""Most settings that are solved on the sample one after the other, each from the last one's solution; chains run side by
side. A number of the settings alone, never of the threads: it decides where models start, and so their bits."""


class NotBatchable(Exception):
    """Why models cannot be trained side by side."""


def merged(parts: Sequence[Any], cells: Array, merge: Callable[[Any, Any], Any]) -> Any:
    """Parts of the chosen cells taken together, in their order."""
    return functools.reduce(merge, [part for part, chosen in zip(parts, cells, strict=True) if chosen])


class LinearBatch:
    """Linear models trained side by side on sets of cells.

    Parameters
    ----------
    data : the whole training set, without class weights.
    folds : its cells and splits.
    jobs : models to train, settings neighbours.
    scaler : a `StandardScaler` in front of every model, or ``None``.
    """

    def __init__(self, data: TrainingSet, folds: Folds, jobs: Sequence[Job], scaler: Any = None) -> None:
        self.data, self.folds, self.jobs, self.scaler = data, folds, list(jobs), scaler
        self.target_sweeps = 1
        self._targets = self._read_targets()
        self._by_class = any(getattr(job.estimator, "class_weight", None) is not None for job in jobs)
        for job in jobs:
            self._prepare(job)
        self.metrics: dict[tuple[int, int | None], Array] = {}
        self._by_split = False
        self._sample: RowSample | None = None
        self._known: dict[int, tuple[tuple[Array, Array], CellLossPartial, int]] = {}
        self._leader: dict[int, int] = {}

    # -- what is known before X is read --------------------------------------------------------------------------

    def _read_targets(self) -> Any:
        known, labels = self.folds.class_rows, self.data.classes
        plain = labels is not None and self.data.blocks.weight is None
        if known is not None and plain and np.array_equal(known[0], np.asarray(labels)):
            self.target_sweeps = 0
            return CellClasses(known[1], known[1])
        classes = None if self.data.classes is None else len(self.data.classes)
        params = CellTargetParams(self.folds.cell_of, self.folds.n_cells, classes)
        targets = replace(self.data.blocks, X=None)
        if classes is not None:
            return run_sweeps(targets, Sweep(CELL_CLASSES, params))[0]
        return run_sweeps(targets, Sweep(CELL_TARGET_MOMENTS, params, merge_cell_targets))[0]

    def _prepare(self, job: Job) -> None:
        """The job's own training set and class weights."""
        if isinstance(self._targets, CellClasses):
            assert self.data.classes is not None
            rows, sums = self._targets.rows[job.cells].sum(axis=0), self._targets.weight[job.cells].sum(axis=0)
            if (rows == 0).any():
                label = self.data.classes.tolist()[int(np.argmin(rows))]
                raise NotBatchable(f"the training rows of split {job.split} have no row of class {label!r}")
            if job.estimator.class_weight is not None:
                job.factors = class_factors(job.estimator.class_weight, self.data.classes, sums)
                sums = sums * job.factors
            job.data = replace(self.data, sum_weight=float(sums.sum()), class_weight_sums=sums)
        else:
            moments: TargetMoments = merged(self._targets, job.cells, merge_target_moments)
            job.data = replace(self.data, sum_weight=float(moments.sum_weight), moments=moments)
        if not job.data.sum_weight > 0:
            raise NotBatchable(f"the sample weights of split {job.split} sum to zero")

    def _mask(self, job: Job, cell_of: Any = None) -> FoldMask | None:
        weight = job.cells.astype(np.float64)[:, None]
        if self._by_class:
            assert self.data.classes is not None
            factors = np.ones(len(self.data.classes)) if job.factors is None else job.factors
            weight = weight[:, None, :] * factors[None, :, None]
        elif job.cells.all() and self.folds.n_cells == 1:
            return None
        return FoldMask(self.folds.cell_of if cell_of is None else cell_of, weight)

    def build(self, job: Job, moments: Sequence[FeatureMoments] | None) -> None:
        """The job's objective, its scaler fitted on its own training rows."""
        assert job.data is not None
        objective = job.estimator._objective(job.data)
        if self.scaler is not None and moments is not None:
            job.scaler = fit_scaler(self.scaler, merged(moments, job.cells, merge_moments), self.data.blocks)
            shift, scale = shift_and_scale(job.scaler, objective.n_features)
            objective = replace(objective, shift=shift, scale=scale)
        job.objective = replace(objective, folds=self._mask(job))
        job.theta = job.estimator._start(objective, job.data)

    # -- training ------------------------------------------------------------------------------------------------

    def _sampled(self, job: Job) -> bool:
        assert job.data is not None
        return bool(job.estimator.solver == "auto" and job.estimator._objective(job.data).size <= NEWTON_LIMIT)

    def kernels(self, jobs: Sequence[Job]) -> list[tuple[Any, Any]]:
        """Kernels with parameters of the right size, for the memory plan."""
        blocks = self.data.blocks
        kernels: list[tuple[Any, Any]] = []
        if not jobs:
            return kernels
        for solver in sorted({job.estimator.solver for job in jobs}):
            members = [job for job in jobs if job.estimator.solver == solver]
            assert members[0].data is not None
            objective = members[0].estimator._objective(members[0].data)
            for kernel, params in kernels_of(solver, objective, blocks):
                if kernel is SECOND_MOMENTS and self._cells > 1:
                    kernels.append((CELL_SQUARES, CellParams(self.folds.cell_of, self._cells)))
                    continue
                if hasattr(params, "W"):
                    # Line searches that try ten steps at once are taken by few models at a time.
                    copies = len(members) if solver != "gradient_descent" else 3 * len(members)
                    W = np.broadcast_to(np.zeros(()), (objective.n_features, copies * objective.n_outputs))
                    mask = FoldMask(self.folds.cell_of, np.broadcast_to(np.zeros(()), (self.folds.n_cells, copies)))
                    params = params._replace(W=W, b=np.zeros(W.shape[1]), folds=mask)
                kernels.append((kernel, params))
            if solver == "auto":
                settings = len({job.setting for job in members}) * objective.n_outputs
                W = np.broadcast_to(np.zeros(()), (objective.n_features, settings))
                kernels.append(
                    (CELL_LOSS, CellLossParams(W, np.zeros(settings), objective.loss, self.folds.cell_of, self._cells))
                )
        if self.scaler is not None:
            kernels.append((CELL_MOMENTS, CellParams(self.folds.cell_of, self.folds.n_cells)))
        return kernels

    @property
    def _cells(self) -> int:
        return self.folds.n_cells if self.folds.n_cells <= MAX_SHARED_CELLS else 0

    def held_bytes(self, jobs: Sequence[Job]) -> int:
        """What the solvers of these jobs hold between sweeps: a metric a setting, and pairs of vectors a model."""
        sizes = []
        for job in jobs:
            assert job.data is not None
            sizes.append(job.estimator._objective(job.data).size)
        size = max(sizes, default=0)
        shared = 8 * len({job.setting for job in jobs}) * size * size
        own = 8 * len(jobs) * size * size
        return shared + (own if own <= METRIC_BYTES else 0) + 8 * len(jobs) * 26 * size

    def train(self, engine: Engine, jobs: Sequence[Job]) -> None:
        """Train jobs over the engine's data; their ``theta`` and ``state`` are set."""
        sampled = [job for job in jobs if self._sampled(job)]
        first: dict[str, Sweep] = {}
        blocks = self.data.blocks
        if sampled:
            size = max(
                sample_size(blocks.n_features, o.n_outputs, blocks.dtype.itemsize, sample_budget())
                for o in (job.estimator._objective(job.data) for job in sampled)
            )
            seed = random_seed(getattr(sampled[0].estimator, "random_state", None))
            first["sample"] = sample_sweep(size, blocks.n_rows, seed, blocks.dtype.itemsize)
            cells = self.folds.n_cells if self._cells else 1
            of_cells = CellParams(self.folds.cell_of, cells)
            first["squares"] = Sweep(CELL_SQUARES, of_cells) if cells > 1 else Sweep(SECOND_MOMENTS)
        if self.scaler is not None:
            params = CellParams(self.folds.cell_of, self.folds.n_cells)
            first["moments"] = Sweep(CELL_MOMENTS, params, merge_cell_moments)
        answers = dict(zip(first, engine.sweep(*first.values()), strict=True)) if first else {}
        self.moments = answers.get("moments")
        for job in jobs:
            self.build(job, self.moments)
        solvers = []
        followers: list[Job] = []
        if sampled:
            sample: RowSample = answers["sample"]
            if len(sample.X) >= blocks.n_rows:
                self._sample = sample
                self._solve_complete(engine, sampled, sample)
            else:
                squares = answers["squares"]
                squares = squares.squares[None, :] if isinstance(squares, SecondMoments) else squares
                solvers += self._correct(engine, sampled, sample, squares)
                followers = [job for job in sampled if job.setting in self._leader]
        others = [job for job in jobs if job not in sampled]
        for job in others:
            solvers.append((job, self._start_other(job)))
        self._drive(engine, solvers)
        self._drive(engine, self._follow(followers, jobs))

    def _start_other(self, job: Job) -> Any:
        assert job.objective is not None and job.theta is not None
        tol, max_iter, options = stopping(job.estimator)
        seed = random_seed(getattr(job.estimator, "random_state", None))
        return start_solver(
            job.estimator.solver, job.objective, job.theta, self.data.blocks,
            tol=tol, max_iter=max_iter, seed=seed, options=options,
        )  # fmt: skip

    @staticmethod
    def _drive(engine: Engine, solvers: Sequence[tuple[Job, Any]]) -> None:
        if not solvers:
            return
        for (job, _), outcome in zip(solvers, drive([s for _, s in solvers], engine), strict=True):
            job.state, job.history = outcome.state, outcome.history
            job.theta = np.asarray(outcome.state.theta)

    def _local(self, job: Job, sample: RowSample, *, folds: bool) -> tuple[LinearObjective, Block]:
        """The job's problem on the sample: on its training rows, or on all of them."""
        assert job.objective is not None and sample.rows is not None
        block = Block(sample.X, sample.y, sample.weight, 0, 0)
        if folds:
            mask = self._mask(job, Codes(self.folds.cell_of.at(sample.rows)))
            return replace(job.objective, folds=mask), block
        weight = sample.weight
        if job.factors is not None:
            assert sample.y is not None
            own = job.factors[sample.y.astype(np.intp)]
            weight = own if weight is None else own * weight
        total = float(len(sample.X) if weight is None else weight.sum())
        return replace(job.objective, folds=None, sum_weight=total), block._replace(weight=weight)

    def _solve_complete(self, engine: Engine, jobs: Sequence[Job], sample: RowSample) -> None:
        """Data no larger than the sample is solved there and then, each split's path a chain of its own."""

        def chain(members: Sequence[Job]) -> Generator[Any, Any, None]:
            last: Array | None = None
            for job in sorted(members, key=by_strength):
                objective, block = self._local(job, sample, folds=True)
                tol, max_iter, _ = stopping(job.estimator)
                assert job.theta is not None
                start = last if last is not None and last.shape == job.theta.shape else job.theta
                solve = prox_newton if objective.penalty.l1 else newton
                # In memory more digits cost next to nothing; the result is that of a fit of these rows alone.
                solver = solve(objective, start, tol=min(tol, in_memory_tol(objective)), max_iter=max_iter)  # type: ignore[operator]
                job.state = solve_in_memory(solver, block)
                job.history = [job.state.record()]
                job.theta = np.asarray(job.state.theta)
                last = job.theta if np.isfinite(job.theta).all() else None
            return
            yield  # a generator, so that the driver runs chains on its threads

        groups: dict[Any, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.split, []).append(job)
        drive([chain(members) for members in groups.values()], engine)

    def _correct(self, engine: Engine, jobs: Sequence[Job], sample: RowSample, squares: Array) -> list[tuple[Job, Any]]:
        """Solvers that start from the sample's solutions."""
        settings: dict[int, Job] = {}
        for job in jobs:
            settings.setdefault(job.setting, job)
        self._by_split = self._splits_differ(jobs, squares)
        ordered = sorted(settings.values(), key=by_strength)
        starts: dict[int, tuple[Array, Array]] = {}

        def chain(members: Sequence[Job]) -> Generator[Any, Any, None]:
            last: tuple[Job, LinearObjective, Any] | None = None
            for job in members:
                if last is not None and alike(last[0], job, starts[last[0].setting]):
                    self._leader[job.setting] = last[0].setting
                    continue
                objective, block = self._local(job, sample, folds=False)
                inner = self._solve_sample(job, objective, block, len(sample.X), last)
                solved = bool(np.isfinite(inner.theta).all())
                assert job.theta is not None
                W, b = objective.unscaled(inner.theta if solved else job.theta)
                starts[job.setting] = (W, b)
                last = (job, objective, inner) if solved else None
                self.metrics[job.setting, None] = self._metric(objective, inner.hess, block, squares.sum(axis=0))
                if self._by_split:
                    self._metrics_by_split([j for j in jobs if j.setting == job.setting], (W, b), sample, squares)
            return
            yield

        length = min(CHAIN, -(-len(ordered) // 2))
        drive([chain(ordered[lo : lo + length]) for lo in range(0, len(ordered), length)], engine)
        self._join_chains(ordered, starts)
        jobs = [job for job in jobs if job.setting not in self._leader]
        starts = {setting: starts[setting] for setting in {job.setting: None for job in jobs}}
        for job in jobs:
            assert job.objective is not None
            job.theta = job.objective.scaled(*starts[job.setting])
        first = self._gradients(engine, jobs, starts)
        if not first:
            return [(job, self._go_on(job, None)) for job in jobs]
        moved = self._common_steps(jobs, starts, first)
        second = self._gradients(engine, [job for job in jobs if job.setting in moved], moved)
        return [(job, self._go_on(job, self._better(job, first[id(job)], second.get(id(job)), moved))) for job in jobs]

    @staticmethod
    def _solve_sample(
        job: Job, objective: LinearObjective, block: Block, n_sample: int, last: tuple[Job, LinearObjective, Any] | None
    ) -> Any:
        """The last state of a setting's solver on the sample, from the solution of the setting before it."""
        tol, max_iter, _ = stopping(job.estimator)
        # The sample's own error is larger: more digits would be of the sample, not of the data.
        options: dict[str, Any] = {"tol": max(tol * 0.1, 0.05 / np.sqrt(n_sample)), "max_iter": min(max_iter, 50)}
        start = job.theta
        if last is not None and len(last[2].theta) == objective.size:
            start = last[2].theta
        if objective.penalty.l1:
            return solve_in_memory(prox_newton(objective, start, **options), block)
        if last is not None and start is not None and of_one_kind(last[0], job):
            # Only the penalty is another: value, gradient and Hessian there are known without going over the rows.
            state = newton_state(objective, start, other_penalty(last[1], objective, last[2]), options["tol"])
            return solve_in_memory(newton(objective, state=state, **options), block)
        return solve_in_memory(newton(objective, start, **options), block)

    def _join_chains(self, ordered: Sequence[Job], starts: dict[int, tuple[Array, Array]]) -> None:
        """Leaders across chains, and everyone's leader's leader."""
        lead: Job | None = None
        for job in ordered:
            if job.setting in self._leader:
                self._leader[job.setting] = self._leader.get(self._leader[job.setting], self._leader[job.setting])
            elif lead is not None and alike(lead, job, starts[lead.setting]):
                self._leader[job.setting] = lead.setting
            else:
                lead = job

    def _follow(self, followers: Sequence[Job], jobs: Sequence[Job]) -> list[tuple[Job, Any]]:
        """Settings that were led: their leader's models moved along the path; solvers of those that are not there yet."""
        leaders = {(job.setting, job.split): job for job in jobs}
        rest = []
        for job in followers:
            leader = self._leader[job.setting]
            lead = leaders[leader, job.split]
            objective, at = job.objective, lead.state
            assert objective is not None and lead.objective is not None
            self._inherit(job, lead)
            tol, max_iter, _ = stopping(job.estimator)
            here = other_penalty(lead.objective, objective, at)
            state = lbfgs_state(objective, at.theta, here, tol, self._metric_of(job), (), at.n_iter)
            if not state.converged:
                rest.append((job, correct(objective, state, tol, max_iter, PATIENCE)))
                continue
            # The tangent of the path: what two penalties differ by, which is known exactly, without another look.
            job.state = replace(state, theta=at.theta - solve_spd(state.metric, state.grad - at.grad))
            job.history = [*lead.history[:-1], *([{**lead.history[-1], **state.record()}] if lead.history else [])]
            job.theta = job.state.theta
        return rest

    def _inherit(self, job: Job, lead: Job) -> None:
        """A led setting's metrics, its leader's but for the penalty, and the point that its leader knows."""
        assert job.objective is not None and lead.objective is not None
        weaker = (job.objective.penalty.l2 - lead.objective.penalty.l2) * job.objective.penalised()
        for split in (None, job.split):
            if (lead.setting, split) in self.metrics:
                self.metrics[job.setting, split] = self.metrics[lead.setting, split] + np.diag(weaker)
        if lead.setting in self._known:
            self._known[job.setting] = self._known[lead.setting]

    def _splits_differ(self, jobs: Sequence[Job], squares: Array) -> bool:
        """Whether a Hessian of all rows is a bad metric for some split: a category may be missing from its rows."""
        objective = jobs[0].objective
        assert objective is not None
        if len(squares) < 2 or 8 * len(jobs) * objective.size**2 > METRIC_BYTES:
            return False
        in_all = squares.sum(axis=0) / self.data.sum_weight
        present = in_all > 0
        for job in {job.split: job for job in jobs}.values():
            assert job.objective is not None
            own = squares[job.cells].sum(axis=0) / job.objective.sum_weight
            if (np.abs(own / np.where(present, in_all, 1.0) - 1)[present] > DIFFERENT).any():
                return True
        return False

    def _metrics_by_split(
        self, jobs: Sequence[Job], at: tuple[Array, Array], sample: RowSample, squares: Array
    ) -> None:
        """A setting's metric for each of its splits, from Hessians of the sample cell by cell."""
        assert sample.rows is not None
        cells = self.folds.cell_of.at(sample.rows)
        blocks = [
            Block(*(None if a is None else a[cells == c] for a in (sample.X, sample.y, sample.weight)), 0, 0)  # type: ignore[arg-type,call-arg]
            for c in range(self.folds.n_cells)
        ]
        parts: dict[int, Any] = {}
        for job in jobs:
            objective = job.objective
            assert objective is not None
            theta = objective.scaled(*at)
            if job.factors is not None or not parts:
                seen = [self._weighted(block, job.factors) for block in blocks]
                params = replace(objective, folds=None).params([theta], 2)
                parts = {c: linear_loss(block, params) for c, block in enumerate(seen)}
                weights = [float(b.n_rows if b.weight is None else b.weight.sum()) for b in seen]
            chosen = np.flatnonzero(job.cells).tolist()
            weight = sum(weights[c] for c in chosen)
            if weight <= 0:
                continue
            total = functools.reduce(add, [parts[c] for c in chosen])
            local = replace(objective, folds=None, sum_weight=weight)
            hess = local.finish(theta, total, 0, 2).hess
            assert hess is not None
            X = np.concatenate([seen[c].X for c in chosen])
            kept = None if seen[0].weight is None else np.concatenate([seen[c].weight for c in chosen])
            rows = Block(X, None, kept, 0, 0)
            own = squares[job.cells].sum(axis=0)
            self.metrics[job.setting, job.split] = self._metric(local, hess, rows, own, objective.sum_weight)

    @staticmethod
    def _weighted(block: Block, factors: Array | None) -> Block:
        if factors is None:
            return block
        own = factors[block.y.astype(np.intp)]
        return block._replace(weight=own if block.weight is None else own * block.weight)

    def _common_steps(
        self, jobs: Sequence[Job], starts: dict[int, tuple[Array, Array]], first: dict[int, Evaluation]
    ) -> dict[int, tuple[Array, Array]]:
        """One step of each smooth setting along the mean gradient of its splits, about the rows as they are."""
        moved = {}
        for setting in starts:
            members = [job for job in jobs if job.setting == setting]
            objective, theta = members[0].objective, members[0].theta
            assert objective is not None and theta is not None
            tol, max_iter, _ = stopping(members[0].estimator)
            slopes = [first[id(job)].grad for job in members]
            if objective.penalty.l1 or max_iter < 2 or max(np.abs(g).max() for g in slopes if g is not None) <= tol:
                continue
            grad = np.mean([g for g in slopes if g is not None], axis=0)
            moved[setting] = objective.unscaled(theta - solve_spd(self.metrics[setting, None], grad))
        return moved

    @staticmethod
    def _better(
        job: Job, first: Evaluation, second: Evaluation | None, moved: dict[int, tuple[Array, Array]]
    ) -> tuple[Evaluation, Array | None]:
        """Where a job goes on from: the lower of two points, and the other as what L-BFGS remembers."""
        if second is None or not second.value < first.value:
            return first, None
        old, objective = job.theta, job.objective
        assert objective is not None
        job.theta = objective.scaled(*moved[job.setting])
        return second, old

    def _metric(
        self, objective: LinearObjective, hess: Array, block: Block, squares: Array, total: float | None = None
    ) -> Array:
        """The Hessian of a sample's rows, completed by what they miss of all rows' second moments."""
        weight = objective.sum_weight
        total = self.data.sum_weight if total is None else total
        whole = replace(objective, sum_weight=total)
        in_sample = second_moments(block, None).squares / weight
        if objective.scale is not None and objective.shift is not None:
            squares = np.full(objective.n_features, total)
            in_sample = _scaled_squares(block, objective.shift, objective.scale) / weight
        return complete_metric(whole, hess, in_sample, squares)

    def _gradients(
        self, engine: Engine, jobs: Sequence[Job], starts: dict[int, tuple[Array, Array]]
    ) -> dict[int, Evaluation]:
        """Value and gradient of every job at its setting's point, a sweep of as many models as there are settings."""
        splits = len({job.split for job in jobs})
        if not jobs or self._by_class or not self._cells or splits < 2:
            return {}
        groups: dict[Any, list[int]] = {}
        for job in jobs:
            assert job.objective is not None
            members = groups.setdefault(job.objective.loss, [])
            if job.setting not in members:
                members.append(job.setting)
        sweeps = []
        for loss, members in groups.items():
            W, b = np.hstack([starts[s][0] for s in members]), np.concatenate([starts[s][1] for s in members])
            sweeps.append(Sweep(CELL_LOSS, CellLossParams(W, b, loss, self.folds.cell_of, self.folds.n_cells)))
        answers = dict(zip(groups, engine.sweep(*sweeps), strict=True))
        for loss, members in groups.items():
            for model, setting in enumerate(members):
                self._known[setting] = (starts[setting], answers[loss], model)
        return {id(job): self._evaluation(job)[1] for job in jobs}

    def _evaluation(self, job: Job) -> tuple[Array, Evaluation]:
        """A point of the job's setting whose gradient is known cell by cell, and the job's value and gradient there."""
        objective = job.objective
        assert objective is not None
        point, sums, model = self._known[job.setting]
        theta = objective.scaled(*point)
        partial = sums.over(job.cells.astype(np.float64), model, objective.n_outputs)
        return theta, objective.finish(theta, partial, 0, 1)

    def _go_on(self, job: Job, at: tuple[Evaluation, Array | None] | None) -> Any:
        """A solver that goes on from the job's theta, where ``at`` tells what is known of it and of a point before it."""
        objective, theta, metric = job.objective, job.theta, self._metric_of(job)
        assert objective is not None and theta is not None
        tol, max_iter, _ = stopping(job.estimator)
        if at is None:
            return self._alone(objective, theta, metric, tol, max_iter)
        here, before = at
        if objective.penalty.l1:
            state = prox_newton_state(objective, theta, here, tol, metric, True)
            return prox_newton(objective, state=state, tol=tol, max_iter=max_iter)
        n_iter = 0 if before is None else 1
        start = lbfgs_state(objective, theta, here, tol, metric, (), n_iter)
        return correct(objective, start, tol, max_iter, PATIENCE)

    @staticmethod
    def _alone(objective: LinearObjective, theta: Array, metric: Array, tol: float, max_iter: int) -> Any:
        if objective.penalty.l1:
            return (yield from prox_newton(objective, theta, metric=metric, tol=tol, max_iter=max_iter))
        first: Evaluation = yield from objective.evaluate(theta)
        start = lbfgs_state(objective, theta, first, tol, metric)
        return (yield from correct(objective, start, tol, max_iter, PATIENCE))

    def _metric_of(self, job: Job) -> Array:
        own = self.metrics.get((job.setting, job.split))
        return self.metrics[job.setting, None] if own is None else own

    def refit(self, engine: Engine, job: Job, others: Sequence[Job]) -> None:
        """Train a job on all rows, from where its setting's models on the splits have ended."""
        self._prepare(job)
        self.build(job, getattr(self, "moments", None))
        assert job.objective is not None
        if not self._by_class:  # all rows alike: without a table the kernel of one model does it in half the time
            job.objective = replace(job.objective, folds=None)
        if self._sample is not None and self._sampled(job):
            self._solve_complete(engine, [job], self._sample)
            return
        if others:
            self._inherit(job, others[0])  # the same C weighs less beside all rows
        if job.setting in self._known:
            job.theta, known = self._evaluation(job)
            self._drive(engine, [(job, self._go_on(job, (known, None)))])
            return
        ends = [other.objective.unscaled(other.theta) for other in others if other.objective is not None]  # type: ignore[arg-type]
        if ends:
            W, b = (np.mean(parts, axis=0) for parts in zip(*ends, strict=True))
            job.theta = job.objective.scaled(W, b)
        if self._sampled(job) and (job.setting, None) in self.metrics:
            self._drive(engine, [(job, self._go_on(job, None))])
        else:
            self._drive(engine, [(job, self._start_other(job))])


def _scaled_squares(block: Block, shift: Array, scale: Array) -> Array:
    total = np.zeros(len(shift))
    for lo in range(0, block.n_rows, 4096):
        x = np.square((block.X[lo : lo + 4096] - shift) / scale)
        total += x.sum(axis=0) if block.weight is None else block.weight[lo : lo + 4096] @ x
    return total


def fit_scaler(scaler: Any, moments: FeatureMoments, blocks: RowBlocks) -> Any:
    """A clone of a scaler (ours or scikit-learn's) as fitted on rows of these moments."""
    from daskml_core.preprocessing import StandardScaler

    own = StandardScaler(with_mean=scaler.with_mean, with_std=scaler.with_std)._update(moments)
    fitted = clone(scaler)
    names = ("mean_", "var_", "scale_", "n_samples_seen_") + (("_moments",) if hasattr(fitted, "_update") else ())
    for name in names:
        setattr(fitted, name, getattr(own, name))
    fitted.n_features_in_ = blocks.n_features
    if blocks.feature_names is not None:
        fitted.feature_names_in_ = np.asarray(blocks.feature_names, dtype=object)
    return fitted


def shift_and_scale(scaler: Any, d: int) -> tuple[Array, Array]:
    """What a fitted scaler subtracts and divides by."""
    shift = scaler.mean_ if scaler.with_mean and scaler.mean_ is not None else np.zeros(d)
    return shift, scaler.scale_ if scaler.scale_ is not None else np.ones(d)


def accept(job: Job) -> Any:
    """The job's estimator, fitted."""
    estimator, data = job.estimator, job.data
    assert data is not None and job.objective is not None and job.theta is not None
    estimator._accept(job.objective, job.theta, data)
    estimator.n_iter_ = int(job.state.n_iter)
    estimator.converged_ = bool(job.state.converged)
    estimator.history_ = list(job.history)
    return estimator


def warn_not_converged(jobs: Sequence[Job], name: str, stacklevel: int) -> None:
    """One warning for a whole search."""
    late = [job for job in jobs if not job.state.converged]
    if late and not stopped_early():
        worst = max(job.state.grad_norm for job in late)
        warnings.warn(
            f"{len(late)} of {len(jobs)} models of {name} did not converge: the largest gradient entry is {worst:.2g}. "
            "Raise max_iter or tol, or scale the features (daskml_core.preprocessing.StandardScaler).",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
