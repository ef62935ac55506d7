"""Checks of single parameters, with messages that say what was given."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def positive(name: str, value: Any) -> float:
    """A finite number above zero."""
    if not _is_real(value) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}.")
    return float(value)


def is_count(value: Any, least: int = 1) -> TypeGuard[int]:
    """Whether a value is a whole number, and not below ``least``; True and False are none.

    >>> is_count(2), is_count(2.0), is_count(True), is_count(0, least=0)
    (True, False, False, True)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def positive_integer(name: str, value: Any) -> int:
    """A whole number above zero."""
    if not is_count(value):
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")
    return str(value)


def non_negative(name: str, value: Any) -> float:
    """A finite number not below zero."""
    if not _is_real(value) or not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a non-negative number, got {value!r}.")
    return float(value)


def unit_interval(name: str, value: Any) -> float:
    """A number between 0 and 1."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}.")
    return float(value)


NUMBERS_TOO = ("average",)
"""Parameters that are True, False or a number; their estimators check them."""


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that merely counts as one of them: "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_flags(estimator: Any) -> None:
    """Refuse parameters that are True or False by default and something else now."""
    for name, parameter in inspect.signature(type(estimator).__init__).parameters.items():
        if isinstance(parameter.default, bool) and name not in NUMBERS_TOO:
            flag(name, getattr(estimator, name))


def random_seed(random_state: Any) -> int:
    """A seed for the per-block generators.

    ``None`` is a fixed seed: a fit that nobody asked to be random gives the same bits each time.
    """
    if random_state is None:
        return 0
    if isinstance(random_state, numbers.Integral):
        if random_state < 0:
            raise ValueError(f"random_state must not be negative, got {random_state}.")
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(np.iinfo(np.int32).max))
    raise ValueError(f"random_state must be an integer, a generator or None, got {random_state!r}.")
