"""Writing lazy results to zarr chunk by chunk, so that an interrupted write goes on where it stopped.

A template is written first: metadata and coordinates, no values. Then every Dask block is computed and written where it
lies, and marked as done after its chunks are in place; the client holds none of them. The marks are an array of their own in
the store, one chunk a block, and are removed at the end. zarr writes a chunk beside its place and renames it: a process that
is killed leaves whole chunks and no mark, and the block is written again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from daskml_core.data.grid import sizes_of
from daskml_core.data.kind import package_of
from daskml_core.data.missing import meaning
from daskml_core.data.stores import Backend, Options, as_store, plainly
from daskml_core.errors import UnfinishedStoreError
from daskml_core.sweep import Array

MARKS = "daskml_core_unfinished"
"""Group of the store that says which blocks are done while a write is under way."""

COMPLETE = "daskml_core_written"
"""Attribute of a store that was written to its end: what was written."""


def write(
    result: Any,
    store: Any,
    *,
    region: Mapping[str, slice] | None = None,
    encoding: Mapping[str, Any] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    backend: Backend = None,
    storage_options: Options = None,
) -> None:
    """Write a lazy DataArray or Dataset to zarr, block by block, where the user runs Dask.

    Running the same write again after an interruption goes on with the blocks that are missing; after its end it does
    nothing.

    Parameters
    ----------
    result : a prediction, a transform, labels, or anything xarray computes with Dask.
    store : a path or URL, a store of zarr, obstore or fsspec, or of an icechunk session, as `daskml_core.open` takes them.
        A session's blocks are written by threads of this process, and are there for others when you commit it.
    region : where in an existing store to write, slices by dimension; aligned to the store's chunks.
    encoding : of the variables, as in `xarray.Dataset.to_zarr`; a dtype with ``_FillValue`` stores labels as integers.
    resume : go on with an unfinished write of the same result; otherwise an unfinished store is refused.
    overwrite : start anew whatever is there.
    backend, storage_options : of a URL, as for `daskml_core.open`.

    Raises
    ------
    FileExistsError : a store is there that this function did not write, or that holds another result.
    UnfinishedStoreError : an unfinished write of another result, or ``resume=False``.
    ValueError : blocks that do not lie on whole chunks of the store, naming dimension and sizes.

    Notes
    -----
    Memory: one block of the input and of the output for each thread; each is read once. Text is written as such, empty where
    a sample lacks a value.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, xarray as xr
    >>> import daskml_core
    >>> field = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("lat", "lon"), name="t").chunk(lat=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     daskml_core.write(field + 1, f"{folder}/t.zarr")
    ...     float(xr.open_zarr(f"{folder}/t.zarr", consolidated=False).t.sum())
    21.0
    """
    dataset = result.to_dataset(name=result.name or "result") if hasattr(result, "to_dataset") else result
    if not hasattr(dataset, "data_vars"):
        raise TypeError(
            f"A lazy DataArray or Dataset is written, got {type(result).__name__}. A Dask array is written by its own "
            "to_zarr; or name its dimensions first, e.g. xarray.DataArray(result, dims='row')."
        )
    dataset = _text_of_known_kind(dataset)
    lazy = {str(name): array for name, array in dataset.data_vars.items() if array.chunks is not None and array.ndim}
    if not lazy:
        raise ValueError("Nothing here is lazy: write it with xarray's own to_zarr.")
    with plainly(store):
        place, store = store, as_store(store, read_only=False, backend=backend, storage_options=storage_options)
        if store.read_only:
            raise ValueError(f"{place} is opened to be read. Open it to be written, or pass its path or URL.")
        _write(dataset, lazy, store, place, region, encoding or {}, resume, overwrite)


def _text(values: Array) -> Array:
    """Text of NumPy's own kind; empty where there is none."""
    missing = np.asarray([value is None or value != value for value in values.reshape(-1)], dtype=bool)
    found = np.where(missing.reshape(values.shape), "", values)
    if not all(isinstance(value, str) for value in found.reshape(-1)):
        raise TypeError("Objects that are no text cannot be written. Convert them to numbers or text first.")
    return np.asarray(found.astype("T"))


def _text_of_known_kind(dataset: Any) -> Any:
    """The Dataset with lazy objects as text: xarray's writer would load them whole, to see what they are."""
    changed = {
        name: array.copy(data=array.data.map_blocks(_text, dtype="T", meta=np.empty((0,) * array.ndim, dtype="T")))
        for name, array in dataset.data_vars.items()
        if array.chunks is not None and array.dtype.kind == "O"
    }
    return dataset.assign(changed) if changed else dataset


def _write(
    dataset: Any,
    lazy: Mapping[str, Any],
    store: Any,
    place: Any,
    region: Mapping[str, slice] | None,
    encoding: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
) -> None:
    if region is not None:
        lazy, region = _aligned_region(dataset, lazy, store, region)
        marks = f"{MARKS}_region_" + "_".join(f"{dim}{s.start}-{s.stop}" for dim, s in sorted(region.items()))
    else:
        marks = MARKS
    content = {name: str(array.data.name) for name, array in sorted(lazy.items())}
    started = None if overwrite else _unfinished(store, marks)
    if started is not None:
        if not resume or started != content:
            raise UnfinishedStoreError(
                f"{place} holds an unfinished write of "
                + ("the same result, and resume=False." if started == content else "another result.")
                + " Pass overwrite=True to start anew."
            )
    else:
        if region is None and not overwrite and _exists(store):
            if resume and _written(store) == content:
                return
            raise FileExistsError(f"{place} exists and holds something else. Pass overwrite=True to replace it.")
        if region is None:
            _write_template(dataset, lazy, store, encoding)
        _make_marks(store, marks, lazy, content)
    _write_blocks(lazy, store, marks, region or {})
    _finish(store, marks, content if region is None else None)


def _reading(store: Any) -> Any:
    """The mode to read what is there: a writable session of icechunk gives no read-only copy of itself."""
    return "r" if store.read_only else "r+"


def _exists(store: Any) -> bool:
    import zarr

    try:
        zarr.open(store, mode=_reading(store))
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return False
    return True


def _unfinished(store: Any, marks: str) -> dict[str, str] | None:
    """What an unfinished write of a store was to hold."""
    import zarr

    try:
        group = zarr.open_group(store, path=marks, mode=_reading(store))
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return None
    content = group.attrs.get("content")
    return dict(content) if isinstance(content, dict) else {}


def _written(store: Any) -> Any:
    import zarr

    return zarr.open_group(store, mode=_reading(store), use_consolidated=False).attrs.get(COMPLETE)


def _chunks_of(array: Any) -> dict[str, int]:
    """A chunk size a dimension that all blocks are made of."""
    sizes = {}
    for dim in array.dims:
        blocks = sizes_of(array)[str(dim)]
        inner = blocks[:-1] if len(blocks) > 1 else blocks
        size = math.gcd(*inner)
        if size * 8 < max(blocks):
            raise ValueError(
                f"The blocks of {array.name!r} along {dim!r} have sizes {blocks[:6]}, which share no chunk size but {size}. "
                f"Rechunk first, e.g. .chunk({{{dim!r}: {max(blocks)}}})."
            )
        sizes[str(dim)] = max(1, size)
    return sizes


def _write_template(dataset: Any, lazy: Mapping[str, Any], store: Any, encoding: Mapping[str, Any]) -> None:
    """Metadata, coordinates, and variables that are in memory; no value of a lazy one."""
    own = {name: {"chunks": tuple(_chunks_of(array).values())} for name, array in lazy.items()}
    # Coordinates that are lazy, two-dimensional latitudes say, are small beside the data, and the template holds them.
    lazy_coords = {name: coord.compute() for name, coord in dataset.coords.items() if coord.chunks is not None}
    dataset = dataset.assign_coords(lazy_coords)
    # Encodings that came with the input describe its chunks, not these.
    clean = dataset.drop_encoding()
    for name, array in dataset.variables.items():
        kept = {key: value for key, value in array.encoding.items() if key in ("grid_mapping", "units", "calendar")}
        if array.dtype.kind in "iu" and "_FillValue" in array.encoding:
            kept["_FillValue"] = array.encoding["_FillValue"]
        clean[name].encoding.update(kept)
    merged = {name: {**own.get(name, {}), **dict(encoding.get(name, {}))} for name in {*own, *encoding}}
    clean.to_zarr(store, mode="w", compute=False, encoding=merged, write_empty_chunks=True, consolidated=False)


def _make_marks(store: Any, marks: str, lazy: Mapping[str, Any], content: Mapping[str, str]) -> None:
    import zarr

    root = zarr.open_group(store, mode="a", use_consolidated=False)
    group = root.create_group(marks, overwrite=True)
    for name, array in lazy.items():
        counts = array.data.numblocks
        group.create_array(name, shape=counts, chunks=(1,) * len(counts), dtype="u1", fill_value=0)
    group.attrs["content"] = dict(content)  # last: without it a half-made group counts as another result


def _blocks_along(array: Any, dim: str) -> tuple[int, ...]:
    return (array.sizes[dim],) if array.chunks is None else sizes_of(array)[dim]


def _aligned_region(
    dataset: Any, lazy: Mapping[str, Any], store: Any, region: Mapping[str, slice]
) -> tuple[dict[str, Any], dict[str, slice]]:
    """The variables with their dimensions as the store has them, and the region with both ends.

    Raises
    ------
    ValueError : variables, dimensions, sizes or coordinates that are not the store's; blocks across chunks of the store.
    """
    import xarray as xr
    import zarr

    target = xr.open_zarr(store, consolidated=False, chunks=None)
    group = zarr.open_group(store, mode=_reading(store), use_consolidated=False)
    lacking = [name for name in lazy if name not in target.data_vars]
    if lacking:
        raise ValueError(
            f"The store has no variable {lacking[0]!r} to write a region of; it has {list(target.data_vars)}."
        )
    strange = [str(dim) for dim in region if dim not in target.sizes]
    if strange:
        there = [str(dim) for dim in target.sizes]
        raise ValueError(f"The region is along {strange[0]!r}; the store has the dimensions {there}.")
    whole: dict[str, slice] = {}
    for dim, part in region.items():
        start, stop, step = part.indices(target.sizes[dim])
        if step != 1:
            raise ValueError(f"The region has steps of {step} along {dim!r}; steps of 1 can be written.")
        whole[str(dim)] = slice(start, stop)
    turned = {}
    for name, array in lazy.items():
        dims = target[name].dims
        if set(dims) != set(array.dims):
            raise ValueError(f"{name!r} has the dimensions {array.dims} here and {dims} in the store.")
        turned[name] = array = array.transpose(*dims)
        for axis, dim in enumerate(dims):
            size = target.sizes[dim]
            part = whole.get(str(dim), slice(0, size))
            _require_same_labels(dataset, target, str(dim), part)
            stored: Any = group[name]
            chunk = int((getattr(stored, "shards", None) or stored.chunks)[axis])
            bounds = [part.start + int(n) for n in np.cumsum([0, *_blocks_along(array, str(dim))])]
            bad = [n for n in bounds if n % chunk and n != size]
            if bad:
                raise ValueError(
                    f"Blocks along {dim!r} begin or end at {bad[:4]}, inside of the store's chunks of {chunk}: two tasks "
                    f"would write one chunk. Choose the region and .chunk({{{dim!r}: {chunk}}}) to match."
                )
    return turned, whole


def _require_same_labels(dataset: Any, target: Any, dim: str, part: slice) -> None:
    """Refuse a result whose labels along a dimension are not those of the place it is written to."""
    n = dataset.sizes[dim]
    if part.stop - part.start != n:
        raise ValueError(f"The region has {part.stop - part.start} along {dim!r}, the result {n}.")
    own, there = dataset.indexes.get(dim), target.indexes.get(dim)
    if own is None or there is None or own.equals(there[part]):
        return
    at = next(i for i, (a, b) in enumerate(zip(own, there[part], strict=True)) if a != b)
    raise ValueError(
        f"The result has {own[at]} at {at} along {dim!r}, where the region of the store has {there[part][at]}: it belongs "
        "elsewhere. Choose the region by its labels."
    )


def _encoded(values: Array, name: str, dims: tuple[str, ...], encoding: Mapping[str, Any], zarr_format: Any) -> Array:
    """Values as the store holds them: scaled, filled, counted in its units; xarray's own writer does it, in memory."""
    import xarray as xr
    import zarr

    if values.dtype.kind == "T":
        return values
    plain = values.dtype.kind == "f" and np.dtype(encoding.get("dtype", values.dtype)) == values.dtype
    fill = encoding.get("_FillValue", np.nan)
    if plain and fill != fill and not set(encoding) - {"dtype", "_FillValue"}:
        return values
    held = zarr.storage.MemoryStore()
    settings = {name: {**encoding, "chunks": values.shape, "compressors": None}}
    xr.Dataset({name: (dims, values)}).to_zarr(held, encoding=settings, consolidated=False, zarr_format=zarr_format)
    stored: Any = zarr.open_array(held, path=name, mode="r")
    return np.asarray(stored[...])


def _write_block(
    values: Array, target: Any, marks: Any, encoding: Mapping[str, Any], dims: tuple[str, ...], start: Any, place: Any
) -> None:
    """Write one block where it lies, then mark it: two requests to a store, as the arrays come with their metadata."""
    values = np.asarray(values)
    name = target.name.rpartition("/")[2]
    raw = _encoded(values, name, dims, encoding, target.metadata.zarr_format)
    target[tuple(slice(lo, lo + n) for lo, n in zip(start, values.shape, strict=True))] = raw
    # By slices: a number would have zarr read the chunk first.
    marks[tuple(slice(i, i + 1) for i in place)] = 1


def _write_blocks(lazy: Mapping[str, Any], store: Any, marks: str, region: Mapping[str, slice]) -> None:
    """Write the blocks that are not marked yet."""
    import dask
    import xarray as xr
    import zarr

    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    described = xr.open_zarr(store, consolidated=False, chunks=None)
    writes = []
    for name, array in lazy.items():
        # A chunk of zeros would be left out, and could not be told from one that was never written.
        target, marked = (
            root[path].with_config({"write_empty_chunks": True})  # type: ignore[union-attr]
            for path in (name, f"{marks}/{name}")
        )
        done = np.asarray(marked[...], dtype=bool)
        blocks = array.data.to_delayed()
        dims = tuple(str(dim) for dim in array.dims)
        starts = [np.cumsum([0, *sizes]) for sizes in array.data.chunks]
        offset = [region[dim].start if dim in region else 0 for dim in dims]
        encoding = meaning(described[name].encoding)
        for about_others in ("coordinates", "grid_mapping"):
            encoding.pop(about_others, None)
        for place in map(tuple, np.argwhere(~done).tolist()):
            start = tuple(int(o + s[i]) for o, s, i in zip(offset, starts, place, strict=True))
            write_one = dask.delayed(_write_block, pure=False, name="write-block")
            writes.append(write_one(blocks[place], target, marked, encoding, dims, start, place))
    # Changes to a session in another process would not be part of it.
    threads = package_of(store) == "icechunk"
    dask.compute(*writes, **({"scheduler": "threads"} if threads else {}))


def _finish(store: Any, marks: str, content: Mapping[str, str] | None) -> None:
    """Take the marks away, and say what the store holds."""
    import zarr

    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    del group[marks]
    if content is not None:
        group.attrs[COMPLETE] = dict(content)
