"""Metrics of predicted probabilities and scores."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import metrics

from daskml_core.data.blocks import RowBlocks
from daskml_core.data.targets import LABEL_COUNTS, LabelCounts, merge_label_counts
from daskml_core.engine import run_sweeps
from daskml_core.kernels.pairs import (
    LOG_PROBABILITIES,
    RANK_SCORES,
    SQUARED_PROBABILITIES,
    LabelSums,
    Ranking,
    RankParams,
    merge_label_sums,
    merge_rankings,
)
from daskml_core.metrics._pairs import load_pairs
from daskml_core.sweep import Array, Sweep

MAX_DISTINCT = 4_000_000
"""Distinct scores that an exact AUC may keep: 24 bytes each, about 100 MB."""


def log_loss(
    y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None, labels: Any = None
) -> float:
    """Mean (or summed) negative log-probability of the true class.

    Parameters
    ----------
    y_true : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way.
    y_pred : array-like (n_rows,) or (n_rows, n_classes)
        Probabilities of the second class, or of all in the order of the sorted labels.
    normalize : bool, default=True
        ``False`` gives the sum.
    sample_weight : array-like (n_rows,), optional
    labels : array-like (n_classes,), optional
        All classes, where ``y_true`` may lack one.

    Returns
    -------
    float

    Examples
    --------
    >>> round(log_loss([0, 1], [0.1, 0.8]), 6)
    0.164252
    """
    sums: LabelSums
    (sums,) = run_sweeps(load_pairs(y_true, y_pred, sample_weight), Sweep(LOG_PROBABILITIES, None, merge_label_sums))
    known = sums.labels if labels is None else np.unique(np.asarray(labels))
    K = sums.sums.shape[1]
    if len(known) < 2:
        raise ValueError(
            f"y_true contains only one label ({known[0]!r}). Please provide the true labels explicitly through the "
            "labels argument."
        )
    if len(known) != K:
        raise ValueError(f"y_true and y_pred contain different number of classes: {len(known)} vs {K}.")
    unknown = np.setdiff1d(sums.labels, known)
    if len(unknown):
        raise ValueError(f"y_true contains labels that are not in labels: {unknown.tolist()}.")
    if not sums.weight.sum() > 0:
        raise ValueError("The sample weights sum to zero; at least one must be positive.")
    place = np.searchsorted(known, sums.labels)
    total = -float(sums.sums[np.arange(len(place)), place].sum())
    return total / float(sums.weight.sum()) if normalize else total


def brier_score_loss(
    y_true: Any,
    y_proba: Any,
    *,
    sample_weight: Any = None,
    pos_label: Any = None,
    labels: Any = None,
    scale_by_half: bool | str = "auto",
) -> float:
    """Mean squared difference between predicted probabilities and outcomes.

    Parameters
    ----------
    y_true : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way.
    y_proba : array-like (n_rows,) or (n_rows, n_classes)
        Probabilities of ``pos_label``, or of all in the order of the sorted ``labels``.
    sample_weight : array-like (n_rows,), optional
    pos_label : label, optional
        The class of one column of probabilities; by default the larger of two.
    labels : array-like (n_classes,), optional
        All classes, where ``y_true`` may lack one.
    scale_by_half : bool or "auto", default="auto"
        Halve the sum over classes, between 0 and 1 then; "auto" does so for two classes.

    Returns
    -------
    float

    Examples
    --------
    >>> round(brier_score_loss([0, 1], [0.1, 0.8]), 6)
    0.025
    """
    sums: LabelSums
    (sums,) = run_sweeps(
        load_pairs(y_true, y_proba, sample_weight), Sweep(SQUARED_PROBABILITIES, None, merge_label_sums)
    )
    if not sums.weight.sum() > 0:
        raise ValueError("The sample weights sum to zero; at least one must be positive.")
    K = sums.sums.shape[1] // 2
    known = sums.labels if labels is None else np.unique(np.asarray(labels))
    unknown = np.setdiff1d(sums.labels, known)
    if len(unknown):
        raise ValueError(f"y_true contains labels that are not in labels: {unknown.tolist()}.")
    halve = (K == 1 or len(known) == 2) if scale_by_half == "auto" else bool(scale_by_half)
    if K > 1:
        if len(known) != K:
            raise ValueError(f"y_true and y_proba contain different number of classes: {len(known)} vs {K}.")
        place = np.searchsorted(known, sums.labels)
        own = sums.sums[np.arange(len(place)), K + place].sum()
        total = float((sums.sums[:, :K].sum() - 2 * own + sums.weight.sum()) / sums.weight.sum())
        return total / 2 if halve else total
    if len(known) > 2:
        raise ValueError(f"{len(known)} classes need a probability a class; y_proba has one column.")
    positive = _positive_label(sums.labels, pos_label)
    hit = sums.labels == positive
    squares, plain = sums.sums[:, 0].sum(), sums.sums[hit, 1].sum()
    score = float((squares - 2 * plain + sums.weight[hit].sum()) / sums.weight.sum())
    return score if halve else 2 * score


def _positive_label(labels: Array, pos_label: Any) -> Any:
    if pos_label is None:
        if labels.dtype.kind in "OUS" and len(labels):
            raise ValueError(f"y_true takes value in {labels.tolist()} and pos_label is not specified: pass pos_label.")
        return labels[-1] if len(labels) > 1 else 1
    if len(labels) > 1 and pos_label not in labels.tolist():
        raise ValueError(f"pos_label={pos_label!r} is not a valid label: it should be one of {labels.tolist()}.")
    return pos_label


def _rank(pairs: RowBlocks, positive: tuple[Any, ...], max_distinct: int) -> list[tuple[Array, Array, Array, float]]:
    """Scores, weights of positives and negatives, and the bound on the AUC's error, for every positive label."""
    ranking: Ranking
    # No more distinct scores than rows: for the memory plan, which else would leave room for all that may be kept.
    params = RankParams(positive, min(max_distinct, max(1, pairs.n_rows)))
    (ranking,) = run_sweeps(pairs, Sweep(RANK_SCORES, params, merge_rankings))
    results = []
    for score, pos, neg, bits in zip(
        ranking.scores, ranking.positive, ranking.negative, ranking.dropped_bits, strict=True
    ):
        # Scores that were merged count as ties, half a pair each; the truth lies between none and all of it.
        bound = 0.5 * float(pos @ neg) / max(pos.sum() * neg.sum(), 1e-300) if bits else 0.0
        results.append((score, pos, neg, bound))
    return results


def _tell_bound(bound: float, max_distinct: int) -> None:
    if bound:
        warnings.warn(
            f"More than {max_distinct:_} distinct scores: close ones were merged, and the AUC is exact to "
            f"{bound:.1e}. Raise max_distinct to keep more (24 bytes each).",
            UserWarning,
            stacklevel=3,
        )


def _as_rows(score: Array, pos: Array, neg: Array) -> tuple[Array, Array, Array]:
    """Labels, ranks and weights that scikit-learn takes: each distinct score once a class."""
    n = len(score)
    rank = np.arange(n, dtype=np.float64)
    return np.repeat([1, 0], n), np.concatenate([rank, rank]), np.concatenate([pos, neg])


def _count_labels(pairs: RowBlocks) -> LabelCounts:
    """Sorted labels of the truth and their numbers, found in one sweep."""
    from dataclasses import replace

    assert pairs.y is not None
    truth = replace(pairs, y=pairs.y.map(_truth, dtype=pairs.y.dtype["t"]))
    counts: LabelCounts
    (counts,) = run_sweeps(truth, Sweep(LABEL_COUNTS, None, merge_label_counts))
    return counts


def _labels(pairs: RowBlocks) -> Array:
    return np.asarray(_count_labels(pairs).classes)


def _truth(pairs: Array) -> Array:
    return np.ascontiguousarray(pairs["t"])


def roc_auc_score(
    y_true: Any,
    y_score: Any,
    *,
    average: str | None = "macro",
    sample_weight: Any = None,
    multi_class: str = "raise",
    max_distinct: int = MAX_DISTINCT,
) -> Any:
    """Area under the ROC curve, exact as long as there are at most ``max_distinct`` distinct scores.

    Beyond that close scores are merged and a warning states the bound of the error. One sweep over the truth finds the
    labels, one over truth and scores ranks them.

    Parameters
    ----------
    y_true : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way.
    y_score : array-like (n_rows,) or (n_rows, n_classes)
        Scores of the second of two classes; of all, with ``multi_class="ovr"``.
    average : {"macro", "weighted", "micro", None}, default="macro"
        Over the classes of ``multi_class="ovr"``; ``None`` gives one a class.
    multi_class : {"raise", "ovr"}, default="raise"
        Each class against the rest.
    sample_weight : array-like (n_rows,), optional
    max_distinct : int, default=4 million
        Distinct scores that are kept, 24 bytes each.

    Returns
    -------
    float, or ndarray (n_classes,) with ``average=None``

    Warns
    -----
    UserWarning
        More distinct scores than are kept: the bound of the error.

    Examples
    --------
    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    pairs = load_pairs(y_true, y_score, sample_weight)
    labels = _labels(pairs)
    assert pairs.y is not None
    width = pairs.y.dtype["p"].shape
    if len(labels) < 2:
        raise ValueError("Only one class is present in y_true. ROC AUC score is not defined in that case.")
    if len(labels) == 2 and not width:
        positive: tuple[Any, ...] = (labels[1],)
    else:
        if multi_class != "ovr":
            raise ValueError(f'{len(labels)} classes need multi_class="ovr" and a score a class, got {multi_class!r}.')
        if width != (len(labels),):
            raise ValueError(f"y_score must have one column for each of the {len(labels)} labels, got {width}.")
        positive = tuple(labels)
    ranked = _rank(pairs, positive, max_distinct)
    _tell_bound(max(bound for *_, bound in ranked), max_distinct)
    return _averaged(metrics.roc_auc_score, ranked, average if len(positive) > 1 else "macro")


def _averaged(score: Any, ranked: list[tuple[Array, Array, Array, float]], average: str | None) -> Any:
    """A score of each ranking, or their mean, or that of all rankings put together."""
    if average not in ("macro", "weighted", "micro", None):
        raise ValueError(f'average must be "macro", "weighted", "micro" or None, got {average!r}.')
    parts = [(scores, pos, neg) for scores, pos, neg, _ in ranked]
    if average == "micro":
        scores, pos, neg = (np.concatenate(part) for part in zip(*parts, strict=True))
        distinct, place = np.unique(scores, return_inverse=True)
        parts = [(distinct, np.bincount(place, pos), np.bincount(place, neg))]
    values = []
    for part in parts:
        truth, rank, weight = _as_rows(*part)
        values.append(float(score(truth, rank, sample_weight=weight)))
    if average is None:
        return np.array(values)
    return float(np.average(values, weights=[pos.sum() for _, pos, _ in parts] if average == "weighted" else None))


def average_precision_score(
    y_true: Any,
    y_score: Any,
    *,
    average: str | None = "macro",
    pos_label: Any = 1,
    sample_weight: Any = None,
    max_distinct: int = MAX_DISTINCT,
) -> Any:
    """Average precision, exact as long as there are at most ``max_distinct`` distinct scores.

    Parameters
    ----------
    y_true : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way.
    y_score : array-like (n_rows,) or (n_rows, n_classes)
        Scores of ``pos_label``; of all of more than two classes, each against the rest.
    average : {"macro", "weighted", "micro", None}, default="macro"
        Over more than two classes; ``None`` gives one a class.
    pos_label : label, default=1
        Of two classes.
    sample_weight : array-like (n_rows,), optional
    max_distinct : int, default=4 million
        Distinct scores that are kept, 24 bytes each.

    Returns
    -------
    float, or ndarray (n_classes,) with ``average=None``

    Warns
    -----
    UserWarning
        More distinct scores than are kept: the bound of the error.

    Examples
    --------
    >>> round(average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    pairs = load_pairs(y_true, y_score, sample_weight)
    labels = _labels(pairs)
    assert pairs.y is not None
    width = pairs.y.dtype["p"].shape
    if len(labels) > 2:
        if width != (len(labels),):
            raise ValueError(f"y_score must have one column for each of the {len(labels)} labels, got {width}.")
        if pos_label != 1:
            raise ValueError(f"pos_label={pos_label!r} is of two classes; y_true has the labels {labels.tolist()}.")
        positive: tuple[Any, ...] = tuple(labels)
    else:
        if width:
            raise ValueError(f"Two classes need one score a row, got {width}.")
        if len(labels) == 2 and pos_label not in labels.tolist():
            raise ValueError(f"pos_label={pos_label!r} is not a valid label. It should be one of {labels.tolist()}.")
        positive = (pos_label,)
    ranked = _rank(pairs, positive, max_distinct)
    _tell_bound(max(bound for *_, bound in ranked), max_distinct)
    return _averaged(metrics.average_precision_score, ranked, average if len(positive) > 1 else "macro")
