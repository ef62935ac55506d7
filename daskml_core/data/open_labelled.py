"""Groups of zarr arrays whose dimensions have names become Datasets, read under the same guard as plain arrays."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from daskml_core.data.chunks import directory, label, lists, refuse_link_out
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.identity import identity
from daskml_core.data.source import inspect
from daskml_core.data.stores import is_transport
from daskml_core.data.trust import MAX_BLOCKS, refuse_untrusted
from daskml_core.errors import StoreError, UntrustedStoreError

SHARD_BYTES = 128 << 20
"""Shards up to this size are read whole; of larger ones the chunks inside."""

INDEX_BYTES = 1 << 30
"""Most that a coordinate which indexes a dimension may take: it is held in memory."""


def has_names(array: Any) -> bool:
    """Whether all dimensions of a zarr array have names: format 3's own, or xarray's attribute in format 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if array.ndim == 0:  # a grid mapping; version 3 writes no names of no dimensions
        return True
    return isinstance(names, list | tuple) and len(names) == array.ndim and all(isinstance(n, str) for n in names)


def dataset_of(group: Any, policy: ReadPolicy, place: str) -> Any:
    """The Dataset of a zarr group; ``None`` where its arrays have no names for their dimensions, or there are none.

    Values come as Dask arrays over guarded zarr arrays, so that what is checked of zarr arrays is checked of a Dataset's
    variables as well. Coordinates that index a dimension are read.

    Raises
    ------
    UntrustedStoreError : codecs, links, metadata that xarray cannot read.
    """
    with warnings.catch_warnings():
        # What format 3 thinks of text of fixed width is the writer's concern.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification")
        return _dataset_of(group, policy, place)


def _dataset_of(group: Any, policy: ReadPolicy, place: str) -> Any:
    import xarray as xr

    if not lists(group.store) and group.metadata.consolidated_metadata is None:
        raise UntrustedStoreError(
            f"What is in {place} cannot be listed there. Name an array, or consolidate the metadata where it is written.",
            place,
        )
    try:
        arrays = dict(group.arrays())
    except Exception as error:
        raise _unreadable(place, error) from error
    if not any(array.ndim for array in arrays.values()) or not all(map(has_names, arrays.values())):
        return None
    for array in arrays.values():
        refuse_untrusted(array)
        base = directory(array)
        if base is not None and not policy.follow_links:
            # Its chunks are listed when they are used: a store may have hundreds of variables of so many thousand.
            refuse_link_out(base, os.path.realpath(str(array.store.root)), "", label(array))
    try:
        stored = xr.open_zarr(
            group.store,
            group=group.path or None,
            chunks=None,
            decode_cf=False,
            consolidated=group.metadata.consolidated_metadata is not None,
            create_default_indexes=False,
            zarr_format=group.metadata.zarr_format,
        )
        described = xr.decode_cf(stored, mask_and_scale=False, decode_times=False, decode_coords="all")
        # In the order of their names: that of a listing differs from store to store and from time to time, and the order of
        # variables is that of the features.
        names = sorted(map(str, stored.variables))
        # A coordinate's chunk that holds nothing but the fill value (the first day of a calendar) is left out by writers.
        filled = policy._replace(fill=True)
        lazy = {
            name: _guarded(stored[name].variable, arrays[name], filled if name in described.coords else policy)
            for name in names
        }
        raw = xr.Dataset(
            {name: lazy[name] for name in names if name not in stored.coords},
            coords=xr.Coordinates({name: lazy[name] for name in names if name in stored.coords}, indexes={}),
            attrs=stored.attrs,
        )
        return xr.decode_cf(raw, decode_coords="all", decode_timedelta=False)
    except Exception as error:
        raise _unreadable(place, error) from error


def _unreadable(place: str, error: Exception) -> Exception:
    if isinstance(error, StoreError | MemoryError) or is_transport(error):
        return error
    return UntrustedStoreError(f"{place} cannot be read as a Dataset: {type(error).__name__}: {error}"[:500], place)


def _guarded(variable: Any, array: Any, policy: ReadPolicy) -> Any:
    """A variable over a guarded array: lazy, or read now where it indexes a dimension. Text is left to xarray."""
    name = f"{array.name.rpartition('/')[2]}"
    if array.dtype.kind not in "fiubc" or array.ndim == 0:
        # A scalar is a name (of a grid mapping) more often than a value, and its chunk is left out where it is zero.
        blocks = dict(zip(variable.dims, _blocks(array), strict=True))
        if blocks:
            return variable.chunk(blocks)
        _look_at(array, policy)
        return variable.copy(data=variable.values)
    if variable.dims == (name,):
        if array.nbytes > INDEX_BYTES:
            raise UntrustedStoreError(
                f"Coordinate {label(array)} declares {array.nbytes:,} bytes; {INDEX_BYTES:,} are the most.",
                label(array),
            )
        _look_at(array, policy)
        return variable.copy(data=np.asarray(GuardedArray(array, policy)[...]))
    return variable.copy(data=_lazy(array, policy))


def _look_at(array: Any, policy: ReadPolicy) -> None:
    """Refuse an array that is about to be read whole for links and damage."""
    if directory(array) is not None:
        inspect(array, fill=True, follow_links=policy.follow_links)


def with_names(array: Any, dims: tuple[str, ...]) -> Any:
    """A plain zarr array as a DataArray on these dimensions, lazy and under guard."""
    import xarray as xr

    dims = dims[: array.ndim]
    if len(dims) < array.ndim:
        raise ValueError(f"Array {label(array)} has {array.ndim} dimensions, without names. Expected {dims}.")
    lazy = _lazy(array, ReadPolicy.from_settings())
    return xr.DataArray(lazy, dims=dims)


def _lazy(array: Any, policy: ReadPolicy) -> Any:
    """A Dask array over a guarded zarr array.

    Raises
    ------
    UntrustedStoreError : more chunks than anybody reads.
    """
    import dask.array as da

    blocks = _blocks(array)
    number = math.prod(-(-n // size) for n, size in zip(array.shape, blocks, strict=True))
    if number > MAX_BLOCKS:
        raise UntrustedStoreError(
            f"Array {label(array)} declares {number:,} chunks where {MAX_BLOCKS:,} are the most. Rechunk it.",
            label(array),
        )
    return da.from_array(
        GuardedArray(array, policy),
        chunks=blocks,
        name=f"{array.name.rpartition('/')[2] or 'zarr'}-{identity(array)}",
        meta=np.empty((0,) * array.ndim, dtype=array.dtype),
        asarray=False,
    )


def _blocks(array: Any) -> tuple[int, ...]:
    """Size of a Dask chunk along each dimension: a stored chunk, or a shard where it is not too large."""
    sizes = array.chunks
    shards = getattr(array, "shards", None)
    if shards and math.prod(shards) * array.dtype.itemsize <= SHARD_BYTES:
        sizes = shards
    return tuple(max(1, min(int(size), int(n))) for size, n in zip(sizes, array.shape, strict=True))
