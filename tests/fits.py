"""Every way to fit, each small enough to be interrupted after each of its sweeps: shared by the tests of reliability."""

import warnings
from contextlib import contextmanager

import dask.array as da
import numpy as np

from daskml_core.cluster import BisectingKMeans, KMeans, KMeansSearch, MiniBatchKMeans
from daskml_core.engine import Engine
from daskml_core.engine.portable import digest
from daskml_core.linear_model import (
    ElasticNet,
    HuberRegressor,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from daskml_core.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HyperbandSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
)
from daskml_core.optimize import minimize
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC, SVR, LinearSVC, LinearSVR, OneClassSVM
from tests.problems import two_classes

N, CHUNK = 1200, 100


def data(seed=0):
    """X and y, lazy, in blocks of different cuts."""
    X, y = two_classes(n=N, d=5, seed=seed, dtype=np.float32)
    return da.from_array(X, chunks=(CHUNK, -1)).map_blocks(np.copy), da.from_array(y, chunks=170)


def squared_error(w, X, y):
    r = X @ w - y
    return r @ r / 2, X.T @ r


class _Fit:
    """A fit by its name: an estimator, what y it takes, and what is compared of the result."""

    def __init__(self, make, target="labels", run=None):
        self.make, self.target, self.run = make, target, run

    def __call__(self, X, y, **options):
        y = {"labels": y, "numbers": y * 2.5 + X[:, 0].astype("f8"), "counts": y + 1, "none": None}[self.target]
        if y is not None and hasattr(y, "chunks"):
            y = y.rechunk(170)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*did not converge.*")
            warnings.filterwarnings("ignore", message=".*did not stop|.*reached max_iter.*")
            if self.run is not None:
                return self.run(X, y, **options)
            return self.make().fit(X, y, **options)


def _minimize(solver, **extra):
    return lambda X, y, **o: minimize(
        squared_error, np.zeros(5), X, y.astype("f8"), solver=solver, max_iter=6, tol=1e-9, **extra, **o
    )


def _pipe():
    return make_pipeline(StandardScaler(), LogisticRegression(tol=1e-6, C=3.0))


LOGISTIC_GRID = {"C": [0.01, 0.1, 1.0]}

FITS = {
    "auto": _Fit(lambda: LogisticRegression(tol=1e-8)),
    "newton": _Fit(lambda: LogisticRegression(solver="newton")),
    "lbfgs": _Fit(lambda: LogisticRegression(solver="lbfgs", tol=1e-3)),
    "gradient descent": _Fit(lambda: LogisticRegression(solver="gradient_descent", tol=1e-3, max_iter=6)),
    "proximal": _Fit(lambda: LogisticRegression(l1_ratio=1.0, C=0.05, solver="proximal")),
    "sgd chains": _Fit(lambda: LogisticRegression(solver="sgd", max_iter=3, solver_options={"n_chains": 3})),
    "SGDClassifier": _Fit(lambda: SGDClassifier(max_iter=3, tol=None, average=True, random_state=1)),
    "SGDRegressor": _Fit(lambda: SGDRegressor(max_iter=3, tol=None, eta0=1e-4), "numbers"),
    "least squares": _Fit(lambda: LinearRegression(), "numbers"),
    "elastic net": _Fit(lambda: ElasticNet(alpha=0.1), "numbers"),
    "Huber": _Fit(lambda: HuberRegressor(max_iter=3, tol=1e-2), "numbers"),
    "Poisson": _Fit(lambda: PoissonRegressor(), "counts"),
    "LogisticRegressionCV": _Fit(lambda: LogisticRegressionCV(Cs=[0.01, 1.0], cv=3)),
    "RidgeCV": _Fit(lambda: RidgeCV(), "numbers"),
    "LassoCV": _Fit(lambda: LassoCV(alphas=[0.01, 0.1], cv=3), "numbers"),
    "k-means": _Fit(lambda: KMeans(7, init_size=200, tol=1e-2, n_init=2, max_iter=10), "none"),
    "k-means||": _Fit(lambda: KMeans(4, init="k-means||", tol=1e-2), "none"),
    "mini-batch k-means": _Fit(lambda: MiniBatchKMeans(7, init_size=200, max_iter=2), "none"),
    "bisecting k-means": _Fit(lambda: BisectingKMeans(5, init_size=200, tol=1e-2), "none"),
    "KMeansSearch": _Fit(lambda: KMeansSearch([2, 4], init_size=200, tol=1e-2, n_references=2), "none"),
    "LinearSVC": _Fit(lambda: LinearSVC(tol=1e-5)),
    "LinearSVC hinge": _Fit(lambda: LinearSVC(loss="hinge", tol=1e-3)),
    "LinearSVR": _Fit(lambda: LinearSVR(tol=1e-3), "numbers"),
    "SVC gathered": _Fit(lambda: SVC(C=1.0, probability=True)),
    "SVC cascade": _Fit(lambda: _swept(SVC)(C=1.0)),
    "SVR cascade": _Fit(lambda: _swept(SVR)(C=0.5), "numbers"),
    "OneClassSVM": _Fit(lambda: _swept(OneClassSVM)(nu=0.1), "none"),
    "pipeline": _Fit(lambda: _pipe()),
    "GridSearchCV": _Fit(lambda: GridSearchCV(LogisticRegression(tol=1e-6), LOGISTIC_GRID, cv=KFold(3))),
    "GridSearchCV of a pipeline": _Fit(
        lambda: GridSearchCV(_pipe(), {"logisticregression__C": [0.1, 1.0]}, cv=KFold(2), scoring=["roc_auc", "accuracy"],
                             refit="roc_auc")
    ),
    "GridSearchCV one by one": _Fit(
        lambda: GridSearchCV(SGDClassifier(max_iter=2, tol=None), {"alpha": [1e-3, 1e-1]}, cv=KFold(2))
    ),
    "RandomizedSearchCV": _Fit(
        lambda: RandomizedSearchCV(LinearSVC(tol=1e-3), {"C": [0.1, 1.0, 9.0]}, n_iter=2, random_state=0, cv=KFold(2))
    ),
    "HalvingGridSearchCV": _Fit(
        lambda: HalvingGridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2, 1e0]}, factor=2)
    ),
    "HyperbandSearchCV": _Fit(
        lambda: HyperbandSearchCV(
            MiniBatchRegressor(), {"eta0": np.logspace(-6, -3, 12).tolist()}, max_iter=4, aggressiveness=2
        ),
        "numbers",
    ),
    "cross_validate": _Fit(
        None, "numbers", lambda X, y, **o: cross_validate(LinearRegression(), X, y, cv=KFold(3), **o)
    ),
    "cross_val_predict": _Fit(
        None, "labels", lambda X, y, **o: cross_val_predict(LogisticRegression(), X, y, cv=KFold(3), **o).compute()
    ),
    "minimize": _Fit(None, "labels", _minimize("lbfgs")),
    "minimize by sgd": _Fit(None, "labels", _minimize("sgd", options={"learning_rate": 1e-3})),
}  # fmt: skip


def MiniBatchRegressor():
    return SGDRegressor(random_state=0)


def _swept(machine):
    """A kernel machine that sweeps even over data that it would gather."""

    class Swept(machine):
        def __init__(self, **params):
            super().__init__(**params)

        @classmethod
        def _get_param_names(cls):
            return machine._get_param_names()

        def _gathers(self, blocks):
            return False

        def _draw(self, blocks, n_classes, fold):
            return super()._draw(blocks, n_classes, fold)._replace(n_sample=150)

    Swept.__name__ = Swept.__qualname__ = machine.__name__
    return Swept


_OF_TIME = ("seconds", "time")


def bits(fitted):
    """Digest of everything that a fit found, clocks aside."""
    if isinstance(fitted, np.ndarray):
        return digest(fitted)
    found = {}
    for name, value in fitted.items() if isinstance(fitted, dict) else vars(fitted).items():
        if name in ("refit_time_", "search_plan_", "_state") or "time" in name or name == "scorer_":
            continue
        if name == "labels_" or name.startswith("_"):
            continue
        found[name] = _cleaned(value)
    return digest(found)


def _cleaned(value):
    """A value without what a clock has told, and models as what they found."""
    if isinstance(value, dict):
        return {
            k: _cleaned(v) for k, v in value.items() if not any(t in str(k) for t in _OF_TIME) and k != "bytes_read"
        }
    if isinstance(value, list | tuple):
        return [_cleaned(part) for part in value]
    if hasattr(value, "get_params") and not isinstance(value, type):
        return bits(value)
    if hasattr(value, "compute"):
        return value.compute()
    return value


class Interrupted(BaseException):
    """What stops a fit in these tests: nothing catches it."""


@contextmanager
def stopped_after(n):
    """Let ``n`` conversations with the data happen, and break off at the next; yields the list of those that happened."""
    happened, inside = [], []
    originals = {name: getattr(Engine, name) for name in ("sweep_now", "fold_now")}

    def counted(original):
        def verb(self, *args, **kwargs):
            if inside:  # a kernel that trains estimators: part of the sweep that runs it
                return original(self, *args, **kwargs)
            if n is not None and len(happened) >= n:
                raise Interrupted(f"after {n}")
            inside.append(True)
            try:
                answer = original(self, *args, **kwargs)
            finally:
                inside.clear()
            happened.append(self.costs[-1].name)
            return answer

        return verb

    try:
        for name, original in originals.items():
            setattr(Engine, name, counted(original))
        yield happened
    finally:
        for name, original in originals.items():
            setattr(Engine, name, original)
