"""What every kernel uses of memory, in a process of its own: the plans of its sweeps, and the high-water mark.

``python -m tests.chaos.kernels NAME ROOM THREADS STORE``: prints projected peak, high-water mark, limit and a digest.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import distributed  # noqa: F401 - loaded before anything is weighed
import numpy as np
import zarr

from daskml_core import metrics
from daskml_core.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from daskml_core.data import load
from daskml_core.engine import Engine, count_rows, run_sweeps
from daskml_core.engine.portable import digest
from daskml_core.kernel_approximation import Nystroem, RBFSampler
from daskml_core.kernels.gram import TRIANGULAR_FACTOR, merge_factors
from daskml_core.kernels.predict import PREDICT_CLASS
from daskml_core.linear_model import (
    HuberRegressor,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeCV,
    SGDClassifier,
)
from daskml_core.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_val_predict
from daskml_core.optimize import minimize
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC, LinearSVC
from daskml_core.sweep import Sweep

Case = Callable[[Any, Any], Any]


def _model(model: Any, supervised: bool = True) -> Case:
    def run(X: Any, y: Any) -> Any:
        fitted = model.fit(X, y) if supervised else model.fit(X)
        for name in ("coef_", "cluster_centers_", "mean_", "random_weights_", "best_params_"):
            if hasattr(fitted, name):
                return getattr(fitted, name)
        return fitted.predict(np.zeros((1, X.shape[1]), "f4"))

    return run


def _multinomial(X: Any, y: Any) -> Any:
    three = da.from_zarr(X)[:, :3].argmax(axis=1)
    return LogisticRegression(solver="lbfgs", max_iter=2).fit(X, three).coef_


def _factor(X: Any, y: Any) -> Any:
    blocks = load(X, y, None, count_rows=count_rows)
    return run_sweeps(blocks, Sweep(TRIANGULAR_FACTOR, np.zeros(X.shape[1] + 1), merge_factors))


def _of_few(make: Any) -> Any:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(300, 50)).astype("f4")
    return make().fit(few, (few[:, 0] > 0).astype(int))


def _predictions(make: Any) -> Case:
    """The plan of a lazy prediction is that of its kernel over the blocks: nobody else makes one."""

    def run(X: Any, y: Any) -> Any:
        model = _of_few(make)
        if hasattr(model, "coef_"):
            Engine(load(X, None, None, count_rows=count_rows), kernels=[(PREDICT_CLASS, _Width(1))])
        return model.predict(da.from_zarr(X)).sum().compute()

    return run


class _Width:
    """As much of a linear model as a plan needs to know."""

    def __init__(self, n: int) -> None:
        self.W = np.zeros((1, n))


def _metrics(X: Any, y: Any) -> Any:
    model = _of_few(LogisticRegression)
    score = model.decision_function(X)
    return (
        metrics.accuracy_score(y, model.predict(X)),
        metrics.log_loss(y, model.predict_proba(X)),
        metrics.r2_score(y, score),
        metrics.roc_auc_score(y, score.round(3)),
    )


def _silhouette(X: Any, y: Any) -> Any:
    centers = np.random.default_rng(0).normal(size=(8, X.shape[1])).astype("f4")
    labels = da.from_zarr(X)[:, :8].argmax(axis=1)
    return metrics.silhouette_score(X, labels, method="simplified", centers=centers)


def _machine(X: Any, y: Any) -> Any:
    """More rows than are gathered, that a machine can tell apart: few of them are at their bounds, and need little cache."""
    rows = da.from_zarr(X)[:60_000, :4]
    return SVC(C=1.0, cache_size=100).fit(rows, rows[:, 0] > 0).dual_coef_


def _user(w: Any, A: Any, b: Any) -> Any:
    r = A @ w - b
    return r @ r / 2, A.T @ r


GRID = {"C": [0.01, 1.0]}

CASES: dict[str, Case] = {
    "logistic gradient": _model(LogisticRegression(solver="lbfgs", max_iter=3)),
    "logistic Hessian": _model(LogisticRegression(solver="newton", max_iter=2)),
    "sample and preconditioned gradient": _model(LogisticRegression(max_iter=3)),
    "multinomial gradient": _multinomial,
    "Poisson Hessian": _model(PoissonRegressor(max_iter=2)),
    "Gram matrix": _model(LinearRegression()),
    "tall-skinny QR": _factor,
    "Huber": _model(HuberRegressor(max_iter=2)),
    "SGD": _model(SGDClassifier(loss="log_loss", max_iter=1, tol=None)),
    "margins": _model(LinearSVC(loss="hinge", max_iter=2)),
    "kernel machine": _machine,
    "kernel features": _model(make_pipeline(Nystroem(n_components=64), Ridge())),
    "Fourier features": _model(RBFSampler(gamma="scale", n_components=64), supervised=False),
    "k-means": _model(KMeans(20, init="random", n_init=1, init_size=2000, max_iter=2), supervised=False),
    "k-means||": _model(KMeans(20, init="k-means||", n_init=1, max_iter=1), supervised=False),
    "mini-batch k-means": _model(MiniBatchKMeans(20, init_size=2000, max_iter=1), supervised=False),
    "bisecting k-means": _model(BisectingKMeans(4, init_size=2000, max_iter=2), supervised=False),
    "silhouette": _silhouette,
    "metrics": _metrics,
    "grid of folds and penalties": _model(
        GridSearchCV(LogisticRegression(solver="lbfgs", max_iter=2), GRID, cv=KFold(3), scoring=["accuracy", "roc_auc"],
                     refit="accuracy")
    ),
    "leave-one-out": _model(RidgeCV()),
    "Gram matrices of folds": _model(LassoCV(alphas=[0.01, 0.1], cv=3)),
    "race of partial fits": _model(HalvingGridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2]})),
    "predictions of folds": lambda X, y: cross_val_predict(Ridge(), X, y, cv=KFold(2)).sum().compute(),
    "scaler": _model(StandardScaler(), supervised=False),
    "a user's function": lambda X, y: minimize(_user, np.zeros(50), X, y, max_iter=2).x,
    "predictions of a linear model": _predictions(LogisticRegression),
}  # fmt: skip


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def main(name: str, room: int, threads: int, path: str) -> None:
    """Run one case, and print what it was planned to use and what it has used."""
    warnings.simplefilter("ignore")
    projected = [0]
    original = Engine.__init__

    def init(self: Engine, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        projected[0] = max(projected[0], self.projected_peak_bytes)

    store = zarr.open_group(path, mode="r")
    X, y = store["X"], store["y"]
    case = CASES[name]
    # Code is loaded before anything is weighed: the case is run on few rows first.
    few = zarr.open_group(path, mode="r")["few"]
    try:
        case(few["X"], few["y"])
    except ValueError as error:
        if "rows" not in str(error):
            raise
    limit = _status("VmRSS") + room if room else None
    dask.config.set({"daskml-core.memory-limit": limit, "num_workers": threads})
    Engine.__init__ = init  # type: ignore[method-assign]
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    found = case(X, y)
    print(projected[0], _status("VmHWM"), limit or 0, digest(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
