"""What all estimators share: loading, row-wise output for any container, driving solvers, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from daskml_core.data import as_blocked, is_lazy, load, refuse_feature_dim, refuse_no_numbers
from daskml_core.data.blocks import RowBlocks
from daskml_core.data.from_dask import nothing_read
from daskml_core.data.grid import features_of, is_grid
from daskml_core.data.output import map_rows
from daskml_core.engine import Engine, Outcome, Plan, count_rows, drive, find_complete
from daskml_core.engine.settings import memory_limit_setting
from daskml_core.model_file import Portable
from daskml_core.sweep import Kernel, RowMap
from daskml_core.validate import check_flags


def set_features(estimator: Any, blocks: RowBlocks) -> None:
    """Record number and names of the features, as scikit-learn's `validate_data` does for arrays."""
    estimator.n_features_in_ = blocks.n_features
    if blocks.feature_names is not None:
        estimator.feature_names_in_ = np.asarray(blocks.feature_names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def require_same_features(estimator: Any, n_features: int, names: Sequence[str] | None) -> None:
    """Refuse data with another number of features than in the fit, or with other names, or in another order.

    scikit-learn's `validate_data` does it for arrays in memory; data without names passes.
    """
    if n_features != estimator.n_features_in_:
        raise ValueError(
            f"X has {n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and names is not None and list(names) != list(fitted):
        raise ValueError(
            "The feature names should match those that were passed during fit, in the same order. "
            f"Fitted: {list(fitted)}; X has: {list(names)}."
        )


def load_features(
    estimator: Any, X: Any, sample_weight: Any, feature_dim: str | None, *, reset: bool = True, **checks: Any
) -> RowBlocks:
    """Row-blocks of X without a target; in-memory input passes scikit-learn's own checks first.

    With ``reset`` the features are recorded, otherwise their number and names must be what they were.
    """
    check_flags(estimator)
    if reset:
        refuse_feature_dim(X, feature_dim)
    if not is_lazy(X):
        refuse_no_numbers(X)
        X = validate_data(
            estimator, X, reset=reset, accept_sparse=False, dtype=[np.float64, np.float32, np.float16], **checks
        )
        blocks = load(X, None, sample_weight, count_rows=count_rows)
    else:
        blocks = load(
            X, None, sample_weight, feature_dim=feature_dim, count_rows=count_rows, find_complete=find_complete
        )
        if reset:
            set_features(estimator, blocks)
        else:
            require_same_features(estimator, blocks.n_features, blocks.feature_names)
    if blocks.n_features == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={(blocks.n_rows, 0)}) while a minimum of 1 is required."
        )
    estimator._feature_dim = feature_dim
    return blocks


SAMPLE_BYTES = 64 << 20
"""Most that a sample may take; it is held and worked on in the calling process."""


def sample_budget() -> int:
    """Bytes of a sample: a fixed number, or a sixteenth of the memory limit where the user has set a small one.

    Never a function of the workers: the sample decides the bits of the model.
    """
    limit = memory_limit_setting()
    return SAMPLE_BYTES if limit is None else min(SAMPLE_BYTES, limit // 16)


class SweepEstimator(Portable, CallbackSupportMixin, BaseEstimator):
    """Base of the estimators that are trained by sweeps."""

    n_features_in_: int
    n_sweeps_: float
    _feature_dim: str | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "plan" in cls.__dict__:
            cls.plan = nothing_read()(cls.__dict__["plan"])

    def _check_features(self, X: Any) -> Any:
        """X ready for `map_rows`: same number of features, and the same names in the same order."""
        check_is_fitted(self)
        if not is_lazy(X):
            refuse_no_numbers(X)
            return validate_data(self, X, reset=False, accept_sparse=False, dtype=[np.float64, np.float32, np.float16])
        if is_grid(X):
            n_features, names, *_ = features_of(X, self._feature_dim)
        else:
            column, names = as_blocked(X, feature_dim=self._feature_dim)
            n_features = column.trailing[0]
        require_same_features(self, n_features, names)
        return X

    def _map(
        self,
        X: Any,
        kernel: Kernel,
        params: Any,
        dtype: Any,
        n_columns: int | None,
        name: str,
        labels: Any = None,
        column: str | None = None,
    ) -> Any:
        X = self._check_features(X)
        column = column or ("class" if labels is not None else "target")
        columns = None if n_columns is None else (column, labels)
        row_map = RowMap(kernel, params, np.dtype(dtype), n_columns)
        return map_rows(X, row_map, feature_dim=self._feature_dim, columns=columns, name=name)

    def _drive(self, solvers: Sequence[Any], blocks: RowBlocks, kernels: Any, *, fitted: Any = None) -> list[Outcome]:
        """Drive solvers in lockstep over the data; sets ``n_sweeps_``.

        ``fitted`` gives the attributes that the estimator would have if it stopped at a state.
        """
        engine = Engine(blocks, kernels=kernels)
        try:
            outcomes = drive(solvers, engine, fitted)
        finally:
            engine.close()
        self.n_sweeps_ = round(engine.n_sweeps + blocks.counted, 6)
        return outcomes

    def _plan(self, blocks: RowBlocks, kernels: Any, sweeps: str) -> Plan:
        engine = Engine(blocks, kernels=kernels)
        X = blocks.X
        notes = [] if X is None or not X.in_memory else ["the data lies in memory already"]
        return Plan(
            estimator=type(self).__name__,
            n_rows=blocks.n_rows,
            n_features=blocks.n_features,
            dtype=str(blocks.dtype),
            n_blocks=blocks.n_blocks,
            n_spans=engine.n_spans,
            bytes_per_sweep=sum(blocks.n_rows * column.row_bytes for column in blocks.columns),
            resident_bytes=engine.resident_bytes,
            n_resident_spans=engine.n_resident_spans,
            projected_peak_bytes=engine.projected_peak_bytes,
            memory_limit_bytes=engine.footprint.limit,
            processes=engine.executor.processes,
            threads=engine.n_threads,
            kernels=tuple(dict.fromkeys(kernel.task_name(params) for kernel, params in kernels)),
            sweeps=sweeps,
            notes=tuple(notes),
            peak_parts=engine.peak_parts,
        )
