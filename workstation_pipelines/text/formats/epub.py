"""EPUB: the chapters of the spine in order, each read as HTML."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats import html
from workstation_pipelines.text.formats.archive import BoundedZip
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PAGE_TYPES = frozenset(("application/xhtml+xml", "text/html"))


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return all chapters; the navigation page is left out, since it only repeats their titles."""
    archive = BoundedZip(content.body, limits)
    if "META-INF/encryption.xml" in archive.names and b"xmlenc#aes" in archive.read("META-INF/encryption.xml"):
        raise UnreadableContentError("it is protected by DRM and cannot be read", reason="encrypted")
    container = archive.xml("META-INF/container.xml")
    rootfile = container.find(f".//{_CONTAINER}rootfile") if container is not None else None
    package_path = rootfile.get("full-path", "") if rootfile is not None else ""
    package = archive.xml(package_path)
    if package is None:
        raise UnreadableContentError("it has no package document: get the book again", reason="corrupt")
    builder = TextBuilder(limits)
    for path in _chapters(package, posixpath.dirname(package_path)):
        if path in archive.names:
            html.append(builder, html.decode(archive.read(path)))
    return builder.build(title=package.findtext(f".//{_DC}title"), language=_language(package))


def _chapters(package: Any, folder: str) -> list[str]:
    manifest = {
        entry.get("id"): posixpath.normpath(posixpath.join(folder, unquote(entry.get("href", ""))))
        for entry in package.iter(f"{_OPF}item")
        if entry.get("media-type") in _PAGE_TYPES and "nav" not in entry.get("properties", "").split()
    }
    wanted = [entry.get("idref") for entry in package.iter(f"{_OPF}itemref")]
    return [manifest[idref] for idref in wanted if idref in manifest]


def _language(package: Any) -> str | None:
    code = (package.findtext(f".//{_DC}language") or "").strip().lower()[:2]
    return code if len(code) == 2 and code.isalpha() and code.isascii() else None
