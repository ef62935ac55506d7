"""How compact and how far apart clusters are: silhouettes, Davies-Bouldin, Calinski-Harabasz."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from daskml_core.data import load
from daskml_core.data.blocks import RowBlocks
from daskml_core.data.targets import LABEL_COUNTS, LabelCounts, merge_label_counts
from daskml_core.engine import Engine, count_rows, find_complete, run_sweeps
from daskml_core.kernels.clusters import (
    DISTANCES_TO_CLUSTERS,
    DISTANCES_TO_OWN,
    SIMPLIFIED,
    CenterParams,
    ClusterMoments,
    ClusterSums,
    QueryParams,
    moments_sweep,
    silhouettes_of,
)
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import positive_integer, random_seed

METHODS = ("auto", "exact", "sampled", "simplified")
METRICS = ("euclidean", "cosine")

EXACT_ROWS = 10_000
"""Most rows whose silhouettes "auto" computes exactly: 10^8 distances."""

SAMPLED_ROWS = 10_000_000
"""Most rows that "auto" takes distances to from a sample: 10^10. Beyond, silhouettes are simplified."""

SILHOUETTE_SAMPLE = 1000
"""Rows sampled: the standard error is 0.01 where silhouettes scatter by 0.3."""


def _load(X: Any, labels: Any) -> RowBlocks:
    blocks = load(X, labels, count_rows=count_rows, find_complete=find_complete)
    assert blocks.y is not None
    if blocks.y.trailing:
        raise ValueError(f"labels must be 1D: shape is {(blocks.n_rows, *blocks.y.trailing)}.")
    return blocks


def _check_number(n_labels: int, n_rows: int) -> None:
    if not 1 < n_labels < n_rows:
        raise ValueError(
            f"Number of labels is {n_labels}. Valid values are 2 to n_samples - 1 (inclusive); there are {n_rows} rows."
        )


def _given_centers(centers: Any, blocks: RowBlocks) -> Array:
    C = np.array(centers, dtype=np.float64)
    if C.ndim != 2 or C.shape[1] != blocks.n_features:
        raise ValueError(f"centers must be (n_clusters, {blocks.n_features}), got the shape {C.shape}.")
    if not np.isfinite(C).all():
        raise ValueError("centers contain NaN or infinity.")
    return np.ascontiguousarray(C)


def calinski_harabasz_score(X: Any, labels: Any) -> float:
    """Variance between the clusters over variance inside them, each by its degrees of freedom; one sweep.

    Parameters
    ----------
    X : array-like (n_rows, n_features)
        In any container.
    labels : array-like (n_rows,)
        In any container, chunked in any way.

    Returns
    -------
    float
        Larger is better.

    Examples
    --------
    >>> calinski_harabasz_score([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    32.0
    """
    blocks = _load(X, labels)
    moments: ClusterMoments
    (moments,) = run_sweeps(blocks, moments_sweep())
    k, n = len(moments.classes), blocks.n_rows
    _check_number(k, n)
    mean = moments.rows @ moments.mean / n
    between = float(moments.rows @ np.square(moments.mean - mean).sum(axis=1))
    within = float(moments.scatter.sum())
    return 1.0 if within == 0 else between * (n - k) / (within * (k - 1.0))


def davies_bouldin_score(X: Any, labels: Any, *, centers: Any = None) -> float:
    """Mean over the clusters of their likeness to the most similar other one; two sweeps, or one with ``centers``.

    Parameters
    ----------
    X : array-like (n_rows, n_features)
        In any container.
    labels : array-like (n_rows,)
        In any container, chunked in any way.
    centers : array-like (n_clusters, n_features), optional
        Saves the sweep for the clusters' means. ``labels`` are then the numbers of centres: a model's ``labels_`` and
        ``cluster_centers_``. The score is as far from scikit-learn's as the centres are from the means.

    Returns
    -------
    float
        Smaller is better.

    Examples
    --------
    >>> davies_bouldin_score([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    0.25
    """
    blocks = _load(X, labels)
    engine = Engine(blocks, kernels=[(DISTANCES_TO_OWN, CenterParams(np.zeros((1, blocks.n_features))))])
    try:
        params = _centers(engine, blocks, centers)
        sums: ClusterSums
        (sums,) = engine.sweep(Sweep(DISTANCES_TO_OWN, params))
    finally:
        engine.close()
    there = sums.rows > 0
    _check_number(int(there.sum()), blocks.n_rows)
    return _davies_bouldin(params.C[there], sums.total[there] / sums.rows[there])


def _davies_bouldin(C: Array, spread: Array) -> float:
    """Of centres (k, d) and mean distances (k,) to them."""
    scores, touching = np.zeros(len(C)), True
    for j, c in enumerate(C):
        between = np.sqrt(np.square(C - c).sum(axis=1))
        touching = touching and bool(np.allclose(between, 0))
        between[between == 0] = np.inf
        scores[j] = ((spread[j] + spread) / between).max()
    return 0.0 if touching or np.allclose(spread, 0) else float(scores.mean())


def _centers(engine: Engine, blocks: RowBlocks, centers: Any, *, cosine: bool = False) -> CenterParams:
    """The centres given, or the clusters' means, for one sweep."""
    if centers is not None:
        return CenterParams(_directions(_given_centers(centers, blocks), cosine), None, cosine)
    moments: ClusterMoments
    (moments,) = engine.sweep(moments_sweep())
    _check_number(len(moments.classes), blocks.n_rows)
    return CenterParams(_directions(moments.mean, cosine), moments.classes, cosine)


def _directions(C: Array, cosine: bool) -> Array:
    if not cosine:
        return C
    lengths = np.linalg.norm(C, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError('A center is a zero vector: metric="cosine" needs a direction.')
    return np.asarray(C / lengths)


def silhouette_score(
    X: Any,
    labels: Any,
    *,
    metric: str = "euclidean",
    sample_size: int | None = None,
    random_state: Any = None,
    method: str = "auto",
    centers: Any = None,
) -> float:
    """Mean silhouette of the rows: ``(b - a) / max(a, b)`` with the mean distances a to the rows of a row's own cluster,
    and b to those of the nearest other one (Rousseeuw 1987).

    Parameters
    ----------
    X : array-like (n_rows, n_features) in any container.
    labels : array-like (n_rows,) in any container, chunked in any way.
    metric : {"euclidean", "cosine"}, default="euclidean"
    sample_size : int, optional
        Rows whose silhouettes are averaged by "sampled"; 1000 by default. Their distances go to all rows, so that each
        of these silhouettes is exact and the mean unbiased. (scikit-learn takes distances inside the sample.)
    random_state : int, optional
        ``None`` is a fixed seed.
    method : {"auto", "exact", "sampled", "simplified"}, default="auto"
        - "exact": all distances between rows; two sweeps, and all rows in memory.
        - "sampled": the mean over ``sample_size`` rows drawn from all blocks; two sweeps.
        - "simplified": distances to the clusters' centres in place of mean distances to their rows (Hruschka et al.
          2004); another number than the silhouette. Two sweeps, or one with ``centers``.
        - "auto": "exact" up to 10,000 rows, "sampled" up to 10 million or where ``sample_size`` is given, then
          "simplified". A warning tells where it is not "exact".
    centers : (n_clusters, n_features), optional
        For "simplified"; ``labels`` are then the numbers of centres.

    Returns
    -------
    float in [-1, 1]

    Warns
    -----
    UserWarning
        "auto" did not compute the exact silhouette; says which it did, and a standard error.

    Examples
    --------
    >>> round(silhouette_score([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1]), 6)
    0.746032
    """
    cosine = _check(method, metric)
    blocks = _load(X, labels)
    n = blocks.n_rows
    if sample_size is not None:
        positive_integer("sample_size", sample_size)
    chosen = _choose(n, sample_size) if method == "auto" else method
    if sample_size is not None and chosen != "sampled":
        raise ValueError(f'sample_size is for method="sampled", got method={method!r}.')
    if centers is not None and chosen != "simplified":
        raise ValueError(f'centers are for method="simplified"; with method={method!r} it is {chosen!r} for {n} rows.')
    if chosen == "simplified":
        score, told = _simplified(blocks, centers, cosine), "by distances to the clusters' centers"
    else:
        rows = min(n, int(sample_size or SILHOUETTE_SAMPLE)) if chosen == "sampled" else n
        each = _silhouettes(blocks, rows, random_seed(random_state), cosine)
        error = float(each.std() / np.sqrt(rows))
        score, told = float(each.mean()), f"as the mean of {rows} rows, with a standard error of {error:.2g}"
    if method == "auto" and chosen != "exact":
        warnings.warn(
            f"The silhouette of {n} rows was estimated {told} (method={chosen!r}). Pass method= to choose.",
            UserWarning,
            stacklevel=2,
        )
    return score


def _check(method: str, metric: str) -> bool:
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}.")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}.")
    return metric == "cosine"


def _choose(n_rows: int, sample_size: int | None) -> str:
    if sample_size is not None:
        return "sampled"
    if n_rows <= EXACT_ROWS:
        return "exact"
    return "sampled" if n_rows <= SAMPLED_ROWS else "simplified"


def silhouette_samples(X: Any, labels: Any, *, metric: str = "euclidean") -> Array:
    """The exact silhouette of each row, ndarray (n_rows,); two sweeps, and all rows in memory.

    Work grows with the square of the rows: 10^10 distances for 100,000 of them.

    Parameters
    ----------
    X : array-like (n_rows, n_features)
        In any container.
    labels : array-like (n_rows,)
        In any container, chunked in any way.
    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    ndarray (n_rows,) float64 in [-1, 1]

    Examples
    --------
    >>> silhouette_samples([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1]).round(3)
    array([0.778, 0.714, 0.714, 0.778])
    """
    cosine = _check("exact", metric)
    blocks = _load(X, labels)
    return _silhouettes(blocks, blocks.n_rows, 0, cosine)


def _silhouettes(blocks: RowBlocks, n_sample: int, seed: int, cosine: bool) -> Array:
    """Exact silhouettes of sampled rows (n_sample,); of all, in their order, where all are sampled."""
    draw = sample_sweep(n_sample, blocks.n_rows, seed, blocks.dtype.itemsize)
    counts: LabelCounts
    sample: RowSample
    # The number of classes is not known yet; the plan takes it to be 64.
    like = QueryParams(np.broadcast_to(0.0, (n_sample, blocks.n_features)), np.zeros(min(blocks.n_rows, 64)), cosine)
    engine = Engine(blocks, kernels=[(draw.kernel, draw.params), (DISTANCES_TO_CLUSTERS, like)])
    try:
        sample, counts = engine.sweep(draw, Sweep(LABEL_COUNTS, None, merge_label_counts))
        _check_number(len(counts.classes), blocks.n_rows)
        params = QueryParams(np.asarray(sample.X, dtype=np.float64), counts.classes, cosine)
        (sums,) = engine.sweep(Sweep(DISTANCES_TO_CLUSTERS, params))
    finally:
        engine.close()
    return silhouettes_of(sums, counts.rows, np.searchsorted(counts.classes, np.asarray(sample.y)))


def _simplified(blocks: RowBlocks, centers: Any, cosine: bool) -> float:
    like = CenterParams(np.zeros((64, blocks.n_features)), None, cosine)
    engine = Engine(blocks, kernels=[(SIMPLIFIED, like)])
    try:
        params = _centers(engine, blocks, centers, cosine=cosine)
        sums: ClusterSums
        (sums,) = engine.sweep(Sweep(SIMPLIFIED, params))
        there = sums.rows > 0
        _check_number(int(there.sum()), blocks.n_rows)
        if not there.all():  # a centre without rows is no cluster that rows could be near to
            params = CenterParams(params.C[there], np.flatnonzero(there), cosine)
            (sums,) = engine.sweep(Sweep(SIMPLIFIED, params))
    finally:
        engine.close()
    return float(sums.total[sums.rows > 1].sum() / blocks.n_rows)
