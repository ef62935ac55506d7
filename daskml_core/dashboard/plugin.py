"""The scheduler's side of the page: listens to what fits tell, and adds the page to the web server."""

from __future__ import annotations

import logging
from typing import Any

from distributed import SchedulerPlugin

from daskml_core.dashboard.log import PAGE_KEY, TOPIC, FitLog

log = logging.getLogger("daskml_core")


class PagePlugin(SchedulerPlugin):
    """Keeps a `FitLog` and shows it."""

    name = "daskml_core-page"
    idempotent = True

    def __init__(self) -> None:
        self.log: FitLog | None = None

    async def start(self, scheduler: Any) -> None:
        """Add the page, if that can be. The scheduler's metadata tell fits whether to speak."""
        self.log = FitLog()
        try:
            from daskml_core.dashboard.page import add_page

            added = add_page(scheduler, self.log)
        except Exception as error:  # no page is a loss, a scheduler that does not start is a disaster
            log.warning("The page /daskml cannot be added to the dashboard: %s: %s", type(error).__name__, error)
            added = False
        scheduler.set_metadata([PAGE_KEY], added)

    def log_event(self, topic: str, msg: Any) -> None:
        """An event on any topic."""
        if self.log is None or topic != TOPIC:
            return
        try:
            self.log.add(msg)
        except Exception:
            log.debug("A message on the topic %s is none of a fit.", TOPIC, exc_info=True)

    def remove_worker(self, scheduler: Any, worker: str, **details: Any) -> None:
        """A worker has left, or has been lost."""
        if self.log is not None:
            self.log.lose(worker)
