"""Models as ONNX: skl2onnx converts what `to_sklearn` gives, with converters for kernel features that it lacks.

skl2onnx is imported when something is converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import ensemble, kernel_approximation, linear_model, svm
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from daskml_core.conversion import to_sklearn
from daskml_core.conversion_parts import CannotConvert

__all__ = ["to_onnx"]

SINGLE_ONLY = (svm.LinearSVC, linear_model.SGDClassifier, ensemble.VotingClassifier)
"""Classifiers that skl2onnx cannot convert in float64, or converts into what onnxruntime refuses."""

Convert = Callable[[Any, Any, Any], None]


def to_onnx(model: Any, *, dtype: Any = "float32", options: dict[Any, Any] | None = None) -> Any:
    """The fitted model as an ONNX model that takes rows ``X`` (n_rows, n_features) and gives its predictions.

    Parameters
    ----------
    model : fitted estimator of daskml_core, a pipeline of such, or scikit-learn's.
    dtype : {"float32", "float64"}, default="float32"
        Of the rows. skl2onnx knows float64 of many estimators, not of all.
    options : dict, optional
        skl2onnx's. Probabilities are tables, not lists of dictionaries, unless ``zipmap`` is set here.

    Returns
    -------
    onnx.ModelProto : ``model.SerializeToString()`` goes to a file; onnxruntime runs it.

    Raises
    ------
    ImportError : skl2onnx is not installed.
    UnsupportedDataError : neither skl2onnx nor this module has a converter.

    Notes
    -----
    In float32 values agree to about 1e-6 of their size, and labels of rows that lie so near to a boundary may differ.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.onnx import to_onnx
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> proto = to_onnx(LogisticRegression().fit(X, X[:, 0] > 0))
    >>> [output.name for output in proto.graph.output]
    ['label', 'probabilities']
    """
    try:
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    except ImportError as error:
        raise ImportError("ONNX models are made by skl2onnx, which is not installed: pip install skl2onnx.") from error
    kinds = {np.dtype(np.float32): FloatTensorType, np.dtype(np.float64): DoubleTensorType}
    if np.dtype(dtype) not in kinds:
        raise ValueError(f'dtype must be "float32" or "float64", got {dtype!r}.')
    converted = to_sklearn(model)
    check_is_fitted(converted)
    parts = [step for _, step in converted.steps] if hasattr(converted, "steps") else [converted]
    single = [part for part in parts if isinstance(part, SINGLE_ONLY)]
    if single and np.dtype(dtype) == np.float64:
        raise CannotConvert(f'skl2onnx has {type(single[0]).__name__} in float32 only: leave dtype="float32".')
    if options is None:
        # Told of every classifier by itself: of a pipeline's last step skl2onnx takes for granted that it knows the option.
        options = {
            id(part): {} if isinstance(part, svm.LinearSVC) else {"zipmap": False}
            for part in parts
            if is_classifier(part)
        }
    names = {kernel_approximation.Nystroem: "DaskmlCoreNystroem", kernel_approximation.RBFSampler: "DaskmlCoreFourier"}
    converters: dict[Any, Convert] = {
        kernel_approximation.Nystroem: _nystroem,
        kernel_approximation.RBFSampler: _fourier,
    }
    try:
        return skl2onnx.convert_sklearn(
            converted,
            type(model).__name__,
            [("X", kinds[np.dtype(dtype)]([None, converted.n_features_in_]))],
            options=options,
            custom_conversion_functions=converters,
            custom_shape_calculators=dict.fromkeys(names, _columns),
        )
    except (MissingConverter, MissingShapeCalculator) as error:
        raise CannotConvert(f"ONNX has no form of {type(model).__name__}: {str(error).splitlines()[0]}") from error


def _columns(operator: Any) -> None:
    """The output's type: that of the input, a column a feature."""
    raw = operator.raw_operator
    width = raw.normalization_.shape[0] if hasattr(raw, "normalization_") else raw.random_weights_.shape[1]
    kind = operator.inputs[0].type
    operator.outputs[0].type = type(kind)([kind.shape[0], width])


def _setting(operator: Any, container: Any) -> tuple[Any, Any, int, Callable[[Any], Any]]:
    """The estimator, its input, the opset, and a function that makes arrays of the input's dtype."""
    from skl2onnx.common.data_types import guess_numpy_type

    dtype = guess_numpy_type(operator.inputs[0].type)
    dtype = dtype if dtype == np.float64 else np.float32
    return operator.raw_operator, operator.inputs[0], container.target_opset, lambda a: np.asarray(a, dtype=dtype)


def _nystroem(scope: Any, operator: Any, container: Any) -> None:
    """``K(x, components) normalization.T``; of rbf ``exp(2 g x c - g |x|^2 - g |c|^2)``."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxExp, OnnxMatMul, OnnxMul, OnnxPow, OnnxTanh

    model, X, opset, array = _setting(operator, container)
    C = np.asarray(model.components_, dtype=np.float64)
    gamma = 1.0 / C.shape[1] if model.gamma is None else float(model.gamma)
    coef0 = 1.0 if model.coef0 is None else float(model.coef0)
    degree = 3.0 if model.degree is None else float(model.degree)
    scale = {"rbf": 2 * gamma, "poly": gamma, "sigmoid": gamma, "linear": 1.0}.get(model.kernel)
    if scale is None:
        raise CannotConvert(
            f"Nystroem with kernel={model.kernel!r} has no converter to ONNX; rbf, poly, sigmoid, linear have."
        )
    K = OnnxMatMul(X, array(scale * C.T), op_version=opset)
    if model.kernel == "rbf":
        squares = OnnxMatMul(OnnxMul(X, X, op_version=opset), array(np.full((C.shape[1], 1), -gamma)), op_version=opset)
        offset = OnnxAdd(squares, array(-gamma * np.square(C).sum(axis=1)[None, :]), op_version=opset)
        K = OnnxExp(OnnxAdd(K, offset, op_version=opset), op_version=opset)
    elif model.kernel == "poly":
        K = OnnxPow(OnnxAdd(K, array([coef0]), op_version=opset), array([degree]), op_version=opset)
    elif model.kernel == "sigmoid":
        K = OnnxTanh(OnnxAdd(K, array([coef0]), op_version=opset), op_version=opset)
    out = OnnxMatMul(K, array(model.normalization_.T), op_version=opset, output_names=operator.outputs[:1])
    out.add_to(scope, container)


def _fourier(scope: Any, operator: Any, container: Any) -> None:
    """``sqrt(2 / n) cos(x W + b)``."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxCos, OnnxMatMul, OnnxMul

    model, X, opset, array = _setting(operator, container)
    n = model.random_weights_.shape[1]
    turned = OnnxMatMul(X, array(model.random_weights_), op_version=opset)
    wave = OnnxCos(OnnxAdd(turned, array(model.random_offset_[None, :]), op_version=opset), op_version=opset)
    out = OnnxMul(wave, array([np.sqrt(2.0 / n)]), op_version=opset, output_names=operator.outputs[:1])
    out.add_to(scope, container)
