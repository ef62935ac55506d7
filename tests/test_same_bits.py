"""The same data, settings and machine give the same bits wherever and however a fit runs."""

import os
import signal

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core.callback import Callback, events
from daskml_core.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from daskml_core.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from tests.problems import two_classes

MODELS = {
    "auto": lambda: LogisticRegression(tol=1e-7),
    "newton": lambda: LogisticRegression(solver="newton"),
    "lbfgs": lambda: LogisticRegression(solver="lbfgs", tol=1e-6),
    "gradient_descent": lambda: LogisticRegression(solver="gradient_descent", tol=1e-3),
    "l1": lambda: LogisticRegression(l1_ratio=1.0, C=0.05, solver="proximal"),
    "sgd": lambda: SGDClassifier(loss="log_loss", max_iter=3, tol=None, average=True, random_state=1),
    "sgd chains": lambda: SGDClassifier(loss="log_loss", max_iter=3, tol=None, n_chains=3, averages_per_epoch=2),
    "gram": lambda: LinearRegression(),
    "k-means": lambda: KMeans(7, init_size=500, tol=1e-3, n_init=2),
    "mini-batch": lambda: MiniBatchKMeans(7, init_size=500, max_iter=3),
    "bisecting": lambda: BisectingKMeans(7, init_size=500, tol=1e-3),
    "k-means||": lambda: KMeans(7, init="k-means||", tol=1e-3),
}


def problem():
    X, y = two_classes(n=4000, dtype=np.float32)
    return da.from_array(X, chunks=(340, -1)), da.from_array(y, chunks=333)


def bits(model):
    X, y = problem()
    # A pipeline in front, so that blocks are computed and not merely held.
    model.fit(X.map_blocks(np.copy), y)
    if hasattr(model, "cluster_centers_"):
        return (
            model.cluster_centers_.tobytes() + model.labels_.compute().tobytes() + np.float64(model.inertia_).tobytes()
        )
    return model.coef_.tobytes() + np.asarray(model.intercept_).tobytes()


@pytest.fixture(scope="module")
def expected():
    with dask.config.set(scheduler="synchronous"):
        return {name: bits(make()) for name, make in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("residency", [True, False])
def test_threads_give_the_bits_of_one_thread(name, residency, expected):
    with dask.config.set({"scheduler": "threads", "num_workers": 2, "daskml-core.residency": residency}):
        assert bits(MODELS[name]()) == expected[name]


@pytest.mark.parametrize("spans", [1, 3, 1000])
def test_the_cut_into_spans_does_not_show(spans, expected):
    with dask.config.set({"scheduler": "threads", "daskml-core.spans-per-thread": spans}):
        assert bits(MODELS["auto"]()) == expected["auto"]


@pytest.mark.parametrize(("workers", "threads"), [(1, 2), (3, 1)])  # all six of one model: tests/chaos
def test_any_number_of_workers_and_threads_gives_the_same_bits(workers, threads, expected):
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        for name, make in MODELS.items():
            assert bits(make()) == expected[name], name


def test_worker_processes_streamed_and_resident_give_the_same_bits(expected):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        for residency in (True, False):
            with dask.config.set({"daskml-core.residency": residency}):
                for name in ("auto", "sgd", "gram"):
                    assert bits(MODELS[name]()) == expected[name], (name, residency)


def test_a_killed_worker_changes_nothing(expected):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        pids = sorted(client.run(os.getpid).values())
        X, y = problem()
        killed = []

        class KillAtTheSecondStep(Callback):
            def on_event(self, fit, event):
                if isinstance(event, events.StepAccepted) and event.record["n_iter"] == 2 and not killed:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(pids[0])

        model = MODELS["lbfgs"]().set_callbacks(KillAtTheSecondStep())
        model.fit(X.map_blocks(np.copy), y)
        assert killed
        assert model.coef_.tobytes() + model.intercept_.tobytes() == expected["lbfgs"]
