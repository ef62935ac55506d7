"""A SLURM of its own on this machine: munge, slurmctld and two nodes, in a temporary directory, gone at the end.

Needs Debian's slurm-wlm and munge. The nodes are two slurmd of this machine that claim 16 cores and 64 GB each, so that
recipes for real nodes run as they are. Nothing listens but on loopback; no system file is touched.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")

CONFIGURATION = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={d}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/%n
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/%n.pid
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MpiDefault=none
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=16 CoresPerSocket=16 RealMemory=64000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=16 CoresPerSocket=16 RealMemory=64000
PartitionName=long Nodes=n[1-2] Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=urgent Nodes=n[1-2] MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""
"""No cgroups, no accounting. ``cred_expire``: a requeued job waits for its old credential to expire, 120 s by default."""


def why_not() -> str:
    """Why there can be no SLURM here, or nothing."""
    missing = [name for name in COMMANDS if shutil.which(name, path=_path()) is None]
    return f"there is no {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send_signal(how)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


@contextmanager
def slurm(directory: Path) -> Iterator[dict[str, str]]:
    """The environment in which ``sbatch`` and its like talk to this SLURM, which is ended with all of its jobs."""
    directory.chmod(0o755)
    for name in ("munge", "state", "n1", "n2"):
        (directory / name).mkdir(mode=0o755)
    key = directory / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    host = socket.gethostname().partition(".")[0]
    settings = {"host": host, "d": directory, "user": getpass.getuser(), "ports": _free_ports(3)}
    (directory / "slurm.conf").write_text(CONFIGURATION.format(**settings))
    environment = os.environ | {"SLURM_CONF": str(directory / "slurm.conf"), "PATH": _path()}
    names = {option: f"{directory}/munge/{option}" for option in ("socket", "pid-file", "log-file", "seed-file")}
    munged = ["munged", "-F", f"--key-file={key}", *(f"--{option}={place}" for option, place in names.items())]

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    processes: list[subprocess.Popen[bytes]] = []
    log = open(directory / "daemons.log", "w")  # noqa: SIM115
    try:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            while command is munged and not os.path.exists(names["socket"]):
                assert processes[0].poll() is None, (directory / "daemons.log").read_text()
                time.sleep(0.05)
        deadline = time.monotonic() + 30
        while "idle idle" not in _states(environment):
            assert time.monotonic() < deadline, (directory / "daemons.log").read_text()[-4000:]
            time.sleep(0.1)
        yield environment
        subprocess.run(["scancel", "--state=PENDING"], env=environment, check=False)
        subprocess.run(
            ["scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}"], env=environment, check=False
        )
    finally:
        _end(processes)
        for process in of_jobs(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        log.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _states(environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sinfo", "-h", "-N", "-p", "long", "-o", "%T"], env=environment, capture_output=True, text=True
    )
    return " ".join(done.stdout.split())


def of_jobs(directory: Path, job: str = "") -> list[int]:
    """Processes that know this SLURM by its configuration, those of one job or all; jobs may leave some behind."""
    marks = {f"SLURM_CONF={directory}/slurm.conf".encode()} | ({f"SLURM_JOB_ID={job}".encode()} if job else set())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marks <= set((process / "environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
    return found
