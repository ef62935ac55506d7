"""The objects that a zarr array is stored in: their keys and rows, which of them are there, and what they looked like.

A *stored object* is a chunk, or a shard where the array has shards. zarr reads one that is missing as the fill value,
silently; so they are counted before they are read.
"""

from __future__ import annotations

import itertools
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.listing import Listed, remote_listing
from daskml_core.errors import UntrustedStoreError
from daskml_core.sweep import Array

Coords = tuple[int, ...]
Selection = tuple[slice, ...]

ENOUGH_MISSING = 10_000
"""Where counting missing objects ends."""

METADATA = ("zarr.json", ".zarray", ".zattrs")
COUNTABLE = 1_000_000
"""Chunks of a remote store that are counted one by one; zarr's own count takes 0.1-0.2 ms a chunk."""


def _product(ranges: Sequence[range]) -> Iterator[Coords]:
    """All coordinates in order. Lazy, where `itertools.product` would first write out each of a billion numbers."""
    if not ranges:
        yield ()
    elif math.prod(map(len, ranges)) <= COUNTABLE:
        yield from itertools.product(*ranges)
    else:
        for first in ranges[0]:
            yield from ((first, *others) for others in _product(ranges[1:]))


class StoredGrid(NamedTuple):
    """Shape of an array and of its stored objects, and how rows map to them."""

    shape: Coords
    stored: Coords

    @property
    def counts(self) -> Coords:
        """Stored objects along each dimension."""
        return tuple(-(-n // max(1, c)) for n, c in zip(self.shape, self.stored, strict=True))

    @property
    def n(self) -> int:
        """All stored objects."""
        return math.prod(self.counts)

    def region(self, coords: Coords) -> Selection:
        """The part of the array that a stored object holds."""
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(coords, self.stored, self.shape, strict=True))

    def rows(self, coords: Coords) -> tuple[int, int]:
        """First index along the first dimension and the one after the last."""
        if not coords:
            return 0, 1
        first = self.region(coords)[0]
        return first.start, first.stop

    def touched(self, selection: Selection | None = None) -> Iterator[Coords]:
        """Coordinates of the stored objects that a selection reaches; all without one."""
        ranges = [range(count) for count in self.counts]
        for axis, part in enumerate(selection or ()):
            lo, stop, _ = part.indices(self.shape[axis])
            size = self.stored[axis]
            ranges[axis] = range(lo // size, -(-stop // size)) if stop > lo else range(0)
        return _product(ranges)


def hull(index: Any) -> Selection | None:
    """Slices of step one that hold everything an index selects; ``None`` where it is no tuple of slices and numbers."""
    found = []
    for part in index if isinstance(index, tuple | list) else (index,):
        if isinstance(part, int | np.integer) and part >= 0:
            found.append(slice(int(part), int(part) + 1))
        elif isinstance(part, slice) and (part.step is None or part.step > 0):
            found.append(slice(part.start, part.stop))
        else:
            return None
    return tuple(found)


def grid_of(array: Any) -> StoredGrid:
    """The grid of a zarr array's stored objects."""
    return StoredGrid(
        tuple(int(n) for n in array.shape), tuple(int(n) for n in (getattr(array, "shards", None) or array.chunks))
    )


def key_of(array: Any, coords: Coords) -> str:
    """Key of a stored object, relative to the array."""
    return str(array.metadata.encode_chunk_key(coords))


def label(array: Any) -> str:
    """What messages call an array: its path in the store, and the store."""
    store = array.store
    inner = getattr(store, "store", "")  # obstore's, which tells bucket and prefix
    place = str(getattr(store, "root", "") or getattr(store, "path", "") or inner or type(store).__name__)
    return f"{array.path!r} of {place}" if array.path else place


def directory(array: Any) -> str | None:
    """Directory of an array in a local store, else ``None``."""
    import zarr

    if not isinstance(array.store, zarr.storage.LocalStore):
        return None
    return os.path.join(str(array.store.root), array.path) if array.path else str(array.store.root)


def lists(store: Any) -> bool:
    """Whether a store can say what it holds; web servers cannot, or not reliably."""
    if not getattr(store, "supports_listing", True):
        return False
    inner = getattr(store, "store", None)
    if type(inner).__name__ == "HTTPStore":
        return False
    protocol = getattr(getattr(store, "fs", None), "protocol", ())
    return not {"http", "https"} & set((protocol,) if isinstance(protocol, str) else protocol)


@dataclass(frozen=True, eq=False)
class Present:
    """Which stored objects are there.

    Parameters
    ----------
    sizes : bytes by key, metadata included; -1 where the store does not tell without a request each.
    missing : number of stored objects that are not there, where only that is known.
    stamps : a number of its size and time (of its size and entity tag, for a remote store) for each object that may be a
        chunk; ``None`` where the store does not tell.
    metadata_stamp : the same of the metadata files together.
    """

    sizes: Mapping[str, int]
    missing: int | None = None
    stamps: Mapping[str, int] | None = None
    metadata_stamp: int = 0


def present(array: Any, *, follow_links: bool = False, count: bool = True) -> Present | None:
    """What is stored of an array; ``None`` where that cannot be known at a fair price.

    A local directory is listed, with sizes and times (20,000 chunks in 0.1-0.4 s), and stores behind fsspec and obstore with
    sizes and entity tags; memory and zip stores are listed; other stores are counted by zarr, if ``count``. All up to a
    million chunks, and if they can be listed.

    Raises
    ------
    UntrustedStoreError : a link that leads out of the store.
    """
    base = directory(array)
    if base is not None:
        return scan(base, str(array.store.root), len(array.shape), label(array), follow_links=follow_links)
    import zarr

    if isinstance(array.store, zarr.storage.MemoryStore | zarr.storage.ZipStore):
        return Present(dict.fromkeys(_listed(array), -1))
    grid = grid_of(array)
    if grid.n > COUNTABLE or not lists(array.store):
        return None
    listed = remote_listing(array)
    if listed is not None:
        return _as_present(listed)
    if not count:
        return None
    per_object = math.prod(-(-s // max(1, c)) for s, c in zip(grid.stored, array.chunks, strict=True))
    return Present({}, missing=grid.n - int(array.nchunks_initialized) // max(1, per_object))


def _as_present(listed: Sequence[Listed]) -> Present:
    """What a remote listing tells."""
    sizes = {entry.key: entry.size for entry in listed}
    described = tuple((e.key, e.size, e.version) for e in sorted(listed) if e.key in METADATA)
    stamps = {e.key: hash((e.size, e.version)) for e in listed if e.key[-1:].isdigit()}
    told = all(entry.version for entry in listed)
    return Present(sizes, stamps=stamps if told else None, metadata_stamp=hash(described))


def _listed(array: Any) -> list[str]:
    """Keys below an array, of a store whose listing needs no event loop of its own."""
    import asyncio

    prefix = f"{array.path}/" if array.path else ""

    async def collect() -> list[str]:
        return [key async for key in array.store.list_prefix(prefix)]

    # In a thread of its own: a notebook's thread already runs a loop.
    with ThreadPoolExecutor(1) as pool:
        keys = pool.submit(asyncio.run, collect()).result()
    return [key[len(prefix) :] for key in keys]


def scan(base: str, root: str, ndim: int, name: str, *, follow_links: bool = False) -> Present:
    """Files of an array in a local store.

    Raises
    ------
    UntrustedStoreError : a link that leads out of the store, unless ``follow_links``.
    """
    inside = os.path.realpath(root)
    if not follow_links:
        refuse_link_out(base, inside, "", name)
    sizes: dict[str, int] = {}
    stamps: dict[str, int] = {}
    described: list[tuple[str, int, int]] = []
    todo = [("", base, 0)]
    while todo:
        prefix, path, depth = todo.pop()
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:  # removed since it was listed: counts as missing
            continue
        for entry in entries:
            key = prefix + entry.name
            if not follow_links and entry.is_symlink():
                refuse_link_out(entry.path, inside, key, name)
            try:
                held = entry.stat()
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(held.st_mode):
                # Chunks lie at most a level a dimension below "c"; a loop of links ends there as well.
                if depth <= ndim:
                    todo.append((key + "/", entry.path, depth + 1))
            else:
                sizes[key] = held.st_size
                # Notes and half-written files are no chunks. Inodes do not count: on network file systems they wander.
                if key[-1].isdigit():
                    stamps[key] = hash((held.st_size, held.st_mtime_ns))
                elif key in METADATA:
                    described.append((key, held.st_size, held.st_mtime_ns))
    return Present(sizes, stamps=stamps, metadata_stamp=hash(tuple(described)))


def refuse_link_out(path: str, inside: str, key: str, name: str) -> None:
    """Refuse a path that leads out of a store.

    Raises
    ------
    UntrustedStoreError
    """
    target = os.path.realpath(path)
    if target != inside and not target.startswith(inside + os.sep):
        what = f"Chunk or directory {key!r} of array {name}" if key else f"Array {name}"
        raise UntrustedStoreError(
            f"{what} is a link that leaves the store: it leads to {target}. Copy the data into the store, or set "
            "daskml-core.links to 'follow' if the link is meant.",
            name,
            key or None,
        )


def missing_objects(array: Any, there: Present, selections: Sequence[Selection | None]) -> tuple[int, list[Coords]]:
    """Number of stored objects that are needed and not there, and the first five of them, where they can be told.

    Counting ends at `ENOUGH_MISSING`, so that a store which declares a billion chunks and holds none is refused as fast
    as any other.
    """
    if there.missing is not None:
        return there.missing, []
    grid, encode = grid_of(array), array.metadata.encode_chunk_key
    lost: dict[Coords, None] = {}
    for selection in selections:
        for coords in grid.touched(selection):
            if encode(coords) not in there.sizes:
                lost[coords] = None
                if len(lost) >= ENOUGH_MISSING:
                    return len(lost), list(lost)[:5]
    return len(lost), list(lost)[:5]


def missing_in_shards(array: Any, there: Present, selections: Sequence[Selection | None]) -> list[tuple[Coords, int]]:
    """Shards of a local store in whose index chunks are missing, and how many; the index is read, 16 bytes a chunk.

    Only indices as zarr writes them by default can be read here: at the end of the shard, little-endian, with crc32c.
    """
    base = directory(array)
    sharding = sharding_of(array)
    if base is None or sharding is None or sharding.get("index_location", "end") != "end":
        return []
    names = [codec.get("name") if isinstance(codec, Mapping) else codec for codec in sharding["index_codecs"]]
    if names != ["bytes", "crc32c"]:
        return []
    grid = grid_of(array)
    inner = StoredGrid(grid.stored, tuple(int(n) for n in array.chunks))
    found = []
    needed = {coords for selection in selections for coords in grid.touched(selection)}
    for coords in sorted(needed):
        key = key_of(array, coords)
        if there.sizes.get(key, 0) < 16 * inner.n + 4:
            continue  # missing or cut short: said elsewhere
        with open(os.path.join(base, key), "rb") as file:
            file.seek(-(16 * inner.n + 4), os.SEEK_END)
            index: Array = np.frombuffer(file.read(16 * inner.n), dtype="<u8").reshape(*inner.counts, 2)
        # Chunks that lie wholly beyond the array's edge hold no rows and may be missing.
        inside = tuple(part.stop - part.start for part in grid.region(coords))
        edge = tuple(slice(0, -(-n // c)) for n, c in zip(inside, inner.stored, strict=True))
        lost = int(np.count_nonzero((index[(*edge, slice(None))] == np.iinfo(np.uint64).max).all(axis=-1)))
        if lost:
            found.append((coords, lost))
    return found


def sharding_of(array: Any) -> Mapping[str, Any] | None:
    """Configuration of the sharding codec, where it is the array's only one."""
    codecs: Any = array.metadata.to_dict().get("codecs") or ()
    if len(codecs) == 1 and codecs[0].get("name") == "sharding_indexed":
        configuration: Mapping[str, Any] = codecs[0]["configuration"]
        return configuration
    return None
