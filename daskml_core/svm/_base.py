"""What the kernel machines share: parameters, the conversation with the data, fitted attributes, the plan."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import Engine, Plan, stopped_early
from daskml_core.errors import ConvergenceWarning
from daskml_core.estimator import SweepEstimator, sample_budget
from daskml_core.kernels.kernel_functions import KERNELS, KernelFunction
from daskml_core.kernels.svm import (
    CERTIFY,
    DRAW,
    MACHINE_OUTPUT,
    PLAIN_MOMENTS,
    DecisionParams,
    DrawParams,
    Fold,
    Rows,
    SweepParams,
    Task,
    draw_sweep,
    fold_of,
    take_rows,
)
from daskml_core.solvers.decomposition import LEAST_MEMORY
from daskml_core.solvers.in_memory import Asks, quietly
from daskml_core.solvers.smo_cascade import CascadeState, coefficients, smo_cascade, solve_gathered
from daskml_core.sweep import Array, Kernel
from daskml_core.validate import non_negative, positive

GATHERED_ROWS = 50_000
"""Rows up to which all are gathered in one sweep and solved in the calling process; more stay where they are."""

SAMPLE_ROWS = 10_000
"""Rows of the first active set, or `SAMPLE_PER_CLASS` a class, whichever is more."""

SAMPLE_PER_CLASS = 2_000


def _held_in_cache(block: Any, params: Any) -> Any:  # pragma: no cover - counted, never run
    raise NotImplementedError


ROW_CACHE = Kernel(_held_in_cache, "kernel-rows", partial_bytes=lambda d, n_bytes: n_bytes // 2, gathers=True)
"""Stands in the memory plan for kernel values, in the calling process."""


class KernelMachine(SweepEstimator):
    """Base of the machines with a kernel."""

    kernel: Any
    degree: int
    gamma: Any
    coef0: float
    tol: float
    cache_size: float
    max_iter: int
    support_: Array
    support_vectors_: Array
    dual_coef_: Array
    intercept_: Array
    _kernel_function: KernelFunction

    # -- parameters --------------------------------------------------------------------------------------------------

    def _check_kernel(self) -> None:
        """Refuse parameters out of range before anything is read."""
        if not callable(self.kernel) and self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {list(KERNELS)} or a callable on blocks, got {self.kernel!r}.")
        if self.gamma not in ("scale", "auto"):
            non_negative("gamma", self.gamma)
        if int(self.degree) != self.degree or self.degree < 0:
            raise ValueError(f"degree must be a non-negative integer, got {self.degree!r}.")
        if not isinstance(self.coef0, numbers.Real) or not np.isfinite(float(self.coef0)):
            raise ValueError(f"coef0 must be a finite number, got {self.coef0!r}.")
        positive("tol", self.tol)
        positive("cache_size", self.cache_size)
        if int(self.max_iter) != self.max_iter or (self.max_iter < 1 and self.max_iter != -1):
            raise ValueError(f"max_iter must be a positive integer, or -1 for no limit, got {self.max_iter!r}.")

    def _make_kernel(self, d: int, mean: Array, variance: float) -> KernelFunction:
        """The kernel with its numbers; ``variance`` is that of all entries of X."""
        if callable(self.kernel):
            return KernelFunction("callable", function=self.kernel)
        gamma = self.gamma
        if gamma == "scale":
            gamma = 1.0 / (d * variance) if variance > 0 else 1.0
        elif gamma == "auto":
            gamma = 1.0 / d
        shift = np.asarray(mean, dtype=np.float64) if self.kernel == "rbf" else None
        return KernelFunction(self.kernel, float(gamma), float(self.coef0), int(self.degree), None, shift)

    # -- the conversation --------------------------------------------------------------------------------------------

    def _gathers(self, blocks: RowBlocks) -> bool:
        """Whether all rows come to the calling process. A rule of the data, never of the workers."""
        n_bytes = blocks.n_rows * blocks.n_features * 8
        return blocks.n_rows <= GATHERED_ROWS and n_bytes <= sample_budget()

    def _draw(self, blocks: RowBlocks, n_classes: int, fold: Fold | None) -> DrawParams:
        n = blocks.n_rows
        if not self._gathers(blocks):
            most = sample_budget() // (8 * (blocks.n_features + 4))
            n = min(n, most, max(SAMPLE_ROWS, SAMPLE_PER_CLASS * n_classes))
        return DrawParams(n, blocks.n_rows, 0, fold, blocks.dtype.itemsize)

    def _solver(
        self, blocks: RowBlocks, task: Task, n_classes: int, draw: Any, fold: Fold | None, n_folds: int, seed: int
    ) -> Asks:
        """One conversation: rows and moments in the first sweep, then the cascade.

        Returns a list of ``(KernelFunction, CascadeState)``: the machine, and those of the folds where they were gathered.
        """
        # Moments of all rows, but for those of a machine on gathered rows: they are at hand.
        gathered = self._gathers(blocks)
        moments = None
        if gathered:
            rows: Rows = yield draw
            X = np.asarray(rows.X, dtype=np.float64)
            kernel = self._make_kernel(blocks.n_features, X.mean(axis=0), float(X.var()) if X.size else 0.0)
        else:
            rows, moments = yield (draw, PLAIN_MOMENTS)
            mean = moments.mean
            variance = float(moments.scatter.sum() / moments.n_rows / len(mean) + np.square(mean - mean.mean()).mean())
            kernel = self._make_kernel(blocks.n_features, mean, variance)
        options: dict[str, Any] = {
            "tol": float(self.tol),
            "cache_bytes": int(float(self.cache_size) * 2**20),
            "max_steps": 2**62 if self.max_iter == -1 else int(self.max_iter),
            "max_active": self._most_rows(blocks, len(task.pairs)),
        }
        if gathered:
            state = yield from solve_gathered(task, kernel, rows, seed=0, **options)
            machines = [(kernel, state)]
            part = fold_of(rows.number, n_folds, seed) if n_folds else None
            for k in range(n_folds):
                assert part is not None
                seen = take_rows(rows, np.flatnonzero(part != k))
                solver = solve_gathered(task, kernel, seen, seed=0, **options)
                machines.append((kernel, (yield from quietly(solver))))
            return machines
        P = len(task.pairs)
        options["n_new"] = self._most_new(blocks, P)
        options["keep"] = blocks.n_rows * P * 8 <= sample_budget()
        state = yield from smo_cascade(task, kernel, rows, blocks.n_rows, fold=fold, **options)
        return [(kernel, state)]

    def _cache_bytes(self, n_variables: int) -> int:
        """Bytes of kernel values that are held at a time."""
        return min(max(int(float(self.cache_size) * 2**20), 8 * LEAST_MEMORY), 8 * n_variables**2)

    def _most_new(self, blocks: RowBlocks, n_problems: int) -> int:
        """Rows that may join each side of a problem after a sweep."""
        return max(32, sample_budget() // (8 * (blocks.n_features + 4)) // (2 * n_problems))

    def _most_rows(self, blocks: RowBlocks, n_problems: int) -> int:
        """Rows that may be active: their bytes, their prepared copies and coefficients in half of the memory limit."""
        limit = Engine(blocks).footprint.limit
        return max(1, limit // 2 // (8 * (3 * blocks.n_features + 2 * n_problems + 8)))

    def _kernels(self, blocks: RowBlocks, task: Task, n_classes: int) -> list[tuple[Any, Any]]:
        """Kernels with parameters of the right size, for the memory plan."""
        draw = self._draw(blocks, n_classes, None)
        kernels: list[tuple[Any, Any]] = [
            (DRAW, draw),
            (ROW_CACHE, self._cache_bytes(blocks.n_rows * (2 if task.kind == "svr" else 1))),
        ]
        if not self._gathers(blocks):
            P = len(task.pairs)
            S = np.broadcast_to(np.zeros(()), (min(blocks.n_rows, 2 * draw.n_sample), blocks.n_features))
            coef = np.broadcast_to(np.zeros(()), (len(S), P))
            n_new = min(blocks.n_rows // 2 + 1, self._most_new(blocks, P))
            kernels.append((PLAIN_MOMENTS.kernel, None))
            kernels.append((CERTIFY, SweepParams(KernelFunction(), task, S, coef, np.zeros(P), (), n_new)))
        return kernels

    def _fit_task(
        self, blocks: RowBlocks, task: Task, n_classes: int = 1, *, target_fraction: float = 0.0, n_folds: int = 0,
        seed: int = 0,
    ) -> tuple[CascadeState, list[tuple[KernelFunction, CascadeState]]]:  # fmt: skip
        """Solve, set the attributes that every machine has, and warn where it did not converge.

        Returns the last state, and the machines of the folds.
        """
        folds: list[Fold | None] = [None]
        if n_folds and not self._gathers(blocks):
            folds += [Fold(n_folds, k, seed) for k in range(n_folds)]
        solvers = []
        for fold in folds:
            draw = draw_sweep(self._draw(blocks, n_classes, fold))
            here = n_folds if len(folds) == 1 else 0
            solvers.append(self._solver(blocks, task, n_classes, draw, fold, here, seed))
        outcomes = self._drive(solvers, blocks, self._kernels(blocks, task, n_classes))
        machines = [machine for outcome in outcomes for machine in outcome.state]
        kernel, state = machines[0]
        self._kernel_function = kernel
        self._gamma = kernel.gamma
        self.n_sweeps_ = round(self.n_sweeps_ + target_fraction, 6)
        self.history_ = outcomes[0].history
        self.duality_gap_ = float(state.gap.max(initial=0.0))
        self.n_iter_ = state.steps.astype(np.int32) if task.kind == "svc" else int(state.steps[0])
        self.converged_ = bool(state.converged)
        self.fit_status_ = int(not state.converged)
        if not state.converged and not stopped_early():
            warnings.warn(
                f"{type(self).__name__} did not converge: the violation is {float(state.violation.max()):.2g} and the "
                f"relative duality gap {self.duality_gap_:.2g} where tol={self.tol:g}; {state.stalled} "
                "(daskml_core.preprocessing.StandardScaler).",
                ConvergenceWarning,
                stacklevel=4,
            )
        return state, machines[1:]

    def _set_support(self, state: CascadeState, order: Array | None = None) -> Array:
        """Support rows in ``order`` (by number where there is none); returns their coefficients (m, P)."""
        number, coef = coefficients(state.solutions)
        order = np.arange(len(number)) if order is None else order
        self.support_ = number[order]
        self.support_vectors_ = state.rows.X[np.searchsorted(state.rows.number, self.support_)]
        return coef[order]

    # -- predictions -------------------------------------------------------------------------------------------------

    def _decision_params(self) -> DecisionParams:
        return DecisionParams(
            self._kernel_function, self.support_vectors_, self.dual_coef_.T, np.asarray(self.intercept_)
        )

    def _output(self, X: Any, output: str, dtype: Any, n_columns: int | None, name: str, labels: Any = None) -> Any:
        check_is_fitted(self)
        params = self._decision_params()._replace(output=output)
        return self._map(X, MACHINE_OUTPUT, params, dtype, n_columns, name, labels)

    def _plan_task(self, blocks: RowBlocks, task: Task, n_classes: int) -> Plan:
        self._check_kernel()
        sweeps = "1: all rows are gathered and solved in this process"
        if not self._gathers(blocks):
            sweeps = "1 for a sample, then one a round, until the gap is closed (4-8)"
        return self._plan(blocks, self._kernels(blocks, task, n_classes), sweeps)

    @property
    def coef_(self) -> Array:
        """Weights of the features (n_problems, n_features), for the linear kernel alone."""
        if self.kernel != "linear":
            raise AttributeError("coef_ is only available when using a linear kernel")
        check_is_fitted(self)
        params = self._decision_params()
        return np.asarray(params.coef.T @ np.asarray(params.S, dtype=np.float64))
