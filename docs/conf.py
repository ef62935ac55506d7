"""The site: Markdown pages, a reference generated from the package, equations drawn without JavaScript.

``make docs`` builds it into ``docs/_build/html``; warnings are errors.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import daskml_core  # noqa: E402

project = "daskml_core"
author = "daskml_core developers"
release = version = daskml_core.__version__
copyright = author

extensions = [
    "myst_parser",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "examples",
    "reference",
    "mathtext",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "**/*.ipynb", "_templates", "_ext"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # docstrings say types, with shapes
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True
add_module_names = False
default_role = "py:obj"
html_math_renderer = "mathtext"

html_theme = "pydata_sphinx_theme"
html_title = "daskml_core"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without siblings: nothing would stand in the column at the left.
ALONE = ("index", "why", "examples/generated/tour", "migrating", "how_it_works", "reliability", "performance", "design")
html_sidebars = {page: [] for page in (*ALONE, "contributing", "changes", "hpc")}
