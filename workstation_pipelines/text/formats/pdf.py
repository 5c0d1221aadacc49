"""PDF: the text layer, page by page, with the outline's entries as headings where the page shows them."""

from __future__ import annotations

import re
from typing import Any

import pypdfium2

from workstation_pipelines.errors import ItemTooLargeError, UnreadableContentError, UnsupportedContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.clean import clean
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

# PDFium marks a hyphen that only a line's end brought about with U+FFFE or U+0002.
_SOFT_LINE_END = re.compile(r"[\ufffe\x02][\r\n]*")
_WRITERS_TITLE = re.compile(
    r"(?:Microsoft \w+ - |untitled|\(anonymous\)|.*\.(?:docx?|pptx?|xlsx?|indd|tmp|dvi)$)", re.I
)


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the text of all pages. Raises UnsupportedContentError for a scan, ItemTooLargeError above max_pages,
    UnreadableContentError when it is encrypted or damaged."""
    document = _open(content.body)
    try:
        pages = len(document)
        if pages > limits.max_pages:
            raise ItemTooLargeError(
                f"it has {pages:,} pages, more than the {limits.max_pages:,} allowed: split it, or raise max_pages",
                reason="too_large",
            )
        builder = TextBuilder(limits)
        starts, unreadable = _append_pages(builder, document, pages)
        if not builder.length:
            raise _without_text(pages, unreadable)
        extracted_text = builder.build().text
        _mark_outline(builder, document, extracted_text, starts)
        return builder.build(title=_title(document))
    finally:
        document.close()


def _open(body: bytes) -> Any:
    try:
        return pypdfium2.PdfDocument(body)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise UnreadableContentError(
                "it is encrypted: save it without a password and sync again", reason="encrypted"
            ) from error
        raise UnreadableContentError(
            "it is damaged and cannot be opened as a PDF: export it again from its program", reason="corrupt"
        ) from error


def _append_pages(builder: TextBuilder, document: Any, pages: int) -> tuple[list[int], int]:
    starts: list[int] = []
    unreadable = 0
    for index in range(pages):
        starts.append(builder.length)
        try:
            page = document[index]
            text_page = page.get_textpage()
            text = text_page.get_text_range()
        except pypdfium2.PdfiumError:
            # One broken page does not cost the others.
            unreadable += 1
            continue
        builder.paragraph(_SOFT_LINE_END.sub("", text))
        text_page.close()
        page.close()
    return starts, unreadable


def _without_text(pages: int, unreadable: int) -> UnsupportedContentError | UnreadableContentError:
    if unreadable or not pages:
        return UnreadableContentError(
            f"{unreadable} of its {pages} pages are damaged and the others are empty: export it again", reason="corrupt"
        )
    return UnsupportedContentError(
        f"it is a scan: its {pages} page(s) are images without a text layer; run text recognition (OCR) on it first",
        reason="no_text",
    )


def _mark_outline(builder: TextBuilder, document: Any, text: str, starts: list[int]) -> None:
    position = 0
    for bookmark in document.get_toc(max_depth=6):
        destination = bookmark.get_dest()
        index = destination.get_index() if destination else None
        title = " ".join(clean(bookmark.get_title() or "").split())
        if index is None or not title or not 0 <= index < len(starts):
            continue
        page_end = starts[index + 1] + 2 if index + 1 < len(starts) else len(text)
        # In order first: the same words may stand on the page as running text before.
        found = text.find(title, max(position, starts[index]), page_end)
        if found < 0:
            found = text.find(title, starts[index], page_end)
        if found >= 0:
            builder.mark_heading(found, bookmark.level + 1, title)
            position = found + len(title)


def _title(document: Any) -> str | None:
    title = document.get_metadata_value("Title").strip()
    return title if title and not _WRITERS_TITLE.match(title) else None
