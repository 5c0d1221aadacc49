"""Tells what a file is: by its first bytes where they are certain, else by its name, else by reading as text."""

from __future__ import annotations

import posixpath
import re

from workstation_pipelines.text.formats import plain

BINARY = "application/octet-stream"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
EPUB = "application/epub+zip"
PDF = "application/pdf"
RTF = "application/rtf"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
XLS = "application/vnd.ms-excel"
MSG = "application/vnd.ms-outlook"
EML = "message/rfc822"
ENCRYPTED_OFFICE = "application/x-encrypted-office"
OLE = "application/x-ole-storage"
ZIP = "application/zip"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"{\\rtf", RTF),
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh9", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x7fELF", "application/x-executable"),
    (b"OggS\x00", "audio/ogg"),
    (b"fLaC\x00", "audio/flac"),
    (b"ID3\x03", "audio/mpeg"),
    (b"ID3\x04", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_ZIP_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"mimetypeapplication/epub+zip", EPUB),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ODT),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", ODP),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", ODS),
    (b"word/document.xml", DOCX),
    (b"ppt/presentation.xml", PPTX),
    (b"xl/workbook.bin", XLSB),
    (b"xl/workbook.xml", XLSX),
    (b"META-INF/container.xml", EPUB),
)
_OLE_MARKS: tuple[tuple[bytes, str], ...] = tuple(
    (stream.encode("utf-16-le"), mime_type)
    for stream, mime_type in (
        ("EncryptedPackage", ENCRYPTED_OFFICE),
        ("__properties_version1.0", MSG),
        ("WordDocument", DOC),
        ("PowerPoint Document", PPT),
        ("Workbook", XLS),
    )
)
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body)[\s>]", re.I | re.S
)
_MAIL_FIELD = re.compile(
    rb"^(?:From|To|Subject|Date|Message-ID|MIME-Version|Received|Return-Path|Delivered-To):", re.I | re.M
)
_MAIL_START = re.compile(rb"(?:From |[A-Za-z][A-Za-z-]{1,40}: ?\S)")

_EXTENSIONS: dict[str, str] = {
    **dict.fromkeys(("txt", "text", "log", "srt", "vtt"), "text/plain"),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx", "qmd", "rmd"), "text/markdown"),
    **dict.fromkeys(("htm", "html", "xhtml", "xht"), "text/html"),
    **dict.fromkeys(("mht", "mhtml", "eml"), EML),
    **dict.fromkeys(("docx", "docm", "dotx", "dotm"), DOCX),
    **dict.fromkeys(("pptx", "pptm", "ppsx", "potx"), PPTX),
    **dict.fromkeys(("xlsx", "xlsm", "xltx"), XLSX),
    **dict.fromkeys(("doc", "dot"), DOC),
    **dict.fromkeys(("ppt", "pps"), PPT),
    **dict.fromkeys(("xls", "xlt"), XLS),
    **dict.fromkeys(("jpg", "jpeg"), "image/jpeg"),
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **dict.fromkeys(("yaml", "yml"), "application/yaml"),
    **dict.fromkeys(("xml", "xsd", "xsl", "xslt", "rss", "atom"), "application/xml"),
    **dict.fromkeys(("jsonl", "ndjson"), "application/jsonl"),
    **dict.fromkeys(("js", "mjs", "cjs", "jsx"), "text/javascript"),
    **dict.fromkeys(("ts", "tsx"), "text/x-typescript"),
    **dict.fromkeys(("c", "h"), "text/x-c"),
    **dict.fromkeys(("cc", "cpp", "cxx", "hpp"), "text/x-c++"),
    **dict.fromkeys(("sh", "bash", "zsh", "fish"), "text/x-sh"),
    **dict.fromkeys(("py", "pyi"), "text/x-python"),
    **dict.fromkeys(("tex", "latex"), "text/x-tex"),
    **dict.fromkeys(("ini", "cfg", "conf", "properties", "env"), "text/x-ini"),
    **dict.fromkeys(("diff", "patch"), "text/x-diff"),
    **dict.fromkeys(("exe", "dll", "so"), "application/x-executable"),
    "csv": "text/csv", "tsv": "text/tab-separated-values", "json": "application/json", "ics": "text/calendar",
    "vcf": "text/vcard", "css": "text/css", "sql": "text/x-sql", "java": "text/x-java", "kt": "text/x-kotlin",
    "go": "text/x-go", "rs": "text/x-rust", "rb": "text/x-ruby", "php": "text/x-php", "cs": "text/x-csharp",
    "swift": "text/x-swift", "scala": "text/x-scala", "r": "text/x-r", "pl": "text/x-perl", "lua": "text/x-lua",
    "ps1": "text/x-powershell", "bat": "text/x-bat", "toml": "application/toml", "rst": "text/x-rst",
    "adoc": "text/x-asciidoc", "org": "text/x-org", "proto": "text/x-proto", "tf": "text/x-terraform",
    "pdf": PDF, "rtf": RTF, "odt": ODT, "odp": ODP, "ods": ODS, "xlsb": XLSB, "epub": EPUB, "msg": MSG,
    "png": "image/png", "gif": "image/gif", "webp": "image/webp", "heic": "image/heic", "bmp": "image/bmp",
    "svg": "image/svg+xml", "mp3": "audio/mpeg", "wav": "audio/wav", "m4a": "audio/mp4", "mp4": "video/mp4",
    "mov": "video/quicktime", "mkv": "video/x-matroska", "zip": ZIP, "gz": "application/gzip",
    "tar": "application/x-tar", "7z": "application/x-7z-compressed", "rar": "application/vnd.rar",
    "iso": "application/x-iso9660-image", "parquet": "application/vnd.apache.parquet",
}  # fmt: skip
_NAMES = {
    "readme": "text/plain", "license": "text/plain", "changelog": "text/plain", "authors": "text/plain",
    "makefile": "text/x-makefile", "dockerfile": "text/x-dockerfile",
}  # fmt: skip
_OFFICE_ZIPS = frozenset({DOCX, PPTX, XLSX, XLSB, ODT, ODP, ODS, EPUB})
_WITH_MAGIC = _OFFICE_ZIPS | {PDF, DOC, PPT, XLS, MSG, OLE, ZIP, RTF}
_SAYS_NOTHING = frozenset({"", BINARY, "text/plain", "binary/octet-stream"})


def says_nothing(mime_type: str) -> bool:
    """Return whether a declared type is what servers say when they do not know."""
    return mime_type in _SAYS_NOTHING


def detect_mime_type(name: str, head: bytes) -> str:
    """Return the lower-case mime type of a file called `name` (may be a path) that starts with `head`.

    The more of the file `head` holds the surer the answer; 4 KB tell most, and without any the name decides.
    Pure: reads nothing. `application/octet-stream` means that nobody knows.
    """
    return resolve_mime_type(name, "", head)


def resolve_mime_type(name: str, declared: str, head: bytes) -> str:
    """Like detect_mime_type, with what the source `declared`: it counts for less than bytes and more than the name."""
    declared = declared.partition(";")[0].strip().lower()
    named = _by_name(name)
    expected = (named or declared) if declared in _SAYS_NOTHING else declared
    if not head:
        return expected or BINARY
    certain = _by_magic(head, expected)
    if certain:
        return certain
    if expected in _WITH_MAGIC:
        # Without its first bytes it is another format under that name: a text, or garbage for its parser to refuse.
        if plain.is_binary(head):
            return expected
        return named if named and named not in _WITH_MAGIC else _by_text(head)
    if expected in _SAYS_NOTHING:
        return BINARY if plain.is_binary(head) else _by_text(head)
    return expected


def _by_name(name: str) -> str:
    leaf = posixpath.basename(name.replace("\\", "/")).lower()
    return _NAMES.get(leaf) or (_EXTENSIONS.get(leaf.rpartition(".")[2], "") if "." in leaf else "")


def _by_magic(head: bytes, expected: str) -> str | None:
    first = head[:16]
    if first.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _first_mark(_ZIP_MARKS, head) or (expected if expected in _OFFICE_ZIPS else ZIP)
    if first.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _first_mark(_OLE_MARKS, head) or (expected if expected in (DOC, PPT, XLS, MSG) else OLE)
    # Some writers put a few bytes before the mark; a text about PDF files does not become one.
    if first.startswith(b"%PDF-") or (expected == PDF and b"%PDF-" in head[:1024]):
        return PDF
    if first.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return "image/heic" if head[8:12] in (b"heic", b"heix", b"mif1", b"avif") else "video/mp4"
    return next((mime_type for magic, mime_type in _MAGIC if first.startswith(magic)), None)


def _first_mark(marks: tuple[tuple[bytes, str], ...], head: bytes) -> str | None:
    return next((mime_type for mark, mime_type in marks if mark in head), None)


def _by_text(head: bytes) -> str:
    start = head[:4096].removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(start):
        return "text/html"
    if _MAIL_START.match(start) and len(_MAIL_FIELD.findall(start)) >= 3:
        return EML
    return "text/plain"
