"""Logistic regression, binary and multinomial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.linear_model._base import LinearClassifierBase, ProbabilityMixin
from daskml_core.linear_model._data import TrainingSet, load_classification
from daskml_core.linear_model._solve import SWEEPS, check_solver, kernels_of, solve_linear
from daskml_core.losses import HalfLogistic, Loss, Multinomial
from daskml_core.objective import ROUNDING, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.sweep import Array
from daskml_core.validate import positive, positive_integer, unit_interval


class LogisticRegression(ProbabilityMixin, LinearClassifierBase):
    """Logistic regression, trained in a few sweeps over data that need not fit in memory.

    Minimises scikit-learn's objective, with an intercept that is not penalised::

        C sum_i s_i loss(y_i, x_i w + b) + (1 - l1_ratio) / 2 |w|_2^2 + l1_ratio |w|_1

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet", None}, optional
        Another way to say ``l1_ratio`` (0, 1, as given) and, for ``None``, ``C=inf``. By default what these two say.
    C : float, default=1.0
        Inverse of the penalty's strength, beside the *sum* of losses; ``inf`` for no penalty.
    l1_ratio : float, default=0.0
        0 is l2, 1 is l1, between them the elastic net.
    tol : float, default=1e-4
        Stops when no entry of the gradient of the mean objective is larger; "auto" then ends nearer still to the optimum, at
        no more sweeps: about 1e-11 of the coefficients, 1e-7 in float32 (up to 300 parameters).
    fit_intercept : bool, default=True
    class_weight : dict, "balanced" or None
    random_state : int, optional
        Seed of the sample (``"auto"``) and of the shuffling (``"sgd"``). ``None`` is a fixed seed: fits are
        reproducible unless asked otherwise.
    solver : {"auto", "newton", "lbfgs", "gradient_descent", "sgd", "proximal"}, default="auto"
        "auto" solves a sample drawn over all blocks, then corrects it by full gradients and a Hessian: 3-5 sweeps.
    solver_options : dict, optional
        Options of the solver, e.g. ``{"learning_rate": 0.5, "momentum": "none"}`` for gradient descent.
    max_iter : int, default=100
    warm_start : bool, default=False
        Start from the last fit's coefficients.

    Attributes
    ----------
    coef_ : ndarray (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray (1,) or (n_classes,)
    classes_ : ndarray (n_classes,)
    n_iter_ : int
    n_sweeps_ : float
        Complete reads of the data, fractions counted.
    history_ : list of dict
        One row an iteration; ``pandas.DataFrame(model.history_)`` shows it.
    converged_ : bool
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LogisticRegression
    >>> X = da.random.default_rng(0).normal(size=(10_000, 3), chunks=(1_000, 3))
    >>> model = LogisticRegression().fit(X, X[:, 0] + X[:, 1] > 0)
    >>> model.predict(X[:2]).compute().dtype
    dtype('bool')
    """

    _softmax = True

    def __init__(
        self,
        penalty: str | None = "from l1_ratio",
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | None = None,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
        max_iter: int = 100,
        warm_start: bool = False,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.solver_options = solver_options
        self.max_iter = max_iter
        self.warm_start = warm_start

    def _strengths(self) -> tuple[float, float]:
        """``(1 / C, l1_ratio)`` after checking that penalty, C and l1_ratio say the same."""
        C = math.inf if math.inf == self.C else positive("C", self.C)
        ratio = unit_interval("l1_ratio", self.l1_ratio)
        penalty = self.penalty
        if penalty == "from l1_ratio":
            return (0.0 if math.inf == C else 1.0 / C), ratio
        if penalty is None:
            if self.C not in (1.0, math.inf):
                raise ValueError(f"penalty=None has no strength, but C={self.C}. Leave C out, or choose a penalty.")
            return 0.0, 0.0
        if penalty not in ("l1", "l2", "elasticnet"):
            raise ValueError(f'penalty must be "l1", "l2", "elasticnet" or None, got {penalty!r}.')
        if penalty != "elasticnet" and self.l1_ratio not in (0.0, 1.0 if penalty == "l1" else 0.0):
            raise ValueError(f'penalty="{penalty}" contradicts l1_ratio={self.l1_ratio}. Use penalty="elasticnet".')
        ratio = {"l1": 1.0, "l2": 0.0, "elasticnet": ratio}[penalty]
        return (0.0 if math.inf == C else 1.0 / C), ratio

    def _objective(self, data: TrainingSet) -> LinearObjective:
        assert data.classes is not None
        strength, ratio = self._strengths()
        K = len(data.classes)
        loss: Loss = HalfLogistic() if K == 2 else Multinomial(n_outputs=K)
        penalty = ElasticNetPenalty(ratio * strength / data.sum_weight, (1 - ratio) * strength / data.sum_weight)
        rounding = ROUNDING[data.blocks.dtype]
        return LinearObjective(
            loss, penalty, data.blocks.n_features, data.sum_weight, bool(self.fit_intercept), rounding=rounding
        )

    def _start(self, objective: LinearObjective, data: TrainingSet) -> Array:
        """Coefficients zero and the intercept at its log-odds: that alone saves L-BFGS twenty sweeps."""
        K = objective.n_outputs
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (K, objective.n_features):
            return objective.pack(self.coef_.T, np.asarray(self.intercept_, dtype=np.float64))
        assert data.class_weight_sums is not None
        share = np.maximum(data.class_weight_sums / data.sum_weight, 1e-12)
        b = np.array([np.log(share[1] / share[0])]) if K == 1 else np.log(share) - np.log(share).mean()
        return objective.pack(np.zeros((objective.n_features, K)), b)

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> LogisticRegression:
        """Fit the model.

        Parameters
        ----------
        X : array-like (n_rows, n_features): NumPy, dask.array, zarr.Array, xarray DataArray or Dataset, DataFrame.
        y : array-like (n_rows,) of labels of any kind, chunked as it may be.
        sample_weight : array-like (n_rows,), optional.
        feature_dim : name of the feature dimension of a DataArray, where it cannot be told.
        checkpoint : directory or URL where an interrupted fit is kept, so that the same fit goes on from there (user guide).

        Returns
        -------
        self

        Raises
        ------
        ValueError : NaN or infinity (block and row are named), lengths that differ, fewer than two classes.
        MemoryPlanError : a block that cannot be worked on within the memory limit; nothing has been read then.
        """
        self._check_params()
        data = load_classification(self, X, y, sample_weight, self.class_weight, feature_dim)
        assert data.classes is not None
        objective = self._objective(data)
        start = self._start(objective, data)
        theta = solve_linear(
            self, data, objective, start, tol=self.tol, max_iter=self.max_iter, options=self.solver_options
        )
        self._accept(objective, theta, data)
        return self

    def _accept(self, objective: LinearObjective, theta: Array, data: TrainingSet) -> None:
        """Take a solution as the fitted model."""
        W, b = objective.unpack(objective.canonical(theta))
        assert data.classes is not None
        self.classes_ = data.classes
        self.coef_ = np.ascontiguousarray(W.T)
        self.intercept_ = np.array(b)

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        """The data of many models at once; class weights are each model's own."""
        return load_classification(self, X, y, sample_weight, None, feature_dim)

    def _check_params(self) -> None:
        _, ratio = self._strengths()
        positive("tol", self.tol)
        positive_integer("max_iter", self.max_iter)
        check_solver(self.solver, ratio, self.solver_options)

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; X is not read.

        The labels are counted, as their number decides the size of the model.
        """
        model = clone(self)  # a plan leaves no trace
        model._check_params()
        data = load_classification(model, X, y, sample_weight, model.class_weight, feature_dim)
        objective = model._objective(data)
        return model._plan(data.blocks, kernels_of(model.solver, objective, data.blocks), SWEEPS[model.solver])
