"""What the parsers make of genuine files: the example documents, and small ones for each quirk."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.hostile import poison
from tests.hostile.compound_file import compound_file
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.extract import SandboxedExtractor

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"
W = f'xmlns:w="{poison.WORD}"'


@pytest.fixture(scope="module")
def extractor() -> Iterator[SandboxedExtractor]:
    extractor = SandboxedExtractor(processes=1)
    yield extractor
    extractor.close()


def example(extractor: SandboxedExtractor, name: str) -> Extracted:
    extracted = extractor.extract(Content((EXAMPLES / name).read_bytes(), name, "", "md5:0"))
    for heading in extracted.headings:
        assert extracted.text[heading.offset :].startswith(heading.text)
    return extracted


def read(extractor: SandboxedExtractor, name: str, body: bytes) -> Extracted:
    return extractor.extract(Content(body, name, "", "md5:0"))


EXPECTED = [
    ("finance/INV-2026-0417.pdf", "Invoice INV-2026-0417", "en", ["Items", "Total"], "total 38,710.70 EUR"),
    ("finance/supply-agreement-solstrom.docx", "Supply agreement SA-2026-08", "en",
     ["Supply agreement SA-2026-08", "Goods", "Delivery", "Termination", "Law"], "2027 | 900 | 71.00 EUR"),
    ("languages/betriebsanweisung-werkstatt.docx", "Betriebsanweisung Werkstatt", "de",
     ["Betriebsanweisung Werkstatt Bremen", "Lithium-Akkus", "Kran", "Desinfektion"], "Brandschutzschrank"),
    ("handbook/safety-training.pptx", "Safety training", "en",
     ["Safety on the water", "Cold water", "Lifting a buoy"], "Notes: The rule of thumb is 1-10-1"),
    ("finance/stock-list.xlsx", "Stock 2026-09-30", None, ["Stock 2026-09-30", "To order"],
     "NV-310-L | 2026-09-21 | 60 | Optique Rhône SARL | 2026-11-06"),
    ("handbook/travel-policy.html", "Travel policy 2026", "en",
     ["Travel policy 2026", "Booking", "Hotels", "Field work", "Packing list"], "Lyon | 150 EUR | Hôtel des Quais"),
    ("notes/museum-loan.odt", "Loan of the buoy of 1974", "en",
     ["Loan of the buoy of 1974", "Condition", "Insurance"], "150 lux"),
    ("handbook/field-guide.epub", "A field guide to rivers under watch", "en",
     ["Why water turns brown", "Oxygen and the warm season", "Reading the shore"], "stonefly larvae"),
    ("support/return-form.rtf", "Return form RMA-2026-118", "en", [], "Thea Jürgensen"),
    ("support/payment-reminder.eml", "Reminder: invoice INV-2026-0417 is overdue", "en", [], "interest of 9 percent"),
    ("support/complaint-lake-mjosa.msg", "Complaint: buoy 22-0177 drifted ashore on Lake Mjøsa", "en", [],
     "Odd Kristiansen <odd.kristiansen@hamar-kommune.example>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "title", "language", "headings", "passage"), EXPECTED, ids=[row[0] for row in EXPECTED]
)
def test_example_gives_text_title_language_and_headings(
    extractor: SandboxedExtractor, name: str, title: str, language: str | None, headings: list[str], passage: str
) -> None:
    extracted = example(extractor, name)
    assert passage in extracted.text
    assert extracted.title == title
    assert extracted.language == language
    assert [heading.text for heading in extracted.headings] == headings


def test_every_example_is_read(extractor: SandboxedExtractor) -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert len(files) >= 30
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        assert len(read(extractor, path.name, path.read_bytes()).text) > 200, path


def test_mail_attachments_are_children_that_can_be_read(extractor: SandboxedExtractor) -> None:
    (child,) = example(extractor, "support/payment-reminder.eml").children
    assert (child.key, child.mime_type) == ("2:INV-2026-0417.pdf", "application/pdf")
    assert "38,710.70" in read(extractor, child.name, child.body).text


def test_outlook_attachments_are_children(extractor: SandboxedExtractor) -> None:
    extracted = example(extractor, "support/complaint-lake-mjosa.msg")
    (child,) = extracted.children
    assert (child.key, child.mime_type) == ("1:place-of-finding.txt", "text/plain")
    assert b"60.7945 N" in child.body
    assert "Date: 2026-06-23 07:45 UTC" in extracted.text


def test_script_style_and_hidden_parts_of_html_are_left_out(extractor: SandboxedExtractor) -> None:
    text = example(extractor, "handbook/travel-policy.html").text
    assert "sans-serif" not in text
    assert "analytics" not in text
    hidden = (
        b"<p>seen</p><div style='display: none'>unseen</div><p hidden>unseen</p><img src='data:image/png;base64,AAAA'>"
    )
    assert read(extractor, "a.html", hidden).text == "seen"


def test_html_charset_is_taken_from_its_meta_element(extractor: SandboxedExtractor) -> None:
    markup = '<html><head><meta charset="windows-1251"></head><body><p>Вода</p></body></html>'
    assert read(extractor, "a.html", markup.encode("cp1251")).text == "Вода"


def test_html_keeps_preformatted_lines_and_combining_accents(extractor: SandboxedExtractor) -> None:
    assert read(extractor, "a.html", "<pre>a\n  b</pre><p>cafe\u0301</p>".encode()).text == "a\n  b\n\ncafé"


def test_html_mail_without_plain_part_is_read_without_its_styles(extractor: SandboxedExtractor) -> None:
    message = EmailMessage()
    message["Subject"] = "Offer"
    message.set_content("<style>p{color:red}</style><h1>Offer</h1><p>three buoys</p>", subtype="html")
    extracted = read(extractor, "a.eml", message.as_bytes())
    assert extracted.text == "Subject: Offer\n\nOffer\n\nthree buoys"
    assert [heading.text for heading in extracted.headings] == ["Offer"]


def test_mail_subject_and_names_are_decoded_and_paths_in_names_disarmed(extractor: SandboxedExtractor) -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße aus Bremen"
    message.set_content("hello")
    message.add_attachment(b"x,y", maintype="text", subtype="csv", filename="../../etc/Übersicht.csv")
    extracted = read(extractor, "a.eml", message.as_bytes())
    assert extracted.title == "Grüße aus Bremen"
    assert extracted.children[0].name == "_.._etc_Übersicht.csv"


def test_tracked_deletions_of_word_are_left_out(extractor: SandboxedExtractor) -> None:
    document = (
        f"<w:document {W}><w:body><w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom>"
        "<w:ins><w:r><w:tab/><w:t>added</w:t></w:r></w:ins></w:p></w:body></w:document>"
    )
    assert read(extractor, "a.docx", poison.docx_of(document.encode())).text == "kept\tadded"


def test_translated_heading_styles_of_word_count(extractor: SandboxedExtractor) -> None:
    def links(kind: str, target: str) -> bytes:
        return f'<R><Relationship Id="1" Type="x/{kind}" Target="{target}"/></R>'.encode()

    style = '<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
    heading = '<w:p><w:pPr><w:pStyle w:val="berschrift2"/></w:pPr><w:r><w:t>Zweck</w:t></w:r></w:p>'
    text = "<w:p><w:r><w:t>Text</w:t></w:r></w:p>"
    body = poison.zip_of(
        {
            "_rels/.rels": links("officeDocument", "word/document.xml"),
            "word/_rels/document.xml.rels": links("styles", "styles.xml"),
            "word/styles.xml": f"<w:styles {W}>{style}</w:styles>".encode(),
            "word/document.xml": f"<w:document {W}><w:body>{heading}{text}</w:body></w:document>".encode(),
        }
    )
    extracted = read(extractor, "a.docx", body)
    assert [(heading.level, heading.text) for heading in extracted.headings] == [(2, "Zweck")]
    assert extracted.text == "Zweck\n\nText"


def test_pdf_called_txt_is_read_as_pdf(extractor: SandboxedExtractor) -> None:
    extracted = read(extractor, "a.txt", poison.pdf_of(["BT /F1 12 Tf 20 100 Td (mislabelled) Tj ET"]))
    assert (extracted.text, extracted.mime_type) == ("mislabelled", "application/pdf")


def test_outlook_message_inside_a_message_is_a_text_child(extractor: SandboxedExtractor) -> None:
    def string(tag: str, value: str) -> dict[str, bytes]:
        return {f"__substg1.0_{tag}001F": value.encode("utf-16-le")}

    inner = {"__properties_version1.0": bytes(24), **string("0037", "Inner"), **string("1000", "the inner body")}
    body = compound_file(
        {
            "__properties_version1.0": bytes(32),
            **string("0037", "Outer"),
            **string("1000", "see below"),
            "__attach_version1.0_#00000000": {"__substg1.0_3701000D": {**inner}},
        }
    )
    (child,) = read(extractor, "a.msg", body).children
    assert child.name == "Inner.txt"
    assert b"the inner body" in child.body
