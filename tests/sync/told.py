"""A source that says exactly what a test tells it to say: pages, errors between them, bodies, errors instead of bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from tests.sync.parts import DigestEmbedder
from tests.sync.syncing import Wish, data_source, sync_parts
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Cursor,
    Delta,
    Item,
    ItemType,
    JobResult,
    JobType,
    Page,
    SourceType,
)
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync

FEED_START = {"feed": 0}


def item(external_id: str, body: str = "", **changes: Any) -> Item:
    """An item whose hash is its body's, so that a change of one is a change of the other."""
    plain = Item(external_id, f"box/{external_id}", f"tx:{body}", ItemType.FILE, external_id, "text/plain", len(body))
    return replace(plain, **changes)


def upsert(some: Item) -> Change:
    return Change(ChangeKind.UPSERT, some.external_id, some)


def listing(*groups: Sequence[Item]) -> list[Page]:
    """Pages that can be resumed behind each; the last one completes the listing."""
    return [
        Page([upsert(one) for one in group], cursor_after={"at": number}, complete=number == len(groups))
        for number, group in enumerate(groups, 1)
    ]


class ToldSource:
    """`listed` and `fed` are pages, or errors to raise in their place; `bodies` are texts by id, or errors likewise."""

    source_type: ClassVar[SourceType] = SourceType.GOOGLE_DRIVE
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 1000
    delta: ClassVar[Delta] = Delta.FEED
    fetch_threads: ClassVar[int] = 1

    def __init__(
        self,
        listed: Sequence[Page | Exception] = (),
        bodies: Mapping[str, str | Exception] | None = None,
        *,
        fed: Sequence[Page | Exception] = (),
        start_error: Exception | None = None,
    ) -> None:
        self.listed = listed
        self.bodies: Mapping[str, str | Exception] = bodies or {}
        self.fed = fed
        self.start_error = start_error
        self.asked: list[Item] = []
        self.cursors: list[Cursor | None] = []
        self.page_cursors_expire = False

    scope = ""
    reconcile_every: timedelta | None = None
    provider_calls = 0

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        return Account("account-1", "told", {})

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        return since or ""

    def start_cursor(self) -> Cursor | None:
        if self.start_error is not None:
            raise self.start_error
        return FEED_START if self.delta is Delta.FEED else None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        self.cursors.append(cursor)
        if self.page_cursors_expire and cursor is not None and "at" in cursor:
            raise CursorExpiredError("this page's cursor is too old")
        said = (
            self.fed if cursor is not None and "feed" in cursor else self.listed[int(cursor["at"]) if cursor else 0 :]
        )
        for page in said:
            if isinstance(page, Exception):
                raise page
            yield page

    def fetch_calls(self, item: Item) -> tuple[()]:
        return ()

    def fetch(self, item: Item) -> Content:
        self.asked.append(item)
        body = self.bodies.get(item.external_id, item.external_hash.removeprefix("tx:"))
        if isinstance(body, Exception):
            raise body
        return Content(body.encode(), item.title, item.mime_type, item.external_hash)

    def close(self) -> None:
        pass


class ThreadedSource(ToldSource):
    fetch_threads: ClassVar[int] = 2


def parts_with(database: Database, wish: Wish, source: ToldSource) -> SyncParts:
    return replace(sync_parts(database, wish, DigestEmbedder()), source=source)


def sync_told(database: Database, wish: Wish, source: ToldSource, **request: Any) -> JobResult:
    parts = parts_with(database, wish, source)
    return drive(run_sync(parts, data_source(database, wish), SyncRequest(**request)))
