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


@functools.lru_cache(maxsize=1)
def _directory() -> Any:
    return tempfile.TemporaryDirectory()


def _write(group: Any, n_rows: int) -> None:
    """Noise in float32 with labels, in plain chunks of 2 MB."""
    X = group.create_array("X", shape=(n_rows, FEATURES), chunks=(CHUNK, FEATURES), dtype="f4", compressors=None)
    y = group.create_array("y", shape=(n_rows,), chunks=(CHUNK,), dtype="bool", compressors=None)
    for i in range(n_rows // CHUNK):
        rng = np.random.default_rng(i)
        block = rng.standard_normal((CHUNK, FEATURES), dtype="f4")
        X[i * CHUNK : (i + 1) * CHUNK] = block
        y[i * CHUNK : (i + 1) * CHUNK] = block[:, 0] + rng.logistic(size=CHUNK) > 0


@functools.lru_cache(maxsize=2)
def store(n_rows: int = N_ROWS) -> str:
    """A store of so many rows (200 bytes each), and of few of the same kind."""
    import zarr

    group = zarr.open_group(Path(_directory().name) / f"{n_rows}.zarr", mode="w")
    _write(group, n_rows)
    _write(group.create_group("few"), 2 * CHUNK)
    return str(Path(_directory().name) / f"{n_rows}.zarr")


def run(name: str, room: int, threads: int = 2, n_rows: int = N_ROWS) -> tuple[int, int, int, str]:
    """Projected peak, high-water mark and limit of a fresh process, and the digest of what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.kernels", name, str(room), str(threads), store(n_rows)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
    projected, peak, limit, found = done.stdout.split()
    return int(projected), int(peak), int(limit), found


def _data_over(parts: int, n_rows: int = N_ROWS) -> str:
    size = n_rows * (FEATURES * 4 + 1)
    _, free, _, want = run("logistic gradient", 0, n_rows=n_rows)
    projected, peak, limit, found = run("logistic gradient", size // parts, n_rows=n_rows)
    assert found == want, "other bits under a limit"
    assert peak <= projected <= limit, (peak, projected, limit)
    return (
        f"same bits; {peak / MiB:.0f} MiB at most where {projected / MiB:.0f} were projected and {limit / MiB:.0f} allowed "
        f"({free / MiB:.0f} without a limit)"
    )


@fault(
    "data twice the memory that is free below the limit",
    "same bits, memory below the projection, that below the limit",
    tested=False,  # tests/test_memory_plan.py has data of four times the memory
)
def twice(seeds, quick):
    return _data_over(2, N_ROWS // 2 if quick else N_ROWS)


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
    "every kernel with 1 and 2 threads: the plan against what is used",
    "high-water mark <= projection <= 1.5 x high-water mark",
)
def plan_against_use(seeds, quick):
    from tests.chaos.kernels import CASES

    # Machines hold rows near their margins, or a part of their kernel matrix, in the calling process.
    rooms = {"margins": 400 * MiB, "kernel machine": 1200 * MiB}
    ratios, outside = [], []
    names = ["mini-batch k-means"] if quick else list(CASES)
    for name in names:
        for threads in (2,) if quick else (1, 2):
            projected, peak, _, _ = run(name, rooms.get(name, 140 * MiB), threads, N_ROWS // 2)
            ratios.append(projected / peak)
            if not peak <= projected <= 1.5 * peak:
                outside.append(f"{name} with {threads}: {projected / MiB:.0f} projected, {peak / MiB:.0f} used")
    assert not outside, outside
    return f"projection / high-water mark {min(ratios):.2f}-{max(ratios):.2f} in {len(ratios)} runs of {len(names)} families"
