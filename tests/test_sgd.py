"""Stochastic gradient descent against scikit-learn's, update by update."""

import itertools

import dask.array as da
import numpy as np
import pytest
from sklearn import linear_model as reference

from daskml_core.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from daskml_core.metrics import log_loss
from daskml_core.solvers.sgd import MAX_GROUPS, block_order
from tests.problems import three_classes, two_classes

PLAIN = {"shuffle": False, "max_iter": 3, "tol": None}


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron"])
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("schedule", [("optimal", 0.0), ("constant", 0.01), ("invscaling", 0.05), ("adaptive", 0.01)])
@pytest.mark.parametrize("average", [False, 100])
def test_updates_are_scikit_learns(loss, penalty, schedule, average):
    if average and penalty in ("l1", "elasticnet"):
        # scikit-learn averages the updates, which leaves out what the l1 penalty clips; ours averages the weights.
        average = False
    X, y = two_classes(n=400)
    # A strong penalty keeps the "optimal" schedule's first steps short; long ones blow up the last bit of rounding.
    options = PLAIN | {"loss": loss, "penalty": penalty, "learning_rate": schedule[0], "alpha": 0.1}
    options |= {"average": average, "eta0": schedule[1] or 0.01}
    theirs = reference.SGDClassifier(**options).fit(X, y)
    ours = SGDClassifier(**options).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_regression_updates_are_scikit_learns(loss, penalty):
    X, y = two_classes(n=400)
    target = X @ np.arange(6.0) / 5 + y
    options = PLAIN | {"loss": loss, "penalty": penalty, "eta0": 0.001}
    theirs, ours = reference.SGDRegressor(**options).fit(X, target), SGDRegressor(**options).fit(X, target)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5}])
def test_weights_are_scikit_learns(class_weight):
    X, y = two_classes(n=400)
    w = np.random.default_rng(0).random(400)
    options = PLAIN | {"loss": "log_loss", "alpha": 0.1, "class_weight": class_weight}
    if class_weight == "balanced":
        w = None  # with sample weights scikit-learn counts rows here, not their weight
    theirs = reference.SGDClassifier(**options).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(SGDClassifier(**options).fit(X, y, sample_weight=w).coef_, theirs.coef_, rtol=1e-6)


@pytest.mark.parametrize("class_weight", ["balanced", {"ash": 3.0, "birch": 0.5, "cedar": 1.0}])
def test_class_weights_of_more_classes_are_scikit_learns(class_weight):
    X, y = three_classes(n=400)
    options = PLAIN | {"loss": "log_loss", "alpha": 0.1, "class_weight": class_weight}
    theirs = reference.SGDClassifier(**options).fit(X, y)
    ours = SGDClassifier(**options).fit(da.from_array(X, chunks=(150, 4)), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)


def test_more_classes_are_scikit_learns():
    X, y = three_classes(n=400)
    w = np.random.default_rng(0).random(400)
    options = PLAIN | {"loss": "log_loss", "alpha": 0.1}
    theirs = reference.SGDClassifier(**options).fit(X, y, sample_weight=w)
    ours = SGDClassifier(**options).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6)


def test_blocks_in_a_row_are_one_block():
    X, y = two_classes(n=400)
    options = PLAIN | {"loss": "log_loss", "alpha": 0.1}
    whole = SGDClassifier(**options).fit(X, y)
    blocks = SGDClassifier(**options).fit(da.from_array(X, chunks=(37, -1)), y)
    np.testing.assert_allclose(blocks.coef_, whole.coef_, rtol=1e-10)


@pytest.mark.parametrize(
    "options", [{}, {"average": 3000}, {"batch_size": 8}, {"n_chains": 2, "averages_per_epoch": 4}]
)
def test_five_epochs_come_close_to_the_optimum(options):
    X, y = two_classes(n=30_000)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    optimum = log_loss(y, LogisticRegression().fit(X, y).predict_proba(X))
    model = SGDClassifier(
        loss="log_loss",
        learning_rate="invscaling",
        eta0=0.1,
        max_iter=5,
        tol=None,
        alpha=1e-5,
        random_state=0,
        **options,
    )
    loss = log_loss(y, model.fit(da.from_array(X, chunks=(1000, -1)), y).predict_proba(X))
    assert loss <= optimum * 1.02


def test_partial_fit_is_an_epoch():
    X, y = two_classes(n=400)
    options = {"loss": "log_loss", "shuffle": False, "tol": None, "alpha": 0.1}
    whole = SGDClassifier(max_iter=3, **options).fit(X, y)
    parts = SGDClassifier(**options)
    for _ in range(3):
        parts.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)


def test_early_stopping_and_overflow_are_told():
    X, y = two_classes(n=2000)
    model = SGDClassifier(random_state=0, loss="log_loss").fit(X, y)
    assert model.converged_
    assert model.n_iter_ < 100
    with pytest.raises(ValueError, match="under-/overflow occurred at epoch"):
        SGDRegressor(eta0=1e300, learning_rate="constant").fit(X * 1e6, y * 1.0)


@pytest.mark.parametrize("n_blocks", [1, 7, 256, 257, 5000])
def test_an_order_holds_every_block_once_in_few_groups(n_blocks):
    order = block_order(n_blocks, np.random.default_rng(0))
    assert sorted(order) == list(range(n_blocks))
    size = -(-n_blocks // MAX_GROUPS)
    changes = sum(a // size != b // size for a, b in itertools.pairwise(order))
    assert changes < MAX_GROUPS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross"}, "loss must be one of"),
        ({"penalty": "l3"}, "penalty must be"),
        ({"learning_rate": "fast"}, "learning_rate must be one of"),
        ({"alpha": 0}, "alpha must be > 0"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"n_chains": 1.5}, "n_chains must be a positive integer"),
        ({"tol": -1}, "tol must be a non-negative number"),
        ({"average": -3}, "average must be a non-negative number"),
        ({"power_t": "x"}, "power_t must be a non-negative number"),
    ],
)
def test_parameters_that_make_no_sense_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SGDClassifier(**options).fit(*two_classes(n=50))
