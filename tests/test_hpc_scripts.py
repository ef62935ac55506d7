"""What the scripts for clusters say and write; on clusters they run in tests/slurm, tests/hosts and tests/mpi."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

RECIPES = Path(__file__).parents[1] / "examples" / "hpc"
GIB = 1 << 30


def script(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


A, B = "tls://10.0.0.1:4000", "tls://10.0.0.2:4000"


def sound():
    """Two workers without a problem, as the scheduler and as they themselves see them."""
    worker = {"memory_limit": 14 * GIB, "nthreads": 8, "local_directory": "/tmp/dask"}
    seen = {"memory": 16 * GIB, "cores": 8, "file_system": "xfs", "unreachable": []}
    return {A: dict(worker), B: dict(worker)}, {A: seen | {"place": ("n1", "7")}, B: seen | {"place": ("n2", "7")}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda workers, seen: None, []),
        (lambda workers, seen: seen[A].update(unreachable=[B]), [f"{A} cannot reach {B}"]),
        (
            lambda workers, seen: seen[B].update(file_system="lustre"),
            [f"{B}: scratch is on a shared file system (lustre, /tmp/dask)"],
        ),
        (
            lambda workers, seen: seen[B].update(place=("n1", "7")),  # both on one node
            ["n1, job 7: workers may use 28.00 GiB of 16.00 GiB", "n1, job 7: 16 threads on 8 cores"],
        ),
        (lambda workers, seen: seen[B].update(place=("n1", "8")), []),  # one node, a job each
        (
            lambda workers, seen: workers[A].update(memory_limit=17 * GIB),
            ["n1, job 7: workers may use 17.00 GiB of 16.00 GiB"],
        ),
        (lambda workers, seen: workers[A].update(memory_limit=0), []),  # no limit: all that there is
    ],
)
def test_each_problem_of_a_cluster_is_told(change, told):
    workers, seen = sound()
    change(workers, seen)
    assert script("check_cluster").problems(workers, seen) == told


def test_addresses_without_encryption_are_told_but_for_loopback():
    workers, seen = sound()
    clear, loopback = "tcp://10.0.0.2:4000", "tcp://127.0.0.1:4000"
    workers = {clear: workers[A], loopback: workers[B]}
    seen = {clear: seen[A], loopback: seen[B]}
    assert script("check_cluster").problems(workers, seen) == [f"{clear}: data would travel in the clear"]


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="only Linux lists its mounts there")
def test_the_file_system_of_a_path_is_the_one_that_df_names(tmp_path):
    for path in ("/", "/proc", "/dev/shm", str(tmp_path)):
        named = subprocess.run(["df", "--output=fstype", path], capture_output=True, text=True)
        if named.returncode == 0:
            assert script("check_cluster").file_system(path) == named.stdout.split()[-1], path


def test_certificates_are_their_owners_alone_and_sign_no_others(tmp_path):
    place = tmp_path / "tls"
    for days in ("2", "3"):  # written over
        subprocess.run([sys.executable, RECIPES / "certificates.py", place, days], check=True)
        assert place.stat().st_mode & 0o777 == 0o700
        assert {file.name: file.stat().st_mode & 0o777 for file in place.iterdir()} == dict.fromkeys(
            ("ca.pem", "cert.pem", "key.pem", "tls.yaml"), 0o600
        )
    authority, own = (x509.load_pem_x509_certificate((place / name).read_bytes()) for name in ("ca.pem", "cert.pem"))
    own.verify_directly_issued_by(authority)
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert own.public_key() != authority.public_key()  # the key that is kept is not the authority's
    assert (own.not_valid_after_utc - own.not_valid_before_utc).days == 3
