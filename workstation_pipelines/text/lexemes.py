"""Words as full-text search compares them: folded, stemmed, identifiers kept whole and in parts.

The same function serves documents and queries, in every language alike, so nothing depends on the server's text search
configuration. Words are looked up in a table that grows with the vocabulary: prose repeats itself, so the cost of a text is a
split and a dictionary look-up a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Stemmer import Stemmer

VOCABULARY_LIMIT = 300_000  # words; about 60 MB. Beyond it the table starts afresh.
LEXEME_LENGTH_LIMIT = 120  # characters; longer ones are hashes, data URIs and the like, found by their beginning

STEMMERS = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "lt": "lithuanian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}

# Words that say nothing about what an English text is about (the Snowball list, shortened). Other languages keep theirs:
# ranking by rarity makes them weigh next to nothing.
STOP_WORDS = frozenset(
    "a about above after again against all am an and any are as at be because been"  # noqa: SIM905 - as words of prose
    " before being below between both but by can did do does doing down during each few for from further"
    " had has have having he her here hers him his how i if in"
    " into is it its itself just me more most my no nor not now of off on once only or other our out over own s same she so"
    " some such t than that the their them then there these they this those through to too under until up very was we were"
    " what when where which while who whom why will with you your".split()
)

# Brackets, quotes and the punctuation between clauses, full-width forms included: Chinese and Japanese put no spaces
# beside it. And NUL, which PostgreSQL cannot hold.
_BRACKETS_AND_QUOTES = str.maketrans(
    dict.fromkeys(
        "()[]{}<>\"'`,;!?|*=~^\\\x00\u2018\u2019\u201c\u201d\u00ab\u00bb\u2013\u2014\u2026\u00a0\u3001\u3002\u3008\u3009\u300a\u300b\u300c\u300d\u300e\u300f\u3010\u3011\u30fb"
        "\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f",
        " ",
    )
)
_EDGES = ".:-_/@#&+%$"
_PARTS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_WITHOUT_SPACES = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_CJK = re.compile(f"[{_WITHOUT_SPACES}]+")
_SCRIPT_RUNS = re.compile(f"[{_WITHOUT_SPACES}]+|[^{_WITHOUT_SPACES}]+")


_SEPARATOR = "\0"  # is in no word: the table above makes a blank of it


class Lexer:
    """Turns text of one language into lexemes; keep one and reuse it, for its table of known words."""

    def __init__(self, language: str | None) -> None:
        self.language = language if language in STEMMERS else "en"
        self._known = _Vocabulary(STEMMERS[self.language])

    def lexemes(self, text: str) -> list[str]:
        """Return the lexemes of `text` in order, repetitions included."""
        found = _SEPARATOR.join(filter(None, self._looked_up(text)))
        return found.split(_SEPARATOR) if found else []

    def counted(self, *texts: str) -> Counter[str]:
        """Return how often each lexeme occurs in all `texts` together."""
        counts = Counter(self._looked_up("\n".join(texts)))
        counts.pop("", None)
        # Counting entries and taking apart the few that hold several lexemes is twice as fast as counting lexemes.
        if _SEPARATOR in "".join(counts):
            for entry in [entry for entry in counts if _SEPARATOR in entry]:
                times = counts.pop(entry)
                for lexeme in entry.split(_SEPARATOR):
                    counts[lexeme] += times
        return counts

    def _looked_up(self, text: str) -> Iterator[str]:
        known = self._known
        if len(known) > VOCABULARY_LIMIT:
            known.clear()
        return map(known.__getitem__, text.translate(_BRACKETS_AND_QUOTES).split())


@lru_cache(maxsize=len(STEMMERS))
def lexer_for(language: str | None) -> Lexer:
    """Return the shared lexer of a language; unknown ones are read as English."""
    return Lexer(language)


class _Vocabulary(dict[str, str]):
    """Word as written -> its lexemes with NUL between them, computed at first sight; "" for a stop word."""

    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self._algorithm = algorithm
        self._stemmer: Stemmer | None = None

    def __missing__(self, word: str) -> str:
        if self._stemmer is None:
            from Stemmer import Stemmer

            self._stemmer = Stemmer(self._algorithm, 0)  # no cache of its own: this table is one
        if word.isascii():  # the common cases, for the sake of short runs: each learns its words anew
            if (plain := word.strip(_EDGES)) != word:
                return self.setdefault(word, self[plain])
            if word.isalpha() and word.islower():
                return self.setdefault(word, "" if word in STOP_WORDS else _stem(word, self._stemmer))
        found = self[word] = _SEPARATOR.join(dict.fromkeys(_lexemes_of(word, self._stemmer)))
        return found


def _lexemes_of(word: str, stemmer: Stemmer) -> list[str]:
    plain = _folded(word).strip(_EDGES)
    if plain.isalpha() and (plain.isascii() or not _CJK.search(plain)):
        # Stop words are recognised before stemming; a word in camel case is an identifier and keeps its parts as well.
        lowered = plain.lower()
        if lowered in STOP_WORDS:
            return []
        return [_stem(lowered, stemmer), *_camel_parts(plain, stemmer)]
    found: list[str] = []
    pieces = _PARTS.findall(plain)
    if len(pieces) > 1:
        found.append(plain.lower()[:LEXEME_LENGTH_LIMIT])
    for run in chain.from_iterable(map(_SCRIPT_RUNS.findall, pieces)):
        if _CJK.match(run):
            found += _bigrams(run)
            continue
        lowered = run.lower()
        if lowered not in STOP_WORDS or len(pieces) > 1:
            found += [_stem(lowered, stemmer), *_camel_parts(run, stemmer)]
    return found


def _folded(word: str) -> str:
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFKD", word)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not unicodedata.combining(c)))


def _stem(word: str, stemmer: Stemmer) -> str:
    return str(stemmer.stemWord(word))[:LEXEME_LENGTH_LIMIT]


def _camel_parts(piece: str, stemmer: Stemmer) -> list[str]:
    if piece.islower() or piece.isupper() or piece.istitle() or piece.isdigit():
        return []
    parts = _CAMEL.findall(piece)
    return [_stem(part.lower(), stemmer) for part in parts] if len(parts) > 1 else []


def _bigrams(piece: str) -> list[str]:
    """Scripts without spaces between words are matched by pairs of neighbouring characters."""
    return [piece] if len(piece) == 1 else [piece[at : at + 2] for at in range(len(piece) - 1)]
