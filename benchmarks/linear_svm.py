"""Linear machines: agreement with liblinear, 4M x 50 rows, gaps that are true; Nystroem features in front of one."""

from __future__ import annotations

import warnings

import numpy as np
from common import gate, table, timed, two_class_store
from sklearn import svm as reference
from sklearn.pipeline import make_pipeline

from daskml_core.kernel_approximation import Nystroem
from daskml_core.svm import LinearSVC, LinearSVR


def objective(model, X, y, power: int) -> float:
    """``1/2 |w|^2 + sum max(0, 1 - t z)^power``, in float64 over tiles."""
    w, b = model.coef_[0].astype(np.float64), float(model.intercept_[0])
    total = w @ w / 2
    for lo in range(0, len(X), 200_000):
        z = X[lo : lo + 200_000] @ w + b
        total += (np.maximum(0, 1 - np.where(y[lo : lo + 200_000], 1, -1) * z) ** power).sum()
    return float(total)


def agreement(X, y) -> list[bool]:
    """Coefficients against liblinear's with the same penalised intercept, on rows that fit both."""
    rows, held = [], []
    for C in (1e-3, 1.0, 100.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, _, slow = timed(
                lambda c=C: reference.LinearSVC(C=c, tol=1e-8, dual=False, max_iter=10_000).fit(X, y)
            )
        ours, _, cpu = timed(lambda c=C: LinearSVC(C=c, tol=1e-5, intercept_scaling=1.0).fit(X, y))
        error = float(np.abs(ours.coef_ - theirs.coef_).max() / np.abs(theirs.coef_).max())
        rows.append([C, error, ours.n_sweeps_, cpu, slow])
        held.append(error <= 1e-5 and ours.n_sweeps_ <= 6)
    columns = ["C", "difference of coefficients", "sweeps", "CPU s", "liblinear, tight, CPU s"]
    table(f"Squared hinge on {len(X):,} x {X.shape[1]} against liblinear, tol=1e-5", columns, rows)
    return held


def main() -> None:
    """Print the tables and the gates."""
    store = two_class_store()
    X, y = store["X"][:], store["y"][:]
    quarter = slice(0, 1_000_000)
    LinearSVC().fit(X[:60_000], y[:60_000])  # load the compiled kernels
    held = agreement(X[: 4 * 10**5].astype(np.float64), y[: 4 * 10**5])

    rows = []

    def add(name, fit, rows_of, power):
        model, wall, cpu = timed(fit)
        sweeps = getattr(model, "n_sweeps_", np.nan)
        gap = getattr(model, "duality_gap_", np.nan)
        value = objective(model, X[rows_of], y[rows_of], power)
        rows.append([name, wall, cpu, sweeps, f"{gap:.1e}", value])
        return model, cpu, value

    every = slice(None)
    squared, _, _ = add("squared hinge, from zarr", lambda: LinearSVC().fit(store["X"], store["y"]), every, 2)
    add("squared hinge, NumPy", lambda: LinearSVC().fit(X, y), every, 2)
    hinge, _, _ = add("hinge, from zarr", lambda: LinearSVC(loss="hinge").fit(store["X"], store["y"]), every, 1)
    add("hinge, NumPy", lambda: LinearSVC(loss="hinge").fit(X, y), every, 1)
    tight, _, best = add("hinge, gap 1e-8, NumPy", lambda: LinearSVC(loss="hinge", tol=1e-8).fit(X, y), every, 1)
    order = np.lexsort([X[quarter, 0], y[quarter]])
    add("  1M rows: squared hinge", lambda: LinearSVC().fit(X[quarter], y[quarter]), quarter, 2)
    ours = rows[-1][2]
    add("  1M rows: hinge", lambda: LinearSVC(loss="hinge").fit(X[quarter], y[quarter]), quarter, 1)
    Xs, ys = X[quarter][order], y[quarter][order]
    add("  1M rows: hinge, sorted", lambda: LinearSVC(loss="hinge").fit(Xs, ys), quarter, 1)
    add(
        "  1M rows: liblinear, squared", lambda: reference.LinearSVC(dual=False).fit(X[quarter], y[quarter]), quarter, 2
    )
    theirs = rows[-1][2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = slice(0, 100_000)
        add(
            "  100k rows: liblinear, hinge (not converged)",
            lambda: reference.LinearSVC(loss="hinge", max_iter=100).fit(X[few], y[few]),
            few,
            1,
        )
    table("4M x 50 float32", ["fit", "wall s", "CPU s", "sweeps", "gap", "objective"], rows)

    target = X @ np.linspace(-1, 1, X.shape[1], dtype=np.float32) + np.where(y, 0.5, -0.5)
    tube, wall, cpu = timed(lambda: LinearSVR(epsilon=0.1).fit(X, target))
    squares = np.square(X[:, :2]).sum(axis=1)
    ring = squares > 1.4
    pipeline = make_pipeline(Nystroem(gamma=0.5, n_components=50), LinearSVC())
    _, wall_n, cpu_n = timed(lambda: pipeline.fit(X[quarter, :2], ring[quarter]))
    table(
        "Others",
        ["fit", "wall s", "CPU s", "sweeps", "gap", "score"],
        [
            ["LinearSVR, 4M x 50", wall, cpu, tube.n_sweeps_, f"{tube.duality_gap_:.1e}", np.nan],
            [
                "Nystroem(50) + LinearSVC, 1M x 2",
                wall_n,
                cpu_n,
                pipeline[-1].n_sweeps_,
                "-",
                float(pipeline.score(X[:50_000, :2], ring[:50_000])),
            ],
        ],
    )
    gate("squared hinge: coefficients equal to liblinear's to 1e-5 in at most 6 sweeps", all(held))
    gate("4M x 50, squared hinge in at most 6 sweeps", squared.n_sweeps_ <= 6)
    gate(
        "4M x 50, hinge to a relative gap of 1e-4 in at most 6 sweeps",
        hinge.duality_gap_ <= 1e-4 and hinge.n_sweeps_ <= 6,
    )
    gate("that gap is true", objective(hinge, X, y, 1) / best - 1 <= hinge.duality_gap_ + tight.duality_gap_)
    gate("1M rows: squared hinge takes less CPU time than liblinear", ours < theirs)


if __name__ == "__main__":
    main()
