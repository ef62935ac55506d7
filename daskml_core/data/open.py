"""Opening zarr stores that somebody else wrote: with typed errors, read-only, checked before anything is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from daskml_core.data.chunks import METADATA, label
from daskml_core.data.guard import ReadPolicy
from daskml_core.data.source import inspect
from daskml_core.errors import StoreError, UntrustedStoreError

MAX_METADATA_BYTES = 16 << 20
"""Most bytes of one metadata file; that of an array has about a thousand, consolidated ones of large groups a few MB."""


def open_zarr(store: Any, name: str | None = None) -> Any:
    """A zarr array, or a group of them, opened read-only and checked without reading a chunk.

    Parameters
    ----------
    store : path or URL, or a zarr store.
    name : path of an array in it; ``None`` for the store's root.

    Returns
    -------
    zarr.Array or zarr.Group

    Raises
    ------
    FileNotFoundError : nothing there.
    UntrustedStoreError : metadata that cannot be read, codecs that may run code, links out of the store.
    MissingChunksError, DamagedChunkError : an array that is not whole. The arrays of a group are checked one by one.

    Examples
    --------
    >>> import tempfile, zarr
    >>> path = tempfile.mkdtemp() + "/x.zarr"
    >>> x = zarr.create_array(path, shape=(4, 2), chunks=(2, 2), dtype="f4")
    >>> x[:2] = 1.0
    >>> open_zarr(path)
    Traceback (most recent call last):
    ...
    daskml_core.errors.MissingChunksError: Array ... lacks 1 of 2 chunks: c/1/0 (rows 2 to 3)...
    """
    opened = _open(store, name)
    policy = ReadPolicy.from_settings()
    for _, array in as_arrays(opened)[1]:
        inspect(array, fill=policy.fill, follow_links=policy.follow_links)
    return opened


def _open(store: Any, name: str | None = None) -> Any:
    import zarr

    if isinstance(store, str | os.PathLike) and "://" not in os.fspath(store):
        store = os.fspath(store)
        if not os.path.exists(store):
            raise FileNotFoundError(f"There is no zarr store at {store}.")
        described = _refuse_metadata(os.path.join(store, name or ""))
    else:
        described = False
    try:
        return zarr.open(store, path=name or "", mode="r")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and described:  # metadata that says neither array nor group
            raise UntrustedStoreError(f"The metadata of {store} cannot be read: {error}"[:500], str(store)) from error
        raise
    # Whatever zarr, its registry of codecs or its dtypes make of metadata: KeyError, TypeError, ValueError, its own.
    except Exception as error:
        raise UntrustedStoreError(
            f"The metadata of {store}{'/' + name if name else ''} cannot be read: {type(error).__name__}: {error}"[
                :500
            ],
            str(name or store),
        ) from error


def _refuse_metadata(path: str) -> bool:
    """Refuse metadata files that are absurdly large or no JSON object, before zarr parses them; whether there are any."""
    described = False
    for file_name in METADATA:
        file = os.path.join(path, file_name)
        if not os.path.isfile(file):
            continue
        size = os.path.getsize(file)
        if size > MAX_METADATA_BYTES:
            raise UntrustedStoreError(f"{file} has {size:,} bytes; metadata has at most {MAX_METADATA_BYTES:,}.", path)
        try:
            with open(file, encoding="utf-8") as held:
                described = json.load(held)
        except (ValueError, RecursionError) as error:
            raise UntrustedStoreError(f"{file} is no JSON: {type(error).__name__}: {error}"[:500], path) from error
        if not isinstance(described, Mapping):
            raise UntrustedStoreError(f"{file} holds no JSON object.", path)
        described = True
    return described


def as_arrays(store: Any) -> tuple[str, list[tuple[str, Any]]]:
    """Where a store lies, and its arrays with their names, those of groups inside of groups included.

    Raises
    ------
    StoreError : members whose metadata cannot be read.
    """
    opened = store if type(store).__module__.split(".")[0] == "zarr" and hasattr(store, "metadata") else _open(store)
    place = label(opened)
    if hasattr(opened, "chunks"):
        return place, [(opened.path or place, opened)]
    try:
        members = list(opened.members(max_depth=None))
    except (StoreError, OSError):
        raise
    except Exception as error:
        raise UntrustedStoreError(f"The members of {place} cannot be read: {error}"[:500], place) from error
    return place, sorted((array.path, array) for _, array in members if hasattr(array, "chunks"))
