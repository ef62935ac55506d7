"""Reading one block: from recipes to arrays that kernels can take, checked when they are first seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskml_core.data.blocks import Recipe, Values
from daskml_core.data.kind import package_of
from daskml_core.errors import StoreError, UnsupportedDataError
from daskml_core.kernels.finite import all_finite
from daskml_core.sweep import Array, Block


def compute_dtype(dtype: Any) -> np.dtype[Any]:
    """What kernels compute in: float32 for float16 and float32, float64 for everything else that is a number.

    >>> compute_dtype("int8")
    dtype('float64')
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported: X has dtype {dtype}. Use its real or absolute part.")
    if dtype.kind not in "fiub":
        raise UnsupportedDataError(
            f"X has dtype {dtype}, which holds no numbers that can be computed with. Encode or convert the columns "
            "first, e.g. X.astype('float64')."
        )
    return np.dtype(np.float32) if dtype in (np.dtype(np.float16), np.dtype(np.float32)) else np.dtype(np.float64)


def _array(rows: Any, what: str) -> Array:
    if isinstance(rows, np.ndarray) and not isinstance(rows, np.ma.MaskedArray):
        return rows
    module = package_of(rows)
    if module in ("scipy", "sparse"):
        raise UnsupportedDataError(
            f"{what} has sparse blocks ({type(rows).__name__}), which are not supported yet. Make them dense, e.g. "
            "X.map_blocks(lambda block: block.toarray())."
        )
    if isinstance(rows, np.ma.MaskedArray):
        if np.ma.is_masked(rows):
            raise ValueError(f"{what} holds masked values. Fill them or drop the rows, e.g. da.ma.filled(X, 0).")
        return np.asarray(rows.data)
    return np.asarray(rows)


def read_block(
    recipes: tuple[Recipe | None, Recipe | None, Recipe | None],
    values: Values,
    dtype: np.dtype[Any],
    index: int,
    start: int,
    n_rows: int,
    *,
    check: bool,
    names: tuple[str, ...] | None = None,
) -> Block:
    """One block, C-contiguous and aligned, X in ``dtype``.

    ``n_rows`` is -1 where it is not known yet. With ``check`` NaN and infinity are refused, naming block, row and
    column.

    Raises
    ------
    ValueError : NaN, infinity, negative weights, or another number of rows than expected.
    StoreError : chunks of a zarr store that are missing, damaged or cannot be read, naming block, chunk and rows.
    """
    columns: list[Array | None] = []
    for recipe, what in zip(recipes, ("X", "y", "sample_weight"), strict=True):
        if recipe is None:
            columns.append(None)
            continue
        try:
            rows = _array(recipe.read(values), what)
        except StoreError as error:
            raise error.in_block(what, index) from error
        if n_rows >= 0 and len(rows) != n_rows:
            raise ValueError(
                f"Block {index} of {what} has {len(rows)} rows where {n_rows} were expected: inconsistent chunk sizes. "
                "The source may have changed while it was read."
            )
        columns.append(_prepared(rows, what, dtype))
    X, y, weight = columns
    if check:
        refuse_not_finite(X, "X", index, start, names)
        refuse_not_finite(y, "y", index, start, None)
        refuse_not_finite(weight, "sample_weight", index, start, None)
        if weight is not None and len(weight) and weight.min() < 0:
            row = int(np.argmax(weight < 0))
            raise ValueError(
                f"Negative values in data passed to `sample_weight`: {weight[row]} in block {index}, row {start + row}."
            )
    return Block(X, y, weight, index, start)


def _prepared(rows: Array, what: str, dtype: np.dtype[Any]) -> Array:
    if what == "X":
        if rows.dtype != dtype:
            compute_dtype(rows.dtype)  # refuses what is no number, should the source's own dtype have lied
        return np.require(rows, dtype=dtype, requirements=["C", "A"])
    if what == "sample_weight":
        return np.require(rows, dtype=np.float64, requirements=["C", "A"])
    return np.require(rows, requirements=["C", "A"])


def refuse_not_finite(rows: Array | None, what: str, index: object, start: int, names: tuple[str, ...] | None) -> None:
    """Refuse NaN and infinity, naming the first one's block, row and column."""
    if rows is None or rows.dtype.kind != "f":
        return
    wide = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    if all_finite(wide):
        return
    bad = np.argwhere(~np.isfinite(wide))[0]
    value = wide[tuple(bad)]
    kind = "NaN" if np.isnan(value) else f"infinity or a value too large for dtype('{rows.dtype}')"
    place = f"block {index}, row {start + int(bad[0])}"
    if len(bad) > 1:
        column = int(bad[1])
        place += f", column {column}" + (f" ({names[column]!r})" if names else "")
    raise ValueError(f"Input {what} contains {kind}: {place}. Fill the missing values or leave such rows out.")
