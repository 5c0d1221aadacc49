"""Text that needs no parser: plain text, Markdown, source code, CSV, JSON. Runs in-process, so it must stay simple."""

from __future__ import annotations

import codecs

from workstation_pipelines.errors import ItemTooLargeError, UnsupportedContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.clean import clean
from workstation_pipelines.text.formats import markdown
from workstation_pipelines.text.language import detect_language
from workstation_pipelines.text.limits import ExtractionLimits

# Longest first: the UTF-32 mark starts with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NEVER_TYPED = bytes(byte for byte in range(0x20) if byte not in b"\b\t\n\f\r\x1b") + b"\x7f"
_SAMPLE_BYTES = 1 << 16
_WESTERN_LANGUAGES = frozenset(("en", "de", "fr", "es", "it", "pt", "ca", "nl", "sv", "da", "nb", "fi"))
_MOST_CONTROLS = 0.05
_MOST_CONTROLS_OUTSIDE_UTF8 = 0.01


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the text as it stands; no headings. Raises UnsupportedContentError for binary bytes."""
    text = _text(content.body, limits)
    return Extracted(text=text, language=detect_language(text))


def read_code(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return source code or structured text as it stands; it has no natural language."""
    return Extracted(text=_text(content.body, limits))


def read_markdown(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return Markdown as it stands, with its headings and title."""
    text = _text(content.body, limits)
    title, headings = markdown.scan(text, limits.max_headings)
    return Extracted(text=text, title=title, language=detect_language(text), headings=headings)


def decode(body: bytes) -> str:
    """Return `body` as text by byte order mark, else UTF-8, else the likeliest legacy charset, else Windows-1252."""
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        return _decode_legacy(body)


def is_binary(body: bytes) -> bool:
    """True when the bytes are no text in any encoding that `decode` knows; judged by the first 64 KB."""
    sample = body[:_SAMPLE_BYTES]
    controls = len(sample) - len(sample.translate(None, _NEVER_TYPED))
    if not controls or any(sample.startswith(mark) for mark, _ in _MARKS):
        return False
    try:
        # Incremental, since the sample may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        share = _MOST_CONTROLS
    except UnicodeDecodeError:
        share = _MOST_CONTROLS_OUTSIDE_UTF8
    return controls > share * len(sample)


def _text(body: bytes, limits: ExtractionLimits) -> str:
    if is_binary(body):
        raise UnsupportedContentError(
            "its bytes are not text in any known encoding: give the file the extension of its real format",
            reason="unsupported_type",
        )
    text = clean(decode(body))
    if len(text) > limits.max_text_chars:
        raise ItemTooLargeError(
            f"it holds {len(text):,} characters of text, more than the {limits.max_text_chars:,} allowed: "
            "split it, or raise max_text_chars",
            reason="too_large",
        )
    return text


def _decode_legacy(body: bytes) -> str:
    sample = body[:_SAMPLE_BYTES].decode("utf-8", "replace")
    broken = sample.count("\ufffd")
    # A UTF-8 file with a few broken bytes stays UTF-8.
    if broken * 4 < len(sample.encode()) - len(sample):
        return body.decode("utf-8", "replace")
    # Guessing from statistics mistakes short western texts for Asian ones; their commonest words do not lie.
    western = body[:_SAMPLE_BYTES].decode("cp1252", "replace")
    if detect_language(western) in _WESTERN_LANGUAGES:
        return body.decode("cp1252", "replace")
    import charset_normalizer

    best = charset_normalizer.from_bytes(body[:_SAMPLE_BYTES]).best()
    try:
        return body.decode(best.encoding if best else "cp1252")
    except (UnicodeDecodeError, LookupError):
        return body.decode("cp1252", "replace")
