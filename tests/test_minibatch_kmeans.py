"""Mini-batch k-means against scikit-learn's, and what it must not read."""

import dask.array as da
import numpy as np
import pytest
import zarr
from sklearn import cluster as reference
from sklearn.datasets import make_blobs

from daskml_core.cluster import KMeans, MiniBatchKMeans


def blobs(n=20_000, k=8, d=4, seed=0, dtype=np.float64):
    return make_blobs(n, d, centers=k, random_state=seed)[0].astype(dtype)


def lazy(X, rows=500):
    return da.from_array(X, chunks=(rows, -1))


def counted(X, rows=500):
    """A lazy array that counts the rows of its blocks each time one is computed."""
    read = []
    return lazy(X, rows).map_blocks(
        lambda block: read.append(len(block)) or block, meta=np.empty((0, X.shape[1]))
    ), read


def test_median_inertia_is_no_higher_than_scikit_learns():
    X = blobs(n=10_000, k=30, d=8)
    ours = [MiniBatchKMeans(30, random_state=seed, init_size=3000).fit(lazy(X)).inertia_ for seed in range(7)]
    theirs = [reference.MiniBatchKMeans(30, random_state=seed, n_init=1).fit(X).inertia_ for seed in range(7)]
    assert np.median(ours) <= np.median(theirs)


def test_a_fit_may_end_before_it_has_read_the_data_once():
    X = blobs(n=60_000)
    array, read = counted(X)
    model = MiniBatchKMeans(8, compute_labels=False, init_size=2000).fit(array)
    assert model.converged_
    assert model.n_sweeps_ < 1
    assert sum(read) < len(X)
    best = KMeans(8).fit(lazy(X)).inertia_
    assert -model.score(lazy(X)) < 1.1 * best
    # What it says without a sweep of its own: the smoothed inertia of the batches.
    assert model.inertia_ == pytest.approx(best, rel=0.2)
    assert not hasattr(model, "labels_")


def test_inertia_and_sizes_are_exact_with_labels():
    X = blobs()
    model = MiniBatchKMeans(8).fit(lazy(X))
    squared = np.square(X[:, None] - model.cluster_centers_).sum(axis=2)
    assert model.inertia_ == pytest.approx(squared.min(axis=1).sum())
    np.testing.assert_array_equal(model.labels_.compute(), squared.argmin(axis=1))
    np.testing.assert_array_equal(model.cluster_sizes_, np.bincount(squared.argmin(axis=1), minlength=8))


def test_the_step_is_the_running_mean_of_a_centers_rows():
    # One cluster: after all batches of an epoch the centre is the weighted mean of all rows (Sculley's rate 1 / n).
    X, w = blobs(n=3000), np.random.default_rng(0).random(3000)
    model = MiniBatchKMeans(1, init=X[:1], max_iter=1, max_no_improvement=None, reassignment_ratio=0)
    model.fit(lazy(X), sample_weight=w)
    np.testing.assert_allclose(model.cluster_centers_[0], np.average(X, axis=0, weights=w), rtol=1e-10)
    assert model.counts_.sum() == pytest.approx(w.sum())
    assert model.n_steps_ == 6


def test_partial_fit_follows_data_that_keeps_arriving():
    X = blobs(n=12_000, k=5)
    model = MiniBatchKMeans(5, random_state=0, compute_labels=False)
    for lo in range(0, len(X), 1000):
        model.partial_fit(X[lo : lo + 1000])
    assert model.counts_.sum() == pytest.approx(12_000)
    assert -model.score(X) < 1.05 * KMeans(5).fit(X).inertia_
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.partial_fit(X[:100, :3])


def test_starved_centers_start_again():
    X = blobs(n=6000, k=6)
    start = np.vstack([X[:5], np.full((1, 4), 1e6)])
    moved = MiniBatchKMeans(6, init=start, random_state=0).fit(lazy(X))
    assert (moved.cluster_sizes_ > 0).all()
    assert np.abs(moved.cluster_centers_).max() < 1e3
    with pytest.warns(UserWarning, match="distinct clusters"):
        kept = MiniBatchKMeans(6, init=start, reassignment_ratio=0).fit(lazy(X))
    assert kept.cluster_centers_[5] == pytest.approx(np.full(4, 1e6))


def test_patience_and_tolerance_end_a_fit():
    X = blobs()
    patient = MiniBatchKMeans(8, init=X[:8], max_no_improvement=None, max_iter=2).fit(lazy(X))
    assert patient.n_steps_ == 2 * 40
    assert patient.n_iter_ == 2
    hasty, waiting = (MiniBatchKMeans(8, init=X[:8], max_no_improvement=n).fit(lazy(X)) for n in (1, 10))
    assert hasty.converged_ and waiting.converged_
    assert hasty.n_steps_ < waiting.n_steps_ < 100 * 40
    tolerant = MiniBatchKMeans(8, init=X[:8], max_no_improvement=None, tol=0.01).fit(lazy(X))
    assert tolerant.converged_
    assert tolerant.n_steps_ < patient.n_steps_


def test_streams_from_zarr(tmp_path):
    X = blobs(n=9000, dtype=np.float32)
    store = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(700, 3), dtype="f4")
    store[:] = X
    model = MiniBatchKMeans(8).fit(store)
    assert model.cluster_centers_.dtype == np.float32
    assert model.labels_.shape == (9000,)


def test_as_many_clusters_as_rows_in_uneven_blocks():
    X = blobs(n=150)
    model = MiniBatchKMeans(150, init="random", reassignment_ratio=0).fit(lazy(X, 40))
    assert model.inertia_ == pytest.approx(0, abs=1e-9)


BAD = [
    ({"n_clusters": 0}, "n_clusters must be a positive integer"),
    ({"init": "k-means||"}, "init must be one of"),
    ({"init": np.zeros((3, 4))}, "does not match the number of clusters"),
    ({"batch_size": 0}, "batch_size must be a positive integer"),
    ({"max_no_improvement": 0}, "max_no_improvement must be a positive integer"),
    ({"reassignment_ratio": -0.1}, "reassignment_ratio must be a non-negative number"),
    ({"init_size": 2}, "init_size=2 must be at least n_clusters=8"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_bad_parameters_are_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        MiniBatchKMeans(**({"n_clusters": 8} | parameters)).fit(lazy(blobs(n=2000)))


def test_missing_values_are_refused_with_their_row():
    X = blobs(n=2000)
    X[777, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN: block 1, row 777, column 1"):
        MiniBatchKMeans(8).fit(lazy(X))


def test_the_plan_reads_nothing():
    array, read = counted(blobs())
    plan = MiniBatchKMeans(8).plan(array)
    assert not read
    assert "mini-batch-k-means" in repr(plan) and "a part of one" in repr(plan)
