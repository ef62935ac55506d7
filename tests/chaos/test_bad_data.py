"""Every fault of `bad_data` ends as promised: a typed error that names the place, or the same model."""

import pytest

from tests.chaos.bad_data import FAULTS, mutated_metadata


@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f.__name__) for f in FAULTS.values() if f is not mutated_metadata]
)
def test_a_fault_ends_as_promised(fault, tmp_path):
    promised, measured = fault(tmp_path)
    assert promised
    assert measured


def test_mutated_metadata_never_hangs_crashes_or_allocates(tmp_path):
    mutated_metadata(tmp_path, n=150)
