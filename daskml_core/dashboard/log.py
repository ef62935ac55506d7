"""What a scheduler remembers of the fits that tell of themselves: bounded, whatever they send."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TOPIC = "daskml_core"
"""Of Dask's structured logs, that fits are told under."""
PAGE_KEY = "daskml_core-page"
"""Of the scheduler's metadata: whether a page listens."""
ROUTE = "/daskml"

MOST_FITS = 20
MOST_POINTS = 1000
MOST_MODELS = 20
"""Models whose losses are drawn one by one; of more only the smallest is."""
MOST_LOST = 100
MOST_LETTERS = 300


class Series(Generic[T]):
    """Points in their order; where there are too many, every second one of the older ones is forgotten.

    >>> series = Series(4)
    >>> for number in range(9):
    ...     series.append(number)
    >>> list(series)
    [0, 6, 8]
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self.most = most
        self._points: list[T] = []

    def append(self, point: T) -> None:
        if len(self._points) >= self.most:
            self._points = self._points[::2]
        self._points.append(point)

    def replace_last(self, point: T) -> None:
        self._points[-1] = point

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._points))

    def __len__(self) -> int:
        return len(self._points)

    @property
    def last(self) -> T | None:
        return self._points[-1] if self._points else None


@dataclass(frozen=True)
class SweepPoint:
    """A sweep as the page shows it."""

    sweep: int
    kernels: str
    seconds: float
    bytes_read: float
    resident_bytes: float
    replayed: bool


@dataclass
class FitRecord:
    """What is known of one fit."""

    fit: str
    name: str = "fit"
    began: float = 0.0
    now: float = 0.0
    outcome: str = "running"
    reason: str = ""
    tol: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)
    n_sweeps: int = 0
    sweeping: str = ""
    bytes_read: float = 0.0
    sweeps: Series[SweepPoint] = field(default_factory=Series)
    losses: Series[tuple[int, float]] = field(default_factory=Series)
    """Sweep and the smallest loss of the models that took a step after it."""
    loss: float | None = None
    by_model: dict[tuple[int, int], Series[tuple[int, float]]] = field(default_factory=dict)
    """By batch and model."""
    criteria: Series[tuple[int, float]] = field(default_factory=Series)
    """Sweep and the largest criterion."""
    criterion: str = ""
    target: float | None = None
    n_models: int = 1
    running: Series[tuple[int, int]] = field(default_factory=Series)
    best: Series[tuple[int, float, str, str]] = field(default_factory=Series)
    """Sweep, score, metric and setting."""
    n_scored: int = 0
    n_settings: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Workers that have gone, and the sweep that was running."""
    checkpoint: str = ""
    n_written: int = 0
    _batch: int = 0

    @property
    def is_running(self) -> bool:
        return self.outcome == "running"

    @property
    def seconds(self) -> float:
        return max(0.0, self.now - self.began)

    def add(self, event: dict[str, Any]) -> None:
        """Take an event in, as `daskml_core.engine.feed.as_dict` writes it. One of a kind that is not known is left."""
        self.now = max(self.now, _number(event.get("time")) or self.now)
        take = getattr(self, f"_add_{event.get('kind')}", None)
        if take is not None:
            take(event)

    def _add_FitBegan(self, event: dict[str, Any]) -> None:
        first, *rest = [_text(name) for name in event.get("estimators") or ["fit"]]
        self.name = f"{first} of {', '.join(rest)}" if rest else first
        self.began = self.now
        self.tol = _number(event.get("tol"))
        self.checkpoint = _text(event.get("checkpoint") or "")

    def _add_DataPlanned(self, event: dict[str, Any]) -> None:
        if (_number(event.get("sweep_bytes")) or 0) >= (_number(self.plan.get("sweep_bytes")) or 0):
            self.plan = {
                name: _number(value) for name, value in list(event.items())[:20] if name not in ("kind", "time")
            }
            if event.get("in_memory"):  # it need not be pinned
                self.plan["resident_bytes"] = self.plan.get("sweep_bytes")

    def _add_ModelsBegan(self, event: dict[str, Any]) -> None:
        self.n_models = int(_number(event.get("n_models")) or 1)
        self.running.append((self.n_sweeps, self.n_models))
        self._batch += 1
        for series in (self.losses, self.criteria):
            if series.last is not None:  # other models: no line leads from the last ones to them
                series.append((self.n_sweeps, math.nan))

    def _add_ModelEnded(self, event: dict[str, Any]) -> None:
        running = int(_number(event.get("running")) or 0)
        self.running.append((self.n_sweeps, running))

    def _add_SweepBegan(self, event: dict[str, Any]) -> None:
        self.sweeping = _text(event.get("name") or "")

    def _add_SweepEnded(self, event: dict[str, Any]) -> None:
        self.n_sweeps += 1
        self.sweeping = ""
        read = _number(event.get("bytes_read")) or 0.0
        replayed = bool(event.get("replayed"))
        self.bytes_read += 0.0 if replayed else read
        self.sweeps.append(
            SweepPoint(
                self.n_sweeps, _text(event.get("name") or ""), _number(event.get("seconds")) or 0.0, read,
                _number(event.get("resident_bytes")) or self.plan.get("resident_bytes") or 0.0, replayed,
            )
        )  # fmt: skip

    def _add_StepAccepted(self, event: dict[str, Any]) -> None:
        sweep, model = self.n_sweeps, int(_number(event.get("model")) or 0)
        loss, criterion = _number(event.get("loss")), _number(event.get("criterion"))
        if loss is not None:
            self.loss = _extreme(self.losses, sweep, loss, min)
            if (self._batch, model) in self.by_model or len(self.by_model) < MOST_MODELS:
                self.by_model.setdefault((self._batch, model), Series()).append((sweep, loss))
        if criterion is not None and criterion > 0:
            self.criterion = _text(event.get("criterion_name") or "")
            target = _number(event.get("target"))
            self.target = target if target is not None else self.tol
            _extreme(self.criteria, sweep, criterion, max)

    def _add_Scored(self, event: dict[str, Any]) -> None:
        score = _number(event.get("score"))
        self.n_scored = int(_number(event.get("n_scored")) or 0)
        self.n_settings = int(_number(event.get("n_settings")) or 0)
        if score is not None:
            params = event.get("params")
            words = ", ".join(f"{k}={v}" for k, v in params.items()) if isinstance(params, dict) else str(params)
            self.best.append((self.n_sweeps, score, _text(event.get("metric") or ""), _text(words)))

    def _add_WorkerLost(self, event: dict[str, Any]) -> None:
        self.lose(_text(event.get("worker") or ""))

    def _add_CheckpointWritten(self, event: dict[str, Any]) -> None:
        self.n_written += 1

    def _add_FitEnded(self, event: dict[str, Any]) -> None:
        self.outcome, self.reason = _text(event.get("outcome") or "done"), _text(event.get("reason") or "")
        self.sweeping = ""

    def lose(self, worker: str) -> None:
        """Take down that a worker has gone. The scheduler and the fit may both tell."""
        if len(self.lost) < MOST_LOST:
            self.lost.setdefault(worker, self.n_sweeps + 1)


class FitLog:
    """The fits that a scheduler was told of, the newest last."""

    def __init__(self, most: int = MOST_FITS) -> None:
        self.most = most
        self.fits: OrderedDict[str, FitRecord] = OrderedDict()
        self.version = 0
        """Changes whenever something has been added."""

    def add(self, message: Any) -> None:
        """Take in what a fit has sent. Anybody may write to a topic: what is no such message is passed over."""
        if not isinstance(message, dict) or not isinstance(message.get("events"), list | tuple):
            return
        fit = _text(message.get("fit") or "")
        if fit not in self.fits:
            self.fits[fit] = FitRecord(fit)
            while len(self.fits) > self.most:
                self.fits.popitem(last=False)
        for event in message["events"]:
            if isinstance(event, dict):
                self.fits[fit].add(event)
        self.version += 1

    def lose(self, worker: str) -> None:
        """Take down, for all fits that run, that a worker has gone."""
        for record in self.fits.values():
            if record.is_running:
                record.lose(worker)
        self.version += 1


def _extreme(series: Series[tuple[int, float]], sweep: int, value: float, choose: Callable[..., float]) -> float:
    """Add a model's value; of several after the same sweep the smallest, or largest, is kept, and returned."""
    last = series.last
    if last is not None and last[0] == sweep and math.isfinite(last[1]):
        value = choose(last[1], value)
        series.replace_last((sweep, value))
    else:
        series.append((sweep, value))
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "\u2026"
