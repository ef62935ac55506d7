"""What a sweep costs: streamed against reading alone, resident against PyTorch DDP, empty against the clock."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from common import CHUNK, FEATURES, ROWS, gate, median_seconds, table, two_class_store
from distributed import Client, LocalCluster

from daskml_core.data import load
from daskml_core.engine import Engine, count_rows
from daskml_core.kernels.linear import LINEAR_LOSS, LinearParams
from daskml_core.losses import HalfLogistic
from daskml_core.sweep import Kernel, Sweep


def _nothing(block, params):
    return 0


NOTHING = Kernel(_nothing, "nothing")


def gradient() -> Sweep:
    """A gradient of one model."""
    return Sweep(LINEAR_LOSS, LinearParams(np.full((FEATURES, 1), 0.1), np.zeros(1), HalfLogistic(), 1))


def streaming() -> None:
    """Streamed gradient sweeps against reading the same chunks with the same threads and doing nothing."""
    rows = []
    for compressed in (True, False):
        store = two_class_store(compressed)
        X, y = store["X"], store["y"]

        def read(i, X=X, y=y):
            X[i * CHUNK : (i + 1) * CHUNK]
            y[i * CHUNK : (i + 1) * CHUNK]

        def read_all(read=read):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(read, range(ROWS // CHUNK)))

        with dask.config.set({"daskml-core.residency": False, "num_workers": 2, "scheduler": "threads"}):
            blocks = load(X, y, count_rows=count_rows)
            engine = Engine(blocks)
            pairs = []
            for _ in range(6):
                a = time.perf_counter()
                read_all()
                b = time.perf_counter()
                engine.sweep(gradient())
                c = time.perf_counter()
                pairs.append((b - a, c - b))
        ratio = statistics.median(s / r for r, s in pairs[1:])
        rows.append(
            ["zstd" if compressed else "plain", *(statistics.median(p[k] for p in pairs[1:]) for k in (0, 1)), ratio]
        )
    table("streamed gradient sweep, 4M x 50, two threads", ["", "reading s", "sweep s", "ratio"], rows)
    gate(f"a sweep from zstd costs at most 1.15 x reading ({rows[0][3]:.2f})", rows[0][3] <= 1.15)


def resident() -> None:
    """Resident gradient steps against PyTorch DDP with two gloo processes."""
    store = two_class_store()
    X, y = store["X"][:], store["y"][:].astype(np.float64)
    rows = []
    with dask.config.set({"num_workers": 2, "scheduler": "threads"}):
        engine = Engine(load(X, y, count_rows=count_rows))
        ours = median_seconds(functools.partial(engine.sweep, gradient()), 11)
    rows.append(["daskml_core, 2 threads", ours * 1e3])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        engine = Engine(load(store["X"], da.from_zarr(store["y"]).astype("f8"), count_rows=count_rows))
        rows.append(
            ["daskml_core, Client, 2 processes", median_seconds(functools.partial(engine.sweep, gradient()), 11) * 1e3]
        )
        del engine
    script = Path(__file__).with_name("torch_ddp.py")
    done = subprocess.run([sys.executable, str(script), str(store.store.root)], capture_output=True, text=True)
    if done.returncode == 0:
        other = float(done.stdout.split()[-1])
        rows.append(["PyTorch DDP, 2 gloo processes", other * 1e3])
    else:
        rows.append(["PyTorch DDP: " + (done.stderr.strip().splitlines() or ["failed"])[-1][:60], "-"])
    table("resident gradient step, 4M x 50", ["", "ms"], rows)
    if done.returncode == 0:
        gate(f"at most 0.75 x PyTorch DDP ({ours / other:.2f})", ours <= 0.75 * other)


def empty() -> None:
    """Empty sweeps over 40, 400 and 4,000 resident blocks."""
    rows = []
    for n in (40, 400, 4000):
        lazy = da.from_array(np.zeros((8_000_000, 2), dtype=np.float32), chunks=(8_000_000 // n, 2))
        with dask.config.set({"num_workers": 2, "scheduler": "threads"}):
            engine = Engine(load(lazy, count_rows=count_rows))
            threads = median_seconds(lambda e=engine: e.sweep(Sweep(NOTHING)), 21)
            spans = engine.n_spans
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
            engine = Engine(load(lazy, count_rows=count_rows))
            client = median_seconds(lambda e=engine: e.sweep(Sweep(NOTHING)), 21)
            del engine
        rows.append([f"{n} blocks", spans, threads * 1e3, client * 1e3])
    table("an empty sweep over resident blocks", ["", "tasks", "threads ms", "2 processes ms"], rows)
    gate("at most 10 ms with threads", all(row[2] <= 10 for row in rows))
    gate("at most 30 ms with two worker processes", all(row[3] <= 30 for row in rows))
    gate("tasks do not grow with blocks", max(row[1] for row in rows) <= 16)


def main() -> None:
    """Print the tables and the gates."""
    streaming()
    resident()
    empty()


if __name__ == "__main__":
    main()
