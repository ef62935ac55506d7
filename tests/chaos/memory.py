"""Data larger than memory, and the promise that is made of it before a chunk is read."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from daskml_core.errors import MemoryPlanError
from daskml_core.linear_model import LogisticRegression
from tests.chaos.registry import fault

MiB = 1 << 20
N_ROWS, FEATURES, CHUNK = 800_000, 50, 10_000

CASE = """
import sys, warnings, dask, zarr, numpy as np
from daskml_core.engine.portable import digest
from daskml_core.cluster import KMeans
from daskml_core.linear_model import LinearRegression, LogisticRegression, SGDClassifier
warnings.simplefilter("ignore")
models = {
    "logistic gradient": LogisticRegression(solver="lbfgs", max_iter=3),
    "logistic Hessian": LogisticRegression(solver="newton", max_iter=2),
    "Gram matrix": LinearRegression(),
    "k-means": KMeans(20, init="random", n_init=1, init_size=2000, max_iter=2),
    "SGD": SGDClassifier(loss="log_loss", max_iter=1, tol=None),
}
name, room, threads, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
store = zarr.open_group(path, mode="r")
X, y = store["X"], store["y"]
few = np.random.default_rng(0).normal(size=(200, 3)).astype("f4")
for model in models.values():  # code is loaded before anything is weighed
    model.fit(few, few[:, 0] > 0)
import distributed, threadpoolctl
status = lambda key: next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
limit = status("VmRSS") + room if room else None
dask.config.set({"daskml-core.memory-limit": limit, "num_workers": threads})
model = models[name]
projected = model.plan(X, y).projected_peak_bytes
open("/proc/self/clear_refs", "w").write("5")
model.fit(X, y)
found = model.cluster_centers_ if name == "k-means" else model.coef_
print(projected, status("VmHWM"), limit or 0, digest(found))
"""


@functools.lru_cache(maxsize=1)
def _directory() -> Any:
    return tempfile.TemporaryDirectory()


@functools.lru_cache(maxsize=1)
def store() -> str:
    """160 MB of float32 noise with labels, in plain chunks of 2 MB."""
    import zarr

    path = Path(_directory().name) / "data.zarr"
    group = zarr.open_group(path, mode="w")
    X = group.create_array("X", shape=(N_ROWS, FEATURES), chunks=(CHUNK, FEATURES), dtype="f4", compressors=None)
    y = group.create_array("y", shape=(N_ROWS,), chunks=(CHUNK,), dtype="bool", compressors=None)
    for i in range(N_ROWS // CHUNK):
        rng = np.random.default_rng(i)
        block = rng.standard_normal((CHUNK, FEATURES), dtype="f4")
        X[i * CHUNK : (i + 1) * CHUNK] = block
        y[i * CHUNK : (i + 1) * CHUNK] = block[:, 0] + rng.logistic(size=CHUNK) > 0
    return str(path)


def run(name: str, room: int, threads: int = 2) -> tuple[int, int, int, str]:
    """Projected peak, high-water mark and limit of a fresh process, and the model's digest."""
    done = subprocess.run(
        [sys.executable, "-c", CASE, name, str(room), str(threads), store()],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    projected, peak, limit, found = done.stdout.split()
    return int(projected), int(peak), int(limit), found


def _data_over(parts: int) -> str:
    size = N_ROWS * (FEATURES * 4 + 1)
    _, free, _, want = run("logistic gradient", 0)
    projected, peak, limit, found = run("logistic gradient", size // parts)
    assert found == want, "other bits under a limit"
    assert peak <= projected <= limit, (peak, projected, limit)
    return (
        f"same bits; {peak / MiB:.0f} MiB at most where {projected / MiB:.0f} were projected and {limit / MiB:.0f} allowed "
        f"({free / MiB:.0f} without a limit)"
    )


@fault(
    "data twice the memory that is free below the limit", "same bits, memory below the projection, that below the limit"
)
def twice(seeds, quick):
    return _data_over(2)


@fault(
    "data eight times the memory that is free below the limit",
    "same bits, memory below the projection, that below it",
    tested=False,
)
def eight_times(seeds, quick):
    return _data_over(8)


@fault("a block that cannot fit", "`MemoryPlanError` before anything is read, with the rows that would fit")
def too_large(seeds, quick):
    reads = []

    def touch(block):
        reads.append(block.shape)
        return block

    X = da.zeros((400_000, 50), chunks=(200_000, 50)).map_blocks(touch, meta=np.empty((0, 50)), dtype="f8")
    reads.clear()
    with (
        dask.config.set({"daskml-core.memory-limit": "64 MiB"}),
        pytest.raises(MemoryPlanError, match=r"Row block 0 \(200_000 rows\) needs .* memory limit is 64.0 MiB"),
    ):
        LogisticRegression().fit(X, np.arange(400_000) % 2)
    assert reads == []
    return "so it is: 0 blocks read"


@fault(
    "kernels with 1 and 2 threads: the plan against what is used",
    "high-water mark <= projection <= 1.5 x high-water mark",
)
def plan_against_use(seeds, quick):
    ratios, late = [], []
    names = (
        ["logistic gradient"] if quick else ["logistic gradient", "logistic Hessian", "Gram matrix", "k-means", "SGD"]
    )
    for name in names:
        for threads in (1, 2):
            projected, peak, _, _ = run(name, 140 * MiB, threads)
            ratios.append(projected / peak)
            if not peak <= projected <= 1.5 * peak:
                late.append(f"{name} with {threads}: {projected / MiB:.0f} projected, {peak / MiB:.0f} used")
    assert not late, late
    return f"projection / high-water mark {min(ratios):.2f}-{max(ratios):.2f} in {len(ratios)} fits of {len(names)} kernels"
