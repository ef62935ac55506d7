"""scikit-learn for arrays that do not fit in memory: exact linear models on Dask, zarr and xarray."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "open", "save", "to_sklearn", "write"]


def __getattr__(name: str) -> Any:
    """What the package offers beside its modules, imported when it is first asked for."""
    if name in ("load", "save"):
        from daskml_core import model_file

        return getattr(model_file, name)
    if name == "open":
        from daskml_core.data.open import open

        return open
    if name == "to_sklearn":
        from daskml_core.conversion import to_sklearn

        return to_sklearn
    if name == "write":
        from daskml_core.data.write import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
