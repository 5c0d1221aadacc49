"""Scheduled syncs: rows that say when a data source is synced. A row moves on only after its run exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import DataSourceId, SourceType, UserId

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FREQUENCIES = ("manual", "hourly", "daily", "weekly")

_COLUMNS = "id, user_id, data_source_id, schedule_type, schedule_config, timezone, next_run_at"


@dataclass(frozen=True, slots=True)
class DueSync:
    """A row of scheduled_syncs; `next_run_at` is the due time that its run answers, None while it has none."""

    id: UUID
    user_id: UserId
    data_source_id: DataSourceId
    schedule_type: str
    schedule_config: Mapping[str, Any]
    timezone: str
    next_run_at: datetime | None
    last_run_at: datetime | None = None
    is_active: bool = True


def due(database: Database, source_type: SourceType, *, at_most: int) -> list[DueSync]:
    """Return all users' rows of one source type that are due by the database's clock, the longest due first."""
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


def deactivate(connection: Connection, *, user_id: UserId, schedule_id: UUID) -> None:
    """Let a row start nothing any more; it stays to be seen."""
    connection.execute(
        text("UPDATE app.scheduled_syncs SET is_active = false WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": schedule_id},
    )


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
            SELECT {_COLUMNS}, last_run_at, is_active FROM app.scheduled_syncs
             WHERE user_id = :user_id AND (CAST(:source AS uuid) IS NULL OR data_source_id = :source)
             ORDER BY next_run_at NULLS LAST, id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "source": data_source_id},
    )
    return [_from_row(row) for row in rows]


def remove(connection: Connection, *, user_id: UserId, schedule_id: UUID) -> None:
    """Raises NotFoundError."""
    removed = connection.execute(
        text("DELETE FROM app.scheduled_syncs WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": schedule_id},
    )
    if removed.rowcount != 1:
        raise NotFoundError(f"no scheduled sync {schedule_id}")


def set_frequency(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID,
    sync_frequency: str,
    schedule_id: UUID,
    now: datetime,
    timezone: str = "UTC",
) -> None:
    """Say how often a source is synced: its column and its one row for it change together. Idempotent.

    A new row is due at once, and then every hour from `now`, or every day or week at the same time of day in
    `timezone`, an IANA name. `schedule_id` is for that row; rows made with add() stay.
    Raises NotFoundError, InvalidRequestError.
    """
    if sync_frequency not in FREQUENCIES:
        raise InvalidRequestError(f"unknown frequency {sync_frequency!r}: choose one of {', '.join(FREQUENCIES)}")
    values = {"frequency": sync_frequency, "user_id": user_id, "id": data_source_id}
    changed = connection.execute(
        text("UPDATE app.data_sources SET sync_frequency = :frequency WHERE user_id = :user_id AND id = :id"), values
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")
    connection.execute(
        text(
            """
            DELETE FROM app.scheduled_syncs
             WHERE user_id = :user_id AND data_source_id = :id AND schedule_config ->> 'frequency' <> :frequency"""
        ),
        values,
    )
    kept = connection.execute(
        text(
            """
            SELECT FROM app.scheduled_syncs
             WHERE user_id = :user_id AND data_source_id = :id AND schedule_config ->> 'frequency' = :frequency"""
        ),
        values,
    )
    if sync_frequency == "manual" or kept.first() is not None:
        return
    schedule_type, config = _frequency(sync_frequency, now.astimezone(ZoneInfo(timezone)))
    add(
        connection,
        user_id=user_id,
        schedule_id=schedule_id,
        data_source_id=data_source_id,
        schedule_type=schedule_type,
        config={**config, "frequency": sync_frequency},
        timezone=timezone,
        next_at=now,
    )


def _frequency(sync_frequency: str, local_now: datetime) -> tuple[str, dict[str, Any]]:
    at = f"{local_now:%H:%M}"
    if sync_frequency == "hourly":
        return "interval", {"minutes": 60}
    if sync_frequency == "daily":
        return "daily", {"at": at}
    return "weekly", {"at": at, "weekday": WEEKDAYS[local_now.weekday()]}


def _from_row(row: Row[Any]) -> DueSync:
    return DueSync(**row._mapping)
