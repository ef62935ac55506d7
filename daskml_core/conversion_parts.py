"""Models that scikit-learn has, but cannot be given, put together from its own parts by public means.

Kernel machines. scikit-learn's predict from private copies that only libsvm's fit makes. A machine is ``K(x, S) coef + b``,
and so are a `Nystroem` whose components are the support vectors and whose normalisation is their coefficients, and a linear
model of one feature behind it.

Trees of clusters. Which side of a split a row is on is the sign of a projection: all of them are a `TruncatedSVD` whose
components are the splits' normals, and a `Binarizer`. The leaf is then the class of a linear classifier that counts the
splits that disagree with it.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
from sklearn import cluster, decomposition, ensemble, kernel_approximation, linear_model, pipeline, preprocessing, svm

from daskml_core.errors import UnsupportedDataError
from daskml_core.sweep import Array


class CannotConvert(UnsupportedDataError):
    """scikit-learn has no estimator that predicts the same, or none that can be filled by public means."""


def _features(estimator: Any, model: Any) -> Any:
    """The estimator with number and names of the model's features."""
    for name in ("n_features_in_", "feature_names_in_"):
        if name in vars(model):
            setattr(estimator, name, getattr(model, name))
    return estimator


def _kernel_step(model: Any, coef: Array) -> list[tuple[str, Any]]:
    """Steps from rows to ``K(x, S) coef`` (rows, P), for coefficients (m, P)."""
    kernel = model._kernel_function
    if kernel.name == "callable":
        raise CannotConvert(
            f"The kernel of this {type(model).__name__} is a callable of two matrices, and scikit-learn's Nystroem calls "
            "one of two rows. Save the data and fit scikit-learn's own, or use a kernel by name."
        )
    S = np.asarray(model.support_vectors_, dtype=np.float64)
    if not len(S):  # a constant, which needs a row that counts nothing
        S, coef = np.zeros((1, model.n_features_in_)), np.zeros((1, coef.shape[1]))
    steps: list[tuple[str, Any]] = []
    if kernel.name == "rbf":
        # Distances are found from products: rows far from the origin would lose their digits.
        center = S.mean(axis=0)
        if float(center @ center) > float(np.square(S - center).sum(axis=1).mean()):
            steps.append(("center", _features(centered(center), model)))
            S = S - center
    made = kernel_approximation.Nystroem(kernel=kernel.name, n_components=2)
    if kernel.name != "linear":
        made.set_params(gamma=kernel.gamma)
    if kernel.name in ("poly", "sigmoid"):
        made.set_params(coef0=kernel.coef0)
    if kernel.name == "poly":
        made.set_params(degree=kernel.degree)
    made.fit(np.eye(2, S.shape[1]))
    made.set_params(n_components=len(S))
    made.components_, made.normalization_ = S, np.ascontiguousarray(coef.T)
    made.component_indices_ = np.arange(len(S))
    made.n_features_in_ = S.shape[1]
    return [*steps, ("kernel", made if steps else _features(made, model))]


def centered(mean: Array) -> Any:
    """A `StandardScaler` that takes a vector from the rows, and does nothing else."""
    scaler = preprocessing.StandardScaler(with_std=False)
    scaler.mean_, scaler.scale_, scaler.var_ = np.asarray(mean, dtype=np.float64), None, None
    scaler.n_features_in_ = len(mean)
    return scaler


def _linear_classifier(coef: Array, intercept: Array, classes: Array) -> Any:
    machine = svm.LinearSVC()
    machine.coef_, machine.intercept_, machine.classes_ = coef, intercept, classes
    machine.n_features_in_ = coef.shape[1]
    machine.n_iter_ = 0
    return machine


def svc(model: Any) -> Any:
    """A pipeline for an `SVC`: of two classes with its decision values; of more by votes of the pairs."""
    if hasattr(model, "probA_"):
        warnings.warn(
            "The probabilities of an SVC are not carried over to scikit-learn, its labels are.",
            UserWarning,
            stacklevel=4,
        )
    params = model._decision_params()
    K = len(model.classes_)
    if K == 2:
        # The machine's decision is positive for the first class, scikit-learn's for the second.
        steps = _kernel_step(model, -params.coef)
        machine = _linear_classifier(np.ones((1, 1)), -np.asarray(params.b, dtype=np.float64), model.classes_.copy())
        return pipeline.Pipeline([*steps, ("machine", machine)])
    steps = _kernel_step(model, params.coef)
    pairs = list(itertools.combinations(range(K), 2))
    W, b = np.zeros((K, len(pairs))), np.zeros(K)
    for k, (first, second) in enumerate(pairs):
        # A pair's sign is a vote: one for the first class, zero for the second.
        W[first, k], W[second, k] = 1.0, -1.0
        b[second] += 1.0
    votes = _linear_classifier(W, b, np.arange(K))
    # scikit-learn's decision values are other numbers than votes: this shell shows labels alone.
    shell = ensemble.VotingClassifier([("pairs", votes)], voting="hard", flatten_transform=False)
    shell.estimators_, shell.named_estimators_ = [votes], {"pairs": votes}
    shell.le_ = preprocessing.LabelEncoder().fit(model.classes_)
    shell.classes_ = shell.le_.classes_
    signs = preprocessing.Binarizer()
    signs.n_features_in_ = len(pairs)
    bounds = centered(-np.asarray(params.b, dtype=np.float64))
    return pipeline.Pipeline([*steps, ("bounds", bounds), ("signs", signs), ("votes", shell)])


def svr(model: Any) -> Any:
    """A pipeline for an `SVR`."""
    line = linear_model.LinearRegression()
    line.coef_, line.intercept_, line.n_features_in_ = np.ones(1), np.float64(model.intercept_[0]), 1
    return pipeline.Pipeline([*_kernel_step(model, np.asarray(model.dual_coef_).T), ("machine", line)])


def one_class(model: Any) -> Any:
    """A pipeline for a `OneClassSVM`."""
    side = linear_model.SGDOneClassSVM(nu=model.nu)
    side.coef_, side.offset_, side.n_features_in_ = np.ones(1), np.array([float(model.offset_)]), 1
    return pipeline.Pipeline([*_kernel_step(model, np.asarray(model.dual_coef_).T), ("machine", side)])


def by_angle(model: Any, convert: Any) -> Any:
    """A pipeline for clusters of directions: rows of length one, and a linear classifier whose scores are the cosines."""
    centers = np.asarray(model.cluster_centers_, dtype=np.float64)
    if len(centers) == 1:
        return convert(model)
    W = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    W = W[1:] - W[:1] if len(W) == 2 else W
    machine = _linear_classifier(W, np.zeros(len(W)), np.arange(len(centers), dtype=np.int32))
    return pipeline.Pipeline([("direction", _features(preprocessing.Normalizer(), model)), ("clusters", machine)])


def cluster_tree(model: Any) -> Any:
    """A pipeline for a `BisectingKMeans`, whose last step is a classifier with the leaves for classes."""
    tree = model._tree
    n, K = len(tree.child), len(model.cluster_centers_)
    if not n:
        single = cluster.KMeans(1, n_init=1, max_iter=1).fit(np.zeros((1, model.n_features_in_)))
        single.cluster_centers_ = np.array(model.cluster_centers_)
        return _features(single, model)
    left, right = (np.asarray(tree.pairs[:, side], dtype=np.float64) for side in (0, 1))
    normals, middles = right - left, (left + right) / 2
    center = np.zeros(normals.shape[1]) if tree.cosine else middles.mean(axis=0)
    sides = decomposition.TruncatedSVD(n_components=n)
    sides.components_, sides.n_features_in_ = normals, normals.shape[1]
    W, b = np.zeros((K, n)), np.zeros(K)
    for leaf, path in _paths(tree.child):
        for split, side in path:
            # Zero where the split sends a row to this leaf, one less where it sends it elsewhere.
            W[leaf, split] = 1.0 if side else -1.0
            b[leaf] -= float(side)
    if K == 2:
        W, b = W[1:] - W[:1], b[1:] - b[:1]
    first: Any = preprocessing.Normalizer() if tree.cosine else centered(center)
    signs = preprocessing.Binarizer()
    signs.n_features_in_ = n
    return pipeline.Pipeline(
        [
            ("direction" if tree.cosine else "center", _features(first, model)),
            ("sides", sides),
            ("bounds", centered(np.einsum("ij,ij->i", middles - center, normals))),
            ("signs", signs),
            ("leaf", _linear_classifier(W, b, np.arange(K, dtype=np.int32))),
        ]
    )


def _paths(child: Array) -> list[tuple[int, list[tuple[int, bool]]]]:
    """Leaves with the splits above each, and on which side of them it is."""
    found: list[tuple[int, list[tuple[int, bool]]]] = []
    open_: list[tuple[int, list[tuple[int, bool]]]] = [(0, [])]
    while open_:
        split, path = open_.pop()
        for side in (False, True):
            below, here = int(child[split, int(side)]), [*path, (split, side)]
            if below < 0:
                found.append((-1 - below, here))
            else:
                open_.append((below, here))
    return found
