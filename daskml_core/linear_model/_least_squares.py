"""Least squares and its penalised forms: everything they need of the data is one centred Gram matrix, one sweep.

The other solvers are there for more features than a Gram matrix has room for, and for the textbook's gradient descent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from daskml_core.engine import CheckpointPath, Plan, resumable
from daskml_core.kernels.coordinate_descent import minimise_quadratic
from daskml_core.kernels.gram import GRAM
from daskml_core.linear_model._base import LinearRegressorBase
from daskml_core.linear_model._data import TrainingSet, load_regression
from daskml_core.linear_model._solve import SWEEPS, check_solver, kernels_of, solve_linear
from daskml_core.losses import HalfSquared
from daskml_core.objective import ROUNDING, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.least_squares import LeastSquaresState, least_squares_moments, solve_ridge
from daskml_core.sweep import Array
from daskml_core.validate import non_negative, positive, positive_integer, unit_interval


class _GramRegressor(LinearRegressorBase):
    """Shared by the estimators that need the Gram matrix alone."""

    _multi_output = True
    fit_intercept: bool
    solver: str
    solver_options: Mapping[str, Any] | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._multi_output and self.solver == "auto"
        return tags

    def _check_params(self) -> None:
        """Refuse parameters out of range."""

    def _penalty(self, sum_weight: float) -> ElasticNetPenalty:
        """The penalty beside the *mean* of half the squared errors."""
        return ElasticNetPenalty(0.0, 0.0)

    def _stopping(self) -> tuple[float, int, dict[str, Any]]:
        """Gradient tolerance, iterations and the solver's own options, for the solvers that iterate over the data."""
        options = dict(self.solver_options or {})
        return (
            positive("tol", options.pop("tol", 1e-6)),
            positive_integer("max_iter", options.pop("max_iter", 1000)),
            options,
        )

    def _check_solver(self) -> None:
        if self.solver != "auto":
            check_solver(self.solver, self._penalty(1.0).l1, self._stopping()[2])
        elif self.solver_options:
            raise ValueError(f'solver="auto" takes no solver_options, got {dict(self.solver_options)}.')

    def _training_set(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> TrainingSet:
        several = self._multi_output and self.solver == "auto"
        return load_regression(self, X, y, sample_weight, feature_dim, multi_output=several)

    def _objective(self, data: TrainingSet) -> LinearObjective:
        """For the solvers that sweep over the data, with one target."""
        blocks = data.blocks
        return LinearObjective(
            HalfSquared(),
            self._penalty(data.sum_weight),
            blocks.n_features,
            data.sum_weight,
            bool(self.fit_intercept),
            rounding=ROUNDING[blocks.dtype],
        )

    def _start(self, objective: LinearObjective, data: TrainingSet) -> Array:
        d = objective.n_features
        if getattr(self, "warm_start", False) and hasattr(self, "coef_") and np.shape(self.coef_) == (d,):
            return objective.pack(np.array(self.coef_)[:, None], np.array([self.intercept_]))
        assert data.moments is not None
        return objective.pack(np.zeros((d, 1)), data.moments.mean[:1])

    def _accept(self, objective: LinearObjective, theta: Array, data: TrainingSet) -> None:
        W, b = objective.unpack(theta)
        self._set(W.T.copy(), np.array(b), flat=True)

    def _fit_iteratively(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> Any:
        """Fit one target with a solver that sweeps over the data until the gradient is small."""
        self._check_params()
        self._check_solver()
        data = self._training_set(X, y, sample_weight, feature_dim)
        objective = self._objective(data)
        tol, max_iter, options = self._stopping()
        start = self._start(objective, data)
        theta = solve_linear(self, data, objective, start, tol=tol, max_iter=max_iter, options=options)
        self._accept(objective, theta, data)
        return self

    def _exact_above(self) -> float | None:
        """The ridge with which an ill-conditioned Gram matrix is worth another sweep; ``None`` where it never is."""
        return None

    def _solve(self, state: LeastSquaresState, flat: bool) -> None:
        """Set the fitted model from the moments of its rows; ``flat`` where y had one column per row."""
        raise NotImplementedError

    def _moments(self, X: Any, y: Any, sample_weight: Any, feature_dim: str | None) -> tuple[LeastSquaresState, bool]:
        """The sweep's result, and whether y had one column per row."""
        self._check_params()
        self._check_solver()
        data = self._training_set(X, y, sample_weight, feature_dim)
        assert data.blocks.y is not None
        solver = least_squares_moments(
            data.blocks.n_features, fit_intercept=bool(self.fit_intercept), ridge=self._exact_above()
        )
        outcome = self._run(solver, data, self._kernels(data))
        self.converged_ = True
        return outcome.state, not data.blocks.y.trailing

    def _record_solution(
        self, state: LeastSquaresState, coef: Array, l1: float, l2: Array, *, positive: bool = False
    ) -> None:
        """Complete the history's last row with the objective and its gradient at ``coef`` (t, d), from the moments alone.

        ``l1`` and ``l2`` (t,) stand beside the mean of half the squared errors, as in the solvers that iterate.
        """
        if not hasattr(self, "history_"):  # one of a batch, whose history is the batch's
            return
        d, moments = state.n_features, state.moments
        S = moments.scatter / moments.sum_weight
        loss = norm = 0.0
        for j, w in enumerate(coef):
            penalty = ElasticNetPenalty(l1, float(l2[j]))
            grad = S[:d, :d] @ w - S[:d, d + j]
            loss += max(float(S[d + j, d + j] + w @ (grad - S[:d, d + j])), 0.0) / 2 + penalty.value(w)
            grad = grad + penalty.l2 * w
            least = np.minimum(grad + l1, 0.0) if positive else penalty.min_norm_subgradient(w, grad)
            norm = max(norm, float(np.abs(np.where(w > 0, grad + l1, least) if positive else least).max(initial=0.0)))
        self.history_[-1] |= {"loss": loss, "grad_norm": norm}

    def _kernels(self, data: TrainingSet) -> list[Any]:
        return [(GRAM, None)]

    def _set(self, coef: Array, intercept: Array, flat: bool) -> None:
        if not self.fit_intercept:
            intercept = np.zeros(len(coef))
        self.coef_ = coef[0] if flat else coef
        self.intercept_: Any = float(intercept[0]) if flat else intercept

    def plan(self, X: Any, y: Any, sample_weight: Any = None, *, feature_dim: str | None = None) -> Plan:
        """What a fit will do; X is not read."""
        model = clone(self)  # a plan leaves no trace
        model._check_params()
        model._check_solver()
        data = model._training_set(X, y, sample_weight, feature_dim)
        if model.solver != "auto":
            kernels = kernels_of(model.solver, model._objective(data), data.blocks)
            return model._plan(data.blocks, kernels, SWEEPS[model.solver])
        return model._plan(data.blocks, model._kernels(data), SWEEPS["gram"])


class LinearRegression(_GramRegressor):
    """Ordinary least squares in one sweep, or two where the Gram matrix is ill-conditioned.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2``; of several solutions the shortest, as scikit-learn's.

    Parameters
    ----------
    fit_intercept : bool, default=True
    solver : {"auto", "newton", "lbfgs", "gradient_descent", "sgd", "proximal"}, default="auto"
        "auto" solves the Gram matrix. The others sweep over the data, for one target.
    solver_options : dict, optional
        Options of those solvers; also ``tol`` (largest gradient entry, 1e-6) and ``max_iter`` (1000).

    Attributes
    ----------
    coef_ : ndarray (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray (n_targets,)
    rank_ : int
    singular_ : ndarray
        Singular values of the centred X; with ``rank_`` from ``solver="auto"`` alone.
    n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Notes
    -----
    The Gram matrix is centred block by block and combined pairwise (Chan, Golub and LeVeque 1979). Where its
    reciprocal condition is below 1e-10, a tall-skinny QR (Demmel et al. 2012) takes one more sweep.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LinearRegression
    >>> X = np.arange(6.0).reshape(3, 2) ** 2
    >>> LinearRegression().fit(X, X[:, 0] + 1).intercept_.__round__(6)
    1.0
    """

    def __init__(
        self, *, fit_intercept: bool = True, solver: str = "auto", solver_options: Mapping[str, Any] | None = None
    ) -> None:
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.solver_options = solver_options

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> LinearRegression:
        """Fit the model; X (n_rows, n_features), y (n_rows,) or (n_rows, n_targets). Returns self."""
        if self.solver != "auto":
            self._fit_iteratively(X, y, sample_weight, feature_dim)
            return self
        self._solve(*self._moments(X, y, sample_weight, feature_dim))
        return self

    def _exact_above(self) -> float | None:
        return 0.0

    def _solve(self, state: LeastSquaresState, flat: bool) -> None:
        targets = state.moments.mean.size - state.n_features
        coef, intercept, self.rank_, self.singular_ = solve_ridge(state, np.zeros(targets))
        self._record_solution(state, coef, 0.0, np.zeros(targets))
        self._set(coef, intercept, flat)


class Ridge(_GramRegressor):
    """Least squares with an l2 penalty, in one sweep.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2 + alpha |w|**2``, scikit-learn's objective.

    Parameters
    ----------
    alpha : float or array (n_targets,), default=1.0
    fit_intercept : bool, default=True
    solver, solver_options : as in `LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, converged_, n_features_in_ : as in `LinearRegression`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import Ridge
    >>> Ridge(alpha=2.0, fit_intercept=False).fit(np.eye(2), [3.0, 6.0]).coef_
    array([1., 2.])
    """

    def __init__(
        self,
        alpha: float | Array = 1.0,
        *,
        fit_intercept: bool = True,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.solver_options = solver_options

    def _penalty(self, sum_weight: float) -> ElasticNetPenalty:
        alpha = np.ravel(np.asarray(self.alpha, dtype=np.float64))
        if len(alpha) != 1:
            raise ValueError(f'solver="{self.solver}" fits one target, but alpha has {len(alpha)} values.')
        return ElasticNetPenalty(0.0, float(alpha[0]) / sum_weight)

    def _check_params(self) -> None:
        for alpha in np.ravel(np.asarray(self.alpha, dtype=object)):
            non_negative("alpha", alpha)

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Ridge:
        """Fit the model; X (n_rows, n_features), y (n_rows,) or (n_rows, n_targets). Returns self."""
        if self.solver != "auto":
            self._fit_iteratively(X, y, sample_weight, feature_dim)
            return self
        self._solve(*self._moments(X, y, sample_weight, feature_dim))
        return self

    def _exact_above(self) -> float | None:
        return float(np.min(np.asarray(self.alpha, dtype=np.float64)))

    def _solve(self, state: LeastSquaresState, flat: bool) -> None:
        alpha = np.ravel(np.asarray(self.alpha, dtype=np.float64))
        targets = state.moments.mean.size - state.n_features
        if len(alpha) not in (1, targets):
            raise ValueError(f"alpha has {len(alpha)} values for {targets} targets; give one, or one a target.")
        alpha = np.broadcast_to(alpha, (targets,))
        coef, intercept, _, _ = solve_ridge(state, alpha)
        self._record_solution(state, coef, 0.0, alpha / state.moments.sum_weight)
        self._set(coef, intercept, flat)
        if targets == 1:
            self.coef_ = np.ravel(self.coef_)  # scikit-learn's shape for a y of one column


class ElasticNet(_GramRegressor):
    """Least squares with l1 and l2 penalties, in one sweep.

    Minimises scikit-learn's ``|y - Xw|**2 / (2 n) + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) / 2 |w|_2**2``, by
    coordinate descent on the Gram matrix: the data is read once, however many passes that takes.

    Parameters
    ----------
    alpha : float, default=1.0
    l1_ratio : float, default=0.5
    fit_intercept : bool, default=True
    max_iter : int, default=1000
        Passes of coordinate descent over the coefficients; they do not touch the data.
    tol : float, default=1e-4
        As scikit-learn's, the duality gap over ``|y|**2`` at which to stop.
    warm_start : bool, default=False
    positive : bool, default=False
        Only coefficients that are not negative.
    solver : {"auto", "proximal", "gradient_descent", "sgd"}, default="auto"
        "auto" solves the Gram matrix. The others sweep over the data; ``max_iter`` counts their iterations then, and
        ``tol`` is the largest gradient entry.
    solver_options : dict, optional
        Options of those solvers.

    Attributes
    ----------
    coef_ : ndarray (n_features,)
    intercept_ : float
    dual_gap_ : float
        Duality gap of the solution, in units of the objective.
    n_iter_, n_sweeps_, history_, converged_, n_features_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import ElasticNet
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> ElasticNet(alpha=0.1).fit(X, X[:, 0]).coef_.round(1) + 0.0
    array([0.9, 0. , 0. ])
    """

    _multi_output = False

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive
        self.solver = solver
        self.solver_options = solver_options

    def _penalty(self, sum_weight: float) -> ElasticNetPenalty:
        alpha, ratio = float(self.alpha), float(self.l1_ratio)
        return ElasticNetPenalty(alpha * ratio, alpha * (1 - ratio))

    def _stopping(self) -> tuple[float, int, dict[str, Any]]:
        return float(self.tol), int(self.max_iter), dict(self.solver_options or {})

    def _check_params(self) -> None:
        non_negative("alpha", self.alpha)
        unit_interval("l1_ratio", self.l1_ratio)
        positive_integer("max_iter", self.max_iter)
        non_negative("tol", self.tol)
        if self.positive and self.solver != "auto":
            raise ValueError(f'positive=True needs solver="auto", got {self.solver!r}.')

    @resumable
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Any:
        """Fit the model; X (n_rows, n_features), y (n_rows,). Returns self."""
        if self.solver != "auto":
            return self._fit_iteratively(X, y, sample_weight, feature_dim)
        self._solve(*self._moments(X, y, sample_weight, feature_dim))
        return self

    def _solve(self, state: LeastSquaresState, flat: bool) -> None:
        d, moments = state.n_features, state.moments
        n = moments.sum_weight
        Q, q, yy = moments.scatter[:d, :d] / n, moments.scatter[:d, d] / n, moments.scatter[d, d] / n
        l1, l2 = float(self.alpha) * float(self.l1_ratio), float(self.alpha) * (1 - float(self.l1_ratio))
        warm = self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (d,)
        w = np.array(self.coef_, dtype=np.float64) if warm else np.zeros(d)
        H = Q + l2 * np.eye(d)
        passes, step = 0, 20
        while True:
            w = minimise_quadratic(H, -q, np.full(d, l1), w, tol=0.0, max_iter=step, positive=bool(self.positive))
            passes += step
            self.dual_gap_ = elastic_net_gap(Q, q, yy, w, l1, l2, positive=bool(self.positive))
            self.converged_ = bool(self.dual_gap_ <= self.tol * max(yy, np.finfo(float).tiny) * 1e-2)
            if self.converged_ or passes >= self.max_iter:
                break
        self.n_iter_ = passes
        self._record_solution(state, w[None, :], l1, np.array([l2]), positive=bool(self.positive))
        if not self.converged_:
            self._warn_gap()
        intercept = moments.mean[d:] - w @ moments.mean[:d]
        self._set(w[None, :], intercept, flat)

    def _warn_gap(self) -> None:
        import warnings

        from daskml_core.errors import ConvergenceWarning

        warnings.warn(
            f"{type(self).__name__} did not converge: duality gap {self.dual_gap_:.3g} after {self.n_iter_} passes of "
            "coordinate descent (which do not read the data). Raise max_iter, or alpha, or scale the features.",
            ConvergenceWarning,
            stacklevel=5,
        )


def elastic_net_gap(Q: Array, q: Array, yy: float, w: Array, l1: float, l2: float, *, positive: bool = False) -> float:
    """Duality gap of ``w'Qw/2 - q'w + yy/2 + l1 |w|_1 + l2/2 |w|**2`` at w, from moments alone.

    With the residual r = y - Xw scaled into the dual's domain by c, the dual value is ``-c**2 A/2 + c B`` with
    ``A = r'r/n + l2 |w|**2`` and ``B = r'y/n`` (Kim et al. 2007, with the l2 part as extra rows of X).
    """
    residual = max(yy - 2 * float(q @ w) + float(w @ Q @ w), 0.0)
    correlation = q - Q @ w - l2 * w
    largest = float((correlation if positive else np.abs(correlation)).max(initial=0.0))
    A = residual + l2 * float(w @ w)
    B = yy - float(q @ w)
    primal = A / 2 + l1 * float(np.abs(w).sum())
    if l1 == 0:
        # Without an l1 part the optimum is where the gradient vanishes; the gap is bounded through l2 or Q itself.
        return float(np.abs(correlation) @ np.abs(w)) + float(correlation @ correlation) / max(l2, 1e-300) * (l2 > 0)
    c = min(1.0, l1 / largest) if largest > 0 else 1.0
    return max(primal - (c * B - c * c * A / 2), 0.0)


class Lasso(ElasticNet):
    """Least squares with an l1 penalty, in one sweep: `ElasticNet` with ``l1_ratio=1``.

    Minimises ``|y - Xw|**2 / (2 n) + alpha |w|_1``.

    Parameters
    ----------
    alpha, fit_intercept, max_iter, tol, warm_start, positive, solver, solver_options : as in `ElasticNet`

    Attributes
    ----------
    coef_, intercept_, dual_gap_, n_iter_, n_sweeps_, history_, converged_, n_features_in_ : as in `ElasticNet`

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import Lasso
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> Lasso(alpha=0.1).fit(X, X[:, 0]).coef_.round(1) + 0.0
    array([0.9, 0. , 0. ])
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        solver: str = "auto",
        solver_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            alpha,
            l1_ratio=1.0,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            positive=positive,
            solver=solver,
            solver_options=solver_options,
        )
