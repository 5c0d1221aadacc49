"""One user's executions, moved on as runs and the mirror move them: each step of it in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from tests.db.rows import Owner, add_workflow
from workstation_pipelines.db import attempts, execution_control, executions, steps, workflow_runs, workflows
from workstation_pipelines.db.attempts import Spent
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import (
    Execution,
    ExecutionId,
    ExecutionStatus,
    NodeId,
    Step,
    StepId,
    TenantId,
    Wait,
    WorkflowId,
    WorkflowVersionId,
)

ACME = TenantId("acme")
SPENT = Spent(10, 3, Decimal("0.0125"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was begun."""

    step_id: StepId
    block_id: UUID
    number: int


@dataclass(slots=True)
class Desk:
    """A user within a tenant, with one saved workflow."""

    database: Database
    user_id: UserId = field(default_factory=lambda: UserId(f"user-{uuid4()}"))
    tenant_id: TenantId = ACME
    slug: str = "digest"
    workflow_id: WorkflowId = field(init=False)
    version_id: WorkflowVersionId = field(init=False)

    def __post_init__(self) -> None:
        with self.transaction() as connection:
            workflow = add_workflow(connection, self.user_id, self.tenant_id, self.slug)
            version = workflows.version(connection, **self.owner, workflow_id=workflow.id)
        self.workflow_id, self.version_id = workflow.id, version.id

    @property
    def owner(self) -> Owner:
        return Owner(user_id=self.user_id, tenant_id=self.tenant_id)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.database.transaction_with_rls(self.user_id, self.tenant_id) as connection:
            yield connection

    def do(self, call: Callable[..., Any], **values: Any) -> Any:
        """Call a function of the store."""
        with self.transaction() as connection:
            return call(connection, **self.owner, **values)

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        with self.transaction() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def create(self, nodes: int = 2, **values: Any) -> Execution:
        new = [NewStep(StepId(uuid4()), NodeId(f"n{place}"), "transform", "", place) for place in range(nodes)]
        values = {
            "execution_id": ExecutionId(uuid4()),
            "version_id": self.version_id,
            "input": {},
            "steps": new,
            **values,
        }
        created: Execution = self.do(executions.create, **values)
        return created

    def get(self, execution_id: ExecutionId) -> Execution:
        found: Execution = self.do(executions.get, execution_id=execution_id)
        return found

    def steps_of(self, execution_id: ExecutionId) -> list[Step]:
        found: list[Step] = self.do(steps.of_execution, execution_id=execution_id)
        return found

    def step(self, execution_id: ExecutionId, place: int = 0) -> Step:
        return self.steps_of(execution_id)[place]

    def begin_run(self, execution_id: ExecutionId, run_id: UUID | None = None) -> UUID | None:
        """Begin a run and let it say that it lives; return its id, None if none may begin."""
        run_id = run_id or uuid4()
        if self.do(execution_control.begin_run, execution_id=execution_id, run_id=run_id) is None:
            return None
        self.do(execution_control.mark_running, execution_id=execution_id, run_id=run_id)
        return run_id

    def started(self, nodes: int = 2, **values: Any) -> ExecutionId:
        """Return an execution that a run works on."""
        execution_id = self.create(nodes, **values).id
        assert self.begin_run(execution_id)
        return execution_id

    def begin(self, execution_id: ExecutionId, place: int = 0, run_id: UUID | str | None = None) -> Attempt:
        step = self.step(execution_id, place)
        block_id = uuid4()
        run = run_id or self.get(execution_id).dagster_run_id or uuid4()
        number = self.do(attempts.begin, step_id=step.id, block_id=block_id, dagster_run_id=run, input={})
        return Attempt(step.id, block_id, number)

    def complete(self, attempt: Attempt, output: Any = None, spent: Spent = SPENT) -> None:
        self.do(attempts.complete, step_id=attempt.step_id, block_id=attempt.block_id, output=output, spent=spent)

    def fail(self, attempt: Attempt, *, will_retry: bool = False, wait: Wait | None = None) -> None:
        self.do(
            attempts.fail,
            step_id=attempt.step_id,
            block_id=attempt.block_id,
            error_class="RetryableError",
            error_message="it timed out",
            will_retry=will_retry,
            wait=wait,
            spent=SPENT,
        )

    def wait(self, attempt: Attempt, wait: Wait) -> None:
        self.do(attempts.wait, step_id=attempt.step_id, block_id=attempt.block_id, wait=wait, spent=SPENT)

    def close_run(
        self, execution_id: ExecutionId, status: ExecutionStatus | None = None, *, endings: Sequence[steps.Ending] = ()
    ) -> None:
        """Do as the mirror does after a run: end the execution, or with no status let it wait."""
        with self.transaction() as connection:
            executions.lock(connection, **self.owner, execution_id=execution_id)
            run_id = self.get_run(connection, execution_id)
            if endings:
                steps.close_open(connection, **self.owner, execution_id=execution_id, endings=endings)
            if status is None:
                execution_control.set_waiting(connection, **self.owner, execution_id=execution_id)
            else:
                execution_control.end(connection, **self.owner, execution_id=execution_id, status=status)
            if run_id is not None:
                workflow_runs.close(connection, **self.owner, run_id=run_id, dagster_status="SUCCESS")

    def get_run(self, connection: Connection, execution_id: ExecutionId) -> UUID | None:
        runs = workflow_runs.of_execution(connection, **self.owner, execution_id=execution_id)
        return next((run.id for run in runs if not run.is_closed), None)
