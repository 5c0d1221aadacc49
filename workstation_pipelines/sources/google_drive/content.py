"""What a file says: downloaded and held against its checksum, or exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from workstation_pipelines.errors import (
    ItemTooLargeError,
    UnexpectedReplyError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Content, Item
from workstation_pipelines.sources.google_drive import files
from workstation_pipelines.sources.google_drive.calls import (
    EXPORT,
    EXPORT_LINK,
    MEDIA,
    DriveCalls,
    resource_key_header,
)
from workstation_pipelines.sources.google_drive.errors import EXPORT_TOO_LARGE
from workstation_pipelines.sources.google_drive.export import EXPORTS, Export, without_pictures
from workstation_pipelines.sources.google_drive.files import BadFieldError, DriveFile
from workstation_pipelines.sources.http import Call, Download, VendorApi

UNKNOWN_TYPES = frozenset({"application/octet-stream", "binary/octet-stream"})

_HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Contents:
    """Fetches items; thread-safe. `urls` are the places where Drive answers: an export's link has to lie below one."""

    api: VendorApi
    calls: DriveCalls
    has_text: Callable[[str], bool]
    detect: Callable[[str, bytes], str]
    max_file_bytes: int
    urls: tuple[str, ...]

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        if files.is_native(item.mime_type):
            export = EXPORTS.get(item.mime_type)
            return (EXPORT,) if export is not None and self.has_text(export.mime_type) else ()
        is_read = self.has_text(item.mime_type) and item.size_bytes <= self.max_file_bytes
        return (MEDIA,) if is_read else ()

    def fetch(self, item: Item) -> Content:
        if files.is_native(item.mime_type):
            return self._exported(item)
        if not self.has_text(item.mime_type):
            raise UnsupportedContentError(f"{item.external_id}: {item.mime_type} has no text", reason="unsupported")
        if item.size_bytes > self.max_file_bytes:
            raise self._too_large(item)
        body = self._media(item)
        external_hash = item.external_hash
        if not _is_of(body, external_hash):
            # It was replaced since it was listed, or it broke on its way: Drive knows which.
            external_hash = self._described(item).external_hash
            if not _is_of(body, external_hash):
                body = self._media(item)
            if not _is_of(body, external_hash):
                raise UnreadableContentError(
                    f"{item.external_id}: its bytes differ from Drive's checksum, twice: upload it again",
                    reason="corrupt",
                )
        mime_type = item.mime_type
        if mime_type in UNKNOWN_TYPES:
            mime_type = self.detect(item.title, body[:_HEAD_BYTES])
        return Content(body, item.title, mime_type, external_hash)

    def _media(self, item: Item) -> bytes:
        key = files.resource_key_of(item)
        got = self.api.download(
            MEDIA,
            path={"file_id": item.external_id},
            params={"alt": "media", "supportsAllDrives": True},
            headers=resource_key_header(item.external_id, key),
            limit_bytes=self.max_file_bytes,
        )
        if not item.external_hash.startswith(("sha256:", "md5:")) and "html" not in item.mime_type:
            _refuse_login_page(MEDIA, got)
        return got.body

    def _described(self, item: Item) -> DriveFile:
        try:
            return files.parse(self.calls.file(item.external_id, resource_key=files.resource_key_of(item)))
        except BadFieldError as error:
            raise UnexpectedReplyError(f"google_drive files.get: {error}: try again later", wait_s=60) from None

    def _exported(self, item: Item) -> Content:
        export = EXPORTS.get(item.mime_type)
        if export is None or not self.has_text(export.mime_type):
            raise UnsupportedContentError(
                f"{item.external_id}: {item.mime_type} cannot be exported as text", reason="unsupported"
            )
        try:
            got = self.api.download(
                EXPORT,
                path={"file_id": item.external_id},
                params={"mimeType": export.mime_type},
                headers=resource_key_header(item.external_id, files.resource_key_of(item)),
                limit_bytes=self.max_file_bytes,
            )
            _refuse_login_page(EXPORT, got)
        except ItemTooLargeError as error:
            if error.reason != EXPORT_TOO_LARGE:
                raise
            got = self._exported_by_link(item, export)
        body = without_pictures(got.body) if export.mime_type == "text/markdown" else got.body
        # The bytes may be newer than this, never older: an edit in between is listed and exported once more.
        return Content(body, f"{item.title}{export.extension}", export.mime_type, item.external_hash)

    def _exported_by_link(self, item: Item, export: Export) -> Download:
        key = files.resource_key_of(item)
        links = self.calls.file(item.external_id, "id,exportLinks", resource_key=key).get("exportLinks")
        link = links.get(export.mime_type) if isinstance(links, dict) else None
        if not isinstance(link, str) or not self._is_export_link(link):
            raise ItemTooLargeError(
                f"{item.external_id}: its export has more than the 10 MB that Drive gives, and Drive names no link to it",
                reason="too_large",
            )
        got = self.api.download_at(
            EXPORT_LINK,
            link,
            limit_bytes=self.max_file_bytes,
            headers=resource_key_header(item.external_id, key),
        )
        _refuse_login_page(EXPORT_LINK, got)
        return got

    def _is_export_link(self, link: str) -> bool:
        """Our token goes with it, so it has to lie at one of the two places where Drive itself answers."""
        return link.startswith(tuple(f"{url.rstrip('/')}/" for url in self.urls))

    def _too_large(self, item: Item) -> ItemTooLargeError:
        return ItemTooLargeError(
            f"{item.external_id} has {item.size_bytes} bytes, above `max_file_bytes` = {self.max_file_bytes}:"
            " raise that, or leave it out",
            reason="too_large",
        )


def _is_of(body: bytes, external_hash: str) -> bool:
    """Return whether a checksum is that of these bytes; what is no checksum tells nothing, and is taken."""
    kind, _, value = external_hash.partition(":")
    if kind == "sha256":
        return hashlib.sha256(body).hexdigest() == value
    if kind == "md5":
        return hashlib.md5(body, usedforsecurity=False).hexdigest() == value
    return True


def _refuse_login_page(call: Call, got: Download) -> None:
    if got.headers.get("content-type", "").startswith("text/html"):
        raise UnexpectedReplyError(
            f"google_drive {call.name}: the answer is a web page, not the file; is something between us and Drive?",
            wait_s=60,
        )
