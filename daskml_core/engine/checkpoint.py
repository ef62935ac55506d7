"""Checkpoints: what every sweep of a fit answered, so that the same fit run again goes on where it was interrupted.

A fit is a deterministic program that asks the data questions. With the answers so far in a journal the program is run
again, is handed them without reading the data, and stands where it stood: same code, same answers, same bits. Nothing
in solvers, batches or searches knows of it; the engine asks the journal first.

What makes it safe:

- every answer is kept with a digest of its question (kernel, parameters, which themselves come from the answers before)
  and with the shape of the data, and is only given to the same question about the same shape;
- the first sweep over a data set also finds a checksum of each block. When a fit is resumed its blocks are checked
  against them: in the first sweep that it has to make anyway, or, where it has to make none, in one of its own;
- settings and versions are written down in the first segment and compared by name.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from daskml_core import __version__
from daskml_core.data.kind import package_of
from daskml_core.engine.checksum import CHECKSUM_SWEEP
from daskml_core.engine.events import CheckpointWritten, tell
from daskml_core.engine.portable import NotPortable, classes_of, decode, digest, encode
from daskml_core.engine.segments import Damaged, Journal, is_url, local_path
from daskml_core.engine.settings import setting
from daskml_core.engine.watching import watching
from daskml_core.errors import CheckpointError, CheckpointMismatchError, CheckpointWarning
from daskml_core.sweep import Array, Block, Fold, Kernel, Sweep, Work

if TYPE_CHECKING:
    from daskml_core.data.blocks import RowBlocks
    from daskml_core.engine.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")

CheckpointPath = str | os.PathLike[str] | None
"""A directory or URL for the checkpoint of a fit, or none."""

MOST_PENDING_BYTES = 256 << 20
"""Answers that wait in memory to be written: beyond this they are written at once, or, on a full disk, given up."""


class _Record(NamedTuple):
    """One question and its answer."""

    question: dict[str, Any]
    answer: Any
    """Encoded; its arrays stand beside it."""
    cost: list[Any]
    checksums: Array
    """Of blocks that were seen for the first time, (n, 4)."""


class Checkpoint:
    """The journal of one fit, while it runs.

    Parameters
    ----------
    path : directory or URL.
    identity : what makes it this fit: names and descriptions, compared one by one.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, str]) -> None:
        self.journal = Journal(path)
        self.identity = dict(identity)
        self._next_segment = 1
        self._last = ""  # digest of the last segment
        self._coming: list[tuple[_Record, list[Array]]] = []
        self._replaying = True
        self._work: dict[str, tuple[Any, list[Array]]] = {}
        """Outcomes of work that are still to be asked for, by digest."""
        self._writing = threading.RLock()
        self._pending: list[tuple[dict[str, Any], list[Array]]] = []
        self._pending_bytes = 0
        self._stopped = False
        self._saved_at = time.monotonic()
        self._engines: list[Engine] = []
        self._data: list[dict[str, Any]] = []
        self._expected: list[dict[int, tuple[int, ...]]] = []
        """Checksums by block, for each engine in the order of their first questions."""
        self._seen: list[set[int]] = []
        """Blocks that have been read, and found to be what they were, since this process began."""
        self.n_replayed = 0
        self.n_asked = 0

    # -- the file ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take hold of the directory and compare what is there with this fit.

        Raises
        ------
        CheckpointMismatchError : it is a checkpoint of another fit; what differs is named.
        CheckpointError : it is in use, or written by another version.
        """
        self.journal.open()
        try:
            first = self._read_segment()
            if first is None:
                return
            held: dict[str, str] = first["identity"]
            names = dict.fromkeys([*self.identity, *held])
            changed = [name for name in names if held.get(name) != self.identity.get(name)]
            if changed:
                told = "; ".join(
                    f"{n}: {held.get(n, 'none')} there, {self.identity.get(n, 'none')} now" for n in changed
                )
                raise CheckpointMismatchError(
                    f"The checkpoint {self.journal.path} is of another fit ({told}). Remove it, or use another path."
                )
        except BaseException:
            self.journal.close()
            raise

    def _read_segment(self) -> Any:
        """The content of the next segment, whose records are the next ones to come; ``None`` at the end."""
        number = self._next_segment
        if not self.journal.exists(number):
            return None
        try:
            segment = self.journal.read(number, self._last)
            entries = [(entry, segment.arrays[slice(*entry["arrays"])]) for entry in segment.content["records"]]
        except Damaged as error:
            self._replaying = False
            warnings.warn(
                f"Segment {number} of the checkpoint {self.journal.path} is damaged ({error}): the fit goes on from "
                + (f"segment {number - 1}, {self.n_replayed} sweeps." if number > 1 else "its start."),
                CheckpointWarning,
                stacklevel=2,
            )
            return None
        for entry, arrays in entries:
            if "work" in entry:
                self._work[entry["work"]] = (entry["answer"], arrays)
            else:
                record = _Record(entry["question"], entry["answer"], entry["cost"], arrays[-1])
                self._coming.append((record, arrays[:-1]))
        self._next_segment, self._last = number + 1, segment.digest
        return segment.content

    def save(self) -> None:
        """Write what is pending, if anything is. A disk that is full stops no fit: a warning says so."""
        self._saved_at = time.monotonic()
        if not self._pending or self._stopped:
            return
        arrays: list[Array] = []
        records = []
        for entry, own in self._pending:
            records.append({**entry, "arrays": [len(arrays), len(arrays) + len(own)]})
            arrays += own
        content = {"identity": self.identity, "records": records}
        try:
            self._last = self.journal.write(self._next_segment, self._last, content, arrays)
        except OSError as error:
            self._give_up(f"could not be written ({error})", forever=self._pending_bytes > MOST_PENDING_BYTES)
            return
        self._next_segment += 1
        self._pending, self._pending_bytes = [], 0
        tell(CheckpointWritten(str(self.journal.path), self._next_segment - 1))

    def _give_up(self, why: str, *, forever: bool) -> None:
        self._stopped = forever
        if forever:
            self._pending, self._pending_bytes = [], 0
        rest = "what the fit learns from here on is not kept" if forever else "it is tried again later"
        warnings.warn(
            f"The checkpoint {self.journal.path} {why}: the fit goes on, {rest}.", CheckpointWarning, stacklevel=2
        )

    def close(self, *, finished: bool) -> None:
        """Let go. A fit that is done needs its checkpoint no more; one that is not saves what it has."""
        try:
            if finished:
                self.verify()
                self.journal.remove()
                self._pending = []
            self.save()
        except BaseException:
            self.save()
            raise
        finally:
            self.journal.close()
            self._engines.clear()

    # -- questions -----------------------------------------------------------------------------------------------

    def sweep(self, engine: Engine, sweeps: Sequence[Sweep]) -> tuple[Any, ...]:
        """The answer to sweeps asked together: from the journal, or from the data, and then kept."""
        asked = [(s.kernel.function, s.combine, s.params) for s in sweeps]
        question = self._question(engine, sweeps, asked)
        number = self._number(engine)
        found = self._replay(question, classes_of([s.params for s in sweeps]))
        if found is not None:
            return self._account(engine, number, *found)
        first = not self._seen[number]
        more = [CHECKSUM_SWEEP] if first else []
        with _aside():
            partials = engine.sweep_now(*sweeps, *more)
        checksums = partials[-1].table if first else _NO_CHECKSUMS
        answer = tuple(partials[: len(sweeps)])
        self._keep(engine, number, question, answer, checksums)
        return answer

    def fold(self, engine: Engine, fold: Fold) -> list[Any]:
        """The last carries of a fold: from the journal, or from the data, and then kept."""
        asked = [
            fold.kernel.function,
            fold.params,
            list(fold.carries),
            [list(map(int, order)) for order in fold.orders],
        ]
        question = self._question(engine, [fold], asked)
        number = self._number(engine)
        found = self._replay(question, classes_of([fold.params, list(fold.carries)]))
        if found is not None:
            return self._account(engine, number, *found)
        with _aside():
            carries, checksums = engine.fold_now(fold, checksum=True)
        self._keep(engine, number, question, carries, checksums)
        return carries

    def work(self, work: Work) -> Any:
        """The outcome of a solver's own work: from the journal, or done now, and then kept. Solvers work side by side."""
        key = digest((work.name, work.key))
        with self._writing:
            while self._replaying and key not in self._work and self._read_segment() is not None:
                pass
            found = self._work.pop(key, None)
        if found is not None:
            return decode(*found)
        outcome = work.run()
        self._append({"work": key}, outcome)
        return outcome

    def _number(self, engine: Engine) -> int:
        """Place of an engine among those that have asked."""
        for number, known in enumerate(self._engines):
            if known is engine:
                return number
        self._engines.append(engine)
        self._data.append(_shape(engine.blocks))
        self._expected.append({})
        self._seen.append(set())
        return len(self._engines) - 1

    def _question(self, engine: Engine, asks: Sequence[Any], asked: Any) -> dict[str, Any]:
        """What identifies a question: its kernels by name, its parameters by digest, the data by shape."""
        kernels = " and ".join(ask.kernel.task_name(ask.params) for ask in asks)
        number = self._number(engine)
        return {"engine": number, "kernels": kernels, "digest": digest(asked), "data": self._data[number]}

    def _replay(self, question: dict[str, Any], classes: set[type]) -> tuple[Any, list[Any], Array] | None:
        """Answer, cost and checksums of the next record, if there is one.

        Raises
        ------
        CheckpointMismatchError : the record answers another question.
        """
        if not self._replaying:
            return None
        while not self._coming and self._replaying and self._read_segment() is not None:
            pass
        if not self._coming:
            self._replaying = False
            return None
        record, arrays = self._coming.pop(0)
        if record.question != question:
            raise CheckpointMismatchError(self._difference(record.question, question))
        self.n_replayed += 1
        return decode(record.answer, arrays, classes), record.cost, record.checksums

    def _difference(self, held: dict[str, Any], now: dict[str, Any]) -> str:
        parts = [
            f"{name} of the data: {held['data'].get(name, 'none')} there, {now['data'].get(name, 'none')} now"
            for name in dict.fromkeys([*held["data"], *now["data"]])
            if held["data"].get(name) != now["data"].get(name)
        ]
        if not parts and held["kernels"] != now["kernels"]:
            parts = [f"it was asked for {held['kernels']} there, and for {now['kernels']} now"]
        if not parts:
            parts = [
                f"{now['kernels']} was asked for with other parameters: the start of the fit, a random state that is not "
                "fixed, or a machine that computes other bits"
            ]
        return (
            f"Sweep {self.n_replayed + 1} of the checkpoint {self.journal.path} is another one ({'; '.join(parts)}). "
            "Remove it, or use another path."
        )

    def _account(self, engine: Engine, number: int, answer: Any, cost: list[Any], checksums: Array) -> Any:
        """Count a replayed sweep as if it had been made, so that the model tells the same of itself."""
        engine.count(*cost)
        self._expected[number] |= {int(row[0]): tuple(row[1:].tolist()) for row in checksums}
        return answer

    def _keep(self, engine: Engine, number: int, question: dict[str, Any], answer: Any, checksums: Array) -> None:
        self.n_asked += 1
        new = self._compare(number, checksums)
        self._append({"question": question, "cost": list(engine.costs[-1])}, answer, new)

    def _append(self, entry: dict[str, Any], answer: Any, *more: Array) -> None:
        """Add an answer to the journal, and write it if that is due."""
        arrays: list[Array] = []
        with self._writing:
            if self._stopped:
                return
            try:
                encoded = encode(answer, arrays)
            except NotPortable as error:
                self.save()
                self._give_up(f"cannot hold an answer ({error})", forever=True)
                return
            self._pending.append(({**entry, "answer": encoded}, [*arrays, *more]))
            self._pending_bytes += sum(a.nbytes for a in arrays)
            sweeps = setting("checkpoint-sweeps")
            due = time.monotonic() - self._saved_at >= float(setting("checkpoint-seconds"))
            if due or (sweeps is not None and len(self._pending) >= sweeps) or self._pending_bytes > MOST_PENDING_BYTES:
                self.save()

    # -- the data ------------------------------------------------------------------------------------------------

    def _compare(self, number: int, checksums: Array) -> Array:
        """Checksums of blocks that are new; the others must be what they were."""
        expected, seen = self._expected[number], self._seen[number]
        new = []
        for row in checksums:
            block, found = int(row[0]), tuple(row[1:].tolist())
            seen.add(block)
            held = expected.setdefault(block, found)
            if held is found:
                new.append(row)
            elif held != found:
                blocks = self._engines[number].blocks
                column = next(n for n, a, b in zip(("X", "y", "sample_weight"), held, found, strict=True) if a != b)
                start = blocks.starts[block]
                raise CheckpointMismatchError(
                    f"{column} is not the data of the checkpoint {self.journal.path}: row block {block} (rows {start:_} to "
                    f"{start + blocks.lengths[block] - 1:_}) has changed. Remove the checkpoint, or use another path."
                )
        return np.array(new, dtype=np.int64).reshape(-1, 4)

    def verify(self) -> None:
        """Read the blocks whose sweeps were all replayed, and compare their checksums.

        Raises
        ------
        CheckpointMismatchError : a block has changed.
        """
        for number, engine in enumerate(self._engines):
            missing = sorted(set(self._expected[number]) - self._seen[number])
            if not missing:
                continue
            with _aside():
                if len(missing) == engine.blocks.n_blocks:
                    (found,) = engine.sweep_now(CHECKSUM_SWEEP)
                    self._compare(number, found.table)
                else:
                    _, table = engine.fold_now(Fold(_READ, None, [0], [missing]), checksum=True)
                    self._compare(number, table)


def _shape(blocks: RowBlocks) -> dict[str, Any]:
    """What of a data set must be the same for an answer to be about it."""
    columns = {
        name: f"{column.trailing} {column.dtype}"
        for name, column in (("X", blocks.X), ("y", blocks.y), ("weights", blocks.weight))
        if column is not None
    }
    cut, names = digest(blocks.lengths)[:12], digest(blocks.feature_names)[:12]
    return {"rows": blocks.n_rows, "blocks": blocks.n_blocks, "cut": cut, "feature names": names, **columns}


_NO_CHECKSUMS = np.zeros((0, 4), dtype=np.int64)


def _read_only(block: Block, request: Any) -> int:
    return 0


_READ = Kernel(_read_only, "checksum")


_current: ContextVar[Checkpoint | None] = ContextVar("daskml_core_checkpoint", default=None)


def current_checkpoint() -> Checkpoint | None:
    """The checkpoint of the fit that is running in this context."""
    return _current.get()


@contextlib.contextmanager
def _aside() -> Any:
    """While the data is read: a kernel that trains estimators itself asks questions of its own, which are not the fit's."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


# -- which fit it is -------------------------------------------------------------------------------------------------


def _describe(value: Any) -> str:
    """A container or a setting in a few words, the same for the same."""
    shape = getattr(value, "shape", None)
    if isinstance(value, np.generic) or shape is None or not hasattr(shape, "__len__"):
        if hasattr(value, "get_params") and not isinstance(value, type):
            return type(value).__qualname__
        text = repr(value)
        plain = value is None or isinstance(value, bool | int | float | str | np.generic)
        return text if plain and len(text) < 80 else f"{type(value).__name__} {digest(value)[:12]}"
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {value.dtype}"
    package, name = package_of(value), type(value).__name__
    size = " x ".join("?" if not isinstance(n, int | np.integer) else str(n) for n in shape)
    text = f"{package} {name} ({size}) {getattr(value, 'dtype', '')}".strip()
    chunks = getattr(value, "chunks", None)
    return f"{text}, chunks {digest(repr(chunks))[:8]}" if chunks is not None else text


_NOT_ITS_OWN = ("checkpoint", "verbose")
"""Arguments that make no other fit."""

_DATA = ("X", "y", "sample_weight", "groups")


def _identity(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """What makes a call this fit and no other: whose it is, its settings, its data by shape, versions."""
    import numba
    import scipy
    import sklearn

    found = {}
    subject = arguments.get("self")
    if subject is None:
        found["function"] = f"{function.__module__}.{function.__qualname__}"
    else:
        found["class"] = f"{type(subject).__module__}.{type(subject).__qualname__}"
        found |= {
            name: _setting(value) for name, value in subject.get_params(deep=True).items() if name not in _NOT_ITS_OWN
        }
    for name, value in arguments.items():
        if name in ("self", *_NOT_ITS_OWN):
            continue
        if name in _DATA:
            found[f"data {name}"] = _describe(value)
        elif name in ("params", "fit_params") and isinstance(value, Mapping):
            found |= {f"argument {key}": _describe(part) for key, part in value.items()}
        elif hasattr(value, "get_params"):
            found[f"argument {name}"] = _describe(value)
            found |= {f"{name}__{key}": _setting(part) for key, part in value.get_params(deep=True).items()}
        else:
            found[f"argument {name}"] = _setting(value)
    found["daskml-core.memory-limit"] = repr(setting("memory-limit"))
    found |= {"daskml_core": __version__}
    return found | {module.__name__: module.__version__ for module in (np, scipy, sklearn, numba)}


def _setting(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {digest(value)[:12]}"
    return _describe(value)


def _below(root: Any, identity: Mapping[str, str]) -> str:
    """A fit's own place below the one that the setting names."""
    name = identity.get("class", identity.get("function", "fit")).rpartition(".")[2]
    own = f"{name}-{hashlib.blake2b(repr(sorted(identity.items())).encode(), digest_size=8).hexdigest()}"
    return f"{root.rstrip('/')}/{own}" if is_url(root) else str(local_path(root) / own)


def resumable(function: Callable[P, R]) -> Callable[P, R]:
    """A fit that can be checkpointed: by its keyword ``checkpoint``, or the setting ``daskml-core.checkpoint``.

    A fit inside another one is part of it, and of its checkpoint.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with watching(function, signature, args, kwargs) as given:
            path = given.get("checkpoint")
            root = setting("checkpoint")
            running = _current.get()
            if running is not None:
                if path is not None:
                    raise CheckpointError(
                        f"This fit is part of one that keeps the checkpoint {running.journal.path}; "
                        "it takes none of its own."
                    )
                return function(*args, **given)
            if path is None and root is None:
                return function(*args, **given)
            bound = signature.bind(*args, **given)
            bound.apply_defaults()
            identity = _identity(function, bound.arguments)
            where: Any = path if path is not None else _below(root, identity)
            if not isinstance(where, str | os.PathLike):
                raise TypeError(f"checkpoint must be the path of a directory or a URL, got {where!r}.")
            return _run(Checkpoint(where, identity), functools.partial(function, *args, **given))

    return run


def _run(checkpoint: Checkpoint, fit: Callable[[], R]) -> R:
    checkpoint.open()
    token = _current.set(checkpoint)
    finished = False
    try:
        result = fit()
        finished = True
        return result
    finally:
        _current.reset(token)
        checkpoint.close(finished=finished)
