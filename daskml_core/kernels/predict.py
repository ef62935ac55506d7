"""Predictions of linear models, one output row per input row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_expit, log_softmax

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel


class PredictParams(NamedTuple):
    """W (d, K), b (K,), and how the predictor becomes an output."""

    W: Array
    b: Array
    classes: Array | None = None
    link: str = "identity"
    log: bool = False


def linear_predictor(block: Block, params: PredictParams) -> Array:
    """``X W + b``, float64; (rows,) for one output."""
    X, K = block.X, params.W.shape[1]
    V = params.W.astype(X.dtype)
    Z = np.empty((len(X), K))
    step = tile_rows(X.shape[1], X.dtype.itemsize)
    for lo in range(0, len(X), step):
        # One output is a matrix-vector product: other bits than a matrix of one column, but the same as in training.
        x = X[lo : lo + step]
        Z[lo : lo + step] = (x @ V[:, 0])[:, None] if K == 1 else x @ V
    Z += params.b
    return Z[:, 0] if K == 1 else Z


def exponential_predictor(block: Block, params: PredictParams) -> Array:
    """``exp(X W + b)``: the log link."""
    return np.asarray(np.exp(linear_predictor(block, params)))


def predict_class(block: Block, params: PredictParams) -> Array:
    """The label with the largest score (rows,)."""
    Z = linear_predictor(block, params)
    codes = (Z > 0).astype(np.intp) if Z.ndim == 1 else Z.argmax(axis=1)
    assert params.classes is not None
    return np.asarray(params.classes[codes])


def predict_probability(block: Block, params: PredictParams) -> Array:
    """Class probabilities or their logarithms (rows, n_classes).

    Two classes: logistic. More: softmax, or one-against-rest logistics normalised to one.
    """
    Z = linear_predictor(block, params)
    if Z.ndim == 1:
        L = np.column_stack([log_expit(-Z), log_expit(Z)])
    elif params.link == "softmax":
        L = log_softmax(Z, axis=1) if len(Z) else Z
    else:
        L = log_expit(Z)
        if len(L):
            top = L.max(axis=1, keepdims=True)
            L = L - (top + np.log(np.exp(L - top).sum(axis=1, keepdims=True)))
    return np.asarray(L if params.log else np.exp(L))


def _workspace(n_rows: int, n_features: int, params: Any) -> int:
    return 3 * 8 * n_rows * params.W.shape[1]


LINEAR_PREDICTOR = Kernel(linear_predictor, "linear-predictor", _workspace)
EXPONENTIAL_PREDICTOR = Kernel(exponential_predictor, "exponential-predictor", _workspace)
PREDICT_CLASS = Kernel(predict_class, "predict-class", _workspace)
PREDICT_PROBABILITY = Kernel(predict_probability, "predict-probability", _workspace)
