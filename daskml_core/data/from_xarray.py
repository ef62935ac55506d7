"""xarray: 2-D DataArrays with a feature dimension, and Datasets whose variables are the features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from daskml_core.data.blocks import BlockedArray
from daskml_core.sweep import Array

FEATURE_DIMS = ("feature", "features", "band", "variable", "channel", "column")


def find_feature_dim(array: Any, feature_dim: str | None) -> str:
    """Name of the feature dimension of a DataArray: the given one, else the one that can be told."""
    if array.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D DataArray with dimensions {array.dims} instead. "
            "Reshape your data to a sample and a feature dimension."
        )
    if feature_dim is not None:
        if feature_dim not in array.dims:
            raise ValueError(f"feature_dim={feature_dim!r} is not a dimension of the DataArray: {array.dims}.")
        return feature_dim
    named = [dim for dim in array.dims if dim in FEATURE_DIMS]
    labelled = [dim for dim in array.dims if dim in array.coords and array.coords[dim].dtype.kind in "UOST"]
    for candidates in (named, labelled):
        if len(candidates) == 1:
            return str(candidates[0])
    raise ValueError(
        f"Which of the dimensions {array.dims} holds the features cannot be told. Pass feature_dim=..., "
        f"or name it one of {FEATURE_DIMS}; one variable alone is a Dataset with one feature, X.to_dataset(name=...)."
    )


def feature_labels(array: Any, dim: str) -> tuple[str, ...] | None:
    """Coordinate labels of the features, where they are strings."""
    if dim not in array.coords:
        return None
    labels = array.coords[dim].values.tolist()
    return tuple(labels) if labels and all(isinstance(label, str) for label in labels) else None


def from_dataarray(
    array: Any,
    feature_dim: str | None,
    from_lazy: Callable[..., BlockedArray],
    from_memory: Callable[[Array], BlockedArray],
) -> tuple[BlockedArray, tuple[str, ...] | None]:
    """Row-blocks of a DataArray, features first or last, and the features' names."""
    if array.ndim == 1:
        return (from_lazy(array.data) if array.chunks is not None else from_memory(array.values)), None
    dim = find_feature_dim(array, feature_dim)
    first = array.dims[0] == dim
    if array.chunks is not None:
        return from_lazy(array.data, feature_axis=array.dims.index(dim)), feature_labels(array, dim)
    values = array.values.T if first else array.values
    return from_memory(values), feature_labels(array, dim)


def in_the_order_of(X: Any, other: Any, what: str) -> Any:
    """A target or weights with their rows in the order of X's labels.

    Raises
    ------
    ValueError : rows that are labelled in another way than those of X.
    """
    for dim in [d for d in other.dims if d in X.dims]:
        if dim not in X.indexes or dim not in other.indexes or X.sizes[dim] != other.sizes[dim]:
            continue
        labels, own = X.indexes[dim], other.indexes[dim]
        if labels.equals(own):
            continue
        if not (labels.is_unique and own.is_unique and labels.difference(own).empty):
            raise ValueError(
                f"X and {what} have different coordinates along {dim!r}. Align them first, e.g. "
                f"xarray.align(X, {what}, join='inner'), or drop the coordinates."
            )
        other = other.sel({dim: labels})
    return other


def dataset_dim(dataset: Any) -> str:
    """The one dimension that all variables of a Dataset have."""
    dims = {array.dims for array in dataset.data_vars.values()}
    if len(dims) != 1 or len(next(iter(dims))) != 1:
        found = {str(name): array.dims for name, array in dataset.data_vars.items()}
        raise ValueError(f"All variables of a Dataset must have the same single dimension, got {found}.")
    return str(next(iter(dims))[0])


def from_dataset(
    dataset: Any, as_column: Callable[[Any], BlockedArray], cut: Callable[..., BlockedArray]
) -> tuple[BlockedArray, tuple[str, ...]]:
    """Row-blocks of a Dataset: one feature a variable, cut at the rows of the first."""
    dataset_dim(dataset)
    names = tuple(str(name) for name in dataset.data_vars)
    columns = [as_column(array) for array in dataset.data_vars.values()]
    dtype = np.result_type(*(column.dtype for column in columns))
    first, *others = columns
    aligned = [cut(column, first.lengths) for column in others]
    stacked = first.map(stack_features, dtype, dtype=dtype, others=aligned)
    return replace(stacked, trailing=(len(columns),), in_memory=False, encoded_bytes=None), names


def stack_features(*columns: Any) -> Array:
    """Columns of one block, beside each other; the last argument is their dtype."""
    *parts, dtype = columns
    return np.stack([np.asarray(part, dtype=dtype) for part in parts], axis=1)
