"""Rows become features whose inner products approximate a kernel; one output row per input row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.kernel_functions import KernelFunction, gram
from daskml_core.sweep import Array, Block, Kernel

TILE_ROWS = 512
"""Rows mapped at a time: what lies between input and output stays in cache."""


class NystroemParams(NamedTuple):
    """``K(x, landmarks) normalization'``: landmarks (m, d), normalization (r, m)."""

    kernel: KernelFunction
    landmarks: Array
    normalization: Array


class FourierParams(NamedTuple):
    """``scale cos(x weights + offset)``: weights (d, r), offset (r,)."""

    weights: Array
    offset: Array
    scale: float


class SketchParams(NamedTuple):
    """A fitted sketch, which maps rows one by one, and its width."""

    sketch: Any
    n_components: int


def nystroem(block: Block, params: NystroemParams) -> Array:
    """Nystroem features (rows, r) in X's dtype, computed in float64."""
    X = block.X
    out = np.empty((len(X), len(params.normalization)), dtype=X.dtype)
    for lo in range(0, len(X), TILE_ROWS):
        tile = slice(lo, lo + TILE_ROWS)
        out[tile] = gram(params.kernel, X[tile], params.landmarks) @ params.normalization.T
    return out


def fourier(block: Block, params: FourierParams) -> Array:
    """Random Fourier features (rows, r) in X's dtype."""
    X = block.X
    weights, offset = params.weights.astype(X.dtype), params.offset.astype(X.dtype)
    out = np.empty((len(X), weights.shape[1]), dtype=X.dtype)
    for lo in range(0, len(X), TILE_ROWS):
        tile = out[lo : lo + TILE_ROWS]
        np.dot(X[lo : lo + TILE_ROWS], weights, out=tile)
        tile += offset
        np.cos(tile, out=tile)
        tile *= X.dtype.type(params.scale)
    return out


def count_sketch(block: Block, params: SketchParams) -> Array:
    """Tensor sketch (rows, r) in X's dtype."""
    X = block.X
    out = np.empty((len(X), params.n_components), dtype=X.dtype)
    for lo in range(0, len(X), TILE_ROWS):
        out[lo : lo + TILE_ROWS] = params.sketch.transform(X[lo : lo + TILE_ROWS])
    return out


NYSTROEM = Kernel(
    nystroem,
    "nystroem",
    lambda n, d, p: 8 * min(n, TILE_ROWS) * (2 * len(p.landmarks) + len(p.normalization) + d + 2),
)
FOURIER = Kernel(fourier, "fourier-features", lambda n, d, p: 8 * d * p.weights.shape[1])
COUNT_SKETCH = Kernel(count_sketch, "count-sketch", lambda n, d, p: 64 * min(n, TILE_ROWS) * p.n_components)
