"""Opening zarr stores that somebody else wrote.

Wherever they lie: typed errors, read-only, checked before anything is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daskml_core.data.chunks import METADATA, label, lists
from daskml_core.data.guard import ReadPolicy
from daskml_core.data.kind import package_of
from daskml_core.data.source import inspect
from daskml_core.data.stores import (
    Backend,
    Options,
    as_store,
    is_transport,
    local_path,
    nothing_there,
    options_error,
    plainly,
)
from daskml_core.errors import StoreError, UntrustedStoreError

MAX_METADATA_BYTES = 16 << 20
"""Most bytes of one metadata file; that of an array has about a thousand, consolidated ones of large groups a few MB."""


def open(
    store: Any,
    name: str | None = None,
    *,
    backend: Backend = None,
    storage_options: Options = None,
    version: str | None = None,
) -> Any:
    """What lies in a zarr store, as estimators take it: lazy, read-only, checked. No chunk of it is read but coordinates.

    Parameters
    ----------
    store : a path; a URL (``s3://``, ``gs://``, ``https://``, ``memory://``, ``file://`` and whatever else fsspec knows); a
        store of zarr, obstore, fsspec or icechunk; an icechunk repository or session. zarr formats 2 and 3, consolidated or
        not, directories and zip files.
    name : path of an array or a group in it; by default its root.
    backend : library that goes to a URL: ``"fsspec"``, ``"obstore"``, or ``None`` for the one that is installed.
    storage_options : its options (credentials, endpoint, region), by that library's own names.
    version : branch, tag or snapshot of an icechunk repository; by default its branch ``main``.

    Returns
    -------
    xarray.Dataset : of a group whose arrays have names for their dimensions, as xarray writes them. Decoded as by
        `xarray.open_zarr`, one Dask chunk a stored chunk, variables in the order of their names, grid mappings and bounds
        among the coordinates.
    xarray.DataArray : of one such array in a group, with its coordinates.
    zarr.Array : of an array without names of dimensions.
    zarr.Group : of a group of such arrays, or of a group of groups; take one of them by ``name``.

    Raises
    ------
    FileNotFoundError : nothing there; what is there instead is named.
    PermissionError, ConnectionError : no credentials for it; nobody answers.
    ImportError : a package that the URL needs is not installed; the extra that brings it is named.
    UnsupportedDataError : a netCDF, HDF5, GRIB or TIFF file; how to read it is said.
    UntrustedStoreError : metadata that cannot be read, codecs that may run code, links out of the store.
    MissingChunksError : an array that is not whole. Variables of a Dataset are looked at when they are used.

    Notes
    -----
    Missing chunks are found by listing. Web servers do not list: from ``https://`` a missing chunk is read as fill value.

    Examples
    --------
    >>> import tempfile, daskml_core, numpy as np, xarray as xr
    >>> path = tempfile.mkdtemp() + "/grid.zarr"
    >>> grid = xr.Dataset({"t": (("lat", "lon"), np.ones((4, 6), "f4")), "u": (("lat", "lon"), np.zeros((4, 6), "f4"))})
    >>> _ = grid.chunk(lat=2).to_zarr(path, consolidated=False)
    >>> ds = daskml_core.open(path)
    >>> list(ds), ds.t.chunks
    (['t', 'u'], ((2, 2), (6,)))
    >>> daskml_core.open(path, "t").dims
    ('lat', 'lon')
    """
    from daskml_core.data.open_labelled import dataset_of, has_names

    options = {"backend": backend, "storage_options": storage_options, "version": version}
    opened = unchecked(store, name, **options)
    policy = ReadPolicy.from_settings()
    with plainly(store):
        if hasattr(opened, "chunks"):
            parent, _, leaf = opened.path.rpartition("/")
            if opened.path and has_names(opened):
                group = unchecked(opened.store, parent)
                if (
                    dataset := dataset_of(group, policy, _about(store, parent))
                ) is not None and leaf in dataset.variables:
                    return dataset[leaf]
            inspect(opened, fill=policy.fill, follow_links=policy.follow_links)
            return opened
        dataset = dataset_of(opened, policy, _about(store, name))
        return opened if dataset is None else dataset


def _about(store: Any, name: str | None) -> str:
    return f"{store}{'/' + name if name else ''}"


def open_zarr(
    store: Any,
    name: str | None = None,
    *,
    backend: Backend = None,
    storage_options: Options = None,
    version: str | None = None,
) -> Any:
    """What `open` opens, as zarr sees it: arrays as they are stored, all of them checked for missing chunks now.

    Parameters
    ----------
    store, name, backend, storage_options, version : as for `open`.

    Returns
    -------
    zarr.Array or zarr.Group

    Raises
    ------
    FileNotFoundError, PermissionError, ConnectionError, ImportError, UnsupportedDataError : as `open`.
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
    opened = unchecked(store, name, backend=backend, storage_options=storage_options, version=version)
    policy = ReadPolicy.from_settings()
    with plainly(store):
        for _, array in as_arrays(opened)[1]:
            inspect(array, fill=policy.fill, follow_links=policy.follow_links)
    return opened


def unchecked(place: Any, name: str | None = None, **options: Any) -> Any:
    """The zarr array or group at a place, whatever is in it."""
    import zarr

    path = local_path(place)
    described = False
    with plainly(place):
        store = as_store(place, **options)
        if path is not None:
            if not os.path.exists(path):
                raise nothing_there(place)
            described = _refuse_metadata(os.path.join(path, name or ""))
        # A writable session of icechunk gives no read-only copy of itself.
        mode: Any = "r" if store.read_only or type(place) is not type(store) else "r+"
        try:
            return zarr.open(store, path=name or "", mode=mode)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise
            if described:  # metadata that says neither array nor group
                raise UntrustedStoreError(
                    f"The metadata of {place} cannot be read: {error}"[:500], str(place)
                ) from error
            raise nothing_there(place, name) from error
        # Whatever zarr, its registry of codecs or its dtypes make of metadata: KeyError, TypeError, ValueError, its own.
        except Exception as error:
            if is_transport(error):
                raise
            if options.get("storage_options") and (wrong := options_error(error)) is not None:
                raise wrong from error
            raise UntrustedStoreError(
                f"The metadata of {_about(place, name)} cannot be read: {type(error).__name__}: {error}"[:500],
                str(name or place),
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
            described = json.loads(Path(file).read_text(encoding="utf-8"))
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
    opened = store if package_of(store) == "zarr" and hasattr(store, "metadata") else unchecked(store)
    place = label(opened)
    if hasattr(opened, "chunks"):
        return place, [(opened.path or place, opened)]
    if not lists(opened.store) and opened.metadata.consolidated_metadata is None:
        raise UntrustedStoreError(
            f"What is in {place} cannot be listed there. Name an array, e.g. open({place!r}, 'X'), or consolidate its "
            "metadata where it is written.",
            place,
        )
    try:
        members = list(opened.members(max_depth=None))
    except (StoreError, OSError):
        raise
    except Exception as error:
        raise UntrustedStoreError(f"The members of {place} cannot be read: {error}"[:500], place) from error
    return place, sorted((array.path, array) for _, array in members if hasattr(array, "chunks"))
