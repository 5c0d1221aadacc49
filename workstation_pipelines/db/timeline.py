"""The timeline of an execution: what happened, in order. Triggers write each change of a status, others come through here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import executions
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import ExecutionId, TenantId

LONGEST_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One thing that happened. `kind` is what and how, as `step.completed`; `detail` has ids, numbers and short words only.

    What comes from Dagster's log of a run has its `storage_id` there, by which it is stored once. `seq` is the place among
    all events, None before it is stored.
    """

    kind: str
    occurred_at: datetime
    node_id: str = ""
    attempt: int | None = None
    message: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    dagster_run_id: UUID | None = None
    storage_id: int | None = None
    seq: int | None = None


_INSERT = text(
    """
    INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, attempt, message, detail,
                                     occurred_at, dagster_run_id, storage_id)
    SELECT gen_random_uuid(), :tenant_id, :user_id, :execution_id, s.kind, s.node_id, s.attempt, s.message,
           CAST(s.detail AS jsonb), s.occurred_at, s.dagster_run_id, s.storage_id
      FROM unnest(CAST(:kinds AS text[]), CAST(:node_ids AS text[]), CAST(:attempts AS int[]), CAST(:messages AS text[]),
                  CAST(:details AS text[]), CAST(:moments AS timestamptz[]), CAST(:run_ids AS uuid[]),
                  CAST(:storage_ids AS bigint[]))
           WITH ORDINALITY AS s (kind, node_id, attempt, message, detail, occurred_at, dagster_run_id, storage_id, place)
     ORDER BY s.place
    ON CONFLICT ON CONSTRAINT timeline_events_storage_key DO NOTHING"""
)


def add_many(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    events: Sequence[TimelineEvent],
) -> int:
    """Add events in their order; return how many were new. Those known by their storage id stay as they are.

    Locks the execution, so that events are seen in the order of their `seq`. Raises NotFoundError for the execution.
    """
    if not events:
        return 0
    executions.hold(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
    added = connection.execute(
        _INSERT,
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "execution_id": execution_id,
            "kinds": [event.kind for event in events],
            "node_ids": [event.node_id for event in events],
            "attempts": [event.attempt for event in events],
            "messages": [event.message[:LONGEST_MESSAGE] for event in events],
            "details": [json.dumps(dict(event.detail), allow_nan=False) for event in events],
            "moments": [event.occurred_at for event in events],
            "run_ids": [event.dagster_run_id for event in events],
            "storage_ids": [event.storage_id for event in events],
        },
    )
    return added.rowcount


def of_execution(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    after_seq: int = 0,
    limit: int = 1000,
) -> list[TimelineEvent]:
    """Return the events behind `after_seq`, in order."""
    rows = connection.execute(
        text(
            """
            SELECT kind, occurred_at, node_id, attempt, message, detail, dagster_run_id, storage_id, seq
              FROM app.timeline_events
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND execution_id = :id AND seq > :after_seq
             ORDER BY seq LIMIT :limit"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": execution_id, "after_seq": after_seq, "limit": limit},
    )
    return [TimelineEvent(**row._asdict()) for row in rows]
