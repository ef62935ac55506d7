"""Around a command: where it runs, what ends it, and errors as one line."""

from __future__ import annotations

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import click

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
"""Exit codes; click's own for a command line that cannot be understood is 2."""


class Terminated(BaseException):
    """SIGTERM, as a batch system sends it before it kills."""


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


@contextlib.contextmanager
def running(
    *,
    scheduler: str | None,
    scheduler_file: str | None,
    n_workers: int,
    wait: float,
    settings: Mapping[str, Any],
    debug: bool,
    quiet: bool,
    again: str | None,
) -> Iterator[None]:
    """While a command runs: a client if one is asked for, SIGTERM as an exception, errors and warnings as lines.

    Parameters
    ----------
    settings : of ``daskml-core``, by name.
    again : what is said of going on, to someone whose command was interrupted.

    Raises
    ------
    SystemExit : with an exit code, after anything went wrong.
    """
    from daskml_core.engine.connect import connected, with_settings

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main else None
    try:
        with (
            warnings.catch_warnings(),
            with_settings(settings),
            connected(scheduler, scheduler_file, n_workers=n_workers, timeout_s=wait) as where,
        ):
            warnings.showwarning = _warning_line
            if not quiet and (scheduler or scheduler_file):
                click.echo(f"On {where}", err=True)
            yield
    except (Terminated, KeyboardInterrupt) as stop:
        click.echo(f"Interrupted.{f' {again}' if again else ''}", err=True)
        raise SystemExit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    except (click.ClickException, SystemExit):
        raise
    except Exception as error:
        if debug:
            raise
        text = str(error) if str(error) and not isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        click.echo(f"Error: {text}", err=True)
        raise SystemExit(FAILED) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _warning_line(message: Any, category: Any, *rest: Any, **more: Any) -> None:
    click.echo(f"Warning: {message}", err=True)
