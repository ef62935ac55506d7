"""``dask ml ...``, also as ``python -m daskml_core ...``.

Dask imports this module whenever ``dask`` is called, so it imports click alone; each command imports what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

__all__ = ["ml"]

Command = Callable[..., Any]
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Names(click.ParamType):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class _Pair(click.ParamType):
    """``name=value``, the value as Python writes it."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        from daskml_core.cli.names import value_of

        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is no name=value", param, ctx)
        return key, value_of(text)


def _together(*options: Command) -> Command:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_of_data = _together(
    click.argument("store"),
    click.option("--group", metavar="PATH", help="Group in the store, e.g. weather/daily."),
    click.option("--backend", type=click.Choice(["fsspec", "obstore"]), help="Library that goes to a URL."),
    click.option("--version", "version", metavar="NAME", help="Branch, tag or snapshot of an icechunk repository."),
    click.option(
        "--storage-option", "storage_options", type=_Pair(), multiple=True, metavar="NAME=VALUE",
        help="Option of that library, e.g. anon=true or endpoint_url=http://... Repeat for more.",
    ),
)  # fmt: skip

_of_features = _together(
    click.option(
        "--features", type=_Names(), default=(), metavar="A,B,...",
        help="Variables that are the features; in a group of plain arrays the one that holds them.  [default: all]",
    ),
    click.option("--feature-dim", metavar="DIM", help="Dimension that holds the features, of one variable (band, ...)."),
    click.option("--mask", metavar="NAME", help="Variable that is true where samples count."),
)  # fmt: skip

_of_target = click.option("--target", metavar="NAME", help="Variable to learn, or to compare with.")
_of_weight = click.option("--weight", metavar="NAME", help="Variable of sample weights, or cos_lat.")
_of_estimator = _together(
    click.argument("estimator"),
    click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Parameter, e.g. n_clusters=8. Repeat for more."
    ),
)

_of_session = _together(
    click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to run on, e.g. tcp://node17:8786."),
    click.option(
        "--scheduler-file", metavar="FILE", help="File that `dask scheduler --scheduler-file` writes; waited for."
    ),
    click.option("--workers", "n_workers", default=1, show_default=True, help="Workers to wait for on that scheduler."),
    click.option(
        "--wait", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait for each of them."
    ),
    click.option("--memory-limit", metavar="SIZE", help="Memory of each process, e.g. 4GiB."),
    click.option(
        "--config",
        type=_Pair(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Setting of daskml-core, e.g. missing-chunks=fill. Repeat for more.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Only say what goes wrong."),
    click.option("--debug", is_flag=True, help="Show where an error came from."),
)

_SESSION = ("scheduler", "scheduler_file", "n_workers", "wait", "quiet", "debug")
_WANTED = (
    "store",
    "features",
    "target",
    "weight",
    "mask",
    "feature_dim",
    "group",
    "backend",
    "version",
    "storage_options",
)


def _run(given: dict[str, Any], step: Callable[[Any, Any], Any], again: str | None = None) -> Any:
    """Run a command's step within its session; what it says goes to standard output."""
    from daskml_core.cli.session import running

    if given.get("scheduler") and given.get("scheduler_file"):
        raise click.UsageError("--scheduler and --scheduler-file say the same: give one.")
    settings = dict(given["config"]) | ({"memory-limit": given["memory_limit"]} if given["memory_limit"] else {})
    with running(**{name: given[name] for name in _SESSION}, settings=settings, again=again):
        from daskml_core.cli.data import Wanted

        wanted = Wanted(**{name: given[name] for name in _WANTED if name in given})

        def say(text: str) -> None:
            if not given["quiet"]:
                click.echo(text)

        return step(wanted, say)


@click.group(context_settings=SETTINGS)
def ml() -> None:
    """Models on arrays that do not fit in memory: fit, predict and score zarr stores.

    STORE is the path or URL of a zarr store, MODEL the file of a fitted model.

    \b
      dask ml plan    weather.zarr KMeans --features t2m,u10,v10 --set n_clusters=8
      dask ml fit     weather.zarr KMeans --features t2m,u10,v10 --set n_clusters=8 --out regimes.model
      dask ml predict weather.zarr regimes.model --out regimes.zarr --fill -1

    A command that was interrupted goes on where it stopped when it is given again: fit with
    --checkpoint, predict always.
    """


@ml.command()
@_of_data
@_of_estimator
@_of_features
@_of_target
@_of_weight
@click.option("--out", required=True, metavar="FILE", help="File for the model.")
@click.option(
    "--checkpoint", metavar="PATH", help="Where to keep what has been learnt, to go on after an interruption."
)
@click.option("--overwrite", is_flag=True, help="Replace a model that is there.")
@_of_session
def fit(**given: Any) -> None:
    """Fit ESTIMATOR to STORE and save the model.

    \b
      dask ml fit weather.zarr KMeans --features t2m,u10,v10 --set n_clusters=8 --out regimes.model
      dask ml fit s3://bucket/flights.zarr LogisticRegression --features X --target late \\
          --checkpoint run/ckpt --scheduler-file scheduler.json --out late.model

    The features of a grid are its variables, its samples all other dimensions. Samples that lack a
    value are left out. `dask ml estimators` lists the estimators.

    With --checkpoint the same command goes on after an interruption, to the same model. Where the
    model is there already nothing is done.
    """
    from daskml_core.cli import steps

    path = given["checkpoint"]
    again = f"The same command goes on from {path}." if path else "With --checkpoint it could have gone on."
    _run(
        given,
        lambda wanted, say: steps.fit(
            wanted, given["estimator"], given["settings"],
            out=given["out"], checkpoint=path, overwrite=given["overwrite"], say=say,
        ),
        again,
    )  # fmt: skip


@ml.command()
@_of_data
@click.argument("model")
@_of_features
@click.option("--out", required=True, metavar="STORE", help="Path or URL of the zarr store to write.")
@click.option(
    "--method", default="predict", show_default=True,
    type=click.Choice(["predict", "predict_proba", "decision_function", "transform"]), help="What to ask of the model.",
)  # fmt: skip
@click.option("--fill", type=int, metavar="N", help="Write labels as whole numbers, N where a sample lacks a value.")
@click.option("--out-option", "out_options", type=_Pair(), multiple=True, metavar="NAME=VALUE",
              help="Storage option of --out; by default those of STORE if both are URLs.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@_of_session
def predict(**given: Any) -> None:
    """Predict STORE with MODEL, and write the result to another store.

    \b
      dask ml predict weather.zarr regimes.model --out regimes.zarr --fill -1
      dask ml predict flights.zarr late.model --features X --method predict_proba --out late.zarr

    Features are found by their names in the model. The result has the coordinates of STORE and its
    chunks. The same command goes on after an interruption, and does nothing where all is written.
    """
    from daskml_core.cli import steps

    out = given["out"]
    options: dict[str, Any] = {}
    if "://" in out and not out.startswith("file://"):
        same = out.partition("://")[0] == given["store"].partition("://")[0]
        chosen = given["out_options"] or (given["storage_options"] if same else ())
        options = {"backend": given["backend"], "storage_options": dict(chosen) or None}
    elif given["out_options"]:
        raise click.UsageError("--out-option is for a URL as --out.")
    _run(
        given,
        lambda wanted, say: steps.predict(
            wanted, given["model"], out=out, method=given["method"], fill=given["fill"], out_options=options,
            overwrite=given["overwrite"], say=say,
        ),
        f"The same command goes on with the blocks that {out} lacks.",
    )  # fmt: skip


@ml.command()
@_of_data
@click.argument("model")
@_of_features
@_of_target
@_of_weight
@click.option(
    "--metric", metavar="NAME", help="accuracy, f1, log_loss, roc_auc, r2, ...  [default: the model's own score]"
)
@_of_session
def score(**given: Any) -> None:
    """Score MODEL on STORE and print the number.

    \b
      dask ml score test.zarr late.model --features X --target late --metric roc_auc
    """
    from daskml_core.cli import steps

    given["quiet"] = False  # the number is the result
    _run(given, lambda wanted, say: steps.score(wanted, given["model"], metric_name=given["metric"], say=say))


@ml.command()
@_of_data
@_of_estimator
@_of_features
@_of_target
@_of_weight
@_of_session
def plan(**given: Any) -> None:
    """Say what a fit would do: blocks, bytes a sweep, memory. Features are not read.

    \b
      dask ml plan weather.zarr KMeans --features t2m,u10,v10 --set n_clusters=8 --memory-limit 2GiB
    """
    from daskml_core.cli import steps

    given["quiet"] = False
    _run(given, lambda wanted, say: steps.plan(wanted, given["estimator"], given["settings"], say=say))


@ml.command()
@_of_data
@click.option("--manifest", "manifest_file", metavar="FILE", help="Compare with what this file says of every chunk.")
@click.option("--save-manifest", metavar="FILE", help="Write that file: a digest of every chunk's values.")
@click.option("--allow-nan", is_flag=True, help="NaN stands for samples that are masked, and is no problem.")
@_of_session
def verify(**given: Any) -> None:
    """Read every chunk of STORE and say what is missing, damaged, changed or not finite.

    \b
      dask ml verify weather.zarr
      dask ml verify weather.zarr --save-manifest weather.json
      dask ml verify weather.zarr --manifest weather.json --allow-nan

    Exits with 1 where anything is wrong.
    """
    from daskml_core.cli import steps

    if given["manifest_file"] and given["save_manifest"]:
        raise click.UsageError("--manifest compares, --save-manifest writes: give one.")
    sound = _run(
        given,
        lambda wanted, say: steps.verify(
            wanted,
            manifest_file=given["manifest_file"],
            save_manifest=given["save_manifest"],
            allow_nan=given["allow_nan"],
            say=say,
        ),
    )
    if not sound:
        raise SystemExit(1)


@ml.command()
@click.argument("name", required=False)
def estimators(name: str | None) -> None:
    """List the estimators, or the parameters of NAME with their defaults.

    \b
      dask ml estimators
      dask ml estimators KMeans
    """
    from daskml_core.cli.names import ESTIMATORS, estimator

    if name is None:
        for module, names in ESTIMATORS.items():
            click.echo(f"daskml_core.{module}")
            for other in names:
                click.echo(f"  {other}")
        return
    try:
        model = estimator(name, ())
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
    lines: Sequence[tuple[str, Any]] = sorted(model.get_params(deep=False).items())
    place = type(model).__module__.rpartition("._")[0]
    click.echo(f"{place}.{type(model).__name__}: {(type(model).__doc__ or '').splitlines()[0]}")
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        click.echo(f"  {key:<{width}}  {value!r}")
