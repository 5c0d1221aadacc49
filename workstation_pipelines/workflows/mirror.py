"""What the event log of a Dagster run says of an execution: the state of each node, and how the run has ended.

Dagster's rules are not written in its log alone: a node behind a failed one is given up without a word, and what a killed
process was about to do leaves no trace. So the log is read against the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from workstation_pipelines.workflow_model import (
    Definition,
    Edge,
    ExecutionStatus,
    Node,
    NodeId,
    SkipReason,
    StepStatus,
)
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.graph import graph_of

WAITS = "waits"
HELD = "held"
REUSED = "reused"
LOST = "RunLostError"
TIMED_OUT = "RunTimeoutError"
INTERRUPTED = "DagsterExecutionInterruptedError"
"""What a step is said to have failed with that a signal has ended: by itself it is unfinished."""


class EventKind(StrEnum):
    """The kinds of events that are folded, as Dagster stores them, and one of ours: its time limit has ended the run."""

    STARTED = "STEP_START"
    RESTARTED = "STEP_RESTARTED"
    OUTPUT = "STEP_OUTPUT"
    SUCCEEDED = "STEP_SUCCESS"
    FAILED = "STEP_FAILURE"
    UP_FOR_RETRY = "STEP_UP_FOR_RETRY"
    SKIPPED = "STEP_SKIPPED"
    CANCELING = "PIPELINE_CANCELING"
    OVERDUE = "overdue"


class RunStatus(StrEnum):
    """How a run has ended. LOST is our word for one that Dagster does not know any more."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"
    LOST = "LOST"


OVER = frozenset(status.value for status in RunStatus)
_DONE = (EventKind.OUTPUT, EventKind.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class StepEvent:
    """An event of a run. `step_key` is the node's id, empty for events of the run; `output` is named by OUTPUT alone."""

    storage_id: int
    kind: EventKind
    step_key: str
    output: str
    at: datetime
    error_class: str = ""


@dataclass(frozen=True, slots=True)
class FoldedStep:
    """A node after a run. `attempts` counts this run's alone. `outputs` are those of the op: `out`, `if_1`.. for each of
    flow.conditions_of() that is true, and the words above.

    A `pending` node has not had its turn, or waits behind one that waits (`is_held`). `ended_at` is None of one that is
    completed but was killed before it had named all its outputs.
    """

    status: StepStatus = StepStatus.PENDING
    skip_reason: SkipReason | None = None
    attempts: int = 0
    outputs: frozenset[str] = frozenset()
    is_held: bool = False
    error_class: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_reused(self) -> bool:
        return REUSED in self.outputs


@dataclass(frozen=True, slots=True)
class Folded:
    """The states of all nodes, and of the execution. `error_class` says why it failed: LOST, TIMED_OUT or that of a step.

    Unless `is_over`, the run goes on and nothing of it is final.
    """

    steps: Mapping[NodeId, FoldedStep]
    status: ExecutionStatus
    error_class: str
    is_over: bool


def fold(definition: Definition, events: Iterable[StepEvent], run_status: str, is_cancel_requested: bool) -> Folded:
    """Return what a run's log says. The events may come in any order, more than once, and with some missing at the end.

    `run_status` is Dagster's, or LOST; those that RunStatus has not are of a run under way.
    """
    log = sorted({event.storage_id: event for event in events}.values(), key=lambda event: event.storage_id)
    told = _told(log)
    steps = _judged(definition, told)
    if run_status not in OVER:
        is_begun = bool(told)
        return Folded(steps, ExecutionStatus.RUNNING if is_begun else ExecutionStatus.PENDING, "", is_over=False)
    kinds = {event.kind for event in log if not event.step_key}
    if EventKind.OVERDUE in kinds and run_status != RunStatus.SUCCESS:
        return Folded(_ended(steps, TIMED_OUT), ExecutionStatus.FAILED, TIMED_OUT, is_over=True)
    was_cancelled = is_cancel_requested or EventKind.CANCELING in kinds
    is_waiting = any(step.status is StepStatus.WAITING for step in steps.values())
    if run_status == RunStatus.CANCELED or (was_cancelled and (run_status != RunStatus.SUCCESS or is_waiting)):
        return Folded(_cancelled(steps), ExecutionStatus.CANCELLED, "", is_over=True)
    failed = [event for event in log if event.kind is EventKind.FAILED and event.error_class != INTERRUPTED]
    if not failed and run_status == RunStatus.SUCCESS and not _unfinished(steps):
        status = ExecutionStatus.WAITING if is_waiting else ExecutionStatus.COMPLETED
        return Folded(steps, status, "", is_over=True)
    is_lost = bool(_unfinished(steps)) or not failed
    error_class = LOST if is_lost else failed[0].error_class
    return Folded(_ended(steps, LOST), ExecutionStatus.FAILED, error_class, is_over=True)


def shape(document: Mapping[str, Any]) -> Definition:
    """Return the nodes and edges of a stored definition, in order, without looking at what the nodes are to do."""
    edges = [
        Edge(NodeId(edge["source"]), NodeId(edge["target"]), edge.get("condition"))
        for edge in document.get("edges", ())
    ]
    nodes = {
        node["id"]: Node(NodeId(node["id"]), str(node.get("type", "")), str(node.get("name", "")))
        for node in document.get("nodes", ())
    }
    order = graph_of(list(nodes), [(edge.source, edge.target) for edge in edges]).order
    return Definition([nodes[node_id] for node_id in order], edges, document)


def _told(log: Sequence[StepEvent]) -> dict[str, FoldedStep]:
    """What the events say of each node by themselves; the first end of a node stands."""
    told: dict[str, FoldedStep] = {}
    for event in log:
        if event.step_key:
            told[event.step_key] = _after(told.get(event.step_key, FoldedStep()), event)
    return told


def _after(step: FoldedStep, event: StepEvent) -> FoldedStep:
    has_done = step.status in (StepStatus.COMPLETED, StepStatus.WAITING) or step.is_held
    if step.status in (StepStatus.FAILED, StepStatus.SKIPPED) or (has_done and event.kind not in _DONE):
        return step
    match event.kind:
        case EventKind.STARTED | EventKind.RESTARTED:
            return replace(
                step,
                status=StepStatus.RUNNING,
                attempts=step.attempts + 1,
                started_at=step.started_at or event.at,
            )
        case EventKind.UP_FOR_RETRY:
            return replace(step, status=StepStatus.RETRYING)
        case EventKind.FAILED if event.error_class == INTERRUPTED:
            return step
        case EventKind.FAILED:
            return replace(step, status=StepStatus.FAILED, error_class=event.error_class, ended_at=event.at)
        case EventKind.SKIPPED:
            return replace(step, status=StepStatus.SKIPPED, skip_reason=SkipReason.CONDITION, ended_at=event.at)
        case EventKind.OUTPUT | EventKind.SUCCEEDED:
            # An op names its outputs after everything is stored: the first tells that, the success that there are no more.
            outputs = step.outputs | {event.output} if event.output else step.outputs
            ended_at = event.at if event.kind is EventKind.SUCCEEDED else step.ended_at
            return _succeeded(replace(step, outputs=outputs, ended_at=ended_at))
        case EventKind.CANCELING | EventKind.OVERDUE:
            return step


def _succeeded(step: FoldedStep) -> FoldedStep:
    if WAITS in step.outputs:
        return replace(step, status=StepStatus.WAITING)
    if HELD in step.outputs:
        return replace(step, status=StepStatus.PENDING, is_held=True, attempts=0, started_at=None)
    return replace(step, status=StepStatus.COMPLETED, attempts=0 if REUSED in step.outputs else step.attempts)


def _judged(definition: Definition, told: Mapping[str, FoldedStep]) -> dict[NodeId, FoldedStep]:
    """Add what the rules make of the nodes that were skipped, held, or never named."""
    steps = {node.id: told.get(node.id, FoldedStep()) for node in definition.nodes}
    decided = flow.decisions(
        definition, {node_id: _state(definition, node_id, step) for node_id, step in steps.items()}
    )
    for node_id, decision in decided.items():
        match decision.action:
            case flow.Action.HOLD:
                steps[node_id] = replace(steps[node_id], status=StepStatus.PENDING, skip_reason=None, is_held=True)
            case flow.Action.SKIP:
                steps[node_id] = replace(steps[node_id], status=StepStatus.SKIPPED, skip_reason=decision.reason)
            case flow.Action.RUN | flow.Action.NOT_YET:
                pass
            case _:
                assert_never(decision.action)
    return steps


def _state(definition: Definition, node_id: NodeId, step: FoldedStep) -> flow.NodeState:
    if step.status is StepStatus.SKIPPED or step.is_held:
        return flow.PENDING  # why it did not run is decided anew: Dagster says less
    if step.status is StepStatus.COMPLETED and step.ended_at is None:
        return flow.NodeState(StepStatus.RUNNING)  # where it leads to is not known yet
    conditions = [f"if_{number}" in step.outputs for number, _ in enumerate(flow.conditions_of(definition, node_id), 1)]
    return flow.NodeState(step.status, step.skip_reason, conditions)


def _is_settled(step: FoldedStep) -> bool:
    return step.status.is_over or step.status is StepStatus.WAITING or step.is_held


def _unfinished(steps: Mapping[NodeId, FoldedStep]) -> list[NodeId]:
    return [node_id for node_id, step in steps.items() if not _is_settled(step)]


def _cancelled(steps: Mapping[NodeId, FoldedStep]) -> dict[NodeId, FoldedStep]:
    return {
        node_id: step if step.status.is_over else replace(step, status=StepStatus.CANCELLED, is_held=False)
        for node_id, step in steps.items()
    }


def _ended(steps: Mapping[NodeId, FoldedStep], error_class: str) -> dict[NodeId, FoldedStep]:
    """End what a failed execution leaves: what was at work has failed, what waited is cancelled, the rest not reached."""
    ended: dict[NodeId, FoldedStep] = {}
    for node_id, step in steps.items():
        if step.status in (StepStatus.RUNNING, StepStatus.RETRYING):
            ended[node_id] = replace(step, status=StepStatus.FAILED, error_class=error_class)
        elif step.status is StepStatus.WAITING or step.is_held:
            ended[node_id] = replace(step, status=StepStatus.CANCELLED, is_held=False)
        elif step.status is StepStatus.PENDING:
            ended[node_id] = replace(step, status=StepStatus.SKIPPED, skip_reason=SkipReason.NOT_REACHED)
        else:
            ended[node_id] = step
    return ended
