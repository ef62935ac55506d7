"""Scores over the number of training rows: all sizes of all splits are models of one batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from daskml_core.data import is_grid
from daskml_core.engine import CheckpointPath, resumable
from daskml_core.kernels.cells import Codes, smallest_dtype
from daskml_core.model_selection._folds import Folds, _Splitter, make_folds
from daskml_core.model_selection._run import Request, as_rows, default_scorer, run
from daskml_core.model_selection._scoring import scorers_of
from daskml_core.sweep import Array
from daskml_core.validate import flag, random_seed

CHUNK = 1 << 20
"""Rows looked at together."""


class _Given(_Splitter):
    """Splits that are there already."""

    def __init__(self, folds: Folds) -> None:
        self._folds = folds

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        return self._folds


def absolute_sizes(train_sizes: Any, n_max: int) -> Array:
    """Distinct numbers of rows, ascending; parts of ``n_max`` where they are floats.

    >>> absolute_sizes([0.5, 1.0], 10)
    array([ 5, 10])
    """
    sizes = np.asarray(train_sizes)
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "fiu":
        raise ValueError(f"train_sizes must be a list of parts or of numbers of rows, got {train_sizes!r}.")
    if sizes.dtype.kind == "f":
        if sizes.min() <= 0 or sizes.max() > 1:
            raise ValueError(f"train_sizes are parts of the training rows, within (0, 1], got {sizes.tolist()}.")
        sizes = np.clip((sizes * n_max).astype(int), 1, n_max)
    elif sizes.min() <= 0 or sizes.max() > n_max:
        raise ValueError(f"train_sizes are numbers of rows, within (0, {n_max}], got {sizes.tolist()}.")
    distinct = np.unique(sizes).astype(int)
    if len(distinct) < len(sizes):
        warnings.warn(
            f"Removed duplicate entries from train_sizes: {len(distinct)} are left.", RuntimeWarning, stacklevel=3
        )
    return distinct


def _pieces(n: int, order: Array | None) -> Iterator[tuple[int, Any]]:
    """Rows in the order in which they are taken, some at a time: the first one's place, and the rows."""
    for start in range(0, n, CHUNK):
        stop = min(n, start + CHUNK)
        yield start, slice(start, stop) if order is None else order[start:stop]


def nested(folds: Folds, sizes: Array, order: Array | None) -> Folds:
    """Splits (size, split), the sizes of a split next to each other: its first training rows in the given order.

    Parameters
    ----------
    folds : of all rows.
    sizes : ascending numbers of rows.
    order : row numbers, or ``None`` for the order in which they are.

    Notes
    -----
    A place in the order where some split has enough rows for some size ends a stretch; rows of one cell and one stretch are
    treated alike by all splits, so that a cell of the result is such a pair.
    """
    n, k = folds.n_rows, folds.n_splits
    base = np.empty(n, dtype=smallest_dtype(folds.n_cells))
    for start, rows in _pieces(n, None):
        base[rows] = folds.cell_of(start, len(base[rows]))
    ends = np.zeros((k, len(sizes)), dtype=np.int64)
    taken = np.zeros(k, dtype=np.int64)
    for start, rows in _pieces(n, order):
        cells = base[rows]
        for split in range(k):
            found = np.flatnonzero(folds.train[split][cells])
            inside = (sizes > taken[split]) & (sizes <= taken[split] + len(found))
            ends[split, inside] = start + found[sizes[inside] - taken[split] - 1] + 1
            taken[split] += len(found)
    if (ends == 0).any():
        short = int(np.argmin(taken))
        raise ValueError(f"Split {short} has {taken[short]} training rows, too few for train_sizes up to {sizes[-1]}.")
    stops = np.unique(ends)
    codes = np.empty(n, dtype=smallest_dtype(folds.n_cells * (len(stops) + 1)))
    present = np.zeros(folds.n_cells * (len(stops) + 1), dtype=bool)
    for start, rows in _pieces(n, order):
        cells = base[rows].astype(np.int64)
        stretch = np.searchsorted(stops, np.arange(start, start + len(cells)), side="right")
        pair = cells * (len(stops) + 1) + stretch
        present[pair] = True
        codes[rows] = pair
    kept = np.flatnonzero(present)
    place = np.zeros(len(present), dtype=smallest_dtype(len(kept)))
    place[kept] = np.arange(len(kept))
    cell, stretch = np.divmod(kept, len(stops) + 1)
    train, test = [], []
    for split in range(k):
        for size in range(len(sizes)):
            train.append(folds.train[split][cell] & (stretch <= np.searchsorted(stops, ends[split, size])))
            test.append(folds.test[split][cell])
    return Folds(n, Codes(place[codes]), np.array(train), np.array(test))


@resumable
def learning_curve(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    train_sizes: Any = (0.1, 0.325, 0.55, 0.775, 1.0),
    cv: Any = None,
    scoring: Any = None,
    verbose: int = 0,
    shuffle: bool = False,
    random_state: Any = None,
    error_score: Any = np.nan,
    return_times: bool = False,
    params: dict[str, Any] | None = None,
    checkpoint: CheckpointPath = None,
) -> tuple[Array, ...]:
    """Training and test scores for several numbers of training rows; all sizes of all splits are one batch.

    scikit-learn's, for data that does not fit in memory: where the estimator knows lockstep, sizes and splits share their
    sweeps, about as many as one fit takes. Sizes are nested: a smaller training set is a part of a larger one.

    Parameters
    ----------
    estimator, X, y, groups, cv, scoring, verbose, error_score, params : as in `cross_validate`; one metric.
    train_sizes : array, default=(0.1, 0.325, 0.55, 0.775, 1.0)
        Parts of the first split's training rows (floats), or numbers of rows.
    shuffle : bool, default=False
        Take the training rows in random order, one order for all splits; otherwise as they lie, as scikit-learn does by
        default. Rows on disk are often sorted: then the first of them are no sample.
    random_state : int, optional
        Of the shuffle; ``None`` is a fixed seed.
    return_times : bool, default=False
    checkpoint : directory or URL where an interrupted run is kept.

    Returns
    -------
    train_sizes_abs : ndarray (n_sizes,)
    train_scores, test_scores : ndarray (n_sizes, n_splits)
    fit_times, score_times : ndarray (n_sizes, n_splits), with ``return_times``; shares of what all models took together.

    Notes
    -----
    Held in the calling process: 1-2 bytes a row, and up to 16 while the rows are dealt out; nothing of X.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.model_selection import learning_curve
    >>> X = da.random.default_rng(0).normal(size=(2_000, 3), chunks=(500, 3))
    >>> sizes, train, test = learning_curve(LogisticRegression(), X, X[:, 0] > 0, train_sizes=[0.1, 1.0], cv=4)
    >>> sizes.tolist(), train.shape, test.shape
    ([150, 1500], (2, 4), (2, 4))
    """
    scorers, several = scorers_of(scoring, default_scorer(estimator))
    if several:
        raise ValueError(f"A learning curve has one metric, got {sorted(scorers)}.")
    if random_state is not None and not flag("shuffle", shuffle):
        raise ValueError("random_state has no effect without shuffle=True. Leave it out.")
    request = Request(
        estimator, [{}], X, y, cv=cv, groups=groups, scorers=scorers, params=params or {}, train_scores=True,
        error_score=error_score, verbose=verbose, keep_models=False,
    )  # fmt: skip
    if is_grid(X):
        request, _ = as_rows(request)
    folds = make_folds(cv, request.X, request.y, request.groups, classifier=is_classifier(estimator))
    counts = np.zeros(folds.n_cells, dtype=np.int64)
    for start, rows in _pieces(folds.n_rows, None):
        counts += np.bincount(folds.cell_of(start, rows.stop - rows.start), minlength=folds.n_cells)
    sizes = absolute_sizes(train_sizes, int(counts[folds.train[0]].sum()))
    order = None
    if flag("shuffle", shuffle):
        dtype = np.uint32 if folds.n_rows <= 1 << 32 else np.int64
        order = np.random.default_rng(random_seed(random_state)).permutation(np.arange(folds.n_rows, dtype=dtype))
    result = run(replace(request, cv=_Given(nested(folds, sizes, order)), groups=None))
    (name,) = result.test
    tables = [result.train[name], result.test[name]]
    if return_times:
        tables += [result.fit_s, result.score_s]
    return sizes, *(table[0].reshape(folds.n_splits, len(sizes)).T.copy() for table in tables)
