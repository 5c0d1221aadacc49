"""Splits text into passages of bounded size that end where a reader would pause.

A passage never straddles a heading of level 1 or 2, except where tiny neighbouring sections share one. Inside a
section the cut falls on the strongest border within reach: deeper heading, paragraph, full line, sentence, line, word.
The end of a section is cut into two passages of about the same size, so that no scrap of a few words is left over.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Chunk, Heading
from workstation_pipelines.text import words
from workstation_pipelines.text.words import CountTokens, Words

DEFAULT_MAX_TOKENS = 254
"""What a model with a window of 256 leaves beside its two special tokens."""

_MIN_MAX_TOKENS = 16
_LONGEST_UNIT = 40
# Bounds what few tokens hide: a word too long for the vocabulary is one token, and spaces are none.
_CHARACTERS_PER_TOKEN = 8
_SECTION_LEVEL = 2
# A heading path comes with each chunk: a hostile one must not multiply.
_HEADING_CHARACTERS = 200
_HEADING_LEVELS = 8

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
# A line that ends a statement or a table row, or is followed by a list item. Any other line may be hard-wrapped prose.
_FULL_LINE = re.compile(r"(?<=[.!?…:;|)}\]。！？])[^\S\n]*\n|\n(?=[^\S\n]*(?:[-*+•|>#]|\d+[.)])\s)")  # noqa: RUF001 - Chinese and Japanese text
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"(?<!\b[A-Z])[.!?…][\"'”’)\]]*\s+(?=[^\sa-z])|[。！？][」』）”’]*")  # noqa: RUF001 - Chinese and Japanese text
_SPACE = re.compile(r"\s+")
_BORDERS = (_PARAGRAPH, _FULL_LINE, _SENTENCE, _LINE, _SPACE)
_NEVER_FIRST = frozenset(".,;:!?)]}%…”’、。！，：；？）」』】》〉")  # noqa: RUF001 - Chinese and Japanese punctuation


@dataclass(frozen=True, slots=True)
class _Section:
    """Units first to stop-1. `heading` is its place among the headings, `parent` that of the level-1 heading above it;
    -1 for none. `is_bare`: nothing but the heading's own line."""

    first: int
    stop: int
    heading: int
    parent: int
    is_bare: bool


class TokenSplitter:
    """The splitter of the pipeline: pure and deterministic.

    Guarantees for every chunk: its text is exactly `text[start_offset:end_offset]` and neither begins nor ends with
    white space; `token_count` is at most `max_tokens`; chunks are in order of offset; every character that is not
    white space is in at least one; the part shared with the chunk before is at most `overlap_tokens`, made of whole
    sentences or else whole words, and never crosses into another section. A text of no tokens gives no chunks.
    """

    def __init__(self, count: CountTokens, *, max_tokens: int = DEFAULT_MAX_TOKENS, overlap_tokens: int = 0) -> None:
        if max_tokens < _MIN_MAX_TOKENS:
            raise InvalidRequestError(f"chunk_tokens is {max_tokens}: set it to {_MIN_MAX_TOKENS} or more")
        if not 0 <= overlap_tokens <= max_tokens // 2:
            raise InvalidRequestError(
                f"overlap_tokens is {overlap_tokens}: set it between 0 and half of chunk_tokens ({max_tokens // 2})"
            )
        self._count = count
        self._max_tokens = max_tokens
        self._max_characters = max_tokens * _CHARACTERS_PER_TOKEN
        self._overlap_tokens = overlap_tokens
        # A character is at most three tokens (a Korean syllable decomposes into three letters): a unit always fits.
        self._longest_unit = min(_LONGEST_UNIT, max_tokens // 3)

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]:
        """Return the chunks of `text`; `headings` are those of the document, in order of offset."""
        units = words.measure(text, self._count, self._longest_unit)
        if not units.tokens_before[-1]:
            return []
        offsets = [heading.offset for heading in headings]
        paths = _heading_paths(headings)
        chunks: list[Chunk] = []
        for first, stop in self._ranges(units, headings):
            start, end = units.starts[first], units.ends[stop - 1]
            heading_path = paths[bisect_right(offsets, start)]
            tokens = self._tokens(units, first, stop)
            chunks.append(Chunk(len(chunks), text[start:end], start, end, heading_path, tokens))
        return chunks

    def _ranges(self, units: Words, headings: Sequence[Heading]) -> Iterator[tuple[int, int]]:
        inner = [bisect_left(units.starts, heading.offset) for heading in headings if heading.level > _SECTION_LEVEL]
        for first, stop in self._groups(_sections(units, headings), units):
            yield from self._pack(units, first, stop, inner)

    def _groups(self, sections: Iterable[_Section], units: Words) -> Iterator[tuple[int, int]]:
        """Join a bare heading with the deeper section below it, and tiny sections with their tiny siblings."""
        group: list[_Section] = []
        for section in sections:
            if group and not self._may_join(group, section, units):
                yield group[0].first, group[-1].stop
                group = []
            group.append(section)
        if group:
            yield group[0].first, group[-1].stop

    def _may_join(self, group: Sequence[_Section], section: _Section, units: Words) -> bool:
        leader, last = group[0], group[-1]
        is_child = section.parent == leader.heading != -1
        if last.is_bare and (is_child or section.parent == last.heading != -1):
            return True
        tiny = self._max_tokens // 4
        return (
            (is_child or (section.parent == leader.parent and leader.heading != -1))
            and all(units.tokens(part.first, part.stop) <= tiny for part in (*group, section))
            and units.tokens(leader.first, section.stop) <= self._max_tokens // 2
        )

    def _pack(self, units: Words, first: int, stop: int, inner_headings: Sequence[int]) -> Iterator[tuple[int, int]]:
        start = fresh = first
        while fresh < stop:
            end = self._end(units, start, fresh, stop, inner_headings)
            yield start, end
            fresh = end
            start = self._overlap_start(units, start, end) if self._overlap_tokens and end < stop else end

    def _end(self, units: Words, start: int, fresh: int, stop: int, inner_headings: Sequence[int]) -> int:
        """Return where the chunk that starts at `start` ends; always behind `fresh`, the first unit not yet used."""
        most = self._reach(units, start, stop)
        if most < stop:
            remaining = units.tokens(start, stop)
            is_last_pair = remaining <= 2 * self._max_tokens
            least = max(remaining - self._max_tokens, self._max_tokens // 4) if is_last_pair else self._max_tokens // 2
            aim = remaining // 2 if is_last_pair else self._max_tokens
            before = units.tokens_before
            low = min(max(bisect_left(before, before[start] + least), fresh + 1), most)
            goal = min(max(bisect_right(before, before[start] + aim) - 1, low), most)
            most = _best_border(units, low, most, goal, inner_headings)
        while most > fresh + 1 and not self._fits(units, start, most):
            most -= 1
        return most

    def _reach(self, units: Words, start: int, stop: int) -> int:
        by_tokens = bisect_right(units.tokens_before, units.tokens_before[start] + self._max_tokens) - 1
        by_characters = bisect_right(units.ends, units.starts[start] + self._max_characters)
        return max(min(by_tokens, by_characters, stop), start + 1)

    def _overlap_start(self, units: Words, start: int, end: int) -> int:
        """Return the first unit of the next chunk: as early as the overlap allows, at a sentence or else at a word."""
        earliest = max(bisect_left(units.tokens_before, units.tokens_before[end] - self._overlap_tokens), start + 1)
        for border in (_SENTENCE, _SPACE):
            for unit in _borders(units, border, earliest, end - 1):
                if self._reach(units, unit, len(units)) > end and self._fits(units, unit, end + 1):
                    return unit
        return end

    def _fits(self, units: Words, first: int, stop: int) -> bool:
        return not units.is_cut or self._tokens(units, first, stop) <= self._max_tokens

    def _tokens(self, units: Words, first: int, stop: int) -> int:
        if units.is_cut:
            return words.count_whole(units.text[units.starts[first] : units.ends[stop - 1]], self._count)
        return units.tokens(first, stop)


def _sections(units: Words, headings: Sequence[Heading]) -> Iterator[_Section]:
    """Yield the sections that headings of level 1 and 2 make, without the empty ones."""
    cuts = [place for place, heading in enumerate(headings) if heading.level <= _SECTION_LEVEL]
    firsts = [bisect_left(units.starts, headings[place].offset) for place in cuts]
    parent = -1
    for place, first, stop in zip([-1, *cuts], [0, *firsts], [*firsts, len(units)], strict=True):
        heading = headings[place] if place >= 0 else None
        is_top = heading is None or heading.level == 1
        if first < stop:
            yield _Section(first, stop, place, -1 if is_top else parent, _is_bare(units, first, stop, heading))
        parent = place if is_top else parent


def _is_bare(units: Words, first: int, stop: int, heading: Heading | None) -> bool:
    return heading is not None and "\n" not in units.text[units.starts[first] : units.ends[stop - 1]]


def _heading_paths(headings: Sequence[Heading]) -> list[str]:
    """Return the path in force before the first heading (none), then behind each of them."""
    paths, stack = [""], list[Heading]()
    for heading in headings:
        while stack and stack[-1].level >= heading.level:
            stack.pop()
        stack.append(heading)
        paths.append(" > ".join(above.text[:_HEADING_CHARACTERS] for above in stack[-_HEADING_LEVELS:]))
    return paths


def _best_border(units: Words, low: int, high: int, goal: int, inner_headings: Sequence[int]) -> int:
    """Return the unit from low to high before which to cut: on the strongest border there, the nearest to `goal`."""
    found = inner_headings[bisect_left(inner_headings, low) : bisect_right(inner_headings, high)]
    for border in _BORDERS:
        if found:
            return min(found, key=lambda unit: abs(unit - goal))
        found = list(_borders(units, border, low, high))
    if found:
        return min(found, key=lambda unit: abs(unit - goal))
    while goal > low and units.text[units.starts[goal]] in _NEVER_FIRST:
        goal -= 1
    return goal


def _borders(units: Words, border: re.Pattern[str], low: int, high: int) -> Iterator[int]:
    """Yield the units from low to high that follow a match of `border`, in order."""
    if low > high:
        return
    for match in border.finditer(units.text, units.starts[low - 1], units.starts[high] + 1):
        unit = bisect_left(units.starts, match.end())
        if low <= unit <= high:
            yield unit
