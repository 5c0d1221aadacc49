"""A query as typed is read the same way whatever stands in it."""

from __future__ import annotations

import pytest

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index import query as queries
from workstation_pipelines.text.lexemes import Lexer

ENGLISH, GERMAN = Lexer("en"), Lexer("de")


def _variants(text: str) -> list[tuple[str, ...]]:
    return [tuple(term.variants) for term in queries.parse(text, [ENGLISH, GERMAN]).terms]


def test_a_word_is_one_term_with_its_form_in_each_language() -> None:
    assert _variants("running") == [("run", "running")]


def test_a_repeated_word_counts_once() -> None:
    assert len(_variants("invoice Invoice INVOICES")) == 1


@pytest.mark.parametrize("word", ["ERR-4711", "load_config", "v2.1", "7f3a9c1", "10.20.0.15", "ML/2231"])
def test_identifiers_are_recognised(word: str) -> None:
    assert queries.parse(word, [ENGLISH]).terms[0].is_identifier


@pytest.mark.parametrize("word", ["invoice", "Überstunden", "invoice,", "(urgent)"])
def test_ordinary_words_are_not_identifiers(word: str) -> None:
    assert not queries.parse(word, [ENGLISH]).terms[0].is_identifier


def test_the_plain_parts_of_an_identifier_are_ordinary_words() -> None:
    terms = queries.parse("TICKET-1130", [ENGLISH]).terms
    assert {term.variants[0]: term.is_identifier for term in terms} == {
        "ticket-1130": True,
        "ticket": False,
        "1130": True,
    }


def test_a_quoted_phrase_is_demanded_and_ranks_too() -> None:
    parsed = queries.parse('status of "Årlig  Rapport" today', [ENGLISH])
    assert [phrase.text for phrase in parsed.phrases] == ["arlig rapport"]
    assert parsed.wanted == "status of Årlig Rapport today"


def test_words_that_lexing_may_cut_differently_do_not_prefilter_a_phrase() -> None:
    (phrase,) = queries.parse('"release v2.1 notes"', [ENGLISH]).phrases
    assert list(phrase.words) == [("releas",), ("note",)]


def test_a_minus_excludes_a_word_but_not_a_number_nor_a_dash() -> None:
    parsed = queries.parse("budget -draft -5 - e-mail", [ENGLISH])
    assert (parsed.excluded, parsed.wanted) == (["draft"], "budget -5 - e-mail")


def test_a_minus_inside_quotes_belongs_to_the_phrase() -> None:
    parsed = queries.parse('"a -b"', [ENGLISH])
    assert not parsed.excluded
    assert parsed.phrases[0].text == "a -b"


@pytest.mark.parametrize("text", ["", "   ", "\n\t", '""', "\x00", "-draft", "x" * 2_001])
def test_queries_that_ask_for_nothing_or_too_much_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        queries.parse(text, [ENGLISH])


@pytest.mark.parametrize(
    "text", ["' | !x:*", "a' & 'b", "\\", "'''", ":*", "😀🚀", "a\x00b", "\ud800 lone", "x" * 2_000, "%s {0} :p"]
)
def test_hostile_queries_are_read_without_complaint(text: str) -> None:
    parsed = queries.parse(text, [ENGLISH, GERMAN])
    assert all("\x00" not in lexeme and lexeme for term in parsed.terms for lexeme in term.variants)


def test_a_long_query_keeps_its_most_telling_terms_in_order() -> None:
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]
    parsed = queries.parse(" ".join([*words, "extraordinary", "ERR-4711"]), [ENGLISH])
    kept = [term.variants[0] for term in parsed.terms]
    assert len(kept) == queries.MOST_TERMS
    assert {"err-4711", "4711", "extraordinari"} <= set(kept)
    assert kept.index("extraordinari") < kept.index("err-4711")
