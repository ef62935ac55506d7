"""Splits by rows or by blocks: the rows to take are drawn block by block, and taken where a block is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskml_core.data.blocks import BlockedArray, Recipe, Values
from daskml_core.data.kind import is_lazy, package_of
from daskml_core.sweep import Array


class Shares(NamedTuple):
    """How many of a set of rows go to each side; the others go to neither."""

    n_rows: int
    n_test: int
    n_train: int
    offset: int = 0
    """Below ``n_rows``, drawn: where in the sequence of rows the first one for the test is."""

    def between(self, first: int, stop: int) -> tuple[int, int]:
        """``(tests, trains)`` among the rows numbered ``first`` to ``stop`` of the set.

        Differences of running totals: they add up to the sizes asked for, whatever the blocks.
        """
        tests = [(self.n_test * i + self.offset) // self.n_rows for i in (first, stop)]
        others = [first - tests[0], stop - tests[1]]
        rest = max(1, self.n_rows - self.n_test)
        trains = [self.n_train * i // rest for i in others]
        return tests[1] - tests[0], trains[1] - trains[0]


def largest_remainders(counts: Array, n: int, rng: np.random.Generator) -> Array:
    """``n`` rows dealt to classes in proportion to their ``counts``: rounded down, then one more to the largest remainders.

    Ties are drawn. Hamilton's method, as in scikit-learn's stratified splits.

    >>> largest_remainders(np.array([5, 4, 1]), 3, np.random.default_rng(0)).tolist()
    [2, 1, 0]
    """
    total = int(counts.sum())
    exact = [int(c) * n for c in counts]  # Python's integers: rows times rows may pass 2**63
    shares = np.array([e // total for e in exact])
    remainders = np.array([e % total for e in exact], dtype=object)
    drawn = rng.permutation(len(counts))
    order = drawn[np.argsort(-remainders[drawn], kind="stable")]
    shares[order[: n - int(shares.sum())]] += 1
    return shares


@dataclass(frozen=True)
class RowSplit:
    """Rows of each block that go to each side; classes are kept in proportion where ``shares`` has several."""

    shares: tuple[Shares, ...]
    """Of each class, or of all rows."""
    seed: int
    shuffle: bool
    by_block: tuple[int, ...] | None = None
    """Side of each block (0 train, 1 test, 2 neither), where whole blocks are sent."""

    def sides(self, index: int, start: int, length: int, codes: Array | None, before: Array | None) -> Array:
        """Side of each row of a block: 0 train, 1 test, 2 neither.

        ``codes`` (length,) are its rows' classes, ``before`` (n_classes,) the rows of each class in earlier blocks.
        """
        if self.by_block is not None:
            return np.full(length, self.by_block[index], dtype=np.int8)
        if not self.shuffle:
            rows, (n_rows, n_test, n_train, _) = np.arange(start, start + length), self.shares[0]
            return np.where(rows < n_train, 0, np.where(rows >= n_rows - n_test, 1, 2)).astype(np.int8)
        rng = np.random.default_rng([self.seed, 0, index])
        sides = np.full(length, 2, dtype=np.int8)
        groups = [(np.arange(length), start)]
        if codes is not None and before is not None:
            groups = [(np.flatnonzero(codes == k), int(before[k])) for k in range(len(before))]
        for (members, first), shares in zip(groups, self.shares, strict=True):
            tests, trains = shares.between(first, first + len(members))
            drawn = rng.permutation(members)
            sides[drawn[:tests]] = 1
            sides[drawn[tests : tests + trains]] = 0
        return sides


class Selected(NamedTuple):
    """Rows of a block that lie on one side of a split."""

    source: Recipe
    mask: Array

    @property
    def needs(self) -> tuple[Any, ...]:
        return self.source.needs

    def read(self, values: Values) -> Array:
        return np.asarray(self.source.read(values))[self.mask]


def _read(selected: Any, values: dict[Any, Any]) -> Array:
    return np.asarray(selected.recipe.read(values))


def select(array: Any, column: BlockedArray, masks: Sequence[Array], axis: int) -> Any:
    """The chosen rows in the container they came in: NumPy and pandas now, Dask, zarr and xarray lazily."""
    mask = np.concatenate(masks)
    package = package_of(array)
    if package == "xarray":
        return _select_xarray(array, column, masks, axis)
    if not is_lazy(array):
        if package == "pandas":
            return array[mask]
        return array[mask] if isinstance(array, np.ndarray) else np.asarray(array)[mask]
    return as_dask(column, masks)


def as_dask(column: BlockedArray, masks: Sequence[Array] | None = None) -> Any:
    """A Dask array of the column's rows, those of the masks only where there are any; a chunk a block."""
    import dask
    import dask.array as da

    from daskml_core.data.output import _Opaque

    parts = []
    for i, (recipe, length) in enumerate(zip(column.recipes, column.lengths, strict=True)):
        chosen = recipe if masks is None else Selected(recipe, masks[i])
        n_rows = length if masks is None else int(masks[i].sum())
        futures = {key: column.futures[key] for key in recipe.needs}
        rows = dask.delayed(_read, pure=False)(_Opaque(chosen), futures)
        parts.append(da.from_delayed(rows, shape=(n_rows, *column.trailing), dtype=column.dtype))
    return da.concatenate(parts, axis=0)


def _select_xarray(array: Any, column: BlockedArray, masks: Sequence[Array], axis: int) -> Any:
    import xarray as xr

    rows = np.flatnonzero(np.concatenate(masks))
    if hasattr(array, "data_vars"):
        from daskml_core.data.from_xarray import dataset_dim

        return array.isel({dataset_dim(array): rows})
    dim = array.dims[axis]
    if array.chunks is None:
        return array.isel({dim: rows})
    data = as_dask(column, masks)
    taken = {key: coord.isel({dim: rows}) if dim in coord.dims else coord for key, coord in array.coords.items()}
    dims = [dim, *(d for d in array.dims if d != dim)]
    return xr.DataArray(data, dims=dims, coords=taken, name=array.name, attrs=array.attrs).transpose(*array.dims)
