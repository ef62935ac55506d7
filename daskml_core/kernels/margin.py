"""Piecewise linear losses of linear machines over one block: exact value, the cut, and the rows near the margin.

Conventions
-----------
A row's loss is ``c max(0, m)`` with ``m = 1 - t z`` and t = -1 or 1 (hinge), or ``m = |y - z| - epsilon``. Both are sums
of *sides* ``c max(0, e - s z)``: the hinge has one, with s = t and e = 1; the other has two, with s = 1, e = y - epsilon
and with s = -1, e = -y - epsilon.

Rows within ``band`` of a kink are handed back whole; all others enter as sums over those whose side is active, by its sign:
a cutting plane of their losses, that is exact as long as none of them crosses its kink.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from daskml_core.kernels.linear import OneAgainstRest, tile_rows
from daskml_core.sweep import Array, Block, Kernel


class MarginParams(NamedTuple):
    """Where to look, for m models."""

    W: Array
    """(d, m)"""
    b: Array
    """(m,)"""
    epsilon: float | None
    """Of the epsilon-insensitive loss; ``None`` is the hinge."""
    band: Array
    """(m,) half width; negative to hand back no rows."""
    width: Array
    """(m,) of smoothed kinks: a side counts by ``clip(1/2 + m / width, 0, 1)``; 0: by whether m > 0."""
    capacity: int
    """Rows handed back for each model at most."""
    classes: OneAgainstRest | None = None
    leverage: Array | None = None
    """(d,): rows with ``max_j |x_j| leverage_j > 1`` are handed back wherever they lie; with a band alone."""


class BandRows(NamedTuple):
    """Rows near a kink: X (k, d), y (k,) target or t, cost (k,), z (k,)."""

    X: Array
    y: Array
    cost: Array
    z: Array


class MarginPartial(NamedTuple):
    """Sums over rows, float64; the first axis of the cut is the sign of the side, + and -."""

    loss: Array
    """(m,) of all rows"""
    offset: Array
    """(2, m): sum of c e over active sides beyond the band"""
    total: Array
    """(2, m): sum of c"""
    slope: Array
    """(2, d, m): sum of c x"""
    rows: tuple[BandRows, ...]
    epsilon: float | None
    capacity: int


def sides_of(y: Array, epsilon: float | None) -> tuple[Array, Array]:
    """Signs and offsets (K, rows) of the sides of rows with targets y."""
    if epsilon is None:
        return y[None], np.ones((1, len(y)))
    ones = np.ones(len(y))
    return np.stack([ones, -ones]), np.stack([y - epsilon, -y - epsilon])


def _active(
    y: Array, z: Array, s: Array, epsilon: float | None, band: float, width: float = 0.0, far: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """Excess m, costs of active sides beyond the band by their sign (else 0), mask of the band and of ``far``; (rows,)."""
    if epsilon is None:
        m = 1 - y * z
        near = np.abs(m) <= band if far is None else (np.abs(m) <= band) | far
        active = _activity(m, width) * s
        active[near] = 0.0
        return m, np.where(y > 0, active, 0.0), np.where(y > 0, 0.0, active), near
    r = y - z
    # Either kink may be near: they lie 2 epsilon apart.
    near = (np.abs(r - epsilon) <= band) | (np.abs(r + epsilon) <= band)
    if far is not None:
        near |= far
    net = (_activity(r - epsilon, width) - _activity(-r - epsilon, width)) * s
    net[near] = 0.0
    return np.abs(r) - epsilon, np.maximum(net, 0.0), np.maximum(-net, 0.0), near


def _activity(m: Array, width: float) -> Array:
    return (m > 0).astype(np.float64) if width == 0 else np.clip(0.5 + m / width, 0.0, 1.0)


def margin_rows(block: Block, params: MarginParams) -> MarginPartial:
    """Loss, cut and rows of the band at m points; reads X once."""
    W, b, epsilon, band, width, capacity, classes, leverage = params
    scale = (
        None if leverage is None or (band < 0).all() else leverage.astype(W.dtype if block.X is None else block.X.dtype)
    )
    d, m = W.shape
    loss, offset, totals = np.zeros(m), np.zeros((2, m)), np.zeros((2, m))
    slope = np.zeros((2, d, m))
    found: list[list[BandRows]] = [[] for _ in range(m)]
    if block.X is not None:
        dtype = block.X.dtype
        V = np.ascontiguousarray(W, dtype=dtype)
        step = tile_rows(d, dtype.itemsize)
        for lo in range(0, block.n_rows, step):
            rows = slice(lo, min(lo + step, block.n_rows))
            x = block.X[rows]
            y = np.asarray(block.y[rows], dtype=np.float64)
            s = np.ones(len(x)) if block.weight is None else block.weight[rows]
            Z = (x @ V[:, 0])[:, None] if m == 1 else x @ V
            far = None if scale is None else (np.abs(x) * scale).max(axis=1) > 1
            R = np.empty((2, len(x), m), dtype=dtype)
            for j in range(m):
                z = Z[:, j] + b[j]
                t, c = (y, s) if classes is None else classes.of_model(j, y, s)
                if epsilon is None and classes is None:
                    t = 2 * y - 1
                excess, plus, minus, near = _active(t, z, c, epsilon, band[j], width[j], far if band[j] >= 0 else None)
                loss[j] += c @ np.maximum(excess, 0.0)
                for k, part in enumerate((plus, minus)):
                    R[k, :, j] = part
                    total = part.sum()
                    totals[k, j] += total
                    offset[k, j] += total if epsilon is None else (part @ t) * (1 - 2 * k) - epsilon * total
                if band[j] >= 0 and near.any():
                    keep = near & (c > 0)
                    found[j].append(BandRows(x[keep], t[keep], c[keep], z[keep].astype(np.float64)))
            for k in range(2):
                slope[k] += (x.T @ R[k][:, 0])[:, None] if m == 1 else x.T @ R[k]
    empty = BandRows(np.zeros((0, d), W.dtype if block.X is None else block.X.dtype), *np.zeros((3, 0)))
    bands = tuple(BandRows(*(np.concatenate(p) for p in zip(empty, *parts, strict=True))) for parts in found)
    return _fit_capacity(MarginPartial(loss, offset, totals, slope, bands, epsilon, capacity))


def _fit_capacity(partial: MarginPartial) -> MarginPartial:
    """At most ``capacity`` rows a model: equal ones become one, then those farthest from their kinks join the cut."""
    if all(len(rows.y) <= partial.capacity for rows in partial.rows):
        return partial
    epsilon = partial.epsilon
    kept = []
    for j, rows in enumerate(partial.rows):
        if len(rows.y) > partial.capacity:
            rows = _distinct(rows)
        if len(rows.y) > partial.capacity:
            excess, _, _, _ = _active(rows.y, rows.z, rows.cost, epsilon, -1.0)
            order = np.argsort(np.abs(excess), kind="stable")
            out = BandRows(*(column[np.sort(order[partial.capacity :])] for column in rows))
            rows = BandRows(*(column[np.sort(order[: partial.capacity])] for column in rows))
            _, plus, minus, _ = _active(out.y, out.z, out.cost, epsilon, -1.0)
            for k, part in enumerate((plus, minus)):
                total = part.sum()
                partial.total[k, j] += total
                partial.offset[k, j] += total if epsilon is None else (part @ out.y) * (1 - 2 * k) - epsilon * total
                partial.slope[k, :, j] += part @ out.X.astype(np.float64)
        kept.append(rows)
    return partial._replace(rows=tuple(kept))


def _distinct(rows: BandRows) -> BandRows:
    """Each distinct row once, with the cost of all its copies: data of categories has few of them."""
    table = np.column_stack([rows.X, rows.y])
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    cost = np.bincount(inverse.ravel(), weights=rows.cost, minlength=len(first))
    return BandRows(rows.X[first], rows.y[first], cost, rows.z[first])


def merge_margins(a: MarginPartial, b: MarginPartial) -> MarginPartial:
    """Sums of both, and the rows of both one after the other."""
    rows = tuple(
        BandRows(*(np.concatenate(pair) for pair in zip(p, q, strict=True)))
        for p, q in zip(a.rows, b.rows, strict=True)
    )
    return _fit_capacity(
        a._replace(
            loss=a.loss + b.loss,
            offset=a.offset + b.offset,
            total=a.total + b.total,
            slope=a.slope + b.slope,
            rows=rows,
        )
    )


def _workspace(n_rows: int, n_features: int, params: MarginParams) -> int:
    rows = min(n_rows, tile_rows(n_features, 4))
    return rows * (params.W.shape[1] * 4 + 10) * 8


def _partial_bytes(n_features: int, params: MarginParams) -> int:
    m = params.W.shape[1]
    held = params.capacity * int((params.band >= 0).sum())
    return 8 * m * (2 * n_features + 5) + held * (8 * n_features + 24)


def _stack(requests: Sequence[MarginParams]) -> MarginParams:
    first = requests[0]
    classes = OneAgainstRest.join([p.classes for p in requests if p.classes is not None])
    return first._replace(
        W=np.concatenate([p.W for p in requests], axis=1),
        b=np.concatenate([p.b for p in requests]),
        band=np.concatenate([p.band for p in requests]),
        width=np.concatenate([p.width for p in requests]),
        classes=classes,
    )


def _split(partial: MarginPartial, requests: Sequence[MarginParams]) -> list[MarginPartial]:
    parts, start = [], 0
    for p in requests:
        here = slice(start, start + p.W.shape[1])
        parts.append(
            partial._replace(
                loss=partial.loss[here].copy(),
                offset=partial.offset[:, here].copy(),
                total=partial.total[:, here].copy(),
                slope=partial.slope[..., here].copy(),
                rows=partial.rows[here],
            )
        )
        start = here.stop
    return parts


MARGIN_ROWS = Kernel(
    margin_rows,
    lambda p: "hinge-cut" if p.epsilon is None else "epsilon-insensitive-cut",
    _workspace,
    _partial_bytes,
    gathers=True,
    stack=_stack,
    split=_split,
    stack_key=lambda p: (p.epsilon, p.capacity, p.classes is None, p.leverage is None),
)
