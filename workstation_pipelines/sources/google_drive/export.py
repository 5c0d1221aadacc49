"""What Google's own kinds of files are exported as, and what of an export is text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_OOXML = "application/vnd.openxmlformats-officedocument."


@dataclass(frozen=True, slots=True)
class Export:
    mime_type: str
    extension: str


EXPORTS: Mapping[str, Export] = {
    # Markdown keeps headings and tables in a tenth of a .docx file's bytes.
    "application/vnd.google-apps.document": Export("text/markdown", ".md"),
    # As CSV it would be the first sheet alone.
    "application/vnd.google-apps.spreadsheet": Export(f"{_OOXML}spreadsheetml.sheet", ".xlsx"),
    # Titles become headings and the speaker's notes come along, which neither plain text nor PDF gives.
    "application/vnd.google-apps.presentation": Export(f"{_OOXML}presentationml.presentation", ".pptx"),
    "application/vnd.google-apps.drawing": Export("application/pdf", ".pdf"),
}
"""Forms, Sites, maps, scripts and what else there is have no text that Drive would give."""

# A Doc's pictures come as definitions at its end, in base64: a page of letters that say nothing, each.
_PICTURE = re.compile(rb"^\[image\d+\]:[ \t]*<?data:image/[^>\r\n]*>?[ \t]*\r?\n?", re.MULTILINE)
_REFERENCE = re.compile(rb"!\[([^\]\r\n]*)\]\[image\d+\]")


def without_pictures(markdown: bytes) -> bytes:
    """Return an exported Doc without its embedded pictures; their descriptions stay."""
    return _REFERENCE.sub(rb"\1", _PICTURE.sub(b"", markdown))
