"""File names as storable text, and back.

A path becomes `external_path` unchanged when it is UTF-8. A byte that is not becomes `%XX` (two upper-case hex digits,
80 to FF); so that this can be undone, a literal `%` that is followed by such digits, or by `25`, becomes `%25`. Other
percent signs stay. Nothing is normalised: two names that differ in composition only are two files.
"""

from __future__ import annotations

import os
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_from_bytes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_LATEST = datetime(9999, 12, 30, tzinfo=UTC)
_AMBIGUOUS = re.compile("%(?=25|[89A-F][0-9A-F])")
_UNDECODED = re.compile("[\udc80-\udcff]")
_JOINERS = "\u200c\u200d"  # letters of Persian and Hindi, and emoji, change without them
_ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")


def storable(path: str) -> str:
    """Return `path`, as the os module gives it, as text that any database can store."""
    if "%" in path:
        path = _AMBIGUOUS.sub("%25", path)
    if path.isascii():
        return path
    return _UNDECODED.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", path)


def on_disk(external_path: str) -> str:
    """Undo `storable`."""
    if "%" not in external_path:
        return external_path
    return _ESCAPED.sub(lambda match: "%" if match[1] == "25" else chr(0xDC00 + int(match[1], 16)), external_path)


def title(name: str) -> str:
    """A person's view of a file name: without extension, NFC, no control, bidi or undecodable characters."""
    stem, dot, _ = name.rpartition(".")
    return _clean(stem) or _clean(name) or "untitled" if dot else _clean(name) or "untitled"


def file_url(absolute_path: str) -> str:
    return "file://" + quote_from_bytes(os.fsencode(absolute_path))


def moment(mtime_ns: int) -> datetime:
    """A file's time stamp, clamped to what a datetime and every time zone can hold."""
    try:
        return min(max(_EPOCH + timedelta(microseconds=mtime_ns // 1000), _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if mtime_ns < 0 else _LATEST


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = "".join(_shown(char) for char in _UNDECODED.sub("\ufffd", text))
    return " ".join(unicodedata.normalize("NFC", kept).split())


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf" and char not in _JOINERS:
        return ""
    return " " if category in ("Cc", "Zl", "Zp") else char
