"""Attempts at steps as they are shown, and those that only the event log of a run tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import BlockStatus, ExecutionId, Json, NodeId, StepId, TenantId


@dataclass(frozen=True, slots=True)
class BlockExecution:
    """One attempt at a step. `input` is what the block was given, secrets left out; `attempt` counts from 1 over all runs."""

    id: UUID
    execution_id: ExecutionId
    step_id: StepId
    node_id: NodeId
    attempt: int
    status: BlockStatus
    input: Mapping[str, Json]
    error_class: str
    error_message: str
    input_tokens: int
    output_tokens: int
    cost: Decimal
    dagster_run_id: str | None
    started_at: datetime
    completed_at: datetime | None


def of_execution(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    step_id: StepId | None = None,
) -> list[BlockExecution]:
    """Return the attempts at an execution's steps, or at one of them, in the order of their begin."""
    rows = connection.execute(
        text(
            """
            SELECT id, execution_id, step_id, node_id, attempt, status, input, error_class, error_message, input_tokens,
                   output_tokens, cost, dagster_run_id::text AS dagster_run_id, started_at, completed_at
              FROM app.block_executions
             WHERE tenant_id = :tenant_id AND user_id = :user_id AND execution_id = :execution_id
               AND (CAST(:step_id AS uuid) IS NULL OR step_id = :step_id)
             ORDER BY started_at, node_id, attempt"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "execution_id": execution_id, "step_id": step_id},
    )
    return [_block(row) for row in rows]


def _block(row: Row[Any]) -> BlockExecution:
    fields = row._asdict()
    return BlockExecution(**{**fields, "status": BlockStatus(fields["status"])})
