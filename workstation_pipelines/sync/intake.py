"""What a source hands over, made storable before anything else looks at it.

Names, paths and messages come from strangers: PostgreSQL takes neither NUL nor lone surrogates, an index no id of four
thousand characters, a tsvector no title of a megabyte. One such item must not hold up the page that it is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from workstation_pipelines.model import Change, Container, Item, ItemFailure, Page, aware_utc

MOST_ID_BYTES = 2000
"""What an index entry of at most 2,704 bytes leaves beside the user's id and a few nested attachments' digests."""

MOST_TITLE_CHARACTERS = 500

UNSTORABLE = "unstorable:"
"""Begins what stands in a failure for an id that cannot be stored; such an item was never stored either."""

_MOST_BYTES = 2**63 - 1
# A day within what a datetime holds, so that a server or a reader in any time zone can show it.
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def accepted(page: Page) -> Page:
    """Return `page` with storable items; those whose id cannot be stored become failures, their deletions nothing.

    Raises ValueError for a naive datetime, which is a mistake in the source's code.
    """
    changes = [_accepted(change) for change in page.changes if is_storable_id(change.external_id)]
    refused = [
        _refused(change.item)
        for change in page.changes
        if change.item is not None and not is_storable_id(change.external_id)
    ]
    failures = [_storable_failure(failure) for failure in page.failures]
    containers = [
        _storable_container(container) for container in page.containers if is_storable_id(container.external_id)
    ]
    return replace(
        page,
        changes=changes,
        failures=[*failures, *refused],
        containers=containers,
        cursor_after=_storable_json(page.cursor_after),
    )


def is_storable_id(external_id: str) -> bool:
    """Return whether this can be an item's identity as it is: changing it might make two items one."""
    if external_id.isascii():
        return 0 < len(external_id) <= MOST_ID_BYTES and "\0" not in external_id
    return storable(external_id) == external_id and len(external_id.encode()) <= MOST_ID_BYTES


def storable(text: str) -> str:
    """Return `text` without NUL and lone surrogates; the same object when there are none."""
    if text.isascii():
        return text if "\0" not in text else text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text if "\0" not in text else text.replace("\0", "")


def storable_title(title: str) -> str:
    return storable(title[:MOST_TITLE_CHARACTERS])


def child_id(parent_id: str, key: str) -> str:
    """Return the identity of what was found under `key` inside an item: the key itself, or its digest if that is too long."""
    plain = f"{parent_id}/{key}"
    if is_storable_id(plain):
        return plain
    return f"{parent_id}/b2:{_digest(key)}"


def _accepted(change: Change) -> Change:
    item = change.item
    if item is None:
        return change
    storable_version = storable_item(item)
    return change if storable_version is item else replace(change, item=storable_version)


def storable_item(item: Item) -> Item:
    """Return the item as the database can hold it, its id untouched; the same object when it can be held as it is."""
    changed: dict[str, Any] = {
        name: value for name, value in _storable_fields(item) if value is not getattr(item, name)
    }
    return replace(item, **changed) if changed else item


def _storable_fields(item: Item) -> Iterable[tuple[str, object]]:
    yield "external_path", storable(item.external_path)
    yield "external_hash", storable(item.external_hash)
    yield "title", storable_title(item.title)
    yield "mime_type", storable(item.mime_type)
    if item.external_url is not None:
        yield "external_url", storable(item.external_url)
    if item.place is not None:
        yield "place", storable(item.place)
    if not -1 <= item.size_bytes <= _MOST_BYTES:
        yield "size_bytes", -1
    if item.external_modified_at is not None:
        yield "external_modified_at", _storable_time(item.external_modified_at)
    if item.external_created_at is not None:
        yield "external_created_at", _storable_time(item.external_created_at)


def _storable_time(moment: datetime) -> datetime:
    return min(max(moment if moment.tzinfo is not None else aware_utc(moment), _EARLIEST), _LATEST)


def _refused(item: Item) -> ItemFailure:
    return ItemFailure(
        external_id=f"{UNSTORABLE}{_digest(item.external_id)}",
        external_path=storable(item.external_path),
        stage="list",
        error_class="UnreadableContentError",
        reason="unstorable_id",
        message=f"its id at the source has {len(item.external_id):,} characters or some that cannot be stored,"
        " so it is left out: copy or rename it at the source",
        permanent=True,
    )


def _storable_failure(failure: ItemFailure) -> ItemFailure:
    external_id = failure.external_id
    return replace(
        failure,
        external_id=external_id if is_storable_id(external_id) else f"{UNSTORABLE}{_digest(external_id)}",
        external_path=storable(failure.external_path),
        message=storable(failure.message),
    )


def _storable_container(container: Container) -> Container:
    parent = container.parent_external_id
    return replace(
        container,
        name=storable(container.name),
        parent_external_id=parent if parent is not None and is_storable_id(parent) else None,
        details=_storable_json(container.details),
    )


def _storable_json(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(key)): _storable_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable_json(inner) for inner in value]
    return value


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
