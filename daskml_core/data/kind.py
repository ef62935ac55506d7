"""Of which library a container is, told without importing that library."""

from __future__ import annotations

from typing import Any


def package_of(value: Any) -> str:
    """Name of the package that a value's class comes from.

    >>> package_of([1, 2, 3])
    'builtins'
    """
    return type(value).__module__.split(".")[0]


def is_lazy(value: Any) -> bool:
    """Whether a container is one of Dask's, zarr's or xarray's, to be taken as it is and never through NumPy.

    >>> is_lazy([1, 2, 3])
    False
    """
    return package_of(value) in ("dask", "zarr", "xarray")


def is_dataarray(value: Any) -> bool:
    """Whether a container is an xarray DataArray, and no Dataset."""
    return package_of(value) == "xarray" and not hasattr(value, "data_vars")
