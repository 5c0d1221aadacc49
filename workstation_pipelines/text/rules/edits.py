"""Edits of a text, and where its headings are afterwards."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workstation_pipelines.model import Heading


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start` to `end` become `replacement`. Edits of one text are in order and do not overlap."""

    start: int
    end: int
    replacement: str = ""


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return `text` with all edits made."""
    parts: list[str] = []
    at = 0
    for edit in edits:
        parts += (text[at : edit.start], edit.replacement)
        at = edit.end
    return "".join(parts) + text[at:] if parts else text


def merged(spans: Iterable[tuple[int, int, str]]) -> list[Edit]:
    """Return edits for (start, end, replacement) spans in any order; of those that overlap the first one's words remain."""
    edits: list[Edit] = []
    for start, end, replacement in sorted(spans, key=lambda span: (span[0], -span[1])):
        if edits and start < edits[-1].end:
            edits[-1] = replace(edits[-1], end=max(end, edits[-1].end))
        else:
            edits.append(Edit(start, end, replacement))
    return edits


def moved(headings: Sequence[Heading], before: str, edits: Sequence[Edit], after: str) -> tuple[Heading, ...]:
    """Return the headings of `before` as they stand in `after`: at their new offset with their new words.

    A heading of which nothing is left, or whose line no longer shows it, is dropped.
    """
    if not edits:
        return tuple(headings)
    places = _Places(edits)
    found = []
    for heading in headings:
        end_of_line = before.find("\n", heading.offset)
        end_of_line = end_of_line if end_of_line >= 0 else len(before)
        offset = places.of(heading.offset)
        if not places.touches(heading.offset, end_of_line):
            found.append(replace(heading, offset=offset))
            continue
        start = before.find(heading.text, heading.offset, end_of_line)
        if start < 0:
            continue
        words = " ".join(after[places.of(start) : places.of(start + len(heading.text))].split())
        # The line may begin with what stood behind the heading's marks; its text is what a reader is led to.
        offset += len(after[offset:]) - len(after[offset:].lstrip()) if after[offset : offset + 1].isspace() else 0
        if words and stands_at(after, offset, words):
            found.append(Heading(offset, heading.level, words))
    return tuple(found)


def stands_at(text: str, offset: int, words: str) -> bool:
    """Return whether the line that `offset` lies on shows `words` from there on, however they are spaced."""
    end = text.find("\n", offset)
    return words in " ".join(text[offset : end if end >= 0 else len(text)].split())


class _Places:
    """Where positions of the old text are in the new one; asked in any order."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits
        self._starts = [edit.start for edit in edits]
        self._shifts = [0]
        for edit in edits:
            self._shifts.append(self._shifts[-1] + len(edit.replacement) - (edit.end - edit.start))

    def of(self, position: int) -> int:
        """A position inside an edit is behind its replacement; one at its start stays before it."""
        count = bisect_left(self._starts, position)  # edits that begin before the position
        if count and position < self._edits[count - 1].end:
            position = self._edits[count - 1].end
        return position + self._shifts[count]

    def touches(self, start: int, end: int) -> bool:
        count = bisect_left(self._starts, start)
        if count and self._edits[count - 1].end > start:
            return True
        return count < len(self._edits) and self._edits[count].start < end
