"""Events of a fit on a cluster, told to its scheduler: structured logs under a topic, for the page and for anyone else.

Messages are plain dicts. Everything that happens between two sweeps goes out as one of them, so that a sweep costs one
more message of a millisecond, however many models take a step in it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from typing import Any

from daskml_core.dashboard.log import PAGE_KEY, TOPIC
from daskml_core.engine.events import (
    Event,
    FitBegan,
    FitEnded,
    StepAccepted,
    SweepBegan,
    WorkerLost,
)
from daskml_core.engine.settings import setting

log = logging.getLogger("daskml_core")

MOST_MODELS = 100
"""Models of one sweep that are told of one by one."""


def as_dict(event: Event) -> dict[str, Any]:
    """An event as plain numbers, strings, lists and dicts.

    >>> as_dict(WorkerLost("tcp://10.0.0.7:4000"))
    {'kind': 'WorkerLost', 'worker': 'tcp://10.0.0.7:4000'}
    """
    found: dict[str, Any] = {"kind": type(event).__name__}
    if isinstance(event, StepAccepted):
        plain: dict[str, Any] = {
            "model": event.model,
            "n_models": event.n_models,
            "loss": event.loss,
            "criterion": event.criterion,
        }
        plain |= {"criterion_name": event.criterion_name, "target": event.target}
        return found | {name: _plain(value) for name, value in plain.items()}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if not callable(value):
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _plain(value.item()) if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else str(value)


class Feed:
    """A listener that sends the events of a fit to the scheduler of a client.

    Parameters
    ----------
    client : a ``Client`` that is not asynchronous, or ``None`` for the one that is active when the fit begins.
    topic : of the structured logs.
    """

    def __init__(self, client: Any = None, topic: str = TOPIC) -> None:
        self._client, self._topic = client, topic
        self._fit = ""
        self._waiting: list[dict[str, Any]] = []
        self._steps = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, FitBegan):
            self._fit, self._waiting = event.fit, []
            if self._client is None:
                self._client = active_client()
        if isinstance(event, StepAccepted):
            self._steps += 1
            if self._steps > MOST_MODELS:
                return
        self._waiting.append({**as_dict(event), "time": time.time()})
        # A sweep's end waits for the steps that come of it, but not longer than to the next sweep's beginning.
        if isinstance(event, FitBegan | SweepBegan | WorkerLost | FitEnded):
            self._send()

    def _send(self) -> None:
        waiting, self._waiting, self._steps = self._waiting, [], 0
        if self._client is None or self._client.status != "running":
            return
        try:
            self._client.log_event(self._topic, {"fit": self._fit, "events": waiting})
        except Exception:  # a scheduler that is lost: the fit waits for it, or says itself that it ends of it
            log.debug("Events could not be sent to the scheduler.", exc_info=True)


def feed_of_this_fit() -> Feed | None:
    """The feed that a fit has by the setting ``daskml-core.dask-events``."""
    chosen = setting("dask-events")
    if chosen in ("off", False):
        return None
    client = active_client()
    if client is None:
        return None
    if chosen in ("on", True):
        return Feed(client)
    try:
        return Feed(client) if client.get_metadata([PAGE_KEY], False) else None
    except Exception:  # the fit finds out what is wrong with its scheduler, and says it better
        return None


def active_client() -> Any:
    """The client that a fit would run on, or ``None``."""
    if "distributed" not in sys.modules:  # nobody can have made one
        return None
    import dask
    from distributed import default_client, get_worker

    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str) and scheduler not in ("distributed", "dask.distributed"):
        return None
    try:
        get_worker()
    except ValueError:
        pass
    else:
        return None
    try:
        client = default_client()
    except ValueError:
        return None
    return None if client.asynchronous or client.status != "running" else client
