"""BLAS pinned to one thread while kernels run: threads come from Dask, and the bits must not depend on their number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_lock = threading.Lock()
_depth = 0
_limit: Any = None


@lru_cache(maxsize=1)
def _controller() -> Any:
    import scipy.linalg  # noqa: F401 - SciPy brings its own BLAS; it must be loaded before the controller looks
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Pin BLAS to one thread for this process until the last thread leaves.

    The limit of OpenBLAS is a process-wide number, so the first thread in sets it and the last one out restores it:
    with one limit a thread, a thread that leaves early would release it under the others.
    """
    global _depth, _limit
    with _lock:
        if _depth == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _limit.__exit__(None, None, None)
                _limit = None
