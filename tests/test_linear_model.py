"""Linear models against scikit-learn, liblinear and closed forms."""

import dask.array as da
import numpy as np
import pytest
from sklearn import datasets
from sklearn import linear_model as reference
from sklearn.exceptions import ConvergenceWarning

from daskml_core.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from daskml_core.metrics import log_loss
from tests.problems import three_classes, two_classes


def blocks(*arrays):
    return [da.from_array(a, chunks=(211, *a.shape[1:])) for a in arrays]


def relative(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / max(np.abs(b).max(), 1e-12)


def breast_cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("solver", ["auto", "newton"])
def test_l2_logistic_equals_scikit_learn(C, solver):
    X, y = breast_cancer()
    expected = reference.LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky", max_iter=10_000).fit(X, y)
    model = LogisticRegression(C=C, solver=solver, tol=1e-10).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5
    assert relative(model.intercept_, expected.intercept_) < 1e-5


@pytest.mark.parametrize("solver", ["lbfgs", "gradient_descent"])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_first_order_solvers_reach_the_optimum(solver, C):
    X, y = breast_cancer()
    expected = reference.LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky", max_iter=10_000).fit(X, y)
    model = LogisticRegression(C=C, solver=solver, tol=1e-8, max_iter=5000).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5


@pytest.mark.parametrize("C", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs"])
def test_multinomial_equals_scikit_learn(C, solver):
    X, y = three_classes()
    expected = reference.LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky", max_iter=10_000).fit(X, y)
    model = LogisticRegression(C=C, solver=solver, tol=1e-9, max_iter=1000).fit(*blocks(X, y))
    assert list(model.classes_) == list(expected.classes_)
    assert relative(model.coef_, expected.coef_) < 1e-5
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("C", [0.02, 1.0])
@pytest.mark.parametrize("solver", ["auto", "proximal", "gradient_descent"])
def test_l1_and_elastic_net_reach_the_optimality_conditions(l1_ratio, C, solver):
    # The conditions themselves are the oracle: SAGA does not reach 1e-6 in a reasonable time.
    X, y = two_classes()
    model = LogisticRegression(C=C, l1_ratio=l1_ratio, solver=solver, tol=1e-9, max_iter=3000).fit(*blocks(X, y))
    w, b = model.coef_[0], model.intercept_[0]
    residual = 1 / (1 + np.exp(-(X @ w + b))) - y
    grad = C * X.T @ residual + (1 - l1_ratio) * w
    on = w != 0
    np.testing.assert_allclose(grad[on], -l1_ratio * np.sign(w[on]), atol=1e-5)
    assert (np.abs(grad[~on]) <= l1_ratio + 1e-5).all()
    assert abs(residual.sum()) < 1e-4
    if C == 0.02 and l1_ratio == 1.0:
        expected = reference.LogisticRegression(C=C, l1_ratio=1.0, solver="saga", tol=1e-9, max_iter=20_000).fit(X, y)
        assert relative(model.coef_, expected.coef_) < 1e-4


def test_no_penalty_equals_scikit_learn():
    X, y = two_classes()
    expected = reference.LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(X, y)
    for model in (LogisticRegression(C=np.inf, tol=1e-9), LogisticRegression(penalty=None, tol=1e-9)):
        assert relative(model.fit(*blocks(X, y)).coef_, expected.coef_) < 1e-5


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5}])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weights_and_intercept_equal_scikit_learn(class_weight, weighted, fit_intercept):
    X, y = two_classes()
    y[:1500] = 0
    w = np.random.default_rng(0).random(len(y)) if weighted else None
    options = {"class_weight": class_weight, "fit_intercept": fit_intercept}
    expected = reference.LogisticRegression(tol=1e-12, solver="newton-cholesky", max_iter=1000, **options)
    expected.fit(X, y, sample_weight=w)
    model = LogisticRegression(tol=1e-10, **options).fit(*blocks(X, y), sample_weight=w)
    assert relative(model.coef_, expected.coef_) < 1e-6


def test_the_sample_is_followed_by_few_gradients():
    X, y = two_classes(n=200_000, d=10)
    model = LogisticRegression(tol=1e-6).fit(da.from_array(X, chunks=(5000, 10)), y)
    assert model.converged_
    assert model.n_sweeps_ <= 4
    expected = reference.LogisticRegression(tol=1e-10, solver="newton-cholesky").fit(X, y)
    assert relative(model.coef_, expected.coef_) < 1e-5


def test_sorted_rows_take_few_sweeps_as_well():
    X, y = two_classes(n=200_000, d=10)
    order = np.lexsort([X[:, 0], y])
    model = LogisticRegression(tol=1e-6).fit(da.from_array(X[order], chunks=(5000, 10)), y[order])
    assert model.converged_
    assert model.n_sweeps_ <= 8


def regression(n=1000, d=5, targets=None):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + 10
    w = rng.normal(size=(d, targets) if targets else d)
    return X, X @ w + rng.normal(size=(n, targets) if targets else n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_least_squares_equals_scikit_learn(weighted, fit_intercept, targets):
    X, y = regression(targets=targets)
    w = np.random.default_rng(1).random(len(X)) if weighted else None
    for ours, theirs in (
        (LinearRegression(fit_intercept=fit_intercept), reference.LinearRegression(fit_intercept=fit_intercept)),
        (Ridge(3.0, fit_intercept=fit_intercept), reference.Ridge(3.0, fit_intercept=fit_intercept)),
    ):
        theirs.fit(X, y, sample_weight=w)
        ours.fit(*blocks(X, y), sample_weight=w)
        assert ours.coef_.shape == theirs.coef_.shape
        assert relative(ours.coef_, theirs.coef_) < 1e-8
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7, atol=1e-9)
        assert ours.n_sweeps_ == 1


def test_an_ill_conditioned_matrix_takes_a_second_sweep_and_keeps_the_digits():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    X[:, 3] = X[:, 0] + 1e-6 * rng.normal(size=2000)
    y = X @ [1.0, 2.0, 3.0, 4.0]
    model = LinearRegression().fit(*blocks(X, y))
    assert model.n_sweeps_ == 2
    np.testing.assert_allclose(model.coef_, [1, 2, 3, 4], rtol=1e-7)


@pytest.mark.parametrize("alpha", [1e-10, 1e-8, 1e-3])
def test_a_weak_ridge_of_an_ill_conditioned_matrix_keeps_the_digits(alpha):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    X[:, 3] = X[:, 0] + 1e-6 * rng.normal(size=2000)
    y = X @ [1.0, 2.0, 3.0, 4.0]
    expected = reference.Ridge(alpha, solver="svd").fit(X, y)
    model = Ridge(alpha).fit(*blocks(X, y))
    # The condition is 1e6: ten digits are left of sixteen.
    assert relative(model.coef_, expected.coef_) < 1e-8
    assert model.n_sweeps_ == (1 if alpha == 1e-3 else 2)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_history_of_the_gram_matrix_ends_with_the_objective(fit_intercept):
    X, y = regression()
    for model, l1, l2 in (
        (LinearRegression(fit_intercept=fit_intercept), 0.0, 0.0),
        (Ridge(30.0, fit_intercept=fit_intercept), 0.0, 30.0 / len(X)),
        (Lasso(0.1, tol=1e-10, max_iter=100_000, fit_intercept=fit_intercept), 0.1, 0.0),
        (
            ElasticNet(0.1, l1_ratio=0.3, tol=1e-10, positive=True, max_iter=100_000, fit_intercept=fit_intercept),
            0.03,
            0.07,
        ),
    ):
        w = model.fit(*blocks(X, y)).coef_
        value = ((y - model.predict(X)) ** 2).mean() / 2 + l1 * np.abs(w).sum() + l2 / 2 * w @ w
        assert model.history_[-1]["loss"] == pytest.approx(value, rel=1e-8)
        assert model.history_[-1]["grad_norm"] < 1e-5


def test_a_rank_deficient_matrix_gives_the_shortest_solution():
    X, y = regression()
    X = np.column_stack([X, X[:, 0]])
    expected = reference.LinearRegression().fit(X, y)
    model = LinearRegression().fit(*blocks(X, y))
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
    assert model.rank_ == 5


def test_a_large_offset_costs_no_digits():
    X, y = regression()
    expected = LinearRegression().fit(X, y).coef_
    np.testing.assert_allclose(LinearRegression().fit(*blocks(X + 1e7, y)).coef_, expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_lasso_and_elastic_net_equal_scikit_learn(alpha, positive, fit_intercept):
    X, y = regression()
    w = np.random.default_rng(1).random(len(X))
    options = {"positive": positive, "fit_intercept": fit_intercept, "tol": 1e-10, "max_iter": 100_000}
    for ours, theirs in (
        (Lasso(alpha, **options), reference.Lasso(alpha, **options)),
        (ElasticNet(alpha, l1_ratio=0.3, **options), reference.ElasticNet(alpha, l1_ratio=0.3, **options)),
    ):
        theirs.fit(X, y, sample_weight=w)
        ours.fit(*blocks(X, y), sample_weight=w)
        assert relative(ours.coef_, theirs.coef_) < 1e-5
        assert ours.n_sweeps_ == 1


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "gradient_descent"])
def test_poisson_equals_scikit_learn(alpha, solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    y = rng.poisson(np.exp(X @ [0.5, -0.3, 0.0, 0.2] + 1)).astype(float)
    w = rng.random(2000)
    expected = reference.PoissonRegressor(alpha=alpha, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    expected.fit(X, y, sample_weight=w)
    model = PoissonRegressor(alpha=alpha, solver=solver, tol=1e-9, max_iter=2000).fit(*blocks(X, y), sample_weight=w)
    assert relative(model.coef_, expected.coef_) < 1e-5
    np.testing.assert_allclose(model.score(X, y, w), expected.score(X, y, w), rtol=1e-8)


@pytest.mark.parametrize("epsilon", [1.1, 1.35, 3.0])
def test_huber_equals_scikit_learn(epsilon):
    X, y = regression()
    X -= 10
    y[::10] += 50
    w = np.random.default_rng(1).random(len(X))
    expected = reference.HuberRegressor(epsilon=epsilon, tol=1e-10, max_iter=10_000).fit(X, y, sample_weight=w)
    model = HuberRegressor(epsilon=epsilon, tol=1e-9).fit(*blocks(X, y), sample_weight=w)
    assert relative(model.coef_, expected.coef_) < 1e-4  # what L-BFGS-B of the reference reaches
    np.testing.assert_allclose(model.scale_, expected.scale_, rtol=1e-4)


def test_not_converging_is_one_warning_with_a_remedy():
    X, y = two_classes()
    with pytest.warns(ConvergenceWarning, match="raise it, or scale the features") as caught:
        model = LogisticRegression(solver="gradient_descent", max_iter=2).fit(X, y)
    assert len(caught) == 1
    assert not model.converged_


def test_a_constant_rate_that_is_too_large_is_an_error():
    X, y = regression()
    y = np.abs(y)
    with pytest.raises(ValueError, match="Gradient descent diverged"):
        PoissonRegressor(
            solver="gradient_descent", solver_options={"learning_rate": 1e6, "momentum": "none"}, alpha=0
        ).fit(X, y)


@pytest.mark.parametrize("momentum", ["none", "heavy_ball", "nesterov"])
@pytest.mark.parametrize("rate", ["backtracking", 0.5])
def test_gradient_descent_in_all_its_forms(momentum, rate):
    X, y = breast_cancer()
    X = X[:, :5]
    expected = LogisticRegression(C=0.01, tol=1e-10).fit(X, y)
    options = {"learning_rate": rate, "momentum": momentum}
    if momentum == "heavy_ball":
        options["momentum_coefficient"] = 0.5
    model = LogisticRegression(C=0.01, solver="gradient_descent", solver_options=options, tol=1e-7, max_iter=5000).fit(
        X, y
    )
    assert model.converged_
    assert relative(model.coef_, expected.coef_) < 1e-4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver": "magic"}, "solver must be one of"),
        ({"solver": "newton", "l1_ratio": 0.5}, "cannot handle an l1 penalty"),
        ({"solver": "newton", "solver_options": {"momentum": 1}}, "has no option"),
        ({"C": -1}, "C must be a positive number"),
        ({"penalty": "l2", "l1_ratio": 0.5}, "contradicts"),
        ({"penalty": None, "C": 3.0}, "has no strength"),
        ({"class_weight": "even"}, "balanced"),
        ({"class_weight": {7: 1.0}}, "not in class_weight"),
        ({"class_weight": [1.0, 2.0]}, "must be a dict"),
        ({"class_weight": {0: "a"}}, r"class_weight\[0\] must be a non-negative number"),
        ({"max_iter": 2.5}, "max_iter must be a positive integer"),
        ({"solver": "gradient_descent", "solver_options": {"momentum": "big"}}, "momentum must be one of"),
        ({"solver": "gradient_descent", "solver_options": {"momentum_coefficient": 0.5}}, 'of momentum="heavy_ball"'),
        ({"solver": "gradient_descent", "solver_options": {"learning_rate": -1}}, "learning_rate must be a positive"),
        ({"solver": "lbfgs", "solver_options": {"memory": 0}}, "memory must be a positive integer"),
        ({"solver": "sgd", "solver_options": {"batch_size": 0}}, "batch_size must be a positive integer"),
        ({"solver": "sgd", "solver_options": {"n_chains": 1.5}}, "n_chains must be a positive integer"),
        ({"solver": "sgd", "solver_options": {"eta0": -1}}, "eta0 must be a positive number"),
        ({"solver": "sgd", "solver_options": {"average": "yes"}}, "average must be True or False"),
        ({"max_iter": 0}, "max_iter must be a positive integer"),
    ],
)
def test_parameters_that_make_no_sense_are_errors(params, message):
    X, y = two_classes(n=100)
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**params).fit(X, y)


def test_warm_start_goes_on_from_the_last_fit():
    X, y = two_classes()
    model = LogisticRegression(solver="lbfgs", tol=1e-6, warm_start=True).fit(X, y)
    cold = model.n_iter_
    assert model.fit(X, y).n_iter_ < cold / 2


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_warm_start_of_the_default_solver_takes_one_sweep_where_nothing_is_left_to_do(l1_ratio):
    X, y = two_classes(n=200_000, d=10)
    data = da.from_array(X, chunks=(25_000, 10))
    model = LogisticRegression(warm_start=True, l1_ratio=l1_ratio).fit(data, y)
    assert model.n_sweeps_ > 1
    coef = model.coef_.copy()
    assert model.fit(data, y).n_sweeps_ == 1
    assert model.n_iter_ == 0
    np.testing.assert_array_equal(model.coef_, coef)
    fresh = LogisticRegression(C=1e-3, l1_ratio=l1_ratio, tol=1e-7).fit(data, y)
    assert relative(model.set_params(C=1e-3, tol=1e-7).fit(data, y).coef_, fresh.coef_) < 1e-5


def test_the_history_is_a_table():
    import pandas as pd

    X, y = two_classes()
    model = LogisticRegression(solver="lbfgs").fit(X, y)
    table = pd.DataFrame(model.history_)
    assert {"loss", "grad_norm", "step", "seconds", "bytes_read", "sweeps"} <= set(table.columns)
    assert table["loss"].is_monotonic_decreasing
    assert len(table) == model.n_iter_ + 1


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "gradient_descent", "sgd"])
def test_every_solver_of_least_squares_reaches_the_gram_matrix_solution(solver):
    X, y = regression()
    X = X - 10
    options = {"max_iter": 200, "learning_rate": "invscaling", "eta0": 0.02} if solver == "sgd" else {"tol": 1e-10}
    # SGD's average is within its sampling error of the optimum; the others promise the optimum.
    tolerance = 2e-3 if solver == "sgd" else 1e-6
    for make in (LinearRegression, lambda **o: Ridge(3.0, **o)):
        model = make(solver=solver, solver_options=options).fit(*blocks(X, y))
        expected = make().fit(X, y)
        assert relative(model.coef_, expected.coef_) < tolerance
        assert abs(model.intercept_ - expected.intercept_) < tolerance
        assert model.history_[1]["loss"] >= model.history_[-1]["loss"]


@pytest.mark.parametrize("solver", ["proximal", "gradient_descent"])
def test_lasso_by_sweeps_equals_lasso_by_the_gram_matrix(solver):
    X, y = regression()
    expected = Lasso(0.3, tol=1e-10).fit(X, y)
    model = Lasso(0.3, solver=solver, tol=1e-9, max_iter=20_000).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5
    assert model.n_sweeps_ > 1


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "gradient_descent"])
def test_every_solver_of_huber_reaches_the_same_optimum(solver):
    X, y = regression()
    X = X - 10
    y[::20] += 30
    expected = HuberRegressor(tol=1e-9).fit(X, y)
    model = HuberRegressor(solver=solver, tol=1e-8, max_iter=20_000).fit(*blocks(X, y))
    assert relative(model.coef_, expected.coef_) < 1e-5


def test_solvers_that_fit_one_target_say_so():
    X, y = regression(targets=2)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        LinearRegression(solver="lbfgs").fit(*blocks(X, y))
    with pytest.raises(ValueError, match="takes no solver_options"):
        Ridge(solver_options={"tol": 1e-3}).fit(X, y)
    with pytest.raises(ValueError, match="cannot handle an l1 penalty"):
        Lasso(solver="lbfgs").fit(X, y[:, 0])
    with pytest.raises(ValueError, match="solver must be one of"):
        HuberRegressor(solver="sgd").fit(X, y[:, 0])


def test_multinomial_and_poisson_by_sgd_come_close_to_the_optimum():
    X, y = three_classes(n=4000)
    expected = LogisticRegression(tol=1e-8).fit(X, y)
    model = LogisticRegression(solver="sgd", max_iter=20, tol=1e-5).fit(*blocks(X, y))
    assert abs(log_loss(y, model.predict_proba(X)) / log_loss(y, expected.predict_proba(X)) - 1) < 1e-3
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0] / 2))
    optimum = PoissonRegressor(alpha=1e-3, tol=1e-8).fit(X, counts)
    # From twenty epochs of rows in random order: the average is within a standard error, 1 / sqrt(4000).
    by_sgd = PoissonRegressor(alpha=1e-3, solver="sgd", max_iter=20, tol=1e-6).fit(*blocks(X, counts))
    np.testing.assert_allclose(by_sgd.coef_, optimum.coef_, atol=0.015)
