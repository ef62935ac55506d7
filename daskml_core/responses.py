"""What a fitted estimator says of rows, lazily where the rows are lazy: labels, or one column of scores a curve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.data import as_blocked, is_lazy
from daskml_core.data.kind import package_of
from daskml_core.data.output import map_rows
from daskml_core.data.read import compute_dtype
from daskml_core.estimator import SweepEstimator
from daskml_core.sweep import Array, Block, Kernel, RowMap

METHODS = ("predict_proba", "decision_function")


class EstimatorRows(NamedTuple):
    """An estimator in memory, and the method that is asked."""

    estimator: Any
    method: str


def _rows_of(block: Block, params: EstimatorRows) -> Array:
    """The estimator's answer for one block; it cannot be asked about a block without rows."""
    if not block.n_rows:
        one = np.asarray(getattr(params.estimator, params.method)(np.zeros((1, block.X.shape[1]), block.X.dtype)))
        return one[:0]
    return np.asarray(getattr(params.estimator, params.method)(block.X))


ESTIMATOR_ROWS = Kernel(_rows_of, lambda params: params.method.replace("_", "-"))


def takes_lazy(estimator: Any) -> bool:
    """Whether an estimator is one of this library's, which take any container; a pipeline, if all of its steps are."""
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    return all(isinstance(step, SweepEstimator | str | None) or package_of(step) == "daskml_core" for step in steps)


def respond(estimator: Any, X: Any, method: str = "predict", *, feature_dim: str | None = None) -> Any:
    """The answer of any fitted estimator in X's container, lazy where X is lazy; nothing is read for it.

    An estimator that takes arrays in memory alone, such as one of scikit-learn's, is asked block by block.
    """
    if not is_lazy(X) or takes_lazy(estimator):
        return getattr(estimator, method)(X)
    column, _ = as_blocked(X, feature_dim=feature_dim)
    dtype = compute_dtype(column.dtype)
    sample = np.asarray(getattr(estimator, method)(np.zeros((1, column.trailing[0]), dtype)))
    n_columns = None if sample.ndim == 1 else sample.shape[1]
    labels = estimator.classes_ if n_columns and method in METHODS and hasattr(estimator, "classes_") else None
    columns = None if n_columns is None else ("class" if labels is not None else "target", labels)
    kind = estimator.classes_.dtype if method == "predict" and hasattr(estimator, "classes_") else sample.dtype
    row_map = RowMap(ESTIMATOR_ROWS, EstimatorRows(estimator, method), np.dtype(kind), n_columns)
    return map_rows(X, row_map, feature_dim=feature_dim, columns=columns, name="prediction")


def take_column(table: Any, k: int) -> Any:
    """One column of scores (rows..., classes), in the container that they came in."""
    if hasattr(table, "dims") and hasattr(table, "isel"):
        dim = "class" if "class" in table.dims else table.dims[-1]
        return table.isel({dim: k}, drop=True)
    return table[..., k]


def scores_for_curve(
    estimator: Any, X: Any, response_method: Any = "auto", pos_label: Any = None
) -> tuple[Any, Any, list[Any]]:
    """Scores of a classifier: a column for two classes, a column a class for more; the positive label; the classes.

    As scikit-learn: probabilities where there are any, otherwise decision values; turned around where ``pos_label`` is the
    first class.

    Raises
    ------
    ValueError : no classifier, a method that it does not have, a label that it does not know.
    """
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ValueError(f"{type(estimator).__name__} is no fitted classifier: there is no curve to draw.")
    classes = np.asarray(classes).tolist()
    wanted = METHODS if response_method == "auto" else [response_method]
    found = [method for method in wanted if method in METHODS and hasattr(estimator, method)]
    if not found:
        raise ValueError(f"{type(estimator).__name__} has none of the methods {list(wanted)} that scores come from.")
    method = found[0]
    if len(classes) > 2:
        if pos_label is not None:
            raise ValueError(f"pos_label={pos_label!r} is of two classes; of {len(classes)} each has its own curve.")
        return respond(estimator, X, method), None, classes
    pos_label = classes[-1] if pos_label is None else pos_label
    if pos_label not in classes:
        raise ValueError(f"pos_label={pos_label!r} is not a class of the model, which knows {classes}.")
    scores = respond(estimator, X, method)
    if method == "predict_proba":
        return take_column(scores, classes.index(pos_label)), pos_label, classes
    return (-scores if pos_label == classes[0] else scores), pos_label, classes
