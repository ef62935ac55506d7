"""A journal on disk or in an object store: numbered files that are only ever added, each whole or not there.

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
from collections.abc import Callable, Iterator, Sequence
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
    """The segments in one directory or behind one URL, and the right to write there.

    Raises
    ------
    CheckpointError : another fit is writing there, or the path is no directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._at: Directory | Remote = Remote(str(path)) if is_url(path) else Directory(local_path(path))
        self.path = self._at.path

    def open(self) -> None:
        """Make the directory and take hold of it until this process closes it or dies."""
        self._at.open()

    def close(self) -> None:
        """Let go of the directory."""
        self._at.close()

    def _name(self, number: int) -> str:
        return f"{number:06d}{_SUFFIX}"

    def exists(self, number: int) -> bool:
        """Whether there is a segment of this number, whole or not."""
        try:
            return self._at.exists(self._name(number))
        except OSError as error:
            raise CheckpointError(f"The checkpoint {self.path} cannot be read: {error}.") from error

    def read(self, number: int, previous: str) -> Segment:
        """A segment that follows the one of digest ``previous``.

        Raises
        ------
        Damaged : truncated, changed, or of another journal.
        CheckpointError : written in another format.
        """
        try:
            raw = self._at.read(self._name(number))
        except OSError as error:
            raise Damaged(f"it cannot be read: {error}") from error
        head, _, rest = raw.partition(b"\n")
        line, _, payload = rest.partition(b"\n")
        version = head.decode("ascii", "replace").removeprefix(_MAGIC)
        if head.startswith(_MAGIC.encode()) and version.isdigit() and version != str(FORMAT):
            raise CheckpointError(
                f"{self._at.place(self._name(number))} has format {version}; this version of the library reads format "
                f"{FORMAT}. Remove the checkpoint, or go on with the version that wrote it."
            )
        found = hashlib.blake2b(payload, digest_size=32).hexdigest()
        if version != str(FORMAT) or line.decode("ascii", "replace") != found:
            raise Damaged("its digest is not that of its content")
        try:
            with np.load(io.BytesIO(payload), allow_pickle=False) as held:
                content = json.loads(held["json"].tobytes().decode())
                arrays = [held[f"a{i}"] for i in range(len(held.files) - 1)]
        # A file with the right digest that is no segment: whatever zipfile, NumPy and JSON make of it.
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
        head = f"{_MAGIC}{FORMAT}\n{found}\n".encode()
        self._at.write(self._name(number), head, payload, lambda: self._remove_behind(number))
        return found

    def _remove_behind(self, number: int) -> None:
        for name in self._segments():
            if int(name.removesuffix(_SUFFIX)) > number:
                self._at.delete(name)

    def _segments(self) -> list[str]:
        return [n for n in sorted(self._at.names()) if n.endswith(_SUFFIX) and n.removesuffix(_SUFFIX).isdigit()]

    def remove(self) -> None:
        """Delete the journal, and the directory if nothing else is in it."""
        # The last first: what is left of a removal that was cut short is a journal that broke off, not one with a gap.
        for name in reversed(self._segments()):
            self._at.delete(name)
        self._at.leave()


def is_url(path: Any) -> bool:
    """Whether a path leads somewhere else than to this machine's own file system.

    >>> is_url("s3://bucket/run"), is_url("file:///run"), is_url("run/c"), is_url(Path("run"))
    (True, False, False, False)
    """
    return isinstance(path, str) and "://" in path and not path.startswith(("file://", "local://"))


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path of this machine, also where it was written as a URL.

    >>> local_path("file:///tmp/run").as_posix()
    '/tmp/run'
    """
    return Path(path.partition("://")[2] if isinstance(path, str) and "://" in path else path)


class Directory:
    """Segments as files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def place(self, name: str) -> Path:
        return self.path / name

    def exists(self, name: str) -> bool:
        return self.place(name).exists()

    def read(self, name: str) -> bytes:
        return self.place(name).read_bytes()

    def write(self, name: str, head: bytes, payload: Any, before_it_counts: Callable[[], None]) -> None:
        """Write beside the place, flush, rename."""
        place = self.place(name)
        temporary = place.with_suffix(".temporary")
        try:
            with open(temporary, "wb") as file:
                file.write(head)
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            before_it_counts()
            os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        """Have the rename itself on the disk; where a directory cannot be synced the file still is whole."""
        with contextlib.suppress(OSError):
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def names(self) -> list[str]:
        return [place.name for place in self.path.glob("*")]

    def delete(self, name: str) -> None:
        self.place(name).unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove what else belongs to a journal, and the directory if it is empty."""
        for place in [*self.path.glob("*.temporary"), self.path / "lock"]:
            place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "r2"})
"""Protocols of object stores: they have no directories, and to make one would make a bucket."""


class Remote:
    """Segments as objects behind a URL, through fsspec; credentials and endpoints stand in its configuration.

    Object stores show an object when it is whole; of other places a digest tells whether it is. There is no lock: two
    fits at one URL are the user's to avoid.
    """

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        self._fs: Any = None
        self._root = ""

    def open(self) -> None:
        import fsspec

        # What is missing (a library, a bucket, rights) is told by each of fsspec's libraries in its own way.
        try:
            self._fs, self._root = fsspec.url_to_fs(self.path, use_listings_cache=False)
            protocols = self._fs.protocol
            if not BUCKETS & set((protocols,) if isinstance(protocols, str) else protocols):
                self._fs.makedirs(self._root, exist_ok=True)
            # The right to write is tried before the fit, not after its first half hour.
            self._fs.pipe_file(self._key("lock"), b"")
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint {self.path} cannot be opened: {type(error).__name__}: {error}."
            ) from error

    def close(self) -> None:
        self._fs = None

    def place(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _key(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        with _as_os_errors():
            return bool(self._fs.exists(self._key(name)))

    def read(self, name: str) -> bytes:
        with _as_os_errors():
            return bytes(self._fs.cat_file(self._key(name)))

    def write(self, name: str, head: bytes, payload: Any, before_it_counts: Callable[[], None]) -> None:
        with _as_os_errors():
            before_it_counts()
            self._fs.pipe_file(self._key(name), head + bytes(payload))

    def names(self) -> list[str]:
        with _as_os_errors():
            try:
                return [str(key).rpartition("/")[2] for key in self._fs.ls(self._root, detail=False)]
            except FileNotFoundError:  # object stores have no empty directories
                return []

    def delete(self, name: str) -> None:
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(name))

    def leave(self) -> None:
        """Remove the mark of a fit that runs, and the directory, where there are any and it is empty."""
        self.delete("lock")
        with contextlib.suppress(Exception):
            self._fs.rmdir(self._root)


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """What goes wrong on the way to a store, as an `OSError`: the libraries behind fsspec raise classes of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
