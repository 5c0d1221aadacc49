"""The database's answers to a source that asks what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from uuid import UUID

from workstation_pipelines.db import sync_containers, sync_items
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import Container, Item, KnownItem, Page, SyncStatus


class StoredKnown:
    """Answers from what is stored.

    `settle` makes what was yielded before part of it; `sweep_id` names the full listing under way, if there is one.
    """

    def __init__(
        self, database: Database, data_source: DataSource, *, settle: Callable[[], object], sweep_id: UUID | None
    ) -> None:
        self._database = database
        self._data_source = data_source
        self._settle = settle
        self._sweep_id = sweep_id

    def items(self) -> Iterator[KnownItem]:
        self._settle()
        return sync_items.stream(self._database, user_id=self._data_source.user_id, data_source_id=self._data_source.id)

    def containers(self) -> Sequence[Container]:
        self._settle()
        stored = self._data_source
        with self._database.transaction_with_rls(stored.user_id) as connection:
            return sync_containers.all_of(connection, user_id=stored.user_id, data_source_id=stored.id)

    def items_at(self, places: Sequence[str]) -> Sequence[Item]:
        self._settle()
        stored = self._data_source
        with self._database.transaction_with_rls(stored.user_id) as connection:
            return sync_items.at_places(
                connection, user_id=stored.user_id, data_source_id=stored.id, places=list(places)
            )

    def items_between(self, first: str, end: str) -> Sequence[Item]:
        self._settle()
        stored = self._data_source
        with self._database.transaction_with_rls(stored.user_id) as connection:
            return sync_items.between_places(
                connection, user_id=stored.user_id, data_source_id=stored.id, first=first, end=end
            )

    def unseen(self) -> Sequence[Item]:
        if self._sweep_id is None:
            return []
        self._settle()
        stored = self._data_source
        with self._database.transaction_with_rls(stored.user_id) as connection:
            return sync_items.live_but(
                connection, user_id=stored.user_id, data_source_id=stored.id, sweep_id=self._sweep_id
            )


class PlannedKnown(StoredKnown):
    """Answers for a listing that stores nothing: what it has shown so far counts as if it were stored.

    `listed` are the ids that a full listing has shown so far, None outside of one.
    """

    def __init__(self, database: Database, data_source: DataSource, listed: Collection[str] | None) -> None:
        super().__init__(database, data_source, settle=lambda: None, sweep_id=None)
        self._listed = listed
        self._shown: dict[str, Item | None] = {}
        self._containers: dict[str, Container] = {}

    def note(self, page: Page) -> None:
        """Take a page for stored."""
        self._shown |= {change.external_id: change.item for change in page.changes}
        self._containers |= {container.external_id: container for container in page.containers}

    def containers(self) -> Sequence[Container]:
        by_id = {container.external_id: container for container in super().containers()} | self._containers
        return [container for container in by_id.values() if not container.is_deleted]

    def items_at(self, places: Sequence[str]) -> Sequence[Item]:
        return self._with_shown(super().items_at(places), lambda place: place in places)

    def items_between(self, first: str, end: str) -> Sequence[Item]:
        low, high = first.encode(), end.encode()
        found = self._with_shown(super().items_between(first, end), lambda place: low <= place.encode() < high)
        return sorted(found, key=lambda item: (item.place or "").encode())

    def _with_shown(self, stored: Sequence[Item], is_wanted: Callable[[str], bool]) -> list[Item]:
        kept = [item for item in stored if item.external_id not in self._shown]
        shown = [item for item in self._shown.values() if item is not None]
        return kept + [item for item in shown if item.place is not None and is_wanted(item.place)]

    def unseen(self) -> Sequence[Item]:
        if self._listed is None:
            return []
        live = (item.external_id for item in self.items() if item.sync_status is not SyncStatus.DELETED)
        missing = [external_id for external_id in live if external_id not in self._listed]
        stored = self._data_source
        with self._database.transaction_with_rls(stored.user_id) as connection:
            return sync_items.of_ids(connection, user_id=stored.user_id, data_source_id=stored.id, external_ids=missing)
