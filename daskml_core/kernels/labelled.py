"""Labelled cells of a grid, drawn class by class: each cell has a number, which a seed turns into its place in a queue.

The first of each class are drawn. Which they are depends on seed and cells alone: not on blocks, nor on who reads them. One
read of the labels finds the head of every queue, for the heads of two parts merge into the head of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.complete import is_missing
from daskml_core.sweep import Array, Block, Kernel

MOST_CLASSES = 10_000
TILE = 1 << 20
"""Cells whose places are found at once."""


class Drawn(NamedTuple):
    """Cells of one class: how many there are, and the first of them in order of their places."""

    total: int
    place: Array
    """(n,) uint64, sorted."""
    cell: Array
    """(n,) int64."""


class LabelledParams(NamedTuple):
    """Where labels lie on the grid, and how many to draw.

    chunks : sizes of the labels' chunks, dimension by dimension.
    strides : of the cells' numbers along these dimensions.
    lacking : (size, stride) of the grid's dimensions on which the labels do not lie: each label stands for all cells there.
    unlabelled : values that mean no label.
    wanted : numbers by class; or one number for all.
    """

    chunks: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    lacking: tuple[tuple[int, int], ...]
    unlabelled: tuple[Any, ...]
    wanted: int | Mapping[Any, int]
    seed: int


def places(cells: Array, seed: int) -> Array:
    """Places (n,) uint64 in the queue of cells (n,): a permutation of the numbers of 64 bits, splitmix64 (Steele 2014)."""
    with np.errstate(over="ignore"):
        z = cells.astype(np.uint64) + np.uint64(seed)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def _is_labelled(labels: Array, unlabelled: tuple[Any, ...]) -> Array:
    missing = is_missing(labels, len(labels))
    for value in unlabelled:
        missing |= np.asarray(labels == value, dtype=bool)
    return ~missing


def _numbers(block: Block, found: Array, params: LabelledParams) -> Array:
    """Numbers of a block's cells (n,) on the grid, at the first index of the dimensions that the labels lack."""
    counts = tuple(len(sizes) for sizes in params.chunks)
    where = np.unravel_index(block.number, counts)
    shape = tuple(sizes[i] for sizes, i in zip(params.chunks, where, strict=True))
    starts = tuple(sum(sizes[:i]) for sizes, i in zip(params.chunks, where, strict=True))
    index = np.unravel_index(found, shape)
    numbers = np.zeros(len(found), dtype=np.int64)
    for own, start, stride in zip(index, starts, params.strides, strict=True):
        numbers += (own + start) * stride
    return numbers


def _repeats(lacking: tuple[tuple[int, int], ...], tile: int) -> Iterator[Array]:
    """What is added to a number for each cell that a label stands for, in tiles."""
    sizes = tuple(size for size, _ in lacking)
    total = math.prod(sizes)
    for lo in range(0, total, tile):
        index = np.unravel_index(np.arange(lo, min(lo + tile, total)), sizes) if sizes else ()
        step = np.zeros(min(lo + tile, total) - lo, dtype=np.int64)
        for own, (_, stride) in zip(index, lacking, strict=True):
            step += own * stride
        yield step


def _first(place: Array, cell: Array, n: int) -> tuple[Array, Array]:
    order = np.argpartition(place, n)[:n] if n < len(place) else np.arange(len(place))
    order = order[np.argsort(place[order])]
    return place[order], cell[order]


def draw_labelled(block: Block, params: LabelledParams) -> dict[Any, Drawn]:
    """The heads of the queues of a block's classes.

    Raises
    ------
    ValueError : more values than classes can have.
    """
    labels = np.asarray(block.y)
    found = np.flatnonzero(_is_labelled(labels, params.unlabelled))
    if not len(found):
        return {}
    classes, code = np.unique(labels[found], return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"labels holds {len(classes):,} values and more; at most {MOST_CLASSES:,} are classes.")
    numbers = _numbers(block, found, params)
    repeats = math.prod(size for size, _ in params.lacking)
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(len(classes) + 1))
    heads = {}
    for k, label in enumerate(classes.tolist()):
        n = params.wanted if isinstance(params.wanted, int) else params.wanted.get(label, 0)
        own = numbers[order[bounds[k] : bounds[k + 1]]]
        place, cell = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        for lo in range(0, len(own), TILE):
            part = own[lo : lo + TILE]
            for step in _repeats(params.lacking, max(1, TILE // len(part))):
                new = (part[:, None] + step[None, :]).reshape(-1)
                cell = np.concatenate([cell, new])
                place, cell = _first(np.concatenate([place, places(new, params.seed)]), cell, n)
        heads[label] = Drawn(len(own) * repeats, place, cell)
    return heads


@dataclass(frozen=True)
class MergeHeads:
    """Merges the heads of two parts of the data."""

    wanted: int | Mapping[Any, int]

    def __call__(self, a: dict[Any, Drawn], b: dict[Any, Drawn]) -> dict[Any, Drawn]:
        merged = dict(a)
        for label, other in b.items():
            own = merged.get(label)
            if own is None:
                merged[label] = other
                continue
            n = self.wanted if isinstance(self.wanted, int) else self.wanted.get(label, 0)
            head = _first(np.concatenate([own.place, other.place]), np.concatenate([own.cell, other.cell]), n)
            merged[label] = Drawn(own.total + other.total, *head)
        if len(merged) > MOST_CLASSES:
            raise ValueError(f"labels holds {len(merged):,} values and more; at most {MOST_CLASSES:,} are classes.")
        return merged


DRAW_LABELLED = Kernel(
    draw_labelled,
    "draw-labelled",
    workspace=lambda n, d, p: 48 * n + 64 * TILE,
    partial_bytes=lambda d, p: 16 * (p.wanted * 16 if isinstance(p.wanted, int) else sum(p.wanted.values())),
)
