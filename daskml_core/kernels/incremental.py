"""Training and scoring many estimators that have ``partial_fit``, block by block; each block is read once for all of them.

The estimators are anybody's: each is copied before it is trained further, so that a task that runs again starts from the
same state. Some rows of every block are held out for the scores, told by their global number.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.pairs import (
    ErrorSums,
    PairCounts,
    error_sums,
    merge_error_sums,
    merge_pair_counts,
    pack_pairs,
    pair_counts,
)
from daskml_core.sweep import Array, Block, Kernel


class IncrementalParams(NamedTuple):
    """Which rows are held out (cell 0 of ``cell_of``), and what ``partial_fit`` is told beside them."""

    cell_of: Any
    options: Mapping[str, Any]


class ScoreParams(NamedTuple):
    """Estimators by number, and whether they predict labels."""

    models: Mapping[int, Any]
    cell_of: Any
    labels: bool


def _side(block: Block, cell_of: Any, *, held_out: bool) -> tuple[Array, Array | None]:
    chosen = (cell_of(block.start, block.n_rows) == 0) == held_out
    return block.X[chosen], None if block.y is None else block.y[chosen]


def train_models(block: Block, request: tuple[IncrementalParams, dict[int, Any]]) -> dict[int, Any]:
    """The estimators after one more ``partial_fit`` each, on the block's training rows."""
    params, models = request
    X, y = _side(block, params.cell_of, held_out=False)
    if not len(X):
        return models
    trained = {}
    for number, model in models.items():
        trained[number] = copy.deepcopy(model)
        trained[number].partial_fit(X, y, **params.options)
    return trained


def deal_models(models: Mapping[int, Any], n: int) -> list[dict[int, Any]]:
    """The estimators in at most n parts; they do not know of each other, so that each learns the same in any part."""
    numbers = sorted(models)
    n = max(1, min(n, len(numbers)))
    return [{i: models[i] for i in numbers[c::n]} for c in range(n)]


def gather_models(parts: Sequence[Mapping[int, Any]]) -> dict[int, Any]:
    """The estimators of all parts, in the order of their numbers."""
    everyone = {number: model for part in parts for number, model in part.items()}
    return {number: everyone[number] for number in sorted(everyone)}


def score_models(block: Block, params: ScoreParams) -> dict[int, PairCounts | ErrorSums]:
    """What metrics need of every estimator's predictions of the held-out rows."""
    X, y = _side(block, params.cell_of, held_out=True)
    found: dict[int, PairCounts | ErrorSums] = {}
    for number, model in params.models.items():
        predicted = np.asarray(model.predict(X)) if len(X) else np.zeros(0, dtype=np.asarray(y).dtype)
        part = Block(None, pack_pairs(np.asarray(y), predicted), None, block.number, block.start)
        found[number] = pair_counts(part, None) if params.labels else error_sums(part, False)
    return found


def merge_scores(a: dict[int, Any], b: dict[int, Any]) -> dict[int, Any]:
    """Sums over disjoint sets of rows, estimator by estimator."""
    return {
        number: merge_pair_counts(x, b[number]) if isinstance(x, PairCounts) else merge_error_sums(x, b[number])
        for number, x in a.items()
    }


def _copy_of_rows(n_rows: int, n_features: int, params: Any) -> int:
    return 8 * n_rows * (n_features + 2)


TRAIN_MODELS = Kernel(train_models, "partial-fit", _copy_of_rows)
SCORE_MODELS = Kernel(score_models, "score-held-out", _copy_of_rows)
