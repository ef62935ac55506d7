"""Clients that die, and fits that are run again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time

import dask

from tests.chaos.common import counted, expected, fit, n_sweeps, on_sweep, problem
from tests.chaos.registry import fault


def _fit(place: str, at: float | None) -> None:
    """The fit, in a process of its own that dies as a sweep begins; or that is slow, where it is killed from outside."""
    with dask.config.set({"scheduler": "synchronous", "daskml-core.checkpoint-sweeps": 1}):
        if at is None:
            fit(*problem(seconds=0.003), checkpoint=place)
        with on_sweep(lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == at else None):
            fit(*problem(), checkpoint=place)


def killed(place: str, how: str, numbers: list[float]) -> int:
    """Deaths of clients that run the fit, one after the other."""
    # Forked from a process that has imported everything: nothing but the fit has to be done again.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    deaths = 0
    for number in numbers:
        client = context.Process(target=_fit, args=(place, number if how == "at" else None))
        client.start()
        if how == "after":
            time.sleep(number)
            client.kill()
        client.join()
        assert client.exitcode in (0, -signal.SIGKILL)
        deaths += client.exitcode != 0
    return deaths


@fault("client killed by SIGKILL as each sweep begins, and run again", "same bits, no sweep made twice")
def at_each_sweep(seeds, quick):
    n, want = n_sweeps(), expected()
    for k in [1, n // 2] if quick else range(n):
        with tempfile.TemporaryDirectory() as directory:
            place = os.path.join(directory, "checkpoint")
            assert killed(place, "at", [k]) == 1
            with counted() as happened:
                assert fit(*problem(), checkpoint=place) == want, k
            assert len([name for name in happened if name != "checksum"]) == n - k, k
    return f"at each of {n} sweeps: same bits, the other sweeps made once"


@fault("client killed at every sweep of one fit in turn", "same bits")
def at_every_sweep(seeds, quick):
    n = n_sweeps()
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(directory, "checkpoint")
        deaths = killed(place, "at", [1] * (4 if quick else n - 1))
        assert fit(*problem(), checkpoint=place) == expected()
    return f"{deaths} deaths in one fit: same bits"


@fault("client killed at random instants, many times, and run again", "same bits", seeds=10)
def at_random(seeds, quick):
    deaths = 0
    for seed in seeds:
        rng = random.Random(seed)
        with tempfile.TemporaryDirectory() as directory:
            place = os.path.join(directory, "checkpoint")
            deaths += killed(place, "after", [rng.uniform(0.02, 0.6) for _ in range(6)])
            assert fit(*problem(), checkpoint=place) == expected(), seed
    assert deaths
    return f"{deaths} deaths in {len(seeds)} fits: same bits"


@fault(
    "fits, kills of clients and workers, resumptions, rescaling, damage to checkpoint and store, in any order (hypothesis)",
    "same bits whenever a fit completes, and no fit completes over damaged data or another fit's checkpoint",
)
def any_order(seeds, quick):
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.chaos.machine import FitKillResume, steps, workers

    steps.clear()
    n, length = (4, 12) if quick else (50, 20)
    for _ in seeds:
        with workers():
            run_state_machine_as_test(
                FitKillResume,
                settings=settings(
                    max_examples=n, stateful_step_count=length, deadline=None, database=None,
                    derandomize=len(seeds) == 1, suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip
    told = ", ".join(f"{count} {what}" for what, count in sorted(steps.items(), key=lambda step: -step[1]))
    return f"{n * len(seeds)} x {length} steps ({told}): so it is"
