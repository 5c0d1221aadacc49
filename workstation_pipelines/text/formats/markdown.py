"""Finds Markdown's headings and title without parsing the rest of it."""

from __future__ import annotations

import re

from workstation_pipelines.model import Heading

# The leading literal newline lets the regex engine jump from line to line.
_STRUCTURE = re.compile(r"\n {0,3}+(?=[#`~=-])(?:(#{1,6})(?=[ \t\n]|\Z)|(`{3,}|~{3,})|(=+|--+)[ \t]*(?=\n|\Z))")
_CLOSING_MARKS = re.compile(r"(?:^|[ \t])#+$")
_NOT_A_PARAGRAPH = re.compile(r"[-*+>|#<]|\d+[.)][ \t]|[ \t]{4}|\t")
_FRONT_MATTER_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)
_FRONT_MATTER_CHARS = 20_000


def scan(text: str, max_headings: int) -> tuple[str | None, tuple[Heading, ...]]:
    """Return (title, headings in order). A heading's offset is its line's first character, marks included.

    The title is the front matter's, else the first heading of level 1. Headings inside fenced code do not count.
    """
    lines = "\n" + text
    title, start = _front_matter(text)
    headings: list[Heading] = []
    fence = ""
    for match in _STRUCTURE.finditer(lines, start):
        marks, opening, underline = match.groups()
        if fence:
            if opening and opening.startswith(fence) and not _rest_of_line(lines, match.end()):
                fence = ""
        elif opening:
            # An inline span such as ```x``` on one line opens nothing.
            fence = "" if opening[0] == "`" and "`" in _rest_of_line(lines, match.end()) else opening
        elif len(headings) < max_headings:
            heading = _atx(lines, match, len(marks)) if marks else _setext(lines, match, underline)
            if heading:
                headings.append(heading)
    if title is None:
        title = next((heading.text for heading in headings if heading.level == 1), None)
    return title, tuple(headings)


def _front_matter(text: str) -> tuple[str | None, int]:
    if not text.startswith("---\n"):
        return None, 0
    end = text.find("\n---\n", 3, _FRONT_MATTER_CHARS)
    if end < 0:
        return None, 0
    found = _FRONT_MATTER_TITLE.search(text, 4, end)
    return (found.group(1).strip().strip("\"'") if found else None), end + 5


def _rest_of_line(lines: str, start: int) -> str:
    end = lines.find("\n", start)
    return lines[start : end if end >= 0 else len(lines)].strip(" \t")


def _atx(lines: str, match: re.Match[str], level: int) -> Heading | None:
    text = _rest_of_line(lines, match.end())
    if text.endswith("#"):
        text = _CLOSING_MARKS.sub("", text).rstrip(" \t")
    # `lines` is one character longer than the text, so the place of the line break before is the line's offset.
    return Heading(offset=match.start(), level=level, text=text) if text else None


def _setext(lines: str, match: re.Match[str], underline: str) -> Heading | None:
    start = lines.rfind("\n", 0, match.start()) + 1
    text = lines[start : match.start()]
    if not text.strip() or _NOT_A_PARAGRAPH.match(text):
        return None
    # Only a paragraph of one line: below more, `---` is as often a rule as an underline.
    if lines[lines.rfind("\n", 0, max(start - 1, 0)) + 1 : start - 1].strip():
        return None
    return Heading(offset=start - 1, level=1 if underline[0] == "=" else 2, text=text.strip(" \t"))
