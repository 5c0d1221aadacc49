"""The requests that reading a Drive takes, each with exactly the parameters it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workstation_pipelines.errors import SkipItemError, UnexpectedReplyError
from workstation_pipelines.sources.google_drive.files import (
    FILE_FIELDS,
    FOLDER,
    SHORTCUT,
    BadFieldError,
    DriveFile,
    parse,
)
from workstation_pipelines.sources.google_drive.position import FOLDERS, drive_of
from workstation_pipelines.sources.http import Call, PageTokens, VendorApi

ABOUT = Call("about.get", "GET", "/drive/v3/about", per_s=50, burst=50, pace="requests")
START_TOKEN = Call("changes.start", "GET", "/drive/v3/changes/startPageToken", per_s=50, burst=50, pace="requests")
CHANGES = Call("changes.list", "GET", "/drive/v3/changes", per_s=50, burst=50, pace="requests")
DRIVES = Call("drives.list", "GET", "/drive/v3/drives", per_s=50, burst=50, pace="requests")
DRIVE = Call("drives.get", "GET", "/drive/v3/drives/{drive_id}", per_s=50, burst=50, pace="requests")
FILES = Call("files.list", "GET", "/drive/v3/files", per_s=50, burst=50, pace="requests")
FILE = Call("files.get", "GET", "/drive/v3/files/{file_id}", per_s=50, burst=50, pace="requests")
MEDIA = Call("files.media", "GET", "/drive/v3/files/{file_id}", per_s=50, burst=50, pace="requests")
# Exports are made anew for each request and have a tighter limit of their own.
EXPORT = Call("files.export", "GET", "/drive/v3/files/{file_id}/export", per_s=10, burst=20, pace="exports")
EXPORT_LINK = Call("files.exportLink", "GET", "/", per_s=10, burst=20, base="export", pace="exports")
CALLS = (ABOUT, START_TOKEN, CHANGES, DRIVES, DRIVE, FILES, FILE, MEDIA, EXPORT, EXPORT_LINK)

PAGE_SIZE = 1000
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class FilesPage:
    files: list[Any]
    next_token: str | None
    is_incomplete: bool


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """`next_token` goes on within the log; `start_token` is given instead on the last page, to go on from another day."""

    changes: list[Any]
    next_token: str | None
    start_token: str | None


class DriveCalls:
    """Drive's answers, checked as far as what a page as a whole must have. A corpus is the user's or a shared drive's."""

    def __init__(self, api: VendorApi) -> None:
        self._api = api

    def account(self) -> dict[str, Any]:
        """Return the fields of the account's user."""
        fields = self._asked(ABOUT, {"fields": "user(displayName,emailAddress,permissionId)"})
        user = fields.get("user")
        if not isinstance(user, dict) or not isinstance(user.get("permissionId"), str):
            raise _unexpected(ABOUT, "no `user`")
        return user

    def root(self) -> DriveFile:
        """Return My Drive, which no listing shows."""
        try:
            return parse(self.file("root"))
        except (SkipItemError, BadFieldError) as error:
            raise UnexpectedReplyError(f"{error}, for My Drive itself: try again later", wait_s=_WAIT_S) from None

    def start_token(self, corpus: str) -> str:
        # A shared drive that was joined and left within a moment is refused; the next sync finds one of the two.
        fields = self._asked(START_TOKEN, {"supportsAllDrives": True, "driveId": drive_of(corpus)})
        return _required(fields, "startPageToken", START_TOKEN)

    def changes(self, corpus: str, token: str) -> ChangesPage:
        """Read one page of a log. A file that only moved to another log is not told apart without `includeCorpusRemovals`."""
        change = f"changeType,removed,fileId,driveId,file({FILE_FIELDS}),drive(id,name)"
        fields = self._changes(corpus, token, PAGE_SIZE, f"nextPageToken,newStartPageToken,changes({change})")
        next_token, start_token = _token(fields, "nextPageToken", CHANGES), _token(fields, "newStartPageToken", CHANGES)
        if next_token is None and start_token is None:
            raise _unexpected(CHANGES, "neither `nextPageToken` nor `newStartPageToken`")
        return ChangesPage(_list(fields, "changes", CHANGES), next_token, start_token)

    def has_changes(self, corpus: str, token: str) -> bool:
        fields = self._changes(corpus, token, 1, "nextPageToken,newStartPageToken,changes(changeType)")
        # A page may be empty and still not the last one.
        return bool(_list(fields, "changes", CHANGES)) or fields.get("nextPageToken") is not None

    def files(self, corpus: str, part: str, page_token: str | None) -> FilesPage:
        """List one page of a corpus, folders or all the rest. Shortcuts are left out: their targets come as themselves."""
        query = f"mimeType = '{FOLDER}' and trashed = false"
        if part != FOLDERS:
            query = f"mimeType != '{FOLDER}' and mimeType != '{SHORTCUT}' and trashed = false"
        return self._files(corpus, query, page_token, headers=None)

    def children(self, corpus: str, folder_id: str, key: str | None, page_token: str | None) -> FilesPage:
        # One folder a query: with several joined by `or` Drive has been seen to leave out files (rclone, drive backend).
        quoted = folder_id.replace("\\", "\\\\").replace("'", "\\'")
        query = f"'{quoted}' in parents and mimeType != '{SHORTCUT}' and trashed = false"
        return self._files(corpus, query, page_token, headers=resource_key_header(folder_id, key))

    def file(self, file_id: str, fields: str = FILE_FIELDS, *, resource_key: str | None = None) -> dict[str, Any]:
        params: dict[str, str | int | bool | None] = {"supportsAllDrives": True, "fields": fields}
        headers = resource_key_header(file_id, resource_key)
        return self._api.json(FILE, path={"file_id": file_id}, params=params, headers=headers)

    def drives(self) -> Iterator[tuple[str, str]]:
        """Yield id and name of each shared drive that the account is a member of."""
        page_token, page_tokens = None, PageTokens("google_drive drives.list")
        while True:
            fields = self._asked(
                DRIVES, {"pageSize": 100, "pageToken": page_token, "fields": "nextPageToken,drives(id,name)"}
            )
            for drive in _list(fields, "drives", DRIVES):
                found = drive_of_fields(drive)
                if found is not None:
                    yield found
            page_token = _token(fields, "nextPageToken", DRIVES)
            if page_token is None:
                return
            page_tokens.step(page_token)

    def is_member(self, drive_id: str) -> None:
        """Raises ItemGoneError or SkipItemError when the account is no member of a shared drive."""
        self._api.json(DRIVE, path={"drive_id": drive_id}, params={"fields": "id"})

    def _asked(self, call: Call, params: Mapping[str, str | int | bool | None]) -> dict[str, Any]:
        """Ask for what concerns the whole account, where a refusal is nothing to skip."""
        try:
            return self._api.json(call, params=params)
        except SkipItemError as error:
            raise UnexpectedReplyError(
                f"{error.message}, for the whole account: try again later", wait_s=_WAIT_S
            ) from None

    def _changes(self, corpus: str, token: str, page_size: int, fields: str) -> dict[str, Any]:
        return self._api.json(
            CHANGES,
            params={
                "pageToken": token,
                "pageSize": page_size,
                "driveId": drive_of(corpus),
                "includeRemoved": True,
                "includeCorpusRemovals": True,
                "restrictToMyDrive": False,
                "supportsAllDrives": True,
                "includeItemsFromAllDrives": True,
                "spaces": "drive",
                "fields": fields,
            },
        )

    def _files(
        self, corpus: str, query: str, page_token: str | None, *, headers: Mapping[str, str] | None
    ) -> FilesPage:
        drive_id = drive_of(corpus)
        fields = self._api.json(
            FILES,
            params={
                "q": query,
                "pageSize": PAGE_SIZE,
                "pageToken": page_token,
                "corpora": "user" if drive_id is None else "drive",
                "driveId": drive_id,
                "supportsAllDrives": True,
                "includeItemsFromAllDrives": True,
                "spaces": "drive",
                "fields": f"nextPageToken,incompleteSearch,files({FILE_FIELDS})",
            },
            headers=headers,
        )
        next_token = _token(fields, "nextPageToken", FILES)
        return FilesPage(_list(fields, "files", FILES), next_token, fields.get("incompleteSearch") is True)


def drive_of_fields(fields: object) -> tuple[str, str] | None:
    """Read id and name of a shared drive; None without an id."""
    if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
        return None
    name = fields.get("name")
    return fields["id"], name if isinstance(name, str) and name else fields["id"]


def resource_key_header(file_id: str, resource_key: str | None) -> dict[str, str] | None:
    if resource_key is None or not (resource_key.isascii() and resource_key.isprintable()):
        return None
    return {"X-Goog-Drive-Resource-Keys": f"{file_id}/{resource_key}"}


def _required(fields: Mapping[str, Any], name: str, call: Call) -> str:
    value = _token(fields, name, call)
    if value is None:
        raise _unexpected(call, f"no `{name}`")
    return value


def _token(fields: Mapping[str, Any], name: str, call: Call) -> str | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise _unexpected(call, f"an unusable `{name}`")


def _list(fields: Mapping[str, Any], name: str, call: Call) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise _unexpected(call, f"no list of `{name}`")
    return value


def _unexpected(call: Call, what: str) -> UnexpectedReplyError:
    return UnexpectedReplyError(f"google_drive {call.name}: the answer has {what}: try again later", wait_s=_WAIT_S)
