"""The examples as notebooks: converted from the scripts in ``examples/``, run, and shown as pages.

A script is the only source of its notebook and of its page. Modules that examples import (``HELPERS``) have neither.

``python docs/_ext/examples.py FOLDER [NAME ...]`` writes notebooks; with ``--run`` it runs them.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupytext
import nbformat

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HELPERS = {"flights", "slow_logistic"}
# Shown as they are written: the first takes long and is `make demo`.
NOT_RUN = {"quickstart"}


def names() -> list[str]:
    """The scripts that become notebooks."""
    return sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in HELPERS)


def notebook(name: str) -> Any:
    """The notebook of a script: its docstring is the first cell, with a title."""
    text = (EXAMPLES / f"{name}.py").read_text()
    first = ast.parse(text).body[0]
    doc = ast.get_docstring(ast.parse(text)) or ""
    rest = "\n".join(text.split("\n")[first.end_lineno :]).strip() + "\n"
    marked = re.search(r"^# %%", rest, re.M) is not None
    made = jupytext.reads(rest, fmt="py:percent" if marked else "py:light")
    title, about = title_of(name), doc.replace("``", "`")
    head = [nbformat.v4.new_markdown_cell(f"# {title}\n\n{about}")]
    if "sys.argv" in text:
        # A kernel has arguments of its own, which are not the script's.
        head.append(
            nbformat.v4.new_code_cell(f'import sys\n\nsys.argv = ["{name}.py"]  # what it writes goes to ./data')
        )
    cells = [cell for cell in made.cells if cell.source.strip()]
    made.cells = head + (cells if marked else joined(cells))
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for i, cell in enumerate(made.cells):
        cell["id"] = f"{name}-{i}"
        cell["metadata"] = {}
    return made


def joined(cells: list[Any]) -> list[Any]:
    """Imports and settings in one cell: in a script without marks each paragraph would be one."""
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    out: list[Any] = []
    last = False
    for cell in cells:
        simple = cell.cell_type == "code" and all(isinstance(node, plain) for node in ast.parse(cell.source).body)
        if simple and last:
            out[-1].source += "\n\n" + cell.source
        else:
            out.append(cell)
        last = simple
    return out


def helpers(name: str) -> list[str]:
    """The modules of ``HELPERS`` that a script imports."""
    text = (EXAMPLES / f"{name}.py").read_text()
    return [helper for helper in sorted(HELPERS) if re.search(rf"^(?:import|from) {helper}\b", text, re.M)]


def title_of(name: str) -> str:
    """What the script's docstring says before its first colon or stop."""
    doc = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or name
    return re.split(r"[:.]\s|[:.]$", doc.split("\n")[0])[0].strip()


def run(made: Any, folder: Path) -> Any:
    """The notebook with its outputs, run in a folder. What writes to stderr fails: examples have no warnings."""
    from nbclient import NotebookClient
    from traitlets.config import Config

    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    with tempfile.TemporaryDirectory() as sockets:
        # Files, not ports: nothing else on the machine can reach the kernel.
        local = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        NotebookClient(made, timeout=300, resources={"metadata": {"path": str(folder)}}, config=local).execute()
    for cell in made.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"The notebook wrote to stderr:\n{output.text}")
    return made


def page(made: Any, name: str, folder: Path) -> str:
    """Markdown of a notebook that was run: code, what it printed, and its pictures, which are written into a folder."""
    parts, pictures = [], 0
    for cell in made.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        if cell.source.startswith("import sys\n\nsys.argv"):
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if output.output_type == "stream":
                parts.append(f":::{{code-block}} text\n:class: output\n\n{output.text.rstrip()}\n:::")
            elif "image/png" in data:
                pictures += 1
                file = folder / f"{name}-{pictures}.png"
                file.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![{title_of(name)}]({file.name})")
            elif "text/plain" in data:
                parts.append(f":::{{code-block}} text\n:class: output\n\n{data['text/plain'].rstrip()}\n:::")
    committed = ROOT / "docs" / "images" / f"{name}.png"
    if not pictures and committed.exists():
        parts.append(f"![{title_of(name)}](../../images/{name}.png)")
    downloads = (
        f"Download {{download}}`the script <../../../examples/{name}.py>` or {{download}}`the notebook <{name}.ipynb>`"
    )
    links = "".join(f", and {{download}}`{h}.py <../../../examples/{h}.py>` to lie beside it" for h in helpers(name))
    return "\n\n".join([*parts, downloads + links + "."]) + "\n"


def write(app: Sphinx, config: Config) -> None:
    """Write notebook and page of every example; what has been run with the same sources is not run again."""
    folder = Path(app.srcdir) / "examples"
    cache = Path(app.srcdir) / "_build" / "examples"
    shutil.rmtree(folder / "generated", ignore_errors=True)
    (folder / "generated").mkdir(parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    sources = b"".join(path.read_bytes() for path in sorted(EXAMPLES.glob("*.py")))
    package = b"".join(path.read_bytes() for path in sorted((ROOT / "daskml_core").rglob("*.py")))
    digest = hashlib.sha256(sources + package + Path(__file__).read_bytes()).hexdigest()[:12]

    def one(name: str) -> None:
        done = cache / f"{name}-{digest}.ipynb"
        if not done.exists():
            options = [] if name in NOT_RUN else ["--run"]
            command = [sys.executable, __file__, *options, str(cache / digest), name]
            found = subprocess.run(command, capture_output=True, text=True)
            if found.returncode:
                raise RuntimeError(f"examples/{name}.py as a notebook:\n{found.stderr[-3000:]}")
            for old in cache.glob(f"{name}-*.ipynb"):
                old.unlink()
            shutil.move(cache / digest / f"{name}.ipynb", done)
        made = nbformat.read(done, as_version=4)
        nbformat.write(notebook(name), folder / "generated" / f"{name}.ipynb")
        (folder / "generated" / f"{name}.md").write_text(page(made, name, folder / "generated"))

    # Those that share a store come one after the other: the first writes it.
    chains: dict[str, list[str]] = {}
    for name in names():
        chains.setdefault(next(iter(helpers(name)), name), []).append(name)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda chain: [one(name) for name in chain], sorted(chains.values(), key=len, reverse=True)))
    shutil.rmtree(cache / digest, ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--run"]
    to = Path(arguments[0])
    to.mkdir(parents=True, exist_ok=True)
    for one_name in arguments[1:] or names():
        as_notebook = notebook(one_name)
        if "--run" in sys.argv:
            as_notebook = run(as_notebook, to)
        nbformat.write(as_notebook, to / f"{one_name}.ipynb")
