"""Progress of a fit, drawn where someone looks: a terminal, a notebook, or a line a minute in a log.

Nothing is drawn by the fit itself: a thread looks at its `Status` now and then. A fit that is over within a second has
shown nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

from daskml_core.engine.events import Event, FitEnded
from daskml_core.engine.settings import setting
from daskml_core.engine.status import Status

DELAY_S = 1.0
"""Fits that are shorter show nothing, unless they are asked to."""

log = logging.getLogger("daskml_core")


class Canvas(Protocol):
    """Where a status is drawn."""

    every_s: float
    """Seconds between two drawings."""

    def draw(self, status: Status) -> None: ...

    def end(self, status: Status) -> None:
        """Draw the last picture, which stays."""
        ...


class Terminal:
    """Two lines at the bottom of a terminal, by rich. Where it is no terminal only the last picture is printed."""

    every_s = 0.2

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self._console = console if console is not None else Console(stderr=True)
        self._live: Any = None

    def draw(self, status: Status) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self.picture(status), refresh=True)

    def end(self, status: Status) -> None:
        if self._live is None:  # no terminal, or over before the first picture
            self._console.print(self.picture(status))
            return
        self._live.update(self.picture(status), refresh=True)
        self._live.stop()
        self._live = None

    @staticmethod
    def picture(status: Status) -> Any:
        """What is drawn."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        first = Table.grid(padding=(0, 1))
        bar = Text("") if status.ended is not None else ProgressBar(100, 100 * status.fraction, width=24)
        share = "" if status.ended is not None else f"{status.fraction:4.0%}"
        marks = {"done": "[green]\u2713[/]", "stopped": "[yellow]\u25a0[/]", "failed": "[red]\u2717[/]"}
        mark = "[cyan]\u25b8[/]" if status.ended is None else marks.get(status.ended.outcome, "[yellow]\u2016[/]")
        first.add_row(mark, Text(status.name, style="bold"), bar, Text(share), Text(status.times(), style="cyan"))
        words = Text("  " + " \u00b7 ".join(status.words()), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(first, words)


class Notebook:
    """A line with a bar below a notebook's cell.

    By IPython's own display, that is updated in place. Not by widgets: their picture is lost where a notebook is
    exported without running it, and is not there at all without ipywidgets.
    """

    every_s = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, status: Status) -> None:
        from IPython.display import HTML, display

        picture = HTML(self.picture(status))
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)

    def end(self, status: Status) -> None:
        self.draw(status)

    @staticmethod
    def picture(status: Status) -> str:
        """What is drawn: colours that stand on light and on dark pages."""
        ended = status.ended
        colours = {"done": "#2e9e5b", "stopped": "#c98a00", "interrupted": "#c98a00", "failed": "#d0433b"}
        colour = "#2f7ed8" if ended is None else colours[ended.outcome]
        share = 100.0 if ended is not None else 100 * status.fraction
        words = " &middot; ".join(escape(word) for word in status.words())
        return (
            "<div style='font: 13px/1.5 system-ui, sans-serif; max-width: 52em; margin: 4px 0'>"
            "<div style='display: flex; gap: 1em; align-items: baseline'>"
            f"<b>{escape(status.name)}</b><span style='color: {colour}'>{escape(status.times())}</span></div>"
            "<div style='height: 6px; border-radius: 3px; background: rgba(128, 128, 128, 0.25); overflow: hidden'>"
            f"<div style='height: 6px; width: {share:.0f}%; background: {colour}'></div></div>"
            f"<div style='opacity: 0.75'>{words}</div></div>"
        )


class Log:
    """A line a minute for the logger ``daskml_core``."""

    every_s = 60.0

    def draw(self, status: Status) -> None:
        log.info("%s: %s; %s", status.name, ", ".join(status.words()), status.times())

    end = draw


_showing = threading.Lock()
"""Held by the one display of this process: two would draw over each other."""


class Display:
    """A listener that shows one fit, from a thread of its own.

    Parameters
    ----------
    canvas : where it is drawn.
    delay_s : how long a fit has to last before it is shown.
    """

    def __init__(self, canvas: Canvas, delay_s: float = DELAY_S) -> None:
        self.status = Status()
        self._canvas, self._delay_s = canvas, delay_s
        self._over = threading.Event()
        self._shown = self._broken = False
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        self.status(event)
        if isinstance(event, FitEnded):
            self._end()
        elif self._thread is None and not self._over.is_set() and _showing.acquire(blocking=False):
            self._thread = threading.Thread(target=self._watch, name="daskml-core-progress", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        wait = self._delay_s
        while not self._over.wait(wait):
            self._shown = True
            self._try(self._canvas.draw)
            wait = self._canvas.every_s

    def _try(self, draw: Callable[[Status], None]) -> None:
        """Draw, and no more after that has failed: no fit ends for the sake of its picture."""
        if self._broken:
            return
        try:
            draw(self.status)
        except Exception:
            self._broken = True
            log.debug("The progress cannot be shown.", exc_info=True)

    def _end(self) -> None:
        self._over.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        _showing.release()
        if self._shown or self._delay_s == 0:
            self._try(self._canvas.end)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # Whoever runs one has imported IPython; nobody else needs to.
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def display_of_this_fit() -> Display | None:
    """The display that a fit has by the setting ``daskml-core.progress``; none where nobody would see it."""
    chosen = setting("progress")
    if chosen == "off" or chosen is False:
        return None
    if chosen == "log":
        return Display(Log(), delay_s=Log.every_s)
    if in_notebook():
        return Display(Notebook())
    return Display(Terminal()) if sys.stderr is not None and sys.stderr.isatty() else None
