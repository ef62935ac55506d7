"""The picture of a classifier's regions: what is drawn is what was learned."""

import dask.array as da
import matplotlib
import numpy as np
import pytest
from sklearn import svm as reference
from sklearn.pipeline import make_pipeline

from daskml_core.kernel_approximation import Nystroem
from daskml_core.linear_model import LinearRegression, LogisticRegression
from daskml_core.svm import DecisionRegionDisplay, LinearSVC
from tests.problems import three_classes

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def halves(n=400):
    X = np.random.default_rng(0).normal(size=(n, 2)) * [1, 100]
    return X, np.where(X[:, 0] + X[:, 1] / 100 > 0, "above", "below")


def test_regions_and_contours_are_those_of_the_estimator():
    X, y = halves()
    model = LinearSVC().fit(X, y)
    display = DecisionRegionDisplay.from_estimator(model, da.from_array(X, chunks=(90, -1)), y, grid_resolution=40)
    grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    labels = np.array(display.classes)[display.regions.ravel()]
    np.testing.assert_array_equal(labels, model.predict(grid))
    np.testing.assert_allclose(display.decision.ravel(), model.decision_function(grid))
    assert (grid.min(axis=0) <= X.min(axis=0)).all() and (grid.max(axis=0) >= X.max(axis=0)).all()
    # Points of the drawn boundary have decision values of zero, those of the margin of one.
    for contour, value in ((display.boundary_, 0.0), (display.margin_, 1.0)):
        points = np.vstack([path.vertices for path in contour.get_paths() if len(path.vertices)])
        np.testing.assert_allclose(np.abs(model.decision_function(points)), value, atol=1e-6)
    assert display.support_ is None
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["above", "below"]


def test_support_vectors_are_drawn_where_there_are_any():
    X, y = halves()
    model = reference.SVC().fit(X / X.std(axis=0), y)
    display = DecisionRegionDisplay.from_estimator(model, X / X.std(axis=0), y, grid_resolution=30)
    assert len(display.support_.get_offsets()) == len(model.support_vectors_)
    display.plot(max_support=10)
    assert len(display.support_.get_offsets()) <= 10
    assert "drawn" in display.ax_.get_legend().get_texts()[-1].get_text()


def test_three_classes_have_boundaries_and_points_of_a_sample():
    X, y = three_classes(d=2)
    display = DecisionRegionDisplay.from_estimator(LinearSVC().fit(X, y), X, y, n_points=50, grid_resolution=30)
    assert display.decision is None
    assert display.boundary_ is not None
    assert len(display.points_.get_offsets()) == 50
    assert set(display.labels) <= {0, 1, 2}
    names = np.array(display.classes)[display.labels]
    lookup = {tuple(row): label for row, label in zip(X, y, strict=True)}
    assert [lookup[tuple(row)] for row in display.points] == names.tolist()


def test_pipelines_outlier_detectors_and_other_classifiers_are_drawn():
    X, y = halves()
    scaled = X / X.std(axis=0)
    machines = [
        make_pipeline(Nystroem(n_components=20), LinearSVC()).fit(scaled, y),
        LogisticRegression().fit(scaled, y),
    ]
    for model in machines:
        assert DecisionRegionDisplay.from_estimator(model, scaled, y, grid_resolution=20).boundary_ is not None
    detector = reference.OneClassSVM(nu=0.1).fit(scaled)
    display = DecisionRegionDisplay.from_estimator(detector, scaled, grid_resolution=50)
    assert display.classes == [-1, 1]
    assert display.points_ is not None


def test_an_axes_of_the_caller_is_drawn_on():
    import matplotlib.pyplot as plt

    X, y = halves()
    _, ax = plt.subplots()
    display = DecisionRegionDisplay.from_estimator(
        LinearSVC().fit(X, y), X, y, ax=ax, title="a title", feature_names=("left", "up"), grid_resolution=20
    )
    assert display.ax_ is ax
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("a title", "left", "up")


def test_what_cannot_be_drawn_is_refused():
    X, y = halves()
    with pytest.raises(ValueError, match="no classifier"):
        DecisionRegionDisplay.from_estimator(LinearRegression().fit(X, X[:, 0]), X)
    wide = np.column_stack([X, X])
    with pytest.raises(ValueError, match="two features"):
        DecisionRegionDisplay.from_estimator(LinearSVC().fit(wide, y), wide, y)
