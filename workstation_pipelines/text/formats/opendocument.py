"""OpenDocument text and presentations (ODT, ODP): paragraphs, tables and headings by outline level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats.archive import BoundedZip
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_PRESENTATION = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}"
_MANIFEST_ENCRYPTION = b"manifest:encryption-data"
_UNSEEN = frozenset(
    (f"{_TEXT}tracked-changes", f"{_TEXT}sequence-decls", f"{_OFFICE}forms", f"{_TEXT}table-of-content")
)
_MOST_SPACES = 100


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the body in order; notes stand where they are referred to."""
    archive = BoundedZip(content.body, limits)
    if "META-INF/manifest.xml" in archive.names and _MANIFEST_ENCRYPTION in archive.read("META-INF/manifest.xml"):
        raise UnreadableContentError("it is encrypted: save it without a password and sync again", reason="encrypted")
    root = archive.xml("content.xml")
    if root is None:
        raise UnreadableContentError("it has no content part: save it again", reason="corrupt")
    builder = TextBuilder(limits)
    _append_blocks(builder, root.find(f"{_OFFICE}body"))
    meta = archive.xml("meta.xml")
    title = meta.findtext(f"{_OFFICE}meta/{{http://purl.org/dc/elements/1.1/}}title") if meta is not None else None
    return builder.build(title=title)


def _append_blocks(builder: TextBuilder, container: Any) -> None:
    # Bounded: lxml refuses documents deeper than 256 elements.
    for block in container if container is not None else ():
        if block.tag == f"{_TEXT}h":
            level = block.get(f"{_TEXT}outline-level", "1")
            builder.heading(_text(block), int(level) if level.isdecimal() else 1)
        elif block.tag == f"{_TEXT}p":
            builder.paragraph(_text(block))
        elif block.tag == f"{_TEXT}list-item":
            builder.line("- " + " ".join(_text(block).split()))
        elif block.tag == f"{_TABLE}table":
            _append_table(builder, block)
        elif block.tag == f"{_DRAW}frame" and block.get(f"{_PRESENTATION}class") == "title":
            builder.heading(_text(block), 1)
        elif block.tag == f"{_PRESENTATION}notes":
            notes = _text(block).strip()
            builder.paragraph(f"Notes: {notes}" if notes else "")
        elif block.tag not in _UNSEEN:
            _append_blocks(builder, block)


def _append_table(builder: TextBuilder, table: Any) -> None:
    for ordinal, row in enumerate(table.iter(f"{_TABLE}table-row")):
        cells = (" ".join(_text(cell).split()) for cell in row.iterchildren(f"{_TABLE}table-cell"))
        (builder.line if ordinal else builder.paragraph)(" | ".join(cells).strip(" |"))


def _text(element: Any) -> str:
    return "".join(_pieces(element))


def _pieces(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c", "1")
            yield " " * min(int(count) if count.isdecimal() else 1, _MOST_SPACES)
        elif child.tag == f"{_TEXT}tab":
            yield "\t"
        elif child.tag == f"{_TEXT}line-break":
            yield "\n"
        elif child.tag not in _UNSEEN:
            yield from _pieces(child)
            if child.tag in (f"{_TEXT}p", f"{_TEXT}h"):
                yield "\n"
        yield child.tail or ""
