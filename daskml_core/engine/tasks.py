"""What runs inside one Dask task: read a span's blocks, run kernels on them, reduce them in the tree's order."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data import read_block
from daskml_core.data.blocks import Recipe
from daskml_core.data.provenance import source_of
from daskml_core.engine.blas import single_threaded_blas
from daskml_core.engine.checksum import checksum_block
from daskml_core.engine.faults import Place, naming
from daskml_core.engine.tree import reduce_tree
from daskml_core.kernels.finite import all_finite
from daskml_core.sweep import Block, Kernel

AGAIN_S = 0.2
"""Seconds after which a block that could not be read is tried once more."""


class BlockRecipe(NamedTuple):
    """How to read one block of a data set: a recipe a column, and where its rows stand."""

    recipes: tuple[Recipe | None, Recipe | None, Recipe | None]
    number: int
    start: int
    n_rows: int


def place_of(recipe: BlockRecipe) -> Place:
    """Where a block stands and comes from, for errors that name it."""
    source = next(filter(None, map(source_of, recipe.recipes)), "")
    return Place(recipe.number, recipe.start, recipe.n_rows, source)


@dataclass(frozen=True, eq=False)
class SpanRecipe:
    """A span that is read from its source each time."""

    blocks: tuple[BlockRecipe, ...]
    dtype: np.dtype[Any]
    bytes: int
    names: tuple[str, ...] | None = None
    in_memory: bool = False
    """Whether the source is memory of this process already: its views are kept, not copied."""
    read_ahead: int = 0
    """Blocks that are read while kernels run on the current one; so many more blocks in memory."""
    keep: str | None = None
    """Directory in which blocks are kept decoded after they were first read, local to each process."""
    at_a_time: int = 0
    """Threads of a process that may work on blocks at a time where memory is short; 0 is all."""


class SpanData(NamedTuple):
    """A resident span: its blocks, decoded. A tuple, so that Dask measures its size."""

    blocks: tuple[Block, ...]
    sources: tuple[str, ...] = ()
    """Where each came from, in words."""


@dataclass(frozen=True, eq=False)
class Requests:
    """Kernels to run in one read of the data. Not a tuple: Dask must not look for futures inside."""

    kernels: tuple[Kernel, ...]
    params: tuple[Any, ...]
    combines: tuple[Callable[[Any, Any], Any], ...]
    at_a_time: int = 0


class Held(NamedTuple):
    """Which worker has worked on a resident span, and for how long."""

    number: int
    """Of the span's first block."""
    worker: str
    bytes: int
    seconds: float


class Answer(NamedTuple):
    """One partial a kernel, and what it cost to get them."""

    partials: tuple[Any, ...]
    bytes_read: int
    task_s: float
    read_s: float
    held: tuple[Held, ...] = ()
    """Of each resident span."""


def identity(value: Any) -> Any:
    """The value; a task that can be run again wherever its result was lost."""
    return value


def _read(span: SpanRecipe, position: int, values: Mapping[Any, Any], check: bool) -> Block:
    recipe = span.blocks[position]
    place = (recipe.number, recipe.start, recipe.n_rows)
    return read_block(recipe.recipes, values, span.dtype, *place, check=check, names=span.names)


def _read_kept(span: SpanRecipe, position: int, values: Mapping[Any, Any], check: bool) -> Block:
    """A block from its decoded copy on the local disk, which is written when the block is first read here."""
    assert span.keep is not None
    recipe = span.blocks[position]
    path = os.path.join(span.keep, f"{recipe.number}.npz")
    if os.path.exists(path):
        with np.load(path) as held:
            X, y, weight = (held[name] if name in held.files else None for name in ("X", "y", "weight"))
        return Block(X, y, weight, recipe.number, recipe.start)
    block = _read(span, position, values, check)
    os.makedirs(span.keep, exist_ok=True)
    parts = {name: a for name in ("X", "y", "weight") if (a := getattr(block, name)) is not None}
    # Written beside and renamed: a half-written copy is never read.
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    with open(temporary, "wb") as file:
        np.savez(file, **parts)
    os.replace(temporary, path)
    return block


def _held_bytes(a: Any) -> float:
    """Bytes that stay allocated as long as the array lives; infinite where its owner does not say."""
    owner = a
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    try:
        return memoryview(owner).nbytes
    except TypeError:
        return float("inf")


def _own(block: Block) -> Block:
    """The block without views that would keep much more memory alive than their own while the span is resident.

    What zarr decodes is a view of a buffer of the same size: copying it took a fifth of a fit's time.
    """
    columns = {name: a for name in ("X", "y", "weight") if (a := getattr(block, name)) is not None}
    return block._replace(**{name: np.array(a) for name, a in columns.items() if _held_bytes(a) > 1.25 * a.nbytes})  # type: ignore[arg-type]


class _Places:
    """At most so many threads of this process at a time; whoever has a place takes no second one."""

    def __init__(self, n: int) -> None:
        self.free = threading.BoundedSemaphore(n)
        self.mine = threading.local()

    def __enter__(self) -> None:
        # A kernel that trains estimators runs tasks inside of its task: they are part of what was planned for it.
        self.mine.depth = getattr(self.mine, "depth", 0) + 1
        if self.mine.depth == 1:
            self.free.acquire()

    def __exit__(self, *exc: object) -> None:
        self.mine.depth -= 1
        if self.mine.depth == 0:
            self.free.release()


_places_of = functools.cache(_Places)


def _taking_turns(at_a_time: int) -> contextlib.AbstractContextManager[None]:
    """A place among the threads that work on blocks. A worker's own threads cannot be told to be fewer; they can wait."""
    return _places_of(at_a_time) if at_a_time else contextlib.nullcontext()


def load_span(span: SpanRecipe, values: Mapping[Any, Any], check: bool) -> SpanData:
    """Read every block of a span, to stay in memory."""
    with _taking_turns(span.at_a_time):
        blocks = tuple(_SpanReader(span, values, check))
    sources = tuple(place_of(recipe).source for recipe in span.blocks)
    return SpanData(blocks if span.in_memory else tuple(_own(block) for block in blocks), sources)


def _is_aligned(a: Any) -> bool:
    return a is None or (a.flags.c_contiguous and a.flags.aligned)


def _aligned(block: Block) -> Block:
    # Arrays that moved between workers or came back from disk are misaligned, and BLAS then sums in another order.
    if _is_aligned(block.X) and _is_aligned(block.y) and _is_aligned(block.weight):
        return block
    columns = {name: getattr(block, name) for name in ("X", "y", "weight")}
    moved = {name: np.require(a, requirements=["C", "A"]) for name, a in columns.items() if a is not None}
    return block._replace(**moved)


_loading = threading.Lock()


@functools.cache
def _first_call() -> None:
    for dtype in (np.float32, np.float64):
        all_finite(np.zeros(1, dtype))


def _load_compiled() -> None:
    """Call the compiled check of reading threads once, in this thread, before they all call it at a time.

    In a fresh worker under load a read has failed once with a dictionary that changed while compiled code was loaded.
    """
    with _loading:
        _first_call()


class _SpanReader:
    """Blocks of a span, one at a time, with the seconds and bytes that reading took."""

    def __init__(self, span: SpanRecipe | SpanData, values: Mapping[Any, Any], check: bool) -> None:
        self.span, self.values, self.check = span, values, check
        self.bytes_read = 0
        self.read_s = 0.0

    def __iter__(self) -> Iterator[Block]:
        """All blocks in order, the next ones read while the current one is worked on where that was planned."""
        if isinstance(self.span, SpanData):
            yield from map(_aligned, self.span.blocks)
            return
        n = len(self.span.blocks)
        if not self.span.read_ahead or n < 2:
            yield from (self.block(position) for position in range(n))
            return
        depth = self.span.read_ahead
        _load_compiled()
        with ThreadPoolExecutor(depth, "daskml-core-read-ahead") as pool:
            coming = deque(pool.submit(self._read, position) for position in range(min(depth, n)))
            for position in range(n):
                block, seconds = coming.popleft().result()
                if position + depth < n:
                    coming.append(pool.submit(self._read, position + depth))
                yield self._count(block, seconds)

    def block(self, position: int) -> Block:
        """One block."""
        if isinstance(self.span, SpanData):
            return _aligned(self.span.blocks[position])
        return self._count(*self._read(position))

    def place(self, block: Block) -> Place:
        """Where a block of the span stands and comes from."""
        position = block.number - self.span.blocks[0].number
        if isinstance(self.span, SpanRecipe):
            return place_of(self.span.blocks[position])
        return Place(block.number, block.start, block.n_rows, self.span.sources[position])

    def _read(self, position: int) -> tuple[Block, float]:
        assert isinstance(self.span, SpanRecipe)
        start = time.perf_counter()
        read = _read if self.span.keep is None else _read_kept
        with naming(place_of(self.span.blocks[position]), "Reading"):
            try:
                block = read(self.span, position, self.values, self.check)
            except (ValueError, TypeError, MemoryError):
                raise  # about what was read: it would be the same again
            except Exception:
                # Network file systems and object stores have bad moments: a fit of hours does not end of one.
                time.sleep(AGAIN_S)
                block = read(self.span, position, self.values, self.check)
        return block, time.perf_counter() - start

    def _count(self, block: Block, seconds: float) -> Block:
        self.read_s += seconds
        self.bytes_read += sum(a.nbytes for a in (block.X, block.y, block.weight) if a is not None)
        return block


def run_span(requests: Requests, span: SpanRecipe | SpanData, values: Mapping[Any, Any], check: bool) -> Answer:
    """Run the kernels on every block of the span and reduce along the tree; each block is read once for all of them."""
    reader = _SpanReader(span, values, check)

    def partial(kernel: Kernel, params: Any) -> Callable[[Block], Any]:
        function = kernel.function

        def of(block: Block) -> Any:
            try:
                return function(block, params)
            except Exception:
                with naming(reader.place(block), f"The kernel {kernel.task_name(params)} on"):
                    raise

        return of

    def combine(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(f(x, y) for f, x, y in zip(requests.combines, a, b, strict=True))

    functions = [partial(kernel, params) for kernel, params in zip(requests.kernels, requests.params, strict=True)]
    with _taking_turns(requests.at_a_time), single_threaded_blas():
        start = time.perf_counter()
        if len(functions) == 1:  # the usual case, without a tuple a block: of thousands of blocks this is felt
            answer = (reduce_tree(map(functions[0], reader), requests.combines[0]),)
        else:
            answer = reduce_tree((tuple(function(block) for function in functions) for block in reader), combine)
    seconds = time.perf_counter() - start
    held = _held(span, seconds) if isinstance(span, SpanData) else ()
    return Answer(answer, reader.bytes_read, seconds, reader.read_s, held)


def _held(span: SpanData, seconds: float) -> tuple[Held, ...]:
    """What there is to tell of a resident span; nothing where this is no worker."""
    from distributed import get_worker

    try:
        worker = get_worker().address
    except ValueError:
        return ()
    n_bytes = sum(a.nbytes for block in span.blocks for a in (block.X, block.y, block.weight) if a is not None)
    return (Held(span.blocks[0].number, worker, n_bytes, seconds),)


def run_spans(requests: Requests, spans: Sequence[SpanData]) -> tuple[Answer, ...]:
    """Answers of several resident spans of one worker, for the price of one Dask task."""
    return tuple(run_span(requests, span, {}, False) for span in spans)


def probe_span(requests: Requests, span: SpanRecipe, values: Mapping[Any, Any], check: bool, topic: str) -> None:
    """Run the kernels on the blocks of a span, each told to the scheduler before it begins: one of them kills workers."""
    from distributed import get_worker

    worker = get_worker()
    for recipe in span.blocks:
        worker.log_event(topic, {"worker": worker.address, "block": recipe.number})
        time.sleep(0.1)  # what is told goes out in batches
        run_span(requests, replace(span, blocks=(recipe,), read_ahead=0), values, check)


def merge_answers(combines: Sequence[Callable[[Any, Any], Any]], *answers: Answer) -> Answer:
    """Reduce the answers of neighbouring spans, in the tree's order."""

    def combine(a: Answer, b: Answer) -> Answer:
        partials = tuple(f(x, y) for f, x, y in zip(combines, a.partials, b.partials, strict=True))
        return Answer(partials, a.bytes_read + b.bytes_read, a.task_s + b.task_s, a.read_s + b.read_s, a.held + b.held)

    return reduce_tree(answers, combine)


class FoldStep(NamedTuple):
    """Where a chain stands after some blocks."""

    carry: Any
    bytes_read: int
    checksums: tuple[Any, ...] = ()
    """Of the blocks that were gone through, where they are asked for."""


@dataclass(frozen=True, eq=False)
class FoldRequest:
    """A kernel whose carry is handed from block to block."""

    kernel: Kernel
    params: Any
    checksum: bool = False
    at_a_time: int = 0


def fold_span(
    request: FoldRequest,
    positions: tuple[int, ...],
    step: FoldStep,
    span: SpanRecipe | SpanData,
    values: Mapping[Any, Any],
    check: bool,
) -> FoldStep:
    """Hand the carry through the blocks at ``positions`` of a span, in that order."""
    reader = _SpanReader(span, values, check)
    carry, checksums = step.carry, list(step.checksums)
    with _taking_turns(request.at_a_time), single_threaded_blas():
        for position in positions:
            block = reader.block(position)
            if request.checksum:
                checksums.append(checksum_block(block).table)
            with naming(reader.place(block), f"The kernel {request.kernel.task_name(request.params)} on"):
                carry = request.kernel(block, (request.params, carry))
    return FoldStep(carry, step.bytes_read + reader.bytes_read, tuple(checksums))
