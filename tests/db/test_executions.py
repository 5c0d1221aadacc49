"""Executions of workflows: begun once, worked on by one run at a time, fenced, and told of by the database itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from tests.db.executing import SPENT, Desk
from workstation_pipelines.db import (
    audit,
    blocks,
    events,
    execution_control,
    execution_costs,
    executions,
    metering,
    steps,
    timeline,
    waits,
    webhooks,
    workflow_runs,
    workflows,
)
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.execution_costs import Period
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.errors import CancelledError, FencedError, InvalidRequestError, NotFoundError
from workstation_pipelines.model import Usage, WebhookId
from workstation_pipelines.workflow_model import (
    ExecutionId,
    ExecutionStatus,
    NodeId,
    RunOwner,
    SkipReason,
    StepId,
    StepStatus,
    TenantId,
    Trigger,
    Wait,
    WaitKind,
    WorkflowVersionId,
)

Admin = psycopg.Connection[Any]
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


@pytest.fixture
def desk(shared: Database) -> Desk:
    return Desk(shared)


def approval(until: datetime | None = None) -> Wait:
    return Wait(WaitKind.APPROVAL, until, token_hash=uuid4().bytes, message="may it?")


def kinds(desk: Desk, execution_id: ExecutionId) -> list[str]:
    return [
        f"{event.kind} {event.node_id}".strip() for event in desk.do(timeline.of_execution, execution_id=execution_id)
    ]


def startable(desk: Desk) -> list[ExecutionId]:
    return [
        owner.execution_id
        for owner in executions.to_start(desk.database, at_most=10_000)
        if (owner.user_id, owner.tenant_id) == (desk.user_id, desk.tenant_id)
    ]


def test_new_execution_is_frozen_pending_and_found_by_its_id_alone(desk: Desk) -> None:
    made = desk.create(3, input={"topic": "trains"}, mode="deep", priority=7, trigger=Trigger.API)
    assert (made.status, made.steps_total, made.steps_over) == (ExecutionStatus.PENDING, 3, 0)
    assert (made.input, made.mode, made.priority, made.trigger) == ({"topic": "trains"}, "deep", 7, Trigger.API)
    assert (made.slug, made.version, made.root_execution_id, made.run_number) == (desk.slug, 1, made.id, 0)
    assert [step.node_id for step in desk.steps_of(made.id)] == ["n0", "n1", "n2"]
    assert executions.owner_of(desk.database, made.id) == RunOwner(made.id, desk.user_id, desk.tenant_id)
    assert executions.owner_of(desk.database, ExecutionId(uuid4())) is None
    changed = "UPDATE app.workflow_executions SET definition = '{\"nodes\": 1}' WHERE id = :id"
    with pytest.raises(DBAPIError, match="stay as it began"):
        desk.rows(changed, id=made.id)


def test_key_asks_once_for_one_workflow(desk: Desk) -> None:
    first = desk.create(idempotency_key="k")
    assert desk.create(5, idempotency_key="k").id == first.id
    assert len(desk.rows("SELECT 1 FROM app.workflow_executions")) == 1
    assert Desk(desk.database, desk.user_id, TenantId("other")).create(idempotency_key="k").id != first.id
    other = Desk(desk.database, desk.user_id, desk.tenant_id, "another")
    with pytest.raises(InvalidRequestError, match="used for another workflow"):
        other.create(idempotency_key="k")
    for bad in ({"idempotency_key": ""}, {"idempotency_key": "a\x00b"}, {"priority": 101}):
        with pytest.raises(InvalidRequestError):
            desk.create(**bad)
    for unknown in ({"version_id": WorkflowVersionId(uuid4())}, {"parent_execution_id": ExecutionId(uuid4())}):
        with pytest.raises(NotFoundError):
            desk.create(**unknown)


def test_retry_takes_over_steps_and_remembers_its_root(desk: Desk) -> None:
    first = desk.started(1)
    desk.complete(desk.begin(first), {"answer": 42})
    desk.close_run(first, ExecutionStatus.FAILED)
    taken = NewStep(StepId(uuid4()), NodeId("n0"), "transform", "", 0, reuse=(first, {"answer": 42}))
    todo = NewStep(StepId(uuid4()), NodeId("n1"), "transform", "", 1)
    second = desk.create(steps=[taken, todo], parent_execution_id=first, trigger=Trigger.RETRY)
    assert (second.steps_over, float(second.progress_percentage), float(second.cost)) == (1, 50.0, 0.0)
    reused = desk.step(second.id)
    assert (reused.status, reused.is_reused, reused.output, reused.attempts) == ("completed", True, {"answer": 42}, 0)
    third = desk.create(parent_execution_id=second.id)
    assert (third.parent_execution_id, third.root_execution_id) == (second.id, first)
    assert kinds(desk, second.id) == ["execution.pending", "step.reused n0"]


def test_run_begins_once_and_only_where_something_can_be_done(desk: Desk) -> None:
    early = desk.create(not_before=FUTURE).id
    urgent, first = desk.create(priority=5).id, desk.create().id
    assert startable(desk) == [urgent, first]
    assert desk.begin_run(early) is None
    run = desk.begin_run(first)
    assert run is not None
    assert desk.begin_run(first) is None
    assert startable(desk) == [urgent]
    mine = [each for each in workflow_runs.open_runs(desk.database, at_most=10_000) if each.user_id == desk.user_id]
    assert [(each.run_id, each.execution_id) for each in mine] == [(run, first)]
    execution = desk.get(first)
    assert (execution.status, execution.dagster_run_id, execution.run_number) == ("running", str(run), 1)
    with pytest.raises(NotFoundError):
        desk.begin_run(ExecutionId(uuid4()))


def test_fair_among_users_before_priority(shared: Database) -> None:
    busy, quiet = Desk(shared), Desk(shared)
    many = [busy.create(priority=50).id for _ in range(5)]
    one = quiet.create(priority=-50).id
    order = [owner.execution_id for owner in executions.to_start(shared, at_most=10_000)]
    assert order.index(one) < order.index(many[1])
    assert order.index(many[0]) < order.index(one)


def test_attempts_of_a_run_that_lost_its_execution_are_refused(desk: Desk) -> None:
    execution = desk.started()
    attempt = desk.begin(execution)
    with pytest.raises(FencedError):
        desk.begin(execution)  # while another is at work on it
    with pytest.raises(FencedError):
        desk.begin(execution, 1, run_id=uuid4())
    desk.fail(attempt, will_retry=True)
    again = desk.begin(execution)
    assert again.number == 2
    with pytest.raises(FencedError, match="its result is lost"):
        desk.complete(attempt, "late")
    desk.close_run(execution, ExecutionStatus.FAILED)
    for late in (lambda: desk.complete(again, "late"), lambda: desk.begin(execution, 1)):
        with pytest.raises(FencedError):
            late()
    for beat in (execution_control.heartbeat, execution_control.mark_running):
        with pytest.raises(FencedError):
            desk.do(beat, execution_id=execution, run_id=desk.get(execution).dagster_run_id)
    assert [step.status for step in desk.steps_of(execution)] == ["cancelled", "cancelled"]
    statuses = [block.status for block in desk.do(blocks.of_execution, execution_id=execution)]
    assert statuses == ["failed", "cancelled"]


def test_costs_add_up_from_attempts_to_the_workflow(desk: Desk) -> None:
    execution = desk.started()
    for place in (0, 1):
        desk.fail(desk.begin(execution, place), will_retry=True)
        desk.complete(desk.begin(execution, place), place)
    desk.close_run(execution, ExecutionStatus.COMPLETED)
    step = desk.step(execution)
    assert (step.attempts, step.input_tokens, step.output_tokens, step.cost) == (2, 20, 6, 2 * SPENT.cost)
    over = desk.get(execution)
    assert (over.input_tokens, over.output_tokens, over.cost) == (40, 12, 4 * SPENT.cost)
    assert (float(over.progress_percentage), over.steps_over) == (100.0, 2)
    stats = desk.do(workflows.stats, workflow_id=desk.workflow_id)
    assert (stats.total_executions, stats.completed_executions, stats.total_cost) == (1, 1, 4 * SPENT.cost)
    assert stats.last_executed_at == over.completed_at
    assert over.started_at is not None
    assert over.completed_at is not None
    assert stats.mean_duration_s == pytest.approx((over.completed_at - over.started_at).total_seconds())
    assert desk.do(executions.progress, execution_id=execution).percentage == 100


@pytest.mark.parametrize(
    ("wait", "decision"),
    [
        (Wait(WaitKind.TIME, PAST), {}),
        (approval(PAST), {"expired": True}),
        (Wait(WaitKind.SYNC, sync_job_id=uuid4()), {"status": "removed"}),
        (Wait(WaitKind.TIME, FUTURE), None),
        (approval(FUTURE), None),
        (approval(), None),
    ],
)
def test_waiting_execution_goes_on_once_something_has_come(
    desk: Desk, wait: Wait, decision: dict[str, Any] | None
) -> None:
    execution = desk.started()
    desk.wait(desk.begin(execution), wait)
    desk.close_run(execution)
    assert desk.get(execution).status is ExecutionStatus.WAITING
    assert startable(desk) == ([execution] if decision is not None else [])
    second = desk.begin_run(execution)
    assert (second is not None) == (decision is not None)
    waited = desk.step(execution).wait
    assert waited is not None
    assert (waited.kind, waited.until, waited.decision) == (wait.kind, wait.until, decision)
    if second:
        assert desk.begin(execution).number == 2
        assert desk.get(execution).run_number == 2


def test_how_steps_stand_is_told_without_what_they_gave(desk: Desk) -> None:
    execution = desk.started()
    desk.complete(desk.begin(execution), {"much": "text"})
    desk.begin(execution, 1)
    standing = desk.do(steps.standing, execution_id=execution)
    assert [(step.status, step.output) for step in standing] == [("completed", None), ("running", None)]
    assert [replace(step, output=None) for step in desk.steps_of(execution)] == standing
    given = desk.do(steps.outputs, execution_id=execution, node_ids=[step.node_id for step in standing])
    assert given == {"n0": {"much": "text"}}
    assert desk.do(steps.outputs, execution_id=execution, node_ids=["n1"]) == {}
    rows = desk.do(executions.standing, execution_ids=[execution, ExecutionId(uuid4())])
    assert [tuple(row) for row in rows] == [(execution, "running", False)]


@pytest.mark.parametrize("status", ["completed", "needs_confirmation"])
def test_sync_is_waited_for_until_its_job_does_nothing_more_by_itself(
    desk: Desk, module_admin: Admin, status: str
) -> None:
    source, job = uuid4(), uuid4()
    desk.rows(
        "INSERT INTO app.data_sources (id, user_id, name, source_type) VALUES (:id, :user_id, 'notes', 'local_folder')",
        id=source,
        user_id=desk.user_id,
    )
    desk.rows(
        """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status)
           VALUES (:id, :user_id, :source, 'delta', 'running')""",
        id=job,
        user_id=desk.user_id,
        source=source,
    )
    execution = desk.started()
    desk.wait(desk.begin(execution), Wait(WaitKind.SYNC, sync_job_id=job))
    desk.close_run(execution)
    assert (startable(desk), desk.begin_run(execution)) == ([], None)
    desk.rows("UPDATE app.sync_jobs SET status = :status WHERE id = :id", id=job, status=status)
    assert startable(desk) == [execution]
    assert desk.begin_run(execution)
    waited = desk.step(execution).wait
    assert waited is not None
    assert waited.decision == {"status": status}


def test_approval_is_decided_once_and_in_time(desk: Desk) -> None:
    wait, late = approval(FUTURE), approval(PAST)
    assert wait.token_hash is not None
    execution = desk.started()
    attempt = desk.begin(execution)
    desk.wait(attempt, wait)
    desk.wait(desk.begin(execution, 1), late)
    assert [event.kind for event in _open_events(desk)] == ["approval_needed", "approval_needed"]
    decided = desk.do(waits.decide, token_hash=wait.token_hash, decision={"approved": True, "by": "alice"})
    assert decided.wait.decision == {"approved": True, "by": "alice"}
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"token_hash": wait.token_hash}, InvalidRequestError, "has been decided"),
        ({"token_hash": late.token_hash}, InvalidRequestError, "has expired"),
        ({"token_hash": b"guessed"}, NotFoundError, "check the token"),
        ({"step_id": StepId(uuid4())}, NotFoundError, "check the token"),
    ]
    for how, error, message in refused:
        with pytest.raises(error, match=message):
            desk.do(waits.decide, decision={"approved": False}, **how)
    assert [event.detail["node_id"] for event in _open_events(desk)] == ["n1"]
    desk.close_run(execution)
    assert desk.do(execution_control.request_cancel, execution_id=execution) == "cancelled"
    assert _open_events(desk) == []
    with pytest.raises(InvalidRequestError, match="is over"):
        desk.do(waits.decide, decision={"approved": True}, step_id=attempt.step_id)
    stranger = Desk(desk.database, desk.user_id, TenantId("other"))
    with pytest.raises(NotFoundError):
        stranger.do(waits.decide, decision={"approved": True}, token_hash=wait.token_hash)


def test_step_that_waits_for_nothing_or_for_a_time_is_not_decided(desk: Desk) -> None:
    execution = desk.started()
    desk.wait(desk.begin(execution), Wait(WaitKind.TIME, FUTURE))
    for place, message in ((0, "waits for a time"), (1, "waits for nothing")):
        with pytest.raises(InvalidRequestError, match=message):
            desk.do(waits.decide, decision={"approved": True}, step_id=desk.step(execution, place).id)


def test_failed_attempt_may_be_tried_again_by_a_later_run(desk: Desk) -> None:
    execution = desk.started(1)
    desk.fail(desk.begin(execution), will_retry=True, wait=Wait(WaitKind.TIME, PAST))
    step = desk.step(execution)
    assert (step.status, step.error_class) == (StepStatus.WAITING, "RetryableError")
    desk.close_run(execution)
    assert desk.begin_run(execution)
    desk.complete(desk.begin(execution), "well")
    step = desk.step(execution)
    assert (step.status, step.attempts, step.error_class) == (StepStatus.COMPLETED, 2, "")


def test_cancel_ends_what_no_run_works_on_and_asks_the_others(desk: Desk) -> None:
    pending, running = desk.create().id, desk.started()
    assert desk.do(execution_control.request_cancel, execution_id=pending) == "cancelled"
    assert desk.do(execution_control.request_cancel, execution_id=running) == "running"
    assert desk.do(execution_control.request_cancel, execution_id=pending) == "cancelled"
    run = desk.get(running).dagster_run_id
    assert desk.do(execution_control.heartbeat, execution_id=running, run_id=run) is True
    assert [step.status for step in desk.steps_of(pending)] == ["cancelled", "cancelled"]
    assert startable(desk) == []
    more = [desk.create().id for _ in range(3)]
    old = timedelta(days=1)
    assert desk.do(execution_control.request_cancel_where, older_than=old) == []
    assert desk.do(execution_control.request_cancel_where, status=ExecutionStatus.RUNNING) == []
    assert desk.do(execution_control.request_cancel_where, workflow_id=desk.workflow_id) == more
    desk.close_run(running, ExecutionStatus.CANCELLED)
    cancelled = desk.do(workflows.stats, workflow_id=desk.workflow_id)
    assert (cancelled.total_executions, cancelled.cancelled_executions) == (5, 5)
    with pytest.raises(NotFoundError):
        desk.do(execution_control.request_cancel, execution_id=ExecutionId(uuid4()))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE app.workflow_executions SET status = 'running', completed_at = NULL",
        "UPDATE app.workflow_executions SET run_number = 0",
        "UPDATE app.workflow_steps SET status = 'pending' WHERE status = 'completed'",
        "UPDATE app.workflow_steps SET status = 'failed' WHERE status = 'cancelled'",
        "UPDATE app.workflow_steps SET attempts = attempts - 1",
        "UPDATE app.block_executions SET status = 'failed'",
        "UPDATE app.workflow_runs SET is_closed = false",
    ],
)
def test_what_is_over_stays_so_whoever_writes(desk: Desk, change: str) -> None:
    execution = desk.started()
    desk.complete(desk.begin(execution), 1)
    desk.close_run(execution, ExecutionStatus.COMPLETED)
    with pytest.raises(DBAPIError) as refused:
        desk.rows(change)
    assert getattr(refused.value.orig, "sqlstate", None) == "55000"
    assert desk.do(execution_control.end, execution_id=execution, status=ExecutionStatus.FAILED) is False
    assert desk.do(execution_control.set_waiting, execution_id=execution) is False


def test_mirror_closes_what_its_run_has_left_open(desk: Desk) -> None:
    execution = desk.started(4)
    desk.complete(desk.begin(execution), 1)
    desk.begin(execution, 1)
    desk.close_run(
        execution,
        ExecutionStatus.FAILED,
        endings=[
            steps.Ending(NodeId("n0"), StepStatus.FAILED, error_class="RunLostError"),
            steps.Ending(NodeId("n1"), StepStatus.FAILED, error_class="RunLostError", error_message="gone"),
            steps.Ending(NodeId("n2"), StepStatus.SKIPPED, SkipReason.NOT_REACHED),
        ],
    )
    ended = [(step.status, step.skip_reason, step.error_class) for step in desk.steps_of(execution)]
    assert ended == [
        ("completed", None, ""),
        ("failed", None, "RunLostError"),
        ("skipped", "not_reached", ""),
        ("cancelled", None, "CancelledError"),
    ]
    statuses = [(block.status, block.error_class) for block in desk.do(blocks.of_execution, execution_id=execution)]
    assert statuses == [("completed", ""), ("failed", "RunLostError")]


def test_timeline_and_audit_log_tell_every_change_in_order(desk: Desk) -> None:
    execution = desk.started(2)
    desk.fail(desk.begin(execution), will_retry=True)
    desk.complete(desk.begin(execution), {"text": "somebody's words"})
    desk.do(steps.skip, step_id=desk.step(execution, 1).id, reason=SkipReason.CONDITION)
    desk.close_run(execution, ExecutionStatus.COMPLETED)
    told = [
        "execution.pending",
        "execution.running",
        "step.running n0",
        "attempt.running n0",
        "attempt.failed n0",
        "step.retrying n0",
        "step.running n0",
        "attempt.running n0",
        "attempt.completed n0",
        "step.completed n0",
        "step.skipped n1",
        "execution.completed",
    ]
    assert kinds(desk, execution) == told
    with desk.transaction() as connection:
        logged = list(audit.every_entry(connection, user_id=desk.user_id))
        assert audit.breaks(connection) == []
    logged = [entry for entry in logged if entry.subject == f"execution:{execution}"]
    assert [f"{entry.action} {entry.detail.get('node_id', '')}".strip() for entry in logged] == told
    assert "words" not in str([entry.detail for entry in logged])
    assert "words" not in str(desk.do(timeline.of_execution, execution_id=execution))


def test_events_of_a_run_are_stored_once_and_read_from_where_one_stopped(desk: Desk) -> None:
    execution = desk.create().id
    run = uuid4()
    told = [
        TimelineEvent("run.queued", PAST, dagster_run_id=run, storage_id=7, detail={"code": 1}),
        TimelineEvent("run.started", PAST, message="x" * 3000, dagster_run_id=run, storage_id=9),
        TimelineEvent("block.log", PAST, node_id="n0", attempt=1, message="a line"),
    ]
    assert desk.do(timeline.add_many, execution_id=execution, events=told) == 3
    assert desk.do(timeline.add_many, execution_id=execution, events=told[:2]) == 0
    assert desk.do(timeline.add_many, execution_id=execution, events=[]) == 0
    first, *rest = desk.do(timeline.of_execution, execution_id=execution)
    assert first.kind == "execution.pending"
    assert [(event.kind, event.storage_id, event.dagster_run_id) for event in rest] == [
        ("run.queued", 7, run),
        ("run.started", 9, run),
        ("block.log", None, None),
    ]
    assert (len(rest[1].message), rest[2].node_id, rest[2].attempt) == (2000, "n0", 1)
    assert desk.do(timeline.of_execution, execution_id=execution, after_seq=rest[0].seq) == rest[1:]
    assert desk.do(timeline.of_execution, execution_id=execution, after_seq=first.seq, limit=1) == rest[:1]
    with pytest.raises(NotFoundError):
        desk.do(timeline.add_many, execution_id=ExecutionId(uuid4()), events=told)


def test_run_moves_on_and_closes_once(desk: Desk) -> None:
    execution = desk.create().id
    run = desk.begin_run(execution)
    for storage_id, status in ((5, "STARTED"), (3, "SUCCESS")):
        assert desk.do(workflow_runs.advance, run_id=run, last_storage_id=storage_id, dagster_status=status)
    assert desk.do(workflow_runs.lock, run_id=run).last_storage_id == 5
    assert desk.do(workflow_runs.close, run_id=run)
    assert not desk.do(workflow_runs.close, run_id=run)
    assert not desk.do(workflow_runs.advance, run_id=run, last_storage_id=9, dagster_status="")
    closed = desk.do(workflow_runs.get, run_id=run)
    assert (closed.is_closed, closed.dagster_status, closed.last_storage_id, closed.number) == (True, "SUCCESS", 5, 1)
    with pytest.raises(NotFoundError):
        desk.do(workflow_runs.get, run_id=uuid4())


def _open_events(desk: Desk) -> list[Any]:
    with desk.transaction() as connection:
        return sorted(
            events.recent(connection, user_id=desk.user_id, is_open=True), key=lambda event: str(event.detail)
        )


def _end(desk: Desk, status: ExecutionStatus) -> ExecutionId:
    execution = desk.started(1)
    if status is ExecutionStatus.FAILED:
        desk.fail(desk.begin(execution))
    desk.close_run(execution, status)
    return execution


def test_failure_is_an_event_until_the_workflow_completes_again(desk: Desk) -> None:
    other = Desk(desk.database, desk.user_id, desk.tenant_id, "another")
    failed = [_end(each, ExecutionStatus.FAILED) for each in (desk, desk, other)]
    found = {event.detail["workflow_id"]: event for event in _open_events(desk)}
    mine = found[str(desk.workflow_id)]
    assert (mine.kind, mine.severity, mine.occurrences) == ("workflow_failed", "error", 2)
    assert mine.detail["execution_id"] == str(failed[1])
    _end(desk, ExecutionStatus.CANCELLED)
    assert len(_open_events(desk)) == 2
    _end(desk, ExecutionStatus.COMPLETED)
    assert [event.detail["workflow_id"] for event in _open_events(desk)] == [str(other.workflow_id)]
    other.do(workflows.delete, workflow_id=other.workflow_id)
    assert _open_events(desk) == []


def test_webhooks_are_told_of_each_end_that_they_asked_for(desk: Desk) -> None:
    wanted = {"all": ["*"], "failures": ["workflow_failed"], "syncs": ["sync_failed"]}
    hooks = {name: WebhookId(uuid4()) for name in wanted}
    with desk.transaction() as connection:
        for name, hook in hooks.items():
            webhooks.add(
                connection,
                user_id=desk.user_id,
                webhook_id=hook,
                name=name,
                url="https://pager.example/hook",
                kinds=wanted[name],
                sealed_secret={"v": 1, "kid": "k1", "wk": "", "ct": ""},
            )
    for status in (
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    ):
        newest = _end(desk, status)
    told = desk.rows("SELECT webhook_id, occasion, payload FROM app.webhook_deliveries ORDER BY created_at")
    by_hook = {
        name: [(row.occasion, row.payload["type"]) for row in told if row.webhook_id == hook]
        for name, hook in hooks.items()
    }
    ends = ["completed", "failed", "failed", "cancelled"]
    assert by_hook == {
        "all": [("notice", f"workflow_{end}") for end in ends],
        "failures": [("notice", "workflow_failed")] * 2,
        "syncs": [],
    }
    payload = told[-1].payload["data"]
    assert (payload["execution_id"], payload["status"]) == (str(newest), "cancelled")
    assert {"duration_s", "cost_usd", "workflow_id"} <= payload.keys()
    assert not {"input", "output", "error_message"} & payload.keys()
    execution = desk.started(1)
    desk.wait(desk.begin(execution), approval())
    (asked,) = desk.rows("SELECT payload FROM app.webhook_deliveries WHERE occasion = 'opened'")
    assert asked.payload["data"]["execution_id"] == str(execution)


def test_list_is_newest_first_and_filtered(desk: Desk, module_admin: Admin) -> None:
    other = Desk(desk.database, desk.user_id, desk.tenant_id, "another")
    failed, done = _end(desk, ExecutionStatus.FAILED), _end(other, ExecutionStatus.COMPLETED)
    waiting = desk.create(trigger=Trigger.SCHEDULE).id
    newest_first = [waiting, done, failed]

    def ids(**how: Any) -> list[ExecutionId]:
        return [row.id for row in desk.do(executions.listed, **how)]

    assert ids() == newest_first
    assert [ids(limit=1, offset=offset) for offset in range(4)] == [[waiting], [done], [failed], []]
    assert ids(errors_only=True) == ids(status=ExecutionStatus.FAILED) == [failed]
    assert ids(workflow_id=other.workflow_id) == [done]
    assert ids(trigger=Trigger.SCHEDULE) == [waiting]
    assert ids(since=FUTURE) == ids(until=PAST) == []
    assert ids(since=PAST, until=FUTURE) == newest_first
    assert [row.id for row in desk.do(executions.running)] == [waiting]
    (row,) = desk.do(executions.listed, errors_only=True)
    assert (row.slug, row.status, row.steps_over) == ("digest", "failed", 1)
    assert not {"definition", "input", "output"} & set(row._fields)


def test_costs_by_mode_and_by_month(desk: Desk) -> None:
    for mode, price in (("standard", None), ("deep", Decimal("0.01"))):
        execution = desk.started(1, mode=mode)
        usage = Usage("workflow:llm", "openai", "large", 5, price, "input_tokens", job_id=execution)
        with desk.transaction() as connection:
            metering.record(connection, user_id=desk.user_id, usages=[usage])
        desk.complete(desk.begin(execution), 1, SPENT)
        desk.close_run(execution, ExecutionStatus.COMPLETED)
    desk.create(mode="deep")
    found = desk.do(execution_costs.cost_by_mode)
    assert [(each.mode, each.executions, each.completed, each.cost) for each in found] == [
        ("deep", 2, 1, SPENT.cost),
        ("standard", 1, 1, SPENT.cost),
    ]
    (billed,) = desk.do(execution_costs.billing_by_period, by=Period.MONTH)
    assert (billed.unit, billed.executions, billed.quantity) == ("input_tokens", 2, 10)
    assert (billed.cost, billed.unpriced_quantity, billed.period.day) == (Decimal("0.05"), 5, 1)
    assert desk.do(execution_costs.billing_by_period, by=Period.DAY, until=PAST) == []
    assert desk.do(execution_costs.cost_by_mode, since=FUTURE) == []


def test_old_executions_go_and_open_ones_stay(desk: Desk, module_admin: Admin) -> None:
    old, young, still = _end(desk, ExecutionStatus.FAILED), _end(desk, ExecutionStatus.FAILED), desk.started()
    desk.wait(desk.begin(still), approval())
    aged = "UPDATE app.workflow_executions SET created_at = %s, completed_at = %s WHERE id = %s"
    module_admin.execute(aged, [PAST, PAST, old])
    module_admin.execute("UPDATE app.workflow_executions SET created_at = %s WHERE id = %s", [PAST, still])
    assert desk.do(execution_control.delete_older_than, age=timedelta(days=90)) == 1
    assert desk.do(execution_control.delete_older_than, age=timedelta(days=90)) == 0
    assert {row.id for row in desk.do(executions.listed)} == {young, still}
    assert desk.do(workflows.stats, workflow_id=desk.workflow_id).total_executions == 2
    assert desk.rows("SELECT 1 FROM app.block_executions WHERE execution_id = :id", id=old) == []
    desk.rows("DELETE FROM app.workflow_executions")  # cascades, and asks nobody for an approval any more
    assert [event.kind for event in _open_events(desk)] == ["workflow_failed"]


def test_nothing_begins_in_an_execution_that_is_to_be_cancelled(desk: Desk) -> None:
    execution = desk.started()
    attempt = desk.begin(execution)
    desk.do(execution_control.request_cancel, execution_id=execution)
    with pytest.raises(CancelledError):
        desk.begin(execution, 1)
    with pytest.raises(FencedError):  # another run's hears that first
        desk.begin(execution, 1, run_id=uuid4())
    desk.complete(attempt)
    held = desk.do(executions.hold, execution_id=execution)
    found = desk.get(execution)
    assert (held.status, held.dagster_run_id, held.cancel_requested) == (found.status, found.dagster_run_id, True)
    assert [step.status for step in desk.steps_of(execution)] == [StepStatus.COMPLETED, StepStatus.PENDING]


def test_another_tenant_of_the_same_user_sees_nothing(desk: Desk) -> None:
    execution = desk.started()
    other = Desk(desk.database, desk.user_id, TenantId("other"))
    for call in (
        executions.get,
        executions.lock,
        executions.hold,
        executions.progress,
        execution_control.request_cancel,
    ):
        with pytest.raises(NotFoundError):
            other.do(call, execution_id=execution)
    assert other.do(executions.listed) == other.do(steps.of_execution, execution_id=execution) == []
    assert other.do(timeline.of_execution, execution_id=execution) == []
    assert other.do(blocks.of_execution, execution_id=execution) == []
    with pytest.raises(FencedError):
        other.do(execution_control.heartbeat, execution_id=execution, run_id=desk.get(execution).dagster_run_id)
