"""A search query as typed -> what each ranking is asked. Pure.

`"some words"` must stand in the text as they are, `-word` must not occur; everything else only ranks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workstation_pipelines.db import search_scope
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.text.clean import clean
from workstation_pipelines.text.lexemes import Lexer

LONGEST_QUERY = 2_000  # characters
MOST_TERMS = 32  # a ranking costs in proportion to them

_QUOTED = re.compile('["\u201c\u201d\u201e]([^"\u201c\u201d\u201e]*)["\u201c\u201d\u201e]')
# A minus in front of a digit is a number's sign, a lone one is a dash.
_EXCLUDED = re.compile(r"(?<!\S)-([^\W\d]\S*)")
_DIGIT = re.compile(r"\d")
_JOINED = re.compile(r"[^\W_][^\w\s]+[^\W_]|[^\W_]_+[^\W_]")


@dataclass(frozen=True, slots=True)
class Term:
    """One word, or one part of a composed word, as the lexemes that it becomes in each language.

    An identifier has digits or joints (`ERR-4711`, `load_config`, `v2.1`): whoever types one means exactly that.
    """

    variants: Sequence[str]
    is_identifier: bool


@dataclass(frozen=True, slots=True)
class Query:
    """`wanted` is the query in words, for the embedder; `terms` are its distinct words, at most MOST_TERMS."""

    wanted: str
    terms: Sequence[Term]
    phrases: Sequence[search_scope.Phrase]
    excluded: Sequence[str]


def parse(text: str, lexers: Sequence[Lexer]) -> Query:
    """Return what `text` asks for, read under each language of `lexers` alike.

    Raises InvalidRequestError for a query that is empty, longer than LONGEST_QUERY or only excludes.
    """
    if len(text) > LONGEST_QUERY:
        raise InvalidRequestError(f"the query has {len(text):,} characters: shorten it to {LONGEST_QUERY:,} or fewer")
    plain = clean(text).replace("\x00", " ")
    phrases = [phrase for phrase in _QUOTED.findall(plain) if search_scope.folded(phrase)]
    unquoted = _QUOTED.sub(" ", plain)
    excluded = _EXCLUDED.findall(unquoted)
    wanted = " ".join(_EXCLUDED.sub(" ", _QUOTED.sub(r" \1 ", plain)).split())
    if not wanted:
        raise InvalidRequestError("the query is empty: give at least one word to look for")
    return Query(
        wanted,
        _most_telling(_terms(wanted, lexers)),
        [_phrase(phrase, lexers) for phrase in phrases],
        list(dict.fromkeys(lexeme for word in excluded for lexeme in _whole(word, lexers))),
    )


def _terms(wanted: str, lexers: Sequence[Lexer]) -> list[Term]:
    terms: dict[tuple[str, ...], Term] = {}
    for word in wanted.split():
        is_identifier = bool(_DIGIT.search(word) or _JOINED.search(word))
        for variants in _aligned([lexer.lexemes(word) for lexer in lexers]):
            # Of a composed word the parts are ordinary words again; those with digits still name something.
            exact = is_identifier and any(_DIGIT.search(v) or _JOINED.search(v) for v in variants)
            terms.setdefault(variants, Term(variants, exact))
    return list(terms.values())


def _aligned(readings: Sequence[Sequence[str]]) -> Iterable[tuple[str, ...]]:
    """Pair the lexemes of one word across languages; where they were cut differently, each lexeme is its own term."""
    if len({len(reading) for reading in readings}) == 1:
        return [tuple(dict.fromkeys(variants)) for variants in zip(*readings, strict=True)]
    return [(lexeme,) for lexeme in dict.fromkeys(lexeme for reading in readings for lexeme in reading)]


def _most_telling(terms: Sequence[Term]) -> Sequence[Term]:
    """Keep identifiers and long words of a very long query: how rare a word is, its length tells before any look-up."""
    if len(terms) <= MOST_TERMS:
        return terms
    ranked = sorted(range(len(terms)), key=lambda at: (not terms[at].is_identifier, -len(terms[at].variants[0]), at))
    return [terms[at] for at in sorted(ranked[:MOST_TERMS])]


def _phrase(phrase: str, lexers: Sequence[Lexer]) -> search_scope.Phrase:
    words = []
    for word in phrase.split():
        readings = [lexer.lexemes(word) for lexer in lexers]
        if word.isalpha() and all(len(reading) == 1 for reading in readings):
            words.append(tuple(dict.fromkeys(reading[0] for reading in readings)))
    return search_scope.Phrase(search_scope.folded(phrase), words[:MOST_TERMS])


def _whole(word: str, lexers: Sequence[Lexer]) -> list[str]:
    """Return the lexemes that stand for all of `word`, not for parts of it."""
    readings = [lexer.lexemes(word) for lexer in lexers]
    return [reading[0] for reading in readings if reading]
