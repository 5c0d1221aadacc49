"""Dropbox's hash of a file's content: SHA-256 over the SHA-256 digests of its blocks of 4 MiB.

https://www.dropbox.com/developers/reference/content-hash, checked 2026-11-22.
"""

from __future__ import annotations

from hashlib import sha256

BLOCK_BYTES = 4 * 1024 * 1024


def content_hash(body: bytes) -> str:
    """Return 64 lower-case hex digits; an empty body has no blocks, so its hash is that of nothing."""
    view = memoryview(body)
    blocks = (view[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))
    return sha256(b"".join(sha256(block).digest() for block in blocks)).hexdigest()
