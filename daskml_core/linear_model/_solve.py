"""The table of solvers that estimators choose from, and the checks of what may be combined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from daskml_core.data.blocks import RowBlocks
from daskml_core.engine.settings import memory_limit_setting
from daskml_core.kernels.linear import LINEAR_LOSS, SECOND_MOMENTS
from daskml_core.kernels.sample import DRAW_ROWS, SampleParams
from daskml_core.objective import LinearObjective, Objective
from daskml_core.solvers.gradient_descent import gradient_descent
from daskml_core.solvers.lbfgs import lbfgs
from daskml_core.solvers.newton import newton
from daskml_core.solvers.prox_newton import prox_newton
from daskml_core.solvers.sampled_newton import SAMPLE_BYTES, sample_size, sampled_newton
from daskml_core.sweep import Array

NEWTON_LIMIT = 1500
"""Parameters up to which a Hessian is worth its price; beyond it ``"auto"`` is L-BFGS."""

SOLVERS: dict[str, Callable[..., Any]] = {
    "auto": sampled_newton,
    "newton": newton,
    "lbfgs": lbfgs,
    "gradient_descent": gradient_descent,
    "proximal": prox_newton,
}
SWEEPS = {
    "auto": "1 for a sample over all blocks, then 2-3 gradients; 1 in all where the data fits the sample",
    "newton": "about 6, each with value, gradient and Hessian",
    "lbfgs": "10-100, a gradient each",
    "gradient_descent": "one an iteration, at most max_iter + 1",
    "proximal": "about 6, each with value, gradient and Hessian",
    "sgd": "one an epoch, at most max_iter",
    "gram": "1, or 2 where the Gram matrix is ill-conditioned",
}
_INTERNAL = {"objective", "theta", "state", "tol", "max_iter", "n_rows", "itemsize", "seed", "metric", "sample_bytes"}


def check_solver(solver: str, l1: float, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a solver, after refusing names it does not know and penalties it cannot handle."""
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {sorted([*SOLVERS, 'sgd'])}, got {solver!r}.")
    if l1 and solver in ("newton", "lbfgs"):
        raise ValueError(
            f'solver="{solver}" needs a smooth objective and cannot handle an l1 penalty. '
            'Use "auto", "proximal" or "gradient_descent".'
        )
    known = set(inspect.signature(SOLVERS[solver]).parameters) - _INTERNAL
    given = dict(options or {})
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f'solver="{solver}" has no option {unknown}; it takes {sorted(known) or "none"}.')
    return given


def start_solver(
    solver: str,
    objective: Objective,
    theta: Array,
    blocks: RowBlocks,
    *,
    tol: float,
    max_iter: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """The generator that minimises ``objective`` from ``theta``."""
    l1 = objective.penalty.l1
    given = check_solver(solver, l1, options)
    if solver == "auto" and (objective.size > NEWTON_LIMIT or not isinstance(objective, LinearObjective)):
        # Beyond this a Hessian costs more than all the gradient sweeps it saves.
        solver = "gradient_descent" if l1 else "lbfgs" if objective.size > NEWTON_LIMIT else "newton"
    if solver == "auto":
        given |= {"n_rows": blocks.n_rows, "itemsize": blocks.dtype.itemsize, "seed": seed}
        given["sample_bytes"] = sample_budget()
    return SOLVERS[solver](objective, theta, tol=tol, max_iter=max_iter, **given)


def sample_budget() -> int:
    """Bytes of a sample: a fixed number, or a sixteenth of the memory limit where the user has set a small one.

    Never a function of the workers: the sample decides the bits of the model.
    """
    limit = memory_limit_setting()
    return SAMPLE_BYTES if limit is None else min(SAMPLE_BYTES, limit // 16)


def kernels_of(solver: str, objective: LinearObjective, blocks: RowBlocks) -> list[tuple[Any, Any]]:
    """Kernels that a solver will ask, with parameters of the right size, for the memory plan."""
    theta = np.zeros(objective.size)
    order = 2 if solver in ("newton", "proximal") else 1
    width = {"gradient_descent": 6, "auto": 2, "lbfgs": 2}.get(solver, 2)
    kernels: list[tuple[Any, Any]] = [(LINEAR_LOSS, objective.params([theta] * (1 if order == 2 else width), order))]
    if solver == "auto" and objective.size <= NEWTON_LIMIT:
        itemsize = blocks.dtype.itemsize
        rows = sample_size(objective.n_features, objective.n_outputs, itemsize, sample_budget())
        kernels.append((SECOND_MOMENTS, None))
        kernels.append((DRAW_ROWS, SampleParams(min(rows, blocks.n_rows), blocks.n_rows, 0, itemsize)))
    return kernels
