"""Every fault of `bad_data` ends as promised: a typed error that names the place, or the same model.

What is done hundreds of times is done less often here than by `make chaos`.
"""

import pytest

from tests.chaos.bad_data import FAULTS, flipped_bits, mutated_metadata, truncated_chunks

LESS_OFTEN = {flipped_bits: {"n": 60}, truncated_chunks: {"step": 256}, mutated_metadata: {"n": 150}}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.__name__)
def test_a_fault_ends_as_promised(fault, tmp_path):
    promised, measured = fault(tmp_path, **LESS_OFTEN.get(fault, {}))
    assert promised
    assert measured
