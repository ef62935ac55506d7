"""Kernel functions between two sets of rows, from one matrix product a tile.

rbf ``exp(-gamma |x - s|^2)``; linear ``x s``; poly ``(gamma x s + coef0)^degree``; sigmoid ``tanh(gamma x s + coef0)``; or
a callable ``(X, S) -> (rows of X, rows of S)``. Computed in float64 whatever the rows are, for the certificate of a fit is
a difference of two sums; in float32 where the caller asks for rbf values that only guide.

A value of an rbf kernel of 20 features costs 1.8 ns, in float32 about half: the product, then the exponential and its
part of the sum, which are one compiled pass over a tile in the second cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.exponential import exp_add, exp_in_place
from daskml_core.sweep import Array

KERNELS = ("rbf", "linear", "poly", "sigmoid")

TILE = 248
"""Rows on either side of one product: half a MiB of values, which the second cache holds while they are worked on. Wider
tiles took 1.2-1.6 times as long; at 256, a power of two, its transpose took 2.3 ns a value instead of 1."""

UNIT = 2.0**-24
"""What rounding to float32 changes at most, as a part."""

NEAR = 100.0
"""Exponents that float32 knows to 1e-5: they are differences of numbers of this size."""


class KernelFunction(NamedTuple):
    """A kernel with its parameters. ``shift`` (d,) is taken from the rows of rbf, which does not notice it."""

    name: str = "rbf"
    gamma: float = 1.0
    coef0: float = 0.0
    degree: int = 3
    function: Callable[[Any, Any], Any] | None = None
    shift: Array | None = None

    @property
    def positive(self) -> bool:
        """Whether the kernel is known to be positive: the problem is convex, and the gap a certificate."""
        return self.name in ("rbf", "linear", "poly") and (self.name != "poly" or self.coef0 >= 0)


class Prepared(NamedTuple):
    """Rows of the right-hand side, ready for many products: for rbf, norms are two more features."""

    rows: Array
    """(d, m), or (d + 2, m) for rbf; the rows themselves (m, d) for a callable."""


def _centred(kernel: KernelFunction, X: Array) -> Array:
    x = np.asarray(X, dtype=np.float64)
    return x if kernel.shift is None else x - kernel.shift


def prepare(kernel: KernelFunction, S: Array, dtype: Any = np.float64) -> Prepared:
    """The right-hand side of `products`, which works in ``dtype``."""
    if kernel.name == "callable":
        return Prepared(np.asarray(S))
    if kernel.name != "rbf":
        return Prepared(np.ascontiguousarray(np.asarray(S, dtype=dtype).T))
    s = _centred(kernel, S)
    squares = np.einsum("ij,ij->i", s, s)
    return Prepared(np.vstack([s.T, np.ones(len(s)), -kernel.gamma * squares]).astype(dtype, order="C", copy=False))


def left_side(kernel: KernelFunction, X: Array, dtype: Any = np.float64) -> Array:
    """Rows of the left-hand side: for rbf scaled so that one product gives the exponent ``-gamma |x - s|^2``."""
    if kernel.name == "callable":
        return X
    if kernel.name != "rbf":
        return np.asarray(X, dtype=dtype)
    x = _centred(kernel, X)
    n, d = x.shape
    side = np.empty((n, d + 2), dtype=dtype)
    np.multiply(x, 2 * kernel.gamma, out=side[:, :d], casting="same_kind")
    np.multiply(np.einsum("ij,ij->i", x, x), -kernel.gamma, out=side[:, d], casting="same_kind")
    side[:, d + 1] = 1
    return side


def single_is_near(kernel: KernelFunction, X: Array) -> bool:
    """Whether float32 gives rbf values of these rows to within about 2e-5, enough to guide."""
    if kernel.name != "rbf" or not len(X):
        return False
    x = _centred(kernel, X)
    with np.errstate(over="ignore"):
        return bool(kernel.gamma * np.einsum("ij,ij->i", x, x).max() < NEAR)


def norms(kernel: KernelFunction, X: Array) -> Array:
    """Lengths (rows,) of the rows of an rbf kernel, from its shift; infinite where they overflow."""
    x = _centred(kernel, X)
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", x, x)))


def single_error(kernel: KernelFunction, length: Array, radius: float, n_features: int, n_problems: int) -> Array:
    """Bound (rows,) on what `products` in float32 is wrong by, as a part of ``sum |coef|``, for rbf.

    ``length`` (rows,) and ``radius``: lengths of the rows, and of the longest on the right-hand side. The exponent is a sum
    of ``d + 2`` products of rounded numbers, whose absolute values sum to at most ``gamma (|x| + |s|)^2``; the
    exponential adds its own two units in the last place, and a sum for several problems at once that of a tile in float32
    (for one problem it is taken in float64). Infinite where the exponent is so wrong that first order will not do.
    Source: Higham 2002, section 3.1.
    """
    with np.errstate(over="ignore"):
        exponent = 1.02 * UNIT * (n_features + 5) * kernel.gamma * np.square(length + radius)
    exponent = np.where(exponent < 0.02, 1.02 * exponent, np.inf)
    return np.asarray(exponent + UNIT * (5 if n_problems == 1 else TILE + 8))


def values(kernel: KernelFunction, x: Array, s: Array, out: Array | None = None) -> Array:
    """Kernel values of a left-hand side and a part of a right-hand one."""
    if kernel.name == "callable":
        return _called(kernel, x, s)
    K = np.dot(x, s, out=out)
    if kernel.name == "rbf":
        exp_in_place(K)
        return np.asarray(K)
    return _finished(kernel, K)


def _called(kernel: KernelFunction, x: Array, s: Array) -> Array:
    assert kernel.function is not None
    table = np.asarray(kernel.function(x, s), dtype=np.float64)
    if table.shape != (len(x), len(s)):
        raise ValueError(f"The kernel gave shape {table.shape} for {len(x)} rows and {len(s)}: one value a pair.")
    return table


def _finished(kernel: KernelFunction, K: Array) -> Array:
    """Kernel values of products, for the kernels without an exponential."""
    if kernel.name == "linear":
        return np.asarray(K)
    K *= kernel.gamma
    K += kernel.coef0
    if kernel.name == "sigmoid":
        return np.asarray(np.tanh(K, out=K))
    return _power(K, kernel.degree)


def _power(K: Array, degree: int) -> Array:
    """Integer power by squaring: ``np.power`` takes a logarithm an entry."""
    result, base = None, K
    while degree:
        if degree & 1:
            result = base.copy() if result is None else np.multiply(result, base, out=result)
        degree >>= 1
        if degree:
            base = base * base
    return np.ones_like(K) if result is None else result


def diagonal(kernel: KernelFunction, X: Array) -> Array:
    """Kernel values (rows,) of each row with itself, float64; not for a callable."""
    if kernel.name == "rbf":
        return np.ones(len(X))
    x = np.asarray(X, dtype=np.float64)
    return _finished(kernel, np.einsum("ij,ij->i", x, x))


def gram(kernel: KernelFunction, X: Array, S: Array) -> Array:
    """Kernel values (rows of X, rows of S), float64."""
    if kernel.name == "callable":
        return values(kernel, X, S)
    out = np.empty((len(X), len(S)))
    fill(kernel, left_side(kernel, X), prepare(kernel, S).rows, out)
    return out


def fill(kernel: KernelFunction, x: Array, right: Array, out: Array, *, symmetric: bool = False) -> None:
    """Kernel values into ``out``, a tile at a time: in one piece each step would go through memory.

    ``symmetric``: both sides are the same rows, and the half below the diagonal is copied.
    """
    if kernel.name == "callable":
        out[:] = values(kernel, x, right)
        return
    n, m = out.shape
    table = np.empty(TILE * TILE, dtype=x.dtype)
    for lo in range(0, n, TILE):
        rows = slice(lo, min(lo + TILE, n))
        part = x[rows]
        for start in range(lo if symmetric else 0, m, TILE):
            columns = slice(start, min(start + TILE, m))
            width = columns.stop - columns.start
            tile = table[: len(part) * width].reshape(len(part), width)
            tile = values(kernel, part, right[:, columns], tile)
            out[rows, columns] = tile
            if symmetric and start != lo:
                out[columns, rows] = tile.T  # while the tile is in the cache


def products(kernel: KernelFunction, X: Array, prepared: Prepared, coef: Array, out: Array) -> None:
    """``out += K(X, S) coef`` for ``coef`` (m, P), out (rows, P); the kernel matrix is never larger than a tile."""
    m = len(coef)
    if kernel.name == "linear" and m:
        w = prepared.rows @ coef
        for lo in range(0, len(X), TILE):
            out[lo : lo + TILE] += np.asarray(X[lo : lo + TILE], dtype=np.float64) @ w
        return
    named = kernel.name != "callable"
    dtype = prepared.rows.dtype if named else np.float64
    table = np.empty(TILE * TILE, dtype=dtype)
    alone = np.ascontiguousarray(coef[:, 0]) if kernel.name == "rbf" and coef.shape[1] == 1 else None
    coef = coef.astype(dtype, copy=False)
    for lo in range(0, len(X), TILE):
        rows = slice(lo, min(lo + TILE, len(X)))
        x = left_side(kernel, X[rows], dtype)
        for start in range(0, m, TILE):
            stop = min(start + TILE, m)
            if not named:
                out[rows] += values(kernel, x, prepared.rows[start:stop]) @ coef[start:stop]
                continue
            K = table[: len(x) * (stop - start)].reshape(len(x), stop - start)
            if alone is not None:
                np.dot(x, prepared.rows[:, start:stop], out=K)
                exp_add(K, alone[start:stop], out[rows, 0])
            else:
                out[rows] += values(kernel, x, prepared.rows[:, start:stop], K) @ coef[start:stop]


def workspace(n_features: int, n_problems: int) -> int:
    """Bytes that `products` takes beside its input."""
    return 8 * (3 * TILE**2 + 2 * TILE * (n_features + 2 + n_problems))
