"""Zip containers and the XML in them, read under caps: sizes are counted as bytes come out, never believed."""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import Any

from lxml import etree

from workstation_pipelines.errors import ItemTooLargeError, UnreadableContentError
from workstation_pipelines.text.limits import ExtractionLimits

_BLOCK_BYTES = 1 << 16
_ENTITY_MARKS = tuple("<!ENTITY".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))


class BoundedZip:
    """A zip file that refuses to inflate beyond the limits, over all reads together."""

    def __init__(self, body: bytes, limits: ExtractionLimits) -> None:
        self._limits = limits
        self._packed_bytes = len(body)
        self._inflated_bytes = 0
        self._zip = zipfile.ZipFile(io.BytesIO(body))
        entries = self._zip.infolist()
        if len(entries) > limits.max_zip_entries:
            raise ItemTooLargeError(
                f"its container has {len(entries):,} entries, more than the {limits.max_zip_entries:,} allowed: "
                "raise max_zip_entries if the file is genuine",
                reason="too_large",
            )
        if any(entry.flag_bits & 1 for entry in entries):
            raise UnreadableContentError(
                "it is encrypted: save it without a password and sync again", reason="encrypted"
            )
        self.names = frozenset(entry.filename for entry in entries)

    def read(self, name: str) -> bytes:
        """Return one entry's bytes. Raises KeyError when it does not exist, UnreadableContentError for a bomb."""
        blocks = []
        with self._zip.open(name) as entry:
            while block := entry.read(_BLOCK_BYTES):
                self._count(len(block))
                blocks.append(block)
        return b"".join(blocks)

    def xml(self, name: str) -> Any:
        """Return the root element of an XML entry, or None when the entry does not exist."""
        return parse_xml(self.read(name)) if name in self.names else None

    def inflate_all(self) -> None:
        """Inflate every entry without keeping it, for a parser that opens the container by itself afterwards."""
        for name in sorted(self.names):
            with self._zip.open(name) as entry:
                while block := entry.read(_BLOCK_BYTES):
                    self._count(len(block))

    def _count(self, size_bytes: int) -> None:
        self._inflated_bytes += size_bytes
        ratio_cap = max(self._limits.zip_ratio_floor_bytes, self._packed_bytes * self._limits.max_zip_ratio)
        if self._inflated_bytes > min(self._limits.max_zip_bytes, ratio_cap):
            raise UnreadableContentError(
                f"its container inflates to more than {self._inflated_bytes - size_bytes:,} bytes from "
                f"{self._packed_bytes:,}: it looks like a zip bomb and was left unread",
                reason="zip_bomb",
            )


def parse_xml(body: bytes) -> Any:
    """Return the root element. Entities are never declared, expanded or fetched; elements nest 256 deep at most."""
    if any(mark in body for mark in _ENTITY_MARKS):
        raise UnreadableContentError(
            "its XML declares entities, which office files never need: it was left unread", reason="xml_bomb"
        )
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(body, parser)


def relationships(archive: BoundedZip, part: str) -> dict[str, tuple[str, str]]:
    """Return relationship id -> (last word of its type, target's entry name) of an Office part, internal ones only."""
    folder, leaf = posixpath.split(part)
    root = archive.xml(posixpath.join(folder, "_rels", leaf + ".rels"))
    found: dict[str, tuple[str, str]] = {}
    for relation in root if root is not None else ():
        if relation.get("TargetMode") == "External":
            continue
        target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
        found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], target)
    return found


def core_title(archive: BoundedZip) -> str | None:
    """Return the title among an Office file's document properties."""
    root = archive.xml("docProps/core.xml")
    return root.findtext("{http://purl.org/dc/elements/1.1/}title") if root is not None else None
