"""A fit whose process is killed by SIGKILL in the middle, and the same fit run again: it goes on, to the same bits.

``python examples/resume_after_kill.py``
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
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


def main() -> None:
    """Fit undisturbed; fit, kill and go on; compare."""
    whole = fit()
    print(f"undisturbed: {len(read) // BLOCKS} sweeps over X, {whole.n_sweeps_:g} as the model counts them")
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(directory, "checkpoint")
        child = subprocess.Popen([sys.executable, __file__, "--child", place])
        while not os.path.exists(os.path.join(place, "000005.sweeps")):
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept = sum(name.endswith(".sweeps") for name in os.listdir(place))
        size = sum(os.path.getsize(os.path.join(place, name)) for name in os.listdir(place))
        print(f"killed: the checkpoint holds {kept} sweeps in {size / 1e3:.0f} kB")
        read.clear()
        model = fit(place)
        print(f"run again: {len(read) // BLOCKS} sweeps over X, {model.n_sweeps_:g} as the model counts them")
        print(f"same bits: {model.coef_.tobytes() == whole.coef_.tobytes()}")
        print(f"checkpoint removed: {not os.path.exists(place)}")


if __name__ == "__main__":
    if "--child" in sys.argv:
        fit(sys.argv[-1])
    else:
        main()
