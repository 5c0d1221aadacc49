"""Writes the example documents that are not plain text: `python -m scripts.make_examples` from the project's root.

Needs reportlab, python-docx, python-pptx, XlsxWriter and odfpy, all development dependencies. The plain text ones are
written by hand and live beside the ones made here.
"""

from __future__ import annotations

import io
import struct
import zipfile
from datetime import UTC, date, datetime
from email.message import EmailMessage
from pathlib import Path

from scripts import example_texts as texts
from tests.hostile.compound_file import Tree, compound_file

FOLDER = Path(__file__).parent.parent / "examples" / "documents"
WRITTEN_AT = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


def main() -> None:
    invoice = pdf("Invoice INV-2026-0417", texts.INVOICE)
    files = {
        "finance/INV-2026-0417.pdf": invoice,
        "finance/INV-2026-0522.pdf": pdf("Rechnung INV-2026-0522", texts.INVOICE_GERMAN),
        "engineering/nv-310-datasheet.pdf": pdf("NV-310 turbidity probe: data sheet", texts.DATASHEET),
        "support/warranty-terms.pdf": pdf("Warranty terms", texts.WARRANTY),
        "finance/supply-agreement-solstrom.docx": docx("Supply agreement SA-2026-08", texts.SUPPLY_AGREEMENT),
        "languages/betriebsanweisung-werkstatt.docx": docx("Betriebsanweisung Werkstatt", texts.WORKSHOP_GERMAN),
        "notes/strategy-2027.pptx": pptx("Strategy 2027", texts.STRATEGY_SLIDES),
        "handbook/safety-training.pptx": pptx("Safety training", texts.SAFETY_SLIDES),
        "finance/stock-list.xlsx": xlsx(texts.STOCK_SHEETS),
        "engineering/calibration-log.xlsx": xlsx(texts.CALIBRATION_SHEETS),
        "support/payment-reminder.eml": reminder(invoice),
        "support/complaint-lake-mjosa.msg": msg(texts.COMPLAINT),
        "support/return-form.rtf": rtf(texts.RETURN_FORM),
        "notes/museum-loan.odt": odt("Loan of the buoy of 1974", texts.MUSEUM_LOAN),
        "handbook/field-guide.epub": epub("A field guide to rivers under watch", texts.FIELD_GUIDE),
    }
    for name, body in files.items():
        (FOLDER / name).write_bytes(body)


def pdf(title: str, paragraphs: list[tuple[str, str]]) -> bytes:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    class Outlined(SimpleDocTemplate):
        def afterFlowable(self, flowable: object) -> None:
            if isinstance(flowable, Paragraph) and flowable.style.name in ("Heading1", "Heading2"):
                text = flowable.getPlainText()
                self.canv.bookmarkPage(text)
                self.canv.addOutlineEntry(text, text, level=int(flowable.style.name[-1]) - 1)

    styles = getSampleStyleSheet()
    out = io.BytesIO()
    template = Outlined(out, pagesize=A4, title=title, author="Norrvik Instruments", invariant=1)
    template.build([Paragraph(text, styles[style]) for style, text in paragraphs])
    return out.getvalue()


def docx(title: str, paragraphs: list[tuple[str, str]]) -> bytes:
    import docx as python_docx

    document = python_docx.Document()
    document.core_properties.title = title
    document.core_properties.created = document.core_properties.modified = WRITTEN_AT
    for style, text in paragraphs:
        if style == "Table":
            rows = [line.split("|") for line in text.split("\n")]
            table = document.add_table(rows=0, cols=len(rows[0]))
            for row in rows:
                for cell, value in zip(table.add_row().cells, row, strict=True):
                    cell.text = value
        elif style.startswith("Heading"):
            document.add_heading(text, level=int(style[-1]))
        else:
            document.add_paragraph(text)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def pptx(title: str, slides: list[tuple[str, list[str], str]]) -> bytes:
    from pptx import Presentation

    presentation = Presentation()
    presentation.core_properties.title = title
    presentation.core_properties.modified = WRITTEN_AT
    for heading, bullets, notes in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = heading
        slide.placeholders[1].text = "\n".join(bullets)
        slide.notes_slide.notes_text_frame.text = notes
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def xlsx(sheets: dict[str, list[list[object]]]) -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    workbook = xlsxwriter.Workbook(out, {"in_memory": True, "default_date_format": "yyyy-mm-dd"})
    workbook.set_properties({"title": next(iter(sheets)), "created": WRITTEN_AT.replace(tzinfo=None)})
    for name, rows in sheets.items():
        sheet = workbook.add_worksheet(name)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                if isinstance(value, date):
                    sheet.write_datetime(number, column, datetime(value.year, value.month, value.day))  # noqa: DTZ001
                else:
                    sheet.write(number, column, value)
    workbook.close()
    return out.getvalue()


def reminder(invoice: bytes) -> bytes:
    message = EmailMessage()
    message["From"] = "Sofia Lindqvist <sofia.lindqvist@norrvik.example>"
    message["To"] = "Buchhaltung <rechnungen@wasserwerk-oldenburg.example>"
    message["Date"] = "Mon, 06 Jul 2026 11:20:00 +0200"
    message["Subject"] = "Reminder: invoice INV-2026-0417 is overdue"
    message["Message-ID"] = "<reminder-0417@norrvik.example>"
    message.set_content(texts.REMINDER)
    message.add_attachment(invoice, maintype="application", subtype="pdf", filename="INV-2026-0417.pdf")
    message.set_boundary("reminder-0417")
    return message.as_bytes()


def msg(message: dict[str, str]) -> bytes:
    def string(tag: str, value: str) -> Tree:
        return {f"__substg1.0_{tag}001F": value.encode("utf-16-le")}

    sent_at = datetime.fromisoformat(message["sent_at"])
    ticks = int((sent_at - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10_000_000
    attachment: Tree = {
        "__substg1.0_37010102": message["attachment"].encode(),
        "__properties_version1.0": bytes(8),
        **string("3707", message["attachment_name"]),
    }
    return compound_file(
        {
            "__properties_version1.0": bytes(32) + struct.pack("<HHIQ", 0x0040, 0x0039, 6, ticks),
            "__nameid_version1.0": {"__substg1.0_00020102": b""},
            **string("0037", message["subject"]),
            **string("0C1A", message["from_name"]),
            **string("5D01", message["from_address"]),
            **string("0E04", message["to"]),
            **string("1000", message["body"]),
            "__attach_version1.0_#00000000": attachment,
        }
    )


def rtf(paragraphs: list[str]) -> bytes:
    def escaped(text: str) -> str:
        return "".join(character if character < "\x7f" else f"\\u{ord(character)}?" for character in text)

    body = "\\par\n".join(escaped(paragraph) for paragraph in paragraphs)
    title = escaped(paragraphs[0])
    head = f"\\rtf1\\ansi\\ansicpg1252\\deff0{{\\fonttbl{{\\f0 Arial;}}}}{{\\info{{\\title {title}}}}}"
    return f"{{{head}\n{body}\\par\n}}".encode()


def odt(title: str, paragraphs: list[tuple[str, str]]) -> bytes:
    from odf.dc import Title
    from odf.opendocument import OpenDocumentText
    from odf.text import H, P

    document = OpenDocumentText()
    document.meta.addElement(Title(text=title))
    for style, text in paragraphs:
        document.text.addElement(H(outlinelevel=int(style[-1]), text=text) if style != "Normal" else P(text=text))
    out = io.BytesIO()
    document.write(out)
    return out.getvalue()


def epub(title: str, chapters: list[tuple[str, str]]) -> bytes:
    names = [f"chapter-{number}.xhtml" for number in range(1, len(chapters) + 1)]
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(names)))
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<dc:identifier id="id">norrvik-field-guide</dc:identifier>'
        f"<dc:title>{title}</dc:title><dc:language>en-GB</dc:language></metadata><manifest>{items}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="OEBPS/package.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("mimetype"), "application/epub+zip")
        archive.writestr(zipfile.ZipInfo("META-INF/container.xml"), container)
        archive.writestr(zipfile.ZipInfo("OEBPS/package.opf"), package)
        for name, (heading, text) in zip(names, chapters, strict=True):
            paragraphs = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
            page = (
                f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{heading}</title></head>'
                f"<body><h1>{heading}</h1>{paragraphs}</body></html>"
            )
            archive.writestr(zipfile.ZipInfo(f"OEBPS/{name}"), page)
    return out.getvalue()


if __name__ == "__main__":
    main()
