"""How a fit stands: what its events add up to, for a display that is drawn now and then."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from daskml_core.engine.events import (
    DataPlanned,
    Event,
    FitBegan,
    FitEnded,
    ModelEnded,
    ModelsBegan,
    Scored,
    StepAccepted,
    SweepBegan,
    SweepEnded,
    WorkerLost,
)
from daskml_core.engine.memory import format_bytes

REMEMBERED = 4
"""Steps that a forecast looks back at: what was fast at first is often slow near the end."""

MOST_MODELS = 1000
"""Models whose steps are remembered one by one."""


def steps_left(values: Sequence[float], target: float) -> float | None:
    """Steps until a quantity that falls by a factor a step is at ``target``; ``None`` where it does not fall.

    The factor is the geometric mean of the last steps' factors.

    >>> steps_left([1e-1, 1e-2, 1e-3], 1e-5)
    2.0
    """
    last = [value for value in values if value > 0 and math.isfinite(value)][-REMEMBERED:]
    if target <= 0 or len(last) < 2:
        return None
    if last[-1] <= target:
        return 0.0
    rate = math.log(last[0] / last[-1]) / (len(last) - 1)
    return round(math.log(last[-1] / target) / rate, 6) if rate > 0 else None


class Status:
    """What is known of a running fit. Events are taken in by the fit's threads, and it is read from another one.

    Parameters
    ----------
    clock : seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.started = clock()
        self.names: tuple[str, ...] = ()
        self.tol: float | None = None
        self.max_iter: float | None = None
        self.sweep: SweepBegan | None = None
        self.n_sweeps = 0
        self.kernels = ""
        self.loss: float | None = None
        self.criterion: float | None = None
        self.criterion_name = ""
        self.target: float | None = None
        self.models, self.running = 1, 1
        self.best: Scored | None = None
        self.lost = 0
        self.bytes_read = 0
        self.replayed = 0
        self.ended: FitEnded | None = None
        self._plans: dict[int, DataPlanned] = {}
        self._sweep_began = self.started
        self._rates: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
        """Bytes read and seconds of the last sweeps."""
        self._laps: deque[float] = deque(maxlen=REMEMBERED)
        """Seconds from the end of a sweep to that of the next."""
        self._lap_began = self.started
        self._falls: dict[int, deque[float]] = {}
        self._n_iter = 0.0

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        now = self._clock()
        if isinstance(event, FitBegan):
            self.names, self.tol, self.max_iter = event.estimators, event.tol, event.max_iter
        elif isinstance(event, DataPlanned):
            self._plans[event.data] = event
        elif isinstance(event, SweepBegan):
            self._sweep_began, self.sweep, self.kernels = now, event, event.name
        elif isinstance(event, SweepEnded):
            self._end_sweep(event, now)
        elif isinstance(event, ModelsBegan):
            self.models = self.running = event.n_models
            self._falls = {}
        elif isinstance(event, ModelEnded):
            self.running = event.running
            self._falls.pop(event.model, None)
        elif isinstance(event, StepAccepted):
            self._step(event)
        elif isinstance(event, Scored):
            self.best = event
        elif isinstance(event, WorkerLost):
            self.lost += 1
        elif isinstance(event, FitEnded):
            self.ended = event

    def _end_sweep(self, event: SweepEnded, now: float) -> None:
        self.n_sweeps += 1
        self.sweep = None
        self.replayed += event.replayed
        if not event.replayed:
            self.bytes_read += event.bytes_read
            self._rates.append((event.bytes_read, event.seconds))
            self._laps.append(now - self._lap_began)
        self._lap_began = now

    def _step(self, event: StepAccepted) -> None:
        loss, criterion = event.loss, event.criterion
        if loss is not None and math.isfinite(loss):
            self.loss = loss
        if criterion is None or not math.isfinite(criterion):
            return
        self.criterion, self.criterion_name = criterion, event.criterion_name
        self.target = event.target if event.target is not None else self.tol
        self._n_iter = float(event.record.get("n_iter", 0))
        if len(self._falls) < MOST_MODELS:
            self._falls.setdefault(event.model, deque(maxlen=REMEMBERED)).append(criterion)

    # -- read by a display -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The estimator, and what it trains: ``GridSearchCV of LogisticRegression``."""
        first, *rest = self.names or ("fit",)
        return f"{first} of {', '.join(rest)}" if rest else first

    @property
    def elapsed_s(self) -> float:
        """Seconds since the fit began."""
        return self.ended.seconds if self.ended is not None else self._clock() - self.started

    @property
    def fraction(self) -> float:
        """Part of the current sweep that is done; 1 between sweeps, and 0 before the first."""
        sweep = self.sweep
        return float(self.n_sweeps > 0) if sweep is None else min(1.0, max(0.0, sweep.done()))

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes read from the sources a second, over the last sweeps; ``None`` where nothing is read."""
        n_bytes, seconds = (sum(part) for part in zip(*list(self._rates), strict=True)) if self._rates else (0, 0.0)
        sweep = self.sweep
        plan = None if sweep is None else self._plans.get(sweep.data)
        if sweep is not None and plan is not None and not plan.in_memory and (sweep.number == 1 or plan.streams):
            # The sweep that runs: a first one reads everything, a later one what is not resident.
            size = plan.sweep_bytes if sweep.number == 1 else plan.sweep_bytes - plan.resident_bytes
            part = size * self.fraction
            if part > 0:
                n_bytes, seconds = n_bytes + part, seconds + self._clock() - self._sweep_began
        return n_bytes / seconds if n_bytes and seconds > 0 else None

    @property
    def resident(self) -> float | None:
        """Part of the data that stays in memory between sweeps."""
        plan = max(list(self._plans.values()), key=lambda plan: plan.sweep_bytes, default=None)
        if plan is None or not plan.sweep_bytes:
            return None
        return 1.0 if plan.in_memory else plan.resident_bytes / plan.sweep_bytes

    @property
    def sweep_left_s(self) -> float | None:
        """Seconds until the current sweep ends, as fast as it has been so far."""
        done = self.fraction
        if self.sweep is None or not 0.02 < done < 1:
            return None
        return (self._clock() - self._sweep_began) * (1 - done) / done

    @property
    def left_s(self) -> float | None:
        """Seconds until the fit ends, where that can be foreseen: the slowest model goes on as it has lately."""
        target = self.target
        if target is None or not self._laps:
            return None
        forecasts = [steps_left(list(fall), target) for fall in list(self._falls.values())]
        if not forecasts or any(left is None for left in forecasts):
            return None
        steps = max(left for left in forecasts if left is not None)
        if self.max_iter is not None and self.max_iter > self._n_iter:
            steps = min(steps, max(0.0, self.max_iter - self._n_iter))
        lap = float(np.median(list(self._laps)))
        return max(0.0, math.ceil(steps) * lap - (self._clock() - self._lap_began))

    def words(self) -> list[str]:
        """What there is to say, the most telling first."""
        number = self.n_sweeps + (self.sweep is not None)
        found = [f"sweep {number}" if number else "looking at the data"]
        if self.ended is not None:
            found = [f"{self.n_sweeps} sweep{'s' if self.n_sweeps != 1 else ''}"]
        if self.loss is not None and self.models == 1:
            found.append(f"loss {self.loss:.5g}")
        if self.criterion is not None and self.models == 1 and self.ended is None:
            goal = f" \u2192 {self.target:.1e}" if self.target else ""
            found.append(f"{self.criterion_name} {self.criterion:.1e}{goal}")
        if self.models > 1:
            found.append(
                f"{self.running} of {self.models} models running" if self.ended is None else f"{self.models} models"
            )
        if self.best is not None:
            found.append(f"best {self.best.metric} {self.best.score:.5g}")
        rate, resident = self.bytes_per_s, self.resident
        if self.ended is not None and self.bytes_read:
            found.append(f"{format_bytes(self.bytes_read)} read")
        elif rate is not None:
            found.append(f"{format_bytes(rate)}/s")
        if resident is not None and self.ended is None:
            found.append("in memory" if resident >= 1 else f"{resident:.0%} in memory" if resident else "streamed")
        if self.replayed:
            found.append(f"{self.replayed} from the checkpoint")
        if self.lost:
            found.append(f"{self.lost} worker{'s' if self.lost > 1 else ''} lost")
        if self.ended is not None and self.ended.outcome != "done":
            found.append(self.ended.outcome)
        return found

    def times(self) -> str:
        """Time gone, and time left where it can be foreseen."""
        gone = format_seconds(self.elapsed_s)
        left, sweep_left = self.left_s, self.sweep_left_s
        if self.ended is not None:
            return gone
        if left is not None:
            return f"{gone}, about {format_seconds(left)} left"
        if sweep_left is not None:
            return f"{gone}, this sweep {format_seconds(sweep_left)} more"
        return gone


def format_seconds(seconds: float) -> str:
    """Seconds for people.

    >>> format_seconds(3.21), format_seconds(75), format_seconds(7322)
    ('3.2 s', '1:15', '2:02:02')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
