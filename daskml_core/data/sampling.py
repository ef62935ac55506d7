"""Small training sets out of large grids: labelled cells, so many of each class, with the coordinates they lie at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daskml_core.data.blocks import RowBlocks
from daskml_core.data.from_dask import from_dask
from daskml_core.data.grid import aligned, chunked, features_of, sizes_of
from daskml_core.data.kind import is_dataarray, package_of
from daskml_core.kernels.labelled import DRAW_LABELLED, Drawn, LabelledParams, MergeHeads
from daskml_core.sweep import Array, Sweep

SPARE = 16
"""Cells more than asked for that the first read of the labels finds, to take the place of those that lack a value."""


def sample_labelled(
    features: Any,
    labels: Any,
    *,
    n_per_class: int | Mapping[Any, int],
    random_state: Any = None,
    feature_dim: str | None = None,
    unlabelled: Any = (),
    dim: str = "sample",
) -> Any:
    """A training set in memory: cells of a grid that have a label, drawn at random class by class.

    Parameters
    ----------
    features : Dataset, whose variables are the features, or DataArray with a feature dimension; lazy, of any size.
    labels : DataArray on some of the sample dimensions; NaN and None are no labels. On fewer dimensions than the features
        (a map of crops for a year of images) a label stands for each cell along the others.
    n_per_class : cells to draw of each class, or numbers by class (then of no other). A class that has fewer gives all.
    random_state : seed, generator or None.
    feature_dim : name of a DataArray's feature dimension, where it cannot be told.
    unlabelled : further values that mean no label: 0, or (0, 255).
    dim : name of the dimension of what comes back.

    Returns
    -------
    Dataset or DataArray, as ``features`` is, on the dimension ``sample``: values in memory, ``label`` and all coordinates
    of the cells (time, lat, lon) beside them.

    Raises
    ------
    ValueError : no cell has a label; labels on other dimensions or at other coordinates than the features.

    Notes
    -----
    The same cells are drawn whatever the chunks, the order of dimensions, the number of threads or workers. Cells that lack
    a feature are passed over. Labels are read once (again where a class has more gaps than cells to spare); of the features
    only those chunks are read that hold a cell that is drawn.

    The classes' shares in a sample like this are not those of the grid: probabilities learnt from it are about the sample.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from daskml_core.data import sample_labelled
    >>> rng = np.random.default_rng(0)
    >>> image = xr.DataArray(rng.normal(size=(3, 50, 60)), dims=("band", "y", "x")).chunk(x=20)
    >>> crops = xr.DataArray(np.where(rng.random((50, 60)) < 0.01, 1, 0), dims=("y", "x"))
    >>> train = sample_labelled(image, crops, n_per_class={0: 20, 1: 10}, random_state=0)
    >>> train.dims, int((train.label == 1).sum())
    (('sample', 'band'), 10)
    """
    from daskml_core.validate import positive_integer, random_seed

    if isinstance(n_per_class, Mapping):
        wanted: Any = {
            _plain(label): positive_integer(f"n_per_class[{label!r}]", n) for label, n in n_per_class.items()
        }
    else:
        wanted = positive_integer("n_per_class", n_per_class)
    for container, what in ((features, "features"), (labels, "labels")):
        if not is_dataarray(container) and (what == "labels" or package_of(container) != "xarray"):
            kind = "a DataArray or a Dataset" if what == "features" else "a DataArray"
            raise TypeError(f"{what} must be {kind}, got {type(container).__name__}.")
    _, _, _, grid = features_of(features, feature_dim)
    for name in (dim, "label"):
        if name in features.dims or name in features.coords or name in getattr(features, "data_vars", ()):
            raise ValueError(f"The features have {name!r} already. Rename it, or choose another dim.")
    labels = aligned(labels, grid, "labels")
    if not labels.ndim:
        raise ValueError("labels has no dimension.")
    chosen = _Chosen(features, labels, grid, wanted, random_seed(random_state), unlabelled)
    return chosen.sample(dim)


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


class _Chosen:
    """Cells by class: the first of each queue that have all features."""

    def __init__(self, features: Any, labels: Any, grid: Any, wanted: Any, seed: int, unlabelled: Any) -> None:
        self.features, self.labels, self.wanted, self.seed = features, labels, wanted, seed
        many = isinstance(unlabelled, Sequence) and not isinstance(unlabelled, str)
        self.unlabelled = tuple(unlabelled) if many else (unlabelled,)
        # In the order of their names, so that cells have the same numbers whatever the order of the dimensions.
        sizes = dict(zip(grid.dims, grid.sizes, strict=True))
        self.dims = tuple(sorted(sizes))
        self.sizes = tuple(sizes[dim] for dim in self.dims)
        self.strides = {dim: math.prod(self.sizes[i + 1 :]) for i, dim in enumerate(self.dims)}

    def _heads(self, factor: int) -> dict[Any, Drawn]:
        """The heads of all queues, so many times as long as was asked for."""
        from daskml_core.engine import run_sweeps

        labels = chunked(self.labels)
        column = from_dask(labels.data, feature_axis=None)
        dims = tuple(map(str, labels.dims))
        longer = {k: factor * n + SPARE for k, n in self.wanted.items()} if isinstance(self.wanted, dict) else None
        params = LabelledParams(
            tuple(sizes_of(labels)[dim] for dim in dims),
            tuple(self.strides[dim] for dim in dims),
            tuple((n, self.strides[dim]) for dim, n in zip(self.dims, self.sizes, strict=True) if dim not in dims),
            self.unlabelled,
            factor * self.wanted + SPARE if longer is None else longer,
            int(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]),
        )
        lengths = tuple(int(n) for n in column.lengths if n is not None)
        blocks = RowBlocks(None, column, None, lengths, column.dtype)
        (found,) = run_sweeps(blocks, Sweep(DRAW_LABELLED, params, MergeHeads(params.wanted)), check=False)
        heads: dict[Any, Drawn] = found
        return heads

    def _number(self, label: Any) -> int:
        return int(self.wanted.get(label, 0) if isinstance(self.wanted, dict) else self.wanted)

    def sample(self, dim: str) -> Any:
        """The training set.

        Raises
        ------
        ValueError : no cell has a label, or all that have one lack a feature.
        """
        import xarray as xr

        factor, heads = 1, self._heads(1)
        if not any(self._number(label) for label in heads):
            asked = f" among {sorted(self.wanted, key=str)}" if isinstance(self.wanted, dict) else ""
            raise ValueError(f"No cell has a label{asked}. Labels that were found: {sorted(heads, key=str)[:20]}.")
        parts: list[Any] = []
        cells: list[Array] = []
        codes: list[Array] = []
        names = sorted(heads, key=str)
        taken = dict.fromkeys(names, 0)  # of each queue
        complete = dict.fromkeys(names, 0)
        while True:
            short = {k: self._number(k) - complete[k] for k in names if taken[k] < heads[k].total}
            short = {k: n for k, n in short.items() if n > 0}
            if not short:
                break
            if any(taken[k] == len(heads[k].cell) for k in short):
                factor *= 4
                heads = self._heads(factor)
            asked_now = {k: self._more(n, taken[k], complete[k]) for k, n in short.items()}
            queue = {k: heads[k].cell[taken[k] : taken[k] + n] for k, n in asked_now.items()}
            numbers = np.concatenate(list(queue.values()))
            code = np.repeat([names.index(k) for k in queue], [len(q) for q in queue.values()])
            order = np.argsort(numbers)
            read = self._read(numbers[order], dim)
            good = self._complete(read, dim)
            # In order of the queue, no more than are wanted: what is kept does not depend on how many were read at once.
            kept = np.zeros(len(numbers), dtype=bool)
            back = np.argsort(order)
            for k in queue:
                own = np.flatnonzero(code == names.index(k))
                first = own[good[back[own]]][: short[k]]
                kept[first] = True
                taken[k] += len(own)
                complete[k] += len(first)
            kept = kept[order]
            parts.append(read.isel({dim: kept}))
            cells.append(numbers[order][kept])
            codes.append(code[order][kept])
        found = np.concatenate(cells)
        if not len(found):
            raise ValueError("All cells that have a label lack one of the features.")
        together = xr.concat(parts, dim, join="exact") if len(parts) > 1 else parts[0]
        order = np.argsort(found)
        label = np.array(names, dtype=self.labels.dtype if self.labels.dtype.kind in "biufUS" else object)
        return together.isel({dim: order}).assign_coords(label=(dim, label[np.concatenate(codes)[order]]))

    def _more(self, short: int, taken: int, complete: int) -> int:
        """How many cells to read for so many that are still wanted, by the share of complete ones so far."""
        share = max(complete, 1) / taken if taken else 1.0
        return math.ceil(short / share)

    def _read(self, cells: Array, dim: str) -> Any:
        """Values and coordinates of cells, in memory; only the chunks that hold one are read."""
        import xarray as xr

        index = np.unravel_index(cells, self.sizes)
        own = {d: xr.DataArray(i, dims=dim) for d, i in zip(self.dims, index, strict=True)}
        chunks = self.features.map(chunked) if hasattr(self.features, "data_vars") else chunked(self.features)
        picked = chunks.isel(own)
        # A variable that lacks all dimensions that vary would come back without the samples' own.
        if hasattr(picked, "data_vars"):
            picked = picked.map(lambda a: a if dim in a.dims else a.expand_dims({dim: len(cells)}))
        else:
            picked = picked.transpose(dim, ...)
        return picked.compute()

    def _complete(self, read: Any, dim: str) -> Array:
        """Which samples have all features."""
        arrays = list(read.data_vars.values()) if hasattr(read, "data_vars") else [read]
        good = np.ones(read.sizes[dim], dtype=bool)
        for array in arrays:
            if array.dtype.kind == "f":
                values = np.asarray(array.transpose(dim, ...)).reshape(len(good), -1)
                good &= ~np.isnan(values).any(axis=1)
        return good
