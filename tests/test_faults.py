"""Errors name the sweep, the block, its rows and its source, wherever spans run."""

import re
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from daskml_core.errors import BlockError, FitInterrupted, SweepTimeoutError
from daskml_core.linear_model import LogisticRegression, SGDClassifier
from daskml_core.model_selection import GridSearchCV
from daskml_core.optimize import minimize
from tests.problems import two_classes


def failing(error, place=7):
    """A lazy array whose block cannot be read."""

    def read(block, block_info=None):
        if block.size and block_info and block_info[0]["chunk-location"][0] == place:
            raise error
        return block

    X, y = two_classes(n=1000)
    return da.from_array(X, chunks=(100, -1)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, X.shape[1]))), y


@pytest.mark.parametrize("residency", [True, False])
@pytest.mark.parametrize("model", [LogisticRegression(), SGDClassifier(max_iter=1, tol=None)], ids=["sweep", "fold"])
def test_a_block_that_cannot_be_read_is_named(model, residency):
    X, y = failing(OSError("Input/output error"))
    message = (
        r"Sweep 1 of this data \(.+\): Reading row block 7 \(rows 700 to 799, Dask block .* \(7, 0\)\) failed: OSError"
    )
    with dask.config.set({"daskml-core.residency": residency}), pytest.raises(BlockError, match=message) as caught:
        model.fit(X, y)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_block_that_can_be_read_the_second_time_is(tmp_path):
    X, y = two_classes(n=1000)
    failed = []

    def read(block, block_info=None):
        if block.size and block_info and block_info[0]["chunk-location"][0] == 7 and not failed:
            failed.append(1)
            raise OSError("Input/output error")
        return block

    lazy = da.from_array(X, chunks=(100, -1)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, X.shape[1])))
    model = LogisticRegression().fit(lazy, y)
    assert failed
    plain = LogisticRegression().fit(da.from_array(X, chunks=(100, -1)).map_blocks(np.copy), y)
    assert model.coef_.tobytes() == plain.coef_.tobytes()


def test_workers_name_the_block_too():
    X, y = failing(OSError("Input/output error"))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
        pytest.raises(BlockError, match=r"Reading row block 7 \(rows 700 to 799, Dask block"),
    ):
        LogisticRegression().fit(X, y)


def test_a_refusal_of_the_data_stays_what_it_is_and_gets_the_place_as_a_note():
    X, y = failing(ValueError("odd numbers"))
    with pytest.raises(ValueError, match="odd numbers") as caught:
        LogisticRegression().fit(X, y)
    assert "Reading row block 7 (rows 700 to 799" in caught.value.__notes__[0]
    assert "in sweep 1 of this data" in caught.value.__notes__[-1]


@pytest.mark.parametrize("residency", [True, False])
def test_a_kernel_that_fails_names_the_chunk_of_the_store(residency, tmp_path):
    X, y = two_classes(n=60_000, d=10)
    store = zarr.create_array(tmp_path / "X.zarr", shape=X.shape, chunks=(15_000, 10), dtype="f8")
    store[:] = X

    def value_and_grad(w, X, y):
        return 1 // (len(X) - 15_000 * bool(X[0, 0] == first)), w

    first = X[30_000, 0]
    message = (
        r"Sweep 1 of this data \(.+\): The kernel .* on row block 2 \(rows 30_000 to 44_999, chunk 2 along the rows of zarr "
        r"array .*X\.zarr.*\) failed: ZeroDivisionError"
    )
    with dask.config.set({"daskml-core.residency": residency}), pytest.raises(BlockError, match=message):
        minimize(value_and_grad, np.zeros(10), store, y)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sweep_that_takes_too_long_names_what_is_outstanding(threads):
    X, y = two_classes(n=1000)
    let_go = threading.Event()

    def read(block, block_info=None):
        if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
            let_go.wait(300)
        return block

    X = da.from_array(X, chunks=(100, -1)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, X.shape[1])))
    settings = {"daskml-core.spans-per-thread": 100, "num_workers": threads}
    # Where the machine stands still for that long, others are outstanding too: they get more time.
    for seconds in (0.5, 5, 50):
        with (
            dask.config.set(settings | {"daskml-core.sweep-timeout": seconds}),
            pytest.raises(SweepTimeoutError) as caught,
        ):
            LogisticRegression().fit(X, y)
        if re.search(r"Outstanding: row block.* 7", str(caught.value)):
            break
    let_go.set()
    assert re.search(r"Outstanding: row block.* 7", str(caught.value))
    assert isinstance(caught.value, FitInterrupted)
    assert "Nothing was kept of the fit: give it a checkpoint" in str(caught.value)


def test_a_sweep_within_its_time_is_none_the_worse():
    X, y = two_classes(n=1000)
    lazy = da.from_array(X, chunks=(100, -1)).map_blocks(np.copy)
    plain = LogisticRegression().fit(lazy, y)
    with dask.config.set({"daskml-core.sweep-timeout": 60}):
        timed = LogisticRegression().fit(lazy, y)
    assert timed.coef_.tobytes() == plain.coef_.tobytes()


def test_an_interruption_ends_a_search_and_is_no_score_of_a_model(monkeypatch):
    X, y = two_classes(n=1000)

    def fit(self, *args, **kwargs):
        raise FitInterrupted("the scheduler has gone")

    monkeypatch.setattr(SGDClassifier, "fit", fit)
    with pytest.raises(FitInterrupted):
        GridSearchCV(SGDClassifier(), {"alpha": [1e-4, 1e-3]}, cv=2).fit(X, y)
