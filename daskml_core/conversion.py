"""Fitted estimators as scikit-learn's own: for exporters, registries, and rows that come one at a time.

By public means alone: scikit-learn's estimator is made with the same parameters, and given the fitted attributes that it
documents. Where it predicts from what only its own `fit` sets, it is first fitted to a few made-up rows.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import cluster, kernel_approximation, linear_model, pipeline, preprocessing, svm
from sklearn.utils.validation import check_is_fitted

from daskml_core import conversion_parts as parts
from daskml_core.conversion_parts import CannotConvert
from daskml_core.data.kind import package_of
from daskml_core.sweep import Array
from daskml_core.validate import is_count

_SHARED = ("n_features_in_", "feature_names_in_", "classes_", "coef_", "intercept_")


def to_sklearn(model: Any, *, dtype: Any = None) -> Any:
    """The fitted estimator as scikit-learn's own, with the same predictions.

    Parameters
    ----------
    model : fitted estimator of daskml_core, or a pipeline of such. Searches give their best estimator.
    dtype : "float32" or "float64", optional
        Of the fitted arrays; by default they stay as they are.

    Returns
    -------
    estimator of scikit-learn, with parameters that it knows, ready for pickle, skops, ONNX, and predictions in microseconds.

    Raises
    ------
    UnsupportedDataError : kernels that are callables: see the message.
    sklearn.exceptions.NotFittedError : the model is not fitted.

    Notes
    -----
    Labels are the same; scores and transformed rows agree to rounding. The estimator is of the version of scikit-learn
    that is installed here. It shares no memory with the model.

    Kernel machines, bisecting k-means and k-means by angle become a `Pipeline` of scikit-learn's parts, as its own
    estimators predict from private attributes: an `SVC` is `Nystroem` with the support vectors and a linear machine. With
    more than two classes it predicts by votes of the pairs and has no ``decision_function``; it never has ``predict_proba``.

    Examples
    --------
    >>> from daskml_core.linear_model import Ridge
    >>> model = Ridge().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0])
    >>> model.to_sklearn()
    Ridge()
    """
    if hasattr(model, "best_estimator_"):
        return to_sklearn(model.best_estimator_, dtype=dtype)
    if hasattr(model, "steps"):
        steps = [
            (name, step if step is None or isinstance(step, str) else to_sklearn(step, dtype=dtype))
            for name, step in model.steps
        ]
        return pipeline.Pipeline(steps)
    if package_of(model) == "sklearn":
        return copy.deepcopy(model)
    convert = next((how for kind, how in _CONVERT.items() if kind in (c.__name__ for c in type(model).__mro__)), None)
    if convert is None:
        raise CannotConvert(f"{type(model).__name__} is no estimator of daskml_core that can be converted.")
    check_is_fitted(model)
    converted = convert(model)
    for part in _parts_of(converted):
        for name, value in vars(part).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                setattr(part, name, np.array(value, dtype=dtype, order="C"))
            elif isinstance(value, np.ndarray):
                setattr(part, name, value.copy())
            elif isinstance(value, float) and name == "intercept_":
                # A number of NumPy's, as scikit-learn's fits leave: exporters ask it for its shape.
                setattr(part, name, np.dtype(dtype or np.float64).type(value))
    return converted


def _parts_of(converted: Any) -> list[Any]:
    """The estimators that hold arrays: the steps of a pipeline, and what votes in it."""
    if isinstance(converted, pipeline.Pipeline):
        return [part for _, step in converted.steps for part in _parts_of(step)]
    return [converted, *getattr(converted, "estimators_", ())]


def _made(kind: Any, model: Any, **changes: Any) -> Any:
    """scikit-learn's estimator with those of the model's parameters that it has, too, and that it can take."""
    own = model.get_params(deep=False)
    known = inspect.signature(kind).parameters
    params = {name: own[name] for name in known if name in own} | changes
    if params.get("solver") is not None:
        # The names of solvers are this library's; they have no part in predictions.
        params["solver"] = known["solver"].default
    return kind(**params)


def _give(converted: Any, model: Any, *names: str) -> Any:
    """The estimator with fitted attributes of the model, those that it has."""
    for name in (*_SHARED, *names):
        value = getattr(model, name, None)
        if name in vars(model) and value is not None:
            setattr(converted, name, value)
    return converted


def _linear(kind: Any, *names: str) -> Callable[[Any], Any]:
    """A linear model is its coefficients."""

    def convert(model: Any) -> Any:
        converted = _give(_made(kind, model), model, *names)
        if "n_iter_" in vars(model):
            converted.n_iter_ = model.n_iter_
            if kind is linear_model.LogisticRegression:  # which has an array of them
                converted.n_iter_ = np.array([model.n_iter_], dtype=np.int32)
        return converted

    return convert


def _fitted(converted: Any, *data: Any) -> Any:
    """scikit-learn's estimator fitted to made-up rows, for what only its own fit sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return converted.fit(*data)


def _poisson(model: Any) -> Any:
    fit = _fitted(_made(linear_model.PoissonRegressor, model), np.zeros((2, model.n_features_in_)), np.ones(2))
    return _give(fit, model, "n_iter_")


def _sgd_classifier(model: Any) -> Any:
    made = _made(linear_model.SGDClassifier, model)
    k = len(model.classes_)
    return _give(_fitted(made, np.zeros((k, model.n_features_in_)), model.classes_), model, "n_iter_", "t_")


def _sgd_regressor(model: Any) -> Any:
    made = _made(linear_model.SGDRegressor, model)
    converted = _give(_fitted(made, np.zeros((2, model.n_features_in_)), np.zeros(2)), model, "n_iter_", "t_")
    converted.coef_, converted.intercept_ = np.ravel(model.coef_), np.ravel(model.intercept_)
    return converted


def _centroids(kind: Any) -> Callable[[Any], Any]:
    def convert(model: Any) -> Any:
        if model.metric != "euclidean":
            return parts.by_angle(model, euclidean)
        return euclidean(model)

    def euclidean(model: Any) -> Any:
        centers: Array = np.array(model.cluster_centers_)
        changes = {"n_clusters": len(centers), "init": centers, "n_init": 1, "max_iter": 1}
        # A fit to the centres themselves sets all that predictions need; its parameters are then the model's again.
        converted = _fitted(_made(kind, model, **changes), centers)
        kept = {
            name: value for name, value in _made(kind, model).get_params().items() if name not in ("init", "n_init")
        }
        init = (
            model.init if isinstance(model.init, np.ndarray) or model.init in ("random", "k-means++") else "k-means++"
        )
        given = getattr(model, "n_init", None)
        n_init: Any = given if is_count(given) else "auto"
        converted.set_params(**kept, init=init, n_init=n_init)
        _give(converted, model, "inertia_", "n_iter_", "n_steps_")
        converted.cluster_centers_ = centers
        labels = getattr(model, "labels_", None)
        if isinstance(labels, np.ndarray):
            converted.labels_ = labels
        else:  # lazy: those of the fit to the centres would mislead
            del converted.labels_
        return converted

    return convert


def _kmeans_search(model: Any) -> Any:
    best = model.models_[list(model.n_clusters_).index(model.best_n_clusters_)]
    return _centroids(cluster.KMeans)(best)


def _nystroem(model: Any) -> Any:
    kernel = model._kernel
    changes = {}
    if kernel.name in ("rbf", "poly", "sigmoid"):
        changes["gamma"] = kernel.gamma
    if kernel.name in ("poly", "sigmoid"):
        changes["coef0"] = kernel.coef0
    if kernel.name == "poly":
        changes["degree"] = kernel.degree
    made = _made(kernel_approximation.Nystroem, model, n_components=len(model.components_), **changes)
    converted = _fitted(made, np.asarray(model.components_))
    # scikit-learn multiplies by the transpose of a square matrix, of which ours keeps the rows that are no noise.
    return _give(converted, model, "components_", "component_indices_", "normalization_")


def _rbf_sampler(model: Any) -> Any:
    made = _made(kernel_approximation.RBFSampler, model)
    return _give(_fitted(made, np.ones((2, model.n_features_in_))), model, "random_weights_", "random_offset_")


def _sketch(model: Any) -> Any:
    return _give(copy.deepcopy(model._sketch), model)


def _scaler(kind: Any, *names: str) -> Callable[[Any], Any]:
    def convert(model: Any) -> Any:
        converted = _give(_made(kind, model), model, "n_samples_seen_", *names)
        for name in names:
            if not hasattr(converted, name):
                setattr(converted, name, None)
        return converted

    return convert


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "LinearRegression": _linear(linear_model.LinearRegression, "rank_", "singular_"),
    "RidgeCV": lambda model: _linear(linear_model.Ridge)(_with(model, alpha=model.alpha_)),
    "Ridge": _linear(linear_model.Ridge),
    "LassoCV": lambda model: _linear(linear_model.Lasso, "dual_gap_")(_with(model, alpha=model.alpha_)),
    "ElasticNetCV": lambda model: _linear(linear_model.ElasticNet, "dual_gap_")(
        _with(model, alpha=model.alpha_, l1_ratio=model.l1_ratio_)
    ),
    "Lasso": _linear(linear_model.Lasso, "dual_gap_"),
    "ElasticNet": _linear(linear_model.ElasticNet, "dual_gap_"),
    "LogisticRegressionCV": lambda model: _linear(linear_model.LogisticRegression)(
        _with(model, C=model.C_, l1_ratio=model.l1_ratio_)
    ),
    "LogisticRegression": _linear(linear_model.LogisticRegression),
    "PoissonRegressor": _poisson,
    "HuberRegressor": _linear(linear_model.HuberRegressor, "scale_"),
    "SGDClassifier": _sgd_classifier,
    "SGDRegressor": _sgd_regressor,
    "LinearSVC": _linear(svm.LinearSVC),
    "LinearSVR": _linear(svm.LinearSVR),
    "MiniBatchKMeans": _centroids(cluster.MiniBatchKMeans),
    "KMeansSearch": _kmeans_search,
    "KMeans": _centroids(cluster.KMeans),
    "BisectingKMeans": parts.cluster_tree,
    "SVC": parts.svc,
    "SVR": parts.svr,
    "OneClassSVM": parts.one_class,
    "StandardScaler": _scaler(preprocessing.StandardScaler, "mean_", "var_", "scale_"),
    "MinMaxScaler": _scaler(preprocessing.MinMaxScaler, "data_min_", "data_max_", "data_range_", "scale_", "min_"),
    "Nystroem": _nystroem,
    "RBFSampler": _rbf_sampler,
    "PolynomialCountSketch": _sketch,
}
"""By name of class; those that choose their own penalty before those that they derive from."""


class _With:
    """A model with some parameters of its own."""

    def __init__(self, model: Any, params: dict[str, Any]) -> None:
        vars(self).update(vars(model))
        self._params = model.get_params(deep=False) | params

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return self._params


def _with(model: Any, **params: Any) -> Any:
    return _With(model, {name: float(np.ravel(value)[0]) for name, value in params.items()})
