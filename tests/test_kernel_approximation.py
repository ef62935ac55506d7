"""Feature maps against scikit-learn's and exact kernels; lazy in, lazy out; in front of linear models."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from sklearn import kernel_approximation as reference
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.pipeline import make_pipeline

from daskml_core.kernel_approximation import Nystroem, PolynomialCountSketch, RBFSampler
from daskml_core.linear_model import LogisticRegression
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import LinearSVC

MAPS = [
    Nystroem(n_components=20, random_state=1),
    Nystroem(n_components=20, landmarks="k-means"),
    RBFSampler(gamma="scale", n_components=30),
    PolynomialCountSketch(n_components=40, coef0=1),
]


def rows(n=400, d=4, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def chi(X, S, *, power):
    return np.abs(X @ S.T + 3) ** power


class CountingStore:
    """An array-like source that counts which chunks are read."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.reads = 0

    def __getitem__(self, key):
        self.reads += 1
        return self.array[key]


KERNELS = [
    {"kernel": "rbf", "gamma": 0.3},
    {"kernel": "rbf"},
    {"kernel": "linear"},
    {"kernel": "poly", "gamma": 0.2, "coef0": 2.0, "degree": 2},
    {"kernel": "poly"},
]


@pytest.mark.parametrize("params", KERNELS, ids=str)
def test_nystroem_with_all_rows_is_the_kernel(params):
    X = rows(80)
    Z = Nystroem(n_components=80, **params).fit_transform(da.from_array(X, chunks=(17, -1))).compute()
    exact = pairwise_kernels(X, metric=params["kernel"], **{k: v for k, v in params.items() if k != "kernel"})
    if params == {"kernel": "poly"}:
        exact = pairwise_kernels(X, metric="poly", degree=3, coef0=1)
    np.testing.assert_allclose(Z @ Z.T, exact, atol=1e-5 * exact.max())


@pytest.mark.parametrize("kernel", ["rbf", "poly", "sigmoid", chi])
def test_nystroem_is_the_projection_on_its_landmarks(kernel):
    X = rows()
    params = {"kernel_params": {"power": 2}} if callable(kernel) else {"gamma": 0.1}
    model = Nystroem(kernel, n_components=15, random_state=3, **params).fit(da.from_array(X, chunks=(90, -1)))
    L = X[model.component_indices_]
    np.testing.assert_array_equal(model.components_, L)
    assert len(set(model.component_indices_)) == 15

    def k(A, B):
        return chi(A, B, power=2) if callable(kernel) else pairwise_kernels(A, B, metric=kernel, gamma=0.1)

    values, vectors = np.linalg.eigh(k(L, L))
    keep = values > 1e-6 * values.max()
    expected = (k(X, L) @ vectors[:, keep] / values[keep]) @ (k(X, L) @ vectors[:, keep]).T
    Z = model.transform(X)
    assert Z.shape == (400, keep.sum())
    np.testing.assert_allclose(Z @ Z.T, expected, atol=1e-8 * np.abs(expected).max())
    if kernel in ("rbf", "poly"):  # scikit-learn cuts elsewhere where the matrix is singular or indefinite
        theirs = reference.Nystroem(kernel=kernel, n_components=15, gamma=0.1).fit(L)
        # All of its landmarks are our landmarks, in another order.
        Y = theirs.transform(X)
        np.testing.assert_allclose(Z @ Z.T, Y @ Y.T, atol=1e-6 * np.abs(expected).max())


def test_landmarks_that_repeat_give_fewer_features_and_no_noise():
    X = np.repeat(rows(10), 40, axis=0)
    model = Nystroem(n_components=60).fit(X)
    assert model.normalization_.shape == (10, 60)
    Z = model.transform(X)
    np.testing.assert_allclose(Z @ Z.T, pairwise_kernels(X, metric="rbf", gamma=0.25), atol=1e-6)
    assert list(model.get_feature_names_out())[-1] == "nystroem9"


def test_float32_rows_far_from_the_origin_keep_their_digits():
    X = (rows(200) + 1000).astype(np.float32)
    Z = Nystroem(n_components=200, gamma=0.5).fit_transform(X)
    assert Z.dtype == np.float32
    exact = pairwise_kernels(X.astype(np.float64), metric="rbf", gamma=0.5)
    np.testing.assert_allclose(Z @ Z.T, exact, atol=1e-3)


def test_centres_of_clusters_approximate_better_than_rows():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(n, 3)) * 0.1 + c for n, c in ((9700, 0), (100, 3), (100, -3), (100, 6))])
    exact = pairwise_kernels(X[::50], metric="rbf", gamma=1.0)
    errors = {}
    for landmarks in ("sample", "k-means"):
        Z = Nystroem(gamma=1.0, n_components=8, landmarks=landmarks).fit(X).transform(X[::50])
        errors[landmarks] = np.abs(Z @ Z.T - exact).max()
    assert errors["k-means"] < 0.5 * errors["sample"]


@pytest.mark.parametrize("gamma", [0.2, "scale"])
def test_fourier_features_are_those_of_scikit_learn(gamma):
    X = rows()
    expected = reference.RBFSampler(gamma=gamma, n_components=50, random_state=7).fit_transform(X)
    lazy = RBFSampler(gamma=gamma, n_components=50, random_state=7).fit_transform(da.from_array(X, chunks=(33, 2)))
    np.testing.assert_allclose(lazy.compute(), expected, atol=1e-10)


@pytest.mark.parametrize("params", [{}, {"degree": 3, "coef0": 1, "gamma": 0.5}], ids=str)
def test_sketches_are_those_of_scikit_learn(params):
    X = rows(1300)
    expected = reference.PolynomialCountSketch(n_components=60, random_state=7, **params).fit_transform(X)
    sketch = PolynomialCountSketch(n_components=60, random_state=7, **params)
    np.testing.assert_allclose(sketch.fit_transform(da.from_array(X, chunks=(700, -1))).compute(), expected, atol=1e-10)


@pytest.mark.parametrize("model", MAPS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_container_that_goes_in_comes_out(model, dtype, tmp_path):
    X = rows(dtype=dtype)
    expected = model.fit(X).transform(X)
    assert type(expected) is np.ndarray
    assert expected.dtype == X.dtype
    store = zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(100, 2))
    named = xr.DataArray(X, dims=("sample", "feature"), coords={"sample": np.arange(400) * 2})
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    for lazy in (da.from_array(X, chunks=(90, -1)), store):
        Z = model.transform(lazy)
        assert isinstance(Z, da.Array)
        assert Z.shape == expected.shape
        np.testing.assert_allclose(Z.compute(), expected, atol=tolerance)
    Z = model.transform(named.chunk({"sample": 90}))
    assert Z.dims == ("sample", "feature")
    assert isinstance(Z.data, da.Array)
    np.testing.assert_array_equal(Z["sample"], named["sample"])
    np.testing.assert_allclose(Z, expected, atol=tolerance)


@pytest.mark.parametrize("model", MAPS, ids=str)
def test_features_can_be_written_to_a_store(model, tmp_path):
    X = rows()
    Z = model.fit(da.from_array(X, chunks=(90, -1))).transform(da.from_array(X, chunks=(100, -1)))
    da.to_zarr(Z, str(tmp_path / "Z.zarr"))
    np.testing.assert_allclose(zarr.open_array(tmp_path / "Z.zarr")[:], model.transform(X), atol=1e-9)


@pytest.mark.parametrize("model", MAPS, ids=str)
def test_any_cut_into_blocks_and_any_threads_give_the_same_bits(model):
    X = da.from_array(rows(3000), chunks=(170, -1))
    bits = set()
    for settings in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 2}):
        with dask.config.set(settings):
            bits.add(model.fit(X).transform(X).compute().tobytes())
    assert len(bits) == 1


def ring(n=6000):
    X = rows(n, 2)
    return X, (np.square(X).sum(axis=1) > 1.4).astype(int)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_a_pipeline_on_a_store_reads_it_once_a_sweep_and_holds_no_features(loss):
    X, y = ring()
    source = CountingStore(X)
    lazy = da.from_array(source, chunks=(500, 2), asarray=False, name=False, lock=False)
    source.reads = 0
    pipeline = make_pipeline(Nystroem(gamma=1.0, n_components=40), LinearSVC(loss=loss))
    with dask.config.set({"daskml-core.residency": False}):
        pipeline.fit(lazy, y)
    # Twelve blocks: once for the landmarks, once for each sweep of the machine.
    assert source.reads == 12 * (1 + round(pipeline[-1].n_sweeps_))
    prediction = pipeline.predict(lazy)
    assert isinstance(prediction, da.Array)
    assert (prediction.compute() == y).mean() > 0.98
    assert LinearSVC(loss=loss).fit(X, y).score(X, y) < 0.7  # no line tells a ring from its inside


def test_a_pipeline_on_zarr_predicts_as_on_memory(tmp_path):
    X, y = ring()
    store = zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(500, 2))
    for features in (
        Nystroem(gamma=1.0, n_components=40, landmarks="k-means"),
        RBFSampler(gamma=0.5, n_components=200),
        PolynomialCountSketch(n_components=50, coef0=1, random_state=1),
    ):
        pipeline = make_pipeline(StandardScaler(), features, LogisticRegression(C=100.0)).fit(store, y)
        labels = pipeline.predict(store)
        assert isinstance(labels, da.Array)
        assert (labels.compute() == y).mean() > 0.97
        np.testing.assert_array_equal(labels.compute(), pipeline.predict(X))
        assert pipeline.score(store, y) > 0.97


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Nystroem("magic"), "kernel must be one of"),
        (Nystroem("linear", gamma=1.0), "does not take"),
        (Nystroem(degree=2), "does not take"),
        (Nystroem(chi, gamma=1.0), "no meaning for a callable"),
        (Nystroem(kernel_params={"a": 1}), "for a callable kernel"),
        (Nystroem(landmarks="grid"), "landmarks must be"),
        (Nystroem(n_components=0), "n_components must be"),
        (Nystroem("poly", degree=2.5), "whole number"),
        (RBFSampler(gamma=0.0), "gamma must be"),
        (PolynomialCountSketch(degree=0), "degree must be"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_errors(model, message):
    with pytest.raises(ValueError, match=message):
        model.set_params(**({"n_components": 3} if model.n_components else {})).fit(rows())


def test_more_landmarks_than_rows_is_a_warning():
    with pytest.warns(UserWarning, match="n_components > n_samples"):
        assert Nystroem(n_components=30).fit(rows(20)).components_.shape == (20, 4)


def test_a_kernel_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no positive eigenvalue"):
        Nystroem("linear", n_components=3).fit(np.zeros((10, 2)))


def test_new_rows_must_have_the_features_of_the_fit():
    for model in MAPS:
        model.fit(rows())
        for X in (rows(d=3), da.from_array(rows(d=3), chunks=50)):
            with pytest.raises(ValueError, match="features"):
                model.transform(X)
