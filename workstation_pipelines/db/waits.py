"""What steps wait for: a person's decision, a time or a sync; and that it has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db import executions, steps
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import ExecutionId, Json, Step, StepId, StepStatus, TenantId

# As app.executions_to_start() has it. A sync job that is gone has come to an end, too, and one that wants an answer does
# nothing by itself.
_SETTLE = text(
    """
    UPDATE app.workflow_steps s
       SET decision = CASE s.wait_kind WHEN 'approval' THEN jsonb_build_object('expired', true) WHEN 'time' THEN '{}'::jsonb
                      ELSE jsonb_build_object('status', coalesce((
                          SELECT j.status FROM app.sync_jobs j
                           WHERE j.user_id = s.user_id AND j.id = s.wait_sync_job_id), 'removed')) END
     WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.execution_id = :id AND s.status = 'waiting'
       AND s.decision IS NULL
       AND (s.wait_until <= now() OR (s.wait_kind = 'sync' AND NOT EXISTS (
            SELECT FROM app.sync_jobs j
             WHERE j.user_id = s.user_id AND j.id = s.wait_sync_job_id
               AND j.status IN ('pending', 'running', 'paused'))))"""
)


def settle(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> int:
    """Write down, as the `decision` of each step that waits, what has come of itself; return how many there were.

    {"expired": true} of an approval, {"status": str} of a sync, {} of a time. A step without a decision waits on.
    """
    return connection.execute(_SETTLE, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id}).rowcount


_FIND = text(
    """
    SELECT id, execution_id FROM app.workflow_steps
     WHERE tenant_id = :tenant_id AND user_id = :user_id
       AND (wait_token_hash = CAST(:token_hash AS bytea) OR id = CAST(:step_id AS uuid))"""
)
_DECIDE = text(
    """
    UPDATE app.workflow_steps SET decision = :decision
     WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND status = 'waiting' AND wait_kind = 'approval'
       AND decision IS NULL AND coalesce(wait_until > now(), true)"""
).bindparams(bindparam("decision", type_=JSONB))


def decide(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    decision: Mapping[str, Json],
    token_hash: bytes | None = None,
    step_id: StepId | None = None,
) -> Step:
    """Decide on the step that waits for the approval with this token, or on this step, exactly once; return the step.

    Raises NotFoundError for a token or step that there is not, InvalidRequestError when it is too late: it was decided,
    has expired, waits for no approval, or its execution is over. Locks the execution.
    """
    owner: dict[str, Any] = {"user_id": user_id, "tenant_id": tenant_id}
    found = connection.execute(_FIND, {**owner, "token_hash": token_hash, "step_id": step_id}).one_or_none()
    if found is None:
        raise NotFoundError("nothing waits for this approval: check the token, it is given once and whole")
    execution = executions.hold(connection, **owner, execution_id=ExecutionId(found.execution_id))
    decided = connection.execute(_DECIDE, {**owner, "id": found.id, "decision": dict(decision)})
    step = steps.get(connection, **owner, step_id=StepId(found.id))
    if decided.rowcount != 1:
        raise InvalidRequestError(_too_late(step, is_over=execution.status.is_over))
    return step


def set_token(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, step_id: StepId, token_hash: bytes
) -> None:
    """Let the holder of a token decide on a step that waits for an approval, and of no earlier one; the caller holds hold().

    Raises NotFoundError, and InvalidRequestError when it is too late, as decide() does.
    """
    place = {"user_id": user_id, "tenant_id": tenant_id}
    given = connection.execute(
        text(
            """
            UPDATE app.workflow_steps SET wait_token_hash = :token_hash
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND status = 'waiting'
               AND wait_kind = 'approval' AND decision IS NULL AND coalesce(wait_until > now(), true)"""
        ),
        {**place, "id": step_id, "token_hash": token_hash},
    )
    if given.rowcount != 1:
        step = steps.get(connection, user_id=user_id, tenant_id=tenant_id, step_id=step_id)
        execution = executions.get(connection, user_id=user_id, tenant_id=tenant_id, execution_id=step.execution_id)
        raise InvalidRequestError(_too_late(step, is_over=execution.status.is_over))


def _too_late(step: Step, *, is_over: bool) -> str:
    if is_over:
        return f"step {step.node_id} waits no more: its execution {step.execution_id} is over"
    if step.status is not StepStatus.WAITING or step.wait is None:
        return f"step {step.node_id} of execution {step.execution_id} waits for nothing: it is {step.status}"
    if step.wait.decision is not None:
        return f"step {step.node_id} of execution {step.execution_id} has been decided"
    if step.wait.until is not None and step.wait.kind == "approval":
        return f"the approval of step {step.node_id} of execution {step.execution_id} has expired"
    return f"step {step.node_id} of execution {step.execution_id} waits for a {step.wait.kind}, not for an approval"
