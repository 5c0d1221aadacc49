"""One attempt at a node after the other, without Dagster: what is given, written, tried again, let wait, and dropped."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import pytest
from pydantic import SecretStr

from tests.defs.workflow_place import ALICE, HOME, OWNER, WorkflowPlace
from workstation_pipelines.db import blocks, execution_control, executions, workflow_runs
from workstation_pipelines.db.blocks import BlockExecution
from workstation_pipelines.errors import (
    FencedError,
    RateLimitedError,
    RetryableError,
    SourceUnavailableError,
)
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Usage
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import (
    BlockResult,
    ExecutionStatus,
    NodeId,
    Step,
    Wait,
    WaitKind,
)
from workstation_pipelines.workflows import calling
from workstation_pipelines.workflows.attempt import Attempted, Outcome, Runner
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import Block, BlockCall, BlockConfig, BlockType
from workstation_pipelines.workflows.secrets import SecretVault

A = NodeId("a")


class ProbeConfig(BlockConfig):
    value: Any = None


@pytest.fixture
def place(settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowPlace]:
    key = base64.b64encode(b"k" * 32).decode()
    place = WorkflowPlace(settings.model_copy(update={"token_keys": SecretStr(f"k1:{key}")}), instance)
    monkeypatch.setattr(calling, "GRACE_S", 0.05)
    yield place
    place.workspace.close()


class Probe:
    """A workflow of one node, or more, whose block is the test's, and the run that works on it."""

    def __init__(self, place: WorkflowPlace, block: Block, **node: Any) -> None:
        self.place = place
        self.calls: list[BlockCall[Any]] = []

        def probe(call: BlockCall[Any]) -> BlockResult | Wait:
            self.calls.append(call)
            return block(call)

        assert isinstance(BLOCKS, dict)
        BLOCKS["probe"] = BlockType(probe, ProbeConfig, "does what a test wants")
        document = {"nodes": [{"id": "a", "type": "probe", **node}], "edges": []}
        self.execution_id = place.ask_for(place.save(document), document)
        self.runner = self.next_run()

    def next_run(self) -> Runner:
        run_id = self.place.begin_run(self.execution_id)
        self.runner = Runner.open(self.place.workspace, run_id=run_id, execution_id=str(self.execution_id))
        return self.runner

    def attempt(self) -> Attempted:
        return self.runner.attempt(A)

    def end_run(self) -> None:
        """Let it wait, as the mirror does after a run that ended with steps that wait."""
        self.runner.close()
        run_id = self.place.execution(self.execution_id).dagster_run_id
        with self.place.database.transaction_with_rls(ALICE, HOME) as connection:
            workflow_runs.close(connection, **OWNER, run_id=UUID(run_id))
            execution_control.set_waiting(connection, **OWNER, execution_id=self.execution_id)

    @property
    def step(self) -> Step:
        return self.place.steps(self.execution_id)["a"]

    @property
    def blocks(self) -> list[BlockExecution]:
        with self.place.database.transaction_with_rls(ALICE, HOME) as connection:
            return blocks.of_execution(connection, **OWNER, execution_id=self.execution_id)


@pytest.fixture
def probe(place: WorkflowPlace) -> Iterator[Callable[..., Probe]]:
    made: list[Probe] = []

    def make(block: Block, **node: Any) -> Probe:
        made.append(Probe(place, block, **node))
        return made[-1]

    yield make
    for each in made:
        each.runner.close()
    assert isinstance(BLOCKS, dict)
    BLOCKS.pop("probe", None)


def fails(error: Exception) -> Block:
    def block(_call: BlockCall[Any]) -> BlockResult:
        raise error

    return block


def test_output_usages_and_step_are_written_together_and_secrets_nowhere(
    place: WorkflowPlace, probe: Callable[..., Probe]
) -> None:
    secret = "hush-hush-secret"
    SecretVault(place.database, place.workspace.settings).put(
        **OWNER, name="KEY", value=secret, secret_id=place.workspace.new_id()
    )

    def block(call: BlockCall[Any]) -> BlockResult:
        assert call.config.value == f"Bearer {secret}"
        call.log(f"asked with {secret}")
        usages = [
            Usage("chat", "someone", "model", 100, Decimal("0.01"), unit="input_tokens"),
            Usage("chat", "someone", "model", 20, Decimal("0.02"), unit="output_tokens"),
        ]
        echo = base64.b64encode(f"user:{secret}".encode()).decode()
        return BlockResult({"said": f"{secret}!", "echo": echo, "nul": "a\0b"}, usages)

    probed = probe(block, config={"value": "Bearer ${secrets.KEY}"})
    assert probed.attempt().outcome is Outcome.COMPLETED
    step, [attempt] = probed.step, probed.blocks
    assert (step.output["said"], step.output["nul"]) == ("***!", "a\ufffdb")
    assert (step.input_tokens, step.output_tokens, step.cost) == (100, 20, Decimal("1.40"))
    assert attempt.input == {"config": {"value": "Bearer ***"}, "inputs": []}
    bill = place.ask("SELECT DISTINCT job_id, step FROM app.billing_records")
    assert [tuple(row) for row in bill] == [(probed.execution_id, "workflow:probe")]
    everything = place.ask(
        """SELECT coalesce(string_agg(x, ''), '') FROM (
               SELECT t::text AS x FROM app.timeline_events t UNION ALL SELECT s::text FROM app.workflow_steps s
               UNION ALL SELECT b::text FROM app.block_executions b UNION ALL SELECT a::text FROM app.audit_logs a) y""",
    )[0][0]
    assert "asked with ***" in everything
    assert secret not in everything
    assert base64.b64encode(secret.encode()).decode()[4:-4] not in everything


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"x": float("nan")}, "NaN"),
        ("x" * 1_000_001, "bytes"),
        ({"x": {1, 2}}, "no JSON"),
    ],
)
def test_output_that_cannot_be_stored_fails_the_step(probe: Callable[..., Probe], output: object, reason: str) -> None:
    probed = probe(lambda _call: BlockResult(output))
    attempted = probed.attempt()
    assert (attempted.outcome, attempted.error_class) == (Outcome.FAILED, "InvalidRequestError")
    assert reason in probed.step.error_message


def test_bug_is_told_by_its_class_and_frames_alone(probe: Callable[..., Probe]) -> None:
    probed = probe(fails(ZeroDivisionError("of somebody's text")))
    attempted = probed.attempt()
    assert (attempted.outcome, attempted.error_class) == (Outcome.FAILED, "ZeroDivisionError")
    assert attempted.bug is not None
    assert "somebody" not in probed.step.error_message


def test_missing_secret_and_refused_config_fail_the_attempt_before_any_call(probe: Callable[..., Probe]) -> None:
    probed = probe(fails(AssertionError()), config={"value": "${secrets.NOBODYS}"})
    assert probed.attempt().outcome is Outcome.FAILED
    assert "NOBODYS" in probed.step.error_message
    assert (len(probed.blocks), probed.calls) == (1, [])


def test_attempts_are_counted_over_all_runs_and_long_pauses_end_the_run(probe: Callable[..., Probe]) -> None:
    probed = probe(
        fails(RateLimitedError("not so fast", wait_s=61)), retry={"max_retries": 2, "delay_s": 0, "max_delay_s": 0}
    )
    for number in (1, 2):
        assert probed.attempt() == Attempted(Outcome.WAITS)
        step = probed.step
        assert step.wait is not None
        assert step.wait.until is not None
        assert (step.status, step.attempts, step.error_class) == ("waiting", number, "RateLimitedError")
        assert timedelta(seconds=50) < step.wait.until - utc_now() <= timedelta(seconds=61)
        assert probed.attempt() == Attempted(Outcome.WAITS)  # asked again before its time: nothing is called
        probed.end_run()
        probed.place.ask("UPDATE app.workflow_steps SET wait_until = now()")
        probed.next_run()
    assert probed.attempt().outcome is Outcome.FAILED
    assert [call.wait for call in probed.calls] == [None] * 3
    assert [(block.attempt, block.status) for block in probed.blocks] == [(number, "failed") for number in (1, 2, 3)]
    assert len({call.idempotency_key for call in probed.calls}) == 1


def test_short_pause_is_at_least_what_was_asked_for(probe: Callable[..., Probe]) -> None:
    probed = probe(fails(RetryableError("later", wait_s=7)), retry={"max_retries": 1, "delay_s": 0})
    assert probed.attempt() == Attempted(Outcome.RETRY, wait_s=7.0, error_class="RetryableError")
    assert probed.step.status == "retrying"
    assert probed.attempt().outcome is Outcome.FAILED


def test_block_is_called_again_with_what_it_waited_for(probe: Callable[..., Probe]) -> None:
    def block(call: BlockCall[Any]) -> BlockResult | Wait:
        if call.wait is None:
            return Wait(WaitKind.TIME, until=utc_now(), message="run 17 there")
        if call.attempt == 2:
            raise RateLimitedError("not so fast", wait_s=61)
        return BlockResult(call.wait.message)

    probed = probe(block, retry={"max_retries": 1, "delay_s": 0})
    assert probed.attempt().outcome is Outcome.WAITS
    probed.end_run()
    probed.next_run()
    assert probed.attempt().outcome is Outcome.WAITS
    probed.end_run()
    probed.place.ask("UPDATE app.workflow_steps SET wait_until = now()")
    probed.next_run()
    assert probed.attempt().outcome is Outcome.COMPLETED
    assert (probed.step.output, probed.step.attempts) == ("run 17 there", 3)
    assert probed.attempt().outcome is Outcome.REUSED


def test_block_past_its_time_is_tried_again_and_its_late_result_dropped(probe: Callable[..., Probe]) -> None:
    late, is_late = threading.Event(), threading.Event()

    def block(call: BlockCall[Any]) -> BlockResult:
        if call.attempt == 1:
            late.wait(timeout=20)
            is_late.set()
            return BlockResult("late")
        return BlockResult("in time")

    probed = probe(block, timeout_s=0.1, retry={"max_retries": 1, "delay_s": 0})
    assert probed.attempt().outcome is Outcome.RETRY
    late.set()
    assert is_late.wait(timeout=20)
    assert probed.attempt().outcome is Outcome.COMPLETED
    assert probed.step.output == "in time"


def test_cancel_is_heard_while_a_block_hangs_and_nothing_begins_after_it(
    place: WorkflowPlace, probe: Callable[..., Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workstation_pipelines.sync import heartbeat

    monkeypatch.setattr(heartbeat.Heartbeat.__init__, "__kwdefaults__", {"every_s": 0.05})

    def block(call: BlockCall[Any]) -> BlockResult:
        with place.database.transaction_with_rls(ALICE, HOME) as connection:
            execution_control.request_cancel(connection, **OWNER, execution_id=call.execution_id)
        call.stop.wait(20)
        return BlockResult("never")

    probed = probe(block)
    assert probed.attempt() == Attempted(Outcome.CANCELLED)
    assert probed.runner.is_cancelled
    assert probed.step.status == "running"  # the mirror's to close, which knows how the run ended
    assert probed.attempt() == Attempted(Outcome.CANCELLED)
    assert len(probed.calls) == 1


def test_run_that_has_lost_its_execution_writes_nothing(place: WorkflowPlace, probe: Callable[..., Probe]) -> None:
    def block(call: BlockCall[Any]) -> BlockResult:
        with place.database.transaction_with_rls(ALICE, HOME) as connection:
            executions.lock(connection, **OWNER, execution_id=call.execution_id)
            execution_control.end(connection, **OWNER, execution_id=call.execution_id, status=ExecutionStatus.CANCELLED)
        usage = Usage("chat", "someone", "model", 100, Decimal(1))
        return BlockResult("too late", [usage])

    probed = probe(block)
    with pytest.raises(FencedError):
        probed.attempt()
    assert (probed.step.status, probed.step.output) == ("cancelled", None)
    assert place.ask("SELECT 1 FROM app.billing_records") == []


@pytest.mark.parametrize("is_written", [False, True])
def test_outcome_of_which_nothing_was_heard_is_looked_up(
    probe: Callable[..., Probe], monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    """The database goes away before, or after, it has committed."""
    probed = probe(lambda _call: BlockResult("done"))
    complete = probed.runner._ledger.complete

    def interrupted(*given: Any) -> None:
        monkeypatch.undo()
        if is_written:
            complete(*given)
            probed.runner._ledger._unsettled[given[0].id] = given[1]
        raise SourceUnavailableError("the database went away")

    monkeypatch.setattr(probed.runner._ledger, "complete", interrupted)
    with pytest.raises(SourceUnavailableError):
        probed.attempt()
    assert probed.attempt().outcome is (Outcome.REUSED if is_written else Outcome.COMPLETED)
    assert [block.status.value for block in probed.blocks] == (["completed"] if is_written else ["failed", "completed"])
    assert probed.step.output == "done"


def test_another_run_of_the_same_execution_is_refused(place: WorkflowPlace, probe: Callable[..., Probe]) -> None:
    probed = probe(lambda _call: BlockResult(1))
    with pytest.raises(FencedError):
        Runner.open(place.workspace, run_id=str(uuid4()), execution_id=str(probed.execution_id))
