"""Two-means inside the clusters of a tree: every row descends to its leaf, and is counted for the halves tried there.

The members of a cluster are never listed: they are the rows that arrive at its leaf. One read of a block serves all
leaves at once, for each row meets one leaf only.

Conventions
-----------
A split is a pair of centres. With ``m`` their midpoint and ``v`` from the left to the right one, a row goes right where
``(x - m) v > 0``: the nearer centre, ties to the left. The sum has one fixed order and no products are fused, so that a
row on the border falls on the same side whoever asks: the sweeps, the sample, ``predict``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from daskml_core.sweep import Array, Block, Kernel, Sweep


class Tree(NamedTuple):
    """Splits as arrays; the root is split 0, or leaf 0 where nothing is split yet."""

    child: Array
    """(n_splits, 2) int64: number of the split below on the left and on the right, or ``-1 - leaf``."""
    pairs: Array
    """(n_splits, 2, d) centres, in the data's dtype."""
    cosine: bool = False


class HalvesParams(NamedTuple):
    """A tree, and pairs of centres that are tried in its leaves."""

    tree: Tree
    first: Array
    """(n_leaves + 1,) int64: leaf j tries the pairs ``first[j]:first[j + 1]``."""
    pairs: Array
    """(n_pairs, 2, d) in the data's dtype."""


class Halves(NamedTuple):
    """What each pair needs of the rows of its leaf, left and right: sums and counts."""

    sums: Array
    """(n_pairs, 2, d)"""
    weight: Array
    """(n_pairs, 2)"""
    rows: Array
    """(n_pairs, 2), rows of weight zero included"""
    inertia: Array
    """(n_pairs, 2) weighted squared distances to the nearer centre"""
    far_distance: Array
    """(n_pairs,) squared distance of the row farthest from its centre; below zero where there is none"""
    far_row: Array
    """(n_pairs,) its global number, which decides ties"""
    far_weight: Array
    far_X: Array
    """(n_pairs, d)"""


# Eight sums side by side, in the source: the compiler may use vectors and yet not choose another order of additions.
@numba.njit(cache=True, nogil=True)
def _goes_right(x: Any, middle: Any, normal: Any) -> int:  # pragma: no cover - compiled
    d = len(middle)
    zero = x[0] * 0
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    for f in range(0, d - d % 8, 8):
        a0 += (x[f] - middle[f]) * normal[f]
        a1 += (x[f + 1] - middle[f + 1]) * normal[f + 1]
        a2 += (x[f + 2] - middle[f + 2]) * normal[f + 2]
        a3 += (x[f + 3] - middle[f + 3]) * normal[f + 3]
        a4 += (x[f + 4] - middle[f + 4]) * normal[f + 4]
        a5 += (x[f + 5] - middle[f + 5]) * normal[f + 5]
        a6 += (x[f + 6] - middle[f + 6]) * normal[f + 6]
        a7 += (x[f + 7] - middle[f + 7]) * normal[f + 7]
    total = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
    for f in range(d - d % 8, d):
        total += (x[f] - middle[f]) * normal[f]
    return 1 if total > 0 else 0


@numba.njit(cache=True, nogil=True)
def _direction(x: Any, out: Any) -> bool:  # pragma: no cover - compiled
    """The row at length one, into ``out``; whether it has a direction."""
    total = 0.0
    for f in range(len(x)):
        total += x[f] * x[f]
    if total == 0.0:
        return False
    scale = 1.0 / math.sqrt(total)
    for f in range(len(x)):
        out[f] = x[f] * scale
    return True


@numba.njit(cache=True, nogil=True)
def _leaves(X: Any, cosine: bool, child: Any, middle: Any, normal: Any, out: Any) -> int:  # pragma: no cover - compiled
    """Leaf of each row; -1, or the first row that has no direction."""
    unit = np.empty(X.shape[1], dtype=X.dtype)
    for i in range(X.shape[0]):
        x = X[i]
        if cosine:
            if not _direction(x, unit):
                return i
            x = unit
        node = 0 if len(child) > 0 else -1
        while node >= 0:
            node = child[node, _goes_right(x, middle[node], normal[node])]
        out[i] = -1 - node
    return -1


@numba.njit(cache=True, nogil=True)
def _count(
    X: Any, s: Any, cosine: bool, leaf: Any, first: Any, middle: Any, normal: Any, C: Any, sums: Any, weight: Any,
    rows: Any, inertia: Any, far_distance: Any, far_row: Any
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Add every row to the halves of its leaf's pairs."""
    d = X.shape[1]
    unit = np.empty(d, dtype=X.dtype)
    for i in range(X.shape[0]):
        lo, stop = first[leaf[i]], first[leaf[i] + 1]
        if lo == stop:
            continue
        x = X[i]
        if cosine:
            _direction(x, unit)
            x = unit
        w = s[i] if len(s) > 0 else 1.0
        for p in range(lo, stop):
            side = _goes_right(x, middle[p], normal[p])
            c = C[p, side]
            total = sums[p, side]
            squared = 0.0
            for f in range(d):
                diff = x[f] - c[f]
                squared += diff * diff
            for f in range(d):
                total[f] += w * x[f]
            rows[p, side] += 1
            weight[p, side] += w
            inertia[p, side] += w * squared
            if squared > far_distance[p] and w > 0.0:
                far_distance[p] = squared
                far_row[p] = i


def _planes(pairs: Array, dtype: Any) -> tuple[Array, Array]:
    """Midpoints and normals of the planes between the centres of each pair, (n, d) each."""
    wide = pairs.astype(np.float64)
    middle, normal = (wide[:, 0] + wide[:, 1]) / 2, wide[:, 1] - wide[:, 0]
    return np.ascontiguousarray(middle, dtype=dtype), np.ascontiguousarray(normal, dtype=dtype)


def leaf_of_rows(block: Block, tree: Tree) -> Array:
    """Number of the leaf of each row (rows,), int32.

    Raises
    ------
    ValueError : a row without a direction under the cosine metric.
    """
    X = block.X
    leaf = np.zeros(len(X), dtype=np.int32)
    bad = _leaves(X, tree.cosine, tree.child, *_planes(tree.pairs, X.dtype), leaf)
    if bad >= 0:
        raise ValueError(
            f'Row {block.start + bad} (block {block.number}) is a zero vector: metric="cosine" needs a direction. '
            "Drop such rows."
        )
    return leaf


def halve_block(block: Block, params: HalvesParams) -> Halves:
    """The `Halves` of one block; reads X twice at most, while it is in cache or near it."""
    X, s = block.X, np.zeros(0) if block.weight is None else block.weight
    n, d = len(params.pairs), X.shape[1]
    out = Halves(
        np.zeros((n, 2, d)),
        np.zeros((n, 2)),
        np.zeros((n, 2), dtype=np.int64),
        np.zeros((n, 2)),
        np.full(n, -1.0),
        np.zeros(n, dtype=np.int64),
        np.zeros(n),
        np.zeros((n, d)),
    )
    leaf = leaf_of_rows(block, params.tree)
    C = np.require(params.pairs, dtype=X.dtype, requirements=["C", "A"])
    _count(
        X, s, params.tree.cosine, leaf, params.first, *_planes(C, X.dtype), C, out.sums, out.weight, out.rows,
        out.inertia, out.far_distance, out.far_row,
    )  # fmt: skip
    there = np.flatnonzero(out.far_distance >= 0)
    index = out.far_row[there]
    far = X[index].astype(np.float64)
    if params.tree.cosine and len(far):
        far /= np.linalg.norm(far, axis=1, keepdims=True)
    out.far_X[there] = far
    out.far_weight[there] = 1.0 if block.weight is None else block.weight[index]
    out.far_row[there] = block.start + index
    return out


def merge_halves(a: Halves, b: Halves) -> Halves:
    """Halves of two disjoint sets of rows taken together."""
    farther = (b.far_distance > a.far_distance) | ((b.far_distance == a.far_distance) & (b.far_row < a.far_row))
    return Halves(
        a.sums + b.sums,
        a.weight + b.weight,
        a.rows + b.rows,
        a.inertia + b.inertia,
        np.where(farther, b.far_distance, a.far_distance),
        np.where(farther, b.far_row, a.far_row),
        np.where(farther, b.far_weight, a.far_weight),
        np.where(farther[:, None], b.far_X, a.far_X),
    )


class LeafDrawParams(NamedTuple):
    """Rows to draw from some leaves of a tree."""

    tree: Tree
    leaves: tuple[int, ...]
    seeds: tuple[int, ...]
    """One a leaf, so that what is drawn there does not depend on which other leaves are asked for."""
    seed: int
    n: int
    """Rows a leaf."""


class LeafDraw(NamedTuple):
    """Rows drawn from one leaf, smallest key first."""

    keys: Array
    X: Array
    weight: Array | None


def draw_from_leaves(block: Block, params: LeafDrawParams) -> tuple[LeafDraw, ...]:
    """The ``n`` rows of each leaf with the smallest random keys, without those of weight zero."""
    leaf = leaf_of_rows(block, params.tree)
    if block.weight is not None:
        leaf[block.weight <= 0] = -1
    drawn = []
    for number, seed in zip(params.leaves, params.seeds, strict=True):
        rows = np.flatnonzero(leaf == number)
        keys = np.random.default_rng([params.seed, seed, block.number]).random(len(rows))
        order = np.argsort(keys, kind="stable")[: params.n]
        weight = None if block.weight is None else block.weight[rows[order]]
        drawn.append(LeafDraw(keys[order], block.X[rows[order]], weight))
    return tuple(drawn)


def smallest_keys(n: int) -> Callable[[Any, Any], Any]:
    """Combines draws into the ``n`` rows a leaf with the smallest keys."""
    return functools.partial(_join_draws, n)


def _join_draws(n: int, a: tuple[LeafDraw, ...], b: tuple[LeafDraw, ...]) -> tuple[LeafDraw, ...]:
    joined = []
    for p, q in zip(a, b, strict=True):
        keys = np.concatenate([p.keys, q.keys])
        order = np.argsort(keys, kind="stable")[:n]
        weight = None if p.weight is None or q.weight is None else np.concatenate([p.weight, q.weight])[order]
        joined.append(LeafDraw(keys[order], np.concatenate([p.X, q.X])[order], weight))
    return tuple(joined)


def _tree_bytes(n_features: int, tree: Tree) -> int:
    return 2 * 8 * n_features * (len(tree.pairs) + 1)


HALVES = Kernel(
    halve_block,
    "bisect-clusters",
    lambda n, d, p: 4 * n + _tree_bytes(d, p.tree) + 4 * 8 * d * len(p.pairs),
    partial_bytes=lambda d, p: len(p.pairs) * (3 * 8 * d + 72),
)
DRAW_FROM_LEAVES = Kernel(
    draw_from_leaves,
    "draw-from-clusters",
    lambda n, d, p: 28 * n + _tree_bytes(d, p.tree),
    partial_bytes=lambda d, p: len(p.leaves) * p.n * 8 * (d + 2),
)
LEAF_OF_ROWS = Kernel(leaf_of_rows, "descend-clusters", lambda n, d, p: 4 * n + _tree_bytes(d, p))


def halves_sweep(params: HalvesParams) -> Sweep:
    """The sweep that tries pairs of centres in the leaves of a tree."""
    return Sweep(HALVES, params, merge_halves)


def refuse_zero_sweep(n_features: int, dtype: Any) -> Sweep:
    """The sweep that finds the row without a direction, and raises."""
    nothing = np.zeros((0, 2, n_features), dtype=dtype)
    tree = Tree(np.zeros((0, 2), dtype=np.int64), nothing, cosine=True)
    return halves_sweep(HalvesParams(tree, np.zeros(2, dtype=np.int64), nothing))


def leaf_draw_sweep(params: LeafDrawParams) -> Sweep:
    """The sweep that draws rows from some leaves."""
    return Sweep(DRAW_FROM_LEAVES, params, smallest_keys(params.n))
