"""Whatever the user has becomes row-blocks, and what comes out goes back into the user's kind of container."""

from daskml_core.data.blocks import BlockedArray, RowBlocks, cut
from daskml_core.data.load import as_blocked, as_column, is_lazy, load, refuse_masked, refuse_no_numbers
from daskml_core.data.read import read_block

__all__ = [
    "BlockedArray",
    "RowBlocks",
    "as_blocked",
    "as_column",
    "cut",
    "is_lazy",
    "load",
    "read_block",
    "refuse_masked",
    "refuse_no_numbers",
]
