"""Fits that go on where they were interrupted, as a callback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from daskml_core.callback._base import Callback
from daskml_core.data.kind import package_of
from daskml_core.engine.events import CheckpointWritten, Event, FitBegan
from daskml_core.engine.segments import is_url


class Checkpoint(Callback):
    """Keeps what the sweeps of a fit have answered, so that the same fit called again goes on from there.

    The same as ``fit(..., checkpoint=path)``, for where fit is called by somebody else. A ``checkpoint`` that fit is given
    itself has precedence.

    Parameters
    ----------
    path : directory or URL. What is kept there is removed when the fit is done.

    Attributes
    ----------
    n_written : int
        Times that it was written in the last fit.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from daskml_core.callback import Checkpoint
    >>> from daskml_core.linear_model import Ridge
    >>> X = np.arange(20.0).reshape(10, 2)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = Ridge().set_callbacks(Checkpoint(f"{directory}/ridge")).fit(X, X[:, 0])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be that of a directory, or a URL, got {path!r}.")
        self.checkpoint = path if is_url(path) else Path(path)
        self.n_written = 0

    def setup(self, estimator: Any, context: Any) -> None:
        if not hasattr(estimator, "n_sweeps_") and package_of(estimator) != "daskml_core":
            raise TypeError(f"{type(estimator).__name__} is not of this library, and keeps no checkpoint.")

    def on_event(self, fit: str, event: Event) -> None:
        if isinstance(event, FitBegan):
            self.n_written = 0
        self.n_written += isinstance(event, CheckpointWritten)
