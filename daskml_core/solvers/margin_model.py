"""Hinge and epsilon-insensitive machines: exact models of the rows near the margin, a few sweeps, a duality gap in each.

A sweep at theta gives the exact objective, every row within a band of its kink, and for all other rows the sums that make
a cutting plane of their losses. The objective with those rows replaced by their plane is solved in memory by an
interior-point method: it is exact as long as no row outside of the band crosses its kink. What the step makes cross is
foreseen by the sample, whose rows enter as ``weight (max(0, m) - plane)``, which is zero at theta. The duals of the step
(c for active rows beyond the band, the interior point's in it) are feasible once their balance is restored, so that each
sweep ends with a lower bound of the optimum, and the fit with a duality gap.

Where more rows than fit lie at their kinks (classes that the features hardly tell apart: w is near zero, and the loss of
all rows of the larger class near its kink), the minimum is found all the same, but not its certificate, whose duals would
have to be fractional in rows that were not handed back. The hinge is smooth then at the scale of those rows: Newton's
method on it with its kink smoothed over ends at duals for all of them.

Measured to a relative gap of 1e-4, the sample's sweep included: 4 sweeps of 4M x 50 (5e-6 by then, 1e-9 after a fifth), 3
of 1M x 50, where Newton's method on the smoothed hinge from the same sample's solution took 8. On 24,000-120,000 rows that
are sorted, separable, weighed with C = 1e5, or nearly all of one class: 3-30, where that method alone did not end.
Published figures of the alternatives are higher: cutting planes alone (OCAS, Franc and Sonnenburg 2009) take tens to
hundreds of sweeps, dual coordinate descent many epochs over rows in an order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.linear import OneAgainstRest, SecondMoments, second_moments
from daskml_core.kernels.margin import (
    MARGIN_ROWS,
    BandRows,
    MarginParams,
    MarginPartial,
    merge_margins,
    sides_of,
)
from daskml_core.kernels.sample import RowSample
from daskml_core.losses import SmoothedEpsilonInsensitive, SmoothedHinge
from daskml_core.objective import ROUNDING, Asks, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.in_memory import quietly
from daskml_core.solvers.interior_point import Optimum, Sides, interior_point
from daskml_core.solvers.newton import NewtonState, newton
from daskml_core.sweep import Array, Block, Sweep

LENGTHS = 0.5 ** np.array([1, 2, 3, 4, 6, 8, 10, 13, 16, 20])
"""Parts of a failed step that are tried in one sweep."""

RARE = 10.0
"""Root mean squares of a feature beyond which a value is one of few: at most one in a hundred rows has it."""

NARROWEST = 1e-2
"""Smoothed kinks are made narrower until this part of the width that the sample asks for."""


@dataclass(frozen=True)
class MarginProblem:
    """``1/2 |w|^2 + C sum_i c_i loss_i``, and the intercept's part.

    ``intercept`` is ``None`` without one, 0 for one that is not penalised, or the constant feature's value whose
    coefficient is penalised like all others (liblinear's ``intercept_scaling``).
    """

    n_features: int
    n_rows: int
    C: float
    epsilon: float | None = None
    intercept: float | None = 0.0
    classes: OneAgainstRest | None = None
    capacity: int = 100_000

    @property
    def size(self) -> int:
        return self.n_features + (self.intercept is not None)

    @property
    def constant(self) -> float:
        """The constant feature's value."""
        return self.intercept or 1.0

    @property
    def balanced(self) -> bool:
        """Whether dual solutions must balance: an intercept that nothing penalises."""
        return self.intercept == 0.0

    @property
    def ridge(self) -> Array:
        ridge = np.ones(self.size)
        if self.balanced:
            ridge[-1] = 0.0
        return ridge

    def split(self, theta: Array) -> tuple[Array, float]:
        """Coefficients (d,) and intercept."""
        d = self.n_features
        return theta[:d], 0.0 if self.intercept is None else float(theta[d]) * self.constant

    def design(self, X: Array) -> Array:
        """Rows with the constant feature, float64."""
        A = np.empty((len(X), self.size))
        A[:, : self.n_features] = X
        if self.intercept is not None:
            A[:, -1] = self.constant
        return A

    def params(
        self, thetas: list[Array], band: float, width: float = 0.0, leverage: Array | None = None
    ) -> MarginParams:
        """Kernel parameters for several points at once."""
        parts = [self.split(theta) for theta in thetas]
        classes = self.classes
        if classes is not None:
            classes = OneAgainstRest(*(np.repeat(a, len(thetas)) for a in classes))
        W = np.column_stack([w for w, _ in parts])
        b = np.array([b for _, b in parts])
        m = len(parts)
        return MarginParams(W, b, self.epsilon, np.full(m, band), np.full(m, width), self.capacity, classes, leverage)

    def targets(self, sample: RowSample) -> tuple[Array, Array]:
        """Targets (or labels -1 and 1) and costs of sampled rows."""
        assert sample.y is not None
        y = np.asarray(sample.y, dtype=np.float64)
        cost = np.ones(len(y)) if sample.weight is None else sample.weight
        if self.classes is not None:
            return self.classes.of_model(0, y, cost)
        return (2 * y - 1 if self.epsilon is None else y), cost

    def smoothed(self, width: float, dtype: Any) -> LinearObjective:
        """The mean objective with its kinks smoothed over."""
        loss = SmoothedHinge(width) if self.epsilon is None else SmoothedEpsilonInsensitive(self.epsilon, width)
        scaling = None if self.balanced else self.intercept
        return LinearObjective(
            loss,
            ElasticNetPenalty(0.0, 1.0 / (self.C * self.n_rows)),
            self.n_features,
            float(self.n_rows),
            self.intercept is not None,
            rounding=ROUNDING[np.dtype(dtype)],
            intercept_scaling=scaling,
            classes=self.classes,
        )

    def regulariser(self, theta: Array) -> float:
        return 0.5 * float(self.ridge @ theta**2)


class Dual(NamedTuple):
    """Sums over dual variables by the sign of the side, (2,) and (2, p): what a lower bound is made of."""

    offset: Array
    total: Array
    slope: Array

    def bound(self, problem: MarginProblem) -> float:
        """The dual objective, balanced by shrinking the variables of the heavier sign."""
        scale = np.ones(2)
        if problem.balanced:
            lighter = self.total.min()
            scale = np.divide(lighter, self.total, out=np.ones(2), where=self.total > 0)
        direction = scale[0] * self.slope[0] - scale[1] * self.slope[1]
        free = problem.ridge == 0
        return float(scale @ self.offset) - 0.5 * float(direction[~free] @ direction[~free])


def dual_of(problem: MarginProblem, A: Array, y: Array, alpha: Array) -> Dual:
    """Sums over rows with dual variables alpha (K, rows)."""
    sign, offset = sides_of(y, problem.epsilon)
    parts = [np.where(sign > 0, alpha, 0.0), np.where(sign < 0, alpha, 0.0)]
    return Dual(
        np.array([(part * offset).sum() for part in parts]),
        np.array([part.sum() for part in parts]),
        np.stack([part.sum(axis=0) @ A for part in parts]),
    )


@dataclass(frozen=True)
class MarginState:
    """All that the solver knows at the head of its loop."""

    theta: Array
    """The best point."""
    value: float
    """Its objective, exact."""
    bound: float
    """The largest lower bound of all sweeps."""
    sample: RowSample
    target: Array
    """Where the last model has its minimum."""
    leverage: Array | None = None
    """Scale (d,) of the features beyond which rows are in every model: the sample hardly foresees what few rows have."""
    reach: float = np.inf
    """How far the sample's predictions may move in the next step: rows farther from their kinks are left out."""
    n_band: int = 0
    n_iter: int = 0
    step: float = 0.0
    width: float = 0.0
    """Of the smoothed kinks in the last phase; 0 before it."""
    converged: bool = False
    stalled: bool = False

    @property
    def gap(self) -> float:
        """Relative duality gap."""
        return relative_gap(self.value, self.bound)

    def record(self) -> dict[str, Any]:
        return {
            "n_iter": self.n_iter,
            "loss": self.value,
            "bound": self.bound,
            "gap": self.gap,
            "band_rows": self.n_band,
            "step": self.step,
        }


def relative_gap(value: float, bound: float) -> float:
    """``(value - bound) / value``; a model without any loss has none."""
    return max(value - bound, 0.0) / value if value > 0 else 0.0


def margin_model(
    problem: MarginProblem,
    draw: tuple[Sweep, Sweep] | None = None,
    state: MarginState | None = None,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
) -> Asks:
    """Minimise a margin problem to a relative duality gap of ``tol``; 1 sweep for the sample, then one an iteration.

    ``draw`` is what `sample_and_moments` gave. Data no larger than the sample is solved in that one sweep, to a gap of 1e-9
    or what rounding allows.
    """
    if state is None:
        sample: RowSample
        moments: SecondMoments
        sample, moments = yield draw
        if len(sample.X) >= problem.n_rows:
            state = _solve_all(problem, sample, tol)
            yield state
            return state
        start = _solve_sample(problem, sample, tol)
        leverage = _leverage(problem, sample, moments.squares)
        state = MarginState(np.zeros(problem.size), np.inf, -np.inf, sample, start, leverage)
        state = yield from _advance(problem, state, tol)
    while True:
        assert state is not None
        stop = yield state
        if stop or state.converged or state.stalled or state.n_iter >= max_iter:
            return state
        state = yield from (_certify if state.width else _advance)(problem, state, tol)


def _cost(problem: MarginProblem, cost: Array) -> tuple[Array, Array]:
    """Costs that count, and their mask."""
    keep = cost > 0
    return problem.C * cost[keep], keep


def _solve(problem: MarginProblem, A: Array, y: Array, cost: Array, shift: Array, theta: Array, tol: float) -> Optimum:
    sign, offset = sides_of(y, problem.epsilon)
    return interior_point(Sides(A, sign, offset, cost), problem.ridge, shift, theta, tol=tol)


def _solve_all(problem: MarginProblem, sample: RowSample, tol: float) -> MarginState:
    """Rows that are all in memory."""
    y, cost = problem.targets(sample)
    cost, keep = _cost(problem, cost)
    A, y = problem.design(sample.X[keep]), y[keep]
    optimum = _solve(problem, A, y, cost, np.zeros(problem.size), np.zeros(problem.size), min(tol * 1e-2, 1e-9))
    theta = optimum.theta
    sign, offset = sides_of(y, problem.epsilon)
    value = problem.regulariser(theta) + float((cost * np.maximum(offset - sign * (A @ theta), 0.0)).sum())
    bound = dual_of(problem, A, y, optimum.alpha).bound(problem)
    # Losses below rounding of the predictions are none.
    if value <= 1e-13 * float(cost.sum()) * max(1.0, float(np.abs(offset).max(initial=0.0))):
        bound = value
    state = MarginState(theta, value, bound, sample, theta, n_band=len(y), n_iter=1)
    return replace(state, converged=state.gap <= tol, stalled=state.gap > tol)


def _leverage(problem: MarginProblem, sample: RowSample, squares: Array) -> Array | None:
    """Reciprocals (d,) of feature values that make a row one of few: `RARE` root mean squares, or what 1 % of rows reach.

    ``None`` where the sample has no such row and has missed none.
    """
    weight = np.ones(len(sample.X)) if sample.weight is None else sample.weight
    in_all = squares / (problem.n_rows * max(float(weight.mean()), 1e-300))
    in_sample = second_moments(Block(sample.X, None, sample.weight, 0, 0), None).squares / max(weight.sum(), 1e-300)
    scale = np.divide(1.0, np.sqrt(in_all), out=np.zeros_like(in_all), where=in_all > 0)
    reached = (np.abs(sample.X) * scale).max(axis=1)
    if reached.max() <= RARE and (in_all <= 2 * in_sample).all():
        return None
    return np.asarray(scale / max(RARE, float(np.quantile(reached, 0.99))))


def _solve_sample(problem: MarginProblem, sample: RowSample, tol: float) -> Array:
    y, cost = problem.targets(sample)
    cost, keep = _cost(problem, cost)
    if not keep.any():
        return np.zeros(problem.size)
    cost = cost * (problem.n_rows / len(sample.X))
    A = problem.design(sample.X[keep])
    return _solve(problem, A, y[keep], cost, np.zeros(problem.size), np.zeros(problem.size), 1e-5).theta


def _excess(y: Array, z: Array, epsilon: float | None) -> Array:
    """Distances m of rows from their nearest kink, unsigned."""
    if epsilon is None:
        return np.abs(1 - y * z)
    return np.minimum(np.abs(y - z - epsilon), np.abs(y - z + epsilon))


def _band(problem: MarginProblem, sample: RowSample, theta: Array) -> float:
    """Half width of a band that holds three quarters of the capacity, by the sample's count."""
    w, b = problem.split(theta)
    y, cost = problem.targets(sample)
    z = sample.X @ w + b
    m = np.sort(_excess(y, z, problem.epsilon)[cost > 0])
    share = 0.75 * problem.capacity / problem.n_rows
    place = int(share * len(m))
    width = float(m[min(place, len(m) - 1)]) if len(m) else 0.0
    # Rows that lie on a kink are off it by rounding.
    return max(width, 4 * float(np.finfo(sample.X.dtype).eps) * (1 + float(np.abs(z).max(initial=0.0))))


def _advance(problem: MarginProblem, state: MarginState, tol: float) -> Asks:
    """One sweep at the last model's minimum, and the next model's; a line search where the objective did not fall."""
    point = state.target
    value, band, partial = yield from _look(problem, point, state)
    if value >= state.value and state.gap > tol:
        thetas = [state.theta + t * (point - state.theta) for t in LENGTHS]
        several: MarginPartial = yield Sweep(MARGIN_ROWS, problem.params(thetas, -1.0), merge_margins)
        values = [problem.regulariser(t) + problem.C * float(v) for t, v in zip(thetas, several.loss, strict=True)]
        best = int(np.argmin(values))
        if values[best] >= state.value:
            return replace(state, width=_width(problem, state, tol), n_iter=state.n_iter + 1)
        point = thetas[best]
        value, band, partial = yield from _look(problem, point, state)
    moved = float(np.abs(point - state.theta).max())
    settled = state.n_iter >= 3 and state.value - value < 0.1 * tol * value
    if value < state.value:
        state = replace(state, theta=point, value=value, step=moved, n_iter=state.n_iter + 1)
    else:
        state = replace(state, n_iter=state.n_iter + 1)
    if state.gap <= tol:  # the last model's bound is enough
        return replace(state, converged=True)
    target, bound, reach = _model(problem, state, point, band, partial, tol)
    bound = max(bound, state.bound)
    state = replace(state, target=target, bound=bound, reach=reach, n_band=len(partial.rows[0].y))
    if settled and state.gap > tol:
        state = replace(state, width=_width(problem, state, tol))
    return replace(state, converged=state.gap <= tol)


def _width(problem: MarginProblem, state: MarginState, tol: float) -> float:
    """Largest width whose part in the gap is a fifth of what is asked for, by the sample."""
    y, cost = problem.targets(state.sample)
    w, b = problem.split(state.theta)
    sign, offset = sides_of(y, problem.epsilon)
    m = offset - sign * (state.sample.X @ w + b)
    cost = cost * problem.C * problem.n_rows / len(cost)
    width = 4.0 * float(np.abs(m).max(initial=0.0)) + 1e-12
    for _ in range(100):
        loss, slope = np.maximum(m, 0.0), np.clip(0.5 + m / width, 0.0, 1.0)
        if float((cost * (loss - slope * m)).sum()) <= 0.2 * tol * state.value:
            break
        width *= 0.7
    return width


def _certify(problem: MarginProblem, state: MarginState, tol: float) -> Asks:
    """Newton's method on smoothed kinks, and one sweep for the exact objective and the bound at its end."""
    objective = problem.smoothed(state.width, state.sample.X.dtype)
    gap = tol * state.value
    wanted = min(0.1 * gap, np.sqrt(0.2 * gap / problem.size)) / (problem.C * problem.n_rows)
    inner: NewtonState = yield from quietly(newton(objective, state.theta, tol=wanted, max_iter=25))
    partial: MarginPartial = yield Sweep(MARGIN_ROWS, problem.params([inner.theta], -1.0, state.width), merge_margins)
    value = problem.regulariser(inner.theta) + problem.C * float(partial.loss[0])
    bound = _beyond(problem, partial).bound(problem)
    moved = float(np.abs(inner.theta - state.theta).max())
    theta = inner.theta if value < state.value else state.theta
    state = replace(
        state,
        theta=theta,
        value=min(value, state.value),
        bound=max(bound, state.bound),
        step=moved,
        n_iter=state.n_iter + 1,
    )
    before = state.width
    narrower = state.width / 4
    done = state.gap <= tol
    return replace(
        state, converged=done, width=narrower, stalled=not done and before < NARROWEST * _width(problem, state, tol)
    )


def _look(problem: MarginProblem, theta: Array, state: MarginState) -> Asks:
    """Objective at theta, and the sums and rows of its model; one sweep."""
    band = _band(problem, state.sample, theta)
    params = problem.params([theta], band, leverage=state.leverage)
    partial: MarginPartial = yield Sweep(MARGIN_ROWS, params, merge_margins)
    return problem.regulariser(theta) + problem.C * float(partial.loss[0]), band, partial


def _model(
    problem: MarginProblem, state: MarginState, theta: Array, band: float, partial: MarginPartial, tol: float
) -> tuple[Array, float, float]:
    """Minimum of the model of a sweep at theta, the lower bound that comes with it, and how far predictions moved."""
    near: BandRows = partial.rows[0]
    beyond = _beyond(problem, partial)
    A, cost = problem.design(near.X), problem.C * near.cost
    sign, offset = sides_of(near.y, problem.epsilon)
    extra = _foresight(problem, state, theta, band)
    sides = Sides(*(np.concatenate(pair, axis=axis) for pair, axis in zip(
        ((A, extra.A), (sign, extra.sign), (offset, extra.offset), (cost, extra.cost)), (0, 1, 1, 0), strict=True
    )))  # fmt: skip
    # The gap is wanted to a hundredth of what is asked for; the value's scale is that of all rows, not of these.
    enough = 1e-2 * tol * state.value
    optimum = interior_point(sides, problem.ridge, beyond.slope[1] - beyond.slope[0], theta, tol=1e-10, enough=enough)
    inside = dual_of(problem, A, near.y, optimum.alpha[:, : len(A)])
    bound = Dual(*(a + b for a, b in zip(beyond, inside, strict=True))).bound(problem)
    w, b = problem.split(optimum.theta - theta)
    moved = float(np.abs(state.sample.X @ w + b).max(initial=0.0))
    return optimum.theta, bound, 4 * moved


def _beyond(problem: MarginProblem, partial: MarginPartial) -> Dual:
    """The duals of a sweep's rows beyond the band."""
    slope = np.zeros((2, problem.size))
    slope[:, : problem.n_features] = partial.slope[:, :, 0]
    if problem.intercept is not None:
        slope[:, -1] = problem.constant * partial.total[:, 0]
    return Dual(*(problem.C * part for part in (partial.offset[:, 0], partial.total[:, 0], slope)))


def _foresight(problem: MarginProblem, state: MarginState, theta: Array, band: float) -> Sides:
    """The sample's rows beyond the band, each as its loss less its plane: zero at theta, and until it crosses its kink."""
    sample = state.sample
    y, cost = problem.targets(sample)
    w, b = problem.split(theta)
    z = sample.X @ w + b
    distance = _excess(y, z, problem.epsilon)
    keep = (cost > 0) & (distance > band) & (distance <= state.reach)
    if state.leverage is not None:
        keep &= (np.abs(sample.X) * state.leverage).max(axis=1) <= 1
    sign, offset = sides_of(y[keep], problem.epsilon)
    # max(0, m) - m = max(0, -m): an active side is turned round.
    turn = np.where(offset - sign * z[keep] > 0, -1.0, 1.0)
    weight = problem.C * problem.n_rows / len(sample.X)
    return Sides(problem.design(sample.X[keep]), turn * sign, turn * offset, weight * cost[keep])
