"""Owns MiniLM's tokenizer: opens it, and counts the tokens of words fast enough to cut every document with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = Path(__file__).with_name("tokenizer.json")

_MOST_WORDS_KEPT = 200_000
_LONGEST_WORD_KEPT = 64


def open_tokenizer() -> Tokenizer:
    """Return the tokenizer without truncation and padding; "[SEP]" and the like are plain text to it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER_FILE))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


class TokenCounter:
    """Counts tokens word by word, without special tokens, and remembers the words: prose repeats them.

    Counts are exact for a text cut at white space, ASCII punctuation and ideographs, since BERT's tokenizer never joins
    across these. May be shared by threads: two that meet a new word at once merely both count it. Holds at most
    200,000 words of up to 64 characters, some 20 MB.
    """

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer or open_tokenizer()
        self._known: dict[str, int] = {}

    def __call__(self, words: Sequence[str]) -> list[int]:
        """Return the tokens of each word, in the order of `words`."""
        known = self._known
        new = list(set(words).difference(known))
        if not new:
            return [known[word] for word in words]
        if len(known) + len(new) > _MOST_WORDS_KEPT:
            # A fresh dict, so that a thread between its two steps keeps what it looks up.
            known = self._known = {}
            new = list(set(words))
        counts = dict(zip(new, self._count(new), strict=True))
        known.update((word, tokens) for word, tokens in counts.items() if len(word) <= _LONGEST_WORD_KEPT)
        return [counts[word] if word in counts else known[word] for word in words]

    def _count(self, words: list[str]) -> list[int]:
        encodings = self._tokenizer.encode_batch_fast(words, add_special_tokens=False)
        return [len(encoding) for encoding in encodings]
