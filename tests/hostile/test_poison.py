from __future__ import annotations

import io
import random
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import poison
from workstation_pipelines.errors import SkipItemError, UnreadableContentError, UnsupportedContentError
from workstation_pipelines.model import Content
from workstation_pipelines.text.extract import ExtractionLimits, SandboxedExtractor

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"


@pytest.fixture(scope="module")
def extractor() -> Iterator[SandboxedExtractor]:
    extractor = SandboxedExtractor(ExtractionLimits(wall_s=20), processes=1)
    yield extractor
    extractor.close()


def content(name: str, body: bytes, mime_type: str = "") -> Content:
    return Content(body, name, mime_type, "md5:0")


@pytest.mark.parametrize("kind", poison.REFUSED)
def test_poison_is_refused_by_name_and_the_next_document_is_read(extractor: SandboxedExtractor, kind: str) -> None:
    name, make, reason = poison.REFUSED[kind]
    with pytest.raises(SkipItemError) as raised:
        extractor.extract(content(name, make()))
    assert raised.value.reason == reason
    assert raised.value.message.startswith(f"{name}: ")
    assert extractor.extract(content("next.html", b"<p>next</p>")).text == "next"


def test_scan_is_unsupported_and_says_so(extractor: SandboxedExtractor) -> None:
    with pytest.raises(UnsupportedContentError, match="it is a scan"):
        extractor.extract(content("a.pdf", poison.scanned_pdf()))


def test_too_many_pages_says_how_many(extractor: SandboxedExtractor) -> None:
    with pytest.raises(SkipItemError, match="10,000 pages, more than the 5,000"):
        extractor.extract(content("a.pdf", poison.pdf_of(["q Q"] * 10_000)))


def test_html_nested_absurdly_deep_still_gives_its_text(extractor: SandboxedExtractor) -> None:
    extracted = extractor.extract(content("a.html", b"<html><body>" + b"<div>" * 100_000 + b"the bottom"))
    assert extracted.text.strip() == "the bottom"


def test_mail_in_mail_is_opened_one_level_at_a_time(extractor: SandboxedExtractor) -> None:
    body = poison.nested_mail(100)
    for level in (99, 98, 97):
        extracted = extractor.extract(content("a.eml", body))
        assert extracted.title == f"level {level}"
        (child,) = extracted.children
        assert child.mime_type == "message/rfc822"
        body = child.body
    assert body.count(b"message/rfc822") == 97


def test_innermost_mail_has_no_children(extractor: SandboxedExtractor) -> None:
    extracted = extractor.extract(content("a.eml", poison.nested_mail(1)))
    innermost = extractor.extract(content("b.eml", extracted.children[0].body))
    assert innermost.text.endswith("hello")
    assert not innermost.children


def test_deep_multipart_is_read_or_refused(extractor: SandboxedExtractor) -> None:
    try:
        text = extractor.extract(content("a.eml", poison.nested_multipart(500))).text
    except UnreadableContentError as error:
        text = error.reason
    assert text.startswith(("Subject", "corrupt"))


def test_one_line_of_ten_megabytes_is_read(extractor: SandboxedExtractor) -> None:
    extracted = extractor.extract(content("a.csv", b"1234567," * 1_250_000))
    assert len(extracted.text) == 10_000_000


def test_text_above_the_cap_is_too_large(extractor: SandboxedExtractor) -> None:
    with pytest.raises(SkipItemError) as raised:
        extractor.extract(content("a.csv", b"12345678," * 1_250_000))
    assert raised.value.reason == "too_large"


def test_file_above_the_cap_is_not_even_looked_at() -> None:
    extractor = SandboxedExtractor(ExtractionLimits(max_bytes=10))
    with pytest.raises(SkipItemError) as raised:
        extractor.extract(content("a.txt", b"eleven byte"))
    assert raised.value.reason == "too_large"


def test_nul_and_broken_utf8_are_cleaned(extractor: SandboxedExtractor) -> None:
    broken = "Grüße, naïve façade, déjà vu: ".encode() * 5 + b"\xff a\x00b"
    text = extractor.extract(content("a.txt", broken)).text
    assert "Grüße" in text
    assert text.endswith("\ufffd ab")


def test_two_cells_at_opposite_corners_of_a_sheet_cost_no_more_than_the_cap(extractor: SandboxedExtractor) -> None:
    out = io.BytesIO()
    workbook = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = workbook.add_worksheet()
    sheet.write(0, 0, "first")
    sheet.write(1_048_575, 16_383, "last")
    workbook.close()
    with pytest.raises(UnreadableContentError) as raised:
        extractor.extract(content("a.xlsx", out.getvalue()))
    assert raised.value.reason == "parser_memory"


def test_office_file_cut_anywhere_is_corrupt(extractor: SandboxedExtractor) -> None:
    body = (EXAMPLES / "finance/supply-agreement-solstrom.docx").read_bytes()
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableContentError) as raised:
            extractor.extract(content("a.docx", body[: int(len(body) * share)]))
        assert raised.value.reason == "corrupt"


@pytest.mark.parametrize(
    "name",
    [
        "notes/museum-loan.odt",
        "support/complaint-lake-mjosa.msg",
        "finance/stock-list.xlsx",
        "finance/INV-2026-0417.pdf",
        "handbook/field-guide.epub",
        "support/return-form.rtf",
    ],
)
def test_flipped_bytes_never_surprise(extractor: SandboxedExtractor, name: str) -> None:
    original = (EXAMPLES / name).read_bytes()
    chance = random.Random(7)  # noqa: S311 - repeatable noise, no secret
    for _ in range(12):
        body = bytearray(original)
        for _ in range(20):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            assert extractor.extract(content(name, bytes(body))).text
        except SkipItemError as error:
            assert error.reason  # noqa: PT017 - either outcome is right


TEXT_NAMES = st.sampled_from(["a.txt", "a.md", "a.py", "a.csv", "a.json", "README", "a", "a.log", ".md", "a.tar.md"])
ALL_NAMES = st.sampled_from(
    ["a.pdf", "a.docx", "a.xlsx", "a.pptx", "a.html", "a.eml", "a.msg", "a.rtf", "a.odt", "a.epub"]
)
STARTS = st.sampled_from([b"", b"PK\x03\x04", b"%PDF-1.7\n", b"{\\rtf1 ", b"<html>", b"From: a\nTo: b\nSubject: c\n"])


@given(name=TEXT_NAMES | st.text(max_size=20), body=st.binary(max_size=400))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_give_clean_text_or_a_typed_refusal(extractor: SandboxedExtractor, name: str, body: bytes) -> None:
    try:
        extracted = extractor.extract(content(name, body))
    except SkipItemError:
        return
    assert extracted.text.strip()
    assert unicodedata.is_normalized("NFC", extracted.text)
    assert not set(extracted.text) & {"\0", "\r", "\x1b", "\u202e"}
    extracted.text.encode()


@given(name=ALL_NAMES, start=STARTS, body=st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_random_bytes_with_a_parser_behind_never_surprise(
    extractor: SandboxedExtractor, name: str, start: bytes, body: bytes
) -> None:
    try:
        assert extractor.extract(content(name, start + body)).text.strip()
    except SkipItemError as error:
        assert error.reason in {"empty", "corrupt", "no_text", "unsupported_type", "encrypted"}  # noqa: PT017 - both right


def test_zip_with_encrypted_entries_is_encrypted(extractor: SandboxedExtractor) -> None:
    body = bytearray(poison.docx_of(b"<a/>"))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = body.find(mark)
        body[at + (6 if mark == b"PK\x03\x04" else 8)] |= 1
    assert zipfile.is_zipfile(io.BytesIO(bytes(body)))
    with pytest.raises(UnreadableContentError) as raised:
        extractor.extract(content("a.docx", bytes(body)))
    assert raised.value.reason == "encrypted"
