"""The progress display, as a callback."""

from __future__ import annotations

from typing import Any

from daskml_core.callback._base import Propagated
from daskml_core.engine.events import Event, FitBegan, FitEnded
from daskml_core.engine.progress import Display, Notebook, Terminal, in_notebook


class ProgressBar(Propagated):
    """Shows how far a fit is: sweeps, loss, bytes a second, time left, and how many models of a search still run.

    What fits of more than a second show in terminals and notebooks anyway (setting ``daskml-core.progress``), but from the
    first moment, and its last picture also where the output is no terminal.

    Parameters
    ----------
    console : `rich.console.Console`, optional
        Where to draw; standard error by default, or the notebook's cell.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from rich.console import Console
    >>> from daskml_core.callback import ProgressBar
    >>> from daskml_core.linear_model import Ridge
    >>> text, X = io.StringIO(), np.arange(20.0).reshape(10, 2)
    >>> model = Ridge().set_callbacks(ProgressBar(Console(file=text))).fit(X, X[:, 0])
    >>> "Ridge" in text.getvalue()
    True
    """

    def __init__(self, console: Any = None) -> None:
        self.console = console
        self._displays: dict[str, Display] = {}

    def on_event(self, fit: str, event: Event) -> None:
        if isinstance(event, FitBegan):
            canvas = Notebook() if self.console is None and in_notebook() else Terminal(self.console)
            self._displays[fit] = Display(canvas, delay_s=0)
        display = self._displays.get(fit)
        if display is not None:
            display(event)
        if isinstance(event, FitEnded):
            self._displays.pop(fit, None)

    def __getstate__(self) -> dict[str, Any]:
        # What is being drawn stays where it is drawn; a console may hold a file.
        return {"console": None, "_displays": {}}
