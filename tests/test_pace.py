"""Slow workers get less: which resident spans move, and that they do."""

import time

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows
from daskml_core.engine.pace import Move, Pace, moves
from daskml_core.sweep import Kernel, Sweep

WORKERS = {"fast": 1, "slow": 1}


def seen(fast, slow, n=3, workers=WORKERS):
    pace = Pace()
    for _ in range(n):
        pace.saw("fast", 1000, fast)
        pace.saw("slow", 1000, slow)
    return pace.seconds_a_byte(workers)


def holding(*names, n_bytes=100):
    return [(name, n_bytes) for name in names]


def test_nothing_is_said_of_the_pace_before_it_was_seen_twice():
    pace = Pace()
    assert pace.seconds_a_byte(WORKERS) is None
    pace.saw("fast", 1000, 1.0)
    pace.saw("slow", 1000, 20.0)
    assert pace.seconds_a_byte(WORKERS) is None
    pace.saw("fast", 1000, 1.0)
    pace.saw("slow", 1000, 20.0)
    assert pace.seconds_a_byte(WORKERS) == {"fast": 0.001, "slow": 0.02}


def sweeps_until_known(pace, workers):
    for n in range(1, 100):
        for worker in workers:
            pace.saw(worker, 1000, 1.0)
        if pace.seconds_a_byte(workers) is not None:
            return n
    raise AssertionError("never known")


def test_each_move_asks_for_twice_as_many_sweeps_until_other_workers_are_there():
    pace = Pace()
    needed = []
    for _ in range(4):
        needed.append(sweeps_until_known(pace, WORKERS))
        pace.moved(WORKERS)
    assert needed == [2, 4, 8, 16]
    assert sweeps_until_known(pace, WORKERS | {"new": 1}) == 2


def test_a_worker_that_was_busy_for_a_moment_is_not_slow():
    pace = Pace()
    for slow in (1.0, 20.0, 1.0):
        pace.saw("fast", 1000, 1.0)
        pace.saw("slow", 1000, slow)
    assert pace.seconds_a_byte(WORKERS) == {"fast": 0.001, "slow": 0.001}


def test_threads_share_the_work_and_a_worker_that_has_joined_is_taken_for_one_of_the_others():
    assert seen(2.0, 2.0, workers={"fast": 2, "slow": 1, "new": 1}) == {"fast": 0.001, "slow": 0.002, "new": 0.002}


def test_a_worker_twenty_times_slower_keeps_a_twentieth():
    held = holding(*["fast"] * 10, *["slow"] * 10)
    found = moves(held, seen(1.0, 20.0), 10**9)
    assert {move.worker for move in found} == {"fast"}
    assert len(found) in (9, 10)
    # 2,000 bytes at full pace are 2 s, and the slow one's share of them takes as long as the fast one's.
    left = 10 - len(found)
    assert max((10 + len(found)) * 0.1, left * 2.0) <= 2.1


def test_what_is_even_or_not_worth_it_stays():
    even = holding(*["fast"] * 10, *["slow"] * 10)
    assert moves(even, seen(1.0, 1.3), 10**9) == []
    assert moves(even, seen(1e-5, 20e-5), 10**9) == []  # milliseconds
    assert moves([], seen(1.0, 20.0), 10**9) == []


def test_no_worker_gets_more_than_it_may_hold():
    held = holding(*["fast"] * 10, *["slow"] * 10)
    found = moves(held, seen(1.0, 20.0), 1500)
    assert [move.worker for move in found] == ["fast"] * 5


def test_a_worker_that_joined_gets_its_share_and_spans_of_lost_workers_stay():
    pace = Pace()
    for _ in range(2):
        pace.saw("one", 1000, 1.0)
    held = holding(*["one"] * 9, "gone")
    found = moves(held, pace.seconds_a_byte({"one": 1, "two": 1, "three": 1}), 10**9)
    assert sorted(move.worker for move in found) == ["three"] * 3 + ["two"] * 3
    assert all(isinstance(move, Move) and move.position < 9 for move in found)


def worked_by(block, slow):
    """Seconds that a block takes on a worker, and where it was."""
    from distributed import get_worker

    time.sleep(0.02 if get_worker().address == slow else 0.001)
    return ((get_worker().address, block.n_rows, float(block.X.sum())),)


def join(a, b):
    return a + b


@pytest.mark.parametrize("large", [False, True], ids=["params inside of tasks", "params apart"])
def test_blocks_move_from_a_slow_worker_to_the_others_and_the_sums_stay(large):
    X = da.random.default_rng(0).normal(size=(48_000, 16), chunks=(1000, 16))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        slow = sorted(client.scheduler_info()["workers"])[1]
        engine = Engine(load(X, None, None, count_rows=count_rows))
        params = np.array([slow] * (1000 if large else 1))
        kernel = Kernel(lambda block, p: worked_by(block, str(p[0])), "paced")
        answers, seconds = [], []
        for _ in range(6):
            start = time.perf_counter()
            (found,) = engine.sweep(Sweep(kernel, params, join))
            seconds.append(time.perf_counter() - start)
            answers.append(found)
        shares = [sum(n for worker, n, _ in found if worker == slow) for found in answers]
        assert engine.n_resident_spans == engine.n_spans
    assert all([part[1:] for part in found] == [part[1:] for part in answers[0]] for found in answers)
    assert shares[0] > 10_000
    assert shares[-1] <= 8_000
    # What moved was read again, and is counted.
    assert 1.0 < engine.bytes_read / engine._total_bytes < 2.0
