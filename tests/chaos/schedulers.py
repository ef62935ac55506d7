"""Schedulers that die."""

from __future__ import annotations

import os
import signal
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
from tests.chaos.common import expected, fit, in_the_middle_of, n_sweeps, problem
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
    worker = ("dask_worker", "--scheduler-file", place, "--nthreads", "1", "--no-dashboard", "--death-timeout", "10",
              "--local-directory", directory)  # fmt: skip
    started = [_start(*scheduler)]
    try:
        started += [_start(*worker) for _ in range(n_workers)]
        while not os.path.exists(place):
            time.sleep(0.05)
        yield place, started
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


SOON = {"distributed.comm.timeouts.connect": "3s", "distributed.comm.retry.count": 0}


@fault(
    "SIGKILL of the scheduler; the fit is run again on another",
    "`FitInterrupted` naming the checkpoint's place; the same fit goes on to the same bits",
)
def scheduler_killed(seeds, quick):
    want, n = expected(), n_sweeps()
    with tempfile.TemporaryDirectory() as directory, dask.config.set(SOON | {"daskml-core.checkpoint-sweeps": 1}):
        place = os.path.join(directory, "checkpoint")
        with processes(directory) as (file, started):
            client = Client(scheduler_file=file)
            client.wait_for_workers(1, timeout=60)
            with (
                in_the_middle_of(6, lambda: started[0].kill()) as done,
                pytest.raises(FitInterrupted, match=f"goes on from its checkpoint, {place}"),
            ):
                fit(*problem(seconds=0.02), checkpoint=place)
            start = time.monotonic() - done[0]
            client.close(timeout=1)
        kept = sum(name.endswith(".sweeps") for name in os.listdir(place))
        again = []
        with processes(directory) as (file, _), Client(scheduler_file=file) as client:
            client.wait_for_workers(1, timeout=60)
            from tests.chaos.common import counted

            with counted() as happened:
                assert fit(*problem(seconds=0.02), checkpoint=place) == want
            again = [name for name in happened if name != "checksum"]
    assert kept >= 5 and len(again) == n - kept, (kept, again)
    return f"so it is, {start:.0f} s after the kill; the other {len(again)} of {n} sweeps gave the same bits"


@fault(
    "SIGKILL of the scheduler; another one starts at its address",
    "the sweep is tried once more: same bits",
    tested=False,
)
def scheduler_comes_back(seeds, quick):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory, processes(directory, port) as (file, started):
        client = Client(scheduler_file=file)
        client.wait_for_workers(1, timeout=60)
        more = []

        def replace_it():
            started[0].kill()
            started[0].wait()
            more.append(processes(directory, port))
            more[0].__enter__()

        try:
            with in_the_middle_of(5, replace_it) as done:
                bits = fit(*problem(seconds=0.02))
            took = time.monotonic() - done[0]
        finally:
            client.close(timeout=1)
            for context in more:
                context.__exit__(None, None, None)
    assert done and bits == expected()
    return f"same bits, {took:.0f} s after the kill"
