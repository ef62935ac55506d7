"""Where data would travel unencrypted a fit says so, once; with TLS it gives the same bits."""

import re
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security
from distributed.utils import get_ip

from daskml_core.engine.transport import unencrypted
from daskml_core.errors import UnencryptedWarning
from daskml_core.linear_model import LogisticRegression
from tests.problems import two_classes

X, Y = two_classes(n=2000, d=4)
QUIET = {"dashboard_address": None, "processes": False, "n_workers": 1, "threads_per_worker": 2}


def fit():
    # Arrays in memory of this size would not be sent anywhere.
    return LogisticRegression().fit(da.from_array(X, chunks=(500, 4)) + 0.0, Y)


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("tcp://127.0.0.1:8786", False),
        ("tcp://127.5.5.5:1", False),
        ("tcp://localhost:8786", False),
        ("tcp://[::1]:8786", False),
        ("inproc://10.0.0.1/1/2", False),
        ("tls://10.0.0.1:8786", False),
        ("wss://10.0.0.1:8786", False),
        ("tcp://10.0.0.1:8786", True),
        ("tcp://[fe80::1]:8786", True),
        ("tcp://localhost.example:8786", True),
        ("ws://scheduler:8786", True),
        ("ucx://10.0.0.1:8786", True),
    ],
)
def test_loopback_and_tls_are_no_plain_network(address, plain):
    assert unencrypted([address]) == ([address] if plain else [])


def test_a_fit_through_a_network_without_tls_warns_once_naming_the_address():
    # The machine's own address stands for another's; a machine without a network has the loopback alone.
    host = get_ip()
    networked = bool(unencrypted([f"tcp://{host}:1"]))
    with LocalCluster(host=host, protocol="tcp://", **QUIET) as cluster, Client(cluster):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with dask.config.set({"daskml-core.unencrypted": "allow"}):
                fit()
            silent = len(caught)
            LogisticRegression().plan(X, Y)
            fit()
            fit()
        told = [one for one in caught if one.category is UnencryptedWarning]
    assert silent == 0
    assert len(told) == networked
    if networked:
        assert f"unencrypted through tcp://{host}:" in str(told[0].message)


def test_tls_gives_the_same_bits_and_no_warning():
    alone = fit()
    security = Security.temporary()
    with (
        LocalCluster(host=get_ip(), protocol="tls://", security=security, **QUIET) as cluster,
        Client(cluster) as client,
    ):
        assert client.scheduler.address.startswith("tls://")
        model = fit()
    np.testing.assert_array_equal(model.coef_, alone.coef_)


def test_the_setting_is_checked():
    with LocalCluster(protocol="tcp://", **QUIET) as cluster, Client(cluster):
        for value in (True, "never"):
            with (
                dask.config.set({"daskml-core.unencrypted": value}),
                pytest.raises(ValueError, match="'warn' or 'allow'"),
            ):
                fit()


def test_a_local_cluster_is_reached_from_this_machine_alone():
    with LocalCluster(protocol="tcp://", **QUIET) as cluster, Client(cluster) as client:
        addresses = [cluster.scheduler_address, *client.scheduler_info(n_workers=-1)["workers"]]
    assert len(addresses) == 2
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)


def test_no_example_and_no_page_of_the_guide_opens_a_local_cluster_to_others():
    root = Path(__file__).parent.parent
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("examples/*.py"), *root.glob("benchmarks/*.py")]
    assert len(pages) > 20
    for page in pages:
        for call in re.findall(r"LocalCluster\(([^)]*)\)", page.read_text()):
            assert "host=" not in call or "tls://" in call, page
