"""A zarr store to try the recipes on: ``python make_store.py STORE [ROWS]``."""

from __future__ import annotations

import sys

import numpy as np
import zarr

CHUNK, FEATURES = 50_000, 20


def main(path: str, n_rows: int = 4_000_000) -> None:
    """Write arrays ``X`` (n_rows, 20) float32 and ``y`` (n_rows,) of 0 and 1, block by block."""
    truth = np.linspace(-1, 1, FEATURES)
    store = zarr.open_group(path, mode="w")
    # What is missing must not be read as zeros: every chunk is written, with a checksum.
    options = {"compressors": zarr.codecs.ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
    X = store.create_array("X", shape=(n_rows, FEATURES), chunks=(CHUNK, FEATURES), dtype="f4", **options)
    y = store.create_array("y", shape=(n_rows,), chunks=(CHUNK,), dtype="i1", **options)
    for start in range(0, n_rows, CHUNK):
        rng = np.random.default_rng([0, start])
        block = rng.normal(size=(min(CHUNK, n_rows - start), FEATURES))
        X[start : start + CHUNK] = block
        y[start : start + CHUNK] = block @ truth + rng.logistic(size=len(block)) > 0


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
