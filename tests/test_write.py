"""Writing results block by block: what reopens is what was computed, however often the write was interrupted."""

import subprocess
import sys
import textwrap

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import daskml_core
from daskml_core.cluster import KMeans
from daskml_core.data.write import MARKS
from daskml_core.errors import UnfinishedStoreError
from tests.test_grid import dataset, values


@pytest.fixture
def prediction():
    ds = dataset(values(), {"time": 2, "lat": 4})
    return KMeans(3, random_state=0).fit(ds).predict(ds)


def test_a_result_comes_back_with_values_coordinates_and_attributes(tmp_path, prediction):
    prediction.attrs["grid_mapping"] = "crs"
    daskml_core.write(prediction, tmp_path / "p.zarr", encoding={"label": {"dtype": "i2", "_FillValue": -1}})
    again = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)
    xr.testing.assert_equal(again.label.load(), prediction.compute())
    for name in ("lat", "crs", "season"):
        assert again[name].attrs == prediction[name].attrs
    assert (again.label.attrs | again.label.encoding)["grid_mapping"] == "crs"
    raw = zarr.open_array(tmp_path / "p.zarr", path="label", mode="r")
    assert raw.dtype == np.int16
    assert raw.nchunks_initialized == raw.nchunks
    assert MARKS not in zarr.open_group(tmp_path / "p.zarr", mode="r")


def test_a_finished_write_is_not_done_again_and_another_result_is_refused(tmp_path, prediction):
    store = str(tmp_path / "p.zarr")
    daskml_core.write(prediction, store)
    calls = []

    def counted(block):
        calls.append(1)
        return block

    def watched(values):
        return values.copy(
            data=values.data.map_blocks(counted, dtype=values.dtype, name="watched", meta=np.empty((0,) * 3))
        )

    daskml_core.write(watched(prediction), str(tmp_path / "q.zarr"))
    before = len(calls)
    daskml_core.write(watched(prediction), str(tmp_path / "q.zarr"))
    assert len(calls) == before
    with pytest.raises(FileExistsError, match="overwrite=True"):
        daskml_core.write(prediction + 1, store)
    daskml_core.write(prediction + 1, store, overwrite=True)
    xr.testing.assert_equal(xr.open_zarr(store, consolidated=False).label.load(), (prediction + 1).compute())


@pytest.mark.parametrize("fails_at", range(9))
def test_a_write_that_failed_goes_on_with_the_blocks_that_are_missing(tmp_path, prediction, fails_at):
    store = str(tmp_path / "p.zarr")
    seen = []
    broken = [True]

    def perhaps(block):
        if broken[0] and len(seen) == fails_at:
            raise OSError("the disk went away")
        seen.append(1)
        return block

    lazy = prediction.copy(
        data=prediction.data.map_blocks(perhaps, dtype=prediction.dtype, name="perhaps", meta=np.empty((0,) * 3))
    )
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(OSError, match="went away"):
            daskml_core.write(lazy, store)
        broken[0] = False
        if fails_at:
            with pytest.raises(UnfinishedStoreError, match="another result"):
                daskml_core.write(prediction, store)
            with pytest.raises(UnfinishedStoreError, match="resume=False"):
                daskml_core.write(lazy, store, resume=False)
        daskml_core.write(lazy, store)
    assert len(seen) == int(np.prod(prediction.data.numblocks))
    xr.testing.assert_equal(xr.open_zarr(store, consolidated=False).label.load(), prediction.compute())


def test_a_killed_write_is_completed_by_running_it_again(tmp_path):
    """The process is killed by the operating system at the n-th block, ten times over."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np, xarray as xr, dask
        import daskml_core
        store, fatal = sys.argv[1], int(sys.argv[2])
        def block(values, block_info=None):
            number = sum(i * 10**n for n, i in enumerate(block_info[0]["chunk-location"]))
            mark = f"{store}.{number}"
            open(mark, "a").write("x")
            if len([f for f in os.listdir(os.path.dirname(store)) if f.startswith("p.zarr.")]) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return values * 2
        data = xr.DataArray(np.arange(400.0).reshape(20, 20), dims=("a", "b"), name="x").chunk(a=4, b=10)
        lazy = data.copy(data=data.data.map_blocks(block, dtype=float, name="block", meta=np.empty((0, 0))))
        with dask.config.set(scheduler="synchronous"):
            daskml_core.write(lazy, store)
        """
    )
    (tmp_path / "write.py").write_text(script)
    store = tmp_path / "p.zarr"
    for fatal in (*range(1, 11), 0):
        done = subprocess.run(
            [sys.executable, tmp_path / "write.py", store, str(fatal)], capture_output=True, text=True
        )
        assert done.returncode == (-9 if fatal else 0), done.stderr
    np.testing.assert_array_equal(
        xr.open_zarr(store, consolidated=False).x.values, 2 * np.arange(400.0).reshape(20, 20)
    )


def test_regions_are_written_into_a_store_that_is_there_and_must_be_aligned(tmp_path):
    store = str(tmp_path / "p.zarr")
    whole = xr.DataArray(np.zeros((12, 6)), dims=("a", "b"), name="x").chunk(a=4)
    daskml_core.write(whole, store)
    part = xr.DataArray(np.arange(24.0).reshape(4, 6), dims=("a", "b"), name="x").chunk(a=4)
    daskml_core.write(part, store, region={"a": slice(4, 8)})
    again = xr.open_zarr(store, consolidated=False).x.values
    np.testing.assert_array_equal(again[4:8], part.values)
    assert (again[:4] == 0).all()
    assert (again[8:] == 0).all()
    with pytest.raises(ValueError, match="inside of the store's chunks of 4"):
        daskml_core.write(part, store, region={"a": slice(2, 6)})
    with pytest.raises(ValueError, match="the result 4"):
        daskml_core.write(part, store, region={"a": slice(0, 8)})


def test_uneven_blocks_share_a_chunk_size_or_are_refused(tmp_path):
    data = xr.DataArray(np.arange(30.0), dims="a", name="x")
    daskml_core.write(data.chunk(a=(12, 12, 6)), str(tmp_path / "p.zarr"))
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "p.zarr", consolidated=False).x, np.arange(30.0))
    daskml_core.write(data.chunk(a=(8, 4, 18)), str(tmp_path / "q.zarr"))
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "q.zarr", consolidated=False).x, np.arange(30.0))
    with pytest.raises(ValueError, match="share no chunk size"):
        daskml_core.write(data.chunk(a=(17, 9, 4)), str(tmp_path / "r.zarr"))


def test_what_is_not_lazy_is_left_to_xarray(tmp_path, prediction):
    with pytest.raises(ValueError, match="to_zarr"):
        daskml_core.write(prediction.compute(), tmp_path / "p.zarr")
