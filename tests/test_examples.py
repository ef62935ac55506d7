"""The examples run as a user runs them, without a warning, and leave what they say they leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder):
    """What a script prints; a warning ends it."""
    command = [sys.executable, "-W", "error", EXAMPLES / name, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "picture", "says"),
    [
        ("ocean_regions.py", "ocean_regions.png", "450 places in the sea"),
        ("colours.py", "colours.png", "64 colours"),
        ("land_cover.py", "land_cover.png", "accuracy 0.86"),
        ("pictures.py", "pictures.png", "digits: 436 of 450 right"),
        ("svm_regions.py", "svm_regions.png", "SVC, 600 rows: accuracy"),
    ],
)
def test_an_example_runs_and_draws_its_picture(tmp_path, name, picture, says):
    assert says in run(name, tmp_path)
    with Image.open(tmp_path / picture) as image:
        assert min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_a_fit_that_is_killed_goes_on_to_the_same_bits(tmp_path):
    said = run("resume_after_kill.py", tmp_path)
    assert "same bits: True" in said and "checkpoint removed: True" in said
