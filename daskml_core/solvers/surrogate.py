"""Full gradients, and a sample of the rows that is corrected by them: three digits a sweep.

Between sweeps the solver minimises, in memory, what it believes the objective to be: the sample's, its gradient made right
at the last point, and its Hessian made right at the *anchor*, where the data's own was found::

    m(t) = F_sample(t) + (g - g_sample)' t + (t - theta)' D (t - theta) / 2,      D = H(anchor) - H_sample(anchor)

What is wrong with that is of third order and of the sample's relative error, about sqrt(p / n_sample). From the sample's own
solution, itself that far from the data's, two sweeps end about 1e-8 from the optimum and three about 1e-11; the sample's
Hessian alone gains a digit and a half a sweep. One sweep in all is of an exact Hessian; another one comes where the steps
do not shrink tenfold.

That is also what makes a model the same alone and in a search, where it starts elsewhere: both end at the optimum, to more
digits than ``tol`` asks for and at no more sweeps.

Source: the idea is that of communication-efficient surrogates (Jordan, Lee and Yang 2019, equation 4; Shamir, Srebro and
Zhang 2014), whose quadratic term is not corrected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.kernels.coordinate_descent import minimise_quadratic
from daskml_core.objective import Asks, Evaluation, LinearObjective
from daskml_core.solvers.in_memory import quietly
from daskml_core.solvers.linesearch import backtrack, is_negligible, record, short_step, stationarity
from daskml_core.solvers.newton import inverse_spd
from daskml_core.sweep import Array, Block

EXACT_LIMIT = 300
"""Parameters up to which a Hessian of all rows is worth its price, about that of decoding them."""

SHRINKS = 0.1
"""Steps that shrink less call for a Hessian at the next point."""

INNER = 12
"""Most corrections of a step in memory; three are usual."""


@dataclass(frozen=True, eq=False)
class SampleModel:
    """What is known of the data between sweeps."""

    objective: LinearObjective
    """Of the sample's rows, with the data's penalty."""
    block: Block
    hess: Array
    """(p, p) the sample's Hessian at the anchor."""
    gap: Array
    """(p, p) the data's Hessian there, less the sample's."""
    solved: tuple[Array, Array] | None = None
    """A point where the gradient of the sample's objective is known, and that gradient."""

    @functools.cached_property
    def metric(self) -> Array:
        """The data's Hessian at the anchor."""
        return self.hess + self.gap

    @functools.cached_property
    def newton_step(self) -> Callable[[Array], Array]:
        """Minus the inverse of the metric, as a function of a gradient."""
        inverse = inverse_spd(self.metric)
        return lambda grad: -inverse(grad)

    def evaluate(self, theta: Array, order: int = 1) -> Asks:
        """The sample's objective and its derivatives: an `Evaluation`."""
        return quietly(self.objective.evaluate(theta, order), self.block)

    def anchored(self, theta: Array, hess: Array) -> Asks:
        """The model with its anchor at ``theta``, where the data's Hessian is ``hess``."""
        own: Evaluation = yield from self.evaluate(theta, 2)
        assert own.hess is not None
        return replace(self, hess=own.hess, gap=hess - own.hess)


@dataclass(frozen=True, eq=False)
class SurrogateState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    value: float
    grad: Array
    model: SampleModel
    grad_norm: float
    length: float | None = None
    """Of the last step."""
    ratio: float | None = None
    """Of the last two steps' lengths."""
    n_iter: int = 0
    step: float = 0.0
    converged: bool = False
    stalled: bool = False
    pace: float | None = None
    """Ratio of the step that is next and the last one."""
    looked: Array | None = None
    """Where value and gradient were found, in the last state of all: its theta is a step further."""

    def record(self) -> dict[str, Any]:
        return record(self)


def wanted_digits(objective: LinearObjective) -> float:
    """Relative error of theta that may be left at worst: kernels see coefficients in the rows' precision."""
    return 1e-5 if objective.rounding > 1e-15 else 3e-11


def surrogate_state(
    objective: LinearObjective,
    theta: Array,
    at: Evaluation,
    model: SampleModel,
    before: SurrogateState | None = None,
    length: float | None = None,
) -> SurrogateState:
    """A state from an evaluation of order 1, a step after ``before``."""
    assert at.grad is not None
    norm = stationarity(objective, theta, at.grad)
    if before is None:
        return SurrogateState(theta, at.value, at.grad, model, norm)
    moved = float(np.abs(theta - before.theta).max(initial=0.0))
    ratio = None if before.length is None or not before.length or length is None else length / before.length
    return SurrogateState(theta, at.value, at.grad, model, norm, length, ratio, before.n_iter + 1, moved)


def surrogate_newton(
    objective: LinearObjective,
    state: SurrogateState,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    until_close: bool = False,
) -> Asks:
    """Minimise a linear model's objective from a state; one sweep an iteration. Returns the last `SurrogateState`.

    Stops when the gradient is within ``tol`` and the next step, which is taken and not looked at, ends nearer to the optimum
    than `wanted_digits`, by how much the last steps have shrunk; or when they no longer shrink. With ``until_close`` it
    stops as soon as the gradient is within ``tol``, for the rest to be asked together with models that start from there.
    """
    while True:
        stop = yield state
        close = state.grad_norm <= tol
        if stop or state.stalled or state.n_iter >= max_iter:
            return replace(state, converged=close)
        step = yield from _step(objective, state)
        decrease = _promised(objective, state, step)
        if not decrease > 0:
            step = _direction(objective, state.model, state.grad, state.theta)
            decrease = _promised(objective, state, step)
        if is_negligible(objective, decrease, state.value):
            return _ended(state, short_step(state.theta, step))
        scale = np.sqrt(np.maximum(np.diagonal(state.model.metric), 0.0))
        length = float((np.abs(step) * scale).max())
        ratio = state.ratio if not state.length else length / state.length
        if close and until_close:
            return replace(state, pace=ratio)
        if close and ratio is not None:
            # The first step, of third order, shrinks more than the second will, and in another direction.
            shrinks = 10 * ratio if state.ratio is None or state.length is None else 2 * max(ratio, state.ratio)
            if shrinks * length <= wanted_digits(objective) * float((np.abs(state.theta + step) * scale).max()):
                return _ended(replace(state, ratio=ratio), state.theta + step)
            if ratio > SHRINKS:
                return replace(state, converged=True)
        order = 2 if ratio is not None and ratio > SHRINKS else 1
        point, trial = yield from backtrack(objective, state.theta, step, state.value, -decrease, order)
        if point is None:
            if close:
                return replace(state, converged=True)
            again: Evaluation = yield from objective.evaluate(state.theta, order=2)
            assert again.hess is not None
            exact = yield from state.model.anchored(state.theta, again.hess)
            # What the exact Hessian does not help either is rounding.
            known = np.abs(exact.metric - state.model.metric).max() <= 1e-9 * np.abs(exact.metric).max()
            state = replace(state, model=exact, length=None, ratio=None, stalled=known, n_iter=state.n_iter + 1)
            continue
        model = state.model if order == 1 else (yield from state.model.anchored(point, trial.hess))
        state = surrogate_state(objective, point, trial, model, state, length)


def _ended(state: SurrogateState, theta: Array) -> SurrogateState:
    return replace(state, theta=theta, looked=state.theta, converged=True)


def _direction(objective: LinearObjective, model: SampleModel, slope: Array, theta: Array) -> Array:
    """Step to the minimum of the penalised quadratic with the model's metric and this slope at theta."""
    l1 = objective.penalty.l1
    if not l1:
        return model.newton_step(slope)
    metric = model.metric
    weights = np.where(objective.penalised(), l1, 0.0)
    # A step in memory costs next to nothing, and what is not solved here is taken for the data's.
    tol = 1e-4 * wanted_digits(objective) * float(np.abs(slope).max(initial=0.0) + l1)
    return minimise_quadratic(metric, slope - metric @ theta, weights, theta, tol=tol, max_iter=5000) - theta


def _promised(objective: LinearObjective, state: SurrogateState, step: Array) -> float:
    """Decrease that the gradient promises of a step."""
    l1 = np.where(objective.penalised(), objective.penalty.l1, 0.0)
    change = float(l1 @ (np.abs(state.theta + step) - np.abs(state.theta)))
    return -(float(state.grad @ step) + change)


def _step(objective: LinearObjective, state: SurrogateState) -> Asks:
    """Step to the minimum of the model: Newton's step with the anchor's Hessian, then corrections by sample gradients."""
    model = state.model
    here = model.solved[1] if model.solved is not None and np.array_equal(model.solved[0], state.theta) else None
    if here is None:
        at: Evaluation = yield from model.evaluate(state.theta)
        here = at.grad
    step, slope = np.zeros_like(state.theta), state.grad
    first = last = np.inf
    for _ in range(INNER):
        change = _direction(objective, model, slope, state.theta + step)
        length = float(np.abs(change).max(initial=0.0))
        if not length <= 0.5 * last:
            break
        step = step + change
        first = length if last == np.inf else first
        # The next correction is shorter than this one as this one was than the last. The model itself is no better.
        following = length if last == np.inf else length * (length / last)
        if following <= 1e-3 * first:
            break
        last = length
        there: Evaluation = yield from model.evaluate(state.theta + step)
        assert there.grad is not None and here is not None
        if not np.isfinite(there.grad).all():
            break
        slope = state.grad + (there.grad - here) + model.gap @ step
    return step


def start_surrogate(
    objective: LinearObjective,
    theta: Array,
    local: LinearObjective,
    block: Block,
    solved: tuple[Array, Array] | None,
    squares: Array,
) -> Asks:
    """The first state: value, gradient and Hessian of the data in one sweep.

    ``solved`` are the sample's gradient and Hessian at theta, where they are known; ``squares`` are the data's second
    moments (d,).
    """
    first: Evaluation = yield from objective.evaluate(theta, order=2)
    assert first.hess is not None
    exact = without_plateaus(objective, theta, first, squares)
    if solved is None:
        model = yield from SampleModel(local, block, exact, exact).anchored(theta, exact)
    else:
        grad, hess = solved
        model = SampleModel(local, block, hess, exact - hess, (theta, grad))
    return surrogate_state(objective, theta, first, model)


FLAT = 0.05
"""A feature whose curvature for its second moment is this part of an average feature's is on a plateau."""


def without_plateaus(objective: LinearObjective, theta: Array, at: Evaluation, squares: Array) -> Array:
    """The Hessian at the sample's solution, with a usual curvature where that solution lies on a plateau.

    Few rows of one class alone (a rare category) are separated in the sample, so that its solution is far out, where the
    loss of all rows is flat too: Newton's step would be longer than the way there. ``squares`` are the rows' second moments.
    """
    assert at.hess is not None and at.grad is not None
    d, K = objective.n_features, objective.n_outputs
    n, l2 = d * K, objective.penalty.l2
    in_all = np.repeat(squares / objective.sum_weight, K)
    curvature, slope = np.diagonal(at.hess)[:n] - l2, np.abs(at.grad[:n] - l2 * theta[:n])
    seen = in_all > 0
    if not seen.any():
        return at.hess
    usual = max(float(np.median(curvature[seen] / in_all[seen])), 0.0) * in_all
    plateau = (curvature < FLAT * usual) & (slope > 0.5 * np.abs(curvature * theta[:n])) & (slope > 0)
    filled = at.hess.copy()
    filled[np.arange(n), np.arange(n)] += np.where(plateau, 0.5 * usual - curvature, 0.0)
    return filled
