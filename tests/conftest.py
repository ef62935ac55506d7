"""Settings of all tests: SciPy's array API, how worker processes start, and patience with the machine."""

import os

# Before SciPy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import dask
import pytest
from distributed.utils import get_mp_context

from daskml_core.engine import executors

dask.config.set(
    {
        # Forked from a process that has imported everything, not spawned anew: half a second, not ten on a busy machine.
        "distributed.worker.multiprocessing-method": "forkserver",
        # A local cluster gives up a worker that is not back after 15 s.
        "distributed.deploy.lost-worker-timeout": "120 s",
    }
)
get_mp_context().set_forkserver_preload(["tests.warm"])


@pytest.fixture
def same_base(monkeypatch):
    """What this process holds stands still: plans are compared to the byte, whatever is collected between them."""
    now = executors._resident_set_bytes()
    monkeypatch.setattr(executors, "_resident_set_bytes", lambda: now)
    return now
