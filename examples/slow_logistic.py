"""A logistic regression on data that come slowly: what `resume_after_kill.py` kills."""

import sys
import time

import dask
import dask.array as da
import numpy as np

from daskml_core.linear_model import LogisticRegression

BLOCKS = 40
read: list[int] = []


def slow_block(block: np.ndarray) -> np.ndarray:
    """A block as if it came from a slow disk; counts the reads."""
    if len(block):
        read.append(len(block))
        time.sleep(0.005)
    return block


def fit(checkpoint: str | None = None) -> LogisticRegression:
    """The same data and settings each time; blocks are read in every sweep."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 8))
    y = X @ rng.normal(size=8) + rng.logistic(size=len(X)) > 0
    lazy = da.from_array(X, chunks=(len(X) // BLOCKS, -1)).map_blocks(slow_block, meta=np.empty((0, 8)))
    with dask.config.set({"daskml-core.residency": False, "daskml-core.checkpoint-sweeps": 1, "num_workers": 2}):
        return LogisticRegression(solver="lbfgs", tol=1e-6).fit(lazy, y, checkpoint=checkpoint)


if __name__ == "__main__":
    fit(sys.argv[1])
