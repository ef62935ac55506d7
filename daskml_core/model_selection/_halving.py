"""Searches that stop bad settings early, for estimators that learn block by block (``partial_fit``).

All settings that are still in the race learn from the same block, read once; after a number of blocks they are scored on
rows held out of every block, and the worst leave. What is spent is counted in calls of ``partial_fit``, one a block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy.stats import rankdata
from sklearn import metrics
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from daskml_core.data import flatten, is_grid
from daskml_core.data.blocks import RowBlocks
from daskml_core.engine import CheckpointPath, Engine, find_complete, resumable
from daskml_core.engine.events import Scored, current_watch
from daskml_core.kernels.cells import Drawn
from daskml_core.kernels.incremental import (
    SCORE_MODELS,
    TRAIN_MODELS,
    IncrementalParams,
    ScoreParams,
    deal_models,
    gather_models,
    merge_scores,
)
from daskml_core.kernels.pairs import ErrorSums, PairCounts
from daskml_core.linear_model._data import load_with_target, one_column
from daskml_core.model_file import Portable
from daskml_core.model_selection._folds import _values
from daskml_core.model_selection._run import set_feature_dim
from daskml_core.search_html import ShownSearch
from daskml_core.sweep import Fold, Sweep
from daskml_core.validate import positive, positive_integer, random_seed, unit_interval

LABEL_METRICS = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "f1": metrics.f1_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "matthews_corrcoef": metrics.matthews_corrcoef,
}
NUMBER_METRICS = ("r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error")


@dataclass(eq=False)
class Bracket:
    """Settings that race each other: at each rung the best go on."""

    numbers: list[int]
    rungs: list[tuple[int, int]]
    """``(calls of partial_fit by then, how many go on)``; after the last rung none has to leave."""
    alive: list[int] = field(default_factory=list)


def _score(name: str, found: PairCounts | ErrorSums) -> float:
    if isinstance(found, PairCounts):
        return float(LABEL_METRICS[name](found.truth, found.prediction, sample_weight=found.weight))
    if name == "r2":
        return float((1 - found.squared / np.where(found.scatter > 0, found.scatter, 1.0)).mean())
    if name == "neg_mean_absolute_error":
        return -float((found.absolute / found.weight).mean())
    mean = found.squared / found.weight
    return -float((np.sqrt(mean) if name == "neg_root_mean_squared_error" else mean).mean())


def _best_has(method: str) -> Any:
    def check(search: Any) -> bool:
        getattr(getattr(search, "best_estimator_", search.estimator), method)
        return True

    return check


class _Racing(ShownSearch, Portable, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """What the searches share: the race itself."""

    estimator: Any
    scoring: Any
    test_size: float
    random_state: Any
    verbose: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type, tags.classifier_tags = inner.estimator_type, inner.classifier_tags
        tags.regressor_tags, tags.target_tags.required = inner.regressor_tags, True
        return tags

    def _brackets(self, n_blocks: int) -> tuple[list[dict[str, Any]], list[Bracket]]:
        raise NotImplementedError

    def _metric(self) -> str:
        labels = is_classifier(self.estimator)
        name = self.scoring or ("accuracy" if labels else "r2")
        known = tuple(LABEL_METRICS) if labels else NUMBER_METRICS
        if name not in known:
            raise ValueError(f"scoring must be one of {list(known)} for {type(self.estimator).__name__}, got {name!r}.")
        return str(name)

    @resumable
    def fit(self, X: Any, y: Any, *, feature_dim: str | None = None, checkpoint: CheckpointPath = None) -> Self:
        """Race the settings; X (n_rows, n_features) and y (n_rows,) in any container. Returns self."""
        if not hasattr(self.estimator, "partial_fit"):
            raise ValueError(f"{type(self.estimator).__name__} has no partial_fit. Use GridSearchCV.")
        if not 0 < unit_interval("test_size", self.test_size) < 1:
            raise ValueError(f"test_size must be between 0 and 1, both excluded, got {self.test_size!r}.")
        metric, seed = self._metric(), random_seed(self.random_state)
        dim, counted = feature_dim, 0.0
        if is_grid(X):
            flat = flatten(X, y, find_complete=find_complete, feature_dim=feature_dim)
            X, y, feature_dim, counted = flat.X, flat.y, None, flat.counted
        blocks = load_with_target(self, X, y, None, feature_dim, reset=True)
        assert blocks.y is not None
        blocks = replace(blocks, y=one_column(blocks.y))
        if blocks.n_rows < 2:
            raise ValueError(f"A row to learn from and one to be scored on are needed, but n_samples={blocks.n_rows}.")
        held_out = Drawn(blocks.n_rows, max(2, round(1 / self.test_size)), seed)
        options = {"classes": _values(y, blocks.n_rows, "y")[0]} if is_classifier(self.estimator) else {}
        settings, brackets = self._brackets(blocks.n_blocks)
        models = {i: clone(self.estimator).set_params(**clone(s, safe=False)) for i, s in enumerate(settings)}
        race = _Race(blocks, held_out, options, metric, seed, settings)
        try:
            race.run(models, brackets, verbose=bool(self.verbose))
        finally:
            race.engine.close()
        self._report(settings, brackets, race)
        set_feature_dim(self.best_estimator_, dim)
        self._feature_dim = dim
        self.n_sweeps_ = round(race.engine.n_sweeps + counted, 6)
        return self

    def _report(self, settings: Sequence[Mapping[str, Any]], brackets: Sequence[Bracket], race: _Race) -> None:
        n = len(settings)
        bracket = np.zeros(n, dtype=int)
        for b, members in enumerate(brackets):
            bracket[members.numbers] = b
        scores = np.array([race.scores[i] for i in range(n)])
        calls = np.array([race.calls[i] for i in range(n)])
        # A model that learnt longer than another of its bracket has beaten it, whatever their last scores.
        order = scores.copy()
        last = np.array([calls[i] == max(calls[brackets[bracket[i]].numbers]) for i in range(n)])
        order[~last] -= np.ptp(scores) + 1
        results: dict[str, Any] = {
            "params": [dict(s) for s in settings],
            "bracket": bracket,
            "partial_fit_calls": calls,
        }
        results |= {"test_score": scores, "rank_test_score": rankdata(-order, method="min").astype(np.int32)}
        self.cv_results_ = results
        self.history_ = race.history
        self.n_iter_ = int(calls.max())
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_params_, self.best_score_ = results["params"][self.best_index_], float(scores[self.best_index_])
        self.best_estimator_ = race.models[self.best_index_]
        if hasattr(self.best_estimator_, "classes_"):
            self.classes_ = self.best_estimator_.classes_

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predictions of the best estimator."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the best estimator."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Decision values of the best estimator."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.decision_function(X)

    def score(self, X: Any, y: Any) -> float:
        """Score of the best estimator by the search's metric."""
        from daskml_core.model_selection._search import score_lazily

        check_is_fitted(self, "best_estimator_")
        return score_lazily(self._metric(), self.best_estimator_, X, y)


class _Race:
    """Models of all brackets, trained on the same blocks in the same order."""

    def __init__(
        self,
        blocks: RowBlocks,
        held_out: Any,
        options: Mapping[str, Any],
        metric: str,
        seed: int,
        settings: Sequence[Mapping[str, Any]],
    ) -> None:
        self.blocks, self.held_out, self.metric, self.seed, self.settings = blocks, held_out, metric, seed, settings
        self.params = IncrementalParams(held_out, options)
        self.engine = Engine(blocks, kernels=[(TRAIN_MODELS, self.params), (SCORE_MODELS, None)])
        self.scores: dict[int, float] = {}
        self.calls: dict[int, int] = {}
        self.models: dict[int, Any] = {}
        self.history: list[dict[str, Any]] = []

    def run(self, models: dict[int, Any], brackets: Sequence[Bracket], *, verbose: bool) -> None:
        """Train and cull until every bracket is at its last rung."""
        self.models = dict(models)
        for bracket in brackets:
            bracket.alive = list(bracket.numbers)
        done = 0
        for calls in sorted({calls for bracket in brackets for calls, _ in bracket.rungs}):
            racing = [b for b in brackets if b.rungs[-1][0] >= calls]
            self._train(sorted(i for b in racing for i in b.alive), done, calls)
            due = [b for b in racing if calls in dict(b.rungs)]
            self._score_all(sorted(i for b in due for i in b.alive), calls)
            for bracket in due:
                keep = dict(bracket.rungs)[calls]
                ranked = sorted(bracket.alive, key=lambda i: (-self.scores[i], i))
                bracket.alive = sorted(ranked[:keep])
            if verbose:
                print(f"{calls} calls of partial_fit: {sum(len(b.alive) for b in racing)} settings go on")
            done = calls

    def _order(self, call: int) -> int:
        """The block of a call: all blocks once an epoch, in an order drawn for it."""
        n = self.blocks.n_blocks
        return int(np.random.default_rng([self.seed, 5, call // n]).permutation(n)[call % n])

    def _train(self, alive: list[int], start: int, stop: int) -> None:
        if not alive or stop <= start:
            return
        order = [self._order(call) for call in range(start, stop)]
        models = {i: self.models[i] for i in alive}
        (trained,) = self.engine.fold(Fold(TRAIN_MODELS, self.params, [models], [order], deal_models, gather_models))
        self.models |= trained
        self.calls |= dict.fromkeys(alive, stop)

    def _score_all(self, alive: list[int], calls: int) -> None:
        if not alive:
            return
        params = ScoreParams({i: self.models[i] for i in alive}, self.held_out, self.metric in LABEL_METRICS)
        (found,) = self.engine.sweep(Sweep(SCORE_MODELS, params, merge_scores))
        for i in alive:
            self.scores[i] = _score(self.metric, found[i])
            self.history.append({"model": i, "partial_fit_calls": calls, "score": self.scores[i]})
        watch = current_watch()
        if watch is not None:
            best = max(self.scores, key=lambda i: (self.scores[i], -i))
            told = (float(self.scores[best]), self.metric, len(self.scores), len(self.settings))
            watch.tell(Scored(self.settings[best], *told))


def _rungs(n: int, first: int, last: int, factor: float) -> list[tuple[int, int]]:
    """Rungs of a bracket that starts with n settings and ``first`` calls each."""
    rungs: list[tuple[int, int]] = []
    calls, alive = first, n
    while True:
        alive = max(1, math.floor(alive / factor))
        if calls * factor > last or len(rungs) > 50:
            return [*rungs, (calls, alive)]
        rungs.append((calls, alive))
        if alive == 1:
            return rungs
        calls = math.floor(calls * factor)


class HalvingGridSearchCV(_Racing):
    """Successive halving over a grid, for estimators that have ``partial_fit``.

    Every setting learns from the same blocks, read once for all; at each rung the best ``1 / factor`` go on and learn
    ``factor`` times as much. scikit-learn's idea, with blocks seen as the resource: a model that goes on is not trained
    again from the start, and scores are of rows held out of every block.

    Parameters
    ----------
    estimator : any estimator with ``partial_fit``, of this library or not.
    param_grid : dict or list of dicts
    factor : float, default=3
    min_resources : "exhaust" or int, default="exhaust"
        Calls of ``partial_fit`` before the first rung; "exhaust" lets the last rung reach ``max_resources``.
    max_resources : "auto" or int, default="auto"
        Calls of ``partial_fit``, a block each, for the settings that last; "auto" is one epoch.
    scoring : str, optional
        Accuracy or R2 by default.
    test_size : float, default=0.2
        Part of the rows that is held out.
    random_state : int, optional
        Of the blocks' order and the held-out rows; ``None`` is a fixed seed.
    verbose : int, default=0

    Attributes
    ----------
    cv_results_ : dict
        ``params``, ``test_score``, ``rank_test_score``, ``partial_fit_calls``, ``bracket``.
    best_estimator_, best_params_, best_score_, best_index_, history_, n_sweeps_
    n_iter_ : int
        Calls of ``partial_fit`` that the settings that lasted have got.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import SGDClassifier
    >>> from daskml_core.model_selection import HalvingGridSearchCV
    >>> X = da.random.default_rng(0).normal(size=(3_000, 3), chunks=(300, 3))
    >>> search = HalvingGridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-2, 10.0]})
    >>> search.fit(X, X[:, 0] > 0).best_params_["alpha"] < 10
    True
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        factor: float = 3,
        min_resources: str | int = "exhaust",
        max_resources: str | int = "auto",
        scoring: str | None = None,
        test_size: float = 0.2,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.factor = factor
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.scoring = scoring
        self.test_size = test_size
        self.random_state = random_state
        self.verbose = verbose

    def _brackets(self, n_blocks: int) -> tuple[list[dict[str, Any]], list[Bracket]]:
        if not positive("factor", self.factor) > 1:
            raise ValueError(f"factor must be larger than 1, got {self.factor!r}.")
        settings = list(ParameterGrid(self.param_grid))
        last = n_blocks if self.max_resources == "auto" else positive_integer("max_resources", self.max_resources)
        if self.min_resources == "exhaust":
            steps = math.floor(math.log(len(settings), self.factor) + 1e-9)
            first = max(1, math.floor(last / self.factor**steps))
        else:
            first = positive_integer("min_resources", self.min_resources)
        if not 1 <= first <= last:
            raise ValueError(f"min_resources={first} must be between 1 and max_resources={last}.")
        return settings, [Bracket(list(range(len(settings))), _rungs(len(settings), first, last, self.factor))]


class HyperbandSearchCV(_Racing):
    """Hyperband (Li et al. 2018) for estimators that have ``partial_fit``: several races, from many settings that get little
    to few that get much.

    All brackets run side by side: at any time every model that is still in a race learns from the same block.

    Parameters
    ----------
    estimator : any estimator with ``partial_fit``.
    param_distributions : dict of lists or distributions
    max_iter : int, default=81
        Calls of ``partial_fit``, a block each, for the settings that last.
    aggressiveness : float, default=3
        Part of the settings that leaves at each rung, as one over.
    scoring, test_size, random_state, verbose : as in `HalvingGridSearchCV`; ``random_state`` draws the settings too.

    Attributes
    ----------
    As of `HalvingGridSearchCV`.

    Examples
    --------
    >>> import dask.array as da
    >>> from scipy.stats import loguniform
    >>> from daskml_core.linear_model import SGDClassifier
    >>> from daskml_core.model_selection import HyperbandSearchCV
    >>> X = da.random.default_rng(0).normal(size=(3_000, 3), chunks=(300, 3))
    >>> search = HyperbandSearchCV(SGDClassifier(random_state=0), {"alpha": loguniform(1e-5, 10)}, max_iter=9)
    >>> search.fit(X, X[:, 0] > 0).best_score_ > 0.9
    True
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        max_iter: int = 81,
        aggressiveness: float = 3,
        scoring: str | None = None,
        test_size: float = 0.2,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.max_iter = max_iter
        self.aggressiveness = aggressiveness
        self.scoring = scoring
        self.test_size = test_size
        self.random_state = random_state
        self.verbose = verbose

    def _brackets(self, n_blocks: int) -> tuple[list[dict[str, Any]], list[Bracket]]:
        R, eta = positive_integer("max_iter", self.max_iter), positive("aggressiveness", self.aggressiveness)
        if not eta > 1:
            raise ValueError(f"aggressiveness must be larger than 1, got {self.aggressiveness!r}.")
        largest = math.floor(math.log(R, eta) + 1e-9)
        sizes = [math.ceil((largest + 1) / (s + 1) * eta**s) for s in range(largest, -1, -1)]
        firsts = [max(1, math.floor(R * eta**-s)) for s in range(largest, -1, -1)]
        seed = random_seed(self.random_state)
        settings = list(ParameterSampler(self.param_distributions, sum(sizes), random_state=seed))
        brackets, start = [], 0
        for n, first in zip(sizes, firsts, strict=True):
            # A small grid has fewer settings than are asked for.
            numbers = list(range(start, min(start + n, len(settings))))
            start += n
            if numbers:
                brackets.append(Bracket(numbers, _rungs(len(numbers), first, R, eta)))
        return settings, brackets
