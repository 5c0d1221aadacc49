# ruff: noqa: RUF001 - Greek and Cyrillic letters on purpose
"""What is read in-process: decoding, Markdown's structure, languages, mime types."""

from __future__ import annotations

import timeit

import pytest

from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.extract import SandboxedExtractor, detect_mime_type, has_text
from workstation_pipelines.text.language import detect_language

GERMAN = "Die Größe der Boje ist für den Hafen nicht zu groß, und sie schwimmt auch bei Eis."


def extract(body: bytes, name: str, mime_type: str = "") -> Extracted:
    return SandboxedExtractor().extract(Content(body, name, mime_type, "md5:0"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_decoded(encoding: str) -> None:
    extracted = extract(GERMAN.encode(encoding), "a.txt")
    assert extracted.text == GERMAN
    assert extracted.language == "de"


def test_cyrillic_legacy_charset_is_guessed() -> None:
    text = "Буй измеряет качество воды в реке и передаёт данные каждые десять минут. Это важно для города. " * 3
    assert extract(text.encode("cp1251"), "a.txt").text == text.rstrip()


def headings(markdown: str) -> list[tuple[int, str]]:
    extracted = extract(markdown.encode(), "a.md")
    for heading in extracted.headings:
        assert extracted.text[heading.offset :].lstrip(" #").startswith(heading.text)
        assert heading.offset == 0 or extracted.text[heading.offset - 1] == "\n"
    return [(heading.level, heading.text) for heading in extracted.headings]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# One\ntext\n## Two ##\n### C#\n", [(1, "One"), (2, "Two"), (3, "C#")]),
        ("Title\n=====\n\nSub\n---\ntext", [(1, "Title"), (2, "Sub")]),
        ("text\n\n```python\n# comment\n```\n# Real", [(1, "Real")]),
        ("~~~\n# no\n```\n# no\n~~~\n# yes", [(1, "yes")]),
        ("```one line``` is no fence\n# yes", [(1, "yes")]),
        ("#hashtag\n####### seven\n    # code", []),
        ("a paragraph\nof two lines\n---\nafter a rule", []),
        ("- item\n---\n| a | b |\n---\n", []),
        ("---\ntitle: Front\n# a comment\n---\n# Body", [(1, "Body")]),
        ("   # indented three", [(1, "indented three")]),
        ("#\n\n# \ntext", []),
    ],
)
def test_markdown_headings(markdown: str, expected: list[tuple[int, str]]) -> None:
    assert headings(markdown) == expected


def test_title_is_front_matter_then_first_top_heading() -> None:
    assert extract(b"---\ntitle: 'Front'\n---\n# Body", "a.md").title == "Front"
    assert extract(b"## Small\n\n# Body", "a.md").title == "Body"
    assert extract(b"no heading", "a.md").title is None


def test_source_code_is_text_without_language() -> None:
    extracted = extract(b"def main() -> None:\n    pass  # the end of it is here and that is all\n", "a.py")
    assert extracted.mime_type == "text/x-python"
    assert extracted.language is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The buoy is brought in twice a year and it has to be cleaned before the winter."),
        ("de", GERMAN),
        ("fr", "La bouée est sortie de l'eau deux fois par an et elle est nettoyée avant l'hiver pour les mesures."),
        ("es", "La boya se saca del agua dos veces al año y se limpia antes del invierno para que no se hiele."),
        (
            "it",
            "La boa viene tolta dall'acqua due volte e poi è pulita prima del inverno, ma non sempre nella stessa città.",
        ),
        ("pt", "A boia é retirada da água duas vezes por ano e não pode ficar no gelo, mas também é limpa."),
        ("nl", "De boei wordt twee keer per jaar uit het water gehaald en is dan niet meer van ons."),
        ("sv", "Bojen tas upp ur vattnet två gånger om året och den är inte vår när det är is på sjön."),
        ("pl", "Boja jest wyjmowana z wody dwa razy w roku i nie może być w lodzie, ale to jest dla nas ważne."),
        ("ru", "Буй поднимают из воды два раза в год, и он не может быть во льду, но это для нас важно."),
        ("el", "Η σημαδούρα βγαίνει από το νερό δύο φορές τον χρόνο."),
        ("ja", "ブイは年に二回、水から引き上げられます。"),
        ("zh", "浮标每年两次从水中取出并清洗。"),
        ("ko", "부표는 일 년에 두 번 물에서 꺼냅니다."),
        ("he", "המצוף מוצא מן המים פעמיים בשנה."),
        (None, "NV-310-L 118.00 EUR 9 B-02"),
        (None, "ok"),
        (None, ""),
    ],
)
def test_language(code: str | None, text: str) -> None:
    assert detect_language(text) == code


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("report.md", b"", "text/markdown"),
        ("Report.PDF", b"", "application/pdf"),
        ("a.txt", b"%PDF-1.7\n", "application/pdf"),
        ("a.doc", b"<!DOCTYPE html><html>", "text/html"),
        ("a.doc", b"just words", "text/plain"),
        ("noname", b"plain words", "text/plain"),
        ("noname", b"\x00\x01\x02\x03" * 9, "application/octet-stream"),
        ("noname", b"From: a@b\nTo: c@d\nSubject: x\n\n", "message/rfc822"),
        ("talk.txt", b"From: here to there\nwe went\n", "text/plain"),
        ("a.pdf.md", b"# about %PDF- files", "text/markdown"),
        ("page.py", b"<html>", "text/x-python"),
        (
            "a.bin",
            b"PK\x03\x04....word/document.xml",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        ("a.docx", b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.zip", b"PK\x03\x04", "application/zip"),
        ("photo", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("folder/sub.dir/Makefile", b"", "text/x-makefile"),
        ("C:\\docs\\a.csv", b"a,b", "text/csv"),
        ("", b"", "application/octet-stream"),
    ],
)
def test_mime_type(name: str, head: bytes, expected: str) -> None:
    assert detect_mime_type(name, head) == expected


def test_declared_type_counts_more_than_the_name() -> None:
    assert extract(b"# Minutes", "Minutes of 3.4", "text/markdown; charset=utf-8").title == "Minutes"
    assert extract(b"a,b\n1,2", "a.csv", "application/vnd.ms-excel").mime_type == "text/csv"


def test_markdown_of_five_kilobytes_takes_little_time() -> None:
    section = (
        "## Section\n\n" + "This is a sentence of the handbook that tells what we do about the working hours.\n" * 7
    )
    content = Content((section * 9)[:5_000].rstrip().encode(), "a.md", "text/markdown", "md5:0")
    extractor = SandboxedExtractor()
    best_s = min(timeit.repeat(lambda: extractor.extract(content), number=50, repeat=5)) / 50
    # 50 us on an idle machine; the bound only notices an order of magnitude.
    assert best_s < 0.000_5


@pytest.mark.parametrize(
    ("mime_type", "is_worth_fetching"),
    [
        ("application/pdf", True),
        ("text/markdown; charset=utf-8", True),
        ("text/x-python", True),
        ("application/octet-stream", True),
        ("", True),
        ("image/png", False),
        ("video/mp4", False),
    ],
)
def test_only_what_nothing_reads_is_not_worth_fetching(mime_type: str, is_worth_fetching: bool) -> None:
    assert has_text(mime_type) is is_worth_fetching
