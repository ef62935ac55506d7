"""What is True or False is nothing else: "no" counts as True, and 0 as False, where nobody looks."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone

from daskml_core.model_selection import train_test_split
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from tests.test_sklearn_contract import ESTIMATORS

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def flags():
    """An estimator of each class, and each of its parameters that are True or False by default."""
    for cls, estimator in {type(estimator): estimator for estimator in ESTIMATORS}.items():
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            # scikit-learn's own parameters: refit may be the name of a metric, and its pipeline takes any verbose.
            own = {"refit": "estimator", "verbose": "steps"}.get(name)
            if isinstance(parameter.default, bool) and not (own and hasattr(estimator, own)):
                yield pytest.param(estimator, name, id=f"{cls.__name__}-{name}")


@pytest.mark.parametrize("value", ["no", 2.5, None])
@pytest.mark.parametrize(("estimator", "name"), list(flags()))
def test_a_flag_that_is_neither_true_nor_false_is_refused(estimator, name, value):
    if name == "average" and value == 2.5:
        value = -1  # a number there is the update from which on weights are averaged
    with pytest.raises(ValueError, match=name):
        clone(estimator).set_params(**{name: value}).fit(X, Y)


def test_so_are_those_of_folded_scalers_and_of_splits():
    with pytest.raises(ValueError, match="with_std"):
        make_pipeline(StandardScaler(with_std="no"), clone(ESTIMATORS[1])).fit(X, Y)
    with pytest.raises(ValueError, match="shuffle"):
        train_test_split(X, shuffle="no")


def test_numpys_booleans_are_booleans():
    models = [clone(ESTIMATORS[1]).set_params(fit_intercept=v).fit(X, Y) for v in (False, np.False_)]
    np.testing.assert_array_equal(models[0].coef_, models[1].coef_)
