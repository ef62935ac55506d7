"""A store's variables as features, target, weights and mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daskml_core.cli.names import suggestion


@dataclass(frozen=True)
class Wanted:
    """What the command line says of the data."""

    store: str
    features: tuple[str, ...] = ()
    target: str | None = None
    weight: str | None = None
    mask: str | None = None
    feature_dim: str | None = None
    group: str | None = None
    backend: Any = None
    version: str | None = None
    storage_options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Data:
    """Features, target and weights, lazy."""

    X: Any
    y: Any = None
    weight: Any = None

    def options(self, feature_dim: str | None) -> dict[str, Any]:
        """Keywords of ``fit`` beside X and y."""
        options = {} if self.weight is None else {"sample_weight": self.weight}
        return options if feature_dim is None else options | {"feature_dim": feature_dim}


def read(wanted: Wanted, names: Any = None) -> Data:
    """Features, target and weights out of a store.

    Parameters
    ----------
    wanted : where, and which variables; without ``features`` those of ``names`` if the store has them, else all that are
        not used in another way.
    names : names of the features of a model.

    Raises
    ------
    ValueError : variables that are not there.
    """
    from daskml_core.data import open as open_store

    opened = open_store(
        wanted.store,
        wanted.group,
        backend=wanted.backend,
        storage_options=dict(wanted.storage_options) or None,
        version=wanted.version,
    )
    if hasattr(opened, "data_vars"):
        return _of_dataset(opened, wanted, names)
    return _of_arrays(opened, wanted)


def _of_dataset(dataset: Any, wanted: Wanted, names: Any) -> Data:
    used = [name for name in (wanted.target, wanted.weight, wanted.mask) if name not in (None, "cos_lat")]
    features = list(wanted.features)
    if not features and names is not None and set(names) <= set(dataset.data_vars):
        features = list(names)
    features = features or [name for name in dataset.data_vars if name not in used]
    for name in (*features, *used):
        if name not in dataset.variables:
            raise ValueError(_lacks(wanted.store, str(name), [str(n) for n in dataset.variables]))
    of_text = [name for name in features if dataset[name].dtype.kind not in "fiub"]
    if of_text:
        raise ValueError(f"{', '.join(of_text)} in {wanted.store} holds no numbers. Name the features with --features.")
    mask = None if wanted.mask is None else dataset[wanted.mask].astype(bool)
    # One variable with a dimension of bands is a matrix, or an image; several are the features themselves.
    X = (
        dataset[features[0]]
        if len(features) == 1 and _has_feature_dim(dataset[features[0]], wanted)
        else dataset[features]
    )
    X = X if mask is None else X.where(mask)
    weight = dataset[wanted.weight] if wanted.weight not in (None, "cos_lat") else wanted.weight
    return Data(X, None if wanted.target is None else dataset[wanted.target], weight)


def _has_feature_dim(array: Any, wanted: Wanted) -> bool:
    from daskml_core.data.from_xarray import FEATURE_DIMS

    return wanted.feature_dim is not None or any(dim in FEATURE_DIMS for dim in array.dims)


def _of_arrays(opened: Any, wanted: Wanted) -> Data:
    """Plain zarr arrays: of a group, by name; or one that is the store itself."""
    if wanted.mask is not None or wanted.weight == "cos_lat":
        raise ValueError(
            f"{wanted.store} has no names for its dimensions; --mask and cos_lat are for stores that have."
        )
    if not hasattr(opened, "chunks"):
        known = sorted(str(name) for name, _ in opened.members(max_depth=None))
        if len(wanted.features) != 1:
            raise ValueError(f"Name the array that holds the features, e.g. --features X. {wanted.store} has: {known}.")
        found = {}
        for name in (wanted.features[0], wanted.target, wanted.weight):
            if name is not None and name not in known:
                raise ValueError(_lacks(wanted.store, name, known))
            found[name] = None if name is None else opened[name]
        return Data(found[wanted.features[0]], found.get(wanted.target), found.get(wanted.weight))
    if wanted.features or wanted.target or wanted.weight:
        raise ValueError(f"{wanted.store} is one array. Give the group that it lies in, to name others beside it.")
    return Data(opened)


def _lacks(store: str, name: str, known: list[str]) -> str:
    return f"{store} has no {name}.{suggestion(name, known)} It has: {', '.join(known)}."


def as_named(X: Any) -> Any:
    """X with names for its dimensions, so that what comes of it can be written; a zarr matrix has none of its own."""
    if not hasattr(X, "metadata"):
        return X
    from daskml_core.data.open_labelled import with_names

    return with_names(X, ("row", "feature"))
