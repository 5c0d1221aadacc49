"""A driveItem as Graph describes it, read once into an Entry; nothing else looks into the vendor's dict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from workstation_pipelines.model import Item, ItemType

FIELDS = (
    "id,name,size,eTag,file,folder,package,bundle,root,deleted,remoteItem,malware,parentReference,"
    "createdDateTime,lastModifiedDateTime,webUrl"
)
LISTED_FIELDS = f"{FIELDS},content.downloadUrl"
"""What a listing asks for besides is shown as @microsoft.graph.downloadUrl, which a $select of that name would not bring
(github.com/microsoftgraph/microsoft-graph-docs/issues/20212). It is a secret, for no token is needed to use it."""

Detect = Callable[[str, bytes], str]
_ID = re.compile(r"(?!\.{1,2}\Z)[!-~]+\Z")
_PERSONAL_DRIVE = re.compile(r"[0-9A-Fa-f]{8,16}\Z")
_PERSONAL_ITEM = re.compile(r"[0-9A-Fa-f]{8,16}!.+\Z")
_UNTOLD_MIME = "application/octet-stream"
_NO_TEXT_PREFIXES = {"malware:": "malware", "package:": "unsupported"}


class Kind(StrEnum):
    """What an entry is, to a mirror of documents."""

    ROOT = "root"
    FOLDER = "folder"
    PACKAGE = "package"
    """A OneNote notebook: it holds things, and is shown as one."""

    FILE = "file"
    SHARED_FOLDER = "shared_folder"
    SHARED_FILE = "shared_file"
    DELETED = "deleted"
    IGNORED = "ignored"
    """An album, or someone else's shortcut inside a shared folder."""


class UnreadableEntryError(Exception):
    """Raised for an entry without what one cannot do without; `external_id` is empty when even that is missing."""

    def __init__(self, external_id: str, name: str, field: str) -> None:
        super().__init__(f"OneDrive describes it without a usable `{field}`: it is left out until that is there")
        self.external_id = external_id
        self.name = name


@dataclass(frozen=True, slots=True)
class Entry:
    """One driveItem. Keys are `{drive}:{item}`; `target` is the key of what a shortcut leads to.

    `children` counts what a folder holds, -1 when that is not told.
    """

    key: str
    kind: Kind
    name: str
    parent_key: str | None
    external_hash: str = ""
    mime_type: str = _UNTOLD_MIME
    size_bytes: int = -1
    modified_at: datetime | None = None
    created_at: datetime | None = None
    url: str | None = None
    target: str | None = None
    children: int = -1
    download_link: str | None = field(default=None, repr=False)

    def item(self, *, external_path: str, place: str | None, name: str | None = None) -> Item:
        return Item(
            external_id=self.key,
            external_path=external_path,
            external_hash=self.external_hash,
            item_type=ItemType.FILE,
            title=name or self.name,
            mime_type=self.mime_type,
            size_bytes=self.size_bytes,
            external_modified_at=self.modified_at,
            external_created_at=self.created_at,
            external_url=self.url,
            place=place,
        )


def read(raw: Any, drive: str, detect: Detect) -> Entry:
    """Read a driveItem of the drive with this (normal) id. Raises UnreadableEntryError.

    The drive is the caller's: what the item says of its own differs in case between Graph's answers.
    """
    fields = _mapping(raw)
    name = _text(fields, "name") or ""
    item_id = _text(fields, "id")
    if item_id is None or not _ID.match(item_id):
        raise UnreadableEntryError("", name, "id")
    key = key_of(drive, item_id)
    parent_id = _text(_mapping(fields.get("parentReference")), "id")
    parent_key = key_of(drive, parent_id) if parent_id is not None else None
    if fields.get("deleted") is not None:
        return Entry(key, Kind.DELETED, name, None)  # its parent is the root now, wherever it was
    if fields.get("root") is not None:
        return Entry(key, Kind.ROOT, "", None)
    if not name:
        raise UnreadableEntryError(key, name, "name")
    if fields.get("remoteItem") is not None:
        return _shortcut(_mapping(fields["remoteItem"]), key, name, parent_key)
    if fields.get("package") is None and fields.get("folder") is not None:
        count = _mapping(fields["folder"]).get("childCount")
        return Entry(key, Kind.FOLDER, name, parent_key, children=count if type(count) is int else -1)
    if fields.get("bundle") is not None:
        return Entry(key, Kind.IGNORED, name, parent_key)
    return _document(fields, key, name, parent_key, detect)


def key_of(drive: str, item_id: str) -> str:
    return f"{drive}:{normal_item_id(item_id)}"


def parts_of(key: str) -> tuple[str, str]:
    """Return a key's drive and item ids."""
    drive, _, item_id = key.partition(":")
    return drive, item_id


def normal_drive_id(drive_id: str) -> str:
    """Personal drives have hexadecimal ids, written in either case; ids of work accounts are told apart by case."""
    return drive_id.lower() if _PERSONAL_DRIVE.match(drive_id) else drive_id


def normal_item_id(item_id: str) -> str:
    """See normal_drive_id: a personal item's id begins with its drive's."""
    return item_id.lower() if _PERSONAL_ITEM.match(item_id) else item_id


def is_work(drive: str) -> bool:
    """Return whether a drive is kept by SharePoint, as those of work and school accounts are."""
    return drive.startswith("b!")


def refusal(external_hash: str) -> str | None:
    """Return why an item with this hash is never fetched; None when it may be."""
    return next((why for prefix, why in _NO_TEXT_PREFIXES.items() if external_hash.startswith(prefix)), None)


def _shortcut(remote: Mapping[str, Any], key: str, name: str, parent_key: str | None) -> Entry:
    remote_id = _text(remote, "id")
    drive_id = _text(_mapping(remote.get("parentReference")), "driveId")
    if remote_id is None or drive_id is None:
        raise UnreadableEntryError(key, name, "remoteItem")
    is_folder = remote.get("folder") is not None and remote.get("package") is None
    kind = Kind.SHARED_FOLDER if is_folder else Kind.SHARED_FILE
    return Entry(key, kind, name, parent_key, target=key_of(normal_drive_id(drive_id), remote_id))


def _document(fields: Mapping[str, Any], key: str, name: str, parent_key: str | None, detect: Detect) -> Entry:
    is_package = fields.get("package") is not None
    if not is_package and fields.get("file") is None:
        raise UnreadableEntryError(key, name, "file")
    mime_type = _text(_mapping(fields.get("file")), "mimeType") or _UNTOLD_MIME
    if is_package:
        mime_type = "application/onenote"
    elif mime_type == _UNTOLD_MIME:
        mime_type = detect(name, b"")
    size = fields.get("size")
    return Entry(
        key,
        Kind.PACKAGE if is_package else Kind.FILE,
        name,
        parent_key,
        external_hash=_hash(fields, is_package=is_package),
        mime_type=mime_type,
        size_bytes=size if type(size) is int and size >= 0 else -1,
        modified_at=_moment(fields.get("lastModifiedDateTime")),
        created_at=_moment(fields.get("createdDateTime")),
        url=_text(fields, "webUrl"),
        download_link=_text(fields, "@microsoft.graph.downloadUrl"),
    )


def _hash(fields: Mapping[str, Any], *, is_package: bool) -> str:
    """The best that is there. The eTag comes last: it changes with a rename as well."""
    stamp = _text(fields, "eTag") or _text(fields, "lastModifiedDateTime") or ""
    if is_package:
        return f"package:{stamp}"
    if fields.get("malware") is not None:
        return f"malware:{stamp}"
    if fields.get("size") == 0:
        return "sz:0"  # of empty files some have hashes and some have not
    hashes = _mapping(_mapping(fields.get("file")).get("hashes"))
    quick = _text(hashes, "quickXorHash")
    if quick is not None:
        return f"qx:{quick}"
    sha1 = _text(hashes, "sha1Hash")
    return f"sha1:{sha1.lower()}" if sha1 is not None else f"et:{stamp}"


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None or moment.year < 1970:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None
