"""Out-of-fold predictions: each row by the model of the split that holds it out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.cells import sort_by_cell
from daskml_core.kernels.predict import PredictParams
from daskml_core.sweep import Array, Block, Kernel


class FoldPredictParams(NamedTuple):
    """A model a split, and the split of each cell."""

    kernel: Kernel
    models: tuple[PredictParams, ...]
    split_of_cell: Array
    cell_of: Any
    n_columns: int | None
    dtype: Any


def fold_predict(block: Block, params: FoldPredictParams) -> Array:
    """One output row per row of the block."""
    width = () if params.n_columns is None else (params.n_columns,)
    out = np.empty((block.n_rows, *width), dtype=params.dtype)
    order, runs = sort_by_cell(params.split_of_cell[params.cell_of(block.start, block.n_rows)])
    for split, run in runs:
        place = run if isinstance(order, slice) else order[run]
        part = Block(np.ascontiguousarray(block.X[place]), None, None, block.number, block.start)
        out[place] = params.kernel(part, params.models[split])
    return out


FOLD_PREDICT = Kernel(fold_predict, "predict-out-of-fold", lambda n, d, p: 8 * n * (d + 4 * (p.n_columns or 1)) + 9 * n)
