"""Linear support vector machines: classification and regression."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from daskml_core.engine import CheckpointPath, Outcome, Plan, resumable, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import sample_budget
from daskml_core.kernels.linear import SECOND_MOMENTS, OneAgainstRest
from daskml_core.kernels.margin import MARGIN_ROWS
from daskml_core.kernels.sample import DRAW_ROWS, SampleParams
from daskml_core.linear_model._base import LinearClassifierBase, LinearRegressorBase
from daskml_core.linear_model._data import TrainingSet, class_factors, load_classification, load_regression
from daskml_core.linear_model._solve import SOLVERS, SWEEPS, check_solver, kernels_of, start_solver
from daskml_core.losses import Loss, SquaredEpsilonInsensitive, SquaredHinge
from daskml_core.objective import ROUNDING, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.margin_model import MarginProblem, margin_model
from daskml_core.solvers.sampled_newton import sample_and_moments, sample_size
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import non_negative, positive, positive_integer, random_seed

MARGIN_SWEEPS = (
    "1 for a sample over all blocks, then 2-3 with the rows near the margin; 1 where the data fits the sample"
)


class _LinearMachine:
    """What both machines share: parameters, the two families of losses, the runs."""

    C: float
    tol: float
    max_iter: int
    fit_intercept: bool
    intercept_scaling: float | None
    random_state: int | None
    solver: str
    solver_options: Mapping[str, Any] | None
    loss: str
    coef_: Array
    intercept_: Any
    classes_: Array
    n_features_in_: int
    n_sweeps_: float

    def _check_common(self, l1: bool, smooth: bool) -> None:
        positive("C", self.C)
        positive("tol", self.tol)
        positive_integer("max_iter", self.max_iter)
        if self.intercept_scaling is not None:
            positive("intercept_scaling", self.intercept_scaling)
            if not self.fit_intercept:
                raise ValueError("intercept_scaling has no meaning without an intercept: fit_intercept is False.")
        if self.solver == "sgd":
            raise ValueError(f"solver must be one of {sorted(SOLVERS)}; for SGD use SGDClassifier or SGDRegressor.")
        check_solver(self.solver, 1.0 if l1 else 0.0, self.solver_options)
        if not smooth and (self.solver != "auto" or self.solver_options):
            raise ValueError(
                f'The loss has kinks, which solver="{self.solver}" and solver_options are not for. Use "auto", or a '
                "squared loss."
            )

    def _smooth(self, data: TrainingSet, loss: Loss, classes: OneAgainstRest | None, l1: bool) -> LinearObjective:
        strength = 1.0 / (self.C * data.sum_weight)
        return LinearObjective(
            loss,
            ElasticNetPenalty(strength, 0.0) if l1 else ElasticNetPenalty(0.0, strength),
            data.blocks.n_features,
            data.sum_weight,
            bool(self.fit_intercept),
            rounding=ROUNDING[data.blocks.dtype],
            intercept_scaling=None if self.intercept_scaling is None else float(self.intercept_scaling),
            classes=classes,
        )

    def _kinked(
        self, data: TrainingSet, epsilon: float | None, classes: OneAgainstRest | None, n_models: int
    ) -> MarginProblem:
        blocks = data.blocks
        intercept = None if not self.fit_intercept else float(self.intercept_scaling or 0.0)
        room = sample_budget() // (n_models * (blocks.n_features + 3) * blocks.dtype.itemsize)
        capacity = max(1, min(self._sample_rows(data), room))
        return MarginProblem(blocks.n_features, blocks.n_rows, float(self.C), epsilon, intercept, classes, capacity)

    def _sample_rows(self, data: TrainingSet) -> int:
        blocks = data.blocks
        return min(sample_size(blocks.n_features, 1, blocks.dtype.itemsize, sample_budget()), blocks.n_rows)

    def _draw(self, data: TrainingSet) -> tuple[Sweep, Sweep]:
        seed = random_seed(self.random_state)
        return sample_and_moments(self._sample_rows(data), data.blocks.n_rows, seed, data.blocks.dtype.itemsize)

    def _kernels(self, data: TrainingSet, problems: Sequence[LinearObjective | MarginProblem]) -> list[Any]:
        first = problems[0]
        if isinstance(first, LinearObjective):
            kernels = kernels_of(self.solver, first, data.blocks)
            return [(k, k.stack([params] * len(problems)) if k.stack is not None else params) for k, params in kernels]
        assert MARGIN_ROWS.stack is not None
        params = MARGIN_ROWS.stack(
            [p.params([np.zeros(p.size)], 0.0) for p in problems if isinstance(p, MarginProblem)]
        )
        blocks = data.blocks
        draw = SampleParams(self._sample_rows(data), blocks.n_rows, 0, blocks.dtype.itemsize)
        return [(MARGIN_ROWS, params), (DRAW_ROWS, draw), (SECOND_MOMENTS, None)]

    def _solve(self, data: TrainingSet, problems: Sequence[LinearObjective | MarginProblem]) -> tuple[Array, Array]:
        """Coefficients (n_models, d) and intercepts of all problems, solved in lockstep over one sample."""
        tol, max_iter = float(self.tol), int(self.max_iter)
        draw = self._draw(data)
        solvers = []
        for problem in problems:
            if isinstance(problem, MarginProblem):
                solvers.append(margin_model(problem, draw, tol=tol, max_iter=max_iter))
            else:
                start = self._start(problem, data)
                options: dict[str, Any] = {"tol": tol, "max_iter": max_iter, "options": self.solver_options}
                seed = random_seed(self.random_state)
                solvers.append(start_solver(self.solver, problem, start, data.blocks, seed=seed, draw=draw, **options))

        def coefficients(states: Sequence[Any]) -> tuple[Array, Array]:
            parts = [
                problem.split(state.theta) if isinstance(problem, MarginProblem) else problem.unpack(state.theta)
                for problem, state in zip(problems, states, strict=True)
            ]
            return np.array([np.ravel(w) for w, _ in parts]), np.array([float(np.ravel(b)[0]) for _, b in parts])

        def fitted(state: Any) -> dict[str, Any]:
            coef, intercept = coefficients([state])
            if data.classes is None:
                return {"coef_": coef[0], "intercept_": float(intercept[0])}
            return {"coef_": coef, "intercept_": intercept, "classes_": data.classes}

        # One class against the rest is no classifier yet.
        known = fitted if len(problems) == 1 else None
        outcomes = self._drive(solvers, data.blocks, self._kernels(data, problems), fitted=known)  # type: ignore[attr-defined]
        self.n_sweeps_ = round(self.n_sweeps_ + data.target_fraction, 6)
        self._record(outcomes)
        return coefficients([outcome.state for outcome in outcomes])

    # -- in a batch of models, as `daskml_core.model_selection` trains them ------------------------------------------

    def _not_in_a_batch(self, data: TrainingSet) -> str | None:
        """Why this machine is not one of many models over the same rows."""
        if self.loss not in ("squared_hinge", "squared_epsilon_insensitive"):
            return f'loss="{self.loss}" is solved on the rows near each machine\'s own margin'
        balanced = isinstance(getattr(self, "class_weight", None), str)
        if data.classes is not None and len(data.classes) > 2 and balanced:
            return 'class_weight="balanced" weighs the rows of one class against the rest in another way on every split'
        return None

    def _of_class(self, data: TrainingSet, number: int) -> LinearObjective:
        """The objective of one class against the rest, in a batch."""
        assert data.classes is not None and data.class_weight_sums is not None
        factor = np.ones(1)
        weight = getattr(self, "class_weight", None)
        if weight is not None:
            factor = class_factors(weight, data.classes, data.class_weight_sums)[number : number + 1]
        return self._smooth(data, SquaredHinge(), OneAgainstRest(np.array([float(number)]), factor), self._is_l1())

    def _is_l1(self) -> bool:
        return getattr(self, "penalty", "l2") == "l1"

    def _accept(self, objective: LinearObjective, theta: Array, data: TrainingSet) -> None:
        """Take a solution as the fitted machine."""
        if theta.ndim == 2:  # a machine a class
            parts = [objective.unpack(one) for one in theta]
            W, b = np.hstack([w for w, _ in parts]), np.concatenate([c for _, c in parts])
        else:
            W, b = objective.unpack(theta)
        if data.classes is None:
            self.coef_, self.intercept_ = W[:, 0].copy(), float(b[0])
        else:
            self.classes_, self.coef_, self.intercept_ = data.classes, np.ascontiguousarray(W.T), np.array(b)

    def _start(self, objective: LinearObjective, data: TrainingSet) -> Array:
        """Zero, and the mean of a regression's target."""
        mean = 0.0 if data.moments is None else float(data.moments.mean[0])
        return objective.pack(np.zeros((objective.n_features, 1)), np.array([mean]))

    def _record(self, outcomes: Sequence[Outcome]) -> None:
        """History, iterations and convergence of all models; one warning for the worst."""
        states = [outcome.state for outcome in outcomes]
        self.n_iter_ = max(int(state.n_iter) for state in states)
        classes = getattr(self, "classes_", None)
        if len(outcomes) == 1:
            self.history_ = outcomes[0].history
        else:
            labels = range(len(outcomes)) if classes is None else classes.tolist()
            self.history_ = [row | {"class": c} for c, o in zip(labels, outcomes, strict=True) for row in o.history]
        self.converged_ = all(bool(state.converged) for state in states)
        if hasattr(states[0], "bound"):
            self.duality_gap_ = max(float(state.gap) for state in states)
            if not self.converged_ and not stopped_early():
                state = max(states, key=lambda state: state.gap)
                reason = (
                    "rounding or rows at the margin beyond what fits in memory limit it: scale the features "
                    "(daskml_core.preprocessing.StandardScaler), or lower C"
                    if state.stalled
                    else f"max_iter={self.max_iter} was reached: raise it"
                )
                warnings.warn(
                    f"{type(self).__name__} did not converge: the objective is within a relative {state.gap:.2g} of the "
                    f"optimum where tol={self.tol:g} was asked for, and {reason}.",
                    ConvergenceWarning,
                    stacklevel=5,
                )
            return
        if hasattr(self, "duality_gap_"):
            del self.duality_gap_
        worst = max(states, key=lambda state: (not state.converged, state.grad_norm))
        self._finish(worst, self.max_iter, stacklevel=6)  # type: ignore[attr-defined]


class LinearSVC(_LinearMachine, LinearClassifierBase):
    """Linear support vector classification, in a few sweeps over data that need not fit in memory.

    Minimises scikit-learn's objective, for each class against the rest, but with an intercept that is **not penalised**::

        1/2 |w|^2 + C sum_i s_i max(0, 1 - t_i (x_i w + b))^2          loss="squared_hinge"
        1/2 |w|^2 + C sum_i s_i max(0, 1 - t_i (x_i w + b))            loss="hinge"

    or with ``|w|_1`` in the first place. liblinear penalises b as well; ``intercept_scaling`` asks for that.

    Parameters
    ----------
    penalty : {"l2", "l1"}, default="l2"
        "l1" needs the squared hinge.
    loss : {"squared_hinge", "hinge"}, default="squared_hinge"
    tol : float, default=1e-4
        Squared hinge: no entry of the gradient of the mean objective is larger at the end. Hinge: the relative duality
        gap, (objective - lower bound of the optimum) / objective, is at most this.
    C : float, default=1.0
        Weight of the *sum* of losses.
    multi_class : {"ovr"}, default="ovr"
        One class against the rest, all trained in the same sweeps.
    fit_intercept : bool, default=True
    intercept_scaling : float, optional
        The value of a constant feature whose coefficient is penalised like all others, as liblinear does; 1 is
        scikit-learn's default. ``None`` leaves the intercept free.
    class_weight : dict, "balanced" or None
        As liblinear: with more than two classes, the weight of a class multiplies its own rows where it stands against
        the rest, which count once.
    random_state : int, optional
        Seed of the sample; ``None`` is a fixed one.
    max_iter : int, default=1000
    solver : {"auto", "newton", "lbfgs", "gradient_descent", "proximal"}, default="auto"
        Of the squared hinge; see `LogisticRegression`.
    solver_options : dict, optional

    Attributes
    ----------
    coef_ : ndarray (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray (1,) or (n_classes,)
    classes_ : ndarray (n_classes,)
    duality_gap_ : float
        Of the hinge: relative distance between the objective and a lower bound of its optimum, the largest of all
        classes. Both are computed over all rows.
    n_iter_ : int
    n_sweeps_ : float
        Complete reads of the data: 3-6.
    history_ : list of dict
    converged_ : bool
    n_features_in_, feature_names_in_

    Notes
    -----
    The squared hinge is solved as `LogisticRegression` is, on a sample and then with full gradients. The hinge is solved
    on a sample by an interior-point method, then on models that hold the rows near the margin exactly and all others by
    a cutting plane; see `daskml_core.solvers.margin_model`.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.svm import LinearSVC
    >>> X = da.random.default_rng(0).normal(size=(10_000, 3), chunks=(1_000, 3))
    >>> y = X[:, 0] + X[:, 1] > 0
    >>> LinearSVC().fit(X, y).score(X, y) > 0.99
    True
    >>> LinearSVC(loss="hinge").fit(X, y).duality_gap_ < 1e-4
    True
    """

    def __init__(
        self,
        penalty: str = "l2",
        loss: str = "squared_hinge",
        *,
        tol: float = 1e-4,
        C: float = 1.0,
        multi_class: str = "ovr",
        fit_intercept: bool = True,
        intercept_scaling: float | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | None = None,
        max_iter: int = 1000,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.tol = tol
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.solver_options = solver_options

    def _check_params(self) -> None:
        if self.penalty not in ("l1", "l2"):
            raise ValueError(f'penalty must be "l1" or "l2", got {self.penalty!r}.')
        if self.loss not in ("hinge", "squared_hinge"):
            raise ValueError(f'loss must be "squared_hinge" or "hinge", got {self.loss!r}.')
        if self.penalty == "l1" and self.loss == "hinge":
            raise ValueError('penalty="l1" with loss="hinge" is not supported. Use loss="squared_hinge".')
        if self.multi_class != "ovr":
            raise ValueError(f'multi_class must be "ovr", got {self.multi_class!r}.')
        self._check_common(self.penalty == "l1", self.loss == "squared_hinge")

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        """The data of many models at once; class weights are each model's own."""
        return load_classification(self, X, y, sample_weight, None, feature_dim)

    def _objective(self, data: TrainingSet) -> LinearObjective:
        return self._smooth(data, SquaredHinge(), None, self.penalty == "l1")

    def _load(
        self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None
    ) -> tuple[TrainingSet, list[LinearObjective | MarginProblem]]:
        self._check_params()
        data = load_classification(self, X, y, sample_weight, None, feature_dim)
        classes, sums = data.classes, data.class_weight_sums
        assert classes is not None and sums is not None
        K = len(classes)
        machines: list[OneAgainstRest | None] = [None]
        if K == 2 and self.class_weight is not None:
            data = load_classification(self, X, y, sample_weight, self.class_weight, feature_dim)
        if K > 2:
            factors = np.ones(K)
            if self.class_weight is not None:
                factors = class_factors(self.class_weight, classes, sums)
            machines = [OneAgainstRest(np.array([float(k)]), factors[k : k + 1]) for k in range(K)]
        if self.loss == "hinge":
            return data, [self._kinked(data, None, machine, len(machines)) for machine in machines]
        return data, [self._smooth(data, SquaredHinge(), machine, self.penalty == "l1") for machine in machines]

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
        """Fit the model.

        Parameters
        ----------
        X : array-like (n_rows, n_features): NumPy, dask.array, zarr.Array, xarray DataArray or Dataset, DataFrame.
        y : array-like (n_rows,) of labels of any kind, chunked as it may be.
        sample_weight : array-like (n_rows,), optional.
        feature_dim : name of the feature dimension of a DataArray, where it cannot be told.
        checkpoint : directory or URL where an interrupted fit is kept, so that the same fit goes on from there (user guide).

        Raises
        ------
        ValueError : NaN or infinity (block and row are named), lengths that differ, fewer than two classes.
        MemoryPlanError : a block that cannot be worked on within the memory limit; nothing has been read then.

        Warns
        -----
        ConvergenceWarning : ``tol`` was not reached; the message says how far the model is from it.
        """
        data, problems = self._load(X, y, sample_weight, feature_dim)
        assert data.classes is not None
        self.classes_ = data.classes
        self.coef_, self.intercept_ = self._solve(data, problems)
        return self

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read, the labels are counted."""
        data, problems = self._load(X, y, sample_weight, feature_dim)
        sweeps = MARGIN_SWEEPS if self.loss == "hinge" else SWEEPS[self.solver]
        return self._plan(data.blocks, self._kernels(data, problems), sweeps)


class LinearSVR(_LinearMachine, LinearRegressorBase):
    """Linear support vector regression, in a few sweeps over data that need not fit in memory.

    Minimises scikit-learn's objective, with an intercept that is **not penalised** unless ``intercept_scaling`` is given::

        1/2 |w|^2 + C sum_i s_i max(0, |y_i - x_i w - b| - epsilon)      loss="epsilon_insensitive"
        1/2 |w|^2 + C sum_i s_i max(0, |y_i - x_i w - b| - epsilon)^2    loss="squared_epsilon_insensitive"

    Parameters
    ----------
    epsilon : float, default=0.0
        Half width of the tube without loss, in y's units.
    tol : float, default=1e-4
        Relative duality gap of the first loss, largest gradient entry of the mean objective with the second.
    C : float, default=1.0
    loss : {"epsilon_insensitive", "squared_epsilon_insensitive"}, default="epsilon_insensitive"
    fit_intercept : bool, default=True
    intercept_scaling : float, optional
        As in `LinearSVC`.
    random_state : int, optional
    max_iter : int, default=1000
    solver : {"auto", "newton", "lbfgs", "gradient_descent", "proximal"}, default="auto"
        Of the squared loss.
    solver_options : dict, optional

    Attributes
    ----------
    coef_ : ndarray (n_features,)
    intercept_ : float
    duality_gap_ : float
        With ``loss="epsilon_insensitive"``; as in `LinearSVC`.
    n_iter_, n_sweeps_, history_, converged_, n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.svm import LinearSVR
    >>> X = np.arange(20.0)[:, None]
    >>> y = 2 * X[:, 0] + 1
    >>> y[3] = 500
    >>> LinearSVR(C=10.0).fit(X, y).coef_.round(4)
    array([2.])
    """

    coef_: Array
    intercept_: float

    def __init__(
        self,
        *,
        epsilon: float = 0.0,
        tol: float = 1e-4,
        C: float = 1.0,
        loss: str = "epsilon_insensitive",
        fit_intercept: bool = True,
        intercept_scaling: float | None = None,
        random_state: int | None = None,
        max_iter: int = 1000,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.tol = tol
        self.C = C
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.solver_options = solver_options

    def _check_params(self) -> None:
        non_negative("epsilon", self.epsilon)
        if self.loss not in ("epsilon_insensitive", "squared_epsilon_insensitive"):
            raise ValueError(f'loss must be "epsilon_insensitive" or "squared_epsilon_insensitive", got {self.loss!r}.')
        self._check_common(False, self.loss == "squared_epsilon_insensitive")

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        """The data of many models at once."""
        return load_regression(self, X, y, sample_weight, feature_dim)

    def _objective(self, data: TrainingSet) -> LinearObjective:
        return self._smooth(data, SquaredEpsilonInsensitive(float(self.epsilon)), None, False)

    def _load(
        self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None
    ) -> tuple[TrainingSet, list[LinearObjective | MarginProblem]]:
        self._check_params()
        data = load_regression(self, X, y, sample_weight, feature_dim)
        if self.loss == "squared_epsilon_insensitive":
            return data, [self._objective(data)]
        return data, [self._kinked(data, float(self.epsilon), None, 1)]

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
        """Fit the model; X (n_rows, n_features), y (n_rows,) of numbers, in any container. Returns self."""
        data, problems = self._load(X, y, sample_weight, feature_dim)
        coef, intercept = self._solve(data, problems)
        self.coef_, self.intercept_ = coef[0], float(intercept[0])
        return self

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        data, problems = self._load(X, y, sample_weight, feature_dim)
        sweeps = MARGIN_SWEEPS if self.loss == "epsilon_insensitive" else SWEEPS[self.solver]
        return self._plan(data.blocks, self._kernels(data, problems), sweeps)
