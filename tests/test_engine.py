"""The engine: the tree, counted tasks and reads, residency, memory plan."""

from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows, run_sweeps
from daskml_core.engine.tree import reduce_tree, span_level, span_ranges
from daskml_core.errors import MemoryPlanError
from daskml_core.linear_model import LogisticRegression
from daskml_core.model_selection import train_test_split
from daskml_core.optimize import minimize
from daskml_core.preprocessing import StandardScaler
from daskml_core.sweep import Kernel, Sweep
from tests.problems import two_classes


def _rows(block, params):
    return block.n_rows


COUNT = Kernel(_rows, "count")


def join(a, b):
    return f"({a}{b})"


@pytest.mark.parametrize("n", range(1, 40))
@pytest.mark.parametrize("level", range(5))
def test_spans_of_any_level_reduce_to_the_same_tree(n, level):
    leaves = [chr(97 + i % 26) for i in range(n)]
    spans = [reduce_tree(leaves[lo:hi], join) for lo, hi in span_ranges(n, level)]
    assert reduce_tree(spans, join) == reduce_tree(leaves, join)


@pytest.mark.parametrize("n_blocks", [1, 7, 40, 400, 4000])
def test_the_number_of_spans_does_not_grow_with_blocks(n_blocks):
    level = span_level(n_blocks, 16)
    assert len(span_ranges(n_blocks, level)) <= 16


def counting_array(X, chunks, counter):
    """A lazy array that counts how often its blocks are computed."""

    def touch(block):
        if block.size:
            counter.append(len(block))
        return block

    return da.from_array(X, chunks=chunks).map_blocks(touch, dtype=X.dtype, meta=np.empty((0, X.shape[1]), X.dtype))


def test_resident_data_is_read_once_whatever_the_number_of_sweeps():
    X, y = two_classes(n=1000)
    reads = []
    model = LogisticRegression(solver="newton").fit(counting_array(X, (100, -1), reads), y)
    assert model.n_sweeps_ > 3
    assert len(reads) == 10


def test_finding_lengths_is_a_sweep_that_is_counted():
    X, y = two_classes(n=1000)
    reads = []
    data = counting_array(X, (100, -1), reads)
    data = data[da.ones(1000, chunks=100, dtype=bool)]
    with dask.config.set({"daskml-core.residency": False}):
        model = LogisticRegression(solver="newton").fit(data, y)
        rounds = len(reads) / 10
        # The lengths are found in X alone, the other sweeps read y as well.
        assert model.n_sweeps_ == pytest.approx(rounds - 1 + 6 / 7, abs=1e-6)
        reads.clear()
        result = minimize(lambda w, X, y: (float(w @ w), 2 * w), np.zeros(6), data, y)
        assert result.n_sweeps == pytest.approx(len(reads) / 10 - 1 + 6 / 7)


def test_streamed_data_is_read_once_a_sweep():
    X, y = two_classes(n=1000)
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        model = LogisticRegression(solver="newton").fit(counting_array(X, (100, -1), reads), y)
    assert len(reads) == 10 * model.n_sweeps_
    assert model.history_[-1]["bytes_read"] == model.n_sweeps_ * (X.nbytes + 8 * len(X))


def test_the_plan_reads_nothing():
    X, y = two_classes(n=1000)
    reads = []
    plan = LogisticRegression().plan(counting_array(X, (100, -1), reads), y)
    assert reads == []
    assert plan.n_blocks == 10
    assert "peak a process" in repr(plan)
    assert "<table" in plan._repr_html_()


def test_a_block_that_cannot_fit_is_refused_before_anything_is_read():
    X, y = two_classes(n=200_000)
    reads = []
    with (
        dask.config.set({"daskml-core.memory-limit": "1 MiB"}),
        pytest.raises(MemoryPlanError, match=r"Row block 0 .* memory limit is 1.0 MiB"),
    ):
        LogisticRegression().fit(counting_array(X, (100_000, -1), reads), y)
    assert reads == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fan-in", 1),
        ("fan-in", 3),
        ("spans-per-thread", 0),
        ("spans-per-thread", 2.5),
        ("read-ahead", -1),
        ("residency", "no"),
        ("keep-decoded", 3),
        ("memory-limit", "4 bananas"),
        ("memory-limit", 0),
        ("memroy-limit", "2 GiB"),
    ],
)
def test_settings_that_make_no_sense_are_errors(name, value):
    X, y = two_classes(n=1000)
    with (
        dask.config.set({f"daskml-core.{name}": value}),
        pytest.raises(ValueError, match=f"daskml-core.{name}( must be| is no|. There are)"),
    ):
        LogisticRegression().fit(da.from_array(X, chunks=(100, -1)).map_blocks(np.copy), y)


def test_every_setting_is_documented():
    guide = (Path(__file__).parent.parent / "docs" / "guide" / "settings.md").read_text()
    for name, value in dask.config.get("daskml-core").items():
        shown = "null" if value is None else str(value).lower()
        assert f"| `{name}` | {shown} |" in guide


def test_several_kernels_share_one_read():
    X, _ = two_classes(n=500)
    reads = []
    blocks = load(counting_array(X, (50, -1), reads), count_rows=count_rows)
    assert run_sweeps(blocks, Sweep(COUNT), Sweep(COUNT)) == (500, 500)
    assert len(reads) == 10


def test_a_resident_sweep_is_two_tasks_a_thread_for_any_number_of_blocks_and_moves_no_data():
    def tasks_run(dask_scheduler):
        return {
            key for key, _, finish, *_ in dask_scheduler.transition_log if finish == "memory" and "count" in str(key)
        }

    def copies(dask_scheduler):
        return [len(task.who_has) for key, task in dask_scheduler.tasks.items() if "load" in str(key)]

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 2
        for n_blocks in (40, 400, 401, 4000):
            for _ in range(
                3
            ):  # where the machine stands still for a moment Dask takes a task for a long one, and steals it
                engine = Engine(load(da.ones((n_blocks * 5, 3), chunks=(5, 3)), count_rows=count_rows))
                assert engine.sweep(Sweep(COUNT)) == (n_blocks * 5,)
                before = client.run_on_scheduler(tasks_run)
                assert engine.sweep(Sweep(COUNT)) == (n_blocks * 5,)
                assert len(client.run_on_scheduler(tasks_run) - before) == 4
                copied, n_spans = client.run_on_scheduler(copies), engine.n_spans
                del engine
                if copied == [1] * n_spans:
                    break
            assert copied == [1] * n_spans


def test_task_names_tell_what_they_do():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        X, y = two_classes(n=60_000)
        LogisticRegression().fit(da.from_array(X, chunks=(6000, -1)).map_blocks(np.copy), y)

        def prefixes(dask_scheduler):
            return list(dask_scheduler.task_prefixes)

        names = client.run_on_scheduler(prefixes)
        assert "logistic-gradient" in names
        assert "draw-sample-and-second-moments" in names


def test_persisted_data_is_used_where_it_lies():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        # Blocks that come out different each time they are computed: only the persisted ones can agree with `held`.
        X, y = two_classes(n=1000)
        lazy = da.from_array(X, chunks=(100, -1)).map_blocks(lambda b: b + np.random.default_rng().normal(size=b.shape))
        persisted = lazy.persist()
        held = persisted.compute()
        model = LogisticRegression(solver="newton").fit(persisted, y)
        expected = LogisticRegression(solver="newton").fit(held, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
        doubled = LogisticRegression(solver="newton").fit(persisted * 2, y)
        np.testing.assert_allclose(doubled.coef_, LogisticRegression(solver="newton").fit(held * 2, y).coef_, rtol=1e-8)
        prediction = model.predict(persisted)
        np.testing.assert_array_equal(prediction.compute(), expected.predict(held))
        # The prediction holds the persisted blocks by their keys alone; whatever reads it must find them.
        assert model.score(persisted, y) == expected.score(held, y)
        scaled = StandardScaler().fit(persisted).transform(persisted)
        again = LogisticRegression(solver="newton").fit(scaled, y)
        alone = LogisticRegression(solver="newton").fit(StandardScaler().fit_transform(held), y)
        np.testing.assert_allclose(again.coef_, alone.coef_, rtol=1e-8)
        X_train, _, y_train, _ = train_test_split(persisted, da.from_array(y, chunks=300).persist())
        assert LogisticRegression(solver="newton").fit(X_train, y_train).converged_


def test_streamed_blocks_kept_decoded_are_read_once_and_removed_after_the_fit(tmp_path):
    X, y = two_classes(n=1000)
    reads = []
    with dask.config.set({"daskml-core.residency": False, "daskml-core.keep-decoded": str(tmp_path)}):
        model = LogisticRegression(solver="newton").fit(counting_array(X, (100, -1), reads), y)
    assert len(reads) == 10
    assert list(tmp_path.iterdir()) == []
    with dask.config.set({"daskml-core.residency": False}):
        again = LogisticRegression(solver="newton").fit(da.from_array(X, chunks=(100, -1)).map_blocks(np.copy), y)
    assert model.coef_.tobytes() == again.coef_.tobytes()


def test_workers_keep_decoded_blocks_too(tmp_path):
    X, y = two_classes(n=1000)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
        dask.config.set({"daskml-core.residency": False, "daskml-core.keep-decoded": str(tmp_path)}),
    ):
        model = LogisticRegression(solver="newton").fit(da.from_array(X, chunks=(100, -1)).map_blocks(np.copy), y)
    assert model.converged_
    assert list(tmp_path.iterdir()) == []
