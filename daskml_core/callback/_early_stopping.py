"""Stopping a fit before its solver would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from daskml_core.callback._base import Callback
from daskml_core.engine.events import Event, FitBegan, FitEnded, ModelsBegan, StepAccepted
from daskml_core.validate import is_count

MONITORS = ("loss", "gap", "score")


@dataclass
class _Best:
    """What one model has reached so far."""

    value: float = math.nan
    stale: int = 0


class EarlyStopping(Callback):
    """Stops a fit when it has become good enough, or no longer becomes better.

    The model is that of the step it was stopped at: nothing is taken back, and the best step is not looked for. A
    ConvergenceWarning says so, and ``converged_`` is False. Of models in lockstep each stops by itself.

    Parameters
    ----------
    monitor : {"loss", "gap", "score"}, default="loss"
        What is watched: the training loss (k-means: its inertia), the duality gap (support vector machines), or the
        score on held-out data, which costs a sweep over that data at each step.
    patience : int or None, default=3
        Steps without an improvement before it stops; ``None`` leaves that to ``threshold``.
    min_delta : float, default=1e-3
        What counts as an improvement, relative to the best value so far.
    threshold : float, optional
        Stops as soon as loss or gap is at most this, or the score at least this.
    validation : tuple (X, y) or (X, y, sample_weight), for ``monitor="score"``
        In any container; k-means takes ``(X, None)``.
    scoring : str or callable, optional
        Name of a metric, or ``scorer(model, X, y)``; the estimator's own ``score`` by default.

    Attributes
    ----------
    reason : str
        Why the last fit was stopped; empty where it was not.
    values : list of tuple (model, value)
        What was seen in the last fit, in the order of the steps.

    Notes
    -----
    Values that are not numbers yet (the inertia before the first sweep) are passed over. `BisectingKMeans` cannot be
    stopped: a tree that is half grown has fewer clusters than were asked for. Models that are found in one sweep (least
    squares from a Gram matrix, scalers) have no steps to stop at.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.callback import EarlyStopping
    >>> from daskml_core.linear_model import LogisticRegression
    >>> X, stop = np.arange(-5.0, 5.0)[:, None], EarlyStopping("loss", threshold=0.25)
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     model = LogisticRegression(solver="lbfgs").set_callbacks(stop).fit(X, X[:, 0] > 0)
    >>> model.converged_, model.n_iter_, stop.reason
    (False, 2, 'loss 0.236 is at the threshold of 0.25')
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        patience: int | None = 3,
        min_delta: float = 1e-3,
        threshold: float | None = None,
        validation: tuple[Any, ...] | None = None,
        scoring: Any = None,
    ) -> None:
        if monitor not in MONITORS:
            raise ValueError(f"monitor must be one of {list(MONITORS)}, got {monitor!r}.")
        if patience is not None and not is_count(patience):
            raise ValueError(f"patience must be a whole number above 0, or None, got {patience!r}.")
        if not isinstance(min_delta, int | float) or not min_delta >= 0:
            raise ValueError(f"min_delta must not be below 0, got {min_delta!r}.")
        if patience is None and threshold is None:
            raise ValueError("patience=None without a threshold would never stop a fit.")
        if (monitor == "score") != (validation is not None):
            raise ValueError('validation=(X, y) belongs to monitor="score", and that needs it.')
        if validation is not None and not (isinstance(validation, tuple) and len(validation) in (2, 3)):
            raise ValueError("validation must be a tuple (X, y) or (X, y, sample_weight).")
        if scoring is not None and monitor != "score":
            raise ValueError('scoring belongs to monitor="score".')
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.threshold = threshold
        self.validation = validation
        self.scoring = scoring
        self.reason = ""
        self.values: list[tuple[int, float]] = []
        self._best: dict[str, dict[int, _Best]] = {}
        self._at: tuple[str, int] = ("", 0)
        """The fit and the model of the step that is being looked at."""

    def on_event(self, fit: str, event: Event) -> str | None:
        if isinstance(event, FitBegan):
            self.reason, self.values = "", []
            self._best[fit] = {}
        elif isinstance(event, ModelsBegan):
            self._best[fit] = {}
        elif isinstance(event, FitEnded):
            self._best.pop(fit, None)
        elif isinstance(event, StepAccepted):
            self._at = (fit, event.model)
            if self.monitor == "score":
                if event.attributes is None:
                    raise TypeError(
                        "This fit has no model at its steps that could be scored (kernel machines, several classes one "
                        'against the rest, searches and pipelines). Use monitor="loss" or "gap".'
                    )
                return None  # the model comes with the end of the task
            value = event.loss if self.monitor == "loss" else event.record.get("gap")
            if value is None:
                raise ValueError(f"This fit tells of {sorted(event.record)}, but of no {self.monitor}.")
            return self._look(float(value)) or None
        return None

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
        if self.monitor != "score" or fitted_estimator is None or context.max_subtasks != 0:
            return False
        assert self.validation is not None
        return bool(self._look(self._score(fitted_estimator)))

    def _score(self, model: Any) -> float:
        from daskml_core.model_selection._run import call_scorer
        from daskml_core.model_selection._search import score_lazily

        assert self.validation is not None
        X, y, *weight = self.validation
        if isinstance(self.scoring, str) and not weight:
            return score_lazily(self.scoring, model, X, y)
        return call_scorer(self.scoring, model, X, y, *weight)

    def _look(self, value: float) -> str:
        """Why the model should stop at a value, or nothing."""
        fit, model = self._at
        self.values.append((model, value))
        if not math.isfinite(value):
            return ""
        up = self.monitor == "score"
        best = self._best.setdefault(fit, {}).setdefault(model, _Best())
        if self.threshold is not None and (value >= self.threshold if up else value <= self.threshold):
            return self._stop(f"{self.monitor} {value:.3g} is at the threshold of {self.threshold:g}")
        if math.isnan(best.value):
            best.value = value
            return ""
        gain = (value - best.value) if up else (best.value - value)
        if gain > self.min_delta * abs(best.value):
            best.value, best.stale = value, 0
            return ""
        best.stale += 1
        if self.patience is not None and best.stale >= self.patience:
            return self._stop(f"{self.monitor} has not improved by {self.min_delta:g} in {self.patience} steps")
        return ""

    def _stop(self, reason: str) -> str:
        self.reason = self.reason or reason
        return reason

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_best": {}}
