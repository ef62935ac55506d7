"""The project's own files agree with each other, and with what the package imports."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(requirements):
    """Version bound by name of package, without extras."""
    parts = [re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", line) for line in requirements]
    return {part[1]: part[2] for part in parts}


def test_the_conda_environment_holds_what_tests_and_examples_need():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    from_pip = next(line["pip"] for line in lines if isinstance(line, dict))
    conda = bounds([line for line in [*lines, *from_pip] if isinstance(line, str) and not line.startswith("-")])
    assert conda["python"] == PROJECT["requires-python"]
    extras = PROJECT["optional-dependencies"]
    for name, bound in bounds([*PROJECT["dependencies"], *extras["test"], *extras["examples"]]).items():
        assert conda.get(name) == bound, name


def test_every_import_of_the_package_is_a_declared_dependency():
    names = {"yaml": "pyyaml", "sklearn": "scikit-learn", "IPython": "ipykernel"}
    names |= {"jinja2": "bokeh", "tornado": "bokeh"}  # parts of its interface
    code = "\n".join(path.read_text() for path in (ROOT / "daskml_core").rglob("*.py"))
    required = set(bounds(PROJECT["dependencies"]))
    # What only a function imports may come with an extra.
    extras = {
        n
        for extra in ("dashboard", "examples", "export", "notebook", "remote")
        for n in bounds(PROJECT["optional-dependencies"][extra])
    }
    for indent, allowed in (("", required), (" +", required | extras)):
        pairs = re.findall(rf"^{indent}(?:from (\w+)[\w.]* import|import (\w+))", code, re.M)
        found = {name for pair in pairs for name in pair if name and name not in sys.stdlib_module_names}
        assert {names.get(name, name) for name in found} - {"daskml_core"} <= allowed


def test_what_a_session_may_not_need_is_not_imported():
    code = "import sys, daskml_core.linear_model as m; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sklearn" in loaded
    assert not {"xarray", "zarr", "distributed", "dask.array", "dask.dataframe", "matplotlib", "bokeh"} & set(loaded)
