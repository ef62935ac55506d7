"""Stores behind `xarray.open_zarr` are checked before, while and after they are read, as any other."""

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster

from daskml_core.cluster import KMeans
from daskml_core.errors import DamagedChunkError, MissingChunksError, StoreChangedError, UntrustedStoreError
from daskml_core.linear_model import Ridge
from daskml_core.optimize import minimize
from tests.problems import two_classes

X, Y = two_classes(n=1000, d=4)
CHECKED = {"compressors": [zarr.codecs.ZstdCodec(checksum=True)]}


@pytest.fixture
def path(tmp_path):
    """A matrix, and a grid of two variables of which one is packed."""
    ds = xr.Dataset({"X": (("time", "feature"), X), "y": ("time", Y.astype("f8"))})
    rng = np.random.default_rng(0)
    for name in ("u", "v"):
        ds[name] = (("time", "lat"), rng.normal(size=(1000, 6)))
    ds = ds.chunk({"time": 100, "lat": 3})
    encoding = {name: dict(CHECKED) for name in ds} | {
        "v": CHECKED | {"dtype": "i2", "scale_factor": 0.001, "_FillValue": -32768}
    }
    ds.to_zarr(tmp_path / "x.zarr", encoding=encoding, consolidated=False)
    return tmp_path / "x.zarr"


def opened(path, **options):
    return xr.open_zarr(path, consolidated=False, **options)


def test_whole_stores_give_what_their_values_give(path):
    ds = opened(path)
    want = Ridge().fit(X, Y.astype("f8"))
    np.testing.assert_allclose(Ridge().fit(ds.X, ds.y).coef_, want.coef_)
    np.testing.assert_allclose(Ridge().fit((ds.X * 1.0).isel(time=slice(50, 420)), ds.y[50:420]).coef_,
                               Ridge().fit(X[50:420], Y[50:420].astype("f8")).coef_)  # fmt: skip
    # A packed variable is read as what it stands for.
    centers = [
        KMeans(2, n_init=1).fit(held).cluster_centers_
        for held in (ds[["u", "v"]], ds[["u", "v"]].load().chunk({"time": 100, "lat": 3}))
    ]
    np.testing.assert_allclose(centers[0], centers[1])


MISSING = {
    "a matrix": ("X/c/4/0", lambda ds: Ridge().fit(ds.X, ds.y)),
    "a target": ("y/c/4", lambda ds: Ridge().fit(ds.X, ds.y)),
    "computed from": ("X/c/4/0", lambda ds: Ridge().fit(ds.X * 2 + 1, ds.y)),
    "a plan": ("X/c/4/0", lambda ds: Ridge().plan(ds.X, ds.y)),
    "a grid": ("u/c/4/1", lambda ds: KMeans(2, n_init=1).fit(ds[["u", "v"]])),
    "a packed variable": ("v/c/4/1", lambda ds: KMeans(2, n_init=1).fit(ds[["u", "v"]])),
    "cut before it was chunked": (
        "X/c/4/0",
        lambda ds: Ridge().fit(opened(ds.encoding["source"], chunks=None).X[30:800].chunk({"time": 70}), Y[30:800]),
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_chunk_is_refused_before_the_fit_naming_chunk_and_rows(case, path):
    key, use = MISSING[case]
    (path / key).unlink()
    place = key.partition("/")[2]
    with pytest.raises(MissingChunksError, match=rf"{place} \(rows 400 to 499\)"):
        use(opened(path))


def test_a_part_may_be_used_while_the_rest_is_missing(path):
    (path / "X/c/4/0").unlink()
    ds = opened(path)
    np.testing.assert_allclose(
        Ridge().fit(ds.X[:400], ds.y[:400]).coef_, Ridge().fit(X[:400], Y[:400].astype("f8")).coef_
    )
    with dask.config.set({"daskml-core.missing-chunks": "fill"}):
        model = Ridge().fit(ds.X.fillna(0.0), ds.y)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("processes", [None, False])
def test_a_damaged_chunk_is_named(processes, path):
    file = path / "X/c/4/0"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(raw)

    def fit():
        with pytest.raises(DamagedChunkError, match=r"Block 4 of X: Chunk 'c/4/0' \(rows 400 to 499\) of array 'X' of"):
            Ridge().fit(opened(path).X, Y)

    if processes is None:
        fit()
    else:
        with (
            LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
            Client(cluster),
        ):
            fit()


@pytest.mark.parametrize("change", ["rewrite", "remove"])
def test_a_store_that_changes_while_it_is_read_is_refused(change, path):
    done = []

    def squared_error(w, X, y):
        if not done:
            done.append(1)
            if change == "remove":
                (path / "X/c/7/0").unlink()
            else:
                zarr.open_array(path / "X", mode="r+")[700:800] = 1.0
        r = X @ w - y
        return r @ r / 2, X.T @ r

    with (
        dask.config.set({"daskml-core.residency": False, "scheduler": "synchronous"}),
        pytest.raises((StoreChangedError, MissingChunksError), match=r"c/7/0 \(rows 700 to 799\)"),
    ):
        minimize(squared_error, np.zeros(4), opened(path).X, Y, solver="lbfgs")
    assert done


def test_links_out_of_the_store_are_refused(path, tmp_path):
    (path / "X/c/3").rename(tmp_path / "elsewhere")
    (path / "X/c/3").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UntrustedStoreError, match="leaves the store"):
        Ridge().fit(opened(path).X, Y)


def test_other_backends_of_xarray_are_let_be(tmp_path):
    ds = xr.Dataset({"X": (("time", "feature"), X)})
    ds.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc", chunks={"time": 100}) as held:
        np.testing.assert_allclose(Ridge().fit(held.X, Y).coef_, Ridge().fit(X, Y).coef_)
