"""Linear models that choose their own penalty: all penalties on all folds in the sweeps of one fit.

Least squares read the data once for the Gram matrices of all folds, from which every model and every score follows; logistic
regressions are one batch, as in `daskml_core.model_selection.GridSearchCV`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy import linalg

from daskml_core.data import flatten, is_grid
from daskml_core.engine import CheckpointPath, Engine, find_complete, resumable
from daskml_core.errors import ConvergenceWarning
from daskml_core.kernels.coordinate_descent import minimise_quadratic
from daskml_core.kernels.gram import GRAM, GramPartial, merge_gram
from daskml_core.kernels.leave_one_out import LEAVE_ONE_OUT, LeaveOneOut, LeaveOneOutParams
from daskml_core.linear_model._base import LinearRegressorBase
from daskml_core.linear_model._data import TrainingSet, load_regression, require_target
from daskml_core.linear_model._least_squares import ElasticNet, elastic_net_gap
from daskml_core.linear_model._logistic import LogisticRegression
from daskml_core.solvers.least_squares import LeastSquaresState, about_zero, solve_ridge
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import check_flags, is_count, non_negative, positive, positive_integer, unit_interval


class LogisticRegressionCV(LogisticRegression):
    """Logistic regression that chooses C and l1_ratio by cross-validation; all models of all folds in one batch.

    Parameters
    ----------
    Cs : int or array, default=10
        Inverse strengths, or how many of them between 1e-4 and 1e4.
    l1_ratios : array, default=(0.0,)
    fit_intercept, tol, class_weight, random_state, solver, solver_options, max_iter : as in `LogisticRegression`.
    cv : int, splitter or iterable, optional
        As in `GridSearchCV`; stratified folds by default.
    scoring : str or callable, optional
        Accuracy by default.
    refit : bool, default=True
        Fit the best on all rows; otherwise coefficients are the mean over the folds.
    verbose : int, default=0

    Attributes
    ----------
    C_, l1_ratio_ : float
    Cs_, l1_ratios_ : ndarray
    scores_ : ndarray (n_folds, n_l1_ratios, n_Cs)
    coefs_paths_ : ndarray (n_folds, n_l1_ratios, n_Cs, n_outputs, n_features + fit_intercept)
    coef_, intercept_, classes_, n_iter_, n_sweeps_, converged_, n_features_in_ : as in `LogisticRegression`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LogisticRegressionCV
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = LogisticRegressionCV(Cs=[0.01, 1.0], cv=3).fit(X, X[:, 0] > 0)
    >>> model.C_, model.scores_.shape
    (1.0, (3, 1, 2))
    """

    def __init__(
        self,
        *,
        Cs: int | Sequence[float] | Array = 10,
        l1_ratios: Sequence[float] | Array = (0.0,),
        fit_intercept: bool = True,
        cv: Any = None,
        scoring: Any = None,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
        tol: float = 1e-4,
        max_iter: int = 100,
        class_weight: Mapping[Any, float] | str | None = None,
        refit: bool = True,
        verbose: int = 0,
        random_state: int | None = None,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.solver = solver
        self.solver_options = solver_options
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.refit = refit
        self.verbose = verbose
        self.random_state = random_state

    def _grid(self) -> tuple[Array, Array]:
        Cs = np.logspace(-4, 4, self.Cs) if is_count(self.Cs) else np.asarray(self.Cs, dtype=np.float64)
        ratios = np.asarray(self.l1_ratios, dtype=np.float64)
        if not Cs.size or Cs.ndim != 1 or not ratios.size or ratios.ndim != 1:
            raise ValueError(
                f"Cs and l1_ratios must hold at least one number each, got {self.Cs!r}, {self.l1_ratios!r}."
            )
        return Cs, ratios

    def _request(self, X: Any, y: Any, params: dict[str, Any]) -> Any:
        from daskml_core.model_selection._run import Request

        Cs, ratios = self._grid()
        model = LogisticRegression(
            tol=self.tol, fit_intercept=self.fit_intercept, class_weight=self.class_weight,
            random_state=self.random_state, solver=self.solver, solver_options=self.solver_options,
            max_iter=self.max_iter,
        )  # fmt: skip
        if math.inf in Cs and (ratios != 0).any():
            raise ValueError("C=inf has no penalty, but l1_ratios are given.")
        settings = [{"C": float(C), "l1_ratio": float(ratio)} for ratio in ratios for C in Cs]

        def choose(result: Any) -> int:
            return int(result.test["score"].mean(axis=1).argmax())

        return Request(
            model, settings, X, y, cv=self.cv, scorers={"score": self.scoring or "accuracy"}, params=params,
            error_score="raise", verbose=self.verbose, choose=choose if self.refit else None,
        )  # fmt: skip

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> LogisticRegressionCV:
        """Choose and fit; X (n_rows, n_features), y (n_rows,) of labels, in any container. Returns self."""
        from daskml_core.linear_model._data import require_target
        from daskml_core.model_selection._run import run

        check_flags(self)
        require_target(self, y)
        params = {"sample_weight": sample_weight, "feature_dim": feature_dim}
        result = run(self._request(X, y, {key: value for key, value in params.items() if value is not None}))
        Cs, ratios = self._grid()
        n_folds = result.folds.n_splits
        table = result.test["score"].reshape(len(ratios), len(Cs), n_folds)
        self.Cs_, self.l1_ratios_ = Cs, ratios
        self.scores_ = np.moveaxis(table, 2, 0).copy()
        parts = [np.column_stack([m.coef_, m.intercept_][: 1 + self.fit_intercept]) for ms in result.models for m in ms]
        paths = np.array(parts).reshape(len(ratios), len(Cs), n_folds, *parts[0].shape)
        self.coefs_paths_ = np.moveaxis(paths, 2, 0).copy()
        index = int(result.test["score"].mean(axis=1).argmax())
        best = result.best if result.best is not None else result.models[index][0]
        for attribute in ("classes_", "coef_", "intercept_", "n_iter_", "converged_", "n_features_in_", "_feature_dim"):
            setattr(self, attribute, getattr(best, attribute))
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        if result.best is None:
            self.coef_ = np.mean([m.coef_ for m in result.models[index]], axis=0)
            self.intercept_ = np.mean([m.intercept_ for m in result.models[index]], axis=0)
        self.C_, self.l1_ratio_ = float(Cs[index % len(Cs)]), float(ratios[index // len(Cs)])
        self.search_plan_ = result.plan
        self.n_sweeps_ = result.n_sweeps if result.n_sweeps is not None else float("nan")
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score by ``scoring``, accuracy by default."""
        from daskml_core.model_selection._search import score_lazily

        if self.scoring is None:
            return super().score(X, y, sample_weight)
        if sample_weight is not None:
            raise ValueError("Scores by `scoring` are not weighted; call a function of daskml_core.metrics.")
        return score_lazily(self.scoring, self, X, y)

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Any:
        """How a fit will go over the data: batches, sweeps, memory; X is not read."""
        from daskml_core.model_selection._run import plan

        params = {"sample_weight": sample_weight, "feature_dim": feature_dim}
        return plan(self._request(X, y, {key: value for key, value in params.items() if value is not None}))


class _GramSearch(LinearRegressorBase):
    """What the least-squares searches share: Gram matrices of all folds in one sweep, scores from moments."""

    cv: Any
    fit_intercept: bool

    def _load(
        self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None, *, multi_output: bool = False
    ) -> tuple[Any, Any, TrainingSet]:
        """The data, as rows where X is a grid."""
        dim, looked = feature_dim, 0.0
        if is_grid(X):
            require_target(self, y)
            flat = flatten(X, y, sample_weight, find_complete=find_complete, feature_dim=feature_dim)
            X, y, sample_weight, feature_dim, looked = flat.X, flat.y, flat.sample_weight, None, flat.counted
        data = load_regression(self, X, y, sample_weight, feature_dim, multi_output=multi_output)
        self._feature_dim = dim
        blocks = replace(data.blocks, counted=data.blocks.counted + looked)
        return X, y, replace(data, blocks=blocks)

    def _observe(self, data: TrainingSet, X: Any, y: Any) -> tuple[list[tuple[GramPartial, GramPartial]], GramPartial]:
        """Training and test moments of each fold, and those of all rows."""
        from daskml_core.model_selection._batch import merged
        from daskml_core.model_selection._folds import make_folds
        from daskml_core.model_selection._gram import GramBatch

        folds = make_folds(self.cv, X, y)
        batch = GramBatch(data, folds, [])
        engine = Engine(data.blocks, kernels=batch.kernels([]))
        try:
            batch.observe(engine)
        finally:
            engine.close()
        assert batch.grams is not None
        self.n_sweeps_ = round(engine.n_sweeps + data.target_fraction + data.blocks.counted, 6)
        splits = [
            (merged(batch.grams, a, merge_gram), merged(batch.grams, b, merge_gram))
            for a, b in zip(folds.train, folds.test, strict=True)
        ]
        return splits, merged(batch.grams, np.ones(folds.n_cells, dtype=bool), merge_gram)

    def _centered(self, moments: GramPartial) -> GramPartial:
        return moments if self.fit_intercept else about_zero(moments)


def mean_squared_error(test: GramPartial, coef: Array, intercept: Array) -> Array:
    """Of each target (t,), for coefficients (t, d), from the moments of the test rows alone."""
    d = coef.shape[1]
    S = test.scatter
    error = test.mean[d:] - coef @ test.mean[:d] - intercept
    squares = np.diagonal(S[d:, d:]) - 2 * np.einsum("td,dt->t", coef, S[:d, d:])
    squares = squares + np.einsum("td,de,te->t", coef, S[:d, :d], coef)
    return np.maximum(squares, 0) / test.sum_weight + error**2


class RidgeCV(_GramSearch):
    """Ridge regression that chooses its penalty: by leave-one-out in two sweeps, or by folds in one.

    Parameters
    ----------
    alphas : array, default=(0.1, 1.0, 10.0)
    fit_intercept : bool, default=True
    scoring : {"r2", "neg_mean_squared_error"}, optional
        With ``cv``; R2 by default. Leave-one-out minimises the mean squared error.
    cv : int, splitter or iterable, optional
        ``None`` is leave-one-out, exact for every row: the residual over one minus the leverage.

    Attributes
    ----------
    alpha_ : float
    best_score_ : float
        Minus the mean squared error of leaving one out, or the mean score over the folds.
    scores_ : ndarray (n_alphas,)
        The same of every penalty.
    coef_, intercept_, n_iter_, n_sweeps_, n_features_in_ : as in `Ridge`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import RidgeCV
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> model = RidgeCV(alphas=[0.01, 10.0]).fit(X, X[:, 0])
    >>> model.alpha_, model.n_sweeps_
    (0.01, 2.0)
    """

    coef_: Array
    intercept_: Any

    def __init__(
        self,
        alphas: Sequence[float] | Array = (0.1, 1.0, 10.0),
        *,
        fit_intercept: bool = True,
        scoring: str | None = None,
        cv: Any = None,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scoring = scoring
        self.cv = cv

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Self:
        """Choose and fit; X (n_rows, n_features), y (n_rows,) or (n_rows, n_targets). Returns self."""
        alphas = np.ravel(np.asarray(self.alphas, dtype=np.float64))
        for alpha in alphas:
            (non_negative if self.cv is not None else positive)("alphas", alpha)
        if not len(alphas):
            raise ValueError("alphas must hold at least one number.")
        if self.scoring not in (None, "r2", "neg_mean_squared_error") or (self.cv is None and self.scoring == "r2"):
            raise ValueError(
                f'scoring must be "r2" (with cv) or "neg_mean_squared_error", got {self.scoring!r}. '
                "Use GridSearchCV(Ridge(), ...) for others."
            )
        X, y, data = self._load(X, y, sample_weight, feature_dim, multi_output=True)
        assert data.blocks.y is not None
        moments = self._by_folds(data, X, y, alphas) if self.cv is not None else self._leave_one_out(data, alphas)
        best = int(self.scores_.argmax())
        self.alpha_, self.best_score_ = float(alphas[best]), float(self.scores_[best])
        state = LeastSquaresState(data.blocks.n_features, self._centered(moments))
        targets = state.moments.mean.size - state.n_features
        coef, intercept, _, _ = solve_ridge(state, np.full(targets, self.alpha_))
        flat = not data.blocks.y.trailing
        intercept = intercept if self.fit_intercept else np.zeros(targets)
        self.coef_ = coef[0] if flat or targets == 1 else coef
        self.intercept_ = float(intercept[0]) if flat else intercept
        self.n_iter_ = 1
        return self

    def _by_folds(self, data: TrainingSet, X: Any, y: Any, alphas: Array) -> GramPartial:
        splits, whole = self._observe(data, X, y)
        d = data.blocks.n_features
        scores = np.zeros((len(alphas), len(splits)))
        for i, (train, test) in enumerate(splits):
            state = LeastSquaresState(d, self._centered(train))
            targets = train.mean.size - d
            for j, alpha in enumerate(alphas):
                coef, intercept, _, _ = solve_ridge(state, np.full(targets, alpha))
                errors = mean_squared_error(test, coef, intercept if self.fit_intercept else np.zeros(targets))
                variance = np.diagonal(test.scatter)[d:] / test.sum_weight
                r2 = 1 - errors / np.where(variance > 0, variance, 1.0)
                scores[j, i] = -errors.mean() if self.scoring == "neg_mean_squared_error" else r2.mean()
        self.scores_ = scores.mean(axis=1)
        return whole

    def _leave_one_out(self, data: TrainingSet, alphas: Array) -> GramPartial:
        blocks = data.blocks
        d = blocks.n_features
        shape = LeaveOneOutParams(
            np.zeros(d + 1), np.zeros((d, d)), np.zeros((d, len(alphas))), np.zeros((len(alphas), d, 1)), 0.0
        )
        engine = Engine(blocks, kernels=[(GRAM, None), (LEAVE_ONE_OUT, shape)])
        try:
            (whole,) = engine.sweep(Sweep(GRAM, None, merge_gram))
            moments = self._centered(whole)
            values, vectors = linalg.eigh(moments.scatter[:d, :d])
            shrunk = 1 / (np.maximum(values, 0)[:, None] + alphas)
            products = vectors.T @ moments.scatter[:d, d:]
            params = LeaveOneOutParams(
                moments.mean, vectors, shrunk, shrunk.T[:, :, None] * products,
                1 / moments.sum_weight if self.fit_intercept else 0.0,
            )  # fmt: skip
            errors: LeaveOneOut
            (errors,) = engine.sweep(Sweep(LEAVE_ONE_OUT, params))
        finally:
            engine.close()
        self.n_sweeps_ = round(engine.n_sweeps + data.target_fraction + data.blocks.counted, 6)
        self.scores_ = -(errors.squared / errors.n_rows).mean(axis=1)
        return whole


class ElasticNetCV(_GramSearch):
    """Elastic net that chooses alpha and l1_ratio by cross-validation, in one sweep.

    The Gram matrices of all folds are found in one read; coordinate descent on them, warm along each path, and the errors
    on the test rows, which follow from their moments, do not read the data.

    Parameters
    ----------
    l1_ratio : float or array, default=0.5
    eps : float, default=1e-3
        The path's smallest alpha as a part of its largest.
    alphas : int or array, default=100
        Penalties, or how many of them on a path down from the one that leaves no coefficient.
    fit_intercept : bool, default=True
    max_iter : int, default=1000
        Passes of coordinate descent for each alpha.
    tol : float, default=1e-4
        Duality gap over ``|y|**2`` at which to stop; a hundredth of it is asked for.
    cv : int, splitter or iterable, optional
    positive : bool, default=False

    Attributes
    ----------
    alpha_, l1_ratio_ : float
    alphas_ : ndarray (n_alphas,) or (n_l1_ratios, n_alphas), decreasing
    mse_path_ : ndarray (n_alphas, n_folds) or (n_l1_ratios, n_alphas, n_folds)
    coef_, intercept_, dual_gap_, n_iter_, n_sweeps_, n_features_in_ : as in `ElasticNet`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import ElasticNetCV
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = ElasticNetCV(alphas=20, cv=4).fit(X, X[:, 0])
    >>> model.mse_path_.shape, model.n_sweeps_
    ((20, 4), 1.0)
    """

    coef_: Array
    intercept_: float
    alphas_: Array
    mse_path_: Array
    _several_ratios = True

    def __init__(
        self,
        *,
        l1_ratio: float | Sequence[float] | Array = 0.5,
        eps: float = 1e-3,
        alphas: int | Sequence[float] | Array = 100,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        cv: Any = None,
        positive: bool = False,
    ) -> None:
        self.l1_ratio = l1_ratio
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.positive = positive

    def _ratios(self) -> Array:
        ratios = np.atleast_1d(np.asarray(self.l1_ratio, dtype=np.float64))
        for ratio in ratios:
            unit_interval("l1_ratio", float(ratio))
        return ratios

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Self:
        """Choose and fit; X (n_rows, n_features), y (n_rows,). Returns self."""
        ratios = self._ratios()
        positive_integer("max_iter", self.max_iter)
        non_negative("tol", self.tol)
        positive("eps", self.eps)
        if np.ndim(self.alphas) == 0:
            positive_integer("alphas", self.alphas)
        X, y, data = self._load(X, y, sample_weight, feature_dim)
        splits, whole = self._observe(data, X, y)
        paths = np.array([self._alphas(self._centered(whole), ratio) for ratio in ratios])
        errors = np.zeros((*paths.shape, len(splits)))
        late = 0
        for k, (ratio, alphas) in enumerate(zip(ratios, paths, strict=True)):
            for i, (train, test) in enumerate(splits):
                coefs, gaps = self._path(self._centered(train), alphas, ratio)
                late += int((gaps > 1).sum())
                for j, w in enumerate(coefs):
                    b = train.mean[-1] - w @ train.mean[:-1] if self.fit_intercept else 0.0
                    errors[k, j, i] = mean_squared_error(test, w[None, :], np.array([b]))[0]
        best = np.unravel_index(int(errors.mean(axis=2).argmin()), paths.shape)
        self.l1_ratio_, self.alpha_ = float(ratios[best[0]]), float(paths[best])
        model = ElasticNet(
            self.alpha_, l1_ratio=self.l1_ratio_, fit_intercept=self.fit_intercept, max_iter=self.max_iter, tol=self.tol,
            positive=self.positive,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told below, with the others
            model._solve(LeastSquaresState(data.blocks.n_features, self._centered(whole)), flat=True)
        late += not model.converged_
        if late:
            self._warn(late, errors.size + 1)
        for attribute in ("coef_", "intercept_", "n_iter_", "dual_gap_", "converged_"):
            setattr(self, attribute, getattr(model, attribute))
        several = self._several_ratios and np.ndim(self.l1_ratio) > 0
        self.alphas_, self.mse_path_ = (paths, errors) if several else (paths[0], errors[0])
        return self

    def _alphas(self, moments: GramPartial, ratio: float) -> Array:
        """The path's penalties, decreasing."""
        if not isinstance(self.alphas, int | np.integer):
            alphas = np.sort(np.asarray(self.alphas, dtype=np.float64))[::-1]
            for alpha in alphas:
                non_negative("alphas", float(alpha))
            return alphas
        if ratio == 0:
            raise ValueError("l1_ratio=0 has no largest alpha: pass alphas, or use RidgeCV.")
        correlation = moments.scatter[:-1, -1] / moments.sum_weight
        largest = float((correlation if self.positive else np.abs(correlation)).max(initial=0.0)) / ratio
        largest = max(largest, float(np.finfo(np.float64).resolution))
        return np.geomspace(largest, largest * self.eps, int(self.alphas))

    def _path(self, moments: GramPartial, alphas: Array, ratio: float) -> tuple[list[Array], Array]:
        """Coefficients along a path, and each one's duality gap over what was asked for."""
        n, d = moments.sum_weight, len(moments.mean) - 1
        Q, q, yy = moments.scatter[:d, :d] / n, moments.scatter[:d, d] / n, moments.scatter[d, d] / n
        w, coefs, gaps = np.zeros(d), [], np.zeros(len(alphas))
        allowed = float(self.tol) * max(yy, np.finfo(np.float64).tiny) * 1e-2
        for j, alpha in enumerate(alphas):
            l1, l2 = alpha * ratio, alpha * (1 - ratio)
            H, passes = Q + l2 * np.eye(d), 0
            while True:
                w = minimise_quadratic(H, -q, np.full(d, l1), w, tol=0.0, max_iter=20, positive=bool(self.positive))
                passes += 20
                gap = elastic_net_gap(Q, q, yy, w, l1, l2, positive=bool(self.positive))
                if gap <= allowed or passes >= self.max_iter:
                    break
            coefs.append(w)
            gaps[j] = gap / allowed if allowed > 0 else 0.0
        return coefs, gaps

    def _warn(self, late: int, n: int) -> None:
        warnings.warn(
            f"{late} of {n} models of {type(self).__name__} did not converge in {self.max_iter} passes of coordinate "
            "descent (which do not read the data). Raise max_iter, or eps, or scale the features.",
            ConvergenceWarning,
            stacklevel=4,
        )


class LassoCV(ElasticNetCV):
    """Lasso that chooses alpha by cross-validation, in one sweep: `ElasticNetCV` with ``l1_ratio=1``.

    Parameters
    ----------
    eps, alphas, fit_intercept, max_iter, tol, cv, positive : as in `ElasticNetCV`

    Attributes
    ----------
    alpha_, alphas_, mse_path_, coef_, intercept_, dual_gap_, n_iter_, n_sweeps_, n_features_in_ : as in `ElasticNetCV`

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LassoCV
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> LassoCV(alphas=20).fit(X, X[:, 0]).coef_.round(2) + 0.0
    array([1., 0., 0.])
    """

    _several_ratios = False

    def __init__(
        self,
        *,
        eps: float = 1e-3,
        alphas: int | Sequence[float] | Array = 100,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        cv: Any = None,
        positive: bool = False,
    ) -> None:
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.positive = positive

    def _ratios(self) -> Array:
        return np.ones(1)
