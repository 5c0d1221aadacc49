"""Patterns that people wrote: compiled once, limited in length, and given up when they take too long.

Of the two engines that cannot hang, RE2 is linear but takes `\\b` and `\\w` for ASCII: a rule against a Cyrillic name would
silently find nothing. `regex` knows every script and stops at a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import regex

from workstation_pipelines.errors import InvalidRequestError, UnreadableContentError
from workstation_pipelines.text.rules.edits import Edit

MOST_PATTERN_CHARACTERS = 1000
MOST_REPLACEMENT_CHARACTERS = 1000
MOST_GROWTH_CHARACTERS = 1_000_000
"""So much longer than before may a text be after a rule."""

DEADLINE_S = 2.0
"""For one pattern on one document. A sound pattern reads a novel in a fraction of it."""

TIMED_OUT, FAILED = "rule_timeout", "rule_failed"
"""Reasons of an item that a rule could not be applied to; it is tried again when it or the rules change."""


@lru_cache(maxsize=256)
def compiled(pattern: str, *, ignore_case: bool = False, multiline: bool = True, dot_all: bool = False) -> Any:
    """Return the compiled pattern. Raises InvalidRequestError."""
    if not 0 < len(pattern) <= MOST_PATTERN_CHARACTERS:
        raise InvalidRequestError(
            f"a pattern has 1 to {MOST_PATTERN_CHARACTERS:,} characters, this one {len(pattern):,}"
        )
    flags = regex.IGNORECASE * ignore_case | regex.MULTILINE * multiline | regex.DOTALL * dot_all
    try:
        return regex.compile(pattern, flags | regex.VERSION0, cache_pattern=False)
    except (regex.error, RecursionError, OverflowError) as error:
        raise InvalidRequestError(f"the pattern cannot be read: {error}. Python's syntax is meant") from None


def checked_template(pattern: Any, replacement: str) -> None:
    """Raises InvalidRequestError for a replacement that names a group which the pattern does not have."""
    if len(replacement) > MOST_REPLACEMENT_CHARACTERS:
        raise InvalidRequestError(f"a replacement has at most {MOST_REPLACEMENT_CHARACTERS:,} characters")
    try:
        # A branch that matches nothing whatever the pattern is, with the same groups.
        regex.compile(f"(?:{pattern.pattern})?", pattern.flags, cache_pattern=False).sub(replacement, "", count=1)
    except (regex.error, IndexError, KeyError) as error:
        raise InvalidRequestError(
            f"the replacement cannot be used: {error}. \\1 or \\g<name> stand for groups"
        ) from None


def spans(pattern: Any, text: str, rule: str) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of every match that is not empty. Raises UnreadableContentError behind the deadline."""
    try:
        for match in pattern.finditer(text, timeout=DEADLINE_S):
            if match.end() > match.start():
                yield match.span()
    except TimeoutError:
        raise _timed_out(rule) from None


def replacements(pattern: Any, replacement: str, text: str, rule: str) -> list[Edit]:
    """Return the edits that replace every match. Raises UnreadableContentError behind the deadline, or for too much text."""
    edits = []
    room = MOST_GROWTH_CHARACTERS
    try:
        for match in pattern.finditer(text, timeout=DEADLINE_S):
            new = match.expand(replacement)
            room -= len(new) - (match.end() - match.start())
            if room < 0:
                raise UnreadableContentError(
                    f"the rule {rule!r} makes its text longer by more than {MOST_GROWTH_CHARACTERS:,} characters:"
                    " look at its pattern, which may match nothing at all places",
                    reason=FAILED,
                )
            if new != match.group():
                edits.append(Edit(match.start(), match.end(), new))
    except TimeoutError:
        raise _timed_out(rule) from None
    return edits


def _timed_out(rule: str) -> UnreadableContentError:
    return UnreadableContentError(
        f"the rule {rule!r} took longer than {DEADLINE_S:.0f} s on it: simplify its pattern, nested repetitions are"
        " what takes for ever",
        reason=TIMED_OUT,
    )
