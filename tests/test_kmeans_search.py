"""K-means for several numbers of clusters at once: against models alone, and the measures by their definitions."""

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from daskml_core.cluster import KMeans, KMeansSearch
from daskml_core.kernels.kmeans import LloydParams
from daskml_core.kernels.silhouette import silhouettes
from daskml_core.sweep import Block
from tests.test_engine import counting_array


def blobs(n=3000, k=4, d=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 8
    return (centers[rng.integers(0, k, size=n)] + rng.normal(size=(n, d))).astype(dtype)


def simplified(X, C, cosine=False):
    """The definition, in NumPy."""
    if cosine:
        D = 1 - (X / np.linalg.norm(X, axis=1, keepdims=True)) @ C.T
    else:
        D = np.linalg.norm(X[:, None] - C, axis=2)
    a, b = np.sort(D, axis=1)[:, :2].T
    return (b - a) / np.maximum(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cosine", [False, True])
def test_silhouettes_are_their_definition(dtype, cosine):
    X = blobs(n=2100, dtype=dtype)
    weight = np.random.default_rng(0).random(len(X))
    models = []
    for k in (2, 5, 9):
        C = X[:k] * 1.0
        models.append((C / np.linalg.norm(C, axis=1, keepdims=True) if cosine else C).astype(dtype))
    shift = None if cosine else X.mean(axis=0)
    for w in (None, weight):
        found = silhouettes(Block(X, None, w, 0, 0), LloydParams(tuple(models), shift, cosine))
        for total, C in zip(found.sums, models, strict=True):
            expected = simplified(X.astype(float), C.astype(float), cosine) @ (np.ones(len(X)) if w is None else w)
            np.testing.assert_allclose(total, expected, rtol=1e-9 if dtype == np.float64 else 2e-4)


def test_the_number_of_clusters_is_found_by_every_criterion():
    X = blobs(k=4, seed=3)
    for criterion in ("silhouette", "gap", "elbow"):
        search = KMeansSearch(range(1, 9), criterion=criterion).fit(da.from_array(X, chunks=(500, 3)))
        assert search.best_n_clusters_ == 4
        assert len(search.cluster_centers_) == 4
        assert set(search.labels_.compute()) == set(range(4))


def test_every_model_is_at_least_as_good_as_alone():
    X = blobs(n=30_000, k=12)
    lazy = da.from_array(X, chunks=(2000, 3))
    search = KMeansSearch([3, 7, 12], n_init=2, n_references=0).fit(lazy)
    for k, inertia, model in zip(search.n_clusters_, search.inertias_, search.models_, strict=True):
        alone = KMeans(k).fit(lazy)
        assert inertia <= alone.inertia_ * 1.001
        distances = ((X[:, None] - model.cluster_centers_) ** 2).sum(axis=2).min(axis=1).sum()
        np.testing.assert_allclose(inertia, distances, rtol=1e-9)
        place = list(search.n_clusters_).index(k)
        np.testing.assert_allclose(search.silhouettes_[place], simplified(X, model.cluster_centers_).mean())
        assert model.predict(X[:5]).shape == (5,)


@pytest.mark.parametrize("init", ["auto", "k-means++", "k-means||", "random"])
def test_models_share_their_sweeps(init):
    X = blobs(n=30_000, k=6)
    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        search = KMeansSearch(range(2, 8), init=init, n_init=2, n_references=0, max_iter=60)
        search.fit(counting_array(X, (2000, -1), reads))
    assert len(reads) == 15 * search.n_sweeps_
    before = 6 if init == "k-means||" else 1
    longest = max(model.n_iter_ for model in search.models_)
    assert search.n_sweeps_ >= before + longest
    # The slowest of all runs, kept or not, decides: six numbers of clusters cost what it costs alone.
    assert search.n_sweeps_ <= before + 60 + 2
    if init == "auto":
        assert search.n_sweeps_ <= 1 + longest + 2


def test_the_same_bits_with_any_number_of_threads():
    X = blobs(n=30_000, k=5)
    found = []
    for n in (1, 2):
        with dask.config.set({"num_workers": n, "scheduler": "threads"}):
            search = KMeansSearch(range(2, 6), n_references=2).fit(da.from_array(X, chunks=(2000, 3)))
        found.append(search.inertias_.tobytes() + search.silhouettes_.tobytes() + search.gaps_.tobytes())
    assert found[0] == found[1]


def test_weights_count_and_directions_too():
    X = blobs(n=2000) + 1
    w = np.ones(2000)
    w[::3] = 0
    search = KMeansSearch([2, 4], n_references=0).fit(X, sample_weight=w)
    model = search.models_[1]
    distances = ((X[:, None] - model.cluster_centers_) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(search.inertias_[1], w @ distances, rtol=1e-9)
    np.testing.assert_allclose(search.silhouettes_[1], w @ simplified(X, model.cluster_centers_) / w.sum(), rtol=1e-9)
    turned = KMeansSearch([2, 4], metric="cosine").fit(X)
    np.testing.assert_allclose(
        turned.silhouettes_[0], simplified(X, turned.models_[0].cluster_centers_, cosine=True).mean(), rtol=1e-9
    )
    assert np.isnan(turned.gaps_).all()


def test_the_plot_draws_every_curve():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    search = KMeansSearch(range(2, 5), n_references=2).fit(blobs(n=600))
    display = search.plot()
    assert len(display.axes_) == 3
    np.testing.assert_allclose(display.axes_[0].lines[0].get_ydata(), search.inertias_)
    matplotlib.pyplot.close("all")


def test_models_that_did_not_converge_are_named_in_one_warning():
    with pytest.warns(ConvergenceWarning, match=r"n_clusters=\[.*9\]"):
        KMeansSearch([2, 9], init="random", max_iter=1, n_references=0).fit(
            np.random.default_rng(0).normal(size=(2000, 4))
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": []}, "at least one number"),
        ({"n_clusters": [2, 0]}, "positive integer"),
        ({"n_clusters": 2.5}, "positive integer"),
        ({"n_clusters": [2, 5000]}, "should be >= n_clusters"),
        ({"criterion": "eye"}, "criterion must be"),
        ({"criterion": "gap", "n_references": 0}, "needs n_references"),
        ({"init": np.zeros((2, 3))}, "init must be a name"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KMeansSearch(**options).fit(blobs(n=300))


def test_the_plan_reads_nothing():
    reads = []
    plan = KMeansSearch(range(2, 9)).plan(counting_array(blobs(n=1000), (100, -1), reads))
    assert reads == []
    assert "silhouettes" in plan.kernels
