"""Writes a thread as one Markdown document: a heading a message, its header fields, its text, the names of what it holds.

Lines of a mail that Markdown would read as a heading or a fence are defused, so that nobody's text can pass for another
message. A quoted reply is left out only where it is certain: it ends the message, and every word of it stands in an
earlier message of the same thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workstation_pipelines.sources.gmail.message import Mail

MIB = 1024 * 1024
MOST_TEXT_BYTES = 4 * MIB
QUOTE_LEFT_OUT = "> […]"
NO_SUBJECT = "(no subject)"
_REPLY = re.compile(r"^(?:(?:re|aw|antw|sv|vs|rv|fwd?|wg|tr)(?:\[\d+\])?\s*:\s*)+", re.I)
_OPENING = re.compile(r"^ {0,3}(?:#{1,6}(?:[ \t]|$)|`{3}|~{3})")
_UNDERLINE = re.compile(r"^ {0,3}(?:=+|--+)[ \t]*$")
_QUOTE_MARKS = re.compile(r"^[ \t]*(?:>[ \t]?)+")
_ORIGINAL = re.compile(r"^\s*-{2,}\s*\w[\w ]{3,40}\s*-{2,}\s*$")
_FIELD_LINE = re.compile(r"^\s*\*?[\w -]{2,20}\*?:\*?\s")
_MOST_EARLIER = 50
_SHORTEST_QUOTE = 3


@dataclass(frozen=True, slots=True)
class Written:
    """A message with its text. `remarks` tell what of it could not be read, `file_names` what is attached, remarks included."""

    mail: Mail
    text: str
    file_names: Sequence[str] = ()
    remarks: Sequence[str] = ()


def document(written: Sequence[Written], *, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Return the whole thread, oldest message first. Beyond `most_bytes` the oldest messages are left out, and it says so."""
    title = title_of([entry.mail for entry in written])
    sections = _sections(written, title)
    kept: list[str] = []
    room = most_bytes
    for section in reversed(sections):
        size_bytes = len(section.encode("utf-8", "replace"))
        if size_bytes > room and kept:
            break
        if size_bytes > room:
            section = section.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
            section += "\n\n(The rest of this message is left out: it is too long.)"
        kept.append(section)
        room -= size_bytes
    left_out = len(sections) - len(kept) + sum(not entry.mail.is_loaded for entry in written)
    head = [f"# {title}"]
    if left_out:
        head.append(f"({left_out} older messages of this thread are left out: it has more text than is read.)")
    return "\n\n".join([*head, *reversed(kept)]) + "\n"


def title_of(mails: Sequence[Mail]) -> str:
    """Return the subject of the first message that has one."""
    return next((mail.field("subject") for mail in mails if mail.field("subject")), NO_SUBJECT)


def _sections(written: Sequence[Written], title: str) -> list[str]:
    sections = []
    earlier: list[str] = []
    for entry in written:
        if not entry.mail.is_loaded:
            continue
        text = without_known_quote(entry.text, earlier)
        sections.append(_section(entry, text, title))
        earlier = [*earlier[1 - _MOST_EARLIER :], _squeezed(entry.text.split("\n"))]
    return sections


def _section(entry: Written, text: str, title: str) -> str:
    mail = entry.mail
    sent = f"{mail.sent_at:%Y-%m-%d %H:%M} UTC" if mail.sent_at is not None else mail.field("date")
    sender = mail.field("from")
    name = sender.partition("<")[0].strip(' "') or sender or "unknown sender"
    fields = [
        ("From", sender),
        ("To", mail.field("to")),
        ("Cc", mail.field("cc")),
        ("Date", mail.field("date") or sent),
    ]
    subject = mail.field("subject")
    if _REPLY.sub("", subject) != _REPLY.sub("", title):
        fields.append(("Subject", subject))
    blocks = [
        f"## {name}, {sent}".rstrip(", "),
        "\n".join(f"{field}: {value}" for field, value in fields if value),
        defused(text.strip("\n")),
        *(f"({remark})" for remark in entry.remarks),
        f"Attachments: {', '.join(entry.file_names)}" if entry.file_names else "",
    ]
    return "\n\n".join(block for block in blocks if block.strip())


def defused(text: str) -> str:
    """Return `text` so that no line of it is a Markdown heading or opens a fence."""
    lines: list[str] = []
    for line in text.split("\n"):
        if _OPENING.match(line):
            line = "\\" + line.lstrip(" ")
        elif _UNDERLINE.match(line) and lines and lines[-1].strip():
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def without_known_quote(text: str, earlier: Sequence[str]) -> str:
    """Return `text` without the quoted reply at its end, if one of the `earlier` texts (squeezed) holds all of it."""
    lines = text.rstrip().split("\n")
    start = _quote_start(lines)
    if start is None:
        return text
    quoted = _squeezed(_without_introduction(lines[start:]))
    if len(quoted) < _SHORTEST_QUOTE or not any(quoted in known for known in reversed(earlier)):
        return text
    return "\n".join([*lines[:start], QUOTE_LEFT_OUT])


def _quote_start(lines: Sequence[str]) -> int | None:
    """The first line of what is quoted up to the end: lines that begin with `>`, or all after `--- Original Message ---`."""
    start = len(lines)
    while start and (not lines[start - 1].strip() or _QUOTE_MARKS.match(lines[start - 1])):
        start -= 1
    while start < len(lines) and not lines[start].strip():
        start += 1
    if start < len(lines):
        return start
    return next((number for number, line in enumerate(lines) if _ORIGINAL.match(line)), None)


def _without_introduction(lines: Sequence[str]) -> Sequence[str]:
    if not _ORIGINAL.match(lines[0]):
        return lines
    start = 1
    while start < len(lines) and (not lines[start].strip() or _FIELD_LINE.match(lines[start])):
        start += 1
    return lines[start:]


def _squeezed(lines: Sequence[str]) -> str:
    """The words alone: mail programs wrap what they quote anew, and mark each line."""
    return " ".join(" ".join(_QUOTE_MARKS.sub("", line) for line in lines).split())
