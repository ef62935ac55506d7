"""Searches over settings: scikit-learn's classes, whose fit is one conversation with the data where that can be."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.stats import rankdata
from sklearn import model_selection as reference
from sklearn.base import is_classifier
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from daskml_core.engine import CheckpointPath, resumable
from daskml_core.model_file import Portable
from daskml_core.model_selection._run import Evaluation, Request, SearchPlan, call_scorer, default_scorer, plan, run
from daskml_core.model_selection._scoring import scorers_of
from daskml_core.search_html import ShownSearch
from daskml_core.sweep import Array
from daskml_core.validate import flag

PRE_DISPATCH = "2*n_jobs"


def refuse_jobs(n_jobs: Any, pre_dispatch: Any) -> None:
    """Parameters of scikit-learn's that would do nothing here."""
    if n_jobs is not None or pre_dispatch != PRE_DISPATCH:
        raise ValueError(
            f"n_jobs={n_jobs!r} and pre_dispatch={pre_dispatch!r} have no effect: models are trained side by side, on the "
            "threads of this process or the workers of the active Dask Client. Leave them out."
        )


def format_results(settings: Sequence[Mapping[str, Any]], result: Evaluation) -> dict[str, Any]:
    """``cv_results_`` with scikit-learn's keys. Times are a model's share where models were trained side by side."""
    formatted: dict[str, Any] = {}
    for key, times in (("fit_time", result.fit_s), ("score_time", result.score_s)):
        formatted[f"mean_{key}"], formatted[f"std_{key}"] = times.mean(axis=1), times.std(axis=1)
    for name in sorted({name for setting in settings for name in setting}):
        formatted[f"param_{name}"] = _masked([setting.get(name, _ABSENT) for setting in settings])
    formatted["params"] = [dict(setting) for setting in settings]
    for name, table in result.test.items():
        _add_scores(formatted, f"test_{name}", table)
        mean = formatted[f"mean_test_{name}"]
        known = ~np.isnan(mean)
        filled = np.where(known, mean, (np.nanmin(mean) if known.any() else 0.0) - 1)
        formatted[f"rank_test_{name}"] = rankdata(-filled, method="min").astype(np.int32)
    for name, table in result.train.items():
        _add_scores(formatted, f"train_{name}", table)
    return formatted


_ABSENT = object()


def _masked(values: list[Any]) -> Any:
    """A parameter's values, masked where a setting does not have it."""
    mask = [value is _ABSENT for value in values]
    present = [value for value in values if value is not _ABSENT]
    dtype: Any = object
    if all(isinstance(v, numbers.Number | np.generic) and not isinstance(v, bool) for v in present):
        dtype = np.result_type(*present) if present else object
    elif all(isinstance(v, bool | np.bool_) for v in present):
        dtype = bool
    column = np.ma.masked_all(len(values), dtype=dtype)
    for i, value in enumerate(values):
        if value is not _ABSENT:
            column[i] = value
    column.mask = mask
    return column


def _add_scores(formatted: dict[str, Any], name: str, table: Array) -> None:
    for split in range(table.shape[1]):
        formatted[f"split{split}_{name}"] = table[:, split].copy()
    formatted[f"mean_{name}"], formatted[f"std_{name}"] = table.mean(axis=1), table.std(axis=1)


class _Search(ShownSearch, Portable):
    """``fit``, ``plan`` and ``score`` of the searches; the rest is scikit-learn's."""

    estimator: Any
    scoring: Any
    n_jobs: Any
    pre_dispatch: Any
    refit: Any
    cv: Any
    verbose: int
    error_score: Any
    return_train_score: bool

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.multi_output = get_tags(self.estimator).target_tags.multi_output
        return tags

    def _settings(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _request(self, X: Any, y: Any, params: dict[str, Any]) -> tuple[Request, bool, Any]:
        refuse_jobs(self.n_jobs, self.pre_dispatch)
        scorers, several = scorers_of(self.scoring, default_scorer(self.estimator))
        metric = self._refit_metric(scorers, several)
        settings = self._settings()
        if not settings:
            raise ValueError("There are no settings to search over.")
        groups = params.pop("groups", None)

        def choose(result: Evaluation) -> int:
            results = format_results(settings, result)
            if callable(self.refit):
                index = self.refit(results)
                if not isinstance(index, numbers.Integral):
                    raise TypeError("best_index_ returned is not an integer")
                if not 0 <= int(index) < len(settings):
                    raise IndexError("best_index_ index out of range")
                return int(index)
            return int(results[f"rank_test_{metric}"].argmin())

        request = Request(
            estimator=self.estimator,
            settings=settings,
            X=X,
            y=y,
            cv=self.cv,
            groups=groups,
            scorers=scorers,
            params=params,
            train_scores=flag("return_train_score", self.return_train_score),
            error_score=self.error_score,
            verbose=int(self.verbose),
            choose=choose if self.refit else None,
            keep_models=False,
            weigh_scores=params.get("sample_weight") is not None,
        )
        return request, several, metric

    def _refit_metric(self, scorers: Mapping[str, Any], several: bool) -> str:
        if not several:
            return next(iter(scorers))
        if self.refit is False or callable(self.refit):
            return ""
        if not isinstance(self.refit, str) or self.refit not in scorers:
            raise ValueError(
                "For multi-metric scoring, the parameter refit must be set to a scorer key or a callable to refit an "
                f"estimator with the best parameter setting on the whole data. {self.refit!r} was passed."
            )
        return self.refit

    @resumable
    def fit(self, X: Any, y: Any = None, *, checkpoint: CheckpointPath = None, **params: Any) -> Self:
        """Evaluate every setting on every split, and fit the best on all rows.

        Parameters
        ----------
        X : array-like (n_rows, n_features), in any container.
        y : array-like (n_rows,), optional.
        checkpoint : directory or URL where an interrupted search is kept, so that the same one goes on there (user guide).
        **params : ``groups`` for the splitter; ``sample_weight``, ``feature_dim`` and others for the estimator's fit.
            ``sample_weight`` weighs the scores too, as in scikit-learn.
        """
        request, several, metric = self._request(X, y, dict(params))
        result = run(request)
        self.multimetric_ = several
        self.search_plan_ = result.plan
        self.n_sweeps_ = result.n_sweeps
        self.n_splits_ = result.folds.n_splits
        self.scorer_ = dict(request.scorers) if several else next(iter(request.scorers.values()))
        self.cv_results_ = format_results(request.settings, result)
        if result.best_index is not None:
            self.best_index_ = result.best_index
        elif not several:
            self.best_index_ = int(self.cv_results_[f"rank_test_{metric}"].argmin())
        if hasattr(self, "best_index_"):
            self.best_params_ = self.cv_results_["params"][self.best_index_]
            if metric and not callable(self.refit):
                self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]
        if result.best is not None:
            self.best_estimator_ = result.best
            self.refit_time_ = result.refit_s
            if hasattr(result.best, "feature_names_in_"):
                self.feature_names_in_ = result.best.feature_names_in_
        return self

    def plan(self, X: Any, y: Any = None, **params: Any) -> SearchPlan:
        """How a fit will go over the data: batches of models, sweeps, memory; or why models come one after the other.

        X is not read; targets are, where splits or classes depend on them.
        """
        return plan(self._request(X, y, dict(params))[0])

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Score of the best estimator on X, by the metric that ``refit`` names; X in any container."""
        check_is_fitted(self, "best_estimator_")
        scorer = self.scorer_
        if self.multimetric_:
            if callable(self.refit):
                raise ValueError("With several metrics and a callable refit there is no one score. Call a scorer.")
            scorer = self.scorer_[self.refit]
        return score_lazily(scorer, self.best_estimator_, X, y)


def score_lazily(scorer: Any, model: Any, X: Any, y: Any) -> float:
    """A scorer's value on X and y in any container: by this library's metrics where they have it."""
    from daskml_core import metrics

    if not isinstance(scorer, str) or scorer in ("r2", "accuracy", "d2_poisson"):
        return call_scorer(scorer, model, X, y)
    binary = is_classifier(model) and len(model.classes_) == 2
    if scorer == "neg_log_loss":
        return -float(metrics.log_loss(y, model.predict_proba(X), labels=model.classes_))
    if scorer == "roc_auc" and binary:
        return float(metrics.roc_auc_score(y, model.decision_function(X)))
    if scorer == "average_precision" and binary:
        scores = model.decision_function(X)
        return float(metrics.average_precision_score(y, scores, pos_label=model.classes_[1]))
    if scorer in ("f1", "precision", "recall", "balanced_accuracy"):
        return float(getattr(metrics, f"{scorer}_score")(y, model.predict(X)))
    errors: dict[str, Callable[..., Any]] = {
        "neg_mean_squared_error": metrics.mean_squared_error,
        "neg_root_mean_squared_error": metrics.root_mean_squared_error,
        "neg_mean_absolute_error": metrics.mean_absolute_error,
    }
    if scorer in errors:
        return -float(errors[scorer](y, model.predict(X)))
    return call_scorer(scorer, model, X, y)


class GridSearchCV(_Search, reference.GridSearchCV):
    """Exhaustive search over settings; all models of all splits in one conversation with the data.

    scikit-learn's, for data that does not fit in memory. Where the estimator is one of this library's linear models, or a
    linear machine with a squared loss, or a pipeline of a `StandardScaler` and one of them, every setting on the training
    rows of every split is one model of a batch: five or six sweeps in all, scores and refit included, whatever the number of
    models. Any other estimator is fitted one setting and split after the other, on rows selected lazily; ``search_plan_``
    and ``plan`` say so, and why.

    Parameters
    ----------
    estimator, param_grid, scoring, refit, cv, verbose, error_score, return_train_score : as in scikit-learn.
        ``cv`` takes this library's splitters and scikit-learn's; scores by name are found in one sweep for all models.
    n_jobs, pre_dispatch : left as they are; Dask's threads or workers do the work. Anything else is refused.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As in scikit-learn. ``mean_fit_time`` is a model's share of the time that all took together.
    search_plan_ : SearchPlan
        Models, batches, sweeps and memory; or the reason why models were fitted one after the other.
    n_sweeps_ : float
        Complete reads of the data, ``None`` where models were fitted one after the other.

    Notes
    -----
    A model in the batch is the model that its training rows alone would give: to 1e-10 of its largest coefficient in
    float64, where rounding differs because its products are columns of one matrix product; to about 1e-7 in float32, the
    precision in which kernels see coefficients. With the default solver, more rows than its sample and more than 300
    parameters it is that model to the solver's tolerance. Penalties that the tolerance cannot tell apart share their first
    sweeps.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.model_selection import GridSearchCV
    >>> X = da.random.default_rng(0).normal(size=(2_000, 3), chunks=(500, 3))
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=3).fit(X, X[:, 0] > 0)
    >>> search.best_params_, search.n_splits_
    ({'C': 1.0}, 3)
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = PRE_DISPATCH,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    def _settings(self) -> list[dict[str, Any]]:
        return list(reference.ParameterGrid(self.param_grid))


class RandomizedSearchCV(_Search, reference.RandomizedSearchCV):
    """Search over settings drawn at random; all models of all splits in one conversation with the data.

    As `GridSearchCV`, with scikit-learn's ``param_distributions``, ``n_iter`` and ``random_state``, which draws the same
    settings as scikit-learn's.

    Parameters
    ----------
    estimator : estimator or pipeline
    param_distributions : dict or list of dict
        Lists, or distributions with ``rvs``, by parameter.
    n_iter : int, default=10
        Settings that are drawn.
    random_state : int or RandomState, optional
    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score : as in `GridSearchCV`

    Attributes
    ----------
    cv_results_, best_params_, best_score_, best_estimator_, n_sweeps_, search_plan_ : as in `GridSearchCV`

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.stats import loguniform
    >>> from daskml_core.linear_model import Ridge
    >>> from daskml_core.model_selection import RandomizedSearchCV
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> search = RandomizedSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, n_iter=4, random_state=0)
    >>> search.fit(X, X[:, 0]).n_sweeps_
    2.0
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = PRE_DISPATCH,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    def _settings(self) -> list[dict[str, Any]]:
        return list(reference.ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state))
