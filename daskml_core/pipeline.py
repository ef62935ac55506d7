"""Pipelines whose scaler is part of the model: fitted in the model's own sweeps, and no row is ever scaled for it."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn import pipeline as reference

from daskml_core.engine import CheckpointPath, begin_tasks, resumable
from daskml_core.kernels.cells import Segments
from daskml_core.model_file import Portable
from daskml_core.model_selection._batch import NotBatchable
from daskml_core.model_selection._folds import Folds, n_rows_of
from daskml_core.model_selection._run import BatchRun, Request, set_feature_dim

__all__ = ["Pipeline", "make_pipeline"]


class Pipeline(Portable, reference.Pipeline):
    """scikit-learn's pipeline; a `StandardScaler` in front of a linear model is folded into it when it is fitted.

    The features' moments are found in the model's first sweep, and the scaling becomes a part of its coefficients while it
    is trained. The steps are fitted as they would have been one after the other. Any other pipeline is fitted as
    scikit-learn fits it. `GridSearchCV` does the same for scikit-learn's own pipelines.

    Parameters
    ----------
    steps : list of (name, transformer or estimator)
    transform_input, memory, verbose : as in scikit-learn

    Attributes
    ----------
    steps : list of (name, fitted step)
    named_steps : by name
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import Ridge
    >>> from daskml_core.pipeline import make_pipeline
    >>> from daskml_core.preprocessing import StandardScaler
    >>> X = da.random.default_rng(0).normal(5.0, 2.0, size=(1_000, 3), chunks=(100, 3))
    >>> model = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])
    >>> model[-1].n_sweeps_ < 2, model[-1].coef_.round() + 0.0
    (True, array([2., 0., 0.]))
    """

    _begins_tasks = True  # scikit-learn's own way of fitting has tasks of its own

    @resumable
    def fit(self, X: Any, y: Any = None, *, checkpoint: CheckpointPath = None, **params: Any) -> Self:
        """Fit the steps; X (n_rows, n_features) in any container. ``step__parameter`` goes to a step's fit.

        ``checkpoint`` is a directory or URL where an interrupted fit is kept, so that the same fit goes on from there.
        """
        request = Request(self, [{}], X, y, params=params)
        n = n_rows_of(request.X)
        whole = Folds(n, Segments(np.array([n])), np.ones((1, 1), dtype=bool), np.zeros((1, 1), dtype=bool))
        try:
            run = BatchRun(request, [self], whole)
        except NotBatchable:
            return super().fit(X, y, **params)
        begin_tasks(self)
        self.steps = run.fit_all().steps
        if request.feature_dim is not None:
            set_feature_dim(self, request.feature_dim)
        return self


def make_pipeline(*steps: Any, memory: Any = None, verbose: bool = False) -> Pipeline:
    """A `Pipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : transformers, and at last an estimator
    memory, verbose : as in `Pipeline`

    Returns
    -------
    Pipeline

    Examples
    --------
    >>> from daskml_core.linear_model import Ridge
    >>> [name for name, _ in make_pipeline(Ridge()).steps]
    ['ridge']
    """
    return Pipeline(reference.make_pipeline(*steps).steps, memory=memory, verbose=verbose)
