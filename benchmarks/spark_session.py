"""The session of Spark that the benchmarks share: two threads of this machine, and no server that others could reach."""

from __future__ import annotations

from typing import Any


def spark_session(**settings: str) -> Any:
    """A session with further settings; ``driver_memory="6g"`` stands for ``spark.driver.memory``."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]")
    fixed = {"ui_enabled": "false", "driver_host": "127.0.0.1", "driver_bindAddress": "127.0.0.1"}
    for name, value in (fixed | settings).items():
        builder = builder.config(f"spark.{name.replace('_', '.')}", value)
    return builder.getOrCreate()
