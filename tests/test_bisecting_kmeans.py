"""Bisecting k-means against scikit-learn, NumPy and its own promises."""

import itertools
from dataclasses import replace

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn import cluster as reference
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from daskml_core.cluster import BisectingKMeans
from daskml_core.kernels.bisecting import (
    Halves,
    HalvesParams,
    LeafDrawParams,
    Tree,
    draw_from_leaves,
    halve_block,
    leaf_of_rows,
    merge_halves,
    smallest_keys,
)
from daskml_core.solvers import bisecting_kmeans as solver
from daskml_core.solvers.in_memory import solve_in_memory
from daskml_core.solvers.kmeans_seeding import Sampled, plus_plus
from daskml_core.sweep import Block
from tests.states import noting


@pytest.fixture(autouse=True)
def one_thread_for_scikit_learn():
    """Its threads wait for each other longer than they work on data of this size."""
    with threadpool_limits(1):
        yield


STRATEGIES = ["biggest_inertia", "largest_cluster"]


def blobs(n=3000, k=12, d=5, dtype=np.float64, seed=0):
    return make_blobs(n, d, centers=k, cluster_std=3, random_state=seed)[0].astype(dtype)


def lazy(X, rows=511):
    return da.from_array(X, chunks=(rows, -1))


def opposite_rows(X, n_clusters, random_state=None):
    """First centres that are the same for all who have the same rows, wherever the origin is."""
    along = X[:, 0] + 0.3 * X[:, -1]
    return X[[int(along.argmin()), int(along.argmax())]]


def inertia(X, model):
    """The oracle: squared distances in float64 to the centres of the rows' own clusters."""
    labels = np.asarray(model.labels_)
    return float(np.square(X.astype(np.float64) - model.cluster_centers_.astype(np.float64)[labels]).sum())


@pytest.mark.parametrize("at_hand", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_from_the_same_first_centers_the_tree_is_scikit_learns(strategy, weighted, at_hand, monkeypatch):
    X = blobs()
    w = np.random.default_rng(0).random(len(X)) if weighted else None
    # tol=0: until nothing moves, for scikit-learn does not scale it by the variance.
    parameters = {"n_clusters": 20, "init": opposite_rows, "tol": 0, "bisecting_strategy": strategy}
    theirs = reference.BisectingKMeans(**parameters).fit(X, sample_weight=w)
    if not at_hand:  # the sample is all rows and the callable sees the same, but iterations sweep over the blocks
        monkeypatch.setattr(solver, "POOL_NUMBERS", 0)
    ours = BisectingKMeans(**parameters).fit(lazy(X), sample_weight=w)
    np.testing.assert_array_equal(ours.labels_.compute(), theirs.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-11)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-12)
    new = blobs(seed=1)
    np.testing.assert_array_equal(ours.predict(new), theirs.predict(new))
    np.testing.assert_array_equal(ours.cluster_sizes_, np.bincount(theirs.labels_))
    assert (ours.n_sweeps_ == 1) is at_hand


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("data", ["digits", "blobs"])
def test_median_inertia_is_below_scikit_learns(strategy, data):
    X, k = (load_digits().data, 10) if data == "digits" else (blobs(k=20), 20)
    seeds = range(6)
    theirs = [reference.BisectingKMeans(k, bisecting_strategy=strategy, random_state=s).fit(X).inertia_ for s in seeds]
    ours = [BisectingKMeans(k, bisecting_strategy=strategy, random_state=s).fit(X).inertia_ for s in seeds]
    assert np.median(ours) < np.median(theirs)


@pytest.mark.parametrize("init", ["auto", "k-means++", "random"])
@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 0), (np.float64, 0), (np.float32, 1000), (np.float64, 1e6)])
def test_sizes_centers_and_inertia_are_those_of_the_labels(init, dtype, offset):
    X = (blobs() + offset).astype(dtype)
    model = BisectingKMeans(12, init=init, init_size=700, random_state=1).fit(lazy(X))
    labels = model.labels_.compute()
    np.testing.assert_array_equal(model.cluster_sizes_, np.bincount(labels, minlength=12))
    means = np.stack([X[labels == j].mean(axis=0, dtype=np.float64) for j in range(12)])
    # Centres are the means: rounded to float32, or summed in another order.
    rtol = 2e-7 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(model.cluster_centers_, means, rtol=rtol, atol=1e-12)
    assert model.inertia_ == pytest.approx(inertia(X, model), rel=1e-6)
    assert model.cluster_centers_.dtype == dtype
    assert model.converged_


def in_turn(X, settings):
    """The last state of the solver on rows in memory."""
    state = solver.first_state(Sampled(X, None), len(X), whole=False)
    return solve_in_memory(solver.bisecting_kmeans(state, settings), Block(X, None, None, 0, 0))


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("n_init", [1, 3])
def test_splitting_in_lockstep_is_splitting_one_after_another(by_rows, n_init):
    X = blobs()
    settings = solver.Settings(
        25, lambda path, run, pool, rng: plus_plus(pool, 2, rng), n_init=n_init, by_rows=by_rows, seed=4
    )
    together, alone = in_turn(X, settings), in_turn(X, replace(settings, speculative=False))
    assert together.leaves == alone.leaves
    for path in together.leaves:
        np.testing.assert_array_equal(together.nodes[path].center, alone.nodes[path].center)
        assert together.nodes[path].inertia == alone.nodes[path].inertia
    assert together.n_iter < alone.n_iter / 2


def test_a_solver_resumed_from_any_state_ends_with_the_same_bits():
    X = blobs()
    settings = solver.Settings(9, lambda path, run, pool, rng: plus_plus(pool, 2, rng))
    block = Block(X, None, None, 0, 0)
    state = solver.first_state(Sampled(X[::9], None), len(X), whole=False)
    states = []
    last = solve_in_memory(noting(solver.bisecting_kmeans(state, settings), states), block)
    assert any(node.drawn for node in last.nodes.values())  # the sample was too small for the lower clusters
    for at in range(0, len(states), 5):
        again = solve_in_memory(solver.bisecting_kmeans(states[at], settings), block)
        assert again.leaves == last.leaves
        assert all((again.nodes[p].center == last.nodes[p].center).all() for p in last.leaves)


def test_many_bisections_share_their_sweeps():
    X = make_blobs(20000, 6, centers=16, cluster_std=0.5, random_state=0)[0]
    model = BisectingKMeans(16, init_size=4000, random_state=0).fit(lazy(X, 999))
    # One for the sample; a level of the tree takes two or three iterations from the sample's own tree.
    assert model.n_sweeps_ <= 20
    assert model.n_iter_ >= 15
    assert model.history_[-1]["clusters"] == 16
    assert model.history_[-1]["inertia"] == pytest.approx(model.inertia_)
    assert len(pd.DataFrame(model.history_)) == model.n_sweeps_


def test_data_no_larger_than_the_sample_is_read_once():
    assert BisectingKMeans(7).fit(lazy(blobs())).n_sweeps_ == 1


@pytest.mark.parametrize("init_size", [None, 2, 30, 500])
def test_a_small_sample_draws_more_from_its_clusters(init_size):
    X = make_blobs(2000, 3, centers=8, cluster_std=0.3, random_state=1)[0]
    model = BisectingKMeans(8, init="k-means++", init_size=init_size).fit(lazy(X))
    theirs = [reference.BisectingKMeans(8, random_state=seed).fit(X).inertia_ for seed in range(5)]
    assert model.inertia_ <= max(theirs) * 1.01


def test_restarts_of_a_bisection_share_its_sweeps_and_help():
    X = lazy(blobs())
    one = BisectingKMeans(2, init="random", init_size=300, random_state=2).fit(X)
    ten = BisectingKMeans(2, init="random", init_size=300, random_state=2, n_init=10).fit(X)
    assert ten.inertia_ <= one.inertia_ * (1 + 1e-6)
    assert ten.n_sweeps_ < 10 * 5


def test_cosine_clusters_directions():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    truth = rng.integers(4, size=2000)
    X = (directions[truth] + 0.1 * rng.normal(size=(2000, 6))) * rng.lognormal(sigma=2, size=(2000, 1))
    for init_size in (None, 300):
        model = BisectingKMeans(4, metric="cosine", init_size=init_size).fit(lazy(X))
        labels = model.labels_.compute()
        assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 4
        np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1)
        np.testing.assert_array_equal(model.cluster_sizes_, np.bincount(labels))
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        expected = np.square(unit - model.cluster_centers_[labels]).sum()
        assert model.inertia_ == pytest.approx(expected, rel=1e-9)
    X[777] = 0
    for init_size in (None, 300):
        with pytest.raises(ValueError, match=r"Row 777 \(block 1\) is a zero vector"):
            BisectingKMeans(4, metric="cosine", init_size=init_size).fit(lazy(X))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("init_size", [None, 40])
def test_fewer_distinct_rows_than_clusters_is_a_warning(strategy, init_size):
    X = np.repeat([[0.1], [0.7], [5.3]], [200, 60, 7], axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\)"):
        model = BisectingKMeans(6, init_size=init_size, bisecting_strategy=strategy).fit(lazy(X, 50))
    assert model.inertia_ == pytest.approx(0, abs=1e-20)
    assert sorted(model.cluster_sizes_.tolist()) == [0, 0, 0, 7, 60, 200]
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\)"):
        BisectingKMeans(3, bisecting_strategy=strategy).fit(np.full((50, 2), 0.1, dtype=np.float32))


def test_a_rare_row_that_the_sample_missed_is_split_off():
    X = np.zeros((5000, 2))
    X[4321] = 9
    model = BisectingKMeans(2, init_size=50).fit(lazy(X, 700))
    assert sorted(model.cluster_sizes_.tolist()) == [1, 4999]
    assert model.inertia_ == 0


@pytest.mark.parametrize("k", [1, 2, 60])
def test_any_number_of_clusters_up_to_one_a_row(k):
    X = blobs(n=60, k=4)
    for init_size in (None, 20):
        model = BisectingKMeans(k, init_size=init_size).fit(lazy(X, 13))
        assert len(model.cluster_centers_) == k
        assert model.inertia_ == pytest.approx(inertia(X, model), abs=1e-9)
    if k == 1:
        np.testing.assert_allclose(model.cluster_centers_[0], X.mean(axis=0))
    if k == 60:
        assert (model.cluster_sizes_ == 1).all()


def test_rows_of_weight_zero_do_not_count():
    X = blobs()
    far = np.vstack([X, np.full((500, 5), 1e4)])
    weight = np.concatenate([np.ones(3000), np.zeros(500)])
    for init_size in (None, 400):
        model = BisectingKMeans(6, init_size=init_size).fit(lazy(far), sample_weight=weight)
        assert (np.abs(model.cluster_centers_) < 100).all()
        assert model.cluster_sizes_.sum() == 3500
        labels = model.labels_.compute()
        expected = np.square(X - model.cluster_centers_[labels[:3000]]).sum()
        assert model.inertia_ == pytest.approx(expected)


def test_a_sample_without_rows_that_count_is_drawn_anew():
    X, weight = blobs(), np.zeros(3000)
    weight[[5, 6, 2999]] = 1
    for init in ("auto", "k-means++", "random"):
        model = BisectingKMeans(3, init=init, init_size=40).fit(lazy(X), sample_weight=weight)
        assert model.inertia_ == 0
        np.testing.assert_array_equal(np.sort(model.cluster_centers_, axis=0), np.sort(X[weight > 0], axis=0))


def test_sorted_rows_empty_blocks_and_column_chunks_change_little():
    X = blobs()
    X = X[np.argsort(X[:, 0])]
    ragged = da.from_array(X, chunks=((0, 1, 1, 0, 1500, 1498, 0), (2, 3)))
    settings = {"n_clusters": 8, "init": opposite_rows, "tol": 0}
    found = BisectingKMeans(**settings).fit(ragged)
    expected = BisectingKMeans(**settings).fit(X)
    np.testing.assert_array_equal(found.labels_.compute(), expected.labels_)


def test_containers_come_back():
    X = blobs()
    model = BisectingKMeans(5).fit(X)
    assert isinstance(model.labels_, np.ndarray)
    array = xr.DataArray(lazy(X), dims=("station", "feature"), coords={"station": np.arange(3000)})
    fitted = BisectingKMeans(5).fit(array, feature_dim="feature")
    assert fitted.labels_.dims == ("station",) and fitted.labels_.chunks is not None
    np.testing.assert_array_equal(fitted.labels_.values, model.labels_)
    assert fitted.transform(array).dims == ("station", "cluster")
    assert list(model.get_feature_names_out()) == [f"bisectingkmeans{i}" for i in range(5)]


BAD = [
    ({"n_clusters": 0}, "n_clusters must be a positive integer"),
    ({"n_clusters": 4000}, "n_samples=3000 should be >= n_clusters=4000"),
    ({"init": "k-means||"}, "init must be one of"),
    ({"init": np.zeros((5, 5))}, "init must be one of"),
    ({"init": lambda X, k, random_state: X[:1]}, r"shape of the initial centers \(1, 5\)"),
    ({"n_init": 0}, "n_init must be a positive integer"),
    ({"n_init": 1.5}, "n_init must be a positive integer"),
    ({"tol": -1}, "tol must be a non-negative number"),
    ({"max_iter": 0}, "max_iter must be a positive integer"),
    ({"metric": "l1"}, "metric must be one of"),
    ({"init_size": 2.5}, "init_size must be a positive integer"),
    ({"init_size": 1}, "init_size=1 must be at least 2"),
    ({"bisecting_strategy": "smallest"}, "bisecting_strategy must be one of"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_bad_parameters_are_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        BisectingKMeans(**({"n_clusters": 5} | parameters)).fit(lazy(blobs()))


def test_bad_data_is_refused_with_block_and_row():
    X = blobs()
    with pytest.raises(ValueError, match="weights sum to zero"):
        BisectingKMeans(5).fit(lazy(X), sample_weight=np.zeros(3000))
    X[1234, 2] = np.nan
    for init_size in (None, 300):
        with pytest.raises(ValueError, match=r"NaN: block 2, row 1234, column 2"):
            BisectingKMeans(5, init_size=init_size).fit(lazy(X))


def test_not_converging_is_a_warning():
    with pytest.warns(ConvergenceWarning, match=r"\d+ of 9 bisections reached max_iter=1"):
        model = BisectingKMeans(10, init="random", max_iter=1).fit(lazy(blobs()))
    assert not model.converged_
    assert model.inertia_ == pytest.approx(inertia(blobs(), model))


def test_the_plan_counts_centers_and_reads_nothing(same_base):
    read = []
    X = lazy(blobs()).map_blocks(lambda block: read.append(1) or block, meta=np.empty((0, 5)))
    small, large = BisectingKMeans(5).plan(X), BisectingKMeans(2000).plan(X)
    assert not read
    assert large.projected_peak_bytes > small.projected_peak_bytes + 2 * 2000 * 5 * 8
    assert "bisect-clusters" in repr(small)


# -- kernels -----------------------------------------------------------------------------------------------------------


def small_tree(X):
    """Three leaves: the left half of the root is split again."""
    return Tree(np.array([[1, -3], [-1, -2]]), np.stack([X[:2], X[2:4]]))


def descend(X, tree):
    """The oracle for `small_tree`."""
    nearer = [np.square(X[:, None] - pair).sum(axis=2).argmin(axis=1) for pair in tree.pairs]
    return np.where(nearer[0] == 1, 2, nearer[1])


@pytest.mark.parametrize("d", [1, 5, 8, 19])
@pytest.mark.parametrize("rows", [0, 1, 500])
def test_the_kernel_equals_numpy(rows, d):
    X = blobs(d=d)
    tree, pairs = small_tree(X), np.stack([X[10:12], X[12:14], X[14:16]])
    X = X[100 : 100 + rows]
    w = np.random.default_rng(0).random(rows)
    leaf = leaf_of_rows(Block(X, None, None, 0, 0), tree)
    np.testing.assert_array_equal(leaf, descend(X, tree) if rows else [])
    # Leaf 0 tries one pair, leaf 1 none, leaf 2 two.
    found = halve_block(Block(X, None, w, 0, 50), HalvesParams(tree, np.array([0, 1, 1, 3]), pairs))
    for p, of in enumerate([0, 2, 2]):
        mine, s = X[leaf == of], w[leaf == of]
        squared = np.square(mine[:, None] - pairs[p]).sum(axis=2)
        side = squared.argmin(axis=1)
        for h in (0, 1):
            np.testing.assert_allclose(found.sums[p, h], s[side == h] @ mine[side == h], atol=1e-9)
            assert found.rows[p, h] == (side == h).sum()
            assert found.weight[p, h] == pytest.approx(s[side == h].sum())
            assert found.inertia[p, h] == pytest.approx(s[side == h] @ squared[side == h, h])
        if len(mine):
            farthest = squared.min(axis=1).argmax()
            assert found.far_row[p] == 50 + np.flatnonzero(leaf == of)[farthest]
            np.testing.assert_array_equal(found.far_X[p], mine[farthest])
        else:
            assert found.far_distance[p] < 0


def test_any_cut_into_blocks_gives_the_same_halves():
    X = blobs()
    params = HalvesParams(small_tree(X), np.array([0, 1, 1, 3]), np.stack([X[10:12], X[12:14], X[14:16]]))
    whole = halve_block(Block(X, None, None, 0, 0), params)
    parts = [
        halve_block(Block(X[lo : lo + 700], None, None, i, lo), params) for i, lo in enumerate(range(0, 3000, 700))
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge_halves(merged, part)
    for name, a, b in zip(Halves._fields, whole, merged, strict=True):
        np.testing.assert_allclose(a, b, err_msg=name)


def test_draws_are_uniform_in_their_leaf_and_skip_rows_without_weight():
    X = np.arange(40.0)[:, None]
    tree = Tree(np.array([[-1, -2]]), np.array([[[9.0], [30.0]]]))
    weight = np.where(np.arange(40) % 4 == 0, 0.0, 1.0)
    counts = np.zeros(40)
    for seed in range(300):
        params = LeafDrawParams(tree, (1,), (7,), seed, 5)
        parts = [
            draw_from_leaves(Block(X[lo : lo + 16], None, weight[lo : lo + 16], i, lo), params)
            for i, lo in enumerate(range(0, 40, 16))
        ]
        drawn = parts[0]
        for part in parts[1:]:
            drawn = smallest_keys(5)(drawn, part)
        assert len(drawn[0].X) == len(np.unique(drawn[0].X)) == 5
        assert (np.diff(drawn[0].keys) >= 0).all()
        counts[drawn[0].X.astype(int).ravel()] += 1
    assert (counts[(weight == 0) | (np.arange(40) < 20)] == 0).all()
    drawn = counts[(weight > 0) & (np.arange(40) >= 20)]
    # 1500 draws of 15 rows: 100 each, within four standard errors.
    assert (np.abs(drawn - 100) < 4 * np.sqrt(300 * (1 / 3) * (2 / 3))).all()


def test_candidates_cover_all_splits_that_may_be_next():
    X = blobs()
    settings = solver.Settings(12, lambda path, run, pool, rng: plus_plus(pool, 2, rng))
    state = in_turn(X, settings)
    inertias = {path: state.nodes[path].inertia for path in state.nodes if path}
    # What the rule rests on: halves are never worse than the whole.
    for path, side in itertools.product(inertias, "01"):
        if path + side in inertias:
            assert inertias[path + side] <= inertias[path] * (1 + 1e-12)
