"""Metrics of predicted labels.

One sweep counts the distinct (truth, prediction) pairs; what is made of them is scikit-learn's own code, given each pair
once with its count as weight. So every option means what it means there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from daskml_core.engine import run_sweeps
from daskml_core.kernels.pairs import PAIR_COUNTS, PairCounts, merge_pair_counts
from daskml_core.metrics._pairs import load_pairs
from daskml_core.sweep import Array, Sweep


def _counts(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    pairs: PairCounts
    (pairs,) = run_sweeps(load_pairs(y_true, y_pred, sample_weight), Sweep(PAIR_COUNTS, None, merge_pair_counts))
    weight = pairs.weight if sample_weight is not None else pairs.weight.astype(np.int64)
    return pairs.truth, pairs.prediction, weight


def accuracy_score(y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None) -> float:
    """Part of the labels that is predicted right, or their number (weight) with ``normalize=False``.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    normalize : bool, default=True
        ``False`` counts in place of dividing.
    sample_weight : array-like (n_rows,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> import dask.array as da
    >>> accuracy_score(da.from_array(["a", "b", "b"], chunks=2), da.from_array(["a", "b", "a"], chunks=1))
    0.6666666666666666
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    return float(metrics.accuracy_score(truth, prediction, normalize=normalize, sample_weight=weight))


def balanced_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, adjusted: bool = False) -> float:
    """Mean recall of the classes.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional
    adjusted : bool, default=False
        0 is then chance, 1 perfect.

    Returns
    -------
    float

    Examples
    --------
    >>> balanced_accuracy_score([0, 0, 0, 1], [0, 0, 1, 1])
    0.8333333333333333
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    return float(metrics.balanced_accuracy_score(truth, prediction, sample_weight=weight, adjusted=adjusted))


def confusion_matrix(
    y_true: Any, y_pred: Any, *, labels: Any = None, sample_weight: Any = None, normalize: str | None = None
) -> Array:
    """Counts (n_classes, n_classes): rows are true labels, columns predicted ones.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    labels : array-like (n_classes,), optional
        The classes and their order; by default all that occur, sorted.
    sample_weight : array-like (n_rows,), optional
    normalize : {"true", "pred", "all"}, optional
        Shares of rows, of columns or of all.

    Returns
    -------
    ndarray (n_classes, n_classes), int64, or float64 with weights or ``normalize``

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [0, 1, 0])
    array([[1, 0],
           [1, 1]])
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    result = metrics.confusion_matrix(truth, prediction, labels=labels, sample_weight=weight, normalize=normalize)
    return np.asarray(result)


def precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Part of the predicted positives that are positive. Options as scikit-learn's.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    labels, pos_label, average, zero_division : as scikit-learn's
    sample_weight : array-like (n_rows,), optional

    Returns
    -------
    float, or ndarray (n_classes,) with ``average=None``

    Examples
    --------
    >>> precision_score([0, 1, 1], [1, 1, 0])
    0.5
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    return metrics.precision_score(
        truth,
        prediction,
        labels=labels,
        pos_label=pos_label,
        average=average,
        sample_weight=weight,
        zero_division=zero_division,
    )


def recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Part of the positives that are predicted as such. Options as scikit-learn's.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    labels, pos_label, average, zero_division : as scikit-learn's
    sample_weight : array-like (n_rows,), optional

    Returns
    -------
    float, or ndarray (n_classes,) with ``average=None``

    Examples
    --------
    >>> recall_score([0, 1, 1], [1, 1, 0])
    0.5
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    return metrics.recall_score(
        truth,
        prediction,
        labels=labels,
        pos_label=pos_label,
        average=average,
        sample_weight=weight,
        zero_division=zero_division,
    )


def f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Harmonic mean of precision and recall. Options as scikit-learn's.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    labels, pos_label, average, zero_division : as scikit-learn's
    sample_weight : array-like (n_rows,), optional

    Returns
    -------
    float, or ndarray (n_classes,) with ``average=None``

    Examples
    --------
    >>> f1_score([0, 1, 1], [1, 1, 0])
    0.5
    """
    truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
    return metrics.f1_score(
        truth,
        prediction,
        labels=labels,
        pos_label=pos_label,
        average=average,
        sample_weight=weight,
        zero_division=zero_division,
    )
