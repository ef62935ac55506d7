"""The default solver: solve a sample of the rows exactly, then correct it by few full gradient sweeps.

The sample's solution is off by about sqrt(d / n_sample) standard errors, and its Hessian by the same relative amount.
Up to `EXACT_LIMIT` parameters one exact Hessian and the sample itself make the correction (`surrogate`): four sweeps in
all to 1e-10 of the coefficients. Beyond it the sweeps are L-BFGS steps whose metric is the sample's Hessian: each gains one
to two digits, and where the sample represents the data badly, the pairs correct it, and the line search keeps every step
downhill.

Related: Byrd, Chin, Neveitt and Nocedal 2011 (subsampled Hessians); Bollapragada, Byrd and Nocedal 2019.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from daskml_core.kernels.linear import LINEAR_LOSS, SECOND_MOMENTS, SecondMoments, second_moments
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.objective import Asks, Evaluation, LinearObjective
from daskml_core.solvers.in_memory import quietly
from daskml_core.solvers.lbfgs import LBFGSState, lbfgs, lbfgs_state
from daskml_core.solvers.newton import NewtonState, newton
from daskml_core.solvers.prox_newton import ProxNewtonState, prox_newton
from daskml_core.solvers.surrogate import EXACT_LIMIT, SurrogateState, start_surrogate, surrogate_newton
from daskml_core.sweep import Array, Block, Sweep

SAMPLE_BYTES = 64 << 20
"""Most that a sample may take; it is held and solved in the calling process."""


def sample_size(n_features: int, n_outputs: int, itemsize: int, sample_bytes: int = SAMPLE_BYTES) -> int:
    """Rows to draw: 1000 for each parameter of a model's output, at least 50,000, within ``sample_bytes``.

    >>> sample_size(50, 1, 4)
    51000
    """
    wanted = max(50_000, 1000 * (n_features + 1) * max(1, n_outputs - 1))
    return max(1, min(wanted, sample_bytes // max(1, (n_features + 1) * itemsize)))


def sample_and_moments(wanted: int, n_rows: int, seed: int, itemsize: int) -> tuple[Sweep, Sweep]:
    """What is asked of the data first."""
    return sample_sweep(wanted, n_rows, seed, itemsize), Sweep(SECOND_MOMENTS)


def in_memory_tol(objective: LinearObjective) -> float:
    """Gradient at which data in memory is solved: Newton's last step squares the error, a proximal one may not."""
    return 1e-10 if objective.penalty.l1 else 1e-12


def sampled_newton(
    objective: LinearObjective,
    theta: Array | None = None,
    state: SurrogateState | LBFGSState | ProxNewtonState | None = None,
    *,
    n_rows: int = 0,
    itemsize: int = 8,
    seed: int = 0,
    sample_bytes: int = SAMPLE_BYTES,
    draw: tuple[Sweep, Sweep] | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
) -> Asks:
    """Minimise a linear model's objective in 1 sweep for the sample and about 2-3 for the full gradients.

    ``draw`` is what `sample_and_moments` gave, where several models in lockstep share one sample. Data no larger than the
    sample is solved in that one sweep.
    """
    l1 = objective.penalty.l1 > 0
    if state is None:
        assert theta is not None
        sample: RowSample
        moments: SecondMoments
        wanted = sample_size(objective.n_features, objective.n_outputs, itemsize, sample_bytes)
        asked: tuple[Sweep, ...] = draw or sample_and_moments(wanted, n_rows, seed, itemsize)
        # Coefficients of an earlier fit may be good enough already: the gradient there rides along in the same read.
        warm = bool(objective.unpack(theta)[0].any())
        if warm:
            asked += (Sweep(LINEAR_LOSS, objective.params([theta], 1)),)
        sample, moments, *at_theta = yield asked
        if warm:
            here = lbfgs_state(
                objective, theta, objective.finish(theta, at_theta[0], 0, 1), tol, np.ones(objective.size)
            )
            if here.converged:
                yield here
                return here
        block = Block(sample.X, sample.y, sample.weight, 0, 0)
        complete = len(sample.X) >= n_rows
        weight = float(len(sample.X) if sample.weight is None else sample.weight.sum())
        if weight <= 0:  # the sample saw only rows of weight zero
            return (yield from _full(objective, theta, None, l1, tol, max_iter))
        local = replace(objective, sum_weight=objective.sum_weight if complete else weight)
        solve = prox_newton if l1 else newton
        # In memory more digits cost next to nothing, and data that fits the sample should not depend on `tol`.
        local_tol = min(tol, in_memory_tol(objective)) if complete else max(tol * 0.1, 1e-5)
        inner: NewtonState | ProxNewtonState = yield from quietly(
            solve(local, theta, tol=local_tol, max_iter=max_iter if complete else 50), block
        )
        if complete:
            yield inner
            return inner
        solved = bool(np.isfinite(inner.theta).all())
        start = inner.theta if solved else theta
        if objective.size <= EXACT_LIMIT:
            known = (inner.grad, inner.hess) if solved else None
            first = yield from start_surrogate(objective, start, local, block, known, moments.squares)
            return (yield from surrogate_newton(objective, first, tol=tol, max_iter=max_iter))
        metric = complete_metric(objective, inner.hess, second_moments(block, None).squares / weight, moments.squares)
        return (yield from _full(objective, start, metric, l1, tol, max_iter))
    if isinstance(state, SurrogateState):
        return (yield from surrogate_newton(objective, state, tol=tol, max_iter=max_iter))
    if isinstance(state, ProxNewtonState):
        return (yield from prox_newton(objective, state=state, tol=tol, max_iter=max_iter))
    return (yield from lbfgs(objective, state=state, tol=tol, max_iter=max_iter))


def complete_metric(objective: LinearObjective, hess: Array, in_sample: Array, squares: Array) -> Array:
    """The sample's Hessian, with the curvature that the sample has missed added to its diagonal.

    A category that few rows have may be absent from the sample. Its curvature there is the penalty's alone, and the
    first step would overshoot. What is missing of the feature's second moment, times the curvature that an average
    feature has for its moment, fills the gap.
    """
    d, K = objective.n_features, objective.n_outputs
    in_all = squares / objective.sum_weight if objective.sum_weight > 0 else squares
    diagonal = np.diagonal(hess)[: d * K].reshape(d, K) - objective.penalty.l2
    seen = in_sample > 0
    if not seen.any():
        return hess
    ratio = max(float(np.median(diagonal[seen] / in_sample[seen, None])), 0.0)
    missing = ratio * np.maximum(in_all - in_sample, 0.0)[:, None]
    # Few rows of one class alone are separated in the sample, and flat at its solution, where they are not in all rows.
    flat = 0.5 * ratio * in_all[:, None] - diagonal
    filled = hess.copy()
    filled[np.arange(d * K), np.arange(d * K)] += np.maximum(missing, flat).ravel()
    return filled


def _full(objective: LinearObjective, theta: Array, metric: Array | None, l1: bool, tol: float, max_iter: int) -> Asks:
    if l1:
        return (yield from prox_newton(objective, theta, metric=metric, tol=tol, max_iter=max_iter))
    first: Evaluation
    if metric is None:
        first, metric = yield from objective.curvature_diagonal(theta)
    else:
        first = yield from objective.evaluate(theta)
    assert metric is not None
    state = lbfgs_state(objective, theta, first, tol, metric)
    return (yield from lbfgs(objective, state=state, tol=tol, max_iter=max_iter))
