"""Scheduled workflows: each due time becomes one execution, whatever is killed meanwhile.

The execution is written in the transaction that moves its row on, under a key made of both, so that neither is without the
other. Launching it is somebody else's work, as that of every pending execution.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError
from workstation_pipelines.model import Clock, NewId
from workstation_pipelines.sync.schedule import next_run_at
from workstation_pipelines.workflow_model import Trigger

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.db.engine import Database
    from workstation_pipelines.db.workflow_schedules import DueWorkflow, ScheduledWorkflow

ROWS_AT_ONCE = 1000
LONGEST_TICK_S = 25.0
"""Dagster gives a tick 60 seconds; rows that are not reached by then are due in the next."""


@dataclass(frozen=True, slots=True)
class Started:
    """What one round did: new executions, rows that got their first time, and rows that cannot go on."""

    executions: int = 0
    timed: int = 0
    deactivated: int = 0


def start_due(
    database: Database,
    new_id: NewId,
    clock: Clock,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    longest_s: float = LONGEST_TICK_S,
) -> Started:
    """Write a pending execution of the newest version for each row that is due, all users', in a transaction each.

    Several may do so at the same time. After a downtime a row is made up for once. A row whose workflow is inactive, or
    whose input its newest version refuses, is deactivated with the reason. An error of one row is raised when all others
    have had their turn.
    """
    from workstation_pipelines.db import workflow_schedules

    until_s = monotonic() + longest_s
    outcomes: list[str] = []
    failure: Exception | None = None
    for due in workflow_schedules.due(database, at_most=ROWS_AT_ONCE):
        if monotonic() > until_s:
            break
        try:
            with database.transaction_with_rls(due.user_id, due.tenant_id) as connection:
                outcomes.append(_start(connection, due, new_id, clock))
        except SourceUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - raised below: one row that cannot be read holds up nobody else's
            failure = failure or error
    if failure is not None:
        raise failure
    return Started(outcomes.count("started"), outcomes.count("timed"), outcomes.count("deactivated"))


def _start(connection: Connection, due: DueWorkflow, new_id: NewId, clock: Clock) -> str:
    from workstation_pipelines.db import workflow_schedules

    place: dict[str, Any] = {"user_id": due.user_id, "tenant_id": due.tenant_id, "schedule_id": due.id}
    row = workflow_schedules.lock(connection, **place)
    if row is None or not row.is_active or row.next_run_at != due.next_run_at:
        return "another's"
    try:
        next_at = next_run_at(row.schedule_type, row.schedule_config, row.timezone, clock(), anchor=row.next_run_at)
        if row.next_run_at is None:
            workflow_schedules.give_time(connection, **place, next_at=next_at)
            return "timed"
        _write_execution(connection, row, f"{row.id}:{int(row.next_run_at.timestamp())}", new_id)
    except InvalidRequestError as error:
        # Left due it would fail every minute for ever.
        workflow_schedules.deactivate(connection, **place, error=error.message)
        return "deactivated"
    workflow_schedules.advance(connection, **place, due_at=row.next_run_at, next_at=next_at)
    return "started"


def _write_execution(connection: Connection, row: ScheduledWorkflow, key: str, new_id: NewId) -> None:
    """Raises InvalidRequestError, before anything is written."""
    from workstation_pipelines.db import workflows
    from workstation_pipelines.workflows import control

    owner: dict[str, Any] = {"user_id": row.user_id, "tenant_id": row.tenant_id}
    workflow = workflows.get(connection, **owner, workflow_id=row.workflow_id)
    if not workflow.is_active:
        raise InvalidRequestError(
            f"workflow {workflow.slug} is inactive: activate it with `workstation workflow activate {workflow.slug}`, and"
            " then resume this schedule"
        )
    control.write_execution(
        connection,
        **owner,
        new_id=new_id,
        version=workflows.version(connection, **owner, workflow_id=row.workflow_id),
        input=row.input,
        trigger=Trigger.SCHEDULE,
        idempotency_key=key,
        scheduled_workflow_id=row.id,
    )
