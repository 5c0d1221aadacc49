"""Freshness: how old a source's last sync may become before its owner should know. The rule is the view `source_freshness`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import events
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import DataSourceId, EventKind, NewId, Severity, UserId, aware_utc

SHORTEST_MINUTES = 5
LONGEST_MINUTES = 366 * 24 * 60
NO_OBJECTIVE = 0


def set_objective(connection: Connection, *, user_id: UserId, data_source_id: UUID, minutes: int | None) -> None:
    """Say how old a source's last sync may become; None follows its frequency, NO_OBJECTIVE asks for nothing.

    Raises NotFoundError, InvalidRequestError.
    """
    if minutes not in (None, NO_OBJECTIVE) and not SHORTEST_MINUTES <= minutes <= LONGEST_MINUTES:
        raise InvalidRequestError(
            f"a freshness objective of {minutes} minutes cannot be kept: use {SHORTEST_MINUTES} to {LONGEST_MINUTES}"
        )
    changed = connection.execute(
        text("UPDATE app.data_sources SET freshness_minutes = :minutes WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": data_source_id, "minutes": minutes},
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")


def objective_minutes(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> int | None:
    """Return the objective that holds, its own or that of its frequency; None when nobody waits for the source."""
    found: int | None = connection.execute(
        text("SELECT objective_minutes FROM app.source_freshness WHERE user_id = :user_id AND data_source_id = :id"),
        {"user_id": user_id, "id": data_source_id},
    ).scalar_one_or_none()
    return found


def changes(database: Database, *, at_most: int) -> list[tuple[UserId, DataSourceId]]:
    """Return all users' sources whose event and freshness do not agree, the longest overdue first."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id, data_source_id FROM app.freshness_changes(:at_most)"), {"at_most": at_most}
        )
        return [(UserId(row[0]), DataSourceId(row[1])) for row in rows]


def settle(connection: Connection, *, user_id: UserId, data_source_id: UUID, new_id: NewId) -> bool | None:
    """Open the event of a source that misses its objective, or resolve that of one that keeps it. Idempotent.

    Return whether the objective is missed, None for a source that was removed meanwhile.
    """
    row = connection.execute(
        text(
            """SELECT f.objective_minutes, f.due_at, f.is_missed,
                      EXISTS (SELECT FROM app.events e
                               WHERE e.user_id = f.user_id AND e.data_source_id = f.data_source_id
                                 AND e.kind = 'freshness_missed' AND e.resolved_at IS NULL) AS is_told
                 FROM app.source_freshness f WHERE f.user_id = :user_id AND f.data_source_id = :id"""
        ),
        {"user_id": user_id, "id": data_source_id},
    ).one_or_none()
    if row is None:
        return None
    if not row.is_missed:
        events.resolve_about(connection, user_id=user_id, kind=EventKind.FRESHNESS_MISSED, about=data_source_id)
    elif not row.is_told:
        events.open_event(
            connection,
            user_id=user_id,
            kind=EventKind.FRESHNESS_MISSED,
            severity=Severity.WARNING,
            message=f"no sync has ended well in {written_duration(row.objective_minutes)}: one was due by"
            f" {aware_utc(row.due_at):%Y-%m-%d %H:%M:%S} UTC",
            about=data_source_id,
            data_source_id=data_source_id,
            detail={"objective_minutes": row.objective_minutes, "due_at": row.due_at.isoformat()},
            new_id=new_id,
        )
    return bool(row.is_missed)


def written_duration(minutes: int) -> str:
    """Write minutes as `90 min`, `6 h` or `8 d`, in the largest unit that divides them."""
    for size, unit in ((24 * 60, "d"), (60, "h")):
        if minutes and minutes % size == 0:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"
