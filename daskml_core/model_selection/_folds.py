"""Cross-validation splits as cells of rows: no index arrays, no copies, no shuffle of the data.

The classes are scikit-learn's own, with scikit-learn's parameters and assignments; ``split`` works on any container. What is
added is `Folds`, what a split looks like to a kernel: see `daskml_core.kernels.cells`.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import model_selection as reference
from sklearn.utils import check_random_state

from daskml_core.data import as_column
from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.data.kind import is_lazy, package_of
from daskml_core.engine import count_rows, run_sweeps
from daskml_core.kernels.cells import BLOCK_CODES, Codes, Drawn, Segments, dealt, join_blocks, smallest_dtype
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import random_seed

EXACT_SHUFFLE_ROWS = 1 << 24
"""Rows up to which ``KFold(shuffle=True)`` draws scikit-learn's own permutation (8 bytes a row, 128 MiB here). Beyond it
rows are dealt to the folds in groups of 65,536, and nothing of the length of the data is held."""


@dataclass(frozen=True, eq=False)
class Folds:
    """Splits of the rows into training and test rows, as sets of cells.

    Parameters
    ----------
    n_rows : of the data.
    cell_of : ``(start, n_rows) -> (n_rows,)`` cells, see `daskml_core.kernels.cells`.
    train, test : (n_splits, n_cells) bool.
    class_rows : ``(classes, rows (n_cells, n_classes))`` of a y that the folds were made of, so that it need not be counted
        again.
    """

    n_rows: int
    cell_of: Any
    train: Array
    test: Array
    class_rows: tuple[Array, Array] | None = None

    @property
    def n_splits(self) -> int:
        return len(self.train)

    @property
    def n_cells(self) -> int:
        return self.train.shape[1]

    def rows(self, split: int, *, test: bool) -> Array:
        """Mask (n_rows,) of one split's rows."""
        cells = (self.test if test else self.train)[split]
        return np.asarray(cells[self.cell_of(0, self.n_rows)])

    def indices(self) -> Iterator[tuple[Array, Array]]:
        """Row numbers to train and to test on, split by split."""
        for i in range(self.n_splits):
            yield np.flatnonzero(self.rows(i, test=False)), np.flatnonzero(self.rows(i, test=True))


def _complement(n: int) -> tuple[Array, Array]:
    """Tables of k-fold: each cell is tested once and trained on otherwise."""
    test = np.eye(n, dtype=bool)
    return ~test, test


def _column(values: Any, n_rows: int | None, what: str) -> BlockedArray:
    column = as_column(values, what)
    column = column if column.known else count_rows(column)
    if n_rows is not None and column.n_rows != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n_rows} rows, but {what} has {column.n_rows}."
        )
    return column


def _values(values: Any, n_rows: int | None, what: str) -> tuple[Array, Array]:
    """Distinct values, sorted, and each row's place among them, in one sweep over a column."""
    column = _column(values, n_rows, what)
    lengths = tuple(int(n) for n in column.lengths if n is not None)
    blocks = RowBlocks(None, column, None, lengths, np.dtype(np.float64))
    (parts,) = run_sweeps(blocks, Sweep(BLOCK_CODES, None, join_blocks))
    parts = sorted(parts, key=lambda part: part[0])
    counted = [labels[np.bincount(codes, minlength=len(labels)) > 0] for _, labels, codes in parts]
    distinct = np.unique(np.concatenate(counted))
    dtype = smallest_dtype(len(distinct))
    place = [np.searchsorted(distinct, labels).astype(dtype)[codes] for _, labels, codes in parts]
    return distinct, np.concatenate(place)


def n_rows_of(X: Any) -> int:
    """Rows of any container."""
    shape = getattr(X, "shape", None)
    # A length that is not known is NaN of a Dask array, and a task of a Dask DataFrame.
    if package_of(X) != "xarray":
        if shape is not None and isinstance(shape[0], numbers.Integral):
            return int(shape[0])
        if shape is None and hasattr(X, "__len__") and not is_lazy(X):
            return len(X)
    from daskml_core.model_selection._split import _column as any_column

    return any_column(X, None)[0].n_rows


class _Splitter:
    """``split`` from `Folds`, for any container."""

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        """The splits of X's rows as sets of cells."""
        raise NotImplementedError

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Array, Array]]:
        """Row numbers to train and to test on, split by split, as scikit-learn's; X in any container."""
        yield from self.folds(X, y, groups).indices()


def _remainders(n: int, k: int) -> Array:
    """How many of the numbers below ``n`` leave each remainder 0..k-1."""
    return (n - np.arange(k) + k - 1) // k


def _require_rows(n_splits: int, n: int) -> None:
    if n_splits > n:
        raise ValueError(
            f"Cannot have number of splits n_splits={n_splits} greater than the number of samples: n_samples={n}."
        )


class KFold(_Splitter, reference.KFold):
    """K folds of rows; scikit-learn's assignment, for data that does not fit in memory.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
        Without, folds are runs of rows. With, rows are dealt at random: scikit-learn's own permutation up to
        16,777,216 rows (8 bytes a row), groups of 65,536 rows beyond. The data itself is never moved.
    random_state : int, optional
        ``None`` is a fixed seed.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.model_selection import KFold
    >>> [test.tolist() for _, test in KFold(n_splits=2).split(da.ones((5, 1), chunks=2))]
    [[0, 1, 2], [3, 4]]
    """

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        n, k = n_rows_of(X), self.n_splits
        _require_rows(k, n)
        sizes = np.full(k, n // k)
        sizes[: n % k] += 1
        stops = np.cumsum(sizes)
        if not self.shuffle:
            return Folds(n, Segments(stops), *_complement(k))
        if n > EXACT_SHUFFLE_ROWS:
            return Folds(n, Drawn(n, k, random_seed(self.random_state)), *_complement(k))
        order = np.arange(n)
        check_random_state(0 if self.random_state is None else self.random_state).shuffle(order)
        codes = np.empty(n, dtype=smallest_dtype(k))
        codes[order] = np.repeat(np.arange(k), sizes)
        return Folds(n, Codes(codes), *_complement(k))


class StratifiedKFold(_Splitter, reference.StratifiedKFold):
    """K folds that keep the classes in proportion; scikit-learn's assignment, found in one sweep over y.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
    random_state : int, optional
        ``None`` is a fixed seed.

    Notes
    -----
    A row's fold follows from its class and how many rows of that class come before it. One byte a row is held.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.model_selection import StratifiedKFold
    >>> y = np.array(["a", "a", "b", "b"])
    >>> [test.tolist() for _, test in StratifiedKFold(n_splits=2).split(y, y)]
    [[0, 2], [1, 3]]
    """

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        if y is None:
            raise ValueError("The 'y' parameter should not be None.")
        n, k = n_rows_of(X), self.n_splits
        labels, codes = _values(y, n, "y")
        if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
            raise ValueError(
                "Supported target types are: ('binary', 'multiclass'). Got 'continuous' instead: y holds real numbers."
            )
        _require_rows(k, n)
        counts = np.bincount(codes, minlength=len(labels))
        if (k > counts).all():
            raise ValueError(f"n_splits={k} cannot be greater than the number of members in each class.")
        if k > counts.min():
            warnings.warn(
                f"The least populated class in y has only {counts.min()} members, which is less than n_splits={k}.",
                UserWarning,
                stacklevel=2,
            )
        # scikit-learn takes the classes in the order in which they first appear.
        first = np.array([int(np.argmax(codes == c)) for c in range(len(labels))])
        order = np.argsort(first, kind="stable")
        stops = np.cumsum(counts[order])
        rng = check_random_state(0 if self.random_state is None else self.random_state)
        dtype = smallest_dtype(k)
        rows = np.zeros((k, len(labels)))
        in_class: list[Array] = [np.empty(0, dtype=dtype)] * len(labels)
        for c, stop in zip(order, stops, strict=True):
            # Fold i gets the class's rows whose place among all rows in this order leaves the remainder i.
            taken = _remainders(int(stop), k) - _remainders(int(stop - counts[c]), k)
            rows[:, c] = taken
            of_class = np.repeat(np.arange(k, dtype=dtype), taken)
            if self.shuffle:
                rng.shuffle(of_class)
            in_class[c] = of_class
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        test_fold = dealt(codes, starts, np.concatenate(in_class))
        return Folds(n, Codes(test_fold), *_complement(k), (labels, rows))


class GroupKFold(_Splitter, reference.GroupKFold):
    """K folds that never part a group; scikit-learn's assignment, groups in any container.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
    random_state : int, optional
        ``None`` is a fixed seed.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.model_selection import GroupKFold
    >>> groups = np.array(["x", "y", "x", "z"])
    >>> [test.tolist() for _, test in GroupKFold(n_splits=2).split(groups, groups=groups)]
    [[0, 2], [1, 3]]
    """

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        if groups is None:
            raise ValueError("The 'groups' parameter should not be None.")
        n, k = n_rows_of(X), self.n_splits
        labels, codes = _values(groups, n, "groups")
        if k > len(labels):
            raise ValueError(
                f"Cannot have number of splits n_splits={k} greater than the number of groups: {len(labels)}."
            )
        counts = np.bincount(codes, minlength=len(labels))
        fold_of_group = np.empty(len(labels), dtype=smallest_dtype(k))
        if self.shuffle:
            rng = check_random_state(0 if self.random_state is None else self.random_state)
            for i, members in enumerate(np.array_split(rng.permutation(len(labels)), k)):
                fold_of_group[members] = i
        else:
            # The largest group goes to the fold that is smallest so far.
            sizes = np.zeros(k)
            for group in np.argsort(counts, kind="stable")[::-1]:
                smallest = int(np.argmin(sizes))
                sizes[smallest] += counts[group]
                fold_of_group[group] = smallest
        return Folds(n, Codes(fold_of_group[codes]), *_complement(k))


class TimeSeriesSplit(_Splitter, reference.TimeSeriesSplit):
    """Test rows always later than training rows: by position, or by a coordinate of an xarray object.

    Parameters
    ----------
    n_splits : int, default=5
    max_train_size, test_size : int, optional
    gap : int, default=0
        Rows (or distinct coordinate values) left out between training and test.
    coord : str, optional
        Name of a coordinate along X's rows. The splits are then made over its distinct values in sorted order, so that
        rows need not be sorted, and all rows of one time stay together.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.model_selection import TimeSeriesSplit
    >>> [(a.tolist(), b.tolist()) for a, b in TimeSeriesSplit(n_splits=2).split(np.zeros((6, 1)))]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        max_train_size: int | None = None,
        test_size: int | None = None,
        gap: int = 0,
        coord: str | None = None,
    ) -> None:
        super().__init__(n_splits, max_train_size=max_train_size, test_size=test_size, gap=gap)
        self.coord = coord

    def folds(self, X: Any, y: Any = None, groups: Any = None) -> Folds:
        n = n_rows_of(X)
        if self.coord is None:
            positions, place = n, None
        else:
            if not hasattr(X, "coords") or self.coord not in X.coords:
                raise ValueError(f"coord={self.coord!r} is not a coordinate of X, which is a {type(X).__name__}.")
            distinct, place = _values(np.asarray(X.coords[self.coord].values), n, f"the coordinate {self.coord!r}")
            positions = len(distinct)
        # Only the ends of scikit-learn's runs are taken; its index arrays are as long as the positions.
        ends = [
            (int(train[0]), int(train[-1]) + 1, int(test[0]), int(test[-1]) + 1)
            for train, test in reference.TimeSeriesSplit.split(self, np.broadcast_to(0, (positions, 1)))
        ]
        stops = np.unique([0, positions, *np.ravel(ends)])[1:]
        starts = np.concatenate([[0], stops[:-1]])
        train = np.array([(starts >= a) & (stops <= b) for a, b, _, _ in ends])
        test = np.array([(starts >= c) & (stops <= d) for _, _, c, d in ends])
        if place is None:
            return Folds(n, Segments(stops), train, test)
        segment = np.searchsorted(stops, np.arange(positions), side="right").astype(smallest_dtype(len(stops)))
        return Folds(n, Codes(segment[place]), train, test)


class PredefinedSplit(_Splitter, reference.PredefinedSplit):
    """The user's own fold of each row; rows of fold -1 are always trained on.

    Parameters
    ----------
    test_fold : array-like (n_rows,) of integers, in any container.

    Examples
    --------
    >>> from daskml_core.model_selection import PredefinedSplit
    >>> [test.tolist() for _, test in PredefinedSplit([0, 1, -1, 1]).split()]
    [[0], [1, 3]]
    """

    def __init__(self, test_fold: Any) -> None:
        self.test_fold = test_fold

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds beside -1."""
        labels, _ = _values(self.test_fold, None, "test_fold")
        return int((labels != -1).sum())

    def folds(self, X: Any = None, y: Any = None, groups: Any = None) -> Folds:
        labels, codes = _values(self.test_fold, None if X is None else n_rows_of(X), "test_fold")
        test = np.eye(len(labels), dtype=bool)[labels != -1]
        return Folds(len(codes), Codes(codes), ~test, test)

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[tuple[Array, Array]]:
        """Row numbers to train and to test on, fold by fold."""
        yield from self.folds(X).indices()


def folds_from_indices(splits: Iterable[tuple[Any, Any]], n: int) -> Folds:
    """Folds of any ``(train, test)`` index arrays: rows that all splits treat alike share a cell."""
    codes = np.zeros(n, dtype=np.int64)
    n_codes, n_splits = 1, 0
    for train, test in splits:
        role = np.zeros(n, dtype=np.int8)
        for rows, bit in ((train, 1), (test, 2)):
            rows = np.asarray(rows)
            rows = np.flatnonzero(rows) if rows.dtype == bool else rows
            once = np.bincount(rows, minlength=n)
            if len(once) > n or once.max(initial=0) > 1:
                raise ValueError("A split names a row twice, or rows that are not there.")
            role += (bit * once).astype(np.int8)
        codes = codes * 4 + role
        n_codes *= 4
        n_splits += 1
        if n_codes > 1 << 40:
            raise ValueError("More than 20 splits of index arrays; pass a fold array (PredefinedSplit) instead.")
    patterns, cells = np.unique(codes, return_inverse=True)
    roles = (patterns >> (2 * np.arange(n_splits)[::-1, None])) & 3
    train, test = (roles & 1).astype(bool), (roles & 2).astype(bool)
    return Folds(n, Codes(cells.reshape(-1).astype(smallest_dtype(len(patterns)))), train, test)


_OURS = {
    reference.KFold: KFold,
    reference.StratifiedKFold: StratifiedKFold,
    reference.GroupKFold: GroupKFold,
    reference.TimeSeriesSplit: TimeSeriesSplit,
}


def make_folds(cv: Any, X: Any, y: Any = None, groups: Any = None, *, classifier: bool = False) -> Folds:
    """The splits that ``cv`` asks for.

    Parameters
    ----------
    cv : ``None`` (5), a number of folds (stratified for a classifier), a splitter of this package or of scikit-learn, or an
        iterable of ``(train, test)`` index arrays.
    """
    cv = 5 if cv is None else cv
    if isinstance(cv, int | np.integer):
        cv = StratifiedKFold(int(cv)) if classifier and y is not None else KFold(int(cv))
    ours = _OURS.get(type(cv))
    if ours is not None:
        given = {name: value for name, value in vars(cv).items() if name in ("n_splits", "shuffle", "random_state")}
        if ours is TimeSeriesSplit:
            given = {name: getattr(cv, name) for name in ("n_splits", "max_train_size", "test_size", "gap")}
        cv = ours(**given)
    if isinstance(cv, _Splitter):
        return cv.folds(X, y, groups)
    if isinstance(cv, str) or not (hasattr(cv, "split") or isinstance(cv, Iterable)):
        raise ValueError(
            f"Expected `cv` as an integer, a cross-validation object (scikit-learn or ours) or an iterable; got {cv!r}."
        )
    n = n_rows_of(X)
    if hasattr(cv, "split"):
        columns = (None if a is None else np.asarray(a) for a in (y, groups))
        return folds_from_indices(cv.split(np.broadcast_to(0, (n, 1)), *columns), n)
    return folds_from_indices(cv, n)
