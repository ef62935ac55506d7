"""Opening stores wherever they lie: what comes back, what is checked, and what newcomers are told."""

import functools
import http.server
import logging
import os
import shutil
import threading
import warnings

import dask
import icechunk
import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from moto.server import ThreadedMotoServer

import daskml_core
from daskml_core.cluster import KMeans
from daskml_core.data import open_zarr, verify
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.write import MARKS
from daskml_core.errors import MissingChunksError, StoreReadError, UnsupportedDataError, UntrustedStoreError
from daskml_core.linear_model import Ridge
from tests.test_grid import dataset, values

KEYS = {"fsspec": ("key", "secret", "endpoint_url"), "obstore": ("access_key_id", "secret_access_key", "endpoint")}


def grid():
    """Three variables with a mask, times, a grid mapping and attributes."""
    ds = dataset(values(), {"time": 2, "lat": 5})
    ds = ds.assign_coords(time=np.datetime64("2001-03-01", "ns") + np.arange(6) * np.timedelta64(1, "D"))
    for name in ds:
        ds[name].attrs = {"units": "K", "grid_mapping": "crs"}
    ds["height"] = (("lat", "lon"), np.arange(120, dtype="f4").reshape(10, 12))
    return ds.assign_attrs(title="a grid")


PACKED = {"u": {"dtype": "i2", "scale_factor": 0.001, "_FillValue": -32768}, "v": {"_FillValue": np.float32(-5)}}


@pytest.fixture(scope="module")
def s3():
    """A server of the S3 protocol, and options for it by library."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    options = {name: dict(zip(keys, ("testing", "testing", url), strict=True)) for name, keys in KEYS.items()}
    options["obstore"] |= {"region": "us-east-1", "client_options": {"allow_http": True}}
    import boto3

    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    target = zarr.storage.FsspecStore.from_url("s3://bucket/grid.zarr", storage_options=options["fsspec"])
    grid().to_zarr(target, consolidated=False, encoding=PACKED)
    yield options, client
    server.stop()


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_a_group_with_names_comes_back_as_the_dataset_that_was_written(tmp_path, version, consolidated):
    ds, path = grid(), tmp_path / "x.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        ds.to_zarr(path, zarr_format=version, consolidated=consolidated, encoding=PACKED)
    for store in (path, str(path), f"file://{path}", zarr.storage.LocalStore(path)):
        back = daskml_core.open(store)
        assert dask.is_dask_collection(back)
        assert back.t.chunks == ds.t.chunks
        assert back.height.chunks == ((10,), (12,))
        assert set(back.coords) == set(ds.coords)
        assert (back.t.attrs | back.t.encoding)["grid_mapping"] == "crs"
        assert back.attrs == ds.attrs
        assert back.lat.attrs == ds.lat.attrs
        xr.testing.assert_allclose(back.load(), ds[sorted(ds)], atol=1e-3)
        np.testing.assert_array_equal(back.time, ds.time)
    assert list(back) == sorted(ds)


def test_arrays_without_names_come_back_as_zarr_has_them_and_a_variable_with_its_coordinates(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 4))
    group = zarr.create_group(tmp_path / "g")
    group.create_array("X", data=X, chunks=(25, 4))
    group.create_group("inner").create_array("y", data=X[:, 0], chunks=25)
    assert sorted(daskml_core.open(tmp_path / "g").members()) != []
    assert daskml_core.open(tmp_path / "g", "X").shape == (100, 4)
    assert daskml_core.open(tmp_path / "g", "inner/y").read_only
    model = Ridge().fit(daskml_core.open(tmp_path / "g", "X"), daskml_core.open(tmp_path / "g", "inner/y"))
    np.testing.assert_allclose(model.coef_, Ridge().fit(X, X[:, 0]).coef_, rtol=1e-12)
    grid().to_zarr(tmp_path / "g", group="weather", mode="a", consolidated=False)
    wind = daskml_core.open(tmp_path / "g", "weather/u")
    assert wind.dims == ("time", "lat", "lon")
    xr.testing.assert_equal(wind.lat, grid().lat)
    assert list(daskml_core.open(tmp_path / "g", "weather")) == ["height", "t", "u", "v"]


def test_shards_are_the_blocks_unless_they_are_large(tmp_path, monkeypatch):
    ds = xr.Dataset({"x": (("a", "b"), np.ones((40, 6), "f4"))}).chunk(a=20)
    ds.to_zarr(tmp_path / "x.zarr", encoding={"x": {"chunks": (5, 6), "shards": (20, 6)}}, consolidated=False)
    assert daskml_core.open(tmp_path / "x.zarr").x.chunks == ((20, 20), (6,))
    monkeypatch.setattr("daskml_core.data.open_labelled.SHARD_BYTES", 100)
    assert daskml_core.open(tmp_path / "x.zarr").x.chunks == ((5,) * 8, (6,))


def test_a_zip_file_and_a_store_in_memory_are_opened(tmp_path):
    grid()[["t", "u"]].to_zarr(tmp_path / "x.zarr", consolidated=False)
    shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "x.zarr")
    assert list(daskml_core.open(tmp_path / "x.zip")) == ["t", "u"]
    held = {}
    grid()[["t", "u"]].to_zarr(zarr.storage.MemoryStore(held), consolidated=False)
    for store in (held, zarr.storage.MemoryStore(held)):
        assert list(daskml_core.open(store)) == ["t", "u"]
    target = zarr.storage.FsspecStore.from_url("memory://test-open/x.zarr")
    grid()[["t", "u"]].to_zarr(target, consolidated=False)
    model = KMeans(3, random_state=0).fit(daskml_core.open("memory://test-open/x.zarr"))
    np.testing.assert_array_equal(
        model.cluster_centers_, KMeans(3, random_state=0).fit(grid()[["t", "u"]]).cluster_centers_
    )


def test_what_is_checked_of_arrays_is_checked_of_variables_that_are_used(tmp_path):
    path = tmp_path / "x.zarr"
    grid().to_zarr(path, consolidated=False)
    (path / "t/c/1/0/0").unlink()
    ds = daskml_core.open(path)
    with pytest.raises(MissingChunksError, match=r"'t' of .* lacks 1 of 6 chunks: c/1/0/0 \(rows 2 to 3\)"):
        KMeans(2).fit(ds)
    model = KMeans(2, random_state=0).fit(ds[["u", "v"]])
    assert KMeans(2, random_state=0).fit(ds.isel(time=slice(0, 2))).n_features_in_ == 4
    label = model.predict(ds[["u", "v"]])
    (path / "v/c/2/0/0").unlink()
    with pytest.raises(MissingChunksError, match="c/2/0/0"):  # a prediction reads under guard too
        label.compute()
    with dask.config.set({"daskml-core.missing-chunks": "fill"}):
        assert KMeans(2, random_state=0).fit(daskml_core.open(path)).n_features_in_ == 4
    assert not verify(path).ok


def test_chunks_that_hold_zeros_only_do_not_hide_a_coordinate(tmp_path):
    ds = xr.Dataset({"x": ("time", np.arange(4.0) + 1)}, coords={"time": [0, 0, 1, 2], "crs": 0})
    ds.chunk(time=2).to_zarr(tmp_path / "x.zarr", encoding={"time": {"chunks": (1,)}}, consolidated=False)
    assert not (tmp_path / "x.zarr/crs/c").exists()
    assert daskml_core.open(tmp_path / "x.zarr").time.values.tolist() == [0, 0, 1, 2]


def test_links_are_refused_before_a_chunk_is_read_through_one_and_codecs_at_once(tmp_path):
    grid().to_zarr(tmp_path / "x.zarr", consolidated=False)
    chunk = tmp_path / "x.zarr/u/c/0/0/0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    ds = daskml_core.open(tmp_path / "x.zarr")
    with pytest.raises(UntrustedStoreError, match="leaves the store"):
        KMeans(2).fit(ds[["t", "u"]])
    model = KMeans(2, random_state=0).fit(ds[["t"]])
    with pytest.raises(UntrustedStoreError, match="leaves the store"):
        model.predict(ds[["u"]].rename(u="t"))
    for part in ("v", "lat/c"):
        (tmp_path / "x.zarr" / part).rename(tmp_path / "outside")
        (tmp_path / "x.zarr" / part).symlink_to(tmp_path / "outside")
        with pytest.raises(UntrustedStoreError, match="leaves the store"):
            daskml_core.open(tmp_path / "x.zarr")
        (tmp_path / "x.zarr" / part).unlink()
        (tmp_path / "outside").rename(tmp_path / "x.zarr" / part)
    with dask.config.set({"daskml-core.links": "follow"}):
        assert "u" in daskml_core.open(tmp_path / "x.zarr")
    described = (tmp_path / "x.zarr/v/zarr.json").read_text()
    (tmp_path / "x.zarr/v/zarr.json").write_text(described.replace('"zstd"', '"numcodecs.pickle"'))
    with dask.config.set({"daskml-core.links": "follow"}), pytest.raises(UntrustedStoreError):
        daskml_core.open(tmp_path / "x.zarr")


# -- S3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_bucket_is_opened_fitted_and_written_back_to(s3, tmp_path, backend):
    options, client = s3
    how = {"backend": backend, "storage_options": options[backend]}
    ds = daskml_core.open("s3://bucket/grid.zarr", **how)
    expected = grid()[sorted(grid())]
    model = KMeans(3, random_state=0).fit(ds)
    np.testing.assert_allclose(
        model.cluster_centers_, KMeans(3, random_state=0).fit(expected).cluster_centers_, atol=1e-2
    )
    label = model.predict(ds)
    url = f"s3://bucket/{backend}.zarr"
    daskml_core.write(label, url, encoding={"label": {"dtype": "i1", "_FillValue": -1}}, **how)
    back = daskml_core.open(url, **how)
    xr.testing.assert_equal(back.label.load(), label.compute())
    xr.testing.assert_equal(back.crs, expected.crs)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="bucket", Prefix=f"{backend}.zarr")["Contents"]]
    assert len([key for key in keys if "/label/c/" in key]) == 6
    assert not [key for key in keys if MARKS in key]
    client.delete_object(Bucket="bucket", Key=f"{backend}.zarr/label/c/1/0/0")
    with pytest.raises(MissingChunksError, match="lacks 1 of 6 chunks"):
        KMeans(2).fit(daskml_core.open(url, **how).label.expand_dims("feature"))
    with pytest.raises(MissingChunksError, match="lacks 1 of 6 chunks"):
        open_zarr(url, "label", **how)
    client.delete_object(Bucket="bucket", Key=f"{backend}.zarr/label/c/0/0/0")
    half = KMeans(2, random_state=0).fit(expected[["t"]].rename(t="label"))
    with pytest.raises(MissingChunksError, match="lacks 2 of 6 chunks"):  # before a block of the prediction is read
        half.predict(daskml_core.open(url, **how)[["label"]])


def test_stores_reach_the_processes_of_a_cluster_and_give_the_bits_of_threads(s3):
    options, _ = s3
    stores = {
        name: daskml_core.open("s3://bucket/grid.zarr", backend=name, storage_options=options[name]) for name in KEYS
    }
    expected = KMeans(3, random_state=0).fit(stores["obstore"])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
        dask.config.set({"daskml-core.unencrypted": "allow"}),
    ):
        for name, ds in stores.items():
            model = KMeans(3, random_state=0).fit(ds)
            np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
            url = f"s3://bucket/cluster-{name}.zarr"
            daskml_core.write(model.predict(ds), url, backend=name, storage_options=options[name])
    for name in KEYS:
        back = daskml_core.open(f"s3://bucket/cluster-{name}.zarr", backend=name, storage_options=options[name])
        xr.testing.assert_equal(back.label.load(), expected.predict(stores[name]).compute())


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_write_to_a_bucket_goes_on_with_the_blocks_that_are_missing(s3, backend):
    options, _ = s3
    how = {"backend": backend, "storage_options": options[backend]}
    seen, broken = [], [True]

    def perhaps(block):
        if broken[0] and len(seen) == 3:
            raise ZeroDivisionError
        seen.append(1)
        return block * 2

    x = xr.DataArray(np.arange(40.0).reshape(10, 4), dims=("a", "b"), name="x").chunk(a=2)
    lazy = x.copy(data=x.data.map_blocks(perhaps, dtype=float, name=f"perhaps-{backend}", meta=np.empty((0, 0))))
    url = f"s3://bucket/again-{backend}.zarr"
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(ZeroDivisionError):
            daskml_core.write(lazy, url, **how)
        broken[0] = False
        daskml_core.write(lazy, url, **how)
        daskml_core.write(lazy, url, **how)  # done: nothing is computed
    assert len(seen) == 5
    np.testing.assert_array_equal(daskml_core.open(url, **how).x, x * 2)
    with pytest.raises(FileExistsError, match="holds something else"):
        daskml_core.write(x, url, **how)
    part = x.isel(a=slice(4, 8))
    daskml_core.write(part, url, region={"a": slice(4, 8)}, **how)
    np.testing.assert_array_equal(daskml_core.open(url, **how).x[3:9], np.vstack([x[3:4] * 2, part, x[8:9] * 2]))


def test_a_store_whose_way_is_blocked_is_tried_again_and_is_not_called_damaged(tmp_path, monkeypatch, caplog):
    array = zarr.create_array(tmp_path / "x", data=np.eye(4), chunks=(2, 4))
    monkeypatch.setattr("daskml_core.data.guard.FIRST_PAUSE_S", 0.0)
    fails = [2]
    own = type(array).__getitem__

    def sometimes(self, index):
        if fails[0]:
            fails[0] -= 1
            raise kind("HTTP error")
        return own(self, index)

    monkeypatch.setattr(type(array), "__getitem__", sometimes)
    kind = obstore.exceptions.GenericError
    np.testing.assert_array_equal(GuardedArray(array, ReadPolicy())[:2], np.eye(4)[:2])
    assert caplog.text.count("trying again") == 2
    fails[0] = 9
    with pytest.raises(StoreReadError, match=r"rows 0 to 1 .* failed 4 times: GenericError: HTTP error"):
        GuardedArray(array, ReadPolicy())[:2]
    fails[0], kind = 9, obstore.exceptions.PermissionDeniedError
    with pytest.raises(StoreReadError, match="failed 1 times: PermissionDeniedError"):
        GuardedArray(array, ReadPolicy())[:2]


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_credentials_buckets_and_servers_that_are_wrong_are_told_apart(s3, backend, monkeypatch):
    options, _ = s3
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    right = options[backend]

    def attempt(url="s3://bucket/grid.zarr", **changed):
        given = {name: value for name, value in (right | changed).items() if value is not None}
        return daskml_core.open(url, backend=backend, storage_options=given)

    assert "t" in attempt()
    for url in ("s3://bucket/nothing.zarr", "s3://nobucket/grid.zarr"):
        with pytest.raises(FileNotFoundError, match=f"no zarr store at {url}"):
            attempt(url)
    nobody = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    if backend == "obstore":
        nobody = {"endpoint": "http://127.0.0.1:9", "retry_config": {"max_retries": 0}}
    with pytest.raises(ConnectionError, match="does not answer"):
        attempt(**nobody)
    if backend == "fsspec":
        # obstore asks the machine's own address for credentials, which takes its time elsewhere than here.
        with pytest.raises(PermissionError, match=r"AWS_ACCESS_KEY_ID.*'anon': True"):
            attempt(key=None, secret=None)
    with pytest.raises(ValueError, match="backend"):
        attempt(nonsense="x")
    assert "testing" not in str(pytest.raises(FileNotFoundError, attempt, "s3://bucket/nothing.zarr").value)


# -- web servers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path):
    """A directory behind a server that lists nothing."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def list_directory(self, path):
            self.send_error(403)

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_web_server_is_read_where_metadata_are_consolidated_or_an_array_is_named(web, tmp_path, backend):
    ds = grid()[["t", "u"]]
    ds.to_zarr(tmp_path / "v2.zarr", zarr_format=2, consolidated=True)
    ds.to_zarr(tmp_path / "v3.zarr", zarr_format=3, consolidated=False)
    zarr.create_array(tmp_path / "plain.zarr", data=np.eye(6), chunks=(2, 6))
    how = {"backend": backend}
    if backend == "obstore":
        how["storage_options"] = {"client_options": {"allow_http": True}}
    there = daskml_core.open(f"{web}/v2.zarr", **how)
    np.testing.assert_array_equal(
        KMeans(3, random_state=0).fit(there).cluster_centers_, KMeans(3, random_state=0).fit(ds).cluster_centers_
    )
    assert Ridge().fit(daskml_core.open(f"{web}/plain.zarr", **how), np.arange(6)).n_features_in_ == 6
    with pytest.raises(UntrustedStoreError, match="consolidate"):
        daskml_core.open(f"{web}/v3.zarr", **how)
    with pytest.raises(FileNotFoundError, match="no zarr store at"):
        daskml_core.open(f"{web}/nothing.zarr", **how)


# -- icechunk --------------------------------------------------------------------------------------------------------


def test_a_repository_is_read_at_a_version_and_written_through_a_session(tmp_path):
    ds = grid()[["t", "u"]]
    path = tmp_path / "repo"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    ds.to_zarr(session.store, consolidated=False)
    first = session.commit("the grid")
    repository.create_tag("v1", first)
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="r+")["t"][:] = 1.0
    session.commit("spoilt")

    expected = KMeans(3, random_state=0).fit(ds)
    sources = (
        daskml_core.open(path, version="v1"),
        daskml_core.open(str(path), version=first),
        daskml_core.open(repository, version="v1"),
        daskml_core.open(repository.readonly_session(tag="v1")),
        daskml_core.open(repository.readonly_session(tag="v1").store),
    )
    for source in sources:
        np.testing.assert_array_equal(KMeans(3, random_state=0).fit(source).cluster_centers_, expected.cluster_centers_)
    assert float(daskml_core.open(path).t.max()) == 1.0
    with pytest.raises(ValueError, match=r"no branch, tag or snapshot 'v2': branches \['main'\], tags \['v1'\]"):
        daskml_core.open(path, version="v2")

    label = expected.predict(sources[0])
    with pytest.raises(ValueError, match="written to a session"):
        daskml_core.write(label, path)
    session = repository.writable_session("main")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        daskml_core.write(label, session.store, overwrite=True)
    xr.testing.assert_equal(daskml_core.open(session).label.load(), label.compute())
    session.commit("labels")
    xr.testing.assert_equal(daskml_core.open(path).label.load(), label.compute())
    with pytest.raises(ValueError, match="opened to be read"):
        daskml_core.write(label, repository.readonly_session("main").store)


# -- what newcomers are told -----------------------------------------------------------------------------------------


def test_a_wrong_path_names_what_is_there_instead(tmp_path):
    grid()[["t"]].to_zarr(tmp_path / "reanalysis.zarr", consolidated=False)
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*/reanalysis.zarr\?"):
        daskml_core.open(tmp_path / "reanalisys.zarr")
    with pytest.raises(FileNotFoundError, match=r"There is no directory .* either"):
        daskml_core.open(tmp_path / "no/x.zarr")
    with pytest.raises(FileNotFoundError, match=r"no zarr.json, .zgroup or .zarray. These in it are: reanalysis.zarr"):
        daskml_core.open(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no zarr store at .* at 'tt'"):
        daskml_core.open(tmp_path / "reanalysis.zarr", "tt")


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("x.nc", b"CDF\x01", r"netCDF file.*xarray.open_dataset\(.*chunks=\{\}\).*to_zarr"),
        ("x.dat", b"\x89HDF\r\n", r"HDF5 \(netCDF 4\) file.*xarray.open_dataset"),
        ("scene.tif", b"II*\x00", "TIFF file.*rioxarray.open_rasterio"),
        ("notes.txt", b"hello", "a file and no zarr store"),
    ],
)
def test_files_of_other_formats_are_refused_with_how_to_read_them(tmp_path, name, head, said):
    (tmp_path / name).write_bytes(head + b"\0" * 100)
    with pytest.raises(UnsupportedDataError, match=said):
        daskml_core.open(tmp_path / name)
    if name.endswith(".nc"):
        with pytest.raises(UnsupportedDataError, match="netCDF"):
            daskml_core.open(f"s3://bucket/{name}")


def test_packages_that_are_not_there_are_named_with_the_extra(monkeypatch, tmp_path):
    import importlib.util

    real = importlib.util.find_spec
    gone = {"s3fs", "obstore", "gcsfs", "icechunk"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in gone else real(name, *a))
    with pytest.raises(ImportError, match=r"s3:// needs the package s3fs: pip install 'daskml_core\[remote\]'"):
        daskml_core.open("s3://bucket/x.zarr")
    with pytest.raises(ImportError, match="gs:// needs the package gcsfs: pip install gcsfs, or backend='obstore'"):
        daskml_core.open("gs://bucket/x.zarr")
    with pytest.raises(ImportError, match="needs the package obstore"):
        daskml_core.open("s3://bucket/x.zarr", backend="obstore")
    for part in ("refs", "snapshots"):
        (tmp_path / part).mkdir()
    with pytest.raises(ImportError, match=r"icechunk repository, which needs the package icechunk"):
        daskml_core.open(tmp_path)


def test_arguments_that_do_nothing_are_refused(tmp_path):
    zarr.create_array(tmp_path / "x", data=np.eye(2))
    for wrong in ({"backend": "obstore"}, {"storage_options": {"anon": True}}):
        with pytest.raises(ValueError, match="are for URLs"):
            daskml_core.open(tmp_path / "x", **wrong)
    with pytest.raises(ValueError, match="version is for icechunk"):
        daskml_core.open(tmp_path / "x", version="v1")
    with pytest.raises(ValueError, match="backend must be"):
        daskml_core.open("s3://bucket/x", backend="boto")
    with pytest.raises(ValueError, match="s4:// is not known to fsspec"):
        daskml_core.open("s4://bucket/x")
    with pytest.raises(TypeError, match="got int"):
        daskml_core.open(3)
