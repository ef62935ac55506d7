"""Support vector machines over one block: rows for the active set, certifying sums, decisions.

Every machine is the problem of `daskml_core.kernels.smo`, over *variables* that belong to rows: one a row in
classification (of each pair of classes that the row belongs to) and for one class, two in a regression. A sweep computes
``F = c - K(block, S) coef`` for every problem at once and returns what certifies the solution of the active rows: the
sums of the primal, the largest violation, and the rows outside that violate most.

Conventions: P problems; S (m, d) support rows of all of them, coef (m, P); b (P,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskml_core.kernels.kernel_functions import (
    KernelFunction,
    norms,
    prepare,
    products,
    single_error,
    single_is_near,
    workspace,
)
from daskml_core.kernels.moments import feature_moments, merge_moments
from daskml_core.kernels.smo import NEVER
from daskml_core.sweep import Array, Block, Kernel, Sweep


class Task(NamedTuple):
    """What the problems are."""

    kind: str
    """"svc", "svr" or "one_class"."""
    C: float = 1.0
    epsilon: float = 0.0
    nu: float = 0.0
    total: float = 0.0
    """Weight of all rows, for one class."""
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)
    """Class codes of each problem; the first class has y = +1. One entry that means nothing in the other kinds."""


class Fold(NamedTuple):
    """Rows to leave out: one of ``n`` parts, drawn by row number alone, so that no chunking shows."""

    n: int
    held_out: int
    seed: int


class Variables(NamedTuple):
    """Variables of some rows in one problem; ``row`` is a place among those rows."""

    row: Array
    c: Array
    lo: Array
    hi: Array
    n_each: int = 1
    """Variables a row: where there are two, the first ones of all rows stand before the second ones."""

    @property
    def places(self) -> Array:
        """Places of the rows that have variables, ascending."""
        return self.row[: len(self.row) // self.n_each]


def fold_of(number: Array, n: int, seed: int) -> Array:
    """Part 0..n-1 of each global row number (SplitMix64 of number and seed)."""
    with np.errstate(over="ignore"):
        z = number.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z % np.uint64(n)).astype(np.int64))


def row_weights(block: Block, fold: Fold | None) -> Array:
    """Weights (rows,), zero for rows that are held out."""
    weight = np.ones(block.n_rows) if block.weight is None else block.weight
    if fold is None:
        return weight
    number = block.start + np.arange(block.n_rows)
    return np.where(fold_of(number, fold.n, fold.seed) == fold.held_out, 0.0, weight)


def variables(task: Task, problem: int, y: Array | None, weight: Array) -> Variables:
    """Variables of rows in one problem; rows of weight zero have none."""
    if task.kind == "svc":
        assert y is not None
        first, second = task.pairs[problem]
        row = np.flatnonzero(((y == first) | (y == second)) & (weight > 0))
        sign = np.where(y[row] == first, 1.0, -1.0)
        bound = sign * task.C * weight[row]
        return Variables(row, sign, np.minimum(bound, 0), np.maximum(bound, 0))
    row = np.flatnonzero(weight > 0)
    bound, zero = task.C * weight[row], np.zeros(len(row))
    if task.kind == "one_class":
        return Variables(row, zero, zero.copy(), bound)
    assert y is not None
    t = y[row]
    return Variables(
        np.concatenate([row, row]),
        np.concatenate([t - task.epsilon, t + task.epsilon]),
        np.concatenate([zero, -bound]),
        np.concatenate([bound, zero]),
        2,
    )


# -- rows ---------------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """Rows by their global number, ascending."""

    number: Array
    X: Array
    y: Array | None
    weight: Array


def join_rows(a: Rows, b: Rows) -> Rows:
    """Rows of ``a``, then those of ``b``."""
    return Rows(*(None if p is None or q is None else np.concatenate([p, q]) for p, q in zip(a, b, strict=True)))  # type: ignore[arg-type]


def take_rows(rows: Rows, places: Array) -> Rows:
    """Some of the rows, copied."""
    return Rows(*(None if part is None else part[places] for part in rows))  # type: ignore[arg-type]


def of_block(block: Block, places: Array, weight: Array) -> Rows:
    """Rows of a block, copied: a view would keep the whole block alive."""
    y = None if block.y is None else np.array(block.y[places])
    return Rows(block.start + places, np.array(block.X[places]), y, weight[places])


class DrawParams(NamedTuple):
    """A sample of so many of all rows."""

    n_sample: int
    n_rows: int
    seed: int
    fold: Fold | None = None
    itemsize: int = 8


def draw_rows(block: Block, p: DrawParams) -> Rows:
    """The block's share of a sample without replacement; all rows that count where the sample is as large as the data."""
    weight = row_weights(block, p.fold)
    stop = block.start + block.n_rows
    share = p.n_sample * stop // p.n_rows - p.n_sample * block.start // p.n_rows
    places = np.arange(block.n_rows)
    if share < block.n_rows:
        rng = np.random.default_rng([p.seed, block.number])
        places = np.sort(rng.choice(block.n_rows, size=share, replace=False))
    return of_block(block, places[weight[places] > 0], weight)


DRAW = Kernel(draw_rows, "draw-rows", partial_bytes=lambda d, p: p.n_sample * (p.itemsize * d + 24), gathers=True)


def draw_sweep(p: DrawParams) -> Sweep:
    """The sweep that draws rows."""
    return Sweep(DRAW, p, join_rows)


def _plain_moments(block: Block, params: None) -> Any:
    # gamma="scale" is of the rows as they are, whatever they weigh: scikit-learn's.
    return feature_moments(block._replace(weight=None), None)


PLAIN_MOMENTS = Sweep(
    Kernel(_plain_moments, "feature-moments", lambda n, d, p: 3 * 8 * d * min(n, 8192)), None, merge_moments
)


# -- the certifying sweep -----------------------------------------------------------------------------------------------


class SweepParams(NamedTuple):
    """A solution of the active rows, to be held against all others."""

    kernel: KernelFunction
    task: Task
    S: Array
    coef: Array
    b: Array
    active: tuple[Array, ...]
    """Sorted numbers of each problem's active rows."""
    n_new: int
    """Most rows to bring along for each side of a problem."""
    fold: Fold | None = None
    change: Array | None = None
    """(m, P) what is to be added to ``base``, instead of ``coef`` to nothing."""
    base: Array | None = None
    """K coef of an earlier sweep (n_rows of all blocks, P); rows of NaN are not known, and computed from nothing."""
    keep: bool = False
    reach: float = 0.0
    """How far from violating rows are brought along too; violators come first."""
    single: bool = False
    """Whether kernel values are float32."""
    guide: bool = False
    """Whether those will do as they are: the answer guides, and proves nothing."""
    mass: Array | None = None
    """(P,) sum of all ``|coef|`` whose products are or were float32, those in ``base`` with them; ``None`` for nothing."""
    radius: float = 0.0
    """Length of the longest support row in those products."""


class Found(NamedTuple):
    """Rows outside the active set of one problem, worst first; ``score`` is F on the up side, -F on the low side."""

    up: Array
    up_score: Array
    low: Array
    low_score: Array


class Certificate(NamedTuple):
    """Sums over all rows that are not active (the solver knows those better), and rows that violate."""

    support: Array
    """(P,) of ``max(hi r, lo r)`` over the variables outside with ``r = F - b``: with it the primal is known."""
    top: Array
    """(P,) largest F of the variables outside that may grow."""
    bottom: Array
    """(P,) smallest F of the variables outside that may shrink."""
    violators: Array
    """(P,) number of rows outside whose variables violate."""
    found: tuple[Found, ...]
    rows: Rows
    f: tuple[tuple[int, Array], ...]
    """K coef of each block, by its first row, where it is kept. Of rows that are active in all problems it is not computed:
    the solver knows better."""


def _worst(number: Array, score: Array, n: int) -> tuple[Array, Array]:
    """The ``n`` largest scores, ties by row number."""
    if len(score) > n:
        # Everything that ties with the n-th goes into the sort: the answer depends on the rows alone, not on their order.
        kept = score >= np.partition(score, len(score) - n)[len(score) - n]
        number, score = number[kept], score[kept]
    order = np.lexsort((number, -score))[:n]
    return number[order], score[order]


def _outside(v: Variables, number: Array, active: Array) -> Array:
    """Variables (m,) of rows that are not active."""
    names = number[v.row]
    if not len(active):
        return np.ones(len(names), dtype=bool)
    place = np.minimum(np.searchsorted(active, names), len(active) - 1)
    return np.asarray(active[place] != names)


def _certify(v: Variables, F: Array, outside: Array, number: Array, b: float, n_new: int, reach: float) -> Any:
    """(support, top, bottom, violators, Found) of one problem in one block."""
    r = F - b
    support = float(np.maximum(v.hi * r, v.lo * r)[outside].sum())
    names = number[v.row]
    up, low = outside & (v.hi > 0), outside & (v.lo < 0)
    top, bottom = float(F[up].max(initial=-NEVER)), float(F[low].min(initial=NEVER))
    violators = int(np.count_nonzero((up & (r > 0)) | (low & (r < 0))))
    up &= r > -reach
    low &= r < reach
    found = Found(*_worst(names[up], F[up], n_new), *_worst(names[low], -F[low], n_new))
    return support, top, bottom, violators, found


def _unsure(v: Variables, F: Array, outside: Array, b: float, error: Array, reach: float) -> Array:
    """Rows outside that float32 cannot tell from those that violate, lie within reach or count in the primal."""
    r, wide = F - b, reach + error[v.row]
    return np.asarray(v.row[outside & (((v.hi > 0) & (r > -wide)) | ((v.lo < 0) & (r < wide)))])


def certify(block: Block, p: SweepParams) -> Certificate:
    """What one block says of a solution; reads X once, one kernel value a row and support row.

    In float32 a value is known to a bound. Rows that are beyond doubt outside the margin count nothing in the primal,
    exactly; the few others are computed again in float64, so that the answer is the same as in float64 throughout.
    """
    n, P, d = block.n_rows, len(p.b), p.S.shape[1]
    weight = row_weights(block, p.fold)
    number = block.start + np.arange(n)
    machines = [variables(p.task, k, block.y, weight) for k in range(P)]
    outside = [_outside(v, number, p.active[k]) for k, v in enumerate(machines)]
    wanted = np.zeros(n, dtype=bool)
    for v, out in zip(machines, outside, strict=True):
        wanted[v.row[out]] = True
    f = _swept(block, p, np.flatnonzero(wanted))
    if n and p.mass is not None and not p.guide:
        error = single_error(p.kernel, norms(p.kernel, block.X), p.radius, d, P)
        at = [
            _unsure(v, v.c - f[v.row, k], outside[k], p.b[k], error * p.mass[k], p.reach)
            for k, v in enumerate(machines)
        ]
        _again(block.X, p, np.unique(np.concatenate(at)), f)
    parts = [
        _certify(v, v.c - f[v.row, k], outside[k], number, p.b[k], p.n_new, p.reach) for k, v in enumerate(machines)
    ]
    support, top, bottom, violators, found = zip(*parts, strict=True)
    wanted = _numbers(found)
    return Certificate(
        np.array(support),
        np.array(top),
        np.array(bottom),
        np.array(violators, dtype=np.float64),
        found,
        of_block(block, wanted - block.start, weight),
        ((block.start, f),) if p.keep else (),
    )


def _swept(block: Block, p: SweepParams, at: Array) -> Array:
    """K coef (rows, P) of the rows ``at``: that of an earlier sweep and what changed, or from nothing."""
    n, P = block.n_rows, len(p.b)
    if p.base is None or p.change is None:
        f = np.zeros((n, P))
        _add(block.X, p, at, p.coef, f)
        return f
    f = p.base[block.start : block.start + n].copy()
    new = np.isnan(f[at, 0])
    f[at[new]] = 0
    _add(block.X, p, at[~new], p.change, f)
    _add(block.X, p, at[new], p.coef, f)
    return f


def _add(X: Array, p: SweepParams, at: Array, coef: Array, f: Array) -> None:
    """``f += K(X, S) coef`` at some rows."""
    moved = np.flatnonzero(coef.any(axis=1))
    if len(at) and len(moved):
        S = p.S[moved]
        # A row far out would overflow float32, or lose its exponent.
        single = p.single and single_is_near(p.kernel, S) and single_is_near(p.kernel, X)
        products(p.kernel, X, prepare(p.kernel, S, np.float32 if single else np.float64), coef[moved], f, at)


def _again(X: Array, p: SweepParams, at: Array, f: Array) -> None:
    """Rows ``at`` of f in float64, from nothing."""
    support = np.flatnonzero(p.coef.any(axis=1))
    f[at] = 0
    if len(at) and len(support):
        products(p.kernel, X, prepare(p.kernel, p.S[support]), p.coef[support], f, at)


def _numbers(found: tuple[Found, ...]) -> Array:
    """Numbers of all rows that some problem brings along."""
    return np.unique(np.concatenate([part for one in found for part in (one.up, one.low)]))


@dataclass(frozen=True)
class _Merge:
    n_new: int

    def __call__(self, a: Certificate, b: Certificate) -> Certificate:
        found = tuple(
            Found(
                *_worst(np.concatenate([x.up, y.up]), np.concatenate([x.up_score, y.up_score]), self.n_new),
                *_worst(np.concatenate([x.low, y.low]), np.concatenate([x.low_score, y.low_score]), self.n_new),
            )
            for x, y in zip(a.found, b.found, strict=True)
        )
        rows = join_rows(a.rows, b.rows)
        kept = np.flatnonzero(np.isin(rows.number, _numbers(found)))
        return Certificate(
            a.support + b.support,
            np.maximum(a.top, b.top),
            np.minimum(a.bottom, b.bottom),
            a.violators + b.violators,
            found,
            take_rows(rows, kept) if len(kept) < len(rows.number) else rows,
            a.f + b.f,
        )


def _workspace(n_rows: int, n_features: int, p: SweepParams) -> int:
    P = len(p.b)
    return workspace(n_features, P) + 24 * p.S.size + 8 * n_rows * (P + 18)


CERTIFY = Kernel(
    certify,
    "certify-support-vectors",
    _workspace,
    partial_bytes=lambda d, p: 2 * len(p.b) * p.n_new * 16 + 2 * len(p.b) * p.n_new * (8 * d + 24),
    gathers=True,
)


def certify_sweep(p: SweepParams) -> Sweep:
    """The sweep over all rows that certifies a solution."""
    return Sweep(CERTIFY, p, _Merge(p.n_new))


# -- decisions ----------------------------------------------------------------------------------------------------------


class DecisionParams(NamedTuple):
    """A fitted machine. ``output`` is "decision", "ovr", "label", "probability", "log_probability" or "sign"."""

    kernel: KernelFunction
    S: Array
    coef: Array
    b: Array
    output: str = "decision"
    pairs: tuple[tuple[int, int], ...] = ()
    classes: Array | None = None
    platt: Array | None = None
    """(2, P): A and B of ``1 / (1 + exp(A f + B))``, the probability of a pair's first class."""


def decisions(block: Block, p: DecisionParams) -> Array:
    """``K(X, S) coef + b`` (rows, P), before any output is made of it."""
    f = np.zeros((block.n_rows, len(p.b)))
    if block.n_rows and len(p.S):
        products(p.kernel, block.X, prepare(p.kernel, p.S), p.coef, f)
    return f + p.b


def votes(f: Array, pairs: tuple[tuple[int, int], ...], n_classes: int) -> Array:
    """Pairs that each class wins (rows, n_classes)."""
    table = np.zeros((len(f), n_classes))
    for k, (first, second) in enumerate(pairs):
        won = f[:, k] > 0
        table[:, first] += won
        table[:, second] += ~won
    return table


def one_against_rest(f: Array, pairs: tuple[tuple[int, int], ...], n_classes: int) -> Array:
    """Votes, with ties broken by the sum of confidences squeezed into (-1/3, 1/3): scikit-learn's."""
    total = np.zeros((len(f), n_classes))
    for k, (first, second) in enumerate(pairs):
        total[:, first] += f[:, k]
        total[:, second] -= f[:, k]
    return np.asarray(votes(f, pairs, n_classes) + total / (3 * (np.abs(total) + 1)))


def coupled(R: Array, max_iter: int = 100) -> Array:
    """Class probabilities (rows, K) of pairwise ones ``R[:, i, j] = P(i | i or j)``.

    Source: Wu, Lin and Weng 2004, algorithm 2, as in libsvm; the rows go side by side.
    """
    n, K, _ = R.shape
    p = np.full((n, K), 1.0 / K)
    Q = -np.transpose(R, (0, 2, 1)) * R
    diagonal = np.arange(K)
    Q[:, diagonal, diagonal] = np.einsum("nji,nji->ni", R, R) - np.square(R[:, diagonal, diagonal])
    tol = 0.005 / K
    open_ = np.arange(n)
    for _ in range(max(max_iter, K)):
        Qp = np.einsum("nij,nj->ni", Q[open_], p[open_])
        pQp = np.einsum("ni,ni->n", p[open_], Qp)
        going = np.abs(Qp - pQp[:, None]).max(axis=1, initial=0.0) >= tol
        open_, Qp, pQp = open_[going], Qp[going], pQp[going]
        if not len(open_):
            break
        q = Q[open_]
        x = p[open_]
        for t in range(K):
            change = (pQp - Qp[:, t]) / q[:, t, t]
            x[:, t] += change
            scale = 1 + change
            pQp = (pQp + change * (change * q[:, t, t] + 2 * Qp[:, t])) / scale**2
            Qp = (Qp + change[:, None] * q[:, t]) / scale[:, None]
            x /= scale[:, None]
        p[open_] = x
    return p


def probabilities(f: Array, p: DecisionParams) -> Array:
    """Class probabilities (rows, n_classes) of pairwise decisions."""
    assert p.classes is not None and p.platt is not None
    K = len(p.classes)
    R = np.zeros((len(f), K, K))
    z = p.platt[0] * f + p.platt[1]
    # Through exp of a negative number only: no overflow.
    e = np.exp(-np.abs(z))
    wins = np.clip(np.where(z >= 0, e, 1.0) / (1 + e), 1e-7, 1 - 1e-7)
    for k, (first, second) in enumerate(p.pairs):
        R[:, first, second], R[:, second, first] = wins[:, k], 1 - wins[:, k]
    if K == 2:
        return np.column_stack([R[:, 0, 1], R[:, 1, 0]])
    return coupled(R)


def machine_output(block: Block, p: DecisionParams) -> Array:
    """One row of the asked output for each row."""
    f = decisions(block, p)
    if p.output == "decision":
        return f[:, 0] if f.shape[1] == 1 else f
    if p.output == "sign":
        return np.where(f[:, 0] > 0, 1, -1)
    assert p.classes is not None
    K = len(p.classes)
    if p.output == "ovr":
        return one_against_rest(f, p.pairs, K)
    if p.output == "label":
        return np.asarray(p.classes[votes(f, p.pairs, K).argmax(axis=1)])
    table = probabilities(f, p)
    return np.log(table) if p.output == "log_probability" else table


def _output_workspace(n_rows: int, n_features: int, p: DecisionParams) -> int:
    K = 0 if p.classes is None else len(p.classes)
    square = K * K if "probability" in p.output else K
    return workspace(n_features, len(p.b)) + 16 * p.S.size + 8 * n_rows * (3 * len(p.b) + 4 * square)


MACHINE_OUTPUT = Kernel(machine_output, lambda p: f"support-vector-{p.output.replace('_', '-')}", _output_workspace)


class HeldOutParams(NamedTuple):
    """The machines of the folds, and the part of the rows that calibrates them."""

    machines: tuple[DecisionParams, ...]
    seed: int
    one_in: int


class HeldOut(NamedTuple):
    """Decisions (rows, P) of machines that have not seen the rows, with labels and weights."""

    f: Array
    y: Array
    weight: Array


def held_out(block: Block, p: HeldOutParams) -> HeldOut:
    """Decisions of rows by the machine whose fold left them out."""
    number = block.start + np.arange(block.n_rows)
    fold = fold_of(number, len(p.machines), p.seed)
    chosen = fold_of(number, p.one_in, p.seed + 1) == 0
    weight = row_weights(block, None)
    parts = []
    for k, machine in enumerate(p.machines):
        at = np.flatnonzero(chosen & (fold == k) & (weight > 0))
        f = decisions(Block(block.X[at], None, None, block.number, block.start), machine)
        parts.append(HeldOut(f, block.y[at], weight[at]))
    return HeldOut(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _join_held_out(a: HeldOut, b: HeldOut) -> HeldOut:
    return HeldOut(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))


HELD_OUT = Kernel(
    held_out,
    "held-out-decisions",
    lambda n, d, p: _output_workspace(n, d, p.machines[0]) + 8 * n * (d + 4),
)


def held_out_sweep(p: HeldOutParams) -> Sweep:
    """The sweep that gathers held-out decisions."""
    return Sweep(HELD_OUT, p, _join_held_out)


__all__ = [
    "CERTIFY", "DRAW", "HELD_OUT", "MACHINE_OUTPUT", "PLAIN_MOMENTS", "Certificate", "DecisionParams",
    "DrawParams", "Fold", "Found", "HeldOut", "HeldOutParams", "Rows", "SweepParams", "Task", "Variables",
    "certify_sweep", "coupled", "draw_sweep", "fold_of", "held_out_sweep", "join_rows", "take_rows", "variables",
]  # fmt: skip
