"""A cube larger than memory: clustered, predicted and written back under a limit, in one process that is measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import xarray as xr
import zarr
from common import SCRATCH, gate, table

MiB = 1 << 20
TIME, LAT, LON, STEP = 2000, 500, 1000, 20
"""Two variables of float32: 8 GB in 200 chunks of 40 MB."""

LIMIT = 2 << 30

CASE = """
import json, sys, time, warnings
import dask, xarray as xr
import daskml_core
from daskml_core.cluster import KMeans
warnings.simplefilter("ignore")
source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
dask.config.set({"daskml-core.memory-limit": limit, "num_workers": 2, "scheduler": "threads"})
told = {}
ds = xr.open_zarr(source, consolidated=False)
model = KMeans(8, random_state=0)
told["projected"] = model.plan(ds).projected_peak_bytes
start = time.perf_counter()
model.fit(ds)
told["fit"], told["sweeps"] = time.perf_counter() - start, model.n_sweeps_
start = time.perf_counter()
daskml_core.write(model.predict(ds), target, encoding={"label": {"dtype": "i1", "_FillValue": -1}})
told["write"] = time.perf_counter() - start
told["peak"] = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(told))
"""


def cube() -> str:
    """Path of the cube; written once."""
    path = SCRATCH / "cube.zarr"
    if not (SCRATCH / "cube.done").exists():
        shutil.rmtree(path, ignore_errors=True)
        rng = np.random.default_rng(0)
        lat, lon = np.linspace(-89.8, 89.8, LAT), np.arange(LON) * 0.36
        land = np.sin(np.deg2rad(lat))[:, None] * np.cos(np.deg2rad(lon))[None] > 0.4
        warm = 30 * np.cos(np.deg2rad(lat))[:, None] + np.sin(np.deg2rad(lon))[None]
        coords = {
            "time": np.arange(TIME),
            "lat": ("lat", lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
            "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        }
        template = xr.Dataset(coords=coords)
        template.to_zarr(path, mode="w", consolidated=False)
        group = zarr.open_group(path, mode="a")
        for name, scale in (("sst", 1.0), ("sss", 0.1)):
            array = group.create_array(
                name,
                shape=(TIME, LAT, LON),
                chunks=(STEP, LAT, LON),
                dtype="f4",
                dimension_names=("time", "lat", "lon"),
                compressors=zarr.codecs.ZstdCodec(level=1, checksum=True),
                attributes={"units": "1", "grid_mapping": "crs"},
                fill_value=float("nan"),
            )
            for lo in range(0, TIME, STEP):
                step = warm * scale + rng.integers(-8, 8, size=(STEP, LAT, LON)) * np.float32(scale / 4)
                array[lo : lo + STEP] = np.where(land, np.nan, step).astype("f4")
        (SCRATCH / "cube.done").touch()
    return str(path)


def main() -> None:
    """Print the table and the gates."""
    source, target = cube(), str(SCRATCH / "cube-labels.zarr")
    shutil.rmtree(target, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", CASE, source, target, str(LIMIT)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    if done.returncode:
        print(done.stderr)
        gate("the cube is clustered, predicted and written", False)
        return
    told = json.loads(done.stdout.strip().splitlines()[-1])
    table(
        f"a cube of {2 * TIME * LAT * LON * 4 / 1e9:.0f} GB in {2 * TIME // STEP} chunks under {LIMIT / MiB:.0f} MiB",
        ["fit s", "sweeps", "predict and write s", "projected MiB", "peak MiB"],
        [[told["fit"], told["sweeps"], told["write"], told["projected"] / MiB, told["peak"] / MiB]],
    )
    gate("peak below the limit", told["peak"] <= LIMIT)
    before, after = xr.open_zarr(source, consolidated=False), xr.open_zarr(target, consolidated=False)
    same = all(before[name].identical(after[name]) for name in ("time", "lat", "lon", "crs"))
    gate("coordinates, grid mapping and attributes are equal on reopening", same)
    some = slice(0, TIME, STEP * 10)
    gate(
        "masks are equal",
        bool((before.sst.isel(time=some).isnull() == after.label.isel(time=some).isnull()).all()),
    )
    gate("labels name their grid mapping", (after.label.attrs | after.label.encoding).get("grid_mapping") == "crs")


if __name__ == "__main__":
    main()
