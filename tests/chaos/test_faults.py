"""The faults of the table, but for a few that take long, done once: what is promised of each holds."""

import pytest

from tests.chaos.common import close_shared
from tests.chaos.registry import all_faults

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def workers_end_with_the_module():
    yield
    close_shared()


@pytest.mark.parametrize("name", [name for name, fault in all_faults().items() if fault.tested])
def test_what_is_promised_of_the_fault_holds(name):
    fault = all_faults()[name]
    if fault.group != "workers":
        close_shared()
    assert fault.run(range(1), True)
