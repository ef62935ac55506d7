"""Poisson regression with log link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.kernels.predict import EXPONENTIAL_PREDICTOR
from daskml_core.linear_model._base import LinearRegressorBase
from daskml_core.linear_model._data import TrainingSet, load_regression
from daskml_core.linear_model._solve import SWEEPS, check_solver, kernels_of, solve_linear
from daskml_core.losses import HalfPoisson
from daskml_core.objective import ROUNDING, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.sweep import Array, Kernel
from daskml_core.validate import non_negative, positive, positive_integer


class PoissonRegressor(LinearRegressorBase):
    """Generalised linear model for counts: mean half Poisson deviance plus ``alpha / 2 |w|**2``, as scikit-learn's.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the l2 penalty beside the *mean* of losses.
    fit_intercept : bool, default=True
    solver : {"auto", "newton", "lbfgs", "gradient_descent", "proximal", "sgd"}, default="auto"
    solver_options : dict, optional
    max_iter : int, default=100
    tol : float, default=1e-4
    warm_start : bool, default=False

    Attributes
    ----------
    coef_ : ndarray (n_features,)
    intercept_ : float
    n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import PoissonRegressor
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    >>> PoissonRegressor(alpha=0).fit(X, y).coef_.round(1)
    array([1., 0.])
    """

    coef_: Array
    intercept_: float

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.solver_options = solver_options
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _link_kernel(self) -> Kernel:
        return EXPONENTIAL_PREDICTOR

    def _check_params(self) -> None:
        non_negative("alpha", self.alpha)
        positive("tol", self.tol)
        positive_integer("max_iter", self.max_iter)
        check_solver(self.solver, 0.0, self.solver_options)

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        data = load_regression(self, X, y, sample_weight, feature_dim)
        assert data.moments is not None
        if data.moments.smallest.min() < 0:
            raise ValueError(
                "Some value(s) of y are out of the valid range of the loss 'HalfPoissonLoss': the smallest is "
                f"{data.moments.smallest.min():g}, and counts must not be negative."
            )
        if data.moments.mean[0] <= 0:
            raise ValueError("All weighted values of y are 0: the mean of a Poisson distribution must be positive.")
        return data

    def _objective(self, data: TrainingSet) -> LinearObjective:
        return LinearObjective(
            HalfPoisson(),
            ElasticNetPenalty(0.0, float(self.alpha)),
            data.blocks.n_features,
            data.sum_weight,
            bool(self.fit_intercept),
            rounding=ROUNDING[data.blocks.dtype],
        )

    def _start(self, objective: LinearObjective, data: TrainingSet) -> Array:
        d = objective.n_features
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (d,):
            return objective.pack(self.coef_[:, None], np.array([self.intercept_]))
        assert data.moments is not None
        return objective.pack(np.zeros((d, 1)), np.log(data.moments.mean))

    def _accept(self, objective: LinearObjective, theta: Array, data: TrainingSet) -> None:
        W, b = objective.unpack(theta)
        self.coef_, self.intercept_ = W[:, 0].copy(), float(b[0])

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> PoissonRegressor:
        """Fit the model; X (n_rows, n_features), y (n_rows,) of counts, in any container. Returns self."""
        self._check_params()
        data = self._training_set(X, y, sample_weight, feature_dim)
        objective = self._objective(data)
        start = self._start(objective, data)
        theta = solve_linear(
            self, data, objective, start, tol=self.tol, max_iter=self.max_iter, options=self.solver_options
        )
        self._accept(objective, theta, data)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Fraction of deviance explained, D2, in one sweep over the predictions."""
        from daskml_core.metrics import d2_poisson_score

        return float(d2_poisson_score(y, self.predict(X), sample_weight=sample_weight))

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        model = clone(self)  # a plan leaves no trace
        model._check_params()
        data = model._training_set(X, y, sample_weight, feature_dim)
        objective = model._objective(data)
        return model._plan(data.blocks, kernels_of(model.solver, objective, data.blocks), SWEEPS[model.solver])
