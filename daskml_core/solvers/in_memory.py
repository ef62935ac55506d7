"""Solvers run inside others, mostly on one block in this process: a sample, or data that is no larger than one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from daskml_core.sweep import Block, BlockSweep, Fold, Sweep, Work

Asks = Generator[Any, Any, Any]


def answer_from(solver: Asks, block: Block) -> Asks:
    """The solver with its sweeps answered by plain calls of their kernels; its states are yielded on."""
    answer: Any = None
    while True:
        try:
            request = solver.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(request, Sweep):
            answer = request.kernel(block, request.params)
        elif isinstance(request, BlockSweep):
            answer = request.sweep.kernel(request.block, request.sweep.params)
        elif isinstance(request, tuple):
            answer = tuple(sweep.kernel(block, sweep.params) for sweep in request)
        else:
            answer = yield request


def solve_in_memory(solver: Asks, block: Block) -> Any:
    """The last state of a solver run on one block."""
    steps = answer_from(solver, block)
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
            answer = request.run() if isinstance(request, Work) else None
        except StopIteration as stop:
            return stop.value


def quietly(solver: Asks, block: Block | None = None) -> Asks:
    """A solver whose states stay its own, for another to run it inside; with a ``block`` its sweeps are over that."""
    answer: Any = None
    while True:
        try:
            request = solver.send(answer)
        except StopIteration as stop:
            return stop.value
        if block is not None and isinstance(request, Sweep):
            request = BlockSweep(request, block)
        answer = (yield request) if isinstance(request, Sweep | BlockSweep | Fold | Work | tuple) else None
