"""Training many linear models in one conversation with the data: every setting on the training rows of every split.

The default solver's order of events: one sweep draws a sample for all models and finds what scalers need; the path of
settings is solved on the sample, each from its neighbour's solution; one sweep finds the gradient at those solutions, and
few exact Hessians, *cell by cell*, for all splits at the price of one; then every model goes its own way in lockstep, as
it would alone (`daskml_core.solvers.surrogate`), and leaves when it has converged. Other solvers are in lockstep from the
start.

What an exact Hessian tells of a setting is by how much the sample's is wrong, and that is nearly the same for settings whose
sample Hessians are alike: they share it.

Penalties that the tolerance cannot tell apart (C of 10 and of 100 on a million rows) are led by one of them: a gradient of
the loss is a gradient of every setting, for only the penalty's own is another. What follows starts from its leader's last
gradient, and asks for one of its own where the step from there is not certain to be right.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
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
    CellLossParams,
    CellLossPartial,
    CellParams,
    merge_cell_moments,
)
from daskml_core.kernels.cells import Codes, Segments
from daskml_core.kernels.linear import (
    LINEAR_LOSS,
    SECOND_MOMENTS,
    FoldMask,
    LinearPartial,
    OneAgainstRest,
    linear_loss,
    second_moments,
)
from daskml_core.kernels.moments import FeatureMoments, merge_moments
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.linear_model._data import TrainingSet, class_factors
from daskml_core.linear_model._solve import NEWTON_LIMIT, kernels_of, start_solver
from daskml_core.model_selection._folds import Folds
from daskml_core.model_selection._job import (
    Job,
    alike,
    by_strength,
    of_one_kind,
    of_one_loss,
    other_penalty,
    stopping,
)
from daskml_core.objective import Evaluation, LinearObjective
from daskml_core.solvers.in_memory import solve_in_memory
from daskml_core.solvers.lbfgs import lbfgs, lbfgs_state
from daskml_core.solvers.newton import newton, newton_state, solve_spd
from daskml_core.solvers.prox_newton import prox_newton, prox_newton_state
from daskml_core.solvers.sampled_newton import complete_metric, in_memory_tol, sample_size
from daskml_core.solvers.surrogate import (
    EXACT_LIMIT,
    SampleModel,
    SurrogateState,
    surrogate_newton,
    surrogate_state,
    without_plateaus,
)
from daskml_core.sweep import Array, Block, Sweep
from daskml_core.validate import random_seed

MAX_SHARED_CELLS = 64
"""Cells up to which a gradient a cell is cheaper than a gradient a model."""

METRIC_BYTES = 64 << 20
"""Most that the exact Hessians of all cells may take."""

MAX_ANCHORS = 8
"""Most settings whose exact Hessians are found."""

DIFFERENT = 0.6
"""How far the curvature of an average feature may change between two settings whose exact Hessians are found."""

SAME = 0.1
"""A change of it that needs no second Hessian."""

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
            self.prepare(job)
        self._sample: RowSample | None = None
        self._squares: Array = np.zeros(0)
        self._starts: dict[int, tuple[Array, Array]] = {}
        self._leader: dict[int, int] = {}
        self._anchors: dict[int, list[tuple[int, float]]] = {}
        self._metrics: dict[int, Array] = {}
        self._gradients: dict[int, tuple[CellLossPartial, int]] = {}
        self._hessians: dict[int, tuple[CellLossPartial, int]] = {}
        self._points: dict[int, tuple[Array, Array]] = {}
        self._ahead: dict[int, tuple[tuple[Array, Array], LinearPartial]] = {}
        self._blocks: dict[bytes, Block] = {}
        self._in_sample: dict[tuple[int, bytes], LinearPartial] = {}

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

    def prepare(self, job: Job) -> None:
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

    def mask(self, job: Job, cell_of: Any = None) -> FoldMask | None:
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
        job.objective = replace(objective, folds=self.mask(job))
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
                if hasattr(params, "W"):
                    # Line searches that try ten steps at once are taken by few models at a time.
                    copies = len(members) if solver != "gradient_descent" else 3 * len(members)
                    copies = 2 if solver == "auto" and params.order > 1 else copies  # a remedy of few models at a time
                    W = np.broadcast_to(np.zeros(()), (objective.n_features, copies * objective.n_outputs))
                    mask = FoldMask(self.folds.cell_of, np.broadcast_to(np.zeros(()), (self.folds.n_cells, copies)))
                    params = params._replace(W=W, b=np.zeros(W.shape[1]), folds=mask)
                kernels.append((kernel, params))
            if solver == "auto":
                n = len({job.setting for job in members})
                b = np.zeros(n * objective.n_outputs)
                W = np.broadcast_to(np.zeros(()), (objective.n_features, len(b)))
                n_anchors = min(n, self._most_anchors(objective.size)) if objective.size <= EXACT_LIMIT else 0
                kernels.append((CELL_LOSS, self._cell_params(W, b, objective.loss, n_anchors)))
        if self.scaler is not None:
            kernels.append((CELL_MOMENTS, CellParams(self.folds.cell_of, self.folds.n_cells)))
        return kernels

    @property
    def _shares_cells(self) -> bool:
        """Whether gradients are found cell by cell; where there are too many cells each model asks for its own."""
        return self.folds.n_cells <= MAX_SHARED_CELLS

    @property
    def _cells(self) -> int:
        """Cells that Hessians are found for: one of all rows, where there are too many."""
        return self.folds.n_cells if self._shares_cells else 1

    @property
    def _n_classes(self) -> int:
        """Classes that are summed apart."""
        return len(self.data.classes) if self._by_class and self.data.classes is not None else 1

    def _most_anchors(self, size: int) -> int:
        return max(1, min(MAX_ANCHORS, METRIC_BYTES // (8 * self._cells * self._n_classes * size * size)))

    def _cell_params(self, W: Array, b: Array, loss: Any, n_hessians: int) -> CellLossParams:
        cell_of = self.folds.cell_of if self._shares_cells else Segments(np.array([self.folds.n_rows]))
        return CellLossParams(W, b, loss, cell_of, self._cells, n_hessians, self._n_classes)

    def held_bytes(self, jobs: Sequence[Job]) -> int:
        """What the solvers of these jobs hold between sweeps: sample Hessians, what is wrong with them, vectors a model."""
        sizes = []
        for job in jobs:
            assert job.data is not None
            sizes.append(job.estimator._objective(job.data).size)
        size = max(sizes, default=0)
        settings, splits = len({job.setting for job in jobs}), len({job.split for job in jobs})
        matrices = settings
        if size <= EXACT_LIMIT:
            matrices += min(settings, self._most_anchors(size)) * splits
            if self.scaler is not None or self._by_class:  # coordinates of each split's own
                matrices += 2 * len(jobs)
        # The sample is held as long as models ask it for gradients; with class weights a column of it is a model's own.
        sample = min(sample_budget(), self.data.blocks.n_rows * (self.data.blocks.n_features + 1) * 8)
        held = sample if size <= EXACT_LIMIT and any(self._sampled(job) for job in jobs) else 0
        return held + 8 * matrices * size * size + 8 * len(jobs) * 26 * size

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
            first["squares"] = Sweep(SECOND_MOMENTS)
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
            self._sample, self._squares = sample, answers["squares"].squares
            if self._complete:
                self._solve_complete(engine, sampled, sample)
            else:
                solvers += self._correct(engine, sampled, sample)
                followers = [job for job in sampled if job.setting in self._leader]
        others = [job for job in jobs if job not in sampled]
        for job in others:
            solvers.append((job, self._start_other(job)))
        self._drive(engine, solvers)
        self._follow(engine, followers, sampled)

    @property
    def _complete(self) -> bool:
        """Whether the sample is all the data."""
        return self._sample is not None and len(self._sample.X) >= self.data.blocks.n_rows

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
        if folds:
            mask = self.mask(job, Codes(self.folds.cell_of.at(sample.rows)))
            return replace(job.objective, folds=mask), Block(sample.X, sample.y, sample.weight, 0, 0)
        block = self._block(job, sample)
        total = float(block.n_rows if block.weight is None else block.weight.sum())
        return replace(job.objective, folds=None, sum_weight=total), block

    def _block(self, job: Job, sample: RowSample) -> Block:
        """The sample, weighed as the job weighs the classes."""
        key = _factors_key(job)
        if key not in self._blocks:
            weight = sample.weight
            if job.factors is not None:
                assert sample.y is not None
                own = job.factors[sample.y.astype(np.intp)]
                weight = own if weight is None else own * weight
            self._blocks[key] = Block(sample.X, sample.y, weight, 0, 0)
        return self._blocks[key]

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
                solver = solve(objective, start, tol=min(tol, in_memory_tol(objective)), max_iter=max_iter)
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

    def _correct(self, engine: Engine, jobs: Sequence[Job], sample: RowSample) -> list[tuple[Job, Any]]:
        """Solvers that start from the sample's solutions."""
        settings: dict[int, Job] = {}
        for job in jobs:
            settings.setdefault(job.setting, job)
        ordered = sorted(settings.values(), key=by_strength)
        starts = self._starts

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
                starts[job.setting] = objective.unscaled(inner.theta if solved else job.theta)
                last = (job, objective, inner) if solved else None
                if objective.size > EXACT_LIMIT:
                    self._metrics[job.setting] = self._metric(objective, inner.hess, block)
                elif solved:
                    self._keep_sums(job, objective, inner)
            return
            yield

        length = min(CHAIN, -(-len(ordered) // 2))
        drive([chain(ordered[lo : lo + length]) for lo in range(0, len(ordered), length)], engine)
        self._join_chains(ordered, starts)
        leaders = [job for job in ordered if job.setting not in self._leader]
        if all(job.objective is not None and job.objective.size > EXACT_LIMIT for job in ordered):
            self._sample = None  # the metrics are all that is wanted of it
            self._blocks.clear()
        self._look(engine, leaders, self._choose_anchors(leaders, sample))
        return [(job, self._go_on(job)) for job in jobs if job.setting not in self._leader]

    def _choose_anchors(self, leaders: Sequence[Job], sample: RowSample) -> list[Job]:
        """Settings whose exact Hessians are to be found; the others' are between those of their neighbours on the path."""
        paths: list[list[Job]] = []
        for job in leaders:
            assert job.objective is not None
            if job.objective.size > EXACT_LIMIT:
                continue
            if not paths or not of_one_loss(paths[-1][0], job):
                paths.append([])
            paths[-1].append(job)
        anchors = []
        for path in paths:
            assert path[0].objective is not None
            partials = [self._sample_partial(job, job.setting, sample) for job in path]
            curvature = np.array([np.diagonal(partial.hess[0]) for partial in partials])  # type: ignore[index]
            places = along_path(curvature, self._most_anchors(path[0].objective.size))
            for i, job in enumerate(path):
                found = between(curvature[i], curvature[places])
                self._anchors[job.setting] = [(path[places[j]].setting, share) for j, share in found]
            anchors += [path[i] for i in places]
        return anchors

    def _keep_sums(self, job: Job, objective: LinearObjective, inner: Any) -> None:
        """The sums that a solver on the sample has found at its end, where they are about the rows as they are."""
        if objective.scale is not None or not objective.fit_intercept or objective.intercept_scaling is not None:
            return
        K, l2, penalised = objective.n_outputs, objective.penalty.l2, objective.penalised()
        slope = ((inner.grad - l2 * penalised * inner.theta) * objective.sum_weight).reshape(-1, K)
        hess = (inner.hess - l2 * np.diag(penalised)) * objective.sum_weight
        sums = LinearPartial(np.array([np.nan]), slope[:-1], slope[-1], hess[None])
        self._in_sample[job.setting, _factors_key(job)] = sums

    def _sample_partial(self, job: Job, setting: int, sample: RowSample) -> LinearPartial:
        """Sums over the sample at a setting's start, gradient and Hessian among them, about the rows as they are."""
        key = (setting, _factors_key(job))
        if key not in self._in_sample:
            W, b = self._starts[setting]
            local, block = self._local(job, sample, folds=False)
            plain = replace(local, shift=None, scale=None)
            self._in_sample[key] = linear_loss(block, plain.params([plain.pack(W, b)], 2))
        return self._in_sample[key]

    def _look(self, engine: Engine, leaders: Sequence[Job], anchors: Sequence[Job]) -> None:
        """One sweep: gradients at every leading setting's start, and Hessians at the anchors', cell by cell."""
        groups: dict[Any, list[Job]] = {}
        for job in [*anchors, *(job for job in leaders if job not in anchors and self._shares_cells)]:
            assert job.objective is not None
            groups.setdefault(job.objective.loss, []).append(job)
        sweeps = []
        for loss, jobs in groups.items():
            W, b = (np.concatenate([self._starts[job.setting][i] for job in jobs], axis=-1) for i in (0, 1))
            machines = [job.objective.classes for job in jobs if job.objective is not None]
            classes = OneAgainstRest.join([c for c in machines if c is not None])
            n_anchors = sum(job in anchors for job in jobs)
            sweeps.append(Sweep(CELL_LOSS, self._cell_params(W, b, loss, n_anchors)._replace(classes=classes)))
        if not sweeps:
            return
        for jobs, partial in zip(groups.values(), engine.sweep(*sweeps), strict=True):
            for model, job in enumerate(jobs):
                if job in anchors:
                    self._hessians[job.setting] = partial, model
                if self._shares_cells:
                    self._gradients[job.setting] = partial, model

    @staticmethod
    def _solve_sample(
        job: Job, objective: LinearObjective, block: Block, n_sample: int, last: tuple[Job, LinearObjective, Any] | None
    ) -> Any:
        """The last state of a setting's solver on the sample, from the solution of the setting before it."""
        tol, max_iter, _ = stopping(job.estimator)
        # The sample's own error is larger: more digits would be of the sample, not of the data.
        options: dict[str, Any] = {"tol": max(tol * 0.1, 0.1 / np.sqrt(n_sample)), "max_iter": min(max_iter, 50)}
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

    def _follow(self, engine: Engine, followers: Sequence[Job], jobs: Sequence[Job]) -> None:
        """Settings that are led start where their leaders are close to the optimum, and go the rest of the way with them."""
        leaders = {(job.setting, job.split): job for job in jobs if job.setting not in self._leader}
        led = [(job, leaders[self._leader[job.setting], job.split]) for job in followers]
        before = {id(job): job.history for job in leaders.values()} | {id(job): lead.history for job, lead in led}
        solvers = [(job, self._led(job, lead)) for job, lead in led]
        for job in leaders.values():
            if isinstance(job.state, SurrogateState) and not job.state.converged:
                tol, max_iter, _ = stopping(job.estimator)
                assert job.objective is not None
                solvers.append((job, surrogate_newton(job.objective, job.state, tol=tol, max_iter=max_iter)))
        self._drive(engine, solvers)
        for job, _ in solvers:
            job.history = [*before[id(job)][:-1], *job.history]

    def _led(self, job: Job, lead: Job) -> Any:
        """The solver of a setting that knows what its leader knows of its split."""
        objective, at = job.objective, lead.state
        assert objective is not None and lead.objective is not None
        tol, max_iter, _ = stopping(job.estimator)
        if not isinstance(at, SurrogateState):
            self._metrics[job.setting] = self._led_metric(job, lead)
            here = other_penalty(lead.objective, objective, at)
            state = lbfgs_state(objective, at.theta, here, tol, self._metrics[job.setting], (), at.n_iter)
            if state.converged:
                # The tangent of the path: what two penalties differ by, which is known exactly, without another look.
                state = replace(state, theta=at.theta - solve_spd(state.metric, state.grad - at.grad))
            return lbfgs(objective, state=state, tol=tol, max_iter=max_iter)
        looked = replace(at, theta=at.theta if at.looked is None else at.looked)
        here = other_penalty(lead.objective, objective, looked)
        weaker = np.diag((objective.penalty.l2 - lead.objective.penalty.l2) * objective.penalised())
        local = replace(at.model.objective, penalty=objective.penalty)
        model = replace(at.model, objective=local, hess=at.model.hess + weaker, solved=None)
        known = surrogate_state(objective, looked.theta, here, model)
        known = replace(known, ratio=at.ratio if at.converged else at.pace, n_iter=at.n_iter)
        return surrogate_newton(objective, known, tol=tol, max_iter=max_iter)

    def _led_metric(self, job: Job, lead: Job) -> Array:
        assert job.objective is not None and lead.objective is not None
        weaker = (job.objective.penalty.l2 - lead.objective.penalty.l2) * job.objective.penalised()
        return self._metrics[lead.setting] + np.diag(weaker)

    def _metric(self, objective: LinearObjective, hess: Array, block: Block) -> Array:
        """The Hessian of the sample's rows, completed by what they miss of all rows' second moments."""
        whole = replace(objective, sum_weight=self.data.sum_weight)
        in_sample, squares = second_moments(block, None).squares / objective.sum_weight, self._squares
        if objective.scale is not None and objective.shift is not None:
            squares = np.full(objective.n_features, self.data.sum_weight)
            in_sample = _scaled_squares(block, objective.shift, objective.scale) / objective.sum_weight
        return complete_metric(whole, hess, in_sample, squares)

    def _row_weights(self, job: Job) -> Array:
        """The job's weight of each sum of cells and classes."""
        cells = job.cells.astype(np.float64) if self._shares_cells else np.ones(1)
        factors = np.ones(self._n_classes) if job.factors is None else job.factors
        return np.outer(cells, factors).ravel()

    def _evaluation(self, job: Job, lead: int) -> tuple[Array, Evaluation]:
        """The start of the job's setting, or of the one that leads it, and the job's value and gradient there."""
        objective = job.objective
        assert objective is not None
        sums, model = self._gradients[lead]
        theta = objective.scaled(*self._starts[lead])
        partial = sums.over(self._row_weights(job), model, objective.n_outputs)
        return theta, objective.finish(theta, partial, 0, 1)

    def _model(self, job: Job, lead: int) -> tuple[SampleModel, Array]:
        """The sample as a model of the job's rows at its start; and the exact Hessian there, as far as it is known."""
        objective, sample = job.objective, self._sample
        assert objective is not None and sample is not None
        local, block = self._local(job, sample, folds=False)
        seen = objective if self._shares_cells else replace(objective, sum_weight=self._whole_weight(job))
        start = objective.scaled(*self._starts[lead])
        at_start = local.finish(start, self._sample_partial(job, lead, sample), 0, 2)
        own, slope = at_start.hess, at_start.grad
        assert own is not None and slope is not None
        gap = np.zeros_like(own)
        for anchor, share in self._anchors[lead]:
            there = objective.scaled(*self._starts[anchor])
            sums, model = self._hessians[anchor]
            partial = sums.over(self._row_weights(job), model, objective.n_outputs)
            in_sample = local.finish(there, self._sample_partial(job, anchor, sample), 0, 2).hess
            exact = seen.finish(there, partial, 0, 2).hess
            assert exact is not None and in_sample is not None
            gap += share * (exact - in_sample)
        return SampleModel(local, block, own, gap, (start, slope)), own + gap

    def _whole_weight(self, job: Job) -> float:
        """Weight of all rows, as the job weighs their classes."""
        if job.factors is None or not isinstance(self._targets, CellClasses):
            return self.data.sum_weight
        return float(job.factors @ self._targets.weight.sum(axis=0))

    def _go_on(self, job: Job) -> Any:
        """A solver that goes on from the start of the job's setting, where all is known that its cells tell."""
        objective = job.objective
        assert objective is not None
        lead = self._leader.get(job.setting, job.setting)
        theta, tol, max_iter = objective.scaled(*self._starts[lead]), *stopping(job.estimator)[:2]
        first: Evaluation
        if lead in self._gradients:
            _, first = self._evaluation(job, lead)
        else:
            first = yield from objective.evaluate(theta)
        if objective.size > EXACT_LIMIT:
            metric = self._metrics[job.setting]
            if objective.penalty.l1:
                start = prox_newton_state(objective, theta, first, tol, metric, True)
                return (yield from prox_newton(objective, state=start, tol=tol, max_iter=max_iter))
            state = lbfgs_state(objective, theta, first, tol, metric)
            return (yield from lbfgs(objective, state=state, tol=tol, max_iter=max_iter))
        model, exact = self._model(job, lead)
        squares = self._squares * (objective.sum_weight / self.data.sum_weight)
        if objective.scale is not None:
            squares = np.full(objective.n_features, objective.sum_weight)
        filled = without_plateaus(objective, theta, first._replace(hess=exact), squares)
        model = replace(model, gap=model.gap + (filled - exact)) if filled is not exact else model
        known = surrogate_state(objective, theta, first, model)
        pause = job.split >= 0 and bool(self._leader)
        return (yield from surrogate_newton(objective, known, tol=tol, max_iter=max_iter, until_close=pause))

    def look_ahead(self, jobs: Sequence[Job]) -> dict[int, Sweep]:
        """What would spare a refit its sweeps, asked in the same read as the scores; by leading setting, for `looked_ahead`.

        A refit starts at the mean of its setting's models on the splits, which is a jackknife's error from its end: much
        less than a standard error. With the gradient there, and the Hessians that the search has found, the rest is work in
        memory.
        """
        self._points = {}
        sweeps = {}
        for setting in sorted({job.setting for job in jobs} - set(self._leader)):
            members = [job for job in jobs if job.setting == setting]
            if not all(isinstance(job.state, SurrogateState) and job.state.converged for job in members):
                continue
            whole = self._whole(members[0])
            assert whole.objective is not None
            theta = whole.objective.scaled(*mean_end(members))
            # The same C weighs less beside all rows: the tangent of the path goes from their penalty to this one.
            theirs = np.mean([job.objective.penalty.l2 for job in members if job.objective is not None])
            weaker = (whole.objective.penalty.l2 - theirs) * whole.objective.penalised() * theta
            theta = theta - solve_spd(self._model(whole, setting)[1], weaker)
            self._points[setting] = whole.objective.unscaled(theta)
            sweeps[setting] = Sweep(LINEAR_LOSS, whole.objective.params([theta], 1))
        return sweeps

    def looked_ahead(self, found: Mapping[int, LinearPartial]) -> None:
        """Take down the answers."""
        self._ahead = {setting: (self._points[setting], partial) for setting, partial in found.items()}

    def _whole(self, like: Job) -> Job:
        """A job for all rows with a job's setting, prepared."""
        job = Job(like.estimator, like.setting, -1, np.ones(self.folds.n_cells, dtype=bool))
        self._prepare_whole(job)
        return job

    def _prepare_whole(self, job: Job) -> None:
        self.prepare(job)
        self.build(job, getattr(self, "moments", None))
        assert job.objective is not None
        if not self._by_class:  # all rows alike: without a table the kernel of one model does it in half the time
            job.objective = replace(job.objective, folds=None)

    def _from_ahead(self, job: Job, lead: int, others: Sequence[Job]) -> Any:
        """A refit from where `look_ahead` has looked."""
        objective = job.objective
        assert objective is not None
        tol, max_iter, _ = stopping(job.estimator)
        at, partial = self._ahead[lead]
        theta = objective.scaled(*at)
        model, _ = self._model(job, lead)
        known = surrogate_state(objective, theta, objective.finish(theta, partial, 0, 1), model)
        states = [other.state for other in others]
        ratios = [state.ratio for state in states if state.ratio is not None]
        # Steps shrink as those of the models on the splits did, which have the same Hessians.
        known = replace(known, ratio=max(ratios, default=None), n_iter=max((s.n_iter for s in states), default=0))
        return (yield from surrogate_newton(objective, known, tol=tol, max_iter=max_iter))

    def refit(self, engine: Engine, job: Job, others: Sequence[Job]) -> None:
        """Train a job on all rows, as its setting's models on the splits were trained."""
        self.refit_together(engine, [(job, others)])

    def refit_together(self, engine: Engine, pairs: Sequence[tuple[Job, Sequence[Job]]]) -> None:
        """Train jobs on all rows, each with its setting's models on the splits."""
        solvers = []
        for job, others in pairs:
            self._prepare_whole(job)
            assert job.objective is not None
            if self._sampled(job) and self._complete:
                assert self._sample is not None
                self._solve_complete(engine, [job], self._sample)
            elif self._sampled(job):
                lead = self._leader.get(job.setting, job.setting)
                if lead in self._metrics:
                    self._metrics.setdefault(job.setting, self._metrics[lead])  # the same C weighs less beside all rows
                known = lead in self._ahead
                solvers.append((job, self._from_ahead(job, lead, others) if known else self._go_on(job)))
            else:
                if others:
                    job.theta = job.objective.scaled(*mean_end(others))
                solvers.append((job, self._start_other(job)))
        self._drive(engine, solvers)


def mean_end(jobs: Sequence[Job]) -> tuple[Array, Array]:
    """Mean of trained models' coefficients (d, K) and intercepts (K,), about the rows as they are."""
    ends = []
    for job in jobs:
        assert job.objective is not None and job.theta is not None
        ends.append(job.objective.unscaled(job.theta))
    W, b = (np.mean(parts, axis=0) for parts in zip(*ends, strict=True))
    return W, b


def along_path(curvature: Array, most: int) -> list[int]:
    """Places on a path of settings, ends included, between which the curvature (n_settings, p) changes little.

    >>> along_path(np.array([[1.0], [0.95], [0.9]]), 8), along_path(np.array([[1.0], [0.8], [0.5], [0.3]]), 8)
    ([0], [0, 3])
    """

    def change(i: int, j: int) -> float:
        larger = np.maximum(np.abs(curvature[i]), np.abs(curvature[j]))
        return float(np.median(np.abs(curvature[i] - curvature[j]) / np.where(larger > 0, larger, 1.0)))

    places, end = [0], len(curvature) - 1
    for i in range(1, end + 1):
        if change(places[-1], i) > DIFFERENT or (i == end and change(places[-1], i) > SAME):
            places.append(i)
    if len(places) > most:
        places = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))]
    return places


def between(own: Array, anchors: Array) -> list[tuple[int, float]]:
    """Which mean of two neighbours among the anchors' curvatures (n, p) is nearest to a setting's own (p,): shares by place.

    >>> between(np.array([0.6]), np.array([[1.0], [0.5], [0.1]]))
    [(0, 0.2), (1, 0.8)]
    """
    best = (np.inf, 0, 0.0)
    scale = np.abs(own) + (np.abs(own) == 0)
    for i in range(max(1, len(anchors) - 1)):
        way = (anchors[min(i + 1, len(anchors) - 1)] - anchors[i]) / scale
        off, square = (own - anchors[i]) / scale, float(way @ way)
        share = float(np.clip(off @ way / square, 0.0, 1.0)) if square > 0 else 0.0
        miss = float(np.abs(off - share * way).sum())
        if miss < best[0]:
            best = (miss, i, share)
    _, i, share = best
    return [(k, round(w, 12)) for k, w in ((i, 1 - share), (i + 1, share)) if w > 0]


def _factors_key(job: Job) -> bytes:
    return b"" if job.factors is None else job.factors.tobytes()


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
