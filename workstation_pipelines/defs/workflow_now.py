"""Executions as a command asks for them: handed to a Dagster that may be away, brought up to date, or run on the spot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException

from workstation_pipelines.db.engine import answers
from workstation_pipelines.defs import dev, mirroring, runs, workflow_launch
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, SourceUnavailableError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, Isolation, RunOwner, StepStatus, WaitKind
from workstation_pipelines.workflows import catalog

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

_AWAY = (DagsterPostgresException, SourceUnavailableError, OSError)
_LOOK_EVERY_S = 0.2


@contextmanager
def opened(workspace: Workspace) -> Iterator[Dagster]:
    """Open Dagster's storage; where it cannot be reached, what needs it is left to a sensor, which does it later."""
    with ExitStack() as stack:
        instance: dg.DagsterInstance | None = None
        storage_url = workspace.settings.dagster_postgres_url
        if storage_url is None or answers(storage_url):  # Dagster itself asks for half a minute
            with suppress(*_AWAY):
                instance = stack.enter_context(dev.open_instance(workspace.settings))
        yield Dagster(workspace, instance)


class Dagster:
    """What a command asks of Dagster for executions; `instance` is None where its storage is away."""

    def __init__(self, workspace: Workspace, instance: dg.DagsterInstance | None) -> None:
        self._workspace = workspace
        self._instance = instance

    def start(self, execution_id: ExecutionId) -> None:
        """Queue a run for an execution, unless it has one or cannot have one now. Idempotent."""
        if self._instance is not None:
            with suppress(*_AWAY):
                workflow_launch.start_execution(self._workspace, self._instance, self._owner(execution_id))

    def is_served(self) -> bool:
        """Whether a Dagster takes runs from the queue, as far as its storage tells: up to a minute late."""
        return self._instance is not None and runs.is_served(self._workspace.database, self._instance, utc_now)

    def refresh(self, execution_id: ExecutionId) -> bool:
        """Write down what has become of an execution's run; return whether a Dagster is there to go on with it."""
        if self._instance is None:
            return False
        mirroring.mirror(self._workspace.database, self._instance, only=execution_id)
        return self.is_served()

    def run_here(self, execution_id: ExecutionId, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Run an execution in this process until it is over, waits for what no clock brings, or another run has it.

        Dagster's pages show its runs like any other. Raises SourceUnavailableError without Dagster's storage, and
        InvalidRequestError for a workflow whose nodes want processes of their own.
        """
        if self._instance is None:
            raise SourceUnavailableError(
                "Dagster's storage cannot be reached, so nothing was run: `workstation db status`"
            )
        self._refuse_processes(execution_id)
        owner = self._owner(execution_id)
        resource = dg.ResourceDefinition.hardcoded_resource(_Opened(self._workspace))
        run_id: str | None = ""
        while run_id is not None:
            due_at = self._next_time(owner)
            while due_at is not None and utc_now() < due_at:
                sleep(_LOOK_EVERY_S)
            try:
                run_id = workflow_launch.execute_here(self._workspace, self._instance, owner, resource=resource)
            finally:
                mirroring.mirror(self._workspace.database, self._instance, only=execution_id)

    def _owner(self, execution_id: ExecutionId) -> RunOwner:
        from workstation_pipelines.db import executions

        owner = executions.owner_of(self._workspace.database, execution_id)
        if owner is None:
            raise NotFoundError(f"no execution {execution_id}: `workstation workflow history` shows yours")
        return owner

    def _refuse_processes(self, execution_id: ExecutionId) -> None:
        from workstation_pipelines.db import executions

        owner = self._owner(execution_id)
        place: dict[str, Any] = {"user_id": owner.user_id, "tenant_id": owner.tenant_id}
        with self._workspace.database.transaction_with_rls(**place) as connection:
            execution = executions.get(connection, **place, execution_id=execution_id)
        if catalog.read(execution.definition).isolation is Isolation.PROCESSES:
            raise InvalidRequestError(
                f"the nodes of {execution.slug} want processes of their own: execution {execution_id} waits for"
                " `workstation dev`, which runs it without --here"
            )

    def _next_time(self, owner: RunOwner) -> datetime | None:
        """Return when an execution that waits can go on by itself."""
        from workstation_pipelines.db import executions, steps

        place: dict[str, Any] = {"user_id": owner.user_id, "tenant_id": owner.tenant_id}
        with self._workspace.database.transaction_with_rls(**place) as connection:
            execution = executions.get(connection, **place, execution_id=owner.execution_id)
            found = steps.standing(connection, **place, execution_id=owner.execution_id)
        if execution.status is not ExecutionStatus.WAITING:
            return None
        times = [
            step.wait.until
            for step in found
            if step.status is StepStatus.WAITING and step.wait and step.wait.kind is WaitKind.TIME and step.wait.until
        ]
        return min(times, default=None)


class _Opened:
    """Stands where a run's own WorkspaceResource does."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def open(self) -> Workspace:
        return self._workspace
