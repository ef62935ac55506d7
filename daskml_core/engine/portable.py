"""Values as JSON and arrays, and back; and a digest of any value. Never pickle: a file must not be able to run code.

What a sweep answers is made of numbers, strings, arrays, tuples, lists and dicts, named tuples and dataclasses of this
package, and, in searches that train anybody's estimators, of those. Classes are looked up in this package alone, or
among those that the caller names: a file cannot bring a class of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from dask.base import tokenize

from daskml_core.sweep import Array

PACKAGE = "daskml_core"


class NotPortable(TypeError):
    """A value that cannot be written as JSON and arrays."""


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def encode(value: Any, arrays: list[Array]) -> Any:
    """The value as JSON; its arrays are appended to ``arrays`` (copied: what was handed out may be written to).

    Raises
    ------
    NotPortable : an object of a kind that is not listed above.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        arrays.append(np.asarray(value))
        return {"scalar": len(arrays) - 1}
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, np.ndarray):
        return _encode_array(value, arrays)
    if type(value) is bytes:  # masks of grids
        arrays.append(np.frombuffer(value, dtype=np.uint8))
        return {"bytes": len(arrays) - 1}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, tuple):
        parts = [encode(part, arrays) for part in value]
        return {"named": _name(type(value)), "parts": parts} if hasattr(value, "_fields") else {"tuple": parts}
    if isinstance(value, list):
        return [encode(part, arrays) for part in value]
    if type(value) is dict:
        return {"dict": [[encode(key, arrays), encode(part, arrays)] for key, part in value.items()]}
    if dataclasses.is_dataclass(value) or hasattr(value, "get_params"):
        if not hasattr(value, "__dict__"):
            raise NotPortable(f"{_name(type(value))} keeps its attributes in slots")
        state = {key: encode(part, arrays) for key, part in vars(value).items()}
        return {"object": _name(type(value)), "state": state}
    raise NotPortable(f"{_name(type(value))} cannot be written without pickle")


def _encode_array(value: Array, arrays: list[Array]) -> Any:
    if type(value) is not np.ndarray or value.dtype.kind == "V":
        raise NotPortable(f"an array of type {type(value).__name__} and dtype {value.dtype}")
    if value.dtype.hasobject:
        return {"objects": [encode(part, arrays) for part in value.ravel().tolist()], "shape": list(value.shape)}
    # The order in memory is kept: products of a transposed array round differently.
    arrays.append(value.copy(order="K") if value.flags.forc else np.ascontiguousarray(value))
    return {"array": len(arrays) - 1}


def decode(value: Any, arrays: Mapping[int, Array] | list[Array], classes: Iterable[type] = ()) -> Any:
    """The value that `encode` was given; ``classes`` are those outside of this package that may appear in it.

    Raises
    ------
    NotPortable : a class that is neither this package's nor among ``classes``.
    """
    known = {_name(cls): cls for cls in classes}

    def walk(value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, list):
            return [walk(part) for part in value]
        ((kind, first), *rest) = value.items()
        match kind:
            case "scalar":
                return arrays[first][()]
            case "int":
                return int(first)
            case "float":
                return float.fromhex(first)
            case "array":
                return arrays[first]
            case "bytes":
                return arrays[first].tobytes()
            case "objects":
                flat = np.empty(len(first), dtype=object)
                flat[:] = [walk(part) for part in first]
                return flat.reshape(rest[0][1])
            case "dtype":
                return np.dtype(first)
            case "tuple":
                return tuple(walk(part) for part in first)
            case "named":
                return _class(first, known, tuple)._make(walk(part) for part in rest[0][1])  # type: ignore[attr-defined]
            case "dict":
                return {walk(key): walk(part) for key, part in first}
            case "object":
                made: Any = object.__new__(_class(first, known, object))
                for key, part in rest[0][1].items():
                    object.__setattr__(made, key, walk(part))
                return made
        raise NotPortable(f"an entry of kind {kind!r}")

    return walk(value)


def _class(name: str, known: Mapping[str, type], base: type) -> type:
    if name in known:
        return known[name]
    module, _, path = name.partition(":")
    if module.split(".")[0] != PACKAGE:
        raise NotPortable(f"the class {name}, which is not this package's")
    cls: Any = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    allowed = isinstance(cls, type) and issubclass(cls, base)
    if not allowed or not (hasattr(cls, "_fields") or dataclasses.is_dataclass(cls) or hasattr(cls, "get_params")):
        raise NotPortable(f"{name}, which is no record")
    return cls


def classes_of(value: Any) -> set[type]:
    """Classes of the objects in a value, through tuples, lists and dicts: those that an answer to it may hold."""
    if isinstance(value, Mapping):
        return set().union(*(classes_of(part) for part in value.values()), set())
    if isinstance(value, tuple | list):
        own = {type(value)} if hasattr(value, "_fields") else set()
        return own.union(*(classes_of(part) for part in value))
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {type(value)}.union(*(classes_of(part) for part in vars(value).values()))
    return set()


def digest(value: Any) -> str:
    """Hex digest of a value: equal values have equal ones, in any process.

    >>> digest({"a": np.arange(3)}) == digest({"a": np.array([0, 1, 2])})
    True
    """
    found = hashlib.blake2b(digest_size=16)
    _feed(found.update, value, 0)
    return found.hexdigest()


def _feed(update: Any, value: Any, depth: int) -> None:
    """Hand everything that a value is made of to a hash, with its kind and length, so that parts cannot run together."""

    def note(kind: str, *parts: Any) -> None:
        update(f"{kind}{len(parts)}:".encode())
        for part in parts:
            _feed(update, part, depth + 1)

    def text(kind: str, raw: bytes) -> None:
        update(f"{kind}{len(raw)}:".encode())
        update(raw)

    if depth > 60:  # an object that holds itself
        text("token", tokenize(value).encode())
    elif value is None or isinstance(value, bool | int | np.dtype):
        text(type(value).__name__, str(value).encode())
    elif isinstance(value, float):
        text("float", value.hex().encode())
    elif isinstance(value, str | bytes):
        text(type(value).__name__, value.encode() if isinstance(value, str) else value)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        note("array", array.dtype.str, *array.shape)
        if array.dtype.hasobject:
            note("objects", *array.ravel().tolist())
        else:
            text("bytes", memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    elif isinstance(value, tuple | list):
        note(type(value).__name__, *value)
    elif isinstance(value, Mapping):
        note("mapping", *(part for item in value.items() for part in item))
    elif isinstance(value, set | frozenset):
        note("set", *sorted(digest(part) for part in value))
    elif isinstance(value, functools.partial):
        note("partial", value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        note("method", value.__self__, value.__func__)
    elif isinstance(value, types.ModuleType):
        text("module", value.__name__.encode())
    elif isinstance(value, type):
        text("class", _name(value).encode())
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        note("function", value.__module__, value.__qualname__, value.__code__, value.__defaults__, cells)
    elif isinstance(value, types.CodeType):
        note("code", value.co_code, value.co_names, *value.co_consts)
    elif hasattr(value, "py_func"):  # compiled by numba
        note("compiled", value.py_func)
    elif hasattr(value, "__dict__") and not callable(value):
        note("object", type(value), *(part for key in sorted(vars(value)) for part in (key, vars(value)[key])))
    elif hasattr(value, "__qualname__"):
        text("name", f"{getattr(value, '__module__', '')}:{value.__qualname__}".encode())
    elif callable(value) and hasattr(value, "__dict__"):
        note("callable", type(value), *(part for key in sorted(vars(value)) for part in (key, vars(value)[key])))
    else:
        text("token", tokenize(value).encode())
