"""What a solver may ask (``Sweep``, ``Fold``, ``RowMap`` of the data, ``BlockSweep``, ``Work``), and how partials combine.

Conventions, shared by every kernel
-----------------------------------
X       (rows, n_features) float32 or float64, C-contiguous, aligned; ``None`` in a sweep over targets alone
y       (rows,) or (rows, n_targets), encoded by the estimator; ``None`` without a target
weight  (rows,) float64, sample weight times class weight; ``None`` means every row counts once
W       (n_features, n_models) float64; one column a model
b       (n_models,) float64 intercepts

A kernel is a pure function ``(block, params) -> partial``. Partials are named tuples of sums and counts in float64 that
own their memory: never a mean, never a view of the block. A kernel accepts a block without rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Block(NamedTuple):
    """A run of rows, as the source chunks them."""

    X: Any
    y: Any
    weight: Any
    number: int
    """Of the block in the data set."""
    start: int
    """Global number of the block's first row."""

    @property
    def n_rows(self) -> int:
        """Rows in the block, read off whichever column is there."""
        for column in (self.X, self.y, self.weight):
            if column is not None:
                return len(column)
        return 0


def no_workspace(n_rows: int, n_features: int, params: Any) -> int:
    """Bytes a kernel needs beside its block and its partial: none worth counting."""
    return 0


def no_partial(n_features: int, params: Any) -> int:
    """Bytes of a kernel's partial: none worth counting."""
    return 0


@dataclass(frozen=True, eq=False)
class Kernel:
    """A pure function of a block, with what the engine must know about it.

    Parameters
    ----------
    function : callable ``(block, params) -> partial``.
    name : the Dask task's name, or a function of ``params`` that gives it.
    workspace : bytes of scratch memory for ``(n_rows, n_features, params)``.
    partial_bytes : bytes of one partial for ``(n_features, params)``.
    gathers : whether partials are pieces of one answer (rows of a sample) that has ``partial_bytes`` when complete.
    stack : merges the params of several requests into one, or ``None`` where requests cannot share a call.
    split : takes the partial of a stacked call apart again, in the order of the requests.
    stack_key : params with equal keys may be stacked together.
    """

    function: Callable[[Block, Any], Any]
    name: str | Callable[[Any], str]
    workspace: Callable[[int, int, Any], int] = no_workspace
    partial_bytes: Callable[[int, Any], int] = no_partial
    gathers: bool = False
    stack: Callable[[Sequence[Any]], Any] | None = None
    split: Callable[[Any, Sequence[Any]], list[Any]] | None = None
    stack_key: Callable[[Any], Any] | None = None

    def __call__(self, block: Block, params: Any) -> Any:
        return self.function(block, params)

    def task_name(self, params: Any) -> str:
        """The name that the Dask dashboard shows."""
        return self.name if isinstance(self.name, str) else self.name(params)


def add(a: Any, b: Any) -> Any:
    """Elementwise sum of two partials: numbers, arrays, ``None`` and (named) tuples of them."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, tuple):
        parts = [add(x, y) for x, y in zip(a, b, strict=True)]
        return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
    return a + b


@dataclass(frozen=True, eq=False)
class Sweep:
    """Ask a kernel of every block and combine the partials along the fixed tree; answered with one partial."""

    kernel: Kernel
    params: Any = None
    combine: Callable[[Any, Any], Any] = add


@dataclass(frozen=True, eq=False)
class BlockSweep:
    """A sweep over rows that the solver holds itself (a sample), instead of over the data.

    Solvers that ask one of the same block at once share a call of its kernel, as they share a read of the data.
    """

    sweep: Sweep
    block: Block


@dataclass(frozen=True, eq=False)
class Fold:
    """Ask a kernel of the blocks one after another, each starting from the last one's answer.

    ``kernel.function`` takes ``(block, (params, carry))`` and returns the next carry. ``orders`` holds one sequence of
    block numbers a chain; chains run side by side, and the answer is the list of their last carries.

    Where a carry has parts that do not know of each other (models that are trained on the same blocks), ``deal(carry, n)``
    makes up to n carries of it, which go through the blocks side by side on as many threads, and ``gather`` one carry of
    what they have become. How many there are is not seen in the answer.
    """

    kernel: Kernel
    params: Any
    carries: Sequence[Any]
    orders: Sequence[Sequence[int]]
    deal: Callable[[Any, int], list[Any]] | None = None
    gather: Callable[[Sequence[Any]], Any] | None = None


@dataclass(frozen=True, eq=False)
class RowMap:
    """Ask a kernel for one output row per input row. ``n_columns`` is ``None`` for one value a row."""

    kernel: Kernel
    params: Any
    dtype: np.dtype[Any]
    n_columns: int | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """Long work of a solver's own, which reads no data; answered with what ``run()`` returns.

    A solver that asks for it instead of doing it lets a checkpoint keep the outcome: it is not done again when the fit
    is resumed. ``key`` is all that the outcome depends on.
    """

    name: str
    key: Any
    run: Callable[[], Any]


class _Stop:
    """The class of `STOP`."""

    def __repr__(self) -> str:
        return "STOP"


STOP = _Stop()
"""What a solver is answered at the head of its loop where it is to end as if its iterations were used up."""
