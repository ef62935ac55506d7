"""Bisecting k-means: the worst cluster is split in two until there are k.

One split after another would take k - 1 times the sweeps of a 2-means. But which rows a cluster has, and so how it is
split, does not depend on the other clusters. So all clusters that may still be split are split in the same sweeps, each
at its own pace, and its halves go on without waiting for the others. Which of these splits the tree is made of is decided
afterwards, by the same greedy rule as one at a time: the result is the same, in as many sweeps as the deepest leaf needs.

A cluster may be split at all only if fewer than k - 1 clusters known so far have a larger score than its own: halves
never have larger scores than the whole, so all of those come before it.

Sources: Steinbach, Karypis and Kumar 2000, "A comparison of document clustering techniques"; the strategies are
scikit-learn's.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from daskml_core.kernels.bisecting import (
    Halves,
    HalvesParams,
    LeafDraw,
    LeafDrawParams,
    Tree,
    halve_block,
    halves_sweep,
    leaf_draw_sweep,
    leaf_of_rows,
)
from daskml_core.solvers.in_memory import Asks, solve_in_memory
from daskml_core.solvers.kmeans_seeding import Sampled
from daskml_core.sweep import Array, Block

ENOUGH_ROWS = 200
"""Rows of a sample with which a cluster is split: a hundred a half. With fewer, others are drawn from the cluster."""

DRAWN_ROWS = 1000
"""Rows drawn then, which last for its halves too."""

TREES = 8
"""Trees grown on a sample, of which the best is the start for the data. A split as good as can be makes the tree worse as
often as better; what helps is to compare whole trees."""

TREE_CLUSTERS = 800
"""Clusters in all of these trees together, but for two trees at least: the more splits a tree has, the less do their
fortunes differ in sum."""

POOL_NUMBERS = 20_000_000
"""Numbers (rows x features) of a cluster that is split where its rows are held, if all of them are: no sweep is needed."""

Start = Callable[[str, int, Sampled, np.random.Generator], Array]
"""First centres (2, d) of a split: for a path, the number of the run, rows of the cluster, random numbers."""


@dataclass(frozen=True)
class Settings:
    """What does not change in a fit."""

    n_clusters: int
    start: Start
    n_init: int = 1
    by_rows: bool = False
    """Split the cluster of most rows; otherwise that of the largest inertia."""
    tol: float = 1e-4
    max_iter: int = 300
    cosine: bool = False
    seed: int = 0
    draw_bytes: int = 64 << 20
    """Most that rows drawn in one sweep may take."""
    speculative: bool = True
    """Split all clusters that may be next in the same sweeps; otherwise one after another, for comparison."""


@dataclass(frozen=True)
class Run:
    """One 2-means in a cluster."""

    pair: Array
    """(2, d) centres that the rows were, or are going to be, assigned to."""
    n_iter: int = 0
    done: bool = False
    converged: bool = False
    means: Array | None = None
    """(2, d) of the rows on either side of ``pair``; with these the next three, once it is done."""
    rows: Array | None = None
    weight: Array | None = None
    inertia: Array | None = None


@dataclass(frozen=True)
class Node:
    """A cluster, and the 2-means that split it."""

    center: Array
    rows: int
    weight: float
    inertia: float
    pool: Sampled
    """Some of its rows, or all, as they are in the data: first centres come from here."""
    whole: bool
    """Whether the pool is all of its rows."""
    drawn: bool = False
    """Whether the pool was drawn for this cluster alone."""
    inseparable: bool = False
    """Whether a split of the cluster above found no two different rows."""
    runs: tuple[Run, ...] = ()
    split: Run | None = None

    @property
    def ready(self) -> bool:
        """Whether first centres can be found in the pool: it is large enough, or there is no better one."""
        return self.whole or self.drawn or len(self.pool.X) >= ENOUGH_ROWS

    @property
    def at_hand(self) -> bool:
        """Whether it can be split without another look at the data."""
        return self.whole and self.pool.X.size <= POOL_NUMBERS

    @property
    def atomic(self) -> bool:
        """Whether all of its rows that count are the same one."""
        return self.inseparable or self.rows < 2 or self.weight <= 0 or self.inertia <= 0


Nodes = dict[str, Node]
"""Clusters by their paths from the root: "" is the root, "01" the right half of its left half. Leaves in the order of
their paths are the clusters from left to right."""


@dataclass(frozen=True)
class BisectingState:
    """All that the solver knows at the head of its loop."""

    nodes: Nodes
    leaves: tuple[str, ...] = ("",)
    """Of the tree as far as it is decided."""
    n_iter: int = 0
    cannot_stop: ClassVar[str] = "a tree that is half grown has fewer clusters than were asked for"
    """Why it cannot be stopped early."""

    def record(self) -> dict[str, Any]:
        return {
            "n_iter": self.n_iter,
            "clusters": len(self.leaves),
            "splits_known": sum(node.split is not None for node in self.nodes.values()),
            "inertia": self.inertia,
        }

    @property
    def inertia(self) -> float:
        """Of the tree as far as it is decided."""
        return float(sum(self.nodes[path].inertia for path in self.leaves))

    @property
    def inner(self) -> list[Node]:
        """The clusters that the tree has split."""
        paths = {path[:i] for path in self.leaves for i in range(len(path))}
        return [self.nodes[path] for path in sorted(paths)]


def first_state(pool: Sampled, n_rows: int, *, whole: bool) -> BisectingState:
    """The root alone, with a sample of its rows; ``whole`` where that is all of them."""
    d = pool.X.shape[1]
    return BisectingState({"": Node(np.full(d, np.nan), n_rows, np.inf, np.inf, pool, whole)})


def bisecting_kmeans(state: BisectingState, settings: Settings) -> Asks:
    """Split until there are ``n_clusters``. Returns the last `BisectingState`.

    Each split ends when its centres moved by less than ``tol`` times the mean variance of the features in the cluster,
    squared and summed. Rows stay where the last sweep saw them, on either side of the centres before that move: so their
    numbers, means and inertias are known exactly without another sweep.
    """
    while True:
        nodes, leaves, stuck = _grow(state.nodes, settings)
        state = replace(state, nodes=nodes, leaves=leaves)
        yield state
        if stuck is None:
            return state
        state = _begin(state, _candidates(nodes, stuck, settings), settings)
        asked, to_draw = _working(state, stuck, settings)
        tree, numbers = _as_tree(state.nodes, settings.cosine)
        params = _params(state.nodes, asked, tree, numbers)
        if to_draw:
            halves, draws = yield halves_sweep(params), leaf_draw_sweep(_draw_params(to_draw, tree, numbers, settings))
        else:
            halves, draws = (yield halves_sweep(params)), ()
        nodes = dict(state.nodes)
        _take_halves(nodes, asked, halves, settings)
        _take_draws(nodes, to_draw, draws)
        state = replace(state, nodes=nodes, n_iter=state.n_iter + 1)


def best_tree(state: BisectingState, settings: Settings, block: Block) -> BisectingState:
    """The best of up to `TREES` trees of rows in memory, by its inertia."""
    best: BisectingState | None = None
    for number in range(max(2, min(TREES, TREE_CLUSTERS // settings.n_clusters))):
        tree: BisectingState = solve_in_memory(
            bisecting_kmeans(state, replace(settings, seed=settings.seed + number)), block
        )
        if best is None or tree.inertia < best.inertia:
            best = tree
    assert best is not None
    return best


def follow(tree: BisectingState, otherwise: Start) -> Start:
    """First centres that are those of a tree of sampled rows, where it has the cluster."""

    def start(path: str, run: int, pool: Sampled, rng: np.random.Generator) -> Array:
        node = tree.nodes.get(path)
        if run == 0 and node is not None and node.split is not None and node.split.means is not None:
            return node.split.means
        return otherwise(path, run, pool, rng)

    return start


# -- which clusters are split ------------------------------------------------------------------------------------------


def _rank(nodes: Nodes, path: str, settings: Settings) -> tuple[float, str]:
    """Sorts clusters by falling score, ties from left to right, as scikit-learn."""
    node = nodes[path]
    return (-float(node.rows if settings.by_rows else node.inertia), path)


def _grow(nodes: Nodes, settings: Settings) -> tuple[Nodes, tuple[str, ...], str | None]:
    """The greedy tree as far as its splits are known: all clusters, its leaves, and the one whose split it waits for."""
    nodes = dict(nodes)
    if settings.n_clusters == 1:
        if nodes[""].at_hand:
            _split_here(nodes, "", settings)
        return nodes, ("",), None if np.isfinite(nodes[""].center).all() else ""
    heap = [_rank(nodes, "", settings)]
    stuck = None
    while len(heap) < settings.n_clusters:
        path = heap[0][1]
        if nodes[path].split is None:
            if nodes[path].atomic:
                _split_atom(nodes, path)
            elif nodes[path].at_hand:
                _split_here(nodes, path, settings)
            else:
                stuck = path
                break
        heapq.heappop(heap)
        for side in "01":
            heapq.heappush(heap, _rank(nodes, path + side, settings))
    return nodes, tuple(sorted(path for _, path in heap)), stuck


def _split_atom(nodes: Nodes, path: str) -> None:
    """Split what cannot be split: all rows on the left, the same centre without rows on the right."""
    node = nodes[path]
    pair = np.stack([node.center, node.center])
    nodes[path] = replace(node, split=Run(pair, done=True, converged=True))
    nodes[path + "0"] = replace(node, runs=(), split=None)
    nodes[path + "1"] = replace(node, rows=0, weight=0.0, inertia=0.0, runs=(), split=None)


def _split_here(nodes: Nodes, path: str, settings: Settings) -> None:
    """Split a cluster whose rows are all in its pool."""
    X, weight = nodes[path].pool
    block = Block(X, None, weight, 0, 0)
    nodes[path] = replace(nodes[path], runs=_first_runs(path, nodes[path], settings))
    root = Tree(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2, X.shape[1]), dtype=X.dtype), settings.cosine)
    while asked := [(path, j) for j, run in enumerate(nodes[path].runs) if not run.done]:
        pairs = np.stack([nodes[path].runs[j].pair for _, j in asked])
        _take_halves(nodes, asked, halve_block(block, HalvesParams(root, np.array([0, len(pairs)]), pairs)), settings)


def _candidates(nodes: Nodes, stuck: str, settings: Settings) -> list[str]:
    """Clusters that are not split yet but may have to be; the one waited for comes first."""
    if not settings.speculative or settings.n_clusters == 1:
        return [stuck]
    ranked = heapq.nsmallest(settings.n_clusters - 1, (_rank(nodes, path, settings) for path in nodes))

    def waits(node: Node) -> bool:
        return node.split is None and not node.atomic and not node.at_hand

    return [stuck, *(path for _, path in ranked if path != stuck and waits(nodes[path]))]


# -- what is asked of the data -----------------------------------------------------------------------------------------


def _begin(state: BisectingState, candidates: list[str], settings: Settings) -> BisectingState:
    """First centres for the candidates that have rows enough to find them with."""
    nodes = dict(state.nodes)
    for path in candidates:
        node = nodes[path]
        if not node.runs and node.ready:
            nodes[path] = replace(node, runs=_first_runs(path, node, settings))
    return replace(state, nodes=nodes)


def _number(path: str) -> int:
    return int("1" + path, 2)


def _first_runs(path: str, node: Node, settings: Settings) -> tuple[Run, ...]:
    X = node.pool.X
    if settings.n_clusters == 1:
        mean = X.mean(axis=0, dtype=np.float64) if len(X) else np.zeros(X.shape[1])
        return (Run(_tidy(np.stack([mean, mean]), X.dtype, settings.cosine)),)
    if not len(X) or np.array_equal(X, np.broadcast_to(X[0], X.shape)):
        # A row twice: all of the cluster's rows are the same if, and only if, none is farther than nothing from it.
        row = X[0] if len(X) else node.center.astype(X.dtype)
        row = _tidy(row.astype(np.float64), X.dtype, settings.cosine)
        return (Run(np.stack([row, row])),)
    pool, pairs = node.pool, []
    if settings.cosine:
        pool = pool._replace(X=_tidy(X.astype(np.float64), X.dtype, True))
    for run in range(settings.n_init):
        rng = np.random.default_rng([settings.seed, run, _number(path)])
        pairs.append(np.ascontiguousarray(settings.start(path, run, pool, rng), dtype=X.dtype))
    return tuple(Run(pair) for pair in pairs)


def _working(state: BisectingState, stuck: str, settings: Settings) -> tuple[list[tuple[str, int]], list[str]]:
    """The runs to take one step of, as (path, number of the run), and the clusters to draw rows from."""
    nodes = state.nodes
    candidates = _candidates(nodes, stuck, settings)
    asked = [(path, j) for path in candidates for j, run in enumerate(nodes[path].runs) if not run.done]
    waiting = [path for path in candidates if not nodes[path].runs]
    width = nodes[""].pool.X.shape[1]
    most = max(1, settings.draw_bytes // (DRAWN_ROWS * 8 * (width + 2)))
    return asked, waiting[:most]


def _as_tree(nodes: Nodes, cosine: bool) -> tuple[Tree, dict[str, int]]:
    """All known splits as arrays, and the number of each leaf."""
    splits = sorted(path for path, node in nodes.items() if node.split is not None)
    return tree_of(nodes, splits, cosine)


def tree_of(nodes: Nodes, splits: list[str], cosine: bool) -> tuple[Tree, dict[str, int]]:
    """The tree of some clusters' splits, sorted by path, and the number of each leaf from left to right."""
    number = {path: i for i, path in enumerate(splits)}
    ends = sorted(path + side for path in splits for side in "01" if path + side not in number) or [""]
    leaf = {path: i for i, path in enumerate(ends)}
    child = np.empty((len(splits), 2), dtype=np.int64)
    for i, path in enumerate(splits):
        for side in (0, 1):
            below = path + "01"[side]
            child[i, side] = number[below] if below in number else -1 - leaf[below]
    root = nodes[""]
    pairs = np.empty((len(splits), 2, root.pool.X.shape[1]), dtype=root.pool.X.dtype)
    for i, path in enumerate(splits):
        split = nodes[path].split
        assert split is not None
        pairs[i] = split.pair
    return Tree(child, pairs, cosine), leaf


def _params(nodes: Nodes, asked: list[tuple[str, int]], tree: Tree, numbers: dict[str, int]) -> HalvesParams:
    """The runs' pairs, in the order of their leaves; ``asked`` is sorted in place to match."""
    asked.sort(key=lambda at: (numbers[at[0]], at[1]))
    count = np.bincount([numbers[path] for path, _ in asked], minlength=len(numbers)) if asked else np.zeros(1, int)
    first = np.concatenate([[0], np.cumsum(np.resize(count, len(numbers)))]).astype(np.int64)
    pairs = [nodes[path].runs[j].pair for path, j in asked]
    return HalvesParams(
        tree, first, np.stack(pairs) if pairs else np.zeros((0, *tree.pairs.shape[1:]), tree.pairs.dtype)
    )


def _draw_params(to_draw: list[str], tree: Tree, numbers: dict[str, int], settings: Settings) -> LeafDrawParams:
    leaves, seeds = tuple(numbers[path] for path in to_draw), tuple(_number(path) for path in to_draw)
    return LeafDrawParams(tree, leaves, seeds, settings.seed, DRAWN_ROWS)


# -- what the answers change -------------------------------------------------------------------------------------------


def _take_halves(nodes: Nodes, asked: list[tuple[str, int]], halves: Halves, settings: Settings) -> None:
    for i, (path, j) in enumerate(asked):
        node = nodes[path]
        one = Halves(*(part[i] for part in halves))
        if settings.n_clusters == 1:
            nodes[path] = _single_cluster(node, one, settings)
            continue
        runs = list(node.runs)
        runs[j] = _step(runs[j], one, settings)
        nodes[path] = replace(node, runs=tuple(runs))
        if all(run.done for run in runs):
            _divide(nodes, path, settings)


def _tidy(means: Array, dtype: Any, cosine: bool) -> Array:
    """Centres in the data's dtype, of length one under the cosine metric."""
    if cosine:
        lengths = np.linalg.norm(means, axis=-1, keepdims=True)
        means = means / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(means, dtype=dtype)


def _about(a: Halves, p: Array, c: Array) -> Array:
    """Weighted squared distances (2,) to ``c`` of the rows whose distances to ``p`` were summed, both (2, d)."""
    p, c = p.astype(np.float64), c.astype(np.float64)
    off = p - c
    cross = 2 * ((a.sums - a.weight[:, None] * p) * off).sum(axis=1)
    return np.maximum(a.inertia + cross + a.weight * np.square(off).sum(axis=1), 0.0)


def _step(run: Run, a: Halves, settings: Settings) -> Run:
    """One iteration of Lloyd's; an empty side starts again at the row farthest from its centre."""
    old, dtype = run.pair, run.pair.dtype
    sums, weight = a.sums, a.weight
    n_iter = run.n_iter + 1
    empty = np.flatnonzero(weight <= 0)
    # No side that has rows ever loses them all, but for rounding: only the first centres may need this.
    if len(empty) == 1 and a.far_distance > 0 and n_iter < min(3, settings.max_iter):
        sums, weight = sums.copy(), weight.copy()
        sums[1 - empty[0]] -= a.far_weight * a.far_X
        weight[1 - empty[0]] -= a.far_weight
        sums[empty[0]], weight[empty[0]] = a.far_weight * a.far_X, a.far_weight
    means = old.astype(np.float64)
    full = weight > 0
    means[full] = sums[full] / weight[full, None]
    if settings.cosine:  # rows that cancel have no mean direction: the centre stays
        means = np.where(np.linalg.norm(means, axis=1, keepdims=True) > 0, means, old)
    new = _tidy(means, dtype, settings.cosine)
    moved = float(np.square(new.astype(np.float64) - old).sum())
    total = float(a.weight.sum())
    middle = np.tile(a.sums.sum(axis=0) / total, (2, 1)) if total > 0 else old
    variance = float(_about(a, old, middle).sum()) / total / len(middle[0]) if total > 0 else 0.0
    if (weight <= 0).any():  # the rows are all the same: so is their centre, to the bit, where it is one of them
        new = old if a.far_distance <= 0 else new
        return Run(old, n_iter, True, True, new, a.rows, a.weight, _about(a, old, new))
    converged = np.array_equal(new, old) or moved <= settings.tol * variance
    if not converged and n_iter < settings.max_iter:
        return Run(new, n_iter)
    return Run(old, n_iter, True, bool(converged), new, a.rows, a.weight, _about(a, old, new))


def _divide(nodes: Nodes, path: str, settings: Settings) -> None:
    """Split a cluster by the best of its runs, and share out its pool."""
    node = nodes[path]
    best = node.runs[0]
    for run in node.runs[1:]:
        # As scikit-learn: rounding must not decide which run is the best.
        if _loss(run) < _loss(best) * (1 - 1e-6):
            best = run
    assert best.means is not None and best.rows is not None and best.weight is not None and best.inertia is not None
    tree = Tree(np.array([[-1, -2]]), best.pair[None], settings.cosine)
    X, weight = node.pool
    right = leaf_of_rows(Block(X, None, None, 0, 0), tree) == 1
    for side, mine in enumerate([~right, right]):
        pool = Sampled(X[mine], None if weight is None else weight[mine])
        nodes[path + "01"[side]] = Node(
            best.means[side],
            int(best.rows[side]),
            float(best.weight[side]),
            float(best.inertia[side]),
            pool,
            node.whole,
            inseparable=bool((best.weight <= 0).any()),
        )
    none = Sampled(X[:0], None if weight is None else weight[:0])
    nodes[path] = replace(node, split=best, runs=(), pool=none)


def _loss(run: Run) -> float:
    assert run.inertia is not None
    return float(run.inertia.sum())


def _single_cluster(node: Node, a: Halves, settings: Settings) -> Node:
    """The root with its mean, where no more is asked for."""
    weight = float(a.weight.sum())
    pair = node.runs[0].pair
    mean = a.sums.sum(axis=0) / weight
    if settings.cosine and not np.linalg.norm(mean) > 0:
        mean = pair[0].astype(np.float64)
    center = _tidy(mean, pair.dtype, settings.cosine)
    inertia = float(_about(a, pair, np.stack([center, center])).sum())
    return replace(node, center=center, rows=int(a.rows.sum()), weight=weight, inertia=inertia, runs=())


def _take_draws(nodes: Nodes, to_draw: list[str], draws: tuple[LeafDraw, ...]) -> None:
    for path, draw in zip(to_draw, draws, strict=True):
        whole = len(draw.X) == nodes[path].rows
        nodes[path] = replace(nodes[path], pool=Sampled(draw.X, draw.weight), whole=whole, drawn=True)
