"""The drawings of docs/how_it_works.md: ``python docs/drawings.py`` writes them into docs/images."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path(__file__).parent / "images"
BLOCK, SPAN, ANSWER, QUIET = "#cfe2f3", "#e8eef5", "#f6c177", "#8a94a6"
INK = "#22303f"


def canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    """Axes in tenths of an inch, without a frame."""
    figure = plt.figure(figsize=(width, height), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 10 * width), ylim=(0, 10 * height))
    ax.axis("off")
    return figure, ax


def box(ax: Axes, x: float, y: float, w: float, h: float, text: str = "", colour: str = BLOCK, **options) -> None:
    """A rounded box with its lower left corner at (x, y)."""
    style = "round,pad=0,rounding_size=0.6"
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, facecolor=colour, edgecolor=INK, linewidth=0.8))
    ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", color=INK, **({"fontsize": 9} | options))


def arrow(ax: Axes, a: tuple[float, float], b: tuple[float, float], colour: str = INK, curve: float = 0.0) -> None:
    """From a to b."""
    ax.add_patch(
        FancyArrowPatch(
            a, b, arrowstyle="-|>", mutation_scale=9, linewidth=0.9, color=colour, connectionstyle=f"arc3,rad={curve}"
        )
    )


def note(ax: Axes, x: float, y: float, text: str, **options) -> None:
    """A line of text."""
    ax.text(x, y, text, **({"fontsize": 9, "color": INK, "va": "center"} | options))


def save(figure: plt.Figure, name: str) -> None:
    """As SVG, the same bytes each time."""
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def sweep() -> None:
    """Blocks, spans and the tree."""
    figure, ax = canvas(9, 5.2)
    note(ax, 1, 50, "the store: row-blocks, as they are chunked", weight="bold")
    lefts = [2.5 + 10.4 * i + (2.5 if i > 3 else 0) for i in range(8)]
    for i, x in enumerate(lefts):
        box(ax, x, 43, 9, 4.5, f"block {i}")
    for s, (first, last) in enumerate(((0, 3), (4, 7))):
        x, w = lefts[first] - 1.2, lefts[last] - lefts[first] + 11.4
        box(ax, x, 20.5, w, 19, "", SPAN)
        note(ax, x + 1, 22, f"span {s}: one Dask task", fontsize=8, color=QUIET)
        for i in range(first, last + 1):
            arrow(ax, (lefts[i] + 4.5, 43), (lefts[i] + 4.5, 38.5))
            box(ax, lefts[i] + 0.5, 35, 8, 3.4, "kernel", "white", fontsize=8)
        for pair in range(first, last + 1, 2):
            middle = (lefts[pair] + lefts[pair + 1] + 9) / 2
            for i in (pair, pair + 1):
                arrow(ax, (lefts[i] + 4.5, 35), (middle, 31.2))
            box(ax, middle - 2, 28, 4, 3.2, "+", ANSWER)
        middle = (lefts[first] + lefts[last] + 9) / 2
        for pair in (first, first + 2):
            arrow(ax, ((lefts[pair] + lefts[pair + 1] + 9) / 2, 28), (middle, 25.6))
        box(ax, middle - 2, 22.6, 4, 3, "+", ANSWER)
        arrow(ax, (middle, 22.6), (45, 15.2))
    box(ax, 43, 12, 4, 3.2, "+", ANSWER)
    arrow(ax, (45, 12), (45, 8.2))
    box(ax, 31, 3.5, 28, 4.7, "solver: a step, the next question", "white")
    arrow(ax, (59, 6), (84, 20), QUIET, 0.25)
    note(ax, 63.5, 5, "parameters, one task a sweep", fontsize=8, color=QUIET)
    note(
        ax,
        3,
        14.5,
        "The order of additions is that of the block\nnumbers: spans may be cut elsewhere, the\nbits are the same.",
        fontsize=8,
    )
    save(figure, "sweep")


def residency() -> None:
    """What is read in each sweep where half of the data fits."""
    figure, ax = canvas(9, 3.7)
    note(ax, 1, 35, "a sweep", weight="bold")
    spans = [20 + 11 * i for i in range(6)]
    for i, x in enumerate(spans):
        note(ax, x + 4.5, 35, f"span {i}", ha="center")
    for n, y in enumerate((28, 20.5, 13)):
        note(ax, 1, y + 2.4, f"{n + 1}" + (": first" if n == 0 else ""))
        for i, x in enumerate(spans):
            fresh = n == 0 or i >= 3
            text = ("read, pinned" if i < 3 else "read") if n == 0 else ("in memory" if i < 3 else "read")
            box(ax, x, y, 9.6, 5, text, ANSWER if fresh else BLOCK, fontsize=8)
    note(
        ax, 1, 8,
        "Three of six spans fit. Sweeps are cyclic: a cache that keeps what was used last would throw out each span just\n"
        "before it is needed again, and read all six every time. A fixed set reads three.",
        fontsize=8.5,
    )  # fmt: skip
    box(ax, 1, 1, 3, 2.4, "", ANSWER)
    note(ax, 5, 2.2, "from the store", fontsize=8)
    box(ax, 17, 1, 3, 2.4, "", BLOCK)
    note(ax, 21, 2.2, "decoded, where it was first read", fontsize=8)
    save(figure, "residency")


def lockstep() -> None:
    """Many solvers, one sweep."""
    figure, ax = canvas(9, 3.9)
    heights = (30, 23.5, 17, 6)
    for y, text in zip(
        heights, ("C = 0.01, fold 1", "C = 0.01, fold 2", "C = 0.1, fold 1", "C = 100, fold 5"), strict=True
    ):
        box(ax, 1, y, 17, 5, text, "white")
        arrow(ax, (18, y + 3.2), (29.5, 21.5))
        arrow(ax, (29.5, 18), (18, y + 1.4), QUIET)
    note(ax, 9.5, 13.8, "...", ha="center", weight="bold")
    note(ax, 1, 37.3, "solvers: generators that ask", weight="bold")
    box(ax, 30, 14, 15, 11.5, "driver\n\nstacks what is\nasked alike:\nw becomes W", SPAN, fontsize=8.5)
    arrow(ax, (45, 21.5), (53, 21.5))
    arrow(ax, (53, 18), (45, 18), QUIET)
    note(ax, 31, 11.5, "one sweep asked,", fontsize=8, color=QUIET)
    note(ax, 31, 9.3, "100 answers given", fontsize=8, color=QUIET)
    box(ax, 53.5, 14, 12, 11.5, "engine\n\nspans, tree,\nmemory", SPAN, fontsize=8.5)
    for i, y in enumerate((29, 22, 15, 8)):
        box(ax, 75, y, 13, 5, f"block {i}: X W", BLOCK, fontsize=8.5)
        arrow(ax, (65.5, 20), (75, y + 2.5))
    note(ax, 72, 37.3, "each block read once", weight="bold")
    note(
        ax,
        30,
        3,
        "Matrix times vector becomes matrix times matrix: a hundred models\ncost a few times what one costs.",
        fontsize=8.5,
    )
    save(figure, "lockstep")


def plan() -> None:
    """The terms of the projection, for one example."""
    figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
    terms = [
        ("base", 455, "#d9dee6"),
        ("blocks in flight", 78, "#cfe2f3"),
        ("source and encoded", 52, "#a9cbe8"),
        ("workspace, partials", 20, "#7fb0d8"),
        ("process: sample, joins", 95, "#f6c177"),
        ("resident spans", 260, "#b7d8b0"),
    ]
    left = 0.0
    for name, size, colour in terms:
        ax.barh(0, size, left=left, color=colour, edgecolor=INK, linewidth=0.8, label=name)
        left += size
    ax.axvline(1024, color="#c0392b", linewidth=1.4)
    ax.text(1018, 0.62, "memory-limit", color="#c0392b", ha="right", va="center", fontsize=9)
    ax.set(yticks=[], xlabel="MiB of a process", ylim=(-0.6, 0.85), xlim=(0, 1060))
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    save(figure, "plan")


if __name__ == "__main__":
    for draw in (sweep, residency, lockstep, plan):
        draw()
