"""From what the user passes to `fit` to what a solver needs: row-blocks, classes, weights; the checks on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from daskml_core.data import is_lazy, load, refuse_feature_dim, refuse_masked, refuse_no_numbers
from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.data.targets import (
    LABEL_COUNTS,
    TARGET_MOMENTS,
    LabelCounts,
    TargetMoments,
    encode_labels,
    merge_label_counts,
    merge_target_moments,
)
from daskml_core.engine import count_rows, find_complete, run_sweeps
from daskml_core.estimator import require_same_features, set_features
from daskml_core.kernels.finite import first_missing
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import check_flags, non_negative


@dataclass(frozen=True)
class TrainingSet:
    """A data set with what one sweep over its targets told."""

    blocks: RowBlocks
    sum_weight: float
    target_fraction: float
    """Bytes of the targets as a part of all bytes: what the sweep over them counts as."""
    classes: Array | None = None
    class_weight_sums: Array | None = None
    moments: TargetMoments | None = None


def require_target(estimator: Any, y: Any) -> None:
    """Refuse a fit without y, by the estimator's name."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )


def load_with_target(
    estimator: Any, X: Any, y: Any, sample_weight: Any, feature_dim: str | None, reset: bool, **checks: Any
) -> RowBlocks:
    """Row-blocks of the user's data; in-memory input passes scikit-learn's own checks first.

    With ``reset`` the features are recorded, otherwise their number and names must be what they were.
    """
    check_flags(estimator)
    require_target(estimator, y)
    if reset:
        refuse_feature_dim(X, feature_dim)
    if not any(is_lazy(a) for a in (X, y)):
        refuse_no_numbers(X)
        refuse_masked(y, "y")
        dtype = [np.float64, np.float32, np.float16]
        X, y = validate_data(estimator, X, y, reset=reset, accept_sparse=False, dtype=dtype, **checks)
        blocks = load(X, y, sample_weight, count_rows=count_rows)
    else:
        blocks = load(X, y, sample_weight, feature_dim=feature_dim, count_rows=count_rows, find_complete=find_complete)
        if reset:
            set_features(estimator, blocks)
        else:
            require_same_features(estimator, blocks.n_features, blocks.feature_names)
    estimator._feature_dim = feature_dim
    if blocks.n_features == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={(blocks.n_rows, 0)}) while a minimum of 1 is required."
        )
    return blocks


def _targets_only(blocks: RowBlocks) -> RowBlocks:
    return replace(blocks, X=None)


def _fraction(blocks: RowBlocks) -> float:
    targets = [column for column in (blocks.y, blocks.weight) if column is not None]
    if all(column.in_memory for column in targets):
        return 0.0
    total = sum(column.row_bytes for column in blocks.columns)
    return sum(column.row_bytes for column in targets) / total


def _require_weight(sum_weight: float) -> None:
    if not sum_weight > 0:
        raise ValueError(f"The sample weights sum to zero ({sum_weight:g}); at least one must be positive.")


def load_regression(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    feature_dim: str | None,
    *,
    multi_output: bool = False,
    reset: bool = True,
) -> TrainingSet:
    """Data of a regressor: y numeric and finite, (rows,) or (rows, targets) where the model has several outputs."""
    blocks = load_with_target(
        estimator, X, y, sample_weight, feature_dim, reset, multi_output=multi_output, y_numeric=True
    )
    assert blocks.y is not None
    target = blocks.y if multi_output else one_column(blocks.y)
    if target.dtype.kind not in "fiub":
        raise ValueError(f"y has dtype {target.dtype}; a regression needs numbers. Convert it, e.g. y.astype(float).")
    if target.dtype != np.float64:
        target = _as_memory(target.map(_to_float64, dtype=np.float64), target)
    blocks = replace(blocks, y=target)
    (moments,) = run_sweeps(_targets_only(blocks), Sweep(TARGET_MOMENTS, None, merge_target_moments))
    _require_weight(moments.sum_weight)
    return TrainingSet(blocks, float(moments.sum_weight), _fraction(blocks), moments=moments)


def _to_float64(y: Array) -> Array:
    return y.astype(np.float64)


def one_column(y: BlockedArray) -> BlockedArray:
    """y (rows,) of y (rows,) or (rows, 1)."""
    if not y.trailing:
        return y
    if y.trailing != (1,):
        raise ValueError(f"y should be a 1d array, got an array of shape (n_rows, {y.trailing[0]}) instead.")
    return replace(_as_memory(y.map(np.ravel, dtype=y.dtype), y), trailing=())


def _as_memory(derived: Any, source: Any) -> Any:
    """Converted columns of memory are still memory: nothing is read from a source for them."""
    return replace(derived, in_memory=source.in_memory)


def load_classification(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[Any, float] | str | None,
    feature_dim: str | None,
    classes: Array | None = None,
    *,
    reset: bool = True,
) -> TrainingSet:
    """Data of a classifier: labels of any kind, found in one sweep over y, encoded as 0..K-1 wherever y is read."""
    blocks = load_with_target(estimator, X, y, sample_weight, feature_dim, reset)
    assert blocks.y is not None
    if not is_lazy(y) and not is_lazy(X):
        given = np.ravel(np.asarray(y))
        missing = first_missing(given) if given.dtype.kind == "O" else None
        if missing is not None:  # scikit-learn's check would try to sort it
            raise ValueError(f"Input y contains NaN: row {missing} holds {given[missing]!r}.")
        check_classification_targets(given)
    labels = one_column(blocks.y)
    blocks = replace(blocks, y=labels)
    counts: LabelCounts
    (counts,) = run_sweeps(_targets_only(blocks), Sweep(LABEL_COUNTS, None, merge_label_counts))
    found = np.asarray(counts.classes)
    _check_labels(found)
    if classes is None:
        classes, sums = found, np.asarray(counts.weighted, dtype=np.float64)
    else:
        classes = np.asarray(classes)
        unknown = np.setdiff1d(found, classes)
        if len(unknown):
            raise ValueError(
                f"y contains labels that are not in classes: {unknown.tolist()}; classes={classes.tolist()}."
            )
        sums = np.zeros(len(classes))
        sums[np.searchsorted(classes, found)] = counts.weighted
    if len(classes) < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{classes.tolist()[0]!r}"
        )
    fraction = _fraction(blocks)
    y_codes = _as_memory(labels.map(encode_labels, classes, dtype=np.float64), labels)
    weight = blocks.weight
    if class_weight is not None:
        factors = class_factors(class_weight, classes, sums)
        codes = (y_codes,) if weight is None else (y_codes, weight)
        derived = y_codes.map(_class_weights, factors, dtype=np.float64, others=codes[1:])
        weight = replace(derived, in_memory=all(column.in_memory for column in codes), encoded_bytes=None)
        sums = sums * factors
    _require_weight(float(sums.sum()))
    blocks = replace(blocks, y=y_codes, weight=weight)
    return TrainingSet(blocks, float(sums.sum()), fraction, classes=classes, class_weight_sums=sums)


def _check_labels(found: Array) -> None:
    """Refuse real numbers as labels, before hundreds of thousands of classes are trained."""
    if found.dtype.kind == "f" and len(found) and np.any(found != np.floor(found)):
        raise ValueError(
            f"Unknown label type: continuous. y holds real numbers such as {found[found != np.floor(found)][0]}; "
            "a classifier needs discrete labels."
        )


def _class_weights(codes: Array, *rest: Any) -> Array:
    """``class factor * sample weight`` of each row."""
    *weights, factors = rest
    values = np.asarray(factors[codes.astype(np.intp)])
    return values * weights[0] if weights else values


def class_factors(class_weight: Mapping[Any, float] | str, classes: Array, sums: Array) -> Array:
    """Weight of each class; "balanced" is ``n / (K * n_class)`` of the weighted rows, as scikit-learn."""
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be a dict, "balanced" or None, got {class_weight!r}.')
        with np.errstate(divide="ignore"):
            return np.asarray(np.where(sums > 0, sums.sum() / (len(classes) * sums), 0.0))
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'class_weight must be a dict, "balanced" or None, got {class_weight!r}.')
    unknown = [label for label in class_weight if label not in classes.tolist()]
    if unknown:
        raise ValueError(f"The classes, {unknown}, are not in class_weight: y has the classes {classes.tolist()}.")
    weights = {label: non_negative(f"class_weight[{label!r}]", weight) for label, weight in class_weight.items()}
    return np.array([weights.get(label, 1.0) for label in classes.tolist()])
