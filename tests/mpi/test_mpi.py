"""The dask-mpi recipe runs; interrupted and started again it goes on to the same bits."""

import pytest

from tests.mpi.run import interrupted, why_not


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_a_fit_under_mpirun_goes_on_after_it_was_ended(tmp_path):
    assert "same bits" in interrupted(tmp_path)
