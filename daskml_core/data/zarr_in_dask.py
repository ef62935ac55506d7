"""zarr arrays inside of Dask graphs: found, checked where their parts can be told, and read under guard.

`da.from_zarr` and `da.from_array(zarr_array)` put the array into the graph as a node of its own; that is replaced by a
`GuardedArray`. What cannot be seen: an array that was put into the tasks themselves (``inline_array=True``) is checked
before the fit but read without guard, and what `xarray.open_zarr` hides in its own wrappers is not found at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from daskml_core.data.chunks import Selection, hull
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.source import Source, inspect


def _is_zarr(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "zarr" and hasattr(value, "metadata") and hasattr(value, "chunks")


def guard_zarr(graph: Mapping[Any, Any]) -> tuple[dict[Any, Any], tuple[Source, ...]]:
    """The graph with its zarr arrays under guard, and the arrays as they were checked.

    An array is checked at the parts that tasks select by slices. Where a task uses it in another way, missing chunks are
    found when they are read.

    Raises
    ------
    UntrustedStoreError, MissingChunksError, DamagedChunkError : see `daskml_core.data.source.inspect`.
    """
    from dask.task_spec import DataNode

    found = {key: node.value for key, node in graph.items() if isinstance(node, DataNode) and _is_zarr(node.value)}
    parts: dict[int, tuple[Any, list[Selection | None]]] = {id(array): (array, []) for array in found.values()}
    for node in graph.values():
        for array, selection in _uses(node, found):
            parts.setdefault(id(array), (array, []))[1].append(selection)
    if not parts:
        return dict(graph), ()
    policy = ReadPolicy.from_settings()
    sources = []
    for array, selections in parts.values():
        told = [selection for selection in selections if selection is not None]
        sources.append(inspect(array, fill=policy.fill, follow_links=policy.follow_links, selections=told))
    guarded = {key: DataNode(key, GuardedArray(array, policy)) for key, array in found.items()}
    return {**graph, **guarded}, tuple(sources)


def _uses(node: Any, found: Mapping[Any, Any]) -> Iterator[tuple[Any, Selection | None]]:
    """Arrays that a task, or a task inside of it, takes, with the slices beside them."""
    from dask.task_spec import Alias, DataNode, GraphNode, Task, TaskRef

    if isinstance(node, Task):
        # Not the arguments of a fused task: what it takes is used by the tasks inside of it.
        arrays = (
            [] if any(isinstance(part, Mapping) for part in node.args) else [_array(part, found) for part in node.args]
        )
        for array in arrays:
            if array is not None:
                selection = next((part for part in map(_slices, node.args) if part is not None), None)
                yield array, selection
        for part in node.args:
            yield from _uses(part, found)
    elif isinstance(node, Mapping):
        for part in node.values():
            yield from _uses(part, found)
    elif isinstance(node, list | tuple) and not isinstance(node, DataNode | Alias | TaskRef | GraphNode):
        for part in node:
            yield from _uses(part, found)


def _array(part: Any, found: Mapping[Any, Any]) -> Any:
    from dask.task_spec import Alias, DataNode, TaskRef

    if isinstance(part, DataNode):
        part = part.value
    if isinstance(part, Alias):
        return found.get(part.target)
    if isinstance(part, TaskRef):
        return found.get(part.key)
    return part if _is_zarr(part) else None


def _slices(part: Any) -> Selection | None:
    from dask.task_spec import DataNode

    if isinstance(part, DataNode):
        part = part.value
    return hull(part) if isinstance(part, tuple | list) and part else None
