"""Value, gradient and Hessian of a linear model's summed loss over one block, for many models at once.

Conventions
-----------
X (rows, d); W (d, m * K) with a model's K outputs as neighbouring columns; b (m * K,); y (rows,) encoded.
Everything is summed over tiles whose X stays in cache, in the data's precision inside a tile (BLAS) and in float64
between tiles. The tile's size depends on d alone, never on the machine.

With a fold mask, model j weighs the rows of cell c by ``weight[c, j]``, mostly 0 or 1, so that training on k - 1 folds is
one more column of a matrix product and no copy of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.kernels.logistic import logistic_gradient
from daskml_core.losses import CellWeights, HalfLogistic, Loss, Multinomial, Weights
from daskml_core.sweep import Array, Block, Kernel


class FoldMask(NamedTuple):
    """How much of each row a model sees: a table over the cells that rows belong to."""

    cell_of: Callable[[int, int], Array]
    """``(start, n_rows) -> (n_rows,)`` cells, a function of the global row number; see `daskml_core.kernels.cells`."""
    weight: Array
    """(n_cells, m), or (n_cells, n_classes, m) where a model weighs the classes y in a way of its own."""

    def rows(self, block: Block) -> Array:
        """The table's row of each row of a block."""
        cells = self.cell_of(block.start, block.n_rows)
        if self.weight.ndim == 2:
            return cells
        return cells.astype(np.intp) * self.weight.shape[1] + block.y.astype(np.intp)

    def table(self, dtype: Any) -> Array:
        """The weights with one row a cell (and class)."""
        return np.ascontiguousarray(self.weight.reshape(-1, self.weight.shape[-1]), dtype=dtype)


class OneAgainstRest(NamedTuple):
    """Models that each tell one class from all others; y holds the class codes."""

    positive: Array
    """(m,) code of the class that a model looks for."""
    factor: Array
    """(m,) weight of its rows; all others have weight 1, as in liblinear."""

    def of_model(self, j: int, y: Array, s: Array) -> tuple[Array, Array]:
        """Model j's labels (-1 or 1) and weights of rows with codes y and weights s."""
        own = y == self.positive[j]
        return np.where(own, 1.0, -1.0), s if self.factor[j] == 1 else np.where(own, self.factor[j], 1.0) * s

    def of_all(self, y: Array, s: Array | None) -> tuple[Array, Array | None]:
        """All models' labels (rows, m), 0 or 1, and weights, of rows with codes y (rows,) and weights (rows, 1 or m)."""
        own = y[:, None] == self.positive
        if (self.factor == 1).all():
            return own.astype(np.float64), s
        factor = np.where(own, self.factor, 1.0)
        return own.astype(np.float64), factor if s is None else factor * s

    @staticmethod
    def join(parts: Sequence[OneAgainstRest]) -> OneAgainstRest | None:
        """The models of several requests side by side."""
        return OneAgainstRest(*(np.concatenate(p) for p in zip(*parts, strict=True))) if parts else None


class LinearParams(NamedTuple):
    """What to evaluate."""

    W: Array
    b: Array
    loss: Loss
    order: int
    """0 for the value, 1 with the gradient, 2 with the Hessian."""
    folds: FoldMask | None = None
    classes: OneAgainstRest | None = None


class LinearPartial(NamedTuple):
    """Sums over rows, float64."""

    value: Array
    """(m,)"""
    grad_W: Array | None
    """(d, m * K)"""
    grad_b: Array | None
    """(m * K,)"""
    hess: Array | None
    """(m, (d + 1) K, (d + 1) K), rows and columns in the order of ``[W; b].ravel()``"""


def tile_rows(n_features: int, itemsize: int) -> int:
    """Rows whose X fits twice into a core's second-level cache (about 0.8 MB)."""
    return int(np.clip((3 << 18) // max(1, n_features * itemsize), 256, 8192))


def _n_models(params: LinearParams) -> int:
    return params.W.shape[1] // params.loss.n_outputs


def linear_loss(block: Block, params: LinearParams) -> LinearPartial:
    """Summed loss, and its derivatives up to ``params.order``; reads X once."""
    W, b, loss, order, folds, classes = params
    d, width = W.shape
    m = _n_models(params)
    if width == 1 and order and folds is None and isinstance(loss, HalfLogistic) and block.n_rows:
        return _one_logistic(block, W[:, 0], float(b[0]), order)
    X = block.X
    dtype = X.dtype if X is not None else np.dtype(np.float64)
    value = np.zeros(m)
    grad_W = np.zeros((d, width)) if order else None
    grad_b = np.zeros(width) if order else None
    size = (d + 1) * loss.n_outputs
    hess = np.zeros((m, size, size)) if order > 1 else None
    weight = None if block.weight is None else block.weight[:, None].astype(dtype)
    place = None if folds is None else folds.rows(block)
    table = None if folds is None else folds.table(dtype)
    V = np.ascontiguousarray(W, dtype=dtype)
    c = b.astype(dtype)
    step = tile_rows(d, dtype.itemsize)
    scratch = hessian_scratch(min(step, block.n_rows) if order > 1 else 0, d, dtype)
    # Trial points may be far out: an overflow shows as a loss that is not finite, and the line search steps back.
    with np.errstate(over="ignore", invalid="ignore"):
        for lo in range(0, block.n_rows, step):
            rows = slice(lo, min(lo + step, block.n_rows))
            x, y = X[rows], block.y[rows]
            own = None if weight is None else weight[rows]
            s: Weights = own
            on: Any = slice(None)
            models, v, shift = on, V, c
            if table is not None and place is not None:
                alike = hess is None and m >= 4 and classes is None
                seen = _seen_by(place[rows], table, loss.n_outputs) if alike else None
                if seen is None:
                    s = CellWeights(table, place[rows], own)
                else:
                    # A tile of one cell: models that leave it out are left out, a k-th of the work of k folds.
                    models, on, w = seen
                    if not len(models):
                        continue
                    v, shift = np.ascontiguousarray(V[:, on]), c[on]
                    if (w != 1).any():
                        s = CellWeights(w[None, :], np.zeros(len(x), dtype=np.intp), own)
            if classes is not None:
                y, s = classes.of_all(y, s.dense() if isinstance(s, CellWeights) else s)
            # One model is a matrix-vector product: BLAS does that several times faster than a matrix of one column.
            Z = (x @ V[:, 0])[:, None] if width == 1 else x @ v
            Z += shift
            if not order:
                value[models] += loss.value(Z, y, s)
                continue
            assert grad_W is not None and grad_b is not None
            total, R = loss.evaluate(Z, y, s)
            value[models] += total
            # `dot`, not `@`: NumPy's matmul keeps the interpreter's lock where the result has fewer than 500 entries,
            # however many rows are summed, and threads then take turns.
            grad_W[:, on] += np.dot(x.T, R[:, 0])[:, None] if width == 1 else np.dot(x.T, R)
            # A product with ones: NumPy's sum along the first axis takes ten times as long.
            grad_b[on] += np.dot(np.ones(len(R), dtype=R.dtype), R)
            if hess is not None:
                add_hessian(hess, x, Z, y, s, loss, scratch)
    return LinearPartial(value, grad_W, grad_b, hess)


def _one_logistic(block: Block, w: Array, b: float, order: int) -> LinearPartial:
    X, d = block.X, len(w)
    tile = tile_rows(d, X.dtype.itemsize)
    h = np.empty(block.n_rows, dtype=X.dtype) if order > 1 else None
    summed, slope, rest = logistic_gradient(X, block.y, block.weight, w, b, tile, h)
    hess = None
    if h is not None:
        hess = np.zeros((1, d + 1, d + 1))
        scratch = hessian_scratch(min(tile, block.n_rows), d, X.dtype)
        for lo in range(0, block.n_rows, tile):
            _add_products(hess, X[lo : lo + tile], h[lo : lo + tile, None], scratch)
    return LinearPartial(np.array([summed]), slope[:, None], np.array([rest]), hess)


def _seen_by(place: Array, table: Array, n_outputs: int) -> tuple[Array, Array, Array] | None:
    """Models and columns that see a tile, and their weights, where all its rows are of one cell that some leave out."""
    if not len(place) or place[0] != place[-1] or (place != place[0]).any():
        return None
    weight = table[place[0]]
    models = np.flatnonzero(weight)
    columns = models if n_outputs == 1 else (models[:, None] * n_outputs + np.arange(n_outputs)).ravel()
    return models, columns, weight[models]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _scaled_rows(x: Any, h: Any, S: Any) -> None:  # pragma: no cover - compiled
    """``sqrt(h) [x, 1]`` into S, whose further columns become 0."""
    d = x.shape[1]
    for i in range(len(x)):
        root, row, own = np.sqrt(h[i]), S[i], x[i]
        for j in range(d):
            row[j] = root * own[j]
        row[d] = root
        for j in range(d + 1, len(row)):
            row[j] = 0


def hessian_scratch(n_rows: int, n_features: int, dtype: Any) -> Array:
    """Where the tiles of a block are scaled, one after the other."""
    # BLAS works on four float32 columns at once: 51 of them take a quarter longer than 52.
    width = -(-(n_features + 1) // 4) * 4 if dtype == np.float32 else n_features + 1
    return np.empty((n_rows, width), dtype=dtype)


def add_hessian(hess: Array, x: Array, Z: Array, y: Array, s: Weights, loss: Loss, scratch: Array) -> None:
    """Add the tile's Hessians. One augmented product gives the coefficients' and the intercept's part together."""
    s = s.dense() if isinstance(s, CellWeights) else s
    if isinstance(loss, Multinomial):
        _add_multinomial_hessian(hess, x, Z, s, loss)
        return
    _add_products(hess, x, loss.curvature(Z, y, s), scratch)


def _add_products(hess: Array, x: Array, H: Array, scratch: Array) -> None:
    """Add ``[x, 1]' (h [x, 1])`` for each column h of H."""
    p, S = x.shape[1] + 1, scratch[: len(x)]
    for j in range(H.shape[1]):
        # As S' S: BLAS then computes one triangle and the result is exactly symmetric.
        _scaled_rows(x, H[:, j], S)
        hess[j] += np.dot(S.T, S)[:p, :p]


def _add_multinomial_hessian(hess: Array, x: Array, Z: Array, s: Array | None, loss: Multinomial) -> None:
    A = np.empty((len(x), x.shape[1] + 1), dtype=x.dtype)
    A[:, :-1] = x
    A[:, -1] = 1
    K = loss.n_outputs
    P, _ = loss.probabilities(Z)
    for j in range(P.shape[1]):
        p = P[:, j]
        c = None if s is None else s[:, min(j, s.shape[1] - 1)]
        for k in range(K):
            for q in range(k, K):
                h = p[:, k] * ((k == q) - p[:, q])
                if c is not None:
                    h = (h * c).astype(x.dtype)
                part = np.dot(A.T, h[:, None] * A)
                hess[j, k::K, q::K] += part
                if q > k:
                    hess[j, q::K, k::K] += part.T


def _workspace(n_rows: int, n_features: int, params: LinearParams) -> int:
    rows = min(n_rows, tile_rows(n_features, 8))
    width = params.W.shape[1]
    scratch = rows * width * 6 * 8 + (0 if params.folds is None else 8 * n_rows)
    return scratch + (2 * rows * (n_features + 1) * 8 + 8 * n_rows if params.order > 1 else 0)


def _partial_bytes(n_features: int, params: LinearParams) -> int:
    width = params.W.shape[1]
    size = (n_features + 1) * params.loss.n_outputs
    hess = _n_models(params) * size * size * 8 if params.order > 1 else 0
    return (n_features + 2) * width * 8 + hess


def _stack(requests: Sequence[LinearParams]) -> LinearParams:
    first = requests[0]
    folds = None
    if first.folds is not None:
        folds = first.folds._replace(weight=np.concatenate([p.folds.weight for p in requests if p.folds], axis=-1))
    W = np.concatenate([p.W for p in requests], axis=1)
    b = np.concatenate([p.b for p in requests])
    classes = OneAgainstRest.join([p.classes for p in requests if p.classes is not None])
    return first._replace(W=W, b=b, folds=folds, classes=classes)


def _split(partial: LinearPartial, requests: Sequence[LinearParams]) -> list[LinearPartial]:
    parts = []
    column = model = 0
    for p in requests:
        columns = slice(column, column + p.W.shape[1])
        models = slice(model, model + _n_models(p))
        parts.append(
            LinearPartial(
                partial.value[models].copy(),
                None if partial.grad_W is None else partial.grad_W[:, columns].copy(),
                None if partial.grad_b is None else partial.grad_b[columns].copy(),
                None if partial.hess is None else partial.hess[models].copy(),
            )
        )
        column, model = columns.stop, models.stop
    return parts


def _stack_key(params: LinearParams) -> Any:
    classes = params.classes is None
    if params.folds is None:
        return (params.loss, params.order, classes)
    return (params.loss, params.order, classes, params.folds.cell_of, params.folds.weight.shape[:-1])


def _name(params: LinearParams) -> str:
    return f"{params.loss.name}-{('loss', 'gradient', 'hessian')[params.order]}"


LINEAR_LOSS = Kernel(linear_loss, _name, _workspace, _partial_bytes, stack=_stack, split=_split, stack_key=_stack_key)


class SecondMoments(NamedTuple):
    """Weighted sums of squares of the features (d,), float64; (d, m) of the rows that m models see."""

    squares: Array


def second_moments(block: Block, params: FoldMask | None) -> SecondMoments:
    """``sum_i s_i x_ij**2`` for every feature j; of each model's rows where there is a mask."""
    d = block.X.shape[1]
    if params is not None:
        return _squares_seen(block, params)
    squares = np.zeros(d)
    weight = np.zeros(0) if block.weight is None else block.weight
    _add_squares(block.X, weight, tile_rows(d, 8), squares)
    return SecondMoments(squares)


def _squares_seen(block: Block, folds: FoldMask) -> SecondMoments:
    d, step = block.X.shape[1], tile_rows(block.X.shape[1], 8)
    # Models of one split see the same rows: each split's sum is taken once.
    table, model = np.unique(folds.table(np.float64), axis=1, return_inverse=True)
    squares, place = np.zeros((d, table.shape[1])), folds.rows(block)
    for lo in range(0, block.n_rows, step):
        rows = slice(lo, lo + step)
        s = table[place[rows]]
        if block.weight is not None:
            s = s * block.weight[rows, None]
        squares += np.dot(np.square(block.X[rows], dtype=np.float64).T, s)
    return SecondMoments(squares[:, model.reshape(-1)])


# `contract` only fuses a product with its addition; rows are added in their own order.
@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _add_squares(X: Any, weight: Any, tile: int, squares: Any) -> None:  # pragma: no cover - compiled
    n, d = X.shape
    for lo in range(0, n, tile):
        part = np.zeros(d, X.dtype)
        for i in range(lo, min(lo + tile, n)):
            if len(weight) > 0:
                for j in range(d):
                    part[j] += weight[i] * X[i, j] * X[i, j]
            else:
                for j in range(d):
                    part[j] += X[i, j] * X[i, j]
        for j in range(d):
            squares[j] += part[j]


def _stack_masks(requests: Sequence[FoldMask | None]) -> FoldMask | None:
    masks = [p for p in requests if p is not None]
    return masks[0]._replace(weight=np.concatenate([p.weight for p in masks], axis=-1)) if masks else None


def _split_moments(partial: SecondMoments, requests: Sequence[FoldMask | None]) -> list[SecondMoments]:
    parts, model = [], 0
    for p in requests:
        if p is None:
            parts.append(SecondMoments(partial.squares.copy()))
            continue
        stop = model + p.weight.shape[-1]
        parts.append(SecondMoments(partial.squares[:, model:stop].copy()))
        model = stop
    return parts


def _moments_workspace(n_rows: int, n_features: int, params: FoldMask | None) -> int:
    rows = min(n_rows, 8192)
    return rows * n_features * 16 + (0 if params is None else 8 * (n_rows + rows * params.weight.shape[-1]))


SECOND_MOMENTS = Kernel(
    second_moments,
    "second-moments",
    _moments_workspace,
    lambda d, p: 8 * d * (1 if p is None else p.weight.shape[-1]),
    stack=_stack_masks,
    split=_split_moments,
    stack_key=lambda p: None if p is None else (p.cell_of, p.weight.shape[:-1]),
)
