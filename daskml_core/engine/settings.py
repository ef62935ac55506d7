"""Settings, read through ``dask.config`` under ``daskml-core``; the defaults stand in ``daskml_core.yaml``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import yaml

from daskml_core.validate import is_count

with open(Path(__file__).parent.parent / "daskml_core.yaml") as _file:
    _DEFAULTS: dict[str, Any] = yaml.safe_load(_file)
dask.config.update_defaults(_DEFAULTS)


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "spans-per-thread": (lambda value: is_count(value, 1), "a whole number above 0"),
    # Groups of any other size are no nodes of the binary tree: the bits would change, and groups of one never end.
    "fan-in": (lambda value: is_count(value, 2) and value & (value - 1) == 0, "a power of two above 1"),
    "read-ahead": (lambda value: is_count(value, 0), "a whole number, 0 or more"),
    "residency": (lambda value: isinstance(value, bool), "true or false"),
    "unencrypted": (lambda value: value in ("warn", "allow"), "'warn' or 'allow'"),
    "missing-chunks": (lambda value: value in ("refuse", "fill"), "'refuse' or 'fill'"),
    "links": (lambda value: value in ("refuse", "follow"), "'refuse' or 'follow'"),
    "read-retries": (lambda value: is_count(value, 0), "a whole number, 0 or more"),
    "keep-decoded": (lambda value: value is None or isinstance(value, str | os.PathLike), "a directory or null"),
    "checkpoint": (lambda value: value is None or isinstance(value, str | os.PathLike), "a directory or null"),
    "checkpoint-seconds": (_is_seconds, "a number of seconds, 0 or more"),
    "checkpoint-sweeps": (lambda value: value is None or is_count(value, 1), "a whole number above 0, or null"),
    # YAML reads on and off as true and false.
    "progress": (lambda value: value in ("auto", "log", "off", False), "'auto', 'log' or 'off'"),
    "dask-events": (lambda value: value in ("auto", "on", "off", True, False), "'auto', 'on' or 'off'"),
    "sweep-timeout": (lambda value: value is None or (_is_seconds(value) and value > 0), "a number of seconds or null"),
}


def setting(name: str) -> Any:
    """The value of ``daskml-core.<name>``.

    Raises
    ------
    ValueError : a value that the setting cannot have; settings that there are not, which would do nothing.
    """
    known = _DEFAULTS["daskml-core"]
    # From environment variables they come with underscores, which Dask takes for the same.
    unknown = sorted({key.replace("_", "-") for key in dask.config.get("daskml-core", default={})} - known.keys())
    if unknown:
        raise ValueError(f"There is no setting daskml-core.{unknown[0]}. There are: {', '.join(known)}.")
    # Leaving a `dask.config.set` that was entered before this module was imported takes the defaults along.
    value = dask.config.get(f"daskml-core.{name}", default=known[name])
    allowed, kind = _ALLOWED.get(name, (lambda value: True, ""))
    if not allowed(value):
        raise ValueError(f"The setting daskml-core.{name} must be {kind}, got {value!r}.")
    return value


def memory_limit_setting() -> int | None:
    """The user's memory limit in bytes, or ``None`` where it is left to the machine."""
    from dask.utils import parse_bytes

    value = setting("memory-limit")
    if value is None:
        return None
    try:
        limit = int(parse_bytes(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"The setting daskml-core.memory-limit is no number of bytes: {value!r}.") from error
    if limit <= 0:
        raise ValueError(f"The setting daskml-core.memory-limit must be above 0, got {value!r}.")
    return limit
