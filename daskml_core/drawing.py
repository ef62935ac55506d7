"""What the Display classes share: matplotlib when something is drawn and not before, axes, and colours.

matplotlib is imported by functions alone, so that it need not be installed where nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#999999")
"""Okabe and Ito's, which colour-blind readers can tell apart."""

MASKED = "0.85"
"""The grey of what has no value."""


def pyplot(who: str) -> Any:
    """matplotlib's pyplot.

    Raises
    ------
    ImportError : matplotlib is not installed; ``who`` is the class that draws.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{who} draws with matplotlib, which is not installed: pip install matplotlib.") from error
    return plt


def axes_for(who: str, ax: Any, figsize: tuple[float, float] = (5.4, 4.0)) -> Any:
    """The axes that were given, or those of a new figure."""
    plt = pyplot(who)
    if ax is not None:
        return ax
    _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax


def palette(n: int, colors: Sequence[Any] | str | None = None) -> list[Any]:
    """A colour each for ``n`` things that have no order: Okabe and Ito's up to eight, else spread over a colour map.

    Parameters
    ----------
    colors : a list of at least ``n`` colours, or the name of a colour map.
    """
    if colors is None:
        if n <= len(COLORS):
            return list(COLORS[:n])
        colors = "turbo"
    if isinstance(colors, str):
        import matplotlib

        colour_map = matplotlib.colormaps[colors]
        return [colour_map(0.05 + 0.9 * k / max(1, n - 1)) for k in range(n)]
    if len(colors) < n:
        raise ValueError(f"{n} colours are needed, but {len(colors)} are given.")
    return list(colors[:n])
