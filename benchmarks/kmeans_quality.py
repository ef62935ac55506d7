"""Inertia of k-means over 20 seeds, against scikit-learn and dask-ml on the same data."""

from __future__ import annotations

import warnings
from functools import partial

import dask.array as da
import numpy as np
from common import gate, table, timed
from real_data import keel
from sklearn import cluster as reference
from sklearn import datasets

from daskml_core.cluster import KMeans

SEEDS = range(20)
CHUNKS = 8


def problems():
    """Name, rows and number of clusters."""
    yield "digits", datasets.load_digits().data, 10
    yield "penbased", keel("penbased")[0], 10
    yield "20 blobs", datasets.make_blobs(20_000, 16, centers=20, random_state=0)[0], 20
    yield "100 overlapping blobs", datasets.make_blobs(20_000, 8, centers=100, cluster_std=4.0, random_state=0)[0], 100


def contenders():
    """Name and ``(X, k, seed) -> inertia``."""
    yield "KMeans()", partial(ours, "auto", 1, None)
    yield "KMeans(n_init=10)", partial(ours, "auto", 10, None)
    # Data of so few rows is its own sample; a sample of a third shows what larger data meets.
    for init in ("auto", "k-means++", "k-means||"):
        yield f"KMeans(init={init!r}), a third", partial(ours, init, 1, 3)
    yield "KMeans(n_init=10), a third", partial(ours, "auto", 10, 3)
    yield "scikit-learn, n_init=1", partial(theirs, 1)
    yield "scikit-learn, n_init=10", partial(theirs, 10)
    try:
        import dask_ml  # noqa: F401
    except ImportError:
        print("dask-ml left out: not installed")
    else:
        yield "dask-ml", dask_ml_inertia


def ours(init, n_init, part, X, k, seed):
    lazy = da.from_array(X, chunks=(-(-len(X) // CHUNKS), -1))
    size = None if part is None else max(k, len(X) // part)
    return KMeans(k, init=init, n_init=n_init, init_size=size, random_state=seed).fit(lazy).inertia_


def theirs(n_init, X, k, seed):
    return reference.KMeans(k, n_init=n_init, random_state=seed).fit(X).inertia_


def dask_ml_inertia(X, k, seed):
    from dask_ml.cluster import KMeans as DaskML

    lazy = da.from_array(X, chunks=(-(-len(X) // CHUNKS), -1)).persist()
    model = DaskML(k, random_state=seed).fit(lazy)
    # Its own `inertia_` is no sum of squares.
    return _inertia(X, np.asarray(model.cluster_centers_))


def _inertia(X, centers):
    from sklearn.metrics import pairwise_distances_argmin_min

    return float(np.square(pairwise_distances_argmin_min(X, centers)[1]).sum())


def _fits(fit, X, k, seeds):
    return [fit(X, k, seed) for seed in seeds]


def main() -> None:
    """Print a table a data set, and the gates."""
    for name, X, k in problems():
        found = {}
        for who, fit in contenders():
            seeds = range(5) if who == "dask-ml" else SEEDS
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values, _, cpu = timed(lambda args=(fit, X, k, seeds): _fits(*args))
            found[who] = (np.array(values), cpu / len(values))
        best = min(values.min() for values, _ in found.values())
        rows = [
            [who, *(f"{100 * (f(values) / best - 1):.3f} %" for f in (np.min, np.median, np.max)), len(values), cpu]
            for who, (values, cpu) in found.items()
        ]
        table(
            f"{name}, {len(X):,} rows, k={k}: inertia above the best known ({best:.6g})",
            ["", "best", "median", "worst", "seeds", "cpu s a fit"],
            rows,
        )
        mine, other = found["KMeans()"][0], found["scikit-learn, n_init=1"][0]
        gate(f"{name}: median no higher than scikit-learn's", np.median(mine) <= np.median(other) * (1 + 1e-9))
        gate(f"{name}: worst no higher than scikit-learn's", mine.max() <= other.max() * (1 + 1e-9))
        ten = found["KMeans(n_init=10)"][0].max() / best - 1
        gate(f"{name}: n_init=10 within 0.1 % of the best known ({100 * ten:.3f} %)", ten <= 1e-3)


if __name__ == "__main__":
    main()
