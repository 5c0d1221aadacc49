"""Dropbox, by the HTTP API v2: one recursive listing, whose last cursor is the position in the change feed.

https://www.dropbox.com/developers/documentation/http/documentation (files/list_folder, files/download, users), and
https://developers.dropbox.com/dbx-team-files-guide for team spaces; both checked 2026-11-22.

- Entries are applied in their order. A deletion names a path, not an id, and a rename is a deletion and a file with the
  same id: see position.py. Items are known by id, their `place` is the lower-case path.
- Of `path_display` only the last step is reliable, and a change of case alone is not in the feed: paths are put together
  from the folders' own names, and mended when a folder shows another case.
- `reset` means that everything is listed anew. A 409 is an error of the endpoint, and is never tried again as a conflict.
- In a team space every call names the root namespace. Another root, or another account, makes a cursor useless.
- `server_modified` alone is a time; `client_modified` is whatever a client wrote. Links are never made.
- Downloads are verified by content_hash. What cannot be downloaded (Paper, Google Docs) is exported.
- The recursive listing of a very large tree may fail at the vendor; folder by folder is not tried instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Any, ClassVar

from pydantic import field_validator

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemTooLargeError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Content, Cursor, Delta, Item, JobType, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import CredentialProvider, OAuthGrant
from workstation_pipelines.sources.dropbox.entries import (
    DEFAULT_FORMAT,
    EXPORTED,
    FORMATS,
    HASHED,
    NO_FORMAT,
    REVISED,
    EntriesPage,
    export_format_of,
    read_page,
)
from workstation_pipelines.sources.dropbox.errors import classifier
from workstation_pipelines.sources.dropbox.feed import Feed
from workstation_pipelines.sources.dropbox.hash import content_hash
from workstation_pipelines.sources.dropbox.position import Emptied, Position
from workstation_pipelines.sources.http import Call, Download, PageTokens, VendorApi

DEFAULT_API_URL = "https://api.dropboxapi.com"
DEFAULT_CONTENT_URL = "https://content.dropboxapi.com"

ACCOUNT = Call("users.get_current_account", "POST", "/2/users/get_current_account", per_s=2)
LIST = Call("files.list_folder", "POST", "/2/files/list_folder", per_s=5, pace="list")
CONTINUE = Call("files.list_folder.continue", "POST", "/2/files/list_folder/continue", per_s=5, pace="list")
DOWNLOAD = Call("files.download", "POST", "/2/files/download", per_s=10, base="content", pace="download")
EXPORT = Call("files.export", "POST", "/2/files/export", per_s=2, base="content", pace="download")
CALLS = (ACCOUNT, LIST, CONTINUE, DOWNLOAD, EXPORT)

OAUTH = OAuthGrant(
    authorize_url="https://www.dropbox.com/oauth2/authorize",
    token_url="https://api.dropboxapi.com/oauth2/token",  # noqa: S106 - an address
    scopes=("account_info.read", "files.metadata.read", "files.content.read"),
    authorize_params=(("token_access_type", "offline"),),
)

_HEAD_BYTES = 8192
_SAMPLE_ENTRIES = 25


class DropboxConfig(VendorConfig):
    """`folders` are paths such as `/Team/Reports`; none means the whole Dropbox."""

    folders: tuple[str, ...] = ()
    include_shared: bool = True
    """Whether folders that others share with this account, and team folders, are listed."""

    @field_validator("folders")
    @classmethod
    def _outermost(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        """Return the folders in one order and spelling, without those that lie inside another."""
        paths: dict[str, str] = {}
        for folder in folders:
            path = folder.rstrip("/")
            if not path:
                return ()
            if not path.startswith("/") or "//" in path:
                raise ValueError("paths start with a slash, such as /Team/Reports")
            paths.setdefault(path.lower(), path)
        return tuple(paths[key] for key in sorted(paths) if not any(key.startswith(other + "/") for other in paths))


@dataclass(frozen=True, slots=True)
class _Identity:
    """`root` is the namespace to name in each call; None where paths are relative to the account's own anyway."""

    account_id: str
    root: str | None
    fields: Mapping[str, Any]


class Dropbox:
    """The source `dropbox`."""

    source_type: ClassVar[SourceType] = SourceType.DROPBOX
    delta: ClassVar[Delta] = Delta.FEED
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 2000
    fetch_threads: ClassVar[int] = 4  # enough for 10 downloads a second of 400 ms each
    oauth: ClassVar[OAuthGrant] = OAUTH
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL, "content": DEFAULT_CONTENT_URL}

    def __init__(self, config: DropboxConfig, context: SourceContext, credentials: CredentialProvider) -> None:
        self._config = config
        self._context = context
        self._credentials = credentials
        self._folders = config.folders or ("",)
        self._identity: _Identity | None = None
        self._api = VendorApi(
            provider=self.source_type.value,
            account=context.account,
            urls={**self.default_urls, **context.urls},
            calls=CALLS,
            credentials=credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=classifier(context.clock),
            rates=context.rates,
        )

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> Dropbox:
        if context.credentials is None:
            raise ReauthorizeError("this Dropbox is not connected: connect it: `workstation source connect NAME`")
        return cls(DropboxConfig.parse(config), context, context.credentials)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        return self._config.reconciled_every(None)

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        """Name the account and look into the first level of each picked folder."""
        identity = self._read_identity()
        counts = [self._count_entries(folder, identity.root) for folder in self._folders]
        granted = self._credentials.scopes()
        email, kind = identity.fields.get("email"), identity.fields.get("account_type")
        return Account(
            external_account=identity.account_id,
            label=email if isinstance(email, str) and email else identity.account_id,
            details={
                "account_type": kind.get(".tag") if isinstance(kind, dict) else None,
                "is_team_space": identity.root is not None,
            },
            scopes=sorted(granted),
            missing_scopes=[scope for scope in OAUTH.scopes if granted and scope not in granted],
            sample=", ".join(
                f"{count} in {folder or 'the top folder'}" for folder, count in zip(self._folders, counts, strict=True)
            ),
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """One request for each picked folder, until one has news."""
        if cursor is None:
            return f"unlisted:{self._context.clock().isoformat()}"
        try:
            position, _ = Position.parse(cursor)
            for folder, vendor_cursor in position.cursors.items():
                read = replace(self._continue(folder, vendor_cursor, position.root), cursor="")
                if read.entries or read.failures or read.has_more:
                    return _digest(repr((vendor_cursor, read)))
        except CursorExpiredError:
            return "expired:" + _digest(json.dumps(cursor, sort_keys=True))
        return since if since is not None else _digest(json.dumps(cursor, sort_keys=True))

    def start_cursor(self) -> Cursor | None:
        """The end of a listing is the position: the same cursor pages through it and then through what changed meanwhile."""
        return None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        position, emptied = self._start(cursor)
        if not position.is_listing and any(True for _ in known.unseen()):
            # A listing that had ended when its run was killed: it is still to be said that it is complete.
            position = replace(position, is_listing=True)
        feed = Feed(
            position,
            emptied,
            known,
            resumed_from=cursor,
            detect=self._context.detect,
            page_size=self.page_size,
        )
        for number, folder in enumerate(self._folders, 1):
            for read in self._answers(folder, position):
                is_last = number == len(self._folders) and not read.has_more
                yield from feed.pages(folder, read, is_last=is_last)

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        export_format = export_format_of(item.external_hash)
        if export_format == NO_FORMAT or not self._context.has_text(item.mime_type):
            return ()
        if item.size_bytes > self._config.max_file_bytes:
            return ()
        return (DOWNLOAD,) if export_format is None else (EXPORT,)

    def fetch(self, item: Item) -> Content:
        export_format = export_format_of(item.external_hash)
        if export_format == NO_FORMAT or not self._context.has_text(item.mime_type):
            raise UnsupportedContentError(
                f"{item.external_id}: {item.mime_type} has no text to read", reason="unsupported_type"
            )
        if item.size_bytes > self._config.max_file_bytes:
            raise ItemTooLargeError(
                f"{item.external_id} has {item.size_bytes} bytes, above `max_file_bytes` ="
                f" {self._config.max_file_bytes}: raise that, or leave it out",
                reason="too_large",
            )
        if export_format is None:
            return self._downloaded(item)
        return self._exported(item, export_format)

    def close(self) -> None:
        self._api.close()

    def _start(self, cursor: Cursor | None) -> tuple[Position, Emptied]:
        identity = self._read_identity()
        if cursor is None:
            return Position(identity.account_id, identity.root), Emptied()
        position, emptied = Position.parse(cursor)
        if position.account_id != identity.account_id:
            raise CursorExpiredError("dropbox: it is connected as another account now, so it is listed anew")
        if position.root != identity.root:
            raise CursorExpiredError("dropbox: the account's root is another one now, so it is listed anew")
        is_stranger = bool(position.cursors.keys() - set(self._folders))
        if is_stranger or (not position.is_listing and len(position.cursors) != len(self._folders)):
            raise CursorExpiredError("dropbox: other folders were picked, so it is listed anew")
        return position, emptied

    def _answers(self, folder: str, position: Position) -> Iterator[EntriesPage]:
        """List a folder, or go on where it stands, to the end. Raises UnexpectedReplyError when a cursor comes back."""
        tokens = PageTokens("dropbox files.list_folder")
        cursor = position.cursors.get(folder)
        has_more = True
        while has_more:
            if cursor is None:
                read = self._list(folder, position.root, is_recursive=True, limit=self.page_size)
            else:
                read = self._continue(folder, tokens.step(cursor), position.root)
            yield read
            cursor, has_more = read.cursor, read.has_more

    def _list(self, folder: str, root: str | None, *, is_recursive: bool, limit: int) -> EntriesPage:
        body = {
            "path": folder,
            "recursive": is_recursive,
            "include_deleted": False,
            "include_mounted_folders": self._config.include_shared,
            "include_non_downloadable_files": True,
            "limit": limit,
        }
        try:
            return self._read(LIST, folder, body, root)
        except CursorExpiredError:
            # There is no cursor yet: the root has changed since it was read a moment ago.
            raise SourceUnavailableError(
                "dropbox files.list_folder: the account's root is changing: try again"
            ) from None

    def _continue(self, folder: str, cursor: str, root: str | None) -> EntriesPage:
        return self._read(CONTINUE, folder, {"cursor": cursor}, root)

    def _read(self, call: Call, folder: str, body: Mapping[str, Any], root: str | None) -> EntriesPage:
        try:
            return read_page(self._api.json(call, body=body, headers=_root_header(root)))
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{folder or 'the top folder'}: {error.message}") from None

    def _count_entries(self, folder: str, root: str | None) -> str:
        read = self._list(folder, root, is_recursive=False, limit=_SAMPLE_ENTRIES)
        return f"{len(read.entries)}{' or more' if read.has_more else ''} files and folders"

    def _read_identity(self) -> _Identity:
        fields = self._api.json(ACCOUNT)
        account_id = fields.get("account_id")
        if not isinstance(account_id, str) or not account_id:
            raise UnexpectedReplyError("dropbox users.get_current_account: the answer lacks `account_id`", wait_s=60)
        info = fields.get("root_info")
        info = info if isinstance(info, dict) else {}
        root, home = info.get("root_namespace_id"), info.get("home_namespace_id")
        is_elsewhere = isinstance(root, str) and root != home
        self._identity = _Identity(account_id, root if is_elsewhere else None, fields)
        return self._identity

    def _downloaded(self, item: Item) -> Content:
        """Verify the bytes against the hash that came with them, or else the listing's: a new version has a new hash."""
        listed_hash = item.external_hash.removeprefix(HASHED) if item.external_hash.startswith(HASHED) else None
        for _ in range(2):
            download, told = self._content(DOWNLOAD, {"path": item.external_id})
            actual_hash = content_hash(download.body)
            if actual_hash == (_text(told, "content_hash") or listed_hash or actual_hash):
                break
        else:
            raise _mismatch(item)
        external_hash = HASHED + actual_hash
        if listed_hash is None:
            external_hash = REVISED + (_text(told, "rev") or item.external_hash.removeprefix(REVISED))
        name = _text(told, "name") or item.external_path.rpartition("/")[2]
        mime_type = self._context.detect(name, download.body[:_HEAD_BYTES])
        return Content(download.body, name, mime_type, external_hash)

    def _exported(self, item: Item, export_format: str) -> Content:
        arg = {"path": item.external_id}
        if export_format != DEFAULT_FORMAT:
            arg["export_format"] = export_format
        for _ in range(2):
            download, told = self._content(EXPORT, arg)
            export = _object(told, "export_metadata")
            actual_hash = content_hash(download.body)
            if actual_hash == (_text(export, "export_hash") or actual_hash):
                break
        else:
            raise _mismatch(item)
        listed_revision = item.external_hash.rpartition(":")[2]
        revision = _text(_object(told, "file_metadata"), "rev") or listed_revision
        name = _text(export, "name") or item.title
        known_type = FORMATS.get(export_format)
        mime_type = known_type[0] if known_type else self._context.detect(name, download.body[:_HEAD_BYTES])
        return Content(download.body, name, mime_type, f"{EXPORTED}{export_format}:{revision}")

    def _content(self, call: Call, arg: Mapping[str, str]) -> tuple[Download, Mapping[str, Any]]:
        """Return a body and what the vendor says of it; the root is read again once when it turns out to be an old one."""
        identity = self._identity or self._read_identity()
        for is_second in (False, True):
            headers = {"Dropbox-API-Arg": _header_safe(arg), **_root_header(identity.root)}
            try:
                download = self._api.download(call, limit_bytes=self._config.max_file_bytes, headers=headers)
            except CursorExpiredError:
                if is_second:
                    break
                identity = self._read_identity()
                continue
            return download, _result(download)
        raise SourceUnavailableError(f"dropbox {call.name}: the account's root is changing: try again later")


def _root_header(root: str | None) -> dict[str, str]:
    return {} if root is None else {"Dropbox-API-Path-Root": _header_safe({".tag": "root", "root": root})}


def _header_safe(value: Mapping[str, str]) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")


def _result(download: Download) -> Mapping[str, Any]:
    try:
        told = json.loads(download.headers.get("dropbox-api-result", ""))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _mismatch(item: Item) -> UnreadableContentError:
    return UnreadableContentError(
        f"{item.external_id}: twice its bytes did not have the hash that Dropbox names: it is tried again later",
        reason="hash_mismatch",
        transient=True,
    )


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=12).hexdigest()
