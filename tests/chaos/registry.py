"""The faults, a row of the table each. A module of faults registers its own by the decorator; `MODULES` names the modules.

A fault is a function of ``(seeds, quick)`` that does the harm once a seed, asserts what is promised, and returns what was
measured in a few words. What breaks a promise is an AssertionError: there is no row for it to hide in.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MODULES = ("workers", "schedulers", "clients", "files", "memory", "stores")
"""In the order of the table. Another module of faults is added by its name here, and nothing else."""


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    promised: str
    run: Callable[[Sequence[int], bool], str]
    seeds: int
    """Times that the harm is done for the table; tests do it once, or twice."""
    group: str
    tested: bool
    """Whether the tests do it too; what takes long even once is done by `make chaos` alone."""


FAULTS: dict[str, Fault] = {}


Function = Callable[..., str]


def fault(name: str, promised: str, *, seeds: int = 1, tested: bool = True) -> Callable[[Function], Function]:
    """Register a function as a fault."""

    def register(function: Function) -> Function:
        assert name not in FAULTS, name
        FAULTS[name] = Fault(name, promised, function, seeds, function.__module__.rpartition(".")[2], tested)
        return function

    return register


@functools.lru_cache(maxsize=1)
def all_faults() -> dict[str, Fault]:
    """Every fault of every module."""
    for module in MODULES:
        importlib.import_module(f"tests.chaos.{module}")
    return FAULTS
