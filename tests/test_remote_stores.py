"""Stores behind URLs: chunks that are missing are named, and chunks that change while they are read end the fit."""

import dask
import numpy as np
import pytest
import zarr

from daskml_core.data.listing import remote_listing
from daskml_core.errors import DamagedChunkError, MissingChunksError, StoreChangedError
from daskml_core.linear_model import Ridge
from daskml_core.optimize import minimize
from tests.problems import two_classes

X, Y = two_classes(n=1000, d=4)

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture(scope="module")
def server():
    """Address of a server of the S3 protocol, and a client of it."""
    import boto3
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    address = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    yield address, client
    made.stop()


def opened(kind, address, prefix):
    """A zarr store below a prefix, through one library or the other."""
    if kind == "memory":
        return zarr.storage.FsspecStore.from_url(f"memory://{prefix}")
    if kind == "fsspec":
        options = {"key": "testing", "secret": "testing", "endpoint_url": address}
        return zarr.storage.FsspecStore.from_url(f"s3://bucket/{prefix}", storage_options=options)
    import obstore

    inner = obstore.store.S3Store(
        "bucket", prefix=prefix, endpoint=address, access_key_id="testing", secret_access_key="testing",
        region="us-east-1", client_options={"allow_http": True},
    )  # fmt: skip
    return zarr.storage.ObjectStore(inner)


@pytest.fixture(params=["fsspec", "obstore", "memory"])
def array(request, server):
    """An array in a group of a remote store, and a way to change its objects."""
    address, client = server
    prefix = f"{request.param}/{abs(hash(request.node.name))}.zarr"
    store = opened(request.param, address, prefix)
    made = zarr.create_array(store, name="a/x", data=X, chunks=(100, 4), compressors=None, filters=None)

    def put(key, raw):
        if request.param == "memory":
            fs = store.fs.sync_fs
            fs.rm_file(f"/{prefix}/a/x/{key}") if raw is None else fs.pipe_file(f"/{prefix}/a/x/{key}", raw)
        elif raw is None:
            client.delete_object(Bucket="bucket", Key=f"{prefix}/a/x/{key}")
        else:
            client.put_object(Bucket="bucket", Key=f"{prefix}/a/x/{key}", Body=raw)

    return made, put


def test_a_listing_has_every_object_with_size_and_version(array):
    made, _ = array
    found = {entry.key: entry for entry in remote_listing(made)}
    assert sorted(found) == sorted([*(f"c/{i}/0" for i in range(10)), "zarr.json"])
    assert {entry.size for key, entry in found.items() if key != "zarr.json"} == {100 * 4 * 8}
    assert all(entry.version for entry in found.values())


def test_a_missing_chunk_is_named_with_its_rows(array):
    made, put = array
    put("c/4/0", None)
    with pytest.raises(MissingChunksError, match=r"lacks 1 of 10 chunks: c/4/0 \(rows 400 to 499\)"):
        Ridge().fit(made, Y)


def test_a_chunk_of_the_wrong_size_is_refused_before_it_is_read(array):
    made, put = array
    put("c/4/0", b"short")
    with pytest.raises(DamagedChunkError, match=r"'c/4/0' \(rows 400 to 499\).* has 5 bytes where 3,200 belong"):
        Ridge().plan(made, Y)


@pytest.mark.parametrize("change", ["rewrite", "add metadata"])
def test_a_chunk_that_changes_while_it_is_read_is_named(change, array):
    made, put = array
    done = []

    def squared_error(w, A, b):
        if not done:
            done.append(put("c/7/0", np.ones((100, 4)).tobytes()) if change == "rewrite" else put("notes", b"hello"))
        r = A @ w - b
        return r @ r / 2, A.T @ r

    def fit():
        with dask.config.set({"daskml-core.residency": False, "scheduler": "synchronous"}):
            return minimize(squared_error, np.zeros(4), made, Y, solver="lbfgs")

    if change == "rewrite":
        with pytest.raises(StoreChangedError, match=r"1 of its chunks, first c/7/0 \(rows 700 to 799\)"):
            fit()
    else:
        assert fit().success


def test_a_store_that_cannot_be_listed_is_read_all_the_same(array, monkeypatch, caplog):
    made, _ = array
    monkeypatch.setattr(
        "daskml_core.data.listing._by_fsspec", lambda *a: (_ for _ in ()).throw(RuntimeError("forbidden"))
    )
    monkeypatch.setattr(
        "daskml_core.data.listing._by_obstore", lambda *a: (_ for _ in ()).throw(RuntimeError("forbidden"))
    )
    np.testing.assert_allclose(Ridge().fit(made, Y).coef_, Ridge().fit(X, Y).coef_)
    assert "cannot be listed: RuntimeError: forbidden" in caplog.text
