"""Many settings on many splits: in one batch where the estimator knows lockstep, else one after the other."""

from __future__ import annotations

import inspect
import itertools
import logging
import numbers
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import get_scorer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler as ReferenceScaler
from sklearn.utils import indexable

from daskml_core.data import Flat, flatten, is_dataarray, is_grid, is_lazy
from daskml_core.data.from_dask import nothing_read
from daskml_core.data.from_xarray import FEATURE_DIMS
from daskml_core.data.targets import merge_target_moments
from daskml_core.engine import Engine, Plan, find_complete, run_sweeps, sweep_together
from daskml_core.engine.events import Scored, current_watch
from daskml_core.engine.watching import callback_failed
from daskml_core.errors import CheckpointError, FitInterrupted, MemoryPlanError
from daskml_core.html import pairs_table
from daskml_core.kernels.fold_scores import FOLD_RANKS, FOLD_SCORES, ScoreParams
from daskml_core.kernels.pairs import merge_rankings
from daskml_core.linear_model._base import LinearModel
from daskml_core.linear_model._data import TrainingSet
from daskml_core.linear_model._glm import PoissonRegressor
from daskml_core.linear_model._huber import HuberRegressor
from daskml_core.linear_model._least_squares import _GramRegressor
from daskml_core.linear_model._solve import SWEEPS
from daskml_core.model_selection._batch import LinearBatch, NotBatchable, accept, merged, warn_not_converged
from daskml_core.model_selection._folds import Folds, make_folds, n_rows_of
from daskml_core.model_selection._gram import GramBatch, target_moments_sweep
from daskml_core.model_selection._job import Job
from daskml_core.model_selection._machines import MachinesBatch
from daskml_core.model_selection._robust import HuberBatch
from daskml_core.model_selection._scoring import Found, distinct_scores, metric_of
from daskml_core.model_selection._select import take_rows
from daskml_core.preprocessing import StandardScaler
from daskml_core.responses import takes_lazy
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import check_flags

log = logging.getLogger("daskml_core")


@dataclass(frozen=True)
class SearchPlan:
    """How a search will go over the data, known before X is read.

    ``print`` it, or read the fields.

    Attributes
    ----------
    estimator : str
    n_settings, n_splits, n_models : int
    n_batches : int
        Batches of models that are trained side by side; 0 where models are fitted one after the other.
    sweeps : str
        What the fit will read.
    reason : str
        Why models are fitted one after the other; empty where they are not.
    engine : Plan or None
        Blocks, spans and memory of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.model_selection import GridSearchCV
    >>> plan = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3).plan(np.ones((60, 2)), np.arange(60) % 2)
    >>> plan.n_models, plan.n_batches
    (6, 1)
    """

    estimator: str
    n_settings: int
    n_splits: int
    n_batches: int
    """Batches of models that are trained side by side; 0 where models are fitted one after the other."""
    sweeps: str
    reason: str = ""
    """Why models are fitted one after the other."""
    engine: Plan | None = None

    @property
    def n_models(self) -> int:
        return self.n_settings * self.n_splits

    def rows(self, engine_rows: Sequence[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
        """Label and value of each line of the representation; those of the engine's plan may be given."""
        how = f"{self.n_batches} batch(es), models side by side" if self.n_batches else "one after the other"
        lines = [
            ("models", f"{self.n_models:,} = {self.n_settings:,} settings x {self.n_splits} splits"),
            ("trained", how + (f": {self.reason}" if self.reason else "")),
            ("sweeps", self.sweeps),
        ]
        if self.engine is not None:
            lines += [row for row in engine_rows or self.engine.rows() if row[0] != "sweeps"]
        return lines

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        lines = [f"Plan of {self.estimator}", *(f"  {label:<{width}}  {value}" for label, value in rows)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = self.rows(None if self.engine is None else self.engine.html_rows())
        return pairs_table(f"Plan of {self.estimator}", rows)


@dataclass(eq=False)
class Evaluation:
    """Scores (n_settings, n_splits) of every metric, fitted models, times and what it cost."""

    test: dict[str, Array]
    train: dict[str, Array]
    models: list[list[Any]]
    fit_s: Array
    score_s: Array
    plan: SearchPlan
    folds: Folds
    n_sweeps: float | None = None
    best: Any = None
    """The model of the chosen setting, fitted on all rows."""
    best_index: int | None = None
    refit_s: float = 0.0
    flat: Flat | None = None
    """The rows that a grid was taken for."""


@dataclass(eq=False)
class Request:
    """What is to be evaluated."""

    estimator: Any
    settings: Sequence[Mapping[str, Any]]
    X: Any
    y: Any
    cv: Any = None
    groups: Any = None
    scorers: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    train_scores: bool = False
    error_score: Any = np.nan
    verbose: int = 0
    choose: Callable[[Any], int] | None = None
    """The index of the setting to fit on all rows, from the `Evaluation`; ``None`` for no such fit."""
    keep_models: bool = True
    weigh_scores: bool = False
    """Whether ``sample_weight`` among the parameters weighs the scores too."""
    feature_dim: str | None = None
    """The dimension that ``fit`` was told, for the models that come out; among the parameters it is no more."""

    def __post_init__(self) -> None:
        if not isinstance(self.error_score, numbers.Real) and self.error_score != "raise":
            raise ValueError(f'error_score must be "raise" or a number, got {self.error_score!r}.')
        if not is_dataarray(self.X) or is_grid(self.X):
            return
        # Rows are selected where nobody knows what fit was told: there the dimension needs a name that can be told.
        params = dict(self.params)
        dim = _take_param(params, "feature_dim")
        if dim is not None:
            self.X, self.params, self.feature_dim = self.X.rename({dim: FEATURE_DIMS[0]}), params, dim


def _take_param(params: dict[str, Any], name: str) -> Any:
    """What ``fit`` is given under a name, whichever step of a pipeline it is for; it is taken out."""
    found = [params.pop(key) for key in list(params) if key.split("__")[-1] == name]
    return found[0] if found else None


def default_scorer(estimator: Any) -> str | None:
    """Name of the metric that an estimator's own ``score`` is, where it is one that a sweep can find."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(last, LinearModel):
        return None
    if isinstance(last, PoissonRegressor):
        return "d2_poisson"
    return "accuracy" if is_classifier(last) else "r2"


def _unwrap(estimator: Any) -> tuple[Any, Any, str]:
    """``(scaler or None, linear model, name of its step)``."""
    if not isinstance(estimator, Pipeline):
        return None, estimator, ""
    steps = [(name, step) for name, step in estimator.steps if step is not None and step != "passthrough"]
    name, model = steps[-1]
    if len(steps) == 1:
        return None, model, name
    scaler = steps[0][1]
    if len(steps) > 2 or not isinstance(scaler, StandardScaler | ReferenceScaler):
        raise NotBatchable("of its pipeline; only a StandardScaler in front of a linear model is part of the model")
    return scaler, model, name


@dataclass(eq=False)
class _Batchable:
    """Settings of a linear model, checked, and the data they share."""

    scaler: Any
    models: list[Any]
    data: TrainingSet
    gram: bool

    @property
    def batch(self) -> Any:
        several = self.data.classes is not None and len(self.data.classes) > 2
        machines = several and hasattr(self.models[0], "_of_class")
        if isinstance(self.models[0], HuberRegressor):
            return HuberBatch
        return GramBatch if self.gram else MachinesBatch if machines else LinearBatch


def _batchable(request: Request, estimators: Sequence[Any]) -> _Batchable:
    """The settings as models that can be trained side by side.

    Raises `NotBatchable` with the reason where they cannot.
    """
    parts = [_unwrap(estimator) for estimator in estimators]
    models = [model for _, model, _ in parts]
    first, step = models[0], parts[0][2]
    name = type(first).__name__
    if not isinstance(first, LinearModel) or not hasattr(first, "_training_set"):
        raise NotBatchable(f"{name} does not know lockstep")
    if any(type(model) is not type(first) for model in models):
        raise NotBatchable("the settings are of several kinds of model")
    if any(model.solver == "sgd" for model in models):
        raise NotBatchable('solver="sgd" goes over the rows in an order of its own')
    gram = [isinstance(model, _GramRegressor) and model.solver == "auto" for model in models]
    if any(gram) and not all(gram):
        raise NotBatchable("some settings solve the Gram matrix, others sweep over the data")
    scalers = [scaler for scaler, _, _ in parts]
    if any((scaler is None) != (scalers[0] is None) for scaler in scalers):
        raise NotBatchable("some settings have a scaler, others none")
    if scalers[0] is not None and any(
        (s.with_mean, s.with_std) != (scalers[0].with_mean, scalers[0].with_std) for s in scalers
    ):
        raise NotBatchable("the settings scale differently")
    given = {(key.removeprefix(f"{step}__") if step else key): value for key, value in request.params.items()}
    if set(given) - {"sample_weight", "feature_dim"}:
        raise NotBatchable(f"fit was given {sorted(set(given) - {'sample_weight', 'feature_dim'})}")
    for model in models:
        check_flags(model)
        model._check_params()
    if scalers[0] is not None:
        check_flags(scalers[0])
    loader = clone(first)
    data = loader._training_set(request.X, request.y, given.get("sample_weight"), given.get("feature_dim"))
    for model in models:
        reason = model._not_in_a_batch(data) if hasattr(model, "_not_in_a_batch") else None
        if reason:
            raise NotBatchable(reason)
        if isinstance(model, _GramRegressor):
            model._check_solver()
        for attribute in ("n_features_in_", "feature_names_in_", "_feature_dim"):
            if hasattr(loader, attribute):
                setattr(model, attribute, getattr(loader, attribute))
    return _Batchable(scalers[0], models, data, gram[0])


def _engine(batch: Any, jobs: Sequence[Job], scoring: Sequence[tuple[Any, Any]]) -> Engine:
    kernels = [*batch.kernels(jobs), *scoring]
    return Engine(batch.data.blocks, kernels=kernels, held_bytes=batch.held_bytes(jobs))


def _fits(batch: Any, jobs: Sequence[Job], scoring: Sequence[tuple[Any, Any]]) -> Engine | None:
    try:
        return _engine(batch, jobs, scoring)
    except MemoryPlanError:
        return None


def _cut_into_batches(
    batch: Any, jobs: Sequence[Job], n_settings: int, scoring: Sequence[tuple[Any, Any]]
) -> tuple[Engine, list[list[Job]]]:
    """As few batches of whole settings as fit into memory, and an engine that has room for the largest.

    All models are scored at once, whatever the batches: ``scoring`` are the kernels of that sweep.

    Raises
    ------
    MemoryPlanError : where not even one setting fits.
    """

    def batches(n: int) -> list[list[Job]]:
        bounds = [round(i * n_settings / n) for i in range(n + 1)]
        return [[job for job in jobs if lo <= job.setting < stop] for lo, stop in itertools.pairwise(bounds)]

    engine = _fits(batch, jobs, scoring)
    if engine is not None:
        return engine, [list(jobs)]
    low, high = 1, n_settings
    while high - low > 1:
        middle = (low + high) // 2
        if _fits(batch, max(batches(middle), key=len), scoring) is not None:
            high = middle
        else:
            low = middle
    parts = batches(high)
    return _engine(batch, max(parts, key=len), scoring), parts


class BatchRun:
    """An evaluation as one conversation with the data."""

    def __init__(self, request: Request, estimators: Sequence[Any], folds: Folds) -> None:
        self.request, self.folds = request, folds
        self.parts = _batchable(request, estimators)
        self.estimators = list(estimators)
        if self.parts.data.blocks.n_rows != folds.n_rows:
            raise ValueError(f"The splits are of {folds.n_rows} rows, but X has {self.parts.data.blocks.n_rows}.")
        self.jobs = [
            Job(_fresh(model), setting, split, folds.train[split])
            for setting, model in enumerate(self.parts.models)
            for split in range(folds.n_splits)
        ]
        self.batch = self.parts.batch(self.parts.data, folds, self.jobs, self.parts.scaler)
        classes, first = self.parts.data.classes, self.parts.models[0]
        self.metrics = {
            name: metric_of(
                scorer, None if classes is None else len(classes), probabilities=hasattr(first, "predict_proba")
            )
            for name, scorer in request.scorers.items()
        }
        self.engine, self.batches = _cut_into_batches(self.batch, self.jobs, len(estimators), self._scoring())

    def _scoring(self) -> list[tuple[Any, Any]]:
        """Kernels of the sweep that scores all models, with parameters of the right size, for the memory plan."""
        needs = {metric.need for metric in self.metrics.values() if metric is not None}
        if not needs:
            return []
        data, folds = self.parts.data, self.folds
        K, m = self._n_outputs(), len(self.jobs)
        masks = [folds.test, folds.train] if self.request.train_scores else [folds.test]
        # Rows that a model is scored on, on the average: a row counts in so many of the splits.
        rows = max(-(-folds.n_rows * int(mask.sum(axis=0).max()) // folds.n_splits) for mask in masks)
        params = ScoreParams(
            W=np.broadcast_to(np.zeros(()), (data.blocks.n_features, m * K)),
            b=np.broadcast_to(np.zeros(()), (m * K,)),
            n_outputs=K,
            split=np.array([job.split for job in self.jobs]),
            cells=folds.test,
            cell_of=folds.cell_of,
            n_classes=None if data.classes is None else len(data.classes),
            wants=frozenset(needs - {"rank"}),
            softmax=False,
            exponential=False,
            max_distinct=min(distinct_scores(m), rows),
            weighted=self.request.weigh_scores,
        )
        kernels = [(FOLD_SCORES, params)] if params.wants else []
        return kernels + ([(FOLD_RANKS, params)] if "rank" in needs else [])

    def _n_outputs(self) -> int:
        """Columns of a model's coefficients."""
        classes = self.parts.data.classes
        return 1 if classes is None or len(classes) <= 2 else len(classes)

    def plan(self) -> SearchPlan:
        """What the run will do."""
        model = self.parts.models[0]
        solver = "gram" if self.parts.gram else model.solver
        n = len(self.batches)
        train = "1 for the Gram matrices of all folds" if self.parts.gram else SWEEPS[solver]
        if isinstance(model, HuberRegressor):
            train = "about 8, each with value, gradient and Hessian" if solver == "auto" else SWEEPS[solver]
        elif solver == "auto":
            train = "1 for the sample, 1 for gradients and few Hessians by fold, about 1-3 for all models"
        sweeps = (f"{n} x ({train})" if n > 1 else train) + "; 1 for the scores"
        if self.request.choose is not None and not self.parts.gram:
            sweeps += "; 0-2 of one model for the refit"
        engine = self.engine
        blocks = self.parts.data.blocks
        plan = Plan(
            estimator=type(model).__name__, n_rows=blocks.n_rows, n_features=blocks.n_features,
            dtype=str(blocks.dtype), n_blocks=blocks.n_blocks, n_spans=engine.n_spans,
            bytes_per_sweep=sum(blocks.n_rows * column.row_bytes for column in blocks.columns),
            resident_bytes=engine.resident_bytes, n_resident_spans=engine.n_resident_spans,
            projected_peak_bytes=engine.projected_peak_bytes, memory_limit_bytes=engine.footprint.limit,
            processes=engine.executor.processes, threads=engine.executor.n_threads,
            kernels=tuple(dict.fromkeys(k.task_name(p) for k, p in self.batch.kernels(self.batches[0]))),
            peak_parts=engine.peak_parts,
        )  # fmt: skip
        return SearchPlan(type(model).__name__, len(self.estimators), self.folds.n_splits, n, sweeps, engine=plan)

    def run(self) -> Evaluation:
        """Train, score, choose and fit the chosen setting on all rows."""
        request, n_splits = self.request, self.folds.n_splits
        started = time.perf_counter()
        try:
            for jobs in self.batches:
                self.batch.train(self.engine, jobs)
                if not self.parts.gram:
                    for job in jobs:
                        accept(job)
            if not self.parts.gram:
                warn_not_converged(self.jobs, type(self.jobs[0].estimator).__name__, stacklevel=6)
            shape = (len(self.estimators), n_splits)
            fit_s = np.full(shape, (time.perf_counter() - started) / len(self.jobs))
            models = [[None] * n_splits for _ in self.estimators]
            for job in self.jobs:
                models[job.setting][job.split] = self._finished(job)
            scoring = time.perf_counter()
            test = self._scores(self.folds.test, models, test=True)
            tell_best(request.settings, test, len(self.estimators))
            train = self._scores(self.folds.train, models, test=False) if request.train_scores else {}
            score_s = np.full(shape, (time.perf_counter() - scoring) / len(self.jobs))
            result = Evaluation(test, train, models, fit_s, score_s, self.plan(), self.folds)
            if request.choose is not None:
                refit = time.perf_counter()
                result.best_index = request.choose(result)
                result.best = self._refit(result.best_index)
                result.refit_s = time.perf_counter() - refit
        finally:
            self.engine.close()
        # Folds that keep classes in proportion have read the targets too.
        alone = 1 + self.batch.target_sweeps + (self.folds.class_rows is not None)
        result.n_sweeps = round(self.engine.n_sweeps + alone * self.parts.data.target_fraction, 6)
        if result.best is not None:
            _unwrap(result.best)[1].n_sweeps_ = result.n_sweeps
        return result

    def _finished(self, job: Job) -> Any:
        """The fitted estimator as the user knows it: a pipeline where it was one."""
        template = self.estimators[job.setting]
        if not isinstance(template, Pipeline):
            return job.estimator
        # Not `clone`: the fitted steps are to be in it, not copies of what they were before.
        steps = [
            (name, step if step is None or step == "passthrough" else job.scaler if job.scaler is not None else step)
            for name, step in template.steps[:-1]
        ]
        return type(template)([*steps, (template.steps[-1][0], job.estimator)], memory=template.memory)

    def fit_all(self) -> Any:
        """The one estimator of this run, fitted on all rows: no splits, no scores."""
        (job,) = self.jobs
        try:
            self.batch.train(self.engine, [job])
        finally:
            self.engine.close()
        if not self.parts.gram:
            accept(job)
            warn_not_converged([job], type(job.estimator).__name__, stacklevel=6)
        alone = 1 + self.batch.target_sweeps
        job.estimator.n_sweeps_ = round(self.engine.n_sweeps + alone * self.parts.data.target_fraction, 6)
        return self._finished(job)

    def _refit(self, index: int) -> Any:
        job = Job(_fresh(self.parts.models[index]), index, -1, np.ones(self.folds.n_cells, dtype=bool))
        self.batch.refit(self.engine, job, [other for other in self.jobs if other.setting == index])
        if not self.parts.gram:
            accept(job)
            warn_not_converged([job], type(job.estimator).__name__, stacklevel=7)
        return self._finished(job)

    def _scores(self, cells: Array, models: list[list[Any]], *, test: bool) -> dict[str, Array]:
        shape = (len(self.estimators), self.folds.n_splits)
        order = sorted(self.jobs, key=lambda job: job.split)
        found = self._find(cells, order, ahead=test and self._looks_ahead)
        scores = {}
        for name, metric in self.metrics.items():
            table = np.full(shape, np.nan)
            for j, job in enumerate(order):
                try:
                    if metric is not None:
                        value = metric.score(found, j)
                    else:
                        scorer = self.request.scorers[name]
                        X, y = (
                            take_rows(a, self.folds.rows(job.split, test=test))
                            for a in (self.request.X, self.request.y)
                        )
                        value = call_scorer(scorer, models[job.setting][job.split], X, y, self._score_weight(job, test))
                except (CheckpointError, FitInterrupted):
                    raise  # not the model's failure, but the end of the search
                except Exception as error:
                    value = failed_score(error, self.request.error_score)
                table[job.setting, job.split] = value
            scores[name] = table
        return scores

    def _score_weight(self, job: Job, test: bool) -> Any:
        if not self.request.weigh_scores:
            return None
        return take_rows(self.request.params["sample_weight"], self.folds.rows(job.split, test=test))

    @property
    def _looks_ahead(self) -> bool:
        """Whether the sweep of the scores should find what the refit will ask: there is room where all was one batch."""
        return self.request.choose is not None and isinstance(self.batch, LinearBatch) and len(self.batches) == 1

    def _find(self, cells: Array, order: Sequence[Job], ahead: bool) -> Found:
        """One sweep for the sums of all models on the rows that they are scored on, and for what a refit will ask."""
        needs = {metric.need for metric in self.metrics.values() if metric is not None}
        data, folds = self.parts.data, self.folds
        split = np.array([job.split for job in order])
        truth = None
        if needs & {"errors", "deviance"}:
            weighted = self.request.weigh_scores
            targets = replace(data.blocks, X=None, weight=data.blocks.weight if weighted else None)
            (by_cell,) = run_sweeps(targets, target_moments_sweep(folds))
            truth = tuple(merged(by_cell, row, merge_target_moments) for row in cells)
        if not needs:
            return Found(None, None, split, data.classes, truth)
        coefficients = [_raw(job, data.blocks.n_features) for job in order]
        params = ScoreParams(
            W=np.hstack([W for W, _ in coefficients]),
            b=np.concatenate([b for _, b in coefficients]),
            n_outputs=coefficients[0][0].shape[1],
            split=split,
            cells=cells,
            cell_of=folds.cell_of,
            n_classes=None if data.classes is None else len(data.classes),
            wants=frozenset(needs - {"rank"}),
            softmax=getattr(order[0].estimator, "_softmax", False),
            exponential=isinstance(order[0].estimator, PoissonRegressor),
            max_distinct=distinct_scores(len(order)),
            weighted=self.request.weigh_scores,
        )
        sweeps = {}
        if params.wants:
            sweeps["sums"] = Sweep(FOLD_SCORES, params)
        if "rank" in needs:
            sweeps["ranking"] = Sweep(FOLD_RANKS, params, merge_rankings)
        gradients = self.batch.look_ahead(self.jobs) if ahead else {}
        asked = [tuple(sweeps.values()), *((sweep,) for sweep in gradients.values())]
        scores, *seen = sweep_together(self.engine.sweep, asked)
        answers = dict(zip(sweeps, scores, strict=True))
        if ahead:
            self.batch.looked_ahead({setting: answer for setting, (answer,) in zip(gradients, seen, strict=True)})
        ranking = answers.get("ranking")
        if ranking is not None and any(ranking.dropped_bits):
            warnings.warn(
                f"More than {params.max_distinct:_} distinct scores a model: close ones count as ties, and ranking metrics "
                "are approximate. Score fewer models at once to keep more.",
                UserWarning,
                stacklevel=7,
            )
        return Found(answers.get("sums"), ranking, split, data.classes, truth, self.request.weigh_scores)


def _raw(job: Job, d: int) -> tuple[Array, Array]:
    """W (d, K) and b (K,) about the rows as they are."""
    from daskml_core.model_selection._batch import shift_and_scale

    params = job.estimator._predict_params()
    if job.scaler is None:
        return params.W, params.b
    shift, scale = shift_and_scale(job.scaler, d)
    W = params.W / scale[:, None]
    return W, params.b - shift @ W


def _fresh(model: Any) -> Any:
    """A clone that knows its features."""
    copy = clone(model)
    for attribute in ("n_features_in_", "feature_names_in_", "_feature_dim"):
        if hasattr(model, attribute):
            setattr(copy, attribute, getattr(model, attribute))
    return copy


def call_scorer(scorer: Any, model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """A scorer's value: a name, a callable, or ``None`` for the model's own score."""
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    if weight and callable(scorer) and "sample_weight" not in inspect.signature(scorer).parameters:
        warnings.warn(f"The scorer {scorer!r} does not take sample_weight: its scores are not weighted.", stacklevel=2)
        weight = {}
    if scorer is None or scorer == "d2_poisson":
        value = model.score(X, **weight) if y is None else model.score(X, y, **weight)
    else:
        function = get_scorer(scorer) if isinstance(scorer, str) else scorer
        value = function(model, X, y, **weight)
    return float(value)


def tell_best(settings: Sequence[Mapping[str, Any]], scores: Mapping[str, Array], n_scored: int) -> None:
    """Tell those who watch which setting is the best so far, by the first metric's mean over the splits that are there."""
    watch = current_watch()
    if watch is None or not scores:
        return
    metric, table = next(iter(scores.items()))
    there = np.isfinite(table)
    means = np.where(
        there.any(axis=1), np.where(there, table, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1), -np.inf
    )
    best = int(means.argmax())
    if np.isfinite(means[best]):
        watch.tell(Scored(dict(settings[best]), float(means[best]), metric, n_scored, len(settings)))


def failed_score(error: Exception, error_score: Any) -> float:
    """The score that stands for a failure, told in a warning; or the failure itself."""
    if callback_failed() or error_score == "raise":
        raise error
    warnings.warn(
        f"Scoring failed. The score on this train-test partition will be set to {error_score}. "
        f"{type(error).__name__}: {error}",
        UserWarning,
        stacklevel=2,
    )
    return float(error_score)


def run(request: Request) -> Evaluation:
    """Evaluate a request by the cheapest way that there is for its estimator."""
    if is_grid(request.X):
        return _run_on_grid(request)
    estimators = prepare(request)
    folds = _folds(request)
    try:
        batch = BatchRun(request, estimators, folds)
    except NotBatchable as reason:
        result = _one_after_the_other(request, estimators, folds, str(reason))
    else:
        _tell(request, batch.plan())
        result = batch.run()
    if request.feature_dim is not None:
        for model in (result.best, *itertools.chain.from_iterable(result.models)):
            set_feature_dim(model, request.feature_dim)
    return result


def as_rows(request: Request) -> tuple[Request, Flat]:
    """The request for the complete samples of a grid, as rows; and those."""
    params = dict(request.params)
    weights = next((key for key in params if key.split("__")[-1] == "sample_weight"), "sample_weight")
    dim, weight = _take_param(params, "feature_dim"), params.pop(weights, None)
    others = {} if request.groups is None else {"groups": request.groups}
    coords = [request.cv.coord] if getattr(request.cv, "coord", None) is not None else []
    flat = flatten(
        request.X, request.y, weight, find_complete=find_complete, feature_dim=dim, others=others, coords=coords
    )
    if flat.sample_weight is not None:
        params[weights] = flat.sample_weight
    groups = flat.others.get("groups")
    return replace(request, X=flat.X, y=flat.y, groups=groups, params=params, feature_dim=dim), flat


def _run_on_grid(request: Request) -> Evaluation:
    rows, flat = as_rows(request)
    result = run(rows)
    result.flat = flat
    if result.n_sweeps is not None:
        result.n_sweeps = round(result.n_sweeps + flat.counted, 6)
    if result.best is not None and result.n_sweeps is not None:
        _unwrap(result.best)[1].n_sweeps_ = result.n_sweeps
    return result


def set_feature_dim(model: Any, dim: str | None) -> None:
    """Make a model that was fitted to rows without names, or under another one, know their feature dimension."""
    for step in [s for _, s in model.steps] if isinstance(model, Pipeline) else [model]:
        if hasattr(step, "_feature_dim"):
            step._feature_dim = dim


def plan(request: Request) -> SearchPlan:
    """What `run` will do; X is not read."""
    if is_grid(request.X):
        with nothing_read():
            request, _ = as_rows(request)
    estimators, folds = prepare(request), _folds(request)
    try:
        return BatchRun(request, estimators, folds).plan()
    except NotBatchable as reason:
        return _sequential_plan(request, folds, str(reason))


def prepare(request: Request) -> list[Any]:
    """An estimator a setting."""
    return [clone(request.estimator).set_params(**clone(dict(setting), safe=False)) for setting in request.settings]


def _folds(request: Request) -> Folds:
    return make_folds(request.cv, request.X, request.y, request.groups, classifier=is_classifier(request.estimator))


def _tell(request: Request, found: SearchPlan) -> None:
    log.info("%r", found)
    if request.verbose:
        print(found)


def _sequential_plan(request: Request, folds: Folds, reason: str) -> SearchPlan:
    n = len(request.settings) * folds.n_splits
    sweeps = f"at least {2 * n}: a fit and a score for each of {n} models"
    return SearchPlan(type(request.estimator).__name__, len(request.settings), folds.n_splits, 0, sweeps, reason)


def _one_after_the_other(request: Request, estimators: Sequence[Any], folds: Folds, reason: str) -> Evaluation:
    """Fit every model on its own rows, selected lazily where the estimator takes lazy data, and read otherwise."""
    found = _sequential_plan(request, folds, reason)
    _tell(request, found)
    request = replace(request, X=_rows_of(request.X, folds.n_rows), y=_rows_of(request.y, folds.n_rows))
    lazy = takes_lazy(request.estimator)
    shape = (len(estimators), folds.n_splits)
    test = {name: np.full(shape, np.nan) for name in request.scorers}
    train = {name: np.full(shape, np.nan) for name in request.scorers} if request.train_scores else {}
    fit_s, score_s = np.zeros(shape), np.zeros(shape)
    models: list[list[Any]] = [[None] * folds.n_splits for _ in estimators]
    n_failed, last = 0, None
    for split in range(folds.n_splits):
        masks = {"train": folds.rows(split, test=False), "test": folds.rows(split, test=True)}
        rows = {side: [take_rows(a, mask, lazy=lazy) for a in (request.X, request.y)] for side, mask in masks.items()}
        given = request.params["sample_weight"] if request.weigh_scores else None
        weights = {side: take_rows(given, mask, lazy=lazy) for side, mask in masks.items()}
        params = {
            key: take_rows(value, masks["train"], lazy=lazy) if _is_column(value, folds.n_rows) else value
            for key, value in request.params.items()
        }
        for setting, template in enumerate(estimators):
            model = clone(template)
            started = time.perf_counter()
            try:
                X, y = rows["train"]
                model.fit(X, **params) if y is None else model.fit(X, y, **params)
            except (CheckpointError, FitInterrupted):
                raise  # not the model's failure, but the end of the search
            except Exception as error:
                if callback_failed() or request.error_score == "raise":
                    raise
                n_failed, last = n_failed + 1, error
                for name in request.scorers:
                    test[name][setting, split] = request.error_score
                    if train:
                        train[name][setting, split] = request.error_score
                continue
            fit_s[setting, split] = time.perf_counter() - started
            models[setting][split] = model if request.keep_models else None
            started = time.perf_counter()
            for side, tables in (("test", test), ("train", train)):
                for name in tables:
                    try:
                        tables[name][setting, split] = call_scorer(
                            request.scorers[name], model, rows[side][0], rows[side][1], weights[side]
                        )
                    except (CheckpointError, FitInterrupted):
                        raise  # not the model's failure, but the end of the search
                    except Exception as error:
                        tables[name][setting, split] = failed_score(error, request.error_score)
            score_s[setting, split] = time.perf_counter() - started
            tell_best(request.settings, test, len(estimators) if split else setting + 1)
    if n_failed == len(estimators) * folds.n_splits:
        raise ValueError(f"All the {n_failed} fits failed. The last error: {type(last).__name__}: {last}") from last
    if n_failed:
        warnings.warn(
            f"{n_failed} fits failed out of a total of {len(estimators) * folds.n_splits}. The score on these train-test "
            f"partitions for these parameters will be set to {request.error_score}. The last error: "
            f"{type(last).__name__}: {last}",
            FitFailedWarning,
            stacklevel=5,
        )
    result = Evaluation(test, train, models, fit_s, score_s, found, folds)
    if request.choose is not None:
        started = time.perf_counter()
        result.best_index = request.choose(result)
        result.best = clone(estimators[result.best_index])
        whole = np.ones(folds.n_rows, dtype=bool)
        X, y = (a if lazy or a is None else take_rows(a, whole, lazy=False) for a in (request.X, request.y))
        result.best.fit(X, **request.params) if y is None else result.best.fit(X, y, **request.params)
        result.refit_s = time.perf_counter() - started
    return result


def _rows_of(array: Any, n_rows: int) -> Any:
    """An array whose rows can be taken, after a look at how many there are."""
    if array is None:
        return None
    if not is_lazy(array):
        (array,) = indexable(array)
    found = n_rows_of(array)
    if found != n_rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[n_rows, found]}.")
    return array


def _is_column(value: Any, n_rows: int) -> bool:
    shape = getattr(value, "shape", None)
    return bool(shape and shape[0] == n_rows) or (shape is None and isinstance(value, list) and len(value) == n_rows)
