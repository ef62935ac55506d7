"""Values that stand for nothing: those that a variable's own attributes name become NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NAMES = ("_FillValue", "missing_value")


def _fills(array: Any) -> list[Any]:
    """Numbers in the attributes of a DataArray that stand for nothing; NaN does so by itself."""
    found: list[Any] = []
    if array.dtype.kind not in "fiu":
        return found
    for name in NAMES:
        for value in np.atleast_1d(array.attrs.get(name, [])).tolist():
            if isinstance(value, int | float) and value == value and value not in found:
                found.append(value)
    return found


def without_fill(X: Any) -> Any:
    """A DataArray, or a Dataset, with NaN for the values that its attributes call ``_FillValue`` or ``missing_value``.

    Data that were decoded when they were opened have these in their encoding, and NaN already; data that were opened
    without, as images are by default, have them in their attributes. Lazy; integers become floats, as in xarray's ``where``.
    """
    if hasattr(X, "data_vars"):
        changed = {name: without_fill(array) for name, array in X.data_vars.items() if _fills(array)}
        return X.assign(changed) if changed else X
    fills = _fills(X)
    if not fills:
        return X
    missing = fills[0] == X
    for value in fills[1:]:
        missing = missing | (value == X)
    result = X.where(~missing)
    result.attrs = {name: value for name, value in X.attrs.items() if name not in NAMES}
    return result


KEPT = (
    "units",
    "calendar",
    "dtype",
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "grid_mapping",
    "coordinates",
)


def meaning(encoding: Mapping[str, Any]) -> dict[str, Any]:
    """What of an encoding says what values mean, and not how a file stores them.

    Chunks and codecs of one format of zarr, or of netCDF, are refused by another.
    """
    kept = {name: value for name, value in encoding.items() if name in KEPT}
    if "dtype" in kept and np.dtype(kept["dtype"]).kind not in "fiub":
        del kept["dtype"]
    return kept


def as_result(coord: Any) -> Any:
    """A coordinate for a result, with the `meaning` of its encoding."""
    result = coord.drop_encoding()
    result.encoding = meaning(coord.encoding)
    return result
