"""The engine's reading of pages in a hundred lines of memory, to try a connector without a database.

It follows the same rules: the last change of an item on a page wins, an unchanged hash is not fetched, a finished full
listing deletes what it did not show, a cursor moves when the sync has ended well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from workstation_pipelines.errors import CursorExpiredError, ItemGoneError, SkipItemError
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Container,
    Content,
    Cursor,
    Delta,
    Item,
    JobType,
    KnownItem,
    Page,
    SyncStatus,
)
from workstation_pipelines.sources.contract import Source


@dataclass
class Report:
    """What one sync did. `listings` counts full listings, `skipped` maps an id to the reason."""

    fetched: list[str] = field(default_factory=list)
    upserted: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    pages: int = 0
    listings: int = 0


@dataclass
class Mirror:
    """What is known of one data source. Implements the contract's Known."""

    live: dict[str, Item] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    boxes: dict[str, Container] = field(default_factory=dict)
    cursor: Cursor | None = None
    scope: str | None = None
    resume: dict[str, object] | None = None
    _seen: set[str] | None = None
    _boxes_seen: set[str] | None = None

    def items(self) -> Iterator[KnownItem]:
        for item in list(self.live.values()):
            yield KnownItem(item.external_id, item.external_path, item.external_hash, SyncStatus.SYNCED)

    def containers(self) -> Iterable[Container]:
        return list(self.boxes.values())

    def items_at(self, places: Sequence[str]) -> Iterable[Item]:
        return [item for item in self.live.values() if item.place in places]

    def items_between(self, first: str, end: str) -> Iterable[Item]:
        found = [
            (item.place.encode(), item)
            for item in self.live.values()
            if item.place is not None and first.encode() <= item.place.encode() < end.encode()
        ]
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def unseen(self) -> Iterable[Item]:
        seen = self._seen
        return [] if seen is None else [item for item in self.live.values() if item.external_id not in seen]

    def texts(self) -> dict[str, str]:
        """External path -> what was fetched, as text."""
        return {
            self.live[external_id].external_path: content.body.decode("utf-8", "replace")
            for external_id, content in self.contents.items()
        }

    def sync(self, source: Source, *, full: bool = False, most_pages: int | None = None) -> Report:
        """Sync once. With `most_pages` it stops dead after so many pages, as a killed run would; the next one resumes."""
        report = Report()
        resumed, self.resume = self.resume, None
        is_stale = full or source.delta is Delta.NONE or self.cursor is None or self.scope != source.scope
        if resumed is not None and resumed["scope"] == source.scope:
            self._run(source, report, resumed, full=full, most_pages=most_pages)
            return report
        try:
            start: dict[str, object] = {"mode": "feed", "cursor": self.cursor}
            if is_stale:
                start = self._listing(source, report)
            self._run(source, report, start, full=full, most_pages=most_pages)
        except CursorExpiredError:
            if is_stale:
                raise
            self._run(source, report, self._listing(source, report), full=full, most_pages=most_pages)
        return report

    def _listing(self, source: Source, report: Report) -> dict[str, object]:
        report.listings += 1
        return {"mode": "listing", "cursor": None, "pending": source.start_cursor(), "seen": set(), "boxes": set()}

    def _run(
        self, source: Source, report: Report, at: dict[str, object], *, full: bool, most_pages: int | None
    ) -> None:
        is_listing = at["mode"] == "listing"
        self._seen = at["seen"] if is_listing else None  # type: ignore[assignment]
        self._boxes_seen = at["boxes"] if is_listing else None  # type: ignore[assignment]
        cursor: Cursor | None = at["cursor"]  # type: ignore[assignment]
        is_complete = False
        absent: dict[str, None] = {}
        for page in source.pages(cursor, self, JobType.FULL_SYNC if full else JobType.DELTA):
            self._apply(source, page, report, absent)
            is_complete = is_complete or page.complete
            cursor = page.cursor_after if page.cursor_after is not None else cursor
            report.pages += 1
            if most_pages is not None and report.pages >= most_pages:
                if cursor is not None:
                    self.resume = {**at, "cursor": cursor, "scope": source.scope}
                return
        if is_listing and is_complete and not source.proves_absence:
            absent |= dict.fromkeys(self.live.keys() - (self._seen or set()))
            for forgotten in self.boxes.keys() - (self._boxes_seen or set()):
                del self.boxes[forgotten]
        if is_complete or not is_listing:
            for external_id in absent:
                self._delete(external_id, report)
        self.scope = source.scope
        self.cursor = at.get("pending") or cursor  # type: ignore[assignment]
        self._seen = self._boxes_seen = None

    def _apply(self, source: Source, page: Page, report: Report, absent: dict[str, None]) -> None:
        for box in page.containers:
            if box.is_deleted:
                self.boxes.pop(box.external_id, None)
            else:
                self.boxes[box.external_id] = box
                if self._boxes_seen is not None:
                    self._boxes_seen.add(box.external_id)
        report.failures += [failure.external_id for failure in page.failures]
        last: dict[str, Change] = {}
        for change in page.changes:
            last.pop(change.external_id, None)
            last[change.external_id] = change
        for external_id, change in last.items():
            if change.kind is ChangeKind.ABSENT:
                absent[external_id] = None
            elif change.item is None:
                self._delete(external_id, report)
            else:
                self._upsert(source, change.item, change.content, report)

    def _upsert(self, source: Source, item: Item, content: Content | None, report: Report) -> None:
        if self._seen is not None:
            self._seen.add(item.external_id)
        report.upserted.append(item.external_id)
        known = self.live.get(item.external_id)
        if known is not None and source.same_content(known.external_hash, item.external_hash):
            self.live[item.external_id] = known if item.is_sketch else item
            return
        try:
            if content is None:
                report.fetched.append(item.external_id)
                content = source.fetch(item)
        except ItemGoneError:
            return
        except SkipItemError as skip:
            report.skipped[item.external_id] = skip.reason
            self.live[item.external_id] = item
            self.contents.pop(item.external_id, None)
            return
        better = content.item or item
        # What the bytes are described by is what the next listing is compared with.
        self.live[item.external_id] = _with_hash(better, content.external_hash)
        self.contents[item.external_id] = content

    def _delete(self, external_id: str, report: Report) -> None:
        if self.live.pop(external_id, None) is not None:
            report.deleted.append(external_id)
        self.contents.pop(external_id, None)


def _with_hash(item: Item, external_hash: str) -> Item:
    return replace(item, external_hash=external_hash)
