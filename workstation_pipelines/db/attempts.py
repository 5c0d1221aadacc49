"""Attempts at a step, each from its begin to its one outcome.

Only the newest attempt of a step, and only while it is running, has an outcome: whoever comes later is refused. Each begin and
each outcome locks the execution; a caller that records what was spent does that before, and holds the execution for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.errors import CancelledError, FencedError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import Json, StepId, TenantId, Wait


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt took: tokens of a language model, and US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)


NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt at a step, as what ends it names it."""

    user_id: UserId
    tenant_id: TenantId
    step_id: StepId
    block_id: UUID


# One statement, since a workflow of many small steps does little else. What is locked is read as it is then, and steps and
# attempts change only while their execution is locked: so the rest of the statement decides on it, and not on what it saw.
_BEGIN = text(
    """
    WITH held AS (
        SELECT e.tenant_id, e.user_id, e.id, e.status, e.cancel_requested, e.dagster_run_id
          FROM app.workflow_executions e
         WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = (
               SELECT s.execution_id FROM app.workflow_steps s
                WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.id = :step_id)
           FOR UPDATE),
    step AS (
        UPDATE app.workflow_steps s
           SET status = 'running', attempts = s.attempts + 1, started_at = coalesce(s.started_at, now()), error_class = '',
               error_message = ''
          FROM held h
         WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.id = :step_id AND s.execution_id = h.id
           AND s.status IN ('pending', 'retrying', 'waiting') AND NOT h.cancel_requested
           AND h.dagster_run_id = CAST(:run_id AS uuid) AND h.status IN ('pending', 'running', 'waiting')
        RETURNING s.tenant_id, s.user_id, s.execution_id, s.id, s.node_id, s.attempts),
    block AS (
        INSERT INTO app.block_executions (id, tenant_id, user_id, execution_id, step_id, node_id, attempt, input,
                                          dagster_run_id)
        SELECT CAST(:block_id AS uuid), s.tenant_id, s.user_id, s.execution_id, s.id, s.node_id, s.attempts, :input,
               CAST(:run_id AS uuid)
          FROM step s
        RETURNING attempt)
    SELECT h.cancel_requested AND h.dagster_run_id = CAST(:run_id AS uuid)
               AND h.status IN ('pending', 'running', 'waiting') AS is_to_stop,
           (SELECT b.attempt FROM block b) AS attempt
      FROM held h"""
).bindparams(bindparam("input", type_=JSONB))


def begin(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    step_id: StepId,
    block_id: UUID,
    dagster_run_id: UUID | str,
    input: Mapping[str, Json],
) -> int:
    """Begin the next attempt at a step of an execution that this run works on; return its number, from 1 over all runs.

    `input` is what the block is given, secrets left out. Locks the execution. Raises CancelledError when that is to be
    cancelled, and FencedError when the step is over or being worked on, or the execution is over or another run's.
    """
    found = connection.execute(
        _BEGIN,
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "step_id": step_id,
            "block_id": block_id,
            "run_id": str(dagster_run_id),
            "input": dict(input),
        },
    ).one_or_none()
    if found is not None and found.is_to_stop:
        raise CancelledError("cancelled on request")
    if found is None or found.attempt is None:
        raise FencedError(f"step {step_id} is over, or not for run {dagster_run_id} to begin")
    attempt: int = found.attempt
    return attempt


# A step's own tokens and cost are the sum of its attempts', which a trigger keeps.
_END = """
    WITH held AS (
        SELECT e.id FROM app.workflow_executions e
         WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = (
               SELECT b.execution_id FROM app.block_executions b
                WHERE b.tenant_id = :tenant_id AND b.user_id = :user_id AND b.id = :block_id)
           FOR UPDATE),
    block AS (
        UPDATE app.block_executions b
           SET status = :block_status, error_class = :error_class, error_message = :error_message, completed_at = now(),
               input_tokens = b.input_tokens + :input_tokens, output_tokens = b.output_tokens + :output_tokens,
               cost = b.cost + :cost
          FROM held h
         WHERE b.tenant_id = :tenant_id AND b.user_id = :user_id AND b.id = :block_id AND b.step_id = :step_id
           AND b.execution_id = h.id AND b.status = 'running'
        RETURNING b.step_id, b.attempt),
    step AS (
        UPDATE app.workflow_steps s SET status = :status, {changes}
          FROM block b
         WHERE s.tenant_id = :tenant_id AND s.user_id = :user_id AND s.id = b.step_id AND s.status = 'running'
           AND s.attempts = b.attempt
        RETURNING s.id)
    SELECT count(*) FROM step"""
_COMPLETE = text(_END.format(changes="output = :output, completed_at = now()")).bindparams(
    bindparam("output", type_=JSONB(none_as_null=True))
)
_FAIL = text(
    _END.format(
        changes="""error_class = :error_class, error_message = :error_message,
           completed_at = CASE WHEN :status = 'failed' THEN now() END"""
    )
)
_FAIL_AND_WAIT = text(
    _END.format(
        changes="""error_class = :error_class, error_message = :error_message, wait_kind = 'time',
           wait_until = :until, decision = NULL"""
    )
)
_WAIT = text(
    _END.format(
        changes="""wait_kind = :kind, wait_until = :until, wait_token_hash = :token_hash, wait_sync_job_id = :sync_job_id,
           wait_message = :message, decision = NULL"""
    )
)
_CANCEL = text(_END.format(changes="error_class = :error_class, error_message = :error_message, completed_at = now()"))


_HOLD = text(
    """
    SELECT e.id FROM app.workflow_executions e
     WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = (
           SELECT b.execution_id FROM app.block_executions b
            WHERE b.tenant_id = :tenant_id AND b.user_id = :user_id AND b.id = :block_id)
       FOR UPDATE"""
)
_SPEND = text(
    """
    UPDATE app.block_executions
       SET input_tokens = input_tokens + :input_tokens, output_tokens = output_tokens + :output_tokens,
           cost = cost + :cost
     WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :block_id AND status = 'running'"""
)


def hold(connection: Connection, *, user_id: UserId, tenant_id: TenantId, block_id: UUID) -> None:
    """Lock the execution of an attempt until the transaction ends: whoever calls spend() does this before all else."""
    connection.execute(_HOLD, {"user_id": user_id, "tenant_id": tenant_id, "block_id": block_id})


def spend(connection: Connection, *, user_id: UserId, tenant_id: TenantId, block_id: UUID, spent: Spent) -> None:
    """Add to what an attempt has taken so far. Of one that is over, and of its execution, nothing is changed any more."""
    connection.execute(
        _SPEND,
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "block_id": block_id,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "cost": spent.cost,
        },
    )


def complete(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    step_id: StepId,
    block_id: UUID,
    output: Json,
    spent: Spent = NOTHING,
) -> None:
    """Complete a step with this attempt's output. Raises FencedError when the attempt is not the step's any more."""
    attempt = _Attempt(user_id, tenant_id, step_id, block_id)
    _end(connection, attempt, "completed", _COMPLETE, {"status": "completed", "output": output}, spent)


def fail(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    step_id: StepId,
    block_id: UUID,
    error_class: str,
    error_message: str,
    will_retry: bool,
    wait: Wait | None = None,
    spent: Spent = NOTHING,
) -> None:
    """Fail an attempt, and with it the step unless it is tried again: in this run, or with `wait` in one after its time.

    Raises FencedError when the attempt is not the step's any more.
    """
    attempt = _Attempt(user_id, tenant_id, step_id, block_id)
    error = {"error_class": error_class[:200], "error_message": error_message[:2000]}
    if wait is not None:
        _end(connection, attempt, "failed", _FAIL_AND_WAIT, {"status": "waiting", "until": wait.until, **error}, spent)
    else:
        _end(connection, attempt, "failed", _FAIL, {"status": "retrying" if will_retry else "failed", **error}, spent)


def wait(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    step_id: StepId,
    block_id: UUID,
    wait: Wait,
    spent: Spent = NOTHING,
) -> None:
    """Let a step wait. Raises FencedError when the attempt is not the step's any more."""
    values = {
        "status": "waiting",
        "kind": wait.kind.value,
        "until": wait.until,
        "token_hash": wait.token_hash,
        "sync_job_id": wait.sync_job_id,
        "message": wait.message[:2000],
    }
    _end(connection, _Attempt(user_id, tenant_id, step_id, block_id), "waiting", _WAIT, values, spent)


def cancel(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    step_id: StepId,
    block_id: UUID,
    spent: Spent = NOTHING,
) -> None:
    """Cancel a step in the middle of this attempt. Raises FencedError when the attempt is not the step's any more."""
    values = {"status": "cancelled", "error_class": "CancelledError", "error_message": "cancelled on request"}
    _end(connection, _Attempt(user_id, tenant_id, step_id, block_id), "cancelled", _CANCEL, values, spent)


def _end(
    connection: Connection,
    attempt: _Attempt,
    block_status: str,
    statement: Any,
    values: Mapping[str, Any],
    spent: Spent,
) -> None:
    place = {
        "user_id": attempt.user_id,
        "tenant_id": attempt.tenant_id,
        "step_id": attempt.step_id,
        "block_id": attempt.block_id,
    }
    ended = connection.execute(
        statement,
        {
            **place,
            "block_status": block_status,
            "error_class": "",
            "error_message": "",
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "cost": spent.cost,
            **values,
        },
    )
    if ended.scalar_one() != 1:
        raise FencedError(
            f"attempt {attempt.block_id} is not that of step {attempt.step_id} any more: its result is lost"
        )
