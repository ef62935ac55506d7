"""What all linear models share: solving, predicting for any container, fitted attributes, the plan."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from daskml_core.engine import Outcome, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import SweepEstimator
from daskml_core.kernels.predict import LINEAR_PREDICTOR, PREDICT_CLASS, PREDICT_PROBABILITY, PredictParams
from daskml_core.linear_model._data import TrainingSet
from daskml_core.sweep import Array, Kernel


class LinearModel(SweepEstimator):
    """Base of all linear models."""

    def _predict_params(self) -> PredictParams:
        coef = np.atleast_2d(self.coef_)
        intercept = np.broadcast_to(np.atleast_1d(np.asarray(self.intercept_, dtype=np.float64)), (len(coef),))
        return PredictParams(np.ascontiguousarray(coef.T), np.array(intercept))

    def _run(self, solver: Any, data: TrainingSet, kernels: Any, *, fitted: Any = None) -> Outcome:
        """Drive a solver over the data and set the attributes that every fit has."""
        (outcome,) = self._drive([solver], data.blocks, kernels, fitted=fitted)
        self.n_sweeps_ = round(self.n_sweeps_ + data.target_fraction, 6)
        self.history_ = outcome.history
        self.n_iter_ = int(outcome.state.n_iter)
        return outcome

    def _finish(self, state: Any, max_iter: int, stacklevel: int = 4) -> None:
        """Refuse a model that is not finite; warn once, with a remedy, when the solver did not converge."""
        self.converged_ = bool(state.converged)
        if self.converged_ or stopped_early():
            return
        reason = (
            "no step lowers the objective any more: rounding limits it, try float64 data or scaled features"
            if getattr(state, "stalled", False)
            else f"max_iter={max_iter} was reached: raise it, or scale the features"
        )
        warnings.warn(
            f"{type(self).__name__} did not converge: the largest gradient entry is {state.grad_norm:.2g} "
            f"and {reason} (daskml_core.preprocessing.StandardScaler).",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


class LinearRegressorBase(RegressorMixin, LinearModel):
    """Prediction of a regressor."""

    def _link_kernel(self) -> Kernel:
        return LINEAR_PREDICTOR

    def predict(self, X: Any) -> Any:
        """Predicted values, shape (n_rows,) or (n_rows, n_targets); lazy for lazy input, same container as X."""
        check_is_fitted(self)
        targets = None if np.ndim(self.coef_) == 1 else len(self.coef_)
        return self._map(X, self._link_kernel(), self._predict_params(), np.float64, targets, "prediction")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination R2 of the prediction, in one sweep."""
        from daskml_core.metrics import r2_score

        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))


class LinearClassifierBase(ClassifierMixin, LinearModel):
    """Prediction of a classifier."""

    classes_: Array

    def decision_function(self, X: Any) -> Any:
        """Confidence scores: (n_rows,) for two classes, (n_rows, n_classes) for more; same container as X."""
        check_is_fitted(self)
        n = None if len(self.classes_) == 2 else len(self.classes_)
        labels = None if n is None else self.classes_
        return self._map(X, LINEAR_PREDICTOR, self._predict_params(), np.float64, n, "decision", labels)

    def predict(self, X: Any) -> Any:
        """Predicted labels (n_rows,), in the labels' own dtype; same container as X, lazy for lazy input."""
        check_is_fitted(self)
        params = self._predict_params()._replace(classes=self.classes_)
        return self._map(X, PREDICT_CLASS, params, self.classes_.dtype, None, "prediction")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, in one sweep."""
        from daskml_core.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))


class ProbabilityMixin:
    """``predict_proba`` and ``predict_log_proba`` of a classifier with a probabilistic loss."""

    _softmax = False

    def _probability(self: Any, X: Any, log: bool) -> Any:
        check_is_fitted(self)
        softmax = "softmax" if self._softmax and len(self.classes_) > 2 else "logistic"
        params = self._predict_params()._replace(link=softmax, log=log)
        n = len(self.classes_)
        name = "log_probability" if log else "probability"
        return self._map(X, PREDICT_PROBABILITY, params, np.float64, n, name, self.classes_)

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities (n_rows, n_classes), columns in the order of ``classes_``; same container as X."""
        return self._probability(X, log=False)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the class probabilities (n_rows, n_classes), without going through the probabilities."""
        return self._probability(X, log=True)
