"""Scalers and splits against scikit-learn and counting."""

from fractions import Fraction

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn import model_selection as theirs
from sklearn import preprocessing as reference

from daskml_core.model_selection import train_test_split
from daskml_core.preprocessing import MinMaxScaler, StandardScaler

X = DATA = np.random.default_rng(0).normal(size=(1000, 4)) * [1, 10, 0.1, 0] + [1e6, -5, 0, 7]
W = np.random.default_rng(1).random(1000)


def lazy(a, chunk=130):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


@pytest.mark.parametrize("weighted", [False, True])
def test_standard_scaler_equals_scikit_learn(weighted):
    w = W if weighted else None
    # With weights scikit-learn's variance of the constant column comes out negative.
    X = DATA[:, :3] if weighted else DATA
    ours, theirs = StandardScaler().fit(lazy(X), sample_weight=w), reference.StandardScaler().fit(X, sample_weight=w)
    for name in ("mean_", "var_", "scale_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
    scaled = ours.transform(lazy(X))
    assert isinstance(scaled, da.Array)
    np.testing.assert_allclose(scaled, theirs.transform(X), atol=1e-8)
    np.testing.assert_allclose(ours.inverse_transform(scaled), X, rtol=1e-12)


@pytest.mark.parametrize("clip", [False, True])
def test_min_max_scaler_equals_scikit_learn(clip):
    ours = MinMaxScaler((-1, 2), clip=clip).fit(lazy(X))
    theirs = reference.MinMaxScaler((-1, 2), clip=clip).fit(X)
    for name in ("data_min_", "data_max_", "scale_", "min_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
    wider = X * 1.1
    np.testing.assert_allclose(ours.transform(lazy(wider)), theirs.transform(wider), atol=1e-7)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, rtol=1e-12)


@pytest.mark.parametrize("scaler", [StandardScaler, MinMaxScaler])
def test_partial_fit_is_a_fit_of_all(scaler):
    parts = scaler().partial_fit(lazy(X[:300])).partial_fit(X[300:])
    whole = scaler().fit(X)
    np.testing.assert_allclose(parts.scale_, whole.scale_, rtol=1e-9)
    assert parts.n_samples_seen_ == 1000


@pytest.mark.parametrize("by", ["row", "block"])
@pytest.mark.parametrize("chunk", [1, 77, 130, 999])
def test_every_row_is_on_one_side_and_all_arrays_agree(by, chunk):
    n = 200 if chunk == 1 else 1000
    rows, few = np.arange(n), X[:n]
    parts = train_test_split(lazy(few, chunk), lazy(rows, 211), rows, by=by, random_state=3, test_size=0.3)
    X_train, X_test, train, test, same, _ = parts
    assert all(isinstance(part, da.Array) for part in parts[:4])
    assert sorted([*train.compute(), *test.compute()]) == list(rows)
    np.testing.assert_array_equal(X_train, few[train.compute()])
    np.testing.assert_array_equal(X_test, few[test.compute()])
    np.testing.assert_array_equal(same, train)
    if by == "row":
        assert len(test) == 0.3 * n
    assert not np.isnan(X_train.chunks[0]).any()


def test_splits_are_reproducible_and_depend_on_the_seed():
    a, b, c = (train_test_split(lazy(X), random_state=seed)[1].compute() for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[:50], c[:50])


def test_stratified_splits_keep_the_classes_in_proportion():
    y = np.array(["rare"] * 20 + ["common"] * 980)
    _, _, train, test = train_test_split(lazy(X), lazy(y, 300), stratify=lazy(y, 90), test_size=0.25)
    assert (test.compute() == "rare").sum() == 5
    assert (train.compute() == "rare").sum() == 15


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize(
    ("y", "sizes"),
    [
        (np.arange(100) % 7, {"test_size": 30}),
        (np.arange(100) % 7, {"test_size": 0.13, "train_size": 0.61}),
        (np.repeat([0, 1, 2], [3, 40, 57]), {"test_size": 5, "train_size": 7}),
        (np.arange(10) % 5, {"test_size": 5}),
    ],
)
def test_stratified_sizes_and_classes_are_scikit_learns(y, sizes, chunk):
    for seed in range(3):
        train, test = train_test_split(lazy(y, chunk), stratify=y, random_state=seed, **sizes)
        expected = theirs.train_test_split(y, stratify=y, random_state=seed, **sizes)
        for side, other in zip((train.compute(), test.compute()), expected, strict=True):
            assert len(side) == len(other)
            # Ties are drawn: a class may have one row more or less than there.
            assert np.abs(np.bincount(side, minlength=7) - np.bincount(other, minlength=7)).max() <= 1


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_sizes_that_leave_rows_out_are_kept_whatever_the_blocks(chunk):
    for train_size, test_size in [(10, 50), (50, 10), (0.1, 0.5), (33, 67)]:
        parts = train_test_split(lazy(np.arange(100), chunk), train_size=train_size, test_size=test_size)
        expected = theirs.train_test_split(np.arange(100), train_size=train_size, test_size=test_size)
        assert [len(part) for part in parts] == [len(part) for part in expected]
        assert not set(parts[0].compute()) & set(parts[1].compute())


def test_a_rare_class_in_blocks_of_its_own_is_drawn_from_too():
    y = np.repeat([0, 1], [36, 4])
    chosen = {
        tuple(train_test_split(lazy(np.arange(40), 1), stratify=y, random_state=s)[1].compute()) for s in range(9)
    }
    assert len({tuple(r for r in rows if r >= 36) for rows in chosen}) > 1


def test_a_size_is_any_real_number():
    for size in (np.float32(0.3), np.float16(0.3), np.float64(0.3), np.int8(100), Fraction(3, 10)):
        assert len(train_test_split(lazy(X), test_size=size)[1]) == (100 if size == 100 else 300)


def test_without_shuffling_the_last_rows_are_the_test():
    rows = np.arange(1000)
    train, test = train_test_split(lazy(rows), shuffle=False, test_size=100, train_size=500)
    np.testing.assert_array_equal(train, rows[:500])
    np.testing.assert_array_equal(test, rows[900:])


def test_containers_and_coordinates_are_kept():
    frame = pd.DataFrame(X, columns=list("abcd"))
    grid = xr.DataArray(X, dims=["time", "band"], coords={"time": np.arange(1000)}, attrs={"units": "K"})
    f_train, f_test, g_train, g_test = train_test_split(frame, grid.chunk(time=100), random_state=0)
    assert isinstance(f_test, pd.DataFrame)
    assert g_test.chunks is not None
    assert g_test.attrs == {"units": "K"}
    np.testing.assert_array_equal(g_test["time"], f_test.index)
    np.testing.assert_array_equal(g_train, f_train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_size": 1.5}, "test_size"),
        ({"test_size": 0.7, "train_size": 0.7}, "more than"),
        ({"by": "column"}, "by must be"),
        ({"by": "block", "stratify": np.zeros(1000)}, "Stratified"),
        ({"stratify": np.arange(1000)}, "only 1 member"),
        ({"stratify": np.zeros(999)}, "1000 rows, but stratify has 999"),
        ({"stratify": np.arange(1000) % 5, "test_size": 2}, "test_size = 2 should be greater or equal to the number"),
        ({"stratify": np.arange(1000) % 5, "train_size": 4}, "train_size = 4 should be greater"),
        ({"test_size": "0.3"}, "test_size must be"),
        ({"test_size": np.nan}, "test_size must be"),
        ({"test_size": np.float32(1.0)}, "test_size must be"),
        ({"test_size": np.int64(0)}, "test_size must be"),
        ({"test_size": np.bool_(True)}, "test_size must be"),
    ],
)
def test_splits_that_make_no_sense_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        train_test_split(lazy(X), **options)
