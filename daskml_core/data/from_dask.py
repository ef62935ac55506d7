"""Dask arrays as row-blocks: each block's own part of the graph travels to the span that needs it.

A lazy pipeline whose blocks depend only on their own sources (from_zarr, astype, arithmetic, map_blocks) is culled to one
small graph a block, which runs inside the span task: nothing is materialised anywhere else. A graph in which several
blocks need the same work (a rechunk, a shuffle, a mean of all rows) is persisted first, where the user's Dask runs.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.blocks import BlockedArray, InMemory, Recipe, Values
from daskml_core.data.zarr_in_dask import guard_zarr
from daskml_core.sweep import Array

_reads = contextvars.ContextVar("daskml_core_reads", default=True)


@contextlib.contextmanager
def nothing_read() -> Iterator[None]:
    """While a plan is made: nothing is persisted, and all samples count as complete, as long as none is read."""
    token = _reads.set(False)
    try:
        yield
    finally:
        _reads.reset(token)


def may_read() -> bool:
    """Whether data may be read here; a plan reads none."""
    return _reads.get()


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


class Flattened(NamedTuple):
    """Rows of an array of any number of dimensions: features last, all other dimensions in C order."""

    source: Recipe
    feature_axis: int | None

    @property
    def needs(self) -> tuple[Any, ...]:
        return self.source.needs

    def read(self, values: Values) -> Array:
        block = self.source.read(values)
        if self.feature_axis is None:
            return block.reshape(-1)
        return np.moveaxis(block, self.feature_axis, -1).reshape(-1, block.shape[self.feature_axis])


def _keys_by_row_block(array: Any, feature_axis: int | None) -> list[tuple[Any, ...]]:
    """Keys of the blocks in each run of rows, in C order; several where features are chunked."""
    counts = list(array.numblocks)
    features = 1
    if feature_axis is not None:
        features, counts[feature_axis] = counts[feature_axis], 1
    groups = []
    for place in np.ndindex(*counts):
        at = [list(place) for _ in range(features)]
        if feature_axis is not None:
            for j in range(features):
                at[j][feature_axis] = j
        groups.append(tuple((array.name, *indices) for indices in at))
    return groups


def _rows_by_row_block(array: Any, feature_axis: int | None) -> tuple[int | None, ...]:
    """Rows of each run, in the order of their keys; ``None`` where Dask does not know."""
    chunks = [sizes for axis, sizes in enumerate(array.chunks) if axis != feature_axis]
    sizes = [float(np.prod(sizes)) for sizes in itertools.product(*chunks)]
    return tuple(None if np.isnan(n) else int(n) for n in sizes)


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


def from_dask(array: Any, *, feature_axis: int | None = 1) -> BlockedArray:
    """Row-blocks of a Dask array: one a chunk of its samples, which are all dimensions but ``feature_axis``.

    An array of one dimension has no features; nor has a grid with ``feature_axis=None``, which holds one value a sample.
    """
    import dask
    from dask.core import get_dependencies
    from dask.task_spec import GraphNode
    from distributed import Future, futures_of

    axis = None if array.ndim == 1 else feature_axis
    is_matrix = array.ndim == 1 or (array.ndim == 2 and axis == 1)
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
    groups = _keys_by_row_block(array, axis)
    stop = frozenset(futures)
    needed = [_needed(dependencies, keys, stop) for keys in groups]
    if may_read() and _shares_work(graph, needed, stop):
        return from_dask(array.persist(), feature_axis=feature_axis)
    recipes: list[Recipe] = []
    for keys, inside in zip(groups, needed, strict=True):
        needs = tuple(key for key in inside if key in futures)
        own = {key: graph[key] for key in inside if key not in futures}
        rows = _held(own, keys)
        recipe: Recipe = (
            InMemory(rows) if rows is not None else DaskBlocks(own, keys, needs, 0 if axis is None else axis)
        )
        recipes.append(recipe if is_matrix else Flattened(recipe, axis))
    lengths = _rows_by_row_block(array, axis)
    trailing = () if axis is None else (int(array.shape[axis]),)
    longest = max((length or 0 for length in lengths), default=0)
    block = longest * int(np.prod(trailing, dtype=np.int64)) * array.dtype.itemsize
    held = all(isinstance(r.source if isinstance(r, Flattened) else r, InMemory) for r in recipes)
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
