"""Where spans run: threads of this process, or the workers of the active Dask ``Client``.

Both answer the same four calls, so that nothing above them knows which it is talking to.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from daskml_core.engine import tasks
from daskml_core.engine.faults import Killed, Lost, Overdue, Place
from daskml_core.engine.limits import ask, process_limit, worker_limit
from daskml_core.engine.pace import Pace, moves
from daskml_core.engine.settings import memory_limit_setting, setting

R = TypeVar("R")

LARGE_PARAMS_BYTES = 1 << 16
"""Parameters above this size go out as one task that returns them, smaller ones inside each task."""

LOOK_S = 3.0
"""Seconds after which the list of workers is looked at again."""

PROBE_S = 60
"""Seconds in which the block of a span that kills workers is looked for."""

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
    watched: bool
    """Whether someone asks for `progress`."""

    def progress(self) -> float:
        """The part of the current call's tasks that have ended; may be asked from any thread."""
        ...

    def lost(self) -> list[str]:
        """Addresses of the workers that have gone since the last call."""
        ...

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

    def again(self) -> Executor:
        """An executor to try once more with, after tasks were lost.

        Raises
        ------
        Lost : there is nothing to try with.
        """
        ...

    def remove(self, directory: str) -> None:
        """Delete a directory of kept blocks wherever spans have run."""
        ...

    def rebalance(
        self,
        name: str,
        spans: Sequence[tasks.SpanRecipe],
        values: Sequence[Mapping[Any, Any]],
        handles: Sequence[Any],
        budget: int,
    ) -> dict[int, Any]:
        """New handles, by position, of resident spans that shall lie elsewhere; ``budget`` is what a process may hold."""
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


def _places(span: tasks.SpanRecipe | tasks.SpanData) -> list[Place]:
    """The blocks of a span, for errors that name them."""
    if isinstance(span, tasks.SpanRecipe):
        return [tasks.place_of(block) for block in span.blocks]
    return [Place(b.number, b.start, b.n_rows, source) for b, source in zip(span.blocks, span.sources, strict=True)]


class Threads:
    """Threads of this process, through Dask's local schedulers."""

    processes = 1
    warm: ClassVar[set[str]] = set()
    """Names of the kernels that have run in this process: their compiled code is loaded."""

    def __init__(self, n_threads: int | None = None) -> None:
        import dask
        from dask.system import CPU_COUNT

        scheduler = dask.config.get("scheduler", None)
        self.synchronous = scheduler in ("sync", "synchronous", "single-threaded")
        configured = dask.config.get("num_workers", None) or CPU_COUNT
        self.n_threads = 1 if self.synchronous else int(n_threads or configured)
        limit = memory_limit_setting()
        self.limited = limit is not None
        self.memory_limit = process_limit() if limit is None else limit
        self.watched = False
        self._ended: list[None] = []
        self._begun = 0

    def progress(self) -> float:
        return len(self._ended) / max(1, self._begun)

    def lost(self) -> list[str]:
        return []

    def base_bytes(self) -> int:
        if self.limited:
            return_free_memory()
        return _resident_set_bytes()

    def again(self) -> Threads:
        return self

    def remove(self, directory: str) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    def _run(self, name: str, calls: Sequence[Callable[[], Any]], places: Sequence[Sequence[Place]]) -> list[Any]:
        """Results of the calls, which are about these blocks."""
        if self.watched:
            ended: list[None] = []
            self._begun, self._ended = len(calls), ended

            def counted(call: Callable[[], Any]) -> Any:
                result = call()
                ended.append(None)
                return result

            calls = [functools.partial(counted, call) for call in calls]
        timeout = setting("sweep-timeout")
        if timeout is None:
            return self._compute(name, calls)
        done: set[int] = set()
        outcome: list[Any] = []

        def marked(number: int) -> Any:
            result = calls[number]()
            done.add(number)
            return result

        def work() -> None:
            try:
                outcome.append(self._compute(name, [functools.partial(marked, i) for i in range(len(calls))]))
            except BaseException as error:
                outcome.append(error)

        # A thread cannot be stopped: what is stuck stays behind, and does not keep the process from ending.
        helper = threading.Thread(target=work, name="daskml-core-sweep", daemon=True)
        helper.start()
        helper.join(timeout)
        if not outcome:
            raise Overdue([place for i, own in enumerate(places) if i not in done for place in own])
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return list(outcome[0])

    def _compute(self, name: str, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        if len(calls) == 1 or self.n_threads == 1:
            return [call() for call in calls]
        import dask

        graph = {(name, i): (call,) for i, call in enumerate(calls)}
        return list(dask.threaded.get(graph, list(graph), num_workers=self.n_threads))

    def place(self, name: str, spans: Any, values: Any, check: bool) -> list[Any]:
        return self._run(
            name,
            [functools.partial(tasks.load_span, span, value, check) for span, value in zip(spans, values, strict=True)],
            [_places(span) for span in spans],
        )

    def stream(self, spans: Any) -> list[Any]:
        return list(spans)

    def rebalance(self, name: str, spans: Any, values: Any, handles: Any, budget: int) -> dict[int, Any]:
        return {}

    def sweep(
        self, name: str, requests: Any, spans: Any, values: Any, checks: Any, fan_in: int, resident: bool
    ) -> tasks.Answer:
        calls = [
            functools.partial(tasks.run_span, requests, span, value, check)
            for span, value, check in zip(spans, values, checks, strict=True)
        ]
        answers = self._run(name, calls, [_places(span) for span in spans])
        if self.limited:
            return_free_memory()
        return tasks.merge_answers(requests.combines, *answers)

    def fold(self, name: str, request: Any, chains: Any) -> list[tasks.FoldStep]:
        def run_chain(carry: Any, steps: Sequence[tuple[Any, ...]]) -> tasks.FoldStep:
            step = tasks.FoldStep(carry, 0)
            for positions, span, value, check in steps:
                step = tasks.fold_span(request, positions, step, span, value, check)
            return step

        places = [[place for _, span, _, _ in steps for place in _places(span)] for _, steps in chains]
        return self._run(name, [functools.partial(run_chain, carry, steps) for carry, steps in chains], places)


def _or_lost(function: Callable[..., R]) -> Callable[..., R]:
    """A method of `Workers` that raises `Lost` where it fails because the scheduler is gone, whatever Dask raises then."""

    @functools.wraps(function)
    def method(self: Workers, *args: Any, **kwargs: Any) -> R:
        try:
            return function(self, *args, **kwargs)
        except (Lost, Killed, Overdue):
            raise
        except Exception as error:
            if self.client.status == "running":
                raise
            raise Lost(f"{type(error).__name__}: {error}") from error

    return method


def _contiguous(n: int, parts: int) -> list[range]:
    """``range(n)`` cut into neighbouring parts of equal size, give or take one; those of 2 x parts lie within them."""
    return [range(i * n // parts, (i + 1) * n // parts) for i in range(parts)]


class Workers:
    """Workers of the active Dask ``Client``."""

    def __init__(self, client: Any) -> None:
        if client.asynchronous:
            raise TypeError("An asynchronous Client cannot drive a fit. Use Client(asynchronous=False).")
        self.client = client
        self._values: dict[Any, Mapping[Any, Any]] = {}
        self._recipes: dict[Any, tasks.SpanRecipe] = {}
        """The span that each task of the current sweep, and each that a later sweep depends on, is about."""
        self._owner: dict[Any, str] = {}
        """The worker that has each resident span, as far as is known here."""
        self._pace = Pace()
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            client.wait_for_workers(1, timeout=60)
            workers = client.scheduler_info(n_workers=-1)["workers"]
        self.workers = dict(sorted((address, int(info["nthreads"])) for address, info in workers.items()))
        self._looked_at = time.monotonic()
        self.processes = len(self.workers)
        self.n_threads = max(self.workers.values())
        self.total_threads = sum(self.workers.values())
        limit = worker_limit(workers, ask(client, workers), DASK_SAFE_FRACTION)
        asked = memory_limit_setting()
        self.memory_limit = limit if asked is None else min(asked, limit)
        self.watched = False
        self._there = set(self.workers)
        self._begun = 0
        # Weakly: a future that is held keeps its result on the cluster.
        self._running: weakref.WeakSet[Any] = weakref.WeakSet()

    def progress(self) -> float:
        running = sum(not future.done() for future in list(self._running))
        return 1.0 - running / max(1, self._begun)

    def lost(self) -> list[str]:
        try:
            there = set(self.client.scheduler_info(n_workers=-1)["workers"])
        except Exception:  # the next sweep finds out what is wrong with the scheduler
            return []
        gone, self._there = sorted(self._there - there), there
        return gone

    def _follow(self, futures: Sequence[Any]) -> None:
        """Take down the tasks that make up the current call."""
        if self.watched:
            self._begun, self._running = len(futures), weakref.WeakSet(futures)

    def base_bytes(self) -> int:
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        used = [int(worker.get("metrics", {}).get("memory", 0)) for worker in info.values()]
        return max(used, default=0)

    def again(self) -> Workers:
        """The same client's workers as they are now, once the scheduler is there (again)."""
        while self.client.status == "connecting":  # the client gives up after its own time to connect
            time.sleep(0.1)
        if self.client.status != "running":
            raise Lost("the scheduler has gone")
        try:
            found = Workers(self.client)
            # Those that went between are still to be told of.
            found.watched, found._there = self.watched, found._there | self._there
            return found
        except Exception as error:
            raise Lost(f"no worker has come back: {type(error).__name__}: {error}") from error

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

    @_or_lost
    def place(self, name: str, spans: Any, values: Any, check: bool) -> list[Any]:
        return self._load(name, spans, values, self._owners(len(spans)), check)

    def _load(self, name: str, spans: Any, values: Any, owners: Sequence[str], check: bool) -> list[Any]:
        """Tasks that read spans, each on its owner."""
        keys = self._keys(f"load-{name}", len(spans))
        self._recipes |= dict(zip(keys, spans, strict=True))
        self._values |= dict(zip(keys, values, strict=True))
        self._owner |= dict(zip(keys, owners, strict=True))
        # `allow_other_workers`: when the owner is lost, whoever is left may read the span again.
        return [
            self.client.submit(
                tasks.load_span, span, value, check, key=key, workers=[owner], allow_other_workers=True, pure=False
            )
            for span, value, key, owner in zip(spans, values, keys, owners, strict=True)
        ]

    @_or_lost
    def stream(self, spans: Any) -> list[Any]:
        # The recipes go out once, as tasks that can be run again, not with each sweep.
        keys = self._keys("span-recipe", len(spans))
        self._recipes |= dict(zip(keys, spans, strict=True))
        return list(self.client.map(tasks.identity, list(spans), key=keys, pure=False))

    @_or_lost
    def rebalance(self, name: str, spans: Any, values: Any, handles: Any, budget: int) -> dict[int, Any]:
        self._look_at_workers()
        pace = self._pace.seconds_a_byte(self.workers)
        if pace is None or len(pace) < 2:
            return {}
        held = [(self._owner.get(handle.key, ""), span.bytes) for span, handle in zip(spans, handles, strict=True)]
        found = moves(held, pace, budget)
        if not found:
            return {}
        self._pace.moved(self.workers)
        positions = [move.position for move in found]
        loads = self._load(
            name, [spans[p] for p in positions], [values[p] for p in positions], [m.worker for m in found], False
        )
        return dict(zip(positions, loads, strict=True))

    def _look_at_workers(self) -> None:
        """Learn which workers have come and gone, every few seconds: a question to the scheduler takes milliseconds."""
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        there = self.client.scheduler_info(n_workers=-1)["workers"]
        self._looked_at = time.monotonic()
        if there:
            self.workers = dict(sorted((address, int(info["nthreads"])) for address, info in there.items()))
            self.total_threads = sum(self.workers.values())

    def _shared(self, name: str, value: Any) -> Any:
        from dask.sizeof import sizeof

        if sizeof(getattr(value, "params", value)) <= LARGE_PARAMS_BYTES:
            return value
        # One task that returns the parameters, not `scatter`: it can be computed again when its holder dies.
        return self.client.submit(tasks.identity, value, key=self._keys(f"{name}-params", 1)[0], pure=False)

    @_or_lost
    def sweep(
        self, name: str, requests: Any, spans: Any, values: Any, checks: Any, fan_in: int, resident: bool
    ) -> tasks.Answer:
        answer = self._answer(name, requests, spans, values, checks, fan_in, resident)
        self._watch_pace(spans, answer.held)
        return answer

    def _answer(
        self, name: str, requests: Any, spans: Any, values: Any, checks: Any, fan_in: int, resident: bool
    ) -> tasks.Answer:
        shared = self._shared(name, requests)
        n = len(spans)
        if resident and shared is requests and n <= fan_in:
            try:
                return self._sweep_in_groups(name, requests, spans)
            except Killed:
                pass  # span by span, to find the one that kills
        keys = self._keys(name, n)
        answers: list[Any] = [None] * n
        for owner, own in self._by_owner(spans).items():
            # Dask would send a span to where large parameters lie, and so back to the slow worker that it has left.
            there = {} if owner is None else {"workers": [owner], "allow_other_workers": True}
            columns = [[column[i] for i in own] for column in ([shared] * n, spans, values, checks)]
            futures = self.client.map(tasks.run_span, *columns, key=[keys[i] for i in own], pure=False, **there)
            for i, future in zip(own, futures, strict=True):
                answers[i] = future
        about = {future.key: [self._recipes[span.key]] for future, span in zip(answers, spans, strict=True)}
        first = list(answers)
        self._follow(first)
        # Large partials meet on the workers; small ones are fetched as soon as few are left, a round trip less.
        few = fan_in if shared is requests else 1
        while len(answers) > few:
            groups = [answers[i : i + fan_in] for i in range(0, len(answers), fan_in)]
            keys = self._keys(f"{name}-reduce", len(groups))
            answers = [
                self.client.submit(tasks.merge_answers, requests.combines, *group, key=key, pure=False)
                for group, key in zip(groups, keys, strict=True)
            ]
        try:
            return tasks.merge_answers(requests.combines, *self._gather(answers, first, about))
        except Killed as killed:
            raise self._narrowed(killed, name, requests, about, spans, values, checks) from killed

    def _sweep_in_groups(self, name: str, requests: Any, spans: Any) -> tasks.Answer:
        """The answer of resident spans, half a thread's in one task.

        Each Dask task costs about a millisecond, as much as a gradient over a million numbers. Two tasks a thread are few
        enough, and small enough for another thread to help.
        """
        places = self._groups(spans)
        groups = [[spans[i] for i in own] for own in places]
        keys = self._keys(name, len(groups))
        grouped = self.client.map(tasks.run_spans, [requests] * len(groups), groups, key=keys, pure=False)
        self._follow(grouped)
        about = {
            future.key: [self._recipes[span.key] for span in group]
            for future, group in zip(grouped, groups, strict=True)
        }
        found = self._gather(grouped, list(grouped), about)
        answers = dict(zip(itertools.chain(*places), itertools.chain(*found), strict=True))
        return tasks.merge_answers(requests.combines, *(answers[position] for position in range(len(spans))))

    def _groups(self, spans: Sequence[Any]) -> list[list[int]]:
        """Positions of spans, those of one owner together, in as many groups as two a thread."""
        most = -(-len(spans) // (2 * self.total_threads))
        return [own[i : i + most] for own in self._by_owner(spans).values() for i in range(0, len(own), most)]

    def _by_owner(self, spans: Sequence[Any]) -> dict[str | None, list[int]]:
        """Positions of the spans that each worker has; ``None`` has those that are streamed."""
        of: dict[str | None, list[int]] = {}
        for position, span in enumerate(spans):
            of.setdefault(self._owner.get(span.key), []).append(position)
        return of

    def _watch_pace(self, spans: Sequence[Any], held: Sequence[tasks.Held]) -> None:
        """Take down which worker has had each resident span, and how long it took."""
        key_of = {self._recipes[span.key].blocks[0].number: span.key for span in spans}
        busy: dict[str, tuple[int, float]] = {}
        for number, worker, n_bytes, seconds in held:
            self._owner[key_of[number]] = worker
            of_it = busy.get(worker, (0, 0.0))
            busy[worker] = of_it[0] + n_bytes, of_it[1] + seconds
        for worker, of_it in busy.items():
            self._pace.saw(worker, *of_it)

    @_or_lost
    def fold(self, name: str, request: Any, chains: Any) -> list[tasks.FoldStep]:
        shared = self._shared(name, request)
        last, every = [], []
        about: dict[Any, list[tasks.SpanRecipe]] = {}
        for carry, steps in chains:
            step: Any = tasks.FoldStep(carry, 0)
            keys = self._keys(name, len(steps))
            for (positions, span, value, check), key in zip(steps, keys, strict=True):
                step = self.client.submit(
                    tasks.fold_span, shared, positions, step, span, value, check, key=key, pure=False
                )
                recipe = self._recipes[span.key]
                about[step.key] = [replace(recipe, blocks=tuple(recipe.blocks[i] for i in positions))]
                every.append(step)
            last.append(step)
        self._follow(every)
        return self._gather(last, every, about)

    def _gather(
        self,
        wanted: list[Any],
        tasks_of_blocks: list[Any],
        about: Mapping[Any, Any],
    ) -> list[Any]:
        """Results of futures, or what went wrong in terms of blocks; ``about`` tells the spans of a task.

        Raises
        ------
        Lost, Killed, Overdue
        """
        from distributed import CancelledError, KilledWorker, wait
        from distributed.comm import CommClosedError

        timeout = setting("sweep-timeout")
        try:
            if timeout is not None:
                try:
                    wait(wanted, timeout=timeout)
                except TimeoutError:
                    late = [future for future in tasks_of_blocks if future.status == "pending"]
                    busy = {key: worker for worker, keys in self.client.processing().items() for key in keys}
                    where = ", ".join(sorted({busy[f.key] for f in late if f.key in busy}))
                    self.client.cancel(tasks_of_blocks + wanted, force=True)
                    raise Overdue([place for f in late for place in self._blocks(f.key, about)], where) from None
            return list(self.client.gather(wanted))
        except KilledWorker as error:
            key, worker, allowed = error.args
            by_memory = self._ran_out_of_memory(worker)
            raise Killed(self._blocks(key, about), allowed + 1, by_memory, of_this_sweep=key in about) from error
        except (CancelledError, CommClosedError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from error

    def _blocks(self, key: Any, about: Mapping[Any, Any]) -> list[Place]:
        recipes = about.get(key) or ([self._recipes[key]] if key in self._recipes else [])
        return [place for recipe in recipes for place in _places(recipe)]

    def _ran_out_of_memory(self, worker: Any) -> bool:
        """Whether a worker's nanny has ended it because it was over its memory limit."""
        events = self.client.get_events("worker-restart-memory")
        return any(event.get("worker") == worker.address for _, event in events if isinstance(event, dict))

    def _narrowed(
        self, killed: Killed, name: str, requests: Any, about: Any, spans: Any, values: Any, checks: Any
    ) -> Killed | Lost:
        """The block of a span that kills workers: they say which one they begin before they do.

        Where none does they died of something else. Dask counts deaths against a task for as long as it is kept: in a long
        fit whose workers come and go, tasks that hold a span are blamed for no fault of theirs. Fresh ones are not.
        """
        at = {place.number for place in killed.places}
        if killed.by_memory or not at or (killed.of_this_sweep and len(at) == 1):
            return killed
        number = next(i for i, recipe in enumerate(about.values()) if at & {b.number for b in recipe[0].blocks})
        (recipe,) = list(about.values())[number]
        value = values[number] or self._values.get(spans[number].key, {})
        (key,) = self._keys(f"{name}-one-by-one", 1)
        topic = f"daskml-core-{key[0]}"
        future = self.client.submit(
            tasks.probe_span, requests, recipe, value, checks[number], topic, key=key, pure=False
        )
        deadline = time.monotonic() + PROBE_S
        blamed: dict[str, int] = {}  # by worker that has died, the block that it was at
        while time.monotonic() < deadline and len(blamed) < 2 and future.status == "pending":
            time.sleep(0.2)
            there = self.client.scheduler_info(n_workers=-1)["workers"]
            events = [event for _, event in self.client.get_events(topic)]
            blamed = {event["worker"]: event["block"] for event in events if event["worker"] not in there}
        if blamed and future.status != "finished" and len(set(blamed.values())) == 1:
            self.client.cancel([future], force=True)
            (guilty,) = set(blamed.values())
            return Killed([p for p in killed.places if p.number == guilty], killed.n_workers, False)
        if future.status == "pending":  # slow, or no worker is left to try with: the span is what is known
            self.client.cancel([future], force=True)
            return killed
        return Lost(f"{killed.n_workers} workers died, but of no block", by_chance=True)


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
