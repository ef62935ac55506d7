"""How far two labelings of the same rows agree: all from one sweep that counts the distinct pairs of labels.

The formulas are scikit-learn's, taken of the counts; sums of squares are Python's integers, which do not overflow.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics.cluster import expected_mutual_information

from daskml_core.engine import run_sweeps
from daskml_core.kernels.pairs import PAIR_COUNTS, PairCounts, merge_pair_counts
from daskml_core.metrics._pairs import load_pairs
from daskml_core.sweep import Array, Sweep

AVERAGES = ("arithmetic", "max", "min", "geometric")


def _contingency(labels_true: Any, labels_pred: Any) -> csr_array:
    """Numbers of rows (n_classes, n_clusters), int64, for the pairs of labels that occur."""
    blocks = load_pairs(labels_true, labels_pred)
    assert blocks.y is not None
    for name, field in (("labels_true", "t"), ("labels_pred", "p")):
        if blocks.y.dtype[field].shape:
            raise ValueError(f"{name} must be 1D, got {len(blocks.y.dtype[field].shape) + 1} dimensions.")
    pairs: PairCounts
    (pairs,) = run_sweeps(blocks, Sweep(PAIR_COUNTS, None, merge_pair_counts))
    for name, labels in (("labels_true", pairs.truth), ("labels_pred", pairs.prediction)):
        if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
            warnings.warn(
                f"Clustering metrics expect discrete labels, but {name} holds continuous values.",
                UserWarning,
                stacklevel=3,
            )
    truth, prediction = (np.unique(a, return_inverse=True)[1] for a in (pairs.truth, pairs.prediction))
    return csr_array((np.rint(pairs.weight).astype(np.int64), (truth, prediction)))


def _margins(C: csr_array) -> tuple[Array, Array]:
    return np.asarray(C.sum(axis=1)).ravel(), np.asarray(C.sum(axis=0)).ravel()


def _entropy(rows: Array) -> float:
    if len(rows) == 1:
        return 0.0
    n = rows.sum()
    return float(-((rows / n) * (np.log(rows) - np.log(n))).sum())


def _mutual_information(C: csr_array) -> float:
    a, b = _margins(C)
    if len(a) == 1 or len(b) == 1:
        return 0.0
    pairs = C.tocoo()
    n = float(pairs.data.sum())
    share = pairs.data / n
    # In scikit-learn's order, so that perfect agreement is 1.0 here where it is there; products of integers overflow.
    independent = -np.log(a[pairs.row] * b[pairs.col].astype(np.float64)) + np.log(n) + np.log(n)
    terms = share * (np.log(pairs.data) - np.log(n)) + share * independent
    terms = np.where(np.abs(terms) < np.finfo(np.float64).eps, 0.0, terms)
    return max(0.0, float(terms.sum()))


def _average(u: float, v: float, method: str) -> float:
    if method not in AVERAGES:
        raise ValueError(f"average_method must be one of {list(AVERAGES)}, got {method!r}.")
    means = {"arithmetic": (u + v) / 2, "max": max(u, v), "min": min(u, v), "geometric": float(np.sqrt(u * v))}
    return means[method]


def adjusted_rand_score(labels_true: Any, labels_pred: Any) -> float:
    """Part of the pairs of rows that both labelings treat alike, adjusted for chance (Hubert and Arabie 1985).

    Parameters
    ----------
    labels_true, labels_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.

    Returns
    -------
    float
        1 where they agree, about 0 where they are independent; it may be negative.

    Examples
    --------
    >>> adjusted_rand_score([0, 0, 1, 1], ["b", "b", "a", "a"])
    1.0
    """
    C = _contingency(labels_true, labels_pred)
    a, b = _margins(C)
    n = int(C.data.sum())
    squares, rows, columns = (sum(v * v for v in counts.tolist()) for counts in (C.data, a, b))
    both, apart_pred, apart_true = squares - n, rows - squares, columns - squares
    neither = n * n - squares - apart_pred - apart_true
    if not apart_pred and not apart_true:
        return 1.0
    expected = (both + apart_pred) * (apart_pred + neither) + (both + apart_true) * (apart_true + neither)
    return 2 * (both * neither - apart_pred * apart_true) / expected


def normalized_mutual_info_score(labels_true: Any, labels_pred: Any, *, average_method: str = "arithmetic") -> float:
    """Mutual information of two labelings, divided by a mean of their entropies.

    Parameters
    ----------
    labels_true, labels_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    average_method : {"arithmetic", "max", "min", "geometric"}, default="arithmetic"
        Which mean of the two entropies divides.

    Returns
    -------
    float

    Examples
    --------
    >>> round(normalized_mutual_info_score([0, 0, 1, 1], [0, 0, 1, 2]), 6)
    0.8
    """
    _average(0.0, 0.0, average_method)
    C = _contingency(labels_true, labels_pred)
    a, b = _margins(C)
    if len(a) == len(b) == 1:
        return 1.0
    information = _mutual_information(C)
    return information / _average(_entropy(a), _entropy(b), average_method) if information else 0.0


def adjusted_mutual_info_score(labels_true: Any, labels_pred: Any, *, average_method: str = "arithmetic") -> float:
    """Mutual information of two labelings, adjusted for chance (Vinh, Epps and Bailey 2010).

    The expectation takes time in proportion to rows times labels, in this process.

    Parameters
    ----------
    labels_true, labels_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    average_method : {"arithmetic", "max", "min", "geometric"}, default="arithmetic"
        Which mean of the two entropies divides.

    Returns
    -------
    float

    Examples
    --------
    >>> adjusted_mutual_info_score([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    _average(0.0, 0.0, average_method)
    C = _contingency(labels_true, labels_pred)
    a, b = _margins(C)
    if len(a) == len(b) == 1:
        return 1.0
    if len(a) == 1 or len(b) == 1:
        return 0.0
    expected = float(expected_mutual_information(C, int(C.data.sum())))
    eps = float(np.finfo(np.float64).eps)

    def away_from_zero(value: float) -> float:
        return min(value, -eps) if value < 0 else max(value, eps)

    highest = _average(_entropy(a), _entropy(b), average_method)
    return away_from_zero(_mutual_information(C) - expected) / away_from_zero(highest - expected)


def homogeneity_completeness_v_measure(
    labels_true: Any, labels_pred: Any, *, beta: float = 1.0
) -> tuple[float, float, float]:
    """Whether clusters are of one class, classes in one cluster, and the harmonic mean (Rosenberg and Hirschberg 2007).

    Parameters
    ----------
    labels_true, labels_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    beta : float, default=1.0
        Weight of homogeneity over completeness in the mean: above 1 completeness counts more.

    Returns
    -------
    tuple of three floats in [0, 1]

    Examples
    --------
    >>> homogeneity_completeness_v_measure([0, 0, 1, 1], [0, 0, 1, 1])
    (1.0, 1.0, 1.0)
    """
    if not beta >= 0:
        raise ValueError(f"beta must be a non-negative number, got {beta!r}.")
    C = _contingency(labels_true, labels_pred)
    of_classes, of_clusters = (_entropy(rows) for rows in _margins(C))
    information = _mutual_information(C)
    homogeneity = information / of_classes if of_classes else 1.0
    completeness = information / of_clusters if of_clusters else 1.0
    if homogeneity + completeness == 0:
        return homogeneity, completeness, 0.0
    v = (1 + beta) * homogeneity * completeness / (beta * homogeneity + completeness)
    return homogeneity, completeness, v


def v_measure_score(labels_true: Any, labels_pred: Any, *, beta: float = 1.0) -> float:
    """The harmonic mean of homogeneity and completeness.

    Parameters
    ----------
    labels_true, labels_pred : array-like (n_rows,)
        Labels of any kind, in any container, chunked in any way; read once, together.
    beta : float, default=1.0
        Weight of homogeneity over completeness in the mean: above 1 completeness counts more.

    Returns
    -------
    float in [0, 1]

    Examples
    --------
    >>> v_measure_score([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    return homogeneity_completeness_v_measure(labels_true, labels_pred, beta=beta)[2]
