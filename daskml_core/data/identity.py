"""Names for what is computed, the same in every process: a result that was interrupted can be found again."""

from __future__ import annotations

import uuid
from typing import Any

from daskml_core.data.kind import package_of
from daskml_core.sweep import RowMap


def identity(X: Any) -> str:
    """What a container holds, by the names of its Dask arrays or by the place and metadata of its zarr array.

    Anything else is like nothing else.
    """
    from dask.base import tokenize

    package = package_of(X)
    if package == "dask" and hasattr(X, "name"):
        return str(X.name)
    if package == "zarr":
        described = {name: value for name, value in X.metadata.to_dict().items() if name != "attributes"}
        return str(tokenize(str(X.store), X.path, repr(described)))
    if package == "xarray":
        arrays = list(X.data_vars.values()) if hasattr(X, "data_vars") else [X]
        if all(array.chunks is not None for array in arrays):
            return str(tokenize([(str(array.name), array.dims, array.data.name) for array in arrays]))
    return uuid.uuid4().hex


def name_of(row_map: RowMap, *of: Any) -> str:
    """The Dask name of a kernel's rows, by kernel, parameters and what they are of.

    Of a kernel it takes the function's name, not its code: compiled functions and lambdas have no token that lasts.
    """
    from dask.base import tokenize

    kernel = row_map.kernel
    task = kernel.task_name(row_map.params)
    function = (kernel.function.__module__, kernel.function.__qualname__)
    return f"{task}-{tokenize(task, function, row_map.params, str(row_map.dtype), row_map.n_columns, *of)}"
