"""What a run writes down of its attempts, each in a transaction that holds the execution: a run that has lost it writes nothing.

Of an attempt whose outcome could not be written for sure, because the database went away, the next begin asks the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from workstation_pipelines.db import attempts, blocks, execution_control, executions, metering, steps, timeline
from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.errors import FencedError, SourceUnavailableError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Usage
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.workflow_model import (
    BlockStatus,
    Execution,
    ExecutionId,
    Json,
    Owner,
    RunOwner,
    Step,
    StepId,
    StepStatus,
    Wait,
)
from workstation_pipelines.workflows.spending import spent_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.sync.workspace import Workspace


class Ledger:
    """The rows of one execution, as one run may write them. Safe to share between threads."""

    def __init__(self, workspace: Workspace, owner: RunOwner, run_id: str) -> None:
        self._workspace = workspace
        self._faults = Faults(workspace.settings.fault)
        self._run_id = run_id
        self._execution_id: ExecutionId = owner.execution_id
        self._owner = Owner(user_id=owner.user_id, tenant_id=owner.tenant_id)
        self._unsettled: dict[StepId, UUID] = {}

    def take_up(self) -> tuple[Execution, Sequence[Step], bool]:
        """Mark the execution as running; return it, its steps, and whether it is to be cancelled.

        Raises NotFoundError, and FencedError when it is over or another run's.
        """
        execution_id = self._execution_id
        with self._transaction() as connection:
            execution = executions.lock(connection, **self._owner, execution_id=execution_id)
            is_cancelled = execution_control.mark_running(
                connection, **self._owner, execution_id=execution_id, run_id=self._run_id
            )
            return execution, steps.of_execution(connection, **self._owner, execution_id=execution_id), is_cancelled

    def beat(self) -> bool:
        """Say that the run lives; return whether the execution is to be cancelled. Raises FencedError."""
        with self._transaction() as connection:
            return execution_control.heartbeat(
                connection, **self._owner, execution_id=self._execution_id, run_id=self._run_id
            )

    def begin(self, step: Step, block_id: UUID, shown: Mapping[str, Json]) -> tuple[Step, int]:
        """Begin an attempt; return the step with the attempt's number, or a completed step with 0.

        It is completed when an earlier attempt of this run was, though nothing was heard of that.
        Raises FencedError, and CancelledError when the execution is to be cancelled.
        """
        with self._transaction() as connection:
            if step.id in self._unsettled:
                self._hold(connection)
                step = self._looked_up(connection, step)
                if step.status is StepStatus.COMPLETED:
                    return step, 0
            number = attempts.begin(
                connection,
                **self._owner,
                step_id=step.id,
                block_id=block_id,
                dagster_run_id=self._run_id,
                input=shown,
            )
            self._unsettled[step.id] = block_id
            self._faults.reach("workflow_begin")
        self._faults.reach("workflow_begun")
        return replace(step, status=StepStatus.RUNNING, attempts=number), number

    def _looked_up(self, connection: Connection, step: Step) -> Step:
        """Ask the row how the last attempt ended; if nothing was written of that, it has failed."""
        step = steps.get(connection, **self._owner, step_id=step.id)
        if step.status is StepStatus.RUNNING:
            attempts.fail(
                connection,
                **self._owner,
                step_id=step.id,
                block_id=self._unsettled[step.id],
                error_class=SourceUnavailableError.__name__,
                error_message="the database was away when the outcome was to be written",
                will_retry=True,
            )
        return step

    def complete(self, step: Step, block_id: UUID, output: Json, usages: Sequence[Usage]) -> None:
        """Complete a step, and bill `usages` with it. Raises FencedError."""
        mine = [replace(each, job_id=self._execution_id, step=f"workflow:{step.node_type}") for each in usages]
        spent = spent_of(mine)
        with self._transaction() as connection:
            if mine:
                self._hold(connection)
                metering.record(connection, user_id=self._owner["user_id"], usages=mine)
            attempts.complete(connection, **self._owner, step_id=step.id, block_id=block_id, output=output, spent=spent)
            self._faults.reach("workflow_complete")
        self._faults.reach("workflow_completed")
        self._unsettled.pop(step.id, None)

    def wait(self, step: Step, block_id: UUID, wait: Wait) -> None:
        """Raises FencedError."""
        with self._transaction() as connection:
            attempts.wait(connection, **self._owner, step_id=step.id, block_id=block_id, wait=wait)
        self._unsettled.pop(step.id, None)

    def failures(self, step: Step) -> int:
        """Return how many attempts at a step have failed, in this run and in earlier ones."""
        with self._transaction() as connection:
            found = blocks.of_execution(connection, **self._owner, execution_id=self._execution_id, step_id=step.id)
        return sum(block.status is BlockStatus.FAILED for block in found)

    def fail(
        self, step: Step, block_id: UUID, *, error_class: str, message: str, will_retry: bool, wait: Wait | None
    ) -> None:
        """Raises FencedError."""
        with self._transaction() as connection:
            attempts.fail(
                connection,
                **self._owner,
                step_id=step.id,
                block_id=block_id,
                error_class=error_class,
                error_message=message,
                will_retry=will_retry,
                wait=wait,
            )
        self._unsettled.pop(step.id, None)

    def log(self, step: Step, message: str) -> None:
        """Add a line of an attempt to the timeline."""
        event = TimelineEvent("block.log", utc_now(), node_id=step.node_id, attempt=step.attempts, message=message)
        with self._transaction() as connection:
            timeline.add_many(connection, **self._owner, execution_id=self._execution_id, events=[event])

    def secrets(self, names: Collection[str]) -> Mapping[str, str]:
        """Open secrets, leaving out those that there are not."""
        from workstation_pipelines.workflows.secrets import SecretVault  # cryptography, for few workflows only

        return SecretVault(self._workspace.database, self._workspace.settings).open(**self._owner, names=names)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._workspace.database.transaction_with_rls(
            self._owner["user_id"], self._owner["tenant_id"]
        ) as connection:
            yield connection

    def _hold(self, connection: Connection) -> None:
        execution = executions.hold(connection, **self._owner, execution_id=self._execution_id)
        if execution.status.is_over or execution.dagster_run_id != self._run_id:
            raise FencedError(
                f"execution {self._execution_id} is over, or another run's: run {self._run_id} writes no more"
            )
