"""A journal on disk: numbered files that are only ever added, each whole or not there.

A segment is a line that names the format, the digest of what follows, and an npz of arrays in which ``json`` (uint8) holds
everything that is no array. It is written beside its place, flushed to the disk, and renamed; the ones before it are never
touched. Each names the digest of the one before it, so that segments of two journals do not mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from daskml_core.errors import CheckpointError
from daskml_core.sweep import Array

FORMAT = 1
_MAGIC = "daskml_core checkpoint "
_SUFFIX = ".sweeps"


class Damaged(ValueError):
    """A segment that is not what was written."""


class Segment(NamedTuple):
    """What one file holds."""

    content: Any
    """JSON."""
    arrays: list[Array]
    digest: str


class Journal:
    """The segments in one directory, and the right to write there.

    Raises
    ------
    CheckpointError : another fit is writing there, or the path is no directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: int | None = None

    def open(self) -> None:
        """Make the directory and take hold of it until this process closes it or dies."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise CheckpointError(f"The checkpoint {self.path} cannot be opened: {error}.") from error
        try:
            import fcntl
        except ImportError:  # Windows: two fits at one checkpoint are then the user's to avoid
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise CheckpointError(f"Another fit is writing the checkpoint {self.path}. Use another path.") from error

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _place(self, number: int) -> Path:
        return self.path / f"{number:06d}{_SUFFIX}"

    def exists(self, number: int) -> bool:
        """Whether there is a segment of this number, whole or not."""
        return self._place(number).exists()

    def read(self, number: int, previous: str) -> Segment:
        """A segment that follows the one of digest ``previous``.

        Raises
        ------
        Damaged : truncated, changed, or of another journal.
        CheckpointError : written in another format.
        """
        try:
            raw = self._place(number).read_bytes()
        except OSError as error:
            raise Damaged(f"it cannot be read: {error}") from error
        head, _, rest = raw.partition(b"\n")
        line, _, payload = rest.partition(b"\n")
        version = head.decode("ascii", "replace").removeprefix(_MAGIC)
        if head.startswith(_MAGIC.encode()) and version.isdigit() and version != str(FORMAT):
            raise CheckpointError(
                f"{self._place(number)} has format {version}; this version of the library reads format {FORMAT}. Remove "
                "the checkpoint, or go on with the version that wrote it."
            )
        found = hashlib.blake2b(payload, digest_size=32).hexdigest()
        if version != str(FORMAT) or line.decode("ascii", "replace") != found:
            raise Damaged("its digest is not that of its content")
        try:
            with np.load(io.BytesIO(payload), allow_pickle=False) as held:
                content = json.loads(held["json"].tobytes().decode())
                arrays = [held[f"a{i}"] for i in range(len(held.files) - 1)]
        except Exception as error:
            raise Damaged(f"{type(error).__name__}: {error}") from error
        if content["previous"] != previous:
            raise Damaged("it does not follow the one before it")
        return Segment(content["content"], arrays, found)

    def write(self, number: int, previous: str, content: Any, arrays: Sequence[Array]) -> str:
        """Write a segment, all or nothing; returns its digest. Segments behind it, of a journal that broke off, go.

        Raises
        ------
        OSError : what the system says (a full disk); nothing has changed then.
        """
        text = json.dumps({"previous": previous, "content": content}).encode()
        buffer = io.BytesIO()
        np.savez(buffer, json=np.frombuffer(text, np.uint8), **{f"a{i}": a for i, a in enumerate(arrays)})  # type: ignore[arg-type]
        payload = buffer.getbuffer()
        found = hashlib.blake2b(payload, digest_size=32).hexdigest()
        place = self._place(number)
        temporary = place.with_suffix(".temporary")
        try:
            with open(temporary, "wb") as file:
                file.write(f"{_MAGIC}{FORMAT}\n{found}\n".encode())
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            self._remove_behind(number)
            os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._sync_directory()
        return found

    def _sync_directory(self) -> None:
        """Have the rename itself on the disk; where a directory cannot be synced the file still is whole."""
        with contextlib.suppress(OSError):
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _remove_behind(self, number: int) -> None:
        for place in self.path.glob(f"*{_SUFFIX}"):
            if place.stem.isdigit() and int(place.stem) > number:
                place.unlink()

    def remove(self) -> None:
        """Delete the journal, and the directory if nothing else is in it."""
        # The last first: what is left of a removal that was cut short is a journal that broke off, not one with a gap.
        for place in sorted(self.path.glob(f"*{_SUFFIX}"), reverse=True):
            place.unlink(missing_ok=True)
        for place in [*self.path.glob("*.temporary"), self.path / "lock"]:
            place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()
