"""Looks for executions whose rows and runs do not agree, and changes nothing: the mirror's own check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg

from workstation_pipelines.defs import event_logs
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import ExecutionId, TenantId

if TYPE_CHECKING:
    from workstation_pipelines.db.engine import Database
    from workstation_pipelines.db.workflow_runs import Run
    from workstation_pipelines.workflows.consistency import Told


@dataclass(frozen=True, slots=True)
class Disagreement:
    execution_id: ExecutionId
    problem: str


def disagreements(
    database: Database, instance: dg.DagsterInstance, *, user_id: UserId, tenant_id: TenantId, at_most: int = 200
) -> list[Disagreement]:
    """Return what does not agree in a user's newest executions; see consistency.problems(). Raises SourceUnavailableError."""
    from workstation_pipelines.db import blocks, executions, steps, workflow_runs
    from workstation_pipelines.workflows import consistency

    place: dict[str, Any] = {"user_id": user_id, "tenant_id": tenant_id}
    with database.transaction_with_rls(user_id, tenant_id) as connection:
        newest = [row.id for row in executions.listed(connection, **place, limit=at_most)]
    found = []
    for execution_id in newest:
        with database.transaction_with_rls(user_id, tenant_id) as connection:
            # Locked, so that its rows are of one moment.
            execution = executions.lock(connection, **place, execution_id=execution_id)
            runs = workflow_runs.of_execution(connection, **place, execution_id=execution_id)
            rows = steps.of_execution(connection, **place, execution_id=execution_id)
            attempts = blocks.of_execution(connection, **place, execution_id=execution_id)
        told = _told(instance, runs)
        found += [
            Disagreement(execution_id, each) for each in consistency.problems(execution, runs, rows, attempts, told)
        ]
    return found


def _told(instance: dg.DagsterInstance, runs: Sequence[Run]) -> Mapping[UUID, Told]:
    from workstation_pipelines.workflows.consistency import Told

    if not runs:
        return {}
    known = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=[str(run.id) for run in runs]))}
    return {
        run.id: Told(
            known[str(run.id)].status.value,
            event_logs.read(instance, run.id, with_steps=True).steps if run is runs[-1] else (),
        )
        for run in runs
        if str(run.id) in known
    }
