"""Support vector machines: solve an active set, hold the solution against all rows in one sweep, add what violates.

The active rows are solved to optimality by SMO; all others have ``beta = 0``, so that the solution is a feasible point of
the whole problem whose dual objective is known. A sweep computes the gradient of every row. It gives the primal, hence
the duality gap: how far the objective is from its optimum at most. Rows that violate join the active set, which is solved
again from where it stood. The first active set is a sample drawn over all blocks, with a larger C, for each of its rows
stands for several: its solution finds most of the rows that matter in one sweep, whatever order the data has. It stands
in for SMO on every block, the first step of a cascade, which saves little and needs blocks of mixed classes, and for
a screening by approximate features, which costs more than it saves (both are measured in docs/design.md).

The first rounds only guide: their kernel values are float32, in the solution and in the sweep. The last one's gradient,
objectives and violations are float64, but for rows outside the active set of which float32 proves that they are beyond
the margin, and hence that they count nothing in any of these.

All one-against-one pairs are answered by the same sweeps. Where ``K coef`` of every row fits into memory it is kept,
and the next sweep only computes what changed: bounded support vectors, most of them in noisy data, are gone over once.

Related: Graf et al. 2004 (cascade); Joachims 1999; Fan, Chen and Lin 2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from daskml_core.errors import MemoryPlanError
from daskml_core.kernels.kernel_functions import KernelFunction, norms, single_error, single_is_near
from daskml_core.kernels.smo import NEVER
from daskml_core.kernels.svm import (
    Certificate,
    Fold,
    Rows,
    SweepParams,
    Task,
    certify_sweep,
    join_rows,
    take_rows,
    variables,
)
from daskml_core.solvers.decomposition import LAZY, LEAST_MEMORY, WHOLE, Problem
from daskml_core.solvers.in_memory import Asks, answer_from
from daskml_core.sweep import Array, Block, Work

ALL_AT_ONCE = 2048
"""Rows of a problem in memory up to which all are active from the beginning."""

FIRST_ROWS = 2048
"""Rows of a larger problem in memory that are active at first: at most, and a quarter."""

MAX_ROUNDS = 200
"""Sweeps after which a fit gives up."""

TIGHTEST = 1e-8
"""Smallest part of ``tol`` that the active set is solved to where only the gap is missing."""

STANDS_FOR = 0.5
"""The sample's C is multiplied by this power of the rows that each of its rows stands for. At 1 its machine is that of all
rows but for sampling error, which grows with C: it fits the sample's noise; at 0 it is far too smooth."""

SMALL = 1024
"""Rows of a problem up to which kernel values are float64 at once: float32 saves less than settling its solution costs."""

FIRST_TOL, SECOND_TOL = 0.05, 0.5
"""What the sample, and then its machine's violators, are solved to, at most: these solutions are only guides."""

GUIDE = 0.04
"""Down to what tolerance float32 alone will do."""

REACH = 0.1
"""Rows this near to violating join the active set too: the next solution moves, and a round is saved."""

LATER_NEW = 2048
"""Rows that may join each side of a problem after any sweep but the first, or a quarter of the active ones."""

FEW = 0.15
"""New rows, as a part of the active ones, from which the active set is all but known: it is solved to ``tol``."""

LOOSE = 0.2
"""Error of float32 up to which a sweep that proves is made in it: rows this near to the margin are computed twice."""

IDLE, PRUNED_ROUNDS = 0.3, 5
"""Rows this far outside the margin leave the active set, in the first rounds: the sample brought many along."""


@dataclass(frozen=True)
class Solution:
    """Beta of one problem's active rows, by row number; rows without a variable are left out."""

    number: Array
    beta: Array
    """(rows, variables a row)"""


@dataclass(frozen=True)
class Swept:
    """What sweeps left behind: ``K coef`` of every row, so that the next one computes what changed."""

    f: Array
    """(n_rows, P)"""
    number: Array
    coef: Array
    """Support rows (m,) and their coefficients (m, P) that f is of."""
    mass: Array
    """(P,) sum of the ``|coef|`` that entered f in float32; f of the active rows after a sweep that proves has none."""
    radius: float
    exact: bool
    """Whether f of rows that are or become active is float64's."""
    active: Array
    """Numbers of the rows that were active, whose f is the problems'."""

    def divided(self, divisor: float) -> Swept:
        """The same of a part of the coefficients."""
        return replace(self, f=self.f / divisor, coef=self.coef / divisor, mass=self.mass / divisor)


@dataclass(frozen=True)
class CascadeState:
    """All that the solver knows at the head of its loop."""

    rows: Rows
    """Every row that is active in some problem, by number."""
    solutions: tuple[Solution, ...]
    b: Array
    dual: Array
    tol: float
    """What the active sets were solved to."""
    gap: Array
    """(P,) relative duality gaps over all rows; infinite before the first sweep."""
    violation: Array
    """(P,) ``max F[up] - min F[low]`` over all rows."""
    violators: int = -1
    steps: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_rounds: int = 0
    n_sweeps: int = 0
    converged: bool = False
    stalled: str = ""
    problem: int = -1
    """Which problem the state is of, where they are solved one after the other."""

    def record(self) -> dict[str, Any]:
        n_support = len(np.unique(np.concatenate([support_rows(s)[0] for s in self.solutions])))
        return {
            "n_rounds": self.n_rounds,
            "gap": float(self.gap.max(initial=0.0)),
            "violation": float(self.violation.max(initial=0.0)),
            "dual": float(self.dual.sum()),
            "active_rows": len(self.rows.number),
            "support_rows": n_support,
            "violators": self.violators,
            "problem": self.problem,
        }


def support_rows(solution: Solution) -> tuple[Array, Array]:
    """Numbers and coefficients of the support rows of one problem."""
    coef = solution.beta.sum(axis=1)
    at = np.flatnonzero(coef)
    return solution.number[at], coef[at]


def coefficients(solutions: Sequence[Solution]) -> tuple[Array, Array]:
    """Numbers (m,) of the support rows of all problems, ascending, and their coefficients (m, P)."""
    parts = [support_rows(solution) for solution in solutions]
    number = np.unique(np.concatenate([n for n, _ in parts]))
    table = np.zeros((len(number), len(parts)))
    for k, (n, coef) in enumerate(parts):
        table[np.searchsorted(number, n), k] = coef
    return number, table


def kernel_memory(n_bytes: int) -> Array:
    """Room for kernel values; more than was asked for where a working set does not fit."""
    return np.empty(max(n_bytes // 8, LEAST_MEMORY))


def start_beta(task: Task, hi: Array) -> Array:
    """A feasible start: zero, or for one class the first rows at their bounds until they sum to nu times all (libsvm)."""
    if task.kind != "one_class":
        return np.zeros(len(hi))
    return _filled(hi, task.nu * float(hi.sum()))


def _filled(hi: Array, mass: float) -> Array:
    """Variables at their bounds, one after the other, until they sum to ``mass``."""
    before = np.concatenate([[0.0], np.cumsum(hi)[:-1]])
    return np.clip(mass - before, 0.0, hi)


def _enough_mass(
    task: Task, kernel: KernelFunction, sample: Rows, n_rows: int, tol: float, memory: Array, fold: Fold | None,
    max_active: int,
) -> Asks:  # fmt: skip
    """Rows and a feasible start of a one-class machine: the rows that the sample's machine finds outermost, at bounds.

    The variables must sum to nu times the weight of all rows, which the sample alone cannot.
    """
    problem, names = as_problem(task, kernel, sample, 0, None, memory)
    problem.solve(tol, 2**62)
    number, coef = coefficients([as_solution(problem, names)])
    S = sample.X[np.searchsorted(sample.number, number)]
    mass, n = task.nu * task.total, int(task.nu * n_rows) + 1
    while True:
        n = min(n_rows, n + n // 5 + 100)
        if n > max_active:
            raise _too_many(n, max_active)
        b = np.array([problem.offset()])
        sweep = SweepParams(kernel, task, S, coef, b, (np.empty(0, dtype=np.int64),), n, fold, reach=np.inf)
        answer: Certificate = yield certify_sweep(sweep)
        places = np.searchsorted(answer.rows.number, answer.found[0].up)
        weight = answer.rows.weight[places]
        if weight.sum() >= mass or n == n_rows:
            break
    beta = np.zeros(len(answer.rows.number))
    beta[places] = _filled(weight, mass)
    return answer.rows, Solution(answer.rows.number, beta[:, None])


def as_problem(
    task: Task, kernel: KernelFunction, rows: Rows, k: int, old: Solution | None, memory: Array,
    f: Array | None = None, exact: bool = True, single: bool = False,
) -> tuple[Problem, Array]:  # fmt: skip
    """Problem ``k`` over its active rows, warm from ``old``, and the numbers of those rows.

    ``f`` (rows,) is ``K coef`` of ``old`` where it is known.
    """
    v = variables(task, k, rows.y, rows.weight)
    places = v.places
    beta = np.zeros(len(v.row)) if old is not None else start_beta(task, v.hi)
    number = rows.number[places]
    row = np.arange(len(v.row)) % max(1, len(places))  # two variables a row stand one after the other
    if old is not None and len(old.number):
        at = np.searchsorted(number, old.number)
        table = np.zeros((len(places), old.beta.shape[1]))
        table[at] = old.beta
        beta = table.T.ravel() if table.shape[1] > 1 else table[row, 0]
    F = np.empty(0) if f is None else v.c - f[v.row]
    X = rows.X[places]
    # What libsvm keeps of kernel values is float32. Of many stationary points the same values lead to the same one.
    as_libsvm = kernel.name in LAZY and not kernel.positive and len(v.row) <= WHOLE
    single = as_libsvm or (single and len(X) > SMALL and single_is_near(kernel, X))
    problem = Problem(kernel, X, row, v.c, v.lo, v.hi, beta, memory, F, exact or not len(F), single)
    return problem, number


def as_solution(problem: Problem, number: Array) -> Solution:
    """What is kept of a solved problem."""
    width = len(problem.beta) // max(1, len(number))
    return Solution(number, problem.beta.reshape(width, -1).T.copy() if width > 1 else problem.beta[:, None].copy())


def smo_cascade(
    task: Task,
    kernel: KernelFunction,
    sample: Rows,
    n_rows: int,
    *,
    tol: float = 1e-3,
    cache_bytes: int = 200 << 20,
    max_steps: int = 2**62,
    n_new: int = 2**31,
    keep: bool = True,
    fold: Fold | None = None,
    max_active: int = 2**62,
    memory: Array | None = None,
    number: int = -1,
) -> Asks:
    """Solve every problem of ``task`` to ``tol``, beginning with the rows of ``sample``.

    Parameters
    ----------
    sample : the first active rows; where they are all rows that count, no sweep is needed.
    n_rows : rows that the sweeps go over.
    tol : the violation that is left (libsvm's rule) and the relative duality gap, both over all rows.
    cache_bytes : for kernel values: rows of the active set's matrix, and that of a working set. See `kernel_memory`.
    max_steps : SMO steps of a problem.
    n_new : rows that join each side of a problem after a sweep.
    keep : hold ``K coef`` of every row, and compute only changes.
    max_active : rows that may be active; more is a `MemoryPlanError`.
    memory : to use for it instead, by problems that are solved one after the other.
    number : of the problem in the history.
    """
    P = len(task.pairs)
    memory = kernel_memory(cache_bytes) if memory is None else memory
    complete = len(sample.number) >= n_rows
    swept: Swept | None = None
    old: list[Solution | None] = [None] * P
    rows = sample
    inner, steps, n_rounds, n_sweeps = max(tol, FIRST_TOL) if not complete else tol, np.zeros(P, dtype=np.int64), 0, 0
    violators = -1
    gap, violation = np.full(P, np.inf), np.full(P, np.inf)
    if task.kind == "one_class" and not complete:
        rows, first = yield from _enough_mass(task, kernel, sample, n_rows, inner, memory, fold, max_active)
        old = [first]
        n_sweeps += 1
    problems: list[tuple[Problem, Array]] = []
    single = single_is_near(kernel, sample.X)
    boost = 1.0 if complete or task.kind == "one_class" else _boost(n_rows, len(sample.number))
    while True:
        if not problems:
            heavy = rows._replace(weight=rows.weight * boost)
            f, exact = (None, True) if swept is None else (swept.f[rows.number], swept.exact)
            problems = [
                as_problem(task, kernel, heavy, k, old[k], memory, None if f is None else f[:, k], exact, single)
                for k in range(P)
            ]
        guide = single and not complete and inner > max(tol, GUIDE)
        for k, (problem, _) in enumerate(problems):
            done = problem.steps
            to_gap = tol if complete and kernel.positive else np.inf
            yield from _solved(problem, inner, max(0, max_steps - int(steps[k])), guide, alone=P == 1, to_gap=to_gap)
            steps[k] += problem.steps - done
        solutions = tuple(as_solution(problem, names) for problem, names in problems)
        b = np.array([problem.offset() for problem, _ in problems])
        dual = np.array([problem.dual(boost) for problem, _ in problems])
        n_rounds += 1
        answer: Certificate | None = None
        if not complete:
            # The first sweep finds most of what is needed; what a later solution misses is mostly not, it is only loose.
            most = n_new if n_sweeps == 0 else min(n_new, max(LATER_NEW, len(rows.number) // 4))
            sweep = _sweep(task, kernel, rows, solutions, b, most, fold, swept, keep, guide, single)
            answer = yield certify_sweep(sweep)
            n_sweeps += 1
            swept = _left_behind(sweep, answer, rows, solutions, problems) if keep else None
        gap, violation = _measure(problems, b, dual, answer, boost)
        if boost > 1:
            # On with a part of the sample's solution, which the true bounds allow.
            swept = None if swept is None else swept.divided(boost)
            solutions = tuple(Solution(s.number, s.beta / boost) for s in solutions)
        violators = 0 if answer is None else int(answer.violators.sum())
        proven = bool((violation < tol).all() and ((gap <= tol).all() or not kernel.positive))
        converged = proven and boost == 1 and not guide
        stalled = "" if converged else _stalled(steps, max_steps, n_rounds, violation, tol, inner, violators)
        state = CascadeState(
            rows, solutions, b, dual, inner, gap, violation, violators, steps.copy(), n_rounds, n_sweeps,
            converged, stalled, number,
        )  # fmt: skip
        stop = yield state
        if converged or stalled:
            return state
        if stop and boost == 1:  # with a multiplied C it would be the machine of another problem
            return replace(state, stalled="it was stopped early")
        if boost > 1:
            boost, inner = 1.0, max(tol, SECOND_TOL)
        elif guide and (violation < tol).all():
            inner = tol
        elif (violation < tol).all():
            inner = _tighter(inner, tol, float(gap.max()))
        else:
            few = violators <= FEW * len(rows.number)
            inner = tol if few else min(inner, max(tol, 0.1 * float(violation.max())))
        prune = task.kind == "svc" and n_rounds <= PRUNED_ROUNDS
        if answer is not None and (len(answer.rows.number) or prune or n_rounds == 1):
            rows, old = _grow(rows, problems, solutions, b, answer, prune)
            problems = []
        if len(rows.number) > max_active:
            raise _too_many(len(rows.number), max_active)


def _boost(n_rows: int, n_sample: int) -> float:
    """Factor of C for the sample; a power of two, so that what is divided by it meets the true bounds to the bit."""
    return float(2.0 ** np.floor(STANDS_FOR * np.log2(n_rows / max(1, n_sample))))


def _solved(problem: Problem, tol: float, max_steps: int, guide: bool, *, alone: bool, to_gap: float) -> Asks:
    """Solve a problem, or take the outcome from where it was solved before.

    ``to_gap``: go on until its own gap is as small too; ``alone``: nobody else needs the memory.
    """

    def run() -> tuple[Array, Array, int, float, bool, bool]:
        stop, inner = problem.steps + max_steps, tol
        problem.solve(inner, max_steps, guide=guide)
        while problem.violation < tol and problem.steps < stop and inner > TIGHTEST * tol:
            gap = _relative_gap(problem, problem.offset(), problem.dual()) if np.isfinite(to_gap) else 0.0
            if gap <= to_gap:
                break
            inner = _tighter(inner, to_gap, gap)
            problem.solve(inner, stop - problem.steps, guide=guide)
        # The next problem has the memory; and what follows is the same whether it was solved here and now, or before, as
        # it is with a complete matrix: its values are the same whenever they are computed. Rows on demand are not, to the
        # last bit: one alone is another product than many.
        if not alone or problem.matrix is None or problem.lazy is not None:
            problem.forget()
        return problem.beta, problem.F, problem.steps, problem.violation, bool(problem.exact), bool(problem.single)

    start = (problem.row, problem.c, problem.lo, problem.hi, problem.beta, problem.F, problem.steps)
    how = (bool(problem.exact), bool(problem.single), len(problem.memory), tol, max_steps, bool(guide), to_gap)
    outcome = yield Work("smo", (problem.kernel, problem.X, *start, *how), run)
    problem.beta, problem.F, problem.steps, problem.violation, problem.exact, problem.single = outcome


def _tighter(inner: float, tol: float, gap: float) -> float:
    """What to solve to where nothing violates, but the gap asks for more digits: at a large C each costs C."""
    return inner * min(0.1, 0.3 * tol / gap)


def _sweep(
    task: Task, kernel: KernelFunction, rows: Rows, solutions: Sequence[Solution], b: Array, n_new: int,
    fold: Fold | None, swept: Swept | None, keep: bool, guide: bool, single: bool,
) -> SweepParams:  # fmt: skip
    """What to ask: the whole solution, or its difference to the one that was swept last; in float32 or float64."""
    number, coef = coefficients(solutions)
    P, d = coef.shape[1], rows.X.shape[1]
    length = norms(kernel, rows.X) if single else np.zeros(len(rows.number))
    typical = float(np.median(length)) if len(length) else 0.0

    def known_to(mass: Array, radius: float) -> float:
        error = single_error(kernel, np.array([typical]), radius, d, P)
        return float(error[0] * mass.max(initial=0.0)) if mass.any() else 0.0

    change, mass, radius, base = None, np.zeros(P), 0.0, None
    if swept is not None and (guide or known_to(swept.mass, swept.radius) <= LOOSE):
        # Rows that left the active set had no coefficient when they were swept: all that changed are still here.
        both = np.union1d(number, swept.number)
        now, before = np.zeros((2, len(both), P))
        now[np.searchsorted(both, number)] = coef
        before[np.searchsorted(both, swept.number)] = swept.coef
        if np.count_nonzero((now != before).any(axis=1)) < len(number):  # or from nothing is less work
            number, coef, change = both, now, now - before
            mass, radius, base = swept.mass, swept.radius, _known(swept, rows)
    at = np.searchsorted(rows.number, number)
    added = np.abs(coef if change is None else change).sum(axis=0)
    longest = max(radius, float(length[at].max(initial=0.0)))
    single = guide or (single and known_to(mass + added, longest) <= LOOSE)
    if single:
        mass, radius = mass + added, longest
    return SweepParams(
        kernel, task, rows.X[at], coef, b, (rows.number,) * len(b), n_new, fold, change, base, keep, REACH, single, guide,
        mass if mass.any() else None, radius,
    )  # fmt: skip


def _left_behind(
    sweep: SweepParams, answer: Certificate, rows: Rows, solutions: Sequence[Solution],
    problems: Sequence[tuple[Problem, Array]],
) -> Swept:  # fmt: skip
    """What a sweep knows of all rows, with what the problems know of the active ones."""
    f = np.concatenate([part for _, part in sorted(answer.f, key=lambda part: part[0])])
    for k, (problem, number) in enumerate(problems):
        f[number, k] = (problem.c - problem.F)[: len(number)]
    mass = np.zeros(len(solutions)) if sweep.mass is None else sweep.mass
    return Swept(f, *coefficients(solutions), mass, sweep.radius, not sweep.guide, rows.number)


def _known(swept: Swept, rows: Rows) -> Array:
    """f of an earlier sweep; NaN for rows that were active and are not any more, if their problem's float32 gave theirs."""
    gone = np.empty(0, dtype=np.int64) if swept.exact else np.setdiff1d(swept.active, rows.number, assume_unique=True)
    if not len(gone):
        return swept.f
    f = swept.f.copy()
    f[gone] = np.nan
    return f


def _relative_gap(problem: Problem, b: float, dual: float, outside: float = 0.0, boost: float = 1.0) -> float:
    """Gap between the primal of a problem's machine and ``dual``, as a part of the larger of them.

    ``outside`` is what rows that are not in the problem add to the primal; the problem's bounds are ``boost`` times true.
    """
    r = problem.F - b
    support = float(np.maximum(problem.hi * r, problem.lo * r).sum()) / boost + outside
    absolute = max(0.0, support - float(r @ problem.beta) + problem.dual() - dual)
    scale = max(abs(dual), abs(dual + absolute))
    return absolute / scale if scale > 0 else 0.0


def _measure(
    problems: Sequence[tuple[Problem, Array]], b: Array, dual: Array, answer: Certificate | None, boost: float
) -> tuple[Array, Array]:
    """Relative gaps and violations (P,) over all rows."""
    gap, violation = np.zeros(len(problems)), np.zeros(len(problems))
    for k, (problem, _) in enumerate(problems):
        (top, bottom), outside = problem.extremes(), 0.0
        if answer is not None:
            top, bottom = max(top, answer.top[k]), min(bottom, answer.bottom[k])
            outside = float(answer.support[k])
        violation[k] = top - bottom if top > -NEVER and bottom < NEVER else 0.0
        gap[k] = _relative_gap(problem, b[k], dual[k], outside, boost)
    return gap, violation


def _stalled(
    steps: Array, max_steps: int, n_rounds: int, violation: Array, tol: float, inner: float, violators: int
) -> str:
    """Why the solver cannot go on, or nothing."""
    if (steps >= max_steps).any():
        return f"max_iter={max_steps} steps were taken: raise it, or scale the features"
    if n_rounds >= MAX_ROUNDS:
        return f"{n_rounds} rounds were made: raise tol or lower C"
    if (violation < tol).all() and inner <= TIGHTEST * tol:
        return "rounding limits the duality gap: raise tol or lower C"
    if not violators and inner <= tol and (violation >= tol).any():
        return "rounding limits the violation: raise tol, lower C or scale the features"
    return ""


def _grow(
    rows: Rows, problems: Sequence[tuple[Problem, Array]], solutions: Sequence[Solution], b: Array,
    answer: Certificate, prune: bool,
) -> tuple[Rows, list[Solution | None]]:  # fmt: skip
    """The active rows with those that violate; with ``prune`` without those that are far from mattering."""
    kept = np.ones(len(rows.number), dtype=bool)
    if prune:
        kept[:] = False
        for k, (problem, names) in enumerate(problems):
            idle = (problem.beta == 0) & (
                (problem.F - b[k]) * (problem.lo + problem.hi) < -IDLE * np.abs(problem.lo + problem.hi)
            )
            kept[np.searchsorted(rows.number, names[problem.row[~idle]])] = True
    new = np.flatnonzero(~np.isin(answer.rows.number, rows.number))
    together = join_rows(take_rows(rows, np.flatnonzero(kept)), take_rows(answer.rows, new))
    together = take_rows(together, np.argsort(together.number, kind="stable"))
    old: list[Solution | None] = []
    for solution in solutions:
        stay = np.isin(solution.number, together.number)
        old.append(Solution(solution.number[stay], solution.beta[stay]))
    return together, old


def solve_gathered(
    task: Task, kernel: KernelFunction, rows: Rows, *, tol: float, cache_bytes: int, max_steps: int, seed: int,
    max_active: int,
) -> Asks:  # fmt: skip
    """Solve every problem of ``task`` over rows that were gathered, each on its own rows; asks nothing of the data.

    One problem at a time: a pair of classes has its own support vectors, and small matrices.
    """
    states = []
    memory = kernel_memory(cache_bytes)
    for k, pair in enumerate(task.pairs):
        v = variables(task, k, rows.y, rows.weight)
        places = v.places
        own = Rows(np.arange(len(places)), *take_rows(rows, places)[1:])
        alone = task._replace(pairs=(pair,))
        n = len(places)
        sample = own
        if n > ALL_AT_ONCE and task.kind != "one_class":
            rng = np.random.default_rng([seed, k])
            sample = take_rows(own, np.sort(rng.choice(n, min(n // 4, FIRST_ROWS), replace=False)))
        solver = smo_cascade(
            alone,
            kernel,
            sample,
            n,
            n_new=LATER_NEW,
            tol=tol,
            memory=memory,
            max_steps=max_steps,
            max_active=max_active,
            number=k,
        )
        state: CascadeState = yield from answer_from(solver, Block(own.X, own.y, own.weight, 0, 0))
        (solution,) = state.solutions
        at = places[solution.number]
        states.append(replace(state, solutions=(Solution(at, solution.beta),)))
    needed = np.unique(np.concatenate([support_rows(state.solutions[0])[0] for state in states]))
    solutions = []
    for state in states:
        solution = state.solutions[0]
        stay = np.isin(solution.number, needed)
        solutions.append(Solution(rows.number[solution.number[stay]], solution.beta[stay]))

    def joined(name: str) -> Array:
        return np.concatenate([getattr(state, name) for state in states])

    return CascadeState(
        rows=take_rows(rows, needed),
        solutions=tuple(solutions),
        b=joined("b"),
        dual=joined("dual"),
        tol=min(state.tol for state in states),
        gap=joined("gap"),
        violation=joined("violation"),
        violators=max(state.violators for state in states),
        steps=joined("steps"),
        n_rounds=max(state.n_rounds for state in states),
        converged=all(state.converged for state in states),
        stalled=next((state.stalled for state in states if state.stalled), ""),
    )


def _too_many(active: int, most: int) -> MemoryPlanError:
    return MemoryPlanError(
        f"{active:_} rows are or may become support vectors, but only {most:_} fit into half of the memory limit. Raise "
        "daskml-core.memory-limit, lower C, or approximate the kernel: "
        "make_pipeline(daskml_core.kernel_approximation.Nystroem(...), daskml_core.svm.LinearSVC())."
    )
