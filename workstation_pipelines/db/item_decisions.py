"""What owners decide about items outside of a sync: away with them, back with them, or look at them again."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.model import UserId


def mark_removed_by_user(connection: Connection, *, user_id: UserId, document_id: UUID, reason: str) -> list[UUID]:
    """Let syncs skip the item of a document, and all that was found inside it, for good; return the documents inside."""
    rows = connection.execute(
        text(
            """
            WITH RECURSIVE removed AS (
                SELECT i.data_source_id, i.external_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.local_document_id = :document
                 UNION
                SELECT i.data_source_id, i.external_id FROM app.sync_items i
                  JOIN removed r ON i.data_source_id = r.data_source_id AND i.parent_external_id = r.external_id
                 WHERE i.user_id = :user_id AND i.sync_status <> 'deleted')
            UPDATE app.sync_items i SET sync_status = 'skipped', reason = :reason
              FROM removed r
             WHERE i.user_id = :user_id AND i.data_source_id = r.data_source_id AND i.external_id = r.external_id
            RETURNING i.local_document_id"""
        ),
        {"user_id": user_id, "document": document_id, "reason": reason},
    )
    return [row[0] for row in rows if row[0] is not None and row[0] != document_id]


def readmit(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> list[UUID]:
    """Take back that their owner removed these documents, for those whose items are still at the source; return them.

    What they lie in is fetched by the next sync: nobody looked after the items while they were away.
    """
    readmitted = connection.execute(
        text(
            """
            UPDATE app.sync_items SET sync_status = 'synced', reason = ''
             WHERE user_id = :user_id AND local_document_id = ANY(:ids) AND sync_status = 'skipped'
               AND reason = 'removed_by_user'
            RETURNING local_document_id"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )
    done = [row[0] for row in readmitted]
    connection.execute(
        text(
            """
            WITH RECURSIVE outwards AS (
                SELECT i.data_source_id, i.external_id, i.parent_external_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.local_document_id = ANY(:ids)
                 UNION
                SELECT i.data_source_id, i.external_id, i.parent_external_id FROM app.sync_items i
                  JOIN outwards o ON i.data_source_id = o.data_source_id AND i.external_id = o.parent_external_id
                 WHERE i.user_id = :user_id)
            UPDATE app.sync_items i SET reason = 'to_fetch'
              FROM outwards o
             WHERE i.user_id = :user_id AND i.data_source_id = o.data_source_id AND i.external_id = o.external_id
               AND i.parent_external_id IS NULL AND i.sync_status = 'synced'"""
        ),
        {"user_id": user_id, "ids": done},
    )
    return done


def detach(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Make documents their owner's own: the items they came from, and their source, know them no longer."""
    parameters = {"user_id": user_id, "ids": list(document_ids)}
    connection.execute(
        text(
            """
            UPDATE app.sync_items
               SET local_document_id = NULL, reason = CASE WHEN reason = 'removed_by_user' THEN '' ELSE reason END
             WHERE user_id = :user_id AND local_document_id = ANY(:ids)"""
        ),
        parameters,
    )
    connection.execute(
        text("UPDATE app.documents SET data_source_id = NULL WHERE user_id = :user_id AND id = ANY(:ids)"), parameters
    )


def forget_hashes(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> int:
    """Let the next listing take the items of these documents, and what they lie in, for changed; return how many."""
    return connection.execute(
        text(
            """
            WITH RECURSIVE forgotten AS (
                SELECT i.data_source_id, i.external_id, i.parent_external_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.local_document_id = ANY(:ids)
                 UNION
                SELECT i.data_source_id, i.external_id, i.parent_external_id FROM app.sync_items i
                  JOIN forgotten f ON i.data_source_id = f.data_source_id AND i.external_id = f.parent_external_id
                 WHERE i.user_id = :user_id)
            UPDATE app.sync_items i SET external_hash = ''
              FROM forgotten f
             WHERE i.user_id = :user_id AND i.data_source_id = f.data_source_id AND i.external_id = f.external_id"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    ).rowcount
