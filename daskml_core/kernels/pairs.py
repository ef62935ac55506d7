"""What metrics need of pairs (truth, prediction): counts of label pairs, sums of log-probabilities, ranked scores.

Conventions: ``block.y`` is a structured array with the fields ``t`` (truth) and ``p`` (prediction, probability or score;
``p`` may have a column a class).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.finite import first_missing
from daskml_core.sweep import Array, Block, Kernel


def pack_pairs(truth: Array, prediction: Array) -> Array:
    """One structured row a pair, so that truth and prediction are cut and read together."""
    pairs = np.empty(
        len(truth), dtype=[("t", truth.dtype, truth.shape[1:]), ("p", prediction.dtype, prediction.shape[1:])]
    )
    pairs["t"], pairs["p"] = truth, prediction
    return pairs


def _finite(values: Array, what: str, block: Block) -> Array:
    row: int | None = None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
    elif values.dtype.kind == "O" and values.ndim == 1:
        row = first_missing(values)
    if row is not None:
        raise ValueError(f"Input {what} contains NaN or infinity: block {block.number}, row {block.start + row}.")
    return values


def _weight(block: Block) -> Array:
    return np.ones(block.n_rows) if block.weight is None else block.weight


class PairCounts(NamedTuple):
    """Distinct (truth, prediction) pairs with weighted counts."""

    truth: Array
    prediction: Array
    weight: Array


def pair_counts(block: Block, params: None) -> PairCounts:
    """Distinct label pairs of one block."""
    t, p = _finite(block.y["t"], "y_true", block), _finite(block.y["p"], "y_pred", block)
    return _compress(t, p, _weight(block))


def _compress(t: Array, p: Array, weight: Array) -> PairCounts:
    labels_t, code_t = np.unique(t, return_inverse=True)
    labels_p, code_p = np.unique(p, return_inverse=True)
    codes, place = np.unique(code_t * max(1, len(labels_p)) + code_p, return_inverse=True)
    sums = np.bincount(place, weights=weight, minlength=len(codes))
    return PairCounts(labels_t[codes // max(1, len(labels_p))], labels_p[codes % max(1, len(labels_p))], sums)


def merge_pair_counts(a: PairCounts, b: PairCounts) -> PairCounts:
    """Counts of two disjoint sets of rows taken together."""
    if not len(a.weight) or not len(b.weight):
        return a if len(a.weight) else b
    return _compress(*(np.concatenate([x, y]) for x, y in zip(a, b, strict=True)))


class LabelSums(NamedTuple):
    """For each true label (n_labels,), sums over its rows of functions of the prediction (n_labels, k)."""

    labels: Array
    weight: Array
    sums: Array


def _by_label(t: Array, weight: Array, values: Array) -> LabelSums:
    labels, codes = np.unique(t, return_inverse=True)
    total = np.bincount(codes, weights=weight, minlength=len(labels))
    columns = [np.bincount(codes, weights=weight * v, minlength=len(labels)) for v in values.T]
    return LabelSums(labels, total, np.stack(columns, axis=1) if columns else np.zeros((len(labels), 0)))


def merge_label_sums(a: LabelSums, b: LabelSums) -> LabelSums:
    """Sums of two disjoint sets of rows taken together."""
    if not len(a.labels) or not len(b.labels):
        return a if len(a.labels) else b
    labels = np.union1d(a.labels, b.labels)
    weight, sums = np.zeros(len(labels)), np.zeros((len(labels), a.sums.shape[1]))
    for part in (a, b):
        place = np.searchsorted(labels, part.labels)
        weight[place] += part.weight
        sums[place] += part.sums
    return LabelSums(labels, weight, sums)


def log_probabilities(block: Block, params: None) -> LabelSums:
    """Sums of clipped log-probabilities of every class; a 1-D ``p`` is the second class's probability."""
    p = _finite(block.y["p"], "y_pred", block)
    eps = np.finfo(p.dtype if p.dtype.kind == "f" else np.float64).eps
    p = np.asarray(p, dtype=np.float64)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"y_pred has values outside of [0, 1]: {p.min():g} to {p.max():g} in block {block.number}.")
    P = np.column_stack([1 - p, p]) if p.ndim == 1 else p
    return _by_label(_finite(block.y["t"], "y_true", block), _weight(block), np.log(np.clip(P, eps, 1 - eps)))


def squared_probabilities(block: Block, params: None) -> LabelSums:
    """Sums of ``p**2``, then of ``p``, of every class for the Brier score; a 1-D ``p`` is one class."""
    p = np.asarray(_finite(block.y["p"], "y_proba", block), dtype=np.float64)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"y_proba has values outside of [0, 1]: {p.min():g} to {p.max():g} in block {block.number}.")
    return _by_label(_finite(block.y["t"], "y_true", block), _weight(block), np.column_stack([p * p, p]))


class RankParams(NamedTuple):
    """Positive label of each score column, and how many distinct scores may be kept."""

    positive: tuple[Any, ...]
    max_distinct: int


class Ranking(NamedTuple):
    """Distinct scores, ascending, with the weight of positives and negatives at each; one a score column."""

    scores: tuple[Array, ...]
    positive: tuple[Array, ...]
    negative: tuple[Array, ...]
    dropped_bits: tuple[int, ...]
    max_distinct: int


def rank_scores(block: Block, params: RankParams) -> Ranking:
    """Distinct scores of one block."""
    t = _finite(block.y["t"], "y_true", block)
    p = np.asarray(_finite(block.y["p"], "y_score", block), dtype=np.float64)
    p = p[:, None] if p.ndim == 1 else p
    weight = _weight(block)
    hits = [(t == label).astype(np.float64) for label in params.positive]
    return rank_columns(list(p.T), hits, [weight] * len(hits), params.max_distinct)


def rank_columns(
    scores: Sequence[Array], hits: Sequence[Array], weights: Sequence[Array], max_distinct: int
) -> Ranking:
    """Distinct values of each column of scores (rows,), with the weight of hits (1.0) and misses (0.0) at each."""
    parts = [
        _group(_to_key(z), weight * hit, weight * (1 - hit), 0, max_distinct)
        for z, hit, weight in zip(scores, hits, weights, strict=True)
    ]
    return Ranking(*(tuple(column) for column in zip(*parts, strict=True)), max_distinct)  # type: ignore[call-arg,arg-type]


def merge_rankings(a: Ranking, b: Ranking) -> Ranking:
    """Distinct scores of two disjoint sets of rows taken together."""
    parts = []
    for k in range(len(a.scores)):
        bits = max(a.dropped_bits[k], b.dropped_bits[k])
        key = np.concatenate([a.scores[k], b.scores[k]])
        pos = np.concatenate([a.positive[k], b.positive[k]])
        neg = np.concatenate([a.negative[k], b.negative[k]])
        parts.append(_group(key, pos, neg, bits, a.max_distinct))
    return Ranking(*(tuple(column) for column in zip(*parts, strict=True)), a.max_distinct)  # type: ignore[call-arg,arg-type]


def _to_key(score: Array) -> Array:
    """Integers in the order of the scores: the bits of a float, with the negative ones turned around."""
    bits = (score + 0.0).view(np.int64)  # + 0.0 makes one zero of -0.0 and 0.0
    return np.asarray(np.where(bits >= 0, bits, np.int64(-(2**63)) - bits))


def from_key(key: Array) -> Array:
    """The scores whose keys these are.

    >>> from_key(_to_key(np.array([-1.5, -0.0, 2.0]))).tolist()
    [-1.5, 0.0, 2.0]
    """
    return np.where(key >= 0, key, np.int64(-(2**63)) - key).view(np.float64)


def _group(key: Array, pos: Array, neg: Array, bits: int, max_distinct: int) -> tuple[Array, Array, Array, int]:
    """Weights by distinct key. Beyond ``max_distinct`` low bits are dropped, and close scores become ties."""
    while True:
        distinct, place = np.unique(key >> bits << bits, return_inverse=True)
        if len(distinct) <= max_distinct:
            break
        bits = max(bits + 1, 8)
    n = len(distinct)
    return distinct, np.bincount(place, pos, n), np.bincount(place, neg, n), bits


PAIR_COUNTS = Kernel(pair_counts, "count-pairs")
LOG_PROBABILITIES = Kernel(log_probabilities, "log-probabilities")
SQUARED_PROBABILITIES = Kernel(squared_probabilities, "squared-probabilities")
RANK_SCORES = Kernel(
    rank_scores,
    "rank-scores",
    lambda n, d, p: 8 * n * (8 + 4 * len(p.positive)),
    partial_bytes=lambda d, p: 24 * p.max_distinct * len(p.positive),
    gathers=True,
)


class ErrorSums(NamedTuple):
    """Weighted sums of a regression's errors, and moments of the truth; arrays are (n_targets,)."""

    weight: float
    squared: Array
    absolute: Array
    mean: Array
    scatter: Array
    poisson: Array
    """Sums of ``y log y``, ``y`` and the deviance's ``y log(mu) - mu``; NaN where they do not exist. (3, n_targets)"""
    n_rows: int


def error_sums(block: Block, params: bool) -> ErrorSums:
    """Sums over one block; ``params`` says whether the Poisson deviance is asked for."""
    t = np.asarray(_finite(block.y["t"], "y_true", block), dtype=np.float64).reshape(block.n_rows, -1)
    p = np.asarray(_finite(block.y["p"], "y_pred", block), dtype=np.float64).reshape(block.n_rows, -1)
    s = _weight(block)
    total = float(s.sum())
    error = t - p
    mean = s @ t / total if total > 0 else np.zeros(t.shape[1])
    poisson = np.zeros((3, t.shape[1]))
    if params:
        from scipy.special import xlogy

        if len(t) and (t.min() < 0 or p.min() <= 0):
            raise ValueError("The Poisson deviance needs y_true >= 0 and y_pred > 0.")
        poisson = np.stack([s @ xlogy(t, t), s @ t, s @ (xlogy(t, p) - p)])
    return ErrorSums(total, s @ error**2, s @ np.abs(error), mean, s @ (t - mean) ** 2, poisson, block.n_rows)


def merge_error_sums(a: ErrorSums, b: ErrorSums) -> ErrorSums:
    """Sums of two disjoint sets of rows; the truth's moments pairwise (Chan, Golub and LeVeque 1979)."""
    rows = a.n_rows + b.n_rows
    if a.weight == 0 or b.weight == 0:
        return (b if a.weight == 0 else a)._replace(n_rows=rows)
    n = a.weight + b.weight
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + delta**2 * (a.weight * b.weight / n)
    mean = a.mean + delta * (b.weight / n)
    return ErrorSums(n, a.squared + b.squared, a.absolute + b.absolute, mean, scatter, a.poisson + b.poisson, rows)


ERROR_SUMS = Kernel(error_sums, "error-sums")
