"""OneDrive, personal and work or school, by Microsoft Graph v1.0.

Delta semantics (learn.microsoft.com/graph/api/driveitem-delta, checked 2026-11-22): `root/delta` lists everything and is
the only complete listing; its nextLinks are followed as given, its deltaLink is the cursor. Items come in their latest
state, may repeat (the last one counts), with the root and ancestors among them, and without paths, since a renamed folder
says nothing of what lies below: paths are computed from ids. Work accounts leave the name out of a deleted item, personal
ones the size; its parent is the root by then. 410 (and a token refused otherwise) ends a cursor; the fresh link of its
Location is the same listing from the start, and has been broken, so that it is not used.

- Ids: personal ones are written in either case, so that they are compared in lower case; drive ids of items are not read.
- A folder deleted may be told of alone, one moved into the chosen folders never with its contents: see onedrive_listing.
- A shared item in one's drive is only a shortcut there: its content is in another drive, of which the feed says nothing,
  so that shared things are looked at once a day.
- Content comes from a short-lived link, which gets no token and is never stored: the one that the listing showed, held in
  memory, or that `/content` redirects to. Office files of SharePoint may differ from their hash (it writes properties
  into them while serving).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import blake2b, sha1
from posixpath import basename
from typing import Any, ClassVar

from pydantic import Field, field_validator

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Content, Cursor, Delta, Item, JobType, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import OAuthGrant
from workstation_pipelines.sources.http import Call, PageTokens, VendorApi
from workstation_pipelines.sources.onedrive import items
from workstation_pipelines.sources.onedrive.errors import LINK_REFUSED, classifier
from workstation_pipelines.sources.onedrive.hash import quick_xor_hash
from workstation_pipelines.sources.onedrive.items import Kind
from workstation_pipelines.sources.onedrive.links import DownloadLinks
from workstation_pipelines.sources.onedrive.listing import Listing, Requests
from workstation_pipelines.sources.onedrive.position import Position

DEFAULT_API_URL = "https://graph.microsoft.com"
_ITEM = "/v1.0/drives/{drive}/items/{item}"
_PER_S = 8.0  # SharePoint stops a user at 3,000 requests in 5 minutes; more than one program may be at work
DRIVE = Call("drive", "GET", "/v1.0/me/drive", _PER_S, pace="graph")
DELTA = Call("delta", "GET", "/v1.0/me/drive/root/delta", _PER_S, pace="graph")
DELTA_LINK = Call("delta_link", "GET", "/v1.0/me/drive/root/delta", _PER_S, pace="graph")
ITEM = Call("item", "GET", _ITEM, _PER_S, pace="graph")
BY_NAME = Call("by_name", "GET", _ITEM + ":/{name}", _PER_S, pace="graph")
CHILDREN = Call("children", "GET", _ITEM + "/children", _PER_S, pace="graph")
CONTENT = Call("content", "GET", _ITEM + "/content", _PER_S, burst=20)
CALLS = (DRIVE, DELTA, DELTA_LINK, ITEM, BY_NAME, CHILDREN, CONTENT)

PAGE_SIZES = (200, 50, 10)
"""The first page is asked for again with fewer items when Graph takes too long over it (504)."""

OAUTH = OAuthGrant(
    authorize_url="https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
    token_url="https://login.microsoftonline.com/common/oauth2/v2.0/token",  # noqa: S106 - an address, no secret
    scopes=("Files.Read.All", "offline_access"),
    authorize_params=(("prompt", "select_account"),),
    rotates=True,
    refresh_scopes=True,
    redirect_host="localhost",  # the only host for which Microsoft takes any port
)

_SUFFICIENT = frozenset({"files.read.all", "files.readwrite.all"})
_OFFICE = re.compile(r"\.(do[ct][mx]?|p[op][ts][mx]?|xl[st][bmx]?|vsdx)\Z", re.IGNORECASE)
_HEAD_BYTES = 8192


class OneDriveConfig(VendorConfig):
    """What a person may set for a OneDrive."""

    folders: tuple[str, ...] = Field((), max_length=100)
    """Only these and what is below them: paths such as /Documents/Clients, which follow the name, or ids, which follow the
    folder. None means the whole drive."""

    @field_validator("folders")
    @classmethod
    def _are_folders(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        if any(not folder or (not folder.startswith("/") and "/" in folder) for folder in folders):
            raise ValueError("holds one that is neither a path from the root, as /Documents/Clients, nor an id")
        return folders


class OneDrive:
    """The source `onedrive`: one account's own drive, and what is shared into it."""

    source_type: ClassVar[SourceType] = SourceType.ONEDRIVE
    delta: ClassVar[Delta] = Delta.FEED
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = PAGE_SIZES[0]
    fetch_threads: ClassVar[int] = 4  # enough for 8 requests a second of half a second each
    oauth: ClassVar[OAuthGrant] = OAUTH
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL}

    def __init__(self, config: OneDriveConfig, context: SourceContext) -> None:
        if context.credentials is None:
            raise ReauthorizeError("onedrive: no account is connected; connect it: `workstation source connect NAME`")
        self._config = config
        self._context = context
        self._credentials = context.credentials
        self._links = DownloadLinks(context.clock)
        self._listed_fields = items.LISTED_FIELDS
        self._urls = {**self.default_urls, **context.urls}
        self._api = VendorApi(
            provider="onedrive",
            account=context.account,
            urls=self._urls,
            calls=CALLS,
            credentials=context.credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=classifier(context.clock),
            rates=context.rates,
        )

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> OneDrive:
        return cls(OneDriveConfig.parse(config), context)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        """Never: the feed tells of everything in the drive, and what it is silent about is looked at every day."""
        return self._config.reconciled_every(None)

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        """Name the drive, see that the feed answers and that the chosen folders are there."""
        drive = self._api.json(DRIVE)
        drive_id = self._drive_id(drive)
        first = self._api.json(DELTA, params={"$top": 5, "$select": "id,name"})
        for folder in self._config.folders:
            self._find(drive_id, folder)
        owner = drive.get("owner")
        user = owner.get("user") if isinstance(owner, Mapping) else None
        named = user if isinstance(user, Mapping) else {}
        label = next((named[key] for key in ("email", "displayName") if isinstance(named.get(key), str)), drive_id)
        granted = self._credentials.scopes()
        short = {scope.rpartition("/")[2].lower() for scope in granted}
        value = first.get("value")
        return Account(
            external_account=drive_id,
            label=label,
            details={"drive_type": str(drive.get("driveType"))},
            scopes=sorted(granted),
            missing_scopes=["Files.Read.All"] if granted and not short & _SUFFICIENT else [],
            sample=f"{len(value) if isinstance(value, list) else 0} items on the first, short page of the listing",
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """See whether the feed has anything; what is shared is due once a day. Nothing moves by asking."""
        today = f"{self._context.clock():%Y-%m-%d}"
        try:
            position = Position.of(cursor or {})
            if position.is_listing or position.is_closing or position.link is None:
                raise CursorExpiredError("onedrive: there is a listing to be finished")
            reply = self._delta(position.link)
        except CursorExpiredError:
            return f"list:{self._context.clock():%Y-%m-%dT%H}"
        raws = reply.get("value")
        seen, _, _ = (since or "").partition("@")
        if not isinstance(raws, list):
            raise UnexpectedReplyError("onedrive delta_link: a page comes without `value`", wait_s=60)
        if (
            not all(isinstance(raw, Mapping) and raw.get("root") is not None for raw in raws)
            or "@odata.nextLink" in reply
        ):
            told = [[raw.get(key) for key in ("id", "eTag", "deleted")] for raw in raws if isinstance(raw, Mapping)]
            seen = blake2b(json.dumps([position.link, told]).encode(), digest_size=12).hexdigest()
        return f"{seen}@{today if position.has_shared else ''}"

    def start_cursor(self) -> Cursor | None:
        return None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """List everything, or what the feed has; see onedrive_listing for the order of things."""
        listing = Listing(
            self._start_of_listing() if cursor is None else Position.of(cursor),
            known,
            Requests(self._delta, self._children, self._item),
            chosen=self._config.folders,
            detect=self._context.detect,
            today=f"{self._context.clock():%Y-%m-%d}",
            page_size=self.page_size,
            links=self._links,
        )
        yield from listing.pages()

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        try:
            self._refuse(item)
        except SkipItemError:
            return ()
        return (CONTENT,)

    def fetch(self, item: Item) -> Content:
        """Download one file, and hold it against its hash; see the module for Office files."""
        self._refuse(item)
        try:
            body = self._content(item.external_id)
        except (ReauthorizeError, SkipItemError) as error:
            if isinstance(error, SkipItemError) and error.reason not in ("forbidden", "gone", LINK_REFUSED):
                raise
            body = None  # the link that it was redirected to has died, or it is gone: the item itself will tell
        external_hash = item.external_hash
        if body is None or not is_hash_of(external_hash, body):
            external_hash, body = self._again(item, body)
        name = basename(item.external_path)
        mime_type = item.mime_type
        if mime_type == "application/octet-stream":
            mime_type = self._context.detect(name, body[:_HEAD_BYTES])
        return Content(body, name, mime_type, external_hash)

    def close(self) -> None:
        self._api.close()

    def _start_of_listing(self) -> Position:
        return Position(self._drive_id(self._api.json(DRIVE)), is_listing=True)

    def _refuse(self, item: Item) -> None:
        reason = items.refusal(item.external_hash)
        if reason == "malware":
            raise UnsupportedContentError(
                f"onedrive: {item.external_id} is said to be malware: not read", reason=reason
            )
        if reason is not None or not self._context.has_text(item.mime_type):
            raise UnsupportedContentError(
                f"onedrive: {item.external_id} is {item.mime_type}, which holds no text that can be read",
                reason="unsupported",
            )
        if item.size_bytes > self._config.max_file_bytes:
            raise ItemTooLargeError(
                f"onedrive: {item.external_id} has {item.size_bytes} bytes, above `max_file_bytes` ="
                f" {self._config.max_file_bytes}: raise that, or leave it out",
                reason="too_large",
            )

    def _again(self, item: Item, body: bytes | None) -> tuple[str, bytes]:
        """Ask what the item is now, and download it once more unless the bytes in hand turn out to be right."""
        drive, _ = items.parts_of(item.external_id)
        try:
            entry = items.read(self._item(item.external_id), drive, self._context.detect)
        except items.UnreadableEntryError as error:
            raise SourceUnavailableError(f"onedrive item: {item.external_id}: {error}", wait_s=60) from None
        if entry.kind not in (Kind.FILE, Kind.PACKAGE):
            raise ItemGoneError(f"onedrive: {item.external_id} is no file any more", reason="gone")
        self._refuse(entry.item(external_path=item.external_path, place=item.place))
        # SharePoint writes into Office files while serving them: no bytes ever have the hash, which stands for them still.
        is_rewritten = items.is_work(drive) and _OFFICE.search(entry.name) is not None
        is_same = entry.external_hash == item.external_hash
        if body is None or not (is_hash_of(entry.external_hash, body) or (is_rewritten and is_same)):
            body = self._content(item.external_id)
        if is_hash_of(entry.external_hash, body) or is_rewritten:
            return entry.external_hash, body
        raise UnreadableContentError(
            f"onedrive: {item.external_id} does not arrive as OneDrive's hash says it is: open it there and save it anew",
            reason="hash_mismatch",
        )

    def _content(self, key: str) -> bytes:
        drive, item_id = items.parts_of(key)
        path = {"drive": drive, "item": item_id}
        body = self._linked(key)
        if body is not None:
            return body
        return self._api.download(CONTENT, limit_bytes=self._config.max_file_bytes, path=path).body

    def _linked(self, key: str) -> bytes | None:
        """Use the link that the item was listed with, if it is still good for anything."""
        link = self._links.take(key)
        if link is None:
            return None
        try:
            return self._api.download_at(CONTENT, link, limit_bytes=self._config.max_file_bytes).body
        except ItemTooLargeError:
            raise
        except (SkipItemError, ReauthorizeError, UnexpectedReplyError):
            return None  # it ran out, or leads nowhere: `/content` gives a new one, or says what is wrong

    def _item(self, key: str) -> dict[str, Any]:
        drive, item_id = items.parts_of(key)
        return self._api.json(ITEM, path={"drive": drive, "item": item_id}, params={"$select": items.FIELDS})

    def _children(self, key: str) -> Iterator[dict[str, Any]]:
        drive, item_id = items.parts_of(key)
        reply = self._listed(CHILDREN, self.page_size, path={"drive": drive, "item": item_id})
        tokens = PageTokens("onedrive children")
        yield reply
        while isinstance(link := reply.get("@odata.nextLink"), str):
            reply = self._api.json_at(CHILDREN, tokens.step(link))
            yield reply

    def _delta(self, link: str | None) -> dict[str, Any]:
        """Get a page of the feed. A link that would not be followed is not accepted either, for it becomes a cursor."""
        if link is not None and not self._is_ours(link):
            raise CursorExpiredError("onedrive: its cursor belongs to another address of Microsoft Graph")
        reply = self._first_page() if link is None else self._api.json_at(DELTA_LINK, link)
        links = [reply[name] for name in ("@odata.nextLink", "@odata.deltaLink") if name in reply]
        if not all(isinstance(one, str) and self._is_ours(one) for one in links):
            raise UnexpectedReplyError(
                "onedrive delta: it names a link to another host, which is not followed", wait_s=60
            )
        return reply

    def _is_ours(self, link: str) -> bool:
        return link.startswith(self._urls["api"].rstrip("/") + "/")

    def _first_page(self) -> dict[str, Any]:
        for size in PAGE_SIZES[:-1]:
            try:
                return self._listed(DELTA, size)
            except SourceUnavailableError as error:
                if error.details.get("status") != 504:
                    raise
        return self._listed(DELTA, PAGE_SIZES[-1])

    def _listed(self, call: Call, size: int, *, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Begin a listing. Should Graph refuse to be asked for download links, which no page promises, it goes without."""
        try:
            return self._api.json(call, path=path, params={"$top": size, "$select": self._listed_fields})
        except UnexpectedReplyError as error:
            if error.details.get("status") != 400 or self._listed_fields == items.FIELDS:
                raise
        self._listed_fields = items.FIELDS
        return self._listed(call, size, path=path)

    def _drive_id(self, drive: Mapping[str, Any]) -> str:
        drive_id = drive.get("id")
        if not isinstance(drive_id, str) or not drive_id:
            raise UnexpectedReplyError("onedrive drive: the answer has no `id`", wait_s=60)
        return items.normal_drive_id(drive_id)

    def _find(self, drive_id: str, folder: str) -> None:
        """Go down a path name by name. Raises InvalidRequestError for a folder that is not there."""
        try:
            if not folder.startswith("/"):
                self._api.json(ITEM, path={"drive": drive_id, "item": folder}, params={"$select": "id,name"})
                return
            item_id = "root"
            for name in folder.strip("/").split("/") if folder.strip("/") else ():
                path = {"drive": drive_id, "item": item_id, "name": name}
                found = self._api.json(BY_NAME, path=path, params={"$select": "id,name"}).get("id")
                item_id = found if isinstance(found, str) else ""
        except SkipItemError:
            raise InvalidRequestError(f"onedrive: `folders` names {folder}, which is not in this drive") from None


def is_hash_of(external_hash: str, body: bytes) -> bool:
    """Return whether these bytes may be what the hash stands for; one that says nothing of bytes fits them all."""
    kind, _, value = external_hash.partition(":")
    if kind == "qx":
        return quick_xor_hash(body) == value
    if kind == "sha1":
        return sha1(body, usedforsecurity=False).hexdigest() == value
    return kind != "sz" or len(body) == int(value)
