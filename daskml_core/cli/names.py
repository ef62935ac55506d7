"""What the command line knows by name: estimators of this library, and metrics. Nothing else is imported from a string."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

ESTIMATORS = {
    "cluster": ("BisectingKMeans", "KMeans", "KMeansSearch", "MiniBatchKMeans"),
    "kernel_approximation": ("Nystroem", "PolynomialCountSketch", "RBFSampler"),
    "linear_model": (
        "ElasticNet",
        "ElasticNetCV",
        "HuberRegressor",
        "Lasso",
        "LassoCV",
        "LinearRegression",
        "LogisticRegression",
        "LogisticRegressionCV",
        "PoissonRegressor",
        "Ridge",
        "RidgeCV",
        "SGDClassifier",
        "SGDRegressor",
    ),
    "preprocessing": ("MinMaxScaler", "StandardScaler"),
    "svm": ("LinearSVC", "LinearSVR", "OneClassSVM", "SVC", "SVR"),
}
"""By module; written down, so that help needs no import of them."""

OF_LABELS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
    "r2",
    "d2_poisson",
    "mean_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
    "adjusted_rand",
    "adjusted_mutual_info",
    "normalized_mutual_info",
    "v_measure",
)
OF_PROBABILITIES = ("log_loss",)
OF_SCORES = ("roc_auc", "average_precision")
METRICS = (*OF_LABELS, *OF_PROBABILITIES, *OF_SCORES)


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question about the nearest of the names that are known, or nothing.

    >>> suggestion("kmeans", ["KMeans", "Ridge"])
    ' Did you mean KMeans?'
    """
    folded = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), folded, 1, 0.6)
    return f" Did you mean {folded[close[0]]}?" if close else ""


def estimator(name: str, settings: Sequence[str]) -> Any:
    """An estimator of this library with its parameters.

    Parameters
    ----------
    name : ``KMeans`` or ``daskml_core.cluster.KMeans``.
    settings : ``parameter=value``, values as Python writes them.

    Raises
    ------
    ValueError : an estimator or a parameter that there is not.

    Examples
    --------
    >>> estimator("KMeans", ["n_clusters=3", "init=random"])
    KMeans(init='random', n_clusters=3)
    """
    places = {short: module for module, names in ESTIMATORS.items() for short in names}
    full, _, short = name.rpartition(".")
    if short not in places or full not in ("", places[short], f"daskml_core.{places[short]}"):
        raise ValueError(
            f"There is no estimator {name}.{suggestion(short, places)} `dask ml estimators` lists those that there are."
        )
    kind = getattr(importlib.import_module(f"daskml_core.{places[short]}"), short)
    known = inspect.signature(kind).parameters
    parameters = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes parameter=value, got {setting}.")
        if key not in known:
            raise ValueError(
                f"{short} has no parameter {key}.{suggestion(key, known)} It has: {', '.join(sorted(known))}."
            )
        parameters[key] = value_of(value)
    return kind(**parameters)


def value_of(text: str) -> Any:
    """A value as Python writes it, or the text itself.

    >>> value_of("8"), value_of("1e-3"), value_of("(0.1, 1)"), value_of("random"), value_of("true"), value_of("none")
    (8, 0.001, (0.1, 1), 'random', True, None)
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def metric(name: str) -> Any:
    """A function of this library's metrics, ``accuracy`` or ``accuracy_score``.

    Raises
    ------
    ValueError : a metric that there is not.
    """
    from daskml_core import metrics

    short = name.removesuffix("_score")
    if short not in METRICS:
        raise ValueError(f"There is no metric {name}.{suggestion(short, METRICS)} There are: {', '.join(METRICS)}.")
    return getattr(metrics, short, None) or getattr(metrics, f"{short}_score")
