"""Where a block comes from, in words: for errors that name the chunk."""

from __future__ import annotations

from typing import Any


def source_of(recipe: Any) -> str:
    """The source of a block's rows: the Dask block, or the zarr array and its chunks; empty where they lie in memory.

    Looks through recipes that convert, cut or compute rows of others.
    """
    if recipe is None:
        return ""
    if hasattr(recipe, "keys") and hasattr(recipe, "graph"):
        return "Dask block " + ", ".join(_key(key) for key in recipe.keys)
    if hasattr(recipe, "array") and hasattr(recipe, "stop"):
        array = getattr(recipe.array, "array", recipe.array)  # from under its guard
        axis = 1 if recipe.transposed else 0
        size = int(array.chunks[axis])
        first, last = recipe.start // size, max(recipe.start, recipe.stop - 1) // size
        chunks = f"chunk {first}" if first == last else f"chunks {first} to {last}"
        return f"{chunks} along the rows of zarr array {array.store}/{array.path}"
    for name in ("source", "inputs", "parts"):
        inner = getattr(recipe, name, None)
        if inner is not None:
            found = [source_of(i[0] if name == "parts" else i) for i in (inner if name != "source" else [inner])]
            return ", ".join(dict.fromkeys(part for part in found if part))
    return ""


def _key(key: Any) -> str:
    return f"{key[0]} {tuple(key[1:])}" if isinstance(key, tuple) else str(key)
