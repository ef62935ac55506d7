"""Whatever holds the data, the model is the same; the output comes in the container of the input."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from scipy import sparse

from daskml_core.errors import UnsupportedDataError
from daskml_core.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from daskml_core.metrics import accuracy_score
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from tests.problems import two_classes

X, Y = two_classes(n=500, d=4)
W = np.random.default_rng(1).random(500)
NAMES = ["a", "b", "c", "d"]


def dask_with_empty_blocks(a):
    parts = [
        da.from_array(a[:200], chunks=60),
        da.zeros((0, *a.shape[1:]), dtype=a.dtype),
        da.from_array(a[200:], chunks=300),
    ]
    return da.concatenate(parts)


def unknown_chunks(a):
    array = da.from_array(a, chunks=(77, *a.shape[1:]))
    return array[da.ones(len(a), chunks=77, dtype=bool)]


def zarr_array(a):
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=a.shape, chunks=(64, *(2,) * (a.ndim - 1)), dtype=a.dtype
    )
    array[:] = a
    return array


CONTAINERS = {
    "numpy": lambda a: a,
    "fortran": np.asfortranarray,
    "list": lambda a: a.tolist(),
    "dask": lambda a: da.from_array(a, chunks=(120, *a.shape[1:])),
    "one-row chunks": lambda a: da.from_array(a, chunks=(1, *a.shape[1:])),
    "column chunks": lambda a: da.from_array(a, chunks=(120, *(3,) * (a.ndim - 1))),
    "empty blocks": dask_with_empty_blocks,
    "unknown chunks": unknown_chunks,
    "rechunked": lambda a: da.from_array(a, chunks=(90, *a.shape[1:])).rechunk((130, *a.shape[1:])),
    "zarr": zarr_array,
    "from_zarr": lambda a: da.from_zarr(zarr_array(a)),
    "pandas": lambda a: pd.DataFrame(a, columns=NAMES) if a.ndim == 2 else pd.Series(a),
    "dask dataframe": lambda a: dd.from_pandas(
        pd.DataFrame(a, columns=NAMES) if a.ndim == 2 else pd.Series(a), npartitions=4
    ),
    "xarray": lambda a: xr.DataArray(a, dims=["time", "feature"][: a.ndim]),
    "lazy xarray": lambda a: xr.DataArray(a, dims=["time", "feature"][: a.ndim]).chunk(time=110),
    "features first": lambda a: (
        xr.DataArray(a.T, dims=["feature", "time"]).chunk(time=110) if a.ndim == 2 else xr.DataArray(a, dims="time")
    ),
    "dataset": lambda a: (
        xr.Dataset({n: ("time", c) for n, c in zip(NAMES, a.T, strict=True)}).chunk(time=70)
        if a.ndim == 2
        else xr.DataArray(a, dims="time")
    ),
}


@pytest.fixture(scope="module")
def reference():
    return LogisticRegression(tol=1e-9).fit(X, Y, W)


@pytest.mark.parametrize("of_X", CONTAINERS)
def test_any_container_gives_the_same_model(of_X, reference):
    model = LogisticRegression(tol=1e-9).fit(CONTAINERS[of_X](X), Y, W)
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-8)


@pytest.mark.parametrize(
    "of_y", ["list", "dask", "one-row chunks", "empty blocks", "unknown chunks", "zarr", "pandas", "xarray"]
)
def test_targets_and_weights_may_be_chunked_differently(of_y, reference):
    wrap = CONTAINERS[of_y]
    model = LogisticRegression(tol=1e-9).fit(da.from_array(X, chunks=(90, 3)), wrap(Y), wrap(W))
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-8)


@pytest.mark.parametrize("name", CONTAINERS)
def test_predictions_come_in_the_container_of_the_input(name, reference):
    data = CONTAINERS[name](X)
    model = LogisticRegression(tol=1e-9).fit(data, Y, W)
    result, probability = model.predict(data), model.predict_proba(data)
    if name in ("numpy", "fortran", "list", "pandas"):
        assert type(result) is np.ndarray
    elif "xarray" in name or name in ("features first", "dataset"):
        assert isinstance(result, xr.DataArray)
        assert result.dims == ("time",)
        assert probability.dims == ("time", "class")
        assert (result.chunks is None) == (name == "xarray")
    else:
        assert isinstance(result, da.Array)
    np.testing.assert_array_equal(np.asarray(result), reference.predict(X))
    np.testing.assert_allclose(np.asarray(probability), reference.predict_proba(X), rtol=1e-6)
    assert accuracy_score(Y, result) == reference.score(X, Y)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dims", [("time", "band"), ("band", "time")])
def test_rescaled_rows_keep_every_coordinate_and_the_order_of_dimensions(dims, lazy):
    coords = {"time": np.arange(500), "band": [0.4, 0.5, 0.6, 0.7], "sensor": ("band", NAMES), "site": "A"}
    coords["quality"] = (("time", "band"), X)
    data = xr.DataArray(X, dims=["time", "band"], coords=coords).transpose(*dims)
    data = data.chunk(time=110) if lazy else data
    scaled = StandardScaler().fit(data).transform(data)
    assert scaled.dims == dims
    assert (scaled.chunks is not None) == lazy
    xr.testing.assert_identical(scaled.coords.to_dataset(), data.coords.to_dataset())
    np.testing.assert_allclose(scaled.transpose("time", "band"), StandardScaler().fit_transform(X))
    assert LogisticRegression().fit(scaled, Y).predict_proba(scaled).dims == ("time", "class")


def test_coordinates_are_kept():
    data = xr.DataArray(X, dims=["time", "band"], coords={"time": np.arange(500) * 2.0, "band": NAMES}).chunk(time=100)
    model = LogisticRegression().fit(data, Y)
    result = model.predict(data)
    np.testing.assert_array_equal(result["time"], data["time"])
    assert list(model.feature_names_in_) == NAMES
    scaled = StandardScaler().fit(data).transform(data)
    assert scaled.dims == ("time", "band")
    np.testing.assert_array_equal(scaled["band"], NAMES)
    assert scaled.chunks is not None


@pytest.mark.parametrize(
    "use",
    [
        lambda a, b: Ridge().fit(a, Y).predict(b),
        lambda a, b: StandardScaler().fit(a).transform(b),
        lambda a, b: MinMaxScaler().partial_fit(a).partial_fit(b),
        lambda a, b: SGDClassifier().partial_fit(a, Y, classes=[0, 1]).partial_fit(b, Y),
        lambda a, b: SGDRegressor().partial_fit(a, Y).partial_fit(b, Y),
    ],
    ids=["predict", "transform", "scaler", "classifier", "regressor"],
)
def test_features_in_another_order_are_refused(use):
    table = pd.DataFrame(X, columns=NAMES)
    lazy = dd.from_pandas(table, npartitions=2)
    for first in (table, lazy):
        for second in (table[NAMES[::-1]], lazy[NAMES[::-1]], xr.Dataset({n: ("t", table[n]) for n in NAMES[::-1]})):
            with pytest.raises(ValueError, match="same order"):
                use(first, second)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint16", "bool"])
def test_small_dtypes_are_computed_in_float(dtype):
    small = (X > 0).astype(dtype)
    expected = Ridge().fit(small.astype("float64"), Y)
    for data in (small, da.from_array(small, chunks=100)):
        model = Ridge().fit(data, Y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-9)
        computed = np.float32 if dtype in ("float16", "float32") else np.float64
        assert StandardScaler().fit(data).transform(data).dtype == computed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_with_block_and_row(bad):
    broken = X.copy()
    broken[123, 2] = bad
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity).*block 2, row 123, column 2"):
        LogisticRegression().fit(da.from_array(broken, chunks=(50, 4)), Y)


def test_a_missing_value_of_y_and_a_negative_weight_are_named():
    y, w = Y.astype(float), W.copy()
    y[7], w[300] = np.nan, -1
    data = da.from_array(X, chunks=(50, 4))
    with pytest.raises(ValueError, match="Input y contains NaN: block 0, row 7"):
        Ridge().fit(data, y)
    with pytest.raises(ValueError, match=r"Negative values in data passed to `sample_weight`.*block 6, row 300"):
        Ridge().fit(data, Y, w)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: d.update(y=Y[:-1]), ValueError, "inconsistent numbers of samples: X has 500, y has 499"),
        (lambda d: d.update(y=np.zeros(500)), ValueError, "only one class: 0.0"),
        (lambda d: d.update(sample_weight=np.zeros(500)), ValueError, "sum to zero"),
        (lambda d: d.update(y=Y + 0.5 * X[:, 0]), ValueError, "Unknown label type: continuous"),
        (lambda d: d.update(X=da.from_array(X.astype(object), chunks=100)), UnsupportedDataError, "dtype object"),
        (lambda d: d.update(X=d["X"].astype(complex)), ValueError, "Complex data not supported"),
        (lambda d: d.update(X=d["X"].map_blocks(sparse.csr_matrix)), UnsupportedDataError, "sparse blocks"),
        (lambda d: d.update(X=d["X"][:, 0]), ValueError, "Expected 2D array, got 1D array"),
        (lambda d: d.update(X=d["X"][:0], y=Y[:0]), ValueError, "0 sample"),
        (lambda d: d.update(X="flights.zarr"), TypeError, "X is the path 'flights.zarr'. Open"),
        (
            lambda d: d.update(X=X, y=np.array([None, "a"] * 250, dtype=object)),
            ValueError,
            "y contains NaN: row 0 holds None",
        ),
        (lambda d: d.update(feature_dim="band"), ValueError, "X is of type Array: leave it out"),
        (lambda d: d.update(X=X, feature_dim="band"), ValueError, "X is of type ndarray: leave it out"),
    ],
)
def test_bad_input_is_refused_with_a_reason(change, error, message):
    given = {"X": da.from_array(X, chunks=(100, 4)), "y": Y, "sample_weight": None}
    change(given)
    with pytest.raises(error, match=message):
        LogisticRegression().fit(**given)


def test_a_wrong_number_of_features_at_predict_is_refused():
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but LogisticRegression is expecting 4"):
        model.predict(da.from_array(X[:, :3], chunks=100))


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [-1, 1], [1, 2], [0.0, 1.0]])
def test_labels_of_any_kind(labels, reference):
    y = np.array(labels)[Y]
    model = LogisticRegression(tol=1e-9).fit(da.from_array(X, chunks=(90, 4)), da.from_array(y, chunks=70), W)
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-8)
    assert model.predict(X).dtype == y.dtype
    assert set(model.predict(X)) <= set(y)


LABELS = np.array(["no", "yes"])[Y]
SERIES = {
    "text": pd.Series(LABELS),
    "object": pd.Series(LABELS.astype(object)),
    "category": pd.Series(LABELS, dtype="category"),
    "boolean": pd.Series(Y == 1, dtype="boolean"),
    "Int64": pd.Series(Y, dtype="Int64"),
}


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
@pytest.mark.parametrize("name", SERIES)
def test_labels_in_a_series_of_any_dtype(name, lazy, reference):
    series = SERIES[name]
    for y in (series, series.to_frame("y")):
        y = dd.from_pandas(y, npartitions=3) if lazy else y
        model = LogisticRegression(tol=1e-9).fit(da.from_array(X, chunks=(90, 4)), y, W)
        np.testing.assert_allclose(model.coef_, reference.coef_, rtol=1e-8)
        assert model.score(X, y) == reference.score(X, Y)


@pytest.mark.parametrize("name", ["text", "boolean", "Int64"])
def test_missing_labels_of_a_series_are_named(name):
    series = SERIES[name].astype("string") if name == "text" else SERIES[name].copy()
    series[7] = pd.NA
    for y in (series, dd.from_pandas(series, npartitions=3)):
        with pytest.raises(ValueError, match="Input y contains NaN"):
            LogisticRegression().fit(da.from_array(X, chunks=(90, 4)), y)


@pytest.mark.parametrize("of_X", ["numpy", "dask"])
@pytest.mark.parametrize("weight", [np.full(500, "1.5"), np.full(500, 1.5, dtype=object), np.full(500, 1 + 1j)])
def test_weights_that_are_no_real_numbers_are_refused(of_X, weight):
    with pytest.raises(ValueError, match="weights are real numbers"):
        LogisticRegression().fit(CONTAINERS[of_X](X), Y, weight)


@pytest.mark.parametrize("name", ["numpy", "pandas", "dask dataframe"])
@pytest.mark.parametrize("text", ["1.5", "x"])
def test_text_is_not_parsed_as_numbers(name, text):
    table = pd.DataFrame(X, columns=NAMES).assign(b=text)
    data = X.astype(str) if name == "numpy" else table if name == "pandas" else dd.from_pandas(table, npartitions=2)
    for use in (
        lambda: Ridge().fit(data, Y),
        lambda: StandardScaler().fit(data),
        lambda: Ridge().fit(X, Y).predict(data),
        lambda: StandardScaler().fit(X).transform(data),
    ):
        with pytest.raises(UnsupportedDataError, match="holds no numbers"):
            use()


def test_missing_values_of_nullable_columns_are_named_with_block_and_row():
    table = pd.DataFrame((X * 10).astype(int), columns=NAMES).astype("Int64")
    np.testing.assert_allclose(
        Ridge().fit(dd.from_pandas(table, npartitions=2), Y).coef_, Ridge().fit(table.to_numpy(dtype=float), Y).coef_
    )
    table.loc[300, "b"] = pd.NA
    for data in (table, dd.from_pandas(table, npartitions=2)):
        with pytest.raises(ValueError, match=r"Input X contains NaN.*row 300, column 1 \('b'\)"):
            Ridge().fit(data, da.from_array(Y, chunks=70))


@pytest.mark.parametrize("of_X", ["numpy", "dask"])
def test_masked_values_are_refused_not_uncovered(of_X):
    row = np.arange(500) == 7
    wrap = CONTAINERS[of_X]
    for given in (
        {"X": np.ma.masked_array(X, mask=np.repeat(row[:, None], 4, axis=1)), "y": wrap(Y)},
        {"X": wrap(X), "y": np.ma.masked_array(Y, mask=row)},
        {"X": wrap(X), "y": Y, "sample_weight": np.ma.masked_array(W, mask=row)},
    ):
        with pytest.raises(ValueError, match="holds masked values"):
            Ridge().fit(**given)
    unmasked = Ridge().fit(np.ma.masked_array(X), np.ma.masked_array(Y)).coef_
    np.testing.assert_array_equal(unmasked, Ridge().fit(X, Y).coef_)


def test_rows_of_xarray_are_matched_by_their_labels_and_refused_where_they_have_others():
    grid = xr.DataArray(X, dims=["time", "band"], coords={"time": np.arange(500), "band": NAMES}).chunk(time=100)
    target = xr.DataArray(Y, dims="time", coords={"time": np.arange(500)})
    np.testing.assert_allclose(Ridge().fit(grid, target).coef_, Ridge().fit(X, Y).coef_)
    other = target.assign_coords(time=np.arange(500) + 1)
    for data in (grid, grid.to_dataset("band")):
        expected = Ridge().fit(data, target, np.abs(target)).coef_
        np.testing.assert_array_equal(Ridge().fit(data, target[::-1], np.abs(target[::-1])).coef_, expected)
        with pytest.raises(ValueError, match="different coordinates along 'time'"):
            Ridge().fit(data, other)
        with pytest.raises(ValueError, match="sample_weight have different coordinates along 'time'"):
            Ridge().fit(data, target, other)


def test_rows_of_a_table_are_weighed_by_their_latitude():
    degrees = np.linspace(-60, 60, 500)
    table = xr.DataArray(X, dims=["obs", "band"], coords={"lat": ("obs", degrees)})
    expected = Ridge().fit(X, Y, np.cos(np.deg2rad(degrees))).coef_
    for data in (table, table.chunk(obs=100), table.assign_coords(band=NAMES).to_dataset("band")):
        np.testing.assert_allclose(Ridge().fit(data, Y, sample_weight="cos_lat").coef_, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="needs coordinates"):
        Ridge().fit(X, Y, sample_weight="cos_lat")
