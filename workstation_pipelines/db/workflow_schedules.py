"""Scheduled workflows: rows that say when a workflow is executed. A row moves on in the transaction that makes the execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId, WorkflowId

_COLUMNS = """id, tenant_id, user_id, workflow_id, schedule_type, schedule_config, timezone, input, next_run_at,
    last_run_at, is_active, error"""


@dataclass(frozen=True, slots=True)
class ScheduledWorkflow:
    """A row of scheduled_workflows; `next_run_at` is the due time that an execution answers, None until it is computed.

    `input` is what each execution is given. `error` says why a row was deactivated.
    """

    id: UUID
    tenant_id: TenantId
    user_id: UserId
    workflow_id: WorkflowId
    schedule_type: str
    schedule_config: Mapping[str, Any]
    timezone: str
    input: Mapping[str, Any]
    next_run_at: datetime | None
    last_run_at: datetime | None
    is_active: bool
    error: str


class DueWorkflow(NamedTuple):
    """Whose a due row is, and since when; `next_run_at` of None is a row that has no time yet."""

    id: UUID
    user_id: UserId
    tenant_id: TenantId
    next_run_at: datetime | None


def due(database: Database, *, at_most: int) -> list[DueWorkflow]:
    """Return all users' active rows that have no time yet, and then those that are due, the longest due first.

    The database's clock decides.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT id, user_id, tenant_id, next_run_at FROM app.due_workflows(:at_most)"), {"at_most": at_most}
        )
        return [DueWorkflow(*row) for row in rows]


def add(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    schedule_id: UUID,
    workflow_id: UUID,
    schedule_type: str,
    config: Mapping[str, Any],
    timezone: str,
    next_at: datetime,
    input: Mapping[str, Any],
) -> ScheduledWorkflow:
    """Insert a row; `next_at` is what sync/schedule.py says.

    Raises InvalidRequestError for an unknown schedule type, NotFoundError for an unknown workflow.
    """
    if schedule_type not in ("cron", "interval", "daily", "weekly"):
        raise InvalidRequestError(f"unknown schedule type {schedule_type!r}: use cron, interval, daily or weekly")
    statement = text(
        f"""
        INSERT INTO app.scheduled_workflows
            (id, tenant_id, user_id, workflow_id, schedule_type, schedule_config, timezone, next_run_at, input)
        VALUES (:id, :tenant_id, :user_id, :workflow, :schedule_type, :config, :timezone, :next_at, :input)
        RETURNING {_COLUMNS}"""  # noqa: S608 - a constant above
    ).bindparams(bindparam("config", type_=JSONB), bindparam("input", type_=JSONB))
    values = {
        "id": schedule_id,
        "tenant_id": tenant_id,
        "user_id": user_id,
        "workflow": workflow_id,
        "schedule_type": schedule_type,
        "config": dict(config),
        "timezone": timezone,
        "next_at": next_at,
        "input": dict(input),
    }
    try:
        row = connection.execute(statement, values).one()
    except IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.ForeignKeyViolation):
            raise NotFoundError(f"no workflow {workflow_id}: `workstation workflow list` shows yours") from None
        raise
    return ScheduledWorkflow(**row._mapping)


def of_user(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID | None = None
) -> list[ScheduledWorkflow]:
    """Return a user's rows, of one workflow or all, in order of their next execution."""
    rows = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.scheduled_workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id
               AND (CAST(:workflow AS uuid) IS NULL OR workflow_id = :workflow)
             ORDER BY next_run_at NULLS LAST, id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "workflow": workflow_id},
    )
    return [ScheduledWorkflow(**row._mapping) for row in rows]


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID) -> ScheduledWorkflow:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.scheduled_workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id},
    ).one_or_none()
    if row is None:
        raise _not_found(schedule_id)
    return ScheduledWorkflow(**row._mapping)


def lock(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID
) -> ScheduledWorkflow | None:
    """Return a row that nobody else changes until this transaction ends; None when it is gone or somebody is at it."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.scheduled_workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id FOR UPDATE SKIP LOCKED"""  # noqa: S608
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id},
    ).one_or_none()
    return ScheduledWorkflow(**row._mapping) if row is not None else None


def advance(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    schedule_id: UUID,
    due_at: datetime,
    next_at: datetime,
) -> bool:
    """Move a row on from the due time that was kept; False when it was edited or moved meanwhile. Idempotent."""
    moved = connection.execute(
        text(
            """
            UPDATE app.scheduled_workflows SET last_run_at = next_run_at, next_run_at = :next_at
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id AND next_run_at = :due_at"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id, "due_at": due_at, "next_at": next_at},
    )
    return moved.rowcount == 1


def give_time(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID, next_at: datetime
) -> bool:
    """Store the first due time of a row that has none; False when somebody else did. Idempotent."""
    given = connection.execute(
        text(
            """
            UPDATE app.scheduled_workflows SET next_run_at = :next_at
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id AND next_run_at IS NULL"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id, "next_at": next_at},
    )
    return given.rowcount == 1


def deactivate(connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID, error: str) -> None:
    """Let a row start nothing any more; it stays to be seen, with what is wrong with it."""
    connection.execute(
        text(
            """
            UPDATE app.scheduled_workflows SET is_active = false, error = :error
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id, "error": error[:1000]},
    )


def pause(connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID) -> None:
    """Let a row start nothing until resume(). Idempotent. Raises NotFoundError."""
    paused = connection.execute(
        text(
            """
            UPDATE app.scheduled_workflows SET is_active = false, next_run_at = NULL
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id},
    )
    if paused.rowcount != 1:
        raise _not_found(schedule_id)


def resume(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID, next_at: datetime
) -> None:
    """Let a row start executions again from `next_at` on: what was missed meanwhile is skipped. Raises NotFoundError."""
    resumed = connection.execute(
        text(
            """
            UPDATE app.scheduled_workflows SET is_active = true, next_run_at = :next_at
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id, "next_at": next_at},
    )
    if resumed.rowcount != 1:
        raise _not_found(schedule_id)


def remove(connection: Connection, *, user_id: UserId, tenant_id: TenantId, schedule_id: UUID) -> None:
    """Delete a row; executions that it made stay. Raises NotFoundError."""
    removed = connection.execute(
        text("DELETE FROM app.scheduled_workflows WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"),
        {"user_id": user_id, "tenant_id": tenant_id, "id": schedule_id},
    )
    if removed.rowcount != 1:
        raise _not_found(schedule_id)


def _not_found(schedule_id: UUID) -> NotFoundError:
    return NotFoundError(f"no scheduled workflow {schedule_id}: `workstation workflow schedule list` shows yours")
