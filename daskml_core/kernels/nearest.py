"""The nearest of k centres for each of some rows, computed in vector registers.

Rows are the lanes. A *panel* of `panel_rows` rows is transposed (features outside, rows inside), so that
``|c|^2 - 2 c x`` of four centres for all of its rows is accumulated in registers, and the running minimum and its index are
two selects: no table of (rows, k) distances is written or searched. BLAS reaches the same rate for the product alone, but
for few centres loses as much again in packing and in finding the minima.

Compiled code is told what to do in LLVM's vector types, since a loop that is to keep eight accumulators in registers is
not something that the compiler finds by itself. LLVM fits the vectors to whatever the processor has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

GROUP = 4
"""Centres that are worked on together; their number is filled up to a multiple with centres infinitely far away."""

HAS_WIDE_VECTORS = bool(binding.get_host_cpu_features().get("avx512f"))

VECTOR_BYTES = 64 if HAS_WIDE_VECTORS else 32

VECTORS = 4 if HAS_WIDE_VECTORS else 2
"""Vectors of rows a panel. Times `GROUP` they are the accumulators: half of the registers, more than an addition's delay."""

CACHE_LINE = 64

INDEX, LABEL, DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()
FUSE = ("contract",)

native: Any = intrinsic  # its annotations count the typing context among the arguments of a call


def panel_rows(dtype: Any) -> int:
    """Rows of a panel, for X of that dtype."""
    return VECTORS * VECTOR_BYTES // int(np.dtype(dtype).itemsize)


def _lanes(scalar: Any) -> int:
    return VECTOR_BYTES // (4 if scalar == types.float32 else 8)


def _element(scalar: Any) -> Any:
    return ir.FloatType() if scalar == types.float32 else DOUBLE


def _pointer(builder: Any, address: Any, element: Any, offset: Any) -> Any:
    """Where the vector or number of type ``element`` lies, ``offset`` bytes behind an address."""
    return builder.inttoptr(builder.add(address, offset), element.as_pointer())


def _bytes(builder: Any, count: Any, size: int) -> Any:
    return builder.mul(count, ir.Constant(INDEX, size))


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(LABEL, 0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(LABEL, lanes), [0] * lanes)
    )


def _prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address; of no effect where nothing lies there."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, LABEL, LABEL, LABEL])
    module = builder.module
    function = module.globals.get("llvm.prefetch.p0") or ir.Function(module, kind, "llvm.prefetch.p0")
    read, keep, data = (ir.Constant(LABEL, value) for value in (0, 3, 1))
    builder.call(function, [builder.inttoptr(address, pointer), read, keep, data])


def _loop(builder: Any, count: Any, carried: Sequence[Any], body: Callable[..., Sequence[Any]]) -> list[Any]:
    """``carried = body(i, *carried)`` for i below ``count``, which is at least one; values stay in registers."""
    before = builder.block
    inside, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(inside)
    builder.position_at_end(inside)
    i = builder.phi(INDEX)
    i.add_incoming(ir.Constant(INDEX, 0), before)
    states = [builder.phi(value.type) for value in carried]
    for state, value in zip(states, carried, strict=True):
        state.add_incoming(value, before)
    results = body(i, *states)
    following = builder.add(i, ir.Constant(INDEX, 1))
    i.add_incoming(following, builder.block)
    for state, value in zip(states, results, strict=True):
        state.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", following, count), inside, after)
    builder.position_at_end(after)
    return list(results)


@native
def _transpose_panel(typing: Any, source: Any, target: Any, groups: Any, d: Any, like: Any) -> Any:
    """Transpose a panel of contiguous rows: ``groups`` times as many features as a vector has lanes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, groups, d, _ = args
        lanes, element = _lanes(like), _element(like)
        size = VECTOR_BYTES // lanes
        vector = ir.VectorType(element, lanes)

        def body(group: Any) -> list[Any]:
            column = _bytes(builder, group, VECTOR_BYTES)
            for half in range(VECTORS):
                rows = []
                for i in range(lanes):
                    row = builder.mul(d, ir.Constant(INDEX, (half * lanes + i) * size))
                    rows.append(builder.load(_pointer(builder, source, vector, builder.add(row, column)), align=size))
                for f, values in enumerate(_transposed(builder, rows)):
                    place = builder.mul(
                        builder.add(_bytes(builder, group, lanes), ir.Constant(INDEX, f)),
                        ir.Constant(INDEX, VECTORS * VECTOR_BYTES),
                    )
                    offset = builder.add(place, ir.Constant(INDEX, half * VECTOR_BYTES))
                    builder.store(values, _pointer(builder, target, vector, offset), align=size)
            return []

        _loop(builder, groups, [], body)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, like), code


def _transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Transpose a square of vectors: pairs of rows at a distance change their off-diagonal halves, at all distances."""
    n = len(rows)
    rows = list(rows)
    distance = n // 2
    while distance:
        first = [i if not i & distance else n + i - distance for i in range(n)]
        second = [i + distance if not i & distance else n + i for i in range(n)]
        masks = [ir.Constant(ir.VectorType(LABEL, n), mask) for mask in (first, second)]
        for i in range(n):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = (builder.shuffle_vector(a, b, mask) for mask in masks)
        distance //= 2
    return rows


@native
def _row_norms(typing: Any, panel: Any, d: Any, norms: Any, like: Any) -> Any:
    """Squared lengths of a panel's rows, in float64."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, d, norms, _ = args
        lanes, element = _lanes(like), _element(like)
        vector, wide = ir.VectorType(element, lanes), ir.VectorType(DOUBLE, lanes)

        def body(f: Any, *totals: Any) -> list[Any]:
            place = _bytes(builder, f, VECTORS * VECTOR_BYTES)
            sums = []
            for half, total in enumerate(totals):
                offset = builder.add(place, ir.Constant(INDEX, half * VECTOR_BYTES))
                x = builder.load(_pointer(builder, panel, vector, offset), align=8)
                x = x if element == DOUBLE else builder.fpext(x, wide)
                sums.append(builder.fadd(total, builder.fmul(x, x, flags=FUSE), flags=FUSE))
            return sums

        totals = _loop(builder, d, [ir.Constant(wide, [0.0] * lanes)] * VECTORS, body)
        for half, total in enumerate(totals):
            offset = ir.Constant(INDEX, half * lanes * 8)
            builder.store(total, _pointer(builder, norms, wide, offset), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), code


def _search(like: Any, with_second: bool) -> Any:
    """Signature and code that find the smallest ``|c|^2 - 2 c x`` of each row of a panel, and perhaps the next one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, d, packed, lengths, groups, best, label, second, ahead, _ = args
        lanes, element = _lanes(like), _element(like)
        size = VECTOR_BYTES // lanes
        vector, codes = ir.VectorType(element, lanes), ir.VectorType(LABEL, lanes)

        def number(address: Any, index: Any) -> Any:
            place = _pointer(builder, address, element, _bytes(builder, index, size))
            return _splat(builder, builder.load(place, align=size), lanes)

        def group_of_centers(group: Any, *found: Any) -> list[Any]:
            first = _bytes(builder, group, GROUP)
            starts = [number(lengths, builder.add(first, ir.Constant(INDEX, j))) for j in range(GROUP)]
            centers = builder.mul(first, d)
            # The next panel lies on pages that the processor does not foresee: two lines a feature.
            is_early = builder.icmp_unsigned("<", group, ir.Constant(INDEX, VECTORS * VECTOR_BYTES // CACHE_LINE))

            def feature(f: Any, *totals: Any) -> list[Any]:
                line = _bytes(builder, builder.add(builder.mul(group, d), f), CACHE_LINE)
                _prefetch(builder, builder.add(ahead, builder.select(is_early, line, ir.Constant(INDEX, 0))))
                place = _bytes(builder, f, VECTORS * VECTOR_BYTES)
                rows = []
                for half in range(VECTORS):
                    offset = builder.add(place, ir.Constant(INDEX, half * VECTOR_BYTES))
                    rows.append(builder.load(_pointer(builder, panel, vector, offset), align=size))
                at = builder.add(centers, _bytes(builder, f, GROUP))
                sums = []
                for j in range(GROUP):
                    c = number(packed, builder.add(at, ir.Constant(INDEX, j)))
                    for half, x in enumerate(rows):
                        product = builder.fmul(c, x, flags=FUSE)
                        sums.append(builder.fadd(totals[j * VECTORS + half], product, flags=FUSE))
                return sums

            values = _loop(builder, d, [start for start in starts for _ in range(VECTORS)], feature)
            smallest, labels = list(found[:VECTORS]), list(found[VECTORS : 2 * VECTORS])
            following = list(found[2 * VECTORS :])
            for j in range(GROUP):
                code = builder.trunc(builder.add(first, ir.Constant(INDEX, j)), LABEL)
                code = _splat(builder, code, lanes)
                for half in range(VECTORS):
                    value = values[j * VECTORS + half]
                    closer = builder.fcmp_ordered("<", value, smallest[half])
                    if with_second:
                        nearer = builder.fcmp_ordered("<", value, following[half])
                        rest = builder.select(nearer, value, following[half])
                        following[half] = builder.select(closer, smallest[half], rest)
                    smallest[half] = builder.select(closer, value, smallest[half])
                    labels[half] = builder.select(closer, code, labels[half])
            return [*smallest, *labels, *following]

        infinite = ir.Constant(vector, [float("inf")] * lanes)
        none = ir.Constant(codes, [0] * lanes)
        start = [infinite] * VECTORS + [none] * VECTORS + [infinite] * (VECTORS * with_second)
        found = _loop(builder, groups, start, group_of_centers)
        for half in range(VECTORS):
            place = ir.Constant(INDEX, half * VECTOR_BYTES)
            builder.store(found[half], _pointer(builder, best, vector, place), align=size)
            if with_second:
                builder.store(found[2 * VECTORS + half], _pointer(builder, second, vector, place), align=size)
            place = ir.Constant(INDEX, half * lanes * 4)
            builder.store(found[VECTORS + half], _pointer(builder, label, codes, place), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9, like), code


@native
def _nearest_in_panel(
    typing: Any,
    panel: Any,
    d: Any,
    packed: Any,
    lengths: Any,
    groups: Any,
    best: Any,
    label: Any,
    second: Any,
    ahead: Any,
    like: Any,
) -> Any:
    """Nearest centre of each row, the first of equally near ones; ``second`` is left alone."""
    return _search(like, False)


@native
def _two_nearest_in_panel(
    typing: Any,
    panel: Any,
    d: Any,
    packed: Any,
    lengths: Any,
    groups: Any,
    best: Any,
    label: Any,
    second: Any,
    ahead: Any,
    like: Any,
) -> Any:
    """Nearest centre of each row, and the value of the next one."""
    return _search(like, True)


@numba.njit(cache=True, nogil=True)
def pack_centers(C: Any) -> Any:  # pragma: no cover - compiled
    """Centres (k, d) as `nearest_rows` reads them: (groups, d, `GROUP`) times -2, and squared lengths (groups * `GROUP`)."""
    k, d = C.shape
    groups = -(-k // GROUP)
    packed = np.zeros((groups, d, GROUP), dtype=C.dtype)
    lengths = np.full(groups * GROUP, np.inf, dtype=C.dtype)
    for j in range(k):
        total = C.dtype.type(0)
        for f in range(d):
            total += C[j, f] * C[j, f]
            packed[j // GROUP, f, j % GROUP] = -2 * C[j, f]
        lengths[j] = total
    return packed, lengths


class Found(NamedTuple):
    """Room for what `nearest_rows` finds, for whole panels of rows."""

    panel: Any
    """(d, `panel_rows`) the rows of a panel, transposed"""
    best: Any
    """(rows,) squared distance to the nearest centre, less the row's own squared length, in X's dtype"""
    norms: Any
    """(rows,) squared length of the row, float64"""
    second: Any
    """(rows,) as ``best``, for the second nearest centre; of length 0 where that is not asked for"""


@numba.njit(cache=True, nogil=True)
def room_for(rows: int, panel_size: int, C: Any, with_second: bool) -> Any:  # pragma: no cover - compiled
    """Room for so many rows and centres like ``C``."""
    whole = -(-rows // panel_size) * panel_size
    return Found(
        np.empty((C.shape[1], panel_size), C.dtype),
        np.empty(whole, C.dtype),
        np.empty(whole),
        np.empty(whole if with_second else 0, C.dtype),
    )


@numba.njit(cache=True, nogil=True)
def nearest_rows(x: Any, packed: Any, lengths: Any, found: Any, label: Any) -> None:  # pragma: no cover - compiled
    """Nearest centre of each row of a tile. A row's result does not depend on the rows beside it.

    Parameters
    ----------
    x : (n, d), C-contiguous.
    packed, lengths : of `pack_centers`.
    found : of `room_for`, n rows or more.
    label : at least n filled up to whole panels, int32.
    """
    n, d = x.shape
    panel, best, norms, second = found
    rows = panel.shape[1]
    lanes = rows // VECTORS
    like = x.dtype.type(0)
    whole = d // lanes
    for lo in range(0, n, rows):
        here = min(rows, n - lo)
        done = 0
        if here == rows and whole > 0:
            _transpose_panel(x[lo:].ctypes.data, panel.ctypes.data, whole, d, like)
            done = whole * lanes
        for i in range(rows):  # what is left, and a panel that is not full: filled up with its last row
            row = x[lo + min(i, here - 1)]
            for f in range(done, d):
                panel[f, i] = row[f]
        at = panel.ctypes.data
        ahead = x[lo:].ctypes.data + rows * d * x.itemsize
        _row_norms(at, d, norms[lo:].ctypes.data, like)
        centers, squares, groups = packed.ctypes.data, lengths.ctypes.data, packed.shape[0]
        values, codes = best[lo:].ctypes.data, label[lo:].ctypes.data
        if len(second) > 0:
            following = second[lo:].ctypes.data
            _two_nearest_in_panel(at, d, centers, squares, groups, values, codes, following, ahead, like)
        else:
            _nearest_in_panel(at, d, centers, squares, groups, values, codes, 0, ahead, like)
