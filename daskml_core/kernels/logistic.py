"""The logistic gradient of one model, fused: one compiled call a block, X read once into cache and used twice.

The general kernel needs about fifteen NumPy calls a tile, and with two threads most of its time went into handing the
interpreter's lock to and fro: 128 ms a sweep of 4M x 50 with one thread, 106 ms with two. In one call that holds no lock
it is 84 and 42 ms, which is what the two matrix-vector products alone take.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from daskml_core.sweep import Array


# `reassoc` and `contract` let the loop run in vector registers; no sum here depends on the order.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def exp_single(z: Any, mantissa: Any, exponent: Any) -> None:  # pragma: no cover - compiled
    """``exp(-|z|)`` in float32 as ``mantissa * 2**k``: the polynomial of Cephes' expf, in a loop that vectorises.

    ``exponent`` (int32) receives the bits of ``2.0**k``. Error below 2 units in the last place.
    """
    for i in range(len(z)):
        x = max(-abs(z[i]), np.float32(-87.0))
        k = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        r = x - k * np.float32(0.693359375)
        r = r - k * np.float32(-2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        mantissa[i] = p * r * r + r + np.float32(1.0)
        exponent[i] = (np.int32(k) + np.int32(127)) << np.int32(23)


@numba.njit(cache=True, nogil=True)
def _residuals(z: Any, e: Any, y: Any, s: Any, r: Any, h: Any) -> Any:  # pragma: no cover - compiled
    """Residuals of a tile into r, curvatures into h where it is not empty; returns (sum of losses, sum of residuals)."""
    total, residual, product = 0.0, 0.0, 1.0
    weighted = len(s) > 0
    for i in range(len(z)):
        t = y[i]
        p = 1.0 / (1.0 + e[i])
        if len(h) > 0:
            h[i] = p * p * e[i] * s[i] if weighted else p * p * e[i]
        if z[i] < 0:
            p = e[i] * p
        tail = max(z[i], 0.0) - t * z[i]
        q = p - t
        if weighted:
            q = s[i] * q
            total += s[i] * (tail + math.log1p(e[i]))
        else:
            # The sum of log(1 + e) is the log of a product; 256 factors below 2 are far from overflow.
            total += tail
            product *= 1.0 + e[i]
            if i % 256 == 255:
                total += math.log(product)
                product = 1.0
        r[i] = q
        residual += q
    return total + math.log(product), residual


@numba.njit(cache=True, nogil=True)
def _gradient(
    X: Any, y: Any, s: Any, w: Any, b: Any, single: bool, z: Any, e: Any, mantissa: Any, exponent: Any, power: Any,
    r: Any, h: Any, grad: Any
) -> Any:  # fmt: skip  # pragma: no cover - compiled
    n = X.shape[0]
    tile = len(z)
    value, residual = 0.0, 0.0
    for lo in range(0, n, tile):
        m = min(tile, n - lo)
        x = X[lo : lo + m]
        z[:m] = np.dot(x, w)
        for i in range(m):
            z[i] += b
        if single:
            exp_single(z[:m], mantissa, exponent)
            for i in range(m):
                e[i] = mantissa[i] * power[i]
        else:
            for i in range(m):
                e[i] = math.exp(-abs(z[i]))
        part, rest = _residuals(z[:m], e, y[lo : lo + m], s[lo : lo + m], r, h[lo : lo + m])
        value += part
        residual += rest
        g = np.dot(r[:m], x)
        for j in range(len(g)):
            grad[j] += g[j]
    return value, residual


def logistic_gradient(
    X: Array, y: Array, weight: Array | None, w: Array, b: float, tile: int, curvature: Array | None = None
) -> tuple[float, Array, float]:
    """Summed loss, gradient (d,) and sum of residuals of one model; X (rows, d) C-contiguous, y (rows,) in {0, 1}.

    Products and residuals in X's dtype, sums between tiles in float64. ``curvature`` (rows,) receives each row's weighted
    second derivative.
    """
    grad = np.zeros(X.shape[1])
    single = X.dtype == np.float32
    exponent = np.empty(tile if single else 1, dtype=np.int32)
    mantissa = np.empty(tile if single else 1, dtype=np.float32)
    z, e, r = np.empty((3, tile), dtype=X.dtype)
    value, residual = _gradient(
        X, np.asarray(y, dtype=np.float64), np.zeros(0) if weight is None else weight, w.astype(X.dtype),
        X.dtype.type(b), bool(single), z, e, mantissa, exponent, exponent.view(np.float32), r,
        np.empty(0, dtype=X.dtype) if curvature is None else curvature, grad,
    )  # fmt: skip
    return value, grad, residual
