"""What support vector machines learn of two interleaved crescents: a picture.

``python examples/svm_regions.py [directory]``
"""

from __future__ import annotations

import sys
from pathlib import Path

import dask.array as da
import matplotlib
import numpy as np
from sklearn.pipeline import make_pipeline

from daskml_core.kernel_approximation import Nystroem
from daskml_core.svm import SVC, DecisionRegionDisplay, LinearSVC

matplotlib.use("Agg")  # a file, not a window


def crescents(n_rows: int = 20_000, noise: float = 0.22, chunk: int = 2_000) -> tuple[da.Array, da.Array]:
    """Two crescents with noise, in blocks."""
    rng = np.random.default_rng(0)
    upper = rng.random(n_rows) < 0.5
    angle = np.pi * rng.random(n_rows)
    X = np.where(upper, [np.cos(angle), np.sin(angle)], [1 - np.cos(angle), 0.5 - np.sin(angle)]).T
    X += noise * rng.normal(size=X.shape)
    return da.from_array(X, chunks=(chunk, 2)), da.from_array(np.where(upper, "upper", "lower"), chunks=chunk)


def main(directory: Path) -> None:
    """Fit three machines and draw them side by side."""
    import matplotlib.pyplot as plt

    X, y = crescents()
    # The kernel machine sees fewer rows, so that its support vectors can be told apart in the picture.
    few = X[:600], y[:600]
    machines = [
        ("LinearSVC", LinearSVC(loss="hinge"), (X, y)),
        ("Nystroem + LinearSVC", make_pipeline(Nystroem(gamma=2.0, n_components=100), LinearSVC(loss="hinge")), (X, y)),
        ("SVC, 600 rows", SVC(gamma=2.0, C=1.0), few),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharex=True, sharey=True, layout="constrained")
    for ax, (name, model, (rows, labels)) in zip(axes, machines, strict=True):
        model.fit(rows, labels)
        accuracy = float(model.score(X, y))
        DecisionRegionDisplay.from_estimator(
            model, rows, labels, ax=ax, n_points=600, title=f"{name}: accuracy {accuracy:.3f}"
        )
        print(f"{name}: accuracy {accuracy:.4f}")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "svm_regions.png"
    figure.savefig(path, dpi=150)
    print(f"written to {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data"))
