"""Data, clocks and tables that the benchmarks share."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table
from zarr.codecs import Crc32cCodec, ZstdCodec

SCRATCH = Path(os.environ.get("DASKML_BENCH_DIR", "scratch"))
ROWS, FEATURES, CHUNK = 4_000_000, 50, 100_000
console = Console(width=110)
# What goes wrong on disk must not be measured: every chunk is written, and carries a checksum.
CHECKED = {"compressors": ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
PLAIN = CHECKED | {"compressors": Crc32cCodec()}


def two_class_blocks(seed: int = 0):
    """Blocks of 100,000 rows: float32 noise, labels from a logistic model with an optimal log-loss of 0.35."""
    w = np.random.default_rng(seed).normal(size=FEATURES) / np.sqrt(FEATURES) * 3.7
    for i in range(ROWS // CHUNK):
        rng = np.random.default_rng([seed, i])
        X = rng.standard_normal((CHUNK, FEATURES), dtype=np.float32)
        y = X @ w + rng.logistic(size=CHUNK) > 0
        yield X, y


def two_class_store(compressed: bool = True) -> zarr.Group:
    """4M x 50 float32 in zarr, 40 chunks, zstd or plain; written once."""
    path = SCRATCH / ("two-class-zstd.zarr" if compressed else "two-class-plain.zarr")
    if not (path / "done").exists():
        group = zarr.open_group(path, mode="w")
        codec = CHECKED if compressed else PLAIN
        X = group.create_array("X", shape=(ROWS, FEATURES), chunks=(CHUNK, FEATURES), dtype="f4", **codec)
        y = group.create_array("y", shape=(ROWS,), chunks=(CHUNK,), dtype="bool", **codec)
        for i, (xb, yb) in enumerate(two_class_blocks()):
            X[i * CHUNK : (i + 1) * CHUNK] = xb
            y[i * CHUNK : (i + 1) * CHUNK] = yb
        (path / "done").touch()
    return zarr.open_group(path, mode="r")


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall seconds and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = function()
    return result, time.perf_counter() - wall, cpu_seconds() - cpu


def median_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Median wall seconds after one call that does not count."""
    function()
    return statistics.median(timed(function)[1] for _ in range(repeats))


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table."""
    out = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        out.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        out.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    console.print(out)


def gate(claim: str, holds: bool) -> bool:
    """Print whether a count that is promised holds."""
    console.print(f"[{'green' if holds else 'red'}]{'holds' if holds else 'MISSED'}[/]: {claim}")
    return holds
