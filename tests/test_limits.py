"""The memory limit is the smallest of what machine, container, SLURM job, worker and user say."""

import dask
import dask.array as da
import pytest
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from daskml_core.engine import limits
from daskml_core.engine.executors import Threads, Workers
from daskml_core.engine.limits import Limit, Told, cgroup_limit, slurm_limit, worker_limit
from daskml_core.errors import MemoryPlanError
from daskml_core.linear_model import LinearRegression

GiB = 1 << 30
MiB = 1 << 20


def machine(root, own, **files):
    """A root directory with this process's cgroups and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(own) + "\n")
    for name, value in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return root


CGROUPS = {
    "version 2": (["0::/"], {"memory.max": 2 * GiB}, 2 * GiB),
    "version 2, throttled before": (["0::/"], {"memory.max": 2 * GiB, "memory.high": GiB}, GiB),
    "version 2, none": (["0::/a"], {"memory.max": "max", "a/memory.max": "max"}, None),
    "version 2, in a slice": (
        ["0::/user.slice/run-7.scope"],
        {"user.slice/memory.max": 4 * GiB, "user.slice/run-7.scope/memory.max": 3 * GiB},
        3 * GiB,
    ),
    "version 2, of the slice above": (
        ["0::/user.slice/run-7.scope"],
        {"user.slice/memory.max": GiB, "user.slice/run-7.scope/memory.max": 3 * GiB},
        GiB,
    ),
    "version 2, the host's path in a container": (["0::/docker/0a1b"], {"memory.max": 2 * GiB}, 2 * GiB),
    "version 2, above the namespace": (["0::/../../slice"], {"memory.max": 2 * GiB}, 2 * GiB),
    "version 1": (
        ["5:cpu,cpuacct:/", "4:memory:/docker/0a1b", "0::/"],
        {"memory/docker/0a1b/memory.limit_in_bytes": 512 * MiB, "memory/memory.limit_in_bytes": 2**63 - 4096},
        512 * MiB,
    ),
    "version 1, none": (["4:memory:/"], {"memory/memory.limit_in_bytes": 2**63 - 4096}, None),
    "garbage": (["0::/"], {"memory.max": "much"}, None),
}


@pytest.mark.parametrize("case", CGROUPS)
def test_the_cgroups_limit_is_read_in_both_versions_and_at_every_level(case, tmp_path):
    own, files, want = CGROUPS[case]
    found = cgroup_limit(machine(tmp_path, own, **files))
    assert (found.bytes if found else None) == want
    assert found is None or found.said_by.startswith("cgroup ")


def test_a_machine_without_cgroups_has_no_such_limit(tmp_path):
    assert cgroup_limit(tmp_path) is None


JOBS = {
    "no job": ({}, None),
    "--mem": ({"SLURM_MEM_PER_NODE": "4096"}, 4 * GiB),
    "--mem with a letter": ({"SLURM_MEM_PER_NODE": "4G"}, 4 * GiB),
    "--mem=0, all of the node": ({"SLURM_MEM_PER_NODE": "0"}, None),
    "--mem-per-cpu": ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "8"}, 8 * GiB),
    "--mem-per-cpu, nodes listed": ({"SLURM_MEM_PER_CPU": "1024", "SLURM_JOB_CPUS_PER_NODE": "36(x2),18"}, 18 * GiB),
    "--mem-per-cpu, CPUs unknown": ({"SLURM_MEM_PER_CPU": "1024"}, None),
    "no number": ({"SLURM_MEM_PER_NODE": "plenty"}, None),
}


@pytest.mark.parametrize("case", JOBS)
def test_the_slurm_jobs_memory_is_read(case):
    environ, want = JOBS[case]
    found = slurm_limit(environ)
    assert (found.bytes if found else None) == want
    assert found is None or found.said_by in environ


def plan():
    X = da.ones((40_000, 50), chunks=(20_000, 50))
    return LinearRegression().plan(X, X[:, 0])


def test_in_a_slurm_job_a_fit_may_use_a_part_of_the_jobs_memory(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "8000")
    with dask.config.set(scheduler="threads"):
        assert Threads().memory_limit == int(0.6 * 8000 * MiB)
        assert plan().memory_limit_bytes == int(0.6 * 8000 * MiB)
        monkeypatch.delenv("SLURM_MEM_PER_NODE")
        monkeypatch.setenv("SLURM_MEM_PER_CPU", "50")
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
        with pytest.raises(MemoryPlanError, match=r"but the memory limit is 60\.0 MiB"):
            plan()


def test_in_a_container_a_fit_may_use_a_part_of_the_containers_memory(monkeypatch, tmp_path):
    root = machine(tmp_path, ["0::/"], **{"memory.max": 2 * GiB})
    original = limits.cgroup_limit
    monkeypatch.setattr(limits, "cgroup_limit", lambda: original(root))
    assert Threads().memory_limit == min(int(0.6 * 2 * GiB), int(0.6 * MEMORY_LIMIT))


def test_what_the_user_sets_goes_before_machine_and_job(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    with dask.config.set({"daskml-core.memory-limit": "3 GiB"}):
        assert Threads().memory_limit == 3 * GiB


def worker(threads=1, memory=None):
    return {"nthreads": threads, "memory_limit": memory}


WORKERS = {
    "its own": ({"a": worker(1, 8 * GiB)}, {"a": Told("one", 64 * GiB, None)}, 0.5 * 8 * GiB),
    "the smallest of all": ({"a": worker(1, 8 * GiB), "b": worker(1, 4 * GiB)}, {}, 0.5 * 4 * GiB),
    "the job's, below its own": (
        {"a": worker(1, 32 * GiB)},
        {"a": Told("one", 64 * GiB, Limit(10 * GiB, "SLURM_MEM_PER_NODE"))},
        0.6 * 10 * GiB,
    ),
    "its share of the job, by threads": (
        {"a": worker(3, 32 * GiB), "b": worker(1, 32 * GiB), "c": worker(4, 32 * GiB)},
        {"a": Told("one", 64 * GiB, Limit(10 * GiB, "")), "b": Told("one", 64 * GiB, Limit(10 * GiB, "")),
         "c": Told("two", 64 * GiB, Limit(10 * GiB, ""))},
        0.6 * 10 * GiB / 4,
    ),
    "none of its own: the machine's": (
        {"a": worker(), "b": worker()},
        {"a": Told("one", 64 * GiB, None), "b": Told("one", 64 * GiB, None)},
        0.6 * 64 * GiB / 2,
    ),
    "none, and it does not answer": ({"a": worker(), "b": worker()}, {}, 0.6 * MEMORY_LIMIT / 2),
}  # fmt: skip


@pytest.mark.parametrize("case", WORKERS)
def test_workers_have_their_own_limit_or_their_share_of_the_place_where_they_run(case):
    workers, told, want = WORKERS[case]
    assert worker_limit(workers, told, 0.5) == int(want)


def test_workers_are_asked_once_for_the_job_that_they_run_in(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    asked = []
    original = Client.run
    monkeypatch.setattr(Client, "run", lambda self, *a, **k: asked.append(a[0]) or original(self, *a, **k))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", memory_limit="64 GiB"
        ) as cluster,
        Client(cluster) as client,
    ):
        found = [Workers(client).memory_limit for _ in range(3)]
    assert found == [int(0.6 * 2000 * MiB / 2)] * 3
    assert asked.count(limits.tell) == 1


def test_jobs_of_slurm_on_one_host_do_not_share_their_memory():
    held = Limit(16 * GiB, "SLURM_MEM_PER_NODE")
    workers = {name: worker(8, 14 * GiB) for name in ("a", "b")}
    for jobs, want in ((("7 n1", "8 n1"), 0.5 * 14 * GiB), (("7 n1", "7 n1"), 0.6 * 16 * GiB / 2)):
        told = {name: Told("one", 64 * GiB, held, job) for name, job in zip(workers, jobs, strict=True)}
        assert worker_limit(workers, told, 0.5) == int(want)
