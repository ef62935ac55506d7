"""Progress: what is foreseen, where it is drawn, and where it is not."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import threading

import dask
import nbclient
import nbformat
import pytest
from rich.console import Console

from daskml_core.engine import progress
from daskml_core.engine.events import (
    DataPlanned,
    FitBegan,
    FitEnded,
    ModelEnded,
    ModelsBegan,
    Scored,
    StepAccepted,
    SweepBegan,
    SweepEnded,
    WorkerLost,
)
from daskml_core.engine.progress import Display, Log, Notebook, Terminal
from daskml_core.engine.status import Status, format_seconds, steps_left
from daskml_core.linear_model import LogisticRegression
from tests.fits import data


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def planned(sweep_bytes=1000, resident_bytes=0, in_memory=False):
    return DataPlanned(0, 100, 10, 10, 10, sweep_bytes, resident_bytes, in_memory, 1, 2)


def swept(status, clock, number, seconds=10.0, bytes_read=1000):
    """A sweep that takes its time."""
    status(SweepBegan(0, number, "gradient", 10, lambda: 0.5))
    clock.now += seconds
    status(SweepEnded(0, number, "gradient", 10, 1.0, bytes_read, seconds, 0))


def test_time_left_follows_what_falls_geometrically():
    clock = Clock()
    status = Status(clock)
    status(FitBegan("a", ("LogisticRegression",), tol=1e-6))
    status(planned())
    status(ModelsBegan(1))
    for n, norm in enumerate([1e-1, 1e-2, 1e-3]):
        swept(status, clock, n + 1)
        status(StepAccepted(0, 1, {"n_iter": n, "loss": 1.0, "grad_norm": norm}))
    assert status.left_s == pytest.approx(30.0)  # three decades at one a sweep of 10 s
    clock.now += 4
    assert status.left_s == pytest.approx(26.0)
    assert "34.0 s, about 26.0 s left" in status.times()
    assert status.words() == ["sweep 3", "loss 1", "gradient 1.0e-03 \u2192 1.0e-06", "100 B/s", "streamed"]


def test_time_left_is_that_of_the_slowest_model_and_no_longer_than_the_iterations_last():
    clock = Clock()
    status = Status(clock)
    status(FitBegan("a", ("KMeans",), max_iter=4))
    status(planned())
    status(ModelsBegan(2))
    for n, shifts in enumerate([(1.0, 1.0), (0.5, 0.1)]):
        swept(status, clock, n + 1)
        for model, shift in enumerate(shifts):
            status(StepAccepted(model, 2, {"n_iter": n + 1, "inertia": 5.0, "center_shift": shift}, target=1e-3))
    assert status.left_s == pytest.approx(20.0)  # 9 steps more of the first, but 2 are left
    status(ModelEnded(0, 1, 2))
    assert status.left_s == pytest.approx(20.0)
    assert "1 of 2 models running" in status.words()


def test_what_does_not_fall_is_not_foreseen():
    assert steps_left([1.0, 1.0], 0.1) is None and steps_left([1.0], 0.1) is None
    assert steps_left([1.0, 2.0], 0.1) is None and steps_left([1.0, float("nan"), 0.5], 0.0) is None
    assert steps_left([1.0, 0.05], 0.1) == 0.0
    status = Status(Clock())
    assert status.left_s is None and status.sweep_left_s is None and status.bytes_per_s is None


def test_a_sweep_that_runs_counts_for_bytes_a_second_and_time_left():
    clock = Clock()
    status = Status(clock)
    status(planned(sweep_bytes=1000, resident_bytes=400))
    status(SweepBegan(0, 1, "sample", 10, lambda: 0.25))
    clock.now = 5.0
    assert status.bytes_per_s == pytest.approx(50.0) and status.sweep_left_s == pytest.approx(15.0)
    assert status.words() == ["sweep 1", "50 B/s", "40% in memory"]
    status(SweepEnded(0, 1, "sample", 10, 1.0, 1000, 20.0, 400))
    status(planned(in_memory=True))
    assert status.words()[-1] == "in memory"


def test_the_end_is_told_with_what_it_was():
    status = Status(Clock())
    status(FitBegan("a", ("GridSearchCV", "Ridge")))
    status(ModelsBegan(6))
    status(Scored({"alpha": 1.0}, 0.75, "r2", 3, 3))
    status(WorkerLost("tcp://a"))
    status(FitEnded("interrupted", 75.0, 2.0, 3 << 20))
    status.bytes_read = 3 << 20
    assert status.name == "GridSearchCV of Ridge" and status.times() == "1:15"
    assert status.words() == ["0 sweeps", "6 models", "best r2 0.75", "3.0 MiB read", "1 worker lost", "interrupted"]
    assert format_seconds(7322) == "2:02:02"


def pictures(status):
    text = io.StringIO()
    Console(file=text, width=100).print(Terminal.picture(status))
    return text.getvalue(), Notebook.picture(status)


def test_names_and_words_are_shown_as_they_are_in_both_pictures():
    status = Status(Clock())
    status(FitBegan("a", ("<Odd>[red]",)))
    status(SweepBegan(0, 1, "x", 1, lambda: 0.5))
    terminal, html = pictures(status)
    assert "<Odd>[red]" in terminal and "50%" in terminal and "&lt;Odd&gt;[red]" in html and "width: 50%" in html
    for outcome, mark in (("done", "\u2713"), ("stopped", "\u25a0"), ("failed", "\u2717"), ("interrupted", "\u2016")):
        status(FitEnded(outcome, 1.0, 1.0, 0))
        terminal, html = pictures(status)
        assert mark in terminal and "width: 100%" in html


class Canvas:
    def __init__(self, fails=False):
        self.drawn, self.fails = [], fails
        self.rounds, self.seen = 0, threading.Event()

    @property
    def every_s(self):
        """Asked for after each round of the thread that draws."""
        self.rounds += 1
        if self.rounds == 3:
            self.seen.set()
        return 0.001

    def draw(self, status):
        self.drawn.append(threading.current_thread().name)
        if self.fails:
            raise OSError("the terminal has gone")

    def end(self, status):
        self.drawn.append("end")


def shown(display, until=None):
    """A fit that lasts until a canvas has been looked after three times."""
    display(FitBegan("a", ("A",)))
    assert until is None or until.seen.wait(120)
    display(FitEnded("done", 1.0, 1.0, 0))


def test_short_fits_show_nothing_and_long_ones_are_drawn_by_another_thread():
    short, long = Canvas(), Canvas()
    shown(Display(short, delay_s=3600.0))
    shown(Display(long, delay_s=0.02), long)
    assert short.drawn == []
    assert len(long.drawn) > 3
    assert set(long.drawn[:-1]) == {"daskml-core-progress"} and long.drawn[-1] == "end"
    assert "daskml-core-progress" not in [thread.name for thread in threading.enumerate()]


def test_a_display_that_fails_is_given_up_and_the_fit_goes_on():
    broken = Canvas(fails=True)
    shown(Display(broken, delay_s=0.01), broken)
    assert len(broken.drawn) == 1


def test_one_fit_is_shown_at_a_time():
    first, second = Canvas(), Canvas()
    one, two = Display(first, delay_s=0.0), Display(second, delay_s=0.0)
    one(FitBegan("a", ("A",)))
    shown(two, first)
    one(FitEnded("done", 1.0, 1.0, 0))
    assert second.drawn == [] and first.drawn[-1] == "end"


def test_the_log_has_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(Log, "every_s", 0.0)
    X, y = data()
    with dask.config.set({"daskml-core.progress": "log"}), caplog.at_level(logging.INFO, "daskml_core"):
        LogisticRegression().fit(X, y)
    last = caplog.records[-1].getMessage()
    assert re.match(r"LogisticRegression: 2 sweeps, loss [\d.e-]+, [\d.]+ KiB read; [\d.]+ s$", last), last


@pytest.mark.parametrize("value", ["loud", None, 3])
def test_the_settings_refuse_what_they_do_not_know(value):
    X, y = data()
    for name in ("progress", "dask-events"):
        with dask.config.set({f"daskml-core.{name}": value}), pytest.raises(ValueError, match=f"daskml-core.{name}"):
            LogisticRegression().fit(X, y)


SLOW = """
import threading, warnings
import dask, dask.array as da, numpy as np
from daskml_core.engine import progress
from daskml_core.linear_model import Ridge
drawn = threading.Event()
for canvas in (progress.Terminal, progress.Notebook):
    def draw(self, status, draw=canvas.draw):
        draw(self, status)
        drawn.set()
    canvas.draw = draw
def slow(block):
    drawn.wait(60)  # a fit that lasts until it is shown
    return block.copy()
X = da.from_array(np.random.default_rng(0).normal(size=(80, 2)), chunks=(10, 2))
S = X.map_blocks(slow, meta=np.zeros((0, 0)))
progress.Display.__init__.__defaults__ = (0.0,)
with dask.config.set({"daskml-core.progress": "off", "scheduler": "synchronous"}):
    Ridge().fit(X, X[:, 0])
print("off", flush=True)
progress.Display.__init__.__defaults__ = (3600.0,)
Ridge().fit(np.ones((4, 1)), np.ones(4))
print("quick", flush=True)
progress.Display.__init__.__defaults__ = (0.05,)
with dask.config.set(scheduler="synchronous"):
    Ridge().fit(S, X[:, 0])
print("slow", flush=True)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("progress") / "slow.py"
    path.write_text(SLOW)
    return path


def test_a_terminal_shows_fits_that_take_long_and_no_others(script):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    child = subprocess.Popen([sys.executable, str(script)], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        text += part
        if not part:
            break
    os.close(ours)
    assert child.wait() == 0, text
    before, _, shown = text.decode().partition("quick\r\n")
    assert before == "off\r\n"
    assert "Ridge" in shown and "\u2713" in shown and "sweep" in shown and "\x1b[" in shown


def test_what_is_no_terminal_stays_quiet(monkeypatch):
    class Tty(io.StringIO):
        def isatty(self):
            return True

    for stream, kind in ((io.StringIO(), None), (None, None), (Tty(), Terminal)):
        monkeypatch.setattr(sys, "stderr", stream)
        found = progress.display_of_this_fit()
        assert found is None if kind is None else isinstance(found._canvas, kind)
        with dask.config.set({"daskml-core.progress": "off"}):
            assert progress.display_of_this_fit() is None


def test_a_notebook_shows_one_line_that_is_kept_in_its_file(script):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(script.read_text())])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
    pictures = [out["data"]["text/html"] for out in notebook.cells[0].outputs if out.output_type == "display_data"]
    assert len(pictures) == 1 and "Ridge" in pictures[0] and "width: 100%" in pictures[0] and "2 sweeps" in pictures[0]


def test_whoever_chose_a_bar_gets_no_second_one(monkeypatch):
    from daskml_core.callback import ProgressBar

    def never():
        raise AssertionError("a second display")

    monkeypatch.setattr(progress, "display_of_this_fit", never)
    X, y = data()
    LogisticRegression().set_callbacks(ProgressBar(Console(file=io.StringIO()))).fit(X, y)
