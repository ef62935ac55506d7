"""The commands of ``dask ml``: what they do, what they say, and that they go on after they were killed."""

import importlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import LocalCluster

import daskml_core
from daskml_core.cli import ml
from daskml_core.cli.names import ESTIMATORS, METRICS, metric
from daskml_core.cluster import KMeans
from daskml_core.linear_model import LogisticRegression
from daskml_core.metrics import roc_auc_score
from tests.test_grid import dataset, values

ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a grid, ``weather.zarr``, and plain arrays, ``flights.zarr``."""
    monkeypatch.chdir(tmp_path)
    ds = (
        dataset(values(), {"time": 1, "lat": 5})
        .rename(t="t2m", u="u10", v="v10")
        .assign_coords(season=[1, 1, 2, 2, 3, 3])
    )
    ds["warm"] = (ds.t2m > 0).astype("f4").where(ds.t2m.notnull())
    ds["north"] = ds.lat > 0
    ds.to_zarr("weather.zarr", consolidated=False)
    X = np.random.default_rng(0).normal(size=(1000, 4))
    group = zarr.open_group("flights.zarr", mode="w")
    group.create_array("X", data=X, chunks=(100, 4))
    group.create_array("late", data=(X[:, 0] + X[:, 1] ** 2 > 1).astype("i8"), chunks=250)
    return tmp_path


def run(*args, code=0):
    """Output of a command, within this process."""
    result = CliRunner().invoke(ml, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


FIT = ("fit", "weather.zarr", "KMeans", "--features", "t2m,u10,v10", "--set", "n_clusters=3", "--set", "random_state=0")


def test_a_grid_is_planned_fitted_scored_and_predicted(here):
    said = run("plan", *FIT[1:], "--memory-limit", "3GiB")
    assert "720 rows x 3 features" in said
    assert "of 3.00 GiB" in said
    assert "Model written to regimes.model" in run(*FIT, "--out", "regimes.model")
    ds = daskml_core.open("weather.zarr")[["t2m", "u10", "v10"]]
    expected = KMeans(3, random_state=0).fit(ds)
    model = daskml_core.load("regimes.model")
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert float(run("score", "weather.zarr", "regimes.model")) == pytest.approx(expected.score(ds), rel=1e-9)
    said = run("predict", "weather.zarr", "regimes.model", "--out", "regimes.zarr", "--fill", "-1")
    assert "label (time 6, lat 10, lon 12) written to regimes.zarr" in said
    assert zarr.open_array("regimes.zarr", path="label", mode="r").dtype == np.int32
    back = daskml_core.open("regimes.zarr").label
    xr.testing.assert_equal(back.load(), expected.predict(ds).compute())
    before = {file: file.stat().st_mtime_ns for file in here.glob("regimes.zarr/label/c/**/0")}
    run("predict", "weather.zarr", "regimes.model", "--out", "regimes.zarr", "--fill", "-1")
    assert before == {file: file.stat().st_mtime_ns for file in here.glob("regimes.zarr/label/c/**/0")}


def test_plain_arrays_are_named_and_metrics_are_those_of_the_library(here):
    data = ("--features", "X", "--target", "late")
    run(
        "fit",
        "flights.zarr",
        "daskml_core.linear_model.LogisticRegression",
        *data,
        "--set",
        "C=0.5",
        "--out",
        "late.model",
    )
    group = zarr.open_group("flights.zarr", mode="r")
    model = LogisticRegression(C=0.5).fit(group["X"], group["late"])
    np.testing.assert_array_equal(daskml_core.load("late.model").coef_, model.coef_)
    assert float(run("score", "flights.zarr", "late.model", *data)) == pytest.approx(
        model.score(group["X"], group["late"])
    )
    auc = roc_auc_score(group["late"], model.decision_function(group["X"]))
    assert float(run("score", "flights.zarr", "late.model", *data, "--metric", "roc_auc")) == pytest.approx(auc)
    assert float(run("score", "flights.zarr", "late.model", *data, "--metric", "log_loss")) > 0
    method = ("--method", "predict_proba", "--out", "p.zarr")
    run("predict", "flights.zarr", "late.model", "--features", "X", *method)
    back = daskml_core.open("p.zarr").probability
    assert back.dims == ("row", "class")
    np.testing.assert_allclose(back, model.predict_proba(group["X"]), rtol=1e-12)
    run("predict", "flights.zarr", "late.model", "--features", "X", *method)  # the same: nothing is done


def test_masks_weights_targets_and_bands_are_variables_of_the_store(here):
    run(
        "fit", "weather.zarr", "LogisticRegression", "--features", "t2m,u10", "--target", "warm", "--weight", "cos_lat",
        "--mask", "north", "--out", "warm.model",
    )  # fmt: skip
    ds = daskml_core.open("weather.zarr")
    X = ds[["t2m", "u10"]].where(ds.lat > 0)
    expected = LogisticRegression().fit(X, ds.warm, sample_weight="cos_lat")
    np.testing.assert_allclose(daskml_core.load("warm.model").coef_, expected.coef_, rtol=1e-9)
    cube = ds[["t2m", "u10"]].drop_encoding().to_dataarray("level").rename("air").chunk(time=2)
    cube.to_dataset().to_zarr("cube.zarr", zarr_format=2, consolidated=False)
    run(
        "fit",
        "cube.zarr",
        "KMeans",
        "--features",
        "air",
        "--feature-dim",
        "level",
        "--set",
        "random_state=0",
        "--out",
        "c.model",
    )
    run("predict", "cube.zarr", "c.model", "--features", "air", "--feature-dim", "level", "--out", "c.zarr")
    assert daskml_core.open("c.zarr").label.dims == ("time", "lat", "lon")


def test_a_model_that_is_there_is_not_replaced_unless_told(here):
    run(*FIT, "--out", "m.model")
    held = Path("m.model").read_bytes()
    assert "nothing to do" in run(*FIT, "--out", "m.model")
    other = (*FIT[:-1], "random_state=1")
    assert "holds another model: KMeans(n_clusters=3, random_state=0)" in run(*other, "--out", "m.model", code=1)
    assert Path("m.model").read_bytes() == held
    run(*other, "--out", "m.model", "--overwrite")
    assert daskml_core.load("m.model").random_state == 1
    Path("notes").write_text("mine")
    assert "is no model of this library" in run(*FIT, "--out", "notes", code=1)


def test_verify_exits_with_one_where_anything_is_wrong(here):
    flights = ("verify", "flights.zarr")
    assert "nothing is wrong" in run(*flights)
    run(*flights, "--save-manifest", "flights.json")
    run(*flights, "--manifest", "flights.json")
    zarr.open_array("flights.zarr", path="late", mode="r+")[5] = 7
    assert "c/0 (rows 0 to 249) differs from the manifest" in run(*flights, "--manifest", "flights.json", code=1)
    assert "has 11 NaN" in run("verify", "weather.zarr", "--config", "missing-chunks=fill", code=1)
    assert "nothing is wrong" in run("verify", "weather.zarr", "--config", "missing-chunks=fill", "--allow-nan")
    (here / "weather.zarr/t2m/c/2/0/0").unlink()
    assert "t2m: c/2/0/0 (rows 2 to 2) is missing" in run("verify", "weather.zarr", "--allow-nan", code=1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("fit", "weather.zarr", "kmeans", "--out", "x"), r"There is no estimator kmeans. Did you mean KMeans?"),
        (("fit", "weather.zarr", "os.system", "--out", "x"), "There is no estimator os.system."),
        (
            ("fit", "weather.zarr", "sklearn.cluster.KMeans", "--out", "x"),
            "There is no estimator sklearn.cluster.KMeans",
        ),
        (("fit", "weather.zarr", "KMeans", "--set", "n_cluster=2", "--out", "x"), "Did you mean n_clusters?"),
        (("fit", "weather.zarr", "KMeans", "--set", "tol=-1", "--out", "x"), "tol"),
        (("fit", "weather.zarr", "KMeans", "--features", "t2", "--out", "x"), "has no t2. Did you mean t2m?"),
        (("fit", "weather.zarr", "KMeans", "--out", "no/x"), "There is no directory"),
        (("fit", "weather.zarr", "LogisticRegression", "--out", "x"), "name it with --target"),
        (("fit", "weather.zarr", "MinMaxScaler", "--weight", "lat", "--out", "x"), "takes no weight"),
        (("fit", "weathr.zarr", "KMeans", "--out", "x"), "Did you mean"),
        (("fit", "flights.zarr", "KMeans", "--out", "x"), "Name the array that holds the features, e.g. --features X"),
        (("fit", "weather.zarr", "KMeans", "--config", "no-such=1", "--out", "x"), "There is no setting no-such"),
        (("predict", "weather.zarr", "weather.model", "--out", "x"), "weather.model"),
        (("predict", "weather.zarr", "junk.model", "--out", "x"), "junk.model"),
        (("plan", "weather.zarr", "StandardScaler"), "makes no plan"),
    ],
    ids=lambda value: "-".join(value[1:5]) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_line_and_exit_code_one(here, args, said):
    Path("junk.model").write_bytes(b"junk")
    output = run(*args, code=1)
    assert output.startswith("Error: ")
    assert said in output
    assert "Traceback" not in output
    assert not Path("x").exists()


def test_a_command_line_that_cannot_be_understood_exits_with_two(here):
    assert "Missing argument" in run("fit", code=2)
    assert "Missing option '--out'" in run(*FIT, code=2)
    assert "is no name=value" in run("predict", "weather.zarr", "m", "--out", "x", "--storage-option", "anon", code=2)
    assert "give one" in run(*FIT, "--out", "x", "--scheduler", "tcp://a:1", "--scheduler-file", "f", code=2)
    for command in ml.commands:
        assert "Usage: " in run(command, "--help")


def test_a_scheduler_is_reached_by_address_and_by_file_and_missed_with_a_word(here):
    expected = KMeans(3, random_state=0).fit(daskml_core.open("weather.zarr")[["t2m", "u10", "v10"]])
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        Path("scheduler.json").write_text(json.dumps(cluster.scheduler.identity()))
        for number, where in enumerate(
            (("--scheduler", cluster.scheduler_address), ("--scheduler-file", "scheduler.json"))
        ):
            said = run(*FIT, *where, "--workers", 2, "--out", f"m{number}", "--config", "unencrypted=allow")
            assert f"On 2 workers of {cluster.scheduler_address}" in said
            np.testing.assert_array_equal(daskml_core.load(f"m{number}").cluster_centers_, expected.cluster_centers_)
        for wait in (0.3, 3, 30):  # a machine that stands still for so long does not even reach the scheduler
            said = run(*FIT, *where, "--workers", 3, "--wait", wait, "--out", "m3", code=1)
            if "No scheduler answers" not in said:
                break
        assert f"has 2 of 3 workers after {wait} s" in said
    assert "There is no file nowhere.json after 0.2 s" in run(
        *FIT, "--scheduler-file", "nowhere.json", "--wait", 0.2, "--out", "x", code=1
    )
    assert "No scheduler answers at tcp://127.0.0.1:9" in run(
        *FIT, "--scheduler", "tcp://127.0.0.1:9", "--wait", 0.5, "--out", "x", code=1
    )


def test_names_are_complete_and_all_metrics_are_there():
    for module, names in ESTIMATORS.items():
        held = importlib.import_module(f"daskml_core.{module}")
        kinds = {n: getattr(held, n) for n in dir(held) if isinstance(getattr(held, n), type) and not n.startswith("_")}
        assert {n for n, k in kinds.items() if k.__module__.startswith(held.__name__) and hasattr(k, "fit")} == set(
            names
        )
    for name in METRICS:
        assert callable(metric(name))
    with pytest.raises(ValueError, match=r"There is no metric accurcy. Did you mean accuracy"):
        metric("accurcy")
    said = run("estimators", "KMeans")
    assert "n_clusters" in said
    assert "8" in said
    assert "SGDClassifier" in run("estimators")


def test_the_commands_of_the_guide_run_as_they_stand(here):
    page = (ROOT / "docs/guide/command_line.md").read_text()
    commands = [
        line[2:] for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S) for line in block.splitlines()
    ]
    assert len(commands) == 12
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        Path("scheduler.json").write_text(json.dumps(cluster.scheduler.identity()))
        for command in commands:
            program, group, *args = shlex.split(command)
            assert (program, group) == ("dask", "ml")
            run(*args, "--config", "unencrypted=allow")


# -- as processes ----------------------------------------------------------------------------------------------------


def process(*args, **settings):
    """A command in a process of its own, not waited for."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "DASK_NUM_WORKERS": "2", "DASK_DASKML_CORE__CHECKPOINT_SWEEPS": "1"}
    env |= settings
    return subprocess.Popen(
        [sys.executable, "-m", "daskml_core", *map(str, args)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_in_the_middle(start, begun, over, how):
    """The process, killed when it had begun, and what it said; one that was over by then is started again."""
    for _ in range(5):
        started = start()
        end = time.monotonic() + 300
        while not begun() and started.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        started.send_signal(how)
        _, said = started.communicate(timeout=300)
        if not over():
            break
    return started, said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_fit_and_a_prediction_that_were_killed_go_on_when_they_are_given_again(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 20))
    group = zarr.open_group("data.zarr", mode="w")
    group.create_array("X", data=X, chunks=(200, 20))
    group.create_array("y", data=(X @ rng.normal(size=20) + rng.normal(size=20_000) > 0).astype("i8"), chunks=5_000)
    fit = (
        "fit", "data.zarr", "LogisticRegression", "--features", "X", "--target", "y", "--set", "solver=gradient_descent",
        "--set", "tol=1e-9", "--set", "max_iter=100", "--out", "m.model", "--checkpoint", "ckpt",
    )  # fmt: skip

    def start_fit():
        Path("m.model").unlink(missing_ok=True)
        return process(*fit, DASK_DASKML_CORE__RESIDENCY="false")

    killed, said = killed_in_the_middle(
        start_fit, lambda: len(list(tmp_path.glob("ckpt/*.sweeps"))) >= 3, Path("m.model").exists, how
    )
    assert killed.returncode == (-9 if how == signal.SIGKILL else 143), said
    assert not Path("m.model").exists()
    assert len(list(tmp_path.glob("ckpt/*.sweeps"))) >= 3
    if how == signal.SIGTERM:
        assert said == "Interrupted. The same command goes on from ckpt.\n"
    said = run(*fit)
    assert "Model written" in said
    assert not list(tmp_path.glob("ckpt/*"))
    opened = zarr.open_group("data.zarr", mode="r")
    whole = LogisticRegression(solver="gradient_descent", tol=1e-9, max_iter=100).fit(opened["X"], opened["y"])
    model = daskml_core.load("m.model")
    np.testing.assert_array_equal(model.coef_, whole.coef_)
    assert model.n_sweeps_ == whole.n_sweeps_

    predict = ("predict", "data.zarr", "m.model", "--features", "X", "--out", "p.zarr")

    def chunks():
        return [file for file in tmp_path.glob("p.zarr/prediction/c/*") if file.name.isdigit()]

    def start_prediction():
        shutil.rmtree("p.zarr", ignore_errors=True)
        return process(*predict)

    killed, said = killed_in_the_middle(
        start_prediction, lambda: len(chunks()) >= 10, lambda: len(chunks()) == 100, how
    )
    assert killed.returncode == (-9 if how == signal.SIGKILL else 143), said
    done = {file: file.stat().st_mtime_ns for file in chunks()}
    assert 10 <= len(done) < 100
    run(*predict)
    same = [file for file, stamp in done.items() if file.stat().st_mtime_ns == stamp]
    assert len(same) >= len(done) - 4  # those that had no mark yet are written again
    np.testing.assert_array_equal(daskml_core.open("p.zarr").prediction, model.predict(X))


def test_dask_knows_the_commands_by_the_entry_point_of_the_project_and_imports_little(tmp_path):
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["dask_cli"]
    (point,) = (importlib.metadata.EntryPoint(name, value, "dask_cli") for name, value in described.items())
    assert point.load() is ml
    info = tmp_path / "daskml_core_here-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daskml_core_here\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[dask_cli]\n" + "\n".join(f"{n} = {v}" for n, v in described.items()))
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    code = "import sys; sys.argv = ['dask', 'ml', '--help']; from dask.cli import run_cli; run_cli()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Models on arrays that do not fit in memory" in done.stdout
    code = (
        "import sys, daskml_core.cli; print(sorted({'numpy', 'dask', 'sklearn', 'xarray', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
