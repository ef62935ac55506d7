"""Which resident spans should lie on another worker: slow workers get less, workers that have joined get some.

Dask moves tasks that wait, not the one that runs, and a worker that holds blocks has but two tasks a thread in a sweep: one
that is twenty times slower holds every sweep up. What is measured is each worker's seconds a byte; what is moved is read
again from its source by its new holder, so that nothing waits for the slow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WORTH_RATIO, WORTH_S = 1.5, 0.1
"""Spans move where a sweep is foreseen to take so many times, and so many seconds, longer than it would after the move."""

SWEEPS = 2
"""Sweeps in a row that must show it: a worker that was busy for a moment keeps its spans. After each move twice as many, so
that on a machine whose pace changes all the time n sweeps read spans again at most log2(n) times, not n / 2 times."""


class Move(NamedTuple):
    """A span, by its position, and the worker that shall have it."""

    position: int
    worker: str


class Pace:
    """Seconds a byte of each worker, as seen in the last sweeps."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._sweeps = SWEEPS
        self._moved_among: frozenset[str] = frozenset()

    def saw(self, worker: str, n_bytes: int, busy_s: float) -> None:
        """Take down what a worker's tasks took in one sweep; ``busy_s`` are seconds of all its threads together."""
        if n_bytes:
            self._seen.setdefault(worker, []).append(busy_s / n_bytes)
            del self._seen[worker][: -self._sweeps]

    def moved(self, workers: Mapping[str, int]) -> None:
        """Start again, after spans have moved among these workers."""
        self._seen.clear()
        self._sweeps *= 2
        self._moved_among = frozenset(workers)

    def seconds_a_byte(self, workers: Mapping[str, int]) -> dict[str, float] | None:
        """Of each worker, all its threads at work; ``None`` until enough sweeps were seen.

        The fastest of the last sweeps counts. A worker that has not been seen is taken for one of the others.
        """
        if self._moved_among != workers.keys():  # others are there than at the last move: it tells nothing of them
            self._sweeps = SWEEPS
        known = {w: min(s[-self._sweeps :]) for w, s in self._seen.items() if w in workers and len(s) >= self._sweeps}
        if not known or any(w in workers and len(s) < self._sweeps for w, s in self._seen.items()):
            return None
        typical = sorted(known.values())[len(known) // 2]
        return {worker: known.get(worker, typical) / threads for worker, threads in workers.items()}


def moves(held: Sequence[tuple[str, int]], seconds_a_byte: Mapping[str, float], budget: int) -> list[Move]:
    """The moves after which no worker holds a sweep up, or none where it is not worth the reading.

    Parameters
    ----------
    held : the worker that has each span, and the span's bytes. Spans of workers that are gone lie wherever they were read
        again; they count for nobody and stay.
    seconds_a_byte : of every worker that is there.
    budget : bytes that one worker may hold.
    """
    load = dict.fromkeys(seconds_a_byte, 0)
    of: dict[str, list[int]] = {worker: [] for worker in seconds_a_byte}
    for position, (worker, n_bytes) in enumerate(held):
        if worker in load:
            load[worker] += n_bytes
            of[worker].append(position)

    def seconds(worker: str, n_bytes: int) -> float:
        return n_bytes * seconds_a_byte[worker]

    before = max((seconds(w, n) for w, n in load.items()), default=0.0)
    found: list[Move] = []
    while True:
        slowest = max(load, key=lambda w: seconds(w, load[w]))
        if not of[slowest]:
            break
        position = of[slowest][-1]
        n_bytes = held[position][1]
        rest = [w for w in load if w != slowest and load[w] + n_bytes <= budget]
        if not rest:
            break
        target = min(rest, key=lambda w: seconds(w, load[w] + n_bytes))
        if seconds(target, load[target] + n_bytes) >= seconds(slowest, load[slowest]):
            break
        of[slowest].pop()
        load[slowest] -= n_bytes
        load[target] += n_bytes
        found.append(Move(position, target))
    after = max((seconds(w, n) for w, n in load.items()), default=0.0)
    # A span that was handed on twice has its last holder; one that came back did not move.
    last = {move.position: move.worker for move in found}
    worth = before > WORTH_RATIO * after and before - after > WORTH_S
    return [Move(p, w) for p, w in sorted(last.items()) if w != held[p][0]] if worth else []
