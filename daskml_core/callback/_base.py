"""What the callbacks share: scikit-learn's four hooks, which do nothing, and an ear for events."""

from __future__ import annotations

from typing import Any

from daskml_core.engine.events import Event


class Callback:
    """Base of this library's callbacks, and of your own.

    Overwrite what you need. One instance may watch several fits, also at a time: ``fit`` tells them apart, and
    `sklearn.base.clone` hands callbacks on as they are, as scikit-learn has it.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.callback import Callback, events
    >>> from daskml_core.linear_model import LogisticRegression
    >>> class Losses(Callback):
    ...     def on_event(self, fit, event):
    ...         if isinstance(event, events.StepAccepted):
    ...             print(f"{event.loss:.3f}")
    >>> X = np.arange(-5.0, 5.0)[:, None]
    >>> _ = LogisticRegression(solver="lbfgs", tol=0.5).set_callbacks(Losses()).fit(X, X[:, 0] > 0)
    0.673
    0.289
    """

    def setup(self, estimator: Any, context: Any) -> None:
        """A fit begins."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """A fit, or a step of it, begins."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool | None:
        """A fit, or a step of it, has ended; true stops the fit there."""
        return None

    def teardown(self, estimator: Any, context: Any) -> None:
        """The fit is over, however it ended."""

    def on_event(self, fit: str, event: Event) -> str | None:
        """Something has happened in a fit. To a step: why its model should stop there, or nothing."""
        return None


class Propagated(Callback):
    """A callback that a meta-estimator of scikit-learn hands on to what it trains."""

    @property
    def max_propagation_depth(self) -> int | None:
        """scikit-learn's: how deep it is handed on; ``None`` is all the way."""
        return None
