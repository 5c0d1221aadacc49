"""What Dropbox says of files and folders, read with suspicion: a bad entry is one failure, a bad page is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from workstation_pipelines.errors import UnexpectedReplyError
from workstation_pipelines.model import Item, ItemFailure, ItemType

WEB_URL = "https://www.dropbox.com/home"

HASHED = "dbx:"
"""Prefix of an external hash that is the vendor's content hash, against which a download is verified."""

REVISED = "rev:"
"""Prefix of an external hash that names a revision, for files that have no content hash."""

EXPORTED = "export:"
"""Prefix of an external hash of a file that can only be exported: `export:<format>:<revision>`."""

DEFAULT_FORMAT = "*"
NO_FORMAT = "-"
FORMATS: Mapping[str, tuple[str, str]] = {
    "markdown": ("text/markdown", ".md"),
    "html": ("text/html", ".html"),
    "docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    "pptx": ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
    "plain_text": ("text/plain", ".txt"),
    "txt": ("text/plain", ".txt"),
    "csv": ("text/csv", ".csv"),
    "pdf": ("application/pdf", ".pdf"),
}
"""Export formats, those that keep most of a text's structure first, with what their bytes are."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file. `path` is lower case and tells where it lies, `shown_path` is for display: only its last step is reliable.

    `export_as` is the format of an export by default, `export_options` are the formats to choose from.
    """

    id: str
    path: str
    shown_path: str
    name: str
    revision: str
    content_hash: str | None
    size_bytes: int
    modified_at: datetime | None
    is_downloadable: bool = True
    export_as: str | None = None
    export_options: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FolderEntry:
    path: str
    shown_path: str
    name: str


@dataclass(frozen=True, slots=True)
class DeletedEntry:
    """Something was at `path`, a file or a folder with all below it; the vendor does not say which or under what id."""

    path: str


Entry = FileEntry | FolderEntry | DeletedEntry


@dataclass(frozen=True, slots=True)
class EntriesPage:
    """One answer of list_folder or list_folder/continue. `unread_ids` are files among `failures` that do exist."""

    entries: Sequence[Entry]
    cursor: str
    has_more: bool
    failures: Sequence[ItemFailure] = field(default=())
    unread_ids: Sequence[str] = field(default=())


def read_page(fields: Mapping[str, Any]) -> EntriesPage:
    """Raises UnexpectedReplyError when the page itself lacks something: then nothing is concluded from it."""
    entries, cursor, has_more = fields.get("entries"), fields.get("cursor"), fields.get("has_more")
    if not isinstance(entries, list) or not isinstance(has_more, bool) or not isinstance(cursor, str) or not cursor:
        raise UnexpectedReplyError("dropbox list_folder: the answer lacks `entries`, `cursor` or `has_more`", wait_s=60)
    read: list[Entry] = []
    failures: list[ItemFailure] = []
    unread_ids: list[str] = []
    for raw in entries:
        entry = _entry(raw) if isinstance(raw, dict) else None
        if entry is not None:
            read.append(entry)
            continue
        failures.append(_failure(raw if isinstance(raw, dict) else {}))
        if isinstance(raw, dict) and raw.get(".tag") != "deleted" and _text(raw, "id"):
            unread_ids.append(str(raw["id"]))
    return EntriesPage(read, cursor, has_more, failures, unread_ids)


def item_of(file: FileEntry, external_path: str, detect: Callable[[str, bytes], str]) -> Item:
    """Describe a file; its MIME type is that of what a fetch would give."""
    export = _export_format(file)
    mime_type = detect(file.name, b"")
    if not file.is_downloadable:
        external_hash = f"{EXPORTED}{export}:{file.revision}"
        mime_type = FORMATS.get(_effective_format(file, export), (mime_type, ""))[0]
    else:
        external_hash = HASHED + file.content_hash if file.content_hash else REVISED + file.revision
    folder, _, name = file.path.rpartition("/")
    return Item(
        external_id=file.id,
        external_path=external_path,
        external_hash=external_hash,
        item_type=ItemType.FILE,
        title=file.name,
        mime_type=mime_type,
        # An export has another size than the cloud document that it is made of.
        size_bytes=file.size_bytes if file.is_downloadable else -1,
        external_modified_at=file.modified_at,
        external_url=f"{WEB_URL}{quote(folder, errors='replace')}?preview={quote(name, safe='', errors='replace')}",
        place=file.path,
    )


def export_format_of(external_hash: str) -> str | None:
    """Return the format in which an item must be exported; None when it is downloaded."""
    if not external_hash.startswith(EXPORTED):
        return None
    return external_hash.removeprefix(EXPORTED).partition(":")[0]


def _export_format(file: FileEntry) -> str:
    best = next((name for name in FORMATS if name in file.export_options), None)
    if best is not None:
        return best
    return DEFAULT_FORMAT if file.export_as else NO_FORMAT


def _effective_format(file: FileEntry, export: str) -> str:
    return (file.export_as or "") if export == DEFAULT_FORMAT else export


def _entry(raw: Mapping[str, Any]) -> Entry | None:
    path = _path(raw)
    if path is None:
        return None
    kind = raw.get(".tag")
    if kind == "deleted":
        return DeletedEntry(path)
    name = _text(raw, "name")
    if name is None:
        return None
    shown_path = _text(raw, "path_display") or path
    if kind == "folder":
        return FolderEntry(path, shown_path, name)
    external_id, revision = _text(raw, "id"), _text(raw, "rev")
    if kind != "file" or external_id is None or revision is None:
        return None
    size = raw.get("size")
    export = raw.get("export_info")
    export = export if isinstance(export, dict) else {}
    options = export.get("export_options")
    return FileEntry(
        id=external_id,
        path=path,
        shown_path=shown_path,
        name=name,
        revision=revision,
        content_hash=_text(raw, "content_hash"),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else -1,
        modified_at=_moment(raw.get("server_modified")),
        is_downloadable=raw.get("is_downloadable") is not False,
        export_as=_text(export, "export_as"),
        export_options=[option for option in options if isinstance(option, str)] if isinstance(options, list) else (),
    )


def _path(raw: Mapping[str, Any]) -> str | None:
    path = _text(raw, "path_lower")
    return path if path is not None and path.startswith("/") else None


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    """A string that can be stored: what no encoding can hold is replaced, the same way wherever it occurs."""
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        return None
    return (
        value if value.isascii() and "\0" not in value else value.encode("utf-8", "replace").decode().replace("\0", "")
    )


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment >= _EPOCH else None


def _failure(raw: Mapping[str, Any]) -> ItemFailure:
    path = _text(raw, "path_display") or _text(raw, "path_lower") or _text(raw, "name") or ""
    external_id = _text(raw, "id") or f"unread:{blake2b(path.encode(), digest_size=12).hexdigest()}"
    if raw.get("path_lower", "") is None:
        reason, why = "not_mounted", "it lies outside the folders that this account has mounted: mount its folder"
    else:
        reason, why = "unreadable_entry", "Dropbox described it incompletely: nothing to do if the next sync succeeds"
    return ItemFailure(
        external_id=external_id,
        external_path=path.lstrip("/"),
        stage="list",
        error_class="UnexpectedReplyError",
        reason=reason,
        message=f"{external_id}: {why}.",
        permanent=reason == "not_mounted",
    )
