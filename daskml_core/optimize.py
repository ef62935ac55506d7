"""Distributed training of any differentiable model: bring a function of a block, get gradient descent over all of them.

This is the textbook's distributed gradient descent. The data is split into row-blocks; each block's gradient is computed
where the block lies; the gradients are summed; the step is taken; the new parameters go out::

    repeat:
        value, grad = sum over blocks of value_and_grad(w, X_block, y_block)
        w = w - learning_rate * grad / n_rows
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from daskml_core.data import load, refuse_feature_dim
from daskml_core.engine import CheckpointPath, Engine, count_rows, drive, resumable, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.kernels.user import (
    USER_LOSS,
    USER_SGD,
    Layout,
    UserCarry,
    UserParams,
    UserPartial,
    UserStep,
    ValueAndGrad,
    layout_of,
)
from daskml_core.objective import Asks, Evaluation
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.gradient_descent import gradient_descent
from daskml_core.solvers.lbfgs import lbfgs
from daskml_core.solvers.sgd import block_order
from daskml_core.sweep import Array, Fold, Sweep
from daskml_core.validate import non_negative, positive, positive_integer, random_seed, unit_interval

__all__ = ["minimize"]

_OPTIONS: dict[str, set[str]] = {
    "gradient_descent": {"learning_rate", "momentum", "momentum_coefficient"},
    "lbfgs": {"memory"},
    "sgd": {"learning_rate", "decay", "momentum_coefficient", "batch_size", "random_state"},
}


@dataclass(frozen=True)
class UserObjective:
    """Mean of a user's summed loss, plus ``l2 / 2 |w|**2``."""

    function: ValueAndGrad
    layout: Layout
    penalty: ElasticNetPenalty
    p: int
    rounding: float = 1e-17

    @property
    def overshoots(self) -> bool:
        return False

    @property
    def size(self) -> int:
        return self.p

    def penalised(self) -> Array:
        return np.ones(self.p, dtype=bool)

    def evaluate(self, theta: Array, order: int = 1) -> Asks:
        return (yield from self.evaluate_many([theta], order))[0]

    def evaluate_many(self, thetas: Sequence[Array], order: int = 0) -> Asks:
        partial: UserPartial = yield Sweep(USER_LOSS, UserParams(np.stack(thetas), self.function, self.layout))
        n, l2 = partial.n_rows, self.penalty.l2
        return [
            Evaluation(float(v) / n + self.penalty.smooth_value(theta), g / n + l2 * theta, None)
            for v, g, theta in zip(partial.value, partial.grad, thetas, strict=True)
        ]

    def curvature_diagonal(self, theta: Array) -> Asks:
        # Nothing is known about the user's function: the first rate is such that the first step has length one.
        first: Evaluation = yield from self.evaluate(theta)
        assert first.grad is not None
        if not (np.isfinite(first.value) and np.isfinite(first.grad).all()):
            raise ValueError(f"value_and_grad is not finite at w0 (value {first.value}): check it, w0 and the data.")
        return first, np.full(self.p, max(float(np.linalg.norm(first.grad)), 1e-8))


@dataclass(frozen=True)
class UserSGDState:
    """All that mini-batch descent knows at the head of its loop."""

    carry: UserCarry
    n_iter: int = 0
    value: float = float("nan")
    grad_norm: float = float("nan")
    step: float = 0.0
    converged: bool = False

    @property
    def theta(self) -> Array:
        """The parameters."""
        return self.carry.theta

    def record(self) -> dict[str, Any]:
        return {"n_iter": self.n_iter, "loss": self.value, "grad_norm": self.grad_norm, "step": self.step}


def _mini_batches(step: UserStep, n_blocks: int, state: UserSGDState, *, tol: float, max_iter: int) -> Asks:
    """One epoch a sweep, until the mean training loss changes by less than ``tol``."""
    while True:
        stop = yield state
        if stop or state.converged or state.n_iter >= max_iter:
            return state
        order = block_order(n_blocks, np.random.default_rng([step.seed, state.n_iter]))
        carry = state.carry._replace(sum_loss=0.0, n_rows=0)
        (carry,) = yield Fold(USER_SGD, step._replace(epoch=state.n_iter), [carry], [order])
        if not np.isfinite(carry.theta).all():
            raise ValueError(f"The parameters are not finite after epoch {state.n_iter + 1}: lower the learning_rate.")
        value = carry.sum_loss / carry.n_rows
        moved = float(np.abs(carry.theta - state.theta).max())
        done = bool(abs(state.value - value) <= tol)
        state = replace(state, carry=carry, n_iter=state.n_iter + 1, value=value, step=moved, converged=done)


@resumable
def minimize(
    value_and_grad: Callable[[Any, Any, Any], tuple[float, Any]],
    w0: Any,
    X: Any,
    y: Any = None,
    *,
    solver: str = "gradient_descent",
    l2: float = 0.0,
    tol: float = 1e-5,
    max_iter: int = 100,
    options: Mapping[str, Any] | None = None,
    feature_dim: str | None = None,
    checkpoint: CheckpointPath = None,
) -> OptimizeResult:
    """Parameters that minimise a function summed over all rows, found by going over the data block by block.

    Minimises ``sum over blocks of value(w, X_block, y_block) / n_rows + l2 / 2 |w|**2``.

    Parameters
    ----------
    value_and_grad : callable ``(w, X_block, y_block) -> (value, grad)``
        Loss and gradient *summed* over the block's rows, with NumPy, torch, JAX or anything else inside; ``grad`` in the
        form of ``w``. It runs on the workers, so it must be picklable by cloudpickle.
    w0 : array or dict of arrays
        Where to start.
    X : array-like (n_rows, n_features), in any container.
    y : array-like (n_rows,) or (n_rows, n_targets), optional. None reaches the function as None.
    solver : {"gradient_descent", "lbfgs", "sgd"}
        Gradient descent and L-BFGS take one sweep an iteration, SGD one an epoch.
    l2 : float, default=0.0
    tol : float, default=1e-5
        Largest gradient entry at which to stop; for SGD, the change of the mean loss between epochs.
    max_iter : int, default=100
    options : dict, optional
        gradient_descent: ``learning_rate`` (a number or "backtracking"), ``momentum`` ("none", "heavy_ball", "nesterov"),
        ``momentum_coefficient``. lbfgs: ``memory``. sgd: ``learning_rate``, ``decay`` (rate / (1 + decay t)),
        ``momentum_coefficient``, ``batch_size``, ``random_state``.
    feature_dim : str, optional
        The dimension of the features of a DataArray, where it cannot be told.
    checkpoint : path, optional
        Directory in which an interrupted run is kept, so that the same call goes on from there.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` in the form of ``w0``, ``fun``, ``success``, ``message``, ``nit``, ``n_sweeps``, ``history``.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.optimize import minimize
    >>> def squared_error(w, X, y):
    ...     r = X @ w - y
    ...     return r @ r / 2, X.T @ r
    >>> X = da.random.default_rng(0).normal(size=(1000, 2), chunks=(100, 2))
    >>> minimize(squared_error, [0.0, 0.0], X, X[:, 0] * 3).x.round(3) + 0.0
    array([3., 0.])
    """
    if solver not in _OPTIONS:
        raise ValueError(f"solver must be one of {sorted(_OPTIONS)}, got {solver!r}.")
    if not callable(value_and_grad):
        raise TypeError(f"value_and_grad must be a function (w, X, y) -> (value, gradient), got {value_and_grad!r}.")
    given = dict(options or {})
    unknown = sorted(set(given) - _OPTIONS[solver])
    if unknown:
        raise ValueError(f'solver="{solver}" has no option {unknown}; it takes {sorted(_OPTIONS[solver])}.')
    if not isinstance(w0, Mapping):
        w0 = np.asarray(w0, dtype=np.float64)
    layout = layout_of(w0)
    theta = layout.pack(w0)
    refuse_feature_dim(X, feature_dim)
    blocks = load(X, y, feature_dim=feature_dim, count_rows=count_rows)
    engine = Engine(blocks)
    objective = UserObjective(value_and_grad, layout, ElasticNetPenalty(0.0, non_negative("l2", l2)), len(theta))
    positive("tol", tol)
    positive_integer("max_iter", max_iter)
    if solver == "gradient_descent":
        run = gradient_descent(objective, theta, tol=tol, max_iter=max_iter, **given)
    elif solver == "lbfgs":
        run = lbfgs(objective, theta, tol=tol, max_iter=max_iter, **given)
    else:
        step = UserStep(
            value_and_grad,
            layout,
            positive("learning_rate", given.get("learning_rate", 0.1)),
            non_negative("decay", given.get("decay", 0.0)),
            unit_interval("momentum_coefficient", given.get("momentum_coefficient", 0.0)),
            positive_integer("batch_size", given.get("batch_size", 64)),
            float(l2),
            random_seed(given.get("random_state")),
            0,
        )
        state = UserSGDState(UserCarry(theta, np.zeros_like(theta), 0, 0.0, 0))
        run = _mini_batches(step, blocks.n_blocks, state, tol=tol, max_iter=max_iter)
    try:
        (outcome,) = drive([run], engine)
    finally:
        engine.close()
    last = outcome.state
    message = "converged" if last.converged else f"max_iter={max_iter} was reached: raise it, or scale the data"
    if getattr(last, "stalled", False):
        message = "no step lowers the loss: check that the gradient is the loss's, or whether rounding limits it"
    if outcome.stopped and not last.converged:
        message = f"it was stopped early ({outcome.stopped})"
    if not last.converged and not stopped_early():
        warnings.warn(f"minimize did not converge: {message}.", ConvergenceWarning, 3)
    return OptimizeResult(
        x=layout.unpack(last.theta),
        fun=last.value,
        success=bool(last.converged),
        message=message,
        nit=last.n_iter,
        n_sweeps=engine.n_sweeps + blocks.counted,
        history=outcome.history,
    )
