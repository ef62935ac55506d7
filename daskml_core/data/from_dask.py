"""Dask arrays as row-blocks: each block's own part of the graph travels to the span that needs it.

A lazy pipeline whose blocks depend only on their own sources (from_zarr, astype, arithmetic, map_blocks) is culled to one
small graph a block, which runs inside the span task: nothing is materialised anywhere else. A graph in which several
blocks need the same work (a rechunk, a shuffle, a mean of all rows) is persisted first, where the user's Dask runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.blocks import BlockedArray, InMemory, Recipe, Values
from daskml_core.data.zarr_in_dask import guard_zarr
from daskml_core.sweep import Array

PIPELINE_BLOCKS = 2
"""Blocks that a lazy pipeline is taken to hold beside its result: the input of a step, and what it was read from."""


class DaskBlocks(NamedTuple):
    """A row of Dask blocks (several where features are chunked), and the graph that makes them."""

    graph: Mapping[Any, Any]
    keys: tuple[Any, ...]
    needs: tuple[Any, ...]
    """Keys whose results are persisted; the engine hands them over."""
    axis: int = 1

    def read(self, values: Values) -> Array:
        import dask

        have = {key: values[key] for key in self.needs}
        missing = [key for key in self.keys if key not in have]
        if missing:
            graph = {**self.graph, **have}
            have |= dict(zip(missing, dask.get(graph, missing), strict=True))
        parts = [have[key] for key in self.keys]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self.axis)


class Transposed(NamedTuple):
    """Rows of a source whose features come first."""

    source: Recipe

    @property
    def needs(self) -> tuple[Any, ...]:
        return self.source.needs

    def read(self, values: Values) -> Array:
        return self.source.read(values).T


def _keys_by_row_block(array: Any, rows_axis: int) -> list[tuple[Any, ...]]:
    """Keys of the blocks in each run of rows."""
    counts = array.numblocks
    if array.ndim == 1:
        return [((array.name, i),) for i in range(counts[0])]
    others = counts[1 - rows_axis]
    place = (lambda i, j: (i, j)) if rows_axis == 0 else (lambda i, j: (j, i))
    return [tuple((array.name, *place(i, j)) for j in range(others)) for i in range(counts[rows_axis])]


def _needed(dependencies: Mapping[Any, Iterable[Any]], keys: Iterable[Any], stop: frozenset[Any]) -> set[Any]:
    """All keys that ``keys`` depend on, themselves included; nothing behind the keys in ``stop``."""
    seen: set[Any] = set()
    todo = list(keys)
    while todo:
        key = todo.pop()
        if key not in seen:
            seen.add(key)
            if key not in stop:
                todo.extend(dependencies[key])
    return seen


def from_dask(array: Any, *, transposed: bool = False) -> BlockedArray:
    """Row-blocks of a 1-D or 2-D Dask array; with ``transposed`` the rows are its second dimension."""
    import dask
    from dask.core import get_dependencies
    from dask.task_spec import GraphNode
    from distributed import Future, futures_of

    rows_axis = 1 if transposed else 0
    futures = {future.key: future for future in futures_of(array)}
    (array,) = dask.optimize(array)
    # Under a Client, optimising leaves persisted keys out of the graph: the scheduler knows them.
    graph = dict.fromkeys(futures) | dict(array.__dask_graph__())
    # A task that was given a future (a prediction of persisted data, say) names a key that stands in no graph.
    named = {key for node in graph.values() if isinstance(node, GraphNode) for key in node.dependencies}
    elsewhere = named - set(graph)
    futures |= {key: Future(key) for key in elsewhere}
    graph |= dict.fromkeys(elsewhere)
    graph, sources = guard_zarr(graph)
    dependencies = {key: get_dependencies(graph, key) for key in graph}
    groups = _keys_by_row_block(array, rows_axis)
    stop = frozenset(futures)
    needed = [_needed(dependencies, keys, stop) for keys in groups]
    if _shares_work(graph, needed, stop):
        return from_dask(array.persist(), transposed=transposed)
    recipes: list[Recipe] = []
    for keys, inside in zip(groups, needed, strict=True):
        needs = tuple(key for key in inside if key in futures)
        own = {key: graph[key] for key in inside if key not in futures}
        rows = _held(own, keys)
        recipe: Recipe = InMemory(rows) if rows is not None else DaskBlocks(own, keys, needs, 1 - rows_axis)
        recipes.append(Transposed(recipe) if transposed else recipe)
    lengths = tuple(None if np.isnan(n) else int(n) for n in array.chunks[rows_axis])
    trailing = tuple(int(n) for axis, n in enumerate(array.shape) if axis != rows_axis)
    longest = max((length or 0 for length in lengths), default=0)
    block = longest * int(np.prod(trailing, dtype=np.int64)) * array.dtype.itemsize
    held = all(isinstance(r.source if isinstance(r, Transposed) else r, InMemory) for r in recipes)
    persisted = bool(futures) and all(set(keys) <= set(futures) for keys in groups)
    return BlockedArray(
        recipes=tuple(recipes),
        lengths=lengths,
        trailing=trailing,
        dtype=np.dtype(array.dtype),
        in_memory=held or persisted,
        source_bytes=PIPELINE_BLOCKS * block,
        futures=futures,
        sources=sources,
    )


def _held(graph: Mapping[Any, Any], keys: tuple[Any, ...]) -> Array | None:
    """The block itself, where the graph holds it as an array: `from_array` of NumPy, or a local `persist`."""
    from dask.task_spec import DataNode

    if len(keys) != 1:
        return None
    node = graph.get(keys[0])
    value = node.value if isinstance(node, DataNode) else node
    return value if isinstance(value, np.ndarray) else None


def _shares_work(graph: Mapping[Any, Any], needed: list[set[Any]], stop: frozenset[Any]) -> bool:
    """Whether two blocks need the same task. Sharing plain data, such as an opened zarr array, costs nothing."""
    from dask.task_spec import DataNode, GraphNode

    if len(needed) < 2:
        return False
    uses = Counter(key for keys in needed for key in keys)
    for key, count in uses.items():
        if count > 1 and key not in stop:
            node = graph[key]
            is_task = isinstance(node, GraphNode) and not isinstance(node, DataNode)
            if is_task or (not isinstance(node, GraphNode) and type(node) is tuple):
                return True
            value = node.value if isinstance(node, DataNode) else node
            if isinstance(value, np.ndarray) and value.nbytes > 1 << 20:
                return True  # a large array that every block slices would travel with every block
    return False
