"""Coefficients against scikit-learn's on real data: flights, magic, breast cancer, digits; C from 1e-4 to 1e4."""

from __future__ import annotations

import warnings

import numpy as np
from common import gate, table
from real_data import standardised, two_class_sets
from sklearn import datasets
from sklearn import linear_model as reference

from daskml_core import linear_model


def problems():
    """Real data sets as they are, float64."""
    yield "digits", *datasets.load_digits(return_X_y=True)
    yield from two_class_sets()


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
