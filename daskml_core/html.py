"""Tables for notebooks: everything that is shown is escaped, nothing is loaded from anywhere, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

LEFT = "text-align:left;vertical-align:top;padding:2px 12px 2px 4px"
RIGHT = "text-align:right;padding:2px 12px 2px 4px"
CAPTION = "white-space:nowrap;text-align:left;caption-side:top;font-weight:bold;padding:2px 4px"
FRAME = "border-collapse:collapse;font-size:90%;margin:4px 0"
SHADES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#999999")


def pairs_table(title: str, rows: Sequence[tuple[str, Any]]) -> str:
    """A table of labels and values. A value that is `Markup` is put in as it is.

    >>> "&lt;b&gt;" in pairs_table("a title", [("label", "<b>")])
    True
    """
    cells = "".join(
        f"<tr><th style='{LEFT};white-space:nowrap'>{escape(label)}</th><td style='{LEFT}'>{_shown(value)}</td></tr>"
        for label, value in rows
    )
    return f"<table style='{FRAME}'><caption style='{CAPTION}'>{escape(title)}</caption><tbody>{cells}</tbody></table>"


def records_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, best: int | None = None, note: str = ""
) -> str:
    """A table with a heading a column, the best row in bold, and a note below.

    >>> records_table("t", ["C", "score"], [[0.1, 0.5]], best=0).count("<td")
    2
    """
    head = "".join(f"<th style='{RIGHT}'>{escape(column)}</th>" for column in columns)
    lines = []
    for number, row in enumerate(rows):
        weight = ";font-weight:bold" if number == best else ""
        cells = "".join(f"<td style='{RIGHT}{weight}'>{_shown(value)}</td>" for value in row)
        lines.append(f"<tr>{cells}</tr>")
    foot = f"<div style='{LEFT};font-size:90%'>{escape(note)}</div>" if note else ""
    return (
        f"<div><table style='{FRAME}'><caption style='{CAPTION}'>{escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{foot}</div>"
    )


class Markup(str):
    """Text that is HTML already, made here."""


def _shown(value: Any) -> str:
    """A value as escaped text: numbers to four digits, everything else as it prints, cut at 200 characters."""
    if isinstance(value, Markup):
        return str(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and value.dtype.kind in "fiub":
        value = value.item()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return escape(text if len(text) <= 200 else f"{text[:197]}...")


def stacked_bar(parts: Sequence[tuple[str, int]], limit: int, show: Any) -> Markup:
    """Parts of a whole as one bar as long as the limit, and what each is.

    >>> stacked_bar([("blocks", 30), ("sums", 10)], 100, str).count("width:30.0%")
    1
    """
    total = max(limit, sum(size for _, size in parts), 1)
    pieces, words = [], []
    for (label, size), shade in zip(parts, SHADES, strict=False):
        pieces.append(f"<div style='width:{100 * size / total:.1f}%;background:{shade};height:10px'></div>")
        words.append(
            "<span style='display:inline-block;margin-right:12px;white-space:nowrap'>"
            f"<span style='color:{shade}'>&#9632;</span> {escape(label)} {escape(show(size))}</span>"
        )
    bar = f"<div style='display:flex;width:360px;border:1px solid #888;margin:3px 0'>{''.join(pieces)}</div>"
    return Markup(f"{bar}<div style='max-width:560px'>{''.join(words)}</div>")
