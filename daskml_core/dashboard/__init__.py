"""A page of its own on Dask's dashboard, at ``/daskml``: the loss sweep by sweep, throughput, residency, lost workers.

From a running client: ``daskml_core.dashboard.register(client)``. With the scheduler:
``dask scheduler --preload daskml_core.dashboard``. Fits on that cluster then tell of themselves (setting
``daskml-core.dask-events``).

The page is made of public parts: Bokeh's server application, a `distributed.SchedulerPlugin`, and structured logs. That an
application is added to the scheduler's own web server has no documented way; ``scheduler.http_application`` is what there
is, and where it is missing the page is absent and nothing else happens.

This package imports nothing of the others, which take seconds to import: a scheduler waits while it does.
"""

from __future__ import annotations

from typing import Any

from daskml_core.dashboard.log import PAGE_KEY, ROUTE

__all__ = ["register"]


def register(client: Any) -> str | None:
    """Add the page to the dashboard of a client's scheduler, and tell where it is.

    May be called again, and from several clients: there is one page. It needs this package, and Bokeh, where the scheduler
    runs.

    Parameters
    ----------
    client : `distributed.Client`

    Returns
    -------
    str or None
        The page's address, or ``None`` where the scheduler has no dashboard: fits are what they were.

    Examples
    --------
    >>> from distributed import Client, LocalCluster
    >>> from daskml_core.dashboard import register
    >>> with LocalCluster(1, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
    ...     print(register(client))
    None
    """
    from daskml_core.dashboard.plugin import PagePlugin

    client.register_plugin(PagePlugin())
    if not client.get_metadata([PAGE_KEY], False):
        return None
    link = client.dashboard_link
    return ROUTE if not link else link.rpartition("/")[0] + ROUTE


def dask_setup(scheduler: Any) -> None:
    """What ``dask scheduler --preload daskml_core.dashboard`` calls."""
    from daskml_core.dashboard.plugin import PagePlugin

    scheduler.add_plugin(PagePlugin())  # a scheduler starts its plugins when it has started itself
