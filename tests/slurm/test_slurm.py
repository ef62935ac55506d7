"""The recipes for SLURM, run on a SLURM of this machine's own: interrupted jobs go on to the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.run import QUICK
from tests.slurm.server import why_not

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_jobs_of_slurm_that_are_interrupted_give_the_same_bits():
    done = subprocess.run([sys.executable, "-m", "tests.slurm.run", *QUICK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(QUICK)
    assert all("same bits" in line for line in lines)
