"""The file: a zip archive of one JSON text and one entry an array, nothing compressed, every entry with its CRC-32.

Stored, not compressed: what a file can make its reader allocate is at most the file's own size. The central directory is
measured before it is parsed, and no two entries may share bytes.
"""

from __future__ import annotations

import json
import os
import struct
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from daskml_core.errors import ModelFileError

FORMAT = 1
"""Of the file. It is raised when older versions of the library could no longer read what is written."""

JSON_NAME = "model.json"
MAX_JSON_BYTES, MAX_JSON_VALUES = 2 << 20, 100_000
"""Length of the text, and lists and objects in it. Numbers live in arrays; parsed JSON takes up to 25 times its text."""

MAX_DIRECTORY_BYTES = 1 << 20
END = struct.Struct("<4s4H2LH")


def write(path: Any, described: Mapping[str, Any], arrays: Sequence[bytes]) -> None:
    """Write a model file beside ``path`` and rename it, so that a half-written one is never found there.

    The same content gives the same bytes.
    """
    text = json.dumps(described, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > MAX_JSON_BYTES or _values(text) > MAX_JSON_VALUES:
        raise ModelFileError(
            f"The model's parameters and history take {len(text):,} bytes as text, with {_values(text):,} lists; a model "
            f"file has at most {MAX_JSON_BYTES:,} and {MAX_JSON_VALUES:,}. Save the best estimator alone, or delete what is "
            "not needed, e.g. model.history_."
        )
    path = os.fspath(path)
    directory, name = os.path.split(os.path.abspath(path))
    # Not tempfile: its files are for their owner alone, and a process's umask cannot be asked for without changing it.
    beside = os.path.join(directory, f".{name}.{uuid.uuid4().hex}")
    with open(beside, "xb") as file:
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
                for entry, data in [(JSON_NAME, text), *((array_name(i), data) for i, data in enumerate(arrays))]:
                    archive.writestr(zipfile.ZipInfo(entry), data)  # the same date in every file
            file.flush()
            os.fsync(file.fileno())
        except zipfile.LargeZipFile as error:
            os.unlink(beside)
            raise ModelFileError("The model takes more than 4 GiB, the most that a model file holds.") from error
        except BaseException:
            os.unlink(beside)
            raise
    os.replace(beside, path)


def _values(text: bytes) -> int:
    """Lists and objects in a JSON text, at most."""
    return text.count(b"[") + text.count(b"{")


def array_name(number: int) -> str:
    """Name of the entry of an array."""
    return f"arrays/{number}"


class Reader:
    """A model file that has been opened: its JSON, and its arrays' bytes on demand.

    Raises
    ------
    ModelFileError : anything but a file as `write` makes them.
    """

    def __init__(self, file: Any, path: Any) -> None:
        self.file, self.path = file, os.fspath(path)
        self._open()

    def _open(self) -> None:
        size = os.fstat(self.file.fileno()).st_size
        if size < END.size:
            raise self.bad(f"it has {size} bytes")
        self.file.seek(size - END.size)
        magic, *_, directory_bytes, start, comment = END.unpack(self.file.read(END.size))
        if magic != b"PK\x05\x06" or comment or start + directory_bytes + END.size != size:
            raise self.bad("it does not end as a zip archive of this library does; was it cut short?")
        if directory_bytes > MAX_DIRECTORY_BYTES:
            raise self.bad(f"its table of contents has {directory_bytes:,} bytes")
        try:
            self.archive = zipfile.ZipFile(self.file)
            entries = self.archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OverflowError) as error:
            raise self.bad(f"its table of contents is damaged: {error}") from error
        self.entries = {entry.filename: entry for entry in entries}
        if len(self.entries) != len(entries) or JSON_NAME not in self.entries:
            raise self.bad("its entries are not those of a model")
        for entry in entries:
            if (
                entry.compress_type != zipfile.ZIP_STORED
                or entry.file_size != entry.compress_size
                or entry.flag_bits & 1
            ):
                raise self.bad(f"entry {entry.filename!r} is compressed or encrypted")
        if sum(entry.file_size for entry in entries) > size:
            raise self.bad("its entries overlap")
        if self.entries[JSON_NAME].file_size > MAX_JSON_BYTES:
            raise self.bad(f"its JSON has {self.entries[JSON_NAME].file_size:,} bytes")

    def bad(self, why: str) -> ModelFileError:
        """The error that says what is wrong with this file."""
        return ModelFileError(f"{self.path} is no model file of daskml_core: {why}.")

    def described(self) -> Any:
        """The JSON, parsed."""
        text = self._bytes(JSON_NAME)
        if _values(text) > MAX_JSON_VALUES:
            raise self.bad(f"its JSON has {_values(text):,} lists and objects")
        try:
            return json.loads(text, parse_constant=self._refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self.bad(f"its JSON cannot be read: {type(error).__name__}: {error}"[:300]) from error

    def _refuse_constant(self, name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    def size(self, number: int) -> int:
        """Bytes of an array."""
        entry = self.entries.get(array_name(number))
        if entry is None:
            raise self.bad(f"array {number} is not there")
        return entry.file_size

    def array(self, number: int) -> bytes:
        """An array's bytes."""
        self.size(number)
        return self._bytes(array_name(number))

    def _bytes(self, name: str) -> bytes:
        try:
            return self.archive.read(name)
        except (
            zipfile.BadZipFile,
            EOFError,
            ValueError,
            NotImplementedError,
            RuntimeError,
            struct.error,
            OSError,
        ) as error:
            raise self.bad(f"entry {name!r} is damaged: {error}") from error
