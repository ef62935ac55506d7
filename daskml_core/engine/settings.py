"""Settings, read through ``dask.config`` under ``daskml-core``; the defaults stand in ``daskml_core.yaml``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def _register_defaults() -> None:
    import dask.config
    import yaml

    with open(Path(__file__).parent.parent / "daskml_core.yaml") as file:
        defaults = yaml.safe_load(file)
    dask.config.update_defaults(defaults)


def setting(name: str) -> Any:
    """The value of ``daskml-core.<name>``."""
    import dask.config

    _register_defaults()
    return dask.config.get(f"daskml-core.{name}")


def memory_limit_setting() -> int | None:
    """The user's memory limit in bytes, or ``None`` where it is left to the machine."""
    from dask.utils import parse_bytes

    value = setting("memory-limit")
    return None if value is None else int(parse_bytes(value))
