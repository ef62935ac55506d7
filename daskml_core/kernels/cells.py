"""Cells: every row belongs to one, told by its global row number alone, and folds are sets of cells.

Two rows are in one cell when all splits treat them alike. K-fold has a cell a fold; a time-series split a cell between any
two of its boundaries; any other split as many as there are different patterns. So a mask over rows is a table over cells,
and no mask of the length of the data is ever made for a model.

Conventions: a function ``cell_of`` is one of the classes here; ``cell_of(start, n_rows)`` gives the cells (n_rows,),
integers, of the rows from ``start`` on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from daskml_core.sweep import Array, Block, Kernel

GROUP_ROWS = 1 << 16
"""Rows that are shuffled together where a permutation of all rows would be too large."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Cells that are runs of rows; cell i ends before row ``stops[i]``."""

    stops: Array

    def __call__(self, start: int, n_rows: int) -> Array:
        return self.at(np.arange(start, start + n_rows))

    def at(self, rows: Array) -> Array:
        """Cells of rows of any numbers."""
        return np.searchsorted(self.stops, rows, side="right")


@dataclass(frozen=True, eq=False)
class Codes:
    """Cells that are written down: 1, 2 or 4 bytes a row."""

    codes: Array

    def __call__(self, start: int, n_rows: int) -> Array:
        return self.codes[start : start + n_rows]

    def at(self, rows: Array) -> Array:
        """Cells of rows of any numbers."""
        return self.codes[rows]

    def __sizeof__(self) -> int:  # what Dask asks to tell large parameters from small ones
        return object.__sizeof__(self) + sys.getsizeof(self.codes)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Equal shares at random, drawn for `GROUP_ROWS` rows at a time: nothing of the length of the data is held."""

    n_rows: int
    n_cells: int
    seed: int

    def __call__(self, start: int, n_rows: int) -> Array:
        stop = start + n_rows
        parts = [self._group(g) for g in range(start // GROUP_ROWS, -(-stop // GROUP_ROWS))]
        if not parts:
            return np.zeros(0, dtype=np.int64)
        first = start // GROUP_ROWS * GROUP_ROWS
        return np.concatenate(parts)[start - first : stop - first]

    def at(self, rows: Array) -> Array:
        """Cells of rows of any numbers."""
        cells = np.zeros(len(rows), dtype=np.int64)
        groups = rows // GROUP_ROWS
        for group in np.unique(groups):
            inside = groups == group
            cells[inside] = self._group(int(group))[rows[inside] - group * GROUP_ROWS]
        return cells

    def _group(self, group: int) -> Array:
        lo, hi = group * GROUP_ROWS, min((group + 1) * GROUP_ROWS, self.n_rows)
        # Dealt out by the global number, so that the folds' sizes differ by one row at most.
        return np.random.default_rng([self.seed, group]).permutation(np.arange(lo, hi) % self.n_cells)


def sort_by_cell(cells: Array) -> tuple[Any, list[tuple[int, slice]]]:
    """The order that brings a tile's rows of one cell together, and each cell's run in it.

    The order is a slice, and nothing is copied, where all rows are of one cell already.
    """
    if len(cells) and cells[0] == cells[-1] and (cells == cells[0]).all():
        return slice(None), [(int(cells[0]), slice(0, len(cells)))]
    order = np.argsort(cells, kind="stable")
    counts = np.bincount(cells)
    stops = np.cumsum(counts)
    return order, [(c, slice(int(stops[c] - counts[c]), int(stops[c]))) for c in np.flatnonzero(counts).tolist()]


@numba.njit(cache=True, nogil=True)
def dealt(codes: Any, starts: Any, values: Any) -> Any:  # pragma: no cover - compiled
    """Each row's value (rows,): the rows of class c take ``values[starts[c]:]`` in their order."""
    out = np.empty(len(codes), dtype=values.dtype)
    place = starts.copy()
    for i in range(len(codes)):
        c = codes[i]
        out[i] = values[place[c]]
        place[c] += 1
    return out


def smallest_dtype(n: int) -> np.dtype[Any]:
    """The unsigned type that holds the numbers below ``n``.

    >>> smallest_dtype(256), smallest_dtype(257)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(max(0, n - 1))


def block_codes(block: Block, params: None) -> tuple[tuple[int, Array, Array], ...]:
    """Distinct values of the block's y in sorted order, and each row's place among them."""
    if block.y.dtype.kind == "f" and not np.isfinite(block.y).all():
        row = block.start + int(np.flatnonzero(~np.isfinite(block.y))[0])
        raise ValueError(f"Input contains NaN or infinity: block {block.number}, row {row}.")
    if block.y.dtype == bool:
        labels = np.array([False, True])
        return ((block.number, labels, block.y.astype(np.uint8)),)
    labels, codes = np.unique(block.y, return_inverse=True)
    return ((block.number, labels, codes.reshape(-1).astype(smallest_dtype(len(labels)))),)


def join_blocks(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """Pieces of neighbouring blocks, one after the other."""
    return a + b


BLOCK_CODES = Kernel(block_codes, "class-codes", partial_bytes=lambda d, p: 0, gathers=True)
