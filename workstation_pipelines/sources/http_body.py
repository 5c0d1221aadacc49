"""Reading an answer's body without trusting its length, its compression, its pace or its JSON."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx

MOST_JSON_BYTES = 64 * 1024 * 1024
MOST_ERROR_BYTES = 1024 * 1024

_MOST_UNWANTED_BYTES = 64 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BLOCK_BYTES = 1024 * 1024
_UNPACKED = ("", "identity")
_PACKED = ("gzip", "x-gzip", "deflate")


class TooLongError(Exception):
    """Raised when a body has more bytes than allowed, counted after decompression."""


class BrokenBodyError(Exception):
    """Raised when a body did not come as announced; the message is a few words of ours."""


def read_body(response: httpx.Response, limit_bytes: int, *, until: float) -> bytes:
    """Return the decompressed body of a streamed response, at most `limit_bytes`, by `until` (of time.monotonic).

    Memory stays within the limit and a block. A body that is shorter than its Content-Length, or whose compression
    breaks off, raises BrokenBodyError; so do compressions nobody asked for, which could be nested bombs.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if response.is_stream_consumed:  # a transport that had the whole answer already, decompressed by httpx
        if len(response.content) > limit_bytes:
            raise TooLongError
        return response.content
    if encoding not in (*_UNPACKED, *_PACKED):
        raise BrokenBodyError("it is compressed in a way that was not asked for")
    raw = _timed(response.iter_raw(), until)
    blocks = _decompressed(raw) if encoding in _PACKED else _counted(raw, response.headers.get("content-length"))
    body = bytearray()
    for block in blocks:
        body += block
        if len(body) > limit_bytes:
            raise TooLongError
    return bytes(body)


def drain(response: httpx.Response, *, until: float) -> None:
    """Read a body that nobody wants: a connection whose answer was not read to its end is closed, not used again."""
    with suppress(TooLongError, BrokenBodyError, httpx.HTTPError):
        read_body(response, _MOST_UNWANTED_BYTES, until=until)


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `body` is; None for anything else: no JSON, a list, NaN, nesting too deep to read.

    Of a name that occurs twice the last value counts.
    """
    try:
        fields = json_value(body) if body else None
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def json_value(body: bytes) -> Any:
    """Return what JSON says, whatever it is. Raises ValueError for NaN, nesting too deep to read, and no JSON at all."""
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _timed(blocks: Iterator[bytes], until: float) -> Iterator[bytes]:
    for block in blocks:
        yield block
        if time.monotonic() > until:
            raise BrokenBodyError("it takes too long")


def _counted(blocks: Iterator[bytes], announced: str | None) -> Iterator[bytes]:
    count = 0
    for block in blocks:
        count += len(block)
        yield block
    if announced is not None and announced.isdecimal() and int(announced) != count:
        raise BrokenBodyError("it is shorter than announced")


def _decompressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
    is_empty = True
    try:
        for block in blocks:
            rest = block
            while rest:
                is_empty = False
                if unpack.eof:  # RFC 1952 allows one member after another
                    unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
                yield unpack.decompress(rest, _BLOCK_BYTES)
                rest = unpack.unconsumed_tail or unpack.unused_data
    except zlib.error:
        failure = "its compression cannot be read"
    else:
        failure = "" if unpack.eof or is_empty else "its compression breaks off"
    if failure:
        raise BrokenBodyError(failure)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number
