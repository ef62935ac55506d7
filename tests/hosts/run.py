"""Three hosts on one machine, in network namespaces: fits over TLS while a host is cut off and comes back.

``python -m tests.hosts.run [SCENE ...]``, as root, from the project's directory; ``make hosts``. Nothing is sent outside
of the namespaces, which are gone at the end whatever that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hosts.client import HOSTS
from tests.hosts.network import network, why_not

ROOT = Path(__file__).parents[2]


def environment(directory: str) -> dict[str, str]:
    """Settings of all processes: certificates, the shortest time that Dask gives a silent connection, this code."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "DASK_CONFIG": os.path.join(directory, "tls", "tls.yaml"),
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
        "PYTHONWARNINGS": "ignore",
        "SCIPY_ARRAY_API": "1",
    }


def main(*only: str) -> int:
    """The exit status: 0, 1 where a promise was broken, 2 where there can be no hosts."""
    reason = why_not()
    if reason:
        print(f"no hosts: {reason}", file=sys.stderr)
        return 2
    python, file = sys.executable, "scheduler.json"
    with tempfile.TemporaryDirectory() as directory, network(*HOSTS) as hosts:
        shared = environment(directory)
        certificates = [python, str(ROOT / "examples/hpc/certificates.py"), os.path.join(directory, "tls")]
        subprocess.run(certificates, check=True, env=shared | {"DASK_CONFIG": os.devnull})
        with open(os.path.join(directory, "log"), "w") as log:
            place = os.path.join(directory, file)

            def start(host: str, *words: str, loop: bool = False) -> None:
                command = [python, "-m", "dask", *words, "--scheduler-file", place, "--interface", "ib0"]
                # What systemd, or a loop in a job's script, does on a real host: start the worker again when it ends.
                shell = ["sh", "-c", 'while true; do "$@"; sleep 0.5; done', "sh"] if loop else []
                hosts.start(host, *shell, *command, env=shared | {"HOST": host}, stdout=log, stderr=log, cwd=directory)

            start("scheduler", "scheduler", "--port", "0", "--no-dashboard")
            for host in HOSTS[1:]:
                local = os.path.join(directory, f"local-{host}")
                start(host, "worker", "--nthreads", "1", "--local-directory", local, "--no-dashboard", loop=True)
            session = hosts.start(
                "scheduler", python, "-m", "tests.hosts.client", directory, str(os.getpid()), *only,
                env=shared | {"HOST": "scheduler"}, cwd=ROOT,
            )  # fmt: skip
            status = session.wait()
        if status:
            print(Path(directory, "log").read_text()[-6000:], file=sys.stderr)
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
