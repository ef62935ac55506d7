"""The table of solvers that estimators choose from, the checks of what may be combined, and the run itself."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from daskml_core.data.blocks import RowBlocks
from daskml_core.estimator import sample_budget
from daskml_core.kernels.linear import LINEAR_LOSS, SECOND_MOMENTS
from daskml_core.kernels.sample import DRAW_ROWS, SampleParams
from daskml_core.kernels.sgd import LOSSES, SCHEDULES, SGD_BLOCK, SGDParams
from daskml_core.linear_model._data import TrainingSet
from daskml_core.objective import LinearObjective, Objective
from daskml_core.solvers.gradient_descent import gradient_descent
from daskml_core.solvers.lbfgs import lbfgs
from daskml_core.solvers.newton import newton
from daskml_core.solvers.prox_newton import prox_newton
from daskml_core.solvers.sampled_newton import sample_size, sampled_newton
from daskml_core.solvers.sgd import SGDState, sgd, start_carry
from daskml_core.solvers.surrogate import EXACT_LIMIT
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import non_negative, one_of, positive, positive_integer, random_seed

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
    "auto": "1 for a sample over all blocks, then 2-4, one of them with a Hessian; 1 in all where the data fits the sample",
    "newton": "about 6, each with value, gradient and Hessian",
    "lbfgs": "10-100, a gradient each",
    "gradient_descent": "one an iteration, at most max_iter + 1",
    "proximal": "about 6, each with value, gradient and Hessian",
    "sgd": "one an epoch, at most max_iter",
    "gram": "1, or 2 where the Gram matrix is ill-conditioned",
}
SGD_LOSSES = {"logistic": "log_loss", "multinomial": "multinomial", "poisson": "poisson", "squared": "squared_error"}
"""The SGD kernel's name of each loss that an objective may have."""

SGD_OPTIONS: dict[str, Any] = {
    "learning_rate": "invscaling",
    "eta0": 0.05,
    "power_t": 0.25,
    "batch_size": 1,
    "average": True,
    "shuffle": True,
    "n_chains": 1,
    "averages_per_epoch": 1,
}
_INTERNAL = {
    "objective",
    "theta",
    "state",
    "tol",
    "max_iter",
    "n_rows",
    "itemsize",
    "seed",
    "metric",
    "sample_bytes",
    "draw",
}


def check_solver(solver: str, l1: float, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a solver, after refusing names it does not know and penalties it cannot handle."""
    if solver not in SOLVERS and solver != "sgd":
        raise ValueError(f"solver must be one of {sorted([*SOLVERS, 'sgd'])}, got {solver!r}.")
    if l1 and solver in ("newton", "lbfgs"):
        raise ValueError(
            f'solver="{solver}" needs a smooth objective and cannot handle an l1 penalty. '
            'Use "auto", "proximal" or "gradient_descent".'
        )
    known = set(SGD_OPTIONS) if solver == "sgd" else set(inspect.signature(SOLVERS[solver]).parameters) - _INTERNAL
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
    draw: tuple[Sweep, Sweep] | None = None,
) -> Any:
    """The generator that minimises ``objective`` from ``theta``; ``draw`` is the sample that models in lockstep share."""
    l1 = objective.penalty.l1
    given = check_solver(solver, l1, options)
    if solver == "auto" and (objective.size > NEWTON_LIMIT or not isinstance(objective, LinearObjective)):
        # Beyond this a Hessian costs more than all the gradient sweeps it saves.
        solver = "gradient_descent" if l1 else "lbfgs" if objective.size > NEWTON_LIMIT else "newton"
    if solver == "auto":
        given |= {"n_rows": blocks.n_rows, "itemsize": blocks.dtype.itemsize, "seed": seed}
        given |= {"sample_bytes": sample_budget(), "draw": draw}
    return SOLVERS[solver](objective, theta, tol=tol, max_iter=max_iter, **given)


def kernels_of(solver: str, objective: LinearObjective, blocks: RowBlocks) -> list[tuple[Any, Any]]:
    """Kernels that a solver will ask, with parameters of the right size, for the memory plan."""
    if solver == "sgd":
        return [(SGD_BLOCK, sgd_params(objective, blocks.n_rows, 0, None))]
    theta = np.zeros(objective.size)
    order = 2 if solver in ("newton", "proximal") else 1
    width = {"gradient_descent": 6, "auto": 2, "lbfgs": 2}.get(solver, 2)
    kernels: list[tuple[Any, Any]] = [(LINEAR_LOSS, objective.params([theta] * (1 if order == 2 else width), order))]
    if solver == "auto" and objective.size <= NEWTON_LIMIT:
        itemsize = blocks.dtype.itemsize
        rows = sample_size(objective.n_features, objective.n_outputs, itemsize, sample_budget())
        if objective.size <= EXACT_LIMIT:
            kernels.append((LINEAR_LOSS, objective.params([theta], 2)))
        kernels.append((SECOND_MOMENTS, None))
        kernels.append((DRAW_ROWS, SampleParams(min(rows, blocks.n_rows), blocks.n_rows, 0, itemsize)))
    return kernels


def _check_sgd(chosen: Mapping[str, Any]) -> None:
    """Refuse options of SGD that are out of range."""
    one_of("learning_rate", chosen["learning_rate"], list(SCHEDULES))
    for name in ("batch_size", "n_chains", "averages_per_epoch"):
        positive_integer(name, chosen[name])
    positive("eta0", chosen["eta0"])
    non_negative("power_t", chosen["power_t"])
    for name in ("average", "shuffle"):
        if not isinstance(chosen[name], bool):
            raise ValueError(f"{name} must be True or False, got {chosen[name]!r}.")


def sgd_params(objective: LinearObjective, n_rows: int, seed: int, options: Mapping[str, Any] | None) -> SGDParams:
    """Settings of the SGD kernel for a linear model's objective."""
    chosen = SGD_OPTIONS | dict(options or {})
    _check_sgd(chosen)
    penalty = objective.penalty
    alpha = penalty.l1 + penalty.l2
    if chosen["learning_rate"] == "optimal" and alpha == 0:
        raise ValueError('learning_rate="optimal" needs a penalty. Use "invscaling" or "constant".')
    return SGDParams(
        loss=LOSSES[SGD_LOSSES[objective.loss.name]],
        epsilon=0.1,
        alpha=alpha,
        penalised=alpha > 0,
        l1_ratio=penalty.l1 / alpha if alpha else 0.0,
        schedule=SCHEDULES[chosen["learning_rate"]],
        power_t=float(chosen["power_t"]),
        fit_intercept=objective.fit_intercept,
        # Averages from the second half of the first epoch on: the way from the start is left out.
        average_from=max(1.0, n_rows / chosen["batch_size"] / 2) if chosen["average"] else 0.0,
        batch_size=int(chosen["batch_size"]),
        shuffle=bool(chosen["shuffle"]),
        seed=seed,
        epoch=0,
        classes={"logistic": 2, "multinomial": objective.n_outputs}.get(objective.loss.name, 0),
    )


def _solve_by_sgd(
    model: Any,
    data: TrainingSet,
    objective: LinearObjective,
    theta: Array,
    tol: float,
    max_iter: int,
    seed: int,
    given: Mapping[str, Any] | None,
) -> Array:
    options = SGD_OPTIONS | dict(given or {})
    params = sgd_params(objective, data.blocks.n_rows, seed, options)
    W, b = objective.unpack(theta)
    solver = sgd(
        params,
        data.blocks.n_blocks,
        SGDState(start_carry(W, b, float(options["eta0"]))),
        tol=tol,
        max_iter=max_iter,
        n_chains=int(options["n_chains"]),
        averages_per_epoch=int(options["averages_per_epoch"]),
    )
    state = model._run(solver, data, [(SGD_BLOCK, params)]).state
    # SGD has no gradient to stop at: the loss has settled, or the epochs that were asked for are done.
    model.converged_ = bool(state.converged)
    carry = state.carry
    averaged = params.average_from > 0 and carry.t > params.average_from
    return objective.pack(carry.mean_W if averaged else carry.W, carry.mean_b if averaged else carry.b)


def solve_linear(
    model: Any,
    data: TrainingSet,
    objective: LinearObjective,
    theta: Array,
    *,
    tol: float,
    max_iter: int,
    options: Mapping[str, Any] | None,
) -> Array:
    """Minimise a linear model's objective from ``theta`` with the solver that ``model.solver`` names.

    Sets the attributes that every fit has, and warns where the solver did not converge.
    """
    seed = random_seed(getattr(model, "random_state", None))
    if model.solver == "sgd":
        return _solve_by_sgd(model, data, objective, theta, tol, max_iter, seed, options)
    solver = start_solver(
        model.solver, objective, theta, data.blocks, tol=tol, max_iter=max_iter, seed=seed, options=options
    )

    def fitted(state: Any) -> dict[str, Any]:
        other = copy.copy(model)
        other._accept(objective, np.asarray(state.theta), data)
        before = vars(model)
        return {name: value for name, value in vars(other).items() if before.get(name) is not value}

    outcome = model._run(solver, data, kernels_of(model.solver, objective, data.blocks), fitted=fitted)
    model._finish(outcome.state, max_iter, stacklevel=5)
    return np.asarray(outcome.state.theta)
