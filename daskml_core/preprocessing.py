"""Scalers: fitted in one sweep, applied lazily."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from daskml_core.data import as_blocked, is_dataarray, is_lazy, refuse_no_numbers
from daskml_core.data.output import map_rows
from daskml_core.data.read import compute_dtype
from daskml_core.engine import CheckpointPath, resumable, run_sweeps
from daskml_core.estimator import load_features, require_same_features
from daskml_core.kernels.moments import AFFINE, FEATURE_MOMENTS, AffineParams, FeatureMoments, merge_moments
from daskml_core.model_file import Portable
from daskml_core.sweep import Array, RowMap, Sweep

__all__ = ["MinMaxScaler", "StandardScaler"]


class _Scaler(Portable, CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Shared by the scalers: moments in one sweep, an affine map of the rows."""

    _feature_dim: str | None = None

    def _observe(self, X: Any, sample_weight: Any, feature_dim: str | None, *, reset: bool) -> FeatureMoments:
        blocks = load_features(self, X, sample_weight, feature_dim, reset=reset)
        (moments,) = run_sweeps(blocks, Sweep(FEATURE_MOMENTS, None, merge_moments))
        if not moments.weight > 0:
            raise ValueError("The sample weights sum to zero; at least one must be positive.")
        return moments

    def _rescale(self, X: Any, params: AffineParams, *, reset_names: bool = True) -> Any:
        check_is_fitted(self)
        if not is_lazy(X):
            refuse_no_numbers(X)
            X = validate_data(self, X, reset=False, accept_sparse=False, dtype=[np.float64, np.float32, np.float16])
        column, names = as_blocked(X, feature_dim=self._feature_dim)
        d = column.trailing[0]
        require_same_features(self, d, names)
        row_map = RowMap(AFFINE, params, compute_dtype(column.dtype), d)
        name = "feature"
        if is_dataarray(X):
            from daskml_core.data.from_xarray import find_feature_dim

            name = find_feature_dim(X, self._feature_dim)
        labels = list(self.feature_names_in_) if hasattr(self, "feature_names_in_") else None
        return map_rows(X, row_map, feature_dim=self._feature_dim, columns=(name, labels), name=None)


class StandardScaler(_Scaler):
    """Features with mean 0 and standard deviation 1; scikit-learn's, fitted in one sweep.

    Parameters
    ----------
    with_mean, with_std : bool, default=True

    Attributes
    ----------
    mean_, var_, scale_ : ndarray (n_features,) or None
    n_samples_seen_ : int or float
        Rows, or their weight.
    n_features_in_, feature_names_in_

    Notes
    -----
    Variances are combined pairwise (Chan, Golub and LeVeque 1979). Missing values are refused.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.preprocessing import StandardScaler
    >>> X = da.arange(8, chunks=3).reshape(-1, 1)
    >>> StandardScaler().fit(X).transform(X).std().compute().round(6)
    np.float64(1.0)
    """

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    @resumable
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        feature_dim: str | None = None,
        checkpoint: CheckpointPath = None,
    ) -> Self:
        """Find means and variances; X (n_rows, n_features) in any container. Returns self."""
        return self._update(self._observe(X, sample_weight, feature_dim, reset=True))

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, feature_dim: str | None = None) -> Self:
        """Take more rows into account. Returns self."""
        old: FeatureMoments | None = getattr(self, "_moments", None)
        new = self._observe(X, sample_weight, feature_dim, reset=old is None)
        return self._update(new if old is None else merge_moments(old, new))

    def _update(self, moments: FeatureMoments) -> Self:
        self._moments = moments
        self.n_samples_seen_ = moments.n_rows if moments.weight == moments.n_rows else moments.weight
        self.mean_ = moments.mean if self.with_mean or self.with_std else None
        self.var_: Array | None = None
        self.scale_: Array | None = None
        if self.with_std:
            self.var_ = moments.scatter / moments.weight
            # As scikit-learn: a variance that rounding alone explains is that of a constant.
            eps = np.finfo(np.float64).eps
            bound = moments.weight * eps * self.var_ + (moments.weight * moments.mean * eps) ** 2
            scale = np.sqrt(self.var_)
            scale[self.var_ <= bound] = 1.0
            scale[scale == 0] = 1.0
            self.scale_ = scale
        return self

    def _params(self, *, inverse: bool) -> AffineParams:
        check_is_fitted(self)
        d = self.n_features_in_
        shift = self.mean_ if self.with_mean and self.mean_ is not None else np.zeros(d)
        factor = 1.0 / self.scale_ if self.scale_ is not None else np.ones(d)
        return AffineParams(shift, factor, inverse)

    def transform(self, X: Any) -> Any:
        """Scaled rows; same container as X, lazy for lazy input."""
        return self._rescale(X, self._params(inverse=False))

    def inverse_transform(self, X: Any) -> Any:
        """Rows in the original units."""
        return self._rescale(X, self._params(inverse=True))


class MinMaxScaler(_Scaler):
    """Features scaled to a range; scikit-learn's, fitted in one sweep.

    Parameters
    ----------
    feature_range : tuple (min, max), default=(0, 1)
    clip : bool, default=False

    Attributes
    ----------
    data_min_, data_max_, data_range_, scale_, min_ : ndarray (n_features,)
    n_samples_seen_ : int
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.preprocessing import MinMaxScaler
    >>> MinMaxScaler().fit_transform(np.array([[1.0], [3.0], [2.0]])).ravel()
    array([0. , 1. , 0.5])
    """

    def __init__(self, feature_range: tuple[float, float] = (0, 1), *, clip: bool = False) -> None:
        self.feature_range = feature_range
        self.clip = clip

    @resumable
    def fit(self, X: Any, y: Any = None, *, feature_dim: str | None = None, checkpoint: CheckpointPath = None) -> Self:
        """Find minima and maxima; X (n_rows, n_features) in any container. Returns self."""
        return self._update(self._observe(X, None, feature_dim, reset=True))

    def partial_fit(self, X: Any, y: Any = None, *, feature_dim: str | None = None) -> Self:
        """Take more rows into account. Returns self."""
        old: FeatureMoments | None = getattr(self, "_moments", None)
        new = self._observe(X, None, feature_dim, reset=old is None)
        return self._update(new if old is None else merge_moments(old, new))

    def _update(self, moments: FeatureMoments) -> Self:
        low, high = self.feature_range
        if low >= high:
            raise ValueError(
                f"Minimum of desired feature range must be smaller than maximum. Got {self.feature_range}."
            )
        self._moments = moments
        self.n_samples_seen_ = moments.n_rows
        self.data_min_, self.data_max_ = moments.smallest, moments.largest
        self.data_range_ = self.data_max_ - self.data_min_
        span = self.data_range_.copy()
        span[span <= 10 * np.finfo(np.float64).eps] = 1.0
        self.scale_ = (high - low) / span
        self.min_ = low - self.data_min_ * self.scale_
        return self

    def transform(self, X: Any) -> Any:
        """Scaled rows; same container as X, lazy for lazy input."""
        check_is_fitted(self)
        low, high = self.feature_range
        limits = (float(low), float(high)) if self.clip else None
        return self._rescale(X, AffineParams(self.data_min_, self.scale_, False, float(low), limits))

    def inverse_transform(self, X: Any) -> Any:
        """Rows in the original units."""
        check_is_fitted(self)
        return self._rescale(X, AffineParams(self.data_min_, self.scale_, True, float(self.feature_range[0])))
