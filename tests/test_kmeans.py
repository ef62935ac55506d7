"""K-means against scikit-learn, NumPy and its own promises."""

import itertools

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from scipy.spatial.distance import cdist
from sklearn import cluster as reference
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning

from daskml_core.cluster import KMeans
from daskml_core.data import load
from daskml_core.engine import count_rows, run_sweeps
from daskml_core.kernels.kmeans import LloydParams, assign, far_rows, lloyd_block, merge_assignments
from daskml_core.kernels.sample import sample_sweep
from daskml_core.kernels.seeding import draw_rows, draw_sweep, kmeans_plus_plus, two_nearest
from daskml_core.solvers.kmeans_seeding import as_sampled, random_rows
from daskml_core.sweep import Block


def blobs(n=3000, k=5, d=4, dtype=np.float64, seed=0):
    return make_blobs(n, d, centers=k, random_state=seed)[0].astype(dtype)


def lazy(X, rows=211):
    return da.from_array(X, chunks=(rows, -1))


def inertia(X, centers, weight=None):
    """The oracle: squared distances in float64, the nearest of each row, summed."""
    squared = np.square(cdist(X.astype(np.float64), centers.astype(np.float64))).min(axis=1)
    return float(squared @ (np.ones(len(X)) if weight is None else weight))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_from_the_same_centers_the_fit_is_scikit_learns(dtype, weighted):
    X = load_digits().data.astype(dtype)
    w = np.random.default_rng(0).random(len(X)) if weighted else None
    theirs = reference.KMeans(10, init=X[:10], n_init=1).fit(X, sample_weight=w)
    ours = KMeans(10, init=X[:10]).fit(lazy(X), sample_weight=w)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.labels_.compute(), theirs.labels_)
    atol = 1e-5 if dtype == np.float32 else 1e-12  # pixels that are zero in all images of a cluster
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-4, atol=atol)
    assert ours.cluster_centers_.dtype == dtype


@pytest.mark.parametrize("init", ["auto", "k-means||", "k-means++", "random"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1000])
def test_inertia_is_the_true_weighted_sum_of_squares(init, dtype, offset):
    X = (blobs() + offset).astype(dtype)
    w = np.random.default_rng(0).random(len(X))
    model = KMeans(8, init=init, init_size=600, random_state=1).fit(lazy(X), sample_weight=w)
    # Rows are assigned in X's precision, at a distance of 1000 from the origin: only the nearly equidistant may differ.
    assert model.inertia_ == pytest.approx(inertia(X, model.cluster_centers_, w), rel=1e-6)
    assert model.score(lazy(X), sample_weight=w) == pytest.approx(-model.inertia_, rel=1e-12)
    np.testing.assert_array_equal(model.cluster_sizes_, np.bincount(model.labels_.compute(), minlength=8))


def test_an_iteration_reads_the_data_once():
    X = lazy(blobs(k=12))
    start = np.array(X[:12])
    model = KMeans(12, init=start, tol=1e-2).fit(X)
    # Converged by the tolerance: one more sweep for the inertia of the last centres.
    assert model.n_sweeps_ == model.n_iter_ + 1
    assert len(model.history_) == model.n_iter_ + 1
    still = KMeans(12, init=start, tol=0).fit(X)
    assert still.n_sweeps_ == still.n_iter_
    losses = [row["inertia"] for row in still.history_[1:]]
    assert all(a >= b for a, b in itertools.pairwise(losses))
    assert len(pd.DataFrame(still.history_)) == len(still.history_)


@pytest.mark.parametrize(("init", "sweeps"), [("auto", 1), ("k-means++", 1), ("random", 1), ("k-means||", 6)])
def test_sweeps_before_the_first_iteration(init, sweeps):
    model = KMeans(5, init=init, init_size=500, n_init=1, tol=0).fit(lazy(blobs()))
    assert model.n_sweeps_ == sweeps + model.n_iter_


def test_restarts_share_their_sweeps_and_change_nothing_for_each_other():
    X = lazy(blobs(k=12))
    together = KMeans(12, init="random", init_size=500, n_init=6, random_state=3).fit(X)
    assert together.n_sweeps_ < 6 * 5
    # The runs alone: the best of the batch is the best of them, to the bit.
    blocks, alone = load(X, count_rows=count_rows), []
    for run in range(6):
        (sample,) = run_sweeps(blocks, sample_sweep(500, 3000, 3 + run))
        first = random_rows(as_sampled(sample, cosine=False), 12, np.random.default_rng([3, run]))
        alone.append(KMeans(12, init=first).fit(X).inertia_)
    assert together.inertia_ == min(alone)


def test_data_no_larger_than_the_sample_is_read_once():
    assert KMeans(5).fit(lazy(blobs())).n_sweeps_ == 1


def test_auto_is_better_than_the_best_of_ten_of_scikit_learn():
    X = make_blobs(6000, 8, centers=50, cluster_std=3.0, random_state=1)[0]
    theirs = reference.KMeans(50, n_init=10, random_state=0).fit(X).inertia_
    assert KMeans(50, random_state=0).fit(X).inertia_ < theirs


def test_empty_clusters_move_to_the_farthest_rows():
    X = blobs(k=3, n=300)
    start = np.vstack([X[:2], np.full((3, 4), 1e6), X[2:3] + 1e7])
    theirs = reference.KMeans(6, init=start, n_init=1, max_iter=1).fit(X)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 was reached"):
        ours = KMeans(6, init=start, max_iter=1).fit(lazy(X, 50))
    order = np.lexsort(theirs.cluster_centers_.T), np.lexsort(ours.cluster_centers_.T)
    np.testing.assert_allclose(ours.cluster_centers_[order[1]], theirs.cluster_centers_[order[0]])
    assert (KMeans(6, init=start).fit(lazy(X, 50)).cluster_sizes_ > 0).all()


def test_no_two_empty_clusters_get_the_same_row():
    X = np.repeat(np.arange(6.0)[:, None], 20, axis=0)
    model = KMeans(4, init=np.array([[0.0], [100.0], [200.0], [300.0]])).fit(lazy(X, 7))
    assert len(np.unique(model.cluster_centers_)) == 4
    assert (model.cluster_sizes_ > 0).all()


def test_fewer_distinct_rows_than_clusters_is_a_warning():
    X = np.repeat(np.arange(3.0)[:, None], 10, axis=0)
    for init in ("auto", "k-means||", "k-means++", "random"):
        with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\)"):
            model = KMeans(5, init=init).fit(lazy(X, 4))
        assert model.inertia_ < 1e-25


def test_rows_of_weight_zero_do_not_count():
    X = blobs()
    w = (np.random.default_rng(0).random(len(X)) > 0.3).astype(float)
    far = np.vstack([X, np.full((50, 4), 1e4)])
    weight = np.concatenate([w, np.zeros(50)])
    start = X[:5]
    model = KMeans(5, init=start).fit(lazy(far), sample_weight=weight)
    expected = KMeans(5, init=start).fit(lazy(X[w > 0]))
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-9)
    # The threshold counts the same variance, and the distant rows seed nothing.
    for init in ("auto", "k-means||"):
        centers = KMeans(5, init=init, init_size=700).fit(lazy(far), sample_weight=weight).cluster_centers_
        assert (np.abs(centers) < 100).all()


def test_first_centers_are_found_where_positive_weights_are_rare():
    X, w = blobs(), np.zeros(3000)
    w[[5, 1500, 2900]] = 1
    model = KMeans(3, init_size=100).fit(lazy(X), sample_weight=w)
    assert model.inertia_ == pytest.approx(0)
    np.testing.assert_allclose(np.sort(model.cluster_centers_, axis=0), np.sort(X[w > 0], axis=0))


def test_weight_two_is_the_row_twice():
    X = blobs()
    w = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    weighted = KMeans(5, init=X[:5]).fit(lazy(X), sample_weight=w)
    repeated = KMeans(5, init=X[:5]).fit(lazy(np.repeat(X, w.astype(int), axis=0)))
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-10)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_)


def test_cosine_clusters_directions():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    truth = rng.integers(4, size=2000)
    X = (directions[truth] + 0.1 * rng.normal(size=(2000, 6))) * rng.lognormal(sigma=2, size=(2000, 1))
    model = KMeans(4, metric="cosine", init_size=400).fit(lazy(X))
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1)
    labels = model.labels_.compute()
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == 4
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert model.inertia_ == pytest.approx(inertia(unit, model.cluster_centers_))
    # Of unit rows in a cluster, the best direction is that of their sum.
    for j in range(4):
        mean = unit[labels == j].sum(axis=0)
        np.testing.assert_allclose(model.cluster_centers_[j], mean / np.linalg.norm(mean), atol=1e-6)
    distances = model.transform(lazy(X)).compute()
    np.testing.assert_allclose(distances, 1 - unit @ model.cluster_centers_.T, atol=1e-12)


def test_containers_come_back():
    X = blobs()
    model = KMeans(5, random_state=0).fit(X)
    assert isinstance(model.labels_, np.ndarray)
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert isinstance(KMeans(5).fit(frame).predict(frame), np.ndarray)
    array = xr.DataArray(lazy(X), dims=("station", "feature"), coords={"station": np.arange(3000)})
    fitted = KMeans(5, random_state=0).fit(array, feature_dim="feature")
    assert fitted.labels_.dims == ("station",)
    assert fitted.labels_.chunks is not None
    distances = fitted.transform(array)
    assert distances.dims == ("station", "cluster")
    np.testing.assert_array_equal(fitted.labels_.values, model.labels_)
    np.testing.assert_allclose(distances.values, model.transform(X))
    np.testing.assert_allclose(model.transform(X), cdist(X, model.cluster_centers_), atol=1e-9)
    assert list(model.get_feature_names_out()) == [f"kmeans{i}" for i in range(5)]


def test_a_zarr_store_gives_the_same_as_numpy(tmp_path):
    X = blobs(dtype=np.float32)
    store = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(400, 3), dtype="f4")
    store[:] = X
    model = KMeans(5, init=X[:5], tol=0).fit(store)
    # Other blocks, other order of sums: the same up to rounding.
    np.testing.assert_allclose(model.cluster_centers_, KMeans(5, init=X[:5], tol=0).fit(X).cluster_centers_, rtol=1e-5)
    assert model.labels_.shape == (3000,)


@pytest.mark.parametrize("k", [1, 2, 700])
def test_any_number_of_clusters(k):
    X = blobs(n=900, dtype=np.float32)
    for init in ("auto", "k-means||"):
        model = KMeans(k, init=init).fit(lazy(X))
        assert model.inertia_ == pytest.approx(inertia(X, model.cluster_centers_), rel=1e-5, abs=1e-6)
    if k == 1:
        np.testing.assert_allclose(model.cluster_centers_[0], X.mean(axis=0, dtype=np.float64), rtol=1e-5)


def test_a_callable_gets_the_sample():
    X = blobs()

    def first(rows, n_clusters, random_state):
        assert rows.shape == (600, 4)
        return rows[random_state.choice(len(rows), n_clusters, replace=False)]

    assert KMeans(5, init=first, init_size=600, n_init=2).fit(lazy(X)).init_size_ == 600


BAD = [
    ({"n_clusters": 0}, "n_clusters must be a positive integer"),
    ({"n_clusters": 4000}, "n_samples=3000 should be >= n_clusters=4000"),
    ({"init": "kmeans"}, "init must be one of"),
    ({"init": np.zeros((4, 4))}, r"shape of the initial centers \(4, 4\) does not match the number of clusters 5"),
    ({"init": np.zeros((5, 3))}, r"does not match the number of features of the data 4"),
    ({"init": np.full((5, 4), np.nan)}, "contain NaN or infinity"),
    ({"init": np.zeros((5, 4)), "metric": "cosine"}, "zero vector"),
    ({"n_init": 0}, "n_init must be"),
    ({"tol": -1}, "tol must be a non-negative number"),
    ({"max_iter": 0}, "max_iter must be a positive integer"),
    ({"max_iter": 1.5}, "max_iter must be a positive integer"),
    ({"metric": "manhattan"}, "metric must be one of"),
    ({"init_size": 3}, "init_size=3 must be at least n_clusters=5"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_bad_parameters_are_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        KMeans(**({"n_clusters": 5} | parameters)).fit(lazy(blobs()))


def test_bad_data_is_refused_with_block_and_row():
    X = blobs()
    X[1234, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN: block 5, row 1234, column 2"):
        KMeans(5).fit(lazy(X))
    X[1234] = 0
    with pytest.raises(ValueError, match=r"Row 1234 \(block 5\) is a zero vector"):
        KMeans(5, metric="cosine").fit(lazy(X))
    with pytest.raises(ValueError, match="zero vector"):
        KMeans(5, metric="cosine", init_size=500).fit(lazy(X))
    weight = np.ones(3000)
    weight[7] = -1
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        KMeans(5).fit(lazy(X), sample_weight=weight)
    with pytest.raises(ValueError, match="weights sum to zero"):
        KMeans(5).fit(lazy(X), sample_weight=np.zeros(3000))
    with pytest.warns(RuntimeWarning, match="performing only one init"):
        KMeans(5, init=X[:5], n_init=3).fit(lazy(X))
    with pytest.raises(ValueError, match="expecting 4 features"):
        KMeans(5).fit(X).predict(lazy(X[:, :3]))


def test_the_plan_counts_centers_and_reads_nothing(same_base):
    read = []
    X = lazy(blobs()).map_blocks(lambda block: read.append(1) or block, meta=np.empty((0, 4)))
    small, large = KMeans(5).plan(X), KMeans(2000, init="k-means||").plan(X)
    assert not read
    assert large.projected_peak_bytes > small.projected_peak_bytes + 2000 * 4 * 8
    assert "lloyd-assign" in repr(small) and "1 for the first centres" in repr(small)


# -- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 127, 1025])
def test_the_kernel_equals_numpy(rows):
    X = blobs()[:rows]
    C = blobs()[-7:]
    (a,) = lloyd_block(Block(X, None, None, 0, 100), LloydParams((C,), far=3))
    squared = np.square(cdist(X, C))
    labels = squared.argmin(axis=1)
    np.testing.assert_allclose(a.sums, [X[labels == j].sum(axis=0) for j in range(7)])
    np.testing.assert_array_equal(a.rows, np.bincount(labels, minlength=7))
    assert a.inertia == pytest.approx(squared.min(axis=1).sum() if rows else 0.0)
    farthest = np.argsort(-squared.min(axis=1))[:3] if rows else []
    np.testing.assert_array_equal(a.far.row, 100 + np.asarray(farthest, dtype=int))
    np.testing.assert_allclose(a.far.X, X[farthest] if rows else np.empty((0, 4)))


def test_any_cut_into_blocks_gives_the_same_assignment():
    X, C = blobs(), blobs()[:6]
    params = LloydParams((C, C[:3]), far=far_rows(6))
    whole = lloyd_block(Block(X, None, None, 0, 0), params)
    parts = [
        lloyd_block(Block(X[lo : lo + 700], None, None, i, lo), params) for i, lo in enumerate(range(0, 3000, 700))
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge_assignments(merged, part)
    for a, b in zip(whole, merged, strict=True):
        np.testing.assert_allclose(a.sums, b.sums)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.far.row[:3], b.far.row[:3])


def test_a_common_offset_costs_no_digits():
    # In float32, 1e4 away from the origin: without the shift the products drown the differences.
    X = (blobs() / 10 + 1e4).astype(np.float32)
    C = X[:20]
    labels, _ = assign(Block(X, None, None, 0, 0), C, LloydParams((C,), shift=C.mean(axis=0, dtype=np.float64)))
    squared = np.square(cdist(X.astype(float), C.astype(float)))
    chosen = squared[np.arange(len(X)), labels]
    assert (chosen <= squared.min(axis=1) * (1 + 1e-4) + 1e-6).all()


def test_two_nearest_equals_numpy():
    X, C = blobs(), blobs()[:9]
    label, first, second = two_nearest(X, C)
    ordered = np.sort(np.square(cdist(X, C)), axis=1)
    np.testing.assert_allclose(first, ordered[:, 0], atol=1e-9)
    np.testing.assert_allclose(second, ordered[:, 1], atol=1e-9)
    np.testing.assert_array_equal(label, cdist(X, C).argmin(axis=1))


def test_kmeans_plus_plus_never_draws_a_row_twice_while_others_are_left():
    X = np.random.default_rng(0).normal(size=(60, 3))
    chosen = kmeans_plus_plus(X, None, 60, np.random.default_rng(1))
    assert len(set(chosen)) == 60


def test_draws_are_in_proportion_to_squared_distance():
    X = np.concatenate([np.full((900, 1), 1.0), np.full((100, 1), 3.0)])
    params = LloydParams((np.zeros((1, 1)),))
    far = 0
    for seed in range(400):
        sweep = draw_sweep(1, params, seed, 1)
        parts = [
            sweep.kernel(Block(X[lo : lo + 250], None, None, i, lo), sweep.params)
            for i, lo in enumerate(range(0, 1000, 250))
        ]
        drawn = parts[0]
        for part in parts[1:]:
            drawn = sweep.combine(drawn, part)
        far += drawn.X[0, 0] == 3.0
        assert drawn.cost == pytest.approx(900 + 100 * 9)
    # 100 rows of squared distance 9 against 900 of 1: one half, with a standard error of 2.5 %.
    assert 0.4 < far / 400 < 0.6


def test_draws_skip_rows_without_mass():
    X = np.arange(10.0)[:, None]
    params = draw_sweep(8, LloydParams((X[:7],)), 0, 1).params
    assert set(draw_rows(Block(X, None, None, 0, 0), params).X.ravel()) == {7.0, 8.0, 9.0}
