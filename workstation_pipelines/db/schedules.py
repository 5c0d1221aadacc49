"""Scheduled syncs: rows that say when a data source is synced. A row moves on only after its run exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import DataSourceId, SourceType, UserId

FREQUENCIES = ("manual", "hourly", "daily", "weekly")

_COLUMNS = "id, user_id, data_source_id, schedule_type, schedule_config, timezone, next_run_at"


@dataclass(frozen=True, slots=True)
class DueSync:
    """A row of scheduled_syncs; `next_run_at` is the due time that its run answers, None until the next tick computes it.

    `error` says why a row was deactivated.
    """

    id: UUID
    user_id: UserId
    data_source_id: DataSourceId
    schedule_type: str
    schedule_config: Mapping[str, Any]
    timezone: str
    next_run_at: datetime | None
    last_run_at: datetime | None = None
    is_active: bool = True
    error: str = ""


def due(database: Database, source_type: SourceType, *, at_most: int) -> list[DueSync]:
    """Return all users' rows of one source type that have no time yet, and then those that are due, the longest due first.

    The database's clock decides.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text(f"SELECT {_COLUMNS} FROM app.due_syncs(:source_type, :at_most)"),  # noqa: S608 - a constant above
            {"source_type": source_type.value, "at_most": at_most},
        )
        return [_from_row(row) for row in rows]


def advance(connection: Connection, *, user_id: UserId, schedule_id: UUID, due_at: datetime, next_at: datetime) -> bool:
    """Move a row on from the due time that was kept; False when it was edited or moved meanwhile. Idempotent."""
    moved = connection.execute(
        text(
            """
            UPDATE app.scheduled_syncs SET last_run_at = next_run_at, next_run_at = :next_at
             WHERE user_id = :user_id AND id = :id AND next_run_at = :due_at"""
        ),
        {"user_id": user_id, "id": schedule_id, "due_at": due_at, "next_at": next_at},
    )
    return moved.rowcount == 1


def give_time(connection: Connection, *, user_id: UserId, schedule_id: UUID, next_at: datetime) -> bool:
    """Store the first due time of a row that has none; False when somebody else did. Idempotent."""
    given = connection.execute(
        text(
            """
            UPDATE app.scheduled_syncs SET next_run_at = :next_at
             WHERE user_id = :user_id AND id = :id AND next_run_at IS NULL"""
        ),
        {"user_id": user_id, "id": schedule_id, "next_at": next_at},
    )
    return given.rowcount == 1


def deactivate(connection: Connection, *, user_id: UserId, schedule_id: UUID, error: str) -> None:
    """Let a row start nothing any more; it stays to be seen, with what is wrong with it."""
    connection.execute(
        text("UPDATE app.scheduled_syncs SET is_active = false, error = :error WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": schedule_id, "error": error[:1000]},
    )


def pause(connection: Connection, *, user_id: UserId, schedule_id: UUID) -> None:
    """Let a row start nothing until resume(). Idempotent. Raises NotFoundError."""
    paused = connection.execute(
        text(
            """
            UPDATE app.scheduled_syncs SET is_active = false, next_run_at = NULL
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": schedule_id},
    )
    if paused.rowcount != 1:
        raise _not_found(schedule_id)


def resume(connection: Connection, *, user_id: UserId, schedule_id: UUID, next_at: datetime) -> None:
    """Let a row start syncs again from `next_at` on: what was missed meanwhile is skipped. Raises NotFoundError."""
    resumed = connection.execute(
        text(
            """
            UPDATE app.scheduled_syncs SET is_active = true, next_run_at = :next_at
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": schedule_id, "next_at": next_at},
    )
    if resumed.rowcount != 1:
        raise _not_found(schedule_id)


def add(
    connection: Connection,
    *,
    user_id: UserId,
    schedule_id: UUID,
    data_source_id: UUID,
    schedule_type: str,
    config: Mapping[str, Any],
    timezone: str,
    next_at: datetime,
) -> DueSync:
    """Insert a row; `next_at` is what sync/schedule.py says. Raises InvalidRequestError for an unknown schedule type."""
    if schedule_type not in ("cron", "interval", "daily", "weekly"):
        raise InvalidRequestError(f"unknown schedule type {schedule_type!r}: use cron, interval, daily or weekly")
    row = connection.execute(
        text(
            f"""
            INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type, schedule_config, timezone, next_run_at)
            VALUES (:id, :user_id, :source, :schedule_type, :config, :timezone, :next_at)
            RETURNING {_COLUMNS}"""  # noqa: S608 - a constant above
        ).bindparams(bindparam("config", type_=JSONB)),
        {
            "id": schedule_id,
            "user_id": user_id,
            "source": data_source_id,
            "schedule_type": schedule_type,
            "config": dict(config),
            "timezone": timezone,
            "next_at": next_at,
        },
    ).one()
    return _from_row(row)


def of_user(connection: Connection, *, user_id: UserId, data_source_id: UUID | None = None) -> list[DueSync]:
    """Return a user's rows, of one source or all, in order of their next run."""
    rows = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS}, last_run_at, is_active, error FROM app.scheduled_syncs
             WHERE user_id = :user_id AND (CAST(:source AS uuid) IS NULL OR data_source_id = :source)
             ORDER BY next_run_at NULLS LAST, id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "source": data_source_id},
    )
    return [_from_row(row) for row in rows]


def get(connection: Connection, *, user_id: UserId, schedule_id: UUID) -> DueSync:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS}, last_run_at, is_active, error FROM app.scheduled_syncs
             WHERE user_id = :user_id AND id = :id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "id": schedule_id},
    ).one_or_none()
    if row is None:
        raise _not_found(schedule_id)
    return _from_row(row)


def remove(connection: Connection, *, user_id: UserId, schedule_id: UUID) -> None:
    """Delete a row; the source of one that its frequency made is then synced by hand. Raises NotFoundError."""
    values = {"user_id": user_id, "id": schedule_id}
    by_frequency = connection.execute(
        text(
            """
            UPDATE app.data_sources SET sync_frequency = 'manual'
             WHERE user_id = :user_id
               AND id = (SELECT data_source_id FROM app.scheduled_syncs
                          WHERE user_id = :user_id AND id = :id AND schedule_config ? 'frequency')"""
        ),
        values,
    )
    removed = connection.execute(text("DELETE FROM app.scheduled_syncs WHERE user_id = :user_id AND id = :id"), values)
    if by_frequency.rowcount + removed.rowcount == 0:
        raise _not_found(schedule_id)


def set_frequency(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, sync_frequency: str, timezone: str = "UTC"
) -> None:
    """Say how often a source is synced; the database keeps its one row for it. Idempotent.

    A new row is due at once, and then every hour from now, or every day or week at the same time of day in `timezone`,
    an IANA name. Rows made with add() stay. Raises NotFoundError, InvalidRequestError.
    """
    if sync_frequency not in FREQUENCIES:
        raise InvalidRequestError(f"unknown frequency {sync_frequency!r}: choose one of {', '.join(FREQUENCIES)}")
    changed = connection.execute(
        text(
            """
            UPDATE app.data_sources SET sync_frequency = :frequency, sync_timezone = :timezone
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"frequency": sync_frequency, "timezone": timezone, "user_id": user_id, "id": data_source_id},
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")


def _not_found(schedule_id: UUID) -> NotFoundError:
    return NotFoundError(f"no scheduled sync {schedule_id}: `workstation schedule list` shows yours")


def _from_row(row: Row[Any]) -> DueSync:
    return DueSync(**row._mapping)
