"""Two at a time at one execution: one wins, the other is told, and nobody waits in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.db import waiting
from tests.db.executing import Desk
from workstation_pipelines.db import attempts, execution_control, executions, waits, workflow_schedules, workflows
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import FencedError, InvalidRequestError, NotFoundError
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, Wait, WaitKind

Admin = psycopg.Connection[Any]


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def desk(shared: Database) -> Desk:
    return Desk(shared)


def second_comes_while_first_is_at_it(
    admin: Admin, threads: ThreadPoolExecutor, desk: Desk, first: Callable[..., Any], second: Callable[[], Any]
) -> Future[Any]:
    """Do `first` in a transaction, let `second` run into it from a connection of its own, and commit."""
    with desk.transaction() as connection:
        first(connection)
        other = threads.submit(second)
        waiting.until_somebody_waits(admin)
    return other


def test_of_two_runs_one_begins(desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor) -> None:
    execution = desk.create().id

    def begin(connection: Any) -> int | None:
        return execution_control.begin_run(connection, **desk.owner, execution_id=execution, run_id=uuid4())

    other = second_comes_while_first_is_at_it(
        module_admin,
        thread,
        desk,
        begin,
        lambda: desk.do(execution_control.begin_run, execution_id=execution, run_id=uuid4()),
    )
    assert other.result() is None
    assert desk.get(execution).run_number == 1


def test_of_two_with_one_key_both_get_the_same(desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor) -> None:
    ids = [ExecutionId(uuid4()), ExecutionId(uuid4())]

    def create(connection: Any) -> Any:
        return executions.create(
            connection,
            **desk.owner,
            execution_id=ids[0],
            version_id=desk.version_id,
            input={},
            steps=[],
            idempotency_key="k",
        )

    other = second_comes_while_first_is_at_it(
        module_admin, thread, desk, create, lambda: desk.create(0, execution_id=ids[1], idempotency_key="k")
    )
    assert other.result().id == ids[0]


def test_of_two_decisions_the_first_counts(desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor) -> None:
    execution = desk.started()
    desk.wait(desk.begin(execution), Wait(WaitKind.APPROVAL, token_hash=b"token"))

    def decide(connection: Any) -> Any:
        return waits.decide(connection, **desk.owner, token_hash=b"token", decision={"approved": True})

    other = second_comes_while_first_is_at_it(
        module_admin,
        thread,
        desk,
        decide,
        lambda: desk.do(waits.decide, token_hash=b"token", decision={"approved": False}),
    )
    with pytest.raises(InvalidRequestError, match="has been decided"):
        other.result()
    wait = desk.step(execution).wait
    assert wait is not None
    assert wait.decision == {"approved": True}


def test_decision_that_comes_with_the_end_is_too_late(
    desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor
) -> None:
    execution = desk.started()
    desk.wait(desk.begin(execution), Wait(WaitKind.APPROVAL, token_hash=b"late"))
    desk.close_run(execution)

    def cancel(connection: Any) -> Any:
        return execution_control.request_cancel(connection, **desk.owner, execution_id=execution)

    other = second_comes_while_first_is_at_it(
        module_admin,
        thread,
        desk,
        cancel,
        lambda: desk.do(waits.decide, token_hash=b"late", decision={"approved": True}),
    )
    with pytest.raises(InvalidRequestError, match="is over"):
        other.result()


def test_outcome_that_comes_with_the_end_is_lost(desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor) -> None:
    execution = desk.started()
    attempt = desk.begin(execution)

    def end(connection: Any) -> Any:
        executions.lock(connection, **desk.owner, execution_id=execution)
        return execution_control.end(connection, **desk.owner, execution_id=execution, status=ExecutionStatus.FAILED)

    other = second_comes_while_first_is_at_it(module_admin, thread, desk, end, lambda: desk.complete(attempt, "late"))
    with pytest.raises(FencedError):
        other.result()
    assert desk.get(execution).cost == 0


def test_cancel_that_comes_with_the_end_changes_nothing(
    desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor
) -> None:
    execution = desk.started()

    def end(connection: Any) -> Any:
        executions.lock(connection, **desk.owner, execution_id=execution)
        return execution_control.end(connection, **desk.owner, execution_id=execution, status=ExecutionStatus.COMPLETED)

    other = second_comes_while_first_is_at_it(
        module_admin, thread, desk, end, lambda: desk.do(execution_control.request_cancel, execution_id=execution)
    )
    assert other.result() == "completed"
    assert desk.get(execution).cancel_requested is False


def test_execution_that_comes_with_the_deletion_of_its_workflow_is_refused(
    desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor
) -> None:
    def delete(connection: Any) -> Any:
        return workflows.delete(connection, **desk.owner, workflow_id=desk.workflow_id)

    other = second_comes_while_first_is_at_it(module_admin, thread, desk, delete, desk.create)
    with pytest.raises(NotFoundError):
        other.result()


def test_schedule_that_is_due_at_the_deletion_of_its_workflow_goes_first(
    desk: Desk, module_admin: Admin, thread: ThreadPoolExecutor
) -> None:
    schedule = desk.do(
        workflow_schedules.add,
        schedule_id=uuid4(),
        workflow_id=desk.workflow_id,
        schedule_type="interval",
        config={"minutes": 5},
        timezone="UTC",
        next_at=datetime.now(UTC),
        input={},
    )
    with desk.transaction() as connection:
        workflow_schedules.lock(connection, **desk.owner, schedule_id=schedule.id)
        other = thread.submit(lambda: desk.do(workflows.delete, workflow_id=desk.workflow_id))
        waiting.until_somebody_waits(module_admin)
        executions.create(
            connection,
            **desk.owner,
            execution_id=ExecutionId(uuid4()),
            version_id=desk.version_id,
            input={},
            steps=[],
            scheduled_workflow_id=schedule.id,
        )
    with pytest.raises(InvalidRequestError, match="cancel them first"):
        other.result()


def test_many_nodes_of_many_executions_at_once_add_up(desk: Desk) -> None:
    made = [desk.started(6) for _ in range(4)]

    def work(execution: Any) -> None:
        run = desk.get(execution).dagster_run_id
        for place in range(6):
            attempt = desk.begin(execution, place, run)
            desk.complete(attempt, place)
        desk.close_run(execution, ExecutionStatus.COMPLETED if execution != made[0] else ExecutionStatus.FAILED)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, execution) for execution in made]:
            done.result()
    (row,) = desk.rows("SELECT total_executions, failed_executions, total_tokens FROM app.workflows")
    assert tuple(row) == (4, 1, 4 * 6 * 13)
    assert attempts.NOTHING.cost == 0
