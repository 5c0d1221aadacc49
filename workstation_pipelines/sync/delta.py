"""What a page of changes means for what is stored: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from workstation_pipelines.model import Change, ChangeKind, Content, Item, StoredItem, SyncStatus
from workstation_pipelines.sync.intake import storable_title

REMOVED_BY_USER = "removed_by_user"
"""Reason of an item whose document its owner deleted here: it stays away, whatever happens at the source."""

UNSUPPORTED, UNSUPPORTED_TYPE = "unsupported", "unsupported_type"
"""Reasons of an item of a kind that no reader knows, by what its source said of it and by what its name or bytes say."""

DELETE_BRAKE_ITEMS = 20
DELETE_BRAKE_SHARE = 0.10

ASSUMED_BYTES = 128 * 1024
"""What an item of unknown size is taken to have when batches are cut."""


class Action(StrEnum):
    """FETCH reads the content; DESCRIBE stores new metadata of unchanged content; REFRESH stores only a newer hash."""

    FETCH = "fetch"
    DESCRIBE = "describe"
    REFRESH = "refresh"
    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One decision. `item` is present unless the action is DELETE; `stored` is what was known before, if anything.

    `content` is there when the listing brought it along.
    """

    action: Action
    external_id: str
    item: Item | None
    stored: StoredItem | None
    content: Content | None = None


def collapse(changes: Iterable[Change]) -> dict[str, Change]:
    """Keep the last change of each item, in the order of these last ones: feeds repeat items, the last state counts."""
    latest: dict[str, Change] = {}
    for change in changes:
        latest.pop(change.external_id, None)
        latest[change.external_id] = change
    return latest


def decide(
    changes: Mapping[str, Change],
    stored: Mapping[str, StoredItem],
    same_content: Callable[[str, str], bool],
    *,
    reconsidered: Collection[str] = (),
    shown: Callable[[Item], Item] = lambda item: item,
) -> list[Step]:
    """Return one step a change. A deletion of what is not stored, or is a tombstone already, needs none.

    `reconsidered` are reasons for which an item was skipped that may hold no longer, since the settings have changed.
    `shown` gives an item the names under which it is stored.
    """
    steps = []
    for external_id, change in changes.items():
        known = stored.get(external_id)
        if change.kind is not ChangeKind.UPSERT or change.item is None:
            if known is not None and known.sync_status is not SyncStatus.DELETED:
                steps.append(Step(Action.DELETE, external_id, None, known))
        else:
            item = described(change.item, known)
            action = _action(shown(item), known, same_content, reconsidered)
            steps.append(Step(action, external_id, item, known, change.content))
    return steps


def described(item: Item, known: StoredItem | None) -> Item:
    """Return the item, or for a sketch of what is known already, the item as it is known with the sketch's hash."""
    if not item.is_sketch or known is None:
        return item
    return replace(
        item,
        external_path=known.external_path,
        title=known.title,
        mime_type=known.mime_type,
        size_bytes=known.size_bytes,
        external_url=known.external_url,
        external_modified_at=known.external_modified_at,
        external_created_at=known.external_created_at,
    )


def _action(
    item: Item, known: StoredItem | None, same_content: Callable[[str, str], bool], reconsidered: Collection[str]
) -> Action:
    if known is None:
        return Action.FETCH
    if known.sync_status is SyncStatus.SKIPPED and known.reason in reconsidered:
        return Action.FETCH
    if known.sync_status is SyncStatus.SKIPPED and _may_be_of_another_kind(item, known):
        return Action.FETCH
    if known.reason == REMOVED_BY_USER:  # also when it is deleted at the source meanwhile, and comes back
        return Action.KEEP
    if known.sync_status is SyncStatus.DELETED or known.retry_due:
        return Action.FETCH
    if known.sync_status is SyncStatus.SYNCED and (known.document_id is None or known.is_document_deleted):
        return Action.FETCH
    if not same_content(known.external_hash, item.external_hash):
        return Action.FETCH
    description = (known.external_path, known.title, known.external_url, known.place)
    if description != (item.external_path, item.title, item.external_url, item.place):
        return Action.DESCRIBE
    return Action.KEEP if known.external_hash == item.external_hash else Action.REFRESH


def _may_be_of_another_kind(item: Item, known: StoredItem) -> bool:
    """Return whether something that no reader knew has the same bytes as before, and yet may be readable by now."""
    if known.reason == UNSUPPORTED and item.mime_type != known.mime_type:
        return True
    return known.reason in (UNSUPPORTED, UNSUPPORTED_TYPE) and item.title != known.title


def windows(steps: Sequence[Step], *, most_items: int, most_bytes: int) -> Iterator[list[Step]]:
    """Cut a page into batches that fit in memory: at most so many steps, and so many bytes to fetch unless one item has more."""
    window: list[Step] = []
    size_bytes = 0
    for step in steps:
        weight = 0
        if step.item is not None and step.action is Action.FETCH:
            weight = step.item.size_bytes if step.item.size_bytes >= 0 else ASSUMED_BYTES
            if step.content is not None:
                weight = len(step.content.body)
        if window and (len(window) >= most_items or size_bytes + weight > most_bytes):
            yield window
            window, size_bytes = [], 0
        window.append(step)
        size_bytes += weight
    if window:
        yield window


def is_mass_delete(absent: int, live: int) -> bool:
    """Return whether so many absent items look like an accident at the source rather than someone tidying up."""
    return absent > max(DELETE_BRAKE_ITEMS, live * DELETE_BRAKE_SHARE)


def document_title(item: Item, stored: StoredItem | None, extracted: str | None) -> str:
    """Return the title to show: the text's own, else the item's name. A rename does not replace a title found in the text."""
    if extracted:
        return storable_title(extracted)
    if stored is not None and stored.document_title and stored.document_title != stored.title:
        return stored.document_title
    return item.title
