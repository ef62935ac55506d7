"""How much memory a process may use, by everything that may say so: its machine, its container, its SLURM job.

Dask's own `memory_limit` of a worker is given by whoever starts it, or is a share of what the machine's root cgroup says.
SLURM without cgroups kills what is over its job's memory and tells nobody before; a nested cgroup (a systemd slice, a
container in a container) does the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

MACHINE_FRACTION = 0.6
"""Part of a machine's, container's or job's memory that a fit may use: others live there too."""

ASKED_S = 5.0
"""Seconds in which workers are expected to tell their limits; a frozen one does not hold a fit up."""

UNLIMITED = 1 << 60
"""What is above is no limit: cgroups of version 1 write the largest number of pages."""

_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Limit(NamedTuple):
    """Bytes that all processes of a container or job may use together, and who says so."""

    bytes: int
    said_by: str


def _cgroup_files(root: Path) -> Iterator[Path]:
    """Files that may limit this process: of its own cgroup and of each one above it, in both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, names = mount, ["memory.max", "memory.high"]
        elif "memory" in controllers.split(","):
            base, names = mount / "memory", ["memory.limit_in_bytes"]
        else:
            continue
        # A container without a namespace of its own sees the host's path, and its own cgroup as the root.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            for name in names:
                yield base.joinpath(*parts[:depth], name)


def cgroup_limit(root: str | os.PathLike[str] = "/") -> Limit | None:
    """The smallest limit of the cgroups that this process is in; ``None`` where there is none."""
    found = []
    for file in _cgroup_files(Path(root)):
        try:
            n = int(file.read_text())
        except (OSError, ValueError):  # not there, not ours to read, or "max"
            continue
        if 0 < n < UNLIMITED:
            found.append(Limit(n, f"cgroup {file}"))
    return min(found, default=None)


def _megabytes(text: str) -> int:
    """Bytes of a number as SLURM writes it: megabytes, unless a letter says otherwise."""
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", text.strip().upper())
    return 0 if match is None else int(match[1]) * _SUFFIXES[match[2] or "M"]


def _cpus(environ: Mapping[str, str]) -> int:
    """CPUs of the job on this node; the least of its nodes where only their list is told (``36(x2),18``)."""
    own = environ.get("SLURM_CPUS_ON_NODE", "")
    if own.isdigit():
        return int(own)
    listed = re.findall(r"(\d+)(?:\(x\d+\))?", environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    return min(map(int, listed), default=0)


def slurm_limit(environ: Mapping[str, str] = os.environ) -> Limit | None:
    """Memory of this SLURM job on this node; ``None`` outside of jobs, and where the job may use all (``--mem=0``)."""
    per_node = _megabytes(environ.get("SLURM_MEM_PER_NODE", ""))
    if per_node:
        return Limit(per_node, "SLURM_MEM_PER_NODE")
    per_cpu = _megabytes(environ.get("SLURM_MEM_PER_CPU", "")) * _cpus(environ)
    return Limit(per_cpu, "SLURM_MEM_PER_CPU") if per_cpu else None


def container_limit() -> Limit | None:
    """The smaller of the limits of this process's container and SLURM job."""
    return min(filter(None, (cgroup_limit(), slurm_limit())), default=None)


def process_limit() -> int:
    """Bytes that a fit in this process may use where the user has not said it: a part of what is there."""
    from distributed.system import MEMORY_LIMIT

    held = container_limit()
    return int(MACHINE_FRACTION * (MEMORY_LIMIT if held is None else min(held.bytes, MEMORY_LIMIT)))


class Told(NamedTuple):
    """What a worker says of the place where it runs."""

    host: str
    machine_bytes: int
    container: Limit | None
    job: str = ""
    """The SLURM job and its node: jobs on one host have memory of their own."""


def tell() -> Told:
    """Run on a worker: its host, and the limits there."""
    import socket

    from distributed.system import MEMORY_LIMIT

    job = f"{os.environ.get('SLURM_JOB_ID', '')} {os.environ.get('SLURMD_NODENAME', '')}"
    return Told(socket.gethostname(), MEMORY_LIMIT, container_limit(), job)


_told: WeakKeyDictionary[Any, dict[str, Told]] = WeakKeyDictionary()


def ask(client: Any, workers: Mapping[str, Any]) -> dict[str, Told]:
    """What workers say of their places, by address; each is asked once. Those that do not answer are left out."""
    known = _told.setdefault(client, {})
    new = [address for address in workers if address not in known]
    if new:

        def question() -> None:
            # Workers that go while they are asked, or a scheduler: whatever Dask raises then, the sweep will find out.
            with contextlib.suppress(Exception):
                known.update(client.run(tell, workers=new, on_error="ignore"))

        # Asked in their event loops, so that one which computes answers at once; and not waited for without end.
        asking = threading.Thread(target=question, name="daskml-core-limits", daemon=True)
        asking.start()
        asking.join(ASKED_S)
    return {address: known[address] for address in workers if address in known}


def worker_limit(workers: Mapping[str, Mapping[str, Any]], told: Mapping[str, Told], fraction: float) -> int:
    """Bytes that a fit may use in each of the workers: what the one with the least has.

    Parameters
    ----------
    workers : what the scheduler knows, by address: ``nthreads`` and ``memory_limit`` (0 or ``None`` for none).
    told : what `ask` has brought.
    fraction : part of a worker's own limit that a fit may use.

    Workers of one host share what its container may use, those of one job what the job may, by their threads.
    """
    from distributed.system import MEMORY_LIMIT

    threads: Counter[tuple[str, ...]] = Counter()
    for address, info in workers.items():
        if address in told:
            host, job = told[address].host, told[address].job
            threads[host,] += int(info["nthreads"])
            threads[host, job] += int(info["nthreads"])
    limits = []
    for address, info in workers.items():
        own = info.get("memory_limit")
        if own:
            limits.append(int(fraction * int(own)))
        if address not in told:
            if not own:
                limits.append(int(MACHINE_FRACTION * MEMORY_LIMIT / len(workers)))
            continue
        place = told[address]
        own_part = MACHINE_FRACTION * int(info["nthreads"])
        if place.container is not None:
            of_job = place.container.said_by.startswith("SLURM")
            together = threads[(place.host, place.job) if of_job else (place.host,)]
            limits.append(int(own_part / together * place.container.bytes))
        if not own:
            limits.append(int(own_part / threads[place.host,] * place.machine_bytes))
    return min(limits)
