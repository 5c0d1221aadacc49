"""Calls of blocks made by hand, without a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from workstation_pipelines.errors import CancelledError, RetryableError
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import ExecutionId, NodeId, TenantId, Wait
from workstation_pipelines.workflows import references
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass
class StopByHand:
    """A stop that a test sets; waits are written down and end at once, unless it `sleeps`."""

    timeout_s: float = 60.0
    sleeps: bool = False
    is_cancelled: threading.Event = field(default_factory=threading.Event)
    waits: list[float] = field(default_factory=list)
    begun_s: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        if self.is_cancelled.is_set():
            raise CancelledError("cancelled")
        if self.left_s <= 0:
            raise RetryableError("its time is over")

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.sleeps:
            self.is_cancelled.wait(min(seconds, self.left_s))
        self.check()

    @property
    def left_s(self) -> float:
        return self.begun_s + self.timeout_s - time.monotonic()


def call_of(
    block: str,
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, Any] | None = None,
    nodes: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    wait: Wait | None = None,
    stop: StopByHand | None = None,
    now: datetime = NOW,
    workspace: Workspace | None = None,
    user: str = "alice",
    execution_id: UUID | None = None,
    key: str = "execution:node",
    log: list[str] | None = None,
) -> BlockCall[Any]:
    """A call of a registered block with a config as a definition has it; `nodes` are outputs by node."""
    scope = {
        "input": dict(input or {}),
        "variables": {},
        "nodes": {name: {"output": output} for name, output in (nodes or {}).items()},
        "execution": {"id": "e", "workflow": "w", "number": 1},
    }
    kind = BLOCKS[block]
    resolved = references.resolve(config, scope, {}, lazy_fields=kind.lazy_fields)
    return BlockCall(
        execution_id=ExecutionId(execution_id or uuid4()),
        node_id=NodeId("node"),
        attempt=1,
        user_id=UserId(user),
        tenant_id=TenantId(user),
        config=kind.config.model_validate(resolved.value),
        inputs=inputs or {},
        scope=scope,
        model_id=None,
        wait=wait,
        idempotency_key=key,
        stop=stop or StopByHand(),
        workspace=workspace or cast("Workspace", None),
        clock=lambda: now,
        new_id=uuid4,
        log=(log if log is not None else []).append,
        resolve=lambda value, names: references.resolve_value(value, {**scope, **names}, {}),
    )


def run(block: str, config: Mapping[str, Any], **given: Any) -> Any:
    """The output of a block, or the Wait that it returns."""
    outcome = BLOCKS[block].run(call_of(block, config, **given))
    return outcome if isinstance(outcome, Wait) else outcome.output


def later(**given: float) -> datetime:
    return NOW + timedelta(**given)
