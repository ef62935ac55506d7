"""``ds.ml``: fitting and predicting from the data's side. ``import daskml_core.accessor`` makes it known to xarray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from daskml_core.data.from_xarray import in_the_order_of

__all__ = ["MLAccessor"]


@xr.register_dataset_accessor("ml")
@xr.register_dataarray_accessor("ml")
class MLAccessor:
    """Models on a DataArray or a Dataset.

    Parameters
    ----------
    data : DataArray or Dataset
        xarray passes it: write ``ds.ml``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import daskml_core.accessor
    >>> from daskml_core.cluster import KMeans
    >>> x = np.random.default_rng(0).normal(size=(4, 6, 5))
    >>> ds = xr.Dataset({"t": (("time", "lat", "lon"), x), "u": (("time", "lat", "lon"), x**2)})
    >>> model = ds.ml.fit(KMeans(2, random_state=0))
    >>> ds.ml.predict(model).dims
    ('time', 'lat', 'lon')
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def fit(
        self,
        model: Any,
        y: Any = None,
        *,
        dims: Sequence[str] | None = None,
        mask: Any = None,
        sample_weight: Any = None,
    ) -> Any:
        """Fit a model, and return it.

        Parameters
        ----------
        model : an estimator of this library.
        y : target, a DataArray on some of the sample dimensions.
        dims : sample dimensions; the one that is left holds the features. ``None``: found by name, or all of a Dataset's.
        mask : boolean DataArray; samples where it is false are left out.
        sample_weight : a DataArray on some of the sample dimensions, or ``"cos_lat"``.
        """
        options: dict[str, Any] = {} if sample_weight is None else {"sample_weight": sample_weight}
        feature_dim = self._feature_dim(dims)
        if feature_dim is not None:
            options["feature_dim"] = feature_dim
        return model.fit(self._masked(mask), y, **options)

    def predict(self, model: Any, *, mask: Any = None, fill_value: Any = None) -> Any:
        """Lazy predictions on the sample dimensions.

        Parameters
        ----------
        mask : boolean DataArray; samples where it is false are not predicted.
        fill_value : what stands where a sample lacks a value or is masked; NaN without. With a whole number labels stay
            whole numbers, and it is declared as their ``_FillValue``: they are NaN again when the store is opened.
        """
        result = model.predict(self._masked(mask))
        if fill_value is None:
            return result
        filled = result.fillna(fill_value)
        if isinstance(fill_value, int | np.integer) and result.dtype.kind in "fiu":
            filled = filled.astype(np.result_type(np.int32, np.min_scalar_type(fill_value)))
            filled.encoding["_FillValue"] = filled.dtype.type(fill_value)
        return filled

    def predict_proba(self, model: Any, *, mask: Any = None) -> Any:
        """Lazy probabilities, with a dimension ``class``."""
        return model.predict_proba(self._masked(mask))

    def transform(self, model: Any, *, mask: Any = None) -> Any:
        """Lazy transform."""
        return model.transform(self._masked(mask))

    def _masked(self, mask: Any) -> Any:
        """The data with NaN where the mask, matched by names and labels, is false."""
        if mask is None:
            return self._data
        if not isinstance(mask, xr.DataArray):
            raise TypeError(f"mask must be a boolean DataArray, got {type(mask).__name__}.")
        mask = in_the_order_of(self._data, mask, "mask")
        held = {str(dim): size for dim, size in self._data.sizes.items()}
        if any(held.get(str(dim)) != size for dim, size in mask.sizes.items()):
            raise ValueError(f"mask lies on {dict(mask.sizes)}, where the data lie on {held}.")
        return self._data.where(mask.astype(bool))

    def _feature_dim(self, dims: Sequence[str] | None) -> str | None:
        if dims is None:
            return None
        dims = (dims,) if isinstance(dims, str) else tuple(dims)
        unknown = [dim for dim in dims if dim not in self._data.dims]
        if unknown:
            raise ValueError(f"dims={dims} has {unknown}, which the data lacks: {tuple(self._data.dims)}.")
        left = [str(dim) for dim in self._data.dims if dim not in dims]
        if isinstance(self._data, xr.Dataset):
            if left:
                raise ValueError(
                    f"All dimensions of a Dataset are sample dimensions, its variables the features; {left} are not in "
                    "dims. Turn it into a DataArray with one feature dimension first, e.g. ds.to_dataarray()."
                )
            return None
        if len(left) != 1:
            raise ValueError(f"One dimension must be left for the features, got {left}.")
        return left[0]
