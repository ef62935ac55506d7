"""Linear models trained by stochastic gradient descent."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from daskml_core.engine import CheckpointPath, Plan, resumable, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.kernels.sgd import CLASSIFICATION, LOSSES, SCHEDULES, SGD_BLOCK, SGDParams
from daskml_core.linear_model._base import LinearClassifierBase, LinearModel, LinearRegressorBase, ProbabilityMixin
from daskml_core.linear_model._data import TrainingSet, class_factors, load_classification, load_regression
from daskml_core.linear_model._solve import SWEEPS
from daskml_core.solvers.sgd import SGDCarry, SGDState, sgd, start_carry
from daskml_core.sweep import Array
from daskml_core.validate import non_negative, positive, positive_integer, random_seed, unit_interval


class _SGDModel(LinearModel):
    """Settings and training shared by the classifier and the regressor."""

    loss: str
    _losses: tuple[str, ...] = ()
    _factors: Array | None = None

    def _check_params(self) -> None:
        if self.loss not in self._losses:
            raise ValueError(f"loss must be one of {list(self._losses)}, got {self.loss!r}.")
        if self.penalty not in ("l2", "l1", "elasticnet", None):
            raise ValueError(f'penalty must be "l2", "l1", "elasticnet" or None, got {self.penalty!r}.')
        if self.learning_rate not in SCHEDULES:
            raise ValueError(f"learning_rate must be one of {list(SCHEDULES)}, got {self.learning_rate!r}.")
        non_negative("alpha", self.alpha)
        unit_interval("l1_ratio", self.l1_ratio)
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError("alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the rate.")
        if self.learning_rate != "optimal":
            positive("eta0", self.eta0)
        non_negative("power_t", self.power_t)
        non_negative("epsilon", self.epsilon)
        non_negative("average", int(self.average) if isinstance(self.average, bool) else self.average)
        if self.tol is not None:
            non_negative("tol", self.tol)
        for name in ("max_iter", "n_iter_no_change", "batch_size", "n_chains", "averages_per_epoch"):
            positive_integer(name, getattr(self, name))

    def _params(self, classes: int, epoch: int = 0) -> SGDParams:
        ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": float(self.l1_ratio), None: 0.0}[self.penalty]
        average = float(self.average) if self.average else 0.0
        return SGDParams(
            loss=LOSSES[self.loss],
            epsilon=float(self.epsilon),
            alpha=float(self.alpha),
            penalised=self.penalty is not None,
            l1_ratio=ratio,
            schedule=SCHEDULES[self.learning_rate],
            power_t=float(self.power_t),
            fit_intercept=bool(self.fit_intercept),
            average_from=average,
            batch_size=int(self.batch_size),
            shuffle=bool(self.shuffle),
            seed=random_seed(self.random_state),
            epoch=epoch,
            classes=classes,
            class_factors=self._factors,
        )

    def _train(self, data: TrainingSet, classes: int, *, epochs: int | None, fresh: bool) -> None:
        """Train from the last state, or from zero when ``fresh``; ``epochs`` overrides ``max_iter``."""
        d = data.blocks.n_features
        m = classes if classes > 2 else 1
        params = self._params(classes)
        state: SGDState | None = None if fresh else getattr(self, "_state", None)
        if state is None or state.carry.W.shape != (d, m):
            state = SGDState(start_carry(np.zeros((d, m)), np.zeros(m), float(self.eta0)))
        elif epochs is None:
            # A new fit from old weights: the schedule goes on, the count of epochs and the stopping rule start anew.
            state = SGDState(state.carry._replace(eta=float(self.eta0)))
        limit = int(self.max_iter) if epochs is None else state.n_iter + epochs
        solver = sgd(
            params,
            data.blocks.n_blocks,
            state,
            tol=self.tol if epochs is None else None,
            max_iter=limit,
            n_iter_no_change=int(self.n_iter_no_change),
            n_chains=int(self.n_chains),
            averages_per_epoch=int(self.averages_per_epoch),
        )

        def coefficients(carry: SGDCarry) -> tuple[Array, Array]:
            averaged = params.average_from > 0 and carry.t > params.average_from
            W, b = (carry.mean_W, carry.mean_b) if averaged else (carry.W, carry.b)
            return np.ascontiguousarray(W.T), b.copy()

        def fitted(state: SGDState) -> dict[str, Any]:
            other = copy.copy(self)
            other._set(*coefficients(state.carry))
            return {"coef_": other.coef_, "intercept_": other.intercept_}

        outcome = self._run(solver, data, [(SGD_BLOCK, params)], fitted=fitted)
        self._state = outcome.state
        carry = outcome.state.carry
        self.t_ = carry.t
        self.converged_ = bool(outcome.state.converged)
        self._set(*coefficients(carry))
        if epochs is None and self.tol is not None and not self.converged_ and not stopped_early():
            warnings.warn(
                f"{type(self).__name__} reached max_iter={self.max_iter} epochs before the loss stopped improving by "
                f"tol={self.tol}. Raise max_iter, or scale the features.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _set(self, coef: Array, intercept: Array) -> None:
        self.coef_, self.intercept_ = coef, intercept


class SGDClassifier(ProbabilityMixin, _SGDModel, LinearClassifierBase):
    """Linear classifier trained by stochastic gradient descent; one sweep an epoch.

    scikit-learn's losses, penalties and schedules, row by row in shuffled order: blocks are shuffled, and the rows
    within each. More than two classes are trained one-against-rest in the same pass.

    Parameters
    ----------
    loss : {"hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron"}, default="hinge"
    penalty : {"l2", "l1", "elasticnet", None}, default="l2"
    alpha : float, default=1e-4
    l1_ratio : float, default=0.15
    fit_intercept : bool, default=True
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
    shuffle : bool, default=True
    random_state : int, optional
    learning_rate : {"constant", "optimal", "invscaling", "adaptive"}, default="optimal"
    eta0, power_t : float, default=0.01, 0.5
    n_iter_no_change : int, default=5
    class_weight : dict, "balanced" or None
        One-against-rest model j weighs the rows of class j, and the rest at 1.
    warm_start : bool, default=False
    average : bool or int, default=False
        Keep averaged weights, from this update on.
    batch_size : int, default=1
        Rows an update; their gradients are averaged.
    n_chains : int, default=1
        Chains over disjoint blocks that run side by side and are averaged; 1 is exact SGD. A setting, not the
        cluster's size: results do not depend on where the fit runs.
    averages_per_epoch : int, default=1

    Attributes
    ----------
    coef_ : ndarray (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray (1,) or (n_classes,)
    classes_, t_, n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import SGDClassifier
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> SGDClassifier(loss="log_loss", random_state=0).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0) > 0.97
    True
    """

    _losses = CLASSIFICATION

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        random_state: int | None = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        n_iter_no_change: int = 5,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int = 1,
        n_chains: int = 1,
        averages_per_epoch: int = 1,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.n_chains = n_chains
        self.averages_per_epoch = averages_per_epoch

    epsilon = 0.1  # of the regression losses; no classification loss here has one

    def _load(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        feature_dim: str | None,
        classes: Array | None = None,
        *,
        reset: bool = True,
    ) -> TrainingSet:
        data = load_classification(self, X, y, sample_weight, None, feature_dim, classes=classes, reset=reset)
        self._factors = None
        if self.class_weight is not None:
            assert data.classes is not None and data.class_weight_sums is not None
            own = class_factors(self.class_weight, data.classes, data.class_weight_sums)
            if not (own > 0).any():
                raise ValueError(f"Every class has the weight 0: class_weight={self.class_weight!r}.")
            self._factors = own[None, :] if len(own) == 2 else np.column_stack([np.ones_like(own), own])
        return data

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> SGDClassifier:
        """Fit the model; X (n_rows, n_features), y (n_rows,) of labels, in any container. Returns self."""
        self._check_params()
        data = self._load(X, y, sample_weight, feature_dim)
        assert data.classes is not None
        same = hasattr(self, "classes_") and np.array_equal(self.classes_, data.classes)
        self.classes_ = data.classes
        self._train(data, len(data.classes), epochs=None, fresh=not (self.warm_start and same))
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None
    ) -> SGDClassifier:
        """One epoch over more data; ``classes`` names all labels at the first call. Returns self."""
        self._check_params()
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit: it needs all labels. Pass a dict of weights."
            )
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not first and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={np.unique(classes)}` is not the same as on last call to partial_fit, was: {self.classes_}"
            )
        labels = np.unique(np.asarray(classes)) if first else self.classes_
        data = self._load(X, y, sample_weight, feature_dim, labels, reset=first)
        self.classes_ = labels
        self._train(data, len(labels), epochs=1, fresh=False)
        return self

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        model = clone(self)  # a plan leaves no trace
        model._check_params()
        data = model._load(X, y, sample_weight, feature_dim)
        assert data.classes is not None
        return model._plan(data.blocks, [(SGD_BLOCK, model._params(len(data.classes)))], SWEEPS["sgd"])

    def _has_probability(self) -> bool:
        if self.loss != "log_loss":
            raise AttributeError(f'probability estimates need loss="log_loss", got {self.loss!r}.')
        return True

    @available_if(_has_probability)
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities (n_rows, n_classes), for ``loss="log_loss"``; same container as X."""
        return self._probability(X, log=False)

    @available_if(_has_probability)
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the class probabilities (n_rows, n_classes), for ``loss="log_loss"``."""
        return self._probability(X, log=True)


class SGDRegressor(_SGDModel, LinearRegressorBase):
    """Linear regression trained by stochastic gradient descent; one sweep an epoch.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"}, default="squared_error"
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, random_state : as in `SGDClassifier`.
    epsilon : float, default=0.1
        Of all losses but the squared error.
    learning_rate : {"constant", "optimal", "invscaling", "adaptive"}, default="invscaling"
    eta0, power_t : float, default=0.01, 0.25
    n_iter_no_change, warm_start, average, batch_size, n_chains, averages_per_epoch : as in `SGDClassifier`.

    Attributes
    ----------
    coef_ : ndarray (n_features,)
    intercept_ : ndarray (1,)
    t_, n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import SGDRegressor
    >>> X = np.random.default_rng(0).normal(size=(2000, 2))
    >>> SGDRegressor(random_state=0).fit(X, 3 * X[:, 0]).coef_.round(1) + 0.0
    array([3., 0.])
    """

    _losses = tuple(name for name in LOSSES if name not in CLASSIFICATION)

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        epsilon: float = 0.1,
        random_state: int | None = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int = 1,
        n_chains: int = 1,
        averages_per_epoch: int = 1,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.n_chains = n_chains
        self.averages_per_epoch = averages_per_epoch

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> SGDRegressor:
        """Fit the model; X (n_rows, n_features), y (n_rows,), in any container. Returns self."""
        self._check_params()
        data = load_regression(self, X, y, sample_weight, feature_dim)
        self._train(data, 0, epochs=None, fresh=not self.warm_start)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> SGDRegressor:
        """One epoch over more data. Returns self."""
        self._check_params()
        data = load_regression(self, X, y, sample_weight, feature_dim, reset=not hasattr(self, "coef_"))
        self._train(data, 0, epochs=1, fresh=False)
        return self

    def _set(self, coef: Array, intercept: Array) -> None:
        self.coef_, self.intercept_ = coef[0], intercept

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        model = clone(self)  # a plan leaves no trace
        model._check_params()
        data = load_regression(model, X, y, sample_weight, feature_dim)
        return model._plan(data.blocks, [(SGD_BLOCK, model._params(0))], SWEEPS["sgd"])
