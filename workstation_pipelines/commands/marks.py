"""Marking a query's words in a passage, in whatever form they stand there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workstation_pipelines.index import query as queries
from workstation_pipelines.text.language import detect_language
from workstation_pipelines.text.lexemes import lexer_for

if TYPE_CHECKING:
    from rich.text import Text

EXCERPT_CHARACTERS = 360

_WORD = re.compile(r"\w+(?:[-.:/@#&+]\w+)*")


class Marker:
    """Finds the words of one query in texts of any language."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._wanted: dict[str | None, frozenset[str]] = {}

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Return [start, end) of every word of `text` that the query asks for, in order."""
        language = detect_language(text)
        wanted = self._lexemes(language)
        lexer = lexer_for(language)
        return [match.span() for match in _WORD.finditer(text) if not wanted.isdisjoint(lexer.lexemes(match[0]))]

    def _lexemes(self, language: str | None) -> frozenset[str]:
        if language not in self._wanted:
            terms = queries.parse(self._query, [lexer_for(language)]).terms
            self._wanted[language] = frozenset(variant for term in terms for variant in term.variants)
        return self._wanted[language]


def excerpt(text: str, marker: Marker, *, indent: str, characters: int = EXCERPT_CHARACTERS) -> Text:
    """Return the stretch of `text` with most marks, at most so many characters, as one indented line."""
    from rich.text import Text

    marks = marker.marks(text)
    start, end = _densest(text, marks, characters)
    shown = Text(indent + ("... " if start else ""))
    at = start
    for left, right in marks:
        if left < start or right > end:
            continue
        shown.append(_flat(text[at:left]))
        shown.append(text[left:right], style="bold yellow")
        at = right
    shown.append(_flat(text[at:end]) + (" ..." if end < len(text) else ""))
    return shown


def _densest(text: str, marks: list[tuple[int, int]], characters: int) -> tuple[int, int]:
    if len(text) <= characters:
        return 0, len(text)
    best, most = 0, 0
    for left, _ in marks:
        held = sum(left <= other < left + characters for other, _ in marks)
        if held > most:
            best, most = left, held
    # A little before the first mark, so that it does not stand without its sentence.
    start = max(0, min(best - characters // 5, len(text) - characters))
    end = min(len(text), start + characters)
    start = text.find(" ", start) + 1 if start and text.find(" ", start) >= 0 else start
    end = text.rfind(" ", start, end) if end < len(text) and text.rfind(" ", start, end) > start else end
    return start, end


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)
