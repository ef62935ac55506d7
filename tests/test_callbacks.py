"""Callbacks on every estimator, by scikit-learn's protocol: this library's, scikit-learn's own, and a user's that fail."""

import io
import pickle
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from rich.console import Console
from sklearn import callback as reference
from sklearn import linear_model as plain
from sklearn import model_selection, pipeline
from sklearn.base import clone

import daskml_core
from daskml_core.callback import Callback, Checkpoint, DaskEvents, EarlyStopping, History, ProgressBar, events
from daskml_core.cluster import BisectingKMeans, KMeans
from daskml_core.engine.events import current_watch
from daskml_core.errors import ConvergenceWarning
from daskml_core.kernel_approximation import Nystroem, PolynomialCountSketch
from daskml_core.linear_model import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
)
from daskml_core.model_selection import GridSearchCV
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from daskml_core.svm import SVC, LinearSVC
from tests.fits import FITS, Interrupted, bits, data, stopped_after
from tests.problems import two_classes
from tests.test_sklearn_contract import ESTIMATORS


class Recorder(Callback):
    """Writes down what it is called with."""

    def __init__(self, fail_at="", stop_at=None):
        self.calls, self.fail_at, self.stop_at = [], fail_at, stop_at

    def _call(self, hook, context=None):
        self.calls.append((hook, None if context is None else context.task_name))
        if hook == self.fail_at:
            raise ZeroDivisionError(f"at {hook}")

    def names(self):
        return [hook for hook, _ in self.calls]

    def setup(self, estimator, context):
        self._call("setup", context)

    def on_fit_task_begin(self, estimator, context):
        self._call("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._call("end", context)
        steps = sum(call == ("end", "step") for call in self.calls)
        return self.stop_at is not None and steps >= self.stop_at

    def teardown(self, estimator, context):
        self._call("teardown", context)

    def on_event(self, fit, event):
        self._call(type(event).__name__)


# -- the protocol ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_every_estimator_takes_callbacks_and_a_clone_keeps_them(estimator):
    watcher = Recorder()
    model = clone(estimator)
    assert model.set_callbacks(watcher) is model
    assert clone(model)._skl_callbacks == [watcher]  # scikit-learn's rule, and its name
    with pytest.raises(TypeError, match="FitCallback"):
        model.set_callbacks(object())
    assert "Recorder" not in repr(model) and model.get_params().keys() == estimator.get_params().keys()


MADE = [name for name, fit in FITS.items() if fit.make is not None]


@pytest.mark.parametrize("name", MADE)
def test_hooks_come_in_order_and_change_nothing(name):
    X, y = data()
    watcher, history = Recorder(), History()
    fit = FITS[name]
    make = fit.make
    watched = type(fit)(lambda: make().set_callbacks(watcher, history), fit.target)
    with dask.config.set(scheduler="threads", num_workers=2):
        fitted = watched(X, y)
        assert bits(fitted) == bits(fit(X, y))
    hooks = [call for call in watcher.calls if call[1] is not None]
    assert [hook for hook, task in hooks if task == "fit"] == ["setup", "begin", "end", "teardown"]
    assert hooks[:2] == [("setup", "fit"), ("begin", "fit")] and hooks[-2:] == [("end", "fit"), ("teardown", "fit")]
    steps = [hook for hook, task in hooks if task == "step"]
    assert steps == ["begin", "end"] * (len(steps) // 2)
    told = [hook for hook, task in watcher.calls if task is None]
    assert told[0] == "FitBegan" and told[-1] == "FitEnded" and told.count("FitBegan") == 1
    assert len(history.rows) == told.count("SweepEnded") > 0
    assert not hasattr(fitted, "_callback_fit_ctx") and current_watch() is None


@pytest.mark.parametrize("make", [StandardScaler, MinMaxScaler, lambda: Nystroem(n_components=5)])
def test_fits_of_one_sweep_are_watched_too(make):
    X, _ = data()
    watcher, history = Recorder(), History()
    make().set_callbacks(watcher, history).fit(X)
    assert watcher.names()[:2] == ["FitBegan", "setup"] and watcher.names()[-1] == "teardown"
    assert len(history.rows) == 1 and history.rows[0]["seconds"] > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression(solver="lbfgs"),
        lambda: KMeans(3),
        lambda: LinearRegression(),
        lambda: StandardScaler(),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: make_pipeline(MinMaxScaler(), LogisticRegression()),
        lambda: GridSearchCV(LogisticRegression(solver="lbfgs"), {"C": [0.1, 1.0]}, cv=2),
        lambda: GridSearchCV(SGDClassifier(max_iter=2, tol=None), {"alpha": [0.1, 1.0]}, cv=2),
        lambda: pipeline.make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: model_selection.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    ],
)
def test_scikit_learns_own_progress_bar_works(make, capsys):
    X, y = two_classes(n=300)
    model = make().set_callbacks(reference.ProgressBar())
    model.fit(X, y)
    assert type(model).__name__ in capsys.readouterr().out.replace("\n", "")


def test_scikit_learns_scoring_monitor_sees_the_model_at_each_step():
    X, y = two_classes(n=2000)
    monitor = reference.ScoringMonitor(scoring="accuracy")
    model = LogisticRegression(solver="lbfgs", tol=1e-3).set_callbacks(monitor).fit(X, y)
    found = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "step"]
    assert len(found) == len(model.history_)
    assert found[-1] == pytest.approx(model.score(X, y)) and found[0] < found[-1]


def test_pipelines_and_searches_of_scikit_learn_hand_callbacks_on_to_the_models_of_this_library():
    X, y = two_classes(n=300)
    history = History()
    pipeline.make_pipeline(StandardScaler(), LogisticRegression()).set_callbacks(history).fit(X, y)
    kernels = [[row["kernels"] for row in run] for run in history.runs]
    assert kernels[0] == ["feature-moments"] and "second-moments" in kernels[1][-1]
    history = History()
    search = model_selection.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
    search.set_callbacks(history).fit(X, y)
    assert len(history.runs) == 2 * 2 + 1


def test_a_callback_on_a_pipeline_hears_each_sweep_of_its_steps_once():
    X, _ = data()
    history = History()
    make_pipeline(MinMaxScaler(), KMeans(3)).set_callbacks(history).fit(X)
    names = [row["kernels"] for row in history.rows]
    assert names == ["feature-moments", "draw-sample"] and len(history.runs) == 1


# -- callbacks that fail -----------------------------------------------------------------------------------------------


HOOKS = ["setup", "begin", "end", "teardown", "FitBegan", "SweepBegan", "FitEnded"]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("lbfgs", hook) for hook in HOOKS),
        *(("pipeline", hook) for hook in HOOKS),
        *(("GridSearchCV one by one", hook) for hook in ("end", "SweepBegan")),
    ],
)
def test_a_callback_that_raises_ends_the_fit_with_its_error_and_the_others_are_told(name, at):
    X, y = data()
    watcher, failing = Recorder(), Recorder(fail_at=at)
    fit = FITS[name]
    model = fit.make().set_callbacks(watcher, failing)
    with pytest.raises(ZeroDivisionError, match=f"^at {at}$"):
        type(fit)(lambda: model, fit.target)(X, y)
    names = watcher.names()
    assert names.count("FitBegan") == names.count("FitEnded") == 1
    # A pipeline that is trained as one model has counted its labels before it knows so, and sets its callbacks up then.
    early = at == "FitBegan" or (at == "SweepBegan" and name == "pipeline")
    assert names.count("setup") == names.count("teardown") == (not early)
    assert current_watch() is None and not hasattr(model, "_callback_fit_ctx")
    model.set_callbacks()
    assert bits(type(fit)(lambda: model, fit.target)(X, y)) == bits(fit(X, y))


def test_the_error_of_a_fit_is_not_hidden_by_that_of_a_callback():
    X, y = data()
    ended = []

    class Last(Callback):
        def on_event(self, fit, event):
            if isinstance(event, events.FitEnded):
                ended.append(event)
                raise ZeroDivisionError("late")

    with pytest.raises(ValueError, match=r"NaN") as caught:
        LogisticRegression().set_callbacks(Last()).fit(X * np.nan, y)
    assert "ZeroDivisionError: late" in caught.value.__notes__[-1]
    assert ended[0].outcome == "failed" and "NaN" in ended[0].reason


# -- stopping early ----------------------------------------------------------------------------------------------------


def stopped(model, X, y=None):
    """The model, which was stopped early with one warning that says so."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(X, y)
    (warning,) = [w for w in told if issubclass(w.category, ConvergenceWarning)]
    assert "was stopped early" in str(warning.message) and "did not converge" not in str(warning.message)
    assert warning.filename == __file__
    return model


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda n: LogisticRegression(solver="lbfgs", tol=1e-12, max_iter=n), "labels"),
        (lambda n: LogisticRegression(solver="newton", tol=1e-12, max_iter=n), "labels"),
        (lambda n: LogisticRegression(solver="proximal", l1_ratio=0.5, tol=1e-12, max_iter=n), "labels"),
        (lambda n: LogisticRegression(solver="gradient_descent", tol=1e-12, max_iter=n), "labels"),
        (lambda n: PoissonRegressor(solver="newton", tol=1e-12, max_iter=n), "labels"),
        (lambda n: HuberRegressor(tol=1e-12, max_iter=n), "labels"),
        (lambda n: SGDClassifier(tol=None, max_iter=n), "labels"),
        (lambda n: KMeans(9, init_size=200, tol=0.0, max_iter=n, n_init=2), "none"),
        (lambda n: LinearSVC(tol=1e-12, solver="lbfgs", max_iter=n), "labels"),
    ],
)
def test_a_model_stopped_at_a_step_is_the_model_of_so_many_iterations(make, target):
    X, y = data()
    y = y if target == "labels" else None
    watcher = Recorder(stop_at=3)
    if isinstance(make(2), KMeans):
        watcher = EarlyStopping("loss", threshold=1e30, patience=None)  # at the first inertia there is
    found = stopped(make(1000).set_callbacks(watcher), X, y)
    assert not found.converged_ or isinstance(found, SGDClassifier)
    n = int(found.n_iter_)
    assert n == (1 if isinstance(found, KMeans) else 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = make(n).fit(X, y)
    for name in ("coef_", "intercept_", "cluster_centers_", "inertia_"):
        if hasattr(expected, name):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.fixture(scope="module")
def larger_than_a_sample():
    X, y = two_classes(n=120_000, d=5, dtype=np.float32)
    return da.from_array(X, chunks=(10_000, -1)), da.from_array(y, chunks=10_000)


def test_the_default_solver_stops_between_its_phases_as_well(larger_than_a_sample):
    X, y = larger_than_a_sample
    history = History()
    with dask.config.set({"daskml-core.memory-limit": "1 GiB"}):
        model = LogisticRegression(tol=1e-13).set_callbacks(Recorder(stop_at=1), history)
        found = stopped(model, X, y)
    # The labels, the sample, one gradient: none after the step it was stopped at.
    assert len(history.rows) == 3 and found.n_iter_ == 0 and found.coef_.any()


def test_support_vector_machines_stop_at_a_gap(larger_than_a_sample):
    stop = EarlyStopping("gap", threshold=0.3, patience=None)
    model = stopped(LinearSVC(loss="hinge", tol=1e-12).set_callbacks(stop), *larger_than_a_sample)
    assert model.duality_gap_ <= 0.3 and not model.converged_ and "gap" in stop.reason
    X, y = data()
    cascade = FITS["SVC cascade"].make().set_params(tol=1e-9)
    stop = EarlyStopping("gap", threshold=0.5, patience=None)
    model = stopped(cascade.set_callbacks(stop), X, y)
    assert model.fit_status_ == 1 and not model.converged_
    # Sweeps of the cascade certify the gap of the very machine that is kept.
    assert stop.values[-1][1] == pytest.approx(model.duality_gap_) and model.duality_gap_ <= 0.5
    assert model.score(X, y) > 0.7


def test_patience_waits_for_so_many_steps_without_an_improvement():
    stop = EarlyStopping(patience=2, min_delta=0.1)
    stop.on_event("a", events.FitBegan("a", ("A",)))
    answers = [
        stop.on_event("a", events.StepAccepted(0, 1, {"loss": loss}))
        for loss in (float("nan"), 10.0, 8.0, 7.9, 7.0, 6.9, 6.8)
    ]
    assert answers[:-1] == [None] * 6 and answers[-1] == "loss has not improved by 0.1 in 2 steps" == stop.reason


def test_models_in_lockstep_stop_each_by_itself():
    X, y = data()
    stop = EarlyStopping("loss", threshold=0.3, patience=None)
    grid = {"C": [1e-6, 1.0]}  # the first keeps the loss of its intercept
    search = GridSearchCV(LogisticRegression(solver="lbfgs", tol=1e-8), grid, cv=2, refit=False)
    with pytest.warns(ConvergenceWarning, match="was stopped early"):
        search.set_callbacks(stop).fit(X, y)
    by_model = {}
    for model, value in stop.values:
        by_model.setdefault(model, []).append(value)
    ends = [(by_model[model][-1] <= 0.3, len(by_model[model])) for model in sorted(by_model)]
    assert [end for end, _ in ends] == [False, False, True, True]
    assert max(n for end, n in ends if end) < min(n for end, n in ends if not end)


@pytest.mark.parametrize("container", ["numpy", "dask"])
def test_a_score_on_held_out_data_stops_a_fit_and_its_sweeps_are_none_of_the_fits(container, tmp_path):
    X, y = data()
    test = (X[:300], y[:300]) if container == "dask" else (np.asarray(X[:300]), np.asarray(y[:300]))
    stop, history = EarlyStopping("score", validation=test, threshold=0.6, scoring="accuracy"), History()
    model = LogisticRegression(solver="lbfgs", tol=1e-10, C=0.01).set_callbacks(stop, history)
    with pytest.warns(ConvergenceWarning, match="score"):
        model.fit(X, y, checkpoint=tmp_path / "c")
    assert stop.values[-1][1] == pytest.approx(model.score(*test)) and stop.values[-1][1] >= 0.6
    assert all("accuracy" not in row["kernels"] and "pairs" not in row["kernels"] for row in history.rows)
    assert model.n_sweeps_ == pytest.approx(len(model.history_), abs=0.5)
    inertias = EarlyStopping("score", validation=(test[0], None), patience=1, min_delta=0.05)
    clusters = KMeans(9, init_size=100, tol=0.0).set_callbacks(inertias)
    with pytest.warns(ConvergenceWarning, match="score has not improved"):
        clusters.fit(X)
    assert inertias.values[-1][1] == pytest.approx(clusters.score(test[0]))


def test_what_cannot_be_stopped_or_watched_says_so():
    X, y = data()
    with pytest.raises(ValueError, match=r"but of no gap"):
        LogisticRegression().set_callbacks(EarlyStopping("gap")).fit(X, y)
    with pytest.raises(TypeError, match=r"cannot: a tree that is half grown"):
        BisectingKMeans(5, init_size=100).set_callbacks(EarlyStopping(threshold=1e30)).fit(X)
    score = {"monitor": "score", "validation": (X, y)}
    for model in (SVC(), GridSearchCV(LogisticRegression(solver="lbfgs"), {"C": [1.0]}, cv=2)):
        with pytest.raises(TypeError, match=r"no model at its steps that could be scored"):
            model.set_callbacks(EarlyStopping(**score)).fit(X, y)
    with pytest.raises(TypeError, match=r"not of this library"):
        plain.LogisticRegression().set_callbacks(Checkpoint("c")).fit(np.asarray(X), np.asarray(y))
    with pytest.raises(TypeError, match=r"keeps no checkpoint"):
        PolynomialCountSketch(n_components=8).set_callbacks(Checkpoint("c")).fit(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "accuracy"}, "monitor must be one of"),
        ({"patience": 0}, "patience must be"),
        ({"patience": None}, "would never stop"),
        ({"min_delta": -1.0}, "min_delta must not"),
        ({"monitor": "score"}, "needs it"),
        ({"validation": (1, 2)}, "belongs to"),
        ({"monitor": "score", "validation": [1, 2]}, "must be a tuple"),
        ({"scoring": "r2"}, "scoring belongs to"),
    ],
)
def test_early_stopping_refuses_what_means_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


# -- the others --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_callback_is_the_checkpoint_argument(tmp_path):
    X, y = data()
    for name in ("lbfgs", "pipeline", "GridSearchCV"):
        fit, keep = FITS[name], Checkpoint(tmp_path / "kept")
        watched = type(fit)(lambda fit=fit, keep=keep: fit.make().set_callbacks(keep), fit.target)
        with dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
            with stopped_after(2), pytest.raises(Interrupted):
                watched(X, y)
            assert keep.n_written == 2 and keep.checkpoint.exists()
            with stopped_after(None) as happened:
                fitted = watched(X, y)
        with stopped_after(None) as all_of_them:
            expected = fit(X, y)
        assert bits(fitted) == bits(expected)
        assert len([n for n in happened if n != "checksum"]) == len(all_of_them) - 2
        assert not keep.checkpoint.exists()


def test_an_interrupted_fit_is_told_as_interrupted_and_kept_in_the_history():
    X, y = data()
    history, outcomes = History(), []

    class Breaks(Callback):
        def on_event(self, fit, event):
            if isinstance(event, events.FitEnded):
                outcomes.append(event.outcome)
            if isinstance(event, events.StepAccepted) and event.record["n_iter"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LogisticRegression(solver="lbfgs", tol=1e-9).set_callbacks(history, Breaks()).fit(X, y)
    assert outcomes == ["interrupted"] and len(history.rows) == 4


def test_history_is_a_table_of_the_sweeps():
    X, y = data()
    history = History()
    assert repr(history) == "History of no fit" and history.rows == []
    model = LogisticRegression(solver="lbfgs", tol=1e-3).set_callbacks(history).fit(X, y)
    losses = [row["loss"] for row in history.rows if row["loss"] is not None]
    assert losses == [row["loss"] for row in model.history_]
    assert [row["sweep"] for row in history.rows] == list(range(1, len(history.rows) + 1))
    lines = repr(history).splitlines()
    assert len(lines) == len(history.rows) + 1 and lines[0].split()[:3] == ["sweep", "kernels", "seconds"]
    assert history._repr_html_().count("<tr>") == len(lines)
    model.fit(X, y)
    assert len(history.runs) == 2


def test_the_progress_bar_leaves_its_last_picture_where_there_is_no_terminal():
    X, y = data()
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=120))
    model = GridSearchCV(LogisticRegression(solver="lbfgs"), {"C": [0.1, 1.0]}, cv=2).set_callbacks(bar).fit(X, y)
    first, second = text.getvalue().splitlines()
    assert "GridSearchCV of LogisticRegression" in first and "sweeps" in second
    assert f"best score {model.best_score_:.5g}" in second


def test_models_with_callbacks_are_pickled_copied_and_saved(tmp_path):
    X, y = data()
    watchers = [History(), EarlyStopping(), DaskEvents(), ProgressBar(Console(file=io.StringIO())), Checkpoint("c")]
    model = LogisticRegression().set_callbacks(*watchers[:-1]).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert [type(c) for c in again._skl_callbacks] == [type(c) for c in watchers[:-1]]
    pickle.loads(pickle.dumps(watchers[-1]))
    assert len(again._skl_callbacks[0].rows) == len(watchers[0].rows) > 0
    again.fit(X, y)
    daskml_core.save(model, tmp_path / "m.zip")
    np.testing.assert_array_equal(daskml_core.load(tmp_path / "m.zip").coef_, model.coef_)


def test_a_checkpoint_may_be_kept_at_a_url():
    keep = Checkpoint("memory://kept/by-callback")
    assert keep.checkpoint == "memory://kept/by-callback"
    with dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
        LogisticRegression(solver="lbfgs", max_iter=30).set_callbacks(keep).fit(*data())
    assert keep.n_written > 3
