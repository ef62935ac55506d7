"""Penalties on the coefficients: value, gradient, curvature and proximal operator. Intercepts are never penalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daskml_core.sweep import Array


@dataclass(frozen=True)
class ElasticNetPenalty:
    """``l1 * |w|_1 + l2 / 2 * |w|_2**2``, beside a mean (not a sum) of losses."""

    l1: float = 0.0
    l2: float = 0.0

    def smooth_value(self, w: Array) -> float:
        """The part that has a gradient."""
        return 0.5 * self.l2 * float(np.vdot(w, w))

    def value(self, w: Array) -> float:
        """The whole penalty."""
        return self.smooth_value(w) + (self.l1 * float(np.abs(w).sum()) if self.l1 else 0.0)

    def prox(self, w: Array, step: float) -> Array:
        """``argmin_v step * l1 |v|_1 + |v - w|**2 / 2``: soft thresholding. The l2 part belongs to the gradient."""
        return np.asarray(np.sign(w) * np.maximum(np.abs(w) - step * self.l1, 0.0))

    def min_norm_subgradient(self, w: Array, grad: Array) -> Array:
        """The smallest element of ``grad + l1 * d|w|_1``; zero exactly at an optimum."""
        if not self.l1:
            return grad
        at_zero = np.sign(grad) * np.maximum(np.abs(grad) - self.l1, 0.0)
        return np.asarray(np.where(w == 0, at_zero, grad + self.l1 * np.sign(w)))
