"""Lexemes: whatever stands in a text is found by itself, in any case and with or without accents."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.text import lexemes
from workstation_pipelines.text.lexemes import LEXEME_LENGTH_LIMIT, STEMMERS, STOP_WORDS, Lexer

ENGLISH = Lexer("en")
LANGUAGES = st.sampled_from([Lexer(language) for language in STEMMERS])

LETTERS = st.text(st.characters(min_codepoint=0x41, max_codepoint=0x52F, categories=("Ll", "Lu", "Lo")), min_size=1)
CJK = st.text(
    st.one_of(
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0x3041, max_codepoint=0x3096).filter(lambda c: unicodedata.is_normalized("NFD", c)),
    ),
    min_size=2,
)
# Whatever people write, and more often what lexing cuts at: identifiers, paths, scripts without spaces, odd characters.
TEXTS = st.one_of(
    st.text(),
    st.text(
        st.sampled_from(
            "aAbBzZ09 _-./:#@\x00\N{PILE OF POO}\u00e9e\u0301\u4eac\u90fd\uff0c\u0130\u00df\u2163\u00a8\ufdfa'"
        )
    ),
    st.lists(st.one_of(LETTERS, CJK, st.sampled_from(["getUserName", "HTTPServer2", "a/b.txt", "v1.2.3"]))).map(
        " ".join
    ),
)


@given(LANGUAGES, TEXTS)
def test_lexeme_is_something_that_postgresql_can_hold(lexer: Lexer, text: str) -> None:
    for lexeme in lexer.lexemes(text):
        assert 0 < len(lexeme) <= LEXEME_LENGTH_LIMIT
        assert "\0" not in lexeme
        assert len(lexeme.encode()) <= 2046


@given(LANGUAGES, TEXTS)
def test_each_word_of_a_text_is_found_by_itself(lexer: Lexer, text: str) -> None:
    words = text.replace("\0", " ").split()
    assert lexer.lexemes(text) == [lexeme for word in words for lexeme in lexer.lexemes(word)]


@given(LANGUAGES, TEXTS)
def test_lexemes_do_not_depend_on_what_was_read_before(lexer: Lexer, text: str) -> None:
    assert lexer.lexemes(text) == Lexer(lexer.language).lexemes(text) == lexer.lexemes(text)


@given(TEXTS, TEXTS)
def test_counts_are_those_of_all_texts_together(one: str, other: str) -> None:
    assert ENGLISH.counted(one, other) == Counter(ENGLISH.lexemes(one) + ENGLISH.lexemes(other))


@given(LANGUAGES, LETTERS)
def test_composed_and_decomposed_spellings_are_one_word(lexer: Lexer, word: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, word) for form in ("NFC", "NFD"))
    assert lexer.lexemes(composed) == lexer.lexemes(decomposed)


@given(LANGUAGES, LETTERS)
def test_word_with_its_accents_taken_off_is_the_same_word(lexer: Lexer, word: str) -> None:
    decomposed = unicodedata.normalize("NFKD", word)
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    assert lexer.lexemes(word) == lexer.lexemes(plain)


@given(LANGUAGES, st.text("abcdefghijklmnopqrstuvwxyz\u03b1\u03b2\u03b3\u0430\u0431\u0432", min_size=2))
def test_case_makes_no_difference_to_a_plain_word(lexer: Lexer, word: str) -> None:
    assert lexer.lexemes(word) == lexer.lexemes(word.upper()) == lexer.lexemes(word.title())


@given(CJK, st.data())
def test_part_of_a_text_without_spaces_is_found(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 2))
    part = text[start : data.draw(st.integers(start + 2, len(text)))]
    assert set(ENGLISH.lexemes(part)) <= set(ENGLISH.lexemes(text))
    assert ENGLISH.lexemes(text) == list(dict.fromkeys(text[at : at + 2] for at in range(len(text) - 1)))


@given(CJK, st.sampled_from(["GPU", "iPhone15", "2024", "Python"]), CJK)
def test_latin_word_between_characters_without_spaces_is_found(before: str, word: str, after: str) -> None:
    found = set(ENGLISH.lexemes(before + word + after))
    assert set(ENGLISH.lexemes(word)) <= found
    assert set(ENGLISH.lexemes(before)) | set(ENGLISH.lexemes(after)) <= found


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("running", ["run"]),
        ("The", []),
        ("naïve", ["naiv"]),
        ("getUserName", ["getusernam", "get", "user", "name"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("snake_case_name", ["snake_case_name", "snake", "case", "name"]),
        ("src/db/engine.py", ["src/db/engine.py", "src", "db", "engin", "py"]),
        ("v1.2.3", ["v1.2.3", "v1", "2", "3"]),
        ("INV-2024/0042", ["inv-2024/0042", "inv", "2024", "0042"]),
        ("anna@example.com", ["anna@example.com", "anna", "exampl", "com"]),
        ("state-of-the-art", ["state-of-the-art", "state", "of", "the", "art"]),
        ("C++", ["c"]),
        ("#tag.", ["tag"]),
        ("don't", ["don"]),
        ("\u4eac", ["\u4eac"]),
        ("\u6771\u4eac\u90fd", ["\u6771\u4eac", "\u4eac\u90fd"]),
        ("\u4eca\u5929\uff0c\u5f88\u597d", ["\u4eca\u5929", "\u5f88\u597d"]),
        ("\uff27\uff30\uff35", ["gpu"]),
        ("...", []),
        ("\0", []),
        ("a\0b", ["b"]),
        ("x" * 500, ["x" * LEXEME_LENGTH_LIMIT]),
        ("\N{PILE OF POO}", []),
    ],
)
def test_words_and_identifiers_have_these_lexemes(word: str, found: list[str]) -> None:
    assert ENGLISH.lexemes(word) == found


@pytest.mark.parametrize("word", sorted(STOP_WORDS))
def test_stop_words_say_nothing(word: str) -> None:
    assert ENGLISH.lexemes(word) == ENGLISH.lexemes(word.upper()) == []


@pytest.mark.parametrize("language", [None, "en", "xx", "zh", ""])
def test_unknown_language_is_read_as_english(language: str | None) -> None:
    assert lexemes.lexer_for(language).lexemes("running horses") == ["run", "hors"]


def test_each_language_has_its_stemmer() -> None:
    assert lexemes.lexer_for("de").lexemes("H\u00e4user") == ["haus"]
    assert lexemes.lexer_for("fr").lexemes("continuellement") == ["continuel"]
    assert lexemes.lexer_for("de") is lexemes.lexer_for("de")


def test_vocabulary_starts_afresh_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    lexer = Lexer("en")
    monkeypatch.setattr(lexemes, "VOCABULARY_LIMIT", 3)
    before = lexer.lexemes("one red horses five six")
    assert lexer.lexemes("one red horses five six") == before
    assert len(lexer._known) == 5
