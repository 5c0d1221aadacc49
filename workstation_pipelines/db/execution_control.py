"""What moves an execution on: the begin of each of its runs, signs of life, requests to cancel, and its one end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db import audit, executions, steps, waits, workflow_runs
from workstation_pipelines.errors import FencedError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, Json, TenantId, WorkflowId

# Of a waiting one, something that it waits for must have come: waits.settle() has written that down before.
_BEGIN = text(
    """
    UPDATE app.workflow_executions e SET dagster_run_id = :run_id, run_number = run_number + 1
     WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = :id AND NOT e.cancel_requested
       AND coalesce(e.not_before <= now(), true)
       AND NOT EXISTS (SELECT FROM app.workflow_runs r
                        WHERE r.tenant_id = e.tenant_id AND r.user_id = e.user_id AND r.execution_id = e.id
                          AND NOT r.is_closed)
       AND (e.status = 'pending' OR (e.status = 'waiting' AND EXISTS (
            SELECT FROM app.workflow_steps s
             WHERE s.tenant_id = e.tenant_id AND s.user_id = e.user_id AND s.execution_id = e.id
               AND s.status = 'waiting' AND s.decision IS NOT NULL)))
    RETURNING e.run_number"""
)


def begin_run(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId, run_id: UUID
) -> int | None:
    """Write down that a Dagster run of this id works on the execution from now on; return its number, from 1.

    Returns None where none may begin: it is over or is to be, has a run already, is not due, or still waits for everything
    that it waits for. Of several callers at the same moment one gets a number. Raises NotFoundError.
    """
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    executions.hold(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
    waits.settle(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
    number: int | None = connection.execute(
        _BEGIN, {**owner, "id": execution_id, "run_id": run_id}
    ).scalar_one_or_none()
    if number is not None:
        workflow_runs.add(
            connection,
            user_id=user_id,
            tenant_id=tenant_id,
            execution_id=execution_id,
            run_id=run_id,
            number=number,
        )
    return number


def mark_running(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId, run_id: UUID | str
) -> bool:
    """Record that the run's process is at work; return whether a cancel was requested.

    Raises FencedError when the execution is over, or another run's.
    """
    cancel = connection.execute(
        text(
            """
            UPDATE app.workflow_executions
               SET status = 'running', started_at = coalesce(started_at, now()), heartbeat_at = now()
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id
               AND dagster_run_id = CAST(:run_id AS uuid) AND status IN ('pending', 'running', 'waiting')
            RETURNING cancel_requested"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id, "run_id": str(run_id)},
    ).scalar_one_or_none()
    return _still_its_own(execution_id, run_id, cancel)


def heartbeat(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId, run_id: UUID | str
) -> bool:
    """Say that the run is alive; return whether a cancel was requested. Raises FencedError as mark_running does."""
    cancel = connection.execute(
        text(
            """
            UPDATE app.workflow_executions SET heartbeat_at = now()
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id
               AND dagster_run_id = CAST(:run_id AS uuid) AND status IN ('pending', 'running', 'waiting')
            RETURNING cancel_requested"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id, "run_id": str(run_id)},
    ).scalar_one_or_none()
    return _still_its_own(execution_id, run_id, cancel)


def set_waiting(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> bool:
    """Let an execution wait, whose run has ended with steps that wait; return False where it is over."""
    waits = connection.execute(
        text(
            """
            UPDATE app.workflow_executions SET status = 'waiting', heartbeat_at = NULL
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id
               AND status IN ('pending', 'running', 'waiting')"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id},
    )
    return waits.rowcount == 1


def end(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    status: ExecutionStatus,
    output: Json = None,
    error_class: str = "",
    error_message: str = "",
) -> bool:
    """End an execution for good; return False where it is over already, and then nothing changes.

    Steps that are still open are cancelled with it: close them before, where more is known of them. The caller holds hold().
    """
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    if not status.is_over:
        raise ValueError(f"{status} is no end of an execution")
    steps.cancel_open(connection, user_id=user_id, tenant_id=tenant_id, execution_ids=[execution_id])
    ended = connection.execute(
        _END,
        {
            **owner,
            "id": execution_id,
            "status": status.value,
            "output": output,
            "error_class": error_class[:200],
            "error_message": error_message[:2000],
        },
    )
    return ended.rowcount == 1


_END = text(
    """
    UPDATE app.workflow_executions
       SET status = :status, output = :output, error_class = :error_class, error_message = :error_message,
           completed_at = now(), heartbeat_at = NULL
     WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND status IN ('pending', 'running', 'waiting')"""
).bindparams(bindparam("output", type_=JSONB(none_as_null=True)))


def request_cancel(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId
) -> ExecutionStatus:
    """End an execution that no run works on, or ask its run to stop; return its status now. Idempotent.

    Raises NotFoundError.
    """
    executions.hold(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    _cancel_locked(connection, owner, [execution_id])
    status: str = connection.execute(
        text(
            """
            SELECT status FROM app.workflow_executions
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id"""
        ),
        {**owner, "id": execution_id},
    ).scalar_one()
    return ExecutionStatus(status)


def request_cancel_where(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: WorkflowId | None = None,
    status: ExecutionStatus | None = None,
    older_than: timedelta | None = None,
    limit: int = 1000,
) -> list[ExecutionId]:
    """Cancel the open executions that fit, the oldest first; return their ids, with those that end once their run stops.

    An execution whose cancel was requested before is not among them.
    """
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    found = connection.execute(
        text(
            """
            SELECT id FROM app.workflow_executions
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND status IN ('pending', 'running', 'waiting')
               AND NOT cancel_requested
               AND (CAST(:workflow_id AS uuid) IS NULL OR workflow_id = :workflow_id)
               AND (CAST(:status AS text) IS NULL OR status = :status)
               AND (CAST(:older_than AS interval) IS NULL OR created_at < now() - CAST(:older_than AS interval))
             ORDER BY created_at, id LIMIT :limit FOR UPDATE"""
        ),
        {
            **owner,
            "workflow_id": workflow_id,
            "status": status.value if status is not None else None,
            "older_than": older_than,
            "limit": limit,
        },
    )
    ids = [ExecutionId(row.id) for row in found]
    _cancel_locked(connection, owner, ids)
    return ids


def _cancel_locked(connection: Connection, owner: Mapping[str, Any], ids: Sequence[ExecutionId]) -> None:
    idle = connection.execute(_REQUEST, {**owner, "ids": list(ids)}).scalars().all()
    if idle:
        steps.cancel_open(
            connection,
            user_id=owner["user_id"],
            tenant_id=owner["tenant_id"],
            execution_ids=[ExecutionId(each) for each in idle],
        )
        connection.execute(_CANCEL_IDLE, {**owner, "ids": list(idle)})


_REQUEST = text(
    """
    WITH asked AS (
        UPDATE app.workflow_executions
           SET cancel_requested = true, cancel_requested_at = coalesce(cancel_requested_at, now())
         WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = ANY(:ids)
           AND status IN ('pending', 'running', 'waiting')
        RETURNING id)
    SELECT a.id FROM asked a
     WHERE NOT EXISTS (SELECT FROM app.workflow_runs r
                        WHERE r.tenant_id = :tenant_id AND r.user_id = :user_id AND r.execution_id = a.id
                          AND NOT r.is_closed)"""
)
_CANCEL_IDLE = text(
    """
    UPDATE app.workflow_executions
       SET status = 'cancelled', error_class = 'CancelledError', error_message = 'cancelled on request',
           completed_at = now()
     WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = ANY(:ids)"""
)


def delete_older_than(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    age: timedelta,
    workflow_id: WorkflowId | None = None,
    limit: int = 1000,
) -> int:
    """Delete executions that have been over for so long, with all that belongs to them; return how many, of `limit` at most.

    What they cost stays billed, and counted in the figures of their workflows.
    """
    deleted = connection.execute(
        text(
            """
            DELETE FROM app.workflow_executions d
             WHERE d.tenant_id = :tenant_id AND d.user_id = :user_id AND d.id = ANY(ARRAY(
                   SELECT e.id FROM app.workflow_executions e
                    WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.completed_at <= now() - CAST(:age AS interval)
                      AND (CAST(:workflow_id AS uuid) IS NULL OR e.workflow_id = :workflow_id)
                    ORDER BY e.completed_at, e.id LIMIT :limit FOR UPDATE SKIP LOCKED))"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "age": age, "workflow_id": workflow_id, "limit": limit},
    ).rowcount
    if deleted:
        audit.append(connection, [audit.Entry("execution.purged", detail={"executions": deleted})])
    return deleted


def _still_its_own(execution_id: ExecutionId, run_id: UUID | str, cancel: bool | None) -> bool:
    if cancel is None:
        raise FencedError(f"execution {execution_id} is over, or not worked on by run {run_id} any more")
    return cancel
