"""Whether the rows of an execution agree with each other and with what Dagster says of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from workstation_pipelines.db.blocks import BlockExecution
from workstation_pipelines.db.workflow_runs import Run
from workstation_pipelines.workflow_model import (
    BlockStatus,
    Execution,
    ExecutionStatus,
    SkipReason,
    Step,
    StepStatus,
)
from workstation_pipelines.workflows.mirror import OVER, FoldedStep, RunStatus, StepEvent, fold, shape

AT_WORK = (StepStatus.RUNNING, StepStatus.RETRYING)


@dataclass(frozen=True, slots=True)
class Told:
    """What Dagster says of a run: its status, and its log once it is over."""

    status: str
    log: Sequence[StepEvent] = ()


def problems(
    execution: Execution,
    runs: Sequence[Run],
    steps: Sequence[Step],
    blocks: Sequence[BlockExecution],
    told: Mapping[UUID, Told],
) -> Iterator[str]:
    """Yield what does not agree, nothing where all does. `told` lacks the runs that Dagster does not know.

    A run that has just ended, or is being made, is in disagreement until the mirror has looked: ask again after that.
    """
    yield from _among_rows(execution, runs, steps, blocks)
    for run in runs:
        known = told.get(run.id)
        if known is None:
            if not run.is_closed:
                yield f"run {run.number} is open, and Dagster does not know it"
        elif run.is_closed and run.dagster_status != known.status:
            yield f"run {run.number} is closed as {run.dagster_status}, and Dagster says {known.status}"
        elif not run.is_closed and known.status in OVER:
            yield f"run {run.number} is open, and Dagster says {known.status}"
    newest = runs[-1] if runs else None
    if newest is not None and newest.is_closed and newest.id in told and told[newest.id].status in OVER:
        yield from _with_log(execution, steps, told[newest.id])


def _among_rows(
    execution: Execution, runs: Sequence[Run], steps: Sequence[Step], blocks: Sequence[BlockExecution]
) -> Iterator[str]:
    has_run = any(not run.is_closed for run in runs)
    if execution.status.is_over:
        if has_run:
            yield f"it is {execution.status}, and has an open run"
        for step in steps:
            if not step.status.is_over:
                yield f"it is {execution.status}, and its step {step.node_id} is {step.status}"
    elif execution.status is ExecutionStatus.RUNNING and not has_run:
        yield "it is running, and no run works on it"
    elif (
        execution.status is ExecutionStatus.WAITING
        and not has_run
        and not any(step.status is StepStatus.WAITING for step in steps)
    ):
        yield "it is waiting, and no step is"
    by_id = {step.id: step for step in steps}
    for step in steps:
        if step.status in AT_WORK and not has_run:
            yield f"step {step.node_id} is {step.status}, and no run works on it"
    for block in blocks:
        if block.status is BlockStatus.RUNNING and by_id[block.step_id].status is not StepStatus.RUNNING:
            yield f"attempt {block.attempt} of step {block.node_id} is running, and the step {by_id[block.step_id].status}"


def _with_log(execution: Execution, steps: Sequence[Step], told: Told) -> Iterator[str]:
    folded = fold(shape(execution.definition), told.log, told.status, execution.cancel_requested)
    # Cancelled after this run, while it waited.
    is_later = folded.status is ExecutionStatus.WAITING and execution.status is ExecutionStatus.CANCELLED
    if execution.status is not folded.status and not is_later:
        yield f"it is {execution.status}, and the log of its newest run makes it {folded.status}"
    if folded.status is ExecutionStatus.COMPLETED and told.status != RunStatus.SUCCESS:
        yield f"the log of its newest run makes it completed, and Dagster says {told.status}"
    for step in steps:
        known = folded.steps.get(step.node_id, FoldedStep())
        if not (_agree(step, known) or (is_later and step.status is StepStatus.CANCELLED)):
            yield f"step {step.node_id} is {step.status}, and the log of its newest run makes it {known.status}"


def _agree(step: Step, told: FoldedStep) -> bool:
    if step.status is told.status:
        return step.skip_reason is told.skip_reason
    # A step is written before Dagster hears of it: of one that was killed in between the log knows less.
    is_cut_off = told.ended_at is None or told.skip_reason is SkipReason.NOT_REACHED
    return step.status.is_over and is_cut_off and told.status is not StepStatus.COMPLETED
