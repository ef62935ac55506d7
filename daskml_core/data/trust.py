"""What a zarr store may ask for: codecs that only decode numbers and text, and sizes that can be gone over.

A store is somebody else's file. Its metadata names the codecs that run when a chunk is read, and one of those (pickle)
runs whatever the chunk says; so codecs are allowed by name, and everything else is refused before a chunk is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from daskml_core.data.chunks import grid_of, label
from daskml_core.errors import UntrustedStoreError

# Version 3 of the format.
_OWN = ("bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "blosc", "zstd", "vlen-utf8")
# numcodecs, by their identifiers in version 2; in version 3 with "numcodecs." in front.
_COMPRESSORS = ("zlib", "bz2", "lzma", "lz4", "zfpy", "pcodec")
_FILTERS = ("shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "packbits", "astype")
_CHECKSUMS = ("crc32", "adler32", "fletcher32", "jenkins_lookup3")
CODECS = frozenset((*_OWN, *_COMPRESSORS, *_FILTERS, *_CHECKSUMS))
"""Codecs whose decoders make numbers or text of bytes and do nothing else."""

MAX_BLOCKS = 1 << 22
"""Most row-blocks of one array; a block has at least a MiB or a chunk, so that honest data stays far below."""


def _names(codecs: Any) -> Iterator[str]:
    """Names of all codecs in an array's metadata, those inside of shards included."""
    for codec in codecs or ():
        if codec is None:
            continue
        name = codec if isinstance(codec, str) else codec.get("name", codec.get("id"))
        yield str(name).removeprefix("numcodecs.")
        inside = codec.get("configuration") if isinstance(codec, Mapping) else None
        if isinstance(inside, Mapping):
            yield from _names(inside.get("codecs"))
            yield from _names(inside.get("index_codecs"))


def refuse_untrusted(array: Any) -> None:
    """Refuse an array whose codecs are not known to be harmless, or that holds objects.

    Raises
    ------
    UntrustedStoreError : naming the codec.
    """
    described = array.metadata.to_dict()
    names = list(_names([*(described.get("codecs") or ()), *(described.get("filters") or ())]))
    names += list(_names([described.get("compressor")]))
    unknown = sorted(set(names) - CODECS)
    if unknown:
        raise UntrustedStoreError(
            f"Array {label(array)} is encoded with {', '.join(map(repr, unknown))}, which may run code or is not known. "
            f"Write it with one of zarr's own codecs, e.g. zstd.",
            label(array),
        )
    if np.dtype(array.dtype).kind == "O" and "vlen-utf8" not in names:
        raise UntrustedStoreError(
            f"Array {label(array)} holds objects (dtype {array.dtype}). Write numbers, or labels as text.", label(array)
        )


def refuse_absurd(array: Any, rows_axis: int, rows_a_block: int) -> None:
    """Refuse an array that declares more row-blocks than anybody reads; nothing is allocated for its blocks before.

    Raises
    ------
    UntrustedStoreError : naming what is declared.
    """
    n_blocks = -(-int(array.shape[rows_axis]) // max(1, rows_a_block))
    if n_blocks > MAX_BLOCKS:
        raise UntrustedStoreError(
            f"Array {label(array)} declares {grid_of(array).n:,} stored chunks of {array.chunks}, shape {array.shape}: "
            f"{n_blocks:,} row-blocks where {MAX_BLOCKS:,} are the most. Rechunk it.",
            label(array),
        )
