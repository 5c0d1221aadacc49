"""The floor: the least work that still gives right rows. One process, one transaction, no state but a hash a file.

    python -m benchmarks.floor FOLDER DATABASE_URL OUT

A load splits, embeds and copies; a second run reads and hashes every file and compares with one SELECT. It keeps no
document text, no words for full-text search, no offsets, no owner, no jobs and no point to resume from.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks import workload
from benchmarks.corpus import walk
from benchmarks.measured import measured

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (path text PRIMARY KEY, hash bytea);
CREATE TABLE IF NOT EXISTS chunks (path text, ordinal int, text text, embedding vector(384), PRIMARY KEY (path, ordinal));
"""
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_TRAILER = b"\xff\xff"
_VECTOR_HEAD = struct.pack("!iHH", 4 + 4 * workload.DIMENSIONS, workload.DIMENSIONS, 0)
_BLOCK_BYTES = 1 << 18


def sync(folder: Path, cursor: psycopg.Cursor[Any]) -> None:
    """Bring the two tables to the state of `folder`."""
    cursor.execute(SCHEMA)
    known = dict(cursor.execute("SELECT path, hash FROM items", binary=True).fetchall())
    todo: list[tuple[str, str, bytes | None]] = []
    stale: list[str] = []
    root_length = len(str(folder)) + 1
    for path in walk(folder):
        name = path[root_length:]
        before = known.pop(name, None)
        if before is None:
            todo.append((name, path, None))
        elif hashlib.blake2b(body := _read(path), digest_size=16).digest() != before:
            stale.append(name)
            todo.append((name, path, body))
    gone = [*known, *stale]
    if gone:
        cursor.execute("DELETE FROM chunks WHERE path = ANY(%s)", [gone])
        cursor.execute("DELETE FROM items WHERE path = ANY(%s)", [gone])
    if todo:
        _load(cursor, todo)


def _load(cursor: psycopg.Cursor[Any], todo: Iterable[tuple[str, str, bytes | None]]) -> None:
    items = [_HEADER]
    with cursor.copy("COPY chunks (path, ordinal, text, embedding) FROM STDIN (FORMAT BINARY)") as copy:
        blocks, size_bytes = [_HEADER], 0
        for name, path, body in todo:
            key, body = name.encode(), _read(path) if body is None else body
            text = body.decode()
            blocks.append(_rows(key, [text[start:end] for start, end in workload.cut(text)]))
            size_bytes += len(blocks[-1])
            if size_bytes > _BLOCK_BYTES:
                copy.write(b"".join(blocks))
                blocks, size_bytes = [], 0
            digest = hashlib.blake2b(body, digest_size=16).digest()
            items += (struct.pack("!hi", 2, len(key)), key, struct.pack("!i", 16), digest)
        copy.write(b"".join(blocks) + _TRAILER)
    with cursor.copy("COPY items (path, hash) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"".join(items) + _TRAILER)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _rows(key: bytes, texts: list[str]) -> bytes:
    head = struct.pack("!hi", 4, len(key)) + key
    vectors = workload.embed(texts).astype(np.dtype(">f4")).tobytes()
    width = 4 * workload.DIMENSIONS
    parts: list[bytes] = []
    for ordinal, text in enumerate(texts):
        body = text.encode()
        vector = vectors[ordinal * width : (ordinal + 1) * width]
        parts += (head, struct.pack("!iii", 4, ordinal, len(body)), body, _VECTOR_HEAD, vector)
    return b"".join(parts)


def main() -> None:
    folder, url, out = sys.argv[1:4]
    with measured(Path(out)), psycopg.connect(url) as connection, connection.cursor() as cursor:
        sync(Path(folder), cursor)


if __name__ == "__main__":
    main()
