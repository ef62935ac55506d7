"""Grids: xarray objects with samples on several dimensions, against the same samples as a matrix."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from sklearn.base import clone

import daskml_core.accessor  # noqa: F401 - makes ds.ml known
from daskml_core.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from daskml_core.engine import Engine
from daskml_core.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC, LinearSVC

TIME, LAT, LON = 6, 10, 12
DIMS = ("time", "lat", "lon")


def values(seed=0, *, land=True, dtype="f4"):
    """(time, lat, lon, 3), the same pixels NaN at all times."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=4, size=(4, 3))
    x = centres[rng.integers(4, size=(TIME, LAT, LON))] + rng.normal(size=(TIME, LAT, LON, 3))
    if land:
        x[:, rng.random((LAT, LON)) < 0.3] = np.nan
    return x.astype(dtype)


def dataset(x, chunks=None):
    """Three variables on (time, lat, lon), with coordinates, a grid mapping and attributes."""
    coords = {
        "time": np.arange(TIME),
        "lat": ("lat", np.linspace(-70, 80, LAT), {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": np.linspace(0, 330, LON),
        "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        "season": ("time", np.arange(TIME) // 2),
    }
    made = xr.Dataset({name: (DIMS, x[..., i]) for i, name in enumerate(["t", "u", "v"])}, coords=coords)
    return made.chunk(chunks or {"time": 2, "lat": 5})


def matrix(x):
    """The complete samples of a grid, in C order, and which they are."""
    flat = x.reshape(-1, x.shape[-1])
    complete = ~np.isnan(flat).any(axis=1)
    return flat[complete], complete


@pytest.mark.parametrize("chunks", [{"time": 2}, {"time": -1}, {"time": 1}])
def test_a_grid_gives_the_bits_of_its_matrix_when_rows_come_in_the_same_blocks(chunks):
    x = values()
    ds = dataset(x, chunks)
    flat, complete = matrix(x)
    y = (x[..., 0] + x[..., 1] > 0).astype(float)
    sizes = tuple(
        int(complete.reshape(TIME, -1)[lo:stop].sum())
        for lo, stop in zip(np.cumsum([0, *ds.chunksizes["time"]])[:-1], np.cumsum(ds.chunksizes["time"]), strict=True)
    )
    lazy = da.from_array(flat, chunks=(sizes, -1))
    grid = LogisticRegression().fit(ds, xr.DataArray(y, dims=DIMS))
    rows = LogisticRegression().fit(lazy, y.reshape(-1)[complete])
    np.testing.assert_array_equal(grid.coef_, rows.coef_)
    assert grid.feature_names_in_.tolist() == ["t", "u", "v"]
    np.testing.assert_array_equal(
        KMeans(4, random_state=0).fit(ds).cluster_centers_, KMeans(4, random_state=0).fit(lazy).cluster_centers_
    )


def test_chunks_of_any_dimension_give_the_same_model():
    x = values()
    y = x @ np.array([1.0, -2.0, 0.5], dtype="f4")
    flat, complete = matrix(x)
    expected = Ridge().fit(flat, y.reshape(-1)[complete])
    for chunks in ({"lat": 3}, {"time": 4, "lat": 3, "lon": 5}, {"lon": 1}):
        model = Ridge().fit(dataset(x, chunks), xr.DataArray(y, dims=DIMS))
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)


@pytest.mark.parametrize("order", [("band", *DIMS), (*DIMS, "band"), ("lat", "band", "time", "lon")])
def test_the_feature_dimension_may_stand_anywhere(order):
    x = values()
    array = xr.DataArray(x, dims=(*DIMS, "band"), coords={"band": ["a", "b", "c"]}).transpose(*order)
    lazy = array.chunk({"time": 2, "band": 1})
    model = KMeans(4, random_state=0).fit(lazy)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.cluster_sizes_.sum() == matrix(x)[0].shape[0]
    labels = model.predict(lazy)
    assert labels.dims == tuple(d for d in order if d != "band")
    scaled = StandardScaler().fit(lazy).transform(lazy)
    assert scaled.dims == order
    flat = matrix(x)[0]
    np.testing.assert_allclose(
        scaled.transpose(*DIMS, "band").values.reshape(-1, 3)[matrix(x)[1]],
        (flat - flat.mean(axis=0)) / flat.std(axis=0),
        atol=1e-4,
    )


def test_predictions_are_lazy_keep_coordinates_and_have_nan_where_a_value_is_missing():
    x = values()
    ds = dataset(x)
    model = LogisticRegression().fit(ds, (ds.t > 0).where(ds.t.notnull()))
    label = model.predict(ds)
    assert dask.is_dask_collection(label)
    assert label.dims == DIMS
    assert label.chunks == ds.t.chunks
    for name in ("time", "lat", "lon", "crs", "season"):
        xr.testing.assert_identical(label.coords[name], ds.coords[name])
    np.testing.assert_array_equal(np.isnan(label.values), np.isnan(x[..., 0]))
    flat, complete = matrix(x)
    rows = da.from_array(flat)
    np.testing.assert_array_equal(label.values.reshape(-1)[complete], model.predict(rows))
    probability = model.predict_proba(ds)
    assert probability.dims == (*DIMS, "class")
    np.testing.assert_allclose(probability.values.reshape(-1, 2)[complete], model.predict_proba(rows), rtol=1e-6)


def test_the_grid_mapping_that_variables_name_is_named_by_what_comes_out():
    ds = dataset(values())
    model = KMeans(3, random_state=0).fit(ds)
    assert "grid_mapping" not in model.predict(ds).attrs
    for name in ("t", "v"):
        ds[name].attrs["grid_mapping"] = "crs"
    assert model.predict(ds).attrs["grid_mapping"] == "crs"
    ds.u.encoding["grid_mapping"] = "another"
    assert "grid_mapping" not in model.predict(ds).attrs
    assert model.predict(ds.to_dataarray("band").assign_attrs(grid_mapping="crs")).attrs["grid_mapping"] == "crs"


def test_a_grid_of_integers_has_integer_labels_and_costs_no_sweep_for_masks():
    x = (values(land=False) * 10).astype("i2")
    ds = dataset(x)
    model = KMeans(4, random_state=0).fit(ds)
    assert model.predict(ds).dtype == np.int32
    assert model.n_sweeps_ == KMeans(4, random_state=0).fit(x.reshape(-1, 3)).n_sweeps_


def test_labels_of_text_become_objects_with_nan():
    x = values()
    ds = dataset(x)
    names = xr.where(ds.t > 0, "warm", "cold")
    model = LogisticRegression().fit(ds, names)
    label = model.predict(ds).values
    assert set(label[~np.isnan(x[..., 0])]) == {"warm", "cold"}
    assert all(value != value for value in label[np.isnan(x[..., 0])])


def test_the_target_may_lie_on_fewer_dimensions_and_in_another_order():
    x = values()
    ds = dataset(x)
    by_place = xr.DataArray(np.arange(LAT * LON, dtype=float).reshape(LAT, LON).T, dims=("lon", "lat"))
    model = LinearRegression().fit(ds, by_place)
    y = np.broadcast_to(by_place.values.T, (TIME, LAT, LON))
    flat, complete = matrix(x)
    np.testing.assert_allclose(model.coef_, LinearRegression().fit(flat, y.reshape(-1)[complete]).coef_, rtol=1e-8)


def test_labels_in_another_order_are_matched_and_other_labels_refused():
    ds = dataset(values())
    expected = Ridge().fit(ds[["t", "u"]], ds.v).coef_
    np.testing.assert_allclose(
        Ridge().fit(ds[["t", "u"]], ds.v.isel(lat=slice(None, None, -1))).coef_, expected, rtol=1e-10
    )
    with pytest.raises(ValueError, match="different coordinates along 'lat'"):
        Ridge().fit(ds[["t", "u"]], ds.v.assign_coords(lat=ds.lat + 1))
    with pytest.raises(ValueError, match="5 labels along 'lat' where X has 10"):
        Ridge().fit(ds[["t", "u"]], ds.v.isel(lat=slice(5)))
    with pytest.raises(ValueError, match=r"'depth'.* that X lacks"):
        Ridge().fit(ds[["t", "u"]], ds.v.expand_dims(depth=2))
    with pytest.raises(ValueError, match="DataArray on some of its dimensions"):
        Ridge().fit(ds[["t", "u"]], np.zeros(TIME * LAT * LON))


def test_weights_by_latitude_are_those_of_its_cosine():
    x = values()
    ds = dataset(x)
    model = Ridge().fit(ds[["t", "u"]], ds.v, sample_weight="cos_lat")
    weight = np.broadcast_to(np.cos(np.deg2rad(ds.lat.values))[None, :, None], (TIME, LAT, LON)).reshape(-1)
    flat, complete = matrix(x)
    expected = Ridge().fit(flat[:, :2], flat[:, 2], sample_weight=weight[complete])
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    by_name = Ridge().fit(ds[["t", "u"]], ds.v, sample_weight=np.cos(np.deg2rad(ds.lat)))
    np.testing.assert_allclose(by_name.coef_, model.coef_, rtol=1e-12)
    with pytest.raises(ValueError, match="latitude in degrees"):
        Ridge().fit(ds.assign_coords(lat=ds.lat * 9)[["t", "u"]], ds.v.drop_vars("lat"), sample_weight="cos_lat")
    with pytest.raises(ValueError, match="needs one coordinate that is the latitude"):
        Ridge().fit(ds.drop_vars("lat")[["t", "u"]], ds.v, sample_weight="cos_lat")
    with pytest.raises(ValueError, match="not known"):
        Ridge().fit(ds[["t", "u"]], ds.v, sample_weight="area")


def test_an_interrupted_fit_to_a_grid_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    ds = dataset(values())
    warm = (ds.t > 0).astype("f4").where(ds.t.notnull())
    model = LogisticRegression(solver="gradient_descent", max_iter=15, tol=1e-3)
    expected = clone(model).fit(ds, warm, sample_weight="cos_lat")
    own, made, last = Engine.sweep_now, [0], [6]

    def sweep(self, *asked):
        made[0] += 1
        if made[0] == last[0]:
            raise KeyboardInterrupt
        return own(self, *asked)

    monkeypatch.setattr(Engine, "sweep_now", sweep)
    with dask.config.set({"daskml-core.checkpoint-sweeps": 1}):
        with pytest.raises(KeyboardInterrupt):
            clone(model).fit(ds, warm, sample_weight="cos_lat", checkpoint=tmp_path / "c")
        first, made[0], last[0] = made[0], 0, -1
        model.fit(ds, warm, sample_weight="cos_lat", checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    assert model.n_sweeps_ == expected.n_sweeps_
    assert made[0] + first - 1 <= len(expected.history_) + 4  # what was answered is not asked again


def test_variables_that_lack_a_dimension_are_repeated_along_it():
    x = values(land=False)
    ds = dataset(x).assign(height=(("lat", "lon"), np.arange(LAT * LON, dtype="f4").reshape(LAT, LON)))
    model = KMeans(3, random_state=0).fit(ds)
    assert model.n_features_in_ == 4
    whole = np.concatenate([x, np.broadcast_to(ds.height.values[None, ..., None], (TIME, LAT, LON, 1))], axis=-1)
    assert model.inertia_ == pytest.approx(-model.score(da.from_array(whole.reshape(-1, 4))), rel=1e-6)


def test_a_field_that_lacks_a_dimension_has_no_chunks_merged_and_is_not_read_by_plan_or_predict():
    ds, reads = dataset(values(), {"time": 2, "lat": 5}), []

    def touched(block):
        reads.append(1)
        return block

    height = xr.DataArray(np.arange(LAT * LON, dtype="f4").reshape(LAT, LON), dims=("lat", "lon")).chunk()
    ds["height"] = height.copy(data=height.data.map_blocks(touched, dtype="f4", meta=np.empty((0, 0), "f4")))
    assert KMeans(3).plan(ds).n_blocks == 6
    assert not reads
    model = KMeans(3, random_state=0).fit(ds)
    assert len(reads) == 1
    label = model.predict(ds)
    assert len(reads) == 1
    assert label.chunks == ds.t.chunks
    expected = KMeans(3, random_state=0).fit(ds.assign(height=height.compute()))
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(label, expected.predict(ds.assign(height=height.compute())))


@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_values_that_attributes_call_missing_are_masked(name):
    x = values()
    ds = dataset(x)
    expected = KMeans(3, random_state=0).fit((ds * 100).round())
    raw = (ds * 100).round().fillna(-9999).astype("i2")
    for variable in raw.data_vars.values():
        variable.attrs = {name: np.int16(-9999), "units": "K"}
    model = KMeans(3, random_state=0).fit(raw)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-6)
    xr.testing.assert_equal(model.predict(raw).compute(), expected.predict((ds * 100).round()).compute())
    cube = raw.to_dataarray("band").assign_attrs({name: -9999})
    assert KMeans(3, random_state=0).fit(cube.chunk(band=1)).inertia_ == pytest.approx(model.inertia_, rel=1e-6)
    assert Ridge().fit(raw[["t", "u"]], raw.v).coef_ == pytest.approx(
        Ridge().fit((ds * 100).round()[["t", "u"]], (ds * 100).round().v).coef_, rel=1e-6
    )
    with pytest.raises(ValueError, match="contains NaN"):  # a table has no mask
        KMeans(2).fit(cube.isel(time=0, lat=0, drop=True).chunk())


def test_a_target_in_other_chunks_is_told_with_its_size():
    ds = dataset(values(), {"time": 2})
    expected = Ridge().fit(ds[["t", "u"]], ds.v).coef_
    for chunks in ({"time": 3}, {"time": 1}, {"lon": 5}):
        with pytest.warns(UserWarning, match=r"y is chunked in another way than X.* at most 0.0 MiB"):
            model = Ridge().fit(ds[["t", "u"]], ds.v.chunk(chunks))
        np.testing.assert_allclose(model.coef_, expected, rtol=1e-12)


def test_variables_chunked_differently_are_merged_and_told():
    x = values()
    ds = dataset(x, {"time": 2})
    ds["u"] = ds.u.chunk({"time": 3})
    with pytest.warns(UserWarning, match="chunked differently.*MiB"):
        model = KMeans(4, random_state=0).fit(ds)
    assert model.cluster_sizes_.sum() == matrix(x)[0].shape[0]


@pytest.mark.parametrize(
    "model",
    [
        SGDClassifier(random_state=0, max_iter=3),
        LinearSVC(),
        SVC(C=1.0),
        BisectingKMeans(3, random_state=0),
        MiniBatchKMeans(3, random_state=0, batch_size=64),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_estimators_take_grids_too(model):
    ds = dataset(values())
    y = (ds.t > 0).astype("i8")
    label = model.fit(ds, y).predict(ds)
    assert label.dims == DIMS
    assert int(np.isnan(label).sum()) == int(ds.t.isnull().sum())


def test_features_are_checked_by_name_at_predict():
    ds = dataset(values())
    model = KMeans(3, random_state=0).fit(ds)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(ds[["u", "t", "v"]])


def test_infinity_is_refused_and_a_grid_without_complete_samples_too():
    ds = dataset(values())
    with pytest.raises(ValueError, match="infinity"):
        KMeans(2).fit(ds.assign(t=xr.where(ds.t > 0, np.inf, ds.t)))
    with pytest.raises(ValueError, match="No sample of the grid is complete"):
        KMeans(2).fit(ds.assign(t=ds.t * np.nan))


def test_the_plan_of_a_grid_reads_nothing():
    reads = []

    def touched(block):
        reads.append(1)
        return block

    ds = dataset(values())
    watched = ds.map(
        lambda a: a.copy(data=a.data.map_blocks(touched, dtype=a.dtype, meta=np.empty((0, 0, 0), a.dtype)))
    )
    plan = KMeans(3).plan(watched)
    assert plan.n_rows == TIME * LAT * LON
    assert not reads


def test_the_accessor_fits_masks_and_predicts():
    x = values()
    ds = dataset(x)
    north = ds.lat > 0
    model = ds.ml.fit(KMeans(3, random_state=0), mask=north)
    assert model.cluster_sizes_.sum() == np.isfinite(x[:, np.asarray(north)]).all(axis=-1).sum()
    label = ds.ml.predict(model, mask=north)
    assert np.isnan(label.sel(lat=ds.lat[~north])).all()
    kept = ds.ml.predict(model, mask=north, fill_value=-1)
    assert kept.dtype == np.int32
    assert kept.encoding["_FillValue"] == -1
    np.testing.assert_array_equal(kept, label.fillna(-1))
    turned = ds.ml.fit(KMeans(3, random_state=0), mask=north.isel(lat=slice(None, None, -1)))
    assert turned.inertia_ == model.inertia_
    with pytest.raises(ValueError, match="different coordinates along 'lat'"):
        ds.ml.fit(KMeans(3), mask=north.assign_coords(lat=ds.lat + 1))
    with pytest.raises(ValueError, match=r"mask lies on .*'depth': 2"):
        ds.ml.predict(model, mask=north.expand_dims(depth=2))
    with pytest.raises(TypeError, match="mask must be a boolean DataArray"):
        ds.ml.fit(KMeans(3), mask=np.asarray(north))
    array = ds.to_dataarray("name")
    same = array.ml.fit(KMeans(3, random_state=0), dims=("lat", "time", "lon"), mask=north)
    assert same.inertia_ == pytest.approx(model.inertia_, rel=1e-6)
    with pytest.raises(ValueError, match="must be left for the features"):
        array.ml.fit(KMeans(3), dims=("lat",))
    with pytest.raises(ValueError, match="the data lacks"):
        array.ml.fit(KMeans(3), dims=("latitude",))


def test_a_cluster_gives_the_same_bits_as_threads():
    ds = dataset(values())
    expected = KMeans(4, random_state=0).fit(ds)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        model = KMeans(4, random_state=0).fit(ds)
        np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
        labels = model.predict(ds).compute()
    np.testing.assert_array_equal(labels, expected.predict(ds).compute())
