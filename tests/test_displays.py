"""Pictures: what is drawn of lazy data is what scikit-learn draws of the rows in memory, and no row comes to the client."""

import subprocess
import sys

import dask.array as da
import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn import linear_model as reference_models
from sklearn import metrics as reference
from sklearn import model_selection as reference_selection
from sklearn.pipeline import make_pipeline as sklearn_pipeline

from daskml_core import inspection, metrics
from daskml_core.cluster import ClusterMapDisplay, KMeans, KMeansSearch, KMeansSearchDisplay, MiniBatchKMeans
from daskml_core.inspection import HistoryDisplay
from daskml_core.linear_model import (
    CoefficientPathDisplay,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
)
from daskml_core.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    ResidualsDisplay,
    RocCurveDisplay,
    precision_recall_curve,
    roc_curve,
)
from daskml_core.model_selection import (
    GridSearchCV,
    KFold,
    LearningCurveDisplay,
    TimeSeriesSplit,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC, LinearSVC

matplotlib.use("Agg")

N = 2400
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4))
Z = X @ [1.0, -2.0, 0.5, 0.0] + RNG.logistic(size=N)
TWO = np.where(Z > 0, "yes", "no")
THREE = np.array(["barley", "oat", "wheat"])[np.digitize(Z, [-1.5, 1.0])]
NUMBERS = Z + 0.3 * X[:, 0] ** 2
WEIGHT = RNG.integers(0, 3, N).astype(float)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def lazy(a, chunk=700):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


@pytest.fixture
def no_rows_to_the_client(monkeypatch):
    """Lazy arrays that cannot be turned into arrays in memory."""

    def refuse(self, *args, **kwargs):
        raise AssertionError("a lazy array was computed as a whole")

    monkeypatch.setattr(da.Array, "__array__", refuse)
    monkeypatch.setattr(da.Array, "compute", refuse)


# -- labels and scores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [None, "true"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_confusion_matrix_is_scikit_learns_without_the_rows(no_rows_to_the_client, normalize, weighted):
    model = LogisticRegression().fit(X, THREE)
    options = {"normalize": normalize, "sample_weight": WEIGHT if weighted else None}
    expected = reference.ConfusionMatrixDisplay.from_estimator(model, X, THREE, **options)
    found = ConfusionMatrixDisplay.from_estimator(model, lazy(X), lazy(THREE, 500), **options)
    np.testing.assert_allclose(found.confusion_matrix, expected.confusion_matrix, rtol=1e-12)
    assert [text.get_text() for text in found.text_.ravel()] == [text.get_text() for text in expected.text_.ravel()]
    assert [tick.get_text() for tick in found.ax_.get_xticklabels()] == ["barley", "oat", "wheat"]
    assert found.figure_ is found.ax_.figure


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "model", [LogisticRegression(), LinearSVC(), make_pipeline(StandardScaler(), LogisticRegression())]
)
def test_curves_of_two_classes_are_scikit_learns_without_the_rows(no_rows_to_the_client, model, weighted):
    model = model.fit(X, TWO)
    options = {"sample_weight": WEIGHT if weighted else None}
    expected = reference.RocCurveDisplay.from_estimator(model, X, TWO, **options)
    found = RocCurveDisplay.from_estimator(model, lazy(X), lazy(TWO, 500), **options, plot_chance_level=True)
    np.testing.assert_allclose(found.fpr, expected.fpr, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.tpr, expected.tpr, rtol=1e-12, atol=1e-15)
    assert found.roc_auc == pytest.approx(expected.roc_auc, rel=1e-12)
    assert (found.pos_label, found.name) == (expected.pos_label, expected.name)
    assert found.line_.get_label() == expected.line_.get_label()
    assert found.ax_.get_xlabel() == expected.ax_.get_xlabel()
    np.testing.assert_array_equal(found.line_.get_ydata(), found.tpr)
    expected = reference.PrecisionRecallDisplay.from_estimator(model, X, TWO, **options)
    found = PrecisionRecallDisplay.from_estimator(model, lazy(X), lazy(TWO, 500), **options, plot_chance_level=True)
    np.testing.assert_allclose(found.precision, expected.precision, rtol=1e-12)
    np.testing.assert_allclose(found.recall, expected.recall, rtol=1e-12)
    assert found.average_precision == pytest.approx(expected.average_precision, rel=1e-12)
    assert found.prevalence_pos_label == pytest.approx(expected.prevalence_pos_label, rel=1e-12)
    assert found.chance_level_.get_ydata()[0] == pytest.approx(np.mean(TWO == "yes"))


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("scores", ["ties", "float32", "signed zeros"])
def test_thresholds_are_scikit_learns(scores, drop):
    truth = (TWO == "yes").astype(int)
    score = {
        "ties": np.round(Z, 1),
        "float32": Z.astype("f4"),
        "signed zeros": np.where(np.abs(Z) < 1, -0.0, Z) + 0.0 * Z,
    }
    score = score[scores]
    for ours, theirs in ((roc_curve, reference.roc_curve), (precision_recall_curve, reference.precision_recall_curve)):
        expected = theirs(truth, score, sample_weight=WEIGHT, drop_intermediate=drop)
        found = ours(lazy(truth, 999), lazy(score), sample_weight=lazy(WEIGHT), drop_intermediate=drop)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("label", ["no", "yes"])
@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
def test_the_positive_label_can_be_either(method, label):
    model = LogisticRegression().fit(X, TWO)
    options = {"response_method": method, "pos_label": label}
    expected = reference.RocCurveDisplay.from_estimator(model, X, TWO, **options)
    found = RocCurveDisplay.from_estimator(model, lazy(X), TWO, **options)
    np.testing.assert_allclose(found.tpr, expected.tpr, rtol=1e-12)
    assert found.ax_.get_xlabel() == f"False Positive Rate (Positive label: {label})"


def test_more_classes_have_a_curve_each_against_the_rest():
    model = LogisticRegression().fit(X, THREE)
    proba = model.predict_proba(X)
    roc = RocCurveDisplay.from_estimator(model, lazy(X), lazy(THREE))
    pr = PrecisionRecallDisplay.from_estimator(model, lazy(X), lazy(THREE))
    for k, label in enumerate(model.classes_):
        fpr, tpr, _ = reference.roc_curve(label == THREE, proba[:, k])
        np.testing.assert_allclose(roc.fpr[k], fpr, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(roc.tpr[k], tpr, rtol=1e-12, atol=1e-15)
        assert pr.average_precision[k] == pytest.approx(reference.average_precision_score(label == THREE, proba[:, k]))
    labels = [text.get_text() for text in roc.ax_.get_legend().get_texts()]
    assert [label.split(" (")[0] for label in labels] == [
        f"LogisticRegression: {c}" for c in ("barley", "oat", "wheat")
    ]
    assert len({line.get_color() for line in roc.line_}) == 3


def test_a_class_that_the_rows_lack_has_no_curve():
    model = LogisticRegression().fit(X, THREE)
    some = THREE != "oat"
    display = RocCurveDisplay.from_estimator(model, lazy(X[some]), THREE[some])
    assert [name.split(": ")[1] for name in display.name] == ["barley", "wheat"]


def test_a_curve_of_more_scores_than_are_kept_says_how_wrong_it_may_be():
    with pytest.warns(UserWarning, match="exact to"):
        display = RocCurveDisplay.from_predictions(TWO == "yes", lazy(X[:, 0]), max_distinct=100)
    assert display.roc_auc == pytest.approx(reference.roc_auc_score(TWO == "yes", X[:, 0]), abs=0.02)
    assert len(display.fpr) <= 101


def test_scikit_learns_estimators_are_asked_block_by_block(no_rows_to_the_client):
    model = reference_models.LogisticRegression().fit(X, THREE)
    assert ConfusionMatrixDisplay.from_estimator(model, lazy(X), lazy(THREE)).confusion_matrix.tolist() == (
        reference.confusion_matrix(THREE, model.predict(X)).tolist()
    )
    auc = RocCurveDisplay.from_estimator(model, lazy(X), lazy(THREE)).roc_auc
    assert np.mean(auc) == pytest.approx(reference.roc_auc_score(THREE, model.predict_proba(X), multi_class="ovr"))
    line = sklearn_pipeline(reference_models.LinearRegression()).fit(X, NUMBERS)
    assert ResidualsDisplay.from_estimator(line, lazy(X), NUMBERS).counts.sum() == N


def test_out_of_fold_scores_are_drawn():
    scores = cross_val_predict(LogisticRegression(), lazy(X), lazy(TWO), cv=3, method="decision_function")
    expected = reference.roc_auc_score(TWO, np.asarray(scores))
    assert RocCurveDisplay.from_predictions(TWO, scores, pos_label="yes").roc_auc == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_of_folds_are_scikit_learns(no_rows_to_the_client, weighted):
    options = {"sample_weight": WEIGHT if weighted else None}
    rows = lazy(X)
    found = cross_validate(LogisticRegression(), rows, TWO, cv=3, return_estimator=True, return_indices=True)
    ours = RocCurveDisplay.from_cv_results(found, rows, TWO, **options)
    theirs = reference.RocCurveDisplay.from_cv_results(found, X, TWO, **options)
    for a, b in zip([*ours.fpr, *ours.tpr], [*theirs.fpr, *theirs.tpr], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    assert [line.get_label() for line in ours.line_] == [line.get_label() for line in theirs.line_]
    ours = PrecisionRecallDisplay.from_cv_results(found, rows, TWO, **options)
    theirs = reference.PrecisionRecallDisplay.from_cv_results(found, X, TWO, **options)
    np.testing.assert_allclose(ours.average_precision, theirs.average_precision, rtol=1e-12)
    np.testing.assert_allclose(ours.prevalence_pos_label, theirs.prevalence_pos_label, rtol=1e-12)
    with pytest.raises(ValueError, match="return_indices=True"):
        RocCurveDisplay.from_cv_results({}, X, TWO)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: roc_curve([1, 1], [0.1, 0.2]), "Only one class"),
        (lambda: roc_curve(["n", "y"], [0.1, 0.2]), "pos_label is not specified"),
        (lambda: roc_curve([0, 1, 2], [0.1, 0.2, 0.3]), "a score a class is needed"),
        (lambda: roc_curve([0, 1], [0.1, np.nan]), "y_score contains NaN.*row 1"),
        (lambda: roc_curve([0, 1], np.ones((2, 2))), "one column of scores"),
        (lambda: roc_curve([0, 1], [0.1, 0.2], pos_label=7), "not a valid label"),
        (lambda: RocCurveDisplay.from_predictions(THREE, X), "one column for each of the 3 classes"),
        (lambda: RocCurveDisplay.from_estimator(Ridge().fit(X, Z), X, TWO), "no fitted classifier"),
        (lambda: RocCurveDisplay.from_estimator(LinearSVC().fit(X, TWO), X, TWO, response_method="other"), "none of"),
        (lambda: RocCurveDisplay.from_estimator(LogisticRegression().fit(X, TWO), X, TWO, pos_label="x"), "not a class"),
        (lambda: RocCurveDisplay.from_estimator(LogisticRegression().fit(X, THREE), X, THREE, pos_label="oat"), "of two"),
        (lambda: ConfusionMatrixDisplay.from_estimator(Ridge().fit(X, Z), X, TWO), "only supports classifiers"),
        (lambda: ResidualsDisplay.from_estimator(LinearSVC().fit(X, TWO), X, TWO), "needs a regression"),
        (lambda: ResidualsDisplay.from_predictions(X, X), "one target"),
        (lambda: ResidualsDisplay.from_predictions(Z, Z, kind="other"), "kind must be"),
        (lambda: ResidualsDisplay.from_predictions(Z, Z, sample_weight=0 * Z), "sum to zero"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- regressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["residual_vs_predicted", "actual_vs_predicted"])
@pytest.mark.parametrize("weighted", [False, True])
def test_residuals_are_counted_as_numpy_counts_them_without_the_rows(no_rows_to_the_client, kind, weighted):
    model = LinearRegression().fit(X, NUMBERS)
    guess = model.predict(X)
    y = NUMBERS - guess if kind.startswith("residual") else NUMBERS
    weight = WEIGHT if weighted else None
    display = ResidualsDisplay.from_estimator(
        model, lazy(X), lazy(NUMBERS, 500), sample_weight=weight, kind=kind, bins=(20, 15), n_deviations=100
    )
    counts, x_edges, y_edges = np.histogram2d(guess, y, bins=(20, 15), weights=weight)
    # Predictions of blocks round otherwise than those of all rows: a row at an edge may fall on either side.
    np.testing.assert_allclose(display.x_edges, x_edges, rtol=1e-9)
    np.testing.assert_allclose(display.y_edges, y_edges, rtol=1e-9, atol=1e-9)
    assert np.abs(display.counts - counts).sum() <= 4
    assert display.n_outside == 0
    if not weighted:
        mean = stats.binned_statistic(guess, y, "mean", bins=20).statistic
        deviation = stats.binned_statistic(guess, y, "std", bins=20).statistic
        full = counts.sum(axis=1) > 5
        np.testing.assert_allclose(display.mean[full], mean[full], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(display.deviation[full], deviation[full], rtol=1e-6)


def test_rows_far_out_do_not_press_the_others_into_one_bin_and_are_told():
    truth = np.concatenate([NUMBERS, [1e9]])
    guess = np.concatenate([NUMBERS + 1, [0.0]])
    display = ResidualsDisplay.from_predictions(lazy(truth), lazy(guess), n_deviations=5)
    assert display.counts.sum() == N + 1
    assert display.n_outside == 1
    assert display.y_edges[-1] < 1e9
    assert any("1 rows lie beyond" in text.get_text() for text in display.ax_.texts)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_perfect_and_constant_predictions_are_drawn(constant):
    display = ResidualsDisplay.from_predictions(np.full(50, constant), np.full(50, constant))
    assert display.counts.sum() == 50
    assert display.y_edges[0] < 0 < display.y_edges[-1]


# -- learning curves and paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "y", "scoring"),
    [
        (
            LogisticRegression(tol=1e-8),
            reference_models.LogisticRegression(tol=1e-9, max_iter=1000),
            TWO,
            "neg_log_loss",
        ),
        (Ridge(), reference_models.Ridge(), NUMBERS, None),
        (SVC(gamma=0.1), None, TWO, None),
    ],
    ids=["lockstep", "gram", "one after the other"],
)
@pytest.mark.parametrize(
    "cv", [3, KFold(3, shuffle=True, random_state=1), TimeSeriesSplit(3)], ids=["3", "kfold", "time"]
)
def test_a_learning_curve_is_scikit_learns(ours, theirs, y, scoring, cv):
    rows = slice(0, 300)
    # Time-series splits have fewer training rows in the first split, which bounds the sizes.
    options = {"train_sizes": [20, 50, 75], "cv": cv, "scoring": scoring}
    sizes, train, test = learning_curve(ours, lazy(X[rows], 70), lazy(y[rows], 90), **options)
    theirs = ours if theirs is None else theirs
    expected = reference_selection.learning_curve(theirs, X[rows], y[rows], **options)
    np.testing.assert_array_equal(sizes, expected[0])
    np.testing.assert_allclose(train, expected[1], atol=1e-6)
    np.testing.assert_allclose(test, expected[2], atol=1e-6)


def test_all_sizes_of_a_learning_curve_take_the_sweeps_of_about_one_fit():
    reads = []

    def count(block, block_info=None):
        reads.append(block_info[0]["chunk-location"][0])
        return block

    source = lazy(X, 600)
    counted = source.map_blocks(count, dtype=source.dtype, meta=np.empty((0, 4)))
    import dask

    with dask.config.set({"daskml-core.residency": False}):
        display = LearningCurveDisplay.from_estimator(LogisticRegression(), counted, TWO, cv=4, scoring="accuracy")
    n_models = display.test_scores.size
    assert n_models == 20
    assert len(reads) / 4 <= 8  # one after the other they would take 20 fits and 40 scores
    assert display.ax_.get_ylabel() == "Accuracy"


def test_shuffled_training_rows_are_exact_in_number_nested_and_no_prefix():
    from daskml_core.model_selection._folds import make_folds
    from daskml_core.model_selection._learning import nested

    folds = make_folds(4, np.zeros((1000, 1)))
    order = np.random.default_rng(0).permutation(1000)
    sized = nested(folds, np.array([10, 333, 750]), order)
    for split in range(4):
        rows = [sized.rows(3 * split + size, test=False) for size in range(3)]
        assert [mask.sum() for mask in rows] == [10, 333, 750]
        assert (rows[0] <= rows[1]).all()
        assert (rows[1] <= rows[2]).all()
        np.testing.assert_array_equal(rows[2], folds.rows(split, test=False))
        np.testing.assert_array_equal(sized.rows(3 * split, test=True), folds.rows(split, test=True))
        assert np.flatnonzero(rows[1]).std() > 200
    # Sorted rows: the first of them lack a class, a shuffle does not.
    by_label = np.argsort(TWO, kind="stable")
    _, _, test = learning_curve(
        LogisticRegression(), X[by_label], TWO[by_label], train_sizes=[0.1, 1.0], cv=3, shuffle=True, random_state=3
    )
    assert test.min() > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sizes": [0.0, 1.0]}, r"within \(0, 1\]"),
        ({"train_sizes": [10**6]}, "numbers of rows"),
        ({"train_sizes": []}, "train_sizes must be"),
        ({"random_state": 3}, "no effect"),
        ({"scoring": ["accuracy", "roc_auc"]}, "one metric"),
        ({"cv": TimeSeriesSplit(3), "train_sizes": [601]}, "numbers of rows"),
    ],
)
def test_learning_curves_refuse_what_they_cannot_do(options, message):
    with pytest.raises(ValueError, match=message):
        learning_curve(LogisticRegression(), X, TWO, **options)


def test_a_learning_curve_of_errors_is_drawn_as_errors():
    display = LearningCurveDisplay.from_estimator(
        Ridge(), lazy(X), NUMBERS, scoring="neg_mean_squared_error", negate_score=True, cv=3, train_sizes=[0.01, 1.0]
    )
    train, test = (line.get_ydata() for line in display.lines_)
    assert display.ax_.get_ylabel() == "Mean squared error"
    np.testing.assert_allclose(test, -display.test_scores.mean(axis=1))
    assert train[0] < test[0]


def test_a_coefficient_path_is_that_of_single_fits():
    values = [0.01, 0.1, 0.5, 1.0]
    frame = pd.DataFrame(X, columns=list("abcd"))
    display = CoefficientPathDisplay.from_estimator(Lasso(tol=1e-10), frame, NUMBERS, values=values)
    _, expected, _ = reference_models.lasso_path(
        X - X.mean(axis=0), NUMBERS - NUMBERS.mean(), alphas=values[::-1], tol=1e-10
    )
    np.testing.assert_allclose(display.coefficients, expected.T[::-1], atol=1e-7)
    assert list(display.feature_names) == list("abcd")
    for j in range(4):
        line = next(line for line in display.lines_ if line.get_label() == "abcd"[j])
        np.testing.assert_array_equal(line.get_ydata(), display.coefficients[:, j])


def test_a_path_of_a_pipeline_a_class_and_a_fitted_model():
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(X, THREE)
    display = CoefficientPathDisplay.from_estimator(model, lazy(X), lazy(THREE), target="oat")
    assert display.parameter == "logisticregression__C"
    near = int(np.argmin(np.abs(np.log(display.values / 0.5))))
    alone = make_pipeline(StandardScaler(), LogisticRegression(C=display.values[near])).fit(X, THREE)
    np.testing.assert_allclose(display.coefficients[near], alone[-1].coef_[1], atol=1e-3)
    with pytest.raises(ValueError, match="pass target="):
        CoefficientPathDisplay.from_estimator(model, X, THREE, values=[1.0])
    with pytest.raises(ValueError, match="1 feature names"):
        CoefficientPathDisplay.from_estimator(Ridge(), X, Z, values=[1.0], feature_names=["a"])
    with pytest.raises(ValueError, match="no penalties"):
        CoefficientPathDisplay.from_estimator(LinearRegression(), X, Z)
    with pytest.raises(ValueError, match="X and y are needed"):
        CoefficientPathDisplay.from_estimator(Ridge().fit(X, Z))


def test_a_path_of_a_search_reads_nothing():
    search = LogisticRegressionCV(Cs=[10.0, 0.01, 0.1], cv=3).fit(X, TWO)
    display = CoefficientPathDisplay.from_estimator(search)
    assert display.values.tolist() == [0.01, 0.1, 10.0]
    np.testing.assert_allclose(display.coefficients[2], search.coefs_paths_[:, 0, 0, 0, :4].mean(axis=0))
    assert display.chosen == search.C_
    assert display.chosen_.get_label() == f"C = {search.C_:.3g}"


# -- histories, elbows, maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "x", "y"),
    [
        (LogisticRegression(solver="lbfgs"), "sweeps", "loss"),
        (KMeans(3, init="random"), "n_iter", "inertia"),
        (MiniBatchKMeans(3, random_state=0), "sweeps", "inertia_per_row"),
        (LinearSVC(loss="hinge"), None, "loss"),
        (SVC(), None, "gap"),
        (make_pipeline(StandardScaler(), Ridge(solver="lbfgs")), "sweeps", "loss"),
        (GridSearchCV(LogisticRegression(solver="lbfgs"), {"C": [0.1, 1.0]}, cv=2), "sweeps", "loss"),
    ],
)
def test_a_history_is_drawn_as_it_was(model, x, y):
    target = NUMBERS if "Ridge" in repr(model) else TWO
    model = model.fit(X, target)
    display = HistoryDisplay.from_estimator(model)
    assert display.y_name == y
    assert x is None or display.x_name == x
    part = getattr(model, "best_estimator_", model)
    rows = (part[-1] if hasattr(part, "steps") else part).history_
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_ydata(), [row[y] for row in rows])
    np.testing.assert_array_equal(line.get_xdata(), [row[display.x_name] for row in rows])


def test_solvers_of_one_fit_have_a_curve_each_and_displays_share_axes():
    model = LinearSVC(loss="hinge").fit(X, THREE)
    display = HistoryDisplay.from_estimator(model, x="n_iter")
    assert [line.get_label() for line in display.lines_] == ["class barley", "class oat", "class wheat"]
    fit = LogisticRegression(solver="lbfgs", tol=1e-8).fit(X, TWO)
    first = HistoryDisplay.from_estimator(fit, name="one", excess=True)
    second = HistoryDisplay.from_estimator(fit, name="two", excess=True, ax=first.ax_)
    assert first.ax_.get_yscale() == "log"
    assert first.lines_[0].get_color() != second.lines_[0].get_color()
    loss = np.array([row["loss"] for row in fit.history_])
    np.testing.assert_allclose(first.lines_[0].get_ydata()[:-1], (loss / loss.min() - 1)[:-1], rtol=1e-3)
    for call, word in (
        (lambda: HistoryDisplay.from_estimator(LogisticRegression()), "no history_"),
        (lambda: HistoryDisplay.from_history([]), "empty"),
        (lambda: HistoryDisplay.from_estimator(fit, y="inertia"), "no column 'inertia'"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


def test_an_elbow_is_drawn_from_a_search():
    search = KMeansSearch(n_clusters=(2, 3, 4), n_references=1, random_state=0).fit(X)
    display = KMeansSearchDisplay.from_estimator(search)
    assert display.ax_ is display.axes_[0]
    np.testing.assert_array_equal(display.ax_.lines[0].get_ydata(), search.inertias_)
    ax = display.axes_[1]
    assert KMeansSearchDisplay.from_estimator(search, ax=ax).axes_.tolist() == [ax]  # the elbow alone
    with pytest.raises(ValueError, match="not both"):
        display.plot([ax], ax=ax)


def image(masked=True):
    rows, columns = np.mgrid[0:24, 0:40]
    bands = np.stack([rows // 12 * 5.0, columns // 20 * 9.0]) + 0.1 * RNG.normal(size=(2, 24, 40))
    if masked:
        bands[:, 5:9, 10:30] = np.nan
    coords = {"lat": np.linspace(50, 38.5, 24), "lon": np.linspace(0, 19.5, 40)}
    return xr.DataArray(bands, dims=("band", "lat", "lon"), coords=coords).chunk(lat=7)


def test_a_map_has_the_grids_coordinates_and_leaves_masked_cells_out():
    grid = image()
    model = KMeans(4, random_state=0).fit(grid, feature_dim="band")
    display = ClusterMapDisplay.from_estimator(model, grid, names={0: "first", None: "sea"})
    labels = model.predict(grid).values
    np.testing.assert_array_equal(display.codes, np.where(np.isnan(labels), -1, labels).astype(int))
    assert display.mesh_.get_array().mask.sum() == 80
    edges = display.mesh_.get_coordinates()
    assert edges[0, 0].tolist() == [-0.25, 50.25]
    assert edges[-1, -1].tolist() == [19.75, 38.25]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("lon", "lat")
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["first", "1", "2", "3", "sea"]
    turned = ClusterMapDisplay.from_predictions(model.predict(grid).transpose("lon", "lat"))
    np.testing.assert_array_equal(turned.codes, display.codes)
    upright = ClusterMapDisplay.from_predictions(model.predict(grid), x="lat")
    np.testing.assert_array_equal(upright.codes, display.codes.T)


def test_a_large_map_is_thinned_where_it_is_computed():
    seen = []

    def make(block_info=None):
        shape = block_info[None]["chunk-shape"]
        seen.append(shape)
        return np.full(shape, block_info[None]["chunk-location"][0] % 3)

    labels = da.map_blocks(make, chunks=((100,) * 10, (1000,)), dtype=int, meta=np.empty((0, 0), dtype=int))
    display = ClusterMapDisplay.from_predictions(xr.DataArray(labels, dims=("y", "x")), max_cells=10_000)
    assert display.codes.shape == (100, 100)
    assert display.step == 10
    assert (0, 0) not in seen or len(seen) == 11
    np.testing.assert_array_equal(display.codes[:, 0], np.repeat(np.arange(10) % 3, 10))


def test_classes_by_name_keep_their_colours_whichever_are_on_the_map():
    grid = image(masked=False)
    truth = xr.DataArray(
        np.where(np.arange(24)[:, None] < 12, "sea", "land") + np.full((1, 40), ""), dims=("lat", "lon")
    )
    truth = truth.assign_coords(lat=grid.lat, lon=grid.lon)
    pixels = grid.transpose("lat", "lon", "band").values.reshape(-1, 2)
    model = LogisticRegression().fit(pixels, truth.values.ravel())
    whole = ClusterMapDisplay.from_estimator(model, grid.transpose("lat", "lon", "band"))
    part = ClusterMapDisplay.from_estimator(model, grid.isel(lat=slice(0, 10)))
    assert whole.classes == part.classes == ["land", "sea"]
    assert (part.codes == 1).all()
    np.testing.assert_array_equal(whole.codes, (truth.values == "sea").astype(int))


def test_grids_are_drawn_as_their_complete_samples():
    grid = image().transpose("lat", "lon", "band")
    whole = grid.values.reshape(-1, 2)
    complete = ~np.isnan(whole).any(axis=1)
    rows = whole[complete]
    target = grid.isel(band=0, drop=True) + 0.5 * np.random.default_rng(5).normal(size=(24, 40))
    numbers = target.values.ravel()[complete]
    labels = xr.where(target > 2.5, "north", "south")
    names = labels.values.ravel()[complete]

    model = LogisticRegression().fit(grid, labels, feature_dim="band")
    expected = reference.confusion_matrix(names, model.predict(rows))
    found = ConfusionMatrixDisplay.from_estimator(model, grid, labels)
    np.testing.assert_array_equal(found.confusion_matrix, expected)
    roc = RocCurveDisplay.from_estimator(model, grid, labels)
    assert roc.roc_auc == pytest.approx(reference.roc_auc_score(names, model.decision_function(rows)), rel=1e-12)
    line = LinearRegression().fit(grid, target, feature_dim="band")
    assert ResidualsDisplay.from_estimator(line, grid, target).counts.sum() == complete.sum()

    options = {"cv": 3, "train_sizes": [0.5, 1.0], "shuffle": True, "scoring": "neg_log_loss"}
    of_grid = learning_curve(LogisticRegression(), grid, labels, params={"feature_dim": "band"}, **options)
    of_rows = learning_curve(LogisticRegression(), rows, names, **options)
    for a, b in zip(of_grid, of_rows, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    values = [0.1, 10.0]
    path = CoefficientPathDisplay.from_estimator(
        Ridge(), grid, target, values=values, params={"feature_dim": "band"}, feature_names=["a", "b"]
    )
    np.testing.assert_allclose(path.coefficients[1], Ridge(alpha=10.0).fit(rows, numbers).coef_, rtol=1e-8)
    folds = cross_validate(
        LogisticRegression(),
        grid,
        labels,
        cv=3,
        return_estimator=True,
        return_indices=True,
        params={"feature_dim": "band"},
    )
    assert len(RocCurveDisplay.from_cv_results(folds, grid, labels).roc_auc) == 3


def test_what_is_no_map_is_refused():
    for labels, word in (
        (np.zeros(5), "two dimensions"),
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("time", "y", "x")), r"isel\(time=0\)"),
        (np.arange(1000).reshape(20, 50), "1000 classes"),
    ):
        with pytest.raises(ValueError, match=word):
            ClusterMapDisplay.from_predictions(labels)
    assert (ClusterMapDisplay.from_predictions(np.full((2, 3), np.nan)).codes == -1).all()
    with pytest.raises(ValueError, match="not among classes"):
        ClusterMapDisplay.from_predictions(np.zeros((2, 2)), classes=[1, 2])


# -- all of them -----------------------------------------------------------------------------------------------------

REDUCED = {
    "ClusterMapDisplay": lambda: ClusterMapDisplay(np.array([[0, 1], [-1, 1]]), classes=["a", "b"]),
    "CoefficientPathDisplay": lambda: CoefficientPathDisplay(np.array([0.1, 1.0]), np.array([[1.0, 2.0], [0.5, 0.0]])),
    "ConfusionMatrixDisplay": lambda: ConfusionMatrixDisplay(np.array([[3, 1], [0, 2]])),
    "DecisionRegionDisplay": lambda: inspection.DecisionRegionDisplay(
        *np.meshgrid([0.0, 1.0], [0.0, 1.0]), np.array([[0, 1], [0, 1]]), classes=["a", "b"]
    ),
    "HistoryDisplay": lambda: HistoryDisplay(
        {"fit": np.arange(3.0)}, {"fit": np.array([3.0, 2.0, 1.5])}, x_name="sweeps", y_name="loss"
    ),
    "KMeansSearchDisplay": lambda: KMeansSearchDisplay(
        KMeansSearch(n_clusters=(2, 3), n_references=1).fit(X[:100]).results_, 2
    ),
    "LearningCurveDisplay": lambda: LearningCurveDisplay(
        train_sizes=np.array([10, 20]), train_scores=np.ones((2, 3)), test_scores=np.zeros((2, 3)), score_name="Score"
    ),
    "PrecisionRecallDisplay": lambda: PrecisionRecallDisplay(precision=np.array([0.5, 1.0]), recall=np.array([1.0, 0.0])),
    "ResidualsDisplay": lambda: ResidualsDisplay(np.array([[1, 0], [2, 3]]), np.arange(3.0), np.arange(3.0)),
    "RocCurveDisplay": lambda: RocCurveDisplay(fpr=np.array([0.0, 1.0]), tpr=np.array([0.0, 1.0]), roc_auc=0.5),
}  # fmt: skip


def test_every_display_is_in_one_place_and_can_be_drawn_from_reduced_arrays():
    assert set(REDUCED) == set(inspection.__all__)


@pytest.mark.parametrize("name", REDUCED)
def test_a_display_of_reduced_arrays_draws_on_the_callers_axes(name, tmp_path):
    import matplotlib.pyplot as plt

    display = REDUCED[name]()
    assert not plt.get_fignums()  # nothing is drawn before it is asked for
    figure, ax = plt.subplots()
    assert display.plot(ax=ax) is display
    assert (display.ax_, display.figure_) == (ax, figure)
    display.figure_.savefig(tmp_path / "picture.png", dpi=20)
    assert isinstance(display, getattr(inspection, name))


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys, daskml_core.inspection, daskml_core.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sklearn" in loaded
    assert not {"matplotlib", "xarray", "zarr", "distributed", "dask.array"} & set(loaded)


@pytest.mark.parametrize(
    "name", [n for n in REDUCED if not n.startswith(("Confusion", "Roc", "Precision", "Learning"))]
)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    display = REDUCED[name]()
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=f"{name} draws with matplotlib.*pip install matplotlib"):
        display.plot()


def test_metrics_offers_what_it_draws():
    assert {"roc_curve", "precision_recall_curve", "RocCurveDisplay"} <= set(metrics.__all__)
