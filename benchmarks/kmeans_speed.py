"""K-means on 4M x 32: sweeps, an iteration, streaming, restarts, and from zarr to converged against its rivals."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from common import CHECKED, SCRATCH, gate, table, timed
from sklearn import cluster as reference

from daskml_core.cluster import KMeans, MiniBatchKMeans
from daskml_core.data import load
from daskml_core.engine import Engine, count_rows
from daskml_core.kernels.kmeans import lloyd_sweep

ROWS, FEATURES, CHUNK, K = 4_000_000, 32, 100_000, 20


def store() -> zarr.Array:
    """4M x 32 float32 around 20 centres that overlap a little, 40 zstd chunks; written once."""
    path = SCRATCH / "clusters-zstd.zarr"
    if not (path / "done").exists():
        group = zarr.open_group(path, mode="w")
        shape, chunks = (ROWS, FEATURES), (CHUNK, FEATURES)
        X = group.create_array("X", shape=shape, chunks=chunks, dtype="f4", **CHECKED)
        centers = np.random.default_rng(0).normal(scale=1.2, size=(K, FEATURES)).astype(np.float32)
        for i in range(ROWS // CHUNK):
            rng = np.random.default_rng([1, i])
            noise = rng.standard_normal((CHUNK, FEATURES), dtype=np.float32)
            X[i * CHUNK : (i + 1) * CHUNK] = centers[rng.integers(K, size=CHUNK)] + noise
        (path / "done").touch()
    return zarr.open_group(path, mode="r")["X"]


def true_inertia(X, centers) -> float:
    """Sum of squared distances to the nearest centre, in float64."""
    C = np.asarray(centers, dtype=np.float64)
    total = 0.0
    for lo in range(0, len(X), 200_000):
        x = X[lo : lo + 200_000].astype(np.float64)
        squared = (x * x).sum(axis=1) + ((C * C).sum(axis=1)[:, None] - 2 * C @ x.T).min(axis=0)
        total += float(squared.sum())
    return total


def sweeps(X) -> None:
    """Reads of the data before the first iteration: counted."""
    rows = []
    for init in ("auto", "k-means++", "k-means||"):
        model = KMeans(K, init=init, max_iter=3, tol=0).fit(X[:400_000])
        before = model.n_sweeps_ - model.n_iter_ - 1
        rows.append([init, before, model.n_iter_, model.n_sweeps_])
    mini = MiniBatchKMeans(K, compute_labels=False).fit(X)
    rows.append(["MiniBatchKMeans, all rows, no labels", "-", mini.n_steps_, mini.n_sweeps_])
    table("sweeps", ["init", "before", "iterations", "in all (and 1 for the inertia)"], rows)
    gate(
        "a sample takes at most 2 sweeps, k-means|| at most 6", rows[0][1] <= 2 and rows[1][1] <= 2 and rows[2][1] <= 6
    )


def iteration(X) -> None:
    """One Lloyd iteration in memory with two threads, as the difference of fits of many iterations and of one."""
    rows = []
    for k, many, repeats, least in ((K, 40, 3, 1.0), (256, 9, 3, 0.5)):
        start = X[:k].copy()
        makers = {
            "daskml_core": partial(KMeans, k, init=start, tol=0),
            "scikit-learn": partial(reference.KMeans, k, init=start, n_init=1, tol=0),
        }
        found: dict[str, list[tuple[float, float]]] = {who: [] for who in makers}
        iterations = {}
        for _ in range(repeats):
            for who, make in makers.items():
                _, wall_1, cpu_1 = timed(partial(make(max_iter=1).fit, X))
                model, wall, cpu = timed(partial(make(max_iter=many).fit, X))
                n = model.n_iter_ - 1
                iterations[who] = n
                found[who].append(((wall - wall_1) / n, (cpu - cpu_1) / n))
        times = {who: [statistics.median(t[i] for t in each) for i in (0, 1)] for who, each in found.items()}
        rows += [[f"k={k}, {who}", iterations[who], wall * 1e3, cpu * 1e3] for who, (wall, cpu) in times.items()]
        ratio = times["daskml_core"][0] / times["scikit-learn"][0]
        gate(f"k={k}: at most {least} x scikit-learn's iteration ({ratio:.2f})", ratio <= least)
    table("one Lloyd iteration, 4M x 32 float32 in memory, two threads", ["", "iterations", "wall ms", "cpu ms"], rows)


def streaming(source) -> None:
    """A streamed iteration against reading the same chunks with the same threads and doing nothing."""
    centers = source[:K]

    def read_all():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: source[i * CHUNK : (i + 1) * CHUNK], range(ROWS // CHUNK)))

    pairs = []
    with dask.config.set({"daskml-core.residency": False, "num_workers": 2, "scheduler": "threads"}):
        engine = Engine(load(source, count_rows=count_rows))
        for _ in range(7):
            a = time.perf_counter()
            read_all()
            b = time.perf_counter()
            engine.sweep(lloyd_sweep(centers, None, cosine=False))
            pairs.append((b - a, time.perf_counter() - b))
    ratio = statistics.median(s / r for r, s in pairs[1:])
    reading, sweep = (statistics.median(p[i] for p in pairs[1:]) for i in (0, 1))
    table(
        "a Lloyd iteration streamed from zstd zarr, k=20", ["reading s", "sweep s", "ratio"], [[reading, sweep, ratio]]
    )
    gate(f"a streamed iteration costs at most 1.15 x reading ({ratio:.2f})", ratio <= 1.15)


def restarts(source) -> None:
    """Ten restarts against one, streamed in every sweep."""
    rows = []
    with dask.config.set({"daskml-core.residency": False, "num_workers": 2, "scheduler": "threads"}):
        for n_init in (1, 10):
            model, wall, cpu = timed(lambda n=n_init: KMeans(K, n_init=n, random_state=0).fit(source))
            rows.append([f"n_init={n_init}", wall, cpu, model.n_sweeps_, f"{model.inertia_:.7g}"])
    table("restarts, streamed from zstd zarr", ["", "wall s", "cpu s", "sweeps", "inertia"], rows)
    ratio = rows[1][1] / rows[0][1]
    gate(f"n_init=10 costs at most 3 x n_init=1 ({ratio:.2f})", ratio <= 3)


def spark() -> tuple[float, float, list[list[float]]] | None:
    """Wall and CPU seconds of Spark MLlib, and its centres; ``None`` with a word where it is not there."""
    script = Path(__file__).with_name("spark_kmeans.py")
    done = subprocess.run([sys.executable, str(script), str(SCRATCH)], capture_output=True, text=True)
    if done.returncode:
        print("Spark left out:", (done.stderr.strip().splitlines() or ["failed"])[-1][:100])
        return None
    import json

    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["wall"], told["cpu"], told["centers"]


def converged(source, X) -> None:
    """From zarr (Spark: parquet) to converged centres."""
    rows, walls = [], {}

    def add(name, wall, cpu, centers, n):
        walls[name] = wall
        rows.append([name, wall, cpu, true_inertia(X, centers), n])

    fits = [timed(lambda: KMeans(K).fit(source)) for _ in range(3)]
    model = fits[0][0]
    add(
        "daskml_core", *(statistics.median(f[i] for f in fits) for i in (1, 2)), model.cluster_centers_, model.n_sweeps_
    )
    mini, wall, cpu = timed(lambda: MiniBatchKMeans(K, compute_labels=False).fit(source))
    add("daskml_core, MiniBatchKMeans, no labels", wall, cpu, mini.cluster_centers_, mini.n_sweeps_)
    theirs, wall, cpu = timed(lambda: reference.KMeans(K, n_init=1, random_state=0).fit(X))
    add("scikit-learn, loading excluded", wall, cpu, theirs.cluster_centers_, theirs.n_iter_)
    told = spark()
    if told is not None:
        add("Spark MLlib, 20 iterations", told[0], told[1], told[2], "-")
    try:
        from dask_ml.cluster import KMeans as DaskML
    except ImportError:
        print("dask-ml left out: not installed")
    else:
        other, wall, cpu = timed(lambda: DaskML(K, random_state=0).fit(da.from_zarr(source).persist()))
        add("dask-ml", wall, cpu, other.cluster_centers_, other.n_iter_)
    best = min(row[3] for row in rows)
    for row in rows:
        row[3] = f"{100 * (row[3] / best - 1):.3f} %"
    table("from the store to converged, 4M x 32, k=20", ["", "wall s", "cpu s", "above best", "sweeps"], rows)
    for rival in ("dask-ml", "Spark MLlib, 20 iterations"):
        if rival in walls:
            ratio = walls["daskml_core"] / walls[rival]
            gate(f"at most a tenth of {rival} ({ratio:.3f})", ratio <= 0.1)


def main() -> None:
    """Print the tables and the gates."""
    source = store()
    KMeans(K).fit(source[:50_000])  # load the compiled kernels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = source[:]
        sweeps(X)
        iteration(X)
        streaming(source)
        restarts(source)
        converged(source, X)


if __name__ == "__main__":
    main()
