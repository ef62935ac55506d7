"""Searches and cross-validation against scikit-learn's on the same folds, and what they cost in sweeps."""

import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from scipy.stats import loguniform
from sklearn import datasets, pipeline, preprocessing, svm
from sklearn import linear_model as reference
from sklearn import model_selection as theirs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.tree import DecisionTreeClassifier

from daskml_core import model_selection as ours
from daskml_core.errors import MemoryPlanError
from daskml_core.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from daskml_core.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_predict, cross_val_score
from daskml_core.model_selection._folds import make_folds
from daskml_core.model_selection._run import BatchRun, Request, prepare, run
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import LinearSVC, LinearSVR
from tests.problems import three_classes, two_classes
from tests.test_engine import counting_array

CS = np.logspace(-3, 1, 6)
EXACT = {"tol": 1e-10, "solver": "newton-cholesky", "max_iter": 1000}


def lazy(a, chunk=97):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


def breast_cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def same_scores(found, expected, rtol=1e-9, atol=1e-10):
    """All keys, all scores, the ranks and the best."""
    assert set(found.cv_results_) == set(expected.cv_results_)
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    for key, value in expected.cv_results_.items():
        if "_test_" in key or "_train_" in key:
            np.testing.assert_allclose(found.cv_results_[key], value, rtol=rtol, atol=atol, err_msg=key)
    assert found.n_splits_ == expected.n_splits_
    assert found.best_params_ == expected.best_params_


@pytest.mark.parametrize(
    "cv", [None, 3, theirs.KFold(4, shuffle=True, random_state=0), theirs.ShuffleSplit(3, random_state=1)]
)
def test_logistic_scores_and_best_are_scikit_learns(cv):
    X, y = breast_cancer()
    scoring = ["accuracy", "neg_log_loss", "roc_auc", "f1", "balanced_accuracy", "average_precision", "neg_brier_score"]
    options = {"cv": cv, "scoring": scoring, "refit": "neg_log_loss", "return_train_score": True}
    found = GridSearchCV(LogisticRegression(tol=1e-10), {"C": CS}, **options).fit(lazy(X), lazy(y, 50))
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), {"C": CS}, **options).fit(X, y)
    same_scores(found, expected, rtol=1e-7)
    np.testing.assert_allclose(found.best_estimator_.coef_, expected.best_estimator_.coef_, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    np.testing.assert_allclose(found.score(lazy(X), y), expected.score(X, y), rtol=1e-9)
    assert found.search_plan_.n_batches == 1


def test_a_search_on_in_memory_size_takes_two_sweeps_whatever_the_models():
    X, y = breast_cancer()
    for n in (2, 10):
        search = GridSearchCV(LogisticRegression(), {"C": np.logspace(-2, 1, n)}, cv=3).fit(X, y)
        assert search.n_sweeps_ == 2


def test_string_labels_of_three_classes():
    X, y = three_classes()
    grid = {"C": [0.01, 1.0], "fit_intercept": [True, False]}
    options = {"scoring": ["accuracy", "neg_log_loss", "f1_macro"], "refit": "accuracy", "cv": 3}
    found = GridSearchCV(LogisticRegression(tol=1e-10), grid, **options).fit(lazy(X), lazy(y))
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), grid, **options).fit(X, y)
    same_scores(found, expected, rtol=1e-7)
    np.testing.assert_array_equal(found.best_estimator_.classes_, expected.best_estimator_.classes_)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "proximal"])
def test_every_solver_trains_in_lockstep(solver):
    X, y = two_classes()
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), {"C": CS}, cv=3).fit(X, y)
    found = GridSearchCV(LogisticRegression(solver=solver, tol=1e-9, max_iter=1000), {"C": CS}, cv=3).fit(lazy(X), y)
    same_scores(found, expected)
    assert found.search_plan_.n_batches == 1


def test_weights_weigh_training_and_scores_as_in_scikit_learn():
    X, y = two_classes()
    y[:2000] = 0
    w = np.random.default_rng(0).random(len(y))
    grid = {"C": [1e-3, 1.0], "class_weight": [None, "balanced", {0: 1.0, 1: 5.0}]}
    scoring = ["neg_log_loss", "accuracy", "f1", "roc_auc"]
    options = {"scoring": scoring, "refit": "f1", "cv": theirs.StratifiedKFold(3, shuffle=True, random_state=0)}
    found = GridSearchCV(LogisticRegression(tol=1e-10), grid, **options).fit(lazy(X), y, sample_weight=lazy(w))
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), grid, **options).fit(X, y, sample_weight=w)
    same_scores(found, expected, rtol=1e-8)
    assert found.search_plan_.n_batches == 1
    target = X[:, 0] + y
    options = {"scoring": ["r2", "neg_mean_absolute_error"], "refit": "r2"}
    found = GridSearchCV(Ridge(), {"alpha": [1.0, 1e3]}, **options).fit(lazy(X), target, sample_weight=lazy(w))
    expected = theirs.GridSearchCV(reference.Ridge(), {"alpha": [1.0, 1e3]}, **options).fit(X, target, sample_weight=w)
    same_scores(found, expected)
    tree = {"estimator": DecisionTreeClassifier(random_state=0), "param_grid": {"max_depth": [1, 4]}}
    found = GridSearchCV(**tree).fit(lazy(X), y, sample_weight=lazy(w))
    same_scores(found, theirs.GridSearchCV(**tree).fit(X, y, sample_weight=w))


@pytest.mark.parametrize("scaled", [False, True])
def test_a_refit_of_float32_rows_needs_no_sweep_of_its_own(scaled):
    X, y = two_classes(n=120_000, d=5, dtype=np.float32)
    Xd, yd = lazy(X, 12_000), lazy(y, 12_000)
    one = pipeline.make_pipeline(StandardScaler(), LogisticRegression()) if scaled else LogisticRegression()
    grid = {("logisticregression__" if scaled else "") + "C": [1e-3, 1e-1, 10.0]}
    search, without = (GridSearchCV(one, grid, cv=5, refit=refit).fit(Xd, yd) for refit in (True, False))
    assert search.n_sweeps_ == without.n_sweeps_
    alone = clone(one).set_params(**search.best_params_).fit(Xd, yd)
    for name in ("coef_", "intercept_"):
        found, expected = (getattr(m[-1] if scaled else m, name) for m in (search.best_estimator_, alone))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_an_l1_path_is_that_of_fits_alone():
    X, y = two_classes(n=900)
    search = GridSearchCV(LogisticRegression(l1_ratio=1.0, tol=1e-9), {"C": CS}, cv=3, scoring="neg_log_loss")
    search.fit(lazy(X), y)
    for j, C in enumerate(CS):
        for i, (train, test) in enumerate(theirs.StratifiedKFold(3).split(X, y)):
            alone = LogisticRegression(C=C, l1_ratio=1.0, tol=1e-9).fit(X[train], y[train])
            p = alone.predict_proba(X[test])[np.arange(len(test)), y[test]]
            np.testing.assert_allclose(search.cv_results_[f"split{i}_test_score"][j], np.log(p).mean(), rtol=1e-8)


@pytest.mark.parametrize(
    ("model", "other", "grid"),
    [
        (Ridge(), reference.Ridge(), {"alpha": [0.1, 10.0, 1e4], "fit_intercept": [True, False]}),
        (LinearRegression(), reference.LinearRegression(), {"fit_intercept": [True, False]}),
        (Lasso(tol=1e-9, max_iter=100_000), reference.Lasso(tol=1e-10, max_iter=100_000), {"alpha": [0.01, 1.0, 10.0]}),
        (
            ElasticNet(tol=1e-9, max_iter=100_000),
            reference.ElasticNet(tol=1e-10, max_iter=100_000),
            {"alpha": [0.01, 1.0], "l1_ratio": [0.2, 0.9]},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_least_squares_need_one_sweep_of_gram_matrices_and_one_for_the_scores(model, other, grid):
    X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    scoring = ["r2", "neg_mean_squared_error", "neg_mean_absolute_error", "neg_root_mean_squared_error"]
    options = {"scoring": scoring, "refit": "r2", "return_train_score": True}
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        found = GridSearchCV(model, grid, **options).fit(counting_array(X, (97, -1), reads), y)
    assert len(reads) == 5 * found.n_sweeps_
    assert found.n_sweeps_ == 3  # the scores on the training rows are a third
    expected = theirs.GridSearchCV(other, grid, **options).fit(X, y)
    same_scores(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.best_estimator_.coef_, expected.best_estimator_.coef_, rtol=1e-5)


def test_several_targets_are_one_gram_matrix():
    X, y = datasets.load_diabetes(return_X_y=True)
    Y = np.column_stack([y, X[:, 0] - y, y**2 / 100])
    options = {"scoring": ["r2", "neg_mean_squared_error"], "refit": "r2", "cv": 4}
    found = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, **options).fit(lazy(X), lazy(Y))
    expected = theirs.GridSearchCV(reference.Ridge(), {"alpha": [0.1, 1.0]}, **options).fit(X, Y)
    same_scores(found, expected)


def test_ill_conditioned_splits_get_a_factorisation_each():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4))
    X[:, 3] = X[:, 2] + 1e-7 * rng.normal(size=400)
    y = X @ [1.0, 2.0, 3.0, 4.0] + 0.1 * rng.normal(size=400) + 5
    steps = [("scale", StandardScaler()), ("fit", LinearRegression())]
    for model in (LinearRegression(), LinearRegression(fit_intercept=False), pipeline.Pipeline(steps)):
        found = ours.cross_validate(model, lazy(X), y, cv=3, return_estimator=True)
        # Alone it takes the factorisation too; scikit-learn calls the last two features one.
        alone = LinearRegression(fit_intercept=getattr(model, "fit_intercept", True))
        for fitted, (train, _) in zip(found["estimator"], theirs.KFold(3).split(X), strict=True):
            expected = alone.fit(X[train], y[train])
            assert expected.n_sweeps_ == 2
            np.testing.assert_allclose(fitted.predict(X), expected.predict(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_linear_machines_join_a_batch(scaled):
    X, y = breast_cancer()
    X = X * np.linspace(0.5, 3, X.shape[1]) if scaled else X
    options = {"scoring": ["accuracy", "roc_auc", "f1"], "refit": "roc_auc", "cv": 4}
    grid = {"linearsvc__C": [1e-3, 1e-2, 1.0], "linearsvc__class_weight": [None, "balanced"]}
    found = pipeline.make_pipeline(StandardScaler(with_mean=scaled, with_std=scaled), LinearSVC(intercept_scaling=1.0))
    expected = pipeline.make_pipeline(
        preprocessing.StandardScaler(with_mean=scaled, with_std=scaled), svm.LinearSVC(tol=1e-9, max_iter=100_000)
    )
    found = GridSearchCV(found, grid, **options).fit(lazy(X), y)
    # liblinear stops at a looser rule: a row at the margin of two classes may be ranked otherwise.
    same_scores(found, theirs.GridSearchCV(expected, grid, **options).fit(X, y), atol=2e-4)
    assert found.search_plan_.n_batches == 1
    assert found.n_sweeps_ == 2


@pytest.mark.parametrize(
    ("n", "options", "grid", "sweeps"),
    [
        (900, {}, {"C": CS}, 2),
        (900, {"solver": "newton"}, {"C": [1e-3, 1.0], "class_weight": [None, {"ash": 3.0}]}, 9),
        (70_000, {}, {"C": [1e-3, 1.0], "class_weight": [None, {"ash": 3.0}]}, 10),
    ],
    ids=str,
)
def test_machines_of_several_classes_join_a_batch_and_are_the_machines_alone(n, options, grid, sweeps):
    X, y = three_classes(n=n)
    model, cv = LinearSVC(**options), theirs.KFold(3)
    for batched, alone in models_and_models_alone(model, list(theirs.ParameterGrid(grid)), X, y, cv, 8000):
        np.testing.assert_allclose(batched, alone, rtol=0, atol=1e-10 * np.abs(alone).max())
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        search = GridSearchCV(model, grid, cv=cv).fit(counting_array(X, (8000, -1), reads), y)
    assert search.search_plan_.n_batches == 1
    assert len(reads) == -(-n // 8000) * search.n_sweeps_
    assert search.n_sweeps_ <= sweeps
    best = LinearSVC(**options, **search.best_params_).fit(lazy(X, 8000), y)
    np.testing.assert_allclose(search.best_estimator_.coef_, best.coef_, rtol=0, atol=2e-4)
    assert search.predict(X).dtype == y.dtype


def test_huber_regressions_are_one_batch_in_the_sweeps_of_the_slowest():
    X, _ = two_classes(n=900)
    target = X @ np.arange(1.0, 7.0) + np.random.default_rng(0).standard_t(2, size=900)
    grid = {"epsilon": [1.2, 1.35, 2.0], "alpha": [1e-4, 10.0]}
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        found = GridSearchCV(HuberRegressor(tol=1e-8), grid, cv=4).fit(counting_array(X, (97, -1), reads), target)
    alone = HuberRegressor(tol=1e-8, **found.best_params_).fit(lazy(X), target)
    assert found.search_plan_.n_batches == 1
    assert len(reads) == 10 * found.n_sweeps_
    assert found.n_sweeps_ <= 2.5 * alone.n_sweeps_
    expected = theirs.GridSearchCV(reference.HuberRegressor(tol=1e-10, max_iter=2000), grid, cv=4).fit(X, target)
    same_scores(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.best_estimator_.coef_, alone.coef_, rtol=0, atol=1e-7)
    assert found.best_estimator_.scale_ == pytest.approx(alone.scale_, rel=1e-7)


def test_balanced_machines_of_several_classes_are_fitted_one_after_the_other():
    X, y = three_classes(n=300)
    search = GridSearchCV(LinearSVC(class_weight="balanced"), {"C": [1.0]}, cv=3).fit(lazy(X), y)
    assert "another way on every split" in search.search_plan_.reason


def test_a_machine_without_probabilities_has_no_log_loss():
    X, y = two_classes(n=300)
    with pytest.warns(UserWarning, match="Scoring failed"):
        found = GridSearchCV(LinearSVC(), {"C": [1.0]}, scoring="neg_log_loss", cv=2, refit=False).fit(lazy(X), y)
    assert np.isnan(found.cv_results_["mean_test_score"]).all()


def test_poisson_regression_is_scored_by_its_deviance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 4))
    y = rng.poisson(np.exp(X @ [0.3, -0.2, 0.5, 0.0] + 0.4))
    grid = {"alpha": [1e-4, 0.1, 1.0]}
    expected = theirs.GridSearchCV(
        reference.PoissonRegressor(tol=1e-10, max_iter=1000, solver="newton-cholesky"), grid
    ).fit(X, y)
    found = GridSearchCV(PoissonRegressor(tol=1e-10), grid).fit(lazy(X), lazy(y))
    same_scores(found, expected, rtol=1e-7)
    options = {"scoring": ["neg_mean_poisson_deviance", "neg_mean_absolute_error"], "refit": False}
    found = GridSearchCV(PoissonRegressor(tol=1e-10), grid, **options).fit(lazy(X), lazy(y))
    expected = theirs.GridSearchCV(
        reference.PoissonRegressor(tol=1e-10, max_iter=1000, solver="newton-cholesky"), grid, **options
    ).fit(X, y)
    for name in options["scoring"]:
        key = f"mean_test_{name}"
        np.testing.assert_allclose(found.cv_results_[key], expected.cv_results_[key], rtol=1e-7)


@pytest.mark.parametrize("scaler", [StandardScaler(), preprocessing.StandardScaler(), StandardScaler(with_mean=False)])
@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs"])
def test_a_scaler_is_part_of_the_model_and_fitted_on_each_splits_training_rows(scaler, solver):
    X, y = datasets.load_breast_cancer(return_X_y=True)
    ours_ = pipeline.make_pipeline(scaler, LogisticRegression(tol=1e-8, solver=solver, max_iter=2000))
    with_mean = scaler.with_mean
    other = pipeline.make_pipeline(
        preprocessing.StandardScaler(with_mean=with_mean), reference.LogisticRegression(**EXACT)
    )
    grid = {"logisticregression__C": [0.01, 1.0]}
    options = {"scoring": "neg_log_loss", "cv": theirs.KFold(4, shuffle=True, random_state=2)}
    expected = theirs.GridSearchCV(other, grid, **options).fit(X, y)
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        found = GridSearchCV(ours_, grid, **options).fit(counting_array(X, (100, -1), reads), y)
    same_scores(found, expected, rtol=1e-5)
    assert len(reads) == 6 * found.n_sweeps_
    np.testing.assert_allclose(found.best_estimator_[0].scale_, expected.best_estimator_[0].scale_, rtol=1e-9)
    np.testing.assert_allclose(found.best_estimator_[1].coef_, expected.best_estimator_[1].coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def test_a_scaler_in_front_of_least_squares():
    X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    for fit_intercept in (True, False):
        found = GridSearchCV(
            pipeline.make_pipeline(StandardScaler(), Ridge(fit_intercept=fit_intercept)), {"ridge__alpha": [0.1, 100.0]}
        ).fit(lazy(X), y)
        expected = theirs.GridSearchCV(
            pipeline.make_pipeline(preprocessing.StandardScaler(), reference.Ridge(fit_intercept=fit_intercept)),
            {"ridge__alpha": [0.1, 100.0]},
        ).fit(X, y)
        same_scores(found, expected)
        assert found.n_sweeps_ == 2


def models_and_models_alone(model, settings, X, y, cv, chunk):
    """Pairs of coefficients: in a batch, and of a fit of a split's training rows."""
    request = Request(model, settings, lazy(X, chunk), y, cv=cv, scorers={"score": None})
    found = run(request)
    assert found.plan.n_batches == 1
    for setting, models in zip(settings, found.models, strict=True):
        for (train, _), batched in zip(cv.split(X, y), models, strict=True):
            alone = clone(model).set_params(**setting).fit(lazy(X[train], chunk), y[train])
            yield tuple(np.append(np.ravel(m.coef_), np.ravel(m.intercept_)) for m in (batched, alone))


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (LogisticRegression(), {"C": CS}),
        (LogisticRegression(solver="newton"), {"C": CS}),
        (LogisticRegression(solver="lbfgs"), {"C": CS, "class_weight": [None, "balanced", {0: 1.0, 1: 7.0}]}),
        (LogisticRegression(solver="gradient_descent", max_iter=30), {"C": CS, "l1_ratio": [0.0, 0.5]}),
        (LogisticRegression(solver="proximal"), {"C": CS, "l1_ratio": [0.0, 0.5], "fit_intercept": [True, False]}),
        (LinearSVC(), {"C": CS, "intercept_scaling": [None, 1.0]}),
        (LinearSVC(penalty="l1", solver="proximal"), {"C": CS, "class_weight": [None, "balanced"]}),
        (LinearSVR(loss="squared_epsilon_insensitive", solver="newton"), {"C": CS, "epsilon": [0.0, 0.3]}),
        (PoissonRegressor(solver="lbfgs"), {"alpha": [1e-3, 1.0]}),
        (Ridge(), {"alpha": [1e-3, 100.0], "fit_intercept": [True, False]}),
        (Lasso(), {"alpha": [1e-3, 0.1]}),
        (HuberRegressor(), {"alpha": [1e-4, 1.0], "epsilon": [1.1, 2.0], "fit_intercept": [True, False]}),
        (HuberRegressor(solver="lbfgs"), {"epsilon": [1.35, 2.0]}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_in_a_batch_is_the_model_that_its_rows_give_alone(model, grid):
    X, y = two_classes(n=3000)
    X = X * np.linspace(0.3, 3, X.shape[1])
    # Folds of unlike rows: what a model knows of features and classes must be of its own training rows.
    order = np.argsort(X[:, 0] + np.random.default_rng(0).normal(size=len(X)))
    X, y = X[order], y[order]
    for batched, alone in models_and_models_alone(model, list(theirs.ParameterGrid(grid)), X, y, theirs.KFold(3), 400):
        np.testing.assert_allclose(batched, alone, rtol=0, atol=1e-10 * np.abs(alone).max())


@pytest.fixture(scope="module")
def larger():
    """More rows than the default solver's sample."""
    return two_classes(n=120_000, d=5)


def test_beyond_the_sample_a_hundred_models_take_few_sweeps_and_are_the_models_of_fits_alone(larger):
    X, y = larger
    Cs = np.logspace(-4, 4, 20)
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        search = GridSearchCV(LogisticRegression(tol=1e-9), {"C": Cs}, scoring="neg_log_loss")
        search.fit(counting_array(X, (8000, -1), reads), y)
    assert len(reads) == 15 * search.n_sweeps_
    assert search.n_sweeps_ <= 12
    for C in (Cs[0], Cs[10]):
        for i, (train, test) in enumerate(theirs.StratifiedKFold(5).split(X, y)):
            alone = reference.LogisticRegression(C=C, **EXACT).fit(X[train], y[train])
            p = alone.predict_proba(X[test])[np.arange(len(test)), y[test]]
            score = search.cv_results_[f"split{i}_test_score"][list(Cs).index(C)]
            np.testing.assert_allclose(score, np.log(p).mean(), rtol=1e-9)
    alone = reference.LogisticRegression(**search.best_params_, **EXACT).fit(X, y)
    np.testing.assert_allclose(search.best_estimator_.coef_, alone.coef_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (LogisticRegression(), {"C": [1e-3, 1.0, 1.1, 1e4]}),
        (LogisticRegression(l1_ratio=0.5), {"C": [1e-3, 1.0]}),
        (LogisticRegression(), {"C": [0.1], "class_weight": ["balanced", {0: 1.0, 1: 5.0}]}),
        (LogisticRegression(), {"C": [1e-3, 10.0], "fit_intercept": [True, False]}),
        (LinearSVC(), {"C": [1e-3, 1.0]}),
        (PoissonRegressor(), {"alpha": [1e-2, 1e-1]}),
    ],
    ids=str,
)
def test_beyond_the_sample_a_model_is_the_model_alone_to_ten_digits(larger, model, grid):
    X, y = larger
    for batched, alone in models_and_models_alone(model, list(theirs.ParameterGrid(grid)), X, y, theirs.KFold(3), 8000):
        np.testing.assert_allclose(batched, alone, rtol=0, atol=1e-10 * np.abs(alone).max())


def test_in_single_precision_a_model_is_the_model_alone_to_what_its_kernels_see(larger):
    X, y = larger
    settings, cv = [{"C": C} for C in (1e-3, 1.0, 1.1)], theirs.KFold(3)
    for batched, alone in models_and_models_alone(LogisticRegression(), settings, X.astype("f4"), y, cv, 8000):
        np.testing.assert_allclose(batched, alone, rtol=0, atol=2e-6 * np.abs(alone).max())


def test_more_cells_than_gradients_are_shared_by_and_a_scaler_change_nothing(larger, monkeypatch):
    from daskml_core.model_selection import _batch

    X, y = larger
    X = X * [100, 1, 1e-2, 3, 1] + 5
    model = pipeline.make_pipeline(StandardScaler(), LogisticRegression())
    options = {"cv": theirs.KFold(3), "return_estimator": True}
    shared = ours.cross_validate(model, lazy(X, 8000), y, **options)["estimator"]
    monkeypatch.setattr(_batch, "MAX_SHARED_CELLS", 2)
    apart = ours.cross_validate(model, lazy(X, 8000), y, **options)["estimator"]
    for a, b, (train, _) in zip(shared, apart, theirs.KFold(3).split(X), strict=True):
        alone = clone(model).fit(lazy(X[train], 8000), y[train])
        for found in (a, b):
            np.testing.assert_allclose(found[-1].coef_, alone[-1].coef_, rtol=0, atol=1e-10)


def test_penalties_that_the_tolerance_cannot_tell_apart_share_their_sweeps(larger):
    X, y = larger
    Cs = np.logspace(0, 6, 30)
    for dtype, widest in (("f4", 9), ("f8", 90)):
        x = X.astype(dtype)
        request = Request(
            LogisticRegression(), [{"C": C} for C in Cs], lazy(x, 8000), y, cv=theirs.KFold(3), scorers={}
        )
        batch = BatchRun(request, prepare(request), make_folds(request.cv, x, y, None, classifier=True))
        sweeps, evaluate = [], batch.engine.sweep
        batch.engine.sweep = lambda *asked, s=sweeps, e=evaluate: s.append(asked) or e(*asked)
        found = batch.run()
        widths = [asked[0].params.W.shape[1] for asked in sweeps if hasattr(asked[0].params, "W")]
        # Three penalties of three folds lead 90 models; those who need ten digits look once more for themselves.
        assert max(widths) <= widest
        assert sum(width > 9 for width in widths) <= 2
        for k, (train, _) in enumerate(theirs.KFold(3).split(x)):
            assert len({found.models[i][k].coef_.tobytes() for i in range(30)}) == 30
            for i in (0, 4, 29):
                alone = LogisticRegression(C=Cs[i], solver="newton", tol=1e-12).fit(x[train].astype("f8"), y[train])
                assert found.models[i][k].converged_
                accuracy = 2e-6 if dtype == "f4" else 1e-10
                np.testing.assert_allclose(found.models[i][k].coef_, alone.coef_, rtol=0, atol=accuracy)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_penalties_that_are_alike_behind_a_scaler_and_with_class_weights(larger, class_weight):
    X, y = larger
    X = X * [100, 1, 1e-2, 3, 1] + 5
    names = {"logisticregression__C": [10.0, 20.0, 1e3]}
    options = {"cv": theirs.KFold(3), "scoring": "neg_log_loss", "refit": lambda results: 2}
    found = pipeline.make_pipeline(StandardScaler(), LogisticRegression(tol=1e-5, class_weight=class_weight))
    exact = reference.LogisticRegression(**EXACT, class_weight=class_weight)
    found = GridSearchCV(found, names, **options).fit(lazy(X, 8000), y)
    expected = pipeline.make_pipeline(preprocessing.StandardScaler(), exact)
    expected = theirs.GridSearchCV(expected, names, **options).fit(X, y)
    same_scores(found, expected, rtol=0, atol=1e-5)
    for a, b in zip(found.best_estimator_, expected.best_estimator_, strict=True):
        if hasattr(a, "coef_"):
            np.testing.assert_allclose(a.coef_, b.coef_, atol=1e-3)
    assert found.best_estimator_[-1].get_params()["C"] == 1e3


def test_with_the_default_tolerance_a_search_is_a_few_fits(larger):
    X, y = larger
    model = LogisticRegression().fit(lazy(X, 8000), y)
    search = GridSearchCV(LogisticRegression(), {"C": np.logspace(-4, 4, 20)}).fit(lazy(X, 8000), y)
    assert search.n_sweeps_ <= model.n_sweeps_ + 4


@pytest.mark.parametrize("options", [{"l1_ratio": 1.0}, {"class_weight": "balanced"}])
def test_beyond_the_sample_other_penalties_and_weights_too(larger, options):
    X, y = larger
    rows = np.random.default_rng(0).permutation(len(X))
    X, y = X[rows], y[rows]
    search = GridSearchCV(LogisticRegression(tol=1e-8, **options), {"C": [1e-3, 1.0]}, cv=2, scoring="neg_log_loss")
    search.fit(lazy(X, 8000), y)
    for j, C in enumerate([1e-3, 1.0]):
        train, test = next(theirs.StratifiedKFold(2).split(X, y))
        alone = LogisticRegression(C=C, tol=1e-10, solver="proximal" if "l1_ratio" in options else "newton", **options)
        p = alone.fit(X[train], y[train]).predict_proba(X[test])[np.arange(len(test)), y[test]]
        np.testing.assert_allclose(search.cv_results_["split0_test_score"][j], np.log(p).mean(), rtol=1e-7)


def test_beyond_the_sample_scaled_features_of_any_unit(larger):
    X, y = larger
    far = X * [1e3, 1, 1e-3, 1, 50] + [1e5, 0, 1e-2, 3, -7]
    grid = {"logisticregression__C": [1e-3, 1.0]}
    model = pipeline.make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8))
    search = GridSearchCV(model, grid, cv=3, scoring="neg_log_loss").fit(lazy(far, 8000), y)
    other = pipeline.make_pipeline(preprocessing.StandardScaler(), reference.LogisticRegression(**EXACT))
    expected = theirs.GridSearchCV(other, grid, cv=3, scoring="neg_log_loss").fit(far, y)
    same_scores(search, expected, rtol=1e-8, atol=1e-8)


def test_a_category_that_some_training_rows_lack(larger):
    X, y = larger
    # Runs of rows are of one category each: a fold's training rows lack some, and their coefficients are the penalty's.
    category = np.repeat(np.arange(10), len(X) // 10)
    X = np.column_stack([X, np.eye(10)[category]])
    grid = {"C": [1e-4, 1e-2]}
    cv = theirs.KFold(5)
    exact = reference.LogisticRegression(**EXACT)
    expected = theirs.GridSearchCV(exact, grid, cv=cv, scoring="neg_log_loss").fit(X, y)
    found = GridSearchCV(LogisticRegression(tol=1e-10), grid, cv=cv, scoring="neg_log_loss").fit(lazy(X, 8000), y)
    same_scores(found, expected, rtol=1e-6, atol=1e-6)
    assert found.n_sweeps_ <= 16


def test_time_series_train_on_the_past_alone(larger):
    X, y = larger
    cv = theirs.TimeSeriesSplit(3, gap=100)
    found = cross_val_score(LogisticRegression(tol=1e-8), lazy(X, 8000), y, cv=cv, scoring="neg_log_loss")
    expected = theirs.cross_val_score(reference.LogisticRegression(**EXACT), X, y, cv=cv, scoring="neg_log_loss")
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_float32_scores_differ_by_rounding_alone():
    X, y = two_classes(n=120_000, d=5, dtype=np.float32)
    grid = {"C": np.logspace(-3, 1, 4)}
    found = GridSearchCV(LogisticRegression(tol=1e-6), grid, cv=3, scoring="neg_log_loss").fit(lazy(X, 8000), y)
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), grid, cv=3, scoring="neg_log_loss").fit(
        X.astype(float), y
    )
    # Predictors in float32: 1e-7 a row, less in the mean.
    same_scores(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunk", [1, 13, 200])
def test_any_chunking_gives_the_same_scores(chunk):
    X, y = two_classes(n=200)
    expected = GridSearchCV(LogisticRegression(tol=1e-10), {"C": CS}, cv=3, scoring="neg_log_loss").fit(X, y)
    found = GridSearchCV(LogisticRegression(tol=1e-10), {"C": CS}, cv=3, scoring="neg_log_loss")
    same_scores(found.fit(lazy(X, chunk), lazy(y, 31)), expected, rtol=1e-9)


def test_sorted_labels_and_groups():
    X, y = two_classes(n=600)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    groups = np.random.default_rng(0).integers(0, 12, size=600)
    options = {"cv": theirs.GroupKFold(4), "scoring": "accuracy"}
    found = GridSearchCV(LogisticRegression(tol=1e-9), {"C": CS}, **options).fit(lazy(X), lazy(y), groups=lazy(groups))
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), {"C": CS}, **options).fit(X, y, groups=groups)
    same_scores(found, expected)


def test_the_same_bits_with_any_number_of_threads(larger):
    X, y = larger
    coefs = []
    for n in (1, 2):
        with dask.config.set({"num_workers": n, "scheduler": "threads"}):
            search = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(lazy(X, 8000), y)
        coefs.append(search.best_estimator_.coef_.tobytes() + search.cv_results_["mean_test_score"].tobytes())
    assert coefs[0] == coefs[1]


def test_the_same_bits_on_a_cluster(larger):
    X, y = larger
    cv = ours.KFold(3, shuffle=True, random_state=0)
    alone = GridSearchCV(LogisticRegression(), {"C": CS}, cv=cv, scoring="roc_auc").fit(lazy(X, 8000), y)
    with LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster, Client(cluster):
        found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=cv, scoring="roc_auc").fit(lazy(X, 8000), y)
    assert found.best_estimator_.coef_.tobytes() == alone.best_estimator_.coef_.tobytes()
    assert found.cv_results_["mean_test_score"].tobytes() == alone.cv_results_["mean_test_score"].tobytes()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_batch_that_does_not_fit_is_split_into_as_few_as_possible(same_base):
    n, d = 60_000, 60
    X = da.random.default_rng(0).normal(size=(n, d), chunks=(2000, d)).astype("f4")
    y = (X[:, 0] > 0).compute()
    model = LogisticRegression(solver="lbfgs", max_iter=2)
    grid = {"C": np.logspace(-3, 3, 400)}
    whole = GridSearchCV(model, grid, cv=2)
    assert whole.plan(X, y).n_batches == 1
    free = whole.plan(X, y).engine
    base = free.projected_peak_bytes - free.resident_bytes
    room = base - same_base
    counts = []
    for part in (0.8, 0.4):
        with dask.config.set({"daskml-core.memory-limit": int(same_base + part * room), "num_workers": 1}):
            counts.append(GridSearchCV(model, grid, cv=2).plan(X, y).n_batches)
    assert 1 <= counts[0] <= counts[1]
    assert 1 < counts[1] < 400
    with dask.config.set({"daskml-core.memory-limit": "1 MiB"}), pytest.raises(MemoryPlanError):
        GridSearchCV(model, grid, cv=2).plan(X, y)


def test_batches_give_the_scores_of_one_batch(monkeypatch):
    from daskml_core.model_selection import _run

    X, y = two_classes(n=600)
    whole = GridSearchCV(LogisticRegression(tol=1e-10), {"C": CS}, cv=3, scoring="neg_log_loss").fit(X, y)
    fits = _run._fits
    monkeypatch.setattr(
        _run, "_fits", lambda batch, jobs, scoring: fits(batch, jobs, scoring) if len(jobs) <= 6 else None
    )
    parts = GridSearchCV(LogisticRegression(tol=1e-10), {"C": CS}, cv=3, scoring="neg_log_loss").fit(X, y)
    assert parts.search_plan_.n_batches == 3
    same_scores(parts, whole)


# -- what is not a batch ---------------------------------------------------------------------------------------------


def test_any_other_estimator_is_fitted_one_after_the_other_and_the_plan_says_so(capsys):
    X, y = breast_cancer()
    grid = {"max_depth": [1, 3, None]}
    options = {"scoring": ["accuracy", "roc_auc"], "refit": "roc_auc", "cv": 3, "return_train_score": True}
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, **options, verbose=1)
    plan = search.plan(lazy(X), y)
    assert plan.n_batches == 0
    found = search.fit(lazy(X), lazy(y))
    assert "one after the other: DecisionTreeClassifier does not know lockstep" in capsys.readouterr().out
    assert found.n_sweeps_ is None
    same_scores(found, theirs.GridSearchCV(DecisionTreeClassifier(random_state=0), grid, **options).fit(X, y))


@pytest.mark.parametrize(
    ("model", "params", "reason"),
    [
        (pipeline.make_pipeline(StandardScaler(), HuberRegressor()), {}, "not part of HuberRegressor's objective"),
        (LinearSVC(loss="hinge"), {}, "each machine's own margin"),
        (pipeline.make_pipeline(preprocessing.MinMaxScaler(), Ridge()), {}, "only a StandardScaler"),
        (LogisticRegression(solver="sgd", max_iter=3, tol=1e-3), {}, "order of its own"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_reasons_not_to_be_a_batch(model, params, reason):
    X, y = two_classes(n=300)
    search = GridSearchCV(model, {}, cv=3).fit(lazy(X), y, **params)
    assert reason in search.search_plan_.reason
    assert np.isfinite(search.best_score_)


def test_a_class_missing_from_training_rows_is_left_to_fits_one_after_the_other():
    X, y = three_classes(n=300)
    y[:] = np.where(np.arange(300) < 100, "ash", np.where(np.arange(300) % 2, "birch", "cedar"))
    found = GridSearchCV(LogisticRegression(tol=1e-8), {"C": [1.0]}, cv=theirs.KFold(3)).fit(lazy(X), y)
    assert "no row of class 'ash'" in found.search_plan_.reason
    expected = theirs.GridSearchCV(reference.LogisticRegression(**EXACT), {"C": [1.0]}, cv=theirs.KFold(3)).fit(X, y)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


def test_fits_that_fail_get_the_error_score():
    X, y = two_classes(n=300)
    grid = {"max_depth": [2, -1]}
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
        search = GridSearchCV(DecisionTreeClassifier(), grid, cv=3).fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert search.best_params_ == {"max_depth": 2}
    with pytest.raises(ValueError, match="max_depth"):
        GridSearchCV(DecisionTreeClassifier(), grid, cv=3, error_score="raise").fit(X, y)
    with pytest.raises(ValueError, match="error_score must be"):
        GridSearchCV(DecisionTreeClassifier(), grid, cv=3, error_score="rise").fit(X, y)


def test_a_callable_scorer_scores_lazily_selected_rows_of_a_batch():
    X, y = two_classes(n=300)

    def scorer(model, X, y):
        assert isinstance(X, da.Array)
        return float((model.predict(X) == y).mean().compute())

    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3, scoring={"own": scorer, "a": "accuracy"}, refit="a")
    found.fit(lazy(X), lazy(y))
    assert found.search_plan_.n_batches == 1
    np.testing.assert_allclose(found.cv_results_["mean_test_own"], found.cv_results_["mean_test_a"])


# -- the interface ---------------------------------------------------------------------------------------------------


def test_refit_may_be_off_or_a_choice_of_the_users():
    X, y = two_classes(n=300)
    off = GridSearchCV(LogisticRegression(), {"C": CS}, refit=False).fit(X, y)
    assert off.best_index_ == int(off.cv_results_["rank_test_score"].argmin())
    assert not hasattr(off, "best_estimator_")
    last = GridSearchCV(LogisticRegression(), {"C": CS}, refit=lambda results: len(results["params"]) - 1).fit(X, y)
    assert last.best_params_ == {"C": CS[-1]}
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        GridSearchCV(LogisticRegression(), {"C": CS}, scoring=["accuracy", "f1"]).fit(X, y)


def test_randomized_search_draws_scikit_learns_settings():
    X, y = datasets.load_diabetes(return_X_y=True)
    options = {"param_distributions": {"alpha": loguniform(1e-4, 1e2)}, "n_iter": 7, "random_state": 5}
    found = RandomizedSearchCV(Ridge(), **options).fit(lazy(X), y)
    same_scores(found, theirs.RandomizedSearchCV(reference.Ridge(), **options).fit(X, y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_jobs": 2}, "no effect"),
        ({"scoring": "no such metric"}, "no such metric"),
        ({"scoring": ["accuracy", "accuracy"]}, "Duplicate"),
        ({"param_grid": {"C": [-1.0]}}, "C must be a positive"),
        ({"cv": "five"}, "Expected `cv`"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    X, y = two_classes(n=100)
    with pytest.raises(ValueError, match=message):
        GridSearchCV(LogisticRegression(), **({"param_grid": {"C": CS}} | options)).fit(X, y)


def test_missing_values_are_refused_naming_the_row():
    X, y = two_classes(n=300)
    X[251, 2] = np.nan
    with pytest.raises(ValueError, match="block 2, row 251"):
        GridSearchCV(LogisticRegression(), {"C": CS}).fit(lazy(X), y)


def test_one_warning_tells_of_all_models_that_did_not_converge():
    X, y = two_classes(n=300)
    with pytest.warns(ConvergenceWarning) as caught:
        GridSearchCV(LogisticRegression(solver="lbfgs", max_iter=1), {"C": CS}, cv=3, refit=False).fit(X, y)
    assert [str(w.message)[:22] for w in caught] == ["18 of 18 models of Log"]


def test_frames_and_grids_keep_their_names():
    X, y = two_classes(n=300)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    assert list(GridSearchCV(LogisticRegression(), {"C": CS}).fit(frame, y).feature_names_in_) == list("abcdef")
    tables = dd.from_pandas(frame, npartitions=3), dd.from_pandas(pd.Series(y), npartitions=3)
    for model, known in ((LogisticRegression(), {"C": CS}), (HuberRegressor(), {"alpha": [1e-4, 1e-2]})):
        search = GridSearchCV(model, known, cv=3).fit(*tables)
        np.testing.assert_allclose(search.best_score_, GridSearchCV(model, known, cv=3).fit(frame, y).best_score_)
        assert list(search.feature_names_in_) == list("abcdef")
    grid = xr.DataArray(X, dims=["time", "band"], coords={"band": list("abcdef"), "time": np.arange(300)})
    search = GridSearchCV(LogisticRegression(), {"C": CS}, cv=ours.TimeSeriesSplit(3, coord="time"))
    assert list(search.fit(grid.chunk(time=40), y).predict(grid).dims) == ["time"]


def test_cross_validate_gives_what_scikit_learns_gives():
    X, y = breast_cancer()
    options = {
        "cv": 4,
        "scoring": ["accuracy", "roc_auc"],
        "return_train_score": True,
        "return_estimator": True,
        "return_indices": True,
    }
    found = ours.cross_validate(LogisticRegression(tol=1e-10), lazy(X), lazy(y), **options)
    expected = theirs.cross_validate(reference.LogisticRegression(**EXACT), X, y, **options)
    assert set(found) == set(expected)
    for key, value in expected.items():
        if "test_" in key or "train_" in key:
            np.testing.assert_allclose(found[key], value, rtol=1e-9)
    for a, b in zip(found["estimator"], expected["estimator"], strict=True):
        np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-6)
    for side in ("train", "test"):
        for a, b in zip(found["indices"][side], expected["indices"][side], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
@pytest.mark.parametrize("scaled", [False, True])
def test_out_of_fold_predictions_stay_lazy(method, scaled):
    X, y = three_classes(n=400)
    model, other = LogisticRegression(tol=1e-10), reference.LogisticRegression(**EXACT)
    if scaled:
        model = pipeline.make_pipeline(StandardScaler(), model)
        other = pipeline.make_pipeline(preprocessing.StandardScaler(), other)
    cv = theirs.KFold(3, shuffle=True, random_state=0)
    found = cross_val_predict(model, lazy(X), y, cv=cv, method=method)
    assert isinstance(found, da.Array)
    expected = theirs.cross_val_predict(other, X, y, cv=cv, method=method)
    if method == "predict":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_out_of_fold_predictions_of_other_estimators_and_of_what_is_no_partition():
    X, y = two_classes(n=300)
    found = cross_val_predict(DecisionTreeClassifier(random_state=0), lazy(X), y, cv=3)
    np.testing.assert_array_equal(found, theirs.cross_val_predict(DecisionTreeClassifier(random_state=0), X, y, cv=3))
    with pytest.raises(ValueError, match="partitions"):
        cross_val_predict(LogisticRegression(), X, y, cv=theirs.ShuffleSplit(3, random_state=0))


def test_the_plan_reads_no_rows():
    X, y = two_classes(n=1000)
    reads = []
    search = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3)
    plan = search.plan(counting_array(X, (100, -1), reads), y)
    assert reads == []
    assert plan.n_models == 18
    text = repr(plan)
    for part in ("18 = 6 settings x 3 splits", "1 batch(es)", "sweeps", "peak a process"):
        assert part in text


def test_nothing_warns_where_all_is_well():
    X, y = two_classes(n=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GridSearchCV(LogisticRegression(), {"C": CS}).fit(lazy(X), y)
