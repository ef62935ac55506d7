"""docs/hpc.md quotes the scripts that the tests run, and says no command that none of them runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "hpc.md").read_text()
RECIPES = ROOT / "examples" / "hpc"
SCRIPTS = {
    # As one line, without the seams between literals.
    name: re.sub(r'"\s+"', "", (ROOT / "tests" / name).read_text())
    for name in ("slurm/run.py", "mpi/run.py", "hosts/client.py")
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def test_the_page_quotes_the_scripts_as_they_are():
    quoted = re.findall(r"^<!-- examples/hpc/(\S+) -->\n```\w+\n(.*?)^```", PAGE, re.M | re.S)
    assert len(quoted) == len(blocks("python")) + len(blocks("bash")) == 4
    for name, text in quoted:
        assert text == (RECIPES / name).read_text(), name


def test_every_script_is_on_the_page():
    assert {path.name for path in RECIPES.glob("*.*")} <= set(re.findall(r"[\w]+\.(?:py|sbatch)", PAGE))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_the_page_is_run_by_a_script(command):
    if command.startswith("ssh "):
        return  # the next test's
    variable = re.match(r"export (\w+)=", command)
    wanted = f'"{variable[1]}":' if variable else f'"{command}"'
    assert any(wanted in text for text in SCRIPTS.values()), command


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")
def test_the_tunnel_is_what_ssh_makes_of_the_command():
    (command,) = (command for command in COMMANDS if command.startswith("ssh "))
    # -G: say what would be done, without a connection.
    done = subprocess.run(["ssh", "-G", "-F", "none", *command.split()[1:]], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert {"hostname n1", "proxyjump login", "localforward 8787 [localhost]:8787"} <= set(told)


def test_the_settings_of_a_site_are_those_that_dask_jobqueue_reads():
    jobqueue = pytest.importorskip("dask_jobqueue")
    known = yaml.safe_load((Path(jobqueue.__file__).parent / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    (block,) = blocks("yaml")
    assert set(yaml.safe_load(block)["jobqueue"]["slurm"]) <= set(known)
