"""What Google exports its own kinds of files as, small and real enough for any reader."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from xml.sax.saxutils import escape

_OOXML = "application/vnd.openxmlformats-officedocument."
_XLSX = f"{_OOXML}spreadsheetml.sheet"
_PPTX = f"{_OOXML}presentationml.presentation"

EXPORT_NAMES: Mapping[str, Mapping[str, str]] = {
    "application/vnd.google-apps.document": {
        "text/markdown": "markdown",
        "text/plain": "txt",
        "application/pdf": "pdf",
        f"{_OOXML}wordprocessingml.document": "docx",
    },
    "application/vnd.google-apps.spreadsheet": {_XLSX: "xlsx", "text/csv": "csv", "application/pdf": "pdf"},
    "application/vnd.google-apps.presentation": {_PPTX: "pptx", "text/plain": "txt", "application/pdf": "pdf"},
    "application/vnd.google-apps.drawing": {"application/pdf": "pdf", "image/png": "png"},
}
"""Mime type of a native file -> mime type of an export -> its name in an export link."""

_PICTURE = "\n\n![][image1]\n\n[image1]: <data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ>\n"


def exported(text: str, mime_type: str) -> bytes:
    """Export a native file that says `text`. Documents come with a picture inside, as Google embeds them."""
    if mime_type == "text/markdown":
        return (text + _PICTURE).encode()
    if mime_type == _XLSX:
        return _workbook(text)
    if mime_type == _PPTX:
        return _slides(text)
    if mime_type == "application/pdf":
        return _pdf(text)
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


def _workbook(text: str) -> bytes:
    import xlsxwriter

    body = io.BytesIO()
    with xlsxwriter.Workbook(body, {"in_memory": True}) as book:
        for number, part in enumerate(text.split("\f"), 1):
            sheet = book.add_worksheet(f"Sheet{number}")
            for row, line in enumerate(part.splitlines()):
                sheet.write_row(row, 0, line.split("\t"))
    return body.getvalue()


def _slides(text: str) -> bytes:
    a = "http://schemas.openxmlformats.org/drawingml/2006/main"
    p = "http://schemas.openxmlformats.org/presentationml/2006/main"
    r = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    links = "http://schemas.openxmlformats.org/package/2006/relationships"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/ppt/presentation.xml"'
        f' ContentType="{_PPTX}.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{links}"><Relationship Id="rId1" Type="{r}/officeDocument"'
        ' Target="ppt/presentation.xml"/></Relationships>',
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{p}" xmlns:r="{r}"><p:sldIdLst>'
        '<p:sldId id="256" r:id="rId1"/></p:sldIdLst></p:presentation>',
        "ppt/_rels/presentation.xml.rels": f'<Relationships xmlns="{links}"><Relationship Id="rId1"'
        f' Type="{r}/slide" Target="slides/slide1.xml"/></Relationships>',
        "ppt/slides/slide1.xml": f'<p:sld xmlns:p="{p}" xmlns:a="{a}"><p:cSld><p:spTree><p:sp><p:txBody>'
        f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>",
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return body.getvalue()


def _pdf(text: str) -> bytes:
    shown = "".join(char if char.isascii() and char not in "()\\" else " " for char in text.replace("\n", " "))
    stream = f"BT /F1 12 Tf 40 700 Td ({shown}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return (body + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF").encode()
