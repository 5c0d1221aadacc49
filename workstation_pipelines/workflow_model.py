"""The nouns of workflows: a Definition of Nodes and Edges, an Execution of it with a Step a node, and a step's attempts.

A definition is saved as an immutable version, an execution freezes the version it began with. An execution is worked on by
one Dagster run at a time, and by several one after the other when it has to wait: a run ends where everything that is left
waits for a person, a time or a sync, and the next one goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NewType, TypedDict
from uuid import UUID

from workstation_pipelines.model import Usage, UserId

TenantId = NewType("TenantId", str)
WorkflowId = NewType("WorkflowId", UUID)
WorkflowVersionId = NewType("WorkflowVersionId", UUID)
TemplateId = NewType("TemplateId", UUID)
ExecutionId = NewType("ExecutionId", UUID)
StepId = NewType("StepId", UUID)
NodeId = NewType("NodeId", str)

Json = Any
"""A value as JSON has it: None, bool, int, float, str, list or dict with str keys."""


class Owner(TypedDict):
    """Whose a workflow is and all that belongs to it, as the functions of db/ take it."""

    user_id: UserId
    tenant_id: TenantId


class Isolation(StrEnum):
    """Where the nodes of a run work: in threads of its process, or each in a process of its own, which takes seconds more."""

    THREADS = "threads"
    PROCESSES = "processes"


class ExecutionStatus(StrEnum):
    """`pending` has no run yet, `waiting` none at the moment: everything that is left waits for something outside."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


class StepStatus(StrEnum):
    """The state of a node in an execution. `retrying` has failed an attempt and waits for the next."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)


class SkipReason(StrEnum):
    """Why a node was not run: no edge led to it, one before it failed, or its run ended before it was its turn."""

    CONDITION = "condition"
    UPSTREAM_FAILED = "upstream_failed"
    NOT_REACHED = "not_reached"


class BlockStatus(StrEnum):
    """How one attempt of a node stands. `waiting`: it ended by asking to be called again after something has happened."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaitKind(StrEnum):
    APPROVAL = "approval"
    TIME = "time"
    SYNC = "sync"


class Trigger(StrEnum):
    """What made an execution."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    RETRY = "retry"
    API = "api"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a node is tried again after an error that may pass: `delay_s`, doubled each time up to `max_delay_s`."""

    max_retries: int = 0
    delay_s: float = 1.0
    max_delay_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """One block with its settings. `config` may hold references such as `${nodes.search.output.hits}`."""

    id: NodeId
    type: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Edge:
    """`condition` is a JMESPath expression over the scope (see Scope in workflows/references.py) plus the source's `output`;
    without one the edge is always taken once its source is completed."""

    source: NodeId
    target: NodeId
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class InputField:
    """What a workflow is given at its start. `type` is a JSON type, or `any`."""

    name: str
    type: str = "any"
    is_required: bool = False
    default: Json = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A validated workflow: no cycles, every reference leads to a node before it. `nodes` are in a topological order.

    `source` is the JSON it was read from, as stored. `mode` and `model_id` come from the older linear form: `model_id` is the
    default of `llm` blocks, `mode` a label that costs are summed up by.
    """

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    source: Mapping[str, Any]
    inputs: Sequence[InputField] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "standard"
    model_id: str | None = None
    timeout_s: float = 3600.0
    max_parallel: int = 4
    isolation: Isolation = Isolation.THREADS

    def node(self, node_id: str) -> Node:
        return next(node for node in self.nodes if node.id == node_id)

    def into(self, node_id: str) -> Sequence[Edge]:
        return [edge for edge in self.edges if edge.target == node_id]

    def out_of(self, node_id: str) -> Sequence[Edge]:
        return [edge for edge in self.edges if edge.source == node_id]


@dataclass(frozen=True, slots=True)
class Wait:
    """What a step waits for. An approval has the hash of its token and when it expires (`until`, None for never), a time is
    `until`, a sync is `sync_job_id`. `decision` is what came: {"approved": bool, "comment": str, "by": str,
    "decided_at": str} of an approval, {"expired": true} after its time, {"status": str} of a sync.
    """

    kind: WaitKind
    until: datetime | None = None
    token_hash: bytes | None = None
    sync_job_id: UUID | None = None
    message: str = ""
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The state of one node in one execution. `attempts` counts block executions over all its runs."""

    id: StepId
    execution_id: ExecutionId
    node_id: NodeId
    node_type: str
    name: str
    status: StepStatus
    attempts: int = 0
    output: Json = None
    skip_reason: SkipReason | None = None
    error_class: str = ""
    error_message: str = ""
    wait: Wait | None = None
    is_reused: bool = False
    """Whether its output was taken from the execution that this one retries."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of one workflow version. `definition` is the frozen JSON; nothing that is saved later changes it.

    `dagster_run_id` is the newest of its runs, None before the first, `run_number` counts them.
    """

    id: ExecutionId
    tenant_id: TenantId
    user_id: UserId
    workflow_id: WorkflowId
    workflow_version_id: WorkflowVersionId
    version: int
    slug: str
    name: str
    definition: Mapping[str, Any]
    input: Mapping[str, Any]
    status: ExecutionStatus
    mode: str
    trigger: Trigger
    parent_execution_id: ExecutionId | None
    root_execution_id: ExecutionId
    dagster_run_id: str | None
    run_number: int
    progress_percentage: Decimal
    steps_total: int
    steps_over: int
    output: Json
    error_class: str
    error_message: str
    input_tokens: int
    output_tokens: int
    cost: Decimal
    priority: int
    cancel_requested: bool
    idempotency_key: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a block returns when it is done. `output` is JSON of at most a megabyte; `usages` are billed with it.

    What it has billed before, by workflows/spending.py, is not among them.
    """

    output: Json
    usages: Sequence[Usage] = ()


@dataclass(frozen=True, slots=True)
class RunOwner:
    """Whose a run or an execution is: all that may be told without a user's context."""

    execution_id: ExecutionId
    user_id: UserId
    tenant_id: TenantId
