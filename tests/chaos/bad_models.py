"""Model files that are damaged, or made to do harm. As in `bad_data`, functions return what is promised and measured."""

import json
import random
import struct
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np

import daskml_core
from daskml_core.cluster import BisectingKMeans, KMeansSearch, MiniBatchKMeans
from daskml_core.errors import ModelFileError
from daskml_core.kernel_approximation import Nystroem, PolynomialCountSketch
from daskml_core.linear_model import LogisticRegression, Ridge, SGDClassifier
from daskml_core.model_selection import GridSearchCV
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import MinMaxScaler, StandardScaler
from daskml_core.svm import SVC, OneClassSVM
from tests.problems import three_classes

X, Y = three_classes(n=200, d=4)
LIMIT_S, LIMIT_BYTES = 1.0, 64 << 20


def models():
    """Fitted models of every family whose files differ."""
    labels = (Y == "ash").astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            LogisticRegression().fit(X, Y),
            SVC(probability=True, kernel="poly").fit(X, Y),
            OneClassSVM().fit(X),
            BisectingKMeans(n_clusters=5).fit(X),
            MiniBatchKMeans(n_clusters=3, batch_size=50).fit(X),
            KMeansSearch(n_clusters=(2, 3), n_references=1).fit(X),
            SGDClassifier(max_iter=10, tol=None, class_weight="balanced").fit(X, Y),
            Nystroem(n_components=5).fit(X),
            PolynomialCountSketch(n_components=16).fit(X),
            make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels),
            MinMaxScaler().fit(X),
            GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(X, labels),
        ]


def entries(path):
    """What lies in a model file, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, parts, compression=zipfile.ZIP_STORED):
    """A model file with these entries and the right checksums."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)


STRANGE = [
    0,
    -1,
    1,
    3,
    2**31,
    2**40,
    2**63,
    10**30,
    1e308,
    0.5,
    None,
    True,
    "",
    "x",
    [],
    {},
    [[]],
    "<f8",
    "|O",
    "O",
    "<i8",
]
STRANGE += [
    "F",
    {"@": "estimator"},
    {"@": "eval", "code": "1"},
    {"@": "tuple", "items": []},
    {"@": "float", "value": "nan"},
]
STRANGE += ["os.system", "sklearn.Pipeline", "Pipeline", "SVC", "KMeans", {"@": "range", "items": [0, 2**62, 1]}]


def mutate_json(text, rng):
    """The JSON with one value, key or number changed."""
    described = json.loads(text)

    def places(node, found):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], dict | list):
                places(node[key], found)
        return found

    found = places(described, [])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        node, key = rng.choice(found)
        what = rng.random()
        try:
            if what < 0.15:
                del node[key]
            elif what < 0.3 and isinstance(node, dict):
                node[rng.choice(["@", "class", "shape", "__class__", "predict", "_tree", "data"])] = node.pop(key)
            elif what < 0.45:
                other, place = rng.choice(found)
                node[key] = json.loads(json.dumps(other[place]))
            elif what < 0.6 and isinstance(node[key], int):
                node[key] = node[key] + rng.choice([-1, 1, 7, 10**9])
            else:
                node[key] = rng.choice(STRANGE)
        except (KeyError, IndexError):
            continue
    return json.dumps(described).encode()


def mutate(path, rng):
    """Write a damaged copy of a model file over it."""
    held = path.read_bytes()
    what = rng.random()
    if what < 0.15:  # as a disk or a wire does it
        data = bytearray(held)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif what < 0.2:
        path.write_bytes(held[: rng.randrange(len(held))])
    elif what < 0.25:
        data = bytearray(held)
        place = rng.randrange(max(1, len(data) - 300), len(data))
        data[place : place + 4] = struct.pack("<L", rng.choice([0, 1, 2**31, 2**32 - 1]))
        path.write_bytes(data)
    else:  # with the right checksums, as somebody does it
        parts = entries(path)
        if what < 0.75:
            parts["model.json"] = mutate_json(parts["model.json"], rng)
        else:
            name = rng.choice([name for name in parts if name != "model.json"])
            data = bytearray(parts[name])
            if data and rng.random() < 0.7:
                place = rng.randrange(len(data)) // 8 * 8
                value = rng.choice([np.nan, np.inf, 1e308, -1.0])
                number = rng.choice([-1, 0, 1, 5, 2**31, 2**62, -(2**63)])
                data[place : place + 8] = rng.choice([struct.pack("<d", value), struct.pack("<q", number)])
                data = data[: len(parts[name])]
            else:
                data = data[: rng.randrange(len(data) + 1)] + bytes(rng.randrange(3))
            parts[name] = bytes(data)
        pack(path, parts)


def mutated_model_files(directory, n=2000):
    """Model files of every family with bits, JSON, arrays and archives changed at random."""
    rng, refused, fine = random.Random(0), 0, 0
    originals = []
    for i, model in enumerate(models()):
        daskml_core.save(model, directory / f"{i}.model")
        originals.append((directory / f"{i}.model").read_bytes())
        _use(daskml_core.load(directory / f"{i}.model"))  # what has to be compiled is, before memory is traced
    slowest, largest = 0.0, 0
    path = directory / "mutated.model"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        tracemalloc.start()
        for i in range(n):
            path.write_bytes(originals[i % len(originals)])
            mutate(path, rng)
            tracemalloc.reset_peak()
            start = time.process_time()
            try:
                model = daskml_core.load(path)
            except ModelFileError:
                model = None
            slowest = max(slowest, time.process_time() - start)
            largest = max(largest, tracemalloc.get_traced_memory()[1])
            assert slowest < LIMIT_S, f"file {i}: {slowest:.2f} s"
            assert largest < LIMIT_BYTES, f"file {i}: {largest:,} bytes"
            if model is None:
                refused += 1
                continue
            if any(hasattr(model, name) for name in ("n_features_in_", "best_estimator_", "steps")):
                try:
                    _use(model)
                except ValueError as error:  # another number of features is another model; not fitted any more
                    assert "features" in str(error) or "fitted" in str(error), repr(error)
            fine += 1
        tracemalloc.stop()
    promised = f"a ModelFileError or a model that works, within {LIMIT_S:g} s and {LIMIT_BYTES >> 20} MiB"
    return promised, f"{refused} refused, {fine} work; at most {slowest:.2f} s, {largest / 2**20:.1f} MiB"


def _replace(described, **changes):
    return json.dumps(described | changes).encode()


def hostile_model_files(directory):
    """Files that are made to run code, to fill memory, or to never end."""
    path = directory / "hostile.model"
    daskml_core.save(LogisticRegression().fit(X, Y), path)
    good = entries(path)
    described = json.loads(good["model.json"])
    model = described["model"]
    deep = b'{"format":1,"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    state, params = model["state"], model["params"]
    evil = {"@": "estimator", "class": "Ridge", "params": {}, "state": {}}
    array = {"@": "array", "dtype": "<f8", "shape": [1 << 39, 4], "order": "C", "data": 0}

    def changed(**changes):
        return {**good, "model.json": _replace(described, model=model | changes)}

    files = {
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "nothing": b"",
        "text": b"hello" * 100,
        "deep JSON": {"model.json": deep},
        "numbers without end": {"model.json": b'{"format":1' + b"0" * 100_000 + b"}"},
        "wide JSON": {"model.json": b'{"format":1,"model":[' + b"[]," * 600_000 + b"[]]}"},
        "wide history": changed(state=state | {"history_": [[]] * 500_000}),
        "JSON too long": {"model.json": b" " * (3 << 20)},
        "no JSON": {"arrays/0": b""},
        "NaN in JSON": {"model.json": b'{"format":NaN}'},
        "a later format": {"model.json": _replace(described, format=99)},
        "no estimator": {"model.json": _replace(described, model=[1, 2])},
        "unknown class": changed(**{"class": "subprocess.Popen"}),
        "another module's class": changed(**{"class": "sklearn.LogisticRegression"}),
        "a class of ours that is no estimator": changed(**{"class": "Encoder"}),
        "unknown attribute": changed(state=state | {"evil_": 1}),
        "a method as attribute": changed(state=state | {"predict": 1}),
        "dunder": changed(state=state | {"__class__": "x"}),
        "unknown parameter": changed(params=params | {"evil": 1}),
        "wrong type": changed(state=state | {"coef_": "text"}),
        "wrong shape": changed(state=state | {"n_features_in_": 7}),
        "negative features": changed(state=state | {"n_features_in_": -1}),
        "billions of features": changed(state={"n_features_in_": 1 << 40, "n_sweeps_": 1.0}),
        "huge shape": changed(state=state | {"coef_": array}),
        "object dtype": changed(state=state | {"coef_": array | {"dtype": "|O", "shape": [3]}}),
        "structured dtype": changed(state=state | {"coef_": array | {"dtype": "<f8,<f8", "shape": [3]}}),
        "an array used twice": changed(state=state | {"coef_": state["coef_"], "intercept_": state["coef_"]}),
        "classes less than scores": changed(state=state | {"classes_": state["intercept_"]}, params=params),
        "an estimator as parameter": changed(params=params | {"C": evil}),
        "an estimator as number": changed(state=state | {"n_iter_": evil}),
    }
    refused, slowest, largest = 0, 0.0, 0
    for name, content in files.items():
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pack(path, content)
        slowest, largest, refused = _refuse(path, name, slowest, largest, refused)
    # Bombs of zip: compressed entries, one that says it is larger than the file, and many over the same bytes.
    pack(path, {**good, "arrays/99": bytes(1 << 27)}, zipfile.ZIP_DEFLATED)
    slowest, largest, refused = _refuse(path, "compressed", slowest, largest, refused)
    pack(path, good)
    data = path.read_bytes()
    place = data.rindex(b"PK\x01\x02")
    for size in (1 << 30, 0xFFFFFFFF):
        path.write_bytes(data[: place + 20] + struct.pack("<LL", size, size) + data[place + 28 :])
        slowest, largest, refused = _refuse(path, "declared size", slowest, largest, refused)
    path.write_bytes(data + b"x" * 100)
    slowest, largest, refused = _refuse(path, "trailing bytes", slowest, largest, refused)
    n = len(files) + 4
    assert refused == n
    promised = f"a ModelFileError within {LIMIT_S:g} s and {LIMIT_BYTES >> 20} MiB; no code runs"
    return promised, f"{refused} of {n} refused; at most {slowest:.2f} s, {largest / 2**20:.1f} MiB"


def _use(model):
    """Have three rows predicted, or transformed."""
    (getattr(model, "predict", None) or model.transform)(X[:3])


def _refuse(path, name, slowest, largest, refused):
    """Load twice: for the time, and for the memory, as counting it makes Python several times slower."""
    start = time.process_time()
    _expect_refusal(path, name)
    seconds = time.process_time() - start
    tracemalloc.start()
    _expect_refusal(path, name)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < LIMIT_S, f"{name}: {seconds:.2f} s"
    assert held < LIMIT_BYTES, f"{name}: {held:,} bytes"
    return max(slowest, seconds), max(largest, held), refused + 1


def _expect_refusal(path, name):
    try:
        daskml_core.load(path)
    except ModelFileError as error:
        assert str(path) in str(error), name
    else:
        raise AssertionError(f"{name} was loaded")


FAULTS = {"a model file is damaged or forged": mutated_model_files, "a model file is hostile": hostile_model_files}


def main():
    """Print the table."""
    import tempfile

    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as directory:
            print(name, *fault(Path(directory)), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
