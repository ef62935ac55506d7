"""A zarr array that is about to be read: checked before, looked at again afterwards."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskml_core.data.chunks import (
    ENOUGH_MISSING,
    Coords,
    Present,
    Selection,
    StoredGrid,
    grid_of,
    key_of,
    label,
    missing_in_shards,
    missing_objects,
    present,
)
from daskml_core.data.stores import is_transport
from daskml_core.data.trust import refuse_untrusted
from daskml_core.errors import DamagedChunkError, MissingChunksError, StoreChangedError
from daskml_core.sweep import Array

log = logging.getLogger("daskml_core")


@dataclass(frozen=True, eq=False)
class Source:
    """An array with what it looked like when it was checked: its metadata, and a fingerprint of its objects.

    ``keys`` and ``stamps`` are those of files that may be chunks, in the order of their listing; 16 bytes a file, as a
    store may have millions.
    """

    array: Any
    metadata: dict[str, Any]
    stamps: Array | None = None
    keys: Array | None = None
    metadata_stamp: int = 0
    largest_bytes: int | None = None
    """Of a stored object, encoded; ``None`` where the store does not tell."""

    @classmethod
    def of(cls, array: Any, there: Present | None) -> Source:
        """The array as it is now."""
        if there is None:
            return cls(array, _layout(array))
        sizes = [size for key, size in there.sizes.items() if key[-1:].isdigit()]
        largest = max(sizes) if sizes and min(sizes) >= 0 else None
        if there.stamps is None:
            return cls(array, _layout(array), largest_bytes=largest)
        return cls(array, _layout(array), *_fingerprint(there.stamps), there.metadata_stamp, largest)

    def refuse_changed(self) -> None:
        """Refuse a store that is not what it was when it was checked; attributes may change.

        Local stores: metadata, and size and time of every chunk. Remote ones that can be listed: metadata, and size and
        entity tag of every chunk. Others: metadata.

        Raises
        ------
        StoreChangedError : naming the first chunk that differs.
        """
        name = label(self.array)
        there = None if self.stamps is None else present(self.array, follow_links=True, count=False)
        if there is None or there.metadata_stamp != self.metadata_stamp:
            self._refuse_other_layout(name)
        if there is None or there.stamps is None or self.stamps is None or self.keys is None:
            return
        stamps, keys = _fingerprint(there.stamps)
        if np.array_equal(stamps, self.stamps) and np.array_equal(keys, self.keys):
            return
        before = dict(zip(self.keys.tolist(), self.stamps.tolist(), strict=True))
        different = [key for key, stamp in there.stamps.items() if before.get(hash(key)) != stamp]
        lost = len(before.keys() - set(keys.tolist()))
        key = different[0] if different else None
        rows = None if key is None else _rows_of_key(self.array, key)
        parts = []
        if key is not None:
            at = f" (rows {rows[0]} to {rows[1] - 1})" if rows else ""
            parts.append(f"{len(different):,} of its chunks, first {key}{at}")
        if lost:
            parts.append(f"{lost:,} chunks are gone")
        raise _changed(name, " and ".join(parts), key, rows)

    def _refuse_other_layout(self, name: str) -> None:
        """Open the array again, and compare."""
        import zarr

        store = self.array.store
        mode: Any = "r" if store.read_only else "r+"  # not every store gives a read-only copy of itself
        try:
            now = _layout(zarr.open_array(store, path=self.array.path, mode=mode))
        except Exception as error:
            if is_transport(error) and not isinstance(error, FileNotFoundError):
                # The network's moment of weakness: no reason to throw a fit away.
                log.warning("The metadata of array %s could not be compared with what it was: %s.", name, error)
                return
            raise _changed(name, f"its metadata cannot be read any more ({error})", None, None) from error
        if repr(now) != repr(self.metadata):
            raise _changed(name, "its metadata", None, None)


def _layout(array: Any) -> dict[str, Any]:
    """The metadata that decides what is read."""
    return {name: value for name, value in array.metadata.to_dict().items() if name != "attributes"}


def _fingerprint(stamps: Mapping[str, int]) -> tuple[Array, Array]:
    n = len(stamps)
    return np.fromiter(stamps.values(), dtype=np.int64, count=n), np.fromiter(
        map(hash, stamps), dtype=np.int64, count=n
    )


def _changed(name: str, what: str, key: str | None, rows: tuple[int, int] | None) -> StoreChangedError:
    return StoreChangedError(
        f"Array {name} changed while it was read: {what}. What was learnt is part of the one, part of the other: fit "
        "again, from a copy if it is still being written.",
        name,
        key,
        rows,
    )


def _rows_of_key(array: Any, key: str) -> tuple[int, int] | None:
    numbers = tuple(int(part) for part in key.replace(".", "/").split("/") if part.isdecimal())
    if len(numbers) != len(array.shape) or key_of(array, numbers) != key:
        return None
    return grid_of(array).rows(numbers)


def inspect(array: Any, *, fill: bool, follow_links: bool, selections: Sequence[Selection | None] = (None,)) -> Source:
    """The array as a `Source`, once it has passed all checks that need no chunk.

    Parameters
    ----------
    array : zarr.Array.
    fill : whether missing chunks stand for the fill value.
    follow_links : whether links may leave a local store.
    selections : the parts that will be read; ``None`` is all.

    Raises
    ------
    UntrustedStoreError : codecs that are not known, objects, links that leave the store.
    MissingChunksError : chunks, shards, or chunks inside of shards that are not there.
    DamagedChunkError : empty files; files of the wrong size where the array is not compressed.
    """
    refuse_untrusted(array)
    there = present(array, follow_links=follow_links)
    if there is None:
        return Source.of(array, None)
    if not fill:
        _refuse_missing(array, there, selections)
    _refuse_sizes(array, there, selections)
    if not fill:
        _refuse_holes_in_shards(array, there, selections)
    return Source.of(array, there)


def missing_message(array: Any, what: str) -> str:
    """What to say and advise where stored objects are not there."""
    return (
        f"Array {label(array)} lacks {what}. zarr would read the fill value {array.fill_value} instead. Restore what is "
        "missing; where it was left out because it holds nothing else, as zarr's writers do unless told "
        "config={'write_empty_chunks': True}, set daskml-core.missing-chunks to 'fill'."
    )


def _named(array: Any, coords: Coords) -> str:
    lo, stop = grid_of(array).rows(coords)
    return f"{key_of(array, coords)} (rows {lo} to {stop - 1})"


def _refuse_missing(array: Any, there: Present, selections: Sequence[Selection | None]) -> None:
    grid = grid_of(array)
    n, first = missing_objects(array, there, selections)
    if not n:
        return
    what = "shards" if getattr(array, "shards", None) else "chunks"
    count = f"{'at least ' if n == ENOUGH_MISSING else ''}{n:,} of {grid.n:,} {what}"
    named = ", ".join(_named(array, coords) for coords in first)
    more = ", ..." if n > len(first) > 0 else ""
    raise MissingChunksError(
        missing_message(array, f"{count}{': ' if first else ''}{named}{more}"),
        label(array),
        key_of(array, first[0]) if first else None,
        grid.rows(first[0]) if first else None,
    )


def _refuse_holes_in_shards(array: Any, there: Present, selections: Sequence[Selection | None]) -> None:
    holes = missing_in_shards(array, there, selections)
    if not holes:
        return
    coords, n = holes[0]
    total = sum(lost for _, lost in holes)
    raise MissingChunksError(
        missing_message(
            array, f"{total:,} chunks inside of {len(holes):,} shards, first {n} in {_named(array, coords)}"
        ),
        label(array),
        key_of(array, coords),
        grid_of(array).rows(coords),
    )


def exact_bytes(array: Any) -> int | None:
    """Bytes of every stored object where nothing compresses it, else ``None``."""
    dtype = np.dtype(array.dtype)
    if getattr(array, "shards", None) or dtype.kind not in "fiubc" or array.filters:
        return None
    codecs = [type(codec).__name__ for codec in array.compressors or ()]
    if codecs not in ([], ["Crc32cCodec"]):
        return None
    return math.prod(int(n) for n in array.chunks) * dtype.itemsize + 4 * len(codecs)


def _refuse_sizes(array: Any, there: Present, selections: Sequence[Selection | None]) -> None:
    grid, exact = grid_of(array), exact_bytes(array)
    for key, size in there.sizes.items():
        if size < 0 or (size and (exact is None or size == exact)):
            continue
        rows = _rows_of_key(array, key)
        if rows is None:  # no chunk: metadata, or somebody's note
            continue
        numbers = tuple(int(part) for part in key.replace(".", "/").split("/") if part.isdecimal())
        if any(_reaches(grid, selection, numbers) for selection in selections):
            said = "is empty" if not size else f"has {size:,} bytes where {exact:,} belong"
            raise DamagedChunkError(
                f"Chunk {key!r} (rows {rows[0]} to {rows[1] - 1}) of array {label(array)} {said}. It was cut short when "
                "it was written or copied: restore it.",
                label(array),
                key,
                rows,
            )


def _reaches(grid: StoredGrid, selection: Selection | None, coords: Coords) -> bool:
    if selection is None:
        return all(i < n for i, n in zip(coords, grid.counts, strict=True))
    for part, span, n in zip(selection, grid.region(coords), grid.shape, strict=False):
        lo, stop, _ = part.indices(n)
        if stop <= span.start or lo >= span.stop:
            return False
    return True
