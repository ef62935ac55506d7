"""Rows drawn at random over all blocks, in one sweep: data on disk is often sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.sweep import Array, Block, Kernel, Sweep


class SampleParams(NamedTuple):
    """How many rows of how many, and the seed."""

    n_sample: int
    n_rows: int
    seed: int
    itemsize: int = 8


class RowSample(NamedTuple):
    """Sampled rows; every part of the data set is represented by its share."""

    X: Array
    y: Array | None
    weight: Array | None
    rows: Array | None = None
    """Global row numbers."""


def draw_rows(block: Block, params: SampleParams) -> RowSample:
    """The block's share of a sample without replacement, rows in order.

    Block ``[start, stop)`` gives ``floor(f * stop) - floor(f * start)`` rows with ``f = n_sample / n_rows``, so that
    the shares add up exactly whatever the block sizes; which rows they are is drawn from ``[seed, block]``.
    """
    rows = _drawn(params, block.number, block.start, block.n_rows)
    # Copies: a view would keep the whole block alive.
    return RowSample(
        np.array(block.X[rows]),
        None if block.y is None else np.array(block.y[rows]),
        None if block.weight is None else np.array(block.weight[rows]),
        block.start + np.arange(block.n_rows)[rows],
    )


def _drawn(params: SampleParams, number: int, start: int, n_rows: int) -> Any:
    """Rows of a block that are drawn, by their place in it."""
    share = params.n_sample * (start + n_rows) // params.n_rows - params.n_sample * start // params.n_rows
    if share >= n_rows:
        return slice(None)
    rng = np.random.default_rng([params.seed, number])
    return np.sort(rng.choice(n_rows, size=share, replace=False))


def rows_drawn(params: SampleParams, lengths: Sequence[int]) -> Array:
    """Global numbers of the rows that `draw_rows` draws from blocks of these lengths, in its order."""
    starts = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
    parts = [
        np.arange(start, start + n)[_drawn(params, number, int(start), n)]
        for number, (start, n) in enumerate(zip(starts, lengths, strict=False))
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def join_samples(a: RowSample, b: RowSample) -> RowSample:
    """Rows of ``a`` above rows of ``b``."""
    return RowSample(
        *(None if p is None or q is None else np.concatenate([p, q]) for p, q in zip(a, b, strict=True))  # type: ignore[arg-type]
    )


DRAW_ROWS = Kernel(
    draw_rows, "draw-sample", partial_bytes=lambda d, p: p.n_sample * (p.itemsize * d + 24), gathers=True
)


def sample_sweep(n_sample: int, n_rows: int, seed: int, itemsize: int = 8) -> Sweep:
    """The sweep that draws ``min(n_sample, n_rows)`` rows."""
    return Sweep(DRAW_ROWS, SampleParams(min(n_sample, n_rows), n_rows, seed, itemsize), join_samples)
