"""What notebooks show: tables of plans and searches, text escaped, nothing computed for it."""

import re
from html.parser import HTMLParser

import dask
import dask.array as da
import numpy as np
import pytest
import sklearn
import xarray as xr

from daskml_core.cluster import KMeans, KMeansSearch
from daskml_core.engine.memory import Plan, format_bytes
from daskml_core.linear_model import LogisticRegression, Ridge, SGDClassifier
from daskml_core.model_selection import GridSearchCV, HalvingGridSearchCV, SearchPlan
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC

X = np.random.default_rng(0).normal(size=(400, 3))
Y = X[:, 0] + X[:, 1] > 0
EVIL = "<script>alert('x')</script>&\"'"


class Tags(HTMLParser):
    """Tags that are opened and closed in order, and the text between them."""

    VOID = ("br", "input", "meta", "link", "img", "hr")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def lazy(a=X):
    return da.from_array(a, chunks=(100, *a.shape[1:]))


def test_a_plan_shows_every_part_of_its_peak_beside_the_limit():
    plan = LogisticRegression().plan(lazy(), lazy(Y))
    assert sum(size for _, size in plan.peak_parts) == plan.projected_peak_bytes
    tags = parse(plan._repr_html_())
    text = " ".join(tags.text)
    for label, size in plan.peak_parts:
        assert (f"{label} {format_bytes(size)}" in text) == (size > 0)
    assert f"of {format_bytes(plan.memory_limit_bytes)}" in text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", plan._repr_html_())]
    assert sum(widths) == pytest.approx(100 * plan.projected_peak_bytes / plan.memory_limit_bytes, abs=0.3)
    for label, _ in plan.rows():
        assert label in text


def test_a_search_plan_shows_models_and_memory_or_why_there_is_no_batch():
    text = " ".join(parse(GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=3).plan(lazy(), X[:, 0])._repr_html_()).text)
    assert "6 = 2 settings x 3 splits" in text
    assert "the process itself" in text
    text = " ".join(parse(GridSearchCV(SVC(), {"C": [1.0]}, cv=3).plan(lazy(), Y)._repr_html_()).text)
    assert "SVC does not know lockstep" in text


def test_text_is_escaped_wherever_it_comes_from():
    plan = Plan(EVIL, 1, 1, EVIL, 1, 1, 1, 1, 1, 1, 1, 1, 1, (EVIL,), EVIL, (EVIL,), ((EVIL, 1),))
    search = GridSearchCV(LogisticRegression(), {"solver": ["lbfgs", "newton"]}, cv=2).fit(X, Y)
    search.cv_results_["params"][0][EVIL] = EVIL
    names = xr.DataArray(X, dims=("row", "feature"), coords={"feature": [EVIL, "b", "c"]})
    shown = [
        plan._repr_html_(),
        SearchPlan(EVIL, 1, 1, 0, EVIL, EVIL)._repr_html_(),
        search._repr_html_(),
        LogisticRegression(solver=EVIL)._repr_html_(),
        StandardScaler().fit(names)._repr_html_(),
        KMeans(2).fit(names)._repr_html_(),
    ]
    for html in shown:
        assert "alert" in html
        assert "<script>alert" not in html


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        KMeans(2),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        KMeansSearch(n_clusters=(2, 3), n_references=1),
    ],
)
def test_estimators_show_themselves_before_and_after_a_fit_and_compute_nothing_for_it(model, monkeypatch):
    assert "not fitted" in model._repr_html_().lower()
    model.fit(lazy(), Y)

    def refuse(*args, **kwargs):
        raise AssertionError("something was computed")

    monkeypatch.setattr(dask.base, "compute", refuse)
    monkeypatch.setattr(da.Array, "__array__", refuse)
    bundle = model._repr_mimebundle_()
    assert bundle["text/plain"] == repr(model)
    assert "Parameters" in bundle["text/html"]
    links = re.findall(r'href="([^"]+)"', bundle["text/html"])
    assert links == []  # none to pages of scikit-learn that tell of another class
    with sklearn.config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert "text/html" not in model._repr_mimebundle_()


def test_a_fitted_search_shows_its_best_settings_first_and_what_it_cost():
    grid = {"C": np.logspace(-4, 2, 7)}
    search = GridSearchCV(LogisticRegression(), grid, cv=3, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss")
    assert "<table" not in search._summary_html()
    search.fit(X, Y)
    html = search._summary_html()
    text = parse(html).text
    assert text[0].startswith("GridSearchCV: 7 settings x 3 splits, 1 batch of models side by side")
    assert text[0].endswith(f"{search.n_sweeps_:.3g} sweeps over the data")
    assert text[1:5] == ["rank", "C", "test accuracy", "test neg log loss"]
    best = search.cv_results_["mean_test_neg_log_loss"].max()
    assert text[5:7] == ["1", f"{search.best_params_['C']:.4g}"]
    assert text[8].startswith(f"{best:.4g} ± ")
    assert "and 2 more settings in cv_results_" in text
    assert len(re.findall("font-weight:bold'>", html)) >= 4
    assert search._repr_html_().startswith(html)
    assert search._repr_mimebundle_()["text/html"].startswith(html)


def test_other_searches_show_what_they_have():
    race = HalvingGridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2]}).fit(lazy(), Y)
    text = parse(race._summary_html()).text
    assert text[1:6] == ["rank", "alpha", "test score", "partial fit calls", "bracket"]
    clusters = KMeansSearch(n_clusters=(2, 3), n_references=0, random_state=0).fit(X)
    text = parse(clusters._summary_html()).text
    assert text[1:4] == ["clusters", "inertia", "simplified silhouette"]
    assert text[4:7] == ["2", f"{clusters.inertias_[0]:.4g}", f"{clusters.silhouettes_[0]:.4g}"]
