"""A scaler that is part of the model: the same model as scaling first, for fewer sweeps and no copy."""

import dask
import numpy as np
import pytest
from sklearn import datasets, preprocessing
from sklearn import pipeline as reference

from daskml_core.linear_model import (
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from daskml_core.pipeline import Pipeline, make_pipeline
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from tests.problems import two_classes
from tests.test_engine import counting_array

X, Y = datasets.load_diabetes(return_X_y=True, scaled=False)


@pytest.mark.parametrize("scaler", [StandardScaler(), StandardScaler(with_std=False), preprocessing.StandardScaler()])
@pytest.mark.parametrize(
    "model",
    [
        Ridge(50.0),
        Ridge(50.0, fit_intercept=False),
        Lasso(1.0, tol=1e-9),
        LinearRegression(),
        PoissonRegressor(tol=1e-9),
        LogisticRegression(C=0.1, tol=1e-9),
        LogisticRegression(C=0.1, tol=1e-9, fit_intercept=False),
        LogisticRegression(C=0.1, tol=1e-9, l1_ratio=1.0),
        LogisticRegression(C=0.1, tol=1e-8, solver="lbfgs", max_iter=2000),
    ],
    ids=str,
)
def test_folding_the_scaler_into_the_model_gives_the_model_of_scaled_rows(scaler, model):
    y = (Y > 140).astype(int) if isinstance(model, LogisticRegression) else np.floor(Y / 20)
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        found = make_pipeline(scaler, model).fit(counting_array(X, (100, -1), reads), y)
    expected = reference.make_pipeline(scaler, model).fit(X, y)
    assert len(reads) == 5 * found[-1].n_sweeps_
    np.testing.assert_allclose(found[0].mean_, expected[0].mean_, rtol=1e-10)
    np.testing.assert_allclose(found[-1].coef_, expected[-1].coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[-1].intercept_, expected[-1].intercept_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-5)
    np.testing.assert_allclose(found.score(X, y), expected.score(X, y), rtol=1e-6)


def test_beyond_the_sample_too_with_features_of_any_unit():
    x, y = two_classes(n=120_000, d=5)
    far = x * [1e4, 1, 1e-4, 3, 1] + [3e4, 0, 1e-3, -5, 100]
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        found = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8)).fit(
            counting_array(far, (8000, -1), reads), y
        )
    assert len(reads) == 15 * found[-1].n_sweeps_
    assert found[-1].n_sweeps_ <= 6
    expected = reference.make_pipeline(preprocessing.StandardScaler(), LogisticRegression(tol=1e-10, solver="newton"))
    np.testing.assert_allclose(found[-1].coef_, expected.fit(far, y)[-1].coef_, rtol=1e-6)
    assert len(found[-1].history_) > 1


@pytest.mark.parametrize(
    "steps",
    [(MinMaxScaler(), Ridge()), (StandardScaler(), HuberRegressor()), (StandardScaler(), StandardScaler(), Ridge())],
)
def test_any_other_pipeline_is_scikit_learns(steps):
    found, expected = make_pipeline(*steps).fit(X, Y), reference.make_pipeline(*steps).fit(X, Y)
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-9)


def test_parameters_go_to_the_model():
    w = np.random.default_rng(0).random(len(Y))
    found = Pipeline([("scale", StandardScaler()), ("ridge", Ridge(5.0))]).fit(X, Y, ridge__sample_weight=w)
    expected = reference.Pipeline([("scale", preprocessing.StandardScaler()), ("ridge", Ridge(5.0))])
    np.testing.assert_allclose(found[-1].coef_, expected.fit(X, Y, ridge__sample_weight=w)[-1].coef_, rtol=1e-9)
