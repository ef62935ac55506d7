"""Schedulers that die."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import pytest
from distributed import Client

from daskml_core.errors import FitInterrupted
from tests.chaos.common import counted, expected, fit, in_the_middle_of, n_sweeps, played, problem, wait_for
from tests.chaos.registry import fault


def _start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


@contextmanager
def processes(directory: str, port: int = 0, n_workers: int = 1) -> Iterator[tuple[str, list[Any]]]:
    """A scheduler and workers in processes of their own; yields the scheduler's file and the processes."""
    place = os.path.join(directory, "scheduler.json")
    if os.path.exists(place):
        os.unlink(place)
    scheduler = ("dask_scheduler", "--port", str(port), "--dashboard-address", ":0", "--scheduler-file", place)
    worker = ("dask_worker", "--scheduler-file", place, "--nthreads", "1", "--no-dashboard", "--no-nanny",
              "--death-timeout", "100", "--local-directory", directory)  # fmt: skip
    started = [_start(*scheduler)]
    try:
        started += [_start(*worker) for _ in range(n_workers)]
        wait_for(lambda: os.path.exists(place))
        yield place, started
    finally:
        # Not SIGTERM: a worker whose scheduler has gone takes ten seconds to say goodbye.
        for process in started:
            process.kill()
        for process in started:
            process.wait()


SOON = {"distributed.comm.timeouts.connect": "3s", "distributed.comm.retry.count": 0}


def connect(file: str) -> Client:
    """A client that waits three seconds for a scheduler that has gone; for one that starts, as long as it takes."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            return Client(scheduler_file=file, timeout=3)
    raise AssertionError(f"no scheduler answers at {file}")


@fault(
    "SIGKILL of the scheduler; the fit is run again on another",
    "`FitInterrupted` naming the checkpoint's place; the same fit goes on to the same bits",
)
def scheduler_killed(seeds, quick):
    want, n = expected(), n_sweeps()

    def scene(slower):
        with tempfile.TemporaryDirectory() as directory, dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
            place = os.path.join(directory, "checkpoint")
            with processes(directory) as (file, started):
                client = connect(file)
                client.wait_for_workers(1, timeout=300)
                try:
                    with (
                        dask.config.set(SOON),
                        in_the_middle_of(6, started[0].kill) as done,
                        pytest.raises(FitInterrupted, match=f"goes on from its checkpoint, {place}"),
                    ):
                        fit(*problem(seconds=0.01 * slower), checkpoint=place)
                    took = time.monotonic() - done[0]
                finally:
                    client.close(timeout=1)
            kept = sum(name.endswith(".sweeps") for name in os.listdir(place))
            with processes(directory) as (file, _), connect(file) as client:
                client.wait_for_workers(1, timeout=300)
                with counted() as happened:
                    assert fit(*problem(), checkpoint=place) == want
        again = [name for name in happened if name != "checksum"]
        assert kept >= 5 and len(again) == n - kept, (kept, again)
        return took, len(again)

    took, again = played(scene)
    return f"so it is, {took:.0f} s after the kill; the other {again} of {n} sweeps gave the same bits"


@fault(
    "SIGKILL of the scheduler; another one starts at its address",
    "the sweep is tried once more: same bits",
    tested=False,
)
def scheduler_comes_back(seeds, quick):
    def scene(slower):
        with tempfile.TemporaryDirectory() as directory, processes(directory) as (file, started):
            client = connect(file)
            client.wait_for_workers(1, timeout=300)
            port = int(client.scheduler.address.rpartition(":")[2])
            more = []

            def replace_it():
                started[0].kill()
                started[0].wait()
                more.append(processes(directory, port))
                more[0].__enter__()

            try:
                with in_the_middle_of(5, replace_it) as done:
                    bits = fit(*problem(seconds=0.02 * slower))
                took = time.monotonic() - done[0]
            finally:
                client.close(timeout=1)
                for context in more:
                    context.__exit__(None, None, None)
        assert bits == expected()
        return took

    return f"same bits, {played(scene):.0f} s after the kill"
