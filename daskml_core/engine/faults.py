"""What goes wrong where spans run, and the words for it: which sweep, which block, which rows, from which source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from daskml_core.errors import BlockError


class Place(NamedTuple):
    """Where a block stands in the data set, and its source in words."""

    number: int
    start: int
    n_rows: int
    source: str = ""


class Lost(Exception):
    """The connection to the scheduler, or data that only workers held, is gone: tasks can be sent once more.

    ``by_chance``: workers have died too often, but not of a block.
    """

    def __init__(self, message: str, *, by_chance: bool = False) -> None:
        super().__init__(message)
        self.by_chance = by_chance


class Killed(Exception):
    """Every worker that took on these blocks has died; ``of_this_sweep`` if they all did in one sweep."""

    def __init__(self, places: Sequence[Place], n_workers: int, by_memory: bool, *, of_this_sweep: bool = True) -> None:
        super().__init__(places, n_workers, by_memory)
        self.places, self.n_workers = tuple(places), n_workers
        self.by_memory, self.of_this_sweep = by_memory, of_this_sweep


class Overdue(Exception):
    """The time for a sweep has run out with these blocks outstanding; ``where`` says on which workers."""

    def __init__(self, places: Sequence[Place], where: str = "") -> None:
        super().__init__(places, where)
        self.places, self.where = tuple(places), where


def rows_of(places: Sequence[Place]) -> str:
    """Blocks, their rows and sources: ``row block 3 (rows 300 to 399, Dask block x (3, 0))``.

    Several blocks are told as runs of neighbours.
    """
    runs: list[list[Place]] = []
    for place in sorted(places):
        if runs and runs[-1][-1].number + 1 == place.number:
            runs[-1].append(place)
        else:
            runs.append([place])
    told = []
    for run in runs[:8]:
        first, last = run[0], run[-1]
        rows = f"rows {first.start:_} to {max(first.start, last.start + last.n_rows - 1):_}"
        if len(run) > 1:
            told.append(f"row blocks {first.number} to {last.number} ({rows})")
            continue
        told.append(f"row block {first.number} ({rows}{', ' + first.source if first.source else ''})")
    return ", ".join(told) + (f" and {len(runs) - 8} more runs" if len(runs) > 8 else "")


@contextmanager
def naming(place: Place, doing: str) -> Iterator[None]:
    """Name the block that an exception is about.

    The library's own refusals (NaN, a wrong dtype) are ``ValueError`` and ``TypeError`` and stay what they are, with the
    place as a note; anything else becomes a `BlockError`.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not getattr(error, "__notes__", None):
            error.add_note(f"{doing} {rows_of([place])}")
        raise
    except BlockError:
        raise
    except Exception as error:
        raise BlockError(f"{doing} {rows_of([place])} failed: {type(error).__name__}: {error}") from error


def in_sweep(error: BaseException, sweep: str) -> NoReturn:
    """Raise an exception of a task again with the sweep that it belongs to."""
    if isinstance(error, BlockError) and not str(error).startswith("Sweep "):
        raise BlockError(f"{sweep}: {error}") from (error.__cause__ or error)
    error.add_note(f"in {sweep[0].lower()}{sweep[1:]}")
    raise error
