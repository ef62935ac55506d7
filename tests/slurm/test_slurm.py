"""Workers that are jobs of SLURM, on a SLURM of this machine's own. `make slurm` runs the other recipes too."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.run import QUICK
from tests.slurm.server import why_not

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_a_fit_whose_workers_are_jobs_of_slurm_survives_the_loss_of_one():
    done = subprocess.run([sys.executable, "-m", "tests.slurm.run", *QUICK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(QUICK)
    assert all("same bits" in line for line in lines)
