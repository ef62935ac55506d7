"""Searches, splits and metrics on grids, against the same samples as a matrix without those that lack a value."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.tree import DecisionTreeClassifier

import daskml_core.accessor  # noqa: F401 - makes ds.ml known
from daskml_core import metrics
from daskml_core.cluster import KMeans
from daskml_core.linear_model import (
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
    SGDClassifier,
)
from daskml_core.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_validate,
    train_test_split,
)
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC
from tests.test_grid import DIMS, LAT, LON, TIME, dataset, values

CS = [1e-3, 1e-1, 10.0]


@pytest.fixture(scope="module")
def grid():
    """A Dataset with land, labels and a target on it, and the complete samples of each in the chunks' order."""
    x = values(dtype="f8")
    x[1, 2, 3, 0] = np.nan
    ds = dataset(x, {"time": 2})
    labels = xr.DataArray(np.where(x[..., 0] + x[..., 1] > 0, 1.0, 0.0), dims=DIMS)
    target = xr.DataArray(x @ np.array([1.0, -2.0, 0.5]) + np.sin(x[..., 0]), dims=DIMS)
    complete = ~np.isnan(x).any(axis=-1).reshape(-1)
    sizes = tuple(int(part.sum()) for part in complete.reshape(3, -1))
    rows = da.from_array(x.reshape(-1, 3)[complete], chunks=(sizes, -1))
    return ds, labels, target, rows, complete


def flat(array, complete):
    return np.asarray(array).reshape(-1)[complete]


def same_search(found, expected):
    for key, value in expected.cv_results_.items():
        if key.startswith(("split", "mean_test", "mean_train", "rank")):
            np.testing.assert_array_equal(found.cv_results_[key], value)
    assert found.best_params_ == expected.best_params_


@pytest.mark.parametrize("scaled", [False, True])
def test_a_search_on_a_grid_is_the_search_on_its_complete_samples(grid, scaled):
    ds, labels, _, rows, complete = grid
    model = make_pipeline(StandardScaler(), LogisticRegression()) if scaled else LogisticRegression()
    params = {("logisticregression__" if scaled else "") + "C": CS}
    options = {"scoring": ["accuracy", "neg_log_loss", "roc_auc"], "refit": "neg_log_loss", "cv": 3}
    found = GridSearchCV(model, params, return_train_score=True, **options).fit(ds, labels)
    expected = GridSearchCV(model, params, return_train_score=True, **options).fit(rows, flat(labels, complete))
    same_search(found, expected)
    assert found.search_plan_.n_batches == 1
    assert found.n_sweeps_ == pytest.approx(expected.n_sweeps_ + 1, abs=0.5)  # one look at which samples are complete
    prediction = found.predict(ds)
    assert prediction.dims == DIMS
    np.testing.assert_array_equal(flat(prediction, complete), expected.predict(rows))
    assert list(found.feature_names_in_) == ["t", "u", "v"]
    assert found.score(ds, labels) == pytest.approx(expected.score(rows, flat(labels, complete)), rel=1e-12)


def test_a_target_on_fewer_dimensions_and_weights_by_latitude(grid):
    ds, _, _, rows, complete = grid
    season = xr.DataArray(np.arange(TIME) % 2, dims="time", coords={"time": ds.time})
    y = flat(season.broadcast_like(ds.t), complete)
    weight = np.broadcast_to(np.cos(np.deg2rad(np.linspace(-70, 80, LAT)))[:, None], (TIME, LAT, LON))
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(ds, season, sample_weight="cos_lat")
    expected = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(rows, y, sample_weight=flat(weight, complete))
    same_search(found, expected)
    np.testing.assert_allclose(found.best_estimator_.coef_, expected.best_estimator_.coef_, rtol=1e-12)


def test_groups_and_times_make_the_folds(grid):
    ds, labels, _, rows, complete = grid
    cells = xr.DataArray(np.arange(LAT) // 3, dims="lat", coords={"lat": ds.lat})
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=GroupKFold(3)).fit(ds, labels, groups=cells)
    expected = GridSearchCV(LogisticRegression(), {"C": CS}, cv=GroupKFold(3)).fit(
        rows, flat(labels, complete), groups=flat(cells.broadcast_like(ds.t).transpose(*DIMS), complete)
    )
    same_search(found, expected)
    times = flat(ds.time.broadcast_like(ds.t).transpose(*DIMS), complete)
    table = xr.DataArray(rows, dims=("sample", "feature"), coords={"time": ("sample", times)})
    cv = TimeSeriesSplit(3, coord="time")
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=cv).fit(ds, labels)
    same_search(found, GridSearchCV(LogisticRegression(), {"C": CS}, cv=cv).fit(table, flat(labels, complete)))
    with pytest.raises(ValueError, match="not a coordinate"):
        GridSearchCV(LogisticRegression(), {"C": CS}, cv=TimeSeriesSplit(3, coord="week")).fit(ds, labels)


def test_any_other_estimator_and_a_feature_dimension_of_any_name(grid):
    ds, labels, _, rows, complete = grid
    array = ds.to_array("depth").transpose("depth", *DIMS)
    tree = DecisionTreeClassifier(random_state=0)
    found = GridSearchCV(tree, {"max_depth": [1, 3]}, cv=3).fit(ds, labels)
    same_search(found, GridSearchCV(tree, {"max_depth": [1, 3]}, cv=3).fit(rows, flat(labels, complete)))
    unnamed = array.drop_vars("depth")
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(unnamed, labels, feature_dim="depth")
    same_search(found, GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(rows, flat(labels, complete)))
    assert found.predict(unnamed).dims == DIMS


def test_a_matrix_may_name_its_feature_dimension_as_it_likes(grid):
    *_, rows, _ = grid
    y = np.asarray(rows[:, 0] + rows[:, 1] > 0)
    table = xr.DataArray(rows, dims=("cell", "depth"))
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(table.T, y, feature_dim="depth")
    same_search(found, GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(rows, y))
    assert found.predict(table).dims == ("cell",)
    tree = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}, cv=3)
    assert tree.fit(table.T, y, feature_dim="depth").best_score_ == tree.fit(rows, y).best_score_
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    named = {f"{name}__feature_dim": "depth" for name, _ in scaled.steps}
    search = GridSearchCV(scaled, {"logisticregression__C": CS}, cv=3).fit(table, y, **named)
    assert search.search_plan_.n_batches == 1
    expected = scaled.fit(rows, y).predict_proba(rows)
    np.testing.assert_array_equal(scaled.fit(table, y, **named).predict_proba(table), expected)
    for model in (LogisticRegression(), SVC()):
        options = {"cv": 3, "method": "decision_function"}
        answer = cross_val_predict(model, table, y, params={"feature_dim": "depth"}, **options)
        np.testing.assert_array_equal(answer, cross_val_predict(model, rows, y, **options))


def test_cross_validation_and_out_of_fold_predictions(grid):
    ds, labels, target, rows, complete = grid
    options = {"cv": KFold(3, shuffle=True, random_state=0)}
    found = cross_validate(Ridge(), ds, target, scoring=["r2", "neg_mean_absolute_error"], **options)
    expected = cross_validate(
        Ridge(), rows, flat(target, complete), scoring=["r2", "neg_mean_absolute_error"], **options
    )
    for key in ("test_r2", "test_neg_mean_absolute_error"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-12)
    for model, y, method in (
        (Ridge(), target, "predict"),
        (LogisticRegression(), labels, "predict_proba"),
        (DecisionTreeClassifier(random_state=0), labels, "predict"),
    ):
        answer = cross_val_predict(model, ds, y, method=method, **options)
        wanted = np.asarray(cross_val_predict(model, rows, flat(y, complete), method=method, **options))
        assert dask.is_dask_collection(answer)
        assert answer.dims[:3] == DIMS
        xr.testing.assert_identical(answer.coords["lat"], ds.coords["lat"])
        got = np.asarray(answer).reshape(TIME * LAT * LON, -1)
        np.testing.assert_allclose(got[complete], wanted.reshape(len(wanted), -1), rtol=1e-12)
        assert np.isnan(got[~complete]).all()


def test_out_of_fold_predictions_lie_where_their_samples_do_for_chunks_of_every_dimension():
    x = values(dtype="f8")
    ds = dataset(x, {"time": 4, "lat": 3, "lon": 5})
    target = xr.DataArray(x @ np.array([1.0, -2.0, 0.5]), dims=DIMS)
    answer = cross_val_predict(LinearRegression(), ds, target, cv=KFold(3, shuffle=True))
    np.testing.assert_allclose(answer, target, atol=1e-9)  # the target is linear, whatever the fold


def test_models_that_choose_their_own_penalty(grid):
    ds, labels, target, rows, complete = grid
    for model, y in (
        (RidgeCV(cv=3), target),
        (RidgeCV(), target),
        (LassoCV(cv=3), target),
        (LogisticRegressionCV(Cs=4, cv=3), labels),
    ):
        found = model.fit(ds, y)
        coef, sweeps = np.array(found.coef_), found.n_sweeps_
        assert found.predict(ds).dims == DIMS
        found.fit(rows, flat(y, complete))
        np.testing.assert_allclose(coef, found.coef_, rtol=1e-10)
        assert sweeps == pytest.approx(found.n_sweeps_ + 1, abs=0.5)


def test_races_and_splits(grid):
    ds, labels, _, rows, complete = grid
    y = flat(labels, complete)
    race = HalvingGridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2, 10.0]})
    scores = race.fit(ds, labels).cv_results_["test_score"].copy()
    np.testing.assert_array_equal(scores, race.fit(rows, y).cv_results_["test_score"])
    parts = train_test_split(ds, labels, stratify=labels, random_state=0)
    expected = train_test_split(rows, y, stratify=y, random_state=0)
    for found, wanted in zip(parts, expected, strict=True):
        assert dask.is_dask_collection(found)
        np.testing.assert_array_equal(found, wanted)
    assert parts[0].dims == ("sample", "feature")
    assert LogisticRegression().fit(parts[0], parts[2]).feature_names_in_.tolist() == ["t", "u", "v"]


def test_metrics_leave_out_samples_without_a_value(grid):
    ds, labels, target, rows, complete = grid
    y, t = flat(labels, complete), flat(target, complete)
    weight = flat(np.broadcast_to(np.cos(np.deg2rad(ds.lat.values))[:, None], (TIME, LAT, LON)), complete)
    model, line = LogisticRegression(C=0.01).fit(ds, labels), Ridge().fit(ds, target)
    for function, truth, prediction, rowwise in (
        (metrics.accuracy_score, labels, model.predict(ds), (y, model.predict(rows))),
        (metrics.log_loss, labels, model.predict_proba(ds), (y, model.predict_proba(rows))),
        (metrics.roc_auc_score, labels, model.decision_function(ds), (y, model.decision_function(rows))),
        (metrics.r2_score, target, line.predict(ds), (t, line.predict(rows))),
    ):
        assert function(truth, prediction) == pytest.approx(function(*rowwise), rel=1e-12)
        weighted = function(truth, prediction, sample_weight="cos_lat")
        assert weighted == pytest.approx(function(*rowwise, sample_weight=weight), rel=1e-12)
    assert model.score(ds, labels) == metrics.accuracy_score(y, model.predict(rows))
    # A truth on fewer dimensions, and one in memory.
    season = xr.DataArray(np.arange(TIME) % 2, dims="time", coords={"time": ds.time})
    found = metrics.accuracy_score(season, model.predict(ds))
    assert found == metrics.accuracy_score(flat(season.broadcast_like(ds.t), complete), model.predict(rows))
    clusters = KMeans(3, random_state=0).fit(ds)
    found = metrics.silhouette_score(ds, clusters.predict(ds))
    assert found == pytest.approx(metrics.silhouette_score(rows, clusters.predict(rows)), rel=1e-12)


def test_text_labels_on_a_grid(grid):
    ds, labels, _, rows, complete = grid
    names = xr.where(ds.t.isnull(), None, xr.where(labels > 0, "sea", "coast")).astype(object)
    y = flat(names, complete).astype(str)
    found = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(ds, names)
    same_search(found, GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).fit(rows, y))
    score = metrics.accuracy_score(names, found.predict(ds))
    assert score == metrics.accuracy_score(y, found.predict(rows))


def test_the_plan_of_a_search_on_a_grid_reads_nothing(grid):
    ds, labels, _, _, _ = grid

    def refuse(block):
        raise AssertionError("read")

    lazy = ds.map(lambda a: a.copy(data=a.data.map_blocks(refuse, dtype=a.dtype, meta=np.empty((0, 0, 0)))))
    plan = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3).plan(lazy, labels)
    assert plan.n_batches == 1
    assert plan.engine.n_rows == TIME * LAT * LON


def test_a_mask_leaves_samples_out_of_a_search(grid):
    ds, labels, _, rows, complete = grid
    north = xr.DataArray(ds.lat.values > 0, dims="lat", coords={"lat": ds.lat})
    found = ds.ml.fit(GridSearchCV(LogisticRegression(), {"C": CS}, cv=3), labels, mask=north)
    inside = flat(north.broadcast_like(ds.t).transpose(*DIMS), complete)
    kept = np.asarray(rows)[inside]
    sizes = [int(part.sum()) for part in np.split(inside, np.cumsum(rows.chunks[0])[:-1])]
    expected = GridSearchCV(LogisticRegression(), {"C": CS}, cv=3)
    same_search(found, expected.fit(da.from_array(kept, chunks=(tuple(sizes), -1)), flat(labels, complete)[inside]))
