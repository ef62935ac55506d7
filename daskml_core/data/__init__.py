"""Whatever the user has becomes row-blocks, and what comes out goes back into the user's kind of container."""

from daskml_core.data.blocks import BlockedArray, RowBlocks, cut
from daskml_core.data.flat import Flat, flatten
from daskml_core.data.grid import is_grid
from daskml_core.data.kind import is_dataarray, is_lazy
from daskml_core.data.load import (
    as_blocked,
    as_column,
    load,
    refuse_feature_dim,
    refuse_masked,
    refuse_no_numbers,
)
from daskml_core.data.open import open, open_zarr
from daskml_core.data.read import read_block
from daskml_core.data.sampling import sample_labelled
from daskml_core.data.verification import Manifest, StoreReport, manifest, verify

__all__ = [
    "BlockedArray",
    "Flat",
    "Manifest",
    "RowBlocks",
    "StoreReport",
    "as_blocked",
    "as_column",
    "cut",
    "flatten",
    "is_dataarray",
    "is_grid",
    "is_lazy",
    "load",
    "manifest",
    "open",
    "open_zarr",
    "read_block",
    "refuse_feature_dim",
    "refuse_masked",
    "refuse_no_numbers",
    "sample_labelled",
    "verify",
]
