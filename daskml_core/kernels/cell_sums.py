"""What several folds need of the rows at once, summed cell by cell: gradients, moments, Gram matrices.

Where models of several folds stand at the same point, a gradient a cell serves all of them: the gradient over a fold's
training rows is the sum over its cells, at the price of one model. The same with moments: what a fold leaves out is never
subtracted, only not added, so that nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.cells import sort_by_cell
from daskml_core.kernels.gram import GramPartial, gram, merge_factors, merge_gram, triangular_factor
from daskml_core.kernels.linear import LinearPartial, OneAgainstRest, add_hessian, hessian_scratch, tile_rows
from daskml_core.kernels.moments import FeatureMoments, feature_moments, merge_moments
from daskml_core.losses import Loss
from daskml_core.sweep import Array, Block, Kernel


class CellLossParams(NamedTuple):
    """Points to evaluate on every cell."""

    W: Array
    b: Array
    loss: Loss
    cell_of: Any
    n_cells: int
    n_hessians: int = 0
    """The first so many models have Hessians too."""
    n_classes: int = 1
    """Classes y whose rows are summed apart within each cell, where models weigh them in ways of their own."""
    classes: OneAgainstRest | None = None

    @property
    def n_sums(self) -> int:
        """Cells times classes; the classes of a cell are neighbours."""
        return self.n_cells * self.n_classes


class CellLossPartial(NamedTuple):
    """Sums over each cell's rows, float64."""

    value: Array
    """(n_cells, m)"""
    grad_W: Array
    """(n_cells, d, m * K)"""
    grad_b: Array
    """(n_cells, m * K)"""
    hess: Array | None = None
    """(n_cells, n_hessians, (d + 1) K, (d + 1) K)"""

    def over(self, weight: Array, model: int, n_outputs: int) -> LinearPartial:
        """One model's sums over the cells, each times its weight (n_cells,); its Hessian too, if it is there."""
        columns = slice(model * n_outputs, (model + 1) * n_outputs)
        return LinearPartial(
            np.array([weight @ self.value[:, model]]),
            np.tensordot(weight, self.grad_W[:, :, columns], axes=1),
            weight @ self.grad_b[:, columns],
            None
            if self.hess is None or model >= self.hess.shape[1]
            else np.tensordot(weight, self.hess[:, model], axes=1)[None],
        )


def cell_loss(block: Block, params: CellLossParams) -> CellLossPartial:
    """Summed loss and gradient of every model over every cell; reads X once."""
    W, b, loss, cell_of, _, n_hessians, n_classes, classes = params
    d, width = W.shape
    X, dtype = block.X, block.X.dtype
    n, m, size = params.n_sums, width // loss.n_outputs, (d + 1) * loss.n_outputs
    partial = CellLossPartial(
        np.zeros((n, m)),
        np.zeros((n, d, width)),
        np.zeros((n, width)),
        np.zeros((n, n_hessians, size, size)) if n_hessians else None,
    )
    cells = cell_of(block.start, block.n_rows)
    if n_classes > 1:
        cells = cells.astype(np.intp) * n_classes + block.y.astype(np.intp)
    V, c = np.ascontiguousarray(W, dtype=dtype), b.astype(dtype)
    step = tile_rows(d, dtype.itemsize)
    scratch = hessian_scratch(min(step, block.n_rows) if n_hessians else 0, d, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for lo in range(0, block.n_rows, step):
            order, runs = sort_by_cell(cells[lo : lo + step])
            x, y = X[lo : lo + step][order], block.y[lo : lo + step][order]
            s = None if block.weight is None else block.weight[lo : lo + step][order][:, None]
            if classes is not None:
                y, s = classes.of_all(y, s)
            Z = x @ V
            Z += c
            for cell, run in runs:
                total, R = loss.evaluate(Z[run], y[run], None if s is None else s[run])
                partial.value[cell] += total
                # `dot` lets go of the interpreter's lock also where the result is small; `@` does not.
                partial.grad_W[cell] += np.dot(x[run].T, R)
                partial.grad_b[cell] += np.dot(np.ones(len(R), dtype=R.dtype), R)
                if partial.hess is not None:
                    first = slice(n_hessians)
                    own = y[run] if y.ndim == 1 else y[run, first]
                    weight = None if s is None else s[run] if s.shape[1] == 1 else s[run, first]
                    add_hessian(
                        partial.hess[cell], x[run], Z[run, : n_hessians * loss.n_outputs], own, weight, loss, scratch
                    )
    return partial


def _loss_workspace(n_rows: int, n_features: int, params: CellLossParams) -> int:
    rows = min(n_rows, tile_rows(n_features, 8))
    scratch = 2 * rows * (n_features + 1) * 8 if params.n_hessians else 0
    return rows * (params.W.shape[1] * 6 + n_features) * 8 + 16 * n_rows + scratch


def _loss_bytes(n_features: int, params: CellLossParams) -> int:
    K, width = params.loss.n_outputs, params.W.shape[1]
    hess = 8 * params.n_hessians * ((n_features + 1) * K) ** 2
    return params.n_sums * (8 * (n_features + 2) * width + hess)


def _loss_name(params: CellLossParams) -> str:
    return f"{params.loss.name}-derivatives-by-cell"


CELL_LOSS = Kernel(cell_loss, _loss_name, _loss_workspace, partial_bytes=_loss_bytes)


class CellParams(NamedTuple):
    """Which cell each row is in."""

    cell_of: Any
    n_cells: int


class Chosen:
    """Chosen rows of an array, taken out a tile at a time: all of them at once would be another block in memory."""

    def __init__(self, array: Array, places: Array) -> None:
        self.array, self.places = array, places
        self.shape, self.ndim, self.dtype = (len(places), *array.shape[1:]), array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> Array:
        return self.array[self.places[rows]]


def _take(block: Block, rows: Any) -> Block:
    """A block of chosen rows, for kernels that go over it by tiles: a view of neighbours, or `Chosen` ones."""
    columns = (block.X, block.y, block.weight)
    if isinstance(rows, slice):
        X, y, weight = (None if a is None else a[rows] for a in columns)
    else:
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        X, y, weight = (None if a is None else Chosen(a, places) for a in columns)
    return Block(X, y, weight, block.number, block.start)


def _by_cell(block: Block, params: CellParams) -> list[Block | None]:
    """A block a cell, of its rows; ``None`` where it has none."""
    order, runs = sort_by_cell(params.cell_of(block.start, block.n_rows))
    parts: list[Block | None] = [None] * params.n_cells
    for cell, run in runs:
        place = run if isinstance(order, slice) else order[run]
        parts[cell] = _take(block, place)
    return parts


def _empty_moments(d: int) -> FeatureMoments:
    return FeatureMoments(0, 0.0, np.zeros(d), np.zeros(d), np.full(d, np.inf), np.full(d, -np.inf))


def cell_moments(block: Block, params: CellParams) -> tuple[FeatureMoments, ...]:
    """Moments of the features over every cell, each row counted once whatever its weight."""
    d = block.X.shape[1]
    parts = _by_cell(block._replace(weight=None), params)
    return tuple(_empty_moments(d) if part is None else feature_moments(part, None) for part in parts)


def cell_grams(block: Block, params: CellParams) -> tuple[GramPartial, ...]:
    """Centred Gram matrices of ``[X, y]`` over every cell."""
    p = block.X.shape[1] + (1 if block.y.ndim == 1 else block.y.shape[1])
    empty = GramPartial(0.0, np.zeros(p), np.zeros((p, p)))
    return tuple(empty if part is None else gram(part, None) for part in _by_cell(block, params))


def merge_cell_moments(a: Sequence[FeatureMoments], b: Sequence[FeatureMoments]) -> tuple[FeatureMoments, ...]:
    """Moments of disjoint sets of rows, cell by cell."""
    return tuple(merge_moments(p, q) for p, q in zip(a, b, strict=True))


def merge_cell_grams(a: Sequence[GramPartial], b: Sequence[GramPartial]) -> tuple[GramPartial, ...]:
    """Gram matrices of disjoint sets of rows, cell by cell."""
    return tuple(merge_gram(p, q) for p, q in zip(a, b, strict=True))


class FactorParams(NamedTuple):
    """Training cells (n_splits, n_cells) and means (n_splits, d + t) of each split."""

    cell_of: Any
    train: Array
    means: Array


def split_factors(block: Block, params: FactorParams) -> tuple[Array, ...]:
    """Triangular factor of every split's centred ``[X, y]``: an ill-conditioned Gram matrix cannot be put together."""
    cells = params.cell_of(block.start, block.n_rows)
    factors = []
    for train, mean in zip(params.train, params.means, strict=True):
        seen = train[cells]
        factors.append(triangular_factor(_take(block, seen), mean))
    return tuple(factors)


def merge_split_factors(a: Sequence[Array], b: Sequence[Array]) -> tuple[Array, ...]:
    """Factors of disjoint sets of rows, split by split."""
    return tuple(merge_factors(p, q) for p, q in zip(a, b, strict=True))


def _copies(n_rows: int, n_features: int, params: Any) -> int:
    return 3 * 8 * n_rows + 5 * 8 * (n_features + 1) * min(n_rows, max(4 * n_features, 8192))


CELL_MOMENTS = Kernel(cell_moments, "moments-by-cell", _copies, lambda d, p: 8 * 4 * d * p.n_cells)
CELL_GRAMS = Kernel(cell_grams, "gram-matrix-by-cell", _copies, lambda d, p: 8 * (d + 2) ** 2 * p.n_cells)
SPLIT_FACTORS = Kernel(split_factors, "tall-skinny-qr-by-split", _copies, lambda d, p: 8 * (d + 2) ** 2 * len(p.train))
