"""Folds against scikit-learn's own splitters, row by row, for any container and chunking."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn import model_selection as reference

from daskml_core import model_selection as ours
from daskml_core.kernels.cells import GROUP_ROWS, Drawn
from daskml_core.model_selection._folds import folds_from_indices, make_folds

N = 503
RNG = np.random.default_rng(0)
Y = np.array(["oak", "ash", "fir"])[RNG.choice(3, size=N, p=[0.7, 0.25, 0.05])]
GROUPS = RNG.integers(0, 40, size=N)


def lazy(a, chunk=71):
    return da.from_array(a, chunks=chunk)


def same(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for (a, b), (c, d) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, np.sort(c))
        np.testing.assert_array_equal(b, np.sort(d))


@pytest.mark.parametrize("name", ["KFold", "StratifiedKFold", "GroupKFold"])
@pytest.mark.parametrize("options", [{}, {"shuffle": True, "random_state": 3}])
@pytest.mark.parametrize("n_splits", [2, 5, 7])
@pytest.mark.parametrize("chunk", [1, 71, N])
def test_every_row_is_in_scikit_learns_fold(name, options, n_splits, chunk):
    X = da.zeros((N, 2), chunks=(97, 2))
    found = getattr(ours, name)(n_splits, **options).split(X, lazy(Y, chunk), lazy(GROUPS, chunk))
    expected = getattr(reference, name)(n_splits, **options).split(
        np.zeros((N, 2)), Y, GROUPS if name == "GroupKFold" else None
    )
    same(found, expected)


def test_sorted_rows_and_classes_missing_from_blocks_are_stratified_alike():
    y = np.sort(RNG.integers(0, 4, size=N))
    found = ours.StratifiedKFold(4).split(y, lazy(y, 50))
    same(found, reference.StratifiedKFold(4).split(y, y))


@pytest.mark.parametrize("options", [{}, {"gap": 5}, {"max_train_size": 60}, {"test_size": 20, "gap": 3}])
def test_time_series_rows_are_scikit_learns(options):
    X = np.zeros((N, 1))
    same(ours.TimeSeriesSplit(6, **options).split(lazy(X)), reference.TimeSeriesSplit(6, **options).split(X))


def test_a_time_coordinate_orders_the_rows_whatever_their_position():
    times = RNG.permutation(np.repeat(np.datetime64("2020-01-01") + np.arange(50), 4))
    X = xr.DataArray(np.zeros((200, 2)), dims=["sample", "band"], coords={"time": ("sample", times)})
    distinct = np.unique(times)
    splits = ours.TimeSeriesSplit(4, gap=2, coord="time").split(X.chunk(sample=30))
    for (train, test), (a, b) in zip(splits, reference.TimeSeriesSplit(4, gap=2).split(distinct), strict=True):
        assert set(times[train]) == set(distinct[a])
        assert set(times[test]) == set(distinct[b])
        assert times[train].max() < times[test].min()


def test_a_users_own_folds():
    fold = RNG.integers(-1, 3, size=N)
    same(ours.PredefinedSplit(lazy(fold)).split(), reference.PredefinedSplit(fold).split())
    assert ours.PredefinedSplit(fold).get_n_splits() == 3


@pytest.mark.parametrize(
    "cv",
    [
        3,
        None,
        reference.KFold(4, shuffle=True, random_state=1),
        reference.StratifiedKFold(3),
        reference.GroupKFold(3),
        reference.TimeSeriesSplit(3, gap=2),
        reference.ShuffleSplit(6, random_state=0),
        reference.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
        reference.LeavePGroupsOut(1),
        reference.PredefinedSplit(RNG.integers(-1, 3, size=N)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
def test_cv_is_taken_as_scikit_learn_takes_it(cv):
    groups = GROUPS % 7
    checked = reference.check_cv(cv, Y, classifier=True)
    found = make_folds(cv, lazy(np.zeros((N, 1))), lazy(Y), lazy(groups), classifier=True)
    same(found.indices(), checked.split(np.zeros((N, 1)), Y, groups))


def test_index_arrays_become_cells():
    splits = [([0, 1, 2], [3]), ([1, 2, 3], [0, 4])]
    folds = folds_from_indices(splits, 6)
    same(folds.indices(), [(np.array(a), np.array(b)) for a, b in splits])
    assert folds.n_cells == 5
    with pytest.raises(ValueError, match="twice"):
        folds_from_indices([([0, 0], [1])], 3)


def test_beyond_the_bound_rows_are_dealt_in_groups_and_any_part_can_be_asked_for(monkeypatch):
    n = 3 * GROUP_ROWS + 11
    cells = Drawn(n, 5, 7)
    whole = cells(0, n)
    assert np.ptp(np.bincount(whole)) <= 1
    for start, length in ((0, 1), (GROUP_ROWS - 3, 9), (GROUP_ROWS, GROUP_ROWS), (n - 5, 5), (17, 0)):
        np.testing.assert_array_equal(cells(start, length), whole[start : start + length])
    monkeypatch.setattr("daskml_core.model_selection._folds.EXACT_SHUFFLE_ROWS", 100)
    folds = ours.KFold(5, shuffle=True, random_state=7).folds(np.zeros((n, 1)))
    np.testing.assert_array_equal(folds.cell_of(0, n), whole)
    # Neighbours are parted: a fold is no run of rows.
    assert (np.diff(whole) != 0).mean() > 0.7


@pytest.mark.parametrize(
    ("splitter", "arrays", "message"),
    [
        (ours.KFold(5), (np.zeros(3),), "greater than the number of samples"),
        (ours.StratifiedKFold(2), (np.zeros(4), np.arange(4.0) / 3), "continuous"),
        (ours.StratifiedKFold(5), (np.zeros(6), np.arange(6)), "members in each class"),
        (ours.GroupKFold(3), (np.zeros(4), None, np.zeros(4)), "number of groups"),
        (ours.StratifiedKFold(2), (np.zeros(4), np.zeros(3)), "inconsistent"),
        (ours.TimeSeriesSplit(2, coord="time"), (np.zeros((9, 1)),), "not a coordinate"),
    ],
)
def test_splits_that_make_no_sense_are_errors(splitter, arrays, message):
    with pytest.raises(ValueError, match=message):
        list(splitter.split(*arrays))


def test_cv_must_be_a_number_a_splitter_or_index_arrays():
    with pytest.raises(ValueError, match="Expected `cv`"):
        make_folds("five", np.zeros((9, 1)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_stratified_folds_know_their_classes(shuffle):
    y = np.random.default_rng(0).choice(["ash", "birch", "cedar"], size=501, p=[0.2, 0.5, 0.3])
    folds = ours.StratifiedKFold(4, shuffle=shuffle).folds(y[:, None], y)
    classes, rows = folds.class_rows
    assert classes.tolist() == ["ash", "birch", "cedar"]
    cells = folds.cell_of(0, 501)
    np.testing.assert_array_equal(rows, [[np.sum((cells == i) & (y == c)) for c in classes] for i in range(4)])
