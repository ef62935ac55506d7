"""Searches by early stopping: the race by hand, the reads, and estimators of this library and of scikit-learn."""

import dask
import dask.array as da
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn import linear_model as reference
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from daskml_core.kernels.cells import Drawn
from daskml_core.linear_model import SGDClassifier, SGDRegressor
from daskml_core.model_selection import HalvingGridSearchCV, HyperbandSearchCV
from daskml_core.model_selection._halving import _rungs
from tests.problems import two_classes
from tests.test_engine import counting_array


def lazy(a, chunk=100):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


def test_rungs_spend_what_is_there():
    assert _rungs(9, 1, 9, 3) == [(1, 3), (3, 1)]
    assert _rungs(27, 3, 81, 3) == [(3, 9), (9, 3), (27, 1)]
    assert _rungs(5, 81, 81, 3) == [(81, 1)]


def test_a_race_is_what_training_by_hand_gives():
    X, y = two_classes(n=1000)
    grid = {"alpha": [1e-4, 1e-1, 30.0]}
    search = HalvingGridSearchCV(
        reference.SGDClassifier(random_state=0), grid, factor=3, max_resources=9, random_state=4
    )
    search.fit(lazy(X), lazy(y))
    held = Drawn(1000, 5, 4)(0, 1000) == 0
    assert abs(held.mean() - 0.2) < 0.001
    model = reference.SGDClassifier(random_state=0, **search.best_params_)
    for call in range(search.cv_results_["partial_fit_calls"][search.best_index_]):
        block = np.random.default_rng([4, 5, call // 10]).permutation(10)[call % 10]
        rows = np.arange(block * 100, block * 100 + 100)
        rows = rows[~held[rows]]
        model.partial_fit(X[rows], y[rows], classes=[0, 1])
    np.testing.assert_array_equal(search.best_estimator_.coef_, model.coef_)
    assert search.best_score_ == model.score(X[held], y[held])


def test_a_block_is_read_once_for_all_models_of_a_chain():
    X, y = two_classes(n=1000)
    reads = []
    with dask.config.set({"daskml-core.residency": False, "num_workers": 1, "scheduler": "threads"}):
        search = HalvingGridSearchCV(GaussianNB(), {"var_smoothing": np.logspace(-9, 0, 9)}, max_resources=9)
        search.fit(counting_array(X, (100, -1), reads), y)
    # One block a call, and a sweep for the scores of each of two rungs.
    assert len(reads) == 3 + 2 * 10
    assert search.n_sweeps_ == pytest.approx(2.3)
    assert sorted(search.cv_results_["partial_fit_calls"]) == [1] * 6 + [3] * 3


def test_hyperband_races_all_brackets_and_does_not_depend_on_threads():
    X, y = two_classes(n=1000)
    found = []
    for threads in (1, 2):
        with dask.config.set({"num_workers": threads, "scheduler": "threads"}):
            search = HyperbandSearchCV(SGDClassifier(random_state=0), {"alpha": loguniform(1e-5, 1e2)}, max_iter=9)
            search.fit(lazy(X), lazy(y))
        found.append(
            (search.best_index_, search.cv_results_["test_score"].tobytes(), search.best_estimator_.coef_.tobytes())
        )
    assert found[0] == found[1]
    assert np.bincount(search.cv_results_["bracket"]).tolist() == [9, 5, 3]
    assert search.cv_results_["partial_fit_calls"].max() == 9
    assert search.best_score_ > 0.7
    assert search.predict(lazy(X)).shape == (1000,)
    assert search.score(lazy(X), y) > 0.7


def test_regressors_are_scored_by_their_errors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=2000)
    for scoring in (None, "neg_mean_squared_error", "neg_mean_absolute_error"):
        search = HalvingGridSearchCV(SGDRegressor(random_state=0), {"alpha": [1e-4, 10.0]}, factor=2, scoring=scoring)
        assert search.fit(lazy(X), lazy(y)).best_params_ == {"alpha": 1e-4}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (HalvingGridSearchCV(DecisionTreeClassifier(), {}), "no partial_fit"),
        (HalvingGridSearchCV(SGDClassifier(), {}, scoring="roc_auc"), "scoring must be"),
        (HalvingGridSearchCV(SGDClassifier(), {}, test_size=2), "test_size"),
        (HalvingGridSearchCV(SGDClassifier(), {}, factor=1), "factor"),
        (HalvingGridSearchCV(SGDClassifier(), {}, min_resources=99), "min_resources"),
        (HalvingGridSearchCV(SGDClassifier(), {}, max_resources=2.5), "max_resources must be a positive integer"),
        (HyperbandSearchCV(SGDClassifier(), {"alpha": [1]}, max_iter=2.5), "max_iter must be a positive integer"),
        (HyperbandSearchCV(SGDClassifier(), {"alpha": [1]}, aggressiveness=1), "aggressiveness"),
    ],
)
def test_what_makes_no_sense_is_refused(search, message):
    X, y = two_classes(n=300)
    with pytest.raises(ValueError, match=message):
        search.fit(lazy(X), y)
