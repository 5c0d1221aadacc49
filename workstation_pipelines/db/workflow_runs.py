"""The Dagster runs of an execution, one after the other, and how far each one's event log was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import ExecutionId, TenantId

UNSEEN = "UNSEEN"
GONE = "GONE"
"""What stands for a run's status in Dagster when it does not know the run: not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run by the id that Dagster knows it by. Of a closed one nothing is read any more."""

    id: UUID
    execution_id: ExecutionId
    user_id: UserId
    tenant_id: TenantId
    number: int
    dagster_status: str
    last_storage_id: int
    is_closed: bool
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What may be told of an open run without its user's context."""

    run_id: UUID
    execution_id: ExecutionId
    user_id: UserId
    tenant_id: TenantId
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """What the mirror is told of a run without its user's context; seconds are by the database's clock.

    Where not `is_open`, it is the newest run, if there was one, of an execution that nothing works on though it runs or is to
    end. `unchanged_s` is since its row was written last, `silent_s` since its execution's last sign of life.
    """

    run_id: UUID | None
    execution_id: ExecutionId
    user_id: UserId
    tenant_id: TenantId
    is_open: bool
    dagster_status: str
    age_s: float
    unchanged_s: float
    asked_to_stop_s: float | None
    silent_s: float | None


_SELECT = """
    SELECT id, execution_id, user_id, tenant_id, number, dagster_status, last_storage_id, is_closed, created_at, closed_at
      FROM app.workflow_runs
     WHERE tenant_id = :tenant_id AND user_id = :user_id"""


def add(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    run_id: UUID,
    number: int,
) -> None:
    """Write an open run; execution_control.begin_run() says which number, and whether it may begin."""
    connection.execute(
        text(
            """
            INSERT INTO app.workflow_runs (id, tenant_id, user_id, execution_id, number)
            VALUES (:id, :tenant_id, :user_id, :execution_id, :number)"""
        ),
        {
            "id": run_id,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "execution_id": execution_id,
            "number": number,
        },
    )


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, run_id: UUID) -> Run:
    """Raises NotFoundError."""
    return _one(connection, text(f"{_SELECT} AND id = :id"), user_id, tenant_id, run_id)


def lock(connection: Connection, *, user_id: UserId, tenant_id: TenantId, run_id: UUID) -> Run:
    """Lock a run until the caller's transaction ends; its execution is locked before. Raises NotFoundError."""
    return _one(connection, text(f"{_SELECT} AND id = :id FOR UPDATE"), user_id, tenant_id, run_id)


def of_execution(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId
) -> Sequence[Run]:
    """Return an execution's runs in their order."""
    rows = connection.execute(
        text(f"{_SELECT} AND execution_id = :id ORDER BY number"),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id},
    )
    return [_run(row) for row in rows]


def advance(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    run_id: UUID,
    last_storage_id: int,
    dagster_status: str,
) -> bool:
    """Record how far the log was read, never back, and Dagster's status; return False for a run that is closed."""
    advanced = connection.execute(
        text(
            """
            UPDATE app.workflow_runs
               SET last_storage_id = greatest(last_storage_id, :last_storage_id), dagster_status = :status
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND NOT is_closed"""
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "id": run_id,
            "last_storage_id": last_storage_id,
            "status": dagster_status,
        },
    )
    return advanced.rowcount == 1


def close(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, run_id: UUID, dagster_status: str | None = None
) -> bool:
    """Close a run whose whole log is in the rows here; return False where that was done before."""
    closed = connection.execute(
        text(
            """
            UPDATE app.workflow_runs
               SET is_closed = true, closed_at = now(), dagster_status = coalesce(:status, dagster_status)
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND NOT is_closed"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": run_id, "status": dagster_status},
    )
    return closed.rowcount == 1


def open_runs(database: Database, *, at_most: int) -> list[OpenRun]:
    """Return all users' runs that are not closed, the oldest first."""
    with database.across_users() as connection:
        rows = connection.execute(
            text(
                """
                SELECT run_id, execution_id, user_id, tenant_id, created_at FROM app.open_workflow_runs(:at_most)"""
            ),
            {"at_most": at_most},
        ).all()
    return [OpenRun(row[0], ExecutionId(row[1]), UserId(row[2]), TenantId(row[3]), row[4]) for row in rows]


def to_mirror(database: Database, *, at_most: int, execution_id: ExecutionId | None = None) -> list[MirroredRun]:
    """Return all users' open runs, or those of one execution: the ones at work first, the others in no order.

    Besides those, what is left open of executions that no run works on.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT * FROM app.workflow_runs_to_mirror(:at_most, :execution_id)"),
            {"at_most": at_most, "execution_id": execution_id},
        )
        return [MirroredRun(**row._asdict()) for row in rows]


def _one(connection: Connection, statement: Any, user_id: UserId, tenant_id: TenantId, run_id: UUID) -> Run:
    row = connection.execute(statement, {"user_id": user_id, "tenant_id": tenant_id, "id": run_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"no run {run_id} of a workflow")
    return _run(row)


def _run(row: Row[Any]) -> Run:
    return Run(**row._asdict())
