"""A zarr store read from end to end: what is missing, damaged, not finite, or other than a manifest says."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.chunks import Coords, grid_of, key_of, missing_in_shards, present
from daskml_core.data.guard import GuardedArray, ReadPolicy
from daskml_core.data.open import as_arrays
from daskml_core.data.source import inspect
from daskml_core.data.trust import refuse_untrusted
from daskml_core.errors import DamagedChunkError, MissingChunksError, StoreError
from daskml_core.sweep import Array

TASKS = 256
"""Most tasks an array is read by; they depend on its chunks alone."""

FORMAT = 1


class ChunkFinding(NamedTuple):
    """What one stored object is like; ``problem`` is ``None`` where it could be read."""

    key: str
    rows: tuple[int, int]
    problem: str | None
    missing: bool
    n_nan: int
    n_inf: int
    digest: str


@dataclass(frozen=True)
class ArrayReport:
    """What was found in one array.

    Parameters
    ----------
    name, shape, dtype, n_chunks : of the array; ``n_chunks`` counts stored objects (shards where it has them).
    missing : stored objects, or shards with chunks missing inside, that zarr fills in: ``(key, rows)``. Where the setting
        ``missing-chunks`` is "fill" only those that the manifest has.
    damaged : stored objects that cannot be read: ``(key, rows, reason)``.
    changed : stored objects whose values are not those of the manifest: ``(key, rows)``.
    nan, infinite : stored objects with such values, and how many: ``(key, rows, number)``.
    refused : why the array was not read at all (its codecs, links), or ``None``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_chunks: int
    missing: tuple[tuple[str, tuple[int, int]], ...] = ()
    damaged: tuple[tuple[str, tuple[int, int], str], ...] = ()
    changed: tuple[tuple[str, tuple[int, int]], ...] = ()
    nan: tuple[tuple[str, tuple[int, int], int], ...] = ()
    infinite: tuple[tuple[str, tuple[int, int], int], ...] = ()
    refused: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all chunks are there, whole, finite, and as the manifest says."""
        return not (self.missing or self.damaged or self.changed or self.nan or self.infinite or self.refused)

    def problems(self) -> Iterator[str]:
        """A line for each stored object that something is wrong with."""
        if self.refused:
            yield f"{self.name}: {self.refused}"
        for key, rows in self.missing:
            yield f"{self.name}: {_place(key, rows)} is missing, or chunks inside of it"
        for key, rows, why in self.damaged:
            yield f"{self.name}: {_place(key, rows)} is damaged: {why}"
        for key, rows in self.changed:
            yield f"{self.name}: {_place(key, rows)} differs from the manifest"
        for key, rows, n in self.nan:
            yield f"{self.name}: {_place(key, rows)} has {n:,} NaN"
        for key, rows, n in self.infinite:
            yield f"{self.name}: {_place(key, rows)} has {n:,} infinite values"


def _place(key: str, rows: tuple[int, int]) -> str:
    return f"{key} (rows {rows[0]} to {rows[1] - 1})"


@dataclass(frozen=True)
class StoreReport:
    """What `verify` found, array by array; ``ok`` says whether anything is wrong.

    Attributes
    ----------
    store : str
    arrays : tuple of ArrayReport
        Each with ``missing``, ``damaged``, ``changed``, ``nan`` and ``infinite`` chunks: key, rows and what is wrong.
    seconds : float
    lost : tuple of str
        Arrays of the manifest that the store has not.
    ok : bool

    Examples
    --------
    >>> import zarr
    >>> from daskml_core.data import verify
    >>> verify(zarr.create_array({}, data=np.eye(4), chunks=(2, 4))).ok
    True
    """

    store: str
    arrays: tuple[ArrayReport, ...]
    seconds: float
    lost: tuple[str, ...] = ()
    """Arrays of the manifest that the store has not."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.lost and all(array.ok for array in self.arrays)

    def problems(self) -> list[str]:
        """A line for each thing that is wrong."""
        lines = [f"{name}: the manifest has it, the store has not" for name in self.lost]
        return lines + [line for array in self.arrays for line in array.problems()]

    def __repr__(self) -> str:
        columns = ("array", "shape", "dtype", "chunks", "missing", "damaged", "changed", "NaN", "infinite")
        rows: list[tuple[str, ...]] = [columns]
        for a in self.arrays:
            counts = (
                len(a.missing),
                len(a.damaged),
                len(a.changed),
                sum(n[2] for n in a.nan),
                sum(n[2] for n in a.infinite),
            )
            shape = " x ".join(map(str, a.shape))
            rows.append((a.name, shape, a.dtype, f"{a.n_chunks:,}", *(f"{n:,}" for n in counts)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        lines = ["  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        problems = self.problems()
        shown = [f"  {line}" for line in problems[:10]]
        more = [f"  ... and {len(problems) - 10:,} more" if len(problems) > 10 else ""]
        verdict = "nothing is wrong" if self.ok else f"{len(problems):,} problem(s)"
        head = f"{self.store}: {verdict} ({self.seconds:.1f} s)"
        return "\n".join(line for line in [head, *lines, *shown, *more] if line)


@dataclass(frozen=True)
class Manifest:
    """Digests of the values in every stored object: proof that none was changed, swapped, or re-encoded with loss.

    A digest is SHA-256 of the decoded values with their dtype, so that a store which was only compressed in another way
    (in the same chunks) still fits.

    Attributes
    ----------
    arrays : mapping
        Shape, chunks, dtype and digests by key of chunk, for each array of the store.

    Examples
    --------
    >>> import zarr
    >>> from daskml_core.data import manifest
    >>> list(manifest(zarr.create_array({}, data=np.eye(4), chunks=(2, 4))).arrays[""]["digests"])
    ['c/0/0', 'c/1/0']
    """

    arrays: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def __repr__(self) -> str:
        n = sum(len(entry["digests"]) for entry in self.arrays.values())
        return f"Manifest of {len(self.arrays)} array(s), {n:,} chunks"

    def save(self, path: Any) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps({"format": FORMAT, "algorithm": "sha256", "arrays": self.arrays}, indent=1))

    @classmethod
    def load(cls, path: Any) -> Manifest:
        """Read what `save` wrote.

        Raises
        ------
        ValueError : a file that is no manifest.
        """
        try:
            held = json.loads(Path(path).read_text())
            known = held["format"] == FORMAT and held["algorithm"] == "sha256"
            arrays = {
                str(name): {**entry, "digests": {str(k): str(v) for k, v in entry["digests"].items()}}
                for name, entry in held["arrays"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no manifest: {type(error).__name__}: {error}") from error
        if not known:
            raise ValueError(
                f"{path} is a manifest of format {held['format']!r}, {held['algorithm']!r}; known is {FORMAT}."
            )
        return cls(arrays)


def _digest(values: Array) -> str:
    if values.dtype.kind in "fiubc":
        data: Any = np.ascontiguousarray(values).view(np.uint8).reshape(-1).data if values.size else b""
    else:
        data = json.dumps(np.asarray(values, dtype=object).reshape(-1).tolist(), default=str).encode()
    found = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    found.update(data)
    return found.hexdigest()


def _look(guarded: GuardedArray, objects: list[Coords], digests: bool) -> list[ChunkFinding]:
    """Read stored objects one by one."""
    grid, found = grid_of(guarded.array), []
    for coords in objects:
        key, rows = key_of(guarded.array, coords), grid.rows(coords)
        problem, missing, n_nan, n_inf, digest = None, False, 0, 0, ""
        try:
            values = np.asarray(guarded[grid.region(coords)])
        except MissingChunksError:
            missing = True
        except StoreError as error:
            problem = str(error)
        else:
            if values.dtype.kind == "f":
                n_nan, n_inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
            digest = _digest(values) if digests else ""
        found.append(ChunkFinding(key, rows, problem, missing, n_nan, n_inf, digest))
    return found


def _findings(array: Any, there: Any, digests: bool) -> list[ChunkFinding]:
    """All stored objects of an array, read where Dask runs: the active client or threads."""
    import dask

    grid = grid_of(array)
    policy = ReadPolicy.from_settings()._replace(fill=False)
    objects: list[Coords] = []
    absent: list[Coords] = []
    listed = there is not None and there.missing is None
    for coords in grid.touched():
        here = not listed or key_of(array, coords) in there.sizes
        (objects if here else absent).append(coords)
    size = max(1, -(-len(objects) // TASKS))
    guarded = dask.delayed(GuardedArray(array, policy), pure=False)
    parts = [
        dask.delayed(_look, pure=False)(guarded, objects[i : i + size], digests) for i in range(0, len(objects), size)
    ]
    lost = [ChunkFinding(key_of(array, c), grid.rows(c), None, True, 0, 0, "") for c in absent]
    return lost + [finding for part in dask.compute(*parts) for finding in part]


def _examine(name: str, array: Any, expected: Mapping[str, Any] | None) -> ArrayReport:
    grid = grid_of(array)
    policy = ReadPolicy.from_settings()
    about = (name, tuple(array.shape), str(array.dtype), grid.n)
    try:
        refuse_untrusted(array)
        there = present(array, follow_links=policy.follow_links)
    except StoreError as error:
        return ArrayReport(*about, refused=str(error))
    if there is not None and there.missing is None and grid.n > 10 * (len(there.sizes) + 1000):
        return ArrayReport(*about, refused=f"it declares {grid.n:,} chunks, and has at most {len(there.sizes):,}")
    if expected is not None and (differs := _other_layout(array, expected)):
        return ArrayReport(*about, refused=f"its {differs} is not that of the manifest")
    found = _findings(array, there, expected is not None)
    holes = [] if there is None else missing_in_shards(array, there, (None,))
    missing = [(f.key, f.rows) for f in found if f.missing]
    missing += [(key_of(array, coords), grid.rows(coords)) for coords, _ in holes]
    changed = []
    if policy.fill and expected is None:
        missing = []
    if expected is not None:
        digests = expected["digests"]
        if policy.fill:
            missing = [(key, rows) for key, rows in missing if key in digests]
        readable = [f for f in found if not f.missing and f.problem is None]
        changed = [(f.key, f.rows) for f in readable if digests.get(f.key) != f.digest]
    return ArrayReport(
        *about,
        missing=tuple(sorted(missing, key=lambda m: m[1])),
        damaged=tuple((f.key, f.rows, f.problem) for f in found if f.problem is not None),
        changed=tuple(changed),
        nan=tuple((f.key, f.rows, f.n_nan) for f in found if f.n_nan),
        infinite=tuple((f.key, f.rows, f.n_inf) for f in found if f.n_inf),
    )


def _layout(array: Any) -> dict[str, Any]:
    grid = grid_of(array)
    return {"shape": list(grid.shape), "dtype": np.dtype(array.dtype).str, "chunks": list(grid.stored)}


def _other_layout(array: Any, expected: Mapping[str, Any]) -> str | None:
    """The first of shape, dtype and chunks that is not as expected."""
    return next((what for what, value in _layout(array).items() if expected.get(what) != value), None)


def verify(store: Any, manifest: Manifest | None = None) -> StoreReport:
    """What is wrong with a zarr store, found by reading every chunk once, in parallel.

    Parameters
    ----------
    store : path, zarr.Group or zarr.Array.
    manifest : what `manifest` said of it when it was known to be right; ``None`` looks for damage only.

    Returns
    -------
    StoreReport : ``ok``, ``problems()``, and ``arrays`` with all findings. Nothing is raised for what is found.

    Notes
    -----
    A chunk without a checksum can be changed and still decode: most flipped bits of a zstd chunk go unseen. Write with
    ``compressors=zarr.codecs.ZstdCodec(checksum=True)``, or keep a manifest. A chunk put in the place of another is whole
    in itself, and only a manifest tells.

    Examples
    --------
    >>> import zarr
    >>> x = zarr.create_array({}, data=np.array([[1.0, 2.0], [np.nan, 4.0]]), chunks=(1, 2))
    >>> report = verify(x)
    >>> report.ok, report.problems()
    (False, ['MemoryStore: c/1/0 (rows 1 to 1) has 1 NaN'])
    """
    start = time.perf_counter()
    place, arrays = as_arrays(store)
    expected = {} if manifest is None else manifest.arrays
    reports, named = [], set()
    for name, array in arrays:
        key = array.path
        named.add(key)
        entry = expected.get(key)
        if manifest is not None and entry is None:
            about = (name, tuple(array.shape), str(array.dtype), grid_of(array).n)
            reports.append(ArrayReport(*about, refused="the manifest does not have it"))
        else:
            reports.append(_examine(name, array, entry))
    lost = tuple(name or place for name in expected if name not in named)
    return StoreReport(place, tuple(reports), time.perf_counter() - start, lost)


def manifest(store: Any) -> Manifest:
    """Digests of every chunk's values, for `verify` to compare with later; reads everything once, in parallel.

    Parameters
    ----------
    store : path, zarr.Group or zarr.Array

    Returns
    -------
    Manifest

    Raises
    ------
    MissingChunksError, DamagedChunkError
        A store that is not whole has no manifest.

    Examples
    --------
    >>> import zarr
    >>> x = zarr.create_array({}, data=np.eye(4), chunks=(2, 4))
    >>> proof = manifest(x)
    >>> proof
    Manifest of 1 array(s), 2 chunks
    >>> x[0, 0] = 2.0
    >>> verify(x, proof).problems()
    ['MemoryStore: c/0/0 (rows 0 to 1) differs from the manifest']
    """
    _, arrays = as_arrays(store)
    policy = ReadPolicy.from_settings()
    entries: dict[str, Any] = {}
    for _, array in arrays:
        inspect(array, fill=policy.fill, follow_links=policy.follow_links)
        found = _findings(array, present(array, follow_links=policy.follow_links), True)
        _refuse(found)
        entries[array.path] = _layout(array) | {"digests": {f.key: f.digest for f in found if not f.missing}}
    return Manifest(entries)


def _refuse(found: Iterable[ChunkFinding]) -> None:
    for finding in found:
        if finding.problem is not None:
            raise DamagedChunkError(finding.problem, chunk=finding.key, rows=finding.rows)
