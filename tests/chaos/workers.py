"""Workers that die, hang, crawl, come and go."""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, Future, LocalCluster
from distributed.chaos import KillWorker

from daskml_core.cluster import KMeans
from daskml_core.errors import BlockError, SweepTimeoutError, WorkersKilledError
from daskml_core.optimize import minimize
from tests.chaos.common import (
    CHUNK,
    N_BLOCKS,
    Missed,
    close_shared,
    cluster,
    expected,
    fit,
    in_the_middle_of,
    kill,
    kill_one,
    n_sweeps,
    on_sweep,
    pids,
    played,
    problem,
    seconds,
    shared_client,
    slowly,
    timed,
    wait_for,
)
from tests.chaos.registry import fault

SAME = "same bits"
SLOW = {"seconds": 0.02}


@fault("SIGKILL of one of two workers in the middle of a sweep", SAME, seeds=10)
def one_of_two(seeds, quick):
    spent = []
    for seed in seeds:

        def scene(slower, seed=seed):
            client, rng = shared_client(), random.Random(f"{seed} {slower}")
            victim = rng.choice(pids(client))
            with in_the_middle_of(rng.randrange(n_sweeps()), lambda: kill(victim), rng.random() * 0.2):
                bits, s = timed(lambda: fit(*problem(seconds=0.02 * slower), residency=seed % 2 == 0))
            assert bits == expected(), seed
            return s

        spent.append(played(scene))
    return f"{len(seeds)} of {len(seeds)} fits: same bits, in {seconds(spent)}"


@fault("SIGKILL of the only worker; its nanny starts another", SAME, seeds=3, tested=False)
def the_only_one(seeds, quick):
    spent = []
    with cluster(n_workers=1) as client:
        for seed in seeds:

            def scene(slower, seed=seed):
                client.wait_for_workers(1, timeout=300)
                rng = random.Random(seed)
                (victim,) = pids(client)
                with in_the_middle_of(rng.randrange(1, n_sweeps()), lambda: kill(victim)):
                    bits, s = timed(lambda: fit(*problem(seconds=0.02 * slower)))
                assert bits == expected(), seed
                return s

            spent.append(played(scene))
    return f"{len(seeds)} of {len(seeds)} fits: same bits, in {seconds(spent)}"


@fault("SIGKILL of a random worker every 2-5 s during 30 sweeps", SAME, tested=False)
def random_kills(seeds, quick):
    client = shared_client()
    n, pause = (8, (0.5, 1.0)) if quick else (30, (2.0, 5.0))

    def run():
        X, _ = problem(seconds=0.05 if quick else 0.25)
        with dask.config.set({"daskml-core.residency": False}), pytest.warns(match="did not converge"):
            return KMeans(3, init=np.eye(3, 5, dtype="f4"), max_iter=n, tol=0).fit(X)

    with dask.config.set(scheduler="threads"):
        plain = run()
    killed, over = [], threading.Event()

    def killer():
        rng = random.Random(seeds[0])
        while not over.wait(rng.uniform(*pause)):
            killed.extend([1] * kill_one(client, rng))

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        disturbed, s = timed(run)
    finally:
        over.set()
        thread.join()
    assert killed
    assert disturbed.cluster_centers_.tobytes() == plain.cluster_centers_.tobytes()
    assert disturbed.inertia_ == plain.inertia_ and disturbed.n_iter_ == n
    return f"{len(killed)} kills in {n} sweeps, {s:.0f} s: same bits"


def dies_once(block, flag=None, how=None, block_info=None):
    """The first process that reads block 7 ends itself."""
    if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return block
        if how == "exit":
            sys.exit(3)
        os._exit(3)
    return block


@fault("sys.exit, and os._exit, in the task of a block", SAME)
def exits(seeds, quick):
    shared_client()
    for how in ("exit", "_exit"):
        with tempfile.TemporaryDirectory() as directory:
            flag = os.path.join(directory, "died")
            assert fit(*problem(dies_once, flag=flag, how=how)) == expected(), how
            assert os.path.exists(flag)
    return "one worker ended by each: same bits"


async def infected(dask_worker, mode):
    await KillWorker(delay="500 ms", mode=mode).setup(dask_worker)


@fault("distributed's KillWorker on every worker: graceful, segfault", SAME, tested=False)
def kill_worker(seeds, quick):
    spent = []
    for mode in ["segfault"] if quick else ["segfault", "graceful"]:
        client = shared_client()
        # On the workers of now alone: as a plugin it would end each new one again before it has done anything.
        client.run(infected, mode=mode)
        bits, s = timed(lambda: fit(*problem(seconds=0.05)))
        assert bits == expected(), mode
        spent.append(s)
        close_shared()
    return f"same bits, in {seconds(spent)}"


@fault(
    "distributed's KillWorker: sys.exit in a worker's event loop, whose process then hangs",
    "`SweepTimeoutError` (where it is set) naming the blocks outstanding",
    tested=False,
)
def hanging_worker(seeds, quick):
    client = shared_client()
    client.run(infected, mode="sys.exit")
    try:
        with (
            dask.config.set({"daskml-core.sweep-timeout": 5}),
            pytest.raises(SweepTimeoutError, match=r"Outstanding: row block"),
        ):
            fit(*problem(seconds=0.2))
    finally:
        close_shared()
    return "so it does, after the 5 s that were set"


def poisonous(block, block_info=None):
    """Block 7 kills whoever reads it."""
    if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return block


PLACE = rf"row block 7 \(rows {7 * CHUNK} to {8 * CHUNK - 1}, Dask block poisonous.* \(7, 0\)\)"


@fault(
    "a block that kills every worker that reads it",
    "`WorkersKilledError` naming sweep, block, rows and source",
    tested=False,
)
def poison(seeds, quick):
    shared_client()
    start = time.perf_counter()
    with pytest.raises(WorkersKilledError, match=PLACE) as caught:
        fit(*problem(poisonous))
    assert re.match(r"Sweep \d+ of this data \(.*logistic.*\): 4 workers have died of row block 7", str(caught.value))
    return f"so it is, after {time.perf_counter() - start:.0f} s: four workers, and one or two more to find the block"


def unreadable(block, block_info=None):
    """Block 7 cannot be read."""
    if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
        raise OSError("Input/output error")
    return block


@fault("a block that cannot be read", "`BlockError` naming sweep, block, rows and source")
def cannot_be_read(seeds, quick):
    shared_client()
    message = (
        rf"Sweep \d+ .*Reading row block 7 \(rows {7 * CHUNK} to {8 * CHUNK - 1}, Dask block unreadable.*OSError: Input"
    )
    with pytest.raises(BlockError, match=message):
        fit(*problem(unreadable))
    with dask.config.set(scheduler="threads"), pytest.raises(BlockError, match=message):
        fit(*problem(unreadable))
    return "so it is, on workers and in threads"


def greedy(block, block_info=None):
    """Block 7 takes more memory than a worker has."""
    if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
        held = []
        for _ in range(100):
            held.append(np.ones(10 << 17))
            time.sleep(0.01)
    return block


@fault(
    "a task over its worker's memory limit",
    "`WorkersKilledError` that says so, with plan, limit and largest block",
    tested=False,
)
def over_the_limit(seeds, quick):
    start = time.perf_counter()
    with (
        dask.config.set({"distributed.worker.memory.pause": False}),
        cluster(memory_limit="800 MiB") as _,
        pytest.raises(WorkersKilledError, match=r"4 workers ran out of memory on .*; planned were .* of .* a process"),
    ):
        fit(*problem(greedy))
    return f"so it does, after {time.perf_counter() - start:.0f} s"


def crawling(block, slow=0, seconds=0.005, block_info=None):
    """One of the worker processes takes twenty times as long."""
    if block.size:
        time.sleep(seconds * (20 if os.getpid() == slow else 1))
    return block


@fault("one worker 20 times slower", SAME)
def slow_worker(seeds, quick):
    slow = pids(shared_client())[0]
    _, plain = timed(lambda: fit(*problem(crawling)))
    bits, s = timed(lambda: fit(*problem(crawling, slow=slow)))
    assert bits == expected()
    return f"same bits, {s / plain:.1f} times the seconds"


@fault("a worker frozen by SIGSTOP for a second", SAME)
def frozen_for_a_while(seeds, quick):
    def scene(slower):
        victim = pids(shared_client())[0]

        def freeze():
            kill(victim, signal.SIGSTOP)
            time.sleep(1)
            kill(victim, signal.SIGCONT)

        with in_the_middle_of(4, freeze):
            bits, s = timed(lambda: fit(*problem(seconds=0.02 * slower)))
        assert bits == expected()
        return s

    return f"same bits, in {played(scene):.1f} s"


@fault("a worker frozen by SIGSTOP for good", "`SweepTimeoutError` (where it is set) naming the blocks outstanding")
def frozen(seeds, quick):
    def scene(slower):
        victim = pids(shared_client())[0]
        try:
            with (
                dask.config.set({"daskml-core.sweep-timeout": 3 * slower}),
                in_the_middle_of(4, lambda: kill(victim, signal.SIGSTOP)),
                pytest.raises(SweepTimeoutError, match=r"Outstanding: row block.* on tcp://"),
            ):
                fit(*problem(seconds=0.02 * slower))
        finally:
            kill(victim, signal.SIGCONT)
        return 3 * slower

    return f"so it does, after the {played(scene)} s that were set"


def sticking(block, held=None, block_info=None):
    """Block 7 does not come while a file is there."""
    if block.size and block_info and block_info[0]["chunk-location"][0] == 7:
        wait_for(lambda: not os.path.exists(held))
    return block


@fault("a task that hangs", "`SweepTimeoutError` (where it is set) naming the blocks outstanding")
def stuck(seeds, quick):
    place = rf"Outstanding: row block 7 \(rows {7 * CHUNK} to {8 * CHUNK - 1}, Dask"

    def scene(slower, where):
        settings = {"daskml-core.sweep-timeout": 2 * slower, "daskml-core.spans-per-thread": 100}
        with (
            tempfile.NamedTemporaryFile() as held,
            dask.config.set(settings | where),
            pytest.raises(SweepTimeoutError) as caught,
        ):
            fit(*problem(sticking, held=held.name))
        if not re.search(place, str(caught.value)):
            raise Missed(str(caught.value))  # others were late too
        return 2 * slower

    shared_client()
    for where in ({"scheduler": None}, {"scheduler": "threads"}):
        s = played(functools.partial(scene, where=where))
    return f"so it does, after the {s} s that were set, on workers and in threads"


@fault("1, 2 and 3 workers with 1 and 2 threads", SAME)
def any_number(seeds, quick):
    with dask.config.set(scheduler="threads", num_workers=2):
        assert fit(*problem()) == expected()
    for n in (1, 2, 3):
        for threads in (1, 2):
            made = LocalCluster(n_workers=n, threads_per_worker=threads, processes=False, dashboard_address=":0")
            with made as local, Client(local):
                assert fit(*problem(), residency=n % 2 == 0) == expected(), (n, threads)
    return "same bits in all six, and in threads of this process"


@fault("resident blocks copied to the other worker, and then the one that had read them killed", SAME)
def moved(seeds, quick):
    client, copied = shared_client(), []
    client.amm.stop()  # it would take the second copies away, within two seconds

    def each(number):
        if number == 3:
            keys = [key for key in client.who_has() if str(key).startswith("('load-")]
            client.replicate([Future(key, client=client) for key in keys], n=2)
            copied.extend(len(holders) for holders in client.who_has().values())
        if number == 4:
            kill(pids(client)[0])

    try:
        with on_sweep(each):
            bits = fit(*problem(**SLOW), residency=True)
    finally:
        client.amm.start()
    assert copied.count(2) >= 8 and bits == expected()
    return f"{copied.count(2)} spans copied: same bits"


@fault("every resident block spilled to disk", SAME)
def spilled(seeds, quick):
    limits = {"distributed.worker.memory.target": 1e-9, "distributed.worker.memory.spill": False}
    with dask.config.set(limits), cluster(memory_limit="4 GiB", processes=not quick) as client:
        on_disk = []

        def look(number):
            if number == 5:
                on_disk.extend(client.run(lambda dask_worker: len(dask_worker.data.slow)).values())

        with on_sweep(look):
            bits = fit(*problem(), residency=True)
    assert sum(on_disk) >= 4 and bits == expected()
    return f"{sum(on_disk)} spans on disk in the middle of the fit: same bits"


def squared_error(w, A, b, slow=0, quick_s=0.002):
    """A user's function that takes twenty times as long in one process."""
    time.sleep(quick_s * (20 if os.getpid() == slow else 1))
    r = A @ w - b
    return r @ r / 2, A.T @ r


@fault("one worker 20 times slower, blocks in memory", "same bits; its blocks move to the others")
def slow_holder(seeds, quick):
    client = shared_client()
    slow = pids(client)[0]
    X, y = problem()

    def run(slow):
        function = functools.partial(squared_error, slow=slow)
        return minimize(function, np.zeros(5), X, y, solver="lbfgs", max_iter=16, tol=1e-12)

    _, plain = timed(lambda: run(0))
    found, s = timed(lambda: run(slow))
    with dask.config.set(scheduler="synchronous"):
        alone = minimize(
            functools.partial(squared_error, quick_s=0), np.zeros(5), X, y, solver="lbfgs", max_iter=16, tol=1e-12
        )
    assert found.x.tobytes() == alone.x.tobytes()
    # What has moved was read again, a third of the blocks at least. Where the machine itself stalls, what looks slow
    # changes; but spans move after 2, 4 and 8 sweeps, not after each of the 17.
    once, read = found.history[0]["bytes_read"], found.history[-1]["bytes_read"]
    assert 1.3 * once < read <= 4 * once, (once, read)
    taken = np.diff([row["seconds"] for row in found.history])
    before, after = max(taken[1:4]), np.median(taken[6:])
    return f"same bits; sweeps of {before:.2f} s, then of {after:.2f} s; {s / plain:.1f} times the seconds"


@fault("the worker that holds the parameters of a sweep killed", SAME)
def holder_of_parameters(seeds, quick):
    """Parameters beyond 64 KiB are one task; who has its result is killed while the spans wait for it."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N_BLOCKS * CHUNK, 64)).astype("f4")

    def run(**where):
        X = da.from_array(rows, chunks=(CHUNK, -1)).map_blocks(
            slowly, seconds=where.pop("seconds", 0.0), dtype="f4", meta=np.empty((0, 64), "f4")
        )
        with dask.config.set({"daskml-core.residency": False} | where), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return KMeans(300, init=rows[:300], max_iter=5, tol=0).fit(X)

    alone = run(scheduler="synchronous")
    numbers = (1,) if quick else (1, 2, 3)
    for number in numbers:

        def scene(slower, number=number):
            client = shared_client()

            def kill_holder():
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline:
                    for key, holders in client.who_has().items():
                        if "-params-" in str(key) and holders:
                            kill({n.worker_address: n.pid for n in client.cluster.workers.values()}[holders[0]])
                            return True
                return False

            with in_the_middle_of(number, kill_holder, 0.02):
                found = run(scheduler=None, seconds=0.03 * slower)
            assert found.cluster_centers_.tobytes() == alone.cluster_centers_.tobytes(), number

        played(scene)
    return f"{len(numbers)} holders killed: same bits"


@fault("cluster.adapt() between 1 and 3 workers in the middle", SAME)
def adaptive(seeds, quick):
    def scene(slower, residency):
        made = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=not quick, dashboard_address=":0", silence_logs=60
        )
        seen = set()
        with made as local, Client(local) as client:
            fit(*problem())

            def change(number):
                if number == 1:
                    local.adapt(minimum=1, maximum=3, interval="100 ms", wait_count=2, target_duration="100 ms")
                seen.add(len(client.scheduler_info(n_workers=-1)["workers"]))

            with on_sweep(change):
                bits = fit(*problem(seconds=(0.02 if quick else 0.1) * slower), residency=residency)
        assert bits == expected(), residency
        if max(seen) == 1 and not residency:
            raise Missed("the cluster has not grown")
        return seen

    for residency in (False,) if quick else (True, False):
        seen = played(functools.partial(scene, residency=residency))
    return f"{min(seen)} to {max(seen)} workers: same bits" + (
        "" if quick else ", with resident and with streamed blocks"
    )


@fault("a worker joins, another is retired, in the middle", SAME)
def scaling(seeds, quick):
    for residency in (True, False):
        made = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=not quick, dashboard_address=":0", silence_logs=60
        )
        with made as local, Client(local) as client:
            fit(*problem())

            def change(number, client=client, local=local):
                if number == 3:
                    local.scale(2)
                    client.wait_for_workers(2, timeout=300)
                if number == 6:
                    first = sorted(client.scheduler_info(n_workers=-1)["workers"])[0]
                    client.retire_workers([first])

            with on_sweep(change):
                bits = fit(*problem(seconds=0.005), residency=residency)
        assert bits == expected(), residency
    return "same bits, with resident and with streamed blocks"
