"""Labelled cells drawn from a grid, against drawing them from a list of all cells."""

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import daskml_core
from daskml_core.data import sample_labelled
from daskml_core.errors import MissingChunksError
from daskml_core.kernels import labelled
from daskml_core.kernels.labelled import places
from daskml_core.linear_model import LogisticRegression

T, Y, X = 6, 20, 30
DIMS = ("time", "lat", "lon")


def cube(seed=0, *, gaps=0.0):
    """Two variables, some cells of which are NaN, and a height that has no time."""
    rng = np.random.default_rng(seed)
    coords = {"time": np.arange(T), "lat": np.linspace(-57, 57, Y), "lon": np.arange(X) * 12.0, "crs": 0}
    ds = xr.Dataset({n: (DIMS, rng.normal(size=(T, Y, X)).astype("f4")) for n in "tu"}, coords=coords)
    ds["t"] = ds.t.where(xr.DataArray(rng.random((T, Y, X)) >= gaps, dims=DIMS))
    return ds.assign(height=(("lat", "lon"), np.arange(Y * X, dtype="f4").reshape(Y, X)))


def few_labels(dims=DIMS, seed=1):
    """NaN, and 60 cells of class 1, 12 of class 2, 3 of class 5."""
    shape = tuple({"time": T, "lat": Y, "lon": X}[d] for d in dims)
    flat = np.full(int(np.prod(shape)), np.nan, dtype="f4")
    cells = np.random.default_rng(seed).permutation(len(flat))[:75]
    flat[cells] = np.repeat([1, 2, 5], [60, 12, 3])
    return xr.DataArray(flat.reshape(shape), dims=dims)


def expected(ds, labels, n, seed):
    """The first complete cells of each class in the queue, out of all cells: positions along lat, lon, time."""
    everywhere = labels.broadcast_like(ds.u).transpose("lat", "lon", "time").values.reshape(-1)
    complete = ds.t.notnull().transpose("lat", "lon", "time").values.reshape(-1)
    place = places(np.arange(Y * X * T), int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
    drawn = []
    for label in np.unique(everywhere[~np.isnan(everywhere)]):
        own = np.flatnonzero((everywhere == label) & complete)
        drawn += own[np.argsort(place[own])[:n]].tolist()
    return np.unravel_index(np.sort(drawn), (Y, X, T)), everywhere[np.sort(drawn)]


@pytest.mark.parametrize("dims", [DIMS, ("lat", "lon"), ("time",), ("lon", "time")], ids="-".join)
@pytest.mark.parametrize("gaps", [0.0, 0.7])
def test_the_first_complete_cells_of_each_class_are_drawn_with_their_coordinates(dims, gaps, monkeypatch):
    ds = cube(gaps=gaps)
    labels = few_labels(dims) if len(dims) > 1 else xr.DataArray(np.array([1, 1, np.nan, 2, 2, 5.0]), dims=dims)
    train = sample_labelled(ds.chunk(time=2, lat=5, lon=10), labels, n_per_class=8, random_state=3)
    (lat, lon, time), label = expected(ds, labels, 8, 3)
    np.testing.assert_array_equal(train.label, label)
    for name, index in (("lat", lat), ("lon", lon), ("time", time)):
        np.testing.assert_array_equal(train[name], ds[name].values[index])
    np.testing.assert_array_equal(train.t, ds.t.values[time, lat, lon])
    np.testing.assert_array_equal(train.height, ds.height.values[lat, lon])
    assert int(train.crs) == 0
    assert not dask.is_dask_collection(train)
    monkeypatch.setattr(labelled, "TILE", 7)
    assert sample_labelled(ds, labels, n_per_class=8, random_state=3).identical(train)


def test_chunks_order_of_dimensions_threads_and_workers_draw_the_same_cells():
    ds, labels = cube(gaps=0.3), few_labels()
    expected = sample_labelled(ds, labels, n_per_class=10, random_state=0)
    for chunks in ({"time": 1}, {"lat": 3, "lon": 7}, {}):
        for own in ({"lat": 4}, {"time": 1, "lon": 11}):
            train = sample_labelled(ds.chunk(chunks), labels.chunk(own), n_per_class=10, random_state=0)
            assert train.identical(expected)
    turned = sample_labelled(
        ds.transpose("lon", "lat", "time"), labels.transpose("lat", "time", "lon"), n_per_class=10, random_state=0
    )
    assert turned.identical(expected)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        train = sample_labelled(ds.chunk(lat=5), labels.chunk(lat=4), n_per_class=10, random_state=0)
    assert train.identical(expected)
    other = sample_labelled(ds, labels, n_per_class=10, random_state=1)
    assert not other.identical(expected)


def test_only_chunks_that_hold_a_drawn_cell_are_read_and_labels_once():
    ds, reads = cube().chunk(time=2, lat=5, lon=10), {"t": [], "labels": []}

    def watched(array, name):
        def touched(block, block_info=None):
            reads[name].append(tuple(block_info[0]["chunk-location"]))
            return block

        return array.copy(data=array.data.map_blocks(touched, dtype=array.dtype, meta=np.empty((0,) * 3, array.dtype)))

    labels = xr.full_like(cube().u, np.nan)
    labels[1, 3, 4:8] = 1
    labels[5, 12, 15] = 2
    ds["t"] = watched(ds.t, "t")
    train = sample_labelled(ds, watched(labels.chunk(time=2, lat=10), "labels"), n_per_class=2, random_state=0)
    assert train.sizes == {"sample": 3}
    assert sorted(reads["t"]) == [(0, 0, 0), (2, 2, 1)]
    assert len(reads["labels"]) == 6
    # All gaps but one: the cells to spare are used up, and the labels are read a second time.
    big = xr.DataArray(np.ones((T, Y, X)), dims=DIMS)
    gap = cube().assign(t=cube().t.where(cube().lon == 36.0))
    assert sample_labelled(gap, big, n_per_class=50, random_state=0).sizes == {"sample": 50}
    assert sample_labelled(gap, big, n_per_class=500, random_state=0).sizes == {"sample": T * Y}


def test_classes_that_have_fewer_give_all_and_others_can_be_left_out():
    ds, labels = cube(), few_labels()
    counts = dict(zip(*np.unique(sample_labelled(ds, labels, n_per_class=20).label, return_counts=True), strict=True))
    assert counts == {1: 20, 2: 12, 5: 3}
    train = sample_labelled(ds, labels, n_per_class={2.0: 4, np.float32(5): 9})
    assert sorted(train.label.values.tolist()) == [2] * 4 + [5] * 3
    whole = labels.fillna(0).astype("u1")
    for none in (0, (0, 1), [0, 1, 2]):
        values = set(sample_labelled(ds, whole, n_per_class=5, unlabelled=none).label.values.tolist())
        assert values == {1, 2, 5} - set(none if isinstance(none, list | tuple) else ())
    assert sample_labelled(ds, whole, n_per_class=5).label.dtype == np.uint8
    for nothing in (None, np.nan, pd.NA):
        words = np.array([nothing, "sea", "ice", "land"], dtype=object)
        text = xr.DataArray(words[whole.values % 5 % 4], dims=DIMS)
        names, counts = np.unique(sample_labelled(ds, text, n_per_class=5).label.values.astype(str), return_counts=True)
        assert names.tolist() == ["ice", "sea"]
        assert counts.tolist() == [5, 5]


def test_each_cell_is_drawn_as_often_as_any_other():
    ds, labels = cube(), xr.DataArray(np.where(np.arange(X) < 12, 1.0, np.nan), dims="lon").expand_dims(lat=Y)
    counts = np.zeros(12)
    for seed in range(20):
        train = sample_labelled(ds, labels, n_per_class=60, random_state=seed)
        np.add.at(counts, (train.lon.values / 12).astype(int), 1)
    # 1200 draws into 12 columns: 100 each, with a standard deviation of 9.6.
    assert np.abs(counts - 100).max() < 40
    assert ((counts - 100) ** 2 / 100).sum() < 31.3  # chi-square of 11 degrees, 0.1 %


def test_a_band_image_is_sampled_fitted_and_mapped(tmp_path):
    rng = np.random.default_rng(0)
    truth = (np.arange(40)[:, None] + np.arange(50)[None, :] > 45).astype(int)
    image = rng.normal(size=(3, 40, 50)) + 3 * truth
    image[:, :3] = np.nan
    array = xr.DataArray(image, dims=("band", "y", "x"), coords={"band": ["r", "g", "b"]})
    array = array.assign_coords(y=np.arange(40.0), x=np.arange(50.0))
    array.to_dataset(name="image").chunk(y=10, band=1).to_zarr(tmp_path / "x.zarr", zarr_format=2, consolidated=False)
    lazy = daskml_core.open(tmp_path / "x.zarr", "image")
    labels = xr.DataArray(truth, dims=("y", "x"), coords={"y": np.arange(40.0)}).isel(y=slice(None, None, -1))
    train = sample_labelled(lazy, labels, n_per_class=40, random_state=0)
    assert train.dims == ("sample", "band")
    assert not np.isnan(train).any()
    np.testing.assert_array_equal(train.label, truth[train.y.values.astype(int), train.x.values.astype(int)])
    model = LogisticRegression().fit(train, train.label)
    assert model.feature_names_in_.tolist() == ["r", "g", "b"]
    predicted = model.predict(lazy)
    assert float((predicted == truth).where(predicted.notnull()).mean()) > 0.97
    (tmp_path / "x.zarr/image/0.2.0").unlink()
    with pytest.raises(MissingChunksError):
        sample_labelled(daskml_core.open(tmp_path / "x.zarr", "image"), labels, n_per_class=400, random_state=0)


def test_what_cannot_be_sampled_is_refused():
    ds, labels = cube(), few_labels()
    with pytest.raises(ValueError, match=r"No cell has a label among \[7\]. Labels that were found: \[1.0, 2.0, 5.0\]"):
        sample_labelled(ds, labels, n_per_class={7: 3})
    with pytest.raises(ValueError, match=r"No cell has a label. Labels that were found: \[\]"):
        sample_labelled(ds, labels * np.nan, n_per_class=3)
    with pytest.raises(ValueError, match="lack one of the features"):
        sample_labelled(ds.assign(t=ds.t * np.nan), labels, n_per_class=3)
    with pytest.raises(ValueError, match=r"'depth'.* that X lacks"):
        sample_labelled(ds, labels.expand_dims(depth=2), n_per_class=3)
    with pytest.raises(ValueError, match="different coordinates along 'lat'"):
        sample_labelled(ds, labels.assign_coords(lat=ds.lat + 1), n_per_class=3)
    with pytest.raises(ValueError, match="have 'label' already"):
        sample_labelled(ds.assign_coords(label=1), labels, n_per_class=3)
    with pytest.raises(ValueError, match="n_per_class must be a positive"):
        sample_labelled(ds, labels, n_per_class=0)
    with pytest.raises(TypeError, match="labels must be a DataArray"):
        sample_labelled(ds, labels.values, n_per_class=3)
    field = xr.DataArray(np.random.default_rng(0).random((T, Y, X)), dims=DIMS)
    with pytest.raises(ValueError, match=r"labels holds 3,600 values"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelled, "MOST_CLASSES", 1000)
        sample_labelled(ds, field, n_per_class=3)
