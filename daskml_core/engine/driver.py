"""The driver: runs one solver or many in lockstep, and merges what they ask into one read of the data.

A solver is a generator. It yields a `Sweep`, a tuple of them, a `Fold`, a `BlockSweep` of rows that it holds, or `Work` of
its own, and is sent the answers. At the head of its loop it yields its state, a frozen dataclass with a ``record()`` for the
history; there a fit can be watched. It may be answered with `STOP`, whereupon it ends as if its iterations were used up.
What it returns is its last state.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from daskml_core.engine.blas import single_threaded_blas
from daskml_core.engine.engine import Engine
from daskml_core.engine.events import ModelEnded, ModelsBegan, StepAccepted, current_watch
from daskml_core.sweep import STOP, Block, BlockSweep, Fold, Kernel, Sweep, Work

Solver = Generator[Any, Any, Any]


@dataclass
class Outcome:
    """A solver's last state, and the history of the way there."""

    state: Any = None
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    """Why the solver was stopped early, if it was."""


@dataclass(eq=False)
class _Running:
    """A solver in the batch, with what it is waiting for."""

    solver: Solver
    outcome: Outcome
    asked: tuple[Sweep, ...] = ()
    fold: Fold | None = None
    held: BlockSweep | None = None
    single: bool = False
    done: bool = False


def drive(
    solvers: Sequence[Solver],
    engine: Engine,
    fitted: Callable[[Any], dict[str, Any]] | None = None,
) -> list[Outcome]:
    """Run solvers to their ends, one sweep for all that ask at once.

    Parameters
    ----------
    solvers : generators as described above. Each stops where it would have stopped alone.
    engine : the data.
    fitted : fitted attributes of an estimator as if its fit had stopped at a state, for those who watch.

    Returns
    -------
    list of Outcome, in the order of ``solvers``.
    """
    started = time.perf_counter()
    running = [_Running(solver, Outcome()) for solver in solvers]

    ending = threading.Lock()
    watch = current_watch()
    if watch is not None:
        watch.tell(ModelsBegan(len(running)))

    def look(number: int, state: Any, row: dict[str, Any]) -> Any:
        """Show a state to those who watch; what the solver is to be answered."""
        if watch is None:
            return None
        target = getattr(state, "target", None)
        attributes = None if fitted is None else functools.partial(fitted, state)
        outcome = running[number].outcome
        why = watch.tell(StepAccepted(number, len(running), MappingProxyType(row), target, attributes))
        if why and not outcome.stopped and not getattr(state, "converged", False):
            outcome.stopped = why
            watch.stop(why)
        if not outcome.stopped:
            return None
        cannot = getattr(state, "cannot_stop", "")
        if cannot:
            raise TypeError(f"A callback asks this fit to stop early ({outcome.stopped}), which it cannot: {cannot}.")
        return STOP

    def end(number: int) -> None:
        if watch is not None:
            with ending:  # the last to end counts none that go on
                watch.tell(ModelEnded(number, sum(not other.done for other in running), len(running)))

    def advance(number: int, answer: Any) -> None:
        """Send an answer and go on until the solver asks again; states in between are recorded."""
        run = running[number]
        try:
            # What a solver computes itself must not depend on the machine's threads either.
            with single_threaded_blas():
                request = run.solver.send(answer)
                while not isinstance(request, Sweep | Fold | BlockSweep | tuple):
                    if isinstance(request, Work):
                        request = run.solver.send(engine.work(request))
                        continue
                    row = request.record()
                    row |= {"sweeps": engine.n_sweeps, "bytes_read": engine.bytes_read}
                    row |= {"seconds": time.perf_counter() - started}
                    run.outcome.history.append(row)
                    request = run.solver.send(look(number, request, row))
        except StopIteration as stop:
            run.outcome.state, run.done = stop.value, True
            run.asked, run.fold, run.held = (), None, None
            end(number)
            return
        run.fold = request if isinstance(request, Fold) else None
        run.held = request if isinstance(request, BlockSweep) else None
        run.single = isinstance(request, Sweep)
        run.asked = request if isinstance(request, tuple) else (request,) if isinstance(request, Sweep) else ()

    _side_by_side(engine, [functools.partial(advance, number, None) for number in range(len(running))])
    while not all(run.done for run in running):
        holding = {number: run.held for number, run in enumerate(running) if run.held is not None}
        if holding:  # the data is asked when all have come to where they need it
            found = _sweep_blocks(engine, list(holding.values()))
            _side_by_side(engine, [functools.partial(advance, *pair) for pair in zip(holding, found, strict=True)])
            continue
        waiting = [number for number, run in enumerate(running) if run.asked]
        folding = [number for number, run in enumerate(running) if run.fold is not None]
        if waiting:
            answers = sweep_together(engine.sweep, [running[number].asked for number in waiting])
            steps = [
                functools.partial(advance, number, answer[0] if running[number].single else answer)
                for number, answer in zip(waiting, answers, strict=True)
            ]
            _side_by_side(engine, steps)
        for number in folding:
            fold = running[number].fold
            assert fold is not None
            advance(number, engine.fold(fold))
    return [run.outcome for run in running]


def _side_by_side(engine: Engine, steps: Sequence[Callable[[], Any]]) -> list[Any]:
    """Take independent steps, on as many threads as the engine has in this process; what they return."""
    threads = min(len(steps), engine.executor.n_threads)
    if threads <= 1:
        return [step() for step in steps]
    with ThreadPoolExecutor(threads, "daskml-core-solver") as pool:
        return [done.result() for done in [pool.submit(step) for step in steps]]


PIECE_ROWS = 8192
"""Rows of a block in memory that one thread goes over at a time; whatever the threads, so that sums have the same bits."""


def _sweep_blocks(engine: Engine, asked: Sequence[BlockSweep]) -> list[Any]:
    """Answers of sweeps over blocks in memory; those of one block are merged."""
    groups: dict[int, list[int]] = {}
    for i, request in enumerate(asked):
        groups.setdefault(id(request.block), []).append(i)
    answers: list[Any] = [None] * len(asked)
    for members in groups.values():
        over = functools.partial(_sweep_block, engine, asked[members[0]].block)
        for i, answer in zip(members, sweep_together(over, [(asked[i].sweep,) for i in members]), strict=True):
            (answers[i],) = answer
    return answers


def _sweep_block(engine: Engine, block: Block, *sweeps: Sweep) -> list[Any]:
    """Partials of one block in memory, its pieces side by side."""
    pieces = []
    for lo in range(0, max(1, block.n_rows), PIECE_ROWS):
        X, y, weight = (None if a is None else a[lo : lo + PIECE_ROWS] for a in block[:3])
        pieces.append(Block(X, y, weight, block.number, block.start + lo))

    def over(piece: Block) -> list[Any]:
        return [sweep.kernel(piece, sweep.params) for sweep in sweeps]

    with single_threaded_blas():
        parts = _side_by_side(engine, [functools.partial(over, piece) for piece in pieces])
    return [functools.reduce(sweep.combine, own) for sweep, own in zip(sweeps, zip(*parts, strict=True), strict=True)]


def _stack_key(sweep: Sweep) -> Any:
    kernel = sweep.kernel
    if kernel.stack is None or kernel.stack_key is None:
        return id(sweep)
    return (id(kernel), id(sweep.combine), kernel.stack_key(sweep.params))


def sweep_together(ask: Callable[..., Sequence[Any]], asked: Sequence[tuple[Sweep, ...]]) -> list[tuple[Any, ...]]:
    """Answers of all sweeps, asked for at once; sweeps of one kernel that can be stacked become one call of it."""
    shared: dict[int, list[tuple[int, int]]] = {}
    for i, sweeps in enumerate(asked):
        for j, sweep in enumerate(sweeps):
            shared.setdefault(id(sweep), []).append((i, j))
    # The same request from several solvers (one sample for all restarts) is answered once.
    groups: dict[Any, list[tuple[int, int]]] = {}
    for places in shared.values():
        i, j = places[0]
        groups.setdefault(_stack_key(asked[i][j]), []).append((i, j))
    merged = []
    for members in groups.values():
        first = asked[members[0][0]][members[0][1]]
        if len(members) == 1:
            merged.append(first)
        else:
            kernel: Kernel = first.kernel
            assert kernel.stack is not None
            params = kernel.stack([asked[i][j].params for i, j in members])
            merged.append(Sweep(kernel, params, first.combine))
    partials = ask(*merged)
    answers: list[list[Any]] = [[None] * len(sweeps) for sweeps in asked]
    for members, partial, sweep in zip(groups.values(), partials, merged, strict=True):
        if len(members) == 1:
            parts = [partial]
        else:
            assert sweep.kernel.split is not None
            parts = sweep.kernel.split(partial, [asked[i][j].params for i, j in members])
        for (i, j), part in zip(members, parts, strict=True):
            for place in shared[id(asked[i][j])]:
                answers[place[0]][place[1]] = part
    return [tuple(answer) for answer in answers]
