"""Calls of blocks made by hand, without a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from workstation_pipelines.errors import CancelledError, RetryableError
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import BlockResult, ExecutionId, NodeId, TenantId, Wait
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CANARY = "canary-5ecret-4711"
"""A secret of the user's; OPERATORS is one of the operator's. Neither may show anywhere."""
OPERATORS = "operator-k3y-0815"


@dataclass
class ScriptedStop:
    """A Stop that cancels when told to, and whose time ends after `ends_in_s`."""

    ends_in_s: float = 60.0
    cancelled: threading.Event = field(default_factory=threading.Event)
    began_s: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        if self.cancelled.is_set():
            raise CancelledError("cancelled")
        if self.left_s <= 0:
            raise RetryableError("the node's time is over")

    def wait(self, seconds: float) -> None:
        self.cancelled.wait(min(seconds, max(self.left_s, 0)))
        self.check()

    @property
    def left_s(self) -> float:
        return self.ends_in_s - (time.monotonic() - self.began_s)


@dataclass
class Desk:
    """Calls blocks under settings of one's own, and keeps what they log."""

    settings: Settings
    database: Any = None
    execution_id: UUID = field(default_factory=uuid4)
    logged: list[str] = field(default_factory=list)
    now: datetime = NOW

    def call(self, block: str, config: Mapping[str, Any], **more: Any) -> BlockCall[Any]:
        workspace = SimpleNamespace(settings=self.settings, database=self.database, new_id=uuid4)
        fields: dict[str, Any] = {
            "execution_id": ExecutionId(self.execution_id),
            "node_id": NodeId("node"),
            "attempt": 1,
            "user_id": UserId("alice"),
            "tenant_id": TenantId("acme"),
            "config": BLOCKS[block].config.model_validate(dict(config)),
            "inputs": {},
            "scope": {},
            "model_id": None,
            "wait": None,
            "idempotency_key": f"{self.execution_id}-node",
            "stop": ScriptedStop(),
            "workspace": cast(Workspace, workspace),
            "clock": lambda: self.now,
            "new_id": uuid4,
            "log": self.logged.append,
            "resolve": lambda value, _names: value,
            "secrets": frozenset((CANARY,)),
        }
        return BlockCall(**{**fields, **more})

    def ask(self, block: str, config: Mapping[str, Any], **more: Any) -> BlockResult | Wait:
        return BLOCKS[block].run(self.call(block, config, **more))

    def result(self, block: str, config: Mapping[str, Any], **more: Any) -> BlockResult:
        answer = self.ask(block, config, **more)
        assert isinstance(answer, BlockResult)
        assert CANARY not in str(answer)
        assert OPERATORS not in str(answer)
        return answer

    def output(self, block: str, config: Mapping[str, Any], **more: Any) -> Any:
        return self.result(block, config, **more).output


def settings(**given: Any) -> Settings:
    """Settings of aliases in any case, with loopback allowed to URLs that users write."""
    named = {name.upper(): value for name, value in given.items()}
    return Settings.model_validate({"WORKSTATION_FETCH_LOOPBACK": True, **named})
