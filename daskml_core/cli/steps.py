"""What each command does, without a word about how a command line is written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from daskml_core.cli.data import Data, Wanted, as_named, read
from daskml_core.cli.names import OF_LABELS, OF_PROBABILITIES, estimator, metric

Say = Callable[[str], None]


class AlreadyThere(ValueError):
    """A file that the command was to write, which holds something else."""


def fit(
    wanted: Wanted, name: str, settings: tuple[str, ...], *, out: str, checkpoint: str | None, overwrite: bool, say: Say
) -> None:
    """Fit an estimator and save it."""
    if "://" in out:
        raise ValueError(f"--out is a file on this machine, got {out}.")
    model = estimator(name, settings)
    if os.path.exists(out) and not overwrite:
        _refuse_other_model(model, out)
        say(
            f"{out} holds a {type(model).__name__} with these parameters already: nothing to do. --overwrite fits it anew."
        )
        return
    folder = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(folder):
        raise ValueError(f"There is no directory {folder} for the model.")
    data = read(wanted)
    options = data.options(wanted.feature_dim)
    if checkpoint is not None:
        _require("checkpoint", model)
        options["checkpoint"] = checkpoint
    if wanted.target is None and _needs_target(model):
        raise ValueError(f"{type(model).__name__} learns from a target: name it with --target.")
    if data.weight is not None:
        _require("sample_weight", model)
    started = time.perf_counter()
    model.fit(data.X, data.y, **options)
    say(_told(model, time.perf_counter() - started))
    model.save(out)
    say(f"Model written to {out}")


def _require(keyword: str, model: Any) -> None:
    import inspect

    if keyword not in inspect.signature(model.fit).parameters:
        raise ValueError(f"{type(model).__name__} takes no {keyword.replace('sample_', '')}.")


def _needs_target(model: Any) -> bool:
    from sklearn.base import is_classifier, is_regressor

    return bool(is_classifier(model) or is_regressor(model))


def _refuse_other_model(model: Any, out: str) -> None:
    """Refuse to replace a file that is no fitted model of the same class and parameters.

    Raises
    ------
    AlreadyThere
    """
    from daskml_core.errors import ModelFileError
    from daskml_core.model_file import load

    try:
        held = load(out)
    except ModelFileError:
        raise AlreadyThere(f"{out} is there and is no model of this library. Use another name for --out.") from None
    same = type(held) is type(model) and repr(held.get_params()) == repr(model.get_params())
    if not same:
        raise AlreadyThere(f"{out} holds another model: {held}. --overwrite replaces it.")


def _told(model: Any, seconds: float) -> str:
    parts = [f"{model.n_features_in_} features"]
    if hasattr(model, "n_sweeps_"):
        parts.append(f"{model.n_sweeps_:g} sweeps")
    if hasattr(model, "n_iter_"):
        parts.append(f"{model.n_iter_} iterations")
    if hasattr(model, "inertia_"):
        parts.append(f"inertia {model.inertia_:.6g}")
    converged = "" if getattr(model, "converged_", True) else ", not converged"
    return f"{type(model).__name__}: {', '.join(parts)}, {seconds:.1f} s{converged}"


def predict(
    wanted: Wanted,
    model_file: str,
    *,
    out: str,
    method: str,
    fill: int | None,
    out_options: dict[str, Any],
    overwrite: bool,
    say: Say,
) -> None:
    """Predict a store's samples and write what comes out."""
    from daskml_core.data.write import write
    from daskml_core.model_file import load

    model = load(model_file)
    if not hasattr(model, method):
        known = [m for m in ("predict", "predict_proba", "decision_function", "transform") if hasattr(model, m)]
        raise ValueError(f"A {type(model).__name__} has no {method}. It has: {', '.join(known)}.")
    data = read(wanted, _names(model))
    _set_feature_dim(model, wanted)
    result = getattr(model, method)(as_named(data.X))
    if result.name is None:
        result = result.rename(method)
    encoding = {}
    if fill is not None:
        if result.dtype.kind not in "fiu" or method != "predict":
            raise ValueError(f"--fill is for labels that are whole numbers; {method} gives {result.dtype}.")
        encoding = {str(result.name): {"dtype": "int32", "_FillValue": fill}}
    started = time.perf_counter()
    write(result, out, encoding=encoding, overwrite=overwrite, **out_options)
    sizes = ", ".join(f"{dim} {size}" for dim, size in result.sizes.items())
    say(f"{result.name} ({sizes}) written to {out}, {time.perf_counter() - started:.1f} s")


def _names(model: Any) -> Any:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _set_feature_dim(model: Any, wanted: Wanted) -> None:
    """Tell a model where the features are in this store; otherwise it goes by what its fit was told."""
    if wanted.feature_dim is not None:
        model._feature_dim = wanted.feature_dim


def score(wanted: Wanted, model_file: str, *, metric_name: str | None, say: Say) -> None:
    """Score a model on a store's samples."""
    from daskml_core.model_file import load

    model = load(model_file)
    data = read(wanted, _names(model))
    _set_feature_dim(model, wanted)
    if data.y is None and (metric_name is not None or _needs_target(model)):
        raise ValueError("A score compares with a target: name it with --target.")
    weight = {} if data.weight is None else {"sample_weight": data.weight}
    if metric_name is None:
        if not hasattr(model, "score"):
            raise ValueError(f"A {type(model).__name__} has no score of its own. Name one with --metric.")
        say(f"{model.score(data.X, data.y, **weight):.10g}")
        return
    function = metric(metric_name)
    short = metric_name.removesuffix("_score")
    say(f"{float(function(data.y, _predicted(model, data, short), **weight)):.10g}")


def _predicted(model: Any, data: Data, short: str) -> Any:
    """What a metric compares with the target."""
    if short in OF_LABELS:
        return model.predict(data.X)
    if short not in OF_PROBABILITIES and hasattr(model, "decision_function"):
        return model.decision_function(data.X)
    if not hasattr(model, "predict_proba"):
        raise ValueError(f"{short} needs probabilities, which a {type(model).__name__} does not give.")
    probability = model.predict_proba(data.X)
    return probability if short in OF_PROBABILITIES else probability[..., 1]


def plan(wanted: Wanted, name: str, settings: tuple[str, ...], *, say: Say) -> None:
    """Say what a fit would do."""
    model = estimator(name, settings)
    if not hasattr(model, "plan"):
        raise ValueError(f"A {type(model).__name__} makes no plan.")
    data = read(wanted)
    if wanted.target is None and _needs_target(model):
        raise ValueError(f"{type(model).__name__} learns from a target: name it with --target.")
    say(repr(model.plan(data.X, data.y, **data.options(wanted.feature_dim))))


def verify(wanted: Wanted, *, manifest_file: str | None, save_manifest: str | None, allow_nan: bool, say: Say) -> bool:
    """Read every chunk of a store; whether nothing is wrong."""
    from daskml_core.data.open import unchecked
    from daskml_core.data.verification import Manifest, manifest
    from daskml_core.data.verification import verify as examine

    options = {"backend": wanted.backend, "version": wanted.version}
    store = unchecked(wanted.store, wanted.group, storage_options=dict(wanted.storage_options) or None, **options)
    if save_manifest is not None:
        manifest(store).save(save_manifest)
        say(f"Manifest written to {save_manifest}")
        return True
    report = examine(store, None if manifest_file is None else Manifest.load(manifest_file))
    if allow_nan:
        report = replace(report, arrays=tuple(replace(array, nan=()) for array in report.arrays))
    say(repr(report))
    return bool(report.ok)
