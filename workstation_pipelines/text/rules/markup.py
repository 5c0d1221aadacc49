"""Takes markup out of a text that should have been read as HTML and was not: pasted mail, exports, and the like."""

from __future__ import annotations

import html
import re

from workstation_pipelines.text.rules.edits import Edit

# A `<` that is no tag (3 < 4, <3) stays. Each part is bounded or stops at the next `<`, so that the time is linear.
_MARKUP = re.compile(
    r"<!--|</?(?P<tag>[A-Za-z][A-Za-z0-9:-]{0,30})(?:\s[^<>]{0,4000})?/?>|<!DOCTYPE[^<>]{0,500}>"
    r"|&(?:[A-Za-z]{2,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});",
    re.IGNORECASE,
)
_HIDDEN = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style", "head")}
_BLOCK = re.compile(r"</?(?:p|div|br|li|ul|ol|tr|table|h[1-6]|blockquote|section|article|pre|hr)\b", re.IGNORECASE)


def markup(text: str) -> list[Edit]:
    """Return the edits that turn block tags into line breaks, references into characters, and all other markup to nothing.

    What is inside scripts, styles and comments goes with them.
    """
    edits: list[Edit] = []
    ends = _Ends(text)
    match = _MARKUP.search(text)
    while match is not None:
        end = ends.behind(match)
        edits.append(Edit(match.start(), end, _meant(match.group())))
        match = _MARKUP.search(text, end)
    return edits


class _Ends:
    """Where what is not shown ends; remembers what never ends, so that a text full of it is not searched again and again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._endless: set[str] = set()

    def behind(self, match: re.Match[str]) -> int:
        found = match.group()
        kind = "comment" if found == "<!--" else (match["tag"] or "").lower()
        if found.startswith("</") or kind in self._endless:
            return match.end()
        if kind == "comment":
            end = self._text.find("-->", match.end())
            end = end + 3 if end >= 0 else -1
        elif kind in _HIDDEN:
            closing = _HIDDEN[kind].search(self._text, match.end())
            end = closing.end() if closing is not None else -1
        else:
            return match.end()
        if end < 0:
            self._endless.add(kind)
            return match.end()
        return end


def _meant(found: str) -> str:
    if found.startswith("&"):
        char = html.unescape(found)
        return char if char.isprintable() else " "
    return "\n" if _BLOCK.match(found) else ""
