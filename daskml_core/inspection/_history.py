"""The picture of a fit's history: loss, inertia or gap over sweeps, iterations or seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from daskml_core.drawing import axes_for, palette
from daskml_core.sweep import Array

MEASURES = ("loss", "inertia", "inertia_per_row", "gap", "grad_norm")
"""What is drawn by default: the first that the history has."""

AXES = ("sweeps", "n_iter", "n_rounds", "seconds")

GROUPS = ("class", "problem")
"""Columns that tell several solvers of one fit apart."""

WORDS = {
    "sweeps": "sweeps over the data", "n_iter": "iterations", "n_rounds": "rounds", "seconds": "seconds",
    "bytes_read": "bytes read", "loss": "loss", "inertia": "inertia", "inertia_per_row": "inertia a row",
    "gap": "relative duality gap", "grad_norm": "largest gradient entry", "center_shift": "shift of the centres",
}  # fmt: skip


class HistoryDisplay:
    """How a fit went: a measure over what it cost, from ``history_``.

    Parameters
    ----------
    x, y : dict of name to ndarray
        A curve each.
    x_name, y_name : str
        Columns of the history.

    Attributes
    ----------
    ax_, figure_ : of matplotlib, after `plot`.
    lines_ : list of artists, one a curve.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.inspection import HistoryDisplay
    >>> from daskml_core.linear_model import LogisticRegression
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> model = LogisticRegression(solver="lbfgs").fit(X, X[:, 0] > 0)
    >>> display = HistoryDisplay.from_estimator(model, plot=False)
    >>> display.x_name, display.y_name, list(display.y)
    ('sweeps', 'loss', ['LogisticRegression'])
    """

    def __init__(self, x: Mapping[str, Array], y: Mapping[str, Array], *, x_name: str, y_name: str) -> None:
        self.x = x
        self.y = y
        self.x_name = x_name
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, x: str | None = None, y: str | None = None, name: str | None = None, plot: bool = True,
        **drawing: Any,
    ) -> Self:  # fmt: skip
        """The history of a fitted estimator; nothing is read.

        Parameters
        ----------
        estimator : fitted, with ``history_``; of a pipeline the last step that has one, of a search its best estimator.
        x : column, optional
            ``"sweeps"``, ``"n_iter"``, ``"seconds"``, ``"bytes_read"``; sweeps by default, or iterations where all were made
            on rows that one sweep brought.
        y : column, optional
            Loss, inertia or gap by default, whichever there is.
        name : str, optional
            In the legend; the estimator's class by default.
        plot : bool, default=True
        **drawing : of `plot`.
        """
        found = _with_history(estimator)
        if found is None:
            raise ValueError(f"{type(estimator).__name__} has no history_: it is not fitted, or has no iterations.")
        name = type(found).__name__ if name is None else name
        return cls.from_history(found.history_, x=x, y=y, name=name, plot=plot, **drawing)

    @classmethod
    def from_history(
        cls,
        history: Sequence[Mapping[str, Any]],
        *,
        x: str | None = None,
        y: str | None = None,
        name: str = "fit",
        plot: bool = True,
        **drawing: Any,
    ) -> Self:
        """The display of rows such as those of ``history_``; parameters as in `from_estimator`."""
        if not history:
            raise ValueError("The history is empty.")
        columns = list(history[0])
        if y is None:
            y = next((c for c in MEASURES if c in columns and np.isfinite([row[c] for row in history]).any()), None)
        if x is None:
            x = next((c for c in AXES if len({row.get(c) for row in history}) > 1), "sweeps")
        if x not in columns or y is None or y not in columns:
            missing = y if x in columns else x
            raise ValueError(f"The history has no column {missing!r}; it has {columns}.")
        group = next((c for c in GROUPS if c in columns and len({str(row[c]) for row in history}) > 1), None)
        xs: dict[str, list[float]] = {}
        ys: dict[str, list[float]] = {}
        for row in history:
            curve = name if group is None else f"{group} {row[group]}"
            xs.setdefault(curve, []).append(float(row[x]))
            ys.setdefault(curve, []).append(float(row[y]))
        display = cls(
            {key: np.array(value) for key, value in xs.items()},
            {key: np.array(value) for key, value in ys.items()},
            x_name=x,
            y_name=y,
        )
        return display.plot(**drawing) if plot else display

    def plot(
        self,
        ax: Any = None,
        *,
        excess: bool = False,
        log: bool | None = None,
        colors: Any = None,
        title: str | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a line a curve. Several displays may share one ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        excess : bool, default=False
            Draw what lies above each curve's lowest value, relatively: how fast a fit converged. The lowest is left out.
        log : bool, optional
            Logarithmic y axis; by default where the values are positive and span more than a factor of 100.
        colors : list or name of a colour map, optional
        line_kw : dict, optional

        Returns self, with the artists as attributes.
        """
        ax = axes_for(type(self).__name__, ax)
        curves = {}
        for key, y in self.y.items():
            y = np.asarray(y, dtype=np.float64)
            if excess:
                lowest = np.nanmin(y)
                y = (y - lowest) / max(abs(lowest), np.finfo(float).tiny)
                y = np.where(y > 0, y, np.nan)
            curves[key] = y
        # Colours follow those that are on the axes already, so that displays can share them.
        drawn = len(ax.get_lines())
        shades = palette(drawn + len(curves), colors)[drawn:]
        style = {"marker": "o", "markersize": 3.5, "linewidth": 1.4} | (line_kw or {})
        self.lines_ = []
        for (key, y), shade in zip(curves.items(), shades, strict=True):
            self.lines_ += ax.plot(self.x[key], y, **({"color": shade, "label": key} | style))
        values = np.concatenate([y[np.isfinite(y)] for y in curves.values()])
        if log is None:
            log = excess or bool(values.size and values.min() > 0 and values.max() > 100 * values.min())
        if log:
            ax.set_yscale("log")
        label = WORDS.get(self.y_name, self.y_name)
        ax.set(xlabel=WORDS.get(self.x_name, self.x_name), ylabel=f"{label} above its lowest" if excess else label)
        if self.x_name in ("sweeps", "n_iter", "n_rounds"):
            from matplotlib.ticker import MaxNLocator

            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title is not None:
            ax.set_title(title)
        if len(ax.get_lines()) <= 10:
            ax.legend(fontsize="small", framealpha=0.9)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _with_history(estimator: Any) -> Any:
    """The estimator, or the part of it, that has a history."""
    if hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    return next((step for step in reversed(steps) if getattr(step, "history_", None)), None)
