"""Reads one message as Gmail gives it with format=full: its headers, the text a reader sees, and what is attached.

Gmail decodes transfer encodings and gives base64url, mostly without padding. It often converts text to UTF-8 and leaves
the old charset in the header, so UTF-8 is believed before what is declared. Large bodies come by an attachment id, which
is another one in each answer.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

from workstation_pipelines.sources.gmail.html import text_of_html

_MOST_DEPTH = 40
_MOST_PARTS = 1_000
_FIELD_CHARS = 2_000
_NAME_CHARS = 150
# A text this short beside HTML five times as long says "your program cannot show this message".
_STUB_CHARS, _STUB_RATIO = 200, 5
_UNSAFE_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\]+")
_SIGNATURES = frozenset(
    [
        "application/pgp-signature",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "application/pgp-keys",
    ]
)


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of a message. Its bytes are in `data` (base64url) or are to be asked for by `attachment_id`."""

    part_id: str
    name: str
    mime_type: str
    size_bytes: int
    charset: str | None
    data: str | None = field(repr=False)
    attachment_id: str | None = field(repr=False)
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message. `texts` are the parts that make up its visible text, in order; `files` what is attached."""

    message_id: str
    sent_at: datetime | None
    fields: Mapping[str, str]
    texts: Sequence[Part]
    files: Sequence[Part]
    is_loaded: bool = True

    def field(self, name: str) -> str:
        return self.fields.get(name.lower(), "")


def read_mail(message: Mapping[str, Any]) -> Mail:
    """Read a message defensively; one without a payload has no fields and is not loaded."""
    payload = message.get("payload")
    texts, files = _Reader().read(payload, 0) if isinstance(payload, Mapping) else ((), ())
    return Mail(
        message_id=str(message.get("id")),
        sent_at=moment(message.get("internalDate")),
        fields=_fields(payload) if isinstance(payload, Mapping) else {},
        texts=texts,
        files=[_named(part) for part in files],
        is_loaded=isinstance(payload, Mapping),
    )


def moment(milliseconds: Any) -> datetime | None:
    """Return an internalDate as a time; None for what is unreadable or before 1970."""
    try:
        number = int(milliseconds)
        return datetime.fromtimestamp(number / 1000, UTC) if number >= 0 else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def part_bytes(data: Any) -> bytes | None:
    """Decode base64url with or without padding; None when it is not that."""
    if not isinstance(data, str):
        return None
    plain = data.replace("+", "-").replace("/", "_").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def part_text(part: Part, body: bytes) -> str:
    """Return a text part as a reader sees it."""
    text = _decoded(body, part.charset)
    text = text_of_html(text) if part.mime_type == "text/html" else text
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


class _Reader:
    """Walks the parts of one message; parts beyond a thousand, or nested beyond forty deep, are left out."""

    def __init__(self) -> None:
        self._parts = 0

    def read(self, part: Mapping[str, Any], depth: int) -> tuple[list[Part], list[Part]]:
        self._parts += 1
        if depth > _MOST_DEPTH or self._parts > _MOST_PARTS:
            return [], []
        mime_type = _word(part.get("mimeType"))
        inner = part.get("parts")
        children = [child for child in inner if isinstance(child, Mapping)] if isinstance(inner, list) else []
        leaf = _leaf(part, mime_type)
        if mime_type == "message/rfc822" and leaf.attachment_id is None and leaf.data is None:
            return self._nested(children, depth)
        if mime_type.startswith("multipart/") or (children and mime_type != "message/rfc822"):
            found = [self.read(child, depth + 1) for child in children]
            return _alternative(found) if mime_type == "multipart/alternative" else _all_of(found)
        headers = _headers(part)
        disposition = _word(headers.get("content-disposition"))
        if mime_type in ("text/plain", "text/html") and not leaf.name and disposition != "attachment":
            return ([leaf] if leaf.data or leaf.attachment_id else []), []
        is_inline = mime_type.startswith("image/") and (disposition == "inline" or "content-id" in headers)
        if is_inline or mime_type in _SIGNATURES or not (leaf.data or leaf.attachment_id):
            return [], []
        return [], [leaf]

    def _nested(self, children: Sequence[Mapping[str, Any]], depth: int) -> tuple[list[Part], list[Part]]:
        """A message inside a message that Gmail took apart: its text belongs to this one's."""
        texts, files = _all_of([self.read(child, depth + 1) for child in children])
        if texts and children:
            fields = _fields(children[0])
            intro = f"Enclosed message from {fields.get('from', 'someone')}: {fields.get('subject', '')}".rstrip(": ")
            texts[0] = replace(texts[0], intro=intro)
        return texts, files


def _all_of(found: Sequence[tuple[list[Part], list[Part]]]) -> tuple[list[Part], list[Part]]:
    return [part for texts, _ in found for part in texts], [part for _, files in found for part in files]


def _alternative(found: Sequence[tuple[list[Part], list[Part]]]) -> tuple[list[Part], list[Part]]:
    """Of several forms of one text take the plain one, unless it is blank or a stub; what has a file name is kept."""
    texts = [part for part, _ in found if part]
    files = [part for part in _all_of(found)[1] if part.name]
    plain = next((parts for parts in texts if all(part.mime_type == "text/plain" for part in parts)), None)
    rich = next((parts for parts in texts if any(part.mime_type == "text/html" for part in parts)), None)
    if plain is None or rich is None:
        return plain or rich or [], files
    if any(part.data is None for part in plain):
        return plain, files
    said = sum(len(part_text(part, part_bytes(part.data) or b"").strip()) for part in plain)
    if said >= _STUB_CHARS:
        return plain, files
    shown = sum(len(part_text(part, part_bytes(part.data) or b"")) for part in rich)
    return (rich if shown > said * _STUB_RATIO else plain), files


def _leaf(part: Mapping[str, Any], mime_type: str) -> Part:
    body = part.get("body")
    body = body if isinstance(body, Mapping) else {}
    part_id = part.get("partId") if isinstance(part.get("partId"), str) else ""
    name = safe_name(decoded_field(part.get("filename")))
    attachment_id = body.get("attachmentId")
    data = body.get("data")
    size = body.get("size")
    attached = attachment_id if isinstance(attachment_id, str) and attachment_id else None
    return Part(
        part_id=str(part_id),
        name=name,
        mime_type=mime_type,
        size_bytes=size if isinstance(size, int) else -1,
        charset=_charset(_headers(part).get("content-type")),
        data=data if isinstance(data, str) and data else None,
        attachment_id=attached,
    )


def _named(part: Part) -> Part:
    return (
        part
        if part.name
        else replace(part, name=f"part-{part.part_id}{mimetypes.guess_extension(part.mime_type) or ''}")
    )


def safe_name(name: str) -> str:
    """Return a sender's file name as one short step of a path, its ending kept."""
    plain = _UNSAFE_IN_NAMES.sub("_", name).strip(" .")
    if len(plain) <= _NAME_CHARS:
        return plain
    stem, dot, ending = plain.rpartition(".")
    return f"{stem[: _NAME_CHARS - 20]}.{ending}" if dot and len(ending) < 15 else plain[:_NAME_CHARS]


def decoded_field(value: Any) -> str:
    """Return a header's value on one line, encoded words (RFC 2047) decoded where they can be."""
    if not isinstance(value, str):
        return ""
    if "=?" in value:
        with suppress(HeaderParseError, LookupError, ValueError):  # then it stays as the sender wrote it
            value = str(make_header(decode_header(value))) or value
    return " ".join(value.split())[:_FIELD_CHARS]


def _fields(part: Mapping[str, Any]) -> dict[str, str]:
    headers = _headers(part)
    return {name: decoded_field(headers.get(name)) for name in ("from", "to", "cc", "date", "subject")}


def _headers(part: Mapping[str, Any]) -> dict[str, str]:
    """Headers by lower-case name; of several of one name the first."""
    found: dict[str, str] = {}
    headers = part.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if isinstance(header, Mapping) and isinstance(header.get("name"), str) and isinstance(header.get("value"), str):
            found.setdefault(header["name"].lower(), header["value"])
    return found


def _word(value: Any) -> str:
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else ""


def _charset(content_type: str | None) -> str | None:
    if not content_type:
        return None
    header = Message()
    header["Content-Type"] = " ".join(content_type.split())
    try:
        return header.get_content_charset()
    except (LookupError, ValueError):
        return None


def _decoded(body: bytes, charset: str | None) -> str:
    named = (charset or "").lower()
    # Their bytes are valid UTF-8 too, and mean something else.
    if (named.startswith("iso-2022") and b"\x1b" in body) or (named.startswith("utf-16") and b"\0" in body):
        return body.decode(named, "replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return body.decode(
            named if named not in ("", "us-ascii", "ascii", "utf-8", "utf8", "utf-7") else "cp1252", "replace"
        )
    except (LookupError, ValueError):
        return body.decode("cp1252", "replace")
