"""Poison files by name: each is bytes, a file name and the reason with which it has to be refused."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable

from tests.hostile.compound_file import compound_file

CONTENT_TYPES = b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def zip_of(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return out.getvalue()


def docx_of(document: bytes) -> bytes:
    return zip_of({"[Content_Types].xml": CONTENT_TYPES, "word/document.xml": document})


def billion_laughs() -> bytes:
    entities = b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10 if level else b"ha" * 10) for level in range(10)
    )
    return b'<?xml version="1.0"?><!DOCTYPE w [' + entities + b']><w:p xmlns:w="%s">&l9;</w:p>' % WORD.encode()


def external_entity() -> bytes:
    return (
        b'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<w:document xmlns:w="%s"><w:body><w:p><w:r><w:t>&x;</w:t></w:r></w:p></w:body></w:document>' % WORD.encode()
    )


def zip_bomb() -> bytes:
    return docx_of(b"<a>" + b" " * 12_000_000)


def lying_zip_bomb() -> bytes:
    """Declares 100 bytes for an entry that inflates to 12 MB."""
    body = bytearray(zip_bomb())
    size = (12_000_003).to_bytes(4, "little")
    return bytes(body).replace(size, (100).to_bytes(4, "little"))


def spreadsheet_bomb() -> bytes:
    return zip_of({"xl/workbook.xml": b"<workbook/>", "xl/worksheets/sheet1.xml": b" " * 12_000_000})


def encrypted_office() -> bytes:
    return compound_file({"EncryptionInfo": b"\x04\x00\x04\x00" * 20, "EncryptedPackage": b"\x91\x07" * 4_000})


def encrypted_pdf() -> bytes:
    """A user password nobody knows: /U holds noise."""
    return pdf_of(
        ["BT (secret) Tj ET"],
        trailer=f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4\n/O <{'41' * 32}> /U <{'42' * 32}> >> /ID [<00><00>]",
    )


def pdf_of(pages: list[str], *, trailer: str = "") -> bytes:
    """A PDF with one content stream a page; every page may use font F1."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, stream in enumerate(pages):
        resources = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 300 300]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {5 + 2 * index} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF".encode()
    return bytes(out)


def scanned_pdf() -> bytes:
    return pdf_of(["0 0 300 300 re f"] * 2)


def nested_mail(depth: int) -> bytes:
    body = b"Subject: innermost\n\nhello"
    for level in range(depth):
        boundary = b"b%d" % level
        body = (
            b"Subject: level %d\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=%s\n\n"
            b"--%s\nContent-Type: message/rfc822\n\n%s\n--%s--\n" % (level, boundary, boundary, body, boundary)
        )
    return body


def nested_multipart(depth: int) -> bytes:
    head, tail = b"Subject: deep\nMIME-Version: 1.0\n", b""
    for level in range(depth):
        head += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
        tail = b"\n--b%d--\n" % level + tail
    return head + b"Content-Type: text/plain\n\nbottom" + tail


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "no bytes": ("a.pdf", lambda: b"", "empty"),
    "blank text": ("a.txt", lambda: b" \n\t \r\n" * 50, "no_text"),
    "binary garbage called text": ("a.txt", lambda: zlib.compress(bytes(range(256)) * 40) * 30, "unsupported_type"),
    "noise called pdf": ("a.pdf", lambda: bytes(range(256)) * 8, "corrupt"),
    "noise called docx": ("a.docx", lambda: bytes(range(256)) * 8, "corrupt"),
    "noise called msg": ("a.msg", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(range(256)) * 8, "corrupt"),
    "picture": ("scan.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), "no_text"),
    "program": ("a.bin", lambda: b"\x7fELF" + bytes(200), "unsupported_type"),
    "zip of things": ("a.zip", lambda: zip_of({"a.txt": b"hello"}), "unsupported_type"),
    "zip in zip": ("a.docx", lambda: zip_of({"b.docx": zip_of({"c.docx": b"x"})}), "corrupt"),
    "zip bomb": ("a.docx", zip_bomb, "zip_bomb"),
    "zip bomb that lies": ("a.docx", lying_zip_bomb, "corrupt"),
    "spreadsheet bomb": ("a.xlsx", spreadsheet_bomb, "zip_bomb"),
    "zip of many entries": (
        "a.docx", lambda: zip_of({f"word/document.xml{number}": b"" for number in range(3_000)}, zipfile.ZIP_STORED), "too_large"
    ),
    "billion laughs": ("a.docx", lambda: docx_of(billion_laughs()), "xml_bomb"),
    "external entity": ("a.docx", lambda: docx_of(external_entity()), "xml_bomb"),
    "entities in UTF-16": ("a.docx", lambda: docx_of(billion_laughs().decode().encode("utf-16")), "xml_bomb"),
    "xml nested deep": ("a.docx", lambda: docx_of(b"<a>" * 100_000 + b"</a>" * 100_000), "corrupt"),
    "encrypted docx": ("a.docx", encrypted_office, "encrypted"),
    "encrypted xlsx": ("a.xlsx", encrypted_office, "encrypted"),
    "encrypted pdf": ("a.pdf", encrypted_pdf, "encrypted"),
    "scanned pdf": ("a.pdf", scanned_pdf, "no_text"),
    "truncated pdf": ("a.pdf", lambda: b"%PDF-1.4\n1 0 obj\n<<", "corrupt"),
    "10,000 pages": ("a.pdf", lambda: pdf_of(["q Q"] * 10_000), "too_large"),
}  # fmt: skip
