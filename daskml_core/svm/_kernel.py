"""Support vector machines with kernels: classification, regression, novelty."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, OutlierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from daskml_core.engine import CheckpointPath, Plan, resumable, run_sweeps
from daskml_core.estimator import load_features
from daskml_core.kernels.kernel_functions import KernelFunction
from daskml_core.kernels.moments import TOTAL_WEIGHT
from daskml_core.kernels.svm import DecisionParams, HeldOut, HeldOutParams, Task, held_out_sweep
from daskml_core.linear_model._data import TrainingSet, load_classification, load_regression
from daskml_core.solvers.smo_cascade import CascadeState, coefficients
from daskml_core.svm._base import KernelMachine
from daskml_core.svm._platt import platt
from daskml_core.sweep import Array
from daskml_core.validate import non_negative, positive, random_seed

FOLDS = 5
"""Parts of the rows that Platt scaling holds out in turn, as libsvm."""

CALIBRATION_ROWS = 100_000
"""Rows that calibrate a machine: two numbers a pair need no more."""


def _probability_is_on(estimator: Any) -> bool:
    if not estimator.probability:
        raise AttributeError("predict_proba is not available when probability=False")
    return True


class SVC(ClassifierMixin, KernelMachine):
    """Support vector classification, exact and certified, on data that need not fit in memory.

    Solves, for each pair of classes with y = +1 and -1 (one against one, as libsvm)::

        min_{w, b}  |w|^2 / 2 + C sum_i s_i max(0, 1 - y_i (w phi(x_i) + b))

    in its dual, over an *active set* of rows by sequential minimal optimisation; sweeps over all rows return the exact
    primal, hence the duality gap, and the rows that violate, which join the active set.

    Parameters
    ----------
    C : float, default=1.0
    kernel : {"rbf", "linear", "poly", "sigmoid"} or callable, default="rbf"
        A callable ``(X, S) -> (rows of X, rows of S)`` is called on parts of blocks, and must be a module's function where
        workers are other processes.
    degree : int, default=3
    gamma : {"scale", "auto"} or float, default="scale"
        "scale" is ``1 / (n_features X.var())``, "auto" is ``1 / n_features``.
    coef0 : float, default=0.0
    probability : bool, default=False
        Whether to calibrate `predict_proba`, by Platt scaling on five held-out folds: five more machines.
    tol : float, default=1e-3
        The violation that is left, as libsvm's, and the relative duality gap, both over all rows.
    cache_size : float, default=200
        MB for kernel values, in the calling process: rows of the active set's matrix, and a working set's own. At least
        16 are taken. More than the default pays where tens of thousands of support vectors are not at their bound.
    class_weight : dict, "balanced" or None
        Multiplies C of a class.
    max_iter : int, default=-1
        Most SMO steps of a pair; -1 for no limit.
    decision_function_shape : {"ovr", "ovo"}, default="ovr"
    random_state : int, optional
        Seed of the folds of ``probability``.

    Attributes
    ----------
    support_ : ndarray (n_SV,)
        Global row numbers, class by class.
    support_vectors_ : ndarray (n_SV, n_features), in X's dtype
    n_support_ : ndarray (n_classes,) int32
    dual_coef_ : ndarray (n_classes - 1, n_SV), as scikit-learn's
    intercept_ : ndarray (n_pairs,)
    classes_ : ndarray (n_classes,)
    duality_gap_ : float
        ``(primal - dual) / max(|primal|, |dual|)`` over all rows, the largest of the pairs. A certificate for the
        positive kernels; "sigmoid" is none, and stops where nothing violates.
    n_iter_ : ndarray (n_pairs,) of SMO steps
    n_sweeps_ : float
    history_ : list of dict
        ``gap``, ``violation``, ``dual``, ``active_rows``, ``support_rows`` and ``violators`` of each round, from kernel
        values in float32 while they only guide; ``pandas.DataFrame(model.history_)``.
    fit_status_ : int
        0 where it converged.
    converged_ : bool
    probA_, probB_ : ndarray (n_pairs,), with ``probability``
    n_features_in_, feature_names_in_

    Notes
    -----
    Up to 50,000 rows (and 64 MiB) are gathered in one sweep and solved in the calling process. More stay where they are:
    one sweep draws a sample over all blocks, each further one certifies a solution. The cost of a sweep is one kernel value
    for each row and each support vector whose coefficient changed.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.svm import SVC
    >>> X = da.random.default_rng(0).normal(size=(1_000, 2), chunks=(100, 2))
    >>> y = (X**2).sum(axis=1) > 1
    >>> model = SVC(C=10).fit(X, y)
    >>> model.duality_gap_ <= 1e-3
    True
    >>> model.n_sweeps_ < 2  # one, and y alone for its classes
    True
    >>> model.predict([[0.0, 0.0], [2.0, 2.0]])
    array([False,  True])
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        kernel: str | Callable[[Any, Any], Any] = "rbf",
        degree: int = 3,
        gamma: str | float = "scale",
        coef0: float = 0.0,
        probability: bool = False,
        tol: float = 1e-3,
        cache_size: float = 200,
        class_weight: Mapping[Any, float] | str | None = None,
        max_iter: int = -1,
        decision_function_shape: str = "ovr",
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.probability = probability
        self.tol = tol
        self.cache_size = cache_size
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.decision_function_shape = decision_function_shape
        self.random_state = random_state

    def _load(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> tuple[TrainingSet, Task]:
        self._check_kernel()
        C = positive("C", self.C)
        if self.decision_function_shape not in ("ovr", "ovo"):
            raise ValueError(f'decision_function_shape must be "ovr" or "ovo", got {self.decision_function_shape!r}.')
        data = load_classification(self, X, y, sample_weight, self.class_weight, feature_dim)
        assert data.classes is not None
        pairs = tuple(itertools.combinations(range(len(data.classes)), 2))
        return data, Task("svc", C, pairs=pairs)

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
        """Fit the machine.

        Parameters
        ----------
        X : array-like (n_rows, n_features): NumPy, dask.array, zarr.Array, xarray DataArray or Dataset, DataFrame.
        y : array-like (n_rows,) of labels of any kind, chunked as it may be.
        sample_weight : array-like (n_rows,), optional. Multiplies C of a row.
        feature_dim : name of the feature dimension of a DataArray, where it cannot be told.
        checkpoint : directory or URL where an interrupted fit is kept, so that the same fit goes on from there (user guide).

        Raises
        ------
        ValueError : NaN or infinity (block and row are named), lengths that differ, fewer than two classes.
        MemoryPlanError : blocks, or support vectors, that do not fit into the memory limit.

        Warns
        -----
        ConvergenceWarning : ``max_iter`` reached, or no digits left; says how far the answer is.
        """
        data, task = self._load(X, y, sample_weight, feature_dim)
        assert data.classes is not None and data.class_weight_sums is not None
        K = len(data.classes)
        seed = random_seed(self.random_state)
        n_folds = FOLDS if self.probability else 0
        state, folds = self._fit_task(
            data.blocks, task, K, target_fraction=data.target_fraction, n_folds=n_folds, seed=seed
        )
        self.classes_ = data.classes
        number, _ = coefficients(state.solutions)
        assert state.rows.y is not None
        codes = state.rows.y[np.searchsorted(state.rows.number, number)].astype(np.intp)
        coef = self._set_support(state, np.argsort(codes, kind="stable"))
        codes = np.sort(codes, kind="stable")
        self.n_support_ = np.bincount(codes, minlength=K).astype(np.int32)
        self.dual_coef_, self.intercept_ = _to_layout(coef, codes, task.pairs, K), state.b
        if K == 2:  # scikit-learn's sign: positive for the second class
            self.dual_coef_, self.intercept_ = -self.dual_coef_, -self.intercept_
        if n_folds:
            self._calibrate(data, task, folds, seed)
        return self

    def _calibrate(
        self, data: TrainingSet, task: Task, folds: list[tuple[KernelFunction, CascadeState]], seed: int
    ) -> None:
        """probA_ and probB_ of each pair from decisions of rows that a machine has not seen; one sweep."""
        machines = tuple(_machine(kernel, state) for kernel, state in folds)
        one_in = max(1, data.blocks.n_rows // CALIBRATION_ROWS)
        answer: HeldOut
        (answer,) = run_sweeps(data.blocks, held_out_sweep(HeldOutParams(machines, seed, one_in)))
        self.n_sweeps_ = round(self.n_sweeps_ + 1, 6)
        fitted = []
        for k, (first, second) in enumerate(task.pairs):
            at = (answer.y == first) | (answer.y == second)
            fitted.append(platt(answer.f[at, k], answer.y[at] == first, answer.weight[at]))
        self.probA_, self.probB_ = np.array(fitted).T

    def _decision_params(self) -> DecisionParams:
        K = len(self.classes_)
        pairs = tuple(itertools.combinations(range(K), 2))
        coef, b = _from_layout(self.dual_coef_, self.n_support_, pairs), self.intercept_
        if K == 2:
            coef, b = -coef, -b
        table = np.vstack([self.probA_, self.probB_]) if self.probability and hasattr(self, "probA_") else None
        return DecisionParams(
            self._kernel_function, self.support_vectors_, coef, b, pairs=pairs, classes=self.classes_, platt=table
        )

    def decision_function(self, X: Any) -> Any:
        """Scores: (n_rows,) for two classes, (n_rows, n_classes) with "ovr", (n_rows, n_pairs) with "ovo"; as X."""
        check_is_fitted(self)
        K = len(self.classes_)
        if K == 2:
            params = super()._decision_params()  # scikit-learn's sign
            from daskml_core.kernels.svm import MACHINE_OUTPUT

            return self._map(X, MACHINE_OUTPUT, params, np.float64, None, "decision")
        if self.decision_function_shape == "ovr":
            return self._output(X, "ovr", np.float64, K, "decision", self.classes_)
        return self._output(X, "decision", np.float64, K * (K - 1) // 2, "decision")

    def predict(self, X: Any) -> Any:
        """Predicted labels (n_rows,), by votes of the pairs, in the labels' own dtype; lazy for lazy input."""
        check_is_fitted(self)
        return self._output(X, "label", self.classes_.dtype, None, "prediction")

    @available_if(_probability_is_on)
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities (n_rows, n_classes), columns in the order of ``classes_``; same container as X."""
        check_is_fitted(self, "probA_")
        return self._output(X, "probability", np.float64, len(self.classes_), "probability", self.classes_)

    @available_if(_probability_is_on)
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the class probabilities (n_rows, n_classes)."""
        check_is_fitted(self, "probA_")
        return self._output(X, "log_probability", np.float64, len(self.classes_), "log_probability", self.classes_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, in one sweep."""
        from daskml_core.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; X is not read."""
        data, task = self._load(X, y, sample_weight, feature_dim)
        assert data.classes is not None
        return self._plan_task(data.blocks, task, len(data.classes))


def _machine(kernel: KernelFunction, state: CascadeState) -> DecisionParams:
    """A fold's machine: one decision a pair."""
    number, coef = coefficients(state.solutions)
    return DecisionParams(kernel, state.rows.X[np.searchsorted(state.rows.number, number)], coef, state.b)


def _place(code: int, pair: tuple[int, int]) -> int:
    """Row of ``dual_coef_`` that holds a class's coefficients in a pair (libsvm's layout)."""
    first, second = pair
    return second - 1 if code == first else first


def _to_layout(coef: Array, codes: Array, pairs: tuple[tuple[int, int], ...], K: int) -> Array:
    """dual_coef_ (K - 1, m) of coefficients (m, P); ``codes`` (m,) are the classes of the support rows."""
    table = np.zeros((K - 1, len(codes)))
    for k, pair in enumerate(pairs):
        for code in pair:
            at = codes == code
            table[_place(code, pair), at] = coef[at, k]
    return table


def _from_layout(table: Array, n_support: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """Coefficients (m, P) of ``dual_coef_``: the inverse of `_to_layout`."""
    codes = np.repeat(np.arange(len(n_support)), n_support)
    coef = np.zeros((len(codes), len(pairs)))
    for k, pair in enumerate(pairs):
        for code in pair:
            at = codes == code
            coef[at, k] = table[_place(code, pair), at]
    return coef


class SVR(RegressorMixin, KernelMachine):
    """Support vector regression, exact and certified, on data that need not fit in memory.

    Minimises ``|w|^2 / 2 + C sum_i s_i max(0, |y_i - w phi(x_i) - b| - epsilon)``; solved as `SVC`.

    Parameters
    ----------
    C : float, default=1.0
    epsilon : float, default=0.1
        Errors up to this size cost nothing.
    kernel, degree, gamma, coef0, tol, cache_size, max_iter : as in `SVC`.

    Attributes
    ----------
    support_, support_vectors_ : row numbers (n_SV,) and rows (n_SV, n_features)
    dual_coef_ : ndarray (1, n_SV)
    intercept_, n_support_ : ndarray (1,)
    duality_gap_, n_iter_, n_sweeps_, history_, fit_status_, converged_ : as in `SVC`.
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.svm import SVR
    >>> X = da.linspace(-3, 3, 500, chunks=100)[:, None]
    >>> model = SVR(C=10, epsilon=0.01).fit(X, da.sin(X[:, 0]))
    >>> bool(abs(model.predict([[1.0]])[0] - 0.8415) < 0.02)
    True
    """

    def __init__(
        self,
        *,
        kernel: str | Callable[[Any, Any], Any] = "rbf",
        degree: int = 3,
        gamma: str | float = "scale",
        coef0: float = 0.0,
        tol: float = 1e-3,
        C: float = 1.0,
        epsilon: float = 0.1,
        cache_size: float = 200,
        max_iter: int = -1,
    ) -> None:
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.C = C
        self.epsilon = epsilon
        self.cache_size = cache_size
        self.max_iter = max_iter

    def _load(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> tuple[TrainingSet, Task]:
        self._check_kernel()
        task = Task("svr", positive("C", self.C), non_negative("epsilon", self.epsilon))
        return load_regression(self, X, y, sample_weight, feature_dim), task

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
        """Fit the machine; parameters, errors and warnings as in `SVC.fit`, y (n_rows,) numbers."""
        data, task = self._load(X, y, sample_weight, feature_dim)
        state, _ = self._fit_task(data.blocks, task, target_fraction=data.target_fraction)
        self.dual_coef_ = self._set_support(state).T.copy()
        self.n_support_ = np.array([len(self.support_)], dtype=np.int32)
        self.intercept_ = state.b
        return self

    def predict(self, X: Any) -> Any:
        """Predicted values (n_rows,); same container as X, lazy for lazy input."""
        return self._output(X, "decision", np.float64, None, "prediction")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination R2 of the prediction, in one sweep."""
        from daskml_core.metrics import r2_score

        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; X is not read."""
        data, task = self._load(X, y, sample_weight, feature_dim)
        return self._plan_task(data.blocks, task, 1)


class OneClassSVM(OutlierMixin, KernelMachine):
    """The region that most of the data lies in, exact and certified (Schölkopf et al. 2001).

    Minimises ``|w|^2 / 2 + sum_i s_i max(0, rho - w phi(x_i)) - nu rho sum_i s_i``; solved as `SVC`. A share ``nu`` of the
    rows at least are support vectors: they must fit into memory.

    Parameters
    ----------
    nu : float in (0, 1], default=0.5
        Bound on the share of rows outside, and on that of support vectors from below.
    kernel, degree, gamma, coef0, tol, cache_size, max_iter : as in `SVC`.

    Attributes
    ----------
    offset_ : float
        ``decision_function = score_samples - offset_``.
    support_, support_vectors_, dual_coef_, intercept_, n_support_ : as in `SVR`.
    duality_gap_, n_iter_, n_sweeps_, history_, fit_status_, converged_ : as in `SVC`.
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.svm import OneClassSVM
    >>> X = da.random.default_rng(0).normal(size=(1_000, 2), chunks=(100, 2))
    >>> OneClassSVM(nu=0.1).fit(X).predict([[0.0, 0.0], [5.0, 5.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        *,
        kernel: str | Callable[[Any, Any], Any] = "rbf",
        degree: int = 3,
        gamma: str | float = "scale",
        coef0: float = 0.0,
        tol: float = 1e-3,
        nu: float = 0.5,
        cache_size: float = 200,
        max_iter: int = -1,
    ) -> None:
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.nu = nu
        self.cache_size = cache_size
        self.max_iter = max_iter

    def _load(self, X: Any, sample_weight: Any, feature_dim: str | None) -> tuple[Any, Task]:
        self._check_kernel()
        if not 0 < positive("nu", self.nu) <= 1:
            raise ValueError(f"nu must be above 0 and at most 1, got {self.nu!r}.")
        blocks = load_features(self, X, sample_weight, feature_dim)
        total = float(blocks.n_rows)
        if blocks.weight is not None:
            (total,) = run_sweeps(replace(blocks, X=None), TOTAL_WEIGHT)
            if not total > 0:
                raise ValueError(f"The sample weights sum to zero ({total:g}); at least one must be positive.")
        return blocks, Task("one_class", 1.0, nu=float(self.nu), total=float(total))

    @resumable
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Self:
        """Fit the region; parameters, errors and warnings as in `SVC.fit`; y is ignored."""
        blocks, task = self._load(X, sample_weight, feature_dim)
        state, _ = self._fit_task(blocks, task)
        # In these signs f = -score: a variable of the problem is what the score counts positive.
        self.dual_coef_ = self._set_support(state).T.copy()
        self.n_support_ = np.array([len(self.support_)], dtype=np.int32)
        self.intercept_ = state.b
        self.offset_ = -float(state.b[0])
        return self

    def decision_function(self, X: Any) -> Any:
        """Signed distance (n_rows,), positive inside; same container as X."""
        return self._output(X, "decision", np.float64, None, "decision")

    def score_samples(self, X: Any) -> Any:
        """``decision_function`` without the offset (n_rows,); same container as X."""
        return self.decision_function(X) + self.offset_

    def predict(self, X: Any) -> Any:
        """+1 for rows inside, -1 for those outside (n_rows,); same container as X."""
        return self._output(X, "sign", np.int64, None, "prediction")

    def plan(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do: blocks, spans, bytes a sweep, residency and peak memory; X is not read."""
        blocks, task = self._load(X, sample_weight, feature_dim)
        return self._plan_task(blocks, task, 1)
