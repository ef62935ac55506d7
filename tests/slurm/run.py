"""The recipes of docs/hpc.md on a SLURM of two nodes that this script starts and ends on one machine.

``python -m tests.slurm.run [SCENE ...]``, from the project's directory; ``make slurm``. Needs Debian's slurm-wlm and munge;
without them it says so and ends with status 2.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.slurm.server import of_jobs, slurm, why_not

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "hpc"
N_BLOCKS = 4  # of 200,000 rows


class Site:
    """A directory of a user with the recipes in it, as on the shared file system of a cluster with SLURM."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        shutil.copytree(RECIPES, directory, dirs_exist_ok=True)
        self.plain = environment | {
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",  # of ports that are taken, above all
            "SCIPY_ARRAY_API": "1",
        }
        self("python make_store.py rows.zarr 200000")
        self("python fit.py rows.zarr here.model")
        self("python certificates.py tls")
        self.environment = self.plain | {
            "DASK_CONFIG": str(directory / "tls" / "tls.yaml"),
            "INTERFACE": "lo",
            "LOCAL_SCRATCH": str(directory / "scratch"),
            # What a test must see in seconds: slow spans, and a checkpoint after each sweep.
            "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.slurm.slow",
            "DASK_DASKML_CORE__CHECKPOINT_SECONDS": "0",
            "SPANS": str(directory / "spans"),
        }

    def __call__(self, command: str) -> str:
        """What a command says."""
        environment = getattr(self, "environment", self.plain)
        done = subprocess.run(shlex.split(command), cwd=self.directory, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def submit(self, command: str) -> str:
        """The number of a job."""
        return self(command).split()[-1]

    def job(self, number: str, field: str) -> str:
        """What SLURM says of a job."""
        (found,) = re.findall(rf"\b{field}=(\S+)", self(f"scontrol show job {number}"))[:1] or [""]
        return found

    def wait(self, what: str, happens: Callable[[], bool], seconds: float = 100.0) -> None:
        """Return when something has happened."""
        deadline = time.monotonic() + seconds
        while not happens():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.logs()}"
            time.sleep(0.1)

    def begin(self, command: str) -> str:
        """Submit the job of a fit, and come back in the middle of it: the number of the job."""
        job = self.submit(command)
        (model,) = set(re.findall(r"\w+\.model\b", command))
        self.wait("the middle of the fit", lambda: self.in_the_middle(model))
        return job

    def in_the_middle(self, model: str) -> bool:
        """Whether the sweeps for labels and sample are kept, and the third one is made."""
        kept = self.directory / f"{model}.checkpoint"
        third = any("hessian" in name or "gradient" in name for _, name in self.spans())
        return len(list(kept.glob("*.sweeps"))) >= 2 and third

    def spans(self) -> Counter[tuple[int, str]]:
        """Spans begun, by the turn of the job and the name of the sweep."""
        file = self.directory / "spans"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return Counter((int(turn), name) for turn, name, _ in lines)

    def went_on(self, model: str, job: str) -> str:
        """What there is to say of a job that has fitted a model in two turns, and did not do twice what it had kept."""
        self.wait(
            "the model", lambda: self.job(job, "JobState") not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")
        )
        assert self.job(job, "JobState") == "COMPLETED", self.logs()
        assert self.same_bits(model), self.logs()
        assert not (self.directory / f"{model}.checkpoint").exists()
        sampled = {turn: n for (turn, name), n in self.spans().items() if "sample" in name}
        assert sampled == {0: N_BLOCKS}, self.spans()
        daemons = Path(self.environment["SLURM_CONF"]).parent
        self.wait("the job's processes to end", lambda: not of_jobs(daemons, job), 20)
        spans = [sum(n for (turn, name), n in self.spans().items() if turn == own) for own in (0, 1)]
        return f"same bits; {spans[0]} spans before, {spans[1]} after, the sample's before only"

    def logs(self) -> str:
        """The ends of all logs."""
        files = [*self.directory.glob("*.log"), *self.directory.glob("logs/*")]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-4000:]}" for file in files)

    def same_bits(self, model: str) -> bool:
        """Whether a model is that of an undisturbed fit in threads of one process."""
        import daskml_core

        here, there = (daskml_core.load(self.directory / name) for name in ("here.model", model))
        return here.coef_.tobytes() + here.intercept_.tobytes() == there.coef_.tobytes() + there.intercept_.tobytes()


def warned(site: Site) -> str:
    """A warning before the time runs out: the checkpoint is written, the job asks for another turn and goes on."""
    job = site.begin("sbatch fit.sbatch python fit.py rows.zarr late.model")
    described = json.loads((site.directory / f"scheduler-{job}.json").read_text())
    health = f"http://127.0.0.1:{described['services']['dashboard']}/health"  # for those on this node alone
    assert urllib.request.urlopen(health, timeout=10).read() == b"ok"
    assert described["address"].startswith("tls://")
    site(f"scancel --batch --signal=TERM {job}")  # what --signal=B:TERM@60 does a minute before the end
    site.wait("another turn", lambda: site.job(job, "Restarts") == "1")
    told = site.went_on("late.model", job)
    text = (site.directory / f"fit-{job}.log").read_text()
    assert "no problem found" in text and "PROBLEM" not in text, text
    scratch = f"{site.environment['LOCAL_SCRATCH']}/dask-{job}/"
    assert len(re.findall(rf"^tls://.* n[12] .*{scratch}", text, re.M)) == 4, text  # two workers, two turns
    # 9/10 of 8 x 2 GiB for each worker, and 55 % of that for fits.
    assert "of 7.92 GiB" in text and "2 process(es) x 8 thread(s)" in text, text
    assert not (site.directory / f"scheduler-{job}.json").exists()
    return told


def preempted(site: Site) -> str:
    """A job of a partition with a higher tier takes the nodes; SLURM requeues that of `dask ml fit`, which goes on."""
    job = site.begin(
        "sbatch fit.sbatch dask ml fit rows.zarr LogisticRegression --features X --target y "
        "--out urgent.model --checkpoint urgent.model.checkpoint"
    )
    urgent = site.submit("sbatch --partition=urgent --nodes=2 --exclusive --output=urgent.log --wrap hostname")
    site.wait("pre-emption", lambda: site.job(job, "Restarts") == "1")
    site.wait("the urgent job", lambda: site.job(urgent, "JobState") == "COMPLETED")
    return site.went_on("urgent.model", job)


def cancelled(site: Site) -> str:
    """scancel ends the job for good, checkpoint kept; another job goes on, here on one node."""
    job = site.begin("sbatch fit.sbatch python fit.py rows.zarr again.model")
    site(f"scancel {job}")
    site.wait("its end", lambda: site.job(job, "JobState") == "CANCELLED")
    first = site.spans()
    time.sleep(8)  # longer than a requeued job would wait
    assert site.job(job, "JobState") == "CANCELLED" and site.spans() == first, site.job(job, "JobState")
    job = site.submit("sbatch --nodes=1 fit.sbatch python fit.py rows.zarr again.model")
    site.went_on("again.model", job)
    assert "1 process(es) x 8 thread(s)" in (site.directory / f"fit-{job}.log").read_text()
    return (
        f"same bits; {first.total()} spans before, {site.spans().total() - first.total()} in a job on one node after it"
    )


def cluster(site: Site) -> str:
    """SLURMCluster: one of its jobs is requeued in the middle."""
    command = "python slurm_cluster.py rows.zarr session.model"
    with open(site.directory / "session.log", "w") as log:
        session = subprocess.Popen(
            shlex.split(command), cwd=site.directory, env=site.environment, stdout=log, stderr=log
        )
    try:
        site.wait("the middle of the fit", lambda: site.in_the_middle("session.model"))
        job = site("squeue -h -o %i --states=RUNNING").split()[0]
        site(f"scontrol requeue {job}")
        site.wait("the model", lambda: session.poll() is not None)
    finally:
        session.kill()
        session.wait()
    assert session.returncode == 0, site.logs()
    assert site.same_bits("session.model"), site.logs()
    text = (site.directory / "session.log").read_text()
    assert "of 7.70 GiB" in text and "2 process(es) x 8 thread(s)" in text, text
    site.wait("its jobs to go", lambda: not site("squeue -h").strip())
    return "same bits, though one of its two jobs was requeued in the middle; no job is left behind"


SCENES: dict[str, Callable[[Site], str]] = {
    "sbatch: a warning before the end": warned,
    "sbatch: pre-emption": preempted,
    "sbatch: scancel": cancelled,
    "SLURMCluster": cluster,
}

QUICK = ("SLURMCluster",)
"""What the tests play; `make slurm`, and so CI, plays all."""


def main(*only: str) -> int:
    """The exit status: 0, or 2 where there can be no SLURM."""
    reason = why_not()
    if reason:
        print(f"no SLURM: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        daemons, home = Path(directory, "slurm"), Path(directory, "home")
        daemons.mkdir()
        os.chmod(directory, 0o755)
        with slurm(daemons) as environment:
            site = Site(home, environment)
            for name in only or SCENES:
                begin = time.monotonic()
                (home / "spans").unlink(missing_ok=True)
                print(f"{name}: {SCENES[name](site)}  [{time.monotonic() - begin:.1f} s]", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
