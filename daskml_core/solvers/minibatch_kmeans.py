"""Mini-batch k-means as folds: centres travel from block to block and may stop before they have seen them all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskml_core.kernels.minibatch import COLLECT, MINIBATCH, CollectParams, MiniBatchCarry, MiniBatchParams
from daskml_core.kernels.sample import RowSample
from daskml_core.solvers.in_memory import Asks
from daskml_core.solvers.sgd import block_order
from daskml_core.sweep import Fold

PARTS = 16
"""Parts of an epoch after which the chain may end, and blocks that the first centres are looked for in."""


@dataclass(frozen=True)
class MiniBatchState:
    """All that the solver knows at the head of its loop."""

    carry: MiniBatchCarry
    epoch: int = 0
    part: int = 0

    @property
    def n_iter(self) -> int:
        """Batches so far."""
        return self.carry.batches

    def record(self) -> dict[str, Any]:
        carry = self.carry
        return {
            "n_iter": carry.batches,
            "inertia_per_row": carry.inertia,
            "center_shift": float(np.sqrt(carry.moved)),
            "rows": carry.rows,
        }


def rows_of_few_blocks(n_rows: int, n_blocks: int, seed: int, *, whole: bool = False) -> Asks:
    """About ``n_rows`` rows of at most `PARTS` blocks, one at random in each stretch of blocks: a part of a sweep.

    With ``whole`` all rows of those blocks.
    """
    few = min(PARTS, n_blocks)
    rng = np.random.default_rng([seed, n_blocks])
    edges = np.linspace(0, n_blocks, few + 1).astype(int)
    chosen = [int(rng.integers(lo, stop)) for lo, stop in itertools.pairwise(edges)]
    sample: RowSample
    (sample,) = yield Fold(COLLECT, CollectParams(n_rows if whole else -(-n_rows // few), seed), [None], [chosen])
    return sample


def minibatch_kmeans(params: MiniBatchParams, n_blocks: int, state: MiniBatchState, *, max_iter: int) -> Asks:
    """Run until a batch says that it is done, or for ``max_iter`` epochs. Returns the last `MiniBatchState`."""
    parts = min(PARTS, n_blocks)
    while True:
        stop = yield state
        if stop or state.carry.done or state.epoch >= max_iter:
            return state
        rng = np.random.default_rng([params.seed, state.epoch]) if params.shuffle else None
        order = np.array_split(np.array(block_order(n_blocks, rng)), parts)[state.part].tolist()
        (carry,) = yield Fold(MINIBATCH, params._replace(epoch=state.epoch), [state.carry], [order])
        last = state.part + 1 == parts
        state = MiniBatchState(carry, state.epoch + last, 0 if last else state.part + 1)
