"""The steps of an execution: how each stands, and the end of those that nobody works on any more.

db/attempts.py has what happens to a step while a run works on it, db/waits.py what a step waits for. Whoever writes here
holds executions.hold().
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import (
    ExecutionId,
    Json,
    NodeId,
    SkipReason,
    Step,
    StepId,
    StepStatus,
    TenantId,
    Wait,
    WaitKind,
)

_SELECT = """
    SELECT id, execution_id, node_id, node_type, name, status, attempts, {output} AS output, skip_reason,
           error_class, error_message,
           wait_kind, wait_until, wait_token_hash, wait_sync_job_id, wait_message, decision,
           reused_from_execution_id IS NOT NULL AS is_reused, input_tokens, output_tokens, cost, started_at, completed_at
      FROM app.workflow_steps
     WHERE tenant_id = :tenant_id AND user_id = :user_id AND {which}"""
_OF_EXECUTION = text(_SELECT.format(output="output", which="execution_id = :id ORDER BY ordinal, node_id"))
_STANDING = text(_SELECT.format(output="NULL::jsonb", which="execution_id = :id ORDER BY ordinal, node_id"))
_GET = text(_SELECT.format(output="output", which="id = :id"))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a step ends that its run has left open. `status` is failed, skipped or cancelled."""

    node_id: NodeId
    status: StepStatus
    skip_reason: SkipReason | None = None
    error_class: str = ""
    error_message: str = ""


def of_execution(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId
) -> list[Step]:
    """Return an execution's steps in topological order, those of an unknown one as none."""
    rows = connection.execute(_OF_EXECUTION, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id})
    return [_step(row) for row in rows]


def standing(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> list[Step]:
    """Return the same with None for every output: together those may be half a gigabyte."""
    rows = connection.execute(_STANDING, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id})
    return [_step(row) for row in rows]


def outputs(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    node_ids: Collection[NodeId],
) -> dict[NodeId, Json]:
    """Return the outputs of those of these nodes that have completed."""
    rows = connection.execute(
        text(
            """
            SELECT node_id, output FROM app.workflow_steps
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND execution_id = :id AND status = 'completed'
               AND node_id = ANY(:node_ids)"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id, "node_ids": list(node_ids)},
    )
    return {NodeId(row.node_id): row.output for row in rows}


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, step_id: StepId) -> Step:
    """Raises NotFoundError."""
    row = connection.execute(_GET, {"user_id": user_id, "tenant_id": tenant_id, "id": step_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"no step {step_id} of an execution")
    return _step(row)


def skip(connection: Connection, *, user_id: UserId, tenant_id: TenantId, step_id: StepId, reason: SkipReason) -> bool:
    """Skip a step that is still pending; return whether it was."""
    skipped = connection.execute(
        text(
            """
            UPDATE app.workflow_steps SET status = 'skipped', skip_reason = :reason, completed_at = now()
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND status = 'pending'"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": step_id, "reason": reason.value},
    )
    return skipped.rowcount == 1


# Attempts that were still at work fail or are cancelled with their step.
_CLOSE_BLOCKS = text(
    """
    UPDATE app.block_executions b
       SET status = CASE WHEN s.status = 'failed' THEN 'failed' ELSE 'cancelled' END, error_class = s.error_class,
           error_message = s.error_message, completed_at = now()
      FROM app.workflow_steps s
     WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.execution_id = ANY(:execution_ids)
       AND s.status IN ('failed', 'skipped', 'cancelled')
       AND b.tenant_id = s.tenant_id AND b.user_id = s.user_id AND b.step_id = s.id AND b.status = 'running'"""
)


def close_open(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    endings: Sequence[Ending],
) -> int:
    """End steps that are not over, with the attempts at them; return how many were ended. What is over stays as it is."""
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    closed = connection.execute(
        _CLOSE,
        {
            **owner,
            "execution_id": execution_id,
            "node_ids": [each.node_id for each in endings],
            "statuses": [each.status.value for each in endings],
            "reasons": [each.skip_reason.value if each.skip_reason else None for each in endings],
            "error_classes": [each.error_class[:200] for each in endings],
            "error_messages": [each.error_message[:2000] for each in endings],
        },
    )
    if closed.rowcount:
        connection.execute(_CLOSE_BLOCKS, {**owner, "execution_ids": [execution_id]})
    return closed.rowcount


_CLOSE = text(
    """
    UPDATE app.workflow_steps s
       SET status = n.status, skip_reason = n.skip_reason, error_class = n.error_class, error_message = n.error_message,
           completed_at = now()
      FROM unnest(CAST(:node_ids AS text[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
                  CAST(:error_classes AS text[]), CAST(:error_messages AS text[]))
           AS n (node_id, status, skip_reason, error_class, error_message)
     WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.execution_id = :execution_id AND s.node_id = n.node_id
       AND s.status IN ('pending', 'running', 'retrying', 'waiting')"""
)


def cancel_open(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_ids: Sequence[ExecutionId]
) -> int:
    """Cancel every step of these executions that is not over, with the attempts at them; return how many there were."""
    values = {"user_id": user_id, "tenant_id": tenant_id, "execution_ids": list(execution_ids)}
    cancelled = connection.execute(
        text(
            """
            UPDATE app.workflow_steps
               SET status = 'cancelled', error_class = 'CancelledError',
                   error_message = 'cancelled with its execution', completed_at = now()
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND execution_id = ANY(:execution_ids)
               AND status IN ('pending', 'running', 'retrying', 'waiting')"""
        ),
        values,
    )
    if cancelled.rowcount:
        connection.execute(_CLOSE_BLOCKS, values)
    return cancelled.rowcount


def _step(row: Row[Any]) -> Step:
    fields = row._asdict()
    kind = fields.pop("wait_kind")
    wait = Wait(
        kind=WaitKind(kind or WaitKind.TIME),
        until=fields.pop("wait_until"),
        token_hash=fields.pop("wait_token_hash"),
        sync_job_id=fields.pop("wait_sync_job_id"),
        message=fields.pop("wait_message"),
        decision=fields.pop("decision"),
    )
    reason = fields["skip_reason"]
    fields |= {
        "status": StepStatus(fields["status"]),
        "skip_reason": SkipReason(reason) if reason else None,
        "wait": wait if kind else None,
    }
    return Step(**fields)
