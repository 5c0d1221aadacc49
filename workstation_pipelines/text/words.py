"""Cuts text into the smallest units a chunk may be made of, with their offsets and token counts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each unit, without special tokens. Counts of neighbouring units must add up to that of their text, as they
do in every tokenizer that never joins across white space, ASCII punctuation and ideographs (BERT's, for one)."""

# \s would also take U+000B, U+000C, U+001C-1F and U+0085, which BERT deletes, so that the words around them join.
_SPACE = r"\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PUNCTUATION = r"!-/:-@\[-`{-~\u2018-\u201d\u3001\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
_IDEOGRAPH = r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002a6df"
_MARK = r"\u0300-\u036f\ufe00-\ufe0f\u20e3\U000e0100-\U000e01ef"
_UNIT = re.compile(f"([^{_SPACE}{_PUNCTUATION}{_IDEOGRAPH}]+|[{_PUNCTUATION}{_IDEOGRAPH}][{_MARK}]*)")

_ZERO_WIDTH_JOINER = "\u200d"
_THAI_AND_LAO_AM = "\u0e33\u0eb3"


@dataclass(frozen=True, slots=True)
class Words:
    """The units of one text: all that is not white space is in exactly one, in order.

    `tokens_before[k]` counts the tokens of units 0 to k-1, so it has one entry more than there are units. `is_cut`
    tells that some word was too long and became several units, whose counts need not add up to that of the word.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    tokens_before: Sequence[int]
    is_cut: bool

    def __len__(self) -> int:
        return len(self.starts)

    def tokens(self, first: int, stop: int) -> int:
        return self.tokens_before[stop] - self.tokens_before[first]


def measure(text: str, count: CountTokens, longest: int) -> Words:
    """Cut `text` into units of at most `longest` characters and count each."""
    parts = _UNIT.split(text)
    is_cut = max(map(len, parts[1::2]), default=0) > longest
    if is_cut:
        parts = _with_long_words_cut(parts, longest)
    offsets = list(accumulate(map(len, parts)))
    units = parts[1::2]
    return Words(text, offsets[:-1:2], offsets[1::2], [0, *accumulate(count(units))], is_cut)


def count_whole(text: str, count: CountTokens) -> int:
    """Count the tokens of `text` with no word cut."""
    return sum(count(_UNIT.findall(text)))


def _with_long_words_cut(parts: Sequence[str], longest: int) -> list[str]:
    cut: list[str] = []
    for place, part in enumerate(parts):
        if place % 2 == 0 or len(part) <= longest:
            cut.append(part)
            continue
        for piece in _pieces(part, longest):
            cut += (piece, "")
        cut.pop()
    return cut


def _pieces(word: str, longest: int) -> Iterator[str]:
    start = 0
    while len(word) - start > longest:
        stop = start + longest
        while _joins(word, stop) and stop > start + 1:
            stop -= 1
        if stop == start + 1:
            stop = start + longest
        yield word[start:stop]
        start = stop
    if start < len(word):
        yield word[start:]


def _joins(word: str, at: int) -> bool:
    """Tell whether a cut before `at` would tear a grapheme: accent, joined emoji, skin tone, flag, Korean syllable."""
    before, after = word[at - 1], word[at]
    return (
        after == _ZERO_WIDTH_JOINER
        or before == _ZERO_WIDTH_JOINER
        or unicodedata.category(after)[0] == "M"
        or after in _THAI_AND_LAO_AM
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\U000e0020" <= after <= "\U000e007f"
        or "\u1160" <= after <= "\u11ff"
        or (_is_flag_letter(after) and _is_second_flag_letter(word, at))
    )


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_second_flag_letter(word: str, at: int) -> bool:
    letters_before = 0
    while letters_before < at and _is_flag_letter(word[at - 1 - letters_before]):
        letters_before += 1
    return letters_before % 2 == 1
