"""What training on some of the cells needs to know of the targets: class counts or moments, cell by cell; X is not read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.targets import TargetMoments, merge_target_moments, target_moments
from daskml_core.kernels.cells import sort_by_cell
from daskml_core.sweep import Array, Block, Kernel


class CellClasses(NamedTuple):
    """(n_cells, n_classes) numbers of rows, and their weight."""

    rows: Array
    weight: Array


class CellTargetParams(NamedTuple):
    """Cells, and the number of classes; ``None`` for a numeric target."""

    cell_of: Any
    n_cells: int
    n_classes: int | None


def cell_classes(block: Block, params: CellTargetParams) -> CellClasses:
    """Counts of the encoded classes in every cell."""
    assert params.n_classes is not None
    shape = (params.n_cells, params.n_classes)
    cells = params.cell_of(block.start, block.n_rows).astype(np.intp)
    place = cells * params.n_classes + block.y.astype(np.intp)
    rows = np.bincount(place, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
    if block.weight is None:
        return CellClasses(rows, rows.copy())
    return CellClasses(rows, np.bincount(place, block.weight, shape[0] * shape[1]).reshape(shape))


def cell_target_moments(block: Block, params: CellTargetParams) -> tuple[TargetMoments, ...]:
    """Moments of a numeric target over every cell."""
    width = 1 if block.y.ndim == 1 else block.y.shape[1]
    empty = TargetMoments(0, 0.0, np.zeros(width), np.zeros(width), np.full(width, np.inf))
    parts = [empty] * params.n_cells
    order, runs = sort_by_cell(params.cell_of(block.start, block.n_rows))
    for cell, run in runs:
        place = run if isinstance(order, slice) else order[run]
        weight = None if block.weight is None else block.weight[place]
        parts[cell] = target_moments(Block(None, block.y[place], weight, block.number, block.start), None)
    return tuple(parts)


def merge_cell_targets(a: Sequence[TargetMoments], b: Sequence[TargetMoments]) -> tuple[TargetMoments, ...]:
    """Moments of disjoint sets of rows, cell by cell."""
    return tuple(merge_target_moments(p, q) for p, q in zip(a, b, strict=True))


CELL_CLASSES = Kernel(cell_classes, "count-labels-by-cell")
CELL_TARGET_MOMENTS = Kernel(cell_target_moments, "target-moments-by-cell")
