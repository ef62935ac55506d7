"""What the tests' worker processes have loaded when they start: they are forked from a process that has imported this.

Spawned anew, each takes two seconds of imports, and as much again before its first compiled kernel runs.
"""

import dask

from tests.chaos.common import fit, problem

with dask.config.set(scheduler="synchronous"):
    fit(*problem())
