"""Executions of workflows: made, worked on by one Dagster run after the other, and ended exactly once.

Whoever writes rows of an execution locks it first, records what was spent next and writes steps then: so nobody waits in a
circle, and what one transaction tells of an execution comes before what the next one does. Counts, costs, the timeline, the
audit log and the statistics of its workflow are the database's own work, by triggers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import (
    Execution,
    ExecutionId,
    ExecutionStatus,
    Json,
    NodeId,
    RunOwner,
    StepId,
    TenantId,
    Trigger,
    WorkflowId,
    WorkflowVersionId,
)

LONGEST_KEY = 200
LEAST_PRIORITY, MOST_PRIORITY = -100, 100


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step of a new execution. `reuse` is where its output is taken from, instead of calling its block."""

    id: StepId
    node_id: NodeId
    node_type: str
    name: str
    ordinal: int
    reuse: tuple[ExecutionId, Json] | None = None


_SELECT = """
    SELECT e.id, e.tenant_id, e.user_id, e.workflow_id, e.workflow_version_id, e.version, w.slug, w.name, e.definition,
           e.input, e.status, e.mode, e.trigger, e.parent_execution_id, e.root_execution_id,
           e.dagster_run_id::text AS dagster_run_id, e.run_number, e.progress_percentage, e.steps_total, e.steps_over,
           e.output, e.error_class, e.error_message, e.input_tokens, e.output_tokens, e.cost, e.priority,
           e.cancel_requested, e.idempotency_key, e.created_at, e.started_at, e.completed_at
      FROM app.workflow_executions e
      JOIN app.workflows w ON w.tenant_id = e.tenant_id AND w.user_id = e.user_id AND w.id = e.workflow_id
     WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id"""

_GET = text(f"{_SELECT} AND e.id = :id")
_LOCK = text(f"{_SELECT} AND e.id = :id FOR UPDATE OF e")
_OF_KEY = text(f"{_SELECT} AND e.idempotency_key = :key")

# Two with one key at the same moment: the second waits for the first, and then finds its row. A workflow that is being
# deleted is waited for, and then is not there.
_INSERT = text(
    """
    INSERT INTO app.workflow_executions
        (id, tenant_id, user_id, workflow_id, workflow_version_id, version, definition, input, mode, trigger, priority,
         idempotency_key, scheduled_workflow_id, parent_execution_id, root_execution_id, not_before, steps_total)
    SELECT :id, v.tenant_id, v.user_id, v.workflow_id, v.id, v.version, v.definition, :input, :mode, :trigger, :priority,
           :key, CAST(:schedule AS uuid), CAST(:parent AS uuid), coalesce(p.root_execution_id, :id),
           CAST(:not_before AS timestamptz), :steps_total
      FROM app.workflow_versions v
      JOIN app.workflows w ON w.tenant_id = v.tenant_id AND w.user_id = v.user_id AND w.id = v.workflow_id
      LEFT JOIN app.workflow_executions p
        ON p.tenant_id = v.tenant_id AND p.user_id = v.user_id AND p.id = CAST(:parent AS uuid)
     WHERE v.tenant_id = :tenant_id AND v.user_id = :user_id AND v.id = :version_id
       AND (CAST(:parent AS uuid) IS NULL OR p.id IS NOT NULL)
       FOR KEY SHARE OF w
    ON CONFLICT ON CONSTRAINT workflow_executions_idempotency_key DO NOTHING
    RETURNING id"""
).bindparams(bindparam("input", type_=JSONB))

_INSERT_STEPS = text(
    """
    INSERT INTO app.workflow_steps (id, tenant_id, user_id, execution_id, node_id, node_type, name, ordinal, status, output,
                                    reused_from_execution_id, started_at, completed_at)
    SELECT s.id, :tenant_id, :user_id, :execution_id, s.node_id, s.node_type, s.name, s.ordinal,
           CASE WHEN s.reused_from IS NULL THEN 'pending' ELSE 'completed' END, CAST(s.output AS jsonb), s.reused_from,
           CASE WHEN s.reused_from IS NOT NULL THEN now() END, CASE WHEN s.reused_from IS NOT NULL THEN now() END
      FROM unnest(CAST(:ids AS uuid[]), CAST(:node_ids AS text[]), CAST(:node_types AS text[]), CAST(:names AS text[]),
                  CAST(:ordinals AS int[]), CAST(:outputs AS text[]), CAST(:reused_from AS uuid[]))
           AS s (id, node_id, node_type, name, ordinal, output, reused_from)
     ORDER BY s.ordinal"""
)


def create(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    version_id: WorkflowVersionId,
    input: Mapping[str, Json],
    steps: Sequence[NewStep],
    mode: str = "standard",
    trigger: Trigger = Trigger.MANUAL,
    priority: int = 0,
    idempotency_key: str | None = None,
    parent_execution_id: ExecutionId | None = None,
    not_before: datetime | None = None,
    scheduled_workflow_id: UUID | None = None,
) -> Execution:
    """Write a pending execution of a version, frozen as that is now, with its steps; the caller commits.

    A key asks once: the same key again, even at the same moment, returns the same execution, whatever has become of it.
    Raises NotFoundError for the version or the parent, InvalidRequestError for a key that was used for another workflow,
    and for a priority outside -100..100.
    """
    _refuse_unless_sensible(priority, idempotency_key)
    owner = {"user_id": user_id, "tenant_id": tenant_id}
    values = {
        **owner,
        "id": execution_id,
        "version_id": version_id,
        "input": dict(input),
        "mode": mode,
        "trigger": trigger.value,
        "priority": priority,
        "key": idempotency_key,
        "schedule": scheduled_workflow_id,
        "parent": parent_execution_id,
        "not_before": not_before,
        "steps_total": len(steps),
    }
    if connection.execute(_INSERT, values).scalar_one_or_none() is None:
        return _existing(connection, owner, version_id, idempotency_key, parent_execution_id)
    _insert_steps(connection, owner, execution_id, steps)
    return get(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)


def _refuse_unless_sensible(priority: int, key: str | None) -> None:
    if not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
        raise InvalidRequestError(f"priority {priority}: choose one from {LEAST_PRIORITY} to {MOST_PRIORITY}")
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        raise InvalidRequestError(f"an idempotency key has 1 to {LONGEST_KEY} printable characters")


def _existing(
    connection: Connection,
    owner: Mapping[str, Any],
    version_id: WorkflowVersionId,
    key: str | None,
    parent_id: ExecutionId | None,
) -> Execution:
    """Return the execution that has the key, for the workflow of this version."""
    row = connection.execute(_OF_KEY, {**owner, "key": key}).one_or_none()
    if row is None:
        of = f" or no execution {parent_id}" if parent_id else ""
        raise NotFoundError(f"no workflow version {version_id}{of}: `workstation workflow list` shows yours")
    is_same = connection.execute(
        text(
            """
            SELECT 1 FROM app.workflow_versions
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = :id AND workflow_id = :workflow_id"""
        ),
        {**owner, "id": version_id, "workflow_id": row.workflow_id},
    ).scalar_one_or_none()
    if is_same is None:
        raise InvalidRequestError(f"the key {key!r} was used for another workflow: choose a new one for each execution")
    return _execution(row)


def _insert_steps(
    connection: Connection, owner: Mapping[str, Any], execution_id: ExecutionId, steps: Sequence[NewStep]
) -> None:
    connection.execute(
        _INSERT_STEPS,
        {
            **owner,
            "execution_id": execution_id,
            "ids": [step.id for step in steps],
            "node_ids": [step.node_id for step in steps],
            "node_types": [step.node_type for step in steps],
            "names": [step.name for step in steps],
            "ordinals": [step.ordinal for step in steps],
            "outputs": [json.dumps(step.reuse[1], allow_nan=False) if step.reuse else None for step in steps],
            "reused_from": [step.reuse[0] if step.reuse else None for step in steps],
        },
    )


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> Execution:
    """Raises NotFoundError."""
    row = connection.execute(_GET, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id}).one_or_none()
    if row is None:
        raise _not_found(execution_id)
    return _execution(row)


def lock(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> Execution:
    """Lock an execution until the caller's transaction ends, and return it: the first thing that one does.

    Raises NotFoundError.
    """
    row = connection.execute(_LOCK, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id}).one_or_none()
    if row is None:
        raise _not_found(execution_id)
    return _execution(row)


@dataclass(frozen=True, slots=True)
class Held:
    """What of a locked execution decides who may write its rows."""

    status: ExecutionStatus
    dagster_run_id: str | None
    cancel_requested: bool


_HOLD = text(
    """
    SELECT e.status, e.dagster_run_id::text AS dagster_run_id, e.cancel_requested FROM app.workflow_executions e
     WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = :id FOR UPDATE"""
)


def hold(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> Held:
    """Lock an execution as lock() does, without reading its definition, input and output, of up to a megabyte each.

    Raises NotFoundError.
    """
    row = connection.execute(_HOLD, {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id}).one_or_none()
    if row is None:
        raise _not_found(execution_id)
    return Held(ExecutionStatus(row.status), row.dagster_run_id, row.cancel_requested)


def listed(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: WorkflowId | None = None,
    status: ExecutionStatus | None = None,
    errors_only: bool = False,
    trigger: Trigger | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Sequence[Row[Any]]:
    """Return rows of workflow_execution_summary, newest first: all of an Execution but definition, input and output.

    `errors_only` shows the failed ones. Those created from `since` to before `until` count.
    """
    return connection.execute(
        text(
            """
            SELECT * FROM app.workflow_execution_summary
             WHERE tenant_id = :tenant_id AND user_id = :user_id
               AND (CAST(:workflow_id AS uuid) IS NULL OR workflow_id = :workflow_id)
               AND (CAST(:status AS text) IS NULL OR status = :status)
               AND (NOT :errors_only OR status = 'failed')
               AND (CAST(:trigger AS text) IS NULL OR trigger = :trigger)
               AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
               AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
             ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"""
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "workflow_id": workflow_id,
            "status": status.value if status is not None else None,
            "errors_only": errors_only,
            "trigger": trigger.value if trigger is not None else None,
            "since": since,
            "until": until,
            "limit": limit,
            "offset": offset,
        },
    ).all()


def running(connection: Connection, *, user_id: UserId, tenant_id: TenantId, limit: int = 50) -> Sequence[Row[Any]]:
    """Return rows of workflow_execution_summary: what is not over, newest first."""
    return connection.execute(
        text(
            """
            SELECT * FROM app.workflow_execution_summary
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND status IN ('pending', 'running', 'waiting')
             ORDER BY created_at DESC, id DESC LIMIT :limit"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "limit": limit},
    ).all()


def standing(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_ids: Sequence[ExecutionId]
) -> Sequence[Row[Any]]:
    """Return id, status and cancel_requested of those of these executions that there are, the oldest first."""
    return connection.execute(
        text(
            """
            SELECT id, status, cancel_requested FROM app.workflow_executions
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND id = ANY(:ids) ORDER BY created_at, id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "ids": list(execution_ids)},
    ).all()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an execution is. `percentage` is 0 to 100; the nodes are in topological order."""

    status: ExecutionStatus
    steps_total: int
    steps_over: int
    percentage: float
    running: Sequence[NodeId]
    waiting: Sequence[NodeId]
    failed: Sequence[NodeId]


def progress(connection: Connection, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> Progress:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            """
            SELECT e.status, e.steps_total, e.steps_over, e.progress_percentage,
                   coalesce(array_agg(s.node_id ORDER BY s.ordinal) FILTER (WHERE s.status IN ('running', 'retrying')), '{}')
                       AS running,
                   coalesce(array_agg(s.node_id ORDER BY s.ordinal) FILTER (WHERE s.status = 'waiting'), '{}') AS waiting,
                   coalesce(array_agg(s.node_id ORDER BY s.ordinal) FILTER (WHERE s.status = 'failed'), '{}') AS failed
              FROM app.workflow_executions e
              LEFT JOIN app.workflow_steps s
                ON s.tenant_id = e.tenant_id AND s.user_id = e.user_id AND s.execution_id = e.id
             WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.id = :id
             GROUP BY e.id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id},
    ).one_or_none()
    if row is None:
        raise _not_found(execution_id)
    return Progress(
        status=ExecutionStatus(row.status),
        steps_total=row.steps_total,
        steps_over=row.steps_over,
        percentage=float(row.progress_percentage),
        running=row.running,
        waiting=row.waiting,
        failed=row.failed,
    )


def owner_of(database: Database, execution_id: ExecutionId) -> RunOwner | None:
    """Return whose execution this is: all that a Dagster run knows at its start is the id."""
    with database.across_users() as connection:
        row = connection.execute(
            text("SELECT user_id, tenant_id FROM app.execution_owner(:id)"), {"id": execution_id}
        ).one_or_none()
    return RunOwner(execution_id, UserId(row.user_id), TenantId(row.tenant_id)) if row else None


def to_start(database: Database, *, at_most: int) -> list[RunOwner]:
    """Return all users' executions that a run is to begin for: pending and due, or waiting for something that has come.

    Nobody's second comes before everybody's first; of one user's the higher priority, then the older.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT execution_id, user_id, tenant_id FROM app.executions_to_start(:at_most)"), {"at_most": at_most}
        ).all()
    return [RunOwner(ExecutionId(row[0]), UserId(row[1]), TenantId(row[2])) for row in rows]


def _not_found(execution_id: UUID) -> NotFoundError:
    return NotFoundError(f"no execution {execution_id}: `workstation workflow history` shows yours")


def _execution(row: Row[Any]) -> Execution:
    fields = row._asdict()
    return Execution(**{**fields, "status": ExecutionStatus(fields["status"]), "trigger": Trigger(fields["trigger"])})
