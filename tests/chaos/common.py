"""A fit to do harm to, the clusters that it runs on, and ways to be there in the middle of a sweep."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core.engine import Engine
from daskml_core.errors import SweepTimeoutError
from daskml_core.linear_model import LogisticRegression
from tests.problems import two_classes

N_ROWS, CHUNK = 2400, 100
N_BLOCKS = N_ROWS // CHUNK


def slowly(block, seconds=0.0, block_info=None):
    """The block, after a while: sweeps are long enough to be hit."""
    if block.size:
        time.sleep(seconds)
    return block


def problem(prepare: Callable[..., Any] = slowly, **options: Any) -> tuple[Any, Any]:
    """X whose blocks pass through ``prepare`` wherever they are read, and y."""
    X, y = two_classes(n=N_ROWS, d=5, dtype=np.float32)
    lazy = da.from_array(X, chunks=(CHUNK, -1), name="rows")
    lazy = lazy.map_blocks(prepare, dtype=X.dtype, meta=np.empty((0, 5), X.dtype), **options)
    return lazy, da.from_array(y, chunks=333)


def model() -> LogisticRegression:
    """Twelve sweeps or so."""
    return LogisticRegression(solver="lbfgs", tol=1e-4)


def fit(X: Any, y: Any, **options: Any) -> bytes:
    """The bits of the fitted model; every sweep reads its blocks."""
    with dask.config.set({"daskml-core.residency": options.pop("residency", False)}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fitted = model().fit(X, y, **options)
    assert fitted.converged_
    return fitted.coef_.tobytes() + fitted.intercept_.tobytes()


@functools.lru_cache(maxsize=1)
def expected() -> bytes:
    """The bits of an undisturbed fit in one thread."""
    with dask.config.set(scheduler="synchronous"):
        return fit(*problem())


@functools.lru_cache(maxsize=1)
def n_sweeps() -> int:
    """Sweeps of an undisturbed fit, the one over the labels included."""
    with dask.config.set(scheduler="synchronous"), counted() as happened:
        fit(*problem())
    return len(happened)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Names of the sweeps that were made."""
    happened: list[str] = []
    with on_sweep(lambda number: None, happened):
        yield happened


@contextmanager
def on_sweep(action: Callable[[int], None], happened: list[str] | None = None) -> Iterator[None]:
    """Call ``action`` with the sweep's number as each sweep begins."""
    original, begun = Engine.sweep_now, []

    def sweep_now(self, *sweeps):
        begun.append(1)
        action(len(begun) - 1)
        answer = original(self, *sweeps)
        if happened is not None:
            happened.append(self.costs[-1].name)
        return answer

    Engine.sweep_now = sweep_now  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.sweep_now = original  # type: ignore[method-assign]


class Missed(Exception):
    """The fit was over before its harm was done: nothing was shown, neither of the fit nor of the fault."""


@contextmanager
def in_the_middle_of(number: int, action: Callable[[], Any], delay: float = 0.05) -> Iterator[list[float]]:
    """Do something once, a moment after sweep ``number`` has begun; yields the list of when it was done.

    An action that answers False has done nothing.

    Raises
    ------
    Missed : it was not done, or when the fit was over.
    """
    done: list[float] = []
    over = threading.Event()

    def run() -> None:
        if not over.wait(delay) and action() is not False and not over.is_set():
            done.append(time.monotonic())

    threads = []

    def begin(n: int) -> None:
        if n == number:
            threads.append(threading.Thread(target=run))
            threads[-1].start()

    error: BaseException | None = None
    try:
        with on_sweep(begin):
            yield done
    except (pytest.fail.Exception, SweepTimeoutError, AssertionError) as raised:
        # No error where one was awaited, or another one: no wonder where nothing had been done yet.
        error = raised
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if not done:
        raise Missed(f"of sweep {number}") from error
    if error is not None:
        raise error


def played(scene: Callable[[int], Any], times: int = 6) -> Any:
    """What comes of a scene whose harm was done in time: one that missed its moment is played again.

    ``scene`` is called with a number that doubles each time, by which it makes its sweeps, or what it allows for them,
    longer: a machine that stalls for seconds, or is three times slower, misses moments and breaks no promise.
    """
    for attempt in range(times - 1):
        with contextlib.suppress(Missed):
            return scene(2**attempt)
    return scene(2 ** (times - 1))


@contextmanager
def cluster(n_workers: int = 2, threads: int = 1, **options: Any) -> Iterator[Client]:
    """Worker processes with nannies."""
    options.setdefault("dashboard_address", ":0")
    # What nannies and schedulers write about workers that die is what is wanted here.
    options.setdefault("silence_logs", 60)
    # A local cluster drops a worker that is not back after 15 s; on a busy machine starting takes that long.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "120 s"})
    with (
        patient,
        LocalCluster(n_workers=n_workers, threads_per_worker=threads, **options) as made,
        Client(made) as client,
    ):
        # Compiled code is loaded before anything is measured or killed.
        fit(*problem())
        yield client


_shared: list[Any] = []


def shared_client() -> Client:
    """Two workers that several faults share; new ones where a fault has left fewer."""
    for _ in range(3):
        if not _shared:
            context = cluster()
            _shared.extend([context, context.__enter__()])
        client: Client = _shared[1]
        try:
            client.wait_for_workers(2, timeout=60)
            return client
        except TimeoutError:
            close_shared()
    raise AssertionError("no workers")


def close_shared() -> None:
    """End the shared workers."""
    if _shared:
        _shared[0].__exit__(None, None, None)
        _shared.clear()


def kill(pid: int, how: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def pids(client: Client) -> list[int]:
    """Process ids of the local workers that are running."""
    there = client.scheduler_info(n_workers=-1)["workers"]
    return sorted(n.pid for n in client.cluster.workers.values() if n.pid and n.worker_address in there)


def kill_one(client: Client, rng: random.Random) -> bool:
    """Kill one of two workers, where both are there; one that is still starting would not be started again."""
    nannies = {n.worker_address: n.pid for n in client.cluster.workers.values()}
    there = client.scheduler_info(n_workers=-1)["workers"]
    if len(there) < 2 or set(there) != set(nannies):
        return False
    address = rng.choice(sorted(nannies))
    kill(nannies[address])
    deadline = time.monotonic() + 20
    while address in client.scheduler_info(n_workers=-1)["workers"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return True


def wait_for(there: Callable[[], Any], at_most_s: float = 120.0) -> None:
    """Wait until something is so. The time is a safety net: nothing hangs for good where it never is."""
    deadline = time.monotonic() + at_most_s
    while not there() and time.monotonic() < deadline:
        time.sleep(0.005)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def seconds(values: list[float]) -> str:
    """``3.1 s`` or ``2.0-4.4 s``."""
    low, high = min(values), max(values)
    return f"{low:.1f} s" if high - low < 0.1 else f"{low:.1f}-{high:.1f} s"
