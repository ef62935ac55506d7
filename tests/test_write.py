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


@pytest.mark.parametrize(
    "encoding", [{}, {"x": {"dtype": "i2", "_FillValue": -1, "scale_factor": 0.5}}], ids=["plain", "packed"]
)
def test_a_block_costs_two_requests_to_write_and_none_to_read(encoding):
    class Counting(zarr.storage.MemoryStore):
        gets = sets = 0

        async def get(self, *args, **options):
            Counting.gets += 1
            return await super().get(*args, **options)

        async def set(self, *args, **options):
            Counting.sets += 1
            return await super().set(*args, **options)

    x = xr.DataArray(np.arange(120.0).reshape(40, 3), dims=("a", "b"), name="x").where(lambda v: v % 7 > 0)
    costs = []
    for size in (4, 2):
        Counting.gets = Counting.sets = 0
        store = Counting()
        daskml_core.write(x.chunk(a=size), store, encoding=encoding)
        xr.testing.assert_equal(xr.open_zarr(store, consolidated=False).x.load(), x)
        costs.append((Counting.gets, Counting.sets))
    (few_gets, few_sets), (many_gets, many_sets) = costs
    assert many_sets - few_sets == 2 * 10
    # Marks that are read back in one go, and values that are compared above, are a chunk each.
    assert many_gets - few_gets <= 2 * 10


def test_times_and_text_are_written_as_the_template_says(tmp_path):
    hours = np.datetime64("2001-03-01", "ns") + np.arange(12) * np.timedelta64(3, "h")
    words = np.array(["sea", "ice", None, np.nan], dtype=object)[np.arange(12) % 4]
    lazy = xr.Dataset({"when": ("a", hours), "what": ("a", words)}).chunk(a=4)
    reads = []

    def watched(block):
        reads.append(len(block))
        return block

    lazy["what"] = lazy.what.copy(data=lazy.what.data.map_blocks(watched, dtype=object, meta=np.empty(0, dtype=object)))
    daskml_core.write(lazy, tmp_path / "x", encoding={"when": {"units": "hours since 1900-01-01", "dtype": "i8"}})
    assert reads == [4, 4, 4]  # not loaded whole to see what they are
    again = xr.open_zarr(tmp_path / "x", consolidated=False)
    np.testing.assert_array_equal(again.when, hours)
    assert again.when.encoding["units"] == "hours since 1900-01-01"
    assert again.what.values.tolist() == ["sea", "ice", "", ""] * 3
    with pytest.raises(TypeError, match="no text cannot be written"):
        daskml_core.write(lazy[["what"]].isnull().astype(object), tmp_path / "y")


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
    """A process is killed by the operating system at the n-th block, ten times over: children of one that has imported."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np, xarray as xr, dask
        import daskml_core
        def write(store, fatal):
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
        write(sys.argv[2], 0)  # loads what each child would have to load again
        for fatal in (*range(1, 11), 0):
            child = os.fork()
            if child == 0:
                write(sys.argv[1], fatal)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        """
    )
    (tmp_path / "write.py").write_text(script)
    store, other = tmp_path / "killed" / "p.zarr", tmp_path / "whole" / "p.zarr"
    for path in (store, other):
        path.parent.mkdir()
    done = subprocess.run([sys.executable, tmp_path / "write.py", store, other], capture_output=True, text=True)
    assert done.stdout.split() == ["-9"] * 10 + ["0"], done.stderr
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
    with pytest.raises(ValueError, match="no variable 'y' to write a region of"):
        daskml_core.write(part.rename("y"), store, region={"a": slice(4, 8)})
    with pytest.raises(ValueError, match=r"along 'c'; the store has the dimensions \['a', 'b'\]"):
        daskml_core.write(part, store, region={"c": slice(4, 8)})
    with pytest.raises(ValueError, match="steps of 2"):
        daskml_core.write(part, store, region={"a": slice(0, 8, 2)})
    with pytest.raises(ValueError, match=r"has the dimensions .* here and"):
        daskml_core.write(part.rename(b="d"), store, region={"a": slice(4, 8)})


def test_a_region_is_matched_by_labels_and_dimensions_by_name(tmp_path, prediction):
    store = str(tmp_path / "p.zarr")
    daskml_core.write(prediction * 0, store)
    turned = prediction.transpose("lat", "time", "lon")
    daskml_core.write(turned.isel(time=slice(2, 4)), store, region={"time": slice(2, 4)})
    daskml_core.write(prediction.isel(time=slice(4, 6)), store, region={"time": slice(4, None)})
    again = xr.open_zarr(store, consolidated=False).label
    xr.testing.assert_equal(again.load(), prediction.compute().where(prediction.time >= 2, prediction.compute() * 0))
    for wrong, region in (
        (prediction.isel(time=slice(0, 2)), slice(2, 4)),
        (prediction.isel(time=[3, 2]), slice(2, 4)),
    ):
        with pytest.raises(
            ValueError, match=r"The result has \d at 0 along 'time', where the region of the store has 2"
        ):
            daskml_core.write(wrong, store, region={"time": region})
    with pytest.raises(ValueError, match="along 'lat'"):
        daskml_core.write(
            prediction.isel(time=slice(2, 4)).assign_coords(lat=prediction.lat + 1), store, region={"time": slice(2, 4)}
        )
    xr.testing.assert_equal(xr.open_zarr(store, consolidated=False).label.load(), again)


@pytest.mark.parametrize("to", [2, 3])
@pytest.mark.parametrize("of", [2, 3])
def test_predictions_of_a_store_survive_xarrays_own_writer_in_either_format(tmp_path, of, to):
    ds = dataset(values(), {"time": 2, "lat": 4})
    ds = ds.assign_coords(time=np.datetime64("2001-03-01", "ns") + np.arange(6) * np.timedelta64(1, "h"))
    ds["t"].attrs["grid_mapping"] = "crs"
    units = "hours since 1900-01-01"
    ds.to_zarr(tmp_path / "x", zarr_format=of, consolidated=False, encoding={"time": {"units": units}})
    for source in (daskml_core.open(tmp_path / "x"), xr.open_zarr(tmp_path / "x", consolidated=False)):
        model = KMeans(3, random_state=0).fit(source)
        for name in ("predict", "transform"):
            result = getattr(model, name)(source)
            result.to_zarr(tmp_path / "y", zarr_format=to, consolidated=False, mode="w")
            again = xr.open_zarr(tmp_path / "y", consolidated=False, decode_coords="all")[result.name]
            xr.testing.assert_equal(again.load(), result.compute())
            assert again.time.encoding["units"] == units
            assert again.lat.attrs == ds.lat.attrs
            assert again.crs.attrs == ds.crs.attrs
            assert again.encoding["grid_mapping"] == "crs"


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
    with pytest.raises(TypeError, match=r"got Array.*name its dimensions"):
        daskml_core.write(prediction.data, tmp_path / "p.zarr")
