"""Gmail, API v1: one item a thread, kept in step by the mailbox's history.

https://developers.google.com/workspace/gmail/api/guides/sync and the discovery document, revision 20261005 (2026-11-22).

- `historyId` is taken before the listing. History is mailbox-wide, lasts about a week, and answers 404 when it is too old;
  nothing else lists everything anew. An empty mailbox has a position too.
- `messages.list` tells ids only, newest message first, drafts and chats among them: these are listed once more by their
  labels and taken out. `labelIds` means all of them, so each label that is wanted is listed by itself.
- A message never changes, so a thread is the ids of its messages that count (scope.py): read, starred, archived
  fetch nothing. A save of a draft changes its id; drafts are never read.
- A query cannot be evaluated against history: when anything relevant happened it is asked again.
- Attachment ids change with every answer; what identifies an attachment is message, part and file name.
- Quota is counted in units: 6,000 a minute and user for new projects, 15,000 and smaller costs for older ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Any, ClassVar, TypeVar

from pydantic import Field, field_validator

from workstation_pipelines.errors import CursorExpiredError, ReauthorizeError, UnexpectedReplyError
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Cursor,
    Delta,
    Item,
    ItemFailure,
    ItemType,
    JobType,
    Page,
    SourceType,
    SyncStatus,
)
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import OAuthGrant
from workstation_pipelines.sources.gmail import scope
from workstation_pipelines.sources.gmail.calls import CALLS, HISTORY, LABELS, MESSAGES, PROFILE, THREAD
from workstation_pipelines.sources.gmail.errors import classify
from workstation_pipelines.sources.gmail.history import TYPES, Touches, number
from workstation_pipelines.sources.gmail.listing import (
    MOST_AT_ONCE,
    Query,
    list_counting,
    list_threads,
    listing_of,
    paged,
)
from workstation_pipelines.sources.gmail.reading import MIME_TYPE, ThreadReader
from workstation_pipelines.sources.gmail.scope import MailScope, thread_hash, unknown_hash
from workstation_pipelines.sources.http import Call, VendorApi

DEFAULT_API_URL = "https://gmail.googleapis.com"
READ_SCOPE = "https://www.googleapis.com/auth/gmail.readonly"
_SUFFICIENT_SCOPES = frozenset([READ_SCOPE, "https://www.googleapis.com/auth/gmail.modify", "https://mail.google.com/"])
_Entry = TypeVar("_Entry")


class GmailConfig(VendorConfig):
    """Which mail is read; spam, trash, drafts and chats never are."""

    labels: tuple[str, ...] = Field((), max_length=50)
    """Names or ids; only messages with one of these labels. A label inside another is another label."""

    query: str = Field("", max_length=1000)
    """As in Gmail's search box; a thread is read as soon as one of its messages fits."""

    @field_validator("labels")
    @classmethod
    def _in_order(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({label.strip() for label in labels} - {""}))

    @field_validator("query")
    @classmethod
    def _trimmed(cls, query: str) -> str:
        return query.strip()


class Gmail:
    """The source `gmail`: one mailbox. `sleep` waits out short waits."""

    source_type: ClassVar[SourceType] = SourceType.GMAIL
    delta: ClassVar[Delta] = Delta.FEED
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 100
    fetch_threads: ClassVar[int] = 4  # more than enough for 100 units a second, of which a thread costs 40
    oauth: ClassVar[OAuthGrant] = OAuthGrant(
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
        scopes=(READ_SCOPE,),
        authorize_params=(("access_type", "offline"), ("prompt", "consent")),
    )
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL}

    def __init__(
        self, config: Mapping[str, Any], context: SourceContext, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._config = GmailConfig.parse(config)
        self._context = context
        if context.credentials is None:
            raise ReauthorizeError("gmail: no account is connected; connect it: `workstation source connect NAME`")
        self._credentials = context.credentials
        self._api = VendorApi(
            provider="gmail",
            account=context.account,
            urls={**self.default_urls, **context.urls},
            calls=CALLS,
            credentials=context.credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=partial(classify, clock=context.clock),
            rates=context.rates,
            sleep=sleep,
        )
        self._reader = ThreadReader(self._api, context, max_file_bytes=self._config.max_file_bytes)
        self._lock = Lock()
        self._scope: MailScope | None = None

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> Gmail:
        return cls(config, context)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        """A query such as `newer_than:30d` loses threads without any event, so it is asked daily."""
        is_moving = MailScope(query=self._config.query).depends_on_time
        return self._config.reconciled_every(timedelta(days=1 if is_moving else 30))

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return scope.same_content(old_hash, new_hash)

    def check(self) -> Account:
        profile = self._api.json(PROFILE)
        address = profile.get("emailAddress")
        if not isinstance(address, str):
            raise UnexpectedReplyError("gmail profile.get: the answer names no mailbox", wait_s=60)
        scope = self._mail_scope()
        label = min(scope.label_ids, default=None) if scope.label_ids else None
        found = self._api.json(MESSAGES, params=listing_of(label, scope.query, most=1))
        granted = self._credentials.scopes()
        is_enough = not granted or granted & _SUFFICIENT_SCOPES
        return Account(
            external_account=address,
            label=address,
            details={name: profile.get(name) for name in ("messagesTotal", "threadsTotal") if name in profile},
            scopes=sorted(granted),
            missing_scopes=() if is_enough else (READ_SCOPE,),
            sample=f"about {found.get('resultSizeEstimate', 0)} messages" if found.get("messages") else "no messages",
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """Look at the first page of history; noise alone (read, starred, archived) gives `since` back."""
        quiet = since or "quiet"
        start = number(cursor.get("history_id")) if cursor is not None else None
        if start is None:
            return "new"
        try:
            page = self._api.json(HISTORY, params=_history(start))
        except CursorExpiredError:
            return f"x{start}"
        touches = Touches(_scope_at(cursor, self._config.query), start)
        for record in _records(page):
            touches.add(record)
        if touches.by_thread:
            return f"h{max(touch.last_id for touch in touches.by_thread.values())}"
        # Noise that does not end is worth a sync, which moves the cursor past it.
        return f"n{touches.position}" if page.get("nextPageToken") else quiet

    def start_cursor(self) -> Cursor | None:
        position = number(self._api.json(PROFILE).get("historyId"))
        if position is None:
            raise UnexpectedReplyError("gmail profile.get: the answer has no position in the history", wait_s=60)
        return self._cursor(position)

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        if cursor is None or "below" in cursor:
            yield from self._list(cursor)
            return
        start = _position(cursor)
        scope = self._mail_scope()
        if sorted(scope.label_ids or ()) != list(cursor.get("labels", ())):
            raise CursorExpiredError(
                "gmail: the labels that this source names are other ones now: list the mailbox anew"
            )
        end, touches = self._touches(scope, start)
        if touches.by_thread and scope.query:
            yield from self._asked_again(scope, touches, known, end)
        else:
            yield from self._follow(scope, touches, known, start, end)

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        return (THREAD,)

    def fetch(self, item: Item) -> Content:
        return self._reader.read(item.external_id, self._mail_scope())

    def close(self) -> None:
        self._api.close()

    # Listing everything

    def _list(self, cursor: Cursor | None) -> Iterator[Page]:
        """Newest thread first. Ids of threads grow with time and never change, so a listing resumes below one of them."""
        below = cursor.get("below") if cursor is not None else None
        failures: list[ItemFailure] = []
        threads = list_threads(self._api, self._mail_scope(), failures)
        waiting = sorted(threads, key=_age, reverse=True)
        if isinstance(below, str):
            waiting = [thread_id for thread_id in waiting if _age(thread_id) < _age(below)]
        batches = _batches(waiting, self.page_size)
        for count, batch in enumerate(batches, start=1):
            is_last = count == len(batches)
            yield Page(
                changes=[_upsert(thread_id, thread_hash(threads[thread_id])) for thread_id in batch],
                cursor_after={"v": 1, "below": batch[-1]} if batch else cursor,
                failures=failures if is_last else (),
                complete=is_last and not failures,
            )

    # Following the history

    def _touches(self, scope: MailScope, start: int) -> tuple[int, Touches]:
        """Return the position that the first page tells, and what was touched from `start` on."""
        touches = Touches(scope, start)
        end: int | None = None
        for page in paged(self._api, HISTORY, _history(start)):
            position = number(page.get("historyId"))
            if position is None:
                raise UnexpectedReplyError("gmail history.list: the answer does not tell how far it goes", wait_s=60)
            # What happens while we read may be on later pages: the first one's position is behind none of it.
            end = position if end is None else end
            for record in _records(page):
                touches.add(record)
        return (start if end is None else max(end, start)), touches

    def _follow(self, scope: MailScope, touches: Touches, known: Known, start: int, end: int) -> Iterator[Page]:
        """Threads in the order of their last touch, so that a page ends at a position from which the rest follows."""
        batches = _batches(list(touches.by_thread), self.page_size)
        for count, batch in enumerate(batches, start=1):
            reduced = [thread_id for thread_id in batch if touches.by_thread[thread_id].is_reduced]
            live = {item.external_id for item in known.items_at(reduced)} if reduced else set()
            changes = [self._change(scope, touches, thread_id, live) for thread_id in batch]
            position = end
            if count < len(batches):
                next_id = touches.by_thread[batches[count][0]].last_id
                done = [touch.last_id for touch in touches.by_thread.values() if touch.last_id < next_id]
                position = min(max(done, default=start), end)
            yield Page(
                changes=[change for change in changes if change is not None],
                cursor_after=self._cursor(position),
                failures=touches.failures if count == len(batches) else (),
            )

    def _change(self, scope: MailScope, touches: Touches, thread_id: str, live: set[str]) -> Change | None:
        touch = touches.by_thread[thread_id]
        if not touch.is_reduced:
            return _upsert(thread_id, unknown_hash(touch.last_id))
        if thread_id not in live and not touch.has_grown:
            return None  # emptying the trash, say: nothing of it is stored
        left = self._reader.hash_of(thread_id, scope)
        if left is not None:
            return _upsert(thread_id, left)
        return Change(ChangeKind.DELETED, thread_id) if thread_id in live else None

    def _asked_again(self, scope: MailScope, touches: Touches, known: Known, end: int) -> Iterator[Page]:
        """Ask the query anew: what it does not find any more is gone, what was not touched is not fetched."""
        failures = list(touches.failures)
        found = set(list_counting(self._api, scope.label_ids, scope.query, failures).values())
        # Attachments are items too; their ids have a slash, those of threads have none.
        live = {
            item.external_id
            for item in known.items()
            if item.sync_status is not SyncStatus.DELETED and "/" not in item.external_id
        }
        changes = [
            _upsert(thread_id, unknown_hash(end))
            for thread_id in sorted(found, key=_age)
            if thread_id not in live or touches.is_other(thread_id)
        ]
        for thread_id in sorted(live - found, key=_age) if not failures else ():
            touch = touches.by_thread.get(thread_id)
            # Without an event of its own it may be the search that is behind.
            kind = ChangeKind.DELETED if touch is not None and touch.is_reduced else ChangeKind.ABSENT
            changes.append(Change(kind, thread_id))
        batches = _batches(changes, self.page_size)
        for count, batch in enumerate(batches, start=1):
            is_last = count == len(batches)
            yield Page(batch, self._cursor(end) if is_last else None, failures=failures if is_last else ())

    def _cursor(self, position: int) -> Cursor:
        labels = sorted(self._mail_scope().label_ids or ())
        return {"v": 1, "history_id": str(position), **({"labels": labels} if labels else {})}

    def _mail_scope(self) -> MailScope:
        """Return the scope with its labels resolved, which asks Gmail once."""
        with self._lock:
            if self._scope is None:
                label_ids = None
                if self._config.labels:
                    listed = self._api.json(LABELS).get("labels")
                    if not isinstance(listed, list):
                        raise UnexpectedReplyError("gmail labels.list: the answer lists no labels", wait_s=60)
                    label_ids = scope.resolve_labels(self._config.labels, listed)
                self._scope = MailScope(label_ids, self._config.query)
            return self._scope


def _upsert(thread_id: str, external_hash: str) -> Change:
    sketch = Item(
        external_id=thread_id,
        external_path=thread_id,
        external_hash=external_hash,
        item_type=ItemType.EMAIL,
        title=thread_id,
        mime_type=MIME_TYPE,
        place=thread_id,
        is_sketch=True,
    )
    return Change(ChangeKind.UPSERT, thread_id, sketch)


def _history(start: int) -> Query:
    # Without `labelId`: it would hide that a message lost the label, and knows only one.
    return [("startHistoryId", str(start)), ("maxResults", MOST_AT_ONCE), *(("historyTypes", kind) for kind in TYPES)]


def _records(page: Mapping[str, Any]) -> list[Any]:
    records = page.get("history", [])
    if not isinstance(records, list):
        raise UnexpectedReplyError("gmail history.list: the answer lists no changes", wait_s=60)
    return records


def _position(cursor: Cursor | None) -> int:
    position = number(cursor.get("history_id")) if cursor is not None and cursor.get("v") == 1 else None
    if position is None:
        raise CursorExpiredError("gmail: no position in the history is known: list the mailbox once")
    return position


def _scope_at(cursor: Cursor | None, query: str) -> MailScope:
    labels = cursor.get("labels") if cursor is not None else None
    return MailScope(frozenset(labels) if labels else None, query)


def _age(thread_id: str) -> tuple[int, str]:
    # They are hexadecimal numbers; for anything else this is an order too.
    return len(thread_id), thread_id


def _batches(entries: Sequence[_Entry], size: int) -> list[Sequence[_Entry]]:
    """Cut into batches; one that is empty when there is nothing, since a page also moves the cursor."""
    return [entries[start : start + size] for start in range(0, len(entries), size)] or [entries]
