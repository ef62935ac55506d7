"""Checkpoints: an interrupted fit goes on to the same bits, and a checkpoint of anything else is refused by name."""

import errno
import inspect
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core import errors
from daskml_core.cluster import KMeans
from daskml_core.engine import checkpoint as module
from daskml_core.engine.portable import NotPortable, decode, digest, encode
from daskml_core.engine.segments import Damaged, Journal
from daskml_core.kernel_approximation import Nystroem, RBFSampler
from daskml_core.linear_model import HuberRegressor, LinearRegression, LogisticRegression, SGDClassifier
from daskml_core.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from daskml_core.svm import SVC, LinearSVC
from tests.fits import FITS, Interrupted, bits, data, stopped_after

ROOT = Path(__file__).parent.parent
LBFGS = FITS["lbfgs"]


@pytest.fixture(autouse=True)
def after_every_sweep():
    with dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
        yield


def interrupt(fit, X, y, place, after):
    with stopped_after(after), pytest.raises(Interrupted):
        fit(X, y, checkpoint=place)


def length(fit):
    """Conversations with the data of a whole fit, and its bits."""
    with stopped_after(None) as happened:
        found = bits(fit(*data()))
    return len(happened), found


@pytest.fixture(scope="module")
def lbfgs():
    return length(LBFGS)


# -- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITS)
def test_an_interrupted_fit_goes_on_to_the_same_bits_without_asking_twice(name, tmp_path):
    fit, place = FITS[name], tmp_path / "checkpoint"
    n, expected = length(fit)
    assert n > 1
    for i in sorted({0, 1, n // 2, n - 1}):
        interrupt(fit, *data(), place, i)
        with stopped_after(None) as rest:
            assert bits(fit(*data(), checkpoint=place)) == expected, i
        # Data sets of which everything had been asked are read once more, for their checksums.
        assert len([kernel for kernel in rest if kernel != "checksum"]) == n - i
        assert not place.exists()


@pytest.mark.parametrize("name", ["lbfgs", "k-means", "SVC cascade", "GridSearchCV"])
def test_a_fit_interrupted_at_every_sweep_in_turn_ends_with_the_same_bits(name, tmp_path):
    fit = FITS[name]
    n, expected = length(fit)
    for _ in range(n - 1):
        interrupt(fit, *data(), tmp_path / "c", 1)
    with stopped_after(None) as rest:
        assert bits(fit(*data(), checkpoint=tmp_path / "c")) == expected
    assert len([kernel for kernel in rest if kernel != "checksum"]) == 1


def test_a_checkpoint_of_threads_is_resumed_on_workers_and_back(tmp_path, lbfgs):
    n, expected = lbfgs
    interrupt(LBFGS, *data(), tmp_path / "c", 3)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        interrupt(LBFGS, *data(), tmp_path / "c", 3)
    with stopped_after(None) as rest:
        assert bits(LBFGS(*data(), checkpoint=tmp_path / "c")) == expected
    assert len([kernel for kernel in rest if kernel != "checksum"]) == n - 6


@pytest.mark.parametrize("name", ["HalvingGridSearchCV", "HyperbandSearchCV"])
def test_a_race_interrupted_on_one_thread_goes_on_with_two_and_on_workers(name, tmp_path):
    fit = FITS[name]

    def found(search):
        keep = ("params", "test_score", "partial_fit_calls", "rank_test_score")
        best = search.best_estimator_
        return digest(({k: search.cv_results_[k] for k in keep}, search.best_params_, best.coef_, best.intercept_))

    n, _ = length(fit)
    with dask.config.set({"num_workers": 1, "scheduler": "threads"}):
        expected = found(fit(*data()))
        interrupt(fit, *data(), tmp_path / "c", n // 3)
    with dask.config.set({"num_workers": 2, "scheduler": "threads"}):
        interrupt(fit, *data(), tmp_path / "c", n // 3)
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
        stopped_after(None) as rest,
    ):
        assert found(fit(*data(), checkpoint=tmp_path / "c")) == expected
    assert len([kernel for kernel in rest if kernel != "checksum"]) == n - 2 * (n // 3)


OF_ONE_SWEEP = {
    "StandardScaler": StandardScaler,
    "MinMaxScaler": MinMaxScaler,
    "Nystroem": lambda: Nystroem(n_components=7, landmarks="k-means"),
    "RBFSampler": lambda: RBFSampler(gamma="scale", n_components=7),
}


@pytest.mark.parametrize("name", OF_ONE_SWEEP)
def test_what_takes_one_sweep_does_not_take_it_again(name, tmp_path):
    X, _ = data()
    make, place = OF_ONE_SWEEP[name], tmp_path / "c"
    with stopped_after(None) as happened:
        expected = bits(make().fit(X))
    assert len(happened) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Checkpoint, "verify", lambda self: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            make().fit(X, checkpoint=place)
    with stopped_after(None) as rest:
        assert bits(make().fit(X, checkpoint=place)) == expected
    assert rest == ["checksum"]
    assert not place.exists()


def test_a_resumed_model_tells_the_sweeps_of_the_whole_fit(tmp_path):
    X, y = data()
    whole = LogisticRegression(solver="newton").fit(X, y)
    interrupt(FITS["newton"], X, y, tmp_path / "c", 4)
    model = LogisticRegression(solver="newton").fit(X, y, checkpoint=tmp_path / "c")
    assert model.n_sweeps_ == whole.n_sweeps_
    assert model.n_iter_ == whole.n_iter_
    assert [row["loss"] for row in model.history_] == [row["loss"] for row in whole.history_]


def test_long_work_between_sweeps_is_not_done_twice(tmp_path, monkeypatch):
    from daskml_core.solvers.decomposition import Problem

    solve, solved = Problem.solve, []
    monkeypatch.setattr(
        Problem, "solve", lambda self, *how, **more: (solved.append(len(self.row)), solve(self, *how, **more))
    )
    fit = FITS["SVC cascade"]
    n, expected = length(fit)
    whole = len(solved)
    solved.clear()
    interrupt(fit, *data(), tmp_path / "c", n - 1)
    assert len(solved) == whole
    assert bits(fit(*data(), checkpoint=tmp_path / "c")) == expected
    assert len(solved) == whole


def test_only_what_was_not_answered_is_read(tmp_path):
    X, y = data()
    reads = []

    def touch(block):
        if block.size:
            reads.append(len(block))
        return block

    X = X.map_blocks(touch, dtype=X.dtype, meta=np.empty((0, X.shape[1]), X.dtype))
    with dask.config.set({"daskml-core.residency": False}):
        with stopped_after(5), pytest.raises(Interrupted):
            LogisticRegression(solver="newton").fit(X, y, checkpoint=tmp_path / "c")
        first = len(reads)
        model = LogisticRegression(solver="newton").fit(X, y, checkpoint=tmp_path / "c")
    # The sweep over y alone is replayed: its data is read again for its checksums, X is not.
    assert len(reads) == 12 * round(model.n_sweeps_)
    assert first == 4 * 12


def test_the_setting_keeps_each_fit_in_a_directory_of_its_own_and_removes_it_when_done(tmp_path, lbfgs):
    X, y = data()
    with dask.config.set({"daskml-core.checkpoint": str(tmp_path)}):
        for name in ("lbfgs", "newton", "k-means"):
            with stopped_after(3), pytest.raises(Interrupted):
                FITS[name](X, y)
        assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [
            "KMeans",
            "LogisticRegression",
            "LogisticRegression",
        ]
        with stopped_after(None) as rest:
            assert bits(LBFGS(X, y)) == lbfgs[1]
        assert len([kernel for kernel in rest if kernel != "checksum"]) == lbfgs[0] - 3
        assert len(list(tmp_path.iterdir())) == 2


def test_a_fit_inside_a_search_is_part_of_its_checkpoint(tmp_path):
    X, y = data()
    with dask.config.set({"daskml-core.checkpoint": str(tmp_path)}):
        with stopped_after(9), pytest.raises(Interrupted):
            FITS["GridSearchCV one by one"](X, y)
        assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["GridSearchCV"]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=KFold(2))
    with pytest.raises(errors.CheckpointError, match="takes none of its own"):
        search.fit(X, y, checkpoint=tmp_path / "a", logisticregression__checkpoint=tmp_path / "b")


# -- refusals --------------------------------------------------------------------------------------------------------


def changed_value(X, y):
    def change(block, block_info=None):
        block = block.copy()
        if block_info and block_info[0]["chunk-location"][0] == 7:
            block[3, 2] += 1
        return block

    return X.map_blocks(change, dtype=X.dtype, meta=np.empty((0, X.shape[1]), X.dtype)), y


def changed_label(X, y):
    labels = y.compute().copy()
    labels[1100] = 1 - labels[1100]
    return X, da.from_array(labels, chunks=170)


OTHER_DATA = {
    "a value": (changed_value, r"X is not the data .* row block 7 \(rows 700 to 799\) has changed"),
    "a label": (changed_label, r"y is not the data .* row block \d+ \(rows .*\) has changed"),
    "rows": (lambda X, y: (X[:1000], y[:1000]), r"data X: .*1200 x 5.* there, .*1000 x 5.* now"),
    "chunks": (lambda X, y: (X.rechunk((120, -1)), y), r"data X: .*chunks \w+ there, .*chunks \w+ now"),
    "dtype": (lambda X, y: (X.astype("f8"), y), r"data X: .*float32.* there, .*float64.* now"),
    "features": (lambda X, y: (X[:, :4], y), r"data X: .*1200 x 5.* there, .*1200 x 4.* now"),
    "weights": (lambda X, y: (X, y, da.ones(1200, chunks=100)), r"data sample_weight: None there, dask Array"),
}


@pytest.mark.parametrize("what", OTHER_DATA)
def test_a_checkpoint_of_other_data_is_refused_by_name(what, tmp_path):
    change, message = OTHER_DATA[what]
    interrupt(LBFGS, *data(), tmp_path / "c", 4)
    kept = sorted((path.name, path.read_bytes()) for path in (tmp_path / "c").iterdir())
    with pytest.raises(errors.CheckpointMismatchError, match=message):
        LogisticRegression(solver="lbfgs", tol=1e-3).fit(*change(*data()), checkpoint=tmp_path / "c")
    # The refused fit adds nothing that was learnt from other data.
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "c").iterdir()) == kept


@pytest.mark.parametrize("what", ["a value", "a label"])
def test_data_that_changed_is_refused_even_where_every_answer_was_kept(what, tmp_path, lbfgs):
    place = tmp_path / "c"
    # All sweeps are in the journal: what breaks off is the fit's end.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Checkpoint, "verify", lambda self: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            LBFGS(*data(), checkpoint=place)
    with pytest.raises(errors.CheckpointMismatchError, match="has changed"):
        LBFGS(*OTHER_DATA[what][0](*data()), checkpoint=place)
    with stopped_after(None) as rest:
        assert bits(LBFGS(*data(), checkpoint=place)) == lbfgs[1]
    assert set(rest) == {"checksum"}


OTHER_SETTINGS = {
    "C": (LogisticRegression(solver="lbfgs", tol=1e-3, C=2.0), r"C: 1\.0 there, 2\.0 now"),
    "solver": (LogisticRegression(solver="newton", tol=1e-3), r"solver: 'lbfgs' there, 'newton' now"),
    "class weights": (
        LogisticRegression(solver="lbfgs", tol=1e-3, class_weight={0: 2.0}),
        r"class_weight: None there, dict \w+ now",
    ),
    "class": (LinearRegression(), r"class: .*LogisticRegression there, .*LinearRegression now"),
}


@pytest.mark.parametrize("what", OTHER_SETTINGS)
def test_a_checkpoint_of_other_settings_is_refused_by_name(what, tmp_path):
    model, message = OTHER_SETTINGS[what]
    interrupt(LBFGS, *data(), tmp_path / "c", 4)
    with pytest.raises(errors.CheckpointMismatchError, match=message):
        model.fit(*data(), checkpoint=tmp_path / "c")


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    interrupt(LBFGS, *data(), tmp_path / "c", 4)
    with monkeypatch.context() as patch:
        patch.setattr(module, "__version__", "99.0")
        with pytest.raises(errors.CheckpointMismatchError, match=r"daskml_core: .* there, 99\.0 now"):
            LBFGS(*data(), checkpoint=tmp_path / "c")
    with (
        dask.config.set({"daskml-core.memory-limit": "1 GiB"}),
        pytest.raises(errors.CheckpointMismatchError, match=r"daskml-core.memory-limit: None there, '1 GiB' now"),
    ):
        LBFGS(*data(), checkpoint=tmp_path / "c")
    first = tmp_path / "c" / "000001.sweeps"
    first.write_bytes(first.read_bytes().replace(b"checkpoint 1", b"checkpoint 2", 1))
    with pytest.raises(errors.CheckpointError, match="has format 2; this version of the library reads format 1"):
        LBFGS(*data(), checkpoint=tmp_path / "c")


def test_a_start_that_was_another_is_refused(tmp_path):
    X, y = data()
    model = LogisticRegression(solver="lbfgs", tol=1e-3, warm_start=True)
    with stopped_after(4), pytest.raises(Interrupted):
        model.fit(X, y, checkpoint=tmp_path / "c")
    model.fit(X, y)
    with pytest.raises(errors.CheckpointMismatchError, match="other parameters: the start of the fit"):
        model.fit(X, y, checkpoint=tmp_path / "c")


def test_settings_drawn_anew_are_refused(tmp_path):
    search = RandomizedSearchCV(
        LogisticRegression(), {"C": np.logspace(-3, 3, 1000)}, n_iter=2, random_state=np.random.RandomState(0), cv=2
    )
    with stopped_after(2), pytest.raises(Interrupted):
        search.fit(*data(), checkpoint=tmp_path / "c")
    with pytest.raises(errors.CheckpointMismatchError, match="random_state"):
        search.fit(*data(), checkpoint=tmp_path / "c")


def test_two_fits_do_not_share_a_checkpoint(tmp_path):
    held = Journal(tmp_path / "c")
    held.open()
    with pytest.raises(errors.CheckpointError, match="Another fit is writing"):
        LBFGS(*data(), checkpoint=tmp_path / "c")
    held.close()
    LBFGS(*data(), checkpoint=tmp_path / "c")


def test_a_checkpoint_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.CheckpointError, match="cannot be opened"):
        LBFGS(*data(), checkpoint=tmp_path / "file")
    with pytest.raises(TypeError, match="must be the path of a directory or a URL"):
        LBFGS(*data(), checkpoint=3)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_finished_fit_leaves_what_others_keep_in_the_directory(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    LBFGS(*data(), checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# -- URLs ------------------------------------------------------------------------------------------------------------


def kept(url):
    """Names and contents of what lies behind a URL."""
    fs, root = fsspec.url_to_fs(url)
    fs.invalidate_cache()
    return {key.rpartition("/")[2]: fs.cat_file(key) for key in (fs.find(root) if fs.exists(root) else [])}


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server of the S3 protocol on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "testing", "secret": "testing", "endpoint_url": f"http://{host}:{port}"}
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = options
    fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)  # the servers of other tests share what they hold
    yield "s3://bucket/run"
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def url(request):
    return "memory://run/c" if request.param == "memory" else request.getfixturevalue("bucket")


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_a_checkpoint_may_lie_behind_a_url(url, lbfgs):
    n, expected = lbfgs
    interrupt(LBFGS, *data(), url, 3)
    assert sorted(kept(url)) == ["000001.sweeps", "000002.sweeps", "000003.sweeps", "lock"]
    interrupt(LBFGS, *data(), url, 2)
    with pytest.raises(errors.CheckpointMismatchError, match=rf"The checkpoint {url} is of another fit \(C: "):
        LogisticRegression(solver="lbfgs", tol=1e-3, C=2.0).fit(*data(), checkpoint=url)
    fs, root = fsspec.url_to_fs(url)
    raw = kept(url)["000004.sweeps"]
    fs.pipe_file(f"{root}/000004.sweeps", raw[: len(raw) // 2])
    with pytest.warns(errors.CheckpointWarning, match="Segment 4 .* is damaged"), stopped_after(None) as rest:
        assert bits(LBFGS(*data(), checkpoint=url)) == expected
    assert len([kernel for kernel in rest if kernel != "checksum"]) == n - 3
    assert kept(url) == {}


def test_the_setting_may_be_a_url_and_a_file_url_is_a_path(tmp_path):
    with dask.config.set({"daskml-core.checkpoint": "memory://all"}):
        interrupt(LBFGS, *data(), None, 2)
        (place,) = fsspec.filesystem("memory").ls("/all", detail=False)
        assert place.startswith("/all/LogisticRegression-")
        LBFGS(*data())
    assert kept("memory://all") == {}
    interrupt(LBFGS, *data(), f"file://{tmp_path}/c", 2)
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["000001.sweeps", "000002.sweeps", "lock"]
    LBFGS(*data(), checkpoint=tmp_path / "c")


def test_a_url_that_leads_nowhere_is_refused_before_the_fit(bucket):
    for url in ("nothing://here", "s3://there-is-no-such-bucket/c"):
        with stopped_after(None) as happened, pytest.raises(errors.CheckpointError, match="cannot be opened"):
            LBFGS(*data(), checkpoint=url)
        assert happened == []


def test_a_store_that_goes_away_stops_no_fit(lbfgs, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def away(self, *args, **kwargs):
        raise RuntimeError("the store has gone")

    write = MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "pipe_file",
        lambda self, path, raw: (write if path.endswith("lock") else away)(self, path, raw),
    )
    with pytest.warns(errors.CheckpointWarning, match="could not be written .*the store has gone.*tried again"):
        assert bits(LBFGS(*data(), checkpoint="memory://away")) == lbfgs[1]


# -- damage ----------------------------------------------------------------------------------------------------------


def resumed(place):
    """Bits of the resumed fit and the warnings about its checkpoint; or the error that refused it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = bits(LBFGS(*data(), checkpoint=place))
    return found, [w for w in told if issubclass(w.category, errors.CheckpointWarning)]


@pytest.mark.parametrize("number", [1, 3, 6])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
def test_a_damaged_segment_falls_back_to_the_one_before_with_a_warning(damage, number, tmp_path, lbfgs):
    place = tmp_path / "c"
    interrupt(LBFGS, *data(), place, 6)
    path = place / f"{number:06d}.sweeps"
    raw = path.read_bytes()
    middle = len(raw) // 2
    path.write_bytes({
        "truncated": raw[:middle],
        "emptied": b"",
        "flipped": raw[:middle] + bytes([raw[middle] ^ 8]) + raw[middle + 1 :],
    }[damage])  # fmt: skip
    with stopped_after(None) as rest:
        found, told = resumed(place)
    assert found == lbfgs[1]
    assert len(told) == 1 and f"Segment {number} of the checkpoint" in str(told[0].message)
    assert len([kernel for kernel in rest if kernel != "checksum"]) == lbfgs[0] - (number - 1)


def test_segments_of_two_journals_do_not_mix(tmp_path, lbfgs):
    interrupt(LBFGS, *data(), tmp_path / "a", 6)
    interrupt(FITS["newton"], *data(), tmp_path / "b", 6)
    os.replace(tmp_path / "b" / "000004.sweeps", tmp_path / "a" / "000004.sweeps")
    found, told = resumed(tmp_path / "a")
    assert found == lbfgs[1]
    assert "does not follow the one before it" in str(told[0].message)


class Crash(BaseException):
    """The machine stops here."""


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_crash_at_any_step_of_writing_loses_no_segment_before(call, tmp_path, monkeypatch, lbfgs):
    """The process ends at the k-th call, for every k; the next one goes on to the same bits."""
    _, expected = lbfgs
    place, k = tmp_path / "c", 0
    while True:
        calls = []

        def crash(original, calls=calls, k=k):
            def function(*args, **kwargs):
                calls.append(call)
                if len(calls) > k:  # nothing that the process would do after its end happens either
                    raise Crash
                return original(*args, **kwargs)

            return function

        with monkeypatch.context() as patch:
            from daskml_core.engine import segments

            if call == "write":
                patch.setattr(segments, "open", lambda *how: _Writer(open(*how), crash), raising=False)  # noqa: SIM115
            else:
                patch.setattr(segments.os, call, crash(getattr(os, call)))
            try:
                found = bits(LBFGS(*data(), checkpoint=place))
            except Crash:
                found = None
        if found is not None:
            assert found == expected
            assert k >= 10
            return
        assert resumed(place) == (expected, [])
        k += 5 if k >= 5 else 1


class _Writer:
    """A file whose writes crash, having written a half."""

    def __init__(self, file, crash):
        self.file, self.write = file, crash(file.write)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_stops_no_fit(call, tmp_path, monkeypatch, lbfgs):
    from daskml_core.engine import segments

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, call, full)
        found, told = resumed(tmp_path / "c")
    assert found == lbfgs[1]
    assert "No space left on device" in str(told[0].message) and "the fit goes on" in str(told[0].message)


def test_a_disk_that_has_room_again_gets_everything(tmp_path, monkeypatch, lbfgs):
    """What could not be written waits: a fit interrupted after the disk was full and has room again loses nothing."""
    from daskml_core.engine import segments

    replace, calls = os.replace, []

    def full_for_a_while(*args):
        calls.append(args)
        if 2 <= len(calls) <= 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "replace", full_for_a_while)
        with pytest.warns(errors.CheckpointWarning, match="tried again"), stopped_after(7), pytest.raises(Interrupted):
            LBFGS(*data(), checkpoint=tmp_path / "c")
    with stopped_after(None) as rest:
        assert resumed(tmp_path / "c") == (lbfgs[1], [])
    assert len([kernel for kernel in rest if kernel != "checksum"]) == lbfgs[0] - 7


# -- the values ------------------------------------------------------------------------------------------------------


VALUES = [
    None, True, 3, 2**70, -0.0, float("inf"), 0.1, "text", np.float32(0.1), np.int64(-5),
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 3)), np.array(["a", "bc"]),
    np.array(["a", None, 1.5], dtype=object), (1, (2.0, None)), [1, [2]], {1: "a", "b": np.arange(2)}, np.dtype("f4"),
    np.array([True, False]), float("nan"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=[repr(v)[:20] for v in VALUES])
def test_values_come_back_as_they_were(value):
    arrays = []
    back = decode(encode(value, arrays), arrays)
    assert digest(back) == digest(value)
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert back.flags.f_contiguous == value.flags.f_contiguous


def test_what_is_kept_does_not_follow_what_was_handed_out():
    handed, arrays = np.zeros(3), []
    kept = encode(handed, arrays)
    handed += 1
    assert not decode(kept, arrays).any()


@pytest.mark.parametrize(
    "name", ["os:system", "builtins:eval", "daskml_core.engine.segments:os.system", "subprocess:Popen"]
)
def test_a_file_cannot_name_a_class_that_is_no_record(name):
    for entry in ({"named": name, "parts": ["true"]}, {"object": name, "state": {}}):
        with pytest.raises(NotPortable):
            decode(entry, [])


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    """A segment with a pickle inside, and the right digest, is damage."""
    import hashlib
    import io

    buffer = io.BytesIO()
    np.savez(buffer, json=np.array([object()], dtype=object))
    raw = buffer.getvalue()
    journal = Journal(tmp_path)
    found = hashlib.blake2b(raw, digest_size=32).hexdigest().encode()
    (tmp_path / "000001.sweeps").write_bytes(b"daskml_core checkpoint 1\n" + found + b"\n" + raw)
    with pytest.raises(Damaged, match="allow_pickle=False"):
        journal.read(1, "")


def test_an_answer_that_cannot_be_written_ends_the_checkpoint_and_not_the_fit(tmp_path):
    class Odd:
        pass

    from daskml_core.sweep import Kernel, Sweep

    def fit(model, X, *, checkpoint=None):
        from daskml_core.data import load
        from daskml_core.engine import Engine, count_rows

        engine = Engine(load(X, count_rows=count_rows))
        engine.sweep(Sweep(Kernel(lambda block, params: block.n_rows, "rows")))
        return engine.sweep(Sweep(Kernel(lambda block, params: Odd(), "odd"), None, lambda a, b: a))

    with pytest.warns(errors.CheckpointWarning, match="cannot hold an answer"):
        module.resumable(fit)(KMeans(), data()[0], checkpoint=tmp_path / "c")


# -- kill -9 ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import dask
from tests.fits import FITS, data
from daskml_core.engine import Engine
dask.config.set({"daskml-core.checkpoint-sweeps": 1})
name, place = sys.argv[1], sys.argv[2]
for last in map(int, sys.argv[3:]):
    child = os.fork()  # nothing but the fit has to be done again
    if child == 0:
        happened = []
        for verb in ("sweep_now", "fold_now"):
            def dying(self, *args, original=getattr(Engine, verb), **kwargs):
                if len(happened) == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                happened.append(1)
                return original(self, *args, **kwargs)
            setattr(Engine, verb, dying)
        FITS[name](*data(), checkpoint=place)
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


def test_a_client_killed_at_several_sweeps_is_resumed_by_another_process(tmp_path, lbfgs):
    n, expected = lbfgs
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "lbfgs", str(tmp_path / "c"), "2", "3"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * 2, done.stderr
    with stopped_after(None) as rest:
        assert bits(LBFGS(*data(), checkpoint=tmp_path / "c")) == expected
    assert len([kernel for kernel in rest if kernel != "checksum"]) == n - 5


# -- what the decorator must not change --------------------------------------------------------------------------------

LATE = {
    "LogisticRegression": lambda: LogisticRegression(solver="lbfgs", max_iter=1),
    "KMeans": lambda: KMeans(7, init="random", n_init=1, init_size=200, max_iter=1, tol=0),
    "SGDClassifier": lambda: SGDClassifier(max_iter=1, tol=1e-9),
    "LinearSVC": lambda: LinearSVC(max_iter=1, tol=1e-12),
    "SVC": lambda: SVC(max_iter=2),
    "Huber": lambda: HuberRegressor(max_iter=1),
    "GridSearchCV": lambda: GridSearchCV(
        LogisticRegression(solver="lbfgs", max_iter=1), {"C": [1.0, 2.0]}, cv=KFold(2)
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_a_warning_points_at_the_line_that_fits(name):
    X, y = data()
    with pytest.warns(errors.ConvergenceWarning) as told:
        LATE[name]().fit(X, y)
    assert {Path(w.filename).name for w in told} == {Path(__file__).name}


READS_NOTHING = {"PolynomialCountSketch"}


def test_every_estimator_that_reads_data_takes_a_checkpoint():
    from tests.test_sklearn_contract import ESTIMATORS

    classes = {type(estimator) for estimator in ESTIMATORS}
    assert len(classes) >= 30
    without = {cls.__name__ for cls in classes if "checkpoint" not in inspect.signature(cls.fit).parameters}
    assert without <= READS_NOTHING


def test_the_signature_of_fit_is_the_one_that_is_written():
    import inspect

    parameters = inspect.signature(LogisticRegression.fit).parameters
    assert list(parameters) == ["self", "X", "y", "sample_weight", "feature_dim", "checkpoint"]
    assert parameters["checkpoint"].kind is inspect.Parameter.KEYWORD_ONLY
