"""What the tests' worker processes have loaded when they start: they are forked from a process that has imported this.

Spawned anew, each takes two seconds of imports, and as much again before its first compiled kernel runs.
"""

import contextlib

import dask

from tests.chaos.common import fit, problem

# What is broken shows in tests, not as a process that will not fork.
with contextlib.suppress(Exception), dask.config.set(scheduler="synchronous"):
    fit(*problem())
