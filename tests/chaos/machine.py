"""A state machine of what may happen to a fit, its checkpoint, its store and its workers, in any order."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import zarr
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daskml_core.errors import CheckpointError, CheckpointMismatchError, CheckpointWarning, StoreError
from tests.chaos.common import cluster, kill, on_sweep, pids
from tests.fits import CHUNK, FITS, Interrupted, bits, data, stopped_after

NAMES = ("lbfgs", "k-means", "GridSearchCV", "SGDClassifier")
PLACES = ("synchronous", "threads", "workers")
MOST_WORKERS = 3

steps: Counter[str] = Counter()
_expected: dict[tuple[str, int], str] = {}
_targets: dict[int, Any] = {}


def target(version: int) -> Any:
    """The labels, which lie in memory."""
    if version not in _targets:
        _targets[version] = data(version)[1].compute()
    return _targets[version]


def expected(name: str, version: int) -> str:
    """Bits of an undisturbed fit to one version of the data."""
    if (name, version) not in _expected:
        X = data(version)[0].compute()
        with dask.config.set(scheduler="synchronous"):
            lazy = da.from_array(X, chunks=(CHUNK, -1)) + 0
            _expected[name, version] = bits(FITS[name](lazy, da.from_array(target(version), chunks=170)))
    return _expected[name, version]


class Workers:
    """Worker processes that come, go and die."""

    def __init__(self) -> None:
        self._context = cluster(n_workers=2)
        self.client = self._context.__enter__()

    def _settled(self) -> list[int]:
        """Process ids of the workers, once all that are wanted are there: one that is starting is not started again."""
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            found, made = pids(self.client), self.client.cluster.workers
            if len(found) == len(made) == len(self.client.cluster.worker_spec):
                return found
            time.sleep(0.1)
        return []

    def scale(self, n: int) -> None:
        """Have n workers; what has to start is not waited for."""
        if self._settled():
            steps["rescaled"] += 1
            self.client.cluster.scale(n)

    def kill_one(self) -> None:
        """End one of several workers by SIGKILL; its nanny starts another."""
        there = pids(self.client)
        if len(there) > 1:
            steps["worker killed"] += 1
            kill(there[0])

    def wait(self, n: int = 1) -> None:
        """Be settled, with so many workers at least."""
        if len(self._settled()) < n:
            self.client.cluster.scale(n)
            self.client.wait_for_workers(n, timeout=180)

    def close(self) -> None:
        """End it all."""
        self._context.__exit__(None, None, None)


_workers: list[Workers] = []


@contextlib.contextmanager
def workers() -> Iterator[None]:
    """The workers of the machines that run inside."""
    _workers.append(Workers())
    try:
        yield
    finally:
        _workers.pop().close()


class FitKillResume(RuleBasedStateMachine):
    """One directory for checkpoints, one store; fits of one kind or another meet what was left there."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.place = self.root / "checkpoint"
        self.backup = self.root / "backup"
        self.store = self.root / "X.zarr"
        self.owner: tuple[str, int] | None = None
        """Fit and version of the data that the checkpoint is of, as far as it can be read."""
        self.backup_owner: tuple[str, int] | None = None
        self.version = 0
        self.harmed: dict[Path, bytes] = {}
        """Chunks that are damaged or missing, with what they held."""
        self.where = "threads"

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @initialize()
    def write(self) -> None:
        self._write(0)

    def _write(self, version: int) -> None:
        shutil.rmtree(self.store, ignore_errors=True)
        zarr.create_array(
            self.store,
            data=data(version)[0].compute(),
            chunks=(CHUNK, 5),
            compressors=[zarr.codecs.ZstdCodec(checksum=True)],
            config={"write_empty_chunks": True},
        )
        self.version, self.harmed = version, {}

    # -- a fit, and what may come of it --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        # Without a scheduler's name the client is the current one.
        where = None if self.where == "workers" else self.where
        if where is None:
            _workers[0].wait()
        with dask.config.set(scheduler=where, num_workers=2):
            yield

    def _fit(self, name: str, after: int | None = None, event: Any = None, at: int = 1) -> None:
        """Fit until the end or so many sweeps; ``event`` happens while sweep ``at`` is made."""
        about, threads = (name, self.version), []

        def begin(number: int) -> None:
            if event is not None and number == at:
                threads.append(threading.Thread(target=lambda: (time.sleep(0.01), event())))
                threads[0].start()

        found, error, happened = None, None, []
        try:
            with (
                dask.config.set({"daskml-core.checkpoint-sweeps": 1, "daskml-core.residency": self.where != "threads"}),
                warnings.catch_warnings(),
                self._running(),
                stopped_after(after) as happened,
                on_sweep(begin),
            ):
                warnings.simplefilter("ignore", CheckpointWarning)
                X = da.from_zarr(zarr.open_array(self.store, mode="r"))
                y = da.from_array(target(self.version), chunks=170)
                found = bits(FITS[name](X, y, checkpoint=self.place))
        except (Interrupted, CheckpointError, StoreError) as raised:
            error = raised
        finally:
            for thread in threads:
                thread.join()
        self._judge(about, found, error, happened)

    def _judge(
        self, about: tuple[str, int], found: str | None, error: BaseException | None, happened: list[str]
    ) -> None:
        other = self.owner not in (None, about)
        if found is not None:
            steps["completed"] += 1
            assert found == expected(*about), "another model"
            assert not other, "a checkpoint of another fit was gone on with"
            assert not self.harmed, "a fit over a damaged store has ended"
            assert not self.place.exists()
            self.owner = None
        elif isinstance(error, CheckpointMismatchError):
            steps["refused"] += 1
            assert other, "a checkpoint of the same fit was refused"
        elif isinstance(error, CheckpointError):
            assert "has format" in str(error), error
            shutil.rmtree(self.place)
            self.owner = None
        elif isinstance(error, StoreError):
            steps["damage found"] += 1
            assert self.harmed, error
            assert error.chunk in {file.relative_to(self.store).as_posix() for file in self.harmed}
            if happened and not other:
                self.owner = about
        else:
            steps["client killed"] += 1
            if happened:
                assert not other, "sweeps were made at a checkpoint of another fit"
                self.owner = about

    @rule(name=st.sampled_from(NAMES))
    def fit(self, name: str) -> None:
        self._fit(name)

    @rule(name=st.sampled_from(NAMES), after=st.integers(1, 8))
    def kill(self, name: str, after: int) -> None:
        self._fit(self._welcome(name), after)

    @precondition(lambda self: self.owner is not None)
    @rule(after=st.integers(0, 5))
    def kill_again(self, after: int) -> None:
        assert self.owner is not None
        self._fit(self.owner[0], after)

    @precondition(lambda self: self.owner is not None)
    @rule()
    def resume(self) -> None:
        assert self.owner is not None
        steps["resumed"] += 1
        self._fit(self.owner[0])

    # -- where it runs -------------------------------------------------------------------------------------------

    @rule(where=st.sampled_from(PLACES))
    def move(self, where: str) -> None:
        steps["moved"] += 1
        self.where = where

    @rule(n=st.integers(1, MOST_WORKERS))
    def rescale(self, n: int) -> None:
        _workers[0].scale(n)

    @rule(name=st.sampled_from(NAMES), n=st.integers(1, MOST_WORKERS), at=st.integers(1, 5))
    def rescale_in_the_middle(self, name: str, n: int, at: int) -> None:
        self.where = "workers"
        _workers[0].wait()
        self._fit(self._welcome(name), event=lambda: _workers[0].scale(n), at=at)

    @rule(name=st.sampled_from(NAMES), at=st.integers(1, 5), after=st.none() | st.integers(2, 8))
    def kill_a_worker_in_the_middle(self, name: str, at: int, after: int | None) -> None:
        self.where = "workers"
        _workers[0].wait(2)
        self._fit(self._welcome(name), after, event=lambda: _workers[0].kill_one(), at=at)

    def _welcome(self, name: str) -> str:
        """A fit that the checkpoint does not refuse: most that are refused are no great adventure."""
        return self.owner[0] if self.owner is not None and self.owner[1] == self.version else name

    # -- the checkpoint ------------------------------------------------------------------------------------------

    def _segments(self) -> list[Path]:
        return sorted(self.place.glob("*.sweeps")) if self.place.exists() else []

    @precondition(lambda self: self._segments())
    @rule(
        which=st.integers(0, 7),
        how=st.sampled_from(["flip", "cut", "drop", "double"]),
        at=st.floats(0, 1, exclude_max=True),
    )
    def damage_the_checkpoint(self, which: int, how: str, at: float) -> None:
        segments = self._segments()
        which %= len(segments)
        path = segments[which]
        raw = bytearray(path.read_bytes())
        steps["checkpoint damaged"] += 1
        if how == "drop":
            path.unlink()
        elif how == "cut":
            path.write_bytes(raw[: int(at * len(raw))])
        elif how == "double":
            path.write_bytes(raw + raw)
        elif raw:
            raw[int(at * len(raw))] ^= 1 << which
            path.write_bytes(raw)
        if which == 0:
            self.owner = None  # nothing tells whose it was: any fit may start there

    @precondition(lambda self: self.place.exists())
    @rule()
    def keep_a_copy_of_the_checkpoint(self) -> None:
        shutil.rmtree(self.backup, ignore_errors=True)
        shutil.copytree(self.place, self.backup)
        self.backup_owner = self.owner

    @precondition(lambda self: self.backup.exists())
    @rule()
    def restore_the_checkpoint(self) -> None:
        """An old copy comes back: of the same fit at an earlier sweep, or of another fit."""
        steps["checkpoint restored"] += 1
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.backup, self.place)
        self.owner = self.backup_owner

    @rule()
    def lose_the_checkpoint(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.owner = None

    # -- the store -----------------------------------------------------------------------------------------------

    @rule(chunk=st.integers(0, 11), how=st.sampled_from(["flip", "cut", "drop"]), at=st.floats(0, 1, exclude_max=True))
    def damage_the_store(self, chunk: int, how: str, at: float) -> None:
        file = self.store / f"c/{chunk}/0"
        if file in self.harmed:
            return
        steps["store damaged"] += 1
        self.harmed[file] = file.read_bytes()
        raw = bytearray(self.harmed[file])
        if how == "drop":
            file.unlink()
        elif how == "cut":
            file.write_bytes(raw[: int(at * len(raw))])
        else:
            # In the frame's content: a few bits of its head mean nothing.
            raw[32 + int(at * (len(raw) - 32))] ^= 4
            file.write_bytes(raw)

    @precondition(lambda self: self.harmed)
    @rule()
    def restore_the_store(self) -> None:
        steps["store restored"] += 1
        for file, raw in self.harmed.items():
            file.write_bytes(raw)
        self.harmed = {}

    @rule(version=st.integers(0, 1))
    def write_other_data(self, version: int) -> None:
        if version != self.version:
            steps["other data"] += 1
            self._write(version)

    @invariant()
    def nothing_but_segments(self) -> None:
        if self.place.exists():
            assert {path.suffix for path in self.place.iterdir()} <= {".sweeps", ""}
