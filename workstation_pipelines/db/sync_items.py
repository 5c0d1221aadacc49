"""Items: what is known of each thing at the vendor, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db import index_settings
from workstation_pipelines.db.bulk import BulkStatement, encoded
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import (
    DataSourceId,
    DocumentId,
    Item,
    ItemType,
    KnownItem,
    StoredItem,
    SyncJobId,
    SyncStatus,
    UserId,
)


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """An item as it is to be stored; `document_id` is None for what has no document.

    `rules_hash` is of the rules that left it out or failed on it, `reason_detail` names the rule.
    """

    item: Item
    external_hash: str
    mime_type: str
    status: SyncStatus
    reason: str
    document_id: DocumentId | None
    reason_detail: str = ""
    rules_hash: str = ""


@dataclass(frozen=True, slots=True)
class ItemMove:
    """A stored item that is elsewhere now because what it lies in is; nothing else of it has changed."""

    external_id: str
    external_path: str
    external_url: str | None


PLACE_START = 400
"""How many characters of a place the index holds; as in the migration."""

TO_FETCH = "to_fetch"
"""Reason of an item that the next sync fetches, also when its source does not show it again: what is stored may be old."""

# Wanted again, failed itself, or around something that failed: an attachment comes with its mail, never alone.
_RETRY_DUE = """(
    i.is_refetch_due OR i.reason = 'to_fetch' AND i.sync_status <> 'deleted'
    OR i.sync_status = 'failed' AND NOT EXISTS (
        SELECT FROM app.sync_failures f
         WHERE f.user_id = i.user_id AND f.data_source_id = i.data_source_id AND f.external_id = i.external_id
           AND f.resolved_at IS NULL AND (f.next_try_at IS NULL OR f.next_try_at > now()))
    OR i.sync_status = 'synced' AND i.external_id IN (
        WITH RECURSIVE around AS (
            SELECT c.parent_external_id AS external_id
              FROM app.sync_failures f
              JOIN app.sync_items c USING (user_id, data_source_id, external_id)
             WHERE f.user_id = :user_id AND f.data_source_id = :source AND f.resolved_at IS NULL
               AND f.next_try_at <= now() AND c.sync_status = 'failed' AND c.parent_external_id IS NOT NULL
             UNION
            SELECT c.parent_external_id
              FROM app.sync_items c JOIN around a USING (external_id)
             WHERE c.user_id = :user_id AND c.data_source_id = :source AND c.parent_external_id IS NOT NULL)
        SELECT external_id FROM around))"""

_KNOWN = text(
    f"""
    SELECT i.external_id, i.external_path, i.external_hash, i.sync_status, i.reason, i.title, i.mime_type,
           i.size_bytes, i.external_modified_at, i.external_created_at, i.place, i.external_url,
           i.parent_external_id, i.local_document_id AS document_id, d.title AS document_title, d.content_hash,
           coalesce(d.live_generation, 0) AS live_generation, d.index_config_id, i.rules_hash AS item_rules_hash,
           i.reason_detail, coalesce(d.rules_hash, '') AS rules_hash,
           d.deleted_at IS NOT NULL AS is_document_deleted, {_RETRY_DUE} AS retry_due,
           {index_settings.WANTED} AS wanted_index_config_id
      FROM app.sync_items i
      LEFT JOIN app.documents d ON d.user_id = i.user_id AND d.id = i.local_document_id
      {index_settings.JOINS}
     WHERE i.user_id = :user_id AND i.data_source_id = :source
       AND (i.external_id = ANY(:ids) OR i.parent_external_id = ANY(:parents))"""  # noqa: S608 - constants
)

_ROW_COLUMNS = {
    "external_id": "text",
    "external_path": "text",
    "external_hash": "text",
    "item_type": "text",
    "mime_type": "text",
    "title": "text",
    "external_url": "text",
    "parent_external_id": "text",
    "sync_status": "text",
    "reason": "text",
    "local_document_id": "uuid",
    "size_bytes": "int8",
    "external_modified_at": "timestamptz",
    "external_created_at": "timestamptz",
    "place": "text",
    "listed_mime_type": "text",
    "reason_detail": "text",
    "rules_hash": "text",
}

_UPSERT = BulkStatement(
    """
    INSERT INTO app.sync_items (user_id, data_source_id, last_sync_job_id, last_seen_sweep, external_id, external_path,
                                external_hash, item_type, mime_type, title, external_url, parent_external_id, sync_status,
                                reason, local_document_id, size_bytes, external_modified_at, external_created_at, place,
                                listed_mime_type, reason_detail, rules_hash)
    SELECT $1, $2::uuid, $3::uuid, $4::uuid, s.* FROM {rows}
    ON CONFLICT ON CONSTRAINT sync_items_pkey DO UPDATE
       SET last_sync_job_id = excluded.last_sync_job_id, last_seen_sweep = excluded.last_seen_sweep,
           external_path = excluded.external_path, external_hash = excluded.external_hash, item_type = excluded.item_type,
           mime_type = excluded.mime_type, title = excluded.title, external_url = excluded.external_url,
           parent_external_id = excluded.parent_external_id, sync_status = excluded.sync_status, reason = excluded.reason,
           local_document_id = excluded.local_document_id, size_bytes = excluded.size_bytes,
           external_modified_at = excluded.external_modified_at, external_created_at = excluded.external_created_at,
           place = excluded.place, listed_mime_type = excluded.listed_mime_type,
           reason_detail = excluded.reason_detail, rules_hash = excluded.rules_hash, is_refetch_due = false""",
    _ROW_COLUMNS,
    constants=4,
)


def known(
    connection: Connection, lease: Lease, *, external_ids: Sequence[str], children_of: Sequence[str] = ()
) -> dict[str, StoredItem]:
    """Return the rows of these items, and of everything found inside `children_of`, by external id."""
    rows = connection.execute(
        _KNOWN,
        {
            "user_id": lease.user_id,
            "source": lease.data_source_id,
            "ids": list(external_ids),
            "parents": list(children_of),
        },
    )
    return {row.external_id: _from_row(row) for row in rows}


def stream(database: Database, *, user_id: UserId, data_source_id: DataSourceId) -> Iterator[KnownItem]:
    """Yield every item that a listing can show, tombstones included, in no order; what was found inside others is left out.

    An item whose failed work is due again has an empty hash, so that a source which compares hashes shows it as changed.
    """
    statement = text(
        f"""
        SELECT i.external_id, i.external_path, CASE WHEN {_RETRY_DUE} THEN '' ELSE i.external_hash END, i.sync_status
          FROM app.sync_items i
         WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id IS NULL"""  # noqa: S608
    )
    statuses = {status.value: status for status in SyncStatus}
    with database.transaction_with_rls(user_id) as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=2000)
        # Closed also when the reader stops half way: the server's cursor would stay open otherwise.
        with streaming.execute(statement, {"user_id": user_id, "source": data_source_id}) as rows:
            for external_id, external_path, external_hash, status in rows:
                yield KnownItem(external_id, external_path, external_hash, statuses[status])


def due_for_retry(connection: Connection, lease: Lease, *, limit: int) -> list[Item]:
    """Return items with failed work, on them or inside them, whose next try has come, as last listed."""
    rows = connection.execute(
        text(
            f"""
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id IS NULL AND {_RETRY_DUE}
             ORDER BY i.external_id LIMIT :limit"""  # noqa: S608 - a constant
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "limit": limit},
    )
    return [_item(row) for row in rows]


def due_for_refetch(connection: Connection, lease: Lease, *, after: str, limit: int) -> list[Item]:
    """Return items that changed rules need fetched, as last listed, in order of id behind `after`."""
    rows = connection.execute(
        text(
            """
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.is_refetch_due AND i.external_id > :after
               AND i.sync_status <> 'deleted'
             ORDER BY i.external_id LIMIT :limit"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "after": after, "limit": limit},
    )
    return [_item(row) for row in rows]


def at_places(connection: Connection, *, user_id: UserId, data_source_id: UUID, places: Sequence[str]) -> list[Item]:
    """Return live items that lie at one of `places`, as last listed, in no order; items inside others are left out."""
    rows = connection.execute(
        text(
            """
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id IS NULL
               AND i.sync_status <> 'deleted' AND i.place_start = ANY(:starts) AND i.place = ANY(:places)"""
        ),
        {
            "user_id": user_id,
            "source": data_source_id,
            "places": list(places),
            "starts": [place[:PLACE_START] for place in places],
        },
    )
    return [_item(row) for row in rows]


def between_places(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, first: str, end: str
) -> list[Item]:
    """Return live items with `first <= place < end`, byte by byte, in that order; items inside others are left out."""
    rows = connection.execute(
        text(
            """
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id IS NULL
               AND i.sync_status <> 'deleted' AND i.place_start >= :first_start AND i.place_start <= :end_start
               AND i.place >= :first AND i.place < :end
             ORDER BY i.place"""
        ),
        {
            "user_id": user_id,
            "source": data_source_id,
            "first": first,
            "end": end,
            "first_start": first[:PLACE_START],
            "end_start": end[:PLACE_START],
        },
    )
    return [_item(row) for row in rows]


def of_ids(connection: Connection, *, user_id: UserId, data_source_id: UUID, external_ids: Sequence[str]) -> list[Item]:
    """Return these items as last listed, in no order."""
    rows = connection.execute(
        text(
            """
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = ANY(:ids)"""
        ),
        {"user_id": user_id, "source": data_source_id, "ids": list(external_ids)},
    )
    return [_item(row) for row in rows]


def live_but(connection: Connection, *, user_id: UserId, data_source_id: UUID, sweep_id: UUID) -> list[Item]:
    """Return live items that this sweep has not shown so far, as last listed; items inside others are left out."""
    rows = connection.execute(
        text(
            """
            SELECT i.* FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id IS NULL
               AND i.sync_status <> 'deleted' AND i.last_seen_sweep IS DISTINCT FROM :sweep
             ORDER BY i.external_id"""
        ),
        {"user_id": user_id, "source": data_source_id, "sweep": sweep_id},
    )
    return [_item(row) for row in rows]


def write(
    connection: Connection, lease: Lease, *, job_id: SyncJobId, sweep_id: UUID | None, writes: Sequence[ItemWrite]
) -> None:
    """Insert or update items in bulk; each external id at most once."""
    if not writes:
        return
    rows = (
        (
            write.item.external_id,
            write.item.external_path,
            write.external_hash,
            write.item.item_type,
            write.mime_type,
            write.item.title,
            write.item.external_url,
            write.item.parent_external_id,
            write.status,
            write.reason,
            write.document_id,
            write.item.size_bytes,
            write.item.external_modified_at,
            write.item.external_created_at,
            write.item.place,
            write.item.mime_type,
            write.reason_detail,
            write.rules_hash,
        )
        for write in writes
    )
    _UPSERT.execute(connection, encoded(_ROW_COLUMNS, rows), lease.user_id, lease.data_source_id, job_id, sweep_id)


def mark_deleted(connection: Connection, lease: Lease, *, job_id: SyncJobId, external_ids: Sequence[str]) -> list[UUID]:
    """Turn items into tombstones and return the documents they had."""
    rows = connection.execute(
        text(
            """
            UPDATE app.sync_items
               SET sync_status = 'deleted', last_sync_job_id = :job_id,
                   reason = CASE WHEN reason = 'removed_by_user' THEN reason ELSE '' END
             WHERE user_id = :user_id AND data_source_id = :source AND external_id = ANY(:ids)
               AND sync_status <> 'deleted'
            RETURNING local_document_id"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "job_id": job_id, "ids": list(external_ids)},
    )
    return [row[0] for row in rows if row[0] is not None]


def move(connection: Connection, lease: Lease, *, moved: Sequence[ItemMove]) -> None:
    """Give items found inside others, and their documents, the place that those have now."""
    by_id = {move.external_id: move for move in moved}
    parameters = {
        "user_id": lease.user_id,
        "source": lease.data_source_id,
        "ids": list(by_id),
        "paths": [move.external_path for move in by_id.values()],
        "urls": [move.external_url for move in by_id.values()],
    }
    connection.execute(
        text(
            """
            UPDATE app.sync_items i SET external_path = m.external_path, external_url = m.external_url
              FROM unnest(CAST(:ids AS text[]), CAST(:paths AS text[]), CAST(:urls AS text[]))
                   AS m (external_id, external_path, external_url)
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = m.external_id"""
        ),
        parameters,
    )
    connection.execute(
        text(
            """
            UPDATE app.documents d SET external_url = i.external_url FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = ANY(:ids)
               AND d.user_id = i.user_id AND d.id = i.local_document_id
               AND d.external_url IS DISTINCT FROM i.external_url"""
        ),
        parameters,
    )


def mark_seen(connection: Connection, lease: Lease, *, sweep_id: UUID, external_ids: Sequence[str]) -> None:
    connection.execute(
        text(
            """
            UPDATE app.sync_items SET last_seen_sweep = :sweep
             WHERE user_id = :user_id AND data_source_id = :source AND external_id = ANY(:ids)"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "sweep": sweep_id, "ids": list(external_ids)},
    )


def find(connection: Connection, *, user_id: UserId, reference: str) -> Sequence[Row[Any]]:
    """Return items whose id, path, URL or document id is `reference`, or whose path ends with it, with their failures."""
    return connection.execute(
        text(
            """
            SELECT s.name AS data_source_name, s.source_type, i.external_id, i.external_path, i.external_url, i.external_hash,
                   i.sync_status, i.reason, i.reason_detail, i.mime_type, i.size_bytes, i.local_document_id, i.parent_external_id,
                   i.created_at, i.updated_at, i.last_sync_job_id, j.dagster_run_id, d.live_generation, d.chunk_count,
                   d.deleted_at, f.stage, f.error_class, f.message, f.attempts, f.next_try_at
              FROM app.sync_items i
              JOIN app.data_sources s ON s.user_id = i.user_id AND s.id = i.data_source_id
              LEFT JOIN app.sync_jobs j ON j.user_id = i.user_id AND j.id = i.last_sync_job_id
              LEFT JOIN app.documents d ON d.user_id = i.user_id AND d.id = i.local_document_id
              LEFT JOIN app.sync_failures f ON f.user_id = i.user_id AND f.data_source_id = i.data_source_id
                    AND f.external_id = i.external_id AND f.resolved_at IS NULL
             WHERE i.user_id = :user_id
               AND (i.external_id = :ref OR i.external_path = :ref OR i.external_url = :ref
                    OR i.local_document_id::text = :ref OR right(i.external_path, length(:ref) + 1) = '/' || :ref)
             ORDER BY (i.sync_status = 'deleted'), i.external_path LIMIT 20"""
        ),
        {"user_id": user_id, "ref": reference},
    ).all()


def _item(row: Row[Any]) -> Item:
    return Item(
        external_id=row.external_id,
        external_path=row.external_path,
        external_hash=row.external_hash,
        item_type=ItemType(row.item_type),
        title=row.title,
        # As the source told it, which may decide how it is fetched; what was found in its bytes is another thing.
        mime_type=row.listed_mime_type or row.mime_type,
        size_bytes=row.size_bytes,
        external_modified_at=row.external_modified_at,
        external_created_at=row.external_created_at,
        external_url=row.external_url,
        place=row.place,
    )


def _from_row(row: Row[Any]) -> StoredItem:
    return StoredItem(**{**row._mapping, "sync_status": SyncStatus(row.sync_status)})
