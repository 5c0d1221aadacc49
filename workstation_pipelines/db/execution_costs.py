"""What executions cost: by mode as their rows count it, by day or month as it was billed; and how long their nodes took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection, text

from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId, WorkflowId


class Period(StrEnum):
    """Days and months are those of UTC."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class ModeCost:
    """Executions of one mode, open ones included. `cost` is in US dollars."""

    mode: str
    executions: int
    completed: int
    failed: int
    cancelled: int
    input_tokens: int
    output_tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Billed:
    """What was billed for one unit in one period, which begins on `period`.

    `unpriced_quantity` is the part whose price nobody knows, which `cost` leaves out.
    """

    period: date
    unit: str
    executions: int
    quantity: int
    cost: Decimal
    unpriced_quantity: int


def cost_by_mode(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: WorkflowId | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[ModeCost]:
    """Return what executions created from `since` to before `until` cost, the dearest mode first."""
    rows = connection.execute(
        text(
            """
            SELECT mode, count(*) AS executions, count(*) FILTER (WHERE status = 'completed') AS completed,
                   count(*) FILTER (WHERE status = 'failed') AS failed,
                   count(*) FILTER (WHERE status = 'cancelled') AS cancelled, sum(input_tokens)::bigint AS input_tokens,
                   sum(output_tokens)::bigint AS output_tokens, sum(cost) AS cost
              FROM app.workflow_executions
             WHERE tenant_id = :tenant_id AND user_id = :user_id
               AND (CAST(:workflow_id AS uuid) IS NULL OR workflow_id = :workflow_id)
               AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
               AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
             GROUP BY mode ORDER BY sum(cost) DESC, count(*) DESC, mode"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until},
    )
    return [ModeCost(**row._asdict()) for row in rows]


def billing_by_period(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    by: Period,
    workflow_id: WorkflowId | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Billed]:
    """Return what was billed for executions that are still known, in order of period and unit.

    Hours from `since` to before `until` count.
    """
    rows = connection.execute(
        text(
            """
            SELECT date_trunc(:by, b.hour AT TIME ZONE 'UTC')::date AS period, b.unit,
                   count(DISTINCT b.job_id) AS executions, sum(b.quantity)::bigint AS quantity, sum(b.cost) AS cost,
                   coalesce(sum(b.quantity) FILTER (WHERE NOT b.is_priced), 0)::bigint AS unpriced_quantity
              FROM app.workflow_executions e
              JOIN app.billing_records b ON b.user_id = e.user_id AND b.job_id = e.id
             WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id
               AND (CAST(:workflow_id AS uuid) IS NULL OR e.workflow_id = :workflow_id)
               AND (CAST(:since AS timestamptz) IS NULL OR b.hour >= :since)
               AND (CAST(:until AS timestamptz) IS NULL OR b.hour < :until)
             GROUP BY 1, b.unit ORDER BY 1, b.unit"""
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "by": by.value,
            "workflow_id": workflow_id,
            "since": since,
            "until": until,
        },
    )
    return [Billed(**row._asdict()) for row in rows]


def median_durations_s(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: WorkflowId
) -> dict[str, float]:
    """Return how long each node of a workflow took to complete, by its id, as the median of the last hundred executions.

    Nodes that never completed are left out, and so are outputs that were taken over from an earlier execution.
    """
    rows = connection.execute(
        text(
            """
            SELECT node_id, percentile_cont(0.5) WITHIN GROUP (
                       ORDER BY extract(epoch FROM completed_at - started_at)) AS median_s
              FROM app.workflow_steps
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND status = 'completed'
               AND started_at IS NOT NULL AND reused_from_execution_id IS NULL
               AND execution_id IN (
                   SELECT id FROM app.workflow_executions
                    WHERE tenant_id = :tenant_id AND user_id = :user_id AND workflow_id = :workflow_id
                    ORDER BY created_at DESC LIMIT 100)
             GROUP BY node_id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "workflow_id": workflow_id},
    )
    return {row.node_id: float(row.median_s) for row in rows}
