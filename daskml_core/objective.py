"""Objectives: a loss, a penalty and an intercept, turned into sweeps.

The objective of a linear model is scikit-learn's, divided by the total weight::

    F(theta) = sum_i s_i loss(y_i, x_i W + b) / sum_i s_i + l2 / 2 |W|**2 + l1 |W|_1

theta is the flat vector ``[W; b].ravel()`` of length (d + fit_intercept) * K, in C order: the K outputs of a feature are
neighbours, the intercepts come last.

A scaler in front of the model is part of the objective: theta is then about ``(x - shift) / scale``, and what the kernels
see are coefficients of the rows as they are. No row is ever scaled.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from daskml_core.kernels.huber import HUBER_LOSS, HuberParams, HuberPartial
from daskml_core.kernels.linear import (
    LINEAR_LOSS,
    SECOND_MOMENTS,
    FoldMask,
    LinearParams,
    LinearPartial,
    OneAgainstRest,
)
from daskml_core.losses import Loss
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.sweep import Array, Sweep

ROUNDING = {np.dtype(np.float32): 1e-13, np.dtype(np.float64): 1e-17}
"""`Objective.rounding` by the precision that rows are computed in."""

Asks = Generator[Any, Any, Any]


class Evaluation(NamedTuple):
    """The objective's smooth part at one point: loss and l2; ``value`` includes the l1 part."""

    value: float
    grad: Array | None
    hess: Array | None


class Objective(Protocol):
    """What solvers need to know of an objective. The methods are generators that yield sweeps: ``yield from`` them."""

    @property
    def penalty(self) -> ElasticNetPenalty: ...

    @property
    def rounding(self) -> float:
        """Relative decrease of the objective that the data's precision cannot show."""
        ...

    @property
    def overshoots(self) -> bool:
        """Whether steps may be too long by orders of magnitude."""
        ...

    @property
    def size(self) -> int: ...

    def evaluate(self, theta: Array, order: int = 1) -> Asks:
        """One `Evaluation`, in one sweep."""
        ...

    def evaluate_many(self, thetas: Sequence[Array], order: int = 0) -> Asks:
        """A list of `Evaluation`, in one sweep."""
        ...

    def penalised(self) -> Array:
        """Mask of the parameters that the penalty acts on."""
        ...

    def curvature_diagonal(self, theta: Array) -> Asks:
        """``(Evaluation at theta, positive diagonal that bounds the Hessian's)``, in one sweep."""
        ...


@dataclass(frozen=True)
class LinearObjective:
    """Mean loss of a linear model plus an elastic-net penalty.

    With an ``intercept_scaling`` the intercept is that times a last coefficient, which is penalised like all others
    (liblinear's way); theta holds that coefficient. With ``classes`` the labels are those of one class against the rest.
    """

    loss: Loss
    penalty: ElasticNetPenalty
    n_features: int
    sum_weight: float
    fit_intercept: bool = True
    folds: FoldMask | None = None
    rounding: float = 1e-17
    intercept_scaling: float | None = None
    classes: OneAgainstRest | None = None
    shift: Array | None = None
    """(d,) subtracted from the features, and ``scale`` (d,) by which they are divided then; both or neither."""
    scale: Array | None = None

    @property
    def overshoots(self) -> bool:
        return self.loss.has_kinks

    @property
    def n_outputs(self) -> int:
        return self.loss.n_outputs

    @property
    def size(self) -> int:
        return (self.n_features + self.fit_intercept) * self.n_outputs

    def penalised(self) -> Array:
        mask = np.ones(self.size, dtype=bool)
        mask[self.n_features * self.n_outputs :] = self.intercept_scaling is not None
        return mask

    @property
    def _unit(self) -> float:
        """Intercept of a last coefficient of one."""
        return 1.0 if self.intercept_scaling is None else self.intercept_scaling

    def unpack(self, theta: Array) -> tuple[Array, Array]:
        """W (d, K) and b (K,) of a flat theta."""
        table = theta.reshape(-1, self.n_outputs)
        if self.fit_intercept:
            return table[:-1], self._unit * table[-1]
        return table, np.zeros(self.n_outputs)

    def unscaled(self, theta: Array) -> tuple[Array, Array]:
        """W (d, K) and b (K,) about the rows as they are: ``w x' + b = (w / scale) x + b - (w / scale) shift``."""
        W, b = self.unpack(theta)
        if self.scale is None or self.shift is None:
            return W, b
        W = W / self.scale[:, None]
        return W, b - self.shift @ W

    def scaled(self, W: Array, b: Array) -> Array:
        """The theta of W (d, K) and b (K,) about the rows as they are; without an intercept b is left out."""
        if self.scale is None or self.shift is None:
            return self.pack(W, b)
        return self.pack(W * self.scale[:, None], b + self.shift @ W)

    def pack(self, W: Array, b: Array) -> Array:
        """Flat theta of W (d, K) and b (K,)."""
        return self._flat(W, b / self._unit)

    def _flat(self, W: Array, last: Array) -> Array:
        return np.vstack([W, last[None, :]]).ravel() if self.fit_intercept else np.ascontiguousarray(W).ravel()

    def canonical(self, theta: Array) -> Array:
        """The same model in its symmetric form: softmax does not notice what all classes have in common.

        Without a penalty that also holds for the coefficients; scikit-learn's solvers end up there as well, since
        their gradients sum to zero over classes.
        """
        if self.n_outputs == 1:
            return theta
        W, b = self.unpack(theta)
        if self.penalty.l1 == 0 and self.penalty.l2 == 0:
            W = W - W.mean(axis=1, keepdims=True)
        return self.pack(W, b - b.mean())

    def params(self, thetas: Sequence[Array], order: int) -> LinearParams:
        """Kernel parameters for several points at once: they are so many models."""
        parts = [self.unscaled(theta) for theta in thetas]
        W = np.hstack([w for w, _ in parts])
        b = np.concatenate([c for _, c in parts])
        folds = None
        if self.folds is not None:
            folds = self.folds._replace(weight=np.repeat(self.folds.weight, len(thetas), axis=-1))
        classes = self.classes
        if classes is not None:
            classes = OneAgainstRest(*(np.repeat(part, len(thetas)) for part in classes))
        return LinearParams(W, b, self.loss, order, folds, classes)

    def finish(self, theta: Array, partial: LinearPartial, model: int, order: int) -> Evaluation:
        """Sums over rows become the mean, and the penalty is added."""
        K, d = self.n_outputs, self.n_features
        penalised = self.penalised()
        value = float(partial.value[model]) / self.sum_weight + self.penalty.value(theta[penalised])
        grad = hess = None
        if order:
            assert partial.grad_W is not None and partial.grad_b is not None
            columns = slice(model * K, (model + 1) * K)
            gW, gb = partial.grad_W[:, columns] / self.sum_weight, partial.grad_b[columns] / self.sum_weight
            if self.scale is not None and self.shift is not None:
                gW = (gW - self.shift[:, None] * gb) / self.scale[:, None]
            grad = self._flat(gW, self._unit * gb)
            grad[penalised] += self.penalty.l2 * theta[penalised]
        if order > 1:
            assert partial.hess is not None
            hess = self._scaled_hessian(partial.hess[model])[: self.size, : self.size] / self.sum_weight
            hess[d * K :] *= self._unit
            hess[:, d * K :] *= self._unit
            hess[penalised, penalised] += self.penalty.l2
        return Evaluation(value, grad, hess)

    def _scaled_hessian(self, hess: Array) -> Array:
        if self.scale is None or self.shift is None:
            return hess
        d = self.n_features
        T: Array = np.eye(d + 1)
        T[np.arange(d), np.arange(d)] = 1 / self.scale
        T[d, :d] = -self.shift / self.scale
        T = np.kron(T, np.eye(self.n_outputs)) if self.n_outputs > 1 else T
        return np.asarray(T.T @ hess @ T)

    def evaluate(self, theta: Array, order: int = 1) -> Asks:
        partial = yield Sweep(LINEAR_LOSS, self.params([theta], order))
        return self.finish(theta, partial, 0, order)

    def evaluate_many(self, thetas: Sequence[Array], order: int = 0) -> Asks:
        partial = yield Sweep(LINEAR_LOSS, self.params(thetas, order))
        return [self.finish(theta, partial, j, order) for j, theta in enumerate(thetas)]

    def curvature_diagonal(self, theta: Array) -> Asks:
        # One conversation with the data gives the gradient and the features' scale together.
        partial, moments = yield (Sweep(LINEAR_LOSS, self.params([theta], 1)), Sweep(SECOND_MOMENTS, self.folds))
        bound = self.loss.curvature_bound or 1.0
        squares = moments.squares.reshape(-1) if self.scale is None else np.full(self.n_features, self.sum_weight)
        scale = bound * squares / self.sum_weight + self.penalty.l2
        scale[scale <= 0] = bound
        table = np.repeat(scale[:, None], self.n_outputs, axis=1)
        last = bound * self._unit**2 + (0.0 if self.intercept_scaling is None else self.penalty.l2)
        return self.finish(theta, partial, 0, 1), self._flat(table, np.full(self.n_outputs, last))


@dataclass(frozen=True)
class HuberObjective:
    """Huber's regression with scale; theta is ``[w; b; sigma]`` (d + 2,), and the mean loss plus ``l2 / 2 |w|**2``."""

    penalty: ElasticNetPenalty
    n_features: int
    sum_weight: float
    epsilon: float
    fit_intercept: bool = True
    rounding: float = 1e-17
    folds: FoldMask | None = None

    @property
    def overshoots(self) -> bool:
        return False

    @property
    def size(self) -> int:
        return self.n_features + 2

    def penalised(self) -> Array:
        mask = np.ones(self.size, dtype=bool)
        mask[-2:] = False
        return mask

    def evaluate(self, theta: Array, order: int = 1) -> Asks:
        return (yield from self.evaluate_many([theta], order))[0]

    def evaluate_many(self, thetas: Sequence[Array], order: int = 0) -> Asks:
        folds = self.folds
        if folds is not None:
            folds = folds._replace(weight=np.repeat(folds.weight, len(thetas), axis=-1))
        params = HuberParams(np.column_stack(thetas), self.epsilon, self.fit_intercept, order, folds)
        partial: HuberPartial = yield Sweep(HUBER_LOSS, params)
        d, l2 = self.n_features, self.penalty.l2
        evaluations = []
        for j, theta in enumerate(thetas):
            value = float(partial.value[j]) / self.sum_weight + self.penalty.smooth_value(theta[:d])
            # Outside of sigma > 0 the objective is infinite: the line search steps back into the domain.
            value = value if theta[-1] > 0 else np.inf
            grad = partial.grad[:, j] / self.sum_weight
            grad[:d] += l2 * theta[:d]
            hess = None
            if partial.hess is not None:
                hess = partial.hess[j] / self.sum_weight
                hess[np.arange(d), np.arange(d)] += l2
            evaluations.append(Evaluation(value, grad if order else None, hess))
        return evaluations

    def curvature_diagonal(self, theta: Array) -> Asks:
        first: Evaluation = yield from self.evaluate(theta, order=2)
        assert first.hess is not None
        diagonal = np.diagonal(first.hess).copy()
        diagonal[diagonal <= 0] = 1.0
        return first, diagonal
