"""Events: what a fit tells those who watch it, while it runs.

The engine and the driver tell a `Watch` what happens; whoever listens there (callbacks, the progress display, the page on
Dask's dashboard) is called with small immutable records, in the fit's own process and in the order of what happened. A
fit that nobody watches has no `Watch` at all, and the engine asks for nothing more than whether there is one.

Events are told between sweeps, never inside kernels: they cannot change what is computed. A listener that raises ends
the fit with its error.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class FitBegan:
    """A fit has been called; nothing has been read."""

    fit: str
    """An identifier of this run."""
    estimators: tuple[str, ...]
    """Names of the classes: a search or pipeline first, what it trains after it."""
    tol: float | None = None
    max_iter: float | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class DataPlanned:
    """A data set is about to be gone over for the first time. A fit may have several: its targets alone, then all."""

    data: int
    n_rows: int
    n_features: int
    n_blocks: int
    n_spans: int
    sweep_bytes: int
    """What a sweep goes over, decoded."""
    resident_bytes: int
    """What of it stays in memory between sweeps; the rest is streamed."""
    in_memory: bool
    """The data lay in memory before the fit."""
    processes: int
    threads: int

    @property
    def streams(self) -> bool:
        """Whether each sweep reads from the source."""
        return not self.in_memory and self.resident_bytes < self.sweep_bytes


@dataclass(frozen=True, slots=True)
class ModelsBegan:
    """Models are about to be trained in lockstep."""

    n_models: int


@dataclass(frozen=True, slots=True)
class SweepBegan:
    """The data is being gone over."""

    data: int
    number: int
    """Of the sweep over this data set, from 1."""
    name: str
    """Of the kernels."""
    n_blocks: int
    done: Callable[[], float] = field(repr=False, compare=False)
    """The part of the sweep that is done, whenever it is asked; from any thread."""


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """The data has been gone over."""

    data: int
    number: int
    name: str
    n_blocks: int
    """Blocks that were gone over."""
    fraction: float
    """Part of all rows that was gone over."""
    bytes_read: int
    """Decoded bytes that were read from the source; resident spans cost none."""
    seconds: float
    resident_bytes: int
    replayed: bool = False
    """The answer came from a checkpoint; seconds and bytes are those of the first time."""


@dataclass(frozen=True, slots=True)
class StepAccepted:
    """A model stands at the head of its solver's loop; its state is the model if the fit stopped here."""

    model: int
    n_models: int
    record: Mapping[str, Any]
    """The row of the history."""
    target: float | None = None
    """What `criterion` must come down to, where that is known."""
    attributes: Callable[[], dict[str, Any]] | None = field(default=None, repr=False, compare=False)
    """Fitted attributes of the estimator as if the fit had stopped here, where they can be told."""

    @property
    def loss(self) -> float | None:
        """What is minimised; k-means tells its inertia."""
        return next((float(self.record[name]) for name in LOSSES if name in self.record), None)

    @property
    def criterion(self) -> float | None:
        """What the solver stops at: a gap, a gradient's largest entry, or how far centres moved."""
        return next((float(self.record[name]) for name in CRITERIA if name in self.record), None)

    @property
    def criterion_name(self) -> str:
        """What `criterion` is, in a word."""
        return next((word for name, word in CRITERIA.items() if name in self.record), "")


LOSSES = ("loss", "inertia", "inertia_per_row")
CRITERIA = {"gap": "gap", "grad_norm": "gradient", "center_shift": "shift"}


@dataclass(frozen=True, slots=True)
class ModelEnded:
    """A model of those in lockstep is done."""

    model: int
    running: int
    """Models that go on."""
    n_models: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A search has scored settings."""

    params: Mapping[str, Any]
    """The best setting so far."""
    score: float
    metric: str
    n_scored: int
    n_settings: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker that the fit ran on is gone."""

    worker: str


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """What the sweeps have answered so far is on disk."""

    path: str
    segment: int


@dataclass(frozen=True, slots=True)
class FitEnded:
    """The fit is over, one way or another."""

    outcome: str
    """ "done", "stopped" (early, as a callback asked), "interrupted" (its checkpoint goes on) or "failed"."""
    seconds: float
    n_sweeps: float
    bytes_read: int
    reason: str = ""


Event = (
    FitBegan
    | DataPlanned
    | ModelsBegan
    | SweepBegan
    | SweepEnded
    | StepAccepted
    | ModelEnded
    | Scored
    | WorkerLost
    | CheckpointWritten
    | FitEnded
)

Listener = Callable[[Event], "str | None"]
"""Called with each event. To a `StepAccepted` it may answer why that model should stop there."""


class Watch:
    """Those who watch one fit.

    Parameters
    ----------
    listeners : called in this order.
    outer : the watch of the fit that this one is a part of; it is told the same.
    callbacks : whose listeners are among them.
    """

    def __init__(
        self, listeners: Sequence[Listener], outer: Watch | None = None, callbacks: Sequence[Any] = ()
    ) -> None:
        self.listeners = tuple(listeners)
        self.callbacks = tuple(callbacks)
        self.outer = outer
        self.stopped = ""
        """Why a model was stopped early, if one was."""
        self.failed = False
        """Whether a listener has raised."""
        # Solvers that are independent of each other step on threads of their own.
        self._telling = threading.RLock()
        self._n_data = 0
        self.bytes_read = 0
        """From the sources, so far."""
        self._gone_over: dict[int, list[float]] = {}
        """Bytes of a sweep and number of sweeps, by data set."""

    def tell(self, event: Event) -> str:
        """Tell an event; why a model should stop, or nothing."""
        with self._telling:
            if isinstance(event, DataPlanned):
                self._gone_over[event.data] = [event.sweep_bytes, 0.0]
            elif isinstance(event, SweepEnded):
                self.bytes_read += event.bytes_read
                self._gone_over[event.data][1] += event.fraction
            try:
                why = [listener(event) for listener in self.listeners]
            except StopIteration as error:  # the driver would take it for the end of a solver
                self.fail()
                raise RuntimeError("A callback raised StopIteration.") from error
            except BaseException:
                self.fail()
                raise
            reason = next((answer for answer in why if answer), "")
            if self.outer is not None:
                if isinstance(event, StepAccepted) and event.attributes is not None:
                    # They are of the inner estimator.
                    event = replace(event, attributes=None)
                reason = self.outer.tell(event) or reason
            return reason

    def fail(self) -> None:
        """Take down that a listener has raised: the fit ends with its error, and a search around it as well."""
        self.failed = True
        if self.outer is not None:
            self.outer.fail()

    def stop(self, why: str) -> None:
        """Take down that a model was stopped early."""
        self.stopped = self.stopped or why
        if self.outer is not None:
            self.outer.stop(why)

    @property
    def n_sweeps(self) -> float:
        """Complete reads of the largest data set; of others (targets alone) by their share of its bytes."""
        largest = max((size for size, _ in self._gone_over.values()), default=0)
        return round(sum(n * size / largest for size, n in self._gone_over.values()), 6) if largest else 0.0

    def tell_own(self, event: FitBegan | FitEnded) -> None:
        """Tell an event to those who watch this fit and not only one around it."""
        with self._telling:
            try:
                for listener in self.listeners:
                    listener(event)
            except BaseException:
                self.fail()
                raise

    def new_data(self) -> int:
        """A number for one more data set."""
        if self.outer is not None:
            return self.outer.new_data()
        with self._telling:
            self._n_data += 1
            return self._n_data - 1

    def has(self, callback: Any) -> bool:
        """Whether a callback listens already, here or around."""
        here = any(known is callback for known in self.callbacks)
        return here or (self.outer is not None and self.outer.has(callback))


_current: ContextVar[Watch | None] = ContextVar("daskml_core_watch", default=None)


def current_watch() -> Watch | None:
    """The watch of the fit that is running in this context; ``None`` where nobody watches."""
    return _current.get()


@contextlib.contextmanager
def watched_by(watch: Watch | None) -> Iterator[None]:
    """While this is open, engines tell this watch; none where a kernel trains estimators of its own."""
    token = _current.set(watch)
    try:
        yield
    finally:
        _current.reset(token)


def tell(event: Event) -> None:
    """Tell those who watch the fit in this context, if anyone does."""
    watch = _current.get()
    if watch is not None:
        watch.tell(event)
