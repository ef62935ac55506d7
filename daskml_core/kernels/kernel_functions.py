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

import numba
import numpy as np

from daskml_core.kernels.exponential import exp_add, exp_in_place
from daskml_core.sweep import Array

KERNELS = ("rbf", "linear", "poly", "sigmoid")

TILE = 248
"""Rows on either side of one product: half a MiB of values, which the second cache holds while they are worked on. Wider
tiles took 1.2-1.6 times as long; at 256, a power of two, its transpose took 2.3 ns a value instead of 1."""

UNIT = 2.0**-24
"""What rounding to float32 changes at most, as a part."""

STRIP, STRIP_BYTES = 64, 4 << 20
"""Rows of a matrix that are formed in place, without a copy from a tile, which took 1.3-1.5 times as long; fewer make the
products slower. Above 4 MiB tiles are as fast."""

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


@numba.njit(cache=True, nogil=True, fastmath={"nsz", "reassoc", "contract"})
def _squares(X: Any, shift: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(len(X)):
        total = 0.0
        for f in range(X.shape[1]):
            total += (X[i, f] - shift[f]) ** 2
        out[i] = total


@numba.njit(cache=True, nogil=True, fastmath={"nsz", "reassoc", "contract"})
def _left(X: Any, shift: Any, gamma: float, side: Any) -> None:  # pragma: no cover - compiled
    d = X.shape[1]
    for i in range(len(X)):
        total = 0.0
        for f in range(d):
            x = X[i, f] - shift[f]
            total += x * x
            side[i, f] = 2 * gamma * x
        side[i, d] = -gamma * total
        side[i, d + 1] = 1


def _plain(X: Array) -> Array:
    """X as compiled code wants it: few types, for each is compiled once."""
    return np.ascontiguousarray(X if X.dtype == np.float32 else np.asarray(X, dtype=np.float64))


def _origin(kernel: KernelFunction, X: Array) -> Array:
    return np.zeros(X.shape[1]) if kernel.shift is None else np.ascontiguousarray(kernel.shift, dtype=np.float64)


def _square_lengths(kernel: KernelFunction, X: Array) -> Array:
    """Squared lengths (rows,) of the rows of an rbf kernel, from its shift; infinite where they overflow."""
    out = np.empty(len(X))
    _squares(_plain(X), _origin(kernel, X), out)
    return out


def prepare(kernel: KernelFunction, S: Array, dtype: Any = np.float64) -> Prepared:
    """The right-hand side of `products`, which works in ``dtype``."""
    if kernel.name == "callable":
        return Prepared(np.asarray(S))
    if kernel.name != "rbf":
        return Prepared(np.ascontiguousarray(np.asarray(S, dtype=dtype).T))
    m, d = S.shape
    rows = np.empty((d + 2, m), dtype=dtype)
    np.subtract(np.asarray(S, dtype=np.float64).T, _origin(kernel, S)[:, None], out=rows[:d], casting="same_kind")
    rows[d] = 1
    np.multiply(_square_lengths(kernel, S), -kernel.gamma, out=rows[d + 1], casting="same_kind")
    return Prepared(rows)


def left_side(kernel: KernelFunction, X: Array, dtype: Any = np.float64) -> Array:
    """Rows of the left-hand side: for rbf scaled so that one product gives the exponent ``-gamma |x - s|^2``."""
    if kernel.name == "callable":
        return X
    if kernel.name != "rbf":
        return np.asarray(X, dtype=dtype)
    n, d = X.shape
    side = np.empty((n, d + 2), dtype=dtype)
    _left(_plain(X), _origin(kernel, X), kernel.gamma, side)
    return side


def single_is_near(kernel: KernelFunction, X: Array) -> bool:
    """Whether float32 gives rbf values of these rows to within about 2e-5, enough to guide."""
    if kernel.name != "rbf" or not len(X):
        return False
    with np.errstate(over="ignore"):
        return bool(kernel.gamma * _square_lengths(kernel, X).max() < NEAR)


def norms(kernel: KernelFunction, X: Array) -> Array:
    """Lengths (rows,) of the rows of an rbf kernel, from its shift; infinite where they overflow."""
    return np.asarray(np.sqrt(_square_lengths(kernel, X)))


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
    """Kernel values into ``out``, some rows or a tile at a time: in one piece each step would go through memory.

    ``symmetric``: both sides are the same rows, and the half below the diagonal is copied.
    """
    if kernel.name == "callable":
        out[:] = values(kernel, x, right)
        return
    n, m = out.shape
    in_place = out.flags.c_contiguous and out.dtype == x.dtype and STRIP * m * out.itemsize <= STRIP_BYTES
    if in_place and not symmetric:
        for lo in range(0, n, STRIP):
            strip = out[lo : lo + STRIP]
            found = values(kernel, x[lo : lo + STRIP], right, strip)
            if found is not strip:  # a power is another array
                strip[:] = found
        return
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


def products(
    kernel: KernelFunction, X: Array, prepared: Prepared, coef: Array, out: Array, at: Array | None = None
) -> None:
    """``out += K(X, S) coef`` for ``coef`` (m, P), out (rows, P); the kernel matrix is never larger than a tile.

    ``at``: the rows to do it for, all where there are none.
    """
    m, n = len(coef), len(X) if at is None else len(at)
    at = None if n == len(X) else at
    weights = prepared.rows @ coef if kernel.name == "linear" and m else None
    dtype = prepared.rows.dtype if kernel.name != "callable" else np.float64
    table = np.empty(TILE * TILE, dtype=dtype)
    alone = np.ascontiguousarray(coef[:, 0]) if kernel.name == "rbf" and coef.shape[1] == 1 else None
    coef = coef.astype(dtype, copy=False)
    for lo in range(0, n, TILE):
        rows: Any = slice(lo, min(lo + TILE, n)) if at is None else at[lo : lo + TILE]
        total = out[rows]  # some rows are copied
        if weights is not None:
            total += np.asarray(X[rows], dtype=np.float64) @ weights
        else:
            x = left_side(kernel, X[rows], dtype)
            for start in range(0, m, TILE):
                _add_tile(kernel, x, prepared, slice(start, min(start + TILE, m)), coef, alone, table, total)
        if at is not None:
            out[rows] = total


def _add_tile(
    kernel: KernelFunction, x: Array, prepared: Prepared, columns: slice, coef: Array, alone: Array | None,
    table: Array, total: Array,
) -> None:  # fmt: skip
    """``total += K(x, some of S) coef``; ``alone`` is the coefficients of one problem with the rbf kernel, in float64."""
    if kernel.name == "callable":
        total += values(kernel, x, prepared.rows[columns]) @ coef[columns]
        return
    right = prepared.rows[:, columns]
    K = table[: len(x) * right.shape[1]].reshape(len(x), right.shape[1])
    if alone is None:
        total += values(kernel, x, right, K) @ coef[columns]
        return
    np.dot(x, right, out=K)
    exp_add(K, alone[columns], total[:, 0])


def workspace(n_features: int, n_problems: int) -> int:
    """Bytes that `products` takes beside its input."""
    return 8 * (3 * TILE**2 + 2 * TILE * (n_features + 2 + n_problems))
