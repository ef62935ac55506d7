"""The user's session on the scheduler's host: fits while cables are pulled. Started by ``run.py``."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
from distributed import Client

from daskml_core.errors import SweepTimeoutError
from tests.chaos.common import expected, fit, in_the_middle_of, on_sweep, problem
from tests.hosts.network import Network, address

HOSTS = ("scheduler", "one", "two")


SLOW = "from now on blocks are slow"


def noted(block: np.ndarray, seconds: float = 0.01, directory: str = "") -> np.ndarray:
    """The block after a while; when it was read is noted in a file of the host that read it."""
    if block.size:
        time.sleep(0.06 if Path(directory, SLOW).exists() else seconds)
        with open(Path(directory, os.environ["HOST"]), "a") as file:
            file.write(f"{time.time()}\n")
    return block


def reads(directory: str, host: str) -> list[float]:
    """When a host has read blocks, in seconds since the epoch."""
    file = Path(directory, host)
    return [float(line) for line in file.read_text().split()] if file.exists() else []


def addresses(client: Client) -> set[str]:
    """Addresses of the workers that the scheduler knows."""
    return set(client.scheduler_info(n_workers=-1)["workers"])


def wait_until(happens: Callable[[], bool], seconds: float = 120.0) -> None:
    """Return when something has happened."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def is_let_in(scheduler: str, own: bool) -> bool:
    """Whether the scheduler talks over TLS to a client with, or without, this cluster's certificate."""
    host, _, port = scheduler.partition("://")[2].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own:
        keys = dask.config.get("distributed.comm.tls.client")
        context.load_cert_chain(keys["cert"], keys["key"])
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as talk:
        try:
            return bool(talk.recv(1))  # Dask's first word is the server's
        except ssl.SSLError as error:
            assert "certificate required" in str(error).lower(), error
            return False


def everything_is_encrypted(client: Client, network: Network, directory: str) -> str:
    """The fit's bits over TLS; a client without a certificate is turned away."""
    wanted = {f"tls://{address(number)}" for number in (1, 2)}
    assert {one.rpartition(":")[0] for one in addresses(client)} == wanted, addresses(client)
    start = client.scheduler.address
    assert start.startswith(f"tls://{address(0)}:"), start
    assert [is_let_in(start, own) for own in (False, True)] == [False, True]
    assert fit(*problem(noted, directory=directory)) == expected()
    read = {host: len(reads(directory, host)) for host in HOSTS}
    assert read["one"] and read["two"] and not read["scheduler"], read
    return f"same bits; both hosts read ({read['one']} and {read['two']} blocks); no certificate, no entry"


def away_for_a_moment(client: Client, network: Network, directory: str) -> str:
    """A cable is out for two seconds: connections hold, what was sent is sent again."""
    before = addresses(client)

    def trip() -> None:
        network.cut("two")
        time.sleep(2)
        network.mend("two")

    with in_the_middle_of(4, trip):
        start = time.monotonic()
        bits = fit(*problem(noted, directory=directory))
        took = time.monotonic() - start
    assert bits == expected()
    assert addresses(client) == before  # the very same workers
    return f"same bits, in {took:.0f} s; the connections held"


def away_until_given_up(client: Client, network: Network, directory: str) -> str:
    """A cable is out until the scheduler has given the host up; its worker starts anew and takes part in the same fit."""
    before = addresses(client)
    (lost,) = (one for one in before if f"//{address(2)}:" in one)
    times: dict[str, float] = {}

    def pull() -> None:
        times["cut"] = time.time()
        network.cut("two")
        wait_until(lambda: lost not in addresses(client))
        times["given up"] = time.time()

    def wait_for_it(number: int) -> None:
        if number == 8:  # the fit has gone on without the host for some sweeps
            times["mended"] = time.time()
            network.mend("two")
            client.wait_for_workers(2, timeout=120)
            times["back"] = time.time()
            # Dask gives tasks to whoever holds the recipe of their span. A newcomer gets those that it can steal, and it
            # steals none that is done sooner than sent: 0.1 s.
            Path(directory, SLOW).touch()

    with in_the_middle_of(4, pull), on_sweep(wait_for_it):
        bits = fit(*problem(noted, directory=directory))
    assert bits == expected()
    assert lost not in addresses(client)
    alone = [when for when in reads(directory, "one") if times["given up"] < when < times["mended"]]
    again = [when for when in reads(directory, "two") if when > times["back"]]
    assert alone and again, (len(alone), len(again))
    return (
        f"same bits; given up after {times['given up'] - times['cut']:.0f} s, back {times['back'] - times['mended']:.0f} s "
        f"after the cable; meanwhile {len(alone)} blocks read by the other, then {len(again)} by the one that was away"
    )


def an_address_that_leads_nowhere(client: Client, network: Network, directory: str) -> str:
    """A worker that announces an address which the others cannot reach: it is found, and holds no fit up."""
    place = os.path.join(os.path.dirname(directory), "scheduler.json")
    site = {"cwd": "examples/hpc", "env": os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}}

    def check(command: str) -> subprocess.CompletedProcess[str]:
        words = command.replace("scheduler.json", place).split()
        return subprocess.run(words, capture_output=True, text=True, **site)

    well = check("python check_cluster.py scheduler.json 2")
    assert well.returncode == 0 and "no problem found" in well.stdout, well
    worker = [
        sys.executable,
        "-m",
        "dask",
        "worker",
        "--scheduler-file",
        place,
        "--interface",
        "eth0",
        "--no-dashboard",
    ]
    nothing = subprocess.DEVNULL
    bad = network.start("two", *worker, "--nthreads", "1", "--local-directory", directory, stdout=nothing, stderr=nothing,
                        env=os.environ | {"HOST": "two"})  # fmt: skip
    try:
        client.wait_for_workers(3, timeout=300)
        told = check("python check_cluster.py scheduler.json 3")
        nowhere = f"cannot reach tls://{address(2, 'eth0')}:"
        assert told.returncode == 1 and nowhere in told.stdout, told
        assert told.stdout.count("cannot reach") == 2, told.stdout  # the scheduler, and the worker of the other host
        try:
            with dask.config.set({"daskml-core.sweep-timeout": 4}):
                fit(*problem(noted, directory=directory))
        except SweepTimeoutError as error:
            assert "Outstanding" in str(error), error
        else:
            raise AssertionError("a worker that nobody reaches was of use")
        # A scheduler that is told no interface announces the one of the default route.
        other = os.path.join(directory, "other.json")
        command = ["-m", "dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", other]
        lost = network.start("scheduler", sys.executable, *command, stdout=nothing, stderr=nothing)
        wait_until(lambda: os.path.exists(other) and os.path.getsize(other) > 0)
        announced = Path(other).read_text()
        lost.terminate()
        lost.wait()
        assert f"tls://{address(0, 'eth0')}:" in announced, announced
    finally:
        bad.terminate()
        bad.wait()
        wait_until(lambda: len(addresses(client)) == 2)
    return "found by check_cluster.py; `sweep-timeout` ends a fit that waits for it"


SCENES: dict[str, Callable[[Client, Network, str], str]] = {
    "three hosts, TLS": everything_is_encrypted,
    "an address that leads nowhere": an_address_that_leads_nowhere,
    "a cable is out for 2 s": away_for_a_moment,
    "a cable is out until the host is given up": away_until_given_up,
}


QUICK = ("three hosts, TLS",)
"""What the tests play; `make hosts` plays all, as CI does after the tests."""


def main(directory: str, pid: str, *only: str) -> None:
    """Play the scenes, a line each."""
    network = Network(HOSTS, int(pid))
    expected()
    with Client(scheduler_file=os.path.join(directory, "scheduler.json")) as client:
        for name in only or SCENES:
            client.wait_for_workers(2, timeout=300)
            begin = time.monotonic()
            notes = os.path.join(directory, f"reads-{len(os.listdir(directory))}")
            os.mkdir(notes)
            print(f"{name}: {SCENES[name](client, network, notes)}  [{time.monotonic() - begin:.1f} s]", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
