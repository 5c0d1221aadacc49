"""What people ask of executions, up to what is then run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from tests.defs.workflow_place import ALICE, HOME, OWNER, WorkflowPlace
from tests.workflows.dags import scripted_blocks
from workstation_pipelines.db import blocks, workflows
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import Execution, ExecutionId, ExecutionStatus, TenantId
from workstation_pipelines.workflows import control


@pytest.fixture
def place(settings: Settings, instance: dg.DagsterInstance) -> Iterator[WorkflowPlace]:
    place = WorkflowPlace(settings, instance)
    with scripted_blocks():
        yield place
    place.workspace.close()


def document(**acts: str) -> dict[str, Any]:
    """A diamond: `a` before `b` and `c`, both before `d`; each completes unless told otherwise."""
    return {
        "inputs": {"topic": {"type": "string", "required": True}, "count": {"type": "integer", "default": 3}},
        "nodes": [
            {"id": name, "type": "scripted", "config": {"acts": [{"do": acts.get(name, "complete")}]}}
            for name in "abcd"
        ],
        "edges": [{"source": "a", "target": "b"}, {"source": "a", "target": "c"}]
        + [{"source": source, "target": "d"} for source in "bc"],
    }


APPROVED = {"nodes": [{"id": "ask", "type": "approval", "config": {"message": "May it go on?"}}], "edges": []}


def start(place: WorkflowPlace, **more: Any) -> Execution:
    return control.start(place.workspace, **OWNER, workflow="digest", **{"input": {"topic": "owls"}, **more})


def retry(place: WorkflowPlace, execution: Execution, **how: Any) -> Execution:
    return control.retry(place.workspace, **OWNER, execution_id=execution.id, **how)


def worked(place: WorkflowPlace, execution_id: ExecutionId) -> str:
    """The nodes that were worked on, once for each attempt."""
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        made = blocks.of_execution(connection, **OWNER, execution_id=execution_id)
    return "".join(sorted(block.node_id for block in made))


def states(place: WorkflowPlace, execution_id: ExecutionId) -> Mapping[str, str]:
    return {name: step.status.value for name, step in place.steps(execution_id).items()}


def test_start_names_everything_that_is_wrong_and_asks_once_a_key(place: WorkflowPlace) -> None:
    place.save(document())
    with pytest.raises(InvalidRequestError) as refused:
        start(place, input={"count": "many", "colour": "red"})
    for wrong in ("topic", "count", "colour"):
        assert wrong in refused.value.message
    with pytest.raises(InvalidRequestError, match="character"):
        start(place, input={"topic": "\x00"})
    execution = start(place, idempotency_key="monday", priority=7)
    assert (execution.input, execution.priority) == ({"topic": "owls", "count": 3}, 7)
    assert start(place, idempotency_key="monday").id == execution.id
    assert states(place, execution.id) == dict.fromkeys("abcd", "pending")
    with pytest.raises(NotFoundError):
        start(place, version=2)
    with pytest.raises(NotFoundError):
        control.start(place.workspace, user_id=ALICE, tenant_id=TenantId("elsewhere"), workflow="digest")
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        workflow_id = workflows.by_slug(connection, **OWNER, slug="digest").id
        workflows.set_active(connection, **OWNER, workflow_id=workflow_id, is_active=False)
    with pytest.raises(InvalidRequestError, match="inactive"):
        start(place)


def test_retry_runs_again_what_it_must_and_nothing_else(place: WorkflowPlace) -> None:
    place.save(document(c="fail"))
    failed = start(place)
    with pytest.raises(InvalidRequestError, match="wait for its end"):
        retry(place, failed)
    assert place.run_to_the_end(failed.id).status is ExecutionStatus.FAILED
    assert worked(place, failed.id) == "abc"

    again = retry(place, failed)
    assert (again.parent_execution_id, again.root_execution_id, again.trigger) == (failed.id, failed.id, "retry")
    assert states(place, again.id) == {"a": "completed", "b": "completed", "c": "pending", "d": "pending"}
    assert place.steps(again.id)["b"].is_reused
    assert place.run_to_the_end(again.id).status is ExecutionStatus.FAILED
    assert worked(place, again.id) == "c"

    place.save(document())
    mended = retry(place, again, newest=True)
    assert (mended.parent_execution_id, mended.root_execution_id, mended.version) == (again.id, failed.id, 2)
    assert place.run_to_the_end(mended.id).status is ExecutionStatus.COMPLETED
    assert worked(place, mended.id) == "cd"
    assert mended.input == failed.input

    with pytest.raises(InvalidRequestError, match="nothing has failed"):
        retry(place, mended)
    with pytest.raises(InvalidRequestError, match="no node nobody"):
        retry(place, mended, from_=["b", "nobody"])
    from_b = retry(place, mended, from_=["b"])
    assert place.run_to_the_end(from_b.id).status is ExecutionStatus.COMPLETED
    assert worked(place, from_b.id) == "bd"
    whole = retry(place, mended, from_="start")
    assert place.run_to_the_end(whole.id).status is ExecutionStatus.COMPLETED
    assert worked(place, whole.id) == "abcd"


def test_cancel_ends_at_once_what_no_run_works_on(place: WorkflowPlace) -> None:
    place.save(document())
    pending = start(place)
    for _ in range(2):
        assert control.cancel(place.workspace, **OWNER, execution_id=pending.id) is ExecutionStatus.CANCELLED
    assert states(place, pending.id) == dict.fromkeys("abcd", "cancelled")
    done = start(place)
    place.run_to_the_end(done.id)
    with pytest.raises(InvalidRequestError, match="nothing left to cancel"):
        control.cancel(place.workspace, **OWNER, execution_id=done.id)
    place.save(APPROVED, "waits")
    waiting = control.start(place.workspace, **OWNER, workflow="waits")
    place.run(waiting.id)
    assert place.close(waiting.id) is ExecutionStatus.WAITING
    several = [start(place).id for _ in range(3)]
    assert control.cancel_where(place.workspace, **OWNER, older_than=timedelta(hours=1)) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "CANCELLED_AT_ONCE", 2)
        assert set(control.cancel_where(place.workspace, **OWNER)) == {*several, waiting.id}
    assert states(place, waiting.id) == {"ask": "cancelled"}


def test_approval_is_decided_once_by_its_owner_or_whoever_holds_the_newest_token(place: WorkflowPlace) -> None:
    place.save(APPROVED, "waits")

    def waiting() -> dict[str, Any]:
        execution = control.start(place.workspace, **OWNER, workflow="waits")
        place.run(execution.id)
        assert place.close(execution.id) is ExecutionStatus.WAITING
        return {**OWNER, "execution_id": execution.id, "node_id": "ask"}

    first = waiting()
    control.decide(place.workspace, **first, approved=True, comment="fine")
    with pytest.raises(InvalidRequestError, match="decided"):
        control.decide(place.workspace, **first, approved=False)
    with pytest.raises(InvalidRequestError, match="decided"):
        control.new_token(place.workspace, **first)
    assert place.run_to_the_end(first["execution_id"]).status is ExecutionStatus.COMPLETED
    output = place.steps(first["execution_id"])["ask"].output
    assert (output["approved"], output["comment"], output["by"]) == (True, "fine", "alice")

    second = waiting()
    old, new = (control.new_token(place.workspace, **second) for _ in range(2))
    for wrong in (old, new[:-1], f"{new}x", "", "nonsense", new.partition(".")[2]):
        with pytest.raises(NotFoundError):
            control.decide_by_token(place.workspace, token=wrong, approved=True)
    assert control.decide_by_token(place.workspace, token=new, approved=False, by="carol").node_id == "ask"
    with pytest.raises(InvalidRequestError, match="decided"):
        control.decide_by_token(place.workspace, token=new, approved=True)

    third = waiting()
    with pytest.raises(NotFoundError):
        control.decide(place.workspace, **{**third, "node_id": "nobody"}, approved=True)
    with pytest.raises(InvalidRequestError, match="2000 characters"):
        control.decide(place.workspace, **third, approved=True, comment="x" * 2001)
    control.cancel(place.workspace, **OWNER, execution_id=third["execution_id"])
    with pytest.raises(InvalidRequestError, match="is over"):
        control.decide(place.workspace, **third, approved=True)
