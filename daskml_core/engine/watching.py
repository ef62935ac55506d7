"""Who watches a fit: scikit-learn's callbacks set on the estimator, the progress display, the page on Dask's dashboard.

Everything that this library needs of scikit-learn's callbacks stands here. Of `sklearn.callback` the mixin, the context and
``with_callbacks`` are used. What it has no public way for are two things: which callbacks an estimator has
(``_skl_callbacks``, the name that `clone` knows too), and ``_init_callback_context``, which its own documentation tells
developers of estimators to call.
"""

from __future__ import annotations

import functools
import inspect
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from sklearn.callback import with_callbacks

from daskml_core.engine.events import (
    Event,
    FitBegan,
    FitEnded,
    Listener,
    StepAccepted,
    SweepBegan,
    Watch,
    current_watch,
    watched_by,
)
from daskml_core.errors import ConvergenceWarning, FitInterrupted

P = ParamSpec("P")
R = TypeVar("R")


def callbacks_of(estimator: Any) -> Sequence[Any]:
    """The callbacks that ``estimator.set_callbacks`` was given, and those that a meta-estimator has handed on to it."""
    return getattr(estimator, "_skl_callbacks", ())


@with_callbacks
def _tear_down(estimator: Any) -> None:
    """Leave the context that `with_callbacks` keeps: callbacks whose setup began are told that the fit is over."""


@contextmanager
def apart() -> Iterator[None]:
    """While a callback has a sweep made (to score a model), which is none of the fit's, nor of its checkpoint's."""
    from daskml_core.engine.checkpoint import _aside

    with watched_by(None), _aside():
        yield


class Tasks:
    """The tree of tasks that scikit-learn's callbacks are told of: a fit, and in it one task a step of a solver.

    How many steps there will be is not known, so that `sklearn.callback.ProgressBar` shows a bar without an end.
    """

    def __init__(self, estimator: Any, given: Mapping[str, Any]) -> None:
        self.estimator = estimator
        self.data = {"X": given.get("X"), "y": given.get("y")}
        weight = given.get("sample_weight")
        self.data["metadata"] = None if weight is None else {"sample_weight": weight}
        self._root: Any = None
        self._step: Any = None
        self._began = False

    def begin(self) -> None:
        """Set the callbacks up, and begin the task of the whole fit."""
        self._began = True  # with a callback whose setup fails the others are torn down
        self._root = self.estimator._init_callback_context(max_subtasks=None)
        self._root.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def __call__(self, event: Event) -> str | None:
        """Tasks begin with a sweep and end with the step that came of it."""
        if self._root is None:
            return None
        if not isinstance(event, SweepBegan | StepAccepted):
            return None
        with apart():
            return self._tell(event)

    def _tell(self, event: SweepBegan | StepAccepted) -> str | None:
        if isinstance(event, SweepBegan) and self._step is None:
            self._step = self._root.subcontext(task_name="step")
            self._step.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        if isinstance(event, StepAccepted) and self._step is not None and self._end_step(event.attributes):
            return next((cb.reason for cb in callbacks_of(self.estimator) if getattr(cb, "reason", "")), "as asked")
        return None

    def _end_step(self, attributes: Callable[[], dict[str, Any]] | None) -> bool:
        step, self._step = self._step, None
        stop: bool = step.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=attributes, **self.data
        )
        return stop

    def end(self) -> None:
        """The fit has its model."""
        if self._root is None:
            return
        if self._step is not None:  # of sweeps that were no solver's step
            self._end_step(None)
        self._root.call_on_fit_task_end(estimator=self.estimator, reconstruction_attributes=dict, **self.data)

    def tear_down(self) -> None:
        """Let the callbacks go, however the fit has ended."""
        if self._began:
            _tear_down(self.estimator)


def begin_tasks(estimator: Any) -> None:
    """Begin the tasks of an estimator that has waited with them (``_begins_tasks``): another way may have its own."""
    watch = current_watch()
    for listener in () if watch is None else watch.listeners:
        if isinstance(listener, Tasks) and listener.estimator is estimator:
            listener.begin()


def stopped_early() -> bool:
    """Whether a callback has stopped the fit that is running: it is told at the end, once, what the model then is."""
    watch = current_watch()
    return watch is not None and bool(watch.stopped)


def callback_failed() -> bool:
    """Whether a callback has raised in the fit that is running: that is not the failure of one of its models."""
    watch = current_watch()
    return watch is not None and watch.failed


def _names_of(subject: Any, function: Callable[..., Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the estimator and of those within it."""
    if subject is None:
        inner = given.get("estimator")
        return (function.__name__, *(() if inner is None else _names_of(inner, function, {})))
    names = [type(subject).__name__]
    for _, step in getattr(subject, "steps", ()):
        names += [type(step).__name__] if hasattr(step, "get_params") else []
    inner = getattr(subject, "estimator", None)
    return (*names, *(() if inner is None else _names_of(inner, function, {})))


def _listeners(fit: str, callbacks: Sequence[Any], outer: Watch | None) -> list[Listener]:
    """Those who listen to this fit and not yet to one around it."""
    found: list[Listener] = [
        functools.partial(callback.on_event, fit)
        for callback in callbacks
        if hasattr(callback, "on_event") and (outer is None or not outer.has(callback))
    ]
    if outer is None:
        from daskml_core.engine.feed import feed_of_this_fit
        from daskml_core.engine.progress import display_of_this_fit

        # Whoever has chosen a bar, this library's or scikit-learn's, wants no other.
        display = None if any(type(cb).__name__ == "ProgressBar" for cb in callbacks) else display_of_this_fit()
        feed = None if any(hasattr(cb, "topic") for cb in callbacks) else feed_of_this_fit()
        found += [listener for listener in (display, feed) if listener is not None]
    return found


def _number(subject: Any, name: str) -> float | None:
    """A setting of the estimator, or of the last one within it."""
    while not hasattr(subject, name):
        inner = getattr(subject, "estimator", None)
        steps = getattr(subject, "steps", None)
        subject = inner if inner is not None else steps[-1][1] if steps else None
        if subject is None:
            return None
    value = getattr(subject, name)
    return float(value) if isinstance(value, int | float) and value > 0 else None


@contextmanager
def watching(
    function: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Tell whoever watches of a call of ``fit``; gives the keyword arguments to call it with.

    They have the checkpoint of a `daskml_core.callback.Checkpoint`, where there is one.
    """
    subject = args[0] if args and "self" in signature.parameters else None
    outer, fit, callbacks = current_watch(), uuid.uuid4().hex, callbacks_of(subject)
    listeners = _listeners(fit, callbacks, outer)
    if not listeners and not callbacks:
        yield kwargs  # nobody watches, or only those around
        return
    given = signature.bind_partial(*args, **kwargs).arguments
    kwargs = _with_checkpoint(subject, signature, kwargs)
    tasks = Tasks(subject, given) if callbacks else None
    watch = Watch([*listeners, *([] if tasks is None else [tasks])], outer, callbacks)
    model = given.get("estimator") if subject is None else subject
    checkpoint = kwargs.get("checkpoint")
    began = FitBegan(
        fit,
        _names_of(subject, function, given),
        _number(model, "tol"),
        _number(model, "max_iter"),
        None if checkpoint is None else str(checkpoint),
    )
    started = time.perf_counter()
    try:
        with watched_by(watch):
            watch.tell_own(began)
            if tasks is not None and not getattr(subject, "_begins_tasks", False):
                tasks.begin()
            yield kwargs
            if tasks is not None:
                tasks.end()
            if watch.stopped and outer is None:
                warnings.warn(
                    f"{began.estimators[0]} was stopped early ({watch.stopped}): the model is that of the step it was "
                    "stopped at, and has not converged.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
    except BaseException as error:
        interrupted = isinstance(error, FitInterrupted | KeyboardInterrupt)
        _close(watch, tasks, "interrupted" if interrupted else "failed", started, error)
        raise
    _close(watch, tasks, "stopped" if watch.stopped else "done", started)


def _close(watch: Watch, tasks: Tasks | None, outcome: str, started: float, error: BaseException | None = None) -> None:
    """Tell everyone that the fit is over. What fails then does not hide what the fit failed of."""
    reason = watch.stopped if error is None else f"{type(error).__name__}: {error}"
    event = FitEnded(outcome, time.perf_counter() - started, watch.n_sweeps, watch.bytes_read, reason)
    failed: list[Exception] = []
    ends: list[Callable[[], Any]] = [functools.partial(listener, event) for listener in watch.listeners]
    for end in [*ends, *([] if tasks is None else [tasks.tear_down])]:
        try:
            end()
        except Exception as late:
            failed.append(late)
    if error is not None:
        for other in failed:
            error.add_note(f"A callback failed as well when the fit was over: {type(other).__name__}: {other}")
    elif failed:
        raise failed[0]


def _with_checkpoint(subject: Any, signature: inspect.Signature, kwargs: dict[str, Any]) -> dict[str, Any]:
    path = next((cb.checkpoint for cb in callbacks_of(subject) if hasattr(cb, "checkpoint")), None)
    if path is None or kwargs.get("checkpoint") is not None:
        return kwargs
    if "checkpoint" not in signature.parameters:
        raise TypeError(f"{type(subject).__name__} keeps no checkpoint: its fit reads no data. Take the callback away.")
    return {**kwargs, "checkpoint": path}


def watched(function: Callable[P, R]) -> Callable[P, R]:
    """A fit of few sweeps that can be watched, without a checkpoint. Fits that are `resumable` can be watched anyway."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with watching(function, signature, args, kwargs) as given:
            return function(*args, **given)

    return run
