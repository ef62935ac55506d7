"""Callbacks: who watches a fit, set on any estimator, search or pipeline with ``set_callbacks``.

They follow scikit-learn's protocol (`sklearn.callback.FitCallback`), so that they can be mixed with its own, and hear of
what scikit-learn has no word for: sweeps, bytes, models in lockstep, workers. Your own callback hears it as well if it has a
method ``on_event(fit, event)``; the events are in `daskml_core.callback.events`.
"""

from daskml_core.callback._base import Callback
from daskml_core.callback._checkpoint import Checkpoint
from daskml_core.callback._dask_events import DaskEvents
from daskml_core.callback._early_stopping import EarlyStopping
from daskml_core.callback._history import History
from daskml_core.callback._progress import ProgressBar

__all__ = ["Callback", "Checkpoint", "DaskEvents", "EarlyStopping", "History", "ProgressBar"]
