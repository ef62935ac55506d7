"""What support vector machines learn of two interleaved crescents: a picture.

Run: ``python examples/svm_regions.py [directory]``.
"""

# %%
import sys
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from daskml_core.kernel_approximation import Nystroem
from daskml_core.svm import SVC, DecisionRegionDisplay, LinearSVC

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
directory.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Two crescents with noise, in blocks

# %%
rng = np.random.default_rng(0)
n_rows, noise = 20_000, 0.22
upper = rng.random(n_rows) < 0.5
angle = np.pi * rng.random(n_rows)
points = np.where(upper, [np.cos(angle), np.sin(angle)], [1 - np.cos(angle), 0.5 - np.sin(angle)]).T
points += noise * rng.normal(size=points.shape)
X, y = da.from_array(points, chunks=(2_000, 2)), da.from_array(np.where(upper, "upper", "lower"), chunks=2_000)

# %% [markdown]
# ## Three machines
# A linear machine; the same on features that approximate a kernel, on as many rows as there are; and a machine with the
# kernel itself. That one sees fewer rows here, so that its support vectors can be told apart in the picture.

# %%
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
figure.savefig(directory / "svm_regions.png", dpi=150)
print(f"written to {directory / 'svm_regions.png'}")
