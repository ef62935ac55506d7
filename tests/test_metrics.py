"""Metrics against scikit-learn's, for lazy input chunked in its own way, weighted and not."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from daskml_core import metrics

N = 3000
RNG = np.random.default_rng(0)
BINARY = RNG.integers(0, 2, N)
SCORE = np.clip(np.round(BINARY * 0.3 + RNG.random(N) * 0.7, 2), 0.01, 0.99)  # ties
CLASSES = np.array(["a", "b", "c"])[RNG.integers(0, 3, N)]
GUESS = np.where(RNG.random(N) < 0.6, CLASSES, np.array(["a", "b", "c"])[RNG.integers(0, 3, N)])
PROBA = RNG.dirichlet([1, 1, 1], N)
WEIGHT = RNG.random(N)


def lazy(a, chunk):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("accuracy_score", {}),
        ("accuracy_score", {"normalize": False}),
        ("balanced_accuracy_score", {}),
        ("balanced_accuracy_score", {"adjusted": True}),
        ("precision_score", {"average": "macro"}),
        ("recall_score", {"average": None}),
        ("f1_score", {"average": "weighted", "labels": ["a", "b"]}),
        ("confusion_matrix", {}),
        ("confusion_matrix", {"normalize": "true", "labels": ["c", "a"]}),
    ],
)
def test_label_metrics_equal_scikit_learn(name, options, weighted):
    w = WEIGHT if weighted else None
    expected = getattr(reference, name)(CLASSES, GUESS, sample_weight=w, **options)
    lazy_w = lazy(WEIGHT, 41) if weighted else None
    found = getattr(metrics, name)(lazy(CLASSES, 700), lazy(GUESS, 333), sample_weight=lazy_w, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = getattr(metrics, name)(CLASSES, xr.DataArray(GUESS, dims="time").chunk(time=99), sample_weight=w, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["precision_score", "recall_score", "f1_score"])
def test_binary_metrics_equal_scikit_learn(name):
    guess = (SCORE > 0.5).astype(int)
    expected = getattr(reference, name)(BINARY, guess)
    assert getattr(metrics, name)(lazy(BINARY, 70), lazy(guess, 1000)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_probability_metrics_equal_scikit_learn(weighted):
    w = WEIGHT if weighted else None
    pairs = [
        ("log_loss", BINARY, SCORE),
        ("log_loss", CLASSES, PROBA),
        ("brier_score_loss", BINARY, SCORE),
        ("roc_auc_score", BINARY, SCORE),
        ("average_precision_score", BINARY, SCORE),
        ("average_precision_score", CLASSES, PROBA),
        ("brier_score_loss", CLASSES, PROBA),
        ("brier_score_loss", np.array(["no", "yes"])[BINARY], np.column_stack([1 - SCORE, SCORE])),
    ]
    for name, truth, guess in pairs:
        expected = getattr(reference, name)(truth, guess, sample_weight=w)
        found = getattr(metrics, name)(lazy(truth, 700), lazy(guess, 333), sample_weight=w)
        assert found == pytest.approx(expected, rel=1e-10), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "weighted", "micro", None])
@pytest.mark.parametrize(
    ("name", "options"), [("roc_auc_score", {"multi_class": "ovr"}), ("average_precision_score", {})]
)
def test_multiclass_ranking_metrics_equal_scikit_learn(name, options, average, weighted):
    options = options | {"average": average, "sample_weight": WEIGHT if weighted else None}
    expected = getattr(reference, name)(CLASSES, PROBA, **options)
    found = getattr(metrics, name)(lazy(CLASSES, 700), lazy(PROBA, 333), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("scale_by_half", [True, False, "auto"])
@pytest.mark.parametrize(("truth", "guess"), [(BINARY, SCORE), (CLASSES, PROBA), (CLASSES[CLASSES != "c"], None)])
def test_brier_scale_and_labels_are_scikit_learns(truth, guess, scale_by_half):
    labels = None if guess is not None else ["a", "b", "c"]
    guess = PROBA[CLASSES != "c"] if guess is None else guess
    options = {"scale_by_half": scale_by_half, "labels": labels}
    expected = reference.brier_score_loss(truth, guess, **options)
    assert metrics.brier_score_loss(lazy(truth, 700), lazy(guess, 333), **options) == pytest.approx(expected, rel=1e-10)


def test_an_auc_beyond_its_memory_states_a_bound_that_holds():
    score = BINARY * 0.2 + RNG.random(N)
    exact = reference.roc_auc_score(BINARY, score)
    with pytest.warns(UserWarning, match="exact to") as caught:
        found = metrics.roc_auc_score(BINARY, lazy(score, 100), max_distinct=200)
    bound = float(str(caught[0].message).split("exact to ")[1].split(".  ")[0].split(" ")[0].rstrip("."))
    assert found != exact
    assert abs(found - exact) <= bound * 1.05 < 0.05


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 3])
def test_regression_metrics_equal_scikit_learn(weighted, targets):
    shape = N if targets is None else (N, targets)
    truth = RNG.normal(size=shape) + 1e3
    guess = truth + RNG.normal(size=shape)
    w = WEIGHT if weighted else None
    for name in ("mean_squared_error", "mean_absolute_error", "r2_score", "root_mean_squared_error"):
        for multioutput in ("uniform_average", "raw_values", *(["variance_weighted"] if name == "r2_score" else [])):
            expected = getattr(reference, name)(truth, guess, sample_weight=w, multioutput=multioutput)
            found = getattr(metrics, name)(lazy(truth, 700), lazy(guess, 333), sample_weight=w, multioutput=multioutput)
            np.testing.assert_allclose(np.ravel(found), np.ravel(expected), rtol=1e-9)


def test_poisson_deviance_equals_scikit_learn():
    truth, guess = RNG.poisson(3, N).astype(float), RNG.random(N) * 5 + 0.1
    expected = reference.d2_tweedie_score(truth, guess, power=1)
    assert metrics.d2_poisson_score(lazy(truth, 70), lazy(guess, 300)) == pytest.approx(expected, rel=1e-9)


def test_r2_of_one_row_is_not_defined():
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(metrics.r2_score([1.0], [2.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy_score([0, 1], [0]), "inconsistent numbers of samples"),
        (lambda: metrics.log_loss([0, 1], [0.2, 1.4]), r"outside of \[0, 1\]"),
        (lambda: metrics.log_loss([1, 1], [0.2, 0.4]), "only one label"),
        (lambda: metrics.roc_auc_score([1, 1], [0.2, 0.4]), "Only one class"),
        (
            lambda: metrics.mean_squared_error([1.0, np.nan], [1.0, 2.0]),
            "y_true contains NaN or infinity: block 0, row 1",
        ),
        (lambda: metrics.r2_score([1.0, 2.0], [1.0, 2.0], sample_weight=[0.0, 0.0]), "sum to zero"),
        (lambda: metrics.roc_auc_score(CLASSES, PROBA), "multi_class"),
        (lambda: metrics.average_precision_score(CLASSES, PROBA[:, 0]), "one column for each of the 3 labels"),
        (lambda: metrics.average_precision_score(["n", "y"], [0.1, 0.2]), "pos_label=1 is not a valid label"),
        (lambda: metrics.average_precision_score([0.0, np.nan], [0.1, 0.2]), "contains NaN"),
        (lambda: metrics.brier_score_loss([0.0, np.nan], [0.1, 0.2]), "y_true contains NaN.*row 1"),
        (lambda: metrics.log_loss([0.0, np.nan], [0.1, 0.2]), "y_true contains NaN.*row 1"),
        (lambda: metrics.log_loss([0, 1], [0.1, 0.2], sample_weight=[0, 0]), "sum to zero"),
        (lambda: metrics.accuracy_score(np.array(["a", None]), ["a", "a"]), "y_true contains NaN.*row 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
