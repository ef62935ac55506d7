"""Fits across hosts with addresses of their own, in network namespaces; `make hosts` pulls cables too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hosts.client import QUICK
from tests.hosts.network import existing, remove_left_over, why_not

ROOT = Path(__file__).parents[2]
needs_hosts = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@needs_hosts
def test_a_fit_over_tls_on_hosts_of_their_own_gives_the_same_bits():
    done = subprocess.run([sys.executable, "-m", "tests.hosts.run", *QUICK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(QUICK)
    assert all("same bits" in line for line in lines)


@needs_hosts
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_host_outlives_the_run_that_made_it(how):
    code = (
        "import signal, time; from tests.hosts.network import network\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background\n"
        "with network('a', 'b') as made: made.start('a', 'sleep', '60'); print('up', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert run.stdout.readline() == "up\n"
    time.sleep(0.1)
    assert len([name for name in existing() if f"-{run.pid}-" in name]) == 3
    run.send_signal(how)
    run.wait()
    run.stdout.close()
    if how is signal.SIGKILL:  # nothing can be done then; the next run does it
        remove_left_over()
    assert not [name for name in existing() if f"-{run.pid}-" in name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_the_script_says_that_it_needs_it():
    code = "import os; from tests.hosts.network import why_not; os.setuid(65534); print(why_not())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "network namespaces need root\n", done.stderr
