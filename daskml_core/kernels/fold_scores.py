"""Scores of many linear models in one read, each on the rows of its own split alone.

A block's rows are gathered split by split, and multiplied by the models of that split only: with k folds a k-th of the
work of a training sweep. What comes back are sums that every metric of a kind can be made of.

Conventions: models of one split are neighbours; model j belongs to ``split[j]``, and sees the rows whose cells are in
``cells[split[j]]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
from scipy.special import log_expit, log_softmax, xlogy

from daskml_core.kernels.linear import tile_rows
from daskml_core.kernels.pairs import Ranking, rank_columns
from daskml_core.sweep import Array, Block, Kernel


class ScoreParams(NamedTuple):
    """Models, their splits, and the sums that are wanted."""

    W: Array
    """(d, m * K)"""
    b: Array
    n_outputs: int
    split: Array
    """(m,) sorted."""
    cells: Array
    """(n_splits, n_cells) bool"""
    cell_of: Any
    n_classes: int | None
    """``None`` for a numeric target of ``n_outputs`` columns."""
    wants: frozenset[str]
    """Of {"labels", "log_loss", "brier", "errors", "deviance"}."""
    softmax: bool = True
    exponential: bool = False
    """Predictions are the exponential of the linear predictor."""
    max_distinct: int = 0
    weighted: bool = False
    """Whether rows count by their weight."""


class ScoreSums(NamedTuple):
    """Sums over each model's rows, weighted or not, float64; ``None`` where they were not wanted."""

    rows: Array
    """(n_splits,) number or weight."""
    labels: Array | None
    """(m, n_classes, n_classes) rows of each true (first) and predicted class."""
    log_loss: Array | None
    """(m,)"""
    brier: Array | None
    """(m,)"""
    squared: Array | None
    """(m, K) squared errors, and absolute ones."""
    absolute: Array | None
    deviance: Array | None
    """(m,) of the Poisson deviance: ``y log mu - mu``; and (n_splits,) ``y log y``."""
    y_log_y: Array | None


def _parts(block: Block, params: ScoreParams) -> Iterator[tuple[int, slice, Array, Array, Array | None]]:
    """``(split, its models, y, predictors (rows, models * K) without intercepts, weights)`` of each tile."""
    weight = block.weight if params.weighted else None
    X, dtype = block.X, block.X.dtype
    cells = params.cell_of(block.start, block.n_rows)
    V = np.ascontiguousarray(params.W, dtype=dtype)
    bounds = np.searchsorted(params.split, np.arange(len(params.cells) + 1))
    step, K = tile_rows(X.shape[1], dtype.itemsize), params.n_outputs
    for lo in range(0, block.n_rows, step):
        rows = slice(lo, lo + step)
        for i, wanted in enumerate(params.cells):
            first, stop = int(bounds[i]), int(bounds[i + 1])
            seen = wanted[cells[rows]]
            if first == stop or not seen.any():
                continue
            x, y = (X[rows], block.y[rows]) if seen.all() else (X[rows][seen], block.y[rows][seen])
            columns = slice(first * K, stop * K)
            # A matrix of one column is several times slower than a vector.
            single = columns.stop - columns.start == 1
            Z = (x @ V[:, columns.start])[:, None] if single else x @ np.ascontiguousarray(V[:, columns])
            s = None if weight is None else weight[rows][seen]
            yield i, slice(first, stop), y, Z, s


def fold_scores(block: Block, params: ScoreParams) -> ScoreSums:
    """What metrics of labels, probabilities and numbers need; reads X once."""
    m, K, C = len(params.split), params.n_outputs, params.n_classes
    wants = params.wants
    rows = np.zeros(len(params.cells))
    labels = np.zeros((m, C, C)) if "labels" in wants and C is not None else None
    log_loss = np.zeros(m) if "log_loss" in wants else None
    brier = np.zeros(m) if "brier" in wants else None
    squared, absolute = (np.zeros((m, K)) if "errors" in wants else None for _ in range(2))
    deviance = np.zeros(m) if "deviance" in wants else None
    y_log_y = np.zeros(len(params.cells)) if "deviance" in wants else None
    others = wants != {"labels"}
    for i, models, y, Z, s in _parts(block, params):
        rows[i] += len(y) if s is None else s.sum()
        b = params.b[models.start * K : models.stop * K]
        if labels is not None and C is not None:
            labels[models] += _confusion(y, Z, b, s, K, C)
        if others:
            Z = Z + b
        if log_loss is not None or brier is not None:
            own, rest = _log_probabilities(y, Z, K, params.softmax)
            if log_loss is not None:
                log_loss[models] -= _summed(np.maximum(own, np.log(np.finfo(np.float64).eps)), s)
            if brier is not None:
                brier[models] += _summed(np.square(np.exp(rest)), s)
        if params.exponential:
            Z = np.exp(Z)
        if squared is not None and absolute is not None:
            error = Z.reshape(len(y), -1, K) - y.reshape(len(y), 1, -1)
            squared[models] += _summed(np.square(error), s)
            absolute[models] += _summed(np.abs(error), s)
        if deviance is not None and y_log_y is not None:
            deviance[models] += _summed(xlogy(y[:, None], Z) - Z, s)
            y_log_y[i] += _summed(xlogy(y, y), s)
    return ScoreSums(rows, labels, log_loss, brier, squared, absolute, deviance, y_log_y)


def _summed(values: Array, s: Array | None) -> Array:
    """Sum over the rows, weighted or not."""
    return np.asarray(values.sum(axis=0) if s is None else np.tensordot(s, values, axes=1))


# One pass over the predictors as they are: with NumPy's additions and comparisons scoring took twice as long.
@numba.njit(cache=True, nogil=True)
def _count_positive(y: Any, Z: Any, b: Any, s: Any, hits: Any, predicted: Any) -> None:  # pragma: no cover - compiled
    for i in range(Z.shape[0]):
        z = Z[i]
        w = s[i] if len(s) > 0 else 1.0
        if y[i] > 0:
            for j in range(len(b)):
                hits[j] += w if z[j] + b[j] > 0 else 0.0
        else:
            for j in range(len(b)):
                predicted[j] += w if z[j] + b[j] > 0 else 0.0


def _confusion(y: Array, Z: Array, b: Array, s: Array | None, K: int, C: int) -> Array:
    """(models, C, C) counts or weights of true and predicted classes; Z without the intercepts b."""
    if K == 1:
        hits, false = np.zeros((2, len(b)))
        _count_positive(y, Z, b, np.zeros(0) if s is None else s, hits, false)
        ones = float(np.count_nonzero(y) if s is None else s @ y)
        total = len(y) if s is None else s.sum()
        counts = np.empty((len(b), 2, 2))
        counts[:, 1, 1], counts[:, 0, 1] = hits, false
        counts[:, 1, 0], counts[:, 0, 0] = ones - hits, total - ones - false
        return counts
    codes = (Z + b).reshape(len(y), -1, K).argmax(axis=2)
    n = codes.shape[1]
    place = (np.arange(n) * C + y.astype(np.intp)[:, None]) * C + codes
    weight = None if s is None else np.repeat(s, n)
    return np.bincount(place.ravel(), weight, n * C * C).astype(np.float64).reshape(n, C, C)


def _log_probabilities(y: Array, Z: Array, K: int, softmax: bool) -> tuple[Array, Array]:
    """Log-probability of the true class, and of the other one of two, (rows, models)."""
    if K == 1:
        sign = (2 * y - 1)[:, None]
        return log_expit(sign * Z), log_expit(-sign * Z)
    Z3 = Z.reshape(len(y), -1, K)
    if softmax:
        L = log_softmax(Z3, axis=2)
    else:
        L = log_expit(Z3)
        L -= np.log(np.exp(L).sum(axis=2, keepdims=True))
    own = L[np.arange(len(y)), :, y.astype(np.intp)]
    return own, np.full_like(own, -np.inf)


def fold_ranks(block: Block, params: ScoreParams) -> Ranking:
    """Distinct scores of each model of two classes over its rows, with the numbers of both classes at each."""
    m = len(params.split)
    scores: list[list[Array]] = [[] for _ in range(m)]
    truth: list[list[Array]] = [[] for _ in range(m)]
    weights: list[list[Array]] = [[] for _ in range(m)]
    for _, models, y, Z, s in _parts(block, params):
        for j in range(models.start, models.stop):
            scores[j].append(Z[:, j - models.start] + params.b[j])
            truth[j].append(y)
            weights[j].append(np.ones(len(y)) if s is None else s)
    none = [np.zeros(0)]
    columns = [np.concatenate(part or none).astype(np.float64) for part in scores]
    hits = [np.concatenate(part or none) for part in truth]
    return rank_columns(columns, hits, [np.concatenate(part or none) for part in weights], params.max_distinct)


def _workspace(n_rows: int, n_features: int, params: ScoreParams) -> int:
    rows = min(n_rows, tile_rows(n_features, 4))
    return rows * (params.W.shape[1] * 6 + n_features) * 8 + 9 * n_rows


def _sum_bytes(n_features: int, params: ScoreParams) -> int:
    classes = params.n_classes or 1
    return 8 * len(params.split) * (classes * classes + 2 * params.n_outputs + 3) + 8 * params.W.size


def _rank_workspace(n_rows: int, n_features: int, params: ScoreParams) -> int:
    # Scores, truth and weights of all models, and the order and sums of one; a row is scored by a model a setting.
    settings = max(1, len(params.split) // max(1, len(set(params.split.tolist()))))
    return _workspace(n_rows, n_features, params) + 8 * n_rows * (4 * settings + 6)


FOLD_SCORES = Kernel(fold_scores, "scores-by-fold", _workspace, partial_bytes=_sum_bytes)
FOLD_RANKS = Kernel(
    fold_ranks,
    "ranks-by-fold",
    _rank_workspace,
    partial_bytes=lambda d, p: 24 * p.max_distinct * len(p.split),
    gathers=True,
)
