"""The examples run as a user runs them, without a warning, and leave what they say they leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"

PICTURES = [
    ("ocean_regions.py", "ocean_regions.png", "450 places in the sea"),
    ("colours.py", "colours.png", "64 colours"),
    ("land_cover.py", "land_cover.png", "accuracy 0.86"),
    ("pictures.py", "pictures.png", "digits: 436 of 450 right"),
    ("svm_regions.py", "svm_regions.png", "SVC, 600 rows: accuracy"),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The examples, all at once, each in a process and a directory of its own; a warning ends it."""
    running = {}
    for name in (*(name for name, _, _ in PICTURES), "resume_after_kill.py"):
        folder = tmp_path_factory.mktemp(name.removesuffix(".py"))
        with open(folder / "said", "w") as said, open(folder / "errors", "w") as errors:
            command = [sys.executable, "-W", "error", EXAMPLES / name, folder]
            env = os.environ | {"MPLBACKEND": "Agg"}
            running[name] = subprocess.Popen(command, stdout=said, stderr=errors, env=env), folder
    yield running
    for process, _ in running.values():
        process.kill()
        process.wait()


def run(started, name):
    """What a script prints, and where it has put its picture."""
    process, folder = started[name]
    assert process.wait() == 0, (folder / "errors").read_text()
    return (folder / "said").read_text(), folder


@pytest.mark.parametrize(("name", "picture", "says"), PICTURES)
def test_an_example_runs_and_draws_its_picture(started, name, picture, says):
    said, folder = run(started, name)
    assert says in said
    with Image.open(folder / picture) as image:
        assert min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_a_fit_that_is_killed_goes_on_to_the_same_bits(started):
    said, _ = run(started, "resume_after_kill.py")
    assert "same bits: True" in said and "checkpoint removed: True" in said
