"""Measures of clusterings against scikit-learn's, for lazy input whose labels are chunked in their own way."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import cdist
from sklearn import metrics as reference
from sklearn.datasets import load_digits, make_blobs

from daskml_core import metrics
from daskml_core.cluster import KMeans

N = 1200
X, TRUTH = make_blobs(N, 5, centers=6, cluster_std=2.5, random_state=0)
RNG = np.random.default_rng(0)
LABELS = np.where(RNG.random(N) < 0.1, RNG.integers(0, 6, N), TRUTH)


def lazy(a, chunk):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


def counted(a, chunk, reads):
    """A lazy array that notes every block that is read."""
    return lazy(a, chunk).map_blocks(lambda block: reads.append(len(block)) or block, meta=np.empty((0, *a.shape[1:])))


INTERNAL = ["calinski_harabasz_score", "davies_bouldin_score", "silhouette_score"]


@pytest.mark.parametrize("name", INTERNAL)
@pytest.mark.parametrize("labels", [LABELS, LABELS * 7 - 3, np.array(list("abcdef"))[LABELS], LABELS.astype("u1")])
def test_scores_equal_scikit_learn(name, labels):
    expected = getattr(reference, name)(X, labels)
    # One BLAS product against another: a few units in the last place of a distance.
    assert getattr(metrics, name)(lazy(X, 211), lazy(labels, 173)) == pytest.approx(expected, rel=1e-9)
    assert getattr(metrics, name)(X, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", INTERNAL)
def test_any_container_will_do(name, tmp_path):
    import zarr

    expected = getattr(reference, name)(X, LABELS)
    frame = pd.DataFrame(X, columns=list("abcde"))
    assert getattr(metrics, name)(frame, pd.Series(LABELS)) == pytest.approx(expected, rel=1e-9)
    array = xr.DataArray(lazy(X, 300), dims=("time", "feature"))
    assert getattr(metrics, name)(array, xr.DataArray(LABELS, dims="time")) == pytest.approx(expected, rel=1e-9)
    store = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(500, 2), dtype="f8")
    store[:] = X
    assert getattr(metrics, name)(store, LABELS.tolist()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", INTERNAL)
def test_an_offset_costs_no_digits(name):
    expected = getattr(reference, name)(X, LABELS)
    assert getattr(metrics, name)(lazy(X + 1e5, 211), LABELS) == pytest.approx(expected, rel=1e-8)
    # In float32 the rows themselves are rounded, to 1e-4 of a distance at this offset.
    found = getattr(metrics, name)(lazy((X + 1e3).astype("f4"), 211), LABELS)
    assert found == pytest.approx(expected, rel=1e-3)


def test_silhouettes_of_rows_equal_scikit_learn():
    for metric in ("euclidean", "cosine"):
        expected = reference.silhouette_samples(X, LABELS, metric=metric)
        found = metrics.silhouette_samples(lazy(X, 97), lazy(LABELS, 400), metric=metric)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_duplicates_and_rows_alone_are_as_in_scikit_learn():
    rows = np.repeat(np.array([[0.0, 1], [0, 1], [3, 3], [1e3, 1], [7, 7]]), [5, 1, 4, 1, 1], axis=0)
    labels = np.array([0] * 5 + [1] + [0] * 2 + [1] * 2 + [2, 3])
    with np.errstate(all="ignore"):
        expected = reference.silhouette_samples(rows, labels)
        expected_db = reference.davies_bouldin_score(rows, labels)
    np.testing.assert_allclose(metrics.silhouette_samples(lazy(rows, 3), labels), expected, atol=1e-12)
    assert metrics.davies_bouldin_score(lazy(rows, 3), labels) == pytest.approx(expected_db)
    same, halves = np.ones((6, 2)), np.array([0, 1] * 3)
    assert metrics.calinski_harabasz_score(same, halves) == reference.calinski_harabasz_score(same, halves) == 1.0
    assert metrics.davies_bouldin_score(same, halves) == reference.davies_bouldin_score(same, halves) == 0.0
    assert metrics.silhouette_score(same, halves) == reference.silhouette_score(same, halves) == 0.0


def test_empty_and_one_row_blocks_change_nothing():
    ragged = da.from_array(X, chunks=((0, 1, 1, 0, 500, N - 502, 0), (2, 3)))
    for name in INTERNAL:
        expected = getattr(reference, name)(X, LABELS)
        assert getattr(metrics, name)(ragged, lazy(LABELS, 1000)) == pytest.approx(expected, rel=1e-9)
    # Sorted by cluster: most blocks see one label.
    order = np.argsort(LABELS, kind="stable")
    assert metrics.calinski_harabasz_score(lazy(X[order], 100), lazy(LABELS[order], 7)) == pytest.approx(
        reference.calinski_harabasz_score(X, LABELS), rel=1e-10
    )


@pytest.mark.parametrize(
    ("call", "sweeps"),
    [
        (lambda a: metrics.calinski_harabasz_score(a, LABELS), 1),
        (lambda a: metrics.davies_bouldin_score(a, LABELS), 2),
        (lambda a: metrics.davies_bouldin_score(a, LABELS, centers=np.zeros((6, 5)) + np.arange(6)[:, None]), 1),
        (lambda a: metrics.silhouette_score(a, LABELS), 2),
        (lambda a: metrics.silhouette_score(a, LABELS, method="sampled", sample_size=50), 2),
        (lambda a: metrics.silhouette_score(a, LABELS, method="simplified"), 2),
        (lambda a: metrics.silhouette_score(a, LABELS, method="simplified", centers=X[:6]), 1),
    ],
)
def test_each_takes_its_sweeps(call, sweeps):
    import dask

    reads = []
    with dask.config.set({"daskml-core.residency": False}):
        call(counted(X, 300, reads))
    assert sum(reads) == sweeps * N


def test_given_centers_that_are_the_means_change_nothing():
    model = KMeans(6, random_state=0, tol=0).fit(lazy(X, 211))
    found = metrics.davies_bouldin_score(lazy(X, 211), model.labels_, centers=model.cluster_centers_)
    assert found == pytest.approx(reference.davies_bouldin_score(X, model.labels_.compute()), rel=1e-9)
    simplified = [
        metrics.silhouette_score(lazy(X, 211), model.labels_, method="simplified", centers=centers)
        for centers in (None, model.cluster_centers_)
    ]
    assert simplified[0] == pytest.approx(simplified[1], rel=1e-12)


def simplified(rows, labels, centers, distance="euclidean"):
    """The oracle."""
    D = cdist(rows, centers, "euclidean" if distance == "euclidean" else "cosine")
    own = D[np.arange(len(rows)), labels]
    D[np.arange(len(rows)), labels] = np.inf
    other = D.min(axis=1)
    alone = np.bincount(labels, minlength=len(centers))[labels] == 1
    return np.where(alone, 0, (other - own) / np.maximum(own, other)).mean()


def test_simplified_silhouettes_equal_numpy():
    means = np.stack([X[j == LABELS].mean(axis=0) for j in range(6)])
    expected = simplified(X, LABELS, means)
    assert metrics.silhouette_score(lazy(X, 99), LABELS, method="simplified") == pytest.approx(expected, rel=1e-10)
    # A centre that no row belongs to is no other cluster.
    spare = np.vstack([X[:1], means])
    found = metrics.silhouette_score(lazy(X, 99), LABELS + 1, method="simplified", centers=spare)
    assert found == pytest.approx(expected, rel=1e-10)
    expected = simplified(X, LABELS, means, "cosine")
    found = metrics.silhouette_score(lazy(X, 99), LABELS, method="simplified", metric="cosine")
    assert found == pytest.approx(expected, rel=1e-8)


def test_a_sample_of_all_rows_is_exact_and_a_part_of_them_is_unbiased():
    exact = reference.silhouette_samples(X, LABELS)
    everything = metrics.silhouette_score(lazy(X, 99), LABELS, method="sampled", sample_size=N)
    assert everything == pytest.approx(exact.mean(), rel=1e-9)
    found = [
        metrics.silhouette_score(lazy(X, 300), LABELS, method="sampled", sample_size=40, random_state=seed)
        for seed in range(60)
    ]
    # 2400 draws: four standard errors of their mean. scikit-learn's own, inside 40 rows, is off by more.
    assert abs(np.mean(found) - exact.mean()) < 4 * exact.std() / np.sqrt(60 * 40)
    assert np.std(found) < 1.5 * exact.std() / np.sqrt(40)


def test_auto_tells_what_it_did(monkeypatch):
    from daskml_core.metrics import _clustering

    exact = reference.silhouette_score(X, LABELS)
    assert metrics.silhouette_score(X, LABELS) == pytest.approx(exact)  # warnings are errors: none for what is exact
    monkeypatch.setattr(_clustering, "EXACT_ROWS", 500)
    with pytest.warns(UserWarning, match=r"mean of 1000 rows, with a standard error of .*method='sampled'"):
        found = metrics.silhouette_score(X, LABELS)
    assert found == pytest.approx(exact, abs=0.03)
    with pytest.warns(UserWarning, match="mean of 70 rows"):
        metrics.silhouette_score(X, LABELS, sample_size=70)
    monkeypatch.setattr(_clustering, "SAMPLED_ROWS", 600)
    with pytest.warns(UserWarning, match="distances to the clusters' centers"):
        found = metrics.silhouette_score(X, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == metrics.silhouette_score(X, LABELS, method="simplified")


PAIRS = {
    "blobs": (TRUTH, LABELS),
    "strings": (np.array(list("abcdef"))[TRUTH], LABELS - 2),
    "independent": (RNG.integers(0, 4, N), RNG.integers(0, 9, N)),
    "same": (TRUTH, (TRUTH + 3) % 6),
    "one class": (np.zeros(N, dtype=int), LABELS),
    "one cluster": (TRUTH, np.ones(N, dtype=int)),
    "one of each": (np.zeros(N, dtype=int), np.ones(N, dtype=int)),
    "all apart": (TRUTH, np.arange(N)),
}
AGREEMENT = [
    ("adjusted_rand_score", {}),
    *(("normalized_mutual_info_score", {"average_method": a}) for a in ("arithmetic", "min", "max", "geometric")),
    *(("adjusted_mutual_info_score", {"average_method": a}) for a in ("arithmetic", "max")),
    ("homogeneity_completeness_v_measure", {}),
    ("homogeneity_completeness_v_measure", {"beta": 2.0}),
    ("v_measure_score", {"beta": 0.5}),
]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("name", "options"), AGREEMENT)
def test_agreement_of_labelings_equals_scikit_learn(name, options, pair):
    truth, guess = PAIRS[pair]
    expected = getattr(reference, name)(truth, guess, **options)
    found = getattr(metrics, name)(lazy(truth, 700), lazy(guess, 333), **options)
    # Zero is reached by cancellation: an entropy's rounding is what is left.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


def test_squares_of_many_rows_do_not_overflow(monkeypatch):
    from scipy.sparse import csr_array

    from daskml_core.metrics import _labelings

    n = 4 * 10**9  # n^2 is beyond int64
    counts = csr_array(np.array([[n, 0], [n // 2, n]]))
    monkeypatch.setattr(_labelings, "_contingency", lambda a, b: counts)
    small = csr_array(np.array([[4000, 0], [2000, 4000]]))
    large = [metrics.adjusted_rand_score(0, 0), metrics.normalized_mutual_info_score(0, 0)]
    monkeypatch.setattr(_labelings, "_contingency", lambda a, b: small)
    same = [metrics.adjusted_rand_score(0, 0), metrics.normalized_mutual_info_score(0, 0)]
    np.testing.assert_allclose(large, same, rtol=1e-3)


def test_agreement_of_lazy_labels_of_a_model():
    digits = load_digits()
    model = KMeans(10, random_state=0).fit(lazy(digits.data, 300))
    expected = reference.adjusted_rand_score(digits.target, model.labels_.compute())
    assert metrics.adjusted_rand_score(digits.target, model.labels_) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.silhouette_score(X, np.zeros(N)),
            "Number of labels is 1. Valid values are 2 to n_samples - 1",
        ),
        (lambda: metrics.calinski_harabasz_score(X, np.arange(N)), f"Number of labels is {N}"),
        (lambda: metrics.davies_bouldin_score(X, np.zeros(N)), "Number of labels is 1"),
        (lambda: metrics.davies_bouldin_score(X, LABELS[:-1]), "inconsistent numbers of samples"),
        (lambda: metrics.davies_bouldin_score(X, LABELS, centers=X[:6, :4]), r"centers must be \(n_clusters, 5\)"),
        (lambda: metrics.davies_bouldin_score(X, LABELS, centers=X[:4]), "is no number of one of the 4 centers"),
        (lambda: metrics.davies_bouldin_score(X, LABELS - 1, centers=X[:6]), "label -1 in block 0"),
        (lambda: metrics.davies_bouldin_score(X, LABELS + 0.0, centers=X[:6]), "labels must be integers"),
        (lambda: metrics.silhouette_score(X, LABELS, method="fast"), "method must be one of"),
        (lambda: metrics.silhouette_score(X, LABELS, metric="l1"), "metric must be one of"),
        (
            lambda: metrics.silhouette_score(X, LABELS, method="exact", sample_size=3),
            'sample_size is for method="sampled"',
        ),
        (lambda: metrics.silhouette_score(X, LABELS, sample_size=0), "sample_size must be a positive integer"),
        (lambda: metrics.silhouette_score(X, LABELS, centers=X[:6]), 'centers are for method="simplified"'),
        (lambda: metrics.silhouette_score(np.where(X > 8, np.nan, X), LABELS), "Input X contains NaN: block 0, row"),
        (lambda: metrics.silhouette_score(X * 0, LABELS, metric="cosine"), r"Row 0 \(block 0\) is a zero vector"),
        (lambda: metrics.silhouette_score(X, X[:, :2]), "labels must be 1D"),
        (lambda: metrics.adjusted_rand_score(X, LABELS), "labels_true must be 1D"),
        (lambda: metrics.normalized_mutual_info_score(LABELS, LABELS, average_method="mean"), "average_method must be"),
        (lambda: metrics.v_measure_score(LABELS, LABELS, beta=-1), "beta must be a non-negative number"),
        (lambda: metrics.adjusted_rand_score(LABELS, LABELS[:-1]), "inconsistent numbers of samples"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_continuous_labels_are_a_warning():
    with pytest.warns(UserWarning, match="labels_pred holds continuous values"):
        metrics.adjusted_rand_score(LABELS, X[:, 0])
