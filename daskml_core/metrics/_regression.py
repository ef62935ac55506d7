"""Metrics of predicted numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.exceptions import UndefinedMetricWarning

from daskml_core.engine import run_sweeps
from daskml_core.kernels.pairs import ERROR_SUMS, ErrorSums, merge_error_sums
from daskml_core.metrics._pairs import load_pairs
from daskml_core.sweep import Array, Sweep


def _sums(y_true: Any, y_pred: Any, sample_weight: Any, *, poisson: bool = False) -> ErrorSums:
    pairs = load_pairs(y_true, y_pred, sample_weight)
    assert pairs.y is not None
    shapes = pairs.y.dtype["t"].shape, pairs.y.dtype["p"].shape
    if shapes[0] != shapes[1]:
        raise ValueError(f"y_true and y_pred have different number of output: {shapes[0]} != {shapes[1]}.")
    sums: ErrorSums
    (sums,) = run_sweeps(pairs, Sweep(ERROR_SUMS, poisson, merge_error_sums))
    if not sums.weight > 0:
        raise ValueError(f"The sample weights sum to zero ({sums.weight:g}); at least one must be positive.")
    return sums


def _average(values: Array, multioutput: Any) -> Any:
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return values
        if multioutput != "uniform_average":
            raise ValueError(f'multioutput must be "raw_values", "uniform_average" or weights, got {multioutput!r}.')
        return float(values.mean())
    return float(np.average(values, weights=np.asarray(multioutput)))


def mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Mean squared error.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,) or (n_rows, n_outputs)
        In any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional
    multioutput : {"uniform_average", "raw_values"} or weights (n_outputs,), default="uniform_average"

    Returns
    -------
    float, or ndarray (n_outputs,) of "raw_values"

    Examples
    --------
    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    sums = _sums(y_true, y_pred, sample_weight)
    return _average(sums.squared / sums.weight, multioutput)


def root_mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Square root of the mean squared error, a target at a time.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,) or (n_rows, n_outputs)
        In any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional
    multioutput : {"uniform_average", "raw_values"} or weights (n_outputs,), default="uniform_average"

    Returns
    -------
    float, or ndarray (n_outputs,) of "raw_values"

    Examples
    --------
    >>> root_mean_squared_error([1.0, 2.0], [3.0, 4.0])
    2.0
    """
    sums = _sums(y_true, y_pred, sample_weight)
    return _average(np.sqrt(sums.squared / sums.weight), multioutput)


def mean_absolute_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Mean absolute error.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,) or (n_rows, n_outputs)
        In any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional
    multioutput : {"uniform_average", "raw_values"} or weights (n_outputs,), default="uniform_average"

    Returns
    -------
    float, or ndarray (n_outputs,) of "raw_values"

    Examples
    --------
    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    sums = _sums(y_true, y_pred, sample_weight)
    return _average(sums.absolute / sums.weight, multioutput)


def r2_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average") -> Any:
    """Coefficient of determination; 1 for a perfect prediction of a constant, 0 for any other of it, NaN for one row.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,) or (n_rows, n_outputs)
        In any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional
    multioutput : {"uniform_average", "raw_values", "variance_weighted"} or weights (n_outputs,), default="uniform_average"

    Returns
    -------
    float, or ndarray (n_outputs,) of "raw_values"

    Examples
    --------
    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    sums = _sums(y_true, y_pred, sample_weight)
    if sums.n_rows < 2:
        message = "R^2 score is not well-defined with less than two samples."
        warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        return float("nan")
    if isinstance(multioutput, str) and multioutput == "variance_weighted":
        multioutput = sums.scatter if sums.scatter.any() else "uniform_average"
    safe = np.where(sums.scatter > 0, sums.scatter, 1.0)
    constant = np.where(sums.squared == 0, 1.0, 0.0)
    return _average(np.where(sums.scatter > 0, 1 - sums.squared / safe, constant), multioutput)


def d2_poisson_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Part of the Poisson deviance that the prediction explains.

    Parameters
    ----------
    y_true, y_pred : array-like (n_rows,)
        In any container, chunked in any way; read once, together.
    sample_weight : array-like (n_rows,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> round(d2_poisson_score([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), 9)
    1.0
    """
    sums = _sums(y_true, y_pred, sample_weight, poisson=True)
    y_log_y, y, likelihood = sums.poisson[:, 0]
    mean = y / sums.weight
    deviance = y_log_y - y - likelihood
    null = y_log_y - float(xlogy(y, mean))
    return float(1 - deviance / null)
