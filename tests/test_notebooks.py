"""Each example is a notebook too: made from the script, whole, and one of them runs (the site's build runs all)."""

import ast
import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("examples", ROOT / "docs" / "_ext" / "examples.py")
assert SPEC is not None
examples = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(examples)


@pytest.mark.parametrize("name", examples.names())
def test_a_script_becomes_a_notebook_that_holds_all_of_it(name):
    import nbformat

    made = examples.notebook(name)
    nbformat.validate(made)
    assert made.cells[0].source.startswith(f"# {examples.title_of(name)}\n")
    code = "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
    script = ast.parse((ROOT / "examples" / f"{name}.py").read_text())
    # All that the script does, in its order, after the two lines about arguments.
    wanted = [ast.dump(node) for node in script.body[1:]]
    assert [ast.dump(node) for node in ast.parse(code).body][-len(wanted) :] == wanted


def test_helpers_of_examples_are_imported_by_one():
    assert {helper for name in examples.names() for helper in examples.helpers(name)} == examples.HELPERS


def test_a_notebook_runs_and_shows_its_picture(tmp_path, monkeypatch):
    name = "colours"
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    made = examples.run(examples.notebook(name), tmp_path)
    (tmp_path / "images").mkdir()
    page = examples.page(made, name, tmp_path / "images")
    assert "![" in page
    assert (tmp_path / "data" / f"{name}.png").exists()
