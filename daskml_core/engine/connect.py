"""Reaching a scheduler: by its address, or by the file that it writes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from daskml_core.engine.settings import setting


@contextlib.contextmanager
def with_settings(settings: Mapping[str, Any]) -> Iterator[None]:
    """While it lasts, settings of ``daskml-core`` have these values.

    Raises
    ------
    ValueError : a setting that there is not, or a value that it cannot have.
    """
    import dask

    unknown = sorted(set(settings) - set(dask.config.get("daskml-core")))
    if unknown:
        raise ValueError(f"There is no setting {unknown[0]}. There are: {', '.join(dask.config.get('daskml-core'))}.")
    with dask.config.set({f"daskml-core.{name}": value for name, value in settings.items()}):
        for name in settings:
            setting(name)
        yield


@contextlib.contextmanager
def connected(
    address: str | None, scheduler_file: str | None, *, n_workers: int = 1, timeout_s: float = 60.0
) -> Iterator[str]:
    """While it lasts, Dask runs on a scheduler's workers; without one in threads of this process.

    Parameters
    ----------
    address : such as ``tcp://node17:8786``.
    scheduler_file : what ``dask scheduler --scheduler-file`` writes; waited for, as a job's other steps may start first.
    n_workers : to wait for.
    timeout_s : for file, scheduler and workers, each.

    Yields
    ------
    Where things run, in words.

    Raises
    ------
    ConnectionError : no file, no answer, or too few workers in time.
    """
    if address is None and scheduler_file is None:
        yield "threads of this process"
        return
    from distributed import Client

    place = address or str(scheduler_file)
    if scheduler_file is not None:
        end = time.monotonic() + timeout_s
        while not os.path.exists(scheduler_file):
            if time.monotonic() > end:
                raise ConnectionError(
                    f"There is no file {scheduler_file} after {timeout_s:g} s; `dask scheduler --scheduler-file "
                    f"{scheduler_file}` writes it."
                )
            time.sleep(0.1)
    where: dict[str, Any] = {"address": address} if scheduler_file is None else {"scheduler_file": scheduler_file}
    try:
        client = Client(**where, timeout=timeout_s)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"No scheduler answers at {place} ({type(error).__name__}: {error})"[:300] + ". Is it running?"
        ) from error
    with client:
        try:
            client.wait_for_workers(n_workers, timeout=timeout_s)
        except TimeoutError as error:
            there = len(client.scheduler_info(n_workers=-1)["workers"])
            raise ConnectionError(
                f"The scheduler at {place} has {there} of {n_workers} workers after {timeout_s:g} s. Start workers, or ask "
                "for fewer."
            ) from error
        info = client.scheduler_info(n_workers=-1)
        yield f"{len(info['workers'])} workers of {info['address']}"
