"""Drive's description of a file, read field by field: what is absent or oddly typed in one file harms no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from workstation_pipelines.model import Item, ItemFailure, ItemType

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
NATIVE_PREFIX = "application/vnd.google-apps."
FILE_FIELDS = (
    "id,name,mimeType,parents,driveId,trashed,createdTime,modifiedTime,size,md5Checksum,sha256Checksum,"
    "headRevisionId,webViewLink,resourceKey,ownedByMe"
)
"""What is asked for: anything else is absent from an answer. Never `version`, which counts changes nobody can see."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadFieldError(ValueError):
    """Raised when one file's description cannot be used; `external_id` is its id as far as known."""

    def __init__(self, external_id: str, field: str) -> None:
        super().__init__(f"Drive describes {external_id} without a usable `{field}`")
        self.external_id = external_id
        self.field = field


@dataclass(frozen=True, slots=True)
class DriveFile:
    """A file or folder as Drive describes it. `parent_id` is None where the account cannot see the parent."""

    id: str
    name: str
    mime_type: str
    parent_id: str | None
    drive_id: str | None
    is_trashed: bool
    is_mine: bool
    external_hash: str
    size_bytes: int
    created_at: datetime | None
    modified_at: datetime | None
    url: str | None
    resource_key: str | None

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER

    @property
    def is_shortcut(self) -> bool:
        return self.mime_type == SHORTCUT

    def item(self, external_path: str, mime_type: str) -> Item:
        return Item(
            external_id=self.id,
            external_path=external_path,
            external_hash=self.external_hash,
            item_type=ItemType.FILE,
            title=self.name,
            mime_type=mime_type,
            size_bytes=self.size_bytes,
            external_modified_at=self.modified_at,
            external_created_at=self.created_at,
            external_url=self.url,
            place=self.parent_id,
        )


def is_native(mime_type: str) -> bool:
    """Return whether it is a Docs editors' file, which has no bytes of its own and must be exported."""
    return mime_type.startswith(NATIVE_PREFIX)


def parse(fields: object) -> DriveFile:
    """Read one file. Raises BadFieldError."""
    if not isinstance(fields, dict):
        raise BadFieldError("an unnamed file", "file")
    file_id = fields.get("id")
    if not isinstance(file_id, str) or not file_id:
        raise BadFieldError("an unnamed file", "id")
    name, mime_type = _text(fields, "name"), _text(fields, "mimeType")
    if name is None or not mime_type:
        raise BadFieldError(file_id, "name" if name is None else "mimeType")
    parents = fields.get("parents")
    if parents is not None and not (isinstance(parents, list) and all(isinstance(parent, str) for parent in parents)):
        raise BadFieldError(file_id, "parents")
    resource_key = _text(fields, "resourceKey")
    return DriveFile(
        id=file_id,
        name=name or "Untitled",
        mime_type=mime_type,
        parent_id=parents[0] if parents else None,
        drive_id=_text(fields, "driveId"),
        is_trashed=fields.get("trashed") is True,
        is_mine=fields.get("ownedByMe") is True,
        external_hash=_hash(fields),
        # What Drive calls the size of a Doc is the space it counts for, not that of any export.
        size_bytes=-1 if is_native(mime_type) else _size_bytes(fields.get("size")),
        created_at=moment(fields.get("createdTime")),
        modified_at=moment(fields.get("modifiedTime")),
        url=_url(_text(fields, "webViewLink"), resource_key),
        resource_key=resource_key,
    )


def failure(error: BadFieldError) -> ItemFailure:
    return ItemFailure(
        external_id=error.external_id,
        external_path="",
        stage="list",
        error_class=type(error).__name__,
        reason="bad_field",
        message=f"{error}: it is tried again whenever it changes",
        permanent=False,
    )


def resource_key_of(item: Item) -> str | None:
    """Return the key that a link-shared file wants to be asked with, out of the item's link."""
    found = parse_qs(urlsplit(item.external_url or "").query).get("resourcekey")
    return found[0] if found else None


def moment(value: object) -> datetime | None:
    """Read an RFC 3339 time; None for what is no time after 1970."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
        found = read.astimezone(UTC) if read.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found >= _EPOCH else None


def _hash(fields: Mapping[str, Any]) -> str:
    """`modifiedTime` stands in only where Drive keeps no checksum: a Doc's, which each edit moves."""
    for prefix, name in (("sha256", "sha256Checksum"), ("md5", "md5Checksum"), ("rev", "headRevisionId")):
        value = _text(fields, name)
        if value:
            return f"{prefix}:{value if prefix == 'rev' else value.lower()}"
    return f"mt:{_text(fields, 'modifiedTime') or ''}"


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BadFieldError(str(fields.get("id")), name)


def _size_bytes(value: object) -> int:
    # 64-bit numbers are strings in Google's JSON.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return -1


def _url(link: str | None, resource_key: str | None) -> str | None:
    if link is None or resource_key is None or "resourcekey=" in link:
        return link
    return f"{link}{'&' if '?' in link else '?'}resourcekey={quote(resource_key, safe='')}"
