"""What a model file may name: classes, their fitted attributes, and what each of those looks like.

Everything else is refused, when a file is read and when it is written. A form is written as text: kinds of numbers and a
shape of letters, which stand for the same number throughout an estimator. ``f:k,d`` is a float array (k, d); ``d`` is the
number of features. Kernels are compiled and trust shapes, so that a shape is never taken on a file's word.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from daskml_core.data import is_lazy
from daskml_core.data.kind import package_of
from daskml_core.errors import ModelFileError
from daskml_core.validate import is_count

_FIT = {
    "n_features_in_": "count",
    "feature_names_in_": "text:d",
    "_feature_dim": "none|name",
    "n_sweeps_": "none|number",
}
_SOLVED = _FIT | {"history_": "plain", "n_iter_": "number|i:m", "converged_": "bool"}
_REGRESSOR = _SOLVED | {"coef_": "f:d|f:t,d", "intercept_": "number|f:t"}
_CLASSIFIER = _SOLVED | {"classes_": "labels:c", "coef_": "f:r,d", "intercept_": "f:r"}
_CENTROIDS = _SOLVED | {
    "cluster_centers_": "f:k,d", "inertia_": "number", "labels_": "i:n", "cluster_sizes_": "number|if:k",
    "init_size_": "number",
}  # fmt: skip
_MACHINE = _SOLVED | {
    "_kernel_function": "KernelFunction", "_gamma": "number", "duality_gap_": "number", "fit_status_": "number",
    "support_": "i:s", "support_vectors_": "f:s,d", "n_support_": "i:c", "dual_coef_": "f:e,s", "intercept_": "f:p",
}  # fmt: skip
_SEARCH = {
    "multimetric_": "bool", "n_sweeps_": "none|number", "n_splits_": "number", "scorer_": "plain", "cv_results_": "any",
    "best_index_": "number", "best_params_": "any", "best_score_": "number", "best_estimator_": "estimator",
    "refit_time_": "number", "feature_names_in_": "text:d",
}  # fmt: skip
_RACE = {
    "_feature_dim": "none|name", "n_iter_": "number",
    "cv_results_": "any", "history_": "plain", "best_index_": "number", "best_params_": "any", "best_score_": "number",
    "best_estimator_": "estimator", "classes_": "labels:c", "n_sweeps_": "number", "n_features_in_": "count",
    "feature_names_in_": "text:d",
}  # fmt: skip
_MOMENTS = _FIT | {"_moments": "FeatureMoments", "n_samples_seen_": "number"}
_EACH = dict.fromkeys(("mean_", "var_", "scale_"), "none|f:d")
_MAP = _FIT | {"_n_features_out": "count"}
_PENALTY = {"alpha_": "number", "l1_ratio_": "number", "best_score_": "number"}
_PATH = _PENALTY | {"alphas_": "f:*", "mse_path_": "f:*", "dual_gap_": "number"}

CLASSES: dict[str, tuple[str, dict[str, str]]] = {
    "LinearRegression": ("linear_model", _REGRESSOR | {"rank_": "number", "singular_": "f:q"}),
    "Ridge": ("linear_model", _REGRESSOR),
    "Lasso": ("linear_model", _REGRESSOR | {"dual_gap_": "number|f:t", "l1_ratio": "number"}),
    "ElasticNet": ("linear_model", _REGRESSOR | {"dual_gap_": "number|f:t"}),
    "RidgeCV": ("linear_model", _REGRESSOR | _PENALTY | {"scores_": "f:*", "cv_results_": "any"}),
    "LassoCV": ("linear_model", _REGRESSOR | _PATH),
    "ElasticNetCV": ("linear_model", _REGRESSOR | _PATH),
    "LogisticRegression": ("linear_model", _CLASSIFIER),
    "LogisticRegressionCV": (
        "linear_model",
        _CLASSIFIER | {"Cs_": "f:*", "l1_ratios_": "f:*", "scores_": "f:*", "coefs_paths_": "f:*",
                       "C_": "number|f:*", "l1_ratio_": "number|f:*"},
    ),
    "PoissonRegressor": ("linear_model", _REGRESSOR),
    "HuberRegressor": ("linear_model", _REGRESSOR | {"scale_": "number"}),
    "SGDClassifier": (
        "linear_model", _CLASSIFIER | {"_state": "SGDState", "t_": "number", "_factors": "none|f:u,v"},
    ),
    "SGDRegressor": ("linear_model", _REGRESSOR | {"_state": "SGDState", "t_": "number", "_factors": "none|f:u,v"}),
    "KMeans": ("cluster", _CENTROIDS),
    "MiniBatchKMeans": (
        "cluster", _CENTROIDS | {"_carry": "MiniBatchCarry", "counts_": "f:k", "n_steps_": "number"},
    ),
    "BisectingKMeans": ("cluster", _CENTROIDS | {"_tree": "Tree"}),
    "KMeansSearch": (
        "cluster",
        _CENTROIDS | {"models_": "models", "n_clusters_": "i:*", "inertias_": "f:*", "silhouettes_": "f:*",
                      "gaps_": "none|f:*", "gap_errors_": "none|f:*", "best_n_clusters_": "number"},
    ),
    "SVC": ("svm", _MACHINE | {"classes_": "labels:c", "probA_": "f:p", "probB_": "f:p"}),
    "SVR": ("svm", _MACHINE),
    "OneClassSVM": ("svm", _MACHINE | {"offset_": "number"}),
    "LinearSVC": ("svm", _CLASSIFIER | {"duality_gap_": "number|f:*"}),
    "LinearSVR": ("svm", _REGRESSOR | {"duality_gap_": "number|f:*"}),
    "StandardScaler": ("preprocessing", _MOMENTS | _EACH),
    "MinMaxScaler": (
        "preprocessing",
        _MOMENTS | dict.fromkeys(("data_min_", "data_max_", "data_range_", "scale_", "min_"), "f:d"),
    ),
    "Nystroem": (
        "kernel_approximation",
        _MAP | {"components_": "f:l,d", "component_indices_": "i:l", "normalization_": "f:o,l",
                "_kernel": "KernelFunction"},
    ),
    "RBFSampler": ("kernel_approximation", _MAP | {"random_weights_": "f:d,o", "random_offset_": "f:o"}),
    "PolynomialCountSketch": ("kernel_approximation", _MAP | {"indexHash_": "i:*", "bitHash_": "if:*"}),
    "GridSearchCV": ("model_selection", _SEARCH),
    "RandomizedSearchCV": ("model_selection", _SEARCH),
    "HalvingGridSearchCV": ("model_selection", _RACE),
    "HyperbandSearchCV": ("model_selection", _RACE),
    "Pipeline": ("pipeline", {}),
    "sklearn.Pipeline": ("sklearn.pipeline", {}),
}  # fmt: skip
"""Module and fitted attributes of every estimator; scikit-learn's own pipeline holds ours."""

LEFT_OUT = frozenset({"search_plan_", "_sketch", "_skl_callbacks"})
"""What says how a fit went about it, what is made again from other attributes, and who watched."""

RECORDS: dict[str, tuple[str, dict[str, str]]] = {
    "SGDState": (
        "solvers.sgd",
        {"carry": "SGDCarry", "n_iter": "count0", "value": "number", "best": "number", "stale": "count0",
         "step": "number", "grad_norm": "number", "converged": "bool"},
    ),
    "SGDCarry": (
        "kernels.sgd",
        {"W": "f:d,w", "b": "f:w", "mean_W": "f:d,w", "mean_b": "f:w", "q": "f:d,w", "u": "number", "t": "number",
         "eta": "number", "sum_loss": "number", "n_rows": "count0"},
    ),
    "MiniBatchCarry": (
        "kernels.minibatch",
        {"centers": "f:k,d", "weight": "f:k", "batches": "count0", "since_reassignment": "count0",
         "inertia": "number", "best": "number", "stale": "count0", "moved": "number", "rows": "count0", "done": "bool"},
    ),
    "Tree": ("kernels.bisecting", {"child": "i:x,y", "pairs": "f:x,y,d", "cosine": "bool"}),
    "KernelFunction": (
        "kernels.kernel_functions",
        {"name": "name", "gamma": "number", "coef0": "number", "degree": "count0", "function": "none",
         "shift": "none|f:d"},
    ),
    "FeatureMoments": (
        "kernels.moments",
        {"n_rows": "number", "weight": "number", "mean": "f:d", "scatter": "f:d", "smallest": "f:d", "largest": "f:d"},
    ),
}  # fmt: skip
"""Named tuples and frozen dataclasses that attributes are made of."""

SPLITTERS = {
    **dict.fromkeys(
        ("KFold", "StratifiedKFold", "GroupKFold", "TimeSeriesSplit", "PredefinedSplit"), "model_selection"
    ),
    **dict.fromkeys(("sklearn.KFold", "sklearn.StratifiedKFold", "sklearn.GroupKFold"), "sklearn.model_selection"),
    **dict.fromkeys(("sklearn.TimeSeriesSplit", "sklearn.PredefinedSplit"), "sklearn.model_selection"),
}
"""Folds that may be a parameter of a search."""

MOST_FEATURES = 100_000
"""Most features of a model without an array of their number; others are bounded by the file's size."""

MOST_SKETCH = 1 << 22
"""Most entries of the tables that a count sketch makes."""


def _class(name: str, module: str) -> Any:
    package = "" if module.startswith("sklearn.") else "daskml_core."
    return getattr(importlib.import_module(package + module), name.removeprefix("sklearn."))


def name_of(value: Any) -> tuple[str, str]:
    """Kind of an object ("estimator", "record", "splitter" or "") and its name in a file."""
    own = package_of(value) == "daskml_core"
    name = type(value).__name__ if own else f"sklearn.{type(value).__name__}"
    for kind, known in (("estimator", CLASSES), ("record", RECORDS), ("splitter", SPLITTERS)):
        if name in known:
            entry: Any = known[name]
            if type(value) is _class(name, entry if isinstance(entry, str) else entry[0]):
                return kind, name
    return "", name


def fields_of(name: str) -> Iterable[str]:
    """Fields of a record."""
    return RECORDS[name][1]


def state_of(model: Any, name: str) -> dict[str, Any]:
    """Fitted attributes of an estimator that go into a file.

    Lazy ones (labels of lazy data) are left out. So is, with a warning, what no class of this library sets.
    """
    allowed, params = CLASSES[name][1], set(model.get_params(deep=False))
    found = {}
    for attribute, value in sorted(vars(model).items()):
        if attribute in allowed and attribute not in params:
            if not is_lazy(value):
                found[attribute] = value
        elif attribute not in params and attribute not in LEFT_OUT:
            warnings.warn(
                f"{attribute} of {type(model).__name__} is not saved: no attribute of its class.", stacklevel=4
            )
    return found


def make_record(name: Any, fields: Mapping[str, Any]) -> Any:
    """A record of the named class; its arrays are checked by the estimator that it belongs to."""
    if not isinstance(name, str) or name not in RECORDS:
        raise ModelFileError(f"{name!r} is no record that is known"[:200])
    module, forms = RECORDS[name]
    if set(fields) != set(forms):
        raise ModelFileError(f"a {name} has the fields {sorted(fields)}"[:300])
    return _class(name, module)(**fields)


def make_splitter(name: Any, fields: Mapping[str, Any]) -> Any:
    """Folds of the named class."""
    if not isinstance(name, str) or name not in SPLITTERS:
        raise ModelFileError(f"{name!r} is no way to split that is known"[:200])
    splitter = _class(name, SPLITTERS[name])
    _refuse_unknown(name, fields, inspect.signature(splitter).parameters)
    try:
        return splitter(**fields)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"a {name} cannot be made: {error}"[:300]) from error


def make_estimator(name: Any, params: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
    """An estimator of the named class with its fitted attributes, all of which have been checked.

    Raises
    ------
    ModelFileError : unknown class, parameter or attribute; wrong type or shape.
    """
    if not isinstance(name, str) or name not in CLASSES:
        raise ModelFileError(f"{name!r} is no estimator of daskml_core"[:200])
    module, allowed = CLASSES[name]
    kind = _class(name, module)
    _refuse_unknown(name, params, inspect.signature(kind).parameters)
    _refuse_unknown(name, state, allowed)
    for key, value in params.items():
        _refuse_hidden_models(f"{name}.{key}", key, value)
    try:
        model = kind(**params)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"a {name} cannot be made: {error}"[:300]) from error
    check_state(name, model, state)
    for attribute, value in state.items():
        setattr(model, attribute, value)
    if name == "PolynomialCountSketch" and state:
        model._sketch = _sketch(model)
    return model


def _refuse_unknown(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ModelFileError(f"{name} has no {', '.join(map(repr, unknown))}"[:300])


def _refuse_hidden_models(where: str, key: str, value: Any) -> None:
    """Estimators stand where estimators belong: as ``estimator`` of a search or in the steps of a pipeline."""
    if key == "steps":
        fine = isinstance(value, list) and value and all(
            isinstance(step, tuple) and len(step) == 2 and isinstance(step[0], str)
            and (step[1] == "passthrough" if isinstance(step[1], str) else step[1] is None or _is_estimator(step[1]))
            for step in value
        )  # fmt: skip
        if not fine:
            raise ModelFileError(f"{where} are no steps of a pipeline")
    elif key == "estimator":
        if not _is_estimator(value):
            raise ModelFileError(f"{where} is no estimator")
    elif _is_estimator(value):
        raise ModelFileError(f"{where} is an estimator")


def _is_estimator(value: Any) -> bool:
    return name_of(value)[0] == "estimator"


# -- what attributes look like -------------------------------------------------------------------------------------------


def check_state(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """Refuse fitted attributes of the wrong type or shape, or that contradict each other.

    Raises
    ------
    ModelFileError : naming the attribute.
    """
    sizes: dict[str, int] = {}
    allowed = CLASSES[name][1]
    largest = 0
    if "n_features_in_" in state:
        _require("count", state["n_features_in_"], f"{name}.n_features_in_", sizes)
        sizes["d"] = int(state["n_features_in_"])
    for attribute, value in state.items():
        _require(allowed[attribute], value, f"{name}.{attribute}", sizes)
        largest = max(largest, value.size if isinstance(value, np.ndarray) else 0)
    if sizes.get("d", 0) > max(MOST_FEATURES, largest):
        raise ModelFileError(f"{name}.n_features_in_ is {sizes['d']:,}, and no array has so many")
    for rule in (_classes_fit, _support_fits, _tree_fits, _sketch_fits, _features_fit):
        rule(name, model, state)


def _require(form: str, value: Any, where: str, sizes: dict[str, int]) -> None:
    """Refuse a value that has none of the forms."""
    if not any(_fits(one, value, where, sizes) for one in form.split("|")):
        what = f"an array of {value.dtype}, shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise ModelFileError(f"{where} is {what}, where {form} belongs"[:300])


def _fits(form: str, value: Any, where: str, sizes: dict[str, int]) -> bool:
    kinds, _, shape = form.partition(":")
    if shape:
        return _array_fits(kinds, shape, value, sizes)
    if form in RECORDS:
        return _record_fits(form, value, where, sizes)
    return _PLAIN[form](value)


def _record_fits(name: str, value: Any, where: str, sizes: dict[str, int]) -> bool:
    if name_of(value) != ("record", name):
        return False
    for field, form in RECORDS[name][1].items():
        _require(form, getattr(value, field), f"{where}.{field}", sizes)
    return True


def _array_fits(kinds: str, shape: str, value: Any, sizes: dict[str, int]) -> bool:
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return False
    if not _kind_fits(kinds, value):
        return False
    if shape == "*":
        return True
    letters = shape.split(",")
    if value.ndim != len(letters):
        return False
    return all(sizes.setdefault(letter, n) == n for letter, n in zip(letters, value.shape, strict=True))


def _kind_fits(kinds: str, value: Any) -> bool:
    if kinds == "text":
        return bool(value.dtype == object and all(type(part) is str for part in value.flat))
    if kinds == "labels":
        plain: bool = value.dtype != object or all(
            isinstance(part, str | int | float | np.generic) for part in value.flat
        )
        return bool(plain and value.ndim == 1 and len(value))
    return bool(value.dtype.kind in kinds and value.dtype.isnative and value.dtype.str[1:] != "f2")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_count(value: Any, least: int) -> bool:
    return is_count(value, least) and int(value) < 1 << 62


def _is_plain(value: Any) -> bool:
    """Numbers, text, and lists, tuples and dictionaries of them."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, str | bool | int | float | np.generic)


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "none": lambda value: value is None,
    "name": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool | np.bool_),
    "number": _is_number,
    "count": lambda value: _is_count(value, 1),
    "count0": lambda value: _is_count(value, 0),
    "plain": _is_plain,
    "any": lambda value: True,
    "estimator": _is_estimator,
    "models": lambda value: isinstance(value, list) and all(map(_is_estimator, value)),
}


def _classes_fit(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """Two classes have one score, more have one each."""
    if "classes_" not in state or "coef_" not in state:
        return
    c, rows = len(state["classes_"]), len(state["coef_"])
    if rows != (1 if c == 2 else c) or c < 2:
        raise ModelFileError(f"{name}.coef_ has {rows} rows for {c} classes")


def _support_fits(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """Support vectors of a kernel machine, class by class; a kernel that is known."""
    from daskml_core.kernels.kernel_functions import KERNELS

    function = state.get("_kernel_function", state.get("_kernel"))
    if function is not None and (function.name not in KERNELS or function.degree > 10_000):
        raise ModelFileError(f"{name} has a kernel {function.name!r} of degree {function.degree}"[:200])
    if "support_vectors_" not in state:
        return
    missing = {"dual_coef_", "intercept_", "n_support_", "_kernel_function"} - set(state)
    if missing:
        raise ModelFileError(f"{name} lacks {sorted(missing)}")
    s, counts, rows = len(state["support_vectors_"]), state["n_support_"], len(state["dual_coef_"])
    c = len(state["classes_"]) if "classes_" in state else 0
    pairs = c * (c - 1) // 2 if c else 1
    fine = (counts >= 0).all() and int(counts.sum()) == s and len(state["intercept_"]) == pairs
    fine = fine and (rows == c - 1 and len(counts) == c and c >= 2 if c else rows == 1 and len(counts) == 1)
    if not fine:
        raise ModelFileError(
            f"{name} has {s} support vectors, {counts.tolist()} by class, {rows} rows of coefficients"[:300]
        )


def _tree_fits(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """A tree of splits in which every split and every leaf is reached once, from the root."""
    tree = state.get("_tree")
    if tree is None:
        if name == "BisectingKMeans" and "cluster_centers_" in state:
            raise ModelFileError(f"{name} lacks its tree")
        return
    n, k = len(tree.child), len(state.get("cluster_centers_", ()))
    if tree.child.shape[1:] != (2,) or tree.child.dtype != np.int64:
        raise ModelFileError(f"{name}._tree has children of shape {tree.child.shape}")
    reached = [int(child) for child in tree.child.flat]
    splits, leaves = sorted(c for c in reached if c >= 0), sorted(-1 - c for c in reached if c < 0)
    # Every split but the root is below one of a smaller number: no circles, and nothing out of range.
    upwards = all(child < 0 or child > split for split, pair in enumerate(tree.child.tolist()) for child in pair)
    if splits != list(range(1, n)) or leaves != (list(range(k)) if n else []) or not upwards or (not n and k != 1):
        raise ModelFileError(f"{name}._tree is no tree of {k} leaves")


def _sketch_fits(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """Tables of a count sketch: places below its width, signs."""
    if name != "PolynomialCountSketch" or not state:
        return
    missing = {"indexHash_", "bitHash_", "_n_features_out", "n_features_in_"} - set(state)
    if missing:
        raise ModelFileError(f"{name} lacks {sorted(missing)}")
    places, signs, width = state["indexHash_"], state["bitHash_"], int(state["_n_features_out"])
    degree = model.degree
    if not _is_count(degree, 1) or not _is_number(model.coef0) or not _is_number(model.gamma):
        raise ModelFileError(f"{name} has degree {degree!r}, coef0 {model.coef0!r}, gamma {model.gamma!r}"[:200])
    shape = (int(degree), int(state["n_features_in_"]) + (model.coef0 != 0))
    if places.shape != shape or signs.shape != shape or width * degree > MOST_SKETCH:
        raise ModelFileError(f"{name} has tables of shape {places.shape} for {width} components of degree {degree}")
    if places.min(initial=0) < 0 or places.max(initial=0) >= width or not np.isin(signs, (-1, 1)).all():
        raise ModelFileError(f"{name} has places beyond {width}, or signs other than 1 and -1")


def _features_fit(name: str, model: Any, state: Mapping[str, Any]) -> None:
    """Maps give as many features as they say."""
    width = state.get("_n_features_out")
    for attribute, axis in (("normalization_", 0), ("random_offset_", 0)):
        if attribute in state and state[attribute].shape[axis] != width:
            raise ModelFileError(
                f"{name}._n_features_out is {width!r}, and {attribute} has {state[attribute].shape}"[:200]
            )


def _sketch(model: Any) -> Any:
    """The fitted sketch of scikit-learn's that maps the rows, made again from its tables."""
    from sklearn.kernel_approximation import PolynomialCountSketch

    sketch = PolynomialCountSketch(
        gamma=model.gamma, degree=model.degree, coef0=model.coef0, n_components=model._n_features_out, random_state=0
    ).fit(np.zeros((1, model.n_features_in_)))
    sketch.indexHash_, sketch.bitHash_ = model.indexHash_, model.bitHash_
    return sketch
