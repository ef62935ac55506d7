"""zarr stores: what is checked before, during and after they are read, and what that costs."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from daskml_core.data import Manifest, manifest, open_zarr, verify
from daskml_core.data.chunks import grid_of, present
from daskml_core.data.frames import declared_bytes
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.source import inspect
from daskml_core.errors import (
    DamagedChunkError,
    MissingChunksError,
    StoreChangedError,
    StoreError,
    StoreReadError,
    UntrustedStoreError,
)
from daskml_core.linear_model import LogisticRegression, Ridge
from tests.problems import two_classes

X, Y = two_classes(n=1000, d=4)
FULL = {"config": {"write_empty_chunks": True}}


@pytest.fixture
def path(tmp_path):
    zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(100, 4), **FULL)
    return tmp_path / "x.zarr"


def remove(path, *keys):
    for key in keys:
        (path / key).unlink()
    return zarr.open_array(path, mode="r")


def test_an_error_keeps_what_it_names_on_its_way_from_a_worker():
    for kind in (StoreError, MissingChunksError, DamagedChunkError, StoreReadError, UntrustedStoreError):
        error = pickle.loads(pickle.dumps(kind("what", "x", "c/0", (0, 5)).in_block("X", 3)))
        assert type(error) is kind
        assert (str(error), error.array, error.chunk, error.rows) == ("Block 3 of X: what", "x", "c/0", (0, 5))


def test_every_place_that_reads_refuses_a_missing_chunk(path):
    array = remove(path, "c/4/0")
    model = LogisticRegression().fit(X, Y)
    for use in (
        lambda: LogisticRegression().fit(array, Y),
        lambda: LogisticRegression().plan(array, Y),
        lambda: model.predict(array),
        lambda: model.predict(da.from_zarr(array)),
        lambda: Ridge().fit(X, da.from_zarr(array)[:, 0]),
        lambda: Ridge().fit(xr.DataArray(da.from_zarr(array), dims=["time", "feature"]), Y),
        lambda: Ridge().fit(da.from_zarr(array, inline_array=True), Y),
        lambda: Ridge().fit(da.from_array(array, chunks=(50, 4)), Y),
        lambda: manifest(path),
    ):
        with pytest.raises(MissingChunksError, match=r"lacks 1 of 10 chunks: c/4/0 \(rows 400 to 499\)"):
            use()


def test_a_part_of_a_store_may_be_used_while_the_rest_is_missing(path):
    array = remove(path, "c/4/0", "c/5/0")
    whole = da.from_zarr(array)
    for part, rows in (
        (whole[:400], slice(400)),
        (whole[600:], slice(600, None)),
        (whole[650::2], slice(650, None, 2)),
    ):
        np.testing.assert_allclose(Ridge().fit(part, Y[rows]).coef_, Ridge().fit(X[rows], Y[rows]).coef_)
    with pytest.raises(MissingChunksError, match="2 of 10 chunks: c/4/0"):
        Ridge().fit(whole[350:], Y[350:])


def test_where_the_parts_cannot_be_told_missing_chunks_are_found_when_they_are_read(path):
    array = remove(path, "c/4/0")
    starts = da.from_array(np.arange(0, 1000, 100), chunks=1)
    picked = starts.map_blocks(
        lambda i, a: a[int(i[0]) :][:100], array, new_axis=1, chunks=((100,) * 10, (4,)), dtype=float
    )
    with pytest.raises(MissingChunksError, match="c/4/0"):
        Ridge().fit(picked, Y)
    read = GuardedArray(array, ReadPolicy())
    assert read[[0, 1]].shape == (2, 4)
    for index in (slice(390, 410), (slice(400, 450, 7), 0), 450, np.int64(499)):
        with pytest.raises(MissingChunksError, match=r"c/4/0 \(rows 400 to 499\)"):
            read[index]


def test_what_a_fused_task_selects_is_looked_for_before_it_is_read(path):
    array = remove(path, "c/4/0")
    with pytest.raises(MissingChunksError, match="lacks 1 of 10 chunks"):
        Ridge().fit((da.from_zarr(array).T * 2.0).T, Y)
    assert Ridge().fit((da.from_zarr(array).T * 2.0).T[:400], Y[:400]).n_features_in_ == 4


def test_the_fill_value_stands_for_missing_chunks_where_that_is_declared(path):
    array, filled = remove(path, "c/4/0"), X.copy()
    filled[400:500] = 0
    with dask.config.set({"daskml-core.missing-chunks": "fill"}):
        for data in (array, da.from_zarr(array), open_zarr(path)):
            np.testing.assert_allclose(Ridge().fit(data, Y).coef_, Ridge().fit(filled, Y).coef_)
        assert verify(path).ok
    assert not verify(path).ok


def test_settings_that_cannot_be_are_refused(path):
    for name, value in (("missing-chunks", "ignore"), ("links", True), ("read-retries", -1)):
        with (
            dask.config.set({f"daskml-core.{name}": value}),
            pytest.raises(ValueError, match=f"daskml-core.{name} must"),
        ):
            Ridge().fit(zarr.open_array(path, mode="r"), Y)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["local", "memory", "zip", "other"])
def test_missing_chunks_are_counted_in_every_kind_of_store(kind, version, tmp_path):
    class Other(zarr.storage.MemoryStore):
        pass

    stores = {
        "local": lambda: zarr.storage.LocalStore(tmp_path / "s"),
        "memory": zarr.storage.MemoryStore,
        "zip": lambda: zarr.storage.ZipStore(tmp_path / "s.zip", mode="w"),
        "other": Other,
    }
    store = stores[kind]()
    group = zarr.create_group(store, zarr_format=version)
    for name, stop in (("whole", 1000), ("part", 700)):
        array = group.create_array(name, shape=(1000, 4), chunks=(100, 2), dtype="f8", **FULL)
        array[:stop] = X[:stop]
    assert Ridge().fit(group["whole"], Y).n_features_in_ == 4
    named = "" if kind == "other" else r": (c/7/0|7\.0) \(rows 700 to 799\)"
    with pytest.raises(MissingChunksError, match=rf"lacks 6 of 20 chunks{named}"):
        Ridge().fit(group["part"], Y)


def test_shards_are_counted_and_looked_into(tmp_path):
    data = X.copy()
    data[400:500, :2] = 0
    for options, message in (({}, "1 chunks inside of 1 shards, first 1 in c/2/0"), (FULL, None)):
        array = zarr.create_array(
            tmp_path / "x", data=data, chunks=(100, 2), shards=(200, 4), overwrite=True, **options
        )
        if message is None:
            Ridge().fit(array, Y)
        else:
            with pytest.raises(MissingChunksError, match=message):
                Ridge().fit(array, Y)
            assert verify(array).arrays[0].missing == (("c/2/0", (400, 600)),)


def test_chunks_of_a_shard_beyond_the_edge_are_no_holes(tmp_path):
    array = zarr.create_array(tmp_path / "x", data=X[:930], chunks=(50, 4), shards=(200, 4))
    np.testing.assert_allclose(Ridge().fit(array, Y[:930]).coef_, Ridge().fit(X[:930], Y[:930]).coef_)


def test_labels_as_text_are_read_from_both_formats(tmp_path):
    names = np.array(["no", "yes"])[Y]
    for version in (2, 3):
        labels = zarr.create_array({}, shape=(1000,), chunks=(100,), dtype=str, zarr_format=version)
        labels[:] = names
        model = LogisticRegression().fit(X, labels)
        assert model.classes_.tolist() == ["no", "yes"]
        assert model.score(X, labels) == LogisticRegression().fit(X, Y).score(X, Y)


def test_a_plain_chunk_of_the_wrong_size_is_refused_before_the_fit(tmp_path):
    for codecs, size in ((None, 3200), ([Crc32cCodec()], 3204)):
        array = zarr.create_array(tmp_path / "x", data=X, chunks=(100, 4), compressors=codecs, overwrite=True, **FULL)
        assert (tmp_path / "x/c/3/0").stat().st_size == size
        assert Ridge().fit(array, Y).n_features_in_ == 4
        with open(tmp_path / "x/c/3/0", "ab") as file:
            file.write(b"!")
        with pytest.raises(DamagedChunkError, match=rf"rows 300 to 399.*has {size + 1:,} bytes where {size:,} belong"):
            Ridge().fit(array, Y)


def test_other_files_in_a_store_are_let_be(path):
    (path / "README").write_text("")
    (path / "c" / "notes.txt").write_text("not a chunk")
    Ridge().fit(zarr.open_array(path, mode="r"), Y)
    assert verify(path).ok


def test_no_chunk_is_read_by_the_checks_and_each_file_is_looked_at_once(path, monkeypatch):
    array = zarr.open_array(path, mode="r")
    calls = []
    monkeypatch.setattr(type(array), "__getitem__", lambda self, index: calls.append(index))
    source = inspect(array, fill=False, follow_links=False)
    assert calls == []
    assert len(source.stamps) == 10
    source.refuse_changed()
    # What does not decide what is read may change.
    (path / "notes.txt").write_text("x")
    zarr.open_array(path, mode="r+").attrs["unit"] = "m"
    source.refuse_changed()
    (path / "c/3/0").write_bytes((path / "c/3/0").read_bytes())
    with pytest.raises(StoreChangedError, match=r"1 of its chunks, first c/3/0 \(rows 300 to 399\)") as caught:
        source.refuse_changed()
    assert (caught.value.chunk, caught.value.rows) == ("c/3/0", (300, 400))
    (path / "c/5/0").unlink()
    with pytest.raises(StoreChangedError, match=r"first c/3/0.* and 1 chunks are gone"):
        source.refuse_changed()
    (path / "zarr.json").unlink()
    with pytest.raises(StoreChangedError, match="metadata cannot be read any more"):
        source.refuse_changed()


def test_metadata_of_another_store_is_compared_and_a_lost_connection_is_no_change(caplog):
    class Remote(zarr.storage.MemoryStore):
        fails = False

        async def get(self, key, *args, **options):
            if Remote.fails and key == "zarr.json":
                raise OSError("connection reset")
            return await super().get(key, *args, **options)

    array = zarr.create_array(Remote(), data=X, chunks=(100, 4), **FULL)
    source = inspect(array, fill=False, follow_links=False)
    source.refuse_changed()
    Remote.fails = True
    source.refuse_changed()
    assert "could not be compared" in caplog.text
    Remote.fails = False
    zarr.open_array(array.store, mode="r+").resize((1100, 4))
    with pytest.raises(StoreChangedError, match="its metadata"):
        source.refuse_changed()


def test_a_store_that_declares_a_billion_chunks_is_refused_as_fast_as_any(tmp_path):
    array = zarr.create_array(tmp_path / "x", shape=(1 << 40, 4), chunks=(1 << 20, 4), dtype="f4")
    with pytest.raises(MissingChunksError, match="lacks at least 10,000 of 1,048,576 chunks: c/0/0"):
        inspect(array, fill=False, follow_links=False)
    assert grid_of(array).n == 1 << 20
    assert present(array).sizes.keys() == {"zarr.json"}


@pytest.mark.parametrize("n", [0, 1, 200, 255, 256, 70_000, 1 << 20])
def test_the_decoded_size_is_read_off_the_head_of_a_chunk(n):
    import numcodecs

    data = np.random.default_rng(0).bytes(n)
    for codec in (numcodecs.Zstd(), numcodecs.Zstd(level=19, checksum=True), numcodecs.Blosc(), numcodecs.LZ4()):
        said = declared_bytes(codec.codec_id, bytes(codec.encode(data))[:18])
        assert said in (n, None) if n < 10 else said == n, codec
    assert declared_bytes("gzip", b"\x1f\x8b") is None
    assert declared_bytes("zstd", b"\x28\xb5\x2f\xfd") is None


def test_verify_lists_everything_in_one_table(tmp_path):
    bad = X.copy()
    bad[5, 1], bad[250:253, 2] = np.nan, np.inf
    root = zarr.open_group(tmp_path / "g", mode="w")
    checked = {"compressors": ZstdCodec(checksum=True)}
    root.create_array("X", shape=X.shape, chunks=(100, 4), dtype="f8", **checked, **FULL)[:] = bad
    root.create_array("deep/y", shape=Y.shape, chunks=(250,), dtype="i8", **FULL)[:] = Y
    proof = manifest(tmp_path / "g")
    assert repr(proof) == "Manifest of 2 array(s), 14 chunks"
    (tmp_path / "g/X/c/4/0").unlink()
    damaged = tmp_path / "g/X/c/6/0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    root["deep/y"][300] = 7
    report = verify(tmp_path / "g", proof)
    assert not report.ok
    first, second = report.arrays
    assert first.missing == (("c/4/0", (400, 500)),)
    assert [key for key, _, _ in first.damaged] == ["c/6/0"]
    assert first.nan == (("c/0/0", (0, 100), 1),)
    assert first.infinite == (("c/2/0", (200, 300), 3),)
    assert second.name == "deep/y"
    assert second.changed == (("c/1", (250, 500)),)
    text = repr(report)
    assert "5 problem(s)" in text
    for line in ("X: c/4/0 (rows 400 to 499) is missing", "deep/y: c/1 (rows 250 to 499) differs from the manifest"):
        assert line in text
    header, x, y = text.splitlines()[1:4]
    assert header.split() == ["array", "shape", "dtype", "chunks", "missing", "damaged", "changed", "NaN", "infinite"]
    assert x.split()[-6:] == ["10", "1", "1", "0", "1", "3"]
    assert y.split()[-6:] == ["4", "0", "0", "1", "0", "0"]


def test_verify_reads_in_the_workers_of_a_client_and_says_the_same(path):
    from distributed import Client, LocalCluster

    (path / "c/4/0").unlink()
    (path / "c/7/0").write_bytes(b"")
    here = verify(path)
    with LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster, Client(cluster):
        there = verify(path)
    assert here.arrays == there.arrays
    assert here.problems() == there.problems()
    assert len(here.problems()) == 2


def test_errors_from_a_worker_name_block_chunk_and_rows(path):
    from distributed import Client, LocalCluster

    array = zarr.open_array(path, mode="r")
    data = (path / "c/7/0").read_bytes()
    (path / "c/7/0").write_bytes(data[:100])
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
        pytest.raises(DamagedChunkError, match=r"Block 7 of X: Chunk 'c/7/0' \(rows 700 to 799\)") as caught,
    ):
        Ridge().fit(da.from_zarr(array), Y)
    assert caught.value.chunk == "c/7/0"
    assert caught.value.rows == (700, 800)


def test_a_manifest_takes_another_compression_of_the_same_values_but_no_other_layout(path, tmp_path):
    proof = manifest(path)
    zarr.create_array(tmp_path / "plain", data=X, chunks=(100, 4), compressors=None, **FULL)
    assert verify(tmp_path / "plain", proof).ok
    zarr.create_array(tmp_path / "halves", data=X, chunks=(50, 4), **FULL)
    assert verify(tmp_path / "halves", proof).problems() == [
        f"{tmp_path / 'halves'}: its chunks is not that of the manifest"
    ]


def test_a_manifest_names_arrays_that_came_and_went(tmp_path):
    root = zarr.open_group(tmp_path / "g", mode="w")
    root.create_array("a", data=Y, chunks=500, **FULL)
    proof = manifest(root)
    root.create_array("b", data=Y, chunks=500, **FULL)
    assert verify(root, proof).problems() == ["b: the manifest does not have it"]
    del root["a"]
    assert "a: the manifest has it, the store has not" in verify(root, proof).problems()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "algorithm": "sha256", "arrays": {}}', '{"format": 1, "arrays": 3}', "[" * 9999],
)
def test_a_file_that_is_no_manifest_is_refused(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no manifest|is a manifest of format"):
        Manifest.load(tmp_path / "m.json")


def test_open_zarr_says_what_is_wrong_with_metadata(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="no zarr store at"):
        open_zarr(tmp_path / "nothing")
    assert open_zarr(path).read_only
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("X", data=X, chunks=(100, 4), **FULL)
    assert list(open_zarr(tmp_path / "g").array_keys()) == ["X"]
    assert open_zarr(tmp_path / "g", "X").shape == X.shape
    for text in ("", "[1]", "[" * 100_000, "{}", " " * (17 << 20)):
        (path / "zarr.json").write_text(text)
        with pytest.raises(UntrustedStoreError):
            open_zarr(path)
