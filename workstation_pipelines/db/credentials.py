"""Sealed credentials of data sources. What is inside is sealed and opened elsewhere; nothing here can read it.

A refresh is serialised by an advisory lock and not by the row, since it waits for a vendor: a running sync shares the
row's lock at each commit, and must not wait for anyone's network. The row itself is locked for the length of an UPDATE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import DataSourceId, SourceType, UserId

SealedRecord = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """What a data source has: a sealed record or none, and whether the vendor has withdrawn the grant."""

    record: SealedRecord | None
    needs_reauth: bool


def read(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> StoredCredentials:
    """Raises NotFoundError."""
    row = connection.execute(
        text("SELECT auth_data, needs_reauth FROM app.data_sources WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": data_source_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no data source {data_source_id}: it was removed")
    return StoredCredentials(row.auth_data, row.needs_reauth)


@contextmanager
def locked(database: Database, *, user_id: UserId, data_source_id: UUID) -> Iterator[Connection]:
    """Open a transaction that is alone in changing these credentials, in all processes; it commits at the end.

    Raises SourceUnavailableError when another one holds them for longer than the role's lock_timeout.
    """
    with database.transaction_with_rls(user_id) as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
            {"key": f"credentials of data source {data_source_id}"},
        )
        yield connection


def replace(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, before: SealedRecord, after: SealedRecord
) -> bool:
    """Store a refreshed record unless someone has connected anew since `before` was read; return whether it was.

    A new wrapping of the same sealed text, as a change of keys makes it, is still `before`.
    """
    replaced = connection.execute(
        text(
            """UPDATE app.data_sources SET auth_data = :after
                WHERE user_id = :user_id AND id = :id AND auth_data->>'ct' = :ciphertext"""
        ).bindparams(bindparam("after", type_=JSONB)),
        {"user_id": user_id, "id": data_source_id, "after": dict(after), "ciphertext": before["ct"]},
    )
    return replaced.rowcount == 1


def mark_revoked(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, record: SealedRecord, message: str
) -> None:
    """Record that the vendor has withdrawn the grant in `record`; a newer one is left alone."""
    connection.execute(
        text(
            """UPDATE app.data_sources
                  SET needs_reauth = true, status_message = :message,
                      connection_status = CASE connection_status WHEN 'syncing' THEN 'syncing' ELSE 'error' END
                WHERE user_id = :user_id AND id = :id AND auth_data->>'ct' = :ciphertext"""
        ),
        {"user_id": user_id, "id": data_source_id, "ciphertext": record["ct"], "message": message},
    )


def connect(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, record: SealedRecord, external_account: str
) -> None:
    """Store new credentials, seen to work; cursors, items and documents stay as they are."""
    connection.execute(
        text(
            """UPDATE app.data_sources
                  SET auth_data = :record, external_account = :external_account, needs_reauth = false, status_message = '',
                      connection_status = CASE connection_status WHEN 'syncing' THEN 'syncing' ELSE 'connected' END
                WHERE user_id = :user_id AND id = :id"""
        ).bindparams(bindparam("record", type_=JSONB)),
        {
            "user_id": user_id,
            "id": data_source_id,
            "record": dict(record),
            "external_account": external_account,
        },
    )


def forget_position(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> None:
    """Make the next sync list everything: positions and containers of one account mean nothing in another.

    Items and documents stay until that listing has shown which of them are gone. The caller holds the lease.
    """
    for statement in (
        """UPDATE app.data_sources SET cursor = NULL, synced_scope = NULL, last_listed_at = NULL, last_probe_token = NULL
            WHERE user_id = :user_id AND id = :id""",
        """UPDATE app.sync_jobs SET progress_data = '{}'
            WHERE user_id = :user_id AND data_source_id = :id AND status <> 'running'""",
        "DELETE FROM app.sync_containers WHERE user_id = :user_id AND data_source_id = :id",
    ):
        connection.execute(text(statement), {"user_id": user_id, "id": data_source_id})


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What one step of a sweep did: `last_id` is where the next one goes on, None at the end."""

    rewrapped: int
    refused: list[DataSourceId]
    last_id: DataSourceId | None


def rewrap_some(
    connection: Connection,
    *,
    user_id: UserId,
    key_id: str,
    after: DataSourceId | None,
    limit: int,
    rewrap: Callable[[DataSourceId, SealedRecord], SealedRecord | None],
) -> Rewrapped:
    """Put up to `limit` records behind `after` under the key `key_id`; a record for which `rewrap` gives None is refused.

    Rows that a sync is just committing to are passed over, and are found by the next sweep.
    """
    rows = connection.execute(
        text(
            """SELECT id, auth_data FROM app.data_sources
                WHERE user_id = :user_id AND auth_data IS NOT NULL AND auth_data->>'kid' <> :key_id
                  AND (CAST(:after AS uuid) IS NULL OR id > :after)
                ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"""
        ),
        {"user_id": user_id, "key_id": key_id, "after": after, "limit": limit},
    ).all()
    done, refused = 0, []
    for row in rows:
        record = rewrap(DataSourceId(row.id), row.auth_data)
        if record is None:
            refused.append(DataSourceId(row.id))
        else:
            done += replace(connection, user_id=user_id, data_source_id=row.id, before=row.auth_data, after=record)
    return Rewrapped(done, refused, DataSourceId(rows[-1].id) if rows else None)


def sealed_with(connection: Connection, *, user_id: UserId) -> dict[str, int]:
    """Return how many of the user's records each key seals, by the key's id."""
    rows = connection.execute(
        text(
            """SELECT auth_data->>'kid' AS key_id, count(*) AS records FROM app.data_sources
                WHERE user_id = :user_id AND auth_data IS NOT NULL GROUP BY 1 ORDER BY 1"""
        ),
        {"user_id": user_id},
    )
    return {row.key_id: row.records for row in rows}


def owners(database: Database) -> list[UserId]:
    """Return every user with a data source at a vendor, in no order."""
    with database.across_users() as connection:
        found: set[str] = set()
        for source_type in SourceType:
            if source_type is SourceType.LOCAL_FOLDER:
                continue
            rows = connection.execute(
                text(
                    """SELECT DISTINCT app.data_source_owner(data_source_id) AS owner
                         FROM app.data_sources_of_type(:source_type)"""
                ),
                {"source_type": source_type.value},
            )
            found.update(row.owner for row in rows if row.owner)
    return [UserId(owner) for owner in found]
