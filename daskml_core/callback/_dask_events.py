"""Events on Dask's structured logs."""

from __future__ import annotations

from typing import Any

from daskml_core.callback._base import Propagated
from daskml_core.dashboard.log import TOPIC
from daskml_core.engine.events import Event, FitBegan, FitEnded
from daskml_core.engine.feed import Feed


class DaskEvents(Propagated):
    """Tells the scheduler of the active ``Client`` what happens in a fit, with ``client.log_event``.

    ``client.get_events(topic)`` and ``client.subscribe_topic(topic, handler)`` give it back, from any client of the
    scheduler: ``(time, {"fit": ..., "events": [{"kind": "SweepEnded", "time": ..., ...}, ...]})``. Workers that are lost are
    among the events. It is one message a sweep. Without an active client nothing is told, and the fit is what it is.

    Parameters
    ----------
    topic : str, default="daskml_core"
        The one that the page at ``/daskml`` listens to.

    Examples
    --------
    >>> from daskml_core.callback import DaskEvents
    >>> from daskml_core.linear_model import Ridge
    >>> Ridge().set_callbacks(DaskEvents())
    Ridge()
    """

    def __init__(self, topic: str = TOPIC) -> None:
        if not isinstance(topic, str) or not topic:
            raise TypeError(f"topic must be a word, got {topic!r}.")
        self.topic = topic
        self._feeds: dict[str, Feed] = {}

    def on_event(self, fit: str, event: Event) -> None:
        if isinstance(event, FitBegan):
            self._feeds[fit] = Feed(topic=self.topic)
        feed = self._feeds.get(fit)
        if feed is not None:
            feed(event)
        if isinstance(event, FitEnded):
            self._feeds.pop(fit, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_feeds": {}}
