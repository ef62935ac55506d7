"""What a fit tells those who watch it: in order, true, and without changing anything."""

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows
from daskml_core.engine.events import (
    CheckpointWritten,
    DataPlanned,
    ModelEnded,
    ModelsBegan,
    Scored,
    StepAccepted,
    SweepBegan,
    SweepEnded,
    Watch,
    current_watch,
    watched_by,
)
from daskml_core.errors import BlockError
from daskml_core.linear_model import LogisticRegression, Ridge
from daskml_core.model_selection import GridSearchCV
from daskml_core.sweep import Kernel, Sweep
from tests.fits import FITS, bits, data
from tests.problems import two_classes


def told(fit, *listeners):
    """The events of a fit, and what it returned."""
    events = []
    with watched_by(Watch([events.append, *listeners])):
        return events, fit()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    X, y = two_classes(n=4000, d=6, dtype=np.float32)
    path = tmp_path_factory.mktemp("events") / "X.zarr"
    stored = zarr.create_array(path, shape=X.shape, chunks=(250, 6), dtype="f4")
    stored[:] = X
    return path, y


# The estimators are watched by callbacks in tests/test_callbacks.py, all of them.
WATCHED = ["auto", "k-means", "mini-batch k-means", "SVC cascade", "GridSearchCV", "minimize", "cross_validate"]


@pytest.mark.parametrize("name", WATCHED)
def test_a_fit_that_is_watched_has_the_same_bits(name):
    X, y = data()
    with dask.config.set(scheduler="threads", num_workers=2):
        events, fitted = told(lambda: FITS[name](X, y))
        assert bits(fitted) == bits(FITS[name](X, y))
    began = [(e.data, e.number) for e in events if isinstance(e, SweepBegan)]
    ended = [(e.data, e.number) for e in events if isinstance(e, SweepEnded)]
    assert began == ended and len(began) == len(set(began)) > 0
    planned = [e.data for e in events if isinstance(e, DataPlanned)]
    assert planned == sorted(set(planned)) and {number for number, _ in began} == set(planned)


@pytest.mark.parametrize("name", ["auto", "k-means", "pipeline", "GridSearchCV", "mini-batch k-means"])
def test_the_sweeps_that_are_told_are_those_that_the_model_counts(name):
    X, y = data()
    watch = Watch([])
    with watched_by(watch):
        fitted = FITS[name](X, y)
    last = fitted[-1] if hasattr(fitted, "steps") else fitted
    # The model weighs a sweep over labels by their share in the columns, the watch by that in bytes.
    assert watch.n_sweeps == pytest.approx(last.n_sweeps_, abs=0.6)
    assert watch.n_sweeps >= 1


def test_steps_carry_the_rows_of_the_history_and_the_model_as_it_was():
    X, y = data()
    models = []
    events, model = told(lambda: LogisticRegression(solver="lbfgs", tol=1e-3).fit(X, y))
    steps = [e for e in events if isinstance(e, StepAccepted)]
    assert [dict(e.record) for e in steps] == model.history_
    assert [e.loss for e in steps] == [row["loss"] for row in model.history_]
    assert [e.criterion for e in steps] == [row["grad_norm"] for row in model.history_]
    with pytest.raises(TypeError):
        steps[0].record["loss"] = 0.0
    models = [e.attributes() for e in steps]
    np.testing.assert_array_equal(models[-1]["coef_"], model.coef_)
    assert not np.array_equal(models[0]["coef_"], model.coef_)


def test_what_is_resident_streamed_and_read_is_told(store):
    path, y = store
    fit = lambda: LogisticRegression(solver="lbfgs", tol=1e-2).fit(zarr.open_array(path), y)  # noqa: E731
    n_bytes = 4000 * 6 * 4
    with dask.config.set({"daskml-core.residency": True}):
        resident, _ = told(fit)
    with dask.config.set({"daskml-core.residency": False}):
        streamed, _ = told(fit)
    for events, streams in ((resident, False), (streamed, True)):
        plan = [e for e in events if isinstance(e, DataPlanned)][-1]
        assert (plan.n_rows, plan.n_features, plan.streams) == (4000, 6, streams)
        # The labels, which lie in memory, are read with the blocks.
        first, *rest = [e.bytes_read for e in events if isinstance(e, SweepEnded) and e.data == plan.data]
        assert n_bytes <= first <= n_bytes + 8 * 4000
        assert set(rest) == ({first} if streams else {0})


def test_models_that_run_are_counted_down_and_the_best_setting_is_told():
    X, y = data()
    grid = {"C": [0.01, 0.1, 1.0]}
    events, search = told(lambda: GridSearchCV(LogisticRegression(solver="lbfgs"), grid, cv=2).fit(X, y))
    begun = [e.n_models for e in events if isinstance(e, ModelsBegan)]
    assert begun == [6, 1]  # and the refit
    running = [e.running for e in events if isinstance(e, ModelEnded)]
    assert running == [5, 4, 3, 2, 1, 0, 0]
    (best,) = [e for e in events if isinstance(e, Scored)]
    assert best.params == search.best_params_ and best.score == pytest.approx(search.best_score_)
    assert (best.n_scored, best.n_settings, best.metric) == (3, 3, "score")


def test_settings_that_are_scored_one_after_the_other_are_told_one_after_the_other():
    X, y = data()
    events, search = told(lambda: FITS["GridSearchCV one by one"](X, y))
    scored = [e for e in events if isinstance(e, Scored)]
    assert [e.n_scored for e in scored] == [1, 2, 2, 2]
    assert scored[-1].params == search.best_params_ and scored[-1].score == pytest.approx(search.best_score_)


def test_a_sweep_can_be_asked_how_far_it_is():
    X, y = two_classes(n=1600)
    blocks = load(da.from_array(X, chunks=(100, -1)).map_blocks(np.copy), y, count_rows=count_rows)
    seen, asking = [], []

    def look(block, params):
        seen.append(asking[-1].done())
        return 1

    with dask.config.set(scheduler="synchronous"):
        watch = Watch([lambda event: asking.append(event) if isinstance(event, SweepBegan) else None])
        with watched_by(watch):
            engine = Engine(blocks)
        engine.sweep(Sweep(Kernel(look, "look")))
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1 - 1 / engine.n_spans
    assert asking[-1].done() == 1


def test_a_kernel_that_trains_estimators_is_no_part_of_what_is_told():
    X, y = two_classes(n=600)
    inside = []

    def train(block, params):
        inside.append(current_watch())
        Ridge(solver="lbfgs").fit(block.X, block.y)
        return 1

    blocks = load(X, y, count_rows=count_rows)

    def sweep():
        return Engine(blocks).sweep(Sweep(Kernel(train, "train")))

    events, _ = told(sweep)
    assert inside == [None] * blocks.n_blocks
    assert [type(e).__name__ for e in events] == ["DataPlanned", "SweepBegan", "SweepEnded"]


@pytest.mark.parametrize("at", [DataPlanned, SweepBegan, SweepEnded, StepAccepted, ModelEnded])
@pytest.mark.parametrize("name", ["lbfgs", "k-means", "LinearSVC"])
def test_a_listener_that_raises_ends_the_fit_with_its_error(at, name):
    X, y = data()

    def raises(event):
        if isinstance(event, at):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        told(lambda: FITS[name](X, y), raises)
    assert current_watch() is None


def test_a_listener_that_raises_stop_iteration_ends_no_solver():
    X, y = data()

    def raises(event):
        if isinstance(event, StepAccepted):
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        told(lambda: FITS["lbfgs"](X, y), raises)


def test_replayed_sweeps_and_written_checkpoints_are_told(tmp_path):
    from tests.fits import Interrupted, stopped_after

    X, y = data()
    with dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
        with stopped_after(3), pytest.raises(Interrupted):
            FITS["lbfgs"](X, y, checkpoint=tmp_path / "c")
        events, model = told(lambda: FITS["lbfgs"](X, y, checkpoint=tmp_path / "c"))
    # At the end the labels, of which only replayed sweeps have told, are compared with their checksums.
    replayed = [e.replayed for e in events if isinstance(e, SweepEnded) and e.name != "checksum"]
    assert replayed[:3] == [True] * 3 and not any(replayed[3:])
    written = [e for e in events if isinstance(e, CheckpointWritten)]
    assert [e.segment for e in written] == list(range(4, 4 + len(written))) and len(written) == len(replayed) - 3
    assert bits(model) == bits(FITS["lbfgs"](X, y))


def test_nobody_who_listens_means_no_watch(monkeypatch):
    X, y = data()

    def never(*args):
        raise AssertionError("a fit that nobody watches makes events")

    monkeypatch.setattr(Watch, "tell", never)
    monkeypatch.setattr(Engine, "_tell_plan", never)
    LogisticRegression().fit(X, y)


def test_an_error_in_a_block_is_told_as_it_is():
    X, y = data()
    with pytest.raises((ValueError, BlockError), match=r"NaN|block"):
        told(lambda: LogisticRegression().fit(X * np.nan, y))
