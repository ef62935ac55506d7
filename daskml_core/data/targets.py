"""What one sweep over the targets alone tells: the classes and their weights, or the moments of a numeric y."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.finite import first_missing
from daskml_core.sweep import Array, Block, Kernel


class LabelCounts(NamedTuple):
    """Classes seen, sorted, with weighted and plain counts (n_classes,)."""

    classes: Array
    weighted: Array
    rows: Array


def label_counts(block: Block, params: None) -> LabelCounts:
    """Classes of one block."""
    y = block.y
    if y.dtype.kind == "O" and len(y):
        missing = first_missing(y)
        if missing is not None:
            raise ValueError(f"Input y contains NaN: block {block.number}, row {block.start + missing}.")
    if y.dtype == bool:
        # Two counts instead of a sort: ten times as fast for what is the most common target.
        n = np.array([len(y) - np.count_nonzero(y), np.count_nonzero(y)], dtype=np.float64)
        s = block.weight
        ones, total = (n[1], n.sum()) if s is None else (float(s @ y), float(s.sum()))
        seen = n > 0
        return LabelCounts(np.array([False, True])[seen], np.array([total - ones, ones])[seen], n[seen])
    classes, codes = np.unique(y, return_inverse=True)
    codes = codes.reshape(-1)
    rows = np.bincount(codes, minlength=len(classes)).astype(np.float64)
    weighted = rows if block.weight is None else np.bincount(codes, weights=block.weight, minlength=len(classes))
    return LabelCounts(classes, weighted, rows)


def merge_label_counts(a: LabelCounts, b: LabelCounts) -> LabelCounts:
    """Counts of two disjoint sets of rows taken together."""
    if not len(a.classes) or not len(b.classes):
        return a if len(a.classes) else b
    classes = np.union1d(a.classes, b.classes)
    weighted, rows = np.zeros(len(classes)), np.zeros(len(classes))
    for part in (a, b):
        place = np.searchsorted(classes, part.classes)
        weighted[place] += part.weighted
        rows[place] += part.rows
    return LabelCounts(classes, weighted, rows)


def encode_labels(y: Array, classes: Array) -> Array:
    """Codes 0..K-1 of labels among sorted ``classes``, as float64 (rows,).

    >>> encode_labels(np.array(["b", "a"]), np.array(["a", "b"]))
    array([1., 0.])
    """
    if len(y) == 0:
        return np.zeros(0)
    if len(classes) == 2 and y.dtype.kind in "fiub":
        one = y == classes[1]
        if not np.all(one | (y == classes[0])):
            _refuse_unknown(y, classes)
        return np.asarray(one, dtype=np.float64)
    place = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if not np.array_equal(classes[place], y):
        _refuse_unknown(y, classes)
    return np.asarray(place, dtype=np.float64)


def _refuse_unknown(y: Array, classes: Array) -> None:
    unknown = np.setdiff1d(y, classes)[:5]
    raise ValueError(f"y contains labels that are not among the classes {classes.tolist()}: {unknown.tolist()}.")


class TargetMoments(NamedTuple):
    """Weighted moments of a numeric target, combined pairwise; arrays are (n_targets,)."""

    n_rows: int
    sum_weight: float
    mean: Array
    scatter: Array
    smallest: Array


def target_moments(block: Block, params: None) -> TargetMoments:
    """Moments of one block's target."""
    y = block.y.reshape(len(block.y), -1).astype(np.float64)
    s = np.ones(len(y)) if block.weight is None else block.weight
    total = float(s.sum())
    smallest = y.min(axis=0, initial=np.inf)
    if total <= 0:
        zero = np.zeros(y.shape[1])
        return TargetMoments(len(y), 0.0, zero, zero.copy(), smallest)
    mean = s @ y / total
    return TargetMoments(len(y), total, mean, s @ np.square(y - mean), smallest)


def merge_target_moments(a: TargetMoments, b: TargetMoments) -> TargetMoments:
    """Moments of two disjoint sets of rows taken together (Chan, Golub and LeVeque 1979)."""
    n_rows, smallest = a.n_rows + b.n_rows, np.minimum(a.smallest, b.smallest)
    if a.sum_weight == 0 or b.sum_weight == 0:
        return (b if a.sum_weight == 0 else a)._replace(n_rows=n_rows, smallest=smallest)
    total = a.sum_weight + b.sum_weight
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.sum_weight / total)
    scatter = a.scatter + b.scatter + delta**2 * (a.sum_weight * b.sum_weight / total)
    return TargetMoments(n_rows, total, mean, scatter, smallest)


LABEL_COUNTS = Kernel(label_counts, "count-labels")
TARGET_MOMENTS = Kernel(target_moments, "target-moments")

__all__: list[Any] = [
    "LABEL_COUNTS",
    "TARGET_MOMENTS",
    "LabelCounts",
    "TargetMoments",
    "encode_labels",
    "merge_label_counts",
    "merge_target_moments",
]
