"""PowerPoint (PPTX): slides in presentation order, titles as headings, each slide's speaker notes after it."""

from __future__ import annotations

from typing import Any

from workstation_pipelines.errors import ItemTooLargeError, UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats.archive import BoundedZip, core_title, relationships
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_MAIN = "ppt/presentation.xml"
# Slide number, date and footer repeat on every slide.
_FURNITURE = frozenset(("sldNum", "dt", "ftr", "sldImg"))


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return all slides, hidden ones too. A slide's title is a heading of level 1, or 2 below the first slide's."""
    archive = BoundedZip(content.body, limits)
    presentation = archive.xml(_MAIN)
    if presentation is None:
        raise UnreadableContentError("it has no presentation part: save it again in PowerPoint", reason="corrupt")
    targets = relationships(archive, _MAIN)
    slides = [targets[entry.get(_R_ID)][1] for entry in presentation.iter(f"{_P}sldId") if entry.get(_R_ID) in targets]
    if len(slides) > limits.max_pages:
        raise ItemTooLargeError(
            f"it has {len(slides):,} slides, more than the {limits.max_pages:,} allowed: split it, or raise max_pages",
            reason="too_large",
        )
    builder = TextBuilder(limits)
    for ordinal, part in enumerate(slides):
        _append_slide(builder, archive, part, level=2 if ordinal else 1)
    return builder.build(title=core_title(archive))


def _append_slide(builder: TextBuilder, archive: BoundedZip, part: str, *, level: int) -> None:
    slide = archive.xml(part)
    if slide is None:
        return
    shapes = list(slide.iter(f"{_P}sp", f"{_P}graphicFrame"))
    for shape in shapes:
        if _placeholder(shape) in ("title", "ctrTitle"):
            builder.heading(" ".join(_paragraphs(shape)), level)
    for shape in shapes:
        if _placeholder(shape) not in ("title", "ctrTitle"):
            _append_shape(builder, shape)
    for kind, target in relationships(archive, part).values():
        if kind == "notesSlide":
            _append_notes(builder, archive.xml(target))


def _append_shape(builder: TextBuilder, shape: Any) -> None:
    if _placeholder(shape) in _FURNITURE:
        return
    rows = list(shape.iter(f"{_A}tr"))
    if rows:
        for ordinal, row in enumerate(rows):
            cells = (" ".join(_paragraphs(cell)) for cell in row.iterchildren(f"{_A}tc"))
            (builder.line if ordinal else builder.paragraph)(" | ".join(cells).strip(" |"))
    else:
        builder.paragraph("\n".join(_paragraphs(shape)))


def _append_notes(builder: TextBuilder, notes: Any) -> None:
    for shape in notes.iter(f"{_P}sp") if notes is not None else ():
        text = "\n".join(_paragraphs(shape))
        if _placeholder(shape) not in _FURNITURE and text.strip():
            builder.paragraph(f"Notes: {text}")


def _placeholder(shape: Any) -> str:
    mark = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return mark.get("type", "body") if mark is not None else ""


def _paragraphs(shape: Any) -> list[str]:
    texts = []
    for paragraph in shape.iter(f"{_A}p"):
        runs = ("\n" if piece.tag == f"{_A}br" else piece.text or "" for piece in paragraph.iter(f"{_A}t", f"{_A}br"))
        text = "".join(runs)
        if text.strip():
            texts.append(text)
    return texts
