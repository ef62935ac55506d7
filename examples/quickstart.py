"""From a zarr store to fitted models, under a memory limit smaller than the data.

Trains the same logistic regression four ways, prints one table, and writes predictions to zarr; then paints a picture in
64 colours by k-means. The stores are written once to ``./data``; a directory may be given instead:
``python examples/quickstart.py /scratch/flights``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dask
import dask.array as da
import zarr
from distributed import Client, LocalCluster
from flights import prepare
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from zarr.codecs import ZstdCodec

from daskml_core.engine.executors import return_free_memory
from daskml_core.linear_model import LogisticRegression
from daskml_core.metrics import accuracy_score, log_loss, recall_score
from daskml_core.model_selection import train_test_split
from daskml_core.preprocessing import StandardScaler

MiB = 1 << 20
ROOM = 115 * MiB


def resident_bytes(pids: list[int]) -> int:
    """Largest memory among processes, in bytes; 0 where /proc is not there."""
    sizes = [0]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as file:
                sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        except OSError:
            continue
    return max(sizes)


class PeakMemory:
    """Largest memory of any of the processes while the block runs, sampled every 5 ms."""

    def __init__(self, pids: list[int]) -> None:
        self.pids, self.peak = pids, 0

    def _watch(self) -> None:
        while not self.stop.wait(0.005):
            self.peak = max(self.peak, resident_bytes(self.pids))

    def __enter__(self) -> PeakMemory:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join()


def main(directory: Path) -> None:
    """Prepare the store, train, compare, predict."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    # In a process of its own: cleaning with pandas takes memory that would count as Python's below.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        path = pool.submit(prepare, directory / "flights.zarr").result()
    store = zarr.open_group(path, mode="r")
    X, y = da.from_zarr(store["X"]), da.from_zarr(store["late"])
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

    # Compiled kernels are loaded once and stay: they are Python's memory, not a fit's.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # "auto" takes Newton's Hessian too, of more rows than these.
        for solver in ("auto", "newton", "gradient_descent", "sgd"):
            few = LogisticRegression(solver=solver, max_iter=2).fit(X_train[:20_000], y_train[:20_000])
        log_loss(y_test, few.predict_proba(X_test))

    # A fit may use ROOM beyond what Python and its libraries take: less than the training data.
    return_free_memory()
    limit = resident_bytes([os.getpid()]) + ROOM
    dask.config.set({"daskml-core.memory-limit": limit})
    console.print(
        f"{X.shape[0]:,} flights x {X.shape[1]} features: {X.nbytes / MiB:.0f} MiB; training rows take "
        f"{X_train.nbytes / MiB:.0f} MiB. Memory limit: {limit / MiB:.0f} MiB, of which Python itself has "
        f"{(limit - ROOM) / MiB:.0f} MiB."
    )
    console.print(LogisticRegression().plan(X_train, y_train))

    table = Table(title="Is the flight late by more than 15 minutes?")
    for column in ("solver", "sweeps", "seconds", "accuracy", "recall", "log-loss", "peak memory"):
        table.add_column(column, justify="left" if column == "solver" else "right")

    def fit(name: str, model: LogisticRegression, pids: list[int]) -> LogisticRegression:
        start = time.perf_counter()
        with PeakMemory(pids) as memory, warnings.catch_warnings():
            # The table tells how far a solver got in the sweeps it was given.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X_train, y_train)
        seconds = time.perf_counter() - start
        label, probability = model.predict(X_test), model.predict_proba(X_test)
        table.add_row(
            name,
            f"{model.n_sweeps_:.2f}",
            f"{seconds:.2f}",
            f"{accuracy_score(y_test, label):.4f}",
            f"{recall_score(y_test, label):.4f}",
            f"{log_loss(y_test, probability):.5f}",
            f"{memory.peak / MiB:.0f} MiB",
        )
        return model

    here = [os.getpid()]
    descent = LogisticRegression(solver="gradient_descent", max_iter=40)
    fit("gradient descent", descent, here)
    fit("SGD", LogisticRegression(solver="sgd", max_iter=4, tol=1e-3, random_state=0), here)
    best = fit("auto (the default)", LogisticRegression(), here)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        dask.config.set({"daskml-core.memory-limit": None}),
    ):
        distributed = LogisticRegression(solver="gradient_descent", max_iter=40)
        fit("distributed gradient descent", distributed, list(client.run(os.getpid).values()))
    console.print(table)
    same = distributed.coef_.tobytes() == descent.coef_.tobytes()
    console.print(f"Gradient descent in threads and on two workers: {'the same bits' if same else 'DIFFERENT bits'}.")

    out = directory / "late_probability.zarr"
    late = best.predict_proba(scaler.transform(X))[:, 1].rechunk(store["late"].chunks)
    # Checksums, and chunks of nothing but zeros written too: what goes missing or wrong later is not read as zeros.
    checked = {"compressors": ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
    late.to_zarr(str(out), overwrite=True, **checked)
    console.print(f"Probabilities of all {X.shape[0]:,} flights written to {out}.")

    import colours

    clusters, picture = colours.quantise(directory)
    console.print(
        f"K-means: {clusters.cluster_sizes_.sum():,} pixels of a picture in {len(clusters.cluster_centers_)} colours, "
        f"{clusters.n_sweeps_:g} sweeps; before and after in {picture}."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data"))
