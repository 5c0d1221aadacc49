from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pure.growth import is_linear
from workstation_pipelines.text.clean import clean


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        ("tab\tstays\nand so do\n\nempty lines\n", "tab\tstays\nand so do\n\nempty lines\n"),
        ("page\x0cbreak", "page\nbreak"),
        ("e\u0301", "\u00e9"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("invoice\u202exe.fdp", "invoicexe.fdp"),
        ("\u2066isolated\u2069", "isolated"),
        ("\ufeffmark", "mark"),
        ("soft\u00adhyphen", "softhyphen"),
        ("blanks  \nat ends \t", "blanks\nat ends"),
        ("a\u2028b", "a\nb"),
        ("emoji 👩‍🔬 and עברית stay", "emoji 👩‍🔬 and עברית stay"),
        ("", ""),
    ],
)
def test_cleans(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


def test_clean_text_is_returned_itself() -> None:
    text = "Nothing to do here: naïve façade.\n" * 10
    assert clean(text) is text


@given(st.text(alphabet=st.characters(categories=None) | st.sampled_from(" \t\r\n\x00\u0301\u202e\ud800"), max_size=60))
def test_cleaning_twice_changes_nothing_more(dirty: str) -> None:
    once = clean(dirty)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(line.endswith((" ", "\t")) for line in once.split("\n"))
    once.encode()


def test_a_long_run_of_blanks_takes_linear_time() -> None:
    assert clean(" " * 50_000 + "end") == " " * 50_000 + "end"
    assert clean((" " * 50_000 + "\n") * 2) == "\n\n"
    assert is_linear(clean, " ", count=30_000, end="end \n")
    assert is_linear(clean, " ", count=30_000, end="\n")
