"""The engine: answers what a solver asks by going over the data once, wherever the user runs Dask.

Residency. Spans that fit into memory are pinned when they are first read, the others are read again in each sweep.
Sweeps are cyclic, so an LRU cache would throw out each span just before its next use: pinning a fixed set is optimal.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.engine import memory, tasks
from daskml_core.engine.checkpoint import current_checkpoint
from daskml_core.engine.checksum import CHECKSUM
from daskml_core.engine.events import DataPlanned, SweepBegan, SweepEnded, WorkerLost, current_watch, watched_by
from daskml_core.engine.executors import CODE_BYTES, Executor, Threads, Workers, active_executor
from daskml_core.engine.faults import Killed, Lost, Overdue, in_sweep, rows_of
from daskml_core.engine.memory import format_bytes
from daskml_core.engine.settings import setting
from daskml_core.engine.transport import warn_if_unencrypted
from daskml_core.engine.tree import span_level, span_ranges
from daskml_core.errors import FitInterrupted, MemoryPlanError, SweepTimeoutError, WorkersKilledError
from daskml_core.kernels.complete import COMPLETE_ROWS, Complete, join
from daskml_core.sweep import Array, Block, Fold, Kernel, Sweep, Work

R = TypeVar("R")

SMALL_BYTES = 4 << 20
"""Data sets in memory below this size are swept in the calling thread: starting tasks would cost more."""


MOST_BY_CHANCE = 5
"""Times that a sweep is made anew because workers died of something else than a block."""


class SweepCost(NamedTuple):
    """What one conversation with the data cost."""

    name: str
    seconds: float
    bytes_read: int
    """Decoded bytes read from the source; resident spans cost none."""
    fraction: float
    """Part of all rows that was gone over."""


@dataclass(eq=False)
class _Span:
    lo: int
    stop: int
    recipe: tasks.SpanRecipe
    values: dict[Any, Any]
    resident: bool
    handle: Any = None


class Engine:
    """Sweeps and folds over one data set.

    Parameters
    ----------
    blocks : the data, lengths known.
    executor : where to run; the active ``Client`` or threads by default.
    kernels : ``(kernel, params)`` pairs that will be asked, for the memory plan.
    held_bytes : what the solvers hold between sweeps, where that is worth counting.

    Raises
    ------
    MemoryPlanError : when the largest block cannot be worked on within the memory limit.
    """

    def __init__(
        self,
        blocks: RowBlocks,
        executor: Executor | None = None,
        kernels: Sequence[tuple[Kernel, Any]] = (),
        held_bytes: int = 0,
    ) -> None:
        self.blocks = blocks
        columns = blocks.columns
        self._in_memory = all(column.in_memory for column in columns)
        self._total_bytes = sum(blocks.n_rows * column.row_bytes for column in columns)
        local = all(column.in_memory and not column.futures for column in columns)
        self._local = local
        small = local and self._total_bytes <= SMALL_BYTES
        self.executor: Executor = executor or (Threads(n_threads=1) if small else active_executor())
        self.costs: list[SweepCost] = []
        self._checkpoint = current_checkpoint()
        self._watch = current_watch()
        self._data: int | None = None  # of the data set, for those who watch
        self._sweeping = False
        self._checked = False
        self.base_bytes = self.executor.base_bytes()
        names = {kernel.task_name(params) for kernel, params in kernels}
        if isinstance(self.executor, Threads) and not names <= Threads.warm:
            self.base_bytes += CODE_BYTES
        self._ahead = 0 if local else int(setting("read-ahead"))
        sizes = (blocks, self.executor, kernels, self.base_bytes)
        need = memory.footprint(*sizes, read_ahead=self._ahead, held_bytes=held_bytes)
        if need.threads_that_fit(self.executor.n_threads) < self.executor.n_threads:
            self._ahead = 0
            need = memory.footprint(*sizes, held_bytes=held_bytes)
        self.at_a_time = 0
        """Threads of each worker that may work on blocks at a time; 0 is all."""
        if not local:
            memory.require_fit(blocks, need)
            fitting = need.threads_that_fit(self.executor.n_threads)
            if fitting < self.executor.n_threads:
                if isinstance(self.executor, Threads):
                    self.executor.n_threads = fitting
                else:
                    self.at_a_time = fitting
        self.footprint = need
        self._free = self._reads_for_free()
        self._spans = self._cut_spans()
        self._mark_resident()
        self._keep: str | None = None
        if setting("keep-decoded") is not None and self.blocks.X is not None:
            self._keep = os.path.join(str(setting("keep-decoded")), f"daskml-core-{uuid.uuid4().hex}")
            for span in self._spans:
                if not span.resident:
                    span.recipe = replace(span.recipe, keep=self._keep)

    def close(self) -> None:
        """Remove the blocks that were kept decoded on disk."""
        if self._keep is not None:
            self.executor.remove(self._keep)
            self._keep = None

    def _refuse_changed_sources(self) -> None:
        """After a read of the sources: refuse stores that were written meanwhile; a listing of files each."""
        for source in dict.fromkeys(source for column in self.blocks.columns for source in column.sources):
            source.refuse_changed()

    # -- the plan ------------------------------------------------------------------------------------------------

    def _cut_spans(self) -> list[_Span]:
        threads = self.executor.n_threads * self.executor.processes
        level = span_level(self.blocks.n_blocks, threads * int(setting("spans-per-thread")))
        futures = {key: future for column in self.blocks.columns for key, future in column.futures.items()}
        ranges = span_ranges(self.blocks.n_blocks, level)
        return [self._span(lo, stop, futures) for lo, stop in ranges]

    def _span(self, lo: int, stop: int, futures: dict[Any, Any]) -> _Span:
        blocks, starts = self.blocks, self.blocks.starts
        columns = (blocks.X, blocks.y, blocks.weight)
        recipes = tuple(
            tasks.BlockRecipe(
                tuple(None if column is None else column.recipes[i] for column in columns),  # type: ignore[arg-type]
                i,
                starts[i],
                blocks.lengths[i],
            )
            for i in range(lo, stop)
        )
        needs = {key for recipe in recipes for column in recipe.recipes if column is not None for key in column.needs}
        width = blocks.n_features * blocks.dtype.itemsize
        width += sum(column.row_bytes for column in (blocks.y, blocks.weight) if column is not None)
        n_bytes = sum(blocks.lengths[lo:stop]) * width
        span = tasks.SpanRecipe(
            recipes,
            blocks.dtype,
            n_bytes,
            blocks.feature_names,
            self._free,
            self._ahead,
            at_a_time=self.at_a_time,
        )
        return _Span(lo, stop, span, {key: futures[key] for key in needs}, resident=False)

    def _mark_resident(self) -> None:
        """Choose the spans that stay decoded in memory, first come first pinned, as far as each process has room."""
        self.resident_bytes = 0
        self._resident_budget = 0
        """Bytes of resident spans that each process may hold."""
        if self._free:
            for span in self._spans:
                span.resident = True
            return
        if not setting("residency"):
            return
        need = self.footprint
        threads = min(self.executor.n_threads, need.threads_that_fit(self.executor.n_threads))
        room = need.limit - need.base - need.shared - threads * need.per_thread
        self._resident_budget = max(0, int(0.9 * room))
        budget = self._resident_budget * self.executor.processes
        for span in self._spans:
            if self.resident_bytes + span.recipe.bytes > budget:
                break
            span.resident = True
            self.resident_bytes += span.recipe.bytes

    def _reads_for_free(self) -> bool:
        """Whether blocks already lie in memory as the kernels want them."""
        X = self.blocks.X
        converts = X is not None and X.dtype != self.blocks.dtype
        return self._local and not converts and isinstance(self.executor, Threads)

    @property
    def n_spans(self) -> int:
        """Dask tasks a sweep, reductions aside."""
        return len(self._spans)

    @property
    def n_resident_spans(self) -> int:
        """Spans that stay in memory between sweeps."""
        return sum(span.resident for span in self._spans)

    @property
    def n_threads(self) -> int:
        """Threads of each process that work on blocks at a time."""
        return self.at_a_time or self.executor.n_threads

    @property
    def projected_peak_bytes(self) -> int:
        """Peak memory of each process, as the plan sees it."""
        return sum(size for _, size in self.peak_parts)

    @property
    def peak_parts(self) -> tuple[tuple[str, int], ...]:
        """What that peak is made of, by name."""
        threads = max(1, self.footprint.threads_that_fit(self.executor.n_threads))
        return self.footprint.peak_parts(threads, -(-self.resident_bytes // self.executor.processes))

    # -- the verbs -----------------------------------------------------------------------------------------------

    def _touch(self, name: str, spans: Sequence[_Span]) -> int:
        """Give a handle to the spans that have none yet; bytes that were pinned for it.

        Only to those that are asked for: a fold that ends early must not read the rest of the data.
        """
        new = [span for span in spans if span.handle is None]
        if new and isinstance(self.executor, Workers):
            warn_if_unencrypted(self.executor.client)
        pinned = [span for span in new if span.resident]
        streamed = [span for span in new if not span.resident]
        if pinned:
            recipes, values = [s.recipe for s in pinned], [s.values for s in pinned]
            handles = self.executor.place(name, recipes, values, not self._checked)
            for span, handle in zip(pinned, handles, strict=True):
                span.handle = handle
        if streamed:
            for span, handle in zip(streamed, self.executor.stream([s.recipe for s in streamed]), strict=True):
                span.handle = handle
        return sum(span.recipe.bytes for span in pinned)

    def _rebalance(self, name: str) -> int:
        """Let resident spans move from slow workers to fast ones; bytes that are read again for it."""
        resident = [span for span in self._spans if span.resident and span.handle is not None]
        recipes, values = [s.recipe for s in resident], [s.values for s in resident]
        handles = [s.handle for s in resident]
        moved = self.executor.rebalance(name, recipes, values, handles, self._resident_budget)
        for position, handle in moved.items():
            resident[position].handle = handle
        return sum(recipes[position].bytes for position in moved)

    def sweep(self, *sweeps: Sweep) -> tuple[Any, ...]:
        """The combined partials of several kernels, in one read of the data."""
        if not self.blocks.n_blocks:
            raise ValueError("The data has no blocks.")
        return self.sweep_now(*sweeps) if self._checkpoint is None else self._checkpoint.sweep(self, sweeps)

    def sweep_now(self, *sweeps: Sweep) -> tuple[Any, ...]:
        """The answer to `sweep` by going over the data, whatever a checkpoint holds."""
        # Words of letters between dashes: Dask leaves anything else out of the names that its dashboard shows.
        name = "-and-".join(dict.fromkeys(s.kernel.task_name(s.params) for s in sweeps if s.kernel is not CHECKSUM))
        name = name or CHECKSUM.task_name(None)
        self._tell_begin(name, self.blocks.n_blocks)
        start = time.perf_counter()
        requests = tasks.Requests(
            tuple(sweep.kernel for sweep in sweeps),
            tuple(sweep.params for sweep in sweeps),
            tuple(sweep.combine for sweep in sweeps),
            self.at_a_time,
        )
        first = not self._checked
        resident = all(span.resident for span in self._spans)
        fan_in = int(setting("fan-in"))

        def attempt() -> tuple[int, tasks.Answer]:
            pinned_now = self._touch(name, self._spans)
            if not self._free:
                pinned_now += self._rebalance(name)
            handles = [span.handle for span in self._spans]
            values: list[dict[Any, Any]] = [{} if span.resident else span.values for span in self._spans]
            checks = [first and not span.resident for span in self._spans]
            return pinned_now, self.executor.sweep(name, requests, handles, values, checks, fan_in, resident)

        pinned_now, answer = self._guarded(name, attempt)
        self._checked = True
        if isinstance(self.executor, Threads):
            Threads.warm |= {sweep.kernel.task_name(sweep.params) for sweep in sweeps}
        bytes_read = 0 if self._in_memory else answer.bytes_read + pinned_now
        if bytes_read:
            self._refuse_changed_sources()
        self.count(name, time.perf_counter() - start, bytes_read, 1.0)
        return answer.partials

    def fold(self, fold: Fold) -> list[Any]:
        """The last carry of each chain."""
        return self.fold_now(fold)[0] if self._checkpoint is None else self._checkpoint.fold(self, fold)

    def fold_now(self, fold: Fold, *, checksum: bool = False) -> tuple[list[Any], Array]:
        """The answer to `fold` by going over the data, and checksums (n, 4) of its blocks where they are asked for."""
        name = fold.kernel.task_name(fold.params)
        self._tell_begin(name, sum(len(order) for order in fold.orders))
        start = time.perf_counter()
        span_of = {i: span for span in self._spans for i in range(span.lo, span.stop)}
        asked = {span_of[i].lo: span_of[i] for order in fold.orders for i in order}
        first = not self._checked
        request = tasks.FoldRequest(fold.kernel, fold.params, checksum, self.at_a_time)
        dealt = self._dealt(fold)

        def attempt() -> tuple[int, list[tasks.FoldStep]]:
            pinned_now = self._touch(name, [asked[lo] for lo in sorted(asked)])
            chains = []
            for carry, order in [(carry, order) for carries, order in dealt for carry in carries]:
                steps: list[tuple[Any, ...]] = []
                group: list[int] = []
                for here, following in zip(order, [*order[1:], None], strict=True):
                    span = span_of[here]
                    group.append(here - span.lo)
                    if following is None or span_of[following] is not span:
                        values = {} if span.resident else span.values
                        steps.append((tuple(group), span.handle, values, first and not span.resident))
                        group = []
                chains.append((carry, steps))
            return pinned_now, self.executor.fold(name, request, chains)

        pinned_now, answers = self._guarded(name, attempt)
        if isinstance(self.executor, Threads):
            Threads.warm.add(name)
        rows = sum(self.blocks.lengths[i] * len(carries) for carries, order in dealt for i in order)
        fraction = rows / max(1, self.blocks.n_rows)
        bytes_read = 0 if self._in_memory else sum(step.bytes_read for step in answers)
        bytes_read += pinned_now if not self._in_memory else 0
        if bytes_read:
            self._refuse_changed_sources()
        self._checked = self._checked or fraction >= 1.0
        self.count(name, time.perf_counter() - start, bytes_read, fraction)
        tables = [table for step in answers for table in step.checksums]
        last = [step.carry for step in answers]
        if fold.gather is not None:
            coming = iter(last)
            last = [fold.gather(list(itertools.islice(coming, len(carries)))) for carries, _ in dealt]
        return last, np.concatenate([np.zeros((0, 4), dtype=np.int64), *tables])

    def _dealt(self, fold: Fold) -> list[tuple[list[Any], Sequence[int]]]:
        """The carries of each chain, several where one can be dealt out, and its order of blocks."""
        if fold.deal is None:
            return [([carry], order) for carry, order in zip(fold.carries, fold.orders, strict=True)]
        n = max(1, self.n_threads * self.executor.processes // len(fold.carries))
        return [(fold.deal(carry, n), order) for carry, order in zip(fold.carries, fold.orders, strict=True)]

    def _guarded(self, name: str, attempt: Callable[[], R]) -> R:
        """The result of an attempt to go over the data; a second one, with fresh tasks, where the first was lost.

        Raises
        ------
        BlockError : a block cannot be read, or a kernel fails on it.
        FitInterrupted : the scheduler is gone, every worker dies of a block, or the time for a sweep has run out.
        """
        sweep = f"Sweep {len(self.costs) + 1} of this data ({name})"
        try:
            left = {False: 1, True: MOST_BY_CHANCE}
            while True:
                try:
                    if self._watch is None:
                        return attempt()
                    with watched_by(None):
                        return attempt()
                except Lost as error:
                    left[error.by_chance] -= 1
                    if left[error.by_chance] < 0:
                        raise
                    for span in self._spans:
                        span.handle = None
                    self.executor = self.executor.again()
        except Lost as error:
            raise FitInterrupted(
                f"{sweep} was interrupted and could not be made again ({error}). {self._how_to_go_on()}"
            ) from error
        except Killed as error:
            raise WorkersKilledError(self._killed(sweep, error)) from error
        except Overdue as error:
            where = f", on {error.where}" if error.where else ""
            raise SweepTimeoutError(
                f"{sweep} took longer than daskml-core.sweep-timeout={setting('sweep-timeout')} s. Outstanding: "
                f"{rows_of(error.places)}{where}. {self._how_to_go_on()}"
            ) from error
        except Exception as error:
            in_sweep(error, sweep)

    def _killed(self, sweep: str, error: Killed) -> str:
        largest = max(self.blocks.lengths, default=0)
        plan = (
            f"planned were {format_bytes(self.projected_peak_bytes)} of {format_bytes(self.executor.memory_limit)} a "
            f"process, of which the largest block ({largest:_} rows) takes {format_bytes(memory.block_bytes(self.blocks))}"
        )
        what = rows_of(error.places) or "a task of no one block"
        if error.by_memory:
            return (
                f"{sweep}: {error.n_workers} workers ran out of memory on {what}; {plan}. Use smaller blocks, fewer threads "
                f"a worker or workers with more memory. {self._how_to_go_on()}"
            )
        return (
            f"{sweep}: {error.n_workers} workers have died of {what}. Their logs may tell why; if it was memory: {plan}. "
            f"{self._how_to_go_on()}"
        )

    def _how_to_go_on(self) -> str:
        if self._checkpoint is None:
            return "Nothing was kept of the fit: give it a checkpoint (fit(..., checkpoint=path) or daskml-core.checkpoint)."
        return f"The same fit run again goes on from its checkpoint, {self._checkpoint.journal.path}."

    def work(self, work: Work) -> Any:
        """The outcome of a solver's own work, done here; or what a checkpoint has kept of it."""
        return work.run() if self._checkpoint is None else self._checkpoint.work(work)

    def count(self, name: str, seconds: float, bytes_read: int, fraction: float) -> None:
        """Take down what a conversation with the data cost."""
        self.costs.append(SweepCost(name, seconds, bytes_read, fraction))
        if self._watch is not None:
            self._tell_end(self.costs[-1])

    # -- those who watch -----------------------------------------------------------------------------------------

    def _tell_plan(self) -> int:
        """Number of this data set for those who watch, who are told of it first."""
        if self._data is None:
            assert self._watch is not None
            self._data = self._watch.new_data()
            executor = self.executor
            executor.watched = True
            self._watch.tell(
                DataPlanned(
                    self._data, self.blocks.n_rows, self.blocks.n_features, self.blocks.n_blocks, self.n_spans,
                    self._total_bytes, self.resident_bytes, self._in_memory, executor.processes, executor.n_threads,
                )
            )  # fmt: skip
        return self._data

    def _tell_begin(self, name: str, n_blocks: int) -> None:
        if self._watch is None:
            return
        data = self._tell_plan()
        self._sweeping = True
        self._watch.tell(SweepBegan(data, len(self.costs) + 1, name, n_blocks, self._progress))

    def _progress(self) -> float:
        """The part of the current sweep that is done. Not the executor's own method: it may be another one by then."""
        return self.executor.progress()

    def _tell_end(self, cost: SweepCost) -> None:
        assert self._watch is not None
        data = self._tell_plan()
        blocks = round(cost.fraction * self.blocks.n_blocks)
        replayed, self._sweeping = not self._sweeping, False
        for worker in self.executor.lost():
            self._watch.tell(WorkerLost(worker))
        self._watch.tell(
            SweepEnded(
                data, len(self.costs), cost.name, blocks, cost.fraction, cost.bytes_read, cost.seconds,
                self.resident_bytes, replayed,
            )
        )  # fmt: skip

    @property
    def n_sweeps(self) -> float:
        """Complete reads of this data set so far, fractions counted."""
        return sum(cost.fraction for cost in self.costs)

    @property
    def bytes_read(self) -> int:
        """Decoded bytes read from the source so far."""
        return sum(cost.bytes_read for cost in self.costs)


def _count(block: Block, params: Any) -> tuple[tuple[int, int], ...]:
    return ((block.number, block.n_rows),)


def _concatenate(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return a + b


COUNT_ROWS = Kernel(_count, "count-rows")


def count_rows(column: BlockedArray) -> BlockedArray:
    """The column with the number of rows of each block, found in one sweep over it."""
    if column.known:
        return column
    unknown = tuple(-1 if length is None else length for length in column.lengths)
    blocks = RowBlocks(None, column, None, unknown, column.dtype)
    engine = Engine(blocks)
    # Values are checked when a kernel first sees them, under the column's own name and with rows that are known.
    engine._checked = True
    (counts,) = engine.sweep(Sweep(COUNT_ROWS, None, _concatenate))
    return column.with_lengths([n for _, n in sorted(counts)])


def find_complete(blocks: RowBlocks) -> list[Complete]:
    """The rows of each block that have no NaN, found in one sweep."""
    engine = Engine(blocks, kernels=[(COMPLETE_ROWS, None)])
    engine._checked = True  # NaN is what is looked for
    (found,) = engine.sweep(Sweep(COMPLETE_ROWS, None, join))
    return list(found)


def run_sweeps(blocks: RowBlocks, *sweeps: Sweep, check: bool = True) -> tuple[Any, ...]:
    """Answers of several sweeps over a data set, in one read of it; without ``check`` NaN is for the kernels to handle."""
    engine = Engine(blocks, kernels=[(sweep.kernel, sweep.params) for sweep in sweeps])
    engine._checked = not check
    return engine.sweep(*sweeps)


__all__ = ["Engine", "MemoryPlanError", "SweepCost", "count_rows", "find_complete", "run_sweeps"]
