"""Linear support vector machines against liblinear, libsvm and optimality conditions; data where order matters."""

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from scipy.optimize import minimize
from sklearn import datasets
from sklearn import svm as reference
from sklearn.exceptions import ConvergenceWarning

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows, drive
from daskml_core.kernels.linear import OneAgainstRest
from daskml_core.kernels.margin import MarginParams, margin_rows, merge_margins
from daskml_core.losses import (
    SmoothedEpsilonInsensitive,
    SmoothedHinge,
    SquaredEpsilonInsensitive,
    SquaredHinge,
)
from daskml_core.objective import LinearObjective
from daskml_core.penalties import ElasticNetPenalty
from daskml_core.solvers.in_memory import solve_in_memory
from daskml_core.solvers.interior_point import Sides, interior_point
from daskml_core.solvers.margin_model import MarginProblem, margin_model
from daskml_core.solvers.sampled_newton import sample_and_moments
from daskml_core.svm import LinearSVC, LinearSVR
from daskml_core.sweep import Block
from tests.problems import three_classes, two_classes
from tests.states import noting


@pytest.fixture
def small_sample(monkeypatch):
    """The sample, and the rows that a model may hold, are far fewer than the data."""
    monkeypatch.setattr("daskml_core.svm._linear.sample_size", lambda *args: 2000)
    monkeypatch.setattr("daskml_core.linear_model._solve.sample_size", lambda *args: 2000)


def blocks(*arrays):
    return [da.from_array(a, chunks=(211, *a.shape[1:])) for a in arrays]


def relative(a, b):
    return np.abs(np.ravel(a) - np.ravel(b)).max() / max(np.abs(b).max(), 1e-12)


def breast_cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def regression(n=800, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 1
    return X, X @ rng.normal(size=d) + rng.standard_t(3, size=n) + 2


def hinge_objective(model, X, y, C, power=1, s=1.0):
    w, b = model.coef_[0], model.intercept_[0]
    t = np.where(y == model.classes_[1], 1, -1)
    return w @ w / 2 + C * (s * np.maximum(0, 1 - t * (X @ w + b)) ** power).sum()


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e2])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}])
def test_squared_hinge_equals_liblinear(C, class_weight):
    X, y = breast_cancer()
    expected = reference.LinearSVC(C=C, tol=1e-10, dual=False, max_iter=100_000, class_weight=class_weight).fit(X, y)
    model = LinearSVC(C=C, tol=1e-9, intercept_scaling=1.0, class_weight=class_weight).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5
    assert relative(model.intercept_, expected.intercept_) < 1e-5


@pytest.mark.parametrize("loss", ["squared_hinge", "hinge"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_one_class_against_the_rest_equals_liblinear(loss, class_weight):
    X, y = three_classes(600)
    options = {"loss": loss, "class_weight": class_weight, "intercept_scaling": 2.0}
    expected = reference.LinearSVC(tol=1e-8, max_iter=2_000_000, dual=loss == "hinge", **options).fit(X, y)
    model = LinearSVC(tol=1e-8, **options).fit(*blocks(X, y))
    assert list(model.classes_) == list(expected.classes_)
    assert relative(model.coef_, expected.coef_) < 1e-4  # what dual coordinate descent reaches
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))
    assert model.n_sweeps_ == 1  # all classes together


def test_l1_equals_liblinear():
    X, y = breast_cancer()
    expected = reference.LinearSVC(C=0.05, penalty="l1", dual=False, tol=1e-9, max_iter=100_000).fit(X, y)
    model = LinearSVC(C=0.05, penalty="l1", intercept_scaling=1.0, tol=1e-9).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5
    assert (model.coef_ == 0).sum() == (expected.coef_ == 0).sum() > 10


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_free_intercept_reaches_the_optimum_that_scipy_finds(fit_intercept):
    X, y = two_classes(500)
    t, s = 2 * y - 1, np.random.default_rng(0).random(500)

    def objective(theta):
        slack = np.maximum(0, 1 - t * (X @ theta[:-1] + theta[-1] * fit_intercept))
        grad = -2 * (s * slack * t) @ np.column_stack([X, np.full(500, fit_intercept)])
        return theta[:-1] @ theta[:-1] / 2 + s @ slack**2, np.append(theta[:-1], 0) + grad

    best = minimize(objective, np.zeros(7), jac=True, method="BFGS", options={"gtol": 1e-9})
    model = LinearSVC(tol=1e-10, fit_intercept=fit_intercept).fit(*blocks(X, y), sample_weight=s)
    assert relative(model.coef_, best.x[:-1]) < 1e-6
    assert fit_intercept or model.intercept_[0] == 0


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_hinge_reaches_the_optimum_of_libsvm(C):
    X, y = breast_cancer()
    expected = reference.SVC(kernel="linear", C=C, tol=1e-5).fit(X, y)
    model = LinearSVC(C=C, loss="hinge").fit(*blocks(X, y))
    ours, theirs = hinge_objective(model, X, y, C), hinge_objective(expected, X, y, C)
    assert ours <= theirs * (1 + 1e-6)
    # libsvm's own dual is a lower bound of the optimum.
    alpha = np.abs(expected.dual_coef_[0])
    assert alpha.sum() - expected.coef_[0] @ expected.coef_[0] / 2 <= ours * (1 + 1e-6)
    assert 0 <= model.duality_gap_ <= 1e-4
    assert model.converged_


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_regression_equals_liblinear(loss, epsilon):
    X, y = regression()
    s = np.random.default_rng(1).random(len(y))
    options = {"loss": loss, "epsilon": epsilon, "C": 0.1, "intercept_scaling": 1.0}
    expected = reference.LinearSVR(tol=1e-9, max_iter=2_000_000, dual=True, **options).fit(X, y, sample_weight=s)
    model = LinearSVR(tol=1e-9, **options).fit(*blocks(X, y), sample_weight=s)
    assert relative(model.coef_, expected.coef_) < 1e-4
    np.testing.assert_allclose(model.intercept_, expected.intercept_[0], rtol=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_regression_reaches_the_optimum_of_libsvm(epsilon, C):
    X, y = regression(300)

    def objective(w, b):
        return w @ w / 2 + C * np.maximum(0, np.abs(y - X @ w - b) - epsilon).sum()

    expected = reference.SVR(kernel="linear", C=C, epsilon=epsilon, tol=1e-5).fit(X, y)
    model = LinearSVR(C=C, epsilon=epsilon).fit(*blocks(X, y))
    assert objective(model.coef_, model.intercept_) <= objective(expected.coef_[0], expected.intercept_[0]) * (1 + 1e-6)
    assert model.duality_gap_ <= 1e-4


def test_targets_inside_the_tube_have_no_loss():
    X, y = regression(200)
    model = LinearSVR(epsilon=1e3).fit(*blocks(X, y))
    assert model.converged_
    np.testing.assert_allclose(model.coef_, 0, atol=1e-6)


# -- data where order matters, larger than the sample ---------------------------------------------------------------------


def hard(name, n=24_000, d=6):
    """Data sets whose blocks tell little of the whole."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    z = X @ rng.normal(size=d)
    y = (z + rng.logistic(size=n) > 0).astype(int)
    if name == "sorted by class":
        order = np.lexsort([X[:, 0], y])
        X, y = X[order], y[order]
    elif name == "separable":
        y = (z > 0).astype(int)
    elif name == "duplicates with both labels":
        X, y = np.repeat(X[: n // 2], 2, axis=0), np.tile([0, 1], n // 2)
    elif name == "a rare class":
        y = (z + 3 * rng.logistic(size=n) > 9).astype(int)
        y[4000:] = 0  # absent from most blocks
    elif name == "categories":
        codes = rng.integers(0, d, size=n)
        X = np.eye(d)[codes]
        y = (rng.random(n) < 0.1 + 0.15 * codes).astype(int)
    elif name == "constant and far features":
        X[:, 1], X[:, 2] = 7.0, X[:, 2] * 1e4
    elif name == "rare values":
        X[:, 3] = 0
        X[rng.choice(n, 20), 3] = 50 * rng.normal(size=20)
    return X, y


CASES = [
    "sorted by class",
    "separable",
    "duplicates with both labels",
    "a rare class",
    "categories",
    "constant and far features",
    "rare values",
]


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("name", CASES)
def test_hinge_converges_with_a_true_certificate_whatever_the_order(name, C, small_sample, monkeypatch):
    X, y = hard(name)
    model = LinearSVC(loss="hinge", C=C, tol=1e-3).fit(da.from_array(X, chunks=(1000, -1)), y)
    monkeypatch.undo()
    exact = LinearSVC(loss="hinge", C=C, tol=1e-6).fit(X, y)  # all rows are in memory: the interior-point method alone
    assert exact.n_sweeps_ == 1
    assert model.converged_
    assert model.n_sweeps_ <= 30
    value, best = hinge_objective(model, X, y, C), hinge_objective(exact, X, y, C)
    # The gap is no estimate: the objective is never farther from the optimum.
    assert value / best - 1 <= model.duality_gap_ + 1e-6
    assert model.duality_gap_ <= 1e-3


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("name", CASES)
def test_squared_hinge_converges_whatever_the_order(name, C, small_sample, monkeypatch):
    X, y = hard(name)
    model = LinearSVC(C=C, tol=1e-5).fit(da.from_array(X, chunks=(1000, -1)), y)
    monkeypatch.undo()
    assert model.converged_
    assert model.n_sweeps_ <= 15
    exact = LinearSVC(C=C, tol=1e-9).fit(X, y)
    value, best = (hinge_objective(m, X, y, C, power=2) for m in (model, exact))
    assert value <= best + 1e-3 * C * len(y) * 1e-3 + 1e-3 * best


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_regression_converges_on_sorted_rows(C, epsilon, small_sample):
    X, y = regression(24_000)
    order = np.argsort(y)
    model = LinearSVR(C=C, epsilon=epsilon).fit(da.from_array(X[order], chunks=(1000, -1)), y[order])
    assert model.converged_
    assert model.n_sweeps_ <= 8


@pytest.mark.parametrize("fit", [{"intercept_scaling": 1.0}, {"fit_intercept": False}, {}])
def test_hinge_takes_a_few_sweeps_with_any_intercept(fit, small_sample):
    X, y = two_classes(24_000)
    model = LinearSVC(loss="hinge", **fit).fit(da.from_array(X, chunks=(1000, -1)), y)
    assert model.converged_
    assert model.n_sweeps_ <= 6


def test_all_classes_share_their_sweeps(small_sample):
    X, y = three_classes(24_000)
    for loss in ("hinge", "squared_hinge"):
        model = LinearSVC(loss=loss).fit(da.from_array(X, chunks=(1000, -1)), y)
        assert model.converged_
        assert model.n_sweeps_ <= 8
        for k, label in enumerate(model.classes_):
            alone = LinearSVC(loss=loss).fit(da.from_array(X, chunks=(1000, -1)), y == label)
            np.testing.assert_allclose(model.coef_[k], alone.coef_[0], rtol=0.02, atol=2e-3)


# -- invariances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_weight_two_is_the_row_twice_and_weight_zero_is_no_row(loss, small_sample):
    X, y = two_classes(9000)
    s = np.random.default_rng(0).integers(0, 3, size=9000)
    weighted = LinearSVC(loss=loss, tol=1e-6).fit(da.from_array(X, chunks=(1000, -1)), y, sample_weight=s)
    repeated = LinearSVC(loss=loss, tol=1e-6).fit(np.repeat(X, s, axis=0), np.repeat(y, s))
    assert relative(weighted.coef_, repeated.coef_) < 1e-3


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("chunks", [(1, -1), (100, 2), ((0, 299, 0, 1), -1)])
def test_chunks_and_containers_do_not_show(loss, chunks, tmp_path):
    X, y = two_classes(300)
    labels = np.array(["no", "yes"])[y]
    expected = LinearSVC(loss=loss, tol=1e-8).fit(X, labels)
    model = LinearSVC(loss=loss, tol=1e-8).fit(da.from_array(X, chunks=chunks), labels)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
    store = zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(50, 3))
    stored = LinearSVC(loss=loss, tol=1e-8).fit(store, labels)
    np.testing.assert_allclose(stored.coef_, expected.coef_, rtol=1e-6)
    prediction = stored.predict(store)
    assert isinstance(prediction, da.Array)
    np.testing.assert_array_equal(prediction.compute(), expected.predict(X))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_exchanged_labels_give_the_opposite_plane(loss):
    X, y = two_classes(400)
    one, other = (LinearSVC(loss=loss, tol=1e-8).fit(X, labels) for labels in (y, 1 - y))
    np.testing.assert_allclose(one.coef_, -other.coef_, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("model", [LinearSVC(loss="hinge"), LinearSVC(), LinearSVR(epsilon=0.1)], ids=str)
def test_threads_residency_and_spans_do_not_show_in_the_bits(model, small_sample):
    X, y = two_classes(8000, dtype=np.float32)
    X = da.from_array(X, chunks=(170, -1))

    def bits():
        model.fit(X.map_blocks(np.copy), y * 1.0)
        return np.ravel(model.coef_).tobytes() + np.ravel(model.intercept_).tobytes()

    with dask.config.set(scheduler="synchronous"):
        expected = bits()
    for settings in ({"num_workers": 2}, {"daskml-core.residency": False}, {"daskml-core.spans-per-thread": 1}):
        with dask.config.set({"scheduler": "threads", **settings}):
            assert bits() == expected, settings


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_workers_do_not_show_in_the_bits(loss, small_sample):
    X, y = three_classes(8000)
    lazy = da.from_array(X, chunks=(500, -1))
    expected = LinearSVC(loss=loss).fit(lazy, y)
    with LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster, Client(cluster):
        model = LinearSVC(loss=loss).fit(lazy, y)
    assert model.coef_.tobytes() == expected.coef_.tobytes()
    assert model.n_sweeps_ == expected.n_sweeps_ > 1


# -- the parts -----------------------------------------------------------------------------------------------------------

LOSSES = [
    SquaredHinge(),
    SmoothedHinge(0.7),
    SquaredEpsilonInsensitive(0.3),
    SquaredEpsilonInsensitive(0.0),
    SmoothedEpsilonInsensitive(0.3, 0.4),
    SmoothedEpsilonInsensitive(0.1, 0.5),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("classes", [None, OneAgainstRest(np.array([2.0]), np.array([1.5]))], ids=["two", "rest"])
@pytest.mark.parametrize("scaling", [None, 3.0])
def test_gradients_and_curvatures_equal_finite_differences(loss, weighted, classes, scaling):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    regression = "insensitive" in loss.name
    if regression and classes is not None:
        classes = None
    y = rng.normal(size=80) if regression else rng.integers(0, 2 if classes is None else 3, size=80).astype(float)
    s = rng.random(80) if weighted else None
    block = Block(X, y, s, 0, 0)
    objective = LinearObjective(
        loss, ElasticNetPenalty(0, 0.1), 4, 80.0, True, intercept_scaling=scaling, classes=classes
    )
    theta = rng.normal(size=5) * 0.4

    def at(t, order):
        return solve_in_memory(objective.evaluate(t, order), block)

    here, h = at(theta, 2), 1e-6
    for j, e in enumerate(np.eye(5) * h):
        np.testing.assert_allclose(here.grad[j], (at(theta + e, 0).value - at(theta - e, 0).value) / (2 * h), atol=1e-7)
        # Piecewise constant curvature: no row crosses a kink within h.
        np.testing.assert_allclose(here.hess[j], (at(theta + e, 1).grad - at(theta - e, 1).grad) / (2 * h), atol=1e-6)
    _, diagonal = solve_in_memory(objective.curvature_diagonal(theta), block) if classes is None else (None, None)
    if diagonal is not None and loss.curvature_bound and not weighted:
        assert (diagonal >= np.diagonal(here.hess) - 1e-12).all()


@pytest.mark.parametrize("C", [1e-4, 1.0, 1e8])
@pytest.mark.parametrize("regression", [True, False])
def test_interior_point_solutions_are_feasible_and_meet(C, regression):
    rng = np.random.default_rng(0)
    A = np.column_stack([rng.normal(size=(300, 4)) * [1, 10, 0, 1], np.ones(300)])
    y = A[:, 0] + rng.normal(size=300)
    if regression:
        sides = Sides(A, np.array([np.ones(300), -np.ones(300)]), np.array([y - 0.1, -y - 0.1]), np.full(300, C))
    else:
        sides = Sides(A, np.sign(y)[None], np.ones((1, 300)), np.full(300, C))
    ridge, shift = np.array([1.0, 1, 1, 1, 0]), np.zeros(5)
    best = interior_point(sides, ridge, shift, np.zeros(5), tol=1e-9)
    assert (best.alpha > 0).all() and (best.alpha < C).all()
    value = best.theta[:4] @ best.theta[:4] / 2
    value += C * np.maximum(0, sides.offset - sides.sign * (A @ best.theta)).sum()
    beta = (sides.sign * best.alpha).sum(axis=0)
    dual = (best.alpha * sides.offset).sum() - (beta @ A[:, :4]) @ (beta @ A[:, :4]) / 2
    assert abs(beta.sum()) <= 1e-6 * C  # the intercept's condition
    assert value - dual <= 1e-6 * value


def margin_params(m=3, d=3, **given):
    rng = np.random.default_rng(0)
    params = MarginParams(rng.normal(size=(d, m)), rng.normal(size=m), None, np.full(m, 0.2), np.zeros(m), 10_000)
    return params._replace(**given)


@pytest.mark.parametrize("epsilon", [None, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cuts_and_rows_add_up_and_empty_blocks_add_nothing(epsilon, dtype):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(9000, 3)).astype(dtype), rng.integers(0, 2, size=9000).astype(float)
    s = rng.random(9000)
    params = margin_params(epsilon=epsilon)
    whole = margin_rows(Block(X, y, s, 0, 0), params)
    parts = margin_rows(Block(X[:0], y[:0], s[:0], 0, 0), params)
    for number, rows in enumerate((slice(0, 4000), slice(4000, 9000))):
        parts = merge_margins(parts, margin_rows(Block(X[rows], y[rows], s[rows], number, rows.start), params))
    for a, b in zip(whole[:4], parts[:4], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4 if dtype == "float32" else 1e-10)
        assert a.dtype == np.float64
    for a, b in zip(whole.rows, parts.rows, strict=True):
        np.testing.assert_array_equal(a.X, b.X)
        assert 0 < len(a.X) < 9000
    # The formula, for one model: cut and rows together are all of the loss.
    z = X @ params.W[:, 0] + params.b[0]
    t = 2 * y - 1
    m = 1 - t * z if epsilon is None else np.abs(y - z) - epsilon
    np.testing.assert_allclose(whole.loss[0], s @ np.maximum(m, 0), rtol=1e-5)
    near = whole.rows[0]
    inside = 1 - near.y * near.z if epsilon is None else np.abs(near.y - near.z) - epsilon
    cut = whole.offset[:, 0].sum() - params.W[:, 0] @ (whole.slope[0, :, 0] - whole.slope[1, :, 0])
    cut -= params.b[0] * (whole.total[0, 0] - whole.total[1, 0])
    np.testing.assert_allclose(cut + near.cost @ np.maximum(inside, 0), whole.loss[0], rtol=1e-4)


def test_rows_beyond_the_capacity_join_the_cut_and_equal_rows_become_one():
    rng = np.random.default_rng(1)
    X = rng.integers(0, 3, size=(5000, 2)).astype(float)
    y = rng.integers(0, 2, size=5000).astype(float)
    params = margin_params(m=1, d=2, band=np.array([10.0]))
    every = margin_rows(Block(X, y, None, 0, 0), params)
    few = margin_rows(Block(X, y, None, 0, 0), params._replace(capacity=18))  # 9 points with 2 labels
    assert len(few.rows[0].y) == 18
    assert few.rows[0].cost.sum() == every.rows[0].cost.sum() == 5000
    none = margin_rows(Block(X, y, None, 0, 0), params._replace(capacity=5))
    bare = margin_rows(Block(X, y, None, 0, 0), params._replace(band=np.array([-1.0])))
    assert len(none.rows[0].y) == 5
    kept = none.rows[0]
    active = kept.cost * (1 - kept.y * kept.z > 0)
    np.testing.assert_allclose(
        none.total[:, 0] + [active[kept.y > 0].sum(), active[kept.y < 0].sum()], bare.total[:, 0]
    )


def problem(n=6000):
    X, y = two_classes(n)
    machine = MarginProblem(X.shape[1], n, 1.0, capacity=500)
    return machine, Engine(load(da.from_array(X, chunks=(250, -1)), y * 1.0, count_rows=count_rows)), n


def draw_of(n, rows=500):
    return sample_and_moments(rows, n, 0, 8)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_fit_resumed_from_any_state_ends_with_the_same_bits(at):
    machine, engine, n = problem()
    states = []
    (whole,) = drive([noting(margin_model(machine, draw_of(n), tol=1e-9), states)], engine)
    assert len(states) > 2
    (rest,) = drive([margin_model(machine, state=states[at], tol=1e-9)], problem()[1])
    assert rest.state.theta.tobytes() == whole.state.theta.tobytes()


def test_machines_in_lockstep_are_the_machines_alone():
    machine, together, n = problem()
    machines = [machine.__class__(machine.n_features, n, C, capacity=500) for C in (1e-3, 1.0, 100.0)]
    draw = draw_of(n)
    batch = drive([margin_model(m, draw) for m in machines], together)
    alone = []
    for m, outcome in zip(machines, batch, strict=True):
        engine = problem()[1]
        (solo,) = drive([margin_model(m, draw_of(n))], engine)
        alone.append(engine.n_sweeps)
        np.testing.assert_allclose(outcome.state.value, solo.state.value, rtol=1e-4)
        assert outcome.state.converged
    assert together.n_sweeps <= max(alone) + 3 < sum(alone)


def test_the_bound_never_passes_the_objective(small_sample):
    X, y = two_classes(24_000)
    model = LinearSVC(loss="hinge", tol=1e-9).fit(da.from_array(X, chunks=(1000, -1)), y)
    rows = model.history_
    assert len(rows) > 1
    best = rows[-1]["loss"]
    assert all(row["bound"] <= best * (1 + 1e-12) <= row["loss"] * (1 + 1e-12) for row in rows)
    bounds = [row["bound"] for row in rows]
    assert bounds == sorted(bounds)


# -- what is refused, what is told ---------------------------------------------------------------------------------------


def test_not_converging_tells_how_far_it_is(small_sample):
    X, y = two_classes(24_000)
    with pytest.warns(ConvergenceWarning, match=r"within a relative .* of the optimum where tol=1e-12") as caught:
        model = LinearSVC(loss="hinge", tol=1e-12, max_iter=1).fit(da.from_array(X, chunks=(1000, -1)), y)
    assert len(caught) == 1
    assert not model.converged_
    assert model.duality_gap_ > 1e-12


def test_a_gap_of_another_loss_is_forgotten():
    X, y = two_classes(100)
    model = LinearSVC(loss="hinge").fit(X, y)
    assert hasattr(model, "duality_gap_")
    assert not hasattr(model.set_params(loss="squared_hinge").fit(X, y), "duality_gap_")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": "l0"}, "penalty must be"),
        ({"loss": "log"}, "loss must be"),
        ({"penalty": "l1", "loss": "hinge"}, "not supported"),
        ({"multi_class": "crammer_singer"}, "multi_class must be"),
        ({"loss": "hinge", "solver": "newton"}, "has kinks"),
        ({"solver": "sgd"}, "SGDClassifier"),
        ({"solver": "newton", "penalty": "l1"}, "cannot handle an l1 penalty"),
        ({"intercept_scaling": 0.0}, "intercept_scaling must be a positive"),
        ({"intercept_scaling": 1.0, "fit_intercept": False}, "without an intercept"),
        ({"C": 0}, "C must be"),
        ({"class_weight": {7: 1.0}}, "not in class_weight"),
    ],
)
def test_parameters_that_make_no_sense_are_errors(params, message):
    X, y = two_classes(100)
    with pytest.raises(ValueError, match=message):
        LinearSVC(**params).fit(X, y)


def test_the_plan_counts_the_rows_at_the_margin(same_base):
    X, y = two_classes(2000)
    lazy = da.from_array(X, chunks=(500, -1))
    plain, hinge = (LinearSVC(loss=loss).plan(lazy, y) for loss in ("squared_hinge", "hinge"))
    assert "hinge-cut" in hinge.kernels
    assert hinge.projected_peak_bytes > plain.projected_peak_bytes
    assert "epsilon-insensitive-cut" in LinearSVR().plan(lazy, y * 1.0).kernels
