"""Equations as inline SVG by matplotlib's mathtext: no LaTeX, no JavaScript, nothing fetched when a page is read.

An equation is drawn in ``currentColor``, so that it follows the theme's light and dark mode, and carries its source as the
picture's title for those who listen to a page.
"""

from __future__ import annotations

import html
import re
from io import StringIO
from typing import Any

import matplotlib
from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from sphinx.application import Sphinx

POINTS = 120
"""Drawn large, because the size of a picture is rounded to whole points, and then given in the text's own units."""
SCALE = 1.22
"""STIX is smaller than the text's letters at the same size."""
_drawn: dict[str, str] = {}


def ems(points: float) -> str:
    """A length in the page's text size."""
    return f"{SCALE * points / POINTS:.3f}em"


def svg(source: str) -> str:
    """An ``<svg>`` element of one line of mathtext, its baseline on the text's."""
    if source not in _drawn:
        picture, font = StringIO(), FontProperties(size=POINTS, math_fontfamily="stix")
        with matplotlib.rc_context({"svg.hashsalt": "mathtext", "svg.fonttype": "path"}):
            depth = math_to_image(f"${source}$", picture, prop=font, dpi=72, format="svg", color="#010203")
        drawn = picture.getvalue()
        drawn = drawn[drawn.index("<svg") :]
        drawn = re.sub(r"<(metadata|style).*?</\1>", "", drawn, flags=re.S)
        # The background is a rectangle over the whole figure: without it the page's own shows.
        drawn = re.sub(r'<g id="patch_1">.*?</g>', "", drawn, count=1, flags=re.S).replace("#010203", "currentColor")
        # Glyphs are defined once a picture; many pictures on one page need names of their own.
        prefix = f"m{len(_drawn)}-"
        drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
        drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", drawn)
        drawn = re.sub(r' (width|height)="([\d.]+)pt"', lambda m: f' {m[1]}="{ems(float(m[2]))}"', drawn, count=2)
        head = f'<svg role="img" class="mathtext" style="vertical-align: -{ems(depth)}"'
        title = f"<title>{html.escape(source)}</title>"
        drawn = re.sub(r"<svg([^>]*)>", lambda m: f"{head}{m[1]}>{title}", drawn, count=1)
        _drawn[source] = re.sub(r"\n\s*", " ", drawn).strip()
    return _drawn[source]


def inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(svg(" ".join(node.astext().split())))
    raise nodes.SkipNode


def display(translator: Any, node: nodes.math_block) -> None:
    r"""One line of the page for each line of the source that ends in ``\\``."""
    lines = [" ".join(line.split()) for line in node.astext().split(r"\\")]
    translator.body.append('<div class="math-display">')
    translator.body += [f"<div>{svg(line)}</div>" for line in lines if line]
    translator.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathtext", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
