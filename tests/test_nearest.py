"""The search for the nearest centre in vector registers, against NumPy."""

import numpy as np
import pytest

from daskml_core.kernels.kmeans import LloydParams, lloyd_block
from daskml_core.kernels.nearest import nearest_rows, pack_centers, panel_rows, room_for
from daskml_core.sweep import Block


def search(X, C, with_second=True):
    """Labels, squared distances to the nearest and second nearest centre, and squared lengths of the rows."""
    n, size = len(X), panel_rows(X.dtype)
    found = room_for(n, size, C, with_second)
    label = np.empty(len(found.best), dtype=np.int32)
    nearest_rows(X, *pack_centers(C), found, label)
    second = found.norms[:n] + found.second[:n] if with_second else None
    return label[:n], found.norms[:n] + found.best[:n], second, found.norms[:n]


SHAPES = [(1, 1, 1), (3, 5, 2), (64, 16, 4), (77, 17, 5), (333, 40, 7), (130, 32, 21), (40, 129, 300)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_labels_and_distances_are_those_of_numpy(n, d, k, dtype):
    rng = np.random.default_rng(n)
    X, C = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(k, d)).astype(dtype)
    label, first, second, norms = search(X, C)
    exact = np.square(X[:, None].astype(float) - C).sum(axis=2)
    order = np.sort(exact, axis=1)
    near = 2e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(norms, np.square(X.astype(float)).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(first, order[:, 0], rtol=near, atol=near * d)
    np.testing.assert_allclose(exact[np.arange(n), label], order[:, 0], rtol=near)
    if k > 1:
        np.testing.assert_allclose(second, order[:, 1], rtol=near, atol=near * d)
    else:
        assert np.isposinf(second).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rows_result_does_not_depend_on_the_rows_beside_it(dtype):
    rng = np.random.default_rng(0)
    X, C = rng.normal(size=(203, 21)).astype(dtype), rng.normal(size=(6, 21)).astype(dtype)
    label, first, second, _ = search(X, C)
    for at in (0, 63, 64, 202):
        alone = search(X[at : at + 1], C)
        assert (alone[0][0], alone[1][0], alone[2][0]) == (label[at], first[at], second[at])
    without = search(X, C, with_second=False)
    np.testing.assert_array_equal(without[0], label)
    np.testing.assert_array_equal(without[1], first)


def test_of_equally_near_centres_the_first_is_taken():
    C = np.array([[3.0], [1.0], [-1.0], [1.0], [-1.0]])
    assert search(np.zeros((5, 1)), C)[0].tolist() == [1] * 5


@pytest.mark.parametrize("spread", [1e-12, 1e-6, 1e-3, 1.0])
def test_inertia_keeps_its_digits_however_tight_the_clusters(spread):
    rng = np.random.default_rng(1)
    C = rng.normal(size=(7, 9))
    X = C[rng.integers(7, size=5000)] + spread * rng.normal(size=(5000, 9))
    weight = rng.random(5000)
    nearest = np.square(X[:, None] - C).sum(axis=2).min(axis=1)
    (plain,) = lloyd_block(Block(X, None, None, 0, 0), LloydParams((C,), far=3))
    (weighted,) = lloyd_block(Block(X, None, weight, 0, 0), LloydParams((C,), far=3))
    assert plain.inertia == pytest.approx(nearest.sum(), rel=1e-12)
    assert weighted.inertia == pytest.approx(nearest @ weight, rel=1e-12)
    assert plain.far.row.tolist() == np.argsort(-nearest)[:3].tolist()
    np.testing.assert_allclose(plain.far.distance, np.sort(nearest)[::-1][:3], rtol=1e-12)


def test_rows_on_their_centres_have_no_inertia_and_none_is_far():
    C = np.arange(12.0).reshape(4, 3)
    (a,) = lloyd_block(Block(np.repeat(C, 50, axis=0), None, None, 0, 0), LloydParams((C,), far=4))
    assert a.inertia == 0.0
    assert len(a.far.row) == 0
