"""What holds for every linear model alike."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from daskml_core.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)

X = np.random.default_rng(0).normal(size=(300, 3))
Y = (X[:, 0] + np.random.default_rng(1).logistic(size=300) > 0).astype(int)

MODELS = [
    LinearRegression(),
    LinearRegression(solver="lbfgs"),
    Ridge(),
    Lasso(0.1),
    ElasticNet(0.1),
    LogisticRegression(),
    PoissonRegressor(),
    HuberRegressor(),
    SGDClassifier(max_iter=5, tol=None),
    SGDRegressor(max_iter=5, tol=None),
]


@pytest.fixture(params=MODELS, ids=str)
def model(request):
    return clone(request.param)


def test_a_plan_leaves_no_trace(model):
    data, before = da.from_array(X, chunks=(90, 2)), dict(vars(model))
    model.plan(data, Y)
    assert vars(model) == before
    with pytest.raises(NotFittedError):
        model.predict(data)
    expected = model.fit(data, Y).predict(X)
    model.plan(data[:, :2], Y)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_a_fit_leaves_the_attributes_that_are_promised(model):
    table = dd.from_pandas(pd.DataFrame(X, columns=list("abc")), npartitions=4)
    model.fit(table, Y)
    assert np.size(model.coef_) == 3
    assert np.size(model.intercept_) == 1
    assert isinstance(model.n_iter_, int)
    assert model.n_sweeps_ > 0
    assert isinstance(model.converged_, bool)
    assert model.n_features_in_ == 3
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert hasattr(model, "classes_") == hasattr(model, "decision_function")
    history = pd.DataFrame(model.history_)
    assert {"loss", "grad_norm", "step", "seconds", "bytes_read"} <= set(history.columns)
    assert np.isfinite(history["loss"].iloc[-1])
    assert history["seconds"].is_monotonic_increasing
