"""Leave-one-out errors of ridge regression for many penalties at once: one sweep after the Gram matrix's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.linear import tile_rows
from daskml_core.sweep import Array, Block, Kernel


class LeaveOneOutParams(NamedTuple):
    """The Gram matrix's eigenvectors and what the penalties make of its eigenvalues."""

    mean: Array
    """(d + t,) of ``[X, y]``; zero without an intercept."""
    vectors: Array
    """(d, d)"""
    shrunk: Array
    """(d, a) of ``1 / (eigenvalue + alpha)``."""
    coef: Array
    """(a, d, t) coefficients in the basis of the eigenvectors."""
    intercept: float
    """What the intercept adds to a row's leverage: one over the total weight, or 0."""


class LeaveOneOut(NamedTuple):
    """Sums over rows, for each penalty and target (a, t)."""

    squared: Array
    n_rows: int


def leave_one_out(block: Block, params: LeaveOneOutParams) -> LeaveOneOut:
    """Squared errors of every row under the model fitted without it.

    The residual of a row, divided by one minus its leverage ``s (1 / W + x (G + alpha)^-1 x)``; weighted rows count with
    their weight. Golub, Heath and Wahba (1979).
    """
    d, a = params.vectors.shape[0], params.shrunk.shape[1]
    squared = np.zeros((a, params.coef.shape[2]))
    step = tile_rows(d, 8)
    for lo in range(0, block.n_rows, step):
        rows = slice(lo, lo + step)
        Q = (block.X[rows].astype(np.float64) - params.mean[:d]) @ params.vectors
        y = block.y[rows].reshape(len(Q), -1) - params.mean[d:]
        s = np.ones(len(Q)) if block.weight is None else block.weight[rows]
        leverage = s[:, None] * (params.intercept + np.square(Q) @ params.shrunk)
        for j in range(a):
            error = (y - Q @ params.coef[j]) / (1 - leverage[:, j])[:, None]
            squared[j] += s @ np.square(error)
    return LeaveOneOut(squared, block.n_rows)


def _workspace(n_rows: int, n_features: int, params: Any) -> int:
    return 8 * min(n_rows, 8192) * (3 * n_features + 2 * params.shrunk.shape[1])


LEAVE_ONE_OUT = Kernel(leave_one_out, "leave-one-out", _workspace)
