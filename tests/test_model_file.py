"""Models as files, and as scikit-learn's estimators: the same predictions, and no code on the way."""

import pickle
import re
import warnings
import zipfile

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline as sklearn_pipeline

import daskml_core
from daskml_core.cluster import BisectingKMeans, KMeans, KMeansSearch, MiniBatchKMeans
from daskml_core.errors import ModelFileError, UnsupportedDataError
from daskml_core.kernel_approximation import Nystroem, RBFSampler
from daskml_core.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from daskml_core.model_file.members import CLASSES
from daskml_core.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HyperbandSearchCV,
    KFold,
    RandomizedSearchCV,
    TimeSeriesSplit,
)
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from daskml_core.svm import SVC, SVR, LinearSVC, OneClassSVM
from tests.problems import three_classes, two_classes
from tests.test_sklearn_contract import ESTIMATORS

X, Y = two_classes(n=300, d=4)
X3, Y3 = three_classes(n=300)
COMPOSED = [
    make_pipeline(StandardScaler(), LogisticRegression()),
    sklearn_pipeline(MinMaxScaler(clip=True), RBFSampler(n_components=20), Ridge()),
    GridSearchCV(sklearn_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=KFold(2, shuffle=True)),
    RandomizedSearchCV(Ridge(), {"alpha": loguniform(0.1, 10)}, n_iter=2, cv=TimeSeriesSplit(2), random_state=0),
    GridSearchCV(
        LogisticRegression(), [{"C": np.array([0.1, 1.0])}], cv=2, scoring=["accuracy", "roc_auc"], refit="roc_auc"
    ),
    HalvingGridSearchCV(SGDClassifier(), {"alpha": [1e-4, 1e-3]}),
    HyperbandSearchCV(SGDClassifier(), {"alpha": [1e-4, 1e-3]}),
    KMeans(n_clusters=2, init=X[:2]),
    KMeans(n_clusters=2, metric="cosine"),
    BisectingKMeans(n_clusters=1),
    LogisticRegression(class_weight={0: 1.0, 1: 2.5}),
    SGDClassifier(class_weight="balanced", average=True, penalty="elasticnet", max_iter=10),
    LinearSVC(class_weight="balanced"),
    SVC(kernel="poly", degree=2, coef0=1.0),
    SVR(kernel="sigmoid", gamma=0.01),
]
PREDICTIONS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")


def fitted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(model)
        return model.fit(X) if isinstance(model, OneClassSVM) else model.fit(X, Y)


def there_and_back(model, tmp_path):
    daskml_core.save(model, tmp_path / "m.model")
    return daskml_core.load(tmp_path / "m.model")


def predictions(model, data=X):
    return {name: np.asarray(getattr(model, name)(data)) for name in PREDICTIONS if hasattr(model, name)}


def same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), name


def identify(model):
    return " ".join(repr(model).split())[:70]


@pytest.mark.parametrize("model", [*ESTIMATORS, *COMPOSED], ids=identify)
def test_a_saved_model_predicts_the_same_bits(model, tmp_path):
    model = fitted(model)
    back = there_and_back(model, tmp_path)
    assert type(back) is type(model)
    assert re.sub(" at 0x[0-9a-f]+", "", repr(back)) == re.sub(" at 0x[0-9a-f]+", "", repr(model))
    same_bits(predictions(back), predictions(model))
    same_bits(predictions(back, X.astype("f4")), predictions(model, X.astype("f4")))
    if getattr(model, "history_", None):
        pd.testing.assert_frame_equal(pd.DataFrame(back.history_), pd.DataFrame(model.history_))
    if hasattr(model, "cv_results_"):
        pd.testing.assert_frame_equal(pd.DataFrame(back.cv_results_), pd.DataFrame(model.cv_results_))


def test_every_public_estimator_can_be_saved():
    saved = {type(model).__name__ for model in (*ESTIMATORS, *COMPOSED)}
    assert {name.removeprefix("sklearn.") for name in CLASSES} == saved


@pytest.mark.parametrize("model", [LogisticRegression(), SVC(probability=True), SGDClassifier(max_iter=5), LinearSVC()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_and_names_of_any_kind_come_back(model, tmp_path):
    # No lone surrogate: pandas keeps names in Arrow strings where it can, and they hold none.
    table = pd.DataFrame(X3, columns=["a", "b", "ä\0", "d\U0001f332"])
    for labels in (Y3, Y3.astype(object), np.array([3, 7, 9])[np.unique(Y3, return_inverse=True)[1]], Y3 == "ash"):
        model = clone(model).fit(table, labels)
        back = there_and_back(model, tmp_path)
        assert back.classes_.dtype == model.classes_.dtype
        assert list(back.feature_names_in_) == list(table.columns)
        same_bits({"predict": np.asarray(back.predict(table), "U")}, {"predict": np.asarray(model.predict(table), "U")})
        with pytest.raises(ValueError, match="same order"):
            back.predict(table[["b", "a", *table.columns[2:]]])


def test_an_unfitted_model_comes_back_unfitted(tmp_path):
    for model in (
        Ridge(alpha=3.0),
        make_pipeline(StandardScaler(), Ridge()),
        GridSearchCV(Ridge(), {"alpha": range(1, 9)}),
    ):
        back = there_and_back(model, tmp_path)
        assert repr(back) == repr(model)
        with pytest.raises(NotFittedError):
            back.predict(X)


@pytest.mark.parametrize(
    "model", [SGDClassifier(max_iter=3), SGDRegressor(max_iter=3), MiniBatchKMeans(2), StandardScaler()]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_learning_goes_on_where_it_was_saved(model, tmp_path):
    model = clone(model).fit(X, Y)
    back = there_and_back(model, tmp_path)
    for one in (model, back):
        one.partial_fit(X[::-1].copy(), Y[::-1].copy())
    same_bits(predictions(back), predictions(model))


def test_a_warm_start_and_a_new_fit_work_on_what_was_loaded(tmp_path):
    model = LogisticRegression(solver="lbfgs", warm_start=True, max_iter=500).fit(X, Y)
    back = there_and_back(model, tmp_path)
    assert back.fit(X, Y).n_iter_ <= 1
    search = there_and_back(fitted(GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2)), tmp_path)
    assert search.fit(X, Y).best_params_ == search.best_params_


def test_lazy_labels_are_left_out(tmp_path):
    model = KMeans(n_clusters=2).fit(da.from_array(X, chunks=(100, 4)))
    back = there_and_back(model, tmp_path)
    assert not hasattr(back, "labels_")
    same_bits(predictions(back), predictions(model))
    assert (
        there_and_back(KMeans(n_clusters=2).fit(X), tmp_path).labels_.tolist()
        == KMeans(n_clusters=2).fit(X).labels_.tolist()
    )


def test_the_same_model_gives_the_same_file_and_a_file_is_replaced_whole(tmp_path, monkeypatch):
    model = fitted(LogisticRegression())
    for name in ("a", "b"):
        model.save(tmp_path / name)
    held = (tmp_path / "a").read_bytes()
    assert held == (tmp_path / "b").read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == held
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def linear(X, S):
    return X @ S.T


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (SVC(kernel=linear), r"SVC.kernel is a callable \(linear\), and code is not saved"),
        (Nystroem(kernel=linear, n_components=3), r"Nystroem.kernel is a callable"),
        (KMeans(2, init=lambda X, k, random_state: X[:k]), r"KMeans.init is a callable"),
        (GridSearchCV(Ridge(), {"alpha": [1.0]}, scoring=lambda m, X, y: 1.0, cv=2), r"scoring is a callable"),
        (SGDClassifier(random_state=np.random.RandomState(0)), r"random_state is a generator of random numbers"),
        (make_pipeline(StandardScaler(), SVC(kernel=linear)), r"Pipeline.steps\[1\]\[1\].kernel is a callable"),
        (sklearn_pipeline(sklearn.preprocessing.StandardScaler(), Ridge()), r"StandardScaler, which a model file does not"),
        (sklearn.linear_model.Ridge(), r"sklearn.*Ridge cannot be saved: it is no estimator of daskml_core"),
    ],
)  # fmt: skip
def test_what_is_not_saved_is_said_and_nothing_is_written(model, word, tmp_path):
    for one in (model, fitted(model)):
        with pytest.raises(TypeError, match=word):
            daskml_core.save(one, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_an_attribute_of_the_users_own_is_left_out_with_a_warning(tmp_path):
    model = fitted(Ridge())
    model.note = "mine"
    with pytest.warns(UserWarning, match="note of Ridge is not saved"):
        model.save(tmp_path / "m")
    assert not hasattr(daskml_core.load(tmp_path / "m"), "note")


def test_no_byte_of_a_file_can_be_changed_unseen(tmp_path):
    model, rng = fitted(LogisticRegression()), np.random.default_rng(0)
    model.save(tmp_path / "m")
    held = (tmp_path / "m").read_bytes()
    refused = 0
    for place in range(len(held)):
        broken = bytearray(held)
        broken[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "m").write_bytes(broken)
        try:
            back = daskml_core.load(tmp_path / "m")
        except ModelFileError:
            refused += 1
        else:  # dates and the like
            same_bits(predictions(back, X[:1]), predictions(model, X[:1]))
            assert repr(back) == repr(model)
    assert refused > 0.8 * len(held)


def test_a_file_that_is_not_there_is_no_model_file_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        daskml_core.load(tmp_path / "m")


def test_orders_of_memory_and_masked_arrays_survive(tmp_path):
    model = fitted(LinearRegression())
    model.coef_ = np.asfortranarray(np.arange(8.0).reshape(2, 4))
    model.intercept_ = np.array([0.0, 1.0])
    back = there_and_back(model, tmp_path)
    assert back.coef_.flags.f_contiguous
    assert not back.coef_.flags.c_contiguous
    np.testing.assert_array_equal(back.coef_, model.coef_)
    search = fitted(GridSearchCV(Ridge(), [{"alpha": [0.1]}, {"fit_intercept": [False]}], cv=2))
    column = there_and_back(search, tmp_path).cv_results_["param_alpha"]
    assert column.mask.tolist() == [False, True]


def test_a_model_too_large_for_the_format_is_refused_when_it_is_saved(tmp_path):
    model = fitted(Ridge())
    model.history_ = [{"n": i, "mixed": [i]} for i in range(60_000)]
    with pytest.raises(ModelFileError, match=r"delete what is not needed, e.g. model.history_"):
        model.save(tmp_path / "m")
    model.history_ = [{"n": i, "loss": float("nan") if i == 3 else i / 7} for i in range(40_000)]
    assert there_and_back(model, tmp_path).history_[7] == {"n": 7, "loss": 1.0}


# -- scikit-learn's estimators ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The probabilities of an SVC are not carried over")
@pytest.mark.parametrize("model", [*ESTIMATORS, *COMPOSED], ids=identify)
def test_scikit_learns_estimator_predicts_the_same(model):
    model = fitted(model)
    theirs = daskml_core.to_sklearn(model)
    assert type(theirs).__module__.startswith("sklearn.")
    theirs = pickle.loads(pickle.dumps(theirs))
    ours = predictions(model)
    for name, values in predictions(theirs).items():
        if name not in ours:
            continue
        if values.dtype.kind in "iUb":
            np.testing.assert_array_equal(values, ours[name])
        elif "Nystroem" not in repr(model) or name != "transform":
            # Rounding: sums in another order.
            np.testing.assert_allclose(values, ours[name], rtol=1e-9, atol=1e-9)
        else:
            # The kernel is found from squared distances, scikit-learn's without a common shift.
            np.testing.assert_allclose(values, ours[name], rtol=1e-6, atol=1e-6)
    assert ours.keys() - predictions(theirs).keys() <= {"decision_function", "transform", "predict_proba"}


@pytest.mark.parametrize(
    "model", [LogisticRegression(), SGDClassifier(max_iter=20), LinearSVC(), SGDClassifier("log_loss")]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_three_classes_with_names_convert(model):
    table = pd.DataFrame(X3, columns=list("abcd"))
    model = clone(model).fit(table, Y3)
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(table), model.predict(table))
    assert list(theirs.feature_names_in_) == list("abcd")
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(theirs.predict_proba(table), model.predict_proba(table), rtol=1e-9, atol=1e-12)


def test_what_converts_shares_no_memory_and_takes_a_dtype():
    model = fitted(LogisticRegression())
    single = model.to_sklearn(dtype="float32")
    assert single.coef_.dtype == np.float32
    assert single.decision_function(X.astype("f4")).dtype == np.float32
    same = model.to_sklearn()
    same.coef_[:] = 0
    assert model.coef_.any()


def test_what_cannot_convert_says_why_and_what_to_do():
    with pytest.raises(UnsupportedDataError, match="kernel by name"):
        fitted(SVC(kernel=linear)).to_sklearn()


@pytest.mark.parametrize("far", [0.0, 1e4])
@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear"])
def test_kernel_machines_become_pipelines_that_vote_and_decide_alike(kernel, far):
    rows = X3 + (far if kernel == "rbf" else 0.0)
    for labels in (Y3, Y3 == "ash"):
        model = SVC(kernel=kernel, gamma=0.3).fit(rows, labels)
        theirs = model.to_sklearn()
        np.testing.assert_array_equal(theirs.predict(rows), model.predict(rows))
    np.testing.assert_allclose(theirs.decision_function(rows), model.decision_function(rows), rtol=1e-6, atol=1e-6)
    with pytest.warns(UserWarning, match="probabilities of an SVC"):
        assert not hasattr(SVC(probability=True).fit(X3, Y3).to_sklearn(), "predict_proba")


@pytest.mark.parametrize("k", [1, 2, 5])
def test_clusters_by_angle_become_pipelines(k):
    rows = np.random.default_rng(0).normal(size=(500, 3))
    model = KMeans(k, metric="cosine", random_state=0).fit(rows)
    np.testing.assert_array_equal(model.to_sklearn().predict(rows * 7), model.predict(rows))


def test_a_machine_without_support_vectors_is_a_constant():
    model = SVR(epsilon=10.0).fit(X, Y.astype(float))
    assert len(model.support_) == 0
    np.testing.assert_allclose(model.to_sklearn().predict(X), model.predict(X))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 2, 3, 12])
def test_trees_of_clusters_become_pipelines_with_the_same_leaves(k, metric):
    rows = np.random.default_rng(0).normal(size=(2000, 4)) + (50.0 if metric == "euclidean" else 0.0)
    model = BisectingKMeans(k, metric=metric, random_state=0).fit(rows[:1000])
    np.testing.assert_array_equal(model.to_sklearn().predict(rows), model.predict(rows))
    single = model.to_sklearn(dtype="float32").predict(rows.astype("f4"))
    assert (single == model.predict(rows)).mean() > 0.99


def test_only_fitted_models_convert():
    with pytest.raises(NotFittedError):
        Ridge().to_sklearn()
    with pytest.raises(UnsupportedDataError, match="list is no estimator"):
        daskml_core.to_sklearn([])


def test_a_search_over_clusters_converts_to_its_best():
    search = fitted(KMeansSearch(n_clusters=(2, 3, 4), n_references=1))
    theirs = search.to_sklearn()
    assert theirs.n_clusters == search.best_n_clusters_
    np.testing.assert_array_equal(theirs.predict(X), search.predict(X))
