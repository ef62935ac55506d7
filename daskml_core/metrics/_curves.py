"""Curves over all thresholds of a score: one sweep ranks the distinct scores, the rest is scikit-learn's own code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics

from daskml_core.data.targets import LabelCounts
from daskml_core.kernels.pairs import from_key
from daskml_core.metrics._pairs import load_pairs
from daskml_core.metrics._probability import MAX_DISTINCT, _count_labels, _positive_label, _rank, _tell_bound
from daskml_core.sweep import Array


class RankedScores(NamedTuple):
    """Distinct scores, ascending, with the weight of positives and of negatives at each: all that a curve needs."""

    scores: Array
    positive: Array
    negative: Array
    label: Any
    """The positive one."""
    prevalence: float
    """Rows with it, of all rows, whatever they weigh."""

    def rows(self) -> tuple[Array, Array, Array]:
        """Truth, scores and weights that scikit-learn's functions take: each distinct score once a class."""
        n = len(self.scores)
        return (
            np.repeat([1, 0], n),
            np.concatenate([self.scores, self.scores]),
            np.concatenate([self.positive, self.negative]),
        )

    def roc(self, drop_intermediate: bool) -> tuple[Array, Array, Array]:
        """False positive rates, true positive rates, thresholds."""
        truth, score, weight = self.rows()
        return metrics.roc_curve(truth, score, pos_label=1, sample_weight=weight, drop_intermediate=drop_intermediate)

    def precision_recall(self, drop_intermediate: bool) -> tuple[Array, Array, Array]:
        """Precision, recall, thresholds."""
        truth, score, weight = self.rows()
        return metrics.precision_recall_curve(
            truth, score, pos_label=1, sample_weight=weight, drop_intermediate=drop_intermediate
        )

    def average_precision(self) -> float:
        """The area under the steps of precision over recall."""
        truth, score, weight = self.rows()
        return float(metrics.average_precision_score(truth, score, sample_weight=weight))


def rank(
    y_true: Any,
    y_score: Any,
    *,
    sample_weight: Any = None,
    pos_label: Any = None,
    classes: Sequence[Any] | None = None,
    max_distinct: int = MAX_DISTINCT,
) -> list[RankedScores]:
    """Ranked scores: one for a column of scores, or one a class for a score a class, each against the rest.

    One sweep over the truth for its labels, one over both.

    Raises
    ------
    ValueError : one class alone; labels of which the positive one cannot be told; other numbers of columns and classes.
    """
    pairs = load_pairs(y_true, y_score, sample_weight)
    counts: LabelCounts = _count_labels(pairs)
    assert pairs.y is not None
    width = pairs.y.dtype["p"].shape
    labels = np.asarray(counts.classes)
    if len(labels) < 2:
        raise ValueError(f"Only one class is present in y_true: {labels.tolist()}. A curve needs two.")
    if width:
        known = labels if classes is None else np.asarray(classes)
        if width != (len(known),):
            raise ValueError(f"y_score must have one column for each of the {len(known)} classes, got {width}.")
        positive: tuple[Any, ...] = tuple(known)
    else:
        if len(labels) > 2:
            raise ValueError(f"y_true has {len(labels)} classes and y_score one column: a score a class is needed.")
        if pos_label is None and not set(labels.tolist()) <= {-1, 0, 1}:
            raise ValueError(
                f"y_true takes values in {labels.tolist()} and pos_label is not specified: pass pos_label."
            )
        positive = (_positive_label(labels, pos_label),)
    max_distinct = min(max_distinct, pairs.n_rows)  # what the memory plan counts
    ranked = _rank(pairs, positive, max_distinct)
    _tell_bound(max(bound for *_, bound in ranked), max_distinct)
    share = dict(zip(labels.tolist(), counts.rows / counts.rows.sum(), strict=True))
    return [
        RankedScores(from_key(keys), pos, neg, label, float(share.get(label, 0.0)))
        for label, (keys, pos, neg, _) in zip(positive, ranked, strict=True)
        if label in share
    ]


def roc_curve(
    y_true: Any,
    y_score: Any,
    *,
    pos_label: Any = None,
    sample_weight: Any = None,
    drop_intermediate: bool = True,
    max_distinct: int = MAX_DISTINCT,
) -> tuple[Array, Array, Array]:
    """False positive rates, true positive rates and thresholds, exact up to ``max_distinct`` distinct scores.

    scikit-learn's, for lazy input: one sweep over the truth, one over truth and scores. Beyond ``max_distinct`` close scores
    are merged, and a warning states the bound on the area's error.

    Parameters
    ----------
    y_true : array-like (n_rows,) of two labels
    y_score : array-like (n_rows,) of probabilities or decision values
    pos_label : label, optional
        By default 1, where the labels are {0, 1} or {-1, 1}.
    sample_weight : array-like (n_rows,), optional
    drop_intermediate : bool
        Leave out thresholds that do not bend the curve.
    max_distinct : int
        Most distinct scores that are kept apart.

    Returns
    -------
    fpr, tpr, thresholds : ndarray (n_thresholds,), thresholds descending from infinity.

    Examples
    --------
    >>> fpr, tpr, thresholds = roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> fpr.tolist(), tpr.tolist(), thresholds.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0], [inf, 0.8, 0.4, 0.35, 0.1])
    """
    (ranked,) = _one_column(y_true, y_score, pos_label, sample_weight, max_distinct)
    return ranked.roc(drop_intermediate)


def precision_recall_curve(
    y_true: Any,
    y_score: Any,
    *,
    pos_label: Any = None,
    sample_weight: Any = None,
    drop_intermediate: bool = False,
    max_distinct: int = MAX_DISTINCT,
) -> tuple[Array, Array, Array]:
    """Precision, recall and thresholds, exact up to ``max_distinct`` distinct scores.

    scikit-learn's, for lazy input: one sweep over the truth, one over truth and scores.
    Beyond ``max_distinct`` as `roc_curve`.

    Parameters
    ----------
    y_true : array-like (n_rows,) of two labels
    y_score : array-like (n_rows,) of probabilities or decision values
    pos_label : label, optional
        By default 1, where the labels are {0, 1} or {-1, 1}.
    sample_weight : array-like (n_rows,), optional
    drop_intermediate : bool
        Leave out thresholds that do not bend the curve.
    max_distinct : int
        Most distinct scores that are kept apart.

    Returns
    -------
    precision, recall : ndarray (n_thresholds + 1,)
    thresholds : ndarray (n_thresholds,), ascending.

    Examples
    --------
    >>> precision, recall, thresholds = precision_recall_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> precision.round(3).tolist(), recall.tolist()
    ([0.5, 0.667, 0.5, 1.0, 1.0], [1.0, 1.0, 0.5, 0.5, 0.0])
    """
    (ranked,) = _one_column(y_true, y_score, pos_label, sample_weight, max_distinct)
    return ranked.precision_recall(drop_intermediate)


def _one_column(y_true: Any, y_score: Any, pos_label: Any, sample_weight: Any, max_distinct: int) -> list[RankedScores]:
    found = rank(y_true, y_score, sample_weight=sample_weight, pos_label=pos_label, max_distinct=max_distinct)
    if getattr(y_score, "ndim", 1) > 1 and len(found) > 1:
        raise ValueError(f"A curve is of one column of scores, got {len(found)}. Take one, e.g. y_score[:, 1].")
    return found
