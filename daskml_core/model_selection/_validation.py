"""Cross-validation of one estimator: scores, and out-of-fold predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from daskml_core.data.output import map_rows
from daskml_core.engine import CheckpointPath, resumable
from daskml_core.kernels.fold_predict import FOLD_PREDICT, FoldPredictParams
from daskml_core.kernels.predict import LINEAR_PREDICTOR, PREDICT_CLASS, PREDICT_PROBABILITY, PredictParams
from daskml_core.linear_model._base import LinearClassifierBase, LinearModel, LinearRegressorBase
from daskml_core.model_selection._batch import shift_and_scale
from daskml_core.model_selection._run import Evaluation, Request, _unwrap, default_scorer, run
from daskml_core.model_selection._scoring import scorers_of
from daskml_core.model_selection._search import PRE_DISPATCH, refuse_jobs
from daskml_core.model_selection._select import take_rows
from daskml_core.responses import takes_lazy
from daskml_core.sweep import Array, RowMap

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")
NAMES = dict(zip(METHODS, ("prediction", "probability", "log_probability", "decision"), strict=True))


@resumable
def cross_validate(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: dict[str, Any] | None = None,
    pre_dispatch: Any = PRE_DISPATCH,
    return_train_score: bool = False,
    return_estimator: bool = False,
    return_indices: bool = False,
    error_score: Any = np.nan,
    checkpoint: CheckpointPath = None,
) -> dict[str, Any]:
    """Scores and times of an estimator on every split; the models of all splits are one batch where it knows lockstep.

    Parameters and keys are scikit-learn's; X, y and what ``params`` holds for the rows in any container. ``n_jobs`` and
    ``pre_dispatch`` have nothing to do here and are refused. ``checkpoint`` is a directory or URL where an interrupted run
    is kept, so that the same one goes on from there.

    Parameters
    ----------
    estimator : estimator or pipeline
    X : array-like (n_rows, n_features)
        In any container.
    y : array-like (n_rows,), optional
    groups : array-like (n_rows,), optional
        For splitters that keep groups together.
    scoring : str, callable, list or dict, optional
        As `GridSearchCV`'s.
    cv : int, splitter or splits, optional
        As `GridSearchCV`'s.
    n_jobs, pre_dispatch : refused
        Models are trained side by side where the data lie.
    verbose : int, default=0
    params : dict, optional
        For ``fit``; what has a value a row is split with the rows.
    return_train_score, return_estimator, return_indices : bool, default=False
    error_score : "raise" or float, default=nan
        The score of a split whose fit fails.
    checkpoint : path, optional
        A directory or URL where an interrupted run is kept, so that the same one goes on from there.

    Returns
    -------
    dict of ndarray (n_splits,)
        scikit-learn's keys: ``test_score`` or ``test_<metric>``, ``fit_time``, ``score_time``, and what else is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LinearRegression
    >>> from daskml_core.model_selection import cross_validate
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> cross_validate(LinearRegression(), X, X[:, 0], cv=3)["test_score"].round(6)
    array([1., 1., 1.])
    """
    refuse_jobs(n_jobs, pre_dispatch)
    scorers, _ = scorers_of(scoring, default_scorer(estimator))
    result = run(
        Request(
            estimator, [{}], X, y, cv=cv, groups=groups, scorers=scorers, params=params or {},
            train_scores=return_train_score, error_score=error_score, verbose=verbose, keep_models=return_estimator,
        )
    )  # fmt: skip
    found: dict[str, Any] = {"fit_time": result.fit_s[0], "score_time": result.score_s[0]}
    if return_estimator:
        found["estimator"] = result.models[0]
    if return_indices:
        splits = list(result.folds.indices())
        found["indices"] = {"train": [a for a, _ in splits], "test": [b for _, b in splits]}
    for name, table in result.test.items():
        found[f"test_{name}"] = table[0]
        if return_train_score:
            found[f"train_{name}"] = result.train[name][0]
    return found


@resumable
def cross_val_score(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: dict[str, Any] | None = None,
    pre_dispatch: Any = PRE_DISPATCH,
    error_score: Any = np.nan,
    checkpoint: CheckpointPath = None,
) -> Array:
    """The score of an estimator on every split (n_splits,), as `cross_validate` with one metric.

    Parameters
    ----------
    estimator : estimator or pipeline
    X : array-like (n_rows, n_features)
        In any container.
    y : array-like (n_rows,), optional
    groups : array-like (n_rows,), optional
        For splitters that keep groups together.
    scoring : str or callable, optional
        One metric; the estimator's own by default.
    cv : int, splitter or splits, optional
        As `GridSearchCV`'s.
    n_jobs, pre_dispatch : refused
        Models are trained side by side where the data lie.
    verbose : int, default=0
    params : dict, optional
        For ``fit``; what has a value a row is split with the rows.
    error_score : "raise" or float, default=nan
    checkpoint : path, optional
        A directory or URL where an interrupted run is kept, so that the same one goes on from there.

    Returns
    -------
    ndarray (n_splits,) float64

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LogisticRegression
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> cross_val_score(LogisticRegression(), X, X[:, 0] > 0, cv=2).shape
    (2,)
    """
    if scoring is not None and not isinstance(scoring, str) and not callable(scoring):
        raise ValueError(f"scoring must be one metric, got {scoring!r}. Use cross_validate for several.")
    found = cross_validate(
        estimator, X, y, groups=groups, scoring=scoring, cv=cv, n_jobs=n_jobs, verbose=verbose, params=params,
        pre_dispatch=pre_dispatch, error_score=error_score,
    )  # fmt: skip
    return np.asarray(found["test_score"])


@resumable
def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: dict[str, Any] | None = None,
    pre_dispatch: Any = PRE_DISPATCH,
    method: str = "predict",
    checkpoint: CheckpointPath = None,
) -> Any:
    """Each row's prediction by the model of the split that holds it out.

    Parameters are scikit-learn's. For linear models the result is in X's container, and lazy where X is: the models are
    trained now, in one batch; rows are predicted when they are asked for. For other estimators it is NumPy.

    Parameters
    ----------
    estimator : estimator or pipeline
    X : array-like (n_rows, n_features)
        In any container.
    y : array-like (n_rows,), optional
    groups : array-like (n_rows,), optional
        For splitters that keep groups together.
    cv : int, splitter or splits, optional
        As `GridSearchCV`'s.
    n_jobs, pre_dispatch : refused
        Models are trained side by side where the data lie.
    verbose : int, default=0
    params : dict, optional
        For ``fit``; what has a value a row is split with the rows.
    method : {"predict", "predict_proba", "predict_log_proba", "decision_function"}, default="predict"
    checkpoint : path, optional
        A directory or URL where an interrupted run is kept, so that the same one goes on from there.

    Returns
    -------
    array (n_rows,) or (n_rows, n_classes)
        For linear models in X's container, lazy where X is; for others NumPy.

    Raises
    ------
    ValueError
        Splits in which a row is held out never, or more than once.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LinearRegression
    >>> X = da.random.default_rng(0).normal(size=(50, 2), chunks=20)
    >>> cross_val_predict(LinearRegression(), X, X[:, 0]).chunks
    ((20, 20, 10),)
    """
    refuse_jobs(n_jobs, pre_dispatch)
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}.")
    request = Request(
        estimator, [{}], X, y, cv=cv, groups=groups, params=params or {}, error_score="raise", verbose=verbose
    )
    result = run(request)
    folds = result.folds
    times = folds.test.sum(axis=0)
    sizes = np.bincount(np.asarray(folds.cell_of(0, folds.n_rows)), minlength=folds.n_cells)
    if (times[sizes > 0] != 1).any():
        raise ValueError("cross_val_predict only works for partitions: every row in the test rows of one split.")
    rows, dim = (X, request.feature_dim) if result.flat is None else (result.flat.X, None)
    if not result.plan.n_batches:
        found, columns = _row_by_row(result, rows, method, estimator, dim), None
    else:
        found, columns = _in_lockstep(result, rows, method)
    if result.flat is None:
        return found
    if columns is None and found.ndim > 1:
        columns = ("class" if is_classifier(estimator) else "target", None)
    return result.flat.onto_grid(getattr(found, "data", found), columns=columns, name=NAMES[method])


def _in_lockstep(result: Evaluation, X: Any, method: str) -> tuple[Any, Any]:
    parts = [_unwrap(model) for model in result.models[0]]
    first = parts[0][1]
    kernel, params, dtype, columns, name, labels = _output(first, method)
    models = []
    for scaler, model, _ in parts:
        own = model._predict_params()
        if scaler is not None:
            shift, scale = shift_and_scale(scaler, len(own.W))
            W = own.W / scale[:, None]
            own = own._replace(W=W, b=own.b - shift @ W)
        models.append(params._replace(W=own.W, b=own.b))
    split_of_cell = result.folds.test.argmax(axis=0)
    shared = FoldPredictParams(kernel, tuple(models), split_of_cell, result.folds.cell_of, columns, dtype)
    dim = "class" if labels is not None else "target"
    names = None if columns is None else (dim, labels)
    row_map = RowMap(FOLD_PREDICT, shared, np.dtype(dtype), columns)
    own_dim = first._feature_dim if result.flat is None else None
    return map_rows(X, row_map, feature_dim=own_dim, columns=names, name=name), names


def _output(model: LinearModel, method: str) -> tuple[Any, PredictParams, Any, int | None, str, Any]:
    """Kernel, parameters, dtype, columns, name and labels of a method's output."""
    if not hasattr(model, method):
        raise AttributeError(f"{type(model).__name__} has no method {method!r}.")
    params = model._predict_params()
    if isinstance(model, LinearRegressorBase):
        columns = None if np.ndim(model.coef_) == 1 else len(model.coef_)
        return model._link_kernel(), params, np.float64, columns, "prediction", None
    assert isinstance(model, LinearClassifierBase)
    classes = model.classes_
    if method == "predict":
        return PREDICT_CLASS, params._replace(classes=classes), classes.dtype, None, "prediction", None
    if method == "decision_function":
        n = None if len(classes) == 2 else len(classes)
        return LINEAR_PREDICTOR, params, np.float64, n, "decision", classes if n else None
    link = "softmax" if getattr(model, "_softmax", False) and len(classes) > 2 else "logistic"
    params = params._replace(link=link, log=method == "predict_log_proba")
    return PREDICT_PROBABILITY, params, np.float64, len(classes), "probability", classes


def _row_by_row(result: Evaluation, X: Any, method: str, estimator: Any, feature_dim: str | None) -> Array:
    out: Array | None = None
    lazy = takes_lazy(estimator)
    for split, model in enumerate(result.models[0]):
        mask = result.folds.rows(split, test=True)
        rows = np.asarray(getattr(model, method)(take_rows(X, mask, lazy=lazy, feature_dim=feature_dim)))
        if out is None:
            out = np.empty((result.folds.n_rows, *rows.shape[1:]), dtype=rows.dtype)
        out = out.astype(np.result_type(out.dtype, rows.dtype), copy=False)
        out[mask] = rows
    assert out is not None
    return out
