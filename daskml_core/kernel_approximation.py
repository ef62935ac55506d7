"""Features whose inner products approximate a kernel: lazy maps in front of any linear model.

``make_pipeline(Nystroem(n_components=300), LinearSVC())`` is a kernel machine on data larger than memory. The features are
computed block by block wherever they are read, and never lie anywhere as a whole, unless they are written to a store,
which pays where several fits or many sweeps follow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.kernel_approximation import PolynomialCountSketch as _Sketch
from sklearn.utils.validation import check_is_fitted

from daskml_core.data.blocks import RowBlocks
from daskml_core.data.load import as_blocked
from daskml_core.data.read import compute_dtype
from daskml_core.engine import CheckpointPath, resumable, run_sweeps, watched
from daskml_core.estimator import SweepEstimator, load_features, sample_budget
from daskml_core.kernels.feature_maps import (
    COUNT_SKETCH,
    FOURIER,
    NYSTROEM,
    FourierParams,
    NystroemParams,
    SketchParams,
)
from daskml_core.kernels.kernel_functions import KERNELS, KernelFunction, gram
from daskml_core.kernels.moments import FEATURE_MOMENTS, FeatureMoments, merge_moments
from daskml_core.kernels.sample import RowSample, SampleParams, rows_drawn, sample_sweep
from daskml_core.solvers.kmeans_seeding import as_sampled, sample_size, solve_sample
from daskml_core.sweep import Array, Kernel, Sweep
from daskml_core.validate import non_negative, positive, random_seed

__all__ = ["Nystroem", "PolynomialCountSketch", "RBFSampler"]

CUT = 1e-6
"""Eigenvalues of the landmarks' kernel matrix below this part of the largest are noise, which their root would blow up."""


def _whole(name: str, value: Any) -> int:
    if int(positive(name, value)) != value:
        raise ValueError(f"{name} must be a whole number, got {value!r}.")
    return int(value)


class _FeatureMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SweepEstimator):
    """A lazy map of rows to features."""

    _n_features_out: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _params(self) -> tuple[Kernel, Any]:
        raise NotImplementedError

    def transform(self, X: Any) -> Any:
        """Features (n_rows, n_components) in the dtype that X is computed in; same container as X, lazy for lazy input."""
        check_is_fitted(self)
        X = self._check_features(X)
        dtype = compute_dtype(as_blocked(X, feature_dim=self._feature_dim)[0].dtype)
        kernel, params = self._params()
        n = self._n_features_out
        labels = self.get_feature_names_out()
        return self._map(X, kernel, params, dtype, n, "features", labels, column="feature")


class Nystroem(_FeatureMap):
    """Features from a kernel's values with a few landmarks; one sweep to find them.

    With K the kernel matrix of the landmarks and its eigenvalues S and eigenvectors V, the features of a row are
    ``k(x, landmarks) V S^(-1/2)``: their inner products are those of scikit-learn's, which turns them by V.

    Parameters
    ----------
    kernel : {"rbf", "linear", "poly", "sigmoid"} or callable, default="rbf"
        A callable takes two arrays of rows, and ``kernel_params``, and gives a matrix.
    gamma : float, optional
        Of rbf, poly and sigmoid; ``1 / n_features`` by default.
    coef0 : float, optional
        Of poly and sigmoid; 1 by default.
    degree : int, optional
        Of poly; 3 by default.
    kernel_params : dict, optional
        Keyword arguments of a callable.
    n_components : int, default=100
        Landmarks, and features at most.
    random_state : int, optional
        ``None`` is a fixed seed.
    landmarks : {"sample", "k-means"}, default="sample"
        Rows drawn over all blocks, or centres of a larger sample's clusters. The latter approximate the kernel better with
        few components, and cost its clustering in this process.

    Attributes
    ----------
    components_ : ndarray (n_components, n_features)
        The landmarks.
    component_indices_ : ndarray (n_components,)
        Their global row numbers, with ``landmarks="sample"``.
    normalization_ : ndarray (rank, n_components)
        ``V S^(-1/2)`` transposed; eigenvalues below 1e-6 of the largest are left out, so that rows whose kernel is nearly
        flat give fewer features than ``n_components`` and no noise.
    n_sweeps_ : float
    n_features_in_, feature_names_in_

    Notes
    -----
    Williams and Seeger 2001; k-means landmarks: Zhang, Tsang and Kwok 2008. Kernel values are float64 whatever X is:
    whitening in float32 has failed.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.pipeline import make_pipeline
    >>> from daskml_core.kernel_approximation import Nystroem
    >>> from daskml_core.svm import LinearSVC
    >>> X = da.random.default_rng(0).normal(size=(10_000, 2), chunks=(1_000, 2))
    >>> y = (X**2).sum(axis=1) > 1
    >>> make_pipeline(Nystroem(n_components=50, gamma=1.0), LinearSVC()).fit(X, y).score(X, y) > 0.98
    True
    """

    def __init__(
        self,
        kernel: str | Callable[..., Any] = "rbf",
        *,
        gamma: float | None = None,
        coef0: float | None = None,
        degree: int | None = None,
        kernel_params: Mapping[str, Any] | None = None,
        n_components: int = 100,
        random_state: int | None = None,
        landmarks: str = "sample",
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.kernel_params = kernel_params
        self.n_components = n_components
        self.random_state = random_state
        self.landmarks = landmarks

    def _function(self, n_features: int) -> KernelFunction:
        """The kernel with its parameters, after refusing those that do not belong to it."""
        given = {name for name in ("gamma", "coef0", "degree") if getattr(self, name) is not None}
        if callable(self.kernel):
            if given:
                raise ValueError(f"{sorted(given)} have no meaning for a callable kernel: pass them in kernel_params.")
            return KernelFunction("callable", function=_Called(self.kernel, dict(self.kernel_params or {})))
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {list(KERNELS)} or a callable, got {self.kernel!r}.")
        if self.kernel_params is not None:
            raise ValueError(f"kernel_params are for a callable kernel, not for kernel={self.kernel!r}.")
        takes = {"rbf": {"gamma"}, "linear": set(), "poly": {"gamma", "coef0", "degree"}, "sigmoid": {"gamma", "coef0"}}
        if given - takes[self.kernel]:
            raise ValueError(f"kernel={self.kernel!r} does not take {sorted(given - takes[self.kernel])}.")
        gamma = 1.0 / n_features if self.gamma is None else positive("gamma", self.gamma)
        degree = 3 if self.degree is None else _whole("degree", self.degree)
        return KernelFunction(self.kernel, gamma, 1.0 if self.coef0 is None else float(self.coef0), degree)

    def _landmarks(self, blocks: RowBlocks, m: int, seed: int) -> Array:
        itemsize = blocks.dtype.itemsize
        many = self.landmarks == "k-means"
        rows = m
        if many:
            rows = min(max(m, sample_size(m, blocks.n_features, itemsize, sample_budget())), blocks.n_rows)
        sample: RowSample
        (sample,) = run_sweeps(blocks, sample_sweep(rows, blocks.n_rows, seed, itemsize))
        if not many:
            self.component_indices_ = rows_drawn(SampleParams(rows, blocks.n_rows, seed, itemsize), blocks.lengths)
            return sample.X
        if hasattr(self, "component_indices_"):
            del self.component_indices_
        distinct = as_sampled(sample, cosine=False)
        return solve_sample(distinct, m, np.random.default_rng([seed, 0]), tol=1e-3, cosine=False)

    @resumable
    def fit(self, X: Any, y: Any = None, *, feature_dim: str | None = None, checkpoint: CheckpointPath = None) -> Self:
        """Find the landmarks, in one sweep; X (n_rows, n_features) in any container. Returns self."""
        m = _whole("n_components", self.n_components)
        if self.landmarks not in ("sample", "k-means"):
            raise ValueError(f'landmarks must be "sample" or "k-means", got {self.landmarks!r}.')
        blocks = load_features(self, X, None, feature_dim)
        kernel = self._function(blocks.n_features)
        if m > blocks.n_rows:
            warnings.warn(
                f"n_components > n_samples: {m} landmarks were asked for, but there are {blocks.n_rows} rows, which are "
                "all taken.",
                UserWarning,
                stacklevel=2,
            )
            m = blocks.n_rows
        landmarks = self._landmarks(blocks, m, random_seed(self.random_state))
        self.n_sweeps_ = 1.0
        if kernel.name == "rbf":
            # Squared distances are differences: far from the origin they would lose their digits.
            kernel = kernel._replace(shift=landmarks.mean(axis=0, dtype=np.float64))
        K = gram(kernel, landmarks, landmarks)
        values, vectors = np.linalg.eigh((K + K.T) / 2)
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > CUT * max(float(values.max(initial=0.0)), np.finfo(np.float64).tiny)]
        if not len(order):
            raise ValueError(
                "The kernel matrix of the landmarks has no positive eigenvalue: no kernel, or all rows zero."
            )
        self.components_ = landmarks
        self.normalization_ = np.ascontiguousarray((vectors[:, order] / np.sqrt(values[order])).T)
        self._kernel = kernel
        self._n_features_out = len(order)
        return self

    def _params(self) -> tuple[Kernel, NystroemParams]:
        return NYSTROEM, NystroemParams(self._kernel, self.components_, self.normalization_)


class _Called:
    """A user's kernel with its keyword arguments; travels to workers as long as the function does."""

    def __init__(self, function: Callable[..., Any], params: dict[str, Any]) -> None:
        self.function = function
        self.params = params

    def __call__(self, X: Array, S: Array) -> Array:
        return np.asarray(self.function(X, S, **self.params))


class RBFSampler(_FeatureMap):
    """Random Fourier features of the kernel ``exp(-gamma |x - z|^2)`` (Rahimi and Recht 2007); scikit-learn's, lazily.

    Parameters
    ----------
    gamma : float or "scale", default=1.0
        "scale" is ``1 / (n_features X.var())``, found in one sweep; otherwise nothing is read.
    n_components : int, default=100
    random_state : int, optional
        The same number gives the features of scikit-learn's; ``None`` is a fixed seed.

    Attributes
    ----------
    random_weights_ : ndarray (n_features, n_components)
    random_offset_ : ndarray (n_components,)
    n_sweeps_ : float
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.kernel_approximation import RBFSampler
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> Z = RBFSampler(n_components=20_000, random_state=0).fit_transform(X)
    >>> (Z @ Z.T).round(1)
    array([[1. , 0.4],
           [0.4, 1. ]])
    """

    def __init__(self, *, gamma: float | str = 1.0, n_components: int = 100, random_state: int | None = None) -> None:
        self.gamma = gamma
        self.n_components = n_components
        self.random_state = random_state

    @resumable
    def fit(self, X: Any, y: Any = None, *, feature_dim: str | None = None, checkpoint: CheckpointPath = None) -> Self:
        """Draw the weights; only ``gamma="scale"`` reads X, in one sweep. Returns self."""
        m = _whole("n_components", self.n_components)
        if self.gamma != "scale":
            positive("gamma", self.gamma)
        blocks = load_features(self, X, None, feature_dim)
        d = blocks.n_features
        self.n_sweeps_ = 0.0
        if isinstance(self.gamma, str):
            moments: FeatureMoments
            (moments,) = run_sweeps(blocks, Sweep(FEATURE_MOMENTS, None, merge_moments))
            self.n_sweeps_ = 1.0
            mean = moments.mean.mean()
            variance = float((moments.scatter / moments.weight + (moments.mean - mean) ** 2).mean())
            gamma = 1.0 / (d * variance) if variance > 0 else 1.0
        else:
            gamma = float(self.gamma)
        # As scikit-learn draws them: the same seed gives the same features.
        rng = np.random.RandomState(random_seed(self.random_state))
        self.random_weights_ = np.sqrt(2 * gamma) * rng.normal(size=(d, m))
        self.random_offset_ = rng.uniform(0, 2 * np.pi, size=m)
        self._n_features_out = m
        return self

    def _params(self) -> tuple[Kernel, FourierParams]:
        scale = float(np.sqrt(2.0 / self._n_features_out))
        return FOURIER, FourierParams(self.random_weights_, self.random_offset_, scale)


class PolynomialCountSketch(_FeatureMap):
    """Tensor sketch of the kernel ``(gamma x z + coef0)^degree`` (Pham and Pagh 2013); scikit-learn's, lazily.

    scikit-learn's own maps rows one by one and learns nothing but their width, so that it is what runs on each block.

    Parameters
    ----------
    gamma : float, default=1.0
    degree : int, default=2
    coef0 : float, default=0
    n_components : int, default=100
    random_state : int, optional
        The same number gives the features of scikit-learn's; ``None`` is a fixed seed.

    Attributes
    ----------
    indexHash_, bitHash_ : ndarray (degree, n_features), or one more feature where ``coef0`` is not 0
    n_sweeps_ : float
        0: nothing is read.
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.kernel_approximation import PolynomialCountSketch
    >>> X = np.array([[1.0, 2.0], [2.0, 0.5]])
    >>> Z = PolynomialCountSketch(degree=2, n_components=4000, random_state=0).fit_transform(X)
    >>> (Z @ Z.T).round(1)
    array([[25. ,  9. ],
           [ 9. , 18.1]])
    """

    def __init__(
        self,
        *,
        gamma: float = 1.0,
        degree: int = 2,
        coef0: float = 0,
        n_components: int = 100,
        random_state: int | None = None,
    ) -> None:
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.n_components = n_components
        self.random_state = random_state

    @watched
    def fit(self, X: Any, y: Any = None, *, feature_dim: str | None = None) -> Self:
        """Draw the hashes; X is not read. Returns self."""
        m = _whole("n_components", self.n_components)
        non_negative("gamma", self.gamma)
        _whole("degree", self.degree)
        blocks = load_features(self, X, None, feature_dim)
        sketch = _Sketch(
            gamma=self.gamma,
            degree=int(self.degree),
            coef0=self.coef0,
            n_components=m,
            random_state=random_seed(self.random_state),
        )
        self._sketch = sketch.fit(np.zeros((1, blocks.n_features)))
        self.indexHash_, self.bitHash_ = sketch.indexHash_, sketch.bitHash_
        self.n_sweeps_ = 0.0
        self._n_features_out = m
        return self

    def _params(self) -> tuple[Kernel, SketchParams]:
        return COUNT_SKETCH, SketchParams(self._sketch, self._n_features_out)
