"""Faults of zarr stores. Each function makes one many times over and returns what is promised and what was measured.

A function takes a directory to write in and raises AssertionError where a promise is not kept.
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import dask
import dask.array as da
import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from daskml_core.data import manifest, open_zarr, verify
from daskml_core.errors import (
    DamagedChunkError,
    MemoryPlanError,
    MissingChunksError,
    StoreChangedError,
    StoreError,
    StoreReadError,
    UnsupportedDataError,
    UntrustedStoreError,
)
from daskml_core.linear_model import Ridge
from daskml_core.optimize import minimize

N, D, CHUNK = 2000, 6, 200
TYPED = (StoreError, UnsupportedDataError, MemoryPlanError)


def rows(seed=0, dtype="f4"):
    """Rows and a target."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D)).astype(dtype)
    return X, X @ np.arange(D) + rng.normal(size=N)


def write(path, X, *, chunks=(CHUNK, D), shards=None, compressors="checked", **options):
    """A store written with checksums and with every chunk."""
    shutil.rmtree(path, ignore_errors=True)
    compressors = [ZstdCodec(checksum=True)] if compressors == "checked" else compressors
    array = zarr.create_array(
        path,
        shape=X.shape,
        chunks=chunks,
        shards=shards,
        dtype=X.dtype,
        compressors=compressors,
        config={"write_empty_chunks": True},
        **options,
    )
    array[:] = X
    return zarr.open_array(path, mode="r")


def chunk_files(path):
    """The files that hold chunks."""
    return sorted(p for p in Path(path).rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs"))


def attempt(use):
    """The exception that a call ends with, or ``None``; and its answer."""
    try:
        return None, use()
    except Exception as error:
        return error, None


@contextlib.contextmanager
def away(file):
    """A file that is not there for a while."""
    held = file.read_bytes()
    file.unlink()
    try:
        yield
    finally:
        file.write_bytes(held)


def missing_chunks(directory):
    """Every chunk, and every shard, removed in turn; and a chunk inside of a shard never written."""
    X, y = rows()
    tried = 0
    for name, shape, shards in (("chunks", (CHUNK, 3), None), ("shards", (100, 3), (2 * CHUNK, D))):
        path = directory / name
        array = write(path, X, chunks=shape, shards=shards)
        for file in chunk_files(path):
            with away(file):
                key = file.relative_to(path).as_posix()
                first = int(key.split("/")[1]) * (shards or shape)[0]
                for use in (
                    lambda array=array: Ridge().fit(array, y),
                    lambda array=array: Ridge().fit(da.from_zarr(array).astype("f8"), y),
                    lambda path=path: open_zarr(path),
                ):
                    error, _ = attempt(use)
                    tried += 1
                    assert isinstance(error, MissingChunksError), error
                    assert f"{key} (rows {first} to " in str(error), error
                    assert (error.chunk, error.rows[0]) == (key, first)
                assert [m[0] for m in verify(path).arrays[0].missing] == [key]
    hollow = X.copy()
    hollow[300:400, :3] = 0
    path = directory / "hollow"
    zarr.create_array(path, data=hollow, chunks=(100, 3), shards=(2 * CHUNK, D))
    error, _ = attempt(lambda: Ridge().fit(zarr.open_array(path, mode="r"), y))
    assert isinstance(error, MissingChunksError), error
    assert "inside of 1 shards, first 1 in c/0/0" in str(error), error
    with dask.config.set({"daskml-core.missing-chunks": "fill"}):
        coef = Ridge().fit(zarr.open_array(path, mode="r"), y).coef_
    np.testing.assert_array_equal(coef, Ridge().fit(hollow, y).coef_)
    return "refused before the fit, naming chunk and rows", f"{tried + 1} of {tried + 1} refused and named"


def flipped_bits(directory, n=200):
    """Single bits of chunks flipped, with checksums on."""
    X, y = rows()
    path = directory / "flips"
    array = write(path, X)
    truth, files, rng = Ridge().fit(array, y).coef_, chunk_files(path), random.Random(0)
    named = same = 0
    for _ in range(n):
        file = rng.choice(files)
        held = file.read_bytes()
        place = rng.randrange(8 * len(held))
        broken = bytearray(held)
        broken[place // 8] ^= 1 << place % 8
        file.write_bytes(broken)
        error, model = attempt(lambda: Ridge().fit(array, y))
        file.write_bytes(held)
        if error is None:
            assert np.array_equal(model.coef_, truth), f"bit {place} of {file} was read wrong"
            same += 1
        else:
            assert isinstance(error, DamagedChunkError), repr(error)
            assert error.chunk == file.relative_to(path).as_posix()
            assert "Block " in str(error)
            named += 1
    return "never read wrong: chunk, rows and block named", f"{named} named, {same} without effect, 0 wrong, of {n}"


def truncated_chunks(directory, step=64):
    """A chunk cut short at every 64th byte, in all ways to encode it; nothing at all included."""
    X, y = rows()
    tried = 0
    encodings = {
        "zstd": {},
        "plain": {"compressors": None},
        "blosc": {"compressors": zarr.codecs.BloscCodec()},
        "gzip": {"compressors": zarr.codecs.GzipCodec()},
        "sharded": {"chunks": (50, D), "shards": (CHUNK, D)},
    }
    for name, options in encodings.items():
        path = directory / name
        array = write(path, X, **options)
        file = chunk_files(path)[3]
        held = file.read_bytes()
        for stop in range(0, len(held), step):
            file.write_bytes(held[:stop])
            error, _ = attempt(lambda array=array: Ridge().fit(array, y))
            tried += 1
            assert isinstance(error, DamagedChunkError), f"{name} cut at {stop}: {error!r}"
            assert error.chunk == file.relative_to(path).as_posix()
            assert error.rows == (3 * CHUNK, 4 * CHUNK)
        file.write_bytes(held)
        assert verify(path).ok
    return "refused, naming chunk and rows", f"{tried} of {tried} refused and named"


def swapped_chunks(directory):
    """Two chunks in each other's place: whole in themselves, so that only a manifest tells."""
    X, _ = rows()
    path = directory / "swapped"
    write(path, X)
    proof, files = manifest(path), chunk_files(path)
    proof.save(directory / "manifest.json")
    proof = type(proof).load(directory / "manifest.json")
    assert verify(path, proof).ok
    tried = 0
    for i in range(len(files)):
        for j in range(i):
            a, b = files[i].read_bytes(), files[j].read_bytes()
            files[i].write_bytes(b)
            files[j].write_bytes(a)
            found = {key for key, _ in verify(path, proof).arrays[0].changed}
            assert found == {f.relative_to(path).as_posix() for f in (files[i], files[j])}, found
            files[i].write_bytes(a)
            files[j].write_bytes(b)
            tried += 1
    return "verify(store, manifest) names both chunks", f"{tried} of {tried} pairs named"


def values_that_are_not_finite(directory):
    """NaN, and infinity, at one place of each block."""
    tried, rng = 0, np.random.default_rng(0)
    for block in range(N // CHUNK):
        for bad, word in ((np.nan, "NaN"), (-np.inf, "infinity")):
            X, y = rows()
            row, column = block * CHUNK + int(rng.integers(CHUNK)), int(rng.integers(D))
            X[row, column] = bad
            array = write(directory / "nan", X)
            # Chunks of 5 kB are read together: in Dask each is a block.
            error, _ = attempt(lambda array=array, y=y: Ridge().fit(da.from_zarr(array), y))
            assert isinstance(error, ValueError)
            assert f"Input X contains {word}" in str(error)
            assert f"block {block}, row {row}, column {column}" in str(error), error
            found = verify(directory / "nan").arrays[0]
            assert (found.nan or found.infinite) == ((f"c/{block}/0", (block * CHUNK, (block + 1) * CHUNK), 1),)
            tried += 1
    return "refused, naming block, row and column", f"{tried} of {tried} named"


def store_changed_meanwhile(directory):
    """A chunk rewritten, removed, or metadata rewritten, while a fit reads."""
    X, y = rows()
    tried = 0

    def rewrite(path):
        zarr.open_array(path, mode="r+")[3 * CHUNK : 4 * CHUNK] = 7.0

    def remove(path):
        (path / "c" / "0" / "0").unlink()

    def grow(path):
        zarr.open_array(path, mode="r+").resize((N + CHUNK, D))

    for name, change in (("rewrite", rewrite), ("remove", remove), ("grow", grow)):
        for wrap in (lambda array: array, lambda array: da.from_zarr(array).astype("f8")):
            path = directory / name
            array, done = write(path, X), []

            def squared_error(w, X, y, path=path, change=change, done=done):
                if not done:
                    done.append(change(path))
                r = X @ w - y
                return r @ r / 2, X.T @ r

            with dask.config.set({"daskml-core.residency": False, "scheduler": "synchronous"}):
                data = wrap(array)
                error, _ = attempt(lambda f=squared_error, a=data: minimize(f, np.zeros(D), a, y, solver="lbfgs"))
            assert isinstance(error, StoreChangedError | MissingChunksError), repr(error)
            assert done
            tried += 1
    return "the fit ends with an error that names the chunk", f"{tried} of {tried} refused"


class FailingStore(zarr.storage.MemoryStore):
    """A store whose reads of chunks fail at first, as those of a network do."""

    def __init__(self, failures=0, **options):
        super().__init__(**options)
        self.failures, self.failed = failures, 0

    async def get(self, key, *args, **options):
        if "c/" in key and self.failed < self.failures:
            self.failed += 1
            raise OSError("connection reset")
        return await super().get(key, *args, **options)


def transient_errors(directory):
    """Reads that fail a few times, and reads that never succeed."""
    import logging

    X, y = rows()
    held, lines = FailingStore(), []
    write_to = zarr.create_array(held, shape=X.shape, chunks=(CHUNK, D), dtype=X.dtype)
    write_to[:] = X

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler = Lines()
    logging.getLogger("daskml_core").addHandler(handler)
    level = logging.getLogger("daskml_core").level
    logging.getLogger("daskml_core").setLevel(logging.WARNING)
    try:
        for wrap in (lambda a: a, da.from_zarr):
            held.failures = 0
            truth = Ridge().fit(wrap(write_to), y).coef_
            held.failures, held.failed = 2, 0
            coef = Ridge().fit(wrap(write_to), y).coef_
            assert np.array_equal(coef, truth)
        again = len(lines)
        assert again >= 2
        held.failures, held.failed = 10**9, 0
        with dask.config.set({"daskml-core.read-retries": 1}):
            error, _ = attempt(lambda: Ridge().fit(write_to, y))
        assert isinstance(error, StoreReadError), repr(error)
        assert isinstance(error, OSError)
        assert "rows 0 to 1999" in str(error)
        assert "failed 2 times" in str(error)
    finally:
        logging.getLogger("daskml_core").removeHandler(handler)
        logging.getLogger("daskml_core").setLevel(level)
    return (
        "tried again, same bits; after the last try an error",
        f"same bits after {again} logged retries; then refused",
    )


def _mutated(text, rng):
    """Metadata with one thing changed: a value, a key, a piece of text."""
    if rng.random() < 0.3:
        data = bytearray(text)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            what = rng.random()
            if what < 0.4:
                data[place] = rng.randrange(256)
            elif what < 0.7:
                del data[place : place + rng.randint(1, 20)]
            else:
                data[place:place] = bytes(rng.choices(b'0123456789"[]{},:-e. ', k=rng.randint(1, 6)))
            if not data:
                break
        return bytes(data)
    described = json.loads(text)
    strange = [
        0,
        -1,
        1,
        2**31,
        2**40,
        2**63,
        1e308,
        None,
        True,
        "",
        "x",
        [],
        {},
        [[]],
        "float64",
        "|O",
        "object",
        "NaN",
    ]
    strange += [
        [2**40, 2**40],
        "../..",
        {"name": "pickle"},
        [{"name": "numcodecs.pickle"}],
        "int8",
        "<f8",
        {"id": "pickle"},
    ]

    def places(node, found):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], dict | list):
                places(node[key], found)
        return found

    found = places(described, [])
    if rng.random() < 0.5:
        # What zarr itself takes: other numbers, and other words that it knows.
        numbers = [(node, key) for node, key in found if type(node[key]) is int and key != "zarr_format"]
        words = [(node, key) for node, key in found if node[key] in ("float32", "<f4", "little", "end", "/")]
        for node, key in rng.sample(numbers + words, rng.randint(1, 2)):
            if type(node[key]) is int:
                node[key] = rng.choice([1, 2, 3, 7, 100, 4000, 2**20, 2**31, 2**40, node[key] + 1, node[key] * 2])
            else:
                node[key] = rng.choice(["float64", "int32", "uint8", "<f8", "<i4", ">f4", "|u1", "big", "start", "."])
        return json.dumps(described).encode()
    node, key = rng.choice(found)
    what = rng.random()
    if what < 0.15:
        del node[key]
    elif what < 0.3 and isinstance(node, dict):
        node[rng.choice(["name", "shape", "codecs", "configuration", "é", key + "x"])] = node.pop(key)
    else:
        node[key] = rng.choice(strange)
    return json.dumps(described).encode()


def mutated_metadata(directory, n=2000, limit_s=10.0, limit_bytes=64 << 20):
    """Metadata files with values, keys and text changed at random, in both versions of the format, sharded and not."""
    X, y = rows()
    rng, refused, same, other = random.Random(0), 0, 0, 0
    variants = {
        "three": {},
        "two": {"compressors": numcodecs.Zstd(), "zarr_format": 2},
        "shards": {"chunks": (100, 3), "shards": (CHUNK, D)},
    }
    stores = {name: write(directory / name, X, **options) for name, options in variants.items()}
    truth = {name: Ridge().fit(array, y).coef_ for name, array in stores.items()}
    slowest = largest = 0.0
    tracemalloc.start()
    with dask.config.set({"daskml-core.memory-limit": "4 GiB", "scheduler": "synchronous"}):
        for i in range(n):
            name = list(variants)[i % 3]
            file = directory / name / (".zarray" if name == "two" else "zarr.json")
            held = file.read_bytes()
            file.write_bytes(_mutated(held, rng))
            tracemalloc.reset_peak()
            start = time.process_time()
            error, model = attempt(lambda path=directory / name: Ridge().fit(open_zarr(path), y))
            slowest = max(slowest, time.process_time() - start)
            largest = max(largest, tracemalloc.get_traced_memory()[1])
            text = file.read_bytes()
            file.write_bytes(held)
            assert slowest < limit_s, f"{slowest:.1f} s for {text!r}"
            assert largest < limit_bytes, f"{largest / 2**20:.0f} MiB for {text!r}"
            if error is None and np.array_equal(model.coef_, truth[name]):
                same += 1
            elif error is None:
                other += 1
            else:
                # What is wrong with the data that a store now declares (its length, NaN) is a plain ValueError.
                assert isinstance(error, TYPED) or type(error) is ValueError, f"{error!r} for {text!r}"
                refused += 1
    tracemalloc.stop()
    promised = "a typed error, the same model, or that of the data as declared now; never a hang, a crash, or 64 MiB"
    measured = (
        f"{refused} refused, {same} same, {other} as declared; at most {slowest:.1f} CPU s, {largest / 2**20:.0f} MiB"
    )
    return promised, measured


class Payload:
    """A pickle that leaves a directory behind when it is loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


class Trap(numcodecs.abc.Codec):
    """Somebody's own codec, installed and registered; decoding a chunk runs what it likes."""

    codec_id = "tests-trap"
    sprung = 0

    def encode(self, buf):
        return buf

    def decode(self, buf, out=None):
        Trap.sprung += 1
        return buf


def hostile_codecs(directory):
    """Stores whose codecs run code: pickled objects, numbers said to be pickled, and codecs of unknown make."""
    numcodecs.register_codec(Trap)
    trap, tried, opened = directory / "trap", 0, 0
    text = [{"id": "vlen-utf8"}]
    for dtype, filters, compressor in (
        ("|O", [{"id": "pickle", "protocol": 5}], None),
        ("|O", text, {"id": "pickle", "protocol": 5}),
        ("<f8", [{"id": "pickle", "protocol": 5}], None),
        ("<f8", None, {"id": "pickle", "protocol": 5}),
        ("|O", [{"id": "json2"}], None),
        ("|O", [{"id": "msgpack2"}], None),
        ("|O", text, {"id": "tests-trap"}),
        ("<f8", None, {"id": "tests-trap"}),
        ("<f8", [{"id": "tests-trap"}], {"id": "zstd"}),
    ):
        path = directory / "hostile"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        described = {"zarr_format": 2, "shape": [4, 1], "chunks": [4, 1], "fill_value": None, "order": "C"}
        described |= {"dtype": dtype, "compressor": compressor, "filters": filters}
        (path / ".zarray").write_text(json.dumps(described))
        (path / "0.0").write_bytes(pickle.dumps(Payload(trap)))
        uses = [lambda path=path: open_zarr(path)]
        refused, array = attempt(lambda path=path: zarr.open_array(path, mode="r"))
        if refused is None:  # zarr takes the codec: it would run when a chunk is read
            opened += 1
            assert verify(path).arrays[0].refused
            uses += [
                lambda a=array: Ridge().fit(a, np.arange(4.0)),
                lambda a=array: Ridge().fit(np.eye(4), a),
                lambda a=array: Ridge().fit(da.from_zarr(a), np.arange(4.0)),
            ]
        for use in uses:
            error, _ = attempt(use)
            assert isinstance(error, UntrustedStoreError | UnsupportedDataError), repr(error)
            tried += 1
    assert not trap.exists()
    assert not Trap.sprung
    assert opened >= 3
    return "refused before a chunk is opened; no code runs", f"{tried} of {tried} refused, no code ran"


def absurd_sizes(directory):
    """635 bytes that declare 128 GiB or 2^60 rows; 32 kB that decode to 1 GiB."""
    path, y = directory / "large", np.zeros(4)
    tried, slowest, largest = 0, 0.0, 0.0
    stores = []
    for i, (shape, chunks) in enumerate(
        [
            ((1 << 35, 1), (1 << 20, 1)),
            ((1 << 35, 1), (1, 1)),
            ((1 << 60, 4), (1000, 4)),
            ((4, 1 << 40), (4, 1 << 40)),
            ((4, 1 << 40), (4, 1)),
            ((1 << 17, 1 << 18), (1 << 17, 1 << 18)),
        ]
    ):
        zarr.create_array(path / str(i), shape=shape, chunks=chunks, dtype="f4")
        stores.append(path / str(i))
    X = np.zeros((1 << 18, 1), dtype="f4")
    bomb = write(directory / "bomb", X, chunks=(1 << 16, 1))
    file = chunk_files(directory / "bomb")[2]
    file.write_bytes(numcodecs.Zstd(level=9).encode(np.zeros(1 << 27)))
    assert file.stat().st_size < 100_000
    tracemalloc.start()
    with dask.config.set({"daskml-core.memory-limit": "4 GiB"}):
        for store in stores:
            for missing in ("refuse", "fill"):
                tracemalloc.reset_peak()
                start = time.process_time()
                with dask.config.set({"daskml-core.missing-chunks": missing}):
                    error, _ = attempt(lambda store=store: Ridge().fit(open_zarr(store), y))
                slowest = max(slowest, time.process_time() - start)
                largest = max(largest, tracemalloc.get_traced_memory()[1])
                wrong_length = type(error) is ValueError and "inconsistent numbers of samples" in str(error)
                assert isinstance(error, TYPED) or wrong_length, repr(error)
                tried += 1
        tracemalloc.reset_peak()
        error, _ = attempt(lambda: Ridge().fit(bomb, np.zeros(len(X))))
        largest = max(largest, tracemalloc.get_traced_memory()[1])
        assert isinstance(error, DamagedChunkError)
        assert "1,073,741,824 bytes where 262,144 belong" in str(error), error
    tracemalloc.stop()
    assert slowest < 20, slowest
    assert largest < 256 << 20, largest
    measured = f"{tried + 1} of {tried + 1} refused, at most {slowest:.1f} CPU s and {largest / 2**20:.0f} MiB"
    return "refused before anything is read", measured


def links_out_of_the_store(directory):
    """A chunk, a directory of chunks, and an array that are links to somewhere else."""
    X, y = rows()
    secret = directory / "secret"
    write(secret, X)
    tried = 0
    for place in ("x/c/3/0", "x/c/3", "x/c", "x"):
        path = directory / "linked"
        shutil.rmtree(path, ignore_errors=True)
        zarr.open_group(path, mode="w")
        write(path / "x", X)
        target = path / place
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        target.symlink_to(secret / Path(place).relative_to("x"))
        array = zarr.open_group(path, mode="r")["x"]
        for use in (lambda a=array: Ridge().fit(a, y), lambda a=array: Ridge().fit(da.from_zarr(a), y)):
            error, _ = attempt(use)
            assert isinstance(error, UntrustedStoreError), repr(error)
            assert "leaves the store" in str(error)
            tried += 1
        with dask.config.set({"daskml-core.links": "follow"}):
            assert np.isfinite(Ridge().fit(array, y).coef_).all()
    return "refused, naming the link and where it leads", f"{tried} of {tried} refused"


FAULTS = {
    "a chunk or shard is missing": missing_chunks,
    "bits of a chunk are flipped": flipped_bits,
    "a chunk is cut short": truncated_chunks,
    "two chunks are swapped": swapped_chunks,
    "NaN or infinity in a block": values_that_are_not_finite,
    "the store changes while it is read": store_changed_meanwhile,
    "reads fail for a moment": transient_errors,
    "metadata is mutated": mutated_metadata,
    "codecs that run code": hostile_codecs,
    "absurd sizes": absurd_sizes,
    "links out of the store": links_out_of_the_store,
}


def main():
    """Print the table."""
    import tempfile

    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            promised, measured = fault(Path(directory))
            print(f"{name} | {promised} | {measured} | {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
