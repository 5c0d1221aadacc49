"""Events: what somebody should know of. Triggers write those of sync jobs and data sources, others come through here.

Of one `dedup_key` at most one is open: what happens again raises its `occurrences`. What is resolved stays as history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import EventId, EventKind, NewId, Severity, UserId

_SELECT = """
    SELECT e.id, e.kind, e.severity, e.data_source_id, s.name AS data_source_name, e.sync_job_id, e.message, e.detail,
           e.occurrences, e.last_occurred_at, e.resolved_at, e.seen_at, e.created_at
      FROM app.events e LEFT JOIN app.data_sources s ON s.user_id = e.user_id AND s.id = e.data_source_id
     WHERE e.user_id = :user_id"""


def open_event(
    connection: Connection,
    *,
    user_id: UserId,
    kind: EventKind,
    severity: Severity,
    message: str,
    about: UUID,
    new_id: NewId,
    data_source_id: UUID | None = None,
    sync_job_id: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
) -> EventId:
    """Open an event of this kind about one thing, or count it once more if one is open; return its id.

    `about` names that thing. `detail` holds ids and numbers only; a webhook whose id is its `webhook_id` is not told.
    The caller commits; webhooks are told of a new event from the same transaction on.
    """
    found: UUID = connection.execute(
        text(
            """SELECT app.open_event(:id, :user_id, :kind, :severity, CAST(:source AS uuid), CAST(:job AS uuid), :message,
                                     :detail, :same_as)"""
        ).bindparams(bindparam("detail", type_=JSONB)),
        {
            "id": new_id(),
            "user_id": user_id,
            "kind": kind.value,
            "severity": severity.value,
            "source": data_source_id,
            "job": sync_job_id,
            "message": message,
            "detail": dict(detail or {}),
            "same_as": f"{kind.value}:{about}",
        },
    ).scalar_one()
    return EventId(found)


def resolve_about(connection: Connection, *, user_id: UserId, kind: EventKind, about: UUID) -> bool:
    """Resolve the open event of this kind about one thing; return whether there was one."""
    resolved = connection.execute(
        text(
            """UPDATE app.events SET resolved_at = now()
                WHERE user_id = :user_id AND dedup_key = :same_as AND resolved_at IS NULL"""
        ),
        {"user_id": user_id, "same_as": f"{kind.value}:{about}"},
    )
    return resolved.rowcount == 1


def resolve(connection: Connection, *, user_id: UserId, event_id: UUID | None) -> int:
    """Resolve one event, or with None all that are open; return how many were. Raises NotFoundError for an unknown one."""
    if event_id is not None:
        get(connection, user_id=user_id, event_id=event_id)
    return connection.execute(
        text(
            """UPDATE app.events SET resolved_at = now(), seen_at = coalesce(seen_at, now())
                WHERE user_id = :user_id AND resolved_at IS NULL AND (CAST(:id AS uuid) IS NULL OR id = :id)"""
        ),
        {"user_id": user_id, "id": event_id},
    ).rowcount


def mark_seen(connection: Connection, *, user_id: UserId, event_id: UUID) -> None:
    """Record that the owner has looked at it; the first time counts."""
    connection.execute(
        text("UPDATE app.events SET seen_at = now() WHERE user_id = :user_id AND id = :id AND seen_at IS NULL"),
        {"user_id": user_id, "id": event_id},
    )


def get(connection: Connection, *, user_id: UserId, event_id: UUID) -> Row[Any]:
    """Raises NotFoundError."""
    row = connection.execute(text(f"{_SELECT} AND e.id = :id"), {"user_id": user_id, "id": event_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"no event {event_id}: `workstation events list --all` shows yours")
    return row


def recent(
    connection: Connection,
    *,
    user_id: UserId,
    is_open: bool,
    data_source_id: UUID | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Sequence[Row[Any]]:
    """Return events, those that happened last first; with `is_open` only those that nothing has resolved."""
    return connection.execute(
        text(
            f"""{_SELECT} AND (NOT :is_open OR e.resolved_at IS NULL)
                AND (CAST(:source AS uuid) IS NULL OR e.data_source_id = :source)
                ORDER BY e.last_occurred_at DESC, e.id DESC LIMIT :limit OFFSET :offset"""
        ),
        {"user_id": user_id, "is_open": is_open, "source": data_source_id, "limit": limit, "offset": offset},
    ).all()
