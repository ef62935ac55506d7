"""A user's own differentiable model, trained over blocks."""

import dask.array as da
import numpy as np
import pytest
from scipy.special import expit

from daskml_core.errors import ConvergenceWarning
from daskml_core.linear_model import LogisticRegression
from daskml_core.optimize import minimize
from tests.problems import two_classes


def logistic(w, X, y):
    z = X @ w["coef"] + w["intercept"]
    r = expit(z) - y
    return float((np.logaddexp(0, z) - y * z).sum()), {"coef": X.T @ r, "intercept": r.sum()}


START = {"coef": np.zeros(6), "intercept": 0.0}


def data():
    X, y = two_classes(n=2000)
    return (X - X.mean(axis=0)) / X.std(axis=0), y.astype(float)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("gradient_descent", {}),
        ("gradient_descent", {"learning_rate": 1.0, "momentum": "none"}),
        ("lbfgs", {"memory": 5}),
    ],
)
def test_a_user_function_reaches_the_optimum(solver, options):
    X, y = data()
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y)
    result = minimize(
        logistic, START, da.from_array(X, chunks=(300, 4)), y, solver=solver, options=options, tol=1e-7, max_iter=2000
    )
    assert result.success
    np.testing.assert_allclose(result.x["coef"], expected.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(result.x["intercept"], expected.intercept_[0], rtol=1e-3)
    assert len(result.history) == result.nit + 1


def test_mini_batches_come_close_and_are_reproducible():
    X, y = data()
    options = {"batch_size": 20, "learning_rate": 0.5, "decay": 0.01, "random_state": 4}

    def run():
        return minimize(
            logistic, START, da.from_array(X, chunks=(300, 6)), y, solver="sgd", options=options, tol=1e-4, max_iter=50
        )

    first, second = run(), run()
    assert first.x["coef"].tobytes() == second.x["coef"].tobytes()
    best = minimize(logistic, START, X, y, solver="lbfgs", tol=1e-7)
    z = X @ first.x["coef"] + first.x["intercept"]
    assert (np.logaddexp(0, z) - y * z).mean() <= best.fun * 1.02


def test_the_l2_term_is_per_row():
    X, y = data()

    def squared(w, X, y):
        return float(((X @ w - y) ** 2).sum() / 2), X.T @ (X @ w - y)

    ours = minimize(squared, np.zeros(6), X, y, l2=0.5, tol=1e-9, max_iter=5000)
    exact = np.linalg.solve(X.T @ X / len(X) + 0.5 * np.eye(6), X.T @ y / len(X))
    np.testing.assert_allclose(ours.x, exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"solver": "adam"}, "solver must be one of"),
        ({"solver": "lbfgs", "options": {"rate": 1}}, "has no option"),
        ({"tol": -1}, "tol must be a positive"),
        ({"options": {"momentum": "big"}}, "momentum must be one of"),
        ({"options": {"learning_rate": "fast"}}, "learning_rate must be a positive"),
        ({"solver": "lbfgs", "options": {"memory": 0}}, "memory must be a positive"),
    ],
)
def test_settings_that_make_no_sense_are_errors(given, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        minimize(logistic, START, X, y, **given)


def test_a_loss_that_is_not_finite_or_not_the_gradients_is_told():
    X, y = data()
    with pytest.raises(ValueError, match="not finite at w0"):
        minimize(lambda w, X, y: (float("nan"), w), np.ones(6), X, y)
    with pytest.warns(ConvergenceWarning, match="check that the gradient is the loss's"):
        result = minimize(lambda w, X, y: (float(w @ w), -2 * w), np.ones(6), X, y, solver="lbfgs")
    assert "no step lowers the loss" in result.message


def test_a_gradient_of_the_wrong_shape_is_an_error():
    X, y = data()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\)"):
        minimize(lambda w, X, y: (0.0, np.zeros(3)), np.zeros(6), X, y)
