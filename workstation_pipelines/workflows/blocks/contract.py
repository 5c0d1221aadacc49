"""What a block is: a function from a call to a result, and the line of the registry that tells about it.

A new block is one function and one line in `blocks/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from workstation_pipelines.model import Clock, NewId, UserId
from workstation_pipelines.workflow_model import BlockResult, ExecutionId, NodeId, TenantId, Wait

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace


class BlockConfig(BaseModel):
    """The settings of a block; unknown ones are refused. Values have been resolved, so that no reference is left in them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Config = TypeVar("Config", bound=BlockConfig)

Resolve = Callable[[Any, Mapping[str, Any]], Any]
"""Returns a value with its references resolved, over the call's scope plus the names given; secrets among them.

Raises InvalidRequestError for an expression that cannot be evaluated. What comes out is not resolved again.
"""


class Stop(Protocol):
    """Tells a block that it is to end: its execution was cancelled, or its time is over."""

    def check(self) -> None:
        """Raise CancelledError, or RetryableError once the node's `timeout_s` are over; cheap enough for every loop."""

    def wait(self, seconds: float) -> None:
        """Sleep, and be woken by a stop: raises as check() does."""

    @property
    def left_s(self) -> float:
        """Seconds until the node's time is over."""


@dataclass(frozen=True, slots=True)
class BlockCall(Generic[Config]):
    """One attempt of one node.

    `inputs` are the outputs of the nodes whose edges led here, by node id in the order of the edges. `scope` is what
    expressions are evaluated on: {"input", "variables", "nodes": {id: {"output"}}, "execution": {"id", "workflow"}}.
    `wait` is what this node returned when it was called before, with the `decision` that came since; None the first time.
    `idempotency_key` is the same for every attempt of this node in this execution, and unlike any other. `secrets` are the
    values that any node's config refers to: they must reach no log and no message; outputs, lines and messages are redacted
    of them, and so has to be what a block stores by itself.
    """

    execution_id: ExecutionId
    node_id: NodeId
    attempt: int
    user_id: UserId
    tenant_id: TenantId
    config: Config
    inputs: Mapping[str, Any]
    scope: Mapping[str, Any]
    model_id: str | None
    wait: Wait | None
    idempotency_key: str
    stop: Stop
    workspace: Workspace
    clock: Clock
    new_id: NewId
    log: Callable[[str], None]
    """Adds a line to the execution's timeline, at once; redacted."""
    resolve: Resolve
    """Resolves the references of a lazy field; see BlockType."""
    block_id: UUID | None = None
    """The row of the attempt, which what it spends is counted in; None in a call that nothing is written of."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


Block = Callable[[BlockCall[Any]], BlockResult | Wait]
"""Returns its result, or a Wait: then it is called again, by another run, once that is over.

Raises RetryableError (tried again as the node's retry policy says, after `wait_s` at least), CancelledError from `stop`, and
for good: InvalidRequestError, ReauthorizeError, NotFoundError, BudgetReachedError. Anything else is a bug of the block.
"""


@dataclass(frozen=True, slots=True)
class BlockType:
    """A line of the registry.

    `calls` says in a few words whom outside it calls, empty if nobody. `default_timeout_s` counts where the node gives none.
    `lazy_fields` are those of its config that reach it as they were written, references and all: it resolves them itself by
    `call.resolve`, as often as it needs.
    """

    run: Block
    config: type[BlockConfig]
    summary: str
    calls: str = ""
    default_timeout_s: float = 300.0
    lazy_fields: frozenset[str] = frozenset()
