"""The memory plan: what a fit will hold, projected before a chunk is read.

The projected peak of a process is::

    base + threads x (2 x block + encoded + workspace) + (threads x 2 + 1) x partial + 2 x params + resident

A block counts twice because decoding holds its source form and its computed form at once; what was measured for an
80 MB zarr block was 2.4 to 3.0 blocks a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from daskml_core.data.blocks import RowBlocks
from daskml_core.engine.executors import Executor
from daskml_core.errors import MemoryPlanError
from daskml_core.html import pairs_table, stacked_bar
from daskml_core.sweep import Kernel

SLACK_BYTES = 8 << 20
"""Stacks of threads, graphs, and what else is too small to count one by one."""


def format_bytes(n: float) -> str:
    """A number of bytes for people.

    >>> format_bytes(3_250_000_000)
    '3.03 GiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.2f} GiB"


@dataclass(frozen=True)
class Footprint:
    """Bytes that one thread, one process and the resident spans take."""

    base: int
    per_thread: int
    shared: int
    limit: int

    def peak_parts(self, n_threads: int, resident_bytes: int) -> tuple[tuple[str, int], ...]:
        """What the projected peak of a process is made of, by name."""
        return (
            ("the process itself", self.base),
            (f"blocks in work, {n_threads} thread(s)", n_threads * self.per_thread),
            ("sums and parameters", self.shared),
            ("resident blocks", resident_bytes),
        )

    def threads_that_fit(self, n_threads: int) -> int:
        """Threads that may work at a time in each process."""
        room = self.limit - self.base - self.shared
        return max(0, min(n_threads, room // max(1, self.per_thread)))


def block_bytes(blocks: RowBlocks) -> int:
    """Bytes of the largest block as kernels see it."""
    rows = max(blocks.lengths, default=0)
    width = blocks.n_features * blocks.dtype.itemsize
    width += sum(column.row_bytes for column in (blocks.y, blocks.weight) if column is not None)
    return rows * width


def read_bytes(blocks: RowBlocks) -> int:
    """Bytes that reading the largest block takes beside the block itself: its source form and the encoded chunk."""
    total = 0
    for column in blocks.columns:
        if column.in_memory:
            continue
        source = column.source_bytes or max(blocks.lengths, default=0) * column.row_bytes
        # Noise does not compress: where the encoded size is not known it may be the decoded one.
        total += source + (max(column.encoded_bytes) if column.encoded_bytes else source)
    return total


def footprint(
    blocks: RowBlocks,
    executor: Executor,
    kernels: Sequence[tuple[Kernel, object]],
    base: int | None = None,
    *,
    read_ahead: int = 0,
    held_bytes: int = 0,
) -> Footprint:
    """What the kernels will take on these blocks; ``held_bytes`` is what solvers hold between sweeps."""
    rows = max(blocks.lengths, default=0)
    workspace = sum(kernel.workspace(rows, blocks.n_features, params) for kernel, params in kernels)
    sizes = [(kernel.gathers, kernel.partial_bytes(blocks.n_features, params)) for kernel, params in kernels]
    partial = sum(size for gathers, size in sizes if not gathers)
    gathered = sum(size for gathers, size in sizes if gathers)
    held = 0 if blocks.X is not None and blocks.X.in_memory else block_bytes(blocks)
    return Footprint(
        base=executor.base_bytes() if base is None else base,
        per_thread=(1 + read_ahead) * held + max(1, read_ahead) * read_bytes(blocks) + workspace + 2 * partial,
        # Joining pieces holds the old answer and the new one.
        shared=3 * partial + 2 * gathered + held_bytes + SLACK_BYTES,
        limit=executor.memory_limit,
    )


def require_fit(blocks: RowBlocks, need: Footprint) -> None:
    """Refuse, before anything is read, a fit whose largest block cannot be worked on within the limit."""
    if need.threads_that_fit(1) >= 1:
        return
    rows = max(blocks.lengths, default=0)
    index = blocks.lengths.index(rows) if rows else 0
    room = need.limit - need.base - need.shared
    fits = int(rows * room / need.per_thread) if room > 0 else 0
    remedy = (
        f"Rechunk to at most {fits:_} rows a block, or raise daskml-core.memory-limit."
        if fits > 0
        else f"The process alone uses {format_bytes(need.base)}; raise daskml-core.memory-limit."
    )
    raise MemoryPlanError(
        f"Row block {index} ({rows:_} rows) needs {format_bytes(need.per_thread)} beside the "
        f"{format_bytes(need.base + need.shared)} in use, but the memory limit is {format_bytes(need.limit)}. {remedy}"
    )


@dataclass(frozen=True)
class Plan:
    """What a fit will do, known before any chunk is read.

    ``print`` it, or read the fields.

    Attributes
    ----------
    estimator : str
    n_rows, n_features : int
    dtype : str
        In which X is computed.
    n_blocks, n_spans : int
        Row-blocks, and the tasks of a sweep over them.
    bytes_per_sweep, resident_bytes : int
        Of decoded X, y and weights; resident are those that stay in memory between sweeps, in ``n_resident_spans`` spans.
    n_resident_spans : int
    projected_peak_bytes, memory_limit_bytes : int
        Of each process.
    processes, threads : int
        Threads are those of each process.
    kernels : tuple of str
        What the sweeps compute.
    sweeps : str
        How many there will be, in words.
    notes : tuple of str
    peak_parts : tuple of (str, int)
        What the projected peak is made of, in bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LogisticRegression
    >>> plan = LogisticRegression().plan(np.ones((1_000, 3)), np.arange(1_000) % 2)
    >>> plan.n_rows, plan.n_blocks, plan.projected_peak_bytes < plan.memory_limit_bytes
    (1000, 1, True)
    """

    estimator: str
    n_rows: int
    n_features: int
    dtype: str
    n_blocks: int
    n_spans: int
    bytes_per_sweep: int
    resident_bytes: int
    n_resident_spans: int
    projected_peak_bytes: int
    memory_limit_bytes: int
    processes: int
    threads: int
    kernels: tuple[str, ...]
    sweeps: str = ""
    notes: tuple[str, ...] = field(default=())
    peak_parts: tuple[tuple[str, int], ...] = ()
    """What the projected peak of a process is made of."""

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of the representation."""
        share = self.resident_bytes / max(1, self.bytes_per_sweep)
        lines = [
            ("data", f"{self.n_rows:,} rows x {self.n_features:,} features, {self.dtype}"),
            ("blocks", f"{self.n_blocks:,} in {self.n_spans:,} spans"),
            ("a sweep reads", format_bytes(self.bytes_per_sweep)),
            ("resident", f"{format_bytes(self.resident_bytes)} ({share:.0%}), {self.n_resident_spans:,} spans"),
            ("peak a process", f"{format_bytes(self.projected_peak_bytes)} of {format_bytes(self.memory_limit_bytes)}"),
            ("runs on", f"{self.processes} process(es) x {self.threads} thread(s)"),
            ("kernels", ", ".join(self.kernels)),
        ]
        if self.sweeps:
            lines.append(("sweeps", self.sweeps))
        return lines + [("note", note) for note in self.notes]

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return "\n".join([f"Plan of {self.estimator}", *(f"  {label:<{width}}  {value}" for label, value in rows)])

    def _repr_html_(self) -> str:
        return pairs_table(f"Plan of {self.estimator}", self.html_rows())

    def html_rows(self) -> list[tuple[str, str]]:
        """The lines with the peak as a bar, part by part, below its limit."""
        rows = self.rows()
        place = next(i for i, (label, _) in enumerate(rows) if label == "peak a process")
        bar = stacked_bar([part for part in self.peak_parts if part[1]], self.memory_limit_bytes, format_bytes)
        return [*rows[: place + 1], ("", bar), *rows[place + 1 :]] if self.peak_parts else rows
