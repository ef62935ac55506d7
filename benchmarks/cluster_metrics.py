"""Bisecting k-means and measures of clusterings: inertia and sweeps beside scikit-learn's, and values beside its values."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
from common import cpu_seconds, gate, table, timed
from real_data import keel
from sklearn import cluster as reference
from sklearn import metrics as reference_metrics
from sklearn.datasets import load_digits, make_blobs
from threadpoolctl import threadpool_limits

from daskml_core import metrics
from daskml_core.cluster import BisectingKMeans, KMeans

SEEDS = 20
STRATEGIES = ("biggest_inertia", "largest_cluster")


def problems():
    """Name, rows and number of clusters."""
    yield "digits", load_digits().data, 10
    yield "penbased", keel("penbased")[0], 10
    yield "20 blobs", make_blobs(5000, 8, centers=20, random_state=3)[0], 20
    yield "100 overlapping blobs", make_blobs(6000, 8, centers=100, cluster_std=3, random_state=3)[0], 100


def quality() -> None:
    """Median and worst inertia over seeds, relative to scikit-learn's median."""
    rows, holds = [], True
    for name, X, k in problems():
        for strategy in STRATEGIES:
            losses, cpu = [], []
            for make in (reference.BisectingKMeans, BisectingKMeans):
                start = cpu_seconds()
                with threadpool_limits(1):
                    losses.append(
                        [make(k, bisecting_strategy=strategy, random_state=s).fit(X).inertia_ for s in range(SEEDS)]
                    )
                cpu.append((cpu_seconds() - start) / SEEDS)
            theirs, ours = losses
            unit = np.median(theirs)
            holds = holds and np.median(ours) <= unit and max(ours) <= max(theirs)
            rows.append([f"{name}, {strategy}", max(theirs) / unit, np.median(ours) / unit, max(ours) / unit, *cpu])
    columns = ["", "worst, sklearn", "median, ours", "worst, ours", "CPU s, sklearn", "CPU s, ours"]
    table(f"inertia over {SEEDS} seeds, scikit-learn's median = 1", columns, rows)
    gate("median and worst inertia are no higher than scikit-learn's", bool(holds))


def sweeps() -> None:
    """Reads of data larger than the sample, beside those of one bisection after another."""
    rows, holds = [], True
    for k, deviation in ((16, 1.0), (20, 6.0), (64, 3.0)):
        X = make_blobs(200_000, 16, centers=k, cluster_std=deviation, random_state=0)[0].astype(np.float32)
        for init in ("auto", "random"):
            model, _, cpu = timed(
                lambda X=X, k=k, init=init: BisectingKMeans(k, init=init).fit(da.from_array(X, chunks=(20_000, -1)))
            )
            rows.append([f"k={k}, deviation {deviation:g}, init={init}", model.n_sweeps_, model.n_iter_ + k, cpu])
            holds = holds and model.n_sweeps_ <= (model.n_iter_ + k) / 2
    table("sweeps over 200,000 x 16", ["", "in lockstep", "one after another, at least", "CPU s"], rows)
    gate("lockstep takes at most half the sweeps of one bisection after another", holds)


def measures() -> None:
    """Values and CPU seconds of each measure."""
    X, truth = make_blobs(10_000, 16, centers=10, cluster_std=4, random_state=0)
    lazy = da.from_array(X, chunks=(1000, -1))
    model = KMeans(10, random_state=0).fit(lazy)
    labels, rows, worst = model.labels_.compute(), [], 0.0
    for name in ("silhouette_score", "davies_bouldin_score", "calinski_harabasz_score"):
        theirs, _, their_cpu = timed(lambda name=name: getattr(reference_metrics, name)(X, labels))
        ours, _, our_cpu = timed(lambda name=name: getattr(metrics, name)(lazy, model.labels_))
        worst = max(worst, abs(ours / theirs - 1))
        rows.append([name, theirs, ours, their_cpu, our_cpu])
    for name in ("adjusted_rand_score", "normalized_mutual_info_score", "adjusted_mutual_info_score"):
        theirs, _, their_cpu = timed(lambda name=name: getattr(reference_metrics, name)(truth, labels))
        ours, _, our_cpu = timed(lambda name=name: getattr(metrics, name)(truth, model.labels_))
        worst = max(worst, abs(ours / theirs - 1))
        rows.append([name, theirs, ours, their_cpu, our_cpu])
    exact = rows[0][1]
    for method in ("sampled", "simplified"):
        ours, _, cpu = timed(lambda method=method: metrics.silhouette_score(lazy, labels, method=method))
        rows.append([f"silhouette, {method}", exact, ours, "", cpu])
    table("10,000 x 16, 10 clusters", ["", "sklearn", "ours", "CPU s, sklearn", "CPU s, ours"], rows)
    gate(f"exact measures agree to 1e-9 (worst {worst:.1e})", worst <= 1e-9)


def main() -> None:
    """Print the tables and the gates."""
    warnings.simplefilter("ignore")
    quality()
    sweeps()
    measures()


if __name__ == "__main__":
    main()
