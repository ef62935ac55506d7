"""Hosts in network namespaces of this machine: addresses of their own, joined by a bridge that nothing else is joined to.

Each host has two interfaces, as nodes of a cluster have: ``ib0``, through which the hosts reach each other, and ``eth0``,
which has the default route and leads nowhere. Needs root and Debian's iproute2.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PREFIX = "dml"


def why_not() -> str:
    """Why there can be no hosts here, or nothing."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: iproute2)"
    name = f"{PREFIX}-{os.getpid()}-try"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        looked = subprocess.run(["ip", "netns", "exec", name, "true"], capture_output=True, text=True)
        wired = subprocess.run(
            ["ip", "-n", name, "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True
        )
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    failed = [done.stderr.strip() for done in (made, looked, wired) if done.returncode]
    return f"this kernel makes no network namespaces: {failed[0]}" if failed else ""


def ip(*words: str) -> str:
    """What ``ip`` says."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def address(number: int, interface: str = "ib0") -> str:
    """The address of a host: the hosts' network is 10.77.0.0/24, each one's eth0 has a network of its own."""
    return f"10.77.0.{number + 1}" if interface == "ib0" else f"10.78.{number + 1}.1"


class Network:
    """Hosts by name, and the cables between them and the bridge."""

    def __init__(self, names: Sequence[str], pid: int | None = None) -> None:
        self.names = tuple(names)
        self.pid = os.getpid() if pid is None else pid

    def namespace(self, name: str) -> str:
        """The namespace of a host; that of the bridge is ``switch``."""
        return f"{PREFIX}-{self.pid}-{name}"

    def build(self) -> None:
        """Make the namespaces and wire them."""
        switch = self.namespace("switch")
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names):
            host, port = self.namespace(name), f"port{number}"
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "add", "ib0", "type", "veth", "peer", "name", port, "netns", switch)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            ip("-n", host, "address", "add", f"{address(number)}/24", "dev", "ib0")
            ip("-n", host, "link", "set", "ib0", "up")
            # A cable whose other end stays in the same host.
            ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", "nowhere")
            ip("-n", host, "address", "add", f"{address(number, 'eth0')}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
            ip("-n", host, "link", "set", "nowhere", "up")
            ip("-n", host, "route", "add", "default", "dev", "eth0")

    def cut(self, name: str) -> None:
        """Pull the cable of a host."""
        ip("-n", self.namespace("switch"), "link", "set", f"port{self.names.index(name)}", "down")

    def mend(self, name: str) -> None:
        """Plug it in again."""
        ip("-n", self.namespace("switch"), "link", "set", f"port{self.names.index(name)}", "up")

    def start(self, name: str, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A process on a host."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace(name), *command], text=True, **options)

    def remove(self) -> None:
        """End what runs on the hosts, and take them away."""
        remove([self.namespace(name) for name in (*self.names, "switch")])


def remove(namespaces: Sequence[str]) -> None:
    """End what runs in namespaces, then delete them; those that are not there are no error."""
    there = [name for name in namespaces if name in existing()]
    for how, patience in ((signal.SIGTERM, 0.5), (signal.SIGKILL, 3.0)):
        deadline = time.monotonic() + patience
        pids = {int(pid) for name in there for pid in ip("netns", "pids", name).split()} - {os.getpid()}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        while any(ip("netns", "pids", name).split() for name in there) and time.monotonic() < deadline:
            time.sleep(0.05)
    for name in there:
        ip("netns", "delete", name)


def existing() -> list[str]:
    """Names of this module's namespaces, whoever made them."""
    return re.findall(rf"^{PREFIX}-\d+-\w+", ip("netns", "list"), re.M)


def remove_left_over() -> None:
    """Take away what a run that was killed by SIGKILL has left: namespaces of processes that are no more."""
    remove([name for name in existing() if not os.path.exists(f"/proc/{name.split('-')[1]}")])


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Hosts that are gone at the end, whatever that is: an exception, Ctrl-C, SIGTERM or SIGHUP."""
    remove_left_over()
    made = Network(names)

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        made.build()
        yield made
    finally:
        made.remove()
        for number, handler in before.items():
            signal.signal(number, handler)
