"""Settings, read through ``dask.config`` under ``daskml-core``; the defaults stand in ``daskml_core.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.config
import yaml

with open(Path(__file__).parent.parent / "daskml_core.yaml") as _file:
    _DEFAULTS: dict[str, Any] = yaml.safe_load(_file)
dask.config.update_defaults(_DEFAULTS)


def setting(name: str) -> Any:
    """The value of ``daskml-core.<name>``."""
    # Leaving a `dask.config.set` that was entered before this module was imported takes the defaults along.
    return dask.config.get(f"daskml-core.{name}", default=_DEFAULTS["daskml-core"][name])


def memory_limit_setting() -> int | None:
    """The user's memory limit in bytes, or ``None`` where it is left to the machine."""
    from dask.utils import parse_bytes

    value = setting("memory-limit")
    return None if value is None else int(parse_bytes(value))
