"""Huber's robust regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.kernels.huber import HUBER_LOSS, HuberParams
from daskml_core.linear_model._base import LinearRegressorBase
from daskml_core.linear_model._data import TrainingSet, load_regression
from daskml_core.linear_model._solve import SOLVERS, SWEEPS, check_solver
from daskml_core.objective import Asks, HuberObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.lbfgs import LBFGSState, lbfgs
from daskml_core.solvers.newton import newton
from daskml_core.sweep import Array
from daskml_core.validate import non_negative, positive, positive_integer

_SOLVERS = ("auto", "newton", "lbfgs", "gradient_descent")


def _newton_then_lbfgs(objective: HuberObjective, theta: Array, tol: float, max_iter: int) -> Asks:
    """Newton's method, and L-BFGS where it stalls: rows beyond epsilon have no curvature, and few may be within."""
    state = yield from newton(objective, theta, tol=tol, max_iter=max_iter)
    if not state.stalled:
        return state
    diagonal = np.maximum(np.diagonal(state.hess), 1e-3 * np.diagonal(state.hess).max())
    rest = LBFGSState(state.theta, state.value, state.grad, diagonal, state.grad_norm, n_iter=state.n_iter)
    return (yield from lbfgs(objective, state=rest, tol=tol, max_iter=max(max_iter, 10 * objective.size)))


class HuberRegressor(LinearRegressorBase):
    """Linear regression that large residuals pull only linearly, with the scale estimated as well (Owen 2007).

    Minimises ``sum_i s_i (sigma + H_epsilon((x_i w + b - y_i) / sigma) sigma) + alpha |w|**2``, as scikit-learn, by
    Newton's method in (w, b, sigma): about 8 sweeps.

    Parameters
    ----------
    epsilon : float, default=1.35
        Residuals beyond ``epsilon * sigma`` count linearly; at least 1, where the scale degenerates to 0 (least
        absolute deviations) and the fit says that it did not converge.
    max_iter : int, default=100
    alpha : float, default=1e-4
    warm_start : bool, default=False
    fit_intercept : bool, default=True
    tol : float, default=1e-5
    solver : {"auto", "newton", "lbfgs", "gradient_descent"}, default="auto"
        "auto" is Newton's method, and L-BFGS where that stalls.
    solver_options : dict, optional

    Attributes
    ----------
    coef_ : ndarray (n_features,)
    intercept_ : float
    scale_ : float
        sigma.
    n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import HuberRegressor
    >>> X = np.arange(20.0)[:, None]
    >>> y = 2 * X[:, 0] + 1 + np.sin(X[:, 0]) / 10
    >>> y[3] = 500
    >>> HuberRegressor().fit(X, y).coef_.round(2)
    array([2.])
    """

    coef_: Array
    intercept_: float
    scale_: float

    def __init__(
        self,
        *,
        epsilon: float = 1.35,
        max_iter: int = 100,
        alpha: float = 1e-4,
        warm_start: bool = False,
        fit_intercept: bool = True,
        tol: float = 1e-5,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.max_iter = max_iter
        self.alpha = alpha
        self.warm_start = warm_start
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.solver_options = solver_options

    def _check_params(self) -> None:
        non_negative("alpha", self.alpha)
        positive("tol", self.tol)
        positive_integer("max_iter", self.max_iter)
        if positive("epsilon", self.epsilon) < 1.0:
            raise ValueError(f"epsilon must be at least 1.0, got {self.epsilon}.")
        if self.solver not in _SOLVERS:
            raise ValueError(f"solver must be one of {list(_SOLVERS)}, got {self.solver!r}.")
        if self.solver != "auto":
            check_solver(self.solver, 0.0, self.solver_options)
        elif self.solver_options:
            raise ValueError(f'solver="auto" takes no solver_options, got {dict(self.solver_options)}.')

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        """The data of many models at once."""
        return load_regression(self, X, y, sample_weight, feature_dim)

    def _objective(self, data: TrainingSet) -> HuberObjective:
        penalty = ElasticNetPenalty(0.0, 2 * float(self.alpha) / data.sum_weight)
        return HuberObjective(
            penalty, data.blocks.n_features, data.sum_weight, float(self.epsilon), bool(self.fit_intercept)
        )

    def _load(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> tuple[TrainingSet, HuberObjective]:
        self._check_params()
        data = self._training_set(X, y, sample_weight, feature_dim)
        return data, self._objective(data)

    def _start(self, objective: HuberObjective, data: TrainingSet) -> Array:
        assert data.moments is not None
        d = objective.n_features
        # The spread of y starts sigma in the right units, whatever they are.
        spread = float(np.sqrt(data.moments.scatter[0] / data.sum_weight)) or 1.0
        mean = float(data.moments.mean[0]) if self.fit_intercept else 0.0
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (d,):
            return np.concatenate([self.coef_, [self.intercept_, self.scale_]])
        return np.concatenate([np.zeros(d), [mean, spread]])

    def _solver(self, objective: HuberObjective, start: Array) -> Asks:
        """The solver that goes from a start to the optimum, alone or in a batch."""
        if self.solver == "auto":
            return _newton_then_lbfgs(objective, start, self.tol, self.max_iter)
        options = dict(self.solver_options or {})
        return SOLVERS[self.solver](objective, start, tol=self.tol, max_iter=self.max_iter, **options)

    def _accept(self, objective: HuberObjective, theta: Array, data: TrainingSet) -> None:
        """Take a solution as the fitted model."""
        self.coef_, self.intercept_, self.scale_ = self._attributes(theta).values()

    @staticmethod
    def _attributes(theta: Array) -> dict[str, Any]:
        return {"coef_": theta[:-2].copy(), "intercept_": float(theta[-2]), "scale_": float(theta[-1])}

    def _kernels(self, data: TrainingSet) -> list[Any]:
        thetas = np.zeros((data.blocks.n_features + 2, 1))
        return [(HUBER_LOSS, HuberParams(thetas, float(self.epsilon), bool(self.fit_intercept), 2))]

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> HuberRegressor:
        """Fit the model; X (n_rows, n_features), y (n_rows,), in any container. Returns self."""
        data, objective = self._load(X, y, sample_weight, feature_dim)
        solver = self._solver(objective, self._start(objective, data))

        def fitted(state: Any) -> dict[str, Any]:
            return self._attributes(state.theta)

        outcome = self._run(solver, data, self._kernels(data), fitted=fitted)
        self._finish(outcome.state, self.max_iter)
        self._accept(objective, outcome.state.theta, data)
        return self

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        model = clone(self)  # a plan leaves no trace
        data, _ = model._load(X, y, sample_weight, feature_dim)
        sweeps = "about 8, each with value, gradient and Hessian" if model.solver == "auto" else SWEEPS[model.solver]
        return model._plan(data.blocks, model._kernels(data), sweeps)
