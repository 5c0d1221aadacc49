"""Which function reads which mime type, and where it runs: the one place to look, and to add a format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workstation_pipelines.text import mime

_PACKAGE = "workstation_pipelines.text.formats"


@dataclass(frozen=True, slots=True)
class Format:
    """`reader` is `module:function`, imported where it runs; only formats that need no parser run in-process."""

    reader: str
    in_process: bool = False


_TEXT = Format(f"{_PACKAGE}.plain:read", in_process=True)
_CODE = Format(f"{_PACKAGE}.plain:read_code", in_process=True)
_MARKDOWN = Format(f"{_PACKAGE}.plain:read_markdown", in_process=True)
_HTML = Format(f"{_PACKAGE}.html:read")
_SPREADSHEET = Format(f"{_PACKAGE}.spreadsheet:read")
_OPEN_DOCUMENT = Format(f"{_PACKAGE}.opendocument:read")
_LEGACY = Format(f"{_PACKAGE}.legacy:read")

FORMATS: Mapping[str, Format] = {
    "text/plain": _TEXT,
    "text/markdown": _MARKDOWN,
    "text/x-markdown": _MARKDOWN,
    "text/x-rst": _TEXT,
    "text/x-asciidoc": _TEXT,
    "text/x-org": _TEXT,
    "text/x-tex": _TEXT,
    "text/csv": _CODE,
    "text/tab-separated-values": _CODE,
    "application/json": _CODE,
    "application/jsonl": _CODE,
    "application/yaml": _CODE,
    "application/toml": _CODE,
    "application/xml": _CODE,
    "application/javascript": _CODE,
    "application/sql": _CODE,
    "application/x-sh": _CODE,
    "text/html": _HTML,
    "application/xhtml+xml": _HTML,
    mime.PDF: Format(f"{_PACKAGE}.pdf:read"),
    mime.DOCX: Format(f"{_PACKAGE}.word:read"),
    mime.PPTX: Format(f"{_PACKAGE}.slides:read"),
    mime.XLSX: _SPREADSHEET,
    mime.XLSB: _SPREADSHEET,
    mime.XLS: _SPREADSHEET,
    mime.ODS: _SPREADSHEET,
    mime.ODT: _OPEN_DOCUMENT,
    mime.ODP: _OPEN_DOCUMENT,
    mime.EPUB: Format(f"{_PACKAGE}.epub:read"),
    mime.EML: Format(f"{_PACKAGE}.mail:read"),
    mime.MSG: Format(f"{_PACKAGE}.outlook:read"),
    mime.RTF: _LEGACY,
    mime.DOC: _LEGACY,
    mime.PPT: _LEGACY,
}


def format_for(formats: Mapping[str, Format], mime_type: str) -> Format | None:
    """Return the format of `mime_type`; any other text/* is read as source code. None when nothing reads it."""
    return formats.get(mime_type) or (_CODE if mime_type.startswith("text/") else None)
