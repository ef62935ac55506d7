"""A table of the sweeps of a fit."""

from __future__ import annotations

import math
from typing import Any

from daskml_core.callback._base import Propagated
from daskml_core.engine.events import (
    Event,
    FitBegan,
    FitEnded,
    ModelEnded,
    ModelsBegan,
    StepAccepted,
    SweepEnded,
    WorkerLost,
)
from daskml_core.engine.memory import format_bytes

MOST_RUNS = 100
"""Fits that are remembered; the oldest are forgotten."""

COLUMNS = ("sweep", "kernels", "seconds", "bytes_read", "loss", "criterion", "models", "replayed")


class History(Propagated):
    """A row for each sweep of a fit: what it asked, how long it took, what it read, and the loss that came of it.

    Unlike ``history_`` of an estimator it has all sweeps (those over the targets, for a sample, for the last inertia), and
    is there for searches and pipelines and after a fit that failed.

    Attributes
    ----------
    rows : list of dict
        Of the last fit; ``pandas.DataFrame(history.rows)`` shows it. ``sweep`` counts from 1; ``kernels`` names what was
        asked; ``data`` numbers the data sets of the fit; ``fraction`` is the part of the rows; ``seconds``, ``bytes_read``
        and ``resident_bytes`` are the engine's. ``loss`` and ``criterion`` (gradient, gap, or how far centres moved) are
        those of the step that followed, the smallest loss and the largest criterion where several models took one;
        ``models`` still run. ``replayed`` rows came from a checkpoint. ``workers_lost`` are addresses.
    runs : list of list of dict
        The rows of the last 100 fits.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.callback import History
    >>> from daskml_core.linear_model import LogisticRegression
    >>> X, history = np.arange(-5.0, 5.0)[:, None], History()
    >>> _ = LogisticRegression(solver="lbfgs", tol=1e-2).set_callbacks(history).fit(X, X[:, 0] > 0)
    >>> [(row["sweep"], row["kernels"], row["loss"] and round(row["loss"], 3)) for row in history.rows[:3]]
    [(1, 'count-labels', None), (2, 'logistic-gradient-and-second-moments', 0.673), (3, 'logistic-gradient', 0.289)]
    """

    def __init__(self) -> None:
        self.runs: list[list[dict[str, Any]]] = []
        self._open: dict[str, list[dict[str, Any]]] = {}
        self._models: dict[str, tuple[int, int]] = {}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of the last fit; of none before the first."""
        return self.runs[-1] if self.runs else []

    def on_event(self, fit: str, event: Event) -> None:
        if isinstance(event, FitBegan):
            self._open[fit] = []
            self.runs = [*self.runs, self._open[fit]][-MOST_RUNS:]
            return
        rows = self._open.get(fit)
        if rows is None:
            return
        if isinstance(event, ModelsBegan | ModelEnded):
            self._models[fit] = (event.n_models, event.n_models if isinstance(event, ModelsBegan) else event.running)
        if isinstance(event, SweepEnded):
            rows.append(
                {
                    "sweep": len(rows) + 1, "kernels": event.name, "data": event.data, "fraction": event.fraction,
                    "seconds": event.seconds, "bytes_read": event.bytes_read, "resident_bytes": event.resident_bytes,
                    "loss": None, "criterion": None, "models": self._models.get(fit, (1, 1))[1],
                    "replayed": event.replayed, "workers_lost": [],
                }
            )  # fmt: skip
        elif isinstance(event, StepAccepted) and rows:
            rows[-1]["loss"] = _least(rows[-1]["loss"], event.loss, min)
            rows[-1]["criterion"] = _least(rows[-1]["criterion"], event.criterion, max)
        elif isinstance(event, WorkerLost) and rows:
            rows[-1]["workers_lost"].append(event.worker)
        elif isinstance(event, FitEnded):
            self._open.pop(fit, None)
            self._models.pop(fit, None)

    def _table(self) -> list[list[str]]:
        shown = []
        for row in self.rows:
            cells = [row[name] for name in COLUMNS]
            texts = ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in cells]
            texts[COLUMNS.index("seconds")] = f"{row['seconds']:.3f}"
            texts[COLUMNS.index("bytes_read")] = format_bytes(row["bytes_read"])
            texts[COLUMNS.index("replayed")] = "yes" if row["replayed"] else ""
            shown.append(texts)
        return shown

    def __repr__(self) -> str:
        if not self.rows:
            return "History of no fit"
        table = [list(COLUMNS), *self._table()]
        widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
        left = COLUMNS.index("kernels")
        return "\n".join(
            "  ".join(c.ljust(w) if i == left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in table
        )

    def _repr_html_(self) -> str:
        from html import escape

        if not self.rows:
            return "<p>History of no fit</p>"
        head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self._table())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _least(old: float | None, new: float | None, choose: Any) -> float | None:
    """The smaller (or larger) of two numbers, of which either may be missing."""
    if new is None or not math.isfinite(new):
        return old
    return new if old is None else float(choose(old, new))
