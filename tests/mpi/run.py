"""The dask-mpi recipe of docs/hpc.md: ``python -m tests.mpi.run``, from the project's directory; ``make mpi``.

Needs an MPI (Debian: openmpi-bin), dask-mpi and mpi4py; without them it says so and ends with status 2.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "hpc"


def why_not() -> str:
    """Why there can be no MPI here, or nothing."""
    if shutil.which("mpirun") is None:
        return "there is no mpirun (Debian: openmpi-bin)"
    missing = [name for name in ("dask_mpi", "mpi4py") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (the extra `hpc`)"
    # mpi4py is installed without an MPI, and looks for one when it is imported.
    done = subprocess.run([sys.executable, "-c", "import mpi4py.MPI"], capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def environment(directory: Path) -> dict[str, str]:
    """Four ranks on any machine, also as root; TLS; slow spans, and a checkpoint after each sweep."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "SCIPY_ARRAY_API": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_btl": "self,vader,tcp",
        "OMPI_MCA_btl_tcp_if_include": "lo",
        "DASK_CONFIG": str(directory / "tls" / "tls.yaml"),
        "INTERFACE": "lo",
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.slurm.slow",
        "DASK_DASKML_CORE__CHECKPOINT_SECONDS": "0",
        "SPANS": str(directory / "spans"),
    }


def interrupted(directory: Path) -> str:
    """A fit that loses a worker in the middle, and with it its MPI job, and is started again."""
    shutil.copytree(RECIPES, directory, dirs_exist_ok=True)
    shared = environment(directory)

    def run(command: str, **options: str) -> str:
        done = subprocess.run(command.split(), cwd=directory, env=shared | options, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-5000:]}"
        return done.stdout

    run("python make_store.py rows.zarr 200000", DASK_CONFIG=os.devnull)
    run("python certificates.py tls", DASK_CONFIG=os.devnull)
    run("python fit.py rows.zarr here.model")
    spans, kept = directory / "spans", directory / "ranks.model.checkpoint"
    command = "mpirun -n 4 python fit_mpi.py rows.zarr ranks.model"
    with open(directory / "first.log", "w") as log:
        first = subprocess.Popen(command.split(), cwd=directory, env=shared, stdout=log, stderr=log)
        deadline = time.monotonic() + 100
        while not (len(list(kept.glob("*.sweeps"))) >= 2 and re.search("hessian|gradient", spans.read_text())):
            assert first.poll() is None and time.monotonic() < deadline, (directory / "first.log").read_text()
            time.sleep(0.05)
        os.kill(int(spans.read_text().split()[-1]), signal.SIGKILL)  # a worker: MPI ends all ranks
        first.wait(60)
    before = spans.read_text().splitlines()
    assert first.returncode and kept.exists() and not (directory / "ranks.model").exists()
    told = run(command)
    assert "2 process(es) x 1 thread(s)" in told and "of 2.20 GiB" in told, told  # 55 % of 4 GiB
    import daskml_core

    here, there = (daskml_core.load(directory / name) for name in ("here.model", "ranks.model"))
    assert here.coef_.tobytes() == there.coef_.tobytes() and here.intercept_.tobytes() == there.intercept_.tobytes()
    after = spans.read_text().splitlines()[len(before) :]
    assert not [line for line in after if "sample" in line], after
    return f"same bits; {len(before)} spans before, {len(after)} after, the sample's before only"


def main() -> int:
    """The exit status: 0, or 2 where there can be no MPI."""
    reason = why_not()
    if reason:
        print(f"no MPI: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        print(f"mpirun, dask-mpi: {interrupted(Path(directory))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
