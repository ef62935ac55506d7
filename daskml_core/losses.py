"""Pointwise losses: value, residual (derivative in the linear predictor) and curvature.

Conventions
-----------
Z  (rows, n_outputs * n_models) linear predictors, float32 or float64; a model's outputs are neighbours
y  (rows,) encoded target: {0, 1} for two classes, 0..K-1 for K classes, numbers for regression; (rows, n_models) of {0, 1}
   where each model tells one class from the others (hinge losses)
s  (rows, n_models) or (rows, 1) weights, a `CellWeights`, or ``None``
R  like Z: ``s * d loss / d z``, in Z's dtype
h  (rows, n_models): ``s * d2 loss / d z2`` for losses with one output

Values are summed over rows in float64, one sum a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numba
import numpy as np

from daskml_core.kernels.logistic import exp_single
from daskml_core.sweep import Array

_NO_WEIGHT = np.ones((0, 0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _logistic(Z: Any, E: Any, y: Any, s: Any, R: Any, value: Any) -> None:  # pragma: no cover - compiled
    """Log-loss from ``E = exp(-|Z|)``: the sum of log(1 + e) is the log of a product, taken once every 256 rows.

    A product of 256 factors between 1 and 2 stays below 2**256, far from overflow, and one multiplication is several
    times cheaper than one logarithm.
    """
    n, m = Z.shape
    weighted = s.shape[0] > 0
    shared = s.shape[1] == 1
    product = np.ones(m)
    linear = np.zeros(m)
    for i in range(n):
        t = y[i]
        for j in range(m):
            z = Z[i, j]
            e = E[i, j]
            p = 1.0 / (1.0 + e)
            if z < 0:
                p = e * p
            tail = max(z, 0.0) - t * z
            if weighted:
                c = s[i, 0] if shared else s[i, j]
                R[i, j] = c * (p - t)
                linear[j] += c * (tail + math.log1p(e))
            else:
                R[i, j] = p - t
                linear[j] += tail
                product[j] *= 1.0 + e
        if i % 256 == 255 and not weighted:
            for j in range(m):
                linear[j] += math.log(product[j])
                product[j] = 1.0
    for j in range(m):
        value[j] += linear[j] + math.log(product[j])


class CellWeights(NamedTuple):
    """Weights (rows, n_models) that have not been written out: a row of a small table for each row of the data."""

    table: Array
    """(n_cells, n_models)"""
    place: Array
    """(rows,) cell of each row."""
    weight: Array | None
    """(rows, 1), beside the table's."""

    def dense(self) -> Array:
        """The weights written out."""
        seen = self.table[self.place]
        return seen if self.weight is None else np.asarray(seen * self.weight)


# The divisions must not raise, or the loop cannot run in vector registers: 3.2 ns an element, 0.6 so.
@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _logistic_parts(z: Any, e: Any, exponent: Any, r: Any, tail: Any) -> None:  # pragma: no cover - compiled
    """Probabilities into r, and ``log(1 + e) + |z| / 2`` into tail, of a run of float32 predictors.

    ``log(1 + e) = 2 artanh(e / (2 + e))`` by its series, whose argument is at most 1/3: relative error 2e-8.
    """
    one, two, half = np.float32(1.0), np.float32(2.0), np.float32(0.5)
    power = exponent.view(np.float32)
    for i in range(len(z)):
        x = e[i] * power[i]
        p = one / (one + x)
        u = x / (two + x)
        q = u * u
        log = np.float32(1 / 13.0) * q + np.float32(1 / 11.0)
        log = log * q + np.float32(1 / 9.0)
        log = log * q + np.float32(1 / 7.0)
        log = log * q + np.float32(1 / 5.0)
        log = log * q + np.float32(1 / 3.0)
        tail[i] = two * (log * q * u + u) + half * abs(z[i])
        r[i] = p if z[i] >= 0 else x * p


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _logistic_single(Z: Any, y: Any, table: Any, place: Any, s: Any, R: Any, value: Any) -> None:  # pragma: no cover
    """Log-loss of float32 predictors of several models, residuals into R.

    A model's losses are summed in float32 over 32 rows, beyond that in float64.
    """
    n, m = Z.shape
    chunk = max(1, 4096 // m)
    exponent = np.empty(chunk * m, dtype=np.int32)
    e = np.empty(chunk * m, dtype=np.float32)
    tail = np.empty(chunk * m, dtype=np.float32)
    part = np.zeros(m, dtype=np.float32)
    seen = np.ones(m, dtype=np.float32)
    for lo in range(0, n, chunk):
        rows = min(chunk, n - lo)
        size = rows * m
        z = Z[lo : lo + rows].reshape(size)
        exp_single(z, e[:size], exponent[:size])
        _logistic_parts(z, e[:size], exponent[:size], R[lo : lo + rows].reshape(size), tail[:size])
        for i in range(rows):
            t = np.float32(y[lo + i])
            sign = np.float32(0.5) - t
            w = np.float32(s[lo + i]) if len(s) > 0 else np.float32(1.0)
            zi, ri, li = Z[lo + i], R[lo + i], tail[i * m : (i + 1) * m]
            c = table[place[lo + i]] if len(place) > 0 else seen
            for j in range(m):
                v = w * c[j]
                ri[j] = v * (ri[j] - t)
                part[j] += v * (li[j] + sign * zi[j])
            if (lo + i) % 32 == 31:
                for j in range(m):
                    value[j] += part[j]
                    part[j] = np.float32(0.0)
    for j in range(m):
        value[j] += part[j]


def _logistic_float32(Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
    """Summed values (n_models,) and residuals like Z; weights of every form without writing them out."""
    table, place, weight = np.ones((0, Z.shape[1]), dtype=np.float32), np.zeros(0, dtype=np.intp), None
    if isinstance(s, CellWeights):
        table, place, weight = s.table.astype(np.float32, copy=False), s.place, s.weight
    elif s is not None and s.shape[1] == 1:
        weight = s
    elif s is not None:
        table, place = np.ascontiguousarray(s, dtype=np.float32), np.arange(len(s))
    R, value = np.empty_like(Z), np.zeros(Z.shape[1])
    column = np.zeros(0, dtype=np.float32) if weight is None else np.ascontiguousarray(weight[:, 0], dtype=np.float32)
    _logistic_single(np.ascontiguousarray(Z), y, table, place.astype(np.intp, copy=False), column, R, value)
    return value, R


Weights: TypeAlias = Array | CellWeights | None


class Loss:
    """A pointwise loss; subclasses are frozen and comparable, so that equal requests can be stacked."""

    name: str
    n_outputs: int = 1
    curvature_bound: float | None = None
    """Largest second derivative, where there is one."""
    has_kinks: ClassVar[bool] = False
    """Whether the loss is flat or straight beyond some point: Newton's step may then be far too long."""

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        """Summed value a model (n_models,), and residuals R."""
        raise NotImplementedError

    def value(self, Z: Array, y: Array, s: Weights) -> Array:
        """Summed value a model, where residuals are not needed."""
        return self.evaluate(Z, y, s)[0]

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        """Second derivatives h."""
        raise NotImplementedError


def _dense(s: Weights) -> Array | None:
    return s.dense() if isinstance(s, CellWeights) else s


def _summed(values: Array, s: Weights) -> Array:
    s = _dense(s)
    total = values if s is None else values * s
    return np.asarray(total.sum(axis=0, dtype=np.float64))


def _weighted(values: Array, s: Weights, dtype: Any) -> Array:
    s = _dense(s)
    return np.asarray(values if s is None else values * s, dtype=dtype)


@dataclass(frozen=True)
class HalfLogistic(Loss):
    """Log-loss of two classes: ``log(1 + exp(z)) - y z`` with y in {0, 1}."""

    name: str = "logistic"
    curvature_bound: float | None = 0.25

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        if Z.dtype == np.float32 and Z.size:
            return _logistic_float32(Z, y, s)
        s = _dense(s)
        E = np.abs(Z)
        np.negative(E, out=E)
        np.exp(E, out=E)
        R = np.empty_like(Z)
        value = np.zeros(Z.shape[1])
        _logistic(Z, E, y, _NO_WEIGHT if s is None else s, R, value)
        return value, R

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        E = np.exp(-np.abs(Z))
        return _weighted(E / np.square(1 + E), s, Z.dtype)


@dataclass(frozen=True)
class Multinomial(Loss):
    """Cross-entropy of K classes: ``logsumexp(z) - z[y]``; the symmetric parametrisation with K outputs."""

    n_outputs: int = 3
    name: str = "multinomial"
    curvature_bound: float | None = 0.5

    def probabilities(self, Z: Array) -> tuple[Array, Array]:
        """Class probabilities (rows, n_models, K) and log of the normaliser (rows, n_models)."""
        Z3 = Z.reshape(len(Z), -1, self.n_outputs)
        top = Z3.max(axis=2, keepdims=True) if len(Z) else Z3[:, :, :1]
        P = np.exp(Z3 - top)
        total = P.sum(axis=2, keepdims=True)
        P /= total
        return P, (np.log(total) + top)[:, :, 0]

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        rows = np.arange(len(Z))
        labels = y.astype(np.intp)
        P, norm = self.probabilities(Z)
        own = Z.reshape(P.shape)[rows, :, labels]
        P[rows, :, labels] -= 1
        s = _dense(s)
        if s is not None:
            P *= s[:, :, None]
        return _summed(norm.astype(np.float64) - own, s), np.ascontiguousarray(P.reshape(Z.shape), dtype=Z.dtype)


@dataclass(frozen=True)
class HalfSquared(Loss):
    """Half the squared error, ``(z - y)**2 / 2``."""

    name: str = "squared"
    curvature_bound: float | None = 1.0

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        D = Z - y[:, None]
        return _summed(np.square(D, dtype=np.float64) / 2, s), _weighted(D, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        return _weighted(np.ones_like(Z), s, Z.dtype)


@dataclass(frozen=True)
class HalfPoisson(Loss):
    """Half the Poisson deviance with log link, up to a constant of y: ``exp(z) - y z``."""

    name: str = "poisson"

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        with np.errstate(over="ignore"):  # an overflow is an infinite loss: the line search steps back
            mean = np.exp(Z.astype(np.float64))
        t = y[:, None]
        return _summed(mean - t * Z, s), _weighted(mean - t, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        with np.errstate(over="ignore"):
            return _weighted(np.exp(Z.astype(np.float64)), s, Z.dtype)


def _columns(y: Array) -> Array:
    """Targets as (rows, 1), or (rows, n_models) where each model has its own."""
    return y if y.ndim == 2 else y[:, None]


def _labels(y: Array, dtype: Any) -> Array:
    """Labels -1 and 1 of codes 0 and 1, in columns."""
    return (2 * _columns(y) - 1).astype(dtype)


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """Squared hinge, ``max(0, 1 - t z)**2`` with t = 2 y - 1."""

    name: str = "squared-hinge"
    curvature_bound: float | None = 2.0
    has_kinks: ClassVar[bool] = True

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        t = _labels(y, Z.dtype)
        slack = np.maximum(1 - t * Z, 0)
        return _summed(np.square(slack, dtype=np.float64), s), _weighted(-2 * t * slack, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        return _weighted(2.0 * (_labels(y, Z.dtype) * Z < 1), s, Z.dtype)


@dataclass(frozen=True)
class SquaredEpsilonInsensitive(Loss):
    """Squared epsilon-insensitive loss, ``max(0, |y - z| - epsilon)**2``."""

    epsilon: float = 0.0
    name: str = "squared-epsilon-insensitive"
    curvature_bound: float | None = 2.0
    has_kinks: ClassVar[bool] = True

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        r = Z - _columns(y)
        excess = np.maximum(np.abs(r) - self.epsilon, 0)
        return _summed(np.square(excess, dtype=np.float64), s), _weighted(2 * np.sign(r) * excess, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        # At epsilon = 0 this is least squares, with curvature everywhere.
        return _weighted(2.0 * (np.abs(Z - _columns(y)) >= self.epsilon), s, Z.dtype)


def smoothed_part(m: Array, width: float) -> tuple[Array, Array]:
    """``max(0, m)`` with a parabola in place of its kink, for ``|m| < width / 2``; and its slope in [0, 1].

    The largest of ``a m - width (a - 1/2)**2 / 2 + width / 8`` over a in [0, 1] (Nesterov 2005): the slopes of all rows are
    a point of the dual. Centred on the kink, as that moves the minimum less than a parabola on one side of it.
    """
    slope = np.clip(0.5 + m / width, 0.0, 1.0)
    return slope * m - width * np.square(slope - 0.5) / 2 + width / 8, slope


@dataclass(frozen=True)
class SmoothedHinge(Loss):
    """The hinge ``max(0, 1 - t z)`` with a parabola of a given width in place of its kink."""

    width: float = 1.0
    name: str = "smoothed-hinge"
    has_kinks: ClassVar[bool] = True

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        t = _labels(y, np.float64)
        value, slope = smoothed_part(1 - t * Z, self.width)
        return _summed(value, s), _weighted(-t * slope, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        near = np.abs(1 - _labels(y, np.float64) * Z) < self.width / 2
        return _weighted(near / self.width, s, Z.dtype)


@dataclass(frozen=True)
class SmoothedEpsilonInsensitive(Loss):
    """The loss ``max(0, |y - z| - epsilon)`` with parabolas of a given width in place of its kinks."""

    epsilon: float = 0.0
    width: float = 1.0
    name: str = "smoothed-epsilon-insensitive"
    has_kinks: ClassVar[bool] = True

    def evaluate(self, Z: Array, y: Array, s: Weights) -> tuple[Array, Array]:
        r = Z - _columns(y)
        above, up = smoothed_part(r - self.epsilon, self.width)
        below, down = smoothed_part(-r - self.epsilon, self.width)
        return _summed(above + below, s), _weighted(up - down, s, Z.dtype)

    def curvature(self, Z: Array, y: Array, s: Weights) -> Array:
        r = np.asarray(Z - _columns(y), dtype=np.float64)
        near = (np.abs(r - self.epsilon) < self.width / 2).astype(np.float64) + (
            np.abs(r + self.epsilon) < self.width / 2
        )
        return _weighted(near / self.width, s, Z.dtype)
