"""Models as files that hold numbers and no code: JSON and arrays, checked against what each class is made of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from daskml_core.errors import ModelFileError
from daskml_core.model_file import members
from daskml_core.model_file.container import FORMAT, Reader, write
from daskml_core.model_file.nodes import Cannot, Decoder, Encoder

__all__ = ["Portable", "load", "save"]


def save(model: Any, path: Any) -> None:
    """Write an estimator, fitted or not, to a file that `load` reads.

    Parameters
    ----------
    model : estimator of daskml_core, or scikit-learn's `Pipeline` of such.
    path : where to; a file that is there is replaced, in one step.

    Raises
    ------
    TypeError : parameters that are callables or random generators, other classes. Nothing is written then.

    Notes
    -----
    Saved are parameters and fitted attributes; the same model gives the same file. Left out are attributes that are lazy
    (``labels_`` of a fit to lazy data) and ``search_plan_``.

    Examples
    --------
    >>> import tempfile
    >>> import daskml_core
    >>> from daskml_core.linear_model import Ridge
    >>> model = Ridge().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0])
    >>> path = tempfile.mkdtemp() + "/ridge.model"
    >>> daskml_core.save(model, path)
    >>> daskml_core.load(path).coef_ == model.coef_
    array([ True])
    """
    from daskml_core import __version__

    if members.name_of(model)[0] != "estimator":
        kind = type(model)
        raise TypeError(f"A {kind.__module__}.{kind.__name__} cannot be saved: it is no estimator of daskml_core.")
    encoder = Encoder()
    try:
        node = encoder.estimator(model, type(model).__name__)
    except Cannot as error:
        raise TypeError(f"The model cannot be saved: {error}.") from error
    described = {"format": FORMAT, "daskml_core": __version__, "model": node}
    Decoder(_Held(encoder.arrays)).decode(node)  # what could not be read back is not written
    write(path, described, encoder.arrays)


def load(path: Any) -> Any:
    """The estimator that was saved to a file, with the same bits in all its predictions.

    Nothing in the file is run, whatever it holds: classes, attributes, types and shapes are compared with what this library
    knows, and memory is taken for no more than the file's own size.

    Parameters
    ----------
    path : path
        A file written by `save`.

    Returns
    -------
    estimator, search or pipeline, fitted

    Raises
    ------
    ModelFileError
        Anything else.
    FileNotFoundError
        No file.

    Examples
    --------
    >>> import tempfile
    >>> import daskml_core
    >>> from daskml_core.linear_model import Ridge
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Ridge().fit([[0.0], [1.0]], [0.0, 1.0]).save(f"{folder}/ridge.model")
    ...     daskml_core.load(f"{folder}/ridge.model").coef_.round(3)
    array([0.333])
    """
    with open(path, "rb") as file:
        reader = Reader(file, path)
        described = reader.described()
        try:
            model = _decoded(described, reader)
            _refuse_useless(model)
        except ModelFileError as error:
            raise reader.bad(str(error)) from error
    return model


def _decoded(described: Any, reader: Reader) -> Any:
    """The estimator that a file describes."""
    if not isinstance(described, dict) or type(described.get("format")) is not int:
        raise ModelFileError("its JSON has no format")
    if described["format"] != FORMAT:
        writer = f"written by daskml_core {described.get('daskml_core')!r}"
        raise ModelFileError(f"its format is {described['format']!r}, {writer}; this is {FORMAT}"[:200])
    model = Decoder(_Once(reader)).decode(described.get("model"))
    if members.name_of(model)[0] != "estimator":
        raise ModelFileError("it holds no estimator")
    return model


class _Held:
    """Arrays that are in memory."""

    def __init__(self, arrays: list[bytes]) -> None:
        self.arrays = arrays

    def size(self, number: int) -> int:
        return len(self.arrays[number])

    def array(self, number: int) -> bytes:
        return self.arrays[number]


class _Once:
    """Arrays of a file, each handed out once: one that is named a thousand times would be allocated a thousand times."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.seen: set[int] = set()

    def size(self, number: int) -> int:
        return self.reader.size(number)

    def array(self, number: int) -> bytes:
        if number in self.seen:
            raise ModelFileError(f"array {number} is used twice")
        self.seen.add(number)
        return self.reader.array(number)


def _refuse_useless(model: Any) -> None:
    """Refuse a fitted model that cannot predict, or transform, one row: attributes are missing or do not fit."""
    d = _n_features(model)
    if d is None:
        return
    use = getattr(model, "predict", None) or getattr(model, "transform", None)
    if use is None:
        return
    # The cosine metric has no answer for a row of zeros.
    row = np.ones((1, d))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            use(row)
    except Exception as error:
        raise ModelFileError(f"its model cannot be used: {type(error).__name__}: {error}"[:300]) from error


def _n_features(model: Any) -> int | None:
    """Features of a fitted model; ``None`` where it is not fitted."""
    if "n_features_in_" in vars(model):
        return int(model.n_features_in_)
    if hasattr(model, "steps"):
        first = next((step for _, step in model.steps if step not in (None, "passthrough")), None)
        return None if first is None else _n_features(first)
    best = vars(model).get("best_estimator_")
    return None if best is None else _n_features(best)


class Portable:
    """Estimators that can be saved, and handed over to scikit-learn."""

    def save(self, path: Any) -> None:
        """Write the estimator to a file that `daskml_core.load` reads; see `daskml_core.save`."""
        save(self, path)

    def to_sklearn(self, dtype: Any = None) -> Any:
        """The fitted estimator as scikit-learn's own, with the same predictions; see `daskml_core.to_sklearn`.

        Parameters
        ----------
        dtype : "float32" or "float64", optional
            Of the fitted arrays; by default they stay as they are.
        """
        from daskml_core.conversion import to_sklearn

        return to_sklearn(self, dtype=dtype)
