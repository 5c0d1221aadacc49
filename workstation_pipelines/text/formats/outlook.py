"""Outlook messages (MSG): the same text and children as an e-mail, read from the compound file's property streams.

Property tags are those of [MS-OXPROPS], the storage layout that of [MS-OXMSG]; both read in November 2026.
"""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta

import olefile

from workstation_pipelines.model import Attachment, Content, Extracted
from workstation_pipelines.text import mime
from workstation_pipelines.text.formats import html, plain
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.formats.mail import append_names, safe_name
from workstation_pipelines.text.limits import ExtractionLimits

_SUBJECT, _BODY, _HTML_BODY = "0037", "1000", "1013"
_SENDER_NAME, _SENDER_ADDRESS, _SENDER_SMTP, _TO, _CC = "0C1A", "0C1F", "5D01", "0E04", "0E03"
_ATTACHMENT_DATA, _LONG_NAME, _SHORT_NAME = "3701", "3707", "3704"
_SUBMIT_TIME, _DELIVERY_TIME = 0x0039, 0x0E06
_UNICODE, _ANSI, _BYTES, _STORAGE = "001F", "001E", "0102", "000D"
_PROPERTIES = "__properties_version1.0"
_ROOT_HEADER_BYTES = 32
_ENTRY_BYTES = 16
_FILETIME_START = datetime(1601, 1, 1, tzinfo=UTC)


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return header fields, body and attachments' names. A message inside is given as a child of plain text."""
    with olefile.OleFileIO(io.BytesIO(content.body)) as file:
        builder = TextBuilder(limits)
        _append_message(builder, file, ())
        children = _children(file, limits)
        append_names(builder, children)
        return builder.build(title=_string(file, (), _SUBJECT), children=children)


def _append_message(builder: TextBuilder, file: olefile.OleFileIO, folder: tuple[str, ...]) -> None:
    address = _string(file, folder, _SENDER_SMTP) or _string(file, folder, _SENDER_ADDRESS)
    sender = _string(file, folder, _SENDER_NAME)
    if address and "@" in address and address != sender:
        sender = f"{sender} <{address}>".strip()
    shown = {
        "From": sender,
        "To": _string(file, folder, _TO),
        "Cc": _string(file, folder, _CC),
        "Date": _sent_at(file, folder),
        "Subject": _string(file, folder, _SUBJECT),
    }
    for field, value in shown.items():
        if value:
            builder.line(f"{field}: {' '.join(value.split())}")
    body = _string(file, folder, _BODY)
    markup = _stream(file, folder, _HTML_BODY, _BYTES)
    if body.strip():
        builder.paragraph(body)
    elif markup:
        html.append(builder, html.decode(markup))


def _children(file: olefile.OleFileIO, limits: ExtractionLimits) -> list[Attachment]:
    folders = sorted({entry[0] for entry in file.listdir() if entry[0].startswith("__attach_version1.0_")})
    children: list[Attachment] = []
    size_bytes = 0
    for number, name in enumerate(folders[: limits.max_children], start=1):
        child = _child(file, (name,), number, limits)
        size_bytes += len(child.body)
        if child.body and size_bytes <= limits.max_children_bytes:
            children.append(child)
    return children


def _child(file: olefile.OleFileIO, folder: tuple[str, ...], number: int, limits: ExtractionLimits) -> Attachment:
    embedded = (*folder, f"__substg1.0_{_ATTACHMENT_DATA}{_STORAGE}")
    if file.exists([*embedded, _PROPERTIES]):
        builder = TextBuilder(limits)
        _append_message(builder, file, embedded)
        name = safe_name(_string(file, embedded, _SUBJECT), f"message-{number}") + ".txt"
        body, mime_type = builder.build().text.encode(), "text/plain"
    else:
        own_name = _string(file, folder, _LONG_NAME) or _string(file, folder, _SHORT_NAME)
        name = safe_name(own_name, f"attachment-{number}")
        body = _stream(file, folder, _ATTACHMENT_DATA, _BYTES)
        mime_type = mime.detect_mime_type(name, body)
    return Attachment(key=f"{number}:{name}", name=name, mime_type=mime_type, body=body)


def _string(file: olefile.OleFileIO, folder: tuple[str, ...], tag: str) -> str:
    unicode_bytes = _stream(file, folder, tag, _UNICODE)
    if unicode_bytes:
        return unicode_bytes.decode("utf-16-le", "replace").rstrip("\0")
    return plain.decode(_stream(file, folder, tag, _ANSI)).rstrip("\0")


def _stream(file: olefile.OleFileIO, folder: tuple[str, ...], tag: str, kind: str) -> bytes:
    path = [*folder, f"__substg1.0_{tag}{kind}"]
    return bytes(file.openstream(path).read()) if file.exists(path) else b""


def _sent_at(file: olefile.OleFileIO, folder: tuple[str, ...]) -> str:
    path = [*folder, _PROPERTIES]
    if not file.exists(path):
        return ""
    entries = file.openstream(path).read()
    # An embedded message's stream has a header 8 bytes shorter.
    start = _ROOT_HEADER_BYTES if not folder else _ROOT_HEADER_BYTES - 8
    for offset in range(start, len(entries) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
        kind, tag, _, ticks = struct.unpack_from("<HHIQ", entries, offset)
        if kind == 0x0040 and tag in (_SUBMIT_TIME, _DELIVERY_TIME) and ticks < 1 << 60:
            return (_FILETIME_START + timedelta(microseconds=ticks // 10)).strftime("%Y-%m-%d %H:%M UTC")
    return ""
