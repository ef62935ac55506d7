"""Regions of the Pacific whose winters warm and cool together: k-means on a grid, from zarr to zarr, and a map of it.

Sea surface temperature anomalies, 50 winters on 18 x 30 places, from the package eofs. Each place is a sample, its winters
are the features; land is NaN and stays NaN. Run: ``python examples/ocean_regions.py``.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daskml_core
from daskml_core.cluster import KMeans

K = 5


def anomalies() -> xr.DataArray:
    """Sea surface temperature anomalies (time, latitude, longitude), land NaN."""
    spec = importlib.util.find_spec("eofs")
    if spec is None or spec.origin is None:
        sys.exit("The data are in the package eofs: pip install 'daskml_core[examples]'")
    path = Path(spec.origin).parent / "examples" / "example_data" / "sst_ndjfm_anom.nc"
    with xr.open_dataset(path, engine="scipy") as ds:
        return ds["sst"].load().astype("f4")


def draw(regions: xr.DataArray, centers: np.ndarray, path: Path) -> None:
    """The map of the regions, and their winters."""
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(centers)))
    figure, (where, when) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1, 1.2), layout="constrained")
    mesh = regions.transpose("latitude", "longitude")
    where.pcolormesh(mesh.longitude, mesh.latitude, mesh, cmap=matplotlib.colors.ListedColormap(colours))
    where.set(
        title=f"{len(centers)} regions of the Pacific", xlabel="degrees east", ylabel="degrees north", aspect="equal"
    )
    where.set_facecolor("0.85")
    for center, colour in zip(centers, colours, strict=True):
        when.plot(1963 + np.arange(centers.shape[1]), center, color=colour, linewidth=1.2)
    when.set(title="Mean anomaly of each region", xlabel="winter", ylabel="anomaly in K")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(directory: Path) -> None:
    """Write the data to zarr, cluster them, write the labels back, and draw them."""
    directory.mkdir(parents=True, exist_ok=True)
    picture = directory / "ocean_regions.png"
    with tempfile.TemporaryDirectory() as folder:
        anomalies().chunk(latitude=6).to_zarr(f"{folder}/sst.zarr", consolidated=False)
        sst = xr.open_zarr(f"{folder}/sst.zarr", consolidated=False)["sst"]
        model = KMeans(K, random_state=0).fit(sst, sample_weight="cos_lat", feature_dim="time")
        order = np.argsort(model.cluster_centers_.std(axis=1))[::-1]
        print(
            f"{int(model.cluster_sizes_.sum())} places in the sea, {model.n_sweeps_:g} sweeps, {model.n_iter_} iterations"
        )

        # Written block by block; running it again after an interruption would go on where it stopped.
        labels = model.predict(sst)
        daskml_core.write(labels, f"{folder}/regions.zarr", encoding={"label": {"dtype": "i1", "_FillValue": -1}})
        regions = xr.open_zarr(f"{folder}/regions.zarr", consolidated=False)["label"].load()
        ranks = xr.DataArray(np.argsort(order), dims="cluster")
        ranked = ranks.isel(cluster=regions.fillna(0).astype(int)).where(regions.notnull())
        draw(ranked, model.cluster_centers_[order], picture)
        for rank, j in enumerate(order):
            swing = model.cluster_centers_[j].std()
            print(f"  region {rank}: {int(model.cluster_sizes_[j]):4d} places, winters differ by {swing:.2f} K")
    print(f"wrote {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data"))
