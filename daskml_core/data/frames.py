"""What a compressed chunk says of its decoded size, in its first bytes; decoders allocate what is said there.

zstd: RFC 8878, section 3.1.1.1. blosc: its 16-byte header. lz4: numcodecs puts the size in front. Others do not say.
"""

from __future__ import annotations

HEAD_BYTES = 18
"""As many bytes of a chunk hold every header that is read here."""

ZSTD_MAGIC = bytes.fromhex("28b52ffd")


def declared_bytes(codec: str, head: bytes) -> int | None:
    """Decoded bytes by a chunk's own word; ``None`` where it gives none.

    >>> declared_bytes("blosc", bytes([2, 1, 33, 4]) + (1 << 30).to_bytes(4, "little") + bytes(8))
    1073741824
    """
    if codec == "zstd":
        return _zstd(head)
    if codec == "blosc":
        return int.from_bytes(head[4:8], "little") if len(head) >= 16 else None
    if codec == "lz4":
        return int.from_bytes(head[:4], "little") if len(head) >= 4 else None
    return None


def _zstd(head: bytes) -> int | None:
    if len(head) < 6 or head[:4] != ZSTD_MAGIC:
        return None
    descriptor = head[4]
    single_segment, flag = bool(descriptor & 0x20), descriptor >> 6
    width = {0: 1 if single_segment else 0, 1: 2, 2: 4, 3: 8}[flag]
    if not width:
        return None
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 if width == 2 else size
