"""The bytes that pass between the extractor and its parser processes: a JSON header, then raw payloads.

A parser process has read hostile input, so nothing it sends is trusted: no pickle, every length and type checked.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from workstation_pipelines.errors import (
    ItemTooLargeError,
    SkipItemError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Attachment, Content, Extracted, Heading
from workstation_pipelines.text.clean import clean
from workstation_pipelines.text.limits import ExtractionLimits

PREFIX = struct.Struct("!IQ")
"""Length of the header and of the payload behind it, in bytes."""

_MOST_HEADER_BYTES = 32_000_000
_ERRORS: dict[str, type[SkipItemError]] = {
    kind.__name__: kind for kind in (UnsupportedContentError, ItemTooLargeError, UnreadableContentError)
}

ReadExactly = Callable[[int], bytes]
"""Returns exactly that many bytes; raises EOFError when the other side is gone."""


class BrokenFrameError(Exception):
    """Raised when the parser process answers with anything but a well-formed frame."""


def encode_request(reader: str, content: Content, limits: ExtractionLimits) -> bytes:
    """Return the frame that asks for `content` to be read by `reader` (`module:function`)."""
    header = {
        "reader": reader,
        "name": content.name,
        "mime_type": content.mime_type,
        "external_hash": content.external_hash,
        "limits": asdict(limits),
    }
    return _frame(header, (content.body,))


def read_request(read_exactly: ReadExactly) -> tuple[str, Content, ExtractionLimits]:
    """Read what encode_request wrote; trusted, since it comes from the extractor."""
    header_size, payload_size = PREFIX.unpack(read_exactly(PREFIX.size))
    header = json.loads(read_exactly(header_size))
    content = Content(
        body=read_exactly(payload_size),
        name=header["name"],
        mime_type=header["mime_type"],
        external_hash=header["external_hash"],
    )
    return header["reader"], content, ExtractionLimits(**header["limits"])


def encode_extracted(extracted: Extracted) -> bytes:
    """Return the answer of a reader that succeeded."""
    text = extracted.text.encode("utf-8", "replace")
    header = {
        "title": extracted.title,
        "language": extracted.language,
        "headings": [(heading.offset, heading.level, heading.text) for heading in extracted.headings],
        "children": [(child.key, child.name, child.mime_type, len(child.body)) for child in extracted.children],
        "text_bytes": len(text),
    }
    return _frame(header, (text, *(child.body for child in extracted.children)))


def encode_error(error: SkipItemError) -> bytes:
    """Return the answer of a reader that refused its document."""
    return _frame({"error": type(error).__name__, "reason": error.reason, "message": error.message}, ())


def read_answer(read_exactly: ReadExactly, limits: ExtractionLimits) -> Extracted:
    """Read an answer. Raises the SkipItemError it tells of, or BrokenFrameError when it is not well-formed."""
    header_size, payload_size = PREFIX.unpack(read_exactly(PREFIX.size))
    if header_size > _MOST_HEADER_BYTES or payload_size > limits.max_text_chars * 4 + limits.max_children_bytes:
        raise BrokenFrameError("the answer is larger than the limits allow")
    header_bytes, payload = read_exactly(header_size), read_exactly(payload_size)
    try:
        header = json.loads(header_bytes)
        if "error" in header:
            error = _ERRORS[header["error"]](str(header["message"]), reason=str(header["reason"]))
        else:
            return _extracted(header, payload)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise BrokenFrameError("the answer is not well-formed") from problem
    raise error


def _frame(header: dict[str, Any], payloads: Sequence[bytes]) -> bytes:
    head = json.dumps(header).encode()
    return b"".join((PREFIX.pack(len(head), sum(map(len, payloads))), head, *payloads))


def _extracted(header: dict[str, Any], payload: bytes) -> Extracted:
    start = int(header["text_bytes"])
    text = payload[:start].decode()
    headings = [Heading(offset=int(o), level=int(level), text=clean(str(t))) for o, level, t in header["headings"]]
    children = []
    for key, name, mime_type, size_bytes in header["children"]:
        end = start + int(size_bytes)
        if not start <= end <= len(payload):
            raise ValueError("a child ends beyond the payload")
        children.append(
            Attachment(key=clean(str(key)), name=clean(str(name)), mime_type=str(mime_type), body=payload[start:end])
        )
        start = end
    if clean(text) != text or any(not 0 <= heading.offset < len(text) for heading in headings):
        raise ValueError("the text is not clean or a heading lies outside it")
    return Extracted(
        text=text,
        title=clean(str(header["title"])) if header["title"] else None,
        language=str(header["language"]) if header["language"] else None,
        headings=tuple(headings),
        children=tuple(children),
    )
