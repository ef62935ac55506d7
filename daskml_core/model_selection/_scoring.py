"""Metrics by their scikit-learn names, made of sums that one sweep finds for all models."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn import metrics
from sklearn.metrics import get_scorer

from daskml_core.data.targets import TargetMoments
from daskml_core.kernels.fold_scores import ScoreSums
from daskml_core.kernels.pairs import Ranking
from daskml_core.metrics._probability import MAX_DISTINCT
from daskml_core.sweep import Array


@dataclass(frozen=True, eq=False)
class Found:
    """What the scoring sweep found."""

    sums: ScoreSums | None
    ranking: Ranking | None
    split: Array
    """(m,) split of each model."""
    classes: Array | None
    truth: tuple[TargetMoments, ...] | None
    """Moments of the target over each split's rows."""
    weighted: bool = False


@dataclass(frozen=True)
class Metric:
    """A scorer: what it needs of the rows, and the score of one model; greater is better."""

    need: str
    """"labels", "log_loss", "brier", "errors", "deviance" or "rank"."""
    score: Callable[[Found, int], float]
    binary: bool = False
    """Whether it is for two classes only."""


def _accuracy(found: Found, j: int) -> float:
    assert found.sums is not None and found.sums.labels is not None
    counts = found.sums.labels[j]
    return float(np.trace(counts) / counts.sum())


def _of_labels(function: Callable[..., Any], found: Found, j: int, **options: Any) -> float:
    """scikit-learn's own function, given each pair of labels once with its count as weight."""
    assert found.sums is not None and found.sums.labels is not None and found.classes is not None
    truth, prediction = np.nonzero(found.sums.labels[j])
    counts = found.sums.labels[j][truth, prediction]
    counts = counts if found.weighted else counts.astype(np.int64)
    return float(function(found.classes[truth], found.classes[prediction], sample_weight=counts, **options))


def _log_loss(found: Found, j: int) -> float:
    assert found.sums is not None and found.sums.log_loss is not None
    return -float(found.sums.log_loss[j] / found.sums.rows[found.split[j]])


def _brier(found: Found, j: int) -> float:
    assert found.sums is not None and found.sums.brier is not None
    return -float(found.sums.brier[j] / found.sums.rows[found.split[j]])


def _errors(found: Found, j: int) -> tuple[Array, Array, TargetMoments]:
    assert found.sums is not None and found.sums.squared is not None and found.sums.absolute is not None
    assert found.truth is not None
    return found.sums.squared[j], found.sums.absolute[j], found.truth[found.split[j]]


def _mean_squared(found: Found, j: int) -> float:
    squared, _, truth = _errors(found, j)
    return -float((squared / truth.sum_weight).mean())


def _root_mean_squared(found: Found, j: int) -> float:
    squared, _, truth = _errors(found, j)
    return -float(np.sqrt(squared / truth.sum_weight).mean())


def _mean_absolute(found: Found, j: int) -> float:
    _, absolute, truth = _errors(found, j)
    return -float((absolute / truth.sum_weight).mean())


def _r2(found: Found, j: int) -> float:
    squared, _, truth = _errors(found, j)
    if truth.n_rows < 2:
        warnings.warn("R^2 score is not well-defined with less than two samples.", UserWarning, stacklevel=3)
        return float("nan")
    safe = np.where(truth.scatter > 0, truth.scatter, 1.0)
    constant = np.where(squared == 0, 1.0, 0.0)
    return float(np.where(truth.scatter > 0, 1 - squared / safe, constant).mean())


def _deviance(found: Found, j: int) -> tuple[float, float, TargetMoments]:
    """Half the deviance of the model, and of the mean."""
    assert found.sums is not None and found.sums.deviance is not None and found.sums.y_log_y is not None
    assert found.truth is not None
    truth = found.truth[found.split[j]]
    total = truth.sum_weight * float(truth.mean[0])
    y_log_y = found.sums.y_log_y[found.split[j]]
    return float(y_log_y - total - found.sums.deviance[j]), float(y_log_y - xlogy(total, truth.mean[0])), truth


def _d2(found: Found, j: int) -> float:
    deviance, null, _ = _deviance(found, j)
    return 1 - deviance / null


def _poisson(found: Found, j: int) -> float:
    deviance, _, truth = _deviance(found, j)
    return -2 * deviance / truth.sum_weight


def _of_ranks(function: Callable[..., Any], found: Found, j: int) -> float:
    assert found.ranking is not None
    pos, neg = found.ranking.positive[j], found.ranking.negative[j]
    if pos.sum() == 0 or neg.sum() == 0:
        raise ValueError("Only one class is present in the test rows. The score is not defined in that case.")
    n = len(pos)
    rank = np.arange(n, dtype=np.float64)
    # Each distinct score once a class, with its count.
    truth, scores, weight = np.repeat([1, 0], n), np.concatenate([rank, rank]), np.concatenate([pos, neg])
    return float(function(truth, scores, sample_weight=weight))


def _labels(function: Callable[..., Any], binary: bool = False, **options: Any) -> Metric:
    return Metric("labels", functools.partial(_of_labels, function, **options), binary)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("labels", _accuracy),
    "balanced_accuracy": _labels(metrics.balanced_accuracy_score),
    "matthews_corrcoef": _labels(metrics.matthews_corrcoef),
    "neg_log_loss": Metric("log_loss", _log_loss),
    "neg_brier_score": Metric("brier", _brier, binary=True),
    "roc_auc": Metric("rank", functools.partial(_of_ranks, metrics.roc_auc_score), binary=True),
    "average_precision": Metric("rank", functools.partial(_of_ranks, metrics.average_precision_score), binary=True),
    "r2": Metric("errors", _r2),
    "neg_mean_squared_error": Metric("errors", _mean_squared),
    "neg_root_mean_squared_error": Metric("errors", _root_mean_squared),
    "neg_mean_absolute_error": Metric("errors", _mean_absolute),
    "neg_mean_poisson_deviance": Metric("deviance", _poisson),
    "d2_poisson": Metric("deviance", _d2),
}
for _name, _function in (
    ("f1", metrics.f1_score),
    ("precision", metrics.precision_score),
    ("recall", metrics.recall_score),
    ("jaccard", metrics.jaccard_score),
):
    METRICS[_name] = _labels(_function, binary=True)
    for _average in ("macro", "micro", "weighted"):
        METRICS[f"{_name}_{_average}"] = _labels(_function, average=_average)


def scorers_of(scoring: Any, default: str | None) -> tuple[dict[str, Any], bool]:
    """Scorers by the names under which their results stand, and whether there are several.

    A value is a scikit-learn name or a callable; ``None`` is the estimator's own score.
    """
    if scoring is None:
        return {"score": default}, False
    if isinstance(scoring, str):
        get_scorer(scoring)  # refuses unknown names, naming those there are
        return {"score": scoring}, False
    if callable(scoring):
        return {"score": scoring}, False
    if isinstance(scoring, Mapping):
        named = dict(scoring)
    else:
        names = list(scoring)
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"scoring must be a name, a callable, a list of names or a dict, got {scoring!r}.")
        if len(set(names)) < len(names):
            raise ValueError(f"Duplicate elements were found in scoring: {names}.")
        named = {name: name for name in names}
    for scorer in named.values():
        if isinstance(scorer, str):
            get_scorer(scorer)
        elif not callable(scorer):
            raise ValueError(f"{scorer!r} is neither a scorer's name nor a callable.")
    return named, True


def metric_of(scorer: Any, n_classes: int | None, *, probabilities: bool = True) -> Metric | None:
    """The metric that a sweep can find, or ``None``."""
    metric = METRICS.get(scorer) if isinstance(scorer, str) else None
    if metric is None or (metric.need in ("log_loss", "brier") and not probabilities):
        return None
    of_classes = metric.need in ("labels", "log_loss", "brier", "rank")
    if of_classes != (n_classes is not None) or (metric.binary and n_classes is not None and n_classes > 2):
        return None
    return metric


def distinct_scores(n_models: int) -> int:
    """Distinct scores that may be kept for each of so many models."""
    return max(10_000, MAX_DISTINCT // max(1, n_models))
