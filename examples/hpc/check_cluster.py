"""What a cluster is made of, and what will go wrong on it: told before the first fit, not after an hour of it.

``python check_cluster.py SCHEDULER_FILE [WORKERS]`` waits for so many workers and prints a line each. The exit status is 1
where there is a problem: addresses that cannot be reached, scratch on a file system that nodes share, workers that may use
more memory or threads than their job or node has, data that would travel in the clear.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from dask.utils import format_bytes
from distributed import Client, Scheduler, Worker
from distributed.comm import connect

SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "cifs", "afs", "panfs", "wekafs"}
PATIENCE_S = 3


async def unreachable(addresses: Iterable[str], node: Worker | Scheduler) -> list[str]:
    """The addresses to which a worker, or the scheduler, cannot connect."""
    missed = []
    for address in addresses:
        try:
            await (await connect(address, timeout=PATIENCE_S, **node.connection_args)).close()
        except OSError:
            missed.append(address)
    return missed


async def unreachable_from_scheduler(addresses: Iterable[str], dask_scheduler: Scheduler) -> list[str]:
    """The same, for `Client.run_on_scheduler`."""
    return await unreachable(addresses, dask_scheduler)


def file_system(path: str) -> str:
    """The type of the file system that holds a path: that of the longest mount point above it."""
    with open("/proc/self/mounts") as mounts:
        kinds = {place.replace("\\040", " ").rstrip("/") + "/": kind for _, place, kind, *_ in map(str.split, mounts)}
    above = [place for place in kinds if (os.path.realpath(path) + "/").startswith(place)]
    return kinds[max(above, key=len)] if above else "unknown"


async def describe(addresses: list[str], dask_worker: Worker) -> dict[str, Any]:
    """What a worker's process sees; runs on each of them."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT  # of the machine, or of the cgroup that the process is in

    job, memory, cores = os.environ, MEMORY_LIMIT, CPU_COUNT
    if "SLURM_CPUS_ON_NODE" in job:  # SLURM's own count: not every site enforces it by cgroups
        cores = int(job["SLURM_CPUS_ON_NODE"])
        in_mb = int(job.get("SLURM_MEM_PER_NODE", 0)) or int(job.get("SLURM_MEM_PER_CPU", 0)) * cores
        memory = in_mb << 20 or memory
    return {
        "place": (job.get("SLURMD_NODENAME") or socket.gethostname(), job.get("SLURM_JOB_ID", "")),
        "memory": memory,
        "cores": cores,
        "file_system": file_system(dask_worker.local_directory),
        "unreachable": await unreachable(addresses, dask_worker),
    }


def problems(workers: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong, in words: ``workers`` as the scheduler knows them, ``seen`` what `describe` found on each."""
    found = [f"{one} cannot reach {other}" for one, own in seen.items() for other in own["unreachable"]]
    found += [
        f"{one}: scratch is on a shared file system ({own['file_system']}, {workers[one]['local_directory']})"
        for one, own in seen.items()
        if own["file_system"] in SHARED
    ]
    found += [
        f"{one}: data would travel in the clear" for one in workers if one.startswith("tcp://") and "//127." not in one
    ]
    together = defaultdict(list)
    for one, own in seen.items():
        together[own["place"]].append(one)
    for (host, job), those in together.items():
        where, own = f"{host}, job {job}" if job else host, seen[those[0]]
        memory = sum(workers[one]["memory_limit"] or own["memory"] for one in those)
        threads = sum(workers[one]["nthreads"] for one in those)
        if memory > own["memory"]:
            found.append(f"{where}: workers may use {format_bytes(memory)} of {format_bytes(own['memory'])}")
        if threads > own["cores"]:
            found.append(f"{where}: {threads} threads on {own['cores']} cores")
    return found


def main(scheduler_file: str, n_workers: int = 1) -> int:
    """Print what there is; the number of problems."""
    with Client(scheduler_file=scheduler_file) as client:
        client.wait_for_workers(n_workers, timeout=300)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        lost = client.run_on_scheduler(unreachable_from_scheduler, list(workers))
        # Only those that answer are asked: a question to the others would wait for good.
        seen = client.run(describe, list(workers), workers=[one for one in workers if one not in lost])
        for one, worker in workers.items():
            own = seen.get(one, {"place": ("?", ""), "file_system": "?"})
            memory = format_bytes(worker["memory_limit"]) if worker["memory_limit"] else "no limit"
            print(
                f"{one}  {own['place'][0]}  {worker['nthreads']} threads  {memory}  "
                f"{worker['local_directory']} ({own['file_system']})"
            )
        found = [f"{client.scheduler.address} cannot reach {one}" for one in lost] + problems(workers, seen)
        print(*(f"PROBLEM: {line}" for line in found) if found else ["no problem found"], sep="\n")
    return len(found)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1], *map(int, sys.argv[2:3]))))
