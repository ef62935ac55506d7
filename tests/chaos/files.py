"""Checkpoint files: crashes while they are written, disks that are full, bits that rot."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import dask

from daskml_core.engine import segments
from daskml_core.errors import CheckpointError, CheckpointWarning
from daskml_core.linear_model import LogisticRegression
from tests.chaos.registry import fault
from tests.fits import FITS, Interrupted, bits, data, stopped_after
from tests.problems import two_classes

FIT = FITS["newton"]


class Crash(BaseException):
    """The machine stops here."""


class _File:
    """A file whose writes are counted, and of which the last one is cut short."""

    def __init__(self, file, strike):
        self.file, self.strike = file, strike

    def write(self, raw):
        self.strike(lambda: self.file.write(bytes(raw)[: len(raw) // 2]))
        return self.file.write(raw)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()


@contextmanager
def striking(strike):
    """Let ``strike(half)`` be called before each write, fsync and replace of a segment."""

    def before(original):
        def call(*args, **kwargs):
            strike(lambda: None)
            return original(*args, **kwargs)

        return call

    with (
        mock.patch.object(segments, "open", lambda *how: _File(open(*how), strike), create=True),
        mock.patch.object(segments.os, "fsync", before(os.fsync)),
        mock.patch.object(segments.os, "replace", before(os.replace)),
        mock.patch.object(Path, "unlink", before(Path.unlink)),
    ):
        yield


def fitted(place):
    """Bits of the fit, or None where it was stopped; and how many warnings it gave about its checkpoint."""
    with (
        dask.config.set({"daskml-core.checkpoint-sweeps": 1, "scheduler": "synchronous"}),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        try:
            found = bits(FIT(*data(), checkpoint=place))
        except (Crash, Interrupted):
            found = None
    return found, sum(issubclass(w.category, CheckpointWarning) for w in told)


@fault("crash at each write, fsync, rename and removal of a checkpoint", "same bits when run again")
def crash_at_each_step(seeds, quick):
    want, k, n = bits(FIT(*data())), 0, 0
    while True:
        with tempfile.TemporaryDirectory() as directory:
            calls = []

            def strike(half, calls=calls, k=k):
                calls.append(1)
                if len(calls) > k:  # a process that has ended does nothing more
                    if len(calls) == k + 1:
                        half()
                    raise Crash

            with striking(strike):
                found, _ = fitted(directory + "/c")
            if found is not None:
                assert found == want
                return f"at each of {k} steps: same bits, no warning" if not quick else f"at {n} steps: same bits"
            assert fitted(directory + "/c") == (want, 0), k
            n += 1
        k += 7 if quick else 1


@fault("disk full at each write of a checkpoint, for a while and for good", "a warning, and the fit goes on: same bits")
def disk_full(seeds, quick):
    want, n = bits(FIT(*data())), 0
    for first in range(0, 30, 9 if quick else 1):
        for last in (first + 3, 10**6):
            with tempfile.TemporaryDirectory() as directory:
                calls = []

                def strike(half, calls=calls, first=first, last=last):
                    calls.append(1)
                    if first <= len(calls) - 1 < last:
                        half()
                        raise OSError(errno.ENOSPC, "No space left on device")

                def no_room(path, mode):
                    return _File(open(path, mode), strike)

                with mock.patch.object(segments, "open", no_room, create=True):
                    found, warned = fitted(directory + "/c")
                assert found == want and (warned or len(calls) <= first), first
                n += 1
    return f"{n} times: same bits"


@fault("2,000 damaged checkpoints: bits flipped, cut, zeroed, swapped, doubled", "same bits, or a `CheckpointError`")
def mutations(seeds, quick):
    X, y = two_classes(n=200, d=3)

    def small(place=None):
        found = LogisticRegression(solver="newton").fit(X, y, checkpoint=place)
        return found.coef_.tobytes() + found.intercept_.tobytes()

    want, n = small(), 100 if quick else 2000
    refused = warned = 0
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / "whole"
        with stopped_after(5), dask.config.set({"daskml-core.checkpoint-sweeps": 1}), contextlib.suppress(Interrupted):
            small(whole)
        names = sorted(path.name for path in whole.glob("*.sweeps"))
        assert len(names) == 5
        for i in range(n):
            rng = random.Random(i)
            place = Path(directory) / "c"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(whole, place)
            mutate(rng, place, names)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    found = small(place)
                except CheckpointError:
                    refused += 1
                    continue
            assert found == want, i
            warned += any(issubclass(w.category, CheckpointWarning) for w in told)
    return f"{n}: {n - refused} times the same bits ({warned} with a warning), {refused} refused, never another model"


def mutate(rng, place, names):
    """One to three things that may happen to files."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = place / rng.choice(names)
        raw = bytearray(path.read_bytes()) if path.exists() else bytearray()
        how = rng.choice(["flip", "flip", "head", "cut", "zero", "swap", "drop", "double", "insert"])
        if not raw:
            continue
        at = rng.randrange(len(raw))
        if how == "flip":
            raw[at] ^= 1 << rng.randrange(8)
        elif how == "head":
            raw[rng.randrange(min(160, len(raw)))] = rng.randrange(256)
        elif how == "cut":
            del raw[at:]
        elif how == "zero":
            raw[at : at + 512] = bytes(len(raw[at : at + 512]))
        elif how == "insert":
            raw[at:at] = bytes([rng.randrange(256)])
        elif how == "double":
            raw = raw + raw
        if how == "drop":
            path.unlink()
        elif how == "swap":
            other = place / rng.choice(names)
            if other.exists():
                path.write_bytes(other.read_bytes())
                other.write_bytes(raw)
        else:
            path.write_bytes(raw)
