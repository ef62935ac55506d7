"""Every public name says what goes in, what comes out, and shows it; every module of them is a page of the reference."""

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import daskml_core

SPEC = importlib.util.spec_from_file_location("reference", Path(__file__).parents[1] / "docs" / "_ext" / "reference.py")
assert SPEC is not None
# The extension is read without Sphinx, which tests do not need: it imports that in its hooks only.
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)

# Interfaces of one part of the library to another: documented, but not to users' measure.
FOR_CONTRIBUTORS = {"daskml_core.data", "daskml_core.engine"}
FOR_USERS = {"Manifest", "StoreReport", "manifest", "open_zarr", "verify", "Plan"}

PUBLIC = [
    pytest.param(getattr(importlib.import_module(module), name), id=f"{module}.{name}")
    for module in reference.MODULES
    for name in reference.public_names(importlib.import_module(module))
    if module not in FOR_CONTRIBUTORS or name in FOR_USERS
    if name != "ConvergenceWarning"  # scikit-learn's own
]


def sections(obj):
    """Text of each section of a numpydoc docstring, by title; the summary under ``""``."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(obj) or "", flags=re.M)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text):
    """Names that stand at the head of entries: ``a, b : type``."""
    heads = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", text, re.M)
    return {name.strip().strip("*`") for head in heads for name in head.split(",")}


def of_users(function):
    """Names of the parameters that a caller passes."""
    names = {n: p for n, p in inspect.signature(function).parameters.items() if p.default != "deprecated"}
    return [n for n in names if not n.startswith("_") and n not in ("self", "cls", "args", "kwargs")]


def fields(obj):
    """Of a result, which nobody makes but the library: those are its attributes."""
    return [field.name for field in dataclasses.fields(obj)]


def is_error(obj):
    return inspect.isclass(obj) and issubclass(obj, Exception | Warning)


def test_every_public_module_is_a_page_of_the_reference():
    found = {
        f"daskml_core.{m.name}"
        for m in pkgutil.iter_modules(daskml_core.__path__)
        if hasattr(importlib.import_module(f"daskml_core.{m.name}"), "__all__")
    }
    assert found - reference.ELSEWHERE == set(reference.MODULES) - {"daskml_core"}


@pytest.mark.parametrize("module", reference.MODULES)
def test_the_reference_lists_every_public_name_of(module):
    listed = set(re.findall(r"^   (?:~[\w.]+\.)?(\w+)$", reference.page(module), re.M))
    assert listed == set(importlib.import_module(module).__all__)


@pytest.mark.parametrize("obj", PUBLIC)
def test_a_public_name_says_what_it_takes_and_gives_and_shows_it(obj):
    found = sections(obj)
    first = found[""].strip().split("\n\n")[0]
    assert first.endswith((".", "::")), first
    if is_error(obj):
        return
    title, wanted = ("Attributes", fields(obj)) if dataclasses.is_dataclass(obj) else ("Parameters", of_users(obj))
    missing = set(wanted) - documented(found.get(title, ""))
    assert not missing, f"not among the {title}: {sorted(missing)}"
    if inspect.isclass(obj):
        if hasattr(obj, "get_params"):
            assert "Attributes" in found
    elif inspect.signature(obj).return_annotation not in (None, "None"):
        assert "Returns" in found
    assert ">>>" in (inspect.getdoc(obj) or ""), "no example"


@pytest.mark.parametrize("obj", [p for p in PUBLIC if inspect.isclass(p.values[0]) and not is_error(p.values[0])])
def test_each_public_method_has_a_docstring(obj):
    for name, member in inspect.getmembers(obj, inspect.isroutine):
        if not name.startswith("_") and (member.__module__ or "").startswith("daskml_core"):
            assert inspect.getdoc(member), name
