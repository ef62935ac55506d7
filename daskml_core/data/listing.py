"""Listings of remote stores with what tells one version of an object from another: size, and entity tag or time.

Not every store can be listed (web servers), and not every listing tells versions apart; then only metadata is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

from daskml_core.data.kind import package_of

log = logging.getLogger("daskml_core")


class Listed(NamedTuple):
    """One object below an array."""

    key: str
    """Relative to the array."""
    size: int
    version: str
    """Entity tag, or time of the last change; empty where the listing has neither."""


def remote_listing(array: Any) -> list[Listed] | None:
    """Objects below an array of a store behind fsspec or obstore; ``None`` where they cannot be listed.

    One request lists a thousand objects: next to nothing beside the requests that read them.
    """
    store = array.store
    try:
        if hasattr(store, "fs") and hasattr(store, "path"):
            return _by_fsspec(store, array.path)
        inner = getattr(store, "store", None)
        if package_of(inner) == "obstore":
            return _by_obstore(inner, array.path)
    # Each library behind a store raises classes of its own, for rights to list that are not there as for lost connections.
    except Exception as error:
        log.warning("Array %s of %s cannot be listed: %s: %s.", array.path, store, type(error).__name__, error)
    return None


def _by_fsspec(store: Any, path: str) -> list[Listed] | None:
    protocols = store.fs.protocol
    if {"http", "https"} & set((protocols,) if isinstance(protocols, str) else protocols):
        return None
    # zarr's file system belongs to zarr's event loop. One of the same kind and options is asked, past its cache.
    fs = getattr(store.fs, "sync_fs", None)
    if fs is None:
        options = {**store.fs.storage_options, "asynchronous": False, "use_listings_cache": False}
        fs = type(store.fs)(*store.fs.storage_args, **options)
    fs.invalidate_cache()
    root = "/".join(part for part in (store.path.rstrip("/"), path) if part)
    return [
        Listed(key, int(info.get("size") or 0), _version(info))
        for place, info in fs.find(root, detail=True).items()
        if (key := _below(place, root)) is not None
    ]


def _version(info: Any) -> str:
    """What a file system of fsspec says that changes when the object does; each says it by another name."""
    for name in (
        "ETag",
        "etag",
        "md5Hash",
        "content_md5",
        "generation",
        "mtime",
        "LastModified",
        "last_modified",
        "created",
    ):
        if info.get(name):
            return str(info[name])
    return ""


def _by_obstore(inner: Any, path: str) -> list[Listed] | None:
    import obstore

    if type(inner).__name__ == "HTTPStore":
        return None

    def entries() -> Iterator[Listed]:
        for batch in obstore.list(inner, prefix=path or None):
            for info in batch:
                key = _below(info["path"], path)
                if key is not None:
                    yield Listed(key, int(info["size"]), str(info["e_tag"] or info["last_modified"]))

    return list(entries())


def _below(place: str, root: str) -> str | None:
    """The part of a place behind a root, ``None`` where it lies elsewhere."""
    place, root = place.lstrip("/"), root.lstrip("/")
    if not root:
        return place
    return place[len(root) + 1 :] if place.startswith(root + "/") else None
