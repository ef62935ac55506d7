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

POINTS = 12
_drawn: dict[tuple[str, float], str] = {}


def svg(source: str, points: float = POINTS) -> str:
    """An ``<svg>`` element of one line of mathtext, its baseline on the text's."""
    if (source, points) not in _drawn:
        picture = StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "mathtext", "mathtext.fontset": "stix", "svg.fonttype": "path"}):
            depth = math_to_image(
                f"${source}$", picture, prop=FontProperties(size=points), dpi=72, format="svg", color="#010203"
            )
        drawn = picture.getvalue()
        drawn = drawn[drawn.index("<svg") :]
        drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.S)
        # The background is a rectangle over the whole figure: transparent, the page's own shows.
        drawn = re.sub(r'<g id="patch_1">.*?</g>', "", drawn, count=1, flags=re.S).replace("#010203", "currentColor")
        # Glyphs are defined once a picture; many pictures on one page need names of their own.
        prefix = f"m{len(_drawn)}-"
        drawn = re.sub(r'id="', f'id="{prefix}', drawn)
        drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", drawn)
        size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', drawn) or re.search(
            r'height="([\d.]+)pt".*?width="([\d.]+)pt"', drawn, re.S
        )
        assert size is not None, drawn[:300]
        ems = f"{depth / points:.3f}em"
        drawn = re.sub(
            r' (width|height)="([\d.]+)pt"', lambda m: f' {m[1]}="{float(m[2]) / points:.3f}em"', drawn, count=2
        )
        title = f"<title>{html.escape(source)}</title>"
        drawn = drawn.replace("<svg", f'<svg role="img" class="mathtext" style="vertical-align: -{ems}"', 1)
        _drawn[source, points] = re.sub(r"(<svg[^>]*>)", lambda m: m[1] + title, drawn, count=1)
    return _drawn[source, points]


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
