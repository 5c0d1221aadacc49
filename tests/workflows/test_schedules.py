"""Each due time of a scheduled workflow becomes one execution, whoever is killed and however many look at once."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.workflows.tenant_cases import Actor
from workstation_pipelines.db import executions, workflow_schedules, workflows
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.workflow_schedules import ScheduledWorkflow
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import Execution, TenantId, WorkflowId, WorkflowVersionId
from workstation_pipelines.workflows import schedules
from workstation_pipelines.workflows.schedules import Started

new_id = Uuid7()
ANSWER = {"id": "answer", "type": "transform", "config": {"expression": "input"}}
# A server process that has imported everything forks each child, which then costs only its kill.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.workflows.test_schedules", "workstation_pipelines.workflows.control"])


@dataclass(frozen=True, slots=True)
class Desk:
    """A user's workflow and its schedules."""

    database: Database
    actor: Actor
    workflow_id: WorkflowId

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        with self.database.transaction_with_rls(self.actor.user_id, self.actor.tenant_id) as connection:
            return function(connection, user_id=self.actor.user_id, tenant_id=self.actor.tenant_id, **arguments)

    def save(self, **definition: Any) -> None:
        self.call(
            workflows.add_version,
            workflow_id=self.workflow_id,
            version_id=WorkflowVersionId(new_id()),
            definition={"nodes": [ANSWER], "edges": [], **definition},
            definition_hash=str(uuid4()),
        )

    def schedule(self, due_at: datetime | None, **input: Any) -> ScheduledWorkflow:
        row: ScheduledWorkflow = self.call(
            workflow_schedules.add,
            schedule_id=new_id(),
            workflow_id=self.workflow_id,
            schedule_type="interval",
            config={"minutes": 60},
            timezone="UTC",
            next_at=due_at,
            input=input,
        )
        return row

    def row(self, row: ScheduledWorkflow) -> ScheduledWorkflow:
        found: ScheduledWorkflow = self.call(workflow_schedules.get, schedule_id=row.id)
        return found

    @property
    def executions(self) -> list[Execution]:
        return [self.call(executions.get, execution_id=each.id) for each in self.call(executions.listed)]


@pytest.fixture
def desk(shared: Database) -> Desk:
    return open_desk(shared)


def open_desk(database: Database, tenant: str = "acme") -> Desk:
    actor = Actor(UserId(f"user-{uuid4().hex}"), TenantId(tenant))
    desk = Desk(database, actor, WorkflowId(new_id()))
    desk.call(
        workflows.create,
        workflow_id=desk.workflow_id,
        version_id=WorkflowVersionId(new_id()),
        slug="digest",
        name="Digest",
        definition={"nodes": [ANSWER], "edges": []},
        definition_hash="first",
    )
    return desk


def a_while_ago(minutes: float = 1.0) -> datetime:
    return utc_now().replace(microsecond=0) - timedelta(minutes=minutes)


def tick(database: Database) -> Started:
    return schedules.start_due(database, new_id, utc_now)


def test_due_row_becomes_one_execution_of_the_newest_version_and_moves_on(desk: Desk) -> None:
    desk.save(variables={"a": 1}, inputs={"topic": {"type": "string"}})
    row = desk.schedule(a_while_ago(), topic="news")
    assert tick(desk.database) == Started(executions=1)
    assert tick(desk.database) == Started()
    (execution,) = desk.executions
    assert row.next_run_at is not None
    assert (execution.version, execution.input, execution.status, execution.trigger) == (
        2,
        {"topic": "news"},
        "pending",
        "schedule",
    )
    assert execution.idempotency_key == f"{row.id}:{int(row.next_run_at.timestamp())}"
    moved = desk.row(row)
    assert (moved.last_run_at, moved.next_run_at) == (row.next_run_at, row.next_run_at + timedelta(hours=1))


def test_downtime_is_made_up_for_once(desk: Desk) -> None:
    row = desk.schedule(a_while_ago(minutes=7 * 60 + 5))
    assert tick(desk.database).executions == 1
    assert len(desk.executions) == 1
    assert (desk.row(row).next_run_at or utc_now()) > utc_now()


def test_row_without_a_time_gets_one_and_starts_nothing(desk: Desk) -> None:
    row = desk.schedule(None)
    assert tick(desk.database) == Started(timed=1)
    assert desk.executions == []
    assert (desk.row(row).next_run_at or utc_now()) > utc_now()


def test_row_that_cannot_go_on_is_deactivated_with_the_reason_and_can_be_resumed(desk: Desk) -> None:
    row = desk.schedule(a_while_ago())
    desk.call(workflows.set_active, workflow_id=desk.workflow_id, is_active=False)
    assert tick(desk.database) == Started(deactivated=1)
    assert (desk.row(row).is_active, desk.row(row).error[:34]) == (False, "workflow digest is inactive: activ")
    desk.call(workflows.set_active, workflow_id=desk.workflow_id, is_active=True)
    desk.save(inputs={"topic": {"type": "string", "required": True}})
    desk.call(workflow_schedules.resume, schedule_id=row.id, next_at=a_while_ago(2))
    assert desk.row(row).error == ""
    assert tick(desk.database) == Started(deactivated=1)
    assert desk.row(row).error == "input 'topic' is missing: give a string"
    assert desk.executions == []
    desk.save()
    desk.call(workflow_schedules.resume, schedule_id=row.id, next_at=a_while_ago(3))
    assert tick(desk.database) == Started(executions=1)


def test_schedule_that_was_written_past_the_checks_is_deactivated(
    desk: Desk, shared_admin: psycopg.Connection[Any]
) -> None:
    row = desk.schedule(a_while_ago())
    shared_admin.execute("UPDATE app.scheduled_workflows SET timezone = 'Mars/Olympus' WHERE id = %s", [row.id])
    tick(desk.database)  # the row lost its time with the change
    assert not desk.row(row).is_active
    assert "unknown time zone 'Mars/Olympus'" in desk.row(row).error


def test_paused_row_starts_nothing(desk: Desk) -> None:
    row = desk.schedule(a_while_ago())
    desk.call(workflow_schedules.pause, schedule_id=row.id)
    assert tick(desk.database) == Started()


def test_every_tenant_gets_its_own_and_one_row_that_fails_holds_up_nobody(shared: Database) -> None:
    desks = [open_desk(shared, tenant) for tenant in ("acme", "globex", "initech")]
    rows = [desk.schedule(a_while_ago(minutes)) for minutes, desk in enumerate(desks, 1)]
    numbers = itertools.count()

    def failing_once() -> UUID:
        if next(numbers) == 0:
            raise ZeroDivisionError
        return new_id()

    with pytest.raises(ZeroDivisionError):
        schedules.start_due(shared, failing_once, utc_now)
    assert sorted(len(desk.executions) for desk in desks) == [0, 1, 1]
    assert tick(shared).executions == 1
    for desk, row in zip(desks, rows, strict=True):
        (execution,) = desk.executions
        assert (execution.user_id, execution.tenant_id) == (desk.actor.user_id, desk.actor.tenant_id)
        assert (desk.row(row).next_run_at or utc_now()) > utc_now()


def test_one_with_many_rows_does_not_keep_others_waiting(shared: Database) -> None:
    greedy, modest = open_desk(shared), open_desk(shared)
    for minutes in range(5):
        greedy.schedule(a_while_ago(100 + minutes))
    modest.schedule(a_while_ago())
    users = [row.user_id for row in workflow_schedules.due(shared, at_most=2)]
    assert users == [greedy.actor.user_id, modest.actor.user_id]
    assert tick(shared).executions == 6


def test_tick_that_takes_long_leaves_the_rest_to_the_next(desk: Desk) -> None:
    for minutes in range(3):
        desk.schedule(a_while_ago(1 + minutes))
    seconds = itertools.count()
    started = schedules.start_due(desk.database, new_id, utc_now, monotonic=lambda: next(seconds), longest_s=1.5)
    assert started.executions == 1
    assert tick(desk.database).executions == 2


def test_several_that_look_at_once_start_each_row_once(desk: Desk) -> None:
    rows = [desk.schedule(a_while_ago(1 + minutes)) for minutes in range(8)]
    with ThreadPoolExecutor(4) as threads:
        rounds = list(threads.map(lambda _: tick(desk.database), range(4)))
    assert sum(started.executions for started in rounds) + tick(desk.database).executions == 8
    keys = [str(execution.idempotency_key) for execution in desk.executions]
    assert sorted(keys) == sorted(f"{row.id}:{int(row.next_run_at.timestamp())}" for row in rows if row.next_run_at)


POINTS = ("before it is written", "before the row moves", "after the row moved")


@pytest.mark.crash
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_it_starts_each_row_once(shared: Database, shared_urls: DatabaseUrls, point: str) -> None:
    desk = open_desk(shared)
    rows = [desk.schedule(a_while_ago(1 + minutes)) for minutes in range(2)]
    child = _FORKS.Process(target=_tick_and_die, args=(shared_urls.app_url, point))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert tick(shared).executions == 2
    assert len(desk.executions) == 2
    assert all((desk.row(row).next_run_at or utc_now()) > utc_now() for row in rows)


def _tick_and_die(app_url: str, point: str) -> None:
    def die(*_: Any, **__: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    advance = workflow_schedules.advance
    if point == "before the row moves":
        workflow_schedules.advance = die
    elif point == "after the row moved":
        workflow_schedules.advance = lambda *given, **named: advance(*given, **named) and die()
    schedules.start_due(Database(app_url), die if point == "before it is written" else new_id, utc_now)
