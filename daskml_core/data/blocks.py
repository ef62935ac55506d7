"""Row-blocks: lazily partitioned columns of rows, and a recipe that reads each block where it is needed.

A `Recipe` is a small picklable object that knows how to make one block as a NumPy array, inside whichever process runs
the span. A `BlockedArray` is one column group (X, y or the weights) cut into row-blocks. `RowBlocks` is a data set: X
with y and weights cut at the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from daskml_core.sweep import Array

Values = Mapping[Any, Any]
"""Results of Dask keys that a recipe names in ``needs``; empty for recipes that read their own source."""


class Recipe(Protocol):
    """Reads one run of rows."""

    @property
    def needs(self) -> tuple[Any, ...]:
        """Keys of persisted Dask results (futures) that must be there to read the block."""
        ...

    def read(self, values: Values) -> Array:
        """The rows as a NumPy array; may be a view of memory that outlives the call."""
        ...


@runtime_checkable
class Sliceable(Protocol):
    """A recipe that can read a part of its rows for less than all of them."""

    def part(self, start: int, stop: int) -> Recipe:
        """Rows ``start:stop`` of the run."""
        ...


class InMemory(NamedTuple):
    """Rows that are already a NumPy array (usually a view of the user's)."""

    rows: Array

    @property
    def needs(self) -> tuple[Any, ...]:
        return ()

    def read(self, values: Values) -> Array:
        return self.rows


class Pieces(NamedTuple):
    """Rows put together from parts of other blocks: how y and weights are cut at X's rows."""

    parts: tuple[tuple[Recipe, int, int], ...]
    empty: Array
    """An array without rows, for a run that no part covers; fixes dtype and trailing shape."""

    @property
    def needs(self) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(key for recipe, _, _ in self.parts for key in recipe.needs))

    def read(self, values: Values) -> Array:
        rows = [recipe.read(values)[start:stop] for recipe, start, stop in self.parts]
        if not rows:
            return self.empty
        return rows[0] if len(rows) == 1 else np.concatenate(rows)


class Derived(NamedTuple):
    """Rows computed from other recipes' rows of the same block: encoded labels, class weights."""

    inputs: tuple[Recipe, ...]
    function: Callable[..., Array]
    args: tuple[Any, ...] = ()

    @property
    def needs(self) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(key for recipe in self.inputs for key in recipe.needs))

    def read(self, values: Values) -> Array:
        return self.function(*(recipe.read(values) for recipe in self.inputs), *self.args)


@dataclass(frozen=True, eq=False)
class BlockedArray:
    """A lazily partitioned array, cut into row-blocks.

    Parameters
    ----------
    recipes : one a block.
    lengths : rows of each block; ``None`` where the source does not know (a filtered Dask array).
    trailing : shape without the rows: ``()`` for one value a row, ``(n_features,)`` for a matrix.
    dtype : of the rows as they are read.
    in_memory : the rows lie in this process already, or are persisted on the workers.
    encoded_bytes : bytes that reading a block fetches from its source (compressed), where known; else decoded bytes.
    source_bytes : largest number of decoded bytes that reading one block touches (a whole zarr chunk, all merged
        feature chunks, the Dask tasks in front of it), at least the block itself.
    futures : the persisted results that recipes name in ``needs``.
    sources : the zarr arrays behind it, as they were when they were checked; looked at again after each read.
    """

    recipes: tuple[Recipe, ...]
    lengths: tuple[int | None, ...]
    trailing: tuple[int, ...]
    dtype: np.dtype[Any]
    in_memory: bool = False
    encoded_bytes: tuple[int, ...] | None = None
    source_bytes: int | None = None
    futures: Mapping[Any, Any] = field(default_factory=dict)
    sources: tuple[Any, ...] = ()

    @property
    def n_blocks(self) -> int:
        return len(self.recipes)

    @property
    def known(self) -> bool:
        """Whether every block's number of rows is known."""
        return all(length is not None for length in self.lengths)

    @property
    def n_rows(self) -> int:
        """Rows in all blocks; the lengths must be known."""
        return sum(length for length in self.lengths if length is not None)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row."""
        width = int(np.prod(self.trailing, dtype=np.int64)) if self.trailing else 1
        return width * self.dtype.itemsize

    def with_lengths(self, lengths: Sequence[int]) -> BlockedArray:
        """The same blocks, now that a sweep has counted their rows."""
        return replace(self, lengths=tuple(int(n) for n in lengths))

    def map(
        self, function: Callable[..., Array], *args: Any, dtype: Any, others: Sequence[BlockedArray] = ()
    ) -> BlockedArray:
        """Rows of ``function(rows, *rows_of_others, *args)``, computed wherever a block is read."""
        groups = zip(self.recipes, *(other.recipes for other in others), strict=True)
        return replace(
            self,
            recipes=tuple(Derived(tuple(group), function, args) for group in groups),
            dtype=np.dtype(dtype),
            in_memory=False,
            futures={key: future for column in (self, *others) for key, future in column.futures.items()},
            sources=tuple(source for column in (self, *others) for source in column.sources),
        )


def cut(column: BlockedArray, lengths: Sequence[int]) -> BlockedArray:
    """``column`` cut at other rows, without moving or copying anything; both must have the same number of rows."""
    if tuple(column.lengths) == tuple(lengths):
        return column
    bounds = np.concatenate([[0], np.cumsum(np.asarray(column.lengths, dtype=np.int64))])
    empty = np.empty((0, *column.trailing), dtype=column.dtype)
    recipes: list[Recipe] = []
    start = 0
    for length in lengths:
        stop = start + length
        parts = []
        first = int(np.searchsorted(bounds, start, side="right")) - 1
        for j in range(max(first, 0), column.n_blocks):
            if bounds[j] >= stop:
                break
            lo, hi = max(start, int(bounds[j])), min(stop, int(bounds[j + 1]))
            if hi > lo:
                parts.append(_part(column.recipes[j], lo - int(bounds[j]), hi - int(bounds[j])))
        recipes.append(Pieces(tuple(parts), empty))
        start = stop
    return replace(column, recipes=tuple(recipes), lengths=tuple(lengths), encoded_bytes=None)


def _part(recipe: Recipe, start: int, stop: int) -> tuple[Recipe, int, int]:
    """An entry of `Pieces`; a zarr recipe decodes no chunk outside of it."""
    if isinstance(recipe, Sliceable):
        return recipe.part(start, stop), 0, stop - start
    return recipe, start, stop


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """A data set as the engine sees it: X, y and weights cut into the same row-blocks.

    ``lengths`` are known. ``dtype`` is what kernels compute in (float32 or float64); integers, booleans and float16
    are converted where a block is read.
    """

    X: BlockedArray | None
    y: BlockedArray | None
    weight: BlockedArray | None
    lengths: tuple[int, ...]
    dtype: np.dtype[Any]
    feature_names: tuple[str, ...] | None = None
    counted: float = 0.0
    """Part of a sweep that it took to find lengths which the sources did not know."""

    @property
    def columns(self) -> tuple[BlockedArray, ...]:
        """The columns that are there."""
        return tuple(column for column in (self.X, self.y, self.weight) if column is not None)

    @property
    def n_blocks(self) -> int:
        return len(self.lengths)

    @property
    def n_rows(self) -> int:
        return sum(self.lengths)

    @property
    def n_features(self) -> int:
        return 0 if self.X is None else self.X.trailing[0]

    @property
    def starts(self) -> tuple[int, ...]:
        """Global number of each block's first row."""
        return tuple(int(s) for s in np.concatenate([[0], np.cumsum(self.lengths)])[:-1])
