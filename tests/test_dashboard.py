"""The page at /daskml: what it remembers, what a browser shows of a fit that runs, and how it is absent without harm."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskml_core.callback import Callback, DaskEvents
from daskml_core.dashboard import register
from daskml_core.dashboard.log import (
    MOST_FITS,
    MOST_LOST,
    MOST_MODELS,
    MOST_POINTS,
    PAGE_KEY,
    TOPIC,
    FitLog,
    Series,
)
from daskml_core.engine.feed import Feed, as_dict, feed_of_this_fit
from daskml_core.linear_model import LogisticRegression
from daskml_core.model_selection import GridSearchCV
from tests.problems import two_classes

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def message(fit, *events):
    return {"fit": fit, "events": [{"time": float(i), **event} for i, event in enumerate(events)]}


# -- what is remembered --------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded_whatever_is_sent():
    log = FitLog()
    for fit in range(3 * MOST_FITS):
        log.add(message(f"fit {fit}", {"kind": "FitBegan", "estimators": ["A"]}))
    assert list(log.fits) == [f"fit {i}" for i in range(2 * MOST_FITS, 3 * MOST_FITS)]
    last = f"fit {3 * MOST_FITS - 1}"
    for sweep in range(5 * MOST_POINTS):
        step = {"kind": "StepAccepted", "model": sweep % 500, "loss": 1.0 / (sweep + 1), "criterion": 0.1}
        log.add(message(last, {"kind": "SweepEnded", "name": "x" * 10_000, "seconds": 1.0}, step))
        log.add(message(last, {"kind": "WorkerLost", "worker": f"tcp://{sweep}"}))
    record = log.fits[last]
    assert record.n_sweeps == 5 * MOST_POINTS
    for series in (record.sweeps, record.losses, record.criteria, record.running, record.best):
        assert len(series) <= MOST_POINTS
    assert len(record.by_model) == MOST_MODELS and len(record.lost) == MOST_LOST
    assert record.losses.last == (5 * MOST_POINTS, 1.0 / (5 * MOST_POINTS))
    assert len(record.sweeps.last.kernels) <= 300


def test_a_series_that_is_thinned_keeps_its_ends():
    series = Series(10)
    for number in range(1000):
        series.append(number)
    points = list(series)
    assert points[0] == 0 and points[-1] == 999 and points == sorted(points) and len(points) <= 10


@pytest.mark.parametrize(
    "odd",
    [
        None, 3, "text", [], {}, {"fit": 1}, {"events": None}, {"fit": "a", "events": [1, None]},
        {"fit": "a", "events": [{}, {"kind": "add"}, {"kind": 7}, {"kind": "SweepEnded", "seconds": "long"}]},
        {"fit": "a", "events": [{"kind": "FitBegan", "estimators": 7}]},
        {"fit": "a", "events": [{"kind": "StepAccepted", "loss": float("nan"), "criterion": [], "model": {}}]},
        {"fit": "a", "events": [{"kind": "Scored", "score": "best", "params": 3}, {"kind": "DataPlanned", "x": {}}]},
    ],
)  # fmt: skip
def test_messages_that_are_none_do_no_harm(odd):
    from daskml_core.dashboard.plugin import PagePlugin

    plugin = PagePlugin()
    plugin.log = FitLog()
    plugin.log_event(TOPIC, odd)
    plugin.log_event("another topic", {"fit": "b", "events": []})
    plugin.log_event(TOPIC, message("c", {"kind": "FitBegan", "estimators": ["A"]}))
    assert plugin.log.fits["c"].name == "A" and "b" not in plugin.log.fits


def test_the_smallest_loss_and_the_largest_criterion_of_models_in_lockstep_are_shown():
    log = FitLog()
    steps = [
        {"kind": "StepAccepted", "model": m, "loss": loss, "criterion": c, "criterion_name": "gap"}
        for m, (loss, c) in enumerate([(3.0, 0.1), (2.0, 0.3), (4.0, 0.2)])
    ]
    log.add(message("a", {"kind": "ModelsBegan", "n_models": 3}, {"kind": "SweepEnded"}, *steps))
    log.add(message("a", {"kind": "ModelsBegan", "n_models": 1}, {"kind": "SweepEnded"}, steps[0]))
    record = log.fits["a"]
    np.testing.assert_equal(list(record.losses), [(1, 2.0), (1, np.nan), (2, 3.0)])
    assert next(iter(record.criteria)) == (1, 0.3) and len(record.by_model) == 4 and record.loss == 3.0


def test_a_worker_that_two_tell_of_is_lost_once_and_by_fits_that_run_alone():
    log = FitLog()
    log.add(message("over", {"kind": "FitBegan"}, {"kind": "FitEnded", "outcome": "done"}))
    log.add(message("runs", {"kind": "FitBegan"}))
    log.lose("tcp://a")
    log.add(message("runs", {"kind": "WorkerLost", "worker": "tcp://a"}))
    assert log.fits["over"].lost == {} and log.fits["runs"].lost == {"tcp://a": 1}


def test_the_page_escapes_what_it_is_told():
    from daskml_core.dashboard.page import View

    log = FitLog()
    view = View(log)
    view.update()
    assert "No fit has been heard of" in view.head.text
    script = "<script>alert(1)</script>"
    log.add(
        message(
            "a",
            {"kind": "FitBegan", "estimators": [script], "checkpoint": script},
            {"kind": "DataPlanned", "sweep_bytes": 10, "resident_bytes": 5, "n_rows": 3},
            {"kind": "SweepEnded", "name": script, "seconds": 1.0, "bytes_read": 5},
            {"kind": "Scored", "score": 1.0, "metric": script, "params": {script: script}},
            {"kind": "WorkerLost", "worker": script},
            {"kind": "FitEnded", "outcome": script, "reason": script},
        )
    )
    view.update()
    shown = [view.head.text, view.foot.text, *view.sweeps.data["kernels"], *view.best.data["params"]]
    assert all("<script>" not in text for text in shown) and "&lt;script&gt;" in view.head.text
    assert view.search.visible and view.sweeps.data["read"] == [5.0] and view.sweeps.data["resident"] == [5.0]


# -- what is sent --------------------------------------------------------------------------------------------------------


class Scheduler:
    """A client that keeps what it is told to log."""

    status = "running"

    def __init__(self):
        self.messages = []

    def log_event(self, topic, msg):
        self.messages.append((topic, msg))


def test_a_sweep_costs_one_message_however_many_models_take_a_step():
    from daskml_core.engine.events import Watch, watched_by
    from tests.fits import data

    X, y = data()
    client = Scheduler()
    feed = Feed(client)
    counted = []
    with watched_by(Watch([feed, counted.append])):
        GridSearchCV(LogisticRegression(solver="lbfgs"), {"C": np.logspace(-3, 3, 40)}, cv=3).fit(X, y)
    sweeps = sum(type(event).__name__ == "SweepBegan" for event in counted)
    assert len(client.messages) <= sweeps + 1
    steps = [[e["kind"] for e in msg["events"]].count("StepAccepted") for _, msg in client.messages]
    assert max(steps) == 100  # of 120


def test_a_scheduler_that_does_not_answer_ends_no_fit():
    from daskml_core.engine.events import FitBegan, FitEnded

    class Gone(Scheduler):
        def log_event(self, topic, msg):
            self.messages.append(topic)
            raise OSError("the scheduler has gone")

    client = Gone()
    feed = Feed(client)
    feed(FitBegan("a", ("A",)))
    client.status = "closed"
    feed(FitEnded("done", 1.0, 1.0, 0))
    assert client.messages == [TOPIC]


def test_events_are_sent_as_plain_values():
    import msgpack

    from daskml_core.engine import events as e

    told = [
        e.FitBegan("a", ("A", "B"), 0.1, 3.0),
        e.SweepBegan(0, 1, "k", 3, lambda: 0.5),
        e.StepAccepted(0, 1, {"loss": np.float64("nan"), "gap": np.float32(0.5)}),
        e.Scored({"C": np.float64(2.0), "f": len, "t": (np.int64(1), None)}, 0.5, "r2", 1, 2),
    ]
    plain = [as_dict(event) for event in told]
    assert msgpack.unpackb(msgpack.packb(plain)) == plain
    assert "done" not in plain[1] and plain[2]["loss"] is None and plain[2]["criterion"] == 0.5
    assert plain[3]["params"]["C"] == 2.0 and plain[3]["params"]["t"] == [1, None]


def test_what_the_scheduler_loads_is_light():
    code = "import sys, daskml_core.dashboard.plugin, daskml_core.dashboard.page; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "distributed" in loaded and not {"numba", "sklearn", "scipy", "xarray", "zarr", "bokeh"} & set(loaded)


# -- on a cluster --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def problem(delay=0.0):
    X, y = two_classes(n=4000, d=5, dtype=np.float32)

    def late(block):
        time.sleep(delay)
        return block.copy()

    return da.from_array(X, chunks=(500, -1)).map_blocks(late, meta=np.zeros((0, 0), "f4")), y


def test_a_cluster_without_a_page_is_not_told(client):
    assert feed_of_this_fit() is None
    with dask.config.set({"daskml-core.dask-events": "on"}):
        assert isinstance(feed_of_this_fit(), Feed)
    with dask.config.set({"daskml-core.dask-events": "on", "scheduler": "threads"}):
        assert feed_of_this_fit() is None


def test_a_fit_tells_the_scheduler_and_workers_that_are_lost(client):
    X, y = problem()
    killed = []

    class Kills(Callback):
        def on_event(self, fit, event):
            if type(event).__name__ == "StepAccepted" and event.record["n_iter"] == 1:
                address, pid = next(iter(client.run(os.getpid).items()))
                killed.append(address)
                os.kill(pid, signal.SIGKILL)
                while address in client.scheduler_info(n_workers=-1)["workers"]:
                    time.sleep(0.05)

    model = LogisticRegression(solver="lbfgs", tol=1e-3).set_callbacks(Kills(), DaskEvents("mine"))
    with dask.config.set({"daskml-core.dask-events": "off"}):
        model.fit(X, y)
    told = [event for _, message in client.get_events("mine") for event in message["events"]]
    kinds = [event["kind"] for event in told]
    assert kinds[0] == "FitBegan" and kinds[-1] == "FitEnded" and told[-1]["outcome"] == "done"
    assert [e["loss"] for e in told if e["kind"] == "StepAccepted"] == [row["loss"] for row in model.history_]
    assert [e["worker"] for e in told if e["kind"] == "WorkerLost"] == killed
    assert len({message["fit"] for _, message in client.get_events("mine")}) == 1
    client.wait_for_workers(2)


@pytest.fixture(scope="module")
def page(client):
    link = register(client)
    assert link is not None and link.startswith("http://127.0.0.1:") and link.endswith("/daskml")
    assert register(client) == link  # a second time changes nothing
    return link


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium with its chromedriver on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "window-size=1400,1000", f"user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


LOOK = """
const models = Bokeh.documents[0]._all_models; const found = {text: [], losses: [], drawn: 0};
for (const model of models.values()) {
  if (model.type === "Div") found.text.push(model.text);
  if (model.type === "ColumnDataSource" && model.data.loss) found.losses = Array.from(model.data.loss);
}
const canvases = (root) => {
  let n = root.querySelectorAll("canvas").length;
  for (const e of root.querySelectorAll("*")) if (e.shadowRoot) n += canvases(e.shadowRoot);
  return n;
};
found.drawn = canvases(document);
return found;
"""


def looked_at(driver, holds, seconds=300):
    """What the page shows, once it shows what is waited for."""
    stop = time.monotonic() + seconds
    while True:
        found = driver.execute_script("return typeof Bokeh !== 'undefined' && Bokeh.documents.length > 0")
        found = driver.execute_script(LOOK) if found else None
        if found and holds(found):
            return found
        assert time.monotonic() < stop, found
        time.sleep(0.2)


def test_a_browser_shows_the_loss_of_a_fit_that_runs(client, page, browser, tmp_path):
    browser.get(page)
    looked_at(browser, lambda found: "No fit has been heard of yet" in found["text"][0])
    seen = {}

    class Waits(Callback):
        """Holds the fit at its third step until the page has shown the loss of it."""

        def on_event(self, fit, event):
            kind = type(event).__name__
            if kind == "SweepBegan" and event.number == 4 and event.name == "logistic-gradient":
                seen["while running"] = looked_at(browser, lambda found: len(found["losses"]) >= 3)

    # A feed is told before a callback that waits: it is the one that the setting makes, which comes last.
    X, y = problem()
    model = LogisticRegression(solver="lbfgs", tol=1e-3).set_callbacks(DaskEvents(), Waits()).fit(X, y)
    losses = [row["loss"] for row in model.history_]
    running = seen["while running"]
    assert running["losses"] == pytest.approx(losses[:3]) and "running" in running["text"][0]
    assert running["drawn"] >= 4
    done = looked_at(browser, lambda found: "done" in found["text"][0])
    assert done["losses"] == pytest.approx(losses) and f"{losses[-1]:.6g}" in done["text"][0]
    picture = tmp_path / "page.png"
    assert browser.save_screenshot(str(picture)) and picture.stat().st_size > 20_000


def test_fits_tell_of_themselves_where_there_is_a_page(client, page):
    assert client.get_metadata([PAGE_KEY]) is True
    X, y = problem()
    before = len(client.get_events(TOPIC) or ())
    LogisticRegression(solver="lbfgs", tol=1e-2).fit(X, y)
    assert len(client.get_events(TOPIC)) > before
    html = urllib.request.urlopen(page, timeout=120).read().decode()
    assert "<title>daskml_core on Dask</title>" in html and 'href="status"' in html
    # Dask's own pages are still there.
    assert urllib.request.urlopen(page.replace("/daskml", "/status"), timeout=120).status == 200


# -- absent without harm -------------------------------------------------------------------------------------------------


def test_without_a_dashboard_there_is_no_page_and_no_harm():
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        assert register(client) is None and client.get_metadata([PAGE_KEY]) is False
        X, y = problem()
        assert LogisticRegression().fit(X, y).converged_
        assert not client.get_events(TOPIC)


def test_without_bokeh_or_with_another_one_there_is_no_page_and_the_scheduler_lives(monkeypatch, caplog):
    from daskml_core.dashboard import page
    from daskml_core.dashboard.plugin import PagePlugin

    class Bare:
        """A scheduler, as far as a plugin that starts needs one."""

        def __init__(self, **attributes):
            self.metadata = {}
            self.__dict__.update(attributes)

        def set_metadata(self, keys, value):
            self.metadata[keys[0]] = value

    web = type("Web", (), {"applications": []})()
    monkeypatch.setitem(sys.modules, "bokeh.server.tornado", None)
    scheduler = Bare(http_application=web)
    asyncio.run(PagePlugin().start(scheduler))
    assert scheduler.metadata == {PAGE_KEY: False}
    monkeypatch.undo()
    scheduler = Bare()
    asyncio.run(PagePlugin().start(scheduler))
    assert scheduler.metadata == {PAGE_KEY: False}

    def breaks(*args):
        raise AttributeError("another release")

    monkeypatch.setattr(page, "add_page", breaks)
    with caplog.at_level(logging.WARNING, "daskml_core"):
        asyncio.run(PagePlugin().start(scheduler))
    assert scheduler.metadata == {PAGE_KEY: False} and "another release" in caplog.text


def test_a_scheduler_that_preloads_the_page_has_it(tmp_path):
    command = [
        str(Path(sys.executable).parent / "dask"), "scheduler", "--host", "127.0.0.1", "--port", "0",
        "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(tmp_path / "scheduler.json"),
        "--preload", "daskml_core.dashboard",
    ]  # fmt: skip
    with open(tmp_path / "log", "w") as log:
        scheduler = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with Client(scheduler_file=str(tmp_path / "scheduler.json"), timeout=300) as client:
                assert client.get_metadata([PAGE_KEY]) is True
                link = client.dashboard_link.replace("/status", "/daskml")
                assert urllib.request.urlopen(link, timeout=120).status == 200
                with pytest.raises(urllib.error.HTTPError):
                    urllib.request.urlopen(link + "-not", timeout=120)
        finally:
            scheduler.kill()
            scheduler.wait()
