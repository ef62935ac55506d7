"""Models for those who have no daskml_core: skops, ONNX and MLflow take what `to_sklearn` gives, and predict the same."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.pipeline import make_pipeline as sklearn_pipeline

import daskml_core
from daskml_core.cluster import BisectingKMeans, KMeans
from daskml_core.errors import UnsupportedDataError
from daskml_core.kernel_approximation import Nystroem, PolynomialCountSketch, RBFSampler
from daskml_core.linear_model import LogisticRegression, Ridge, SGDClassifier
from daskml_core.onnx import to_onnx
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC, SVR, LinearSVC, OneClassSVM
from tests.test_model_file import COMPOSED, X3, Y3, X, fitted, identify, predictions, same_bits
from tests.test_sklearn_contract import ESTIMATORS

pytestmark = pytest.mark.filterwarnings("ignore:The probabilities of an SVC are not carried over")


def one_of_each():
    """A model of every class, pipelines and searches by what they hold."""
    seen = {}
    for model in (*ESTIMATORS, *COMPOSED):
        inner = getattr(model, "estimator", model)
        key = (type(model), type(inner), *(type(step) for _, step in getattr(inner, "steps", ())))
        seen.setdefault(key, model)
    return list(seen.values())


MODELS = [*one_of_each(), SVC(kernel="poly"), KMeans(3, metric="cosine"), BisectingKMeans(4)]


def run(proto, rows):
    """All outputs of an ONNX model, by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: rows}), strict=True))


@pytest.mark.parametrize("model", MODELS, ids=identify)
def test_skops_trusts_what_is_given_to_it_and_gives_back_the_same(model):
    import skops.io

    theirs = fitted(model)
    theirs = daskml_core.to_sklearn(theirs)
    data = skops.io.dumps(theirs)
    assert skops.io.get_untrusted_types(data=data) == []
    same_bits(predictions(skops.io.loads(data)), predictions(theirs))


@pytest.mark.parametrize("model", MODELS, ids=identify)
def test_single_precision_halves_the_arrays_and_predicts_alike(model):
    model = fitted(model)
    single = daskml_core.to_sklearn(model, dtype="float32")
    parts = [step for _, step in single.steps] if hasattr(single, "steps") else [single]
    arrays = [a for part in parts for a in vars(part).values() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    assert all(a.dtype == np.float32 for a in arrays)
    for name, found in predictions(single, X.astype("f4")).items():
        expected = predictions(model)
        if name not in expected:
            continue
        if found.dtype.kind in "iUb":
            assert (found == expected[name]).mean() > (0.9 if isinstance(model, OneClassSVM) else 0.99)
        else:
            np.testing.assert_allclose(found, expected[name], rtol=2e-3, atol=2e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("model", [m for m in MODELS if not isinstance(m, PolynomialCountSketch)], ids=identify)
def test_an_onnx_model_predicts_the_same(model):
    model = fitted(model)
    rows = X.astype("f4")
    found = next(iter(run(to_onnx(model), rows).values()))
    method = "predict" if hasattr(model, "predict") else "transform"
    expected = np.asarray(getattr(model, method)(rows.astype("f8")))
    if isinstance(model, OneClassSVM):
        # Support vectors lie on the border: which side single precision puts them on is chance.
        sure = np.abs(model.decision_function(rows)) > 1e-5
        found, expected = found[sure], expected[sure]
    if expected.dtype.kind in "iUb":
        np.testing.assert_array_equal(np.ravel(found), expected)
    else:
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "model",
    [LogisticRegression(), LinearSVC(), SVC(gamma=0.3), SGDClassifier("log_loss", random_state=0)],
    ids=identify,
)
def test_labels_by_name_and_probabilities_are_in_the_onnx_model(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model.fit(X3, Y3)
    found = list(run(to_onnx(model), X3.astype("f4")).values())
    assert (found[0] == model.predict(X3)).mean() > 0.99
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(found[1], model.predict_proba(X3), atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        SVR(gamma=0.2),
        make_pipeline(StandardScaler(), Ridge()),
        sklearn_pipeline(Nystroem(kernel="sigmoid", gamma=0.1, n_components=20), LogisticRegression()),
        sklearn_pipeline(RBFSampler(n_components=20, random_state=0), Ridge()),
    ],
    ids=identify,
)
def test_double_precision_agrees_to_its_digits(model):
    model = fitted(model)
    found = next(iter(run(to_onnx(model, dtype="float64"), X).values()))
    np.testing.assert_allclose(np.ravel(found).astype(float), model.predict(X).astype(float), rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_onnx_cannot_hold_is_refused_with_the_reason():
    with pytest.raises(UnsupportedDataError, match="no form of PolynomialCountSketch"):
        to_onnx(fitted(PolynomialCountSketch()))
    with pytest.raises(UnsupportedDataError, match="float32 only"):
        to_onnx(fitted(LinearSVC()), dtype="float64")
    with pytest.raises(UnsupportedDataError, match="kernel='laplacian'"):
        to_onnx(sklearn.kernel_approximation.Nystroem(kernel="laplacian", n_components=3).fit(X))
    with pytest.raises(ValueError, match='must be "float32" or "float64"'):
        to_onnx(fitted(Ridge()), dtype="float16")


@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("model", [make_pipeline(StandardScaler(), LogisticRegression()), SVC(gamma=0.3)], ids=identify)
def test_mlflow_keeps_the_model_in_a_directory(model, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "runs"))
    import mlflow

    table = pd.DataFrame(X3, columns=list("abcd"))
    model = model.fit(table, Y3)
    mlflow.sklearn.save_model(
        model.to_sklearn(), tmp_path / "model", pip_requirements=[f"scikit-learn=={sklearn.__version__}"]
    )
    back = mlflow.sklearn.load_model(str(tmp_path / "model"))
    assert type(back).__module__.startswith("sklearn.")
    np.testing.assert_array_equal(back.predict(table), model.predict(table))
    anything = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(anything.predict(table), model.predict(table))


def test_one_row_is_scored_without_dask_by_no_more_calls_than_scikit_learns_own_model_makes(tmp_path):
    code = """
import pickle, sys
import numpy as np

def calls(model):
    row, made = np.zeros((1, 4)), []
    model.predict(row)
    sys.setprofile(lambda frame, event, arg: made.append(event))
    model.predict(row)
    sys.setprofile(None)
    return made.count("call") + made.count("c_call")

print(*(calls(pickle.load(open(path, "rb"))) for path in sys.argv[1:]))
print({"dask", "distributed", "daskml_core", "xarray", "zarr"} & set(sys.modules) or "alone")
"""
    ours = fitted(LogisticRegression())
    theirs = sklearn.linear_model.LogisticRegression().fit(X, ours.predict(X))
    for name, model in (("ours", ours.to_sklearn()), ("theirs", theirs)):
        (tmp_path / name).write_bytes(pickle.dumps(model))
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "ours", tmp_path / "theirs"], capture_output=True, text=True, check=True
    )
    counts, alone = done.stdout.splitlines()
    ours, theirs = map(int, counts.split())
    assert 10 < ours <= theirs
    assert alone == "alone"
