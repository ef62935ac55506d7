"""What the pages show is run, and what they name is there.

The convention, told on the guide's first page: ``python`` blocks of a page run in the order they stand, in one namespace
that holds X, y and the modules; ``text`` blocks are not run. Shell commands are looked up: targets, files, modules, extras.
"""

import ast
import importlib
import importlib.util
import inspect
import logging
import re
import shlex
import tomllib
from pathlib import Path

import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
import zarr

import daskml_core
from daskml_core.linear_model import LogisticRegression

ROOT = Path(__file__).parent.parent
GENERATED = re.compile(r"docs/(_build|_ext|examples/generated|reference/generated)")
PAGES = [
    path
    for path in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
    if not GENERATED.match(path.relative_to(ROOT).as_posix())
]
# Pages whose blocks other tests run: with warnings of other libraries, on a batch system.
RUN_BY = {
    "docs/guide/pictures.md": "tests/test_guide_pages.py",
    "docs/guide/take_away.md": "tests/test_guide_pages.py",
    "docs/guide/watching.md": "tests/test_guide_pages.py",
    "docs/hpc.md": "tests/test_hpc_page.py",
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, *languages):
    """Line number and text of the fenced blocks in a language."""
    text = page.read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [(text[: m.start()].count("\n") + 2, m[2]) for m in found if m[1] in languages]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_says_what_it_is(page):
    """Or it would be run, or looked up, by no test."""
    opened = re.findall(r"^```([^`\n]*)\n.*?^```$", page.read_text(), re.M | re.S)
    assert set(opened) <= {"python", "bash", "sh", "console", "text", "yaml"} | {
        word for word in opened if word.startswith("{")
    }


def make_stores(folder):
    """The stores that pages open by name."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4_000, 6)).astype("f4")
    group = zarr.open_group(folder / "flights.zarr", mode="w")
    options = {"compressors": zarr.codecs.ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
    late = X @ rng.normal(size=6) + rng.logistic(size=len(X)) > 0
    for name, values in (("X", X), ("late", late)):
        chunks = (500, *values.shape[1:])
        group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype, **options)[:] = values
    shape = {"time": 6, "lat": 8, "lon": 10}
    dims = tuple(shape)
    fields = {name: (dims, rng.normal(size=tuple(shape.values()))) for name in ("t2m", "u10", "v10")}
    coords = {"time": np.arange(6), "lat": np.linspace(-70, 70, 8), "lon": np.arange(10) * 36.0}
    ds = xr.Dataset(fields, coords)
    ds["t2m"] = ds["t2m"].where(ds["lon"] > 30)
    # Chunks with NaN alone would be left out.
    ds.chunk(time=2).to_zarr(folder / "reanalysis.zarr", write_empty_chunks=True, zarr_format=2)
    return X, late


def namespace(X, late):
    """What a page may use without saying where it is from."""
    lazy, y = da.from_array(X, chunks=(500, -1)), da.from_array(late, chunks=500)
    model = LogisticRegression().fit(lazy, y)
    modules = {"np": np, "da": da, "xr": xr, "dask": dask, "zarr": zarr, "daskml_core": daskml_core}
    return modules | {"X": lazy, "y": y, "distance": lazy[:, 0] * 2 + 1, "model": model, "__name__": "page"}


@pytest.fixture(scope="module")
def bucket():
    """The address of a server of the S3 protocol that has ``s3://bucket`` with what the pages open there."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel("ERROR")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket="bucket", ACL="public-read")
    options = {"key": "testing", "secret": "testing", "endpoint_url": url}
    for name in ("x.zarr", "scene.zarr"):
        target = zarr.storage.FsspecStore.from_url(f"s3://bucket/{name}", storage_options=options)
        scene().to_zarr(target, consolidated=False, write_empty_chunks=True)
    for item in client.list_objects_v2(Bucket="bucket")["Contents"]:
        client.put_object_acl(Bucket="bucket", Key=item["Key"], ACL="public-read")
    yield url
    server.stop()


def scene():
    """Three bands of an image over time."""
    rng = np.random.default_rng(1)
    bands = {name: (("time", "y", "x"), rng.normal(size=(3, 20, 30))) for name in ("red", "nir", "swir")}
    return xr.Dataset(bands, {"time": np.arange(3), "y": np.arange(20), "x": np.arange(30)}).chunk(y=10)


def make_plots(folder):
    """Field plots: a few crops on the scene's grid."""
    crop = np.full((20, 30), np.nan)
    crop[::2, ::3] = np.arange(100).reshape(10, 10) % 3
    xr.Dataset({"crop": (("y", "x"), crop)}, {"y": np.arange(20), "x": np.arange(30)}).chunk(y=10).to_zarr(
        folder / "plots.zarr", consolidated=False, write_empty_chunks=True
    )


def make_repository(folder, storage):
    """An icechunk repository of the reanalysis, with a tag."""
    import icechunk

    repository = icechunk.Repository.create(storage)
    session = repository.writable_session("main")
    fields = xr.open_zarr(folder / "reanalysis.zarr").drop_encoding()
    fields.to_zarr(session.store, consolidated=False, zarr_format=3, write_empty_chunks=True)
    repository.create_tag("v1", session.commit("first"))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, request):
    if name_of(page) in RUN_BY:
        assert page.name in (ROOT / RUN_BY[name_of(page)]).read_text()
        return
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    names = namespace(*make_stores(tmp_path))
    text = "".join(code for _, code in blocks(page, "python"))
    if "plots.zarr" in text:
        make_plots(tmp_path)
    if "import icechunk" in text:
        import icechunk

        make_repository(tmp_path, icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    if "s3://" in text:
        url = request.getfixturevalue("bucket")
        options = {"ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing", "REGION": "us-east-1"}
        for name, value in (options | {"ENDPOINT_URL": url, "ALLOW_HTTP": "true"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        if "import icechunk" in text:
            keys = {name.lower(): value for name, value in options.items()}
            place = {"bucket": "bucket", "prefix": "repo", "endpoint_url": url, "allow_http": True}
            make_repository(tmp_path, icechunk.s3_storage(**place, **keys, force_path_style=True))
    for line, code in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    plt.close("all")


def commands():
    """Shell commands of blocks and of inline code, one each, with where they stand."""
    for page in PAGES:
        if page.name == "hpc.md":
            continue  # those run on clusters; the test of that page finds the scripts that run them
        found = [
            command
            for _, text in blocks(page, "bash", "sh", "console")
            if not text.startswith("#!")  # a file, shown as it lies in examples/
            for line in text.replace("\\\n", " ").split("\n")
            for command in line.removeprefix("$ ").split("&&")
        ]
        found += re.findall(r"`((?:make|python|pip|dask) [^`]+)`", page.read_text())
        for command in found:
            words = shlex.split(command, comments=True)
            if words:
                yield pytest.param(words, id=f"{name_of(page)}: {' '.join(words)[:60]}")


def extras_exist(requirement):
    found = re.search(r"\[(.*)\]", requirement)
    return found is None or set(found[1].split(",")) <= set(EXTRAS)


def options_exist(words):
    """Of ``dask ml fit ...``, ``dask scheduler ...`` and their like; values are not looked at."""
    from distributed.cli import dask_scheduler, dask_worker

    from daskml_core.cli import ml

    command = {"ml": ml, "scheduler": dask_scheduler.main, "worker": dask_worker.main}[words[0]]
    words = words[1:]
    if command is ml and words:
        command, words = ml.commands[words[0]], words[1:]
    if words:
        command.make_parser(command.context_class(command)).parse_args(words)


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_names_what_is_there(words):
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[0] in ("sbatch", "mpirun"):  # another program, with ours behind its options
        words = words[next(i for i, word in enumerate(words) if word in ("python", "dask")) :]
    program, *rest = words
    if program in ("export", "ssh"):
        return
    if program == "make":
        targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program == "pip" or (program == "python" and rest[:3] == ["-m", "pip", "install"]):
        assert all(extras_exist(word) for word in rest)
    elif program == "dask" or rest[:2] == ["-m", "daskml_core"]:
        words = rest if program == "dask" else ["ml", *rest[2:]]
        options_exist(words)
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None
    elif program == "python":
        assert (ROOT / rest[0]).exists() or (ROOT / "examples" / "hpc" / rest[0]).exists()
    else:
        pytest.fail(f"unknown command: {' '.join(words)}")


MAP = (ROOT / "docs" / "migrating.md").read_text()
MODULES = ("linear_model", "cluster", "svm", "preprocessing", "pipeline", "model_selection", "metrics", "optimize")
PUBLIC = {
    name: getattr(module, name)
    for module in (importlib.import_module(f"daskml_core.{m}") for m in MODULES)
    for name in module.__all__
}


def rows_of(title):
    """Cells of each row of a section's table."""
    section = re.search(rf"^## From {title}\n(.*?)(?=^## |\Z)", MAP, re.M | re.S)[1]
    lines = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in section.split("\n") if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def code_of(cell):
    """The code spans of a cell that are expressions."""
    for span in re.findall(r"`([^`]+)`", cell):
        try:
            yield ast.parse(span, mode="eval")
        except SyntaxError:  # ``metric="cosine"``: a parameter, which is no expression
            continue


def classes_of(cell):
    """Classes with the parameters that are named: ``A(b, c=1)``, also inside of other calls, and bare names."""
    for tree in code_of(cell):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                words = [word.arg for word in node.keywords] + [a.id for a in node.args if isinstance(a, ast.Name)]
                if node.func.id[0].isupper() or node.func.id in PUBLIC:
                    yield node.func.id, words
            elif isinstance(node, ast.Name) and node.id[0].isupper() and len(node.id) > 1:
                yield node.id, []


ROWS = [(title, row) for title in ("scikit-learn", "dask-ml", "Spark MLlib") for row in rows_of(title)]


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{title}: {row[0][:50]}") for title, row in ROWS])
def test_a_row_of_the_map_names_classes_and_parameters_that_are_here(row):
    for name, parameters in classes_of(row[1]):
        assert set(parameters) <= set(inspect.signature(PUBLIC[name]).parameters)


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0][:50]) for title, row in ROWS if title == "scikit-learn"])
def test_a_row_about_scikit_learn_is_true_of_both(row):
    there, here, differs = row
    module = None
    for tree in code_of(there):
        call = tree.body if isinstance(tree.body, ast.Call) else None
        path = ast.unparse(call.func if call else tree.body).split(".")
        if not path[-1][0].isupper() or len(path[-1]) == 1:
            continue
        module, name = (path[-2] if len(path) > 1 else module), path[-1]
        if name.startswith("Halving"):  # scikit-learn has it where its experimental module was imported
            continue
        theirs = set(inspect.signature(getattr(importlib.import_module(f"sklearn.{module}"), name)).parameters)
        ours = set(inspect.signature(PUBLIC[name]).parameters)
        assert here.startswith("the same name") or name in here
        assert call is None or {word.arg for word in call.keywords} <= theirs
        absent = re.search(r"\bno ((?:`\w+`(?:, )?)+)", differs)
        for word in re.findall(r"`(\w+)`", absent[1]) if absent else ():
            assert word in theirs and word not in ours


def test_the_parameters_that_are_the_same_are_the_same():
    (row,) = [row for _, row in ROWS if row[1] == "the same"]
    names = set(re.findall(r"`(\w+)`", row[0]))
    theirs = importlib.import_module("sklearn.linear_model").LogisticRegression
    assert names <= set(inspect.signature(LogisticRegression).parameters) & set(inspect.signature(theirs).parameters)
