"""zarr arrays inside of Dask graphs: found, checked where their parts can be told, and read under guard.

`da.from_zarr` and `da.from_array(zarr_array)` put the array into the graph, or into its tasks; there it is replaced by a
`GuardedArray`. `daskml_core.open` puts guarded arrays there itself; `xarray.open_zarr` puts views of its arrays there, one
in another, which are taken off to find them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daskml_core.data.chunks import Selection, hull
from daskml_core.data.guard import GuardedArray, GuardedView, ReadPolicy
from daskml_core.data.kind import package_of
from daskml_core.data.source import Source, inspect

DEEPEST = 12
"""Views within views of xarray that are looked through."""


def _is_zarr(value: Any) -> bool:
    return package_of(value) == "zarr" and hasattr(value, "metadata") and hasattr(value, "chunks")


def _zarr_of(value: Any) -> Any:
    """The zarr array that a value is, or that it is xarray's view of; ``None`` where it is neither."""
    if isinstance(value, GuardedArray):
        return value.array
    if _is_zarr(value):
        return value
    # Views hold what they are of as ``array``; at the bottom lies the wrapper of xarray's backend for zarr.
    for _ in range(DEEPEST):
        module = type(value).__module__
        if not module.startswith("xarray."):
            return None
        if module.endswith(".zarr") and hasattr(value, "get_array"):
            found = value.get_array()
            return found if _is_zarr(found) else None
        value = getattr(value, "array", None)
    return None


def _is_whole(value: Any, array: Any) -> bool:
    """Whether indices of a view are those of the array: it has been cut nowhere."""
    return value is array or tuple(value.shape) == tuple(array.shape)


def guard_zarr(graph: Mapping[Any, Any]) -> tuple[dict[Any, Any], tuple[Source, ...]]:
    """The graph with its zarr arrays under guard, and the arrays as they were checked.

    An array is checked at the parts that tasks select by slices. Where a task uses it in another way, missing chunks are
    found when they are read.

    Raises
    ------
    UntrustedStoreError, MissingChunksError, DamagedChunkError : see `daskml_core.data.source.inspect`.
    """
    if "zarr" not in sys.modules:
        return dict(graph), ()
    parts: dict[int, tuple[Any, list[Selection | None]]] = {}
    found = _held(graph)
    for value in found.values():
        parts.setdefault(id(value), (value, []))
    for node in graph.values():
        for value, selection in _uses(node, found):
            parts.setdefault(id(value), (value, []))[1].append(selection)
    if not parts:
        return dict(graph), ()
    policy = ReadPolicy.from_settings()
    sources: list[Source] = []
    guards: dict[int, GuardedArray] = {}
    for value, selections in parts.values():
        array = _zarr_of(value)
        told: list[Selection | None] = [selection for selection in selections if selection is not None]
        if not _is_whole(value, array):
            told = [None]  # which part of it was cut out is xarray's secret: all of it must be there
        elif value is array or isinstance(value, GuardedArray):
            guards[id(value)] = GuardedArray(array, policy)
        else:
            guards[id(value)] = GuardedView(value, array, policy)
        sources.append(inspect(array, fill=policy.fill, follow_links=policy.follow_links, selections=told))
    return {key: _guarded(node, guards) for key, node in graph.items()}, tuple(sources)


def refuse_incomplete(array: Any) -> None:
    """Refuse a Dask array over a zarr store whose chunks are missing, without reading any.

    Raises
    ------
    UntrustedStoreError, MissingChunksError, DamagedChunkError : see `daskml_core.data.source.inspect`.
    """
    if "zarr" in sys.modules:
        import dask

        # Optimised, as only then its nodes are what `guard_zarr` looks through.
        (array,) = dask.optimize(array)
        guard_zarr(dict(array.__dask_graph__()))


def _held(graph: Mapping[Any, Any]) -> dict[Any, Any]:
    """zarr arrays, and views of them, that are nodes of a graph, by key."""
    from dask.task_spec import DataNode

    values = {key: node.value for key, node in graph.items() if isinstance(node, DataNode)}
    return {key: value for key, value in values.items() if _zarr_of(value) is not None}


def _guarded(node: Any, guards: Mapping[int, GuardedArray]) -> Any:
    """A node with the zarr arrays in it under guard; the node itself where it has none."""
    from dask.task_spec import DataNode, Task

    if id(node) in guards:
        return guards[id(node)]
    if type(node) is DataNode:
        value = _guarded(node.value, guards)
        return node if value is node.value else DataNode(node.key, value)
    if type(node) is Task:
        args = tuple(_guarded(part, guards) for part in node.args)
        same = all(new is old for new, old in zip(args, node.args, strict=True))
        return node if same else Task(node.key, node.func, *args, **node.kwargs)
    if type(node) is dict:
        parts = {key: _guarded(part, guards) for key, part in node.items()}
        return node if all(parts[key] is node[key] for key in node) else parts
    return node


def _uses(node: Any, found: Mapping[Any, Any]) -> Iterator[tuple[Any, Selection | None]]:
    """Arrays that a task, or a task inside of it, takes, with the slices beside them."""
    from dask.task_spec import Task

    if isinstance(node, Task):
        if any(isinstance(part, Mapping) for part in node.args):
            # Not the arguments of a fused task: what it takes is used by the tasks inside of it.
            found = {**found, **_bound(node.args, found)}
        else:
            for array in (_array(part, found) for part in node.args):
                if array is not None:
                    yield array, next((s for s in (_slices(part, found) for part in node.args) if s is not None), None)
        for part in node.args:
            yield from _uses(part, found)
    elif isinstance(node, Mapping):
        inside = {**found, **_held(node)}
        for part in node.values():
            yield from _uses(part, inside)


def _bound(args: Sequence[Any], found: Mapping[Any, Any]) -> dict[Any, Any]:
    """What the tasks inside of a fused task call its arguments: they follow the tuple of those names."""
    for place, names in enumerate(args):
        rest = args[place + 1 :]
        if type(names) is tuple and names and len(names) == len(rest) and all(isinstance(name, str) for name in names):
            return {name: _value(part, found) for name, part in zip(names, rest, strict=True)}
    return {}


def _value(part: Any, found: Mapping[Any, Any]) -> Any:
    """What an argument stands for, where it is data or an array that is known."""
    from dask.task_spec import Alias, DataNode, TaskRef

    if isinstance(part, DataNode):
        return part.value
    if isinstance(part, Alias):
        return found.get(part.target)
    if isinstance(part, TaskRef):
        return found.get(part.key)
    return part


def _array(part: Any, found: Mapping[Any, Any]) -> Any:
    value = _value(part, found)
    return None if _zarr_of(value) is None else value


def _slices(part: Any, found: Mapping[Any, Any]) -> Selection | None:
    value = _value(part, found)
    return hull(value) if isinstance(value, tuple | list) and value else None
