"""Whatever is done to executions in whatever order: counts, costs, figures and the timeline agree with the rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.db.executing import Attempt, Desk
from workstation_pipelines.db import attempts, execution_control, steps, waits
from workstation_pipelines.db.attempts import Spent
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.errors import CancelledError, FencedError, InvalidRequestError
from workstation_pipelines.workflow_model import (
    ExecutionId,
    ExecutionStatus,
    NodeId,
    SkipReason,
    StepId,
    StepStatus,
    Wait,
    WaitKind,
)

# What must be true, each as a question for the rows that break it.
_OPEN = "('pending', 'running', 'waiting')"
_PROBLEMS = f"""
WITH counted AS (
    SELECT e.id, count(s.id) AS steps, count(s.id) FILTER (WHERE s.status IN ('completed', 'failed', 'skipped', 'cancelled'))
               AS over, coalesce(sum(s.cost), 0) AS cost, coalesce(sum(s.input_tokens), 0) AS input_tokens,
           coalesce(sum(s.output_tokens), 0) AS output_tokens
      FROM app.workflow_executions e LEFT JOIN app.workflow_steps s ON s.execution_id = e.id GROUP BY e.id),
attempted AS (
    SELECT s.id, count(b.id) AS attempts, coalesce(sum(b.cost), 0) AS cost, coalesce(sum(b.input_tokens), 0) AS input_tokens,
           coalesce(sum(b.output_tokens), 0) AS output_tokens, count(b.id) FILTER (WHERE b.status = 'running') AS running
      FROM app.workflow_steps s LEFT JOIN app.block_executions b ON b.step_id = s.id GROUP BY s.id)
SELECT 'steps over' AS problem, e.id FROM app.workflow_executions e JOIN counted c USING (id)
 WHERE (e.steps_total, e.steps_over) <> (c.steps, c.over)
UNION ALL SELECT 'progress', e.id FROM app.workflow_executions e JOIN counted c USING (id)
 WHERE e.progress_percentage <> round(100.0 * c.over / greatest(c.steps, 1), 2)
UNION ALL SELECT 'cost of an execution', e.id FROM app.workflow_executions e JOIN counted c USING (id)
 WHERE (e.cost, e.input_tokens, e.output_tokens) <> (c.cost, c.input_tokens, c.output_tokens)
UNION ALL SELECT 'cost of a step', s.id FROM app.workflow_steps s JOIN attempted a USING (id)
 WHERE (s.cost, s.input_tokens, s.output_tokens) <> (a.cost, a.input_tokens, a.output_tokens)
UNION ALL SELECT 'attempts', s.id FROM app.workflow_steps s JOIN attempted a USING (id) WHERE s.attempts <> a.attempts
UNION ALL SELECT 'an attempt is running where its step is', s.id FROM app.workflow_steps s JOIN attempted a USING (id)
 WHERE a.running <> (s.status = 'running')::int
UNION ALL SELECT 'the time of an end', id FROM app.workflow_executions
 WHERE (status IN {_OPEN}) <> (completed_at IS NULL)
UNION ALL SELECT 'the time of an end of a step', id FROM app.workflow_steps
 WHERE (status IN ('pending', 'running', 'retrying', 'waiting')) <> (completed_at IS NULL)
UNION ALL SELECT 'an open step of an execution that is over', e.id FROM app.workflow_executions e JOIN counted c USING (id)
 WHERE e.status NOT IN {_OPEN} AND c.steps <> c.over
UNION ALL SELECT 'runs', e.id FROM app.workflow_executions e
 WHERE e.run_number <> (SELECT count(*) FROM app.workflow_runs r WHERE r.execution_id = e.id)
    OR 1 < (SELECT count(*) FROM app.workflow_runs r WHERE r.execution_id = e.id AND NOT r.is_closed)
UNION ALL SELECT 'figures of a workflow', w.id FROM app.workflows w, LATERAL (
       SELECT count(*) AS total, count(*) FILTER (WHERE status = 'completed') AS completed,
              count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
              coalesce(sum(cost), 0) AS cost, coalesce(sum(input_tokens + output_tokens), 0) AS tokens
         FROM app.workflow_executions e WHERE e.workflow_id = w.id AND e.status NOT IN {_OPEN}) c
 WHERE (w.total_executions, w.completed_executions, w.failed_executions, w.cancelled_executions, w.total_cost, w.total_tokens)
       <> (c.total, c.completed, c.failed, c.cancelled, c.cost, c.tokens)
UNION ALL SELECT 'end of the timeline of an execution', e.id FROM app.workflow_executions e
 WHERE 'execution.' || e.status <> (SELECT t.kind FROM app.timeline_events t
                                     WHERE t.execution_id = e.id AND t.kind LIKE 'execution.%' ORDER BY t.seq DESC LIMIT 1)
UNION ALL SELECT 'end of the timeline of a step', s.id FROM app.workflow_steps s
 WHERE s.status <> 'pending' AND s.reused_from_execution_id IS NULL
   AND 'step.' || s.status <> (SELECT t.kind FROM app.timeline_events t
                                WHERE t.execution_id = s.execution_id AND t.node_id = s.node_id AND t.kind LIKE 'step.%'
                                  AND t.kind <> 'step.decided' ORDER BY t.seq DESC LIMIT 1)
UNION ALL SELECT 'the last entry of the audit log', e.id FROM app.workflow_executions e
 WHERE 'execution.' || e.status <> (SELECT a.action FROM app.audit_logs a
                                     WHERE a.subject = 'execution:' || e.id AND a.action LIKE 'execution.%'
                                     ORDER BY a.seq DESC LIMIT 1)
UNION ALL SELECT 'approvals that are asked for', s.id FROM app.workflow_steps s
 WHERE (s.status = 'waiting' AND s.wait_kind = 'approval' AND s.decision IS NULL)
       <> EXISTS (SELECT FROM app.events v WHERE v.dedup_key = 'approval_needed:' || s.execution_id || ':' || s.node_id
                                             AND v.resolved_at IS NULL)
"""  # noqa: S608 - a constant

PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
PICK = st.integers(0, 1_000_000)
SPENDING = st.builds(Spent, st.integers(0, 9), st.integers(0, 9), st.decimals(0, 1, places=4))
ENDS = st.sampled_from([ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED])


class Executions(RuleBasedStateMachine):
    """A few executions of one user, and whoever works on them, late ones among them."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.desk = Desk(database)
        self.made: list[ExecutionId] = []
        self.begun: list[Attempt] = []
        self.tokens: list[bytes] = []

    @precondition(lambda self: len(self.made) < 3)
    @rule(nodes=st.integers(0, 3), reused=st.integers(0, 2), key=st.sampled_from([None, None, "a", "b"]))
    def create(self, nodes: int, reused: int, key: str | None) -> None:
        parent = self.made[-1] if self.made else None
        new = [
            NewStep(
                StepId(uuid4()),
                NodeId(f"n{place}"),
                "transform",
                "",
                place,
                reuse=(parent, place) if parent and place < reused else None,
            )
            for place in range(nodes)
        ]
        execution = self.desk.create(steps=new, parent_execution_id=parent, idempotency_key=key)
        if execution.id not in self.made:
            self.made.append(execution.id)

    @precondition(lambda self: self.made)
    @rule(pick=PICK)
    def begin_run(self, pick: int) -> None:
        with suppress(FencedError):
            self.desk.begin_run(self._one(pick))

    @precondition(lambda self: self.made)
    @rule(pick=PICK, place=st.integers(0, 2))
    def begin_attempt(self, pick: int, place: int) -> None:
        execution = self._one(pick)
        with suppress(FencedError, CancelledError):
            self.desk.begin_run(execution)
            if place < len(self.desk.steps_of(execution)):
                self.begun.append(self.desk.begin(execution, place))

    @precondition(lambda self: self.begun)
    @rule(
        pick=PICK, spent=SPENDING, how=st.sampled_from(["complete", "cancel", "fail", "retry", "retry", "retry later"])
    )
    def end_attempt(self, pick: int, spent: Spent, how: str) -> None:
        calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
            "complete": (attempts.complete, {"output": {"n": pick}}),
            "cancel": (attempts.cancel, {}),
        }
        error = {"error_class": "RetryableError", "error_message": "no", "will_retry": how != "fail"}
        later = {"wait": Wait(WaitKind.TIME, PAST if pick % 2 else FUTURE)} if how == "retry later" else {}
        call, values = calls.get(how, (attempts.fail, error | later))
        self._end(pick, call, {**values, "spent": spent})

    @precondition(lambda self: self.begun)
    @rule(pick=PICK, until=st.sampled_from([None, PAST, FUTURE]), kind=st.sampled_from(list(WaitKind)))
    def wait(self, pick: int, until: datetime | None, kind: WaitKind) -> None:
        token = uuid4().bytes if kind is WaitKind.APPROVAL else None
        self._end(pick, attempts.wait, {"wait": Wait(kind, until, token, uuid4() if kind is WaitKind.SYNC else None)})
        if token:
            self.tokens.append(token)

    def _end(self, pick: int, call: Callable[..., Any], values: dict[str, Any]) -> None:
        attempt = self.begun[-1 - pick % min(3, len(self.begun))]
        with suppress(FencedError):
            self.desk.do(call, step_id=attempt.step_id, block_id=attempt.block_id, **values)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICK)
    def decide(self, pick: int) -> None:
        token = self.tokens[pick % len(self.tokens)]
        with suppress(InvalidRequestError, LookupError):
            if self.desk.rows("SELECT 1 FROM app.workflow_steps WHERE wait_token_hash = :token", token=token):
                self.desk.do(waits.decide, token_hash=token, decision={"approved": bool(pick % 2)})

    @precondition(lambda self: self.made)
    @rule(pick=PICK, reason=st.sampled_from(list(SkipReason)))
    def skip(self, pick: int, reason: SkipReason) -> None:
        for step in self.desk.steps_of(self._one(pick))[:1]:
            self.desk.do(steps.skip, step_id=step.id, reason=reason)

    @precondition(lambda self: self.made)
    @rule(pick=PICK, status=st.one_of(st.none(), st.none(), ENDS), lost=st.booleans())
    def close_run(self, pick: int, status: ExecutionStatus | None, lost: bool) -> None:
        endings = [steps.Ending(NodeId("n0"), StepStatus.FAILED, error_class="RunLostError")] if lost and status else []
        self.desk.close_run(self._one(pick), status, endings=endings)

    @precondition(lambda self: self.made)
    @rule(pick=PICK, is_for_all=st.booleans())
    def cancel(self, pick: int, is_for_all: bool) -> None:
        if is_for_all:
            self.desk.do(execution_control.request_cancel_where, limit=2)
        else:
            self.desk.do(execution_control.request_cancel, execution_id=self._one(pick))

    @invariant()
    def everything_agrees(self) -> None:
        assert [tuple(row) for row in self.desk.rows(_PROBLEMS)] == []

    def _one(self, pick: int) -> ExecutionId:
        return self.made[pick % len(self.made)]


def test_rows_agree_after_whatever_was_done(shared: Database) -> None:
    assert Spent(cost=Decimal(0)) == attempts.NOTHING

    class OfThisDatabase(Executions):
        def __init__(self) -> None:
            super().__init__(shared)

    run_state_machine_as_test(
        OfThisDatabase,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
