"""Stores and model files that are not what they say: the faults of `bad_data` and `bad_models` as rows of the table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.chaos import bad_data, bad_models
from tests.chaos.registry import fault

PROMISED = {
    "a chunk or shard is missing": "refused before the fit, naming chunk and rows",
    "bits of a chunk are flipped": "never read wrong: chunk, rows and block are named",
    "a chunk is cut short": "refused, naming chunk and rows",
    "two chunks are swapped": "`verify(store, manifest)` names both",
    "NaN or infinity in a block": "refused, naming block, row and column",
    "the store changes while it is read": "the fit ends with an error that names the chunk",
    "reads fail for a moment": "tried again, the same bits; then a typed error",
    "metadata is mutated": "a typed error, or the same model, or what the metadata now says; within a second",
    "codecs that run code": "refused before a chunk is opened; no code runs",
    "absurd sizes": "refused before anything is read",
    "links out of the store": "refused, naming the link and where it leads",
}


def _register(name: str, function: Any, promised: str) -> None:
    # The tests of stores do all of these already, some less often.
    @fault(name, promised, tested=False)
    def run(seeds: Any, quick: bool) -> str:
        with tempfile.TemporaryDirectory() as directory:
            return str(function(Path(directory))[1])


for _name, _function in bad_data.FAULTS.items():
    _register(_name, _function, PROMISED[_name])
for _name, _function in bad_models.FAULTS.items():
    _register(_name, _function, "a typed error or the same model; no code runs, within a second and 64 MB")
