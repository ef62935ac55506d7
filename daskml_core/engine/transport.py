"""Whether data would travel unencrypted: Dask's default transport is plain TCP, which also runs code that it is sent."""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from daskml_core.engine.settings import setting
from daskml_core.errors import UnencryptedWarning

PLAIN = ("tcp", "ws", "ucx", "ucxx")
"""Transports of Dask without encryption. ``tls`` and ``wss`` have it, ``inproc`` stays in the process."""

_told: WeakSet[Any] = WeakSet()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may be any machine's
        return False


def unencrypted(addresses: Iterable[str]) -> list[str]:
    """The addresses that lead over a network without encryption.

    >>> unencrypted(["tcp://127.0.0.1:8786", "tls://10.0.0.1:8786", "tcp://10.0.0.1:8786", "tcp://[::1]:80", "inproc://a/1"])
    ['tcp://10.0.0.1:8786']
    """
    found = []
    for address in addresses:
        scheme, _, place = address.partition("://")
        host = place.rpartition(":")[0].strip("[]") or place
        if scheme in PLAIN and not _is_loopback(host):
            found.append(address)
    return found


def warn_if_unencrypted(client: Any) -> None:
    """Warn, once a client, where blocks and models would travel unencrypted between machines.

    Looked at are the scheduler's address as the client reaches it, and those of the workers.
    """
    if setting("unencrypted") == "allow" or client in _told:
        return
    _told.add(client)
    plain = unencrypted([client.scheduler.address, *client.scheduler_info(n_workers=-1)["workers"]])
    if plain:
        more = f" and {len(plain) - 1} more" if len(plain) > 1 else ""
        warnings.warn(
            f"The data of this fit travels unencrypted through {plain[0]}{more}, and whoever reaches that address can run "
            "code on the cluster. Start scheduler, workers and Client with distributed.security.Security (TLS). In a "
            "network that is closed to others, set daskml-core.unencrypted to 'allow'.",
            UnencryptedWarning,
            stacklevel=2,
        )
