"""Solvers as conversations: resuming is exact, lockstep equals solo, gradients are right, no-op blocks do nothing."""

from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows, drive
from daskml_core.kernels.linear import LINEAR_LOSS, FoldMask, LinearParams, linear_loss
from daskml_core.losses import HalfLogistic, HalfPoisson, HalfSquared, Multinomial, SquaredHinge
from daskml_core.objective import HuberObjective, LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.gradient_descent import gradient_descent
from daskml_core.solvers.in_memory import solve_in_memory
from daskml_core.solvers.lbfgs import lbfgs
from daskml_core.solvers.newton import newton
from daskml_core.solvers.prox_newton import prox_newton
from daskml_core.solvers.sampled_newton import sampled_newton
from daskml_core.sweep import Block, BlockSweep, Sweep, add
from tests.problems import two_classes
from tests.states import noting

SOLVERS = {
    "newton": newton,
    "lbfgs": lbfgs,
    "gradient_descent": gradient_descent,
    "prox_newton": prox_newton,
}
LOSSES = [HalfLogistic(), HalfSquared(), HalfPoisson(), SquaredHinge(), Multinomial(n_outputs=3)]


def objective_of(X, l1=0.0, l2=0.01, loss=None):
    return LinearObjective(loss or HalfLogistic(), ElasticNetPenalty(l1, l2), X.shape[1], float(len(X)))


def engine_of(X, y):
    return Engine(load(da.from_array(X, chunks=(90, -1)), y.astype(float), count_rows=count_rows))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_solver_resumed_from_any_state_ends_with_the_same_bits(name, at):
    X, y = two_classes(n=800)
    objective = objective_of(X, l1=0.01 if name == "prox_newton" else 0.0)
    states = []
    solver = SOLVERS[name](objective, np.zeros(objective.size), tol=1e-8, max_iter=40)
    (whole,) = drive([noting(solver, states)], engine_of(X, y))
    resumed = SOLVERS[name](objective, state=states[min(at, len(states) - 1)], tol=1e-8, max_iter=40)
    (rest,) = drive([resumed], engine_of(X, y))
    assert rest.state.theta.tobytes() == whole.state.theta.tobytes()


@pytest.mark.parametrize("name", SOLVERS)
def test_models_in_lockstep_are_the_models_alone(name):
    X, y = two_classes(n=800)
    l1 = 0.01 if name == "prox_newton" else 0.0
    objectives = [objective_of(X, l1=l1, l2=l2) for l2 in (1.0, 1e-2, 1e-4)]

    def start(objective):
        return SOLVERS[name](objective, np.zeros(objective.size), tol=1e-7, max_iter=500)

    together = engine_of(X, y)
    batch = drive([start(o) for o in objectives], together)
    alone = []
    for objective, outcome in zip(objectives, batch, strict=True):
        engine = engine_of(X, y)
        (solo,) = drive([start(objective)], engine)
        alone.append(engine.n_sweeps)
        assert solo.state.n_iter == outcome.state.n_iter
        # A column of a matrix product is summed in another order than a matrix-vector product.
        np.testing.assert_allclose(outcome.state.theta, solo.state.theta, rtol=1e-8, atol=1e-10)
    # One conversation with the data: as many sweeps as the slowest model needs, but for line searches out of step.
    assert together.n_sweeps <= max(alone) + 3
    assert together.n_sweeps < sum(alone)


def test_sweeps_over_rows_that_solvers_hold_share_a_call_and_have_the_same_bits_with_any_threads():
    X, y = two_classes(n=20_000)
    held = Block(X, y * 1.0, None, 0, 0)
    widths = []

    def counted(block, params):
        widths.append(params.W.shape[1])
        return linear_loss(block, params)

    kernel = replace(LINEAR_LOSS, function=counted)
    objective = objective_of(X)

    def asks(theta, n):
        found = []
        for _ in range(n):
            part = yield BlockSweep(Sweep(kernel, objective.params([theta], 1)), held)
            found.append(objective.finish(theta, part, 0, 1).grad)
        yield Sweep(kernel, objective.params([theta], 1))  # the data, when nobody asks for held rows
        return found

    thetas = [np.full(objective.size, 0.1 * k) for k in range(3)]
    answers = []
    for threads in (1, 2):
        widths.clear()
        with dask.config.set(scheduler="threads", num_workers=threads):
            outcomes = drive([asks(t, n) for t, n in zip(thetas, (1, 2, 2), strict=True)], engine_of(X[:80], y[:80]))
        # 20,000 rows are three pieces: three models in the first round, two in the second; then one block of the data.
        assert sorted(widths) == [2, 2, 2, 3, 3, 3, 3]
        answers.append([g for outcome in outcomes for g in outcome.state])
    for theta, outcome in zip(thetas, outcomes, strict=True):
        alone = objective.finish(theta, linear_loss(held, objective.params([theta], 1)), 0, 1).grad
        np.testing.assert_allclose(outcome.state[0], alone, rtol=1e-12, atol=1e-15)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_and_hessians_equal_finite_differences(loss, fit_intercept, weighted):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = rng.integers(0, max(2, loss.n_outputs), size=60).astype(float)
    s = rng.random(60) if weighted else None
    block = Block(X, y, s, 0, 0)
    objective = LinearObjective(loss, ElasticNetPenalty(0, 0.1), 4, float(60 if s is None else s.sum()), fit_intercept)
    theta = rng.normal(size=objective.size) * 0.3

    def value(t):
        return solve_in_memory(objective.evaluate(t, 0), block).value

    at = solve_in_memory(objective.evaluate(theta, 2), block)
    h = 1e-5
    steps = np.eye(objective.size) * h
    numeric = [(value(theta + e) - value(theta - e)) / (2 * h) for e in steps]
    np.testing.assert_allclose(at.grad, numeric, rtol=1e-5, atol=1e-8)
    if loss.name == "squared-hinge":
        return  # its second derivative jumps
    slopes = [
        solve_in_memory(objective.evaluate(theta + e, 1), block).grad
        - solve_in_memory(objective.evaluate(theta - e, 1), block).grad
        for e in steps
    ]
    np.testing.assert_allclose(at.hess, np.array(slopes) / (2 * h), rtol=1e-4, atol=1e-7)


def test_huber_gradient_and_hessian_equal_finite_differences():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50) * 3
    block = Block(X, y, rng.random(50), 0, 0)
    objective = HuberObjective(ElasticNetPenalty(0, 0.1), 3, float(block.weight.sum()), 1.35)
    theta = np.array([0.1, -0.2, 0.3, 0.1, 1.2])
    at = solve_in_memory(objective.evaluate(theta, 2), block)
    h = 1e-6
    for j, e in enumerate(np.eye(5) * h):
        up, down = (solve_in_memory(objective.evaluate(theta + k * e, 1), block) for k in (1, -1))
        np.testing.assert_allclose(at.grad[j], (up.value - down.value) / (2 * h), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(at.hess[j], (up.grad - down.grad) / (2 * h), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_blocks_without_rows_add_nothing_and_parts_add_up(loss, dtype, order):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(9000, 3)).astype(dtype)
    y = rng.integers(0, max(2, loss.n_outputs), size=9000).astype(float)
    params = LinearParams(rng.normal(size=(3, loss.n_outputs)) * 0.3, np.zeros(loss.n_outputs), loss, order)
    whole = linear_loss(Block(X, y, None, 0, 0), params)
    empty = linear_loss(Block(X[:0], y[:0], None, 0, 0), params)
    parts = add(linear_loss(Block(X[:4000], y[:4000], None, 0, 0), params), empty)
    parts = add(parts, linear_loss(Block(X[4000:], y[4000:], None, 1, 4000), params))
    for a, b in zip(whole, parts, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-3 if dtype == "float32" else 1e-10, atol=1e-3)
            assert a.dtype == np.float64


def test_the_fused_kernel_equals_the_formula_in_both_precisions():
    rng = np.random.default_rng(2)
    X, y, s = rng.normal(size=(10_000, 5)) * 3, (rng.random(10_000) < 0.4) * 1.0, rng.random(10_000)
    w, b = rng.normal(size=5), 0.3
    z = X @ w + b
    for weight in (None, s):
        k = np.ones(len(y)) if weight is None else weight
        value = (k * (np.logaddexp(0, z) - y * z)).sum()
        grad = X.T @ (k * (1 / (1 + np.exp(-z)) - y))
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
            params = LinearParams(w[:, None], np.array([b]), HalfLogistic(), 1)
            part = linear_loss(Block(X.astype(dtype), y, weight, 0, 0), params)
            np.testing.assert_allclose(part.value[0], value, rtol=tolerance)
            np.testing.assert_allclose(part.grad_W[:, 0], grad, rtol=tolerance, atol=tolerance * 1e3)


def every_third(start, n_rows):
    return np.arange(start, start + n_rows) % 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fold_mask_leaves_rows_out_for_each_model(dtype, weighted):
    X, y = two_classes(n=300, dtype=dtype)
    s = np.random.default_rng(1).random(300) if weighted else None
    # float32: products in another order, whose rounding is 1e-7 of the terms.
    rtol, atol = (1e-9, 1e-10) if dtype == np.float64 else (1e-5, 2e-4)
    W = np.random.default_rng(0).normal(size=(X.shape[1], 4))
    params = LinearParams(
        W, np.zeros(4), HalfLogistic(), 1, FoldMask(every_third, np.array([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]]))
    )
    masked = linear_loss(Block(X, y * 1.0, s, 0, 0), params)
    for j, fold in enumerate([0, 1, 2, -1]):
        rows = np.arange(300) % 3 != fold
        one = params._replace(W=W[:, [j]], b=np.zeros(1), folds=None)
        alone = linear_loss(Block(X[rows], y[rows] * 1.0, None if s is None else s[rows], 0, 0), one)
        np.testing.assert_allclose(masked.value[j], alone.value[0], rtol=1e-10 if dtype == np.float64 else 1e-6)
        np.testing.assert_allclose(masked.grad_W[:, j], alone.grad_W[:, 0], rtol=rtol, atol=atol)


def test_the_default_solver_goes_on_from_its_own_states():
    X, y = two_classes(n=120_000, d=4)
    objective = objective_of(X)
    states = []

    def start(**given):
        return sampled_newton(objective, n_rows=len(X), tol=1e-8, **given)

    engine = Engine(load(X, y.astype(float), count_rows=count_rows))
    (whole,) = drive([noting(start(theta=np.zeros(objective.size)), states)], engine)
    assert states
    for state in states:
        (rest,) = drive([start(state=state)], Engine(load(X, y.astype(float), count_rows=count_rows)))
        np.testing.assert_allclose(rest.state.theta, whole.state.theta, rtol=1e-7)
