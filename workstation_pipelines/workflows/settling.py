"""Writes down how an execution stands when one of its runs is over: what its rows say counts more than the run's log.

A step is written before Dagster hears of it, so a killed process leaves rows that are ahead of the log, never behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workstation_pipelines.db import execution_control, executions, steps, timeline, workflow_runs
from workstation_pipelines.db.steps import Ending
from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.workflow_model import Execution, ExecutionStatus, SkipReason, Step, StepStatus
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.mirror import LOST, TIMED_OUT, Folded, FoldedStep, StepEvent, fold, shape

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.db.engine import Database
    from workstation_pipelines.db.workflow_runs import MirroredRun

_AT_WORK = (StepStatus.RUNNING, StepStatus.RETRYING)
_LOST_MESSAGE = "the process of its run is gone before it had ended"
_TIMED_OUT_MESSAGE = "it was at work when the time of its execution was over"
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunLog:
    """Events of a run in the order of their storage ids. `steps` also has what of the run itself decides how they ended."""

    steps: Sequence[StepEvent]
    timeline: Sequence[TimelineEvent]
    last_storage_id: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution becomes; `status` is over, or `waiting`."""

    status: ExecutionStatus
    error_class: str = ""
    error_message: str = ""


def follow(database: Database, run: MirroredRun, status: str, log: RunLog) -> None:
    """Write down what has happened to a run that is under way, and its status in Dagster. Raises NotFoundError."""
    owner: dict[str, Any] = {"user_id": run.user_id, "tenant_id": run.tenant_id}
    with database.transaction_with_rls(run.user_id, run.tenant_id) as connection:
        timeline.add_many(connection, **owner, execution_id=run.execution_id, events=log.timeline)
        _advance(connection, run, status, log)


def close(database: Database, run: MirroredRun, status: str, log: RunLog) -> bool:
    """Write down in one transaction how a run has ended, and its execution with it; False where that was done before.

    `status` is a RunStatus, `log` the whole log. Raises NotFoundError.
    """
    owner: dict[str, Any] = {"user_id": run.user_id, "tenant_id": run.tenant_id}
    with database.transaction_with_rls(run.user_id, run.tenant_id) as connection:
        execution = executions.lock(connection, **owner, execution_id=run.execution_id)
        if not _is_still_as_found(connection, execution, run):
            return False
        timeline.add_many(connection, **owner, execution_id=run.execution_id, events=log.timeline)
        if not execution.status.is_over:
            folded = fold(shape(execution.definition), log.steps, status, execution.cancel_requested)
            settle(connection, execution, folded)
        if run.is_open and run.run_id is not None:
            _advance(connection, run, status, log)
            workflow_runs.close(connection, **owner, run_id=run.run_id)
        return True


def settle(connection: Connection, execution: Execution, folded: Folded) -> None:
    """End what a run that is over has left open, and the execution, or let it wait; the caller holds its lock()."""
    owner: dict[str, Any] = {"user_id": execution.user_id, "tenant_id": execution.tenant_id}
    rows = steps.standing(connection, **owner, execution_id=execution.id)
    ends = endings(rows, folded)
    if ends:
        steps.close_open(connection, **owner, execution_id=execution.id, endings=ends)
        rows = steps.standing(connection, **owner, execution_id=execution.id)
    found = outcome(execution, rows, folded)
    if found.status is ExecutionStatus.WAITING:
        execution_control.set_waiting(connection, **owner, execution_id=execution.id)
        return
    output = None
    if found.status is ExecutionStatus.COMPLETED:
        definition = shape(execution.definition)
        given = steps.outputs(connection, **owner, execution_id=execution.id, node_ids=flow.givers(definition))
        output = flow.output_of(definition, given)
    execution_control.end(
        connection,
        **owner,
        execution_id=execution.id,
        status=found.status,
        output=output,
        error_class=found.error_class,
        error_message=found.error_message,
    )


def endings(steps: Sequence[Step], folded: Folded) -> list[Ending]:
    """Return how the steps end that are still open after a run that is over; those that go on waiting are not among them."""
    is_waiting = waits_on(steps, folded)
    ends = (_ending(step, folded.steps.get(step.node_id, FoldedStep()), is_waiting) for step in steps)
    return [end for end in ends if end is not None]


def outcome(execution: Execution, steps: Sequence[Step], folded: Folded) -> Outcome:
    """Return what becomes of the execution, from its steps as they stand after endings()."""
    if waits_on(steps, folded):
        return Outcome(ExecutionStatus.WAITING)
    if folded.status is ExecutionStatus.CANCELLED:
        by = "on request" if execution.cancel_requested else "in Dagster's pages"
        return Outcome(ExecutionStatus.CANCELLED, "CancelledError", f"cancelled {by}")
    failed = sorted(
        (step for step in steps if step.status is StepStatus.FAILED), key=lambda step: step.completed_at or _LATEST
    )
    if folded.status is ExecutionStatus.COMPLETED and not failed:
        return Outcome(ExecutionStatus.COMPLETED)
    if folded.error_class == TIMED_OUT:
        return Outcome(ExecutionStatus.FAILED, TIMED_OUT, "it took longer than its `timeout_s` allows")
    if folded.error_class == LOST or not failed:
        go_on = f"`workstation workflow retry {execution.id}` goes on from there"
        message = f"the process of its run is gone: what is completed stays, and {go_on}"
        return Outcome(ExecutionStatus.FAILED, LOST, message)
    first = failed[0]
    return Outcome(ExecutionStatus.FAILED, first.error_class, f"step {first.node_id} failed: {first.error_message}")


def waits_on(steps: Sequence[Step], folded: Folded) -> bool:
    """Whether the execution is to go on in another run, because a step waits and none has failed."""
    statuses = {step.status for step in steps}
    return (
        folded.status is ExecutionStatus.WAITING
        and StepStatus.WAITING in statuses
        and StepStatus.FAILED not in statuses
        and not statuses & {*_AT_WORK}
    )


def _ending(step: Step, told: FoldedStep, is_waiting: bool) -> Ending | None:
    if step.status.is_over:
        return None
    if told.status is StepStatus.SKIPPED and told.skip_reason is not SkipReason.NOT_REACHED:
        return Ending(step.node_id, StepStatus.SKIPPED, told.skip_reason)
    if is_waiting:
        return None
    if told.status is StepStatus.CANCELLED or step.status is StepStatus.WAITING:
        return Ending(step.node_id, StepStatus.CANCELLED, None, "CancelledError", "cancelled with its execution")
    if step.status in _AT_WORK or told.status in (StepStatus.FAILED, StepStatus.COMPLETED):
        if told.error_class == TIMED_OUT:
            return Ending(step.node_id, StepStatus.FAILED, None, TIMED_OUT, _TIMED_OUT_MESSAGE)
        error_class = told.error_class or LOST
        message = _LOST_MESSAGE if error_class == LOST else "its run says so, and no more: see the run's log"
        return Ending(step.node_id, StepStatus.FAILED, None, error_class, message)
    return Ending(step.node_id, StepStatus.SKIPPED, SkipReason.NOT_REACHED)


def _advance(connection: Connection, run: MirroredRun, status: str, log: RunLog) -> None:
    if run.run_id is not None:
        workflow_runs.advance(
            connection,
            user_id=run.user_id,
            tenant_id=run.tenant_id,
            run_id=run.run_id,
            last_storage_id=log.last_storage_id,
            dagster_status=status,
        )


def _is_still_as_found(connection: Connection, execution: Execution, run: MirroredRun) -> bool:
    owner: dict[str, Any] = {"user_id": run.user_id, "tenant_id": run.tenant_id}
    if run.is_open and run.run_id is not None:
        return not workflow_runs.lock(connection, **owner, run_id=run.run_id).is_closed
    runs = workflow_runs.of_execution(connection, **owner, execution_id=run.execution_id)
    return not execution.status.is_over and all(each.is_closed for each in runs)
