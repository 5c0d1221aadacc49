"""PostgreSQL's binary formats, for the columns that are written by the million: halfvec, tsvector and COPY rows.

Formats as of PostgreSQL 18 (tsvectorsend, halfvec_send, COPY binary), unchanged since PostgreSQL 15 and pgvector 0.7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
COPY_TRAILER = b"\xff\xff"
NULL = struct.pack("!i", -1)
MAX_POSITIONS = 255

_length = struct.Struct("!i")


def halfvecs(vectors: NDArray[np.float32]) -> list[bytes]:
    """Return each row of an n x dimensions array as the bytes of one halfvec value."""
    count, dimensions = vectors.shape
    head = struct.pack("!hH", dimensions, 0)
    body = np.ascontiguousarray(vectors, dtype=">f2").tobytes()
    width = 2 * dimensions
    return [head + body[at : at + width] for at in range(0, count * width, width)]


def floats(halfvec: bytes) -> NDArray[np.float32]:
    """Return a halfvec value as a float32 array."""
    return np.frombuffer(halfvec, dtype=">f2", offset=4).astype(np.float32)


class TsvectorPacker:
    """Packs counted lexemes into tsvector values; remembers the packed form of each (lexeme, count) pair.

    A lexeme that occurs n times carries the positions 1..n: only their number matters, for ranking. The server sorts.
    """

    def __init__(self) -> None:
        self._packed = _PackedLexemes()

    def pack(self, counts: Mapping[str, int]) -> bytes:
        if len(self._packed) > 500_000:
            self._packed.clear()
        return _length.pack(len(counts)) + b"".join(map(self._packed.__getitem__, counts.items()))


class _PackedLexemes(dict[tuple[str, int], bytes]):
    def __missing__(self, key: tuple[str, int]) -> bytes:
        lexeme, count = key
        if count == 1:
            return self.setdefault(key, lexeme.encode() + b"\0\0\0")
        last = min(count, MAX_POSITIONS)
        positions = struct.pack(f"!{1 + last}H", last, *range(1, last + 1))
        return self.setdefault(key, lexeme.encode() + b"\0" + positions)


def _timestamptz(moment: datetime) -> bytes:
    return _int8.pack((moment - _EPOCH) // _MICROSECOND)


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_int8 = struct.Struct("!q")

ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "text": str.encode,
    "uuid": lambda value: value.bytes,
    "int4": _length.pack,
    "int8": _int8.pack,
    "float8": struct.Struct("!d").pack,
    "timestamptz": _timestamptz,
    "jsonb": lambda value: b"\x01" + value.encode(),
    "bytea": bytes,
    "halfvec": bytes,
    "tsvector": bytes,
}
"""Type name -> its binary form. A jsonb value comes as JSON text, halfvec and tsvector as packed above."""


ELEMENT_TYPES: Mapping[str, int] = {
    "bytea": 17,
    "int8": 20,
    "int4": 23,
    "text": 25,
    "float8": 701,
    "timestamptz": 1184,
    "uuid": 2950,
    "tsvector": 3614,
    "jsonb": 3802,
}
"""Type name -> its oid, the same in every database. pgvector's types get theirs when the extension is created."""

_array_head = struct.Struct("!iiIii")


def array(element_type: int, fields: Sequence[bytes | None]) -> bytes:
    """Return an array of one dimension of fields that are in their binary form already. None is NULL."""
    parts: list[bytes] = [b""] * (2 * len(fields))
    parts[0::2] = [NULL if field is None else _length.pack(len(field)) for field in fields]
    parts[1::2] = [field or b"" for field in fields]
    return _array_head.pack(1, 1, element_type, len(fields), 1) + b"".join(parts)


def copy_blocks(types: Sequence[str], rows: Iterable[Sequence[Any]], *, block_rows: int = 500) -> Iterator[bytes]:
    """Yield `rows` as a binary COPY, header and trailer included, in blocks of `block_rows`. None is NULL."""
    encoders = [ENCODERS[kind] for kind in types]
    field_count = struct.pack("!h", len(encoders))
    parts = [COPY_HEADER]
    for number, row in enumerate(rows, 1):
        parts.append(field_count)
        for encode, value in zip(encoders, row, strict=True):
            if value is None:
                parts.append(NULL)
            else:
                field = encode(value)
                parts += (_length.pack(len(field)), field)
        if number % block_rows == 0:
            yield b"".join(parts)
            parts = []
    parts.append(COPY_TRAILER)
    yield b"".join(parts)
