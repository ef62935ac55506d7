"""Truth and prediction as one data set, however each is chunked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from daskml_core.data import as_column, cut
from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.data.flat import flatten_columns, on_samples
from daskml_core.engine import count_rows, find_complete
from daskml_core.kernels.pairs import pack_pairs


def _known(column: BlockedArray) -> BlockedArray:
    return column if column.known else count_rows(column)


def _flat(column: BlockedArray) -> BlockedArray:
    """A single column as one value a row."""
    if column.trailing != (1,):
        return column
    return replace(column.map(np.ravel, dtype=column.dtype), trailing=(), in_memory=column.in_memory)


def load_pairs(y_true: Any, y_pred: Any, sample_weight: Any = None) -> RowBlocks:
    """Row-blocks whose ``y`` holds pairs; cut at the prediction's rows, which are dearer to read.

    Where truth or prediction is a DataArray of several sample dimensions, pairs are of the samples in which neither is NaN,
    nor the weight, which may be ``"cos_lat"``; a dimension of outputs is called ``class``, ``target`` or as features are.

    Raises
    ------
    ValueError : numbers of rows that differ, or none.
    """
    if on_samples(y_pred) or on_samples(y_true):
        truth, prediction, weight = flatten_columns(y_true, y_pred, sample_weight, find_complete)
        return _pairs(truth, prediction, weight)
    prediction, truth = _known(_flat(as_column(y_pred, "y_pred"))), _known(_flat(as_column(y_true, "y_true")))
    if prediction.n_rows != truth.n_rows:
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"y_true has {truth.n_rows}, y_pred has {prediction.n_rows}."
        )
    if prediction.n_rows == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    lengths = tuple(int(n) for n in prediction.lengths if n is not None)
    weight = None
    if sample_weight is not None:
        weight = _known(_flat(as_column(sample_weight, "sample_weight")))
        if weight.n_rows != prediction.n_rows:
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"y_true has {truth.n_rows}, sample_weight has {weight.n_rows}."
            )
        weight = cut(weight, lengths)
    return _pairs(cut(truth, lengths), prediction, weight)


def _pairs(truth: BlockedArray, prediction: BlockedArray, weight: BlockedArray | None) -> RowBlocks:
    lengths = tuple(int(n) for n in prediction.lengths if n is not None)
    pairs = truth.map(pack_pairs, dtype=np.float64, others=[prediction])
    pairs = replace(
        pairs,
        dtype=np.dtype([("t", truth.dtype, truth.trailing), ("p", prediction.dtype, prediction.trailing)]),
        trailing=(),
        in_memory=truth.in_memory and prediction.in_memory,
        encoded_bytes=None,
    )
    return RowBlocks(None, pairs, weight, lengths, np.dtype(np.float64))
