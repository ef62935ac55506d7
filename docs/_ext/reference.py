"""The reference: for each public module a page that lists every name of its ``__all__``, written before Sphinx reads."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

MODULES = [
    "daskml_core",
    "daskml_core.linear_model",
    "daskml_core.cluster",
    "daskml_core.svm",
    "daskml_core.kernel_approximation",
    "daskml_core.preprocessing",
    "daskml_core.pipeline",
    "daskml_core.model_selection",
    "daskml_core.metrics",
    "daskml_core.inspection",
    "daskml_core.callback",
    "daskml_core.dashboard",
    "daskml_core.onnx",
    "daskml_core.optimize",
    "daskml_core.accessor",
    "daskml_core.errors",
    "daskml_core.data",
    "daskml_core.engine",
]
# `load` and `save` are imported from the package itself; the command line has a page of the guide.
ELSEWHERE = {"daskml_core.model_file", "daskml_core.cli"}


def public_names(module: ModuleType) -> list[str]:
    """``__all__``."""
    return sorted(module.__all__, key=str.lower)


def home_of(name: str, module: str) -> str:
    """The module on whose page a name has its entry: pictures are offered beside their family as well."""
    thing = getattr(importlib.import_module(module), name)
    for home in sorted(MODULES, key=lambda m: m != "daskml_core.inspection"):
        if (
            getattr(importlib.import_module(home), name, None) is thing
            and name in importlib.import_module(home).__all__
        ):
            return home
    return module


def page(name: str) -> str:
    """reStructuredText of a module: its docstring, then classes and functions, each with a page of its own."""
    module = importlib.import_module(name)
    elsewhere = {n: home for n in public_names(module) if (home := home_of(n, name)) != name}
    names = [n for n in public_names(module) if n not in elsewhere]
    classes = [n for n in names if inspect.isclass(getattr(module, n))]
    functions = [n for n in names if n not in classes]
    lines = [name, "=" * len(name), "", inspect.getdoc(module) or "", "", f".. currentmodule:: {name}", ""]
    for title, group in (("Classes", classes), ("Functions", functions)):
        if group:
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
            lines += [f"   {n}" for n in group] + [""]
    if elsewhere:
        lines += [".. rubric:: From other modules", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{home}.{n}" for n, home in elsewhere.items()] + [""]
    return "\n".join(lines)


def write(app: Sphinx, config: Config) -> None:
    """Write ``reference/<module>.rst``; files that would not change are left, so that nothing is built twice."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "generated", ignore_errors=True)  # names that are gone would keep their pages
    for name in MODULES:
        path, text = folder / f"{name}.rst", page(name)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Methods that scikit-learn's own base classes document are not documented once more."""
    function = obj.fget if isinstance(obj, property) else obj
    home = getattr(function, "__module__", None)
    if inspect.isroutine(function) and home is not None and not home.startswith("daskml_core"):
        return True
    return None


def keep_underscores(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An entry for each of ``a_, b_ : type``; in reStructuredText ``coef_`` would be a reference to ``coef``."""
    out: list[str] = []
    for line in lines:
        found = re.match(r":(ivar|vartype) ([\w, ]+?):(.*)", line)
        if found is None:
            out.append(line)
            continue
        names = [name.replace("_", r"\_") for name in found[2].split(", ")]
        # What is said stands at the last of them; each has the type.
        said = [found[3] if found[1] == "vartype" or n == names[-1] else "" for n in names]
        out += [f":{found[1]} {n}:{text}" for n, text in zip(names, said, strict=True)]
    lines[:] = out


def name_attributes(app: Sphinx, doctree: Any) -> None:
    """Sphinx heads the compact list of attributes "Variables", and takes their names for links to any class's."""
    from docutils import nodes
    from sphinx.addnodes import pending_xref

    for field in doctree.findall(nodes.field):
        name, body = field.children
        if name.astext() == "Variables":
            name.children = [nodes.Text("Attributes")]
            for link in list(body.findall(pending_xref)):
                if link["reftarget"][:1].islower():
                    link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", write)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", keep_underscores, priority=600)  # after napoleon
    app.connect("doctree-read", name_attributes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
