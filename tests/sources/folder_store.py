"""A stand-in for engine and database: applies a local folder's pages as the engine does, in a dict."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from workstation_pipelines.errors import SkipItemError
from workstation_pipelines.model import ChangeKind, Container, Item, ItemFailure, JobType, KnownItem, Page, SyncStatus
from workstation_pipelines.sources.local_folder.connector import LocalFolder

LONG_AFTER = datetime.now(UTC) + timedelta(days=3)
"""A present in which no file of a test is young, so that no stamp is racy."""


@dataclass
class Outcome:
    """What one sync did, by path."""

    pages: list[Page] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def unchanged(self) -> int:
        return sum(page.unchanged for page in self.pages)

    @property
    def failures(self) -> Sequence[ItemFailure]:
        return [failure for page in self.pages for failure in page.failures]

    @property
    def is_quiet(self) -> bool:
        return not any((self.fetched, self.refreshed, self.absent, self.refused, self.failures))


class FolderStore:
    """Holds what is known of one folder and syncs it; `now` is the present that the source is told."""

    def __init__(self, path: Path, **config: Any) -> None:
        self.path = path
        self.now = LONG_AFTER
        self.rows: dict[str, KnownItem] = {}
        self.bodies: dict[str, bytes] = {}
        self.items_seen: dict[str, Item] = {}
        self._ids = itertools.count(1)
        self.configure(**config)

    def configure(self, **config: Any) -> None:
        roots = config.pop("roots", None)
        self.source = LocalFolder(
            {"path": str(self.path), **config}, clock=lambda: self.now, new_id=self._new_id, roots=roots
        )

    def items(self) -> Iterable[KnownItem]:
        return list(self.rows.values())

    def containers(self) -> Iterable[Container]:
        raise AssertionError("a folder remembers none")

    def items_at(self, places: Sequence[str]) -> Iterable[Item]:
        raise AssertionError("a folder knows no places")

    def items_between(self, first: str, end: str) -> Iterable[Item]:
        raise AssertionError("a folder knows no places")

    def unseen(self) -> Iterable[Item]:
        raise AssertionError("a folder compares by itself")

    def listing(self, job_type: JobType = JobType.INCREMENTAL) -> Iterator[Page]:
        return self.source.pages(None, self, job_type)

    def sync(self, job_type: JobType = JobType.INCREMENTAL) -> Outcome:
        outcome = Outcome()
        for page in self.listing(job_type):
            outcome.pages.append(page)
            for change in page.changes:
                if change.kind is ChangeKind.UPSERT:
                    assert change.item is not None
                    self._upsert(change.item, outcome)
                else:
                    row = self.rows[change.external_id]
                    outcome.absent.append(row.external_path)
                    self._store(row.external_id, row.external_path, row.external_hash, SyncStatus.DELETED)
        assert [page.complete for page in outcome.pages] == [False] * (len(outcome.pages) - 1) + [True]
        return outcome

    def live(self) -> Mapping[str, bytes]:
        """Return path -> stored bytes of what is not deleted."""
        rows = [row for row in self.rows.values() if row.sync_status is not SyncStatus.DELETED]
        assert len({row.external_path for row in rows}) == len(rows), "two live items with one path"
        return {row.external_path: self.bodies[row.external_id] for row in rows}

    def id_of(self, path: str) -> str:
        [found] = [
            row.external_id
            for row in self.rows.values()
            if row.external_path == path and row.sync_status is not SyncStatus.DELETED
        ]
        return found

    def _upsert(self, item: Item, outcome: Outcome) -> None:
        self.items_seen[item.external_path] = item
        row = self.rows.get(item.external_id)
        is_stored = row is not None and row.sync_status is not SyncStatus.FAILED and row.external_id in self.bodies
        if row and is_stored and self.source.same_content(row.external_hash, item.external_hash):
            outcome.refreshed.append(item.external_path)
            self._store(item.external_id, item.external_path, item.external_hash, SyncStatus.SYNCED)
            return
        try:
            content = self.source.fetch(item)
        except SkipItemError as error:
            outcome.refused[item.external_path] = error.reason
            status = SyncStatus(error.stored_as)
            self._store(item.external_id, item.external_path, item.external_hash, status)
            return
        outcome.fetched.append(item.external_path)
        self.bodies[item.external_id] = content.body
        self._store(item.external_id, item.external_path, content.external_hash, SyncStatus.SYNCED)

    def _store(self, external_id: str, path: str, external_hash: str, status: SyncStatus) -> None:
        self.rows[external_id] = KnownItem(external_id, path, external_hash, status)

    def _new_id(self) -> UUID:
        return UUID(int=next(self._ids))
