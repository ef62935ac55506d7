"""The memory plan: projections, refusals, and a measured peak in a fresh process."""

import subprocess
import sys
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows
from daskml_core.engine.memory import format_bytes
from daskml_core.kernels.gram import GRAM
from daskml_core.sweep import Kernel, Sweep
from tests.fits import FITS, data

MiB = 1 << 20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "noise.zarr"
    group = zarr.open_group(path, mode="w")
    X = group.create_array("X", shape=(1_500_000, 40), chunks=(25_000, 40), dtype="f4")
    y = group.create_array("y", shape=(1_500_000,), chunks=(25_000,), dtype="bool")
    for i in range(60):
        block = np.random.default_rng(i).standard_normal((25_000, 40), dtype=np.float32)
        rows = slice(i * 25_000, (i + 1) * 25_000)
        X[rows], y[rows] = block, block[:, 0] > 0
    return path


CASE = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import dask, zarr
from daskml_core.linear_model import LogisticRegression
store = zarr.open_group(sys.argv[1], mode="r")
# More rows than a sample holds: every kernel of the fit is loaded before the base is measured.
LogisticRegression(max_iter=3).fit(store["X"][:60_000], store["y"][:60_000])
from daskml_core.engine.executors import return_free_memory
return_free_memory()
base = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
dask.config.set({"daskml-core.memory-limit": base + int(sys.argv[2]), "num_workers": 2})
model = LogisticRegression(max_iter=3)
print(model.plan(store["X"], store["y"]).projected_peak_bytes)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
model.fit(store["X"], store["y"])
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
print(base + int(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is read from /proc")
def test_a_fit_on_four_times_the_room_stays_below_the_limit(store):
    """Of one solver; `make chaos` measures every kernel."""
    room = 1_500_000 * 40 * 4 // 4
    done = subprocess.run(
        [sys.executable, "-c", CASE, str(store), str(room)], capture_output=True, text=True, check=True
    )
    projected, peak, limit = (int(line) for line in done.stdout.split())
    assert projected <= limit
    assert peak <= limit


def test_less_is_read_ahead_and_fewer_threads_run_before_a_fit_is_refused(store, same_base):
    group = zarr.open_group(store, mode="r")
    blocks = load(group["X"], group["y"], count_rows=count_rows)
    kernels = [(GRAM, None)]
    with dask.config.set({"scheduler": "threads", "num_workers": 2}):
        free = Engine(blocks, kernels=kernels)
        base = free.base_bytes
        tight = base + free.footprint.per_thread + free.footprint.shared + 2 * MiB
        with dask.config.set({"daskml-core.memory-limit": tight}):
            engine = Engine(blocks, kernels=kernels)
    assert free.executor.n_threads == 2
    assert engine._ahead < free._ahead
    assert engine.resident_bytes < free.resident_bytes
    assert engine.projected_peak_bytes <= tight


def test_bytes_for_people():
    assert [format_bytes(n) for n in (5, 2048, 3 * MiB, 5 << 30)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.00 GiB"]


OF_EVERY_FAMILY = (
    "auto", "newton", "proximal", "SGDClassifier", "least squares", "Huber", "RidgeCV", "LassoCV", "k-means", "k-means||",
    "mini-batch k-means", "bisecting k-means", "LinearSVC hinge", "SVC cascade", "GridSearchCV", "HalvingGridSearchCV",
    "minimize", "minimize by sgd",
)  # fmt: skip

HANDED_ON = ("partial-fit", "score-held-out", "held-out-decisions")
"""Kernels that hand rows of a block on: to anybody's ``partial_fit`` and ``predict``, or to the calibration of a machine."""


@pytest.fixture(scope="module")
def planned():
    """Every kernel that any way to fit plans for, with its parameters."""
    found = {}
    original = Engine.__init__

    def init(self, blocks, executor=None, kernels=(), held_bytes=0):
        for kernel, params in kernels:
            found.setdefault(kernel.task_name(params), (kernel, params))
        original(self, blocks, executor, kernels, held_bytes)

    Engine.__init__ = init
    try:
        for name in OF_EVERY_FAMILY:
            FITS[name](*data())
    finally:
        Engine.__init__ = original
    return found


def test_kernels_work_on_tiles_what_they_need_does_not_grow_with_a_block(planned):
    """However wide rows are, a kernel takes a few numbers for each beside the block, never a copy of them."""
    n, d = 1 << 20, 5000
    grows = {}
    for name, (kernel, params) in planned.items():
        if params is not None and name not in HANDED_ON:
            grows[name] = (kernel.workspace(2 * n, d, params) - kernel.workspace(n, d, params)) / n
    assert len(grows) >= 15
    assert {name: growth for name, growth in grows.items() if growth > 4 * d / 20} == {}, grows


class Crowd:
    """How many threads are at work at a time: each stays until as many as are wanted have been there together."""

    def __init__(self, wanted):
        self.wanted, self.now, self.most, self.changed = wanted, 0, 0, threading.Condition()

    def __enter__(self):
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.wanted, 60)
        time.sleep(0.001)

    def __exit__(self, *exc):
        with self.changed:
            self.now -= 1


crowd = Crowd(0)


def together(block, params):
    """Sums of a block, by threads that are counted."""
    with crowd:
        return block.X.sum(axis=0)


def test_at_most_as_many_threads_of_a_worker_as_fit_work_at_a_time(same_base):
    """Workers have the threads that they have: where fewer fit they take turns."""
    X = da.random.default_rng(0).normal(size=(8000, 50), chunks=(250, 50))
    kernel = Kernel(together, "together", lambda n, d, p: 64 * MiB)
    sums, seen = [], []
    global crowd
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        for extra in (None, 2 * 64 * MiB + 40 * MiB):
            blocks = load(X, None, None, count_rows=count_rows)
            base = Engine(blocks).base_bytes
            with dask.config.set({"daskml-core.memory-limit": None if extra is None else base + extra}):
                engine = Engine(blocks, kernels=[(kernel, None)])
                crowd = Crowd(engine.n_threads)
                sums.append(engine.sweep(Sweep(kernel))[0].tobytes())
                seen.append((engine.n_threads, crowd.most))
    assert seen == [(4, 4), (2, 2)]
    assert sums[0] == sums[1]
    assert engine.projected_peak_bytes <= base + extra


def test_what_compresses_well_is_planned_with_its_compressed_bytes(tmp_path):
    X = np.zeros((200_000, 40), dtype="f4")
    X[:, 0] = np.arange(200_000)
    options = {"chunks": (50_000, 20), "config": {"write_empty_chunks": True}}
    packed = zarr.create_array(tmp_path / "packed", data=X, **options)
    plain = zarr.create_array(tmp_path / "plain", data=X, compressors=None, **options)
    needs = []
    for array in (packed, plain):
        blocks = load(array, None, count_rows=count_rows)
        needs.append(Engine(blocks, kernels=[(GRAM, None)]).footprint.per_thread)
        largest = max(path.stat().st_size for path in (tmp_path / array.store.root.name).rglob("c/*/*"))
        assert blocks.X.encoded_bytes == (2 * largest,)
    assert needs[0] < 0.8 * needs[1]
