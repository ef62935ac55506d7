"""Values as JSON, and back: plain data, arrays beside it, and the few kinds of objects that a model is made of.

A JSON object is always ``{"@": kind, ...}``; dictionaries are a kind of their own, so that no key of the user's can pass for
a kind. Floats that JSON has no word for are named. Arrays keep dtype, shape and order of memory: the same bits, and the same
products of them.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from daskml_core.errors import ModelFileError
from daskml_core.model_file import members
from daskml_core.sweep import Array

MAX_DEPTH = 40
"""Of values inside of values; a search over pipelines has about ten."""

TABLE_ROWS, MOST_ROWS = 8, 50_000
"""Histories of so many rows become columns; a row that is read back takes a few hundred bytes."""

DTYPE = re.compile(r"[<>|=]?[biufUS]\d{1,9}|[<>|=]?[mM]8\[\d{0,3}[a-zA-Z]{1,2}\]")
DISTRIBUTIONS = ("uniform", "loguniform", "reciprocal", "randint", "norm", "expon", "lognorm", "gamma", "beta")
"""Of scipy.stats: what `RandomizedSearchCV` draws from."""


class Cannot(TypeError):
    """A value that a model file does not hold; the message says why."""


class Encoder:
    """Values become JSON; arrays are collected."""

    def __init__(self) -> None:
        self.arrays: list[bytes] = []

    def encode(self, value: Any, where: str) -> Any:
        """JSON for a value; ``where`` names it in errors.

        Raises
        ------
        Cannot : callables, generators of random numbers, and everything else that is not known.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"@": "float", "value": repr(value)}
        if isinstance(value, np.generic):
            return {"@": "scalar", **self._array(np.asarray(value), where)}
        if isinstance(value, np.ma.MaskedArray):
            mask = np.ma.getmaskarray(value)
            return {"@": "masked", "data": self._ndarray(np.where(mask, _blank(value), value.data), where),
                    "mask": self._ndarray(mask, where)}  # fmt: skip
        if isinstance(value, np.ndarray):
            return self._ndarray(value, where)
        if type(value) is list:
            table = self._table(value, where)
            return table or [self.encode(part, f"{where}[{i}]") for i, part in enumerate(value)]
        if type(value) is tuple:
            return {"@": "tuple", "items": [self.encode(part, f"{where}[{i}]") for i, part in enumerate(value)]}
        if type(value) is range:
            return {"@": "range", "items": [value.start, value.stop, value.step]}
        if isinstance(value, Mapping):
            items = [[self.encode(k, f"a key of {where}"), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()]
            return {"@": "dict", "items": items}
        return self._object(value, where)

    def _object(self, value: Any, where: str) -> Any:
        kind, name = members.name_of(value)
        if kind == "estimator":
            return self.estimator(value, where)
        if kind == "record":
            fields = {
                field: self.encode(getattr(value, field), f"{where}.{field}") for field in members.fields_of(name)
            }
            return {"@": "record", "class": name, "fields": fields}
        if kind == "splitter":
            parameters = [p for p in inspect.signature(type(value)).parameters if hasattr(value, p)]
            fields = {p: self.encode(getattr(value, p), f"{where}.{p}") for p in parameters}
            return {"@": "splitter", "class": name, "fields": fields}
        if hasattr(value, "dist") and getattr(value.dist, "name", None) in DISTRIBUTIONS:
            return {"@": "distribution", "name": value.dist.name, "args": self.encode(tuple(value.args), where),
                    "kwds": self.encode(dict(value.kwds), where)}  # fmt: skip
        if callable(value):
            raise Cannot(
                f"{where} is a callable ({getattr(value, '__name__', type(value).__name__)}), and code is not saved"
            )
        if isinstance(value, np.random.RandomState | np.random.Generator):
            raise Cannot(f"{where} is a generator of random numbers; pass an integer instead")
        raise Cannot(f"{where} is a {type(value).__module__}.{type(value).__name__}, which a model file does not hold")

    def estimator(self, model: Any, where: str) -> dict[str, Any]:
        """An estimator: its class, parameters and fitted attributes."""
        name = members.name_of(model)[1]
        params = {k: self.encode(v, f"{where}.{k}") for k, v in sorted(model.get_params(deep=False).items())}
        state = {k: self.encode(v, f"{where}.{k}") for k, v in members.state_of(model, name).items()}
        return {"@": "estimator", "class": name, "params": params, "state": state}

    def _ndarray(self, a: Array, where: str) -> dict[str, Any]:
        if a.dtype.kind == "O":
            flat = a.reshape(-1).tolist()
            if flat and all(type(part) is str for part in flat):
                return {"@": "text", "shape": list(a.shape), **self._text(flat)}
            return {
                "@": "objects",
                "shape": list(a.shape),
                "items": [self.encode(p, f"a value of {where}") for p in flat],
            }
        return {"@": "array", **self._array(a, where)}

    def _array(self, a: Array, where: str) -> dict[str, Any]:
        if not DTYPE.fullmatch(a.dtype.str):
            raise Cannot(f"{where} has dtype {a.dtype}")
        order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
        self.arrays.append(a.tobytes(order=order))  # type: ignore[arg-type]
        return {"dtype": a.dtype.str, "shape": list(a.shape), "order": order, "data": len(self.arrays) - 1}

    def _text(self, parts: Sequence[str]) -> dict[str, Any]:
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        self.arrays += [np.array([len(part) for part in encoded], dtype="<i8").tobytes(), b"".join(encoded)]
        return {"lengths": len(self.arrays) - 2, "data": len(self.arrays) - 1}

    def _table(self, rows: list[Any], where: str) -> dict[str, Any] | None:
        """A history as columns, where all rows have the same fields of numbers."""
        if not TABLE_ROWS <= len(rows) <= MOST_ROWS or not all(type(row) is dict for row in rows):
            return None
        names = list(rows[0])
        columns = {}
        for name in names:
            kinds = {type(row.get(name)) for row in rows}
            if kinds not in ({int}, {float}, {bool}) or any(list(row) != names for row in rows):
                return None
            column = np.array([row[name] for row in rows])
            if column.dtype.kind not in "ifb":
                return None
            columns[str(name)] = self._ndarray(column, where)
        return {"@": "table", "columns": columns} if all(type(name) is str for name in names) else None


def _blank(value: Any) -> Any:
    return None if value.dtype.kind == "O" else np.zeros((), dtype=value.dtype)


class Source(Protocol):
    """Where arrays' bytes come from."""

    def size(self, number: int) -> int: ...
    def array(self, number: int) -> bytes: ...


class Decoder:
    """Values from JSON. Nothing is called but the constructors of the classes in `members`, with checked arguments."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.kinds: dict[str, Callable[[Mapping[str, Any], int], Any]] = {
            "float": self._float,
            "scalar": lambda node, depth: self._array(node)[()],
            "array": lambda node, depth: self._array(node),
            "text": self._text,
            "objects": self._objects,
            "masked": self._masked,
            "tuple": lambda node, depth: tuple(self.decode(part, depth) for part in _list(node, "items")),
            "range": self._range,
            "dict": self._dict,
            "table": self._table,
            "record": self._record,
            "splitter": self._splitter,
            "distribution": self._distribution,
            "estimator": self._estimator,
        }

    def decode(self, node: Any, depth: int = 0) -> Any:
        """The value of a JSON node.

        Raises
        ------
        ModelFileError : an unknown kind, class or attribute, a wrong type, shape or size.
        """
        if depth > MAX_DEPTH:
            raise ModelFileError(f"values are nested more than {MAX_DEPTH} deep")
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, list):
            return [self.decode(part, depth + 1) for part in node]
        kind = node.get("@")
        if not isinstance(kind, str) or kind not in self.kinds:
            raise ModelFileError(f"a value is of unknown kind {kind!r}"[:200])
        return self.kinds[kind](node, depth + 1)

    def _float(self, node: Mapping[str, Any], depth: int) -> float:
        if node.get("value") not in ("nan", "inf", "-inf"):
            raise ModelFileError(f"{node.get('value')!r} is no float"[:200])
        return float(node["value"])

    def _array(self, node: Mapping[str, Any]) -> Array:
        text, order = node.get("dtype"), node.get("order")
        if not isinstance(text, str) or not DTYPE.fullmatch(text) or order not in ("C", "F"):
            raise ModelFileError(f"an array has dtype {text!r} and order {order!r}"[:200])
        try:
            dtype = np.dtype(text)
        except TypeError as error:
            raise ModelFileError(f"an array has dtype {text!r}") from error
        shape, number = _shape(node), _number(node, "data")
        expected = math.prod(shape) * dtype.itemsize
        if self.source.size(number) != expected:
            raise ModelFileError(f"array {number} has {self.source.size(number)} bytes where {expected} belong")
        data = self.source.array(number)
        if dtype.kind == "b" and data.strip(b"\0\1"):
            raise ModelFileError(f"array {number} holds booleans other than 0 and 1")
        try:
            a: Array = np.empty(shape, dtype=dtype, order=order)
            a[...] = np.frombuffer(data, dtype=dtype).reshape(shape, order=order)
        except ValueError as error:  # more than 64 dimensions, sizes beyond an address where another is zero
            raise ModelFileError(f"array {number} has shape {shape}: {error}"[:200]) from error
        return a

    def _text(self, node: Mapping[str, Any], depth: int) -> Array:
        shape = _shape(node)
        raw = self.source.array(_number(node, "lengths"))
        data = self.source.array(_number(node, "data"))
        if len(raw) != 8 * math.prod(shape):
            raise ModelFileError(f"text of shape {shape} has {len(raw) // 8} parts")
        lengths = np.frombuffer(raw, dtype="<i8")
        if (lengths < 0).any() or (lengths > len(data)).any() or int(lengths.sum()) != len(data):
            raise ModelFileError("the lengths of text do not add up")
        stops = np.cumsum(lengths).tolist()
        try:
            parts = [data[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *stops[:-1]], stops, strict=True)]
        except UnicodeDecodeError as error:
            raise ModelFileError(f"text is no UTF-8: {error}"[:200]) from error
        return _objects(parts, shape)

    def _objects(self, node: Mapping[str, Any], depth: int) -> Array:
        parts = [self.decode(part, depth) for part in _list(node, "items")]
        shape = _shape(node)
        if math.prod(shape) != len(parts):
            raise ModelFileError(f"an array of objects of shape {shape} has {len(parts)}")
        return _objects(parts, shape)

    def _masked(self, node: Mapping[str, Any], depth: int) -> Any:
        data, mask = self.decode(node.get("data"), depth), self.decode(node.get("mask"), depth)
        if not isinstance(data, np.ndarray) or not isinstance(mask, np.ndarray) or mask.dtype != bool:
            raise ModelFileError("a masked array has no data or no mask")
        if data.shape != mask.shape:
            raise ModelFileError(f"a masked array has shape {data.shape} and a mask of {mask.shape}")
        return np.ma.MaskedArray(data, mask)

    def _range(self, node: Mapping[str, Any], depth: int) -> range:
        items = _list(node, "items")
        if len(items) != 3 or not all(type(part) is int for part in items) or not items[2]:
            raise ModelFileError("a range has other than three numbers")
        return range(*items)

    def _dict(self, node: Mapping[str, Any], depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for pair in _list(node, "items"):
            if not isinstance(pair, list) or len(pair) != 2:
                raise ModelFileError("a dictionary has an entry that is no pair")
            key = self.decode(pair[0], depth)
            if not isinstance(key, str | int | float | bool | np.generic | None):
                raise ModelFileError(f"a dictionary has a key of type {type(key).__name__}")
            found[key] = self.decode(pair[1], depth)
        return found

    def _table(self, node: Mapping[str, Any], depth: int) -> list[dict[str, Any]]:
        columns = node.get("columns")
        if not isinstance(columns, dict):
            raise ModelFileError("a table has no columns")
        arrays = {name: self.decode(column, depth) for name, column in columns.items()}
        plain = all(isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind in "ifb" for a in arrays.values())
        if not plain or len({len(a) for a in arrays.values()}) != 1:
            raise ModelFileError("the columns of a table differ in length, or are none")
        if len(next(iter(arrays.values()))) > MOST_ROWS:
            raise ModelFileError(f"a table has more than {MOST_ROWS:,} rows")
        values = [a.tolist() for a in arrays.values()]
        return [dict(zip(arrays, row, strict=True)) for row in zip(*values, strict=True)]

    def _record(self, node: Mapping[str, Any], depth: int) -> Any:
        fields = self._fields(node, "fields", depth)
        return members.make_record(node.get("class"), fields)

    def _splitter(self, node: Mapping[str, Any], depth: int) -> Any:
        return members.make_splitter(node.get("class"), self._fields(node, "fields", depth))

    def _distribution(self, node: Mapping[str, Any], depth: int) -> Any:
        name, args, kwds = node.get("name"), self.decode(node.get("args"), depth), self.decode(node.get("kwds"), depth)
        numbers = isinstance(args, tuple) and isinstance(kwds, dict)
        if name not in DISTRIBUTIONS or not numbers or not all(_is_number(v) for v in (*args, *kwds.values())):
            raise ModelFileError(f"{name!r} is no distribution that is known, or has other than numbers"[:200])
        import scipy.stats

        try:
            return getattr(scipy.stats, name)(*args, **kwds)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"a distribution cannot be made: {error}"[:200]) from error

    def _estimator(self, node: Mapping[str, Any], depth: int) -> Any:
        params, state = self._fields(node, "params", depth), self._fields(node, "state", depth)
        return members.make_estimator(node.get("class"), params, state)

    def _fields(self, node: Mapping[str, Any], key: str, depth: int) -> dict[str, Any]:
        fields = node.get(key)
        if not isinstance(fields, dict):
            raise ModelFileError(f"an object has no {key}")
        return {name: self.decode(value, depth) for name, value in fields.items()}


def _objects(parts: list[Any], shape: tuple[int, ...]) -> Array:
    a = np.empty(len(parts), dtype=object)
    for i, part in enumerate(parts):
        a[i] = part
    return a.reshape(shape)


def _list(node: Mapping[str, Any], key: str) -> list[Any]:
    found = node.get(key)
    if not isinstance(found, list):
        raise ModelFileError(f"a value has no list of {key}")
    return found


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    shape = _list(node, "shape")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise ModelFileError(f"{shape} is no shape"[:200])
    return tuple(shape)


def _number(node: Mapping[str, Any], key: str) -> int:
    number = node.get(key)
    if type(number) is not int or number < 0:
        raise ModelFileError(f"{number!r} is no number of an array"[:200])
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
