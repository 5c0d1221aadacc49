"""Collects a document's text block by block, so that heading offsets are right by construction."""

from __future__ import annotations

from collections.abc import Sequence

from workstation_pipelines.errors import ItemTooLargeError
from workstation_pipelines.model import Attachment, Extracted, Heading
from workstation_pipelines.text.clean import clean
from workstation_pipelines.text.language import detect_language
from workstation_pipelines.text.limits import ExtractionLimits


class TextBuilder:
    """Joins clean blocks: a line break between lines, an empty line between paragraphs."""

    def __init__(self, limits: ExtractionLimits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._headings: list[Heading] = []
        self.length = 0

    def paragraph(self, text: str) -> None:
        """Add a block after an empty line; blank text adds nothing."""
        self._append(clean(text).strip("\n"), "\n\n")

    def line(self, text: str) -> None:
        """Add a block on the next line; blank text adds nothing."""
        self._append(clean(text).strip("\n"), "\n")

    def heading(self, text: str, level: int) -> None:
        """Add a heading of `level` (1 is the highest) as a paragraph of one line."""
        title = " ".join(clean(text).split())
        if title:
            self._append(title, "\n\n")
            self.mark_heading(self.length - len(title), level, title)

    def mark_heading(self, offset: int, level: int, text: str) -> None:
        """Note a heading that is already part of the text at `offset`."""
        if len(self._headings) < self._limits.max_headings:
            self._headings.append(Heading(offset=offset, level=max(1, level), text=text))

    def build(
        self,
        *,
        title: str | None = None,
        language: str | None = None,
        children: Sequence[Attachment] = (),
    ) -> Extracted:
        """Return the document. Without a title the first heading of level 1 serves; without a language the text's."""
        text = "".join(self._parts)
        headings = tuple(sorted(self._headings, key=lambda heading: heading.offset))
        own_title = " ".join(clean(title or "").split())
        first = next((heading.text for heading in headings if heading.level == 1), None)
        return Extracted(
            text=text,
            title=own_title or first,
            language=language or detect_language(text),
            headings=headings,
            children=tuple(children),
        )

    def _append(self, text: str, separator: str) -> None:
        if not text or text.isspace():
            return
        if self._parts:
            text = separator + text
        self.length += len(text)
        if self.length > self._limits.max_text_chars:
            raise ItemTooLargeError(
                f"it holds more than {self._limits.max_text_chars:,} characters of text: "
                "split it, or raise max_text_chars",
                reason="too_large",
            )
        self._parts.append(text)
