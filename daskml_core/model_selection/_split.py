"""Splitting data that does not fit in memory."""

from __future__ import annotations

import math
import numbers
from dataclasses import replace
from typing import Any

import numpy as np

from daskml_core.data import as_blocked, as_column, cut, flatten, is_dataarray, is_grid
from daskml_core.data.blocks import BlockedArray, RowBlocks
from daskml_core.data.split import RowSplit, Shares, largest_remainders, select
from daskml_core.data.targets import LABEL_COUNTS, encode_labels, merge_label_counts
from daskml_core.engine import count_rows, find_complete, run_sweeps
from daskml_core.sweep import Array, Block, Kernel, Sweep
from daskml_core.validate import flag, random_seed


def _column(array: Any, feature_dim: str | None) -> tuple[BlockedArray, int]:
    """Row-blocks of any array, and the axis of its rows."""
    if getattr(array, "ndim", 1) == 2 or hasattr(array, "data_vars"):
        column, _ = as_blocked(array, feature_dim=feature_dim)
        axis = 0
        if is_dataarray(array):
            from daskml_core.data.from_xarray import find_feature_dim

            axis = 1 if array.dims[0] == find_feature_dim(array, feature_dim) else 0
        return (column if column.known else count_rows(column)), axis
    column = as_column(array)
    return (column if column.known else count_rows(column)), 0


def _size(value: float | int | None, name: str, n: int) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, numbers.Integral)
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not (value > 0 if whole else 0 < value < 1):
        raise ValueError(f"{name} must be a part between 0 and 1 or a number of rows, got {value!r}.")
    if not whole:
        # NumPy's narrow floats by their shortest decimal: float32's 0.3 of 1000 rows is 300, not 301.
        part = float(str(value)) if isinstance(value, np.floating) else float(value)
        return math.ceil(part * n) if name == "test_size" else math.floor(part * n)
    if value >= n:
        raise ValueError(f"{name}={value} should be smaller than the number of samples {n}.")
    return int(value)


def _sizes(n: int, test_size: float | int | None, train_size: float | int | None) -> tuple[int, int]:
    """Rows to train and to test on, by scikit-learn's rules."""
    if test_size is None and train_size is None:
        test_size = 0.25
    test, train = _size(test_size, "test_size", n), _size(train_size, "train_size", n)
    test = n - train if test is None and train is not None else test
    assert test is not None
    train = n - test if train is None else train
    if test + train > n:
        raise ValueError(f"train_size + test_size = {train + test}, more than the {n} samples.")
    if test == 0 or train == 0:
        raise ValueError(f"With n_samples={n}, test_size={test_size} and train_size={train_size} one side is empty.")
    return train, test


def _codes(block: Block, classes: Array) -> tuple[tuple[int, Array], ...]:
    return ((block.number, encode_labels(block.y, classes).astype(np.int32)),)


def _join(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return a + b


CLASS_CODES = Kernel(_codes, "class-codes")


def _stratify(
    stratify: Any, lengths: tuple[int, ...], train: int, test: int, seed: int
) -> tuple[list[Array], list[Array], tuple[Shares, ...]]:
    """Class codes of each block's rows, how many of each class come before it, and each class's shares."""
    column, n = _column(stratify, None)[0], sum(lengths)
    if column.n_rows != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n} rows, but stratify has {column.n_rows}."
        )
    blocks = RowBlocks(None, cut(column, lengths), None, lengths, np.dtype(np.float64))
    (counts,) = run_sweeps(blocks, Sweep(LABEL_COUNTS, None, merge_label_counts))
    K = len(counts.classes)
    if counts.rows.min() < 2:
        label = counts.classes[int(counts.rows.argmin())]
        raise ValueError(
            f"The least populated class in y, {label!r}, has only 1 member, which is too few to stratify. "
            "The minimum number of groups for any class cannot be less than 2."
        )
    for name, size in (("train_size", train), ("test_size", test)):
        if size < K:
            raise ValueError(f"The {name} = {size} should be greater or equal to the number of classes = {K}.")
    rows, rng = counts.rows.astype(np.int64), np.random.default_rng([seed, 2])
    trains = largest_remainders(rows, train, rng)
    tests = largest_remainders(rows - trains, test, rng)
    shares = tuple(
        Shares(int(n), int(a), int(b), int(rng.integers(n))) for n, a, b in zip(rows, tests, trains, strict=True)
    )
    (parts,) = run_sweeps(blocks, Sweep(CLASS_CODES, counts.classes, _join))
    codes = [codes for _, codes in sorted(parts, key=lambda part: part[0])]
    per_block = np.array([np.bincount(c, minlength=K) for c in codes])
    before = np.vstack([np.zeros_like(per_block[:1]), np.cumsum(per_block, axis=0)[:-1]])
    return codes, list(before), shares


def train_test_split(
    *arrays: Any,
    test_size: float | int | None = None,
    train_size: float | int | None = None,
    random_state: int | None = None,
    shuffle: bool = True,
    stratify: Any = None,
    by: str = "row",
    feature_dim: str | None = None,
) -> list[Any]:
    """Split arrays into training and test rows, without ever shuffling the whole of them.

    Which rows of a block go where is drawn block by block, from the seed and the block's number; rows keep their order.
    Lazy arrays stay lazy, with known chunk sizes. All arrays are split at the same rows, however each is chunked.

    Parameters
    ----------
    *arrays : arrays with the same number of rows
        In any container; the first one's chunks are the blocks.
    test_size, train_size : float or int, optional
        Part or number of rows; 25 % are test rows by default.
    random_state : int, optional
        ``None`` is a fixed seed.
    shuffle : bool, default=True
        ``False`` takes the first rows for training and the last for the test.
    stratify : array-like (n_rows,), optional
        Classes to keep in proportion, by largest remainders as in scikit-learn; they are read in two sweeps over them
        and held as 4 bytes a row.
    by : {"row", "block"}, default="row"
        ``"block"`` sends whole blocks: nothing is copied, and neighbouring rows do not end up on both sides.
    feature_dim : str, optional
        The dimension of the features of DataArrays, where it cannot be told.

    Returns
    -------
    list of arrays
        Train and test part of each, ``[a_train, a_test, b_train, b_test, ...]``.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.model_selection import train_test_split
    >>> train, test = train_test_split(da.ones((100, 2), chunks=(30, 2)), test_size=0.2)
    >>> train.shape, test.shape, test.chunks[0]
    ((80, 2), (20, 2), (6, 6, 6, 2))
    """
    if not arrays:
        raise ValueError("At least one array is required as input.")
    if by not in ("row", "block"):
        raise ValueError(f'by must be "row" or "block", got {by!r}.')
    if stratify is not None and (not shuffle or by == "block"):
        raise ValueError('Stratified splits need shuffle=True and by="row".')
    if any(is_grid(array) for array in arrays):
        arrays, stratify = _rows_of_grid(arrays, stratify, feature_dim)
        feature_dim = None
    columns = [_column(array, feature_dim) for array in arrays]
    first = columns[0][0]
    for column, _ in columns[1:]:
        if column.n_rows != first.n_rows:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {[c.n_rows for c, _ in columns]}."
            )
    lengths = tuple(int(n) for n in first.lengths if n is not None)
    train, test = _sizes(first.n_rows, test_size, train_size)
    n, seed = first.n_rows, random_seed(random_state)
    offset = int(np.random.default_rng([seed, 3]).integers(n))
    split = RowSplit((Shares(n, test, train, offset),), seed, flag("shuffle", shuffle))
    if by == "block":
        split = replace(split, by_block=_block_sides(lengths, train, test, seed, shuffle))
    codes = before = None
    if stratify is not None:
        codes, before, shares = _stratify(stratify, lengths, train, test, seed)
        split = replace(split, shares=shares)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    sides = [
        split.sides(i, int(starts[i]), n, None if codes is None else codes[i], None if before is None else before[i])
        for i, n in enumerate(lengths)
    ]
    result = []
    for array, (column, axis) in zip(arrays, columns, strict=True):
        for side in (0, 1):
            result.append(select(array, cut(column, lengths), [s == side for s in sides], axis))
    return result


def _rows_of_grid(arrays: tuple[Any, ...], stratify: Any, feature_dim: str | None) -> tuple[tuple[Any, ...], Any]:
    """The complete samples of a grid as rows, and what lies on (some of) its dimensions at the same samples."""
    if not is_grid(arrays[0]):
        raise ValueError("The features come first where arrays lie on a grid, then what lies on their samples.")
    others = {f"array {i}": array for i, array in enumerate(arrays[1:], 1)}
    if stratify is not None:
        others["stratify"] = stratify
    flat = flatten(arrays[0], find_complete=find_complete, feature_dim=feature_dim, others=others)
    return (flat.X, *(flat.others[f"array {i}"] for i in range(1, len(arrays)))), flat.others.get("stratify")


def _block_sides(lengths: tuple[int, ...], train: int, test: int, seed: int, shuffle: bool) -> tuple[int, ...]:
    """Side of each block: test blocks first, up to the size asked for; at least one block a side."""
    if len(lengths) < 2:
        raise ValueError('by="block" needs at least two blocks. Use by="row".')
    order = np.arange(len(lengths))[::-1]
    if shuffle:
        order = np.random.default_rng([seed, 1]).permutation(len(lengths))
    sides = np.full(len(lengths), 2)
    taken = {1: 0, 0: 0}
    for position, block in enumerate(order):
        last = position == len(order) - 1
        if taken[1] < test and not (last and taken[0] == 0):
            side = 1
        elif taken[0] < train:
            side = 0
        else:
            continue
        sides[block] = side
        taken[side] += lengths[block]
    return tuple(int(s) for s in sides)
