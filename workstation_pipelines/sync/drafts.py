"""A batch while it is being put together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.sync_items import ItemMove, ItemWrite
from workstation_pipelines.model import IndexConfigId, ItemFailure
from workstation_pipelines.sync.vectorize import Cut


class Drafts:
    """What is to be written for some items, without vectors so far."""

    def __init__(self) -> None:
        self.items: list[ItemWrite] = []
        self.documents: list[tuple[DocumentWrite, list[Cut] | None]] = []
        self.failures: list[ItemFailure] = []
        self.resolved: list[str] = []
        self.deleted: list[str] = []
        self.dropped: list[UUID] = []
        self.outdated: list[UUID] = []
        self.described: list[str] = []
        self.seen: list[str] = []
        self.moved: list[ItemMove] = []
        self.external_ids: set[str] = set()
        self.counts: dict[str, int] = {}

    def add(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.counts[name] = self.counts.get(name, 0) + amount

    def merge(self, other: Drafts) -> None:
        """Take over what another holds, behind what is here."""
        self.items += other.items
        self.documents += other.documents
        self.failures += other.failures
        self.resolved += other.resolved
        self.deleted += other.deleted
        self.dropped += other.dropped
        self.outdated += other.outdated
        self.described += other.described
        self.seen += other.seen
        self.moved += other.moved
        self.external_ids |= other.external_ids
        self.add(**other.counts)

    def cuts_by_config(self) -> dict[IndexConfigId, dict[UUID, list[Cut]]]:
        """Return the chunks that are to have vectors by index config and document, in the order of the documents."""
        found: dict[IndexConfigId, dict[UUID, list[Cut]]] = {}
        for write, cuts in self.documents:
            if cuts and write.index_config_id is not None:
                found.setdefault(write.index_config_id, {})[write.id] = cuts
        return found

    def count(self, outcome: str) -> None:
        self.add(found=1)
        self.add(**{outcome: 1})

    def delete(self, external_ids: Sequence[str]) -> None:
        self.deleted += external_ids
        self.resolved += external_ids
        self.add(found=len(external_ids), deleted=len(external_ids))
