"""Linear support vector machines on rows in memory, by a primal-dual interior-point method.

The problem, for K *sides* (one for the hinge, two for the epsilon-insensitive loss) over the same rows A = [X, 1]::

    min  1/2 sum_j ridge_j theta_j^2 + shift theta + sum_ki c_i max(0, e_ki - s_ki a_i theta)

with duals alpha_ki in [0, c_i]. Eliminating everything but theta leaves one symmetric system of the size of theta an
iteration, ``(ridge + A' D A) step = rhs`` (Ferris and Munson 2002); steps by Mehrotra's predictor and corrector
(Nocedal and Wright 2006, algorithm 16.4). Some 15-30 iterations whatever ``c`` is, where active-set methods and Newton's
on a smoothed hinge took hundreds for c = 1e5, or did not end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daskml_core.solvers.newton import solve_spd
from daskml_core.sweep import Array

FIRST_SHARE = 1e-2
"""Least part of c that the duals start from."""

STEP = 0.995
"""Part of the way to the boundary that is gone."""

TILE_BYTES = 1 << 20


class Sides(NamedTuple):
    """The piecewise linear terms of a problem."""

    A: Array
    """(rows, p) float64, with a column of ones where there is an intercept."""
    sign: Array
    """(K, rows) of +1 and -1."""
    offset: Array
    """(K, rows): e."""
    cost: Array
    """(rows,) positive: c."""


class Optimum(NamedTuple):
    """Both solutions."""

    theta: Array
    alpha: Array
    """(K, rows) strictly inside [0, c]."""
    n_iter: int
    gap: float
    """Sum of the complementary products: the duality gap, but for infeasibilities that are of rounding's size."""


def _weighted_gram(A: Array, weight: Array) -> Array:
    """``A' diag(weight) A`` over tiles: a scaled copy of all of A would cost more than the product."""
    p = A.shape[1]
    out = np.zeros((p, p))
    step = max(64, TILE_BYTES // (8 * p))
    for lo in range(0, len(A), step):
        S = np.sqrt(weight[lo : lo + step])[:, None] * A[lo : lo + step]
        out += S.T @ S
    return out


def _longest(values: Array, steps: Array) -> float:
    """Largest multiple of the steps that leaves the values non-negative, at most 1."""
    down = steps < 0
    return float(min(1.0, (values[down] / -steps[down]).min(initial=np.inf)))


class _NewtonSystem(NamedTuple):
    """The equations of a step, with all but theta eliminated: ``H`` is what is left of them."""

    A: Array
    sign: Array
    H: Array
    weight: Array
    primal_error: Array
    dual_error: Array
    alpha: Array
    slack: Array
    rest: Array
    xi: Array

    def direction(self, alpha_slack: Array, rest_xi: Array) -> tuple[Array, Array, Array, Array]:
        """Steps of theta, alpha, slack and xi for the wanted changes of the products alpha slack and rest xi."""
        q = self.primal_error - alpha_slack / self.alpha + rest_xi / self.rest
        d_theta = solve_spd(self.H, -self.dual_error - self.A.T @ (self.sign * self.weight * q).sum(axis=0))
        d_alpha = -self.weight * (self.sign * (self.A @ d_theta) + q)
        d_slack = (alpha_slack - self.slack * d_alpha) / self.alpha
        return d_theta, d_alpha, d_slack, (rest_xi + self.xi * d_alpha) / self.rest


def _first_share(A: Array, sign: Array, c: Array, ridge: Array, spread: float) -> float:
    """Part of c whose duals move the predictions about as far as the kinks are: half of c may be orders of magnitude more.

    From there separable rows with C = 1e5 took 61 iterations instead of 125, all others two thirds on the average.
    """
    pull = A.T @ (sign * c).sum(axis=0)
    theta = np.divide(pull, ridge, out=np.zeros_like(pull), where=ridge > 0)
    reach = float(np.abs(A @ theta).mean()) if len(A) else 0.0
    return min(0.5, max(FIRST_SHARE, spread / max(reach, 1e-300)))


def interior_point(
    sides: Sides,
    ridge: Array,
    shift: Array,
    theta: Array,
    *,
    tol: float = 1e-8,
    enough: float = 0.0,
    max_iter: int = 100,
) -> Optimum:
    """Minimise the problem of the module from ``theta`` to a gap below ``tol`` times the objective, or below ``enough``.

    Each iteration costs ``rows * p**2`` multiplications. Where rounding ends the way earlier, the gap says so.
    """
    A, sign, offset, cost = sides
    scale = max(float(cost.mean()), 1e-300) if len(cost) else 1.0
    # In units of the mean cost all numbers are near one, whatever C is.
    c = np.broadcast_to(cost / scale, sign.shape)
    ridge, shift = ridge / scale, shift / scale
    theta = theta.copy()
    m = offset - sign * (A @ theta)
    spread = max(float(np.abs(m).mean()), 1e-3) if m.size else 1.0
    xi = np.maximum(m, 0.0) + 0.1 * spread
    slack = xi - m
    alpha = _first_share(A, sign, c, ridge, spread) * c
    best = (np.inf, theta, alpha)
    n = max(1, m.size)
    # Losses of this size are rounding: the optimum may have none.
    floor = 1e-13 * float((c * (1 + np.abs(offset))).sum())
    iteration = 0
    for iteration in range(max_iter):  # noqa: B007 - the number is reported
        rest = c - alpha
        dual_error = ridge * theta + shift - A.T @ (sign * alpha).sum(axis=0)
        primal_error = sign * (A @ theta) - offset - (slack - xi)
        products = float((alpha * slack).sum() + (rest * xi).sum())
        mu = products / (2 * n)
        loss = float((c * np.maximum(offset - sign * (A @ theta), 0.0)).sum())
        value = 0.5 * float(ridge @ theta**2) + float(shift @ theta) + loss
        size = max(loss, 0.5 * float(ridge @ theta**2), 1e-300)
        penalised = ridge > 0
        error = products + float(np.abs(dual_error) @ np.abs(theta))
        error += 0.5 * float((dual_error[penalised] ** 2 / ridge[penalised]).sum())
        if np.isfinite(value) and error < best[0]:
            best = (error, theta, alpha)
        elif error > 1e3 * best[0]:
            break
        if error * scale <= max(tol * size * scale, enough, floor * scale):
            break
        weight = 1.0 / (slack / alpha + xi / rest)
        H = _weighted_gram(A, weight.sum(axis=0))
        H[np.diag_indices_from(H)] += ridge
        here = _NewtonSystem(A, sign, H, weight, primal_error, dual_error, alpha, slack, rest, xi)
        d_theta, d_alpha, d_slack, d_xi = here.direction(-alpha * slack, -rest * xi)
        t = min(_longest(alpha, d_alpha), _longest(rest, -d_alpha), _longest(slack, d_slack), _longest(xi, d_xi))
        ahead = ((alpha + t * d_alpha) * (slack + t * d_slack) + (rest - t * d_alpha) * (xi + t * d_xi)).sum() / (2 * n)
        target = mu * (ahead / mu) ** 3 if mu > 0 else 0.0
        d_theta, d_alpha, d_slack, d_xi = here.direction(
            target - alpha * slack - d_alpha * d_slack, target - rest * xi + d_alpha * d_xi
        )
        primal = STEP * min(_longest(slack, d_slack), _longest(xi, d_xi))
        dual = STEP * min(_longest(alpha, d_alpha), _longest(rest, -d_alpha))
        # Steps of different lengths leave a part of ``ridge * d_theta`` in the dual equation.
        if abs(primal - dual) * np.abs(ridge * d_theta).max() > 0.1 * dual * np.abs(dual_error).max():
            primal = dual = min(primal, dual)
        if not max(primal, dual) > 1e-12:
            break
        theta = theta + primal * d_theta
        tiny = 1e-300
        alpha = np.clip(alpha + dual * d_alpha, tiny, c * (1 - 1e-16))
        slack, xi = np.maximum(slack + primal * d_slack, tiny), np.maximum(xi + primal * d_xi, tiny)
    error, theta, alpha = best
    return Optimum(theta, alpha * scale, iteration, error * scale)
