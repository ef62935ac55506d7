"""Peak memory of fits on data four times the memory limit, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys

from common import gate, table, two_class_store

MiB = 1 << 20
CASE = """
import sys, dask, zarr, numpy as np
from daskml_core.linear_model import LogisticRegression, LinearRegression, SGDClassifier
models = {"auto": LogisticRegression(tol=1e-5), "newton": LogisticRegression(solver="newton", max_iter=3),
          "lbfgs": LogisticRegression(solver="lbfgs", max_iter=3), "gram": LinearRegression(),
          "sgd": SGDClassifier(loss="log_loss", max_iter=1, tol=None)}
import warnings; warnings.simplefilter("ignore")
model, limit, path = models[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
store = zarr.open_group(path, mode="r")
dask.config.set({"daskml-core.memory-limit": limit, "num_workers": 2})
plan = model.plan(store["X"], store["y"])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
model.fit(store["X"], store["y"])
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(plan.projected_peak_bytes, peak)
"""


def main() -> None:
    """Print the table and the gates."""
    store = two_class_store()
    size = store["X"].nbytes + store["y"].nbytes
    # The store is 804 MB: four limits of 201 MB. Python and its libraries alone take about as much, so the limit is set
    # for what comes on top of a process that has imported everything.
    room = size // 4
    base = int(subprocess.run([sys.executable, "-c", _BASE], capture_output=True, text=True, check=True).stdout)
    limit = base + room
    rows = []
    for case in ("auto", "newton", "lbfgs", "gram", "sgd"):
        done = subprocess.run(
            [sys.executable, "-c", CASE, case, str(limit), str(store.store.root)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
        if done.returncode:
            rows.append([case, done.stderr.strip().splitlines()[-1][:60], "-", "-"])
            continue
        projected, peak = (int(n) for n in done.stdout.split())
        rows.append([case, projected / MiB, peak / MiB, limit / MiB])
        gate(f"{case}: peak {peak / MiB:.0f} MiB below the limit of {limit / MiB:.0f} MiB", peak <= limit)
    table(
        f"fits on {size / MiB:.0f} MiB with {room / MiB:.0f} MiB of room",
        ["", "projected", "peak MiB", "limit MiB"],
        rows,
    )


_BASE = """
import numpy as np, dask, zarr
from daskml_core.linear_model import LogisticRegression, LinearRegression, SGDClassifier
X = np.random.default_rng(0).normal(size=(100, 3)).astype("f4")
sgd = SGDClassifier(loss="log_loss", max_iter=1, tol=None)
for model in (LogisticRegression(), LogisticRegression(solver="newton"), sgd):
    model.fit(X, X[:, 0] > 0)
import distributed, threadpoolctl
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""

if __name__ == "__main__":
    main()
