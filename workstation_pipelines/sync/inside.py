"""Documents found inside documents: which item an attachment is, and which stored items lie inside another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from workstation_pipelines.db.sync_items import ItemMove
from workstation_pipelines.model import Attachment, Item, ItemType, StoredItem, SyncStatus
from workstation_pipelines.sync.intake import child_id, storable, storable_title


def attached_item(parent: Item, attachment: Attachment) -> Item:
    """Return the item that an attachment is: identified by its parent and its key, hashed by its bytes."""
    name = storable(attachment.name)
    return Item(
        external_id=child_id(parent.external_id, attachment.key),
        external_path=f"{parent.external_path}/{name}",
        external_hash="b2:" + blake2b(attachment.body, digest_size=16).hexdigest(),
        item_type=ItemType.FILE,
        title=storable_title(name.rpartition(".")[0] or name),
        mime_type=storable(attachment.mime_type),
        size_bytes=len(attachment.body),
        external_modified_at=parent.external_modified_at,
        external_created_at=parent.external_created_at,
        external_url=parent.external_url,
        parent_external_id=parent.external_id,
    )


def below(external_id: str, stored: Iterable[StoredItem]) -> list[StoredItem]:
    """Return those of `stored` that lie inside this item, however deep."""
    outer = {external_id}
    found = []
    # A child's id is its parent's and more, so parents come first.
    for item in sorted(stored, key=lambda item: len(item.external_id)):
        if item.parent_external_id in outer:
            outer.add(item.external_id)
            found.append(item)
    return found


def live(stored: Iterable[StoredItem]) -> list[str]:
    return [item.external_id for item in stored if item.sync_status is not SyncStatus.DELETED]


def moved(item: Item, before: StoredItem | None, inside: Sequence[StoredItem]) -> list[ItemMove]:
    """Return where the live items inside `item` are now, if it was somewhere else before."""
    if before is None or (before.external_path, before.external_url) == (item.external_path, item.external_url):
        return []
    return [
        ItemMove(
            child.external_id,
            item.external_path + child.external_path.removeprefix(before.external_path),
            item.external_url,
        )
        for child in inside
        if child.sync_status is not SyncStatus.DELETED
    ]
