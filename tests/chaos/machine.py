"""A state machine of what may happen to a fit and its checkpoint."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import dask
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daskml_core.errors import CheckpointError, CheckpointMismatchError, CheckpointWarning
from tests.fits import FITS, Interrupted, bits, data, stopped_after

NAMES = ("lbfgs", "k-means", "GridSearchCV")
steps: Counter[str] = Counter()
_expected: dict[str, str] = {}


def expected(name: str) -> str:
    """Bits of an undisturbed fit."""
    if name not in _expected:
        _expected[name] = bits(FITS[name](*data()))
    return _expected[name]


class FitKillResume(RuleBasedStateMachine):
    """One directory, and fits of one kind or another that meet what was left there."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.place = self.root / "checkpoint"
        self.owner: str | None = None
        """Whose checkpoint is there, as far as it can be read."""

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def _fit(self, name: str, after: int | None, seed: int = 0) -> None:
        refused = self.owner not in (None, name) or seed != 0
        with (
            dask.config.set({"daskml-core.checkpoint-sweeps": 1}),
            warnings.catch_warnings(),
            stopped_after(after) as happened,
        ):
            warnings.simplefilter("ignore", CheckpointWarning)
            try:
                found = bits(FITS[name](*data(seed), checkpoint=self.place))
            except Interrupted:
                steps["kill"] += 1
                if happened:
                    self.owner = name
                return
            except CheckpointMismatchError:
                assert refused, "a checkpoint of the same fit was refused"
                steps["refused"] += 1
                return
            except CheckpointError as error:
                assert "has format" in str(error)
                shutil.rmtree(self.place)
                self.owner = None
                return
        if seed == 0:
            assert found == expected(name)
        steps["fit"] += 1
        assert not self.place.exists()
        self.owner = None

    @rule(name=st.sampled_from(NAMES))
    def fit(self, name):
        self._fit(name, None)

    @rule(name=st.sampled_from(NAMES), after=st.integers(1, 6))
    def kill(self, name, after):
        self._fit(name, after)

    @precondition(lambda self: self.owner is not None)
    @rule(after=st.integers(0, 4))
    def kill_again(self, after):
        assert self.owner is not None
        self._fit(self.owner, after)

    @precondition(lambda self: self.owner is not None)
    @rule()
    def go_on(self):
        assert self.owner is not None
        self._fit(self.owner, None)

    @precondition(lambda self: self.place.exists())
    @rule(which=st.integers(0, 5), how=st.sampled_from(["flip", "cut", "drop"]), at=st.floats(0, 1, exclude_max=True))
    def damage(self, which, how, at):
        segments = sorted(self.place.glob("*.sweeps")) if self.place.exists() else []
        if which >= len(segments):
            return
        steps["damage"] += 1
        path = segments[which]
        raw = bytearray(path.read_bytes())
        if how == "drop":
            path.unlink()
        elif how == "cut":
            path.write_bytes(raw[: int(at * len(raw))])
        elif raw:
            raw[int(at * len(raw))] ^= 1 << which
            path.write_bytes(raw)
        if which == 0:
            self.owner = None  # nothing tells whose it was: any fit may start there

    @precondition(lambda self: self.owner == "lbfgs")
    @rule()
    def other_data(self):
        self._fit("lbfgs", None, seed=1)

    @invariant()
    def nothing_but_segments(self):
        if self.place.exists():
            assert {path.suffix for path in self.place.iterdir()} <= {".sweeps", ""}
