"""Removes from text what a database, a tokenizer or a reader's eye cannot take, and nothing else."""

from __future__ import annotations

import re
import unicodedata

_C0 = bytes(byte for byte in range(0x20) if byte not in b"\t\n") + b"\x7f"
_ASCII = bytes(range(0x80))
_LINE_BREAKS = re.compile(r"[\r\x0b\x0c\x85\u2028\u2029]")
# Controls, lone surrogates, bidi embeddings, overrides and isolates (they let text display as what it is not), and
# characters without any meaning in running text: soft hyphen, byte order mark, noncharacters.
_REMOVED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
_UNWANTED = re.compile(rf"{_LINE_BREAKS.pattern}|{_REMOVED.pattern}")


def clean(text: str) -> str:
    """Return `text` in NFC with `\\n` line ends, without control characters, lone surrogates, bidi overrides and
    blanks at line ends. Idempotent; returns the same object when there is nothing to do."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    raw = text.encode("utf-8", "surrogatepass")
    # Patterns are slow on long text and most text is ASCII, so they look at what is left without it.
    beyond_ascii = raw.translate(None, _ASCII).decode("utf-8", "surrogatepass")
    if len(raw.translate(None, _C0)) != len(raw) or _UNWANTED.search(beyond_ascii):
        text = _REMOVED.sub("", _LINE_BREAKS.sub("\n", text))
    if beyond_ascii and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return _without_trailing_blanks(text)


def _has_trailing_blanks(text: str) -> bool:
    return " \n" in text or ("\t" in text and "\t\n" in text) or text[-1:] in (" ", "\t")


def _without_trailing_blanks(text: str) -> str:
    # Line by line: a pattern like `[ \t]+\n` takes quadratic time on a long run of blanks.
    if not _has_trailing_blanks(text):
        return text
    return "\n".join([line.rstrip(" \t") for line in text.split("\n")])
