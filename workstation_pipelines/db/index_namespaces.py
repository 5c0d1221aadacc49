"""Namespaces in an index outside the database: which users have one, where it is, and whether it holds everything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId


class NamespaceStatus(StrEnum):
    """`copying` until everything that was there when it was opened has been sent once."""

    COPYING = "copying"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class IndexNamespace:
    """One user's part of one index at Pinecone, which is served at `host` and takes vectors of so many dimensions."""

    id: UUID
    user_id: UserId
    index_name: str
    host: str
    dimensions: int
    status: NamespaceStatus

    @property
    def name(self) -> str:
        """What the index calls it: nothing that tells whose it is."""
        return str(self.id)


def find(connection: Connection, *, user_id: UserId, index_name: str) -> IndexNamespace | None:
    row = connection.execute(
        text(f"{_SELECT} AND index_name = :index_name"), {"user_id": user_id, "index_name": index_name}
    ).one_or_none()
    return _namespace(row) if row else None


def get(connection: Connection, *, user_id: UserId, namespace_id: UUID) -> IndexNamespace:
    """Raises NotFoundError."""
    row = connection.execute(text(f"{_SELECT} AND id = :id"), {"user_id": user_id, "id": namespace_id}).one_or_none()
    if row is None:
        raise NotFoundError("no such namespace: it was dropped")
    return _namespace(row)


def all_of(connection: Connection, *, user_id: UserId) -> list[IndexNamespace]:
    """Return them by the name of their index."""
    rows = connection.execute(text(f"{_SELECT} ORDER BY index_name"), {"user_id": user_id})
    return [_namespace(row) for row in rows]


def open_namespace(
    connection: Connection, *, user_id: UserId, namespace_id: UUID, index_name: str, host: str, dimensions: int
) -> IndexNamespace:
    """Return the user's namespace of this index; a new one has every live document of theirs in its outbox.

    From the commit on, every change of a document is noted by triggers. To miss none in between this waits for the
    transactions that are writing the user's documents, and they for it. Idempotent; an index's host may have changed.
    """
    values = {
        "user_id": user_id,
        "id": namespace_id,
        "index_name": index_name,
        "host": host,
        "dimensions": dimensions,
    }
    connection.execute(text(_ALONE), {"user_id": user_id})
    namespace = _namespace(
        connection.execute(
            text(
                """
                INSERT INTO app.index_namespaces AS n (id, user_id, index_name, host, dimensions)
                VALUES (:id, :user_id, :index_name, :host, :dimensions)
                ON CONFLICT (user_id, store, index_name) DO UPDATE SET host = excluded.host
                RETURNING n.id, n.user_id, n.index_name, n.host, n.dimensions, n.status"""
            ),
            values,
        ).one()
    )
    if namespace.id == namespace_id:
        connection.execute(
            text(
                """
                INSERT INTO app.index_outbox (user_id, namespace_id, document_id)
                SELECT d.user_id, :id, d.id FROM app.documents d
                 WHERE d.user_id = :user_id AND d.deleted_at IS NULL ORDER BY d.id
                ON CONFLICT (user_id, namespace_id, document_id) DO NOTHING"""
            ),
            values,
        )
    return namespace


def set_ready_if_copied(connection: Connection, namespace: IndexNamespace) -> None:
    """Call a namespace ready once every document that was there when it was opened has been tried.

    What the index would not take stays in the outbox, where searches find it.
    """
    connection.execute(
        text(
            """
            UPDATE app.index_namespaces n SET status = 'ready'
             WHERE n.user_id = :user_id AND n.id = :id
               AND NOT EXISTS (SELECT FROM app.index_outbox o
                                WHERE o.user_id = n.user_id AND o.namespace_id = n.id AND o.created_at <= n.created_at
                                  AND o.attempts = 0)"""
        ),
        {"user_id": namespace.user_id, "id": namespace.id},
    )


def drop(connection: Connection, namespace: IndexNamespace) -> None:
    """Forget a namespace and what it was told. Nothing happens to the index itself."""
    connection.execute(text(_ALONE), {"user_id": namespace.user_id})
    connection.execute(
        text("DELETE FROM app.index_namespaces WHERE user_id = :user_id AND id = :id"),
        {"user_id": namespace.user_id, "id": namespace.id},
    )


def behind(database: Database, *, at_most: int) -> list[tuple[UserId, UUID]]:
    """Return (user, namespace id) where something is to be sent now, what has waited longest first."""
    with database.across_users() as connection:
        rows = connection.execute(text("SELECT * FROM app.indexes_behind(:at_most)"), {"at_most": at_most})
        return [(UserId(row.user_id), row.namespace_id) for row in rows]


_SELECT = """
    SELECT id, user_id, index_name, host, dimensions, status FROM app.index_namespaces WHERE user_id = :user_id"""

# The lock that the triggers of 015 share.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('index of ' || :user_id, 0))"


def _namespace(row: Any) -> IndexNamespace:
    return IndexNamespace(
        row.id, UserId(row.user_id), row.index_name, row.host, row.dimensions, NamespaceStatus(row.status)
    )
