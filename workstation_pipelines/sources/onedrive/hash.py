"""quickXorHash: the one hash of its files that OneDrive gives for personal and work accounts alike.

Written from the description at learn.microsoft.com/onedrive/developer/code-snippets/quickxorhash (read 2026-11-22).
"""

from __future__ import annotations

from base64 import b64encode

_BITS = 160
_SHIFT = 11
_PERIOD_BYTES = 160
"""Byte i is rotated by 11 * i bits of 160, so that bytes 160 apart meet at the same place."""

_BLOCK_BYTES = _PERIOD_BYTES * 4096
_MASK = (1 << _BITS) - 1


def quick_xor_hash(body: bytes) -> str:
    """Return the hash of a file's bytes as Graph writes it: 20 bytes in base64."""
    mixed = 0
    block = _folded(body, _BLOCK_BYTES) if len(body) > _BLOCK_BYTES else body
    for at, byte in enumerate(_folded(block, _PERIOD_BYTES)):
        rotated = byte << (at * _SHIFT % _BITS)
        mixed ^= (rotated & _MASK) | (rotated >> _BITS)
    mixed ^= len(body) << (_BITS - 64)
    return b64encode(mixed.to_bytes(_BITS // 8, "little")).decode("ascii")


def _folded(body: bytes, block_bytes: int) -> bytes:
    """Lay blocks of so many bytes on top of each other by exclusive or: megabytes at a time, for a loop over bytes is slow."""
    mixed = 0
    for at in range(0, len(body), block_bytes):
        mixed ^= int.from_bytes(body[at : at + block_bytes], "little")
    return mixed.to_bytes(block_bytes, "little")
