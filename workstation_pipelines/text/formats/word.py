"""Word (DOCX): body, tables, text boxes and notes in reading order, with headings by style."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats.archive import BoundedZip, core_title, relationships
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_COMPATIBILITY_COPY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# Deleted and moved-away text of tracked changes, and the copy for old readers.
_UNSEEN = frozenset((f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", _COMPATIBILITY_COPY))
_STANDS_FOR = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_NOTE_PARTS = ("footnotes", "endnotes", "comments")
_HEADING_NAME = re.compile(r"heading (\d)$", re.I)


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the body, then headers and footers, footnotes, endnotes and comments."""
    archive = BoundedZip(content.body, limits)
    main = next((target for kind, target in relationships(archive, "").values() if kind == "officeDocument"), "")
    document = archive.xml(main or "word/document.xml")
    if document is None:
        raise UnreadableContentError("it has no main document part: save it again in Word", reason="corrupt")
    builder = TextBuilder(limits)
    parts = relationships(archive, main or "word/document.xml")
    levels = _heading_levels(archive, parts)
    _append_blocks(builder, document.find(f"{_W}body"), levels)
    _append_margins(builder, archive, parts)
    return builder.build(title=core_title(archive) or _styled_title(document))


def _heading_levels(archive: BoundedZip, parts: dict[str, tuple[str, str]]) -> dict[str, int]:
    """Style id -> heading level. Ids are translated ("berschrift1") while built-in names are not ("heading 1")."""
    part = next((target for kind, target in parts.values() if kind == "styles"), "word/styles.xml")
    root = archive.xml(part)
    levels: dict[str, int] = {}
    for style in root.iter(f"{_W}style") if root is not None else ():
        name = style.find(f"{_W}name")
        named = _HEADING_NAME.match(name.get(f"{_W}val", "")) if name is not None else None
        outline = style.find(f"{_W}pPr/{_W}outlineLvl")
        if named:
            levels[style.get(f"{_W}styleId", "")] = int(named.group(1))
        elif outline is not None and outline.get(f"{_W}val", "9") in "012345678":
            levels[style.get(f"{_W}styleId", "")] = int(outline.get(f"{_W}val")) + 1
        elif name is not None and name.get(f"{_W}val") == "Title":
            levels[style.get(f"{_W}styleId", "")] = 1
    return levels


def _append_blocks(builder: TextBuilder, container: Any, levels: dict[str, int]) -> None:
    for block in container if container is not None else ():
        if block.tag == f"{_W}p":
            level = _level(block, levels)
            if level:
                builder.heading(_text(block), level)
            else:
                builder.paragraph(_text(block))
        elif block.tag == f"{_W}tbl":
            _append_table(builder, block)
        elif block.tag not in _UNSEEN:
            # Content controls, inserted paragraphs, custom XML: wrappers around more blocks.
            _append_blocks(builder, block, levels)


def _append_table(builder: TextBuilder, table: Any) -> None:
    for ordinal, row in enumerate(table.iterchildren(f"{_W}tr")):
        cells = (" ".join(_text(cell).split()) for cell in row.iter(f"{_W}tc") if _is_own_cell(cell, row))
        (builder.line if ordinal else builder.paragraph)(" | ".join(cells).strip(" |"))


def _is_own_cell(cell: Any, row: Any) -> bool:
    # A nested table's cells are already part of the text of the cell around them.
    return next(cell.iterancestors(f"{_W}tr"), None) is row


def _append_margins(builder: TextBuilder, archive: BoundedZip, parts: dict[str, tuple[str, str]]) -> None:
    seen: set[str] = set()
    for kind, target in sorted(parts.values()):
        if kind in ("header", "footer"):
            root = archive.xml(target)
            text = "\n".join(filter(str.strip, map(_text, root.iter(f"{_W}p")))) if root is not None else ""
            if text not in seen:
                builder.paragraph(text)
            seen.add(text)
    for note_kind in _NOTE_PARTS:
        for kind, target in parts.values():
            root = archive.xml(target) if kind == note_kind else None
            for note in root if root is not None else ():
                builder.paragraph("\n".join(map(_text, note.iterchildren(f"{_W}p"))))


def _level(paragraph: Any, levels: dict[str, int]) -> int:
    outline = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
    if outline is not None and outline.get(f"{_W}val", "9") in "012345678":
        return int(outline.get(f"{_W}val")) + 1
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return levels.get(style.get(f"{_W}val", ""), 0) if style is not None else 0


def _styled_title(document: Any) -> str | None:
    for paragraph in document.iter(f"{_W}p"):
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        if style is not None and style.get(f"{_W}val") in ("Title", "Titel", "Titre"):
            return _text(paragraph)
    return None


def _text(element: Any) -> str:
    return "".join(_pieces(element))


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _STANDS_FOR:
            yield _STANDS_FOR[child.tag]
        elif child.tag not in _UNSEEN and child.tag != f"{_W}pPr":
            # lxml refuses documents deeper than 256 elements, so this recursion is bounded.
            yield from _pieces(child)
            if child.tag == f"{_W}p":
                yield "\n"
