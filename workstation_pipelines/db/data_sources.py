"""Data sources: one connection of one user. Also their leases, since a lease is a lock on one and a number in its row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.sql.expression import TextClause, bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import (
    BusyError,
    FencedError,
    InvalidRequestError,
    NotFoundError,
    SourceUnavailableError,
)
from workstation_pipelines.model import Cursor, DataSourceId, SourceType, UserId

COLUMNS = """id, user_id, name, source_type, connection_status, status_message, config, cursor, fence, project_id,
             sync_frequency, is_active, external_account, total_items_synced, last_sync_at, last_sync_status, created_at,
             synced_scope, last_listed_at, needs_reauth"""


@dataclass(frozen=True, slots=True)
class DataSource:
    """A row of data_sources without its secrets; `cursor` is the promoted feed position, None before the first full sync.

    `synced_scope` is the scope of the last sync that ended well, `last_listed_at` when everything was listed last.
    """

    id: DataSourceId
    user_id: UserId
    name: str
    source_type: SourceType
    connection_status: str
    status_message: str
    config: Mapping[str, Any]
    cursor: Cursor | None
    fence: int
    project_id: UUID | None
    sync_frequency: str
    is_active: bool
    external_account: str | None
    total_items_synced: int
    last_sync_at: datetime | None
    last_sync_status: str | None
    created_at: datetime
    synced_scope: str | None = None
    last_listed_at: datetime | None = None
    needs_reauth: bool = False


HANDOVER_WAIT_MS = 500
"""How long a run waits for the lock of one that is just ending."""

TAKEOVER_WAIT_S = 5
"""How long a new holder waits for the transaction of one that lost its lock."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to sync one data source. Every write of the holder proves that `fence` is still the newest."""

    data_source_id: DataSourceId
    user_id: UserId
    fence: int


def _json(statement: str, *names: str) -> TextClause:
    return text(statement).bindparams(*(bindparam(name, type_=JSONB) for name in names))


def add(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: DataSourceId,
    name: str,
    source_type: SourceType,
    config: Mapping[str, Any],
    external_account: str | None = None,
    sync_frequency: str = "manual",
    project_id: UUID | None = None,
) -> DataSource:
    """Insert a connected data source. Raises InvalidRequestError when the user has one of that name."""
    statement = _json(
        f"""
        INSERT INTO app.data_sources (id, user_id, name, source_type, config, external_account, sync_frequency, project_id)
        VALUES (:id, :user_id, :name, :source_type, :config, :external_account, :sync_frequency, :project_id)
        RETURNING {COLUMNS}""",  # noqa: S608 - COLUMNS is a constant above
        "config",
    )
    try:
        row = connection.execute(
            statement,
            {
                "id": data_source_id,
                "user_id": user_id,
                "name": name,
                "source_type": source_type.value,
                "config": dict(config),
                "external_account": external_account,
                "sync_frequency": sync_frequency,
                "project_id": project_id,
            },
        ).one()
    except IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise InvalidRequestError(f"you already have a source named {name!r}: choose another name") from None
        raise
    return _from_row(row)


def all_of(connection: Connection, *, user_id: UserId) -> list[DataSource]:
    statement = text(f"SELECT {COLUMNS} FROM app.data_sources WHERE user_id = :user_id ORDER BY name")  # noqa: S608
    return [_from_row(row) for row in connection.execute(statement, {"user_id": user_id})]


def get(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> DataSource:
    """Raises NotFoundError."""
    statement = text(f"SELECT {COLUMNS} FROM app.data_sources WHERE user_id = :user_id AND id = :id")  # noqa: S608
    row = connection.execute(statement, {"user_id": user_id, "id": data_source_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")
    return _from_row(row)


def named(connection: Connection, *, user_id: UserId, name: str) -> DataSource:
    """Find by name, or by id written out. Raises NotFoundError."""
    statement = text(
        f"SELECT {COLUMNS} FROM app.data_sources WHERE user_id = :user_id AND (name = :name OR id::text = :name)"  # noqa: S608
    )
    row = connection.execute(statement, {"user_id": user_id, "name": name}).one_or_none()
    if row is None:
        raise NotFoundError(f"no data source named {name!r}: `workstation source list` shows yours")
    return _from_row(row)


def remove(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> None:
    """Delete the source with everything that came from it: documents, chunks, items, jobs, failures, schedules."""
    connection.execute(
        text("DELETE FROM app.data_sources WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": data_source_id},
    )


def set_status(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID,
    connection_status: str,
    message: str,
    needs_reauth: bool | None = None,
) -> None:
    """Record how the connection stands; None leaves `needs_reauth` as it is."""
    connection.execute(
        text(
            """UPDATE app.data_sources
                  SET connection_status = :status, status_message = :message,
                      needs_reauth = coalesce(:needs_reauth, needs_reauth)
                WHERE user_id = :user_id AND id = :id"""
        ),
        {
            "user_id": user_id,
            "id": data_source_id,
            "status": connection_status,
            "message": message,
            "needs_reauth": needs_reauth,
        },
    )


def set_config(connection: Connection, *, user_id: UserId, data_source_id: UUID, config: Mapping[str, Any]) -> None:
    """Replace what a source is told to take; the next sync sees whether that changes its scope. Raises NotFoundError."""
    changed = connection.execute(
        _json("UPDATE app.data_sources SET config = :config WHERE user_id = :user_id AND id = :id", "config"),
        {"user_id": user_id, "id": data_source_id, "config": dict(config)},
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"no data source {data_source_id}: it was removed a moment ago")


def is_listing_due(connection: Connection, lease: Lease, *, every: timedelta) -> bool:
    """Return whether everything was listed longer than `every` ago, by the database's clock; not if it never was."""
    return bool(
        connection.execute(
            text(
                """SELECT last_listed_at < now() - CAST(:every AS interval) FROM app.data_sources
                    WHERE user_id = :user_id AND id = :id"""
            ),
            {"user_id": lease.user_id, "id": lease.data_source_id, "every": every},
        ).scalar_one_or_none()
    )


@contextmanager
def leased(database: Database, source: DataSource) -> Iterator[Lease]:
    """Hold the data source for one run, or raise BusyError within half a second.

    The lock belongs to a connection of its own: when the holder dies, however it dies, the server frees it with the
    connection. A holder that was only asleep finds that the fence has moved on, and may not write any more.
    """
    key = lock_key(source.id)
    with database.direct_connection() as connection:
        try:
            # A server notices the end of a killed holder a moment after it.
            connection.execute(f"SET lock_timeout = '{HANDOVER_WAIT_MS}ms'".encode())
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
        except psycopg.errors.LockNotAvailable:
            raise BusyError(
                f"source {source.name!r} is being synced by another run: wait for it or look at `jobs list`"
            ) from None
        try:
            fence = _next_fence(database, source)
            if fence is None:
                raise NotFoundError(f"no data source {source.id}: it was removed a moment ago")
            yield Lease(source.id, source.user_id, fence)
        finally:
            # Closing frees it too, but only when the server gets to it, and the next run may come sooner.
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def lock_key(data_source_id: UUID) -> str:
    """Return the text whose hash is the advisory lock of a data source."""
    return f"sync of data source {data_source_id}"


def _next_fence(database: Database, source: DataSource) -> int | None:
    try:
        with database.transaction_with_rls(source.user_id) as transaction:
            transaction.execute(text(f"SET LOCAL lock_timeout = '{TAKEOVER_WAIT_S}s'"))
            fence: int | None = transaction.execute(
                text(
                    "UPDATE app.data_sources SET fence = fence + 1 WHERE user_id = :user_id AND id = :id RETURNING fence"
                ),
                {"user_id": source.user_id, "id": source.id},
            ).scalar_one_or_none()
            return fence
    except SourceUnavailableError as error:
        cause = error.__cause__
        if isinstance(cause, OperationalError) and isinstance(cause.orig, psycopg.errors.LockNotAvailable):
            # It lost its lock but sleeps inside a transaction, which the server ends after a while.
            raise BusyError(
                f"an earlier run of source {source.name!r} has not let go yet: try again in a minute"
            ) from None
        raise


def prove_lease(connection: Connection, lease: Lease) -> None:
    """Make this transaction safe from a newer holder until it ends. Raises FencedError when there is one already."""
    fence = connection.execute(
        text("SELECT fence FROM app.data_sources WHERE user_id = :user_id AND id = :id FOR SHARE"),
        {"user_id": lease.user_id, "id": lease.data_source_id},
    ).scalar_one_or_none()
    if fence != lease.fence:
        raise FencedError(
            f"data source {lease.data_source_id} was taken over by a newer run (fence {fence}, ours is {lease.fence})"
        )


def promote(
    connection: Connection,
    lease: Lease,
    *,
    cursor: Cursor | None,
    scope: str,
    is_listed: bool,
    status: str,
    items_synced: int,
) -> None:
    """Record a finished sync: the cursor moves only here, in the transaction that ends a fully worked listing or feed.

    A cursor of None leaves the one that is stored. `is_listed` tells that everything was listed.
    Raises FencedError when a newer run holds the data source.
    """
    promoted = connection.execute(
        _json(
            """
            UPDATE app.data_sources
               SET cursor = coalesce(:cursor, cursor), last_sync_at = now(), last_sync_status = :status,
                   total_items_synced = total_items_synced + :items, connection_status = 'connected', status_message = '',
                   needs_reauth = false, synced_scope = :scope,
                   last_listed_at = CASE WHEN :is_listed THEN now() ELSE last_listed_at END
             WHERE user_id = :user_id AND id = :id AND fence = :fence""",
            "cursor",
        ).bindparams(bindparam("cursor", type_=JSONB(none_as_null=True))),
        {
            "user_id": lease.user_id,
            "id": lease.data_source_id,
            "fence": lease.fence,
            "cursor": dict(cursor) if cursor is not None else None,
            "status": status,
            "scope": scope,
            "is_listed": is_listed,
            "items": items_synced,
        },
    )
    if promoted.rowcount != 1:
        raise FencedError(f"data source {lease.data_source_id} was taken over by a newer run (ours is {lease.fence})")


def ids_of_type(database: Database, source_type: SourceType) -> list[DataSourceId]:
    """Return the ids of all users' sources of one type; for the partitions."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT data_source_id FROM app.data_sources_of_type(:t)"), {"t": source_type.value}
        )
        return [DataSourceId(row[0]) for row in rows]


def to_probe(database: Database, source_type: SourceType, *, at_most: int) -> list[tuple[UserId, DataSourceId]]:
    """Return connected sources of all users, the one probed longest ago first."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id, data_source_id FROM app.sources_to_probe(:t, :n)"),
            {"t": source_type.value, "n": at_most},
        )
        return [(UserId(row[0]), DataSourceId(row[1])) for row in rows]


def set_probed(connection: Connection, *, user_id: UserId, data_source_id: UUID, token: str | None) -> None:
    """Remember when a source was probed and what the probe saw, so that only a change asks for a run."""
    connection.execute(
        text(
            """UPDATE app.data_sources SET last_probe_at = now(), last_probe_token = coalesce(:token, last_probe_token)
                WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": data_source_id, "token": token},
    )


def probe_token(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> str | None:
    token: str | None = connection.execute(
        text("SELECT last_probe_token FROM app.data_sources WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": data_source_id},
    ).scalar_one_or_none()
    return token


def summaries(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    """Return rows of data_source_summary by name."""
    return connection.execute(
        text("SELECT * FROM app.data_source_summary WHERE user_id = :user_id ORDER BY name"), {"user_id": user_id}
    ).all()


def _from_row(row: Row[Any]) -> DataSource:
    return DataSource(**{**row._mapping, "source_type": SourceType(row.source_type)})
