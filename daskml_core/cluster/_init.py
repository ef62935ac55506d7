"""The table of ways to find first centres, for all k-means estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from daskml_core.data.blocks import RowBlocks
from daskml_core.solvers.kmeans_seeding import Sampled, plus_plus, random_rows, solve_sample
from daskml_core.sweep import Array

INITS = ("auto", "k-means||", "k-means++", "random")


def explicit_centers(init: Any, k: int, blocks: RowBlocks, *, cosine: bool) -> Array:
    """Centres that the user gave, (k, d) in the data's dtype."""
    centers = np.array(init, dtype=np.float64)
    if centers.shape[:1] != (k,) or centers.ndim != 2:
        raise ValueError(f"The shape of the initial centers {centers.shape} does not match the number of clusters {k}.")
    if centers.shape[1] != blocks.n_features:
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match the number of features of the data "
            f"{blocks.n_features}."
        )
    if not np.isfinite(centers).all():
        raise ValueError("The initial centers contain NaN or infinity.")
    if cosine:
        lengths = np.linalg.norm(centers, axis=1, keepdims=True)
        if (lengths == 0).any():
            raise ValueError('The initial centers contain a zero vector: metric="cosine" needs directions.')
        centers /= lengths
    return centers.astype(blocks.dtype)


def first_centers(
    init: str | Array | Callable[..., Array],
    rows: Sampled,
    k: int,
    rng: np.random.Generator,
    blocks: RowBlocks,
    *,
    tol: float,
    cosine: bool,
) -> Array:
    """Centres (k, d) from rows in memory, or those that the user gave."""
    if callable(init):
        state = np.random.RandomState(int(rng.integers(np.iinfo(np.int32).max)))
        return explicit_centers(init(rows.X, k, random_state=state), k, blocks, cosine=cosine)
    if not isinstance(init, str):
        return explicit_centers(init, k, blocks, cosine=cosine)
    if init == "random":
        return random_rows(rows, k, rng)
    if init == "k-means++":
        return plus_plus(rows, k, rng)
    return solve_sample(rows, k, rng, tol=tol, cosine=cosine)
