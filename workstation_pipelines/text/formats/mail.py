"""E-mail (RFC 5322, MIME): headers and the body a reader sees; attachments become children."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser

from workstation_pipelines.model import Attachment, Content, Extracted
from workstation_pipelines.text import mime
from workstation_pipelines.text.formats import html, plain
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_SHOWN_FIELDS = ("From", "To", "Cc", "Date", "Subject")
_UNSAFE_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\]+")
_FIELD_CHARS = 2_000


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return header fields, body and the attachments' names; the title is the subject.

    Of alternatives the plain text is taken, else the HTML. A message inside a message is an attachment of its own and
    is not opened. A child's key is its part number and name. Images that the HTML shows inline are left out.
    """
    message = BytesParser(policy=policy.default).parsebytes(content.body)
    builder = TextBuilder(limits)
    for field in _SHOWN_FIELDS:
        value = _field(message, field)
        if value:
            builder.line(f"{field}: {value}")
    parts = list(_leaves(message, ""))
    body = [part for _, part in parts if _is_body(part)]
    _append_body(builder, body)
    children = _children(parts, limits)
    append_names(builder, children)
    return builder.build(title=_field(message, "Subject"), children=children)


def append_names(builder: TextBuilder, children: list[Attachment]) -> None:
    """Add the attachments' names as a last line, so that a message is found by what was attached to it."""
    if children:
        builder.paragraph("Attachments: " + ", ".join(child.name for child in children))


def safe_name(name: str, fallback: str) -> str:
    """Return a sender's file name as one short path segment."""
    return _UNSAFE_IN_NAMES.sub("_", name).strip(" .")[:200] or fallback


def _leaves(message: Message, number: str) -> Iterator[tuple[str, Message]]:
    """Yield (part number as in IMAP, part), depth first; messages inside are leaves."""
    stack: list[tuple[str, Message]] = [(number, message)]
    while stack:
        number, part = stack.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            inner = [(f"{number}.{index}".lstrip("."), child) for index, child in enumerate(payload, start=1)]
            stack.extend(reversed(inner))
        else:
            yield number or "1", part


def _is_body(part: Message) -> bool:
    is_text = part.get_content_type() in ("text/plain", "text/html")
    return is_text and part.get_content_disposition() != "attachment" and not part.get_filename()


def _append_body(builder: TextBuilder, parts: list[Message]) -> None:
    plain_parts = [part for part in parts if part.get_content_type() == "text/plain"]
    texts = [text for text in map(_text, plain_parts) if text.strip()]
    for text in texts:
        builder.paragraph(text)
    if not texts:
        for part in parts:
            if part.get_content_type() == "text/html":
                payload = _payload(part)
                charset = part.get_content_charset()
                html.append(builder, _decode(payload, charset) if charset else html.decode(payload))


def _children(parts: list[tuple[str, Message]], limits: ExtractionLimits) -> list[Attachment]:
    children: list[Attachment] = []
    size_bytes = 0
    for number, part in parts:
        if _is_body(part) or _is_inline_image(part) or len(children) >= limits.max_children:
            continue
        is_message = part.get_content_type() == mime.EML
        body = _nested_message(part) if is_message else _payload(part)
        size_bytes += len(body)
        if not body or size_bytes > limits.max_children_bytes:
            continue
        name = safe_name(_filename(part), f"part-{number}" + (".eml" if is_message else ""))
        mime_type = mime.resolve_mime_type(name, part.get_content_type(), body)
        children.append(Attachment(key=f"{number}:{name}", name=name, mime_type=mime_type, body=body))
    return children


def _is_inline_image(part: Message) -> bool:
    if part.get_content_maintype() != "image":
        return False
    return part.get_content_disposition() == "inline" or "content-id" in part


def _nested_message(part: Message) -> bytes:
    payload = part.get_payload()
    inner = payload[0] if isinstance(payload, list) and payload else None
    return inner.as_bytes(policy=policy.compat32) if isinstance(inner, Message) else _payload(part)


def _payload(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, LookupError):
        # A transfer encoding that is broken beyond what the standard library repairs.
        payload = None
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    return _decode(_payload(part), part.get_content_charset())


def _decode(payload: bytes, charset: str | None) -> str:
    if charset is None or charset in ("us-ascii", "ascii"):
        return plain.decode(payload)
    try:
        return payload.decode(charset, "replace")
    except LookupError:
        return plain.decode(payload)


def _filename(part: Message) -> str:
    try:
        return part.get_filename() or ""
    except (ValueError, LookupError, TypeError):
        return ""


def _field(message: EmailMessage, name: str) -> str:
    try:
        value = str(message.get(name, ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        # The standard library's structured parser gives up on some malformed fields; their raw text still tells.
        value = next((str(raw) for field, raw in message.raw_items() if field.lower() == name.lower()), "")
    return " ".join(value.split())[:_FIELD_CHARS]
