"""The memory promise of a search: 100 models of 500 features, measured in a fresh process."""

import subprocess
import sys

import numpy as np
import pytest
import zarr

ROWS, CHUNK, FEATURES = 80_000, 4_000, 500

CASE = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import dask, numpy as np, zarr
from daskml_core.engine.executors import return_free_memory
from daskml_core.linear_model import LogisticRegression
from daskml_core.model_selection import GridSearchCV
store = zarr.open_group(sys.argv[1], mode="r")
dask.config.set({"num_workers": 2})
def search(n, X, y):
    # Penalties that the tolerance tells apart: none shares another's sweeps.
    return GridSearchCV(LogisticRegression(max_iter=3), {"C": np.logspace(-5, -1, n)}, cv=5), X, y
# Every kernel of the search is loaded before the base is measured.
rng = np.random.default_rng(0)
small = rng.standard_normal((70_000, 3), dtype=np.float32)
model, X, y = search(2, small, small[:, 0] > 0)
model.fit(X, y)
del small, X, y, model
return_free_memory()
base = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
dask.config.set({"daskml-core.memory-limit": base + int(sys.argv[2])})
model, X, y = search(20, store["X"], store["y"])
plan = model.plan(X, y)
print(plan.engine.projected_peak_bytes, plan.n_batches)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
model.fit(X, y)
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
print(base + int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "wide.zarr"
    group = zarr.open_group(path, mode="w")
    X = group.create_array("X", shape=(ROWS, FEATURES), chunks=(CHUNK, FEATURES), dtype="f4", compressors=None)
    y = group.create_array("y", shape=(ROWS,), chunks=(CHUNK,), dtype="bool", compressors=None)
    for i in range(ROWS // CHUNK):
        block = np.random.default_rng(i).standard_normal((CHUNK, FEATURES), dtype=np.float32)
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        X[rows], y[rows] = block, block[:, 0] + np.random.default_rng([i, 1]).logistic(size=CHUNK) > 0
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is read from /proc")
def test_a_hundred_models_of_500_features_stay_below_the_limit(store):
    room = 150 << 20  # less than the data
    done = subprocess.run([sys.executable, "-c", CASE, str(store), str(room)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (projected, batches), (peak,), (limit,) = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    assert batches >= 1
    assert peak <= projected <= limit
    assert peak <= limit, f"{(peak - limit) >> 20} MiB above the limit"
