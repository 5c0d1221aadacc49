"""Erasing all that came from a data source, in steps that may be interrupted, and counting what is left of it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, Table, func, select, text

from workstation_pipelines.db import tables
from workstation_pipelines.model import UserId


def census(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> dict[str, int]:
    """Count a source's rows in every table that knows sources or their documents; a table made later counts by itself."""
    counts = {"data_sources": _count(connection, tables.data_sources, user_id, "id", data_source_id)}
    for table in tables.metadata.sorted_tables:
        if "data_source_id" in table.c:
            counts[table.name] = _count(connection, table, user_id, "data_source_id", data_source_id)
        elif "document_id" in table.c:
            counts[table.name] = _count_of_documents(connection, table, user_id, data_source_id)
    return counts


def vectors_outside(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> int:
    """Count what an index outside the database was sent of a source's documents."""
    count: int = connection.execute(
        text(
            """
            SELECT coalesce(sum(s.chunk_count), 0)::bigint FROM app.index_sent s
              JOIN app.documents d ON d.user_id = s.user_id AND d.id = s.document_id
             WHERE s.user_id = :user_id AND d.data_source_id = :source"""
        ),
        {"user_id": user_id, "source": data_source_id},
    ).scalar_one()
    return count


def orphans_outside(connection: Connection, *, user_id: UserId) -> int:
    """Count what an index outside the database was sent, and not yet told to delete, of documents that are no more."""
    count: int = connection.execute(
        text(
            """
            SELECT coalesce(sum(s.chunk_count), 0)::bigint FROM app.index_sent s
             WHERE s.user_id = :user_id AND NOT EXISTS (
                SELECT FROM app.documents d WHERE d.user_id = s.user_id AND d.id = s.document_id)"""
        ),
        {"user_id": user_id},
    ).scalar_one()
    return count


def withdraw(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> None:
    """Forget a source's credentials and let nothing sync it any more; it stays until the last of its rows is gone."""
    connection.execute(
        text(
            """
            UPDATE app.data_sources
               SET auth_data = NULL, is_active = false, connection_status = 'disconnected', cursor = NULL,
                   status_message = 'being removed: `workstation source remove` goes on with it'
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": data_source_id},
    )


def delete_documents(connection: Connection, *, user_id: UserId, data_source_id: UUID, at_most: int) -> int:
    """Delete some of a source's documents with their chunks, live or not; return how many."""
    return connection.execute(
        text(
            """
            DELETE FROM app.documents
             WHERE user_id = :user_id AND id IN (
                SELECT id FROM app.documents
                 WHERE user_id = :user_id AND data_source_id = :source ORDER BY id LIMIT :at_most FOR UPDATE)"""
        ),
        {"user_id": user_id, "source": data_source_id, "at_most": at_most},
    ).rowcount


def delete_items(connection: Connection, *, user_id: UserId, data_source_id: UUID, at_most: int) -> int:
    """Delete some of a source's items; return how many."""
    return connection.execute(
        text(
            """
            DELETE FROM app.sync_items
             WHERE user_id = :user_id AND data_source_id = :source AND external_id IN (
                SELECT external_id FROM app.sync_items
                 WHERE user_id = :user_id AND data_source_id = :source ORDER BY external_id LIMIT :at_most)"""
        ),
        {"user_id": user_id, "source": data_source_id, "at_most": at_most},
    ).rowcount


def _count(connection: Connection, table: Table, user_id: UserId, column: str, value: UUID) -> int:
    statement = select(func.count()).where(table.c.user_id == user_id, table.c[column] == value)
    count: int = connection.execute(statement).scalar_one()
    return count


def _count_of_documents(connection: Connection, table: Table, user_id: UserId, data_source_id: UUID) -> int:
    documents = tables.documents
    statement = (
        select(func.count())
        .select_from(table)
        .join(documents, (documents.c.user_id == table.c.user_id) & (documents.c.id == table.c.document_id))
        .where(table.c.user_id == user_id, documents.c.user_id == user_id, documents.c.data_source_id == data_source_id)
    )
    count: int = connection.execute(statement).scalar_one()
    return count
