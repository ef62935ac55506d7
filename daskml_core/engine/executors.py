"""Where spans run: threads of this process, or the workers of the active Dask ``Client``.

Both answer the same four calls, so that nothing above them knows which it is talking to.
"""

from __future__ import annotations

import functools
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from daskml_core.engine import tasks
from daskml_core.engine.settings import memory_limit_setting

LARGE_PARAMS_BYTES = 1 << 16
"""Parameters above this size go out as one task that returns them, smaller ones inside each task."""

CODE_BYTES = 64 << 20
"""What loading compiled kernels and BLAS buffers adds to a process when it first runs kernels (measured 50 MB)."""

DASK_SAFE_FRACTION = 0.55
"""A Dask worker starts to spill at 60 % of its limit; resident spans must stay below that."""


class Executor(Protocol):
    """Runs span tasks and keeps resident spans."""

    n_threads: int
    processes: int
    memory_limit: int
    """Bytes that a fit may use in each process."""

    def base_bytes(self) -> int:
        """Memory that a process uses before a fit starts."""
        ...

    def place(
        self, name: str, spans: Sequence[tasks.SpanRecipe], values: Sequence[Mapping[Any, Any]], check: bool
    ) -> list[Any]:
        """Handles of resident spans."""
        ...

    def stream(self, spans: Sequence[tasks.SpanRecipe]) -> list[Any]:
        """Handles of spans that are read again in each sweep."""
        ...

    def sweep(
        self,
        name: str,
        requests: tasks.Requests,
        spans: Sequence[Any],
        values: Sequence[Mapping[Any, Any]],
        checks: Sequence[bool],
        fan_in: int,
        resident: bool,
    ) -> tasks.Answer:
        """The combined answer of all spans; ``resident`` says that all of them are in memory."""
        ...

    def remove(self, directory: str) -> None:
        """Delete a directory of kept blocks wherever spans have run."""
        ...

    def fold(
        self, name: str, request: tasks.FoldRequest, chains: Sequence[tuple[Any, Sequence[tuple[Any, ...]]]]
    ) -> list[tasks.FoldStep]:
        """The last step of each chain; a chain is ``(carry, [(positions, span, values, check), ...])``."""
        ...


def _resident_set_bytes() -> int:
    """Memory that this process holds now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the high-water mark is the best that the standard library offers
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
MMAP_THRESHOLD_BYTES = 128 << 10


@functools.lru_cache(maxsize=1)
def _glibc() -> Any:
    """The C library, where it is glibc, told to hand large arrays back as soon as they are freed.

    By default glibc learns from the first large array that is freed to keep such sizes on its heap, which then counts as
    the process's own: 100 to 180 MB in a fit of 20 MB blocks. A fixed threshold keeps large arrays out of the heap.
    """
    import ctypes

    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
    except (OSError, AttributeError):
        return None
    return library


def return_free_memory() -> None:
    """Give memory that arrays have left back to the system.

    Dask's nannies tell glibc to keep less when they start a worker; for the user's own process this is the way. Only
    fits under a memory limit call it.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


class Threads:
    """Threads of this process, through Dask's local schedulers."""

    processes = 1
    warm: ClassVar[set[str]] = set()
    """Names of the kernels that have run in this process: their compiled code is loaded."""

    def __init__(self, n_threads: int | None = None) -> None:
        import dask
        from dask.system import CPU_COUNT
        from distributed.system import MEMORY_LIMIT

        scheduler = dask.config.get("scheduler", None)
        self.synchronous = scheduler in ("sync", "synchronous", "single-threaded")
        configured = dask.config.get("num_workers", None) or CPU_COUNT
        self.n_threads = 1 if self.synchronous else int(n_threads or configured)
        limit = memory_limit_setting()
        self.limited = limit is not None
        self.memory_limit = int(0.6 * MEMORY_LIMIT) if limit is None else limit

    def base_bytes(self) -> int:
        if self.limited:
            return_free_memory()
        return _resident_set_bytes()

    def remove(self, directory: str) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    def _run(self, name: str, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        if len(calls) == 1 or self.n_threads == 1:
            return [call() for call in calls]
        import dask

        graph = {(name, i): (call,) for i, call in enumerate(calls)}
        return list(dask.threaded.get(graph, list(graph), num_workers=self.n_threads))

    def place(self, name: str, spans: Any, values: Any, check: bool) -> list[Any]:
        return self._run(
            name,
            [functools.partial(tasks.load_span, span, value, check) for span, value in zip(spans, values, strict=True)],
        )

    def stream(self, spans: Any) -> list[Any]:
        return list(spans)

    def sweep(
        self, name: str, requests: Any, spans: Any, values: Any, checks: Any, fan_in: int, resident: bool
    ) -> tasks.Answer:
        calls = [
            functools.partial(tasks.run_span, requests, span, value, check)
            for span, value, check in zip(spans, values, checks, strict=True)
        ]
        answers = self._run(name, calls)
        if self.limited:
            return_free_memory()
        return tasks.merge_answers(requests.combines, *answers)

    def fold(self, name: str, request: Any, chains: Any) -> list[tasks.FoldStep]:
        def run_chain(carry: Any, steps: Sequence[tuple[Any, ...]]) -> tasks.FoldStep:
            step = tasks.FoldStep(carry, 0)
            for positions, span, value, check in steps:
                step = tasks.fold_span(request, positions, step, span, value, check)
            return step

        return self._run(name, [functools.partial(run_chain, carry, steps) for carry, steps in chains])


def _contiguous(n: int, parts: int) -> list[range]:
    """``range(n)`` cut into neighbouring parts of equal size, give or take one; those of 2 x parts lie within them."""
    return [range(i * n // parts, (i + 1) * n // parts) for i in range(parts)]


class Workers:
    """Workers of the active Dask ``Client``."""

    def __init__(self, client: Any) -> None:
        if client.asynchronous:
            raise TypeError("An asynchronous Client cannot drive a fit. Use Client(asynchronous=False).")
        self.client = client
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            client.wait_for_workers(1, timeout=60)
            workers = client.scheduler_info(n_workers=-1)["workers"]
        self.workers = dict(sorted((address, int(info["nthreads"])) for address, info in workers.items()))
        self.processes = len(self.workers)
        self.n_threads = max(self.workers.values())
        self.total_threads = sum(self.workers.values())
        limits = [int(info["memory_limit"]) for info in workers.values() if info.get("memory_limit")]
        setting = memory_limit_setting()
        from distributed.system import MEMORY_LIMIT

        worker_limit = int(DASK_SAFE_FRACTION * min(limits)) if limits else int(0.6 * MEMORY_LIMIT / self.processes)
        self.memory_limit = worker_limit if setting is None else min(setting, worker_limit)

    def base_bytes(self) -> int:
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        used = [int(worker.get("metrics", {}).get("memory", 0)) for worker in info.values()]
        return max(used, default=0)

    def remove(self, directory: str) -> None:
        self.client.run(shutil.rmtree, directory, ignore_errors=True)

    def _keys(self, name: str, n: int) -> list[Any]:
        token = uuid.uuid4().hex
        return [(f"{name}-{token}", i) for i in range(n)]

    def _owners(self, n_spans: int) -> list[str]:
        """Neighbouring spans on one worker, in proportion to its threads."""
        slots = [address for address, threads in self.workers.items() for _ in range(threads)]
        shares = _contiguous(n_spans, len(slots))
        return [address for address, share in zip(slots, shares, strict=True) for _ in share]

    def place(self, name: str, spans: Any, values: Any, check: bool) -> list[Any]:
        owners = self._owners(len(spans))
        keys = self._keys(f"load-{name}", len(spans))
        # `allow_other_workers`: when the owner is lost, whoever is left may read the span again.
        return [
            self.client.submit(
                tasks.load_span, span, value, check, key=key, workers=[owner], allow_other_workers=True, pure=False
            )
            for span, value, key, owner in zip(spans, values, keys, owners, strict=True)
        ]

    def stream(self, spans: Any) -> list[Any]:
        # The recipes go out once, as tasks that can be run again, not with each sweep.
        return list(self.client.map(tasks.identity, list(spans), key=self._keys("span-recipe", len(spans)), pure=False))

    def _shared(self, name: str, value: Any) -> Any:
        from dask.sizeof import sizeof

        if sizeof(getattr(value, "params", value)) <= LARGE_PARAMS_BYTES:
            return value
        # One task that returns the parameters, not `scatter`: it can be computed again when its holder dies.
        return self.client.submit(tasks.identity, value, key=self._keys(f"{name}-params", 1)[0], pure=False)

    def sweep(
        self, name: str, requests: Any, spans: Any, values: Any, checks: Any, fan_in: int, resident: bool
    ) -> tasks.Answer:
        shared = self._shared(name, requests)
        n = len(spans)
        if resident and shared is requests and n <= fan_in:
            # Each Dask task costs about a millisecond, as much as a gradient over a million numbers. Half a thread's
            # spans in one task are few enough tasks, and small enough for another thread to help.
            shares = _contiguous(n, min(n, 2 * self.total_threads))
            groups = [[spans[i] for i in share] for share in shares]
            keys = self._keys(name, len(groups))
            grouped = self.client.map(tasks.run_spans, [requests] * len(groups), groups, key=keys, pure=False)
            answers = [answer for group in self.client.gather(grouped) for answer in group]
            return tasks.merge_answers(requests.combines, *answers)
        answers = self.client.map(
            tasks.run_span, [shared] * n, spans, values, checks, key=self._keys(name, n), pure=False
        )
        # Large partials meet on the workers; small ones are fetched as soon as few are left, a round trip less.
        few = fan_in if shared is requests else 1
        while len(answers) > few:
            groups = [answers[i : i + fan_in] for i in range(0, len(answers), fan_in)]
            keys = self._keys(f"{name}-reduce", len(groups))
            answers = [
                self.client.submit(tasks.merge_answers, requests.combines, *group, key=key, pure=False)
                for group, key in zip(groups, keys, strict=True)
            ]
        return tasks.merge_answers(requests.combines, *self.client.gather(answers))

    def fold(self, name: str, request: Any, chains: Any) -> list[tasks.FoldStep]:
        shared = self._shared(name, request)
        last = []
        for carry, steps in chains:
            step: Any = tasks.FoldStep(carry, 0)
            keys = self._keys(name, len(steps))
            for (positions, span, value, check), key in zip(steps, keys, strict=True):
                step = self.client.submit(
                    tasks.fold_span, shared, positions, step, span, value, check, key=key, pure=False
                )
            last.append(step)
        return list(self.client.gather(last))


def active_executor() -> Executor:
    """Workers of the active ``Client`` if there is one, otherwise threads.

    ``dask.config.set(scheduler="threads" | "synchronous")`` has the last word. Inside a Dask task the task's own
    thread is used: waiting there for other tasks of the same cluster could wait forever.
    """
    import dask

    scheduler = dask.config.get("scheduler", None)
    if scheduler in ("processes", "multiprocessing"):
        raise ValueError(
            'dask.config scheduler="processes" shares no memory between sweeps. Use a local cluster instead: '
            "distributed.Client(n_workers=...)."
        )
    if isinstance(scheduler, str) and scheduler not in ("distributed", "dask.distributed"):
        return Threads()
    from distributed import default_client, get_worker

    try:
        get_worker()
    except ValueError:
        pass
    else:
        return Threads(n_threads=1)
    try:
        return Workers(default_client())
    except ValueError:
        return Threads()
