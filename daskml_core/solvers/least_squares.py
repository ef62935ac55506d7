"""Least squares from one sweep: the centred Gram matrix, with a tall-skinny QR where it is ill-conditioned.

A Gram matrix squares the condition number. Where the reciprocal condition of its correlation form falls below
`ILL_CONDITIONED`, half of the digits would be gone, and one more sweep computes the triangular factor instead, which
is as good as factoring the data itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from daskml_core.kernels.gram import GRAM, TRIANGULAR_FACTOR, GramPartial, merge_factors, merge_gram
from daskml_core.objective import Asks
from daskml_core.solvers.newton import solve_spd
from daskml_core.sweep import Array, Sweep

ILL_CONDITIONED = 1e-10


@dataclass(frozen=True)
class LeastSquaresState:
    """What the sweeps found out about the data."""

    n_features: int
    moments: GramPartial
    factor: Array | None = None
    """(d + t, d + t) triangular factor of the centred ``[X, y]``, where it was needed."""
    n_iter: int = 1

    def record(self) -> dict[str, Any]:
        # Loss and gradient are known when the estimator has solved for the coefficients.
        return {"n_iter": self.n_iter, "loss": float("nan"), "grad_norm": float("nan"), "step": float("nan")}


def least_squares_moments(n_features: int, *, fit_intercept: bool, ridge: float | None) -> Asks:
    """The moments, and the triangular factor where the Gram matrix plus ``ridge`` is ill-conditioned, if not ``None``."""
    moments: GramPartial = yield Sweep(GRAM, None, merge_gram)
    if not fit_intercept:
        moments = about_zero(moments)
    state = LeastSquaresState(n_features, moments)
    yield state
    if ridge is not None and is_ill_conditioned(state, ridge):
        factor = yield Sweep(TRIANGULAR_FACTOR, moments.mean, merge_factors)
        state = LeastSquaresState(n_features, moments, factor, n_iter=2)
        yield state
    return state


def is_ill_conditioned(state: LeastSquaresState, ridge: float) -> bool:
    """Whether the correlation form of the Gram matrix plus ``ridge`` has lost half of its digits."""
    d = state.n_features
    gram = state.moments.scatter[:d, :d] + ridge * np.eye(d)
    scale = np.sqrt(np.maximum(np.diagonal(gram), 0))
    scale[scale == 0] = 1.0
    return bool(linalg.eigvalsh(gram / scale / scale[:, None])[0] < ILL_CONDITIONED)


def about_zero(moments: GramPartial) -> GramPartial:
    """The same moments about zero instead of the mean: for a model without intercept."""
    scatter = moments.scatter + moments.sum_weight * np.outer(moments.mean, moments.mean)
    return GramPartial(moments.sum_weight, np.zeros_like(moments.mean), scatter)


def solve_ridge(state: LeastSquaresState, alpha: Array) -> tuple[Array, Array, int, Array]:
    """Coefficients (t, d), intercepts (t,), rank and singular values of the centred X.

    ``alpha`` (t,) multiplies ``|w|**2`` beside the *sum* of squared errors. With ``alpha == 0`` and a rank-deficient X
    the shortest solution, as LAPACK's gelsd and scikit-learn.
    """
    d, moments = state.n_features, state.moments
    coef = np.zeros((len(alpha), d))
    if state.factor is None:
        gram, products = moments.scatter[:d, :d], moments.scatter[:d, d:]
        singular = np.sqrt(np.maximum(linalg.eigvalsh(gram)[::-1], 0)) if d else np.zeros(0)
        for j, a in enumerate(alpha):
            coef[j] = solve_spd(gram + a * np.eye(d), products[:, j])
        rank = int(np.linalg.matrix_rank(gram, hermitian=True)) if d else 0
    else:
        U, singular, Vt = linalg.svd(state.factor[:d, :d], check_finite=False)
        projected = U.T @ state.factor[:d, d:]
        keep = singular > np.finfo(np.float64).eps * max(d, 100) * singular.max(initial=0.0)
        rank = int(keep.sum())
        for j, a in enumerate(alpha):
            mask = keep if a == 0 else singular > 0
            coef[j] = Vt[mask].T @ (singular[mask] * projected[mask, j] / (singular[mask] ** 2 + a))
    intercept = moments.mean[d:] - coef @ moments.mean[:d]
    return coef, intercept, rank, singular
