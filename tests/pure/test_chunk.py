"""The splitter: what holds for every text, and where it prefers to cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index.minilm.tokens import TokenCounter, open_tokenizer
from workstation_pipelines.model import Chunk, Heading
from workstation_pipelines.text import words
from workstation_pipelines.text.chunk import TokenSplitter

TOKENIZER = open_tokenizer()
COUNTER = TokenCounter(TOKENIZER)


def one_a_word(units: Sequence[str]) -> list[int]:
    return [1] * len(units)


def headings_of(text: str) -> list[Heading]:
    return [
        Heading(match.start(), len(match[1]), match[2].strip())
        for match in re.finditer(r"^(#{1,4}) (.*)$", text, re.MULTILINE)
    ]


def split(text: str, max_tokens: int = 254, overlap_tokens: int = 0) -> list[Chunk]:
    splitter = TokenSplitter(COUNTER, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return splitter.split(text, headings_of(text))


def sentences(count: int, word: str = "apple") -> str:
    return " ".join(f"Number {place} of the {word} sentences says little." for place in range(count))


PROSE = ["word", "The server restarts.", "\n", "\n\n", " ", "\t", "# Title\n", "\n## Part\n", "\n### Deep\n"]
SCRIPTS = ["会议改到星期四。", "カタカナ", "회의가", "การประชุม", "👨‍👩‍👧‍👦", "🇩🇪", "1️⃣", "é", "e\u0301", "≠", "…"]
INVISIBLE = ["\x0c", "\x1c", "\x85", "\u200b", "\ufeff", "\u2028", "\xa0", "\u3000"]
CODE = [
    "def f(x): return {x: 1}",
    "https://example.com/a?b=c&d=e",
    "x" * 60,
    "aGVsbG8gd29ybGQ" * 8,
    "- item\n",
    "| a |\n",
]

fragments = st.one_of(
    st.sampled_from(PROSE),
    st.sampled_from(SCRIPTS),
    st.sampled_from(INVISIBLE),
    st.sampled_from(CODE),
    st.text(max_size=12),
    st.integers(1, 60).map(lambda count: sentences(count)),
    st.integers(1, 300).map(lambda count: "字" * count),
    st.integers(1, 900).map(lambda count: "z1" * count),
    st.integers(1, 300).map(lambda count: "oak " * count),
    st.integers(1, 90).map(lambda count: f"elm{' ' * 60}" * count),
)
texts = st.lists(fragments, max_size=25).map("".join)


@settings(max_examples=80, deadline=None)
@given(texts, st.sampled_from([(16, 0), (16, 8), (40, 12), (64, 0), (254, 0), (254, 32)]))
def test_chunks_of_any_text_are_exact_ordered_bounded_and_complete(text: str, sizes: tuple[int, int]) -> None:
    max_tokens, overlap_tokens = sizes

    chunks = split(text, max_tokens, overlap_tokens)

    covered = bytearray(len(text))
    for place, chunk in enumerate(chunks):
        assert chunk.ordinal == place
        assert chunk.text == text[chunk.start_offset : chunk.end_offset]
        assert chunk.text.strip() == chunk.text != "" or not chunk.text.isprintable()
        assert chunk.token_count == len(TOKENIZER.encode(chunk.text, add_special_tokens=False)) <= max_tokens
        assert len(chunk.text) <= 8 * max_tokens
        covered[chunk.start_offset : chunk.end_offset] = b"\x01" * len(chunk.text)
    for before, after in pairwise(chunks):
        assert before.start_offset < after.start_offset
        assert before.end_offset < after.end_offset
        shared = text[after.start_offset : max(before.end_offset, after.start_offset)]
        assert words.measure(shared, COUNTER, 40).tokens_before[-1] <= overlap_tokens
    if chunks:
        assert all(covered[place] for place, char in enumerate(text) if not char.isspace())
    else:
        assert not COUNTER([text.strip()])[0]
    assert split(text, max_tokens, overlap_tokens) == chunks


@settings(max_examples=40, deadline=None)
@given(texts)
def test_without_overlap_no_character_is_in_two_chunks(text: str) -> None:
    chunks = split(text, 40)

    assert all(before.end_offset <= after.start_offset for before, after in pairwise(chunks))


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\u3000\n", "\u200b\x00\x0c"])
def test_text_without_a_token_gives_no_chunks(text: str) -> None:
    assert split(text) == []


def test_a_short_text_is_one_chunk_without_its_outer_white_space() -> None:
    assert split("\n  Hello there.\n\n") == [Chunk(0, "Hello there.", 3, 15, "", 3)]


def test_a_section_is_not_mixed_with_the_next_one() -> None:
    text = f"# Guide\n\n{sentences(8)}\n\n## Setup\n\n{sentences(8)}\n\n## Use\n\n{sentences(8)}\n"

    chunks = split(text)

    assert [chunk.heading_path for chunk in chunks] == ["Guide", "Guide > Setup", "Guide > Use"]
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# Guide", "## Setup", "## Use"]


def test_tiny_sections_under_one_parent_share_a_chunk() -> None:
    text = "# Contacts\n\n## Sales\n\nCall Ann.\n\n## Support\n\nCall Bob.\n\n# Prices\n\n" + sentences(9)

    chunks = split(text)

    assert [chunk.heading_path for chunk in chunks] == ["Contacts", "Prices"]
    assert "Call Ann" in chunks[0].text
    assert "Call Bob" in chunks[0].text


def test_tiny_sections_of_different_parents_stay_apart() -> None:
    text = f"# A\n\n{sentences(8)}\n\n## Last of A\n\nTiny.\n\n# B\n\nTiny too.\n\n## First of B\n\n{sentences(8)}"

    chunks = split(text)

    assert [chunk.heading_path for chunk in chunks] == ["A", "A > Last of A", "B", "B > First of B"]


def test_a_bare_title_goes_with_the_section_below_it() -> None:
    text = f"# Handbook\n\n## Holidays\n\n{sentences(10)}"

    assert [chunk.heading_path for chunk in split(text)] == ["Handbook"]


def test_a_long_section_breaks_at_its_deeper_heading() -> None:
    text = f"## Install\n\n{sentences(14)}\n\n### Linux\n\n{sentences(14)}"

    chunks = split(text)

    assert [chunk.heading_path for chunk in chunks] == ["Install", "Install > Linux"]


def test_heading_levels_may_be_skipped_and_return() -> None:
    filler = sentences(20)
    text = f"# A\n{filler}\n#### Deep\n{filler}\n## B\n{filler}\n# C\n{filler}"

    paths = dict.fromkeys(chunk.heading_path for chunk in split(text))

    assert list(paths) == ["A", "A > Deep", "A > B", "C"]


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    paragraphs = [sentences(9, word) for word in ("apple", "pear", "plum", "fig", "grape", "melon")]

    chunks = split("\n\n".join(paragraphs))

    assert all(paragraph in [part for chunk in chunks for part in chunk.text.split("\n\n")] for paragraph in paragraphs)


def test_paragraphs_of_several_lines_are_kept_whole_where_they_fit() -> None:
    paragraphs = [sentences(9, word).replace(". ", ".\n") for word in ("apple", "pear", "plum", "fig", "grape")]

    chunks = split("\n\n".join(paragraphs))

    assert all(paragraph in [part for chunk in chunks for part in chunk.text.split("\n\n")] for paragraph in paragraphs)


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    chunks = split(sentences(120))

    assert len(chunks) > 3
    assert all(chunk.text.startswith("Number ") and chunk.text.endswith("little.") for chunk in chunks)


def test_hard_wrapped_prose_is_cut_between_sentences_rather_than_lines() -> None:
    text = sentences(120).replace("of the", "of\nthe")

    assert all(chunk.text.endswith("little.") for chunk in split(text))


def test_a_list_is_cut_between_items() -> None:
    text = "\n".join(f"- Item {place} holds. Some more words follow it here" for place in range(60))

    assert all(chunk.text.startswith("- Item") for chunk in split(text))


def test_chinese_and_japanese_are_cut_behind_the_full_stop() -> None:
    chunks = split("会议改到星期四上午十点\uff0c请准时参加。" * 40)

    assert len(chunks) >= 2
    assert all(chunk.text.endswith("。") for chunk in chunks)


def test_the_end_of_a_section_leaves_no_scrap() -> None:
    for count in range(26, 60):
        chunks = split(sentences(count))
        assert min(chunk.token_count for chunk in chunks) >= 60, count


def test_a_word_of_100_kb_is_cut_into_bounded_chunks() -> None:
    word = "".join(chr(ord("a") + place * place % 26) for place in range(100_000))

    chunks = split(f"before {word} after")

    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == f"before{word}after"
    assert max(len(chunk.text) for chunk in chunks) <= 8 * 254


@pytest.mark.parametrize(
    "grapheme",
    ["👨‍👩‍👧‍👦", "👍🏽", "🇩🇪", "e\u0323\u0301", "กำ่", "🏴\U000e0067\U000e0062\U000e007f", "षि"],
)
def test_a_grapheme_is_never_torn(grapheme: str) -> None:
    whole = unicodedata.normalize("NFC", grapheme)

    chunks = split(whole * 1500, 40)

    assert len(chunks) > 3
    assert all(len(chunk.text) % len(whole) == 0 for chunk in chunks)


def test_a_closing_mark_does_not_begin_a_chunk() -> None:
    chunks = split("字字字字字字\uff0c" * 200, 20)

    assert not any(chunk.text.startswith("\uff0c") for chunk in chunks)


def test_overlap_repeats_whole_sentences() -> None:
    text = sentences(80)

    chunks = split(text, overlap_tokens=32)

    for before, after in pairwise(chunks):
        shared = text[after.start_offset : before.end_offset]
        assert re.fullmatch(r"(Number \d+ of the apple sentences says little\. ?){1,3}", shared)


def test_overlap_falls_back_to_whole_words() -> None:
    text = " ".join(f"item{place}" for place in range(600))

    chunks = split(text, overlap_tokens=20)

    for before, after in pairwise(chunks):
        assert after.start_offset < before.end_offset
        assert text[after.start_offset - 1] == " "


def test_overlap_does_not_cross_into_another_section() -> None:
    text = f"# A\n\n{sentences(30)}\n\n# B\n\n{sentences(30)}"

    chunks = split(text, overlap_tokens=32)

    assert next(chunk for chunk in chunks if chunk.heading_path == "B").text.startswith("# B")


def test_words_without_sentences_fill_a_chunk_to_the_last_token() -> None:
    chunks = split("oak " * 1000)

    assert [chunk.token_count for chunk in chunks[:2]] == [254, 254]
    assert sum(chunk.token_count for chunk in chunks) == 1000


def test_wide_gaps_do_not_make_a_chunk_long() -> None:
    chunks = split(("oak" + " " * 60) * 100, 16, 8)

    assert max(len(chunk.text) for chunk in chunks) <= 8 * 16
    assert len(chunks) >= 50


def test_a_cut_word_is_cut_again_when_its_pieces_count_more_together() -> None:
    def dearer_in_one_piece(units: Sequence[str]) -> list[int]:
        return [1 if len(unit) <= 5 else len(unit) for unit in units]

    chunks = TokenSplitter(dearer_in_one_piece, max_tokens=16).split("x" * 1000, ())

    assert max(chunk.token_count for chunk in chunks) == 15
    assert "".join(chunk.text for chunk in chunks) == "x" * 1000


def test_the_token_count_is_the_counters() -> None:
    chunks = TokenSplitter(one_a_word, max_tokens=16).split("one two three " * 10, ())

    assert [chunk.token_count for chunk in chunks] == [15, 15]


@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(15, 0), (0, 0), (254, 128), (254, -1)])
def test_impossible_sizes_are_refused(max_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(InvalidRequestError, match="set it"):
        TokenSplitter(one_a_word, max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def test_marks_that_units_are_cut_at_are_punctuation_to_the_tokenizer() -> None:
    marks = [chr(code) for code in range(0x10000) if re.fullmatch(f"[{words._PUNCTUATION}]", chr(code))]

    assert len(marks) > 50
    assert all(mark.isascii() or unicodedata.category(mark).startswith("P") for mark in marks)


def test_an_endless_heading_does_not_come_with_every_chunk_in_full() -> None:
    text = "# " + sentences(3000)

    chunks = split(text)

    assert len(chunks) > 20
    assert max(len(chunk.heading_path) for chunk in chunks) <= 200


def test_a_path_of_endless_depth_names_the_nearest_headings() -> None:
    text = "\n".join(f"h{number}" for number in range(1000))
    headings = [Heading(text.index(f"h{number}"), number + 1, f"h{number}") for number in range(1000)]

    chunks = TokenSplitter(one_a_word).split(text, headings)

    assert max(chunk.heading_path.count(" > ") for chunk in chunks) < 8
