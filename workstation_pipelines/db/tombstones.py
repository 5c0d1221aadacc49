"""Deleted documents while they can still be had back: hidden and without chunks, their text kept for an undo."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId

_COLUMNS = """d.id, d.title, d.mime_type, d.size_bytes, d.deleted_at, d.data_source_id, s.name AS data_source_name,
              coalesce(i.external_path, CASE WHEN d.origin LIKE 'file:%' OR d.origin LIKE 'url:%'
                                             THEN substr(d.origin, strpos(d.origin, ':') + 1) END) AS external_path,
              i.sync_status, coalesce(i.reason, d.deleted_reason) AS reason"""
_FROM = """app.documents d
      LEFT JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
      LEFT JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id"""


def listed(
    connection: Connection, *, user_id: UserId, retention: timedelta, limit: int = 50, offset: int = 0
) -> Sequence[Row[Any]]:
    """Return tombstones, the one deleted last first, each with `kept_until`."""
    return connection.execute(
        text(
            f"""
            SELECT {_COLUMNS}, d.deleted_at + CAST(:retention AS interval) AS kept_until FROM {_FROM}
             WHERE d.user_id = :user_id AND d.deleted_at IS NOT NULL
             ORDER BY d.deleted_at DESC, d.id LIMIT :limit OFFSET :offset"""  # noqa: S608 - constants above
        ),
        {"user_id": user_id, "retention": retention, "limit": limit, "offset": offset},
    ).all()


def find(connection: Connection, *, user_id: UserId, reference: str, retention: timedelta) -> Row[Any]:
    """Return the one tombstone with this id, path or title, or whose path ends in it. Raises NotFoundError."""
    rows = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM {_FROM}
             WHERE d.user_id = :user_id AND d.deleted_at > now() - CAST(:retention AS interval)
               AND (d.id::text = :ref OR i.external_path = :ref OR d.title = :ref OR d.external_url = :ref
                    OR right(i.external_path, length(:ref) + 1) = '/' || :ref
                    OR d.origin IN ('file:' || :ref, 'url:' || :ref)
                    OR d.origin LIKE 'file:%' AND right(d.origin, length(:ref) + 1) = '/' || :ref)
             ORDER BY (d.id::text = :ref) DESC, d.deleted_at DESC LIMIT 2"""  # noqa: S608 - constants above
        ),
        {"user_id": user_id, "ref": reference, "retention": retention},
    ).all()
    if not rows:
        raise NotFoundError(
            f"no deleted document {reference!r}: `workstation documents deleted` shows what can be had back"
        )
    if len(rows) > 1 and str(rows[0].id) != reference:
        raise NotFoundError(f"{reference!r} fits several deleted documents: name one by its id")
    return rows[0]


def deleted_with(connection: Connection, *, user_id: UserId, document_id: UUID) -> list[UUID]:
    """Return a tombstone and those found inside it that were deleted in the same moment, by id."""
    rows = connection.execute(
        text(
            """
            WITH RECURSIVE inside AS (
                SELECT i.data_source_id, i.external_id, i.local_document_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.local_document_id = :id
                 UNION
                SELECT i.data_source_id, i.external_id, i.local_document_id FROM app.sync_items i
                  JOIN inside o ON i.data_source_id = o.data_source_id AND i.parent_external_id = o.external_id
                 WHERE i.user_id = :user_id)
            SELECT d.id FROM app.documents d JOIN app.documents first ON first.user_id = :user_id AND first.id = :id
             WHERE d.user_id = :user_id AND d.deleted_at = first.deleted_at
               AND (d.id = :id OR d.parent_document_id = :id OR d.id IN (SELECT local_document_id FROM inside))
             ORDER BY d.id"""
        ),
        {"user_id": user_id, "id": document_id},
    )
    return [row[0] for row in rows]


def count_expired(connection: Connection, *, user_id: UserId, retention: timedelta) -> int:
    count: int = connection.execute(
        text(
            """
            SELECT count(*) FROM app.documents
             WHERE user_id = :user_id AND deleted_at <= now() - CAST(:retention AS interval)"""
        ),
        {"user_id": user_id, "retention": retention},
    ).scalar_one()
    return count


def purge(connection: Connection, *, user_id: UserId, retention: timedelta, at_most: int) -> int:
    """Erase documents that were deleted longer than `retention` ago, the oldest first; return how many."""
    return connection.execute(
        text(
            """
            DELETE FROM app.documents
             WHERE user_id = :user_id AND id IN (
                SELECT id FROM app.documents
                 WHERE user_id = :user_id AND deleted_at <= now() - CAST(:retention AS interval)
                 ORDER BY deleted_at LIMIT :at_most FOR UPDATE SKIP LOCKED)"""
        ),
        {"user_id": user_id, "retention": retention, "at_most": at_most},
    ).rowcount
