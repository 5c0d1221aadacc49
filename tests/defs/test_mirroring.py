"""What became of runs, in the rows of their executions: whoever died, and however often one looks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import psycopg
import pytest
from dagster._core.events import DagsterEvent

from tests.conftest import DatabaseUrls, fresh_database
from tests.defs.workflow_place import ALICE, HOME, OWNER, WorkflowPlace
from tests.workflows.dags import scripted_blocks
from workstation_pipelines import settings as urls
from workstation_pipelines.db import attempts, blocks, execution_control, timeline, workflow_runs
from workstation_pipelines.db.run_presence import present
from workstation_pipelines.defs import disagreements, reaping, workflow_launch
from workstation_pipelines.defs.mirroring import Mirrored, mirror
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import EmbedderName, Settings
from workstation_pipelines.workflow_model import ExecutionId, RunOwner
from workstation_pipelines.workflows import control

CHAIN: dict[str, Any] = {
    "nodes": [{"id": name, "type": "scripted", "config": {"acts": [{"do": "complete"}]}} for name in ("a", "b")],
    "edges": [{"source": "a", "target": "b"}],
}


@pytest.fixture(scope="module")
def own_urls(postgres: DatabaseUrls, template_database: str) -> Iterator[DatabaseUrls]:
    with fresh_database(postgres, template_database) as found:
        yield found


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, own_urls: DatabaseUrls, queued: dg.DagsterInstance
) -> Iterator[WorkflowPlace]:
    settings = Settings(
        WORKSTATION_HOME=tmp_path_factory.mktemp("home"),
        DATABASE_URL=own_urls.app_url,
        WORKSTATION_EMBEDDER=EmbedderName.HASHING,
    )
    place = WorkflowPlace(settings, queued)
    with scripted_blocks():
        yield place
    place.workspace.close()


@pytest.fixture
def past(own_urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    """A superuser who may rewrite when things happened, and what no program of ours could write."""
    with psycopg.connect(urls.libpq_url(own_urls.admin_url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


class Queued:
    """An execution with a run in the queue, and what a run's process would write of it."""

    def __init__(self, place: WorkflowPlace) -> None:
        self.place = place
        self.id = place.ask_for(place.save(CHAIN), CHAIN)
        run_id = workflow_launch.start_execution(place.workspace, place.instance, RunOwner(self.id, ALICE, HOME))
        assert run_id is not None
        self.run_id = run_id

    def started(self) -> Queued:
        """The run's process has begun with the first node."""
        self.happens("PIPELINE_START")
        self.happens("STEP_START", step_key="a")
        with self.place.database.transaction_with_rls(ALICE, HOME) as connection:
            execution_control.mark_running(connection, **OWNER, execution_id=self.id, run_id=self.run_id)
            attempts.begin(
                connection,
                **OWNER,
                step_id=self.place.steps(self.id)["a"].id,
                block_id=uuid4(),
                dagster_run_id=self.run_id,
                input={},
            )
        return self

    def happens(self, kind: str, **more: Any) -> None:
        event = DagsterEvent(event_type_value=kind, job_name=self.run.job_name, **more)
        self.place.instance.report_dagster_event(event, self.run_id)

    def fails(self) -> None:
        self.place.instance.report_run_failed(self.run)

    @property
    def run(self) -> dg.DagsterRun:
        run = self.place.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run

    def states(self) -> str:
        """The execution and its steps with their attempts, as `failed RunLostError; a=failed b=skipped; failed`."""
        execution = self.place.execution(self.id)
        steps = " ".join(f"{name}={step.status}" for name, step in self.place.steps(self.id).items())
        with self.place.database.transaction_with_rls(ALICE, HOME) as connection:
            made = blocks.of_execution(connection, **OWNER, execution_id=self.id)
        told = f"{execution.status} {execution.error_class}".strip()
        return "; ".join([told, steps, *(block.status.value for block in made)])

    def kinds(self) -> list[str]:
        """What the timeline says of the run."""
        with self.place.database.transaction_with_rls(ALICE, HOME) as connection:
            events = timeline.of_execution(connection, **OWNER, execution_id=self.id)
        return [event.kind for event in events if event.kind.startswith("run.")]

    def mirror(self) -> Mirrored:
        return mirror(self.place.database, self.place.instance, only=self.id)

    def cancel(self) -> None:
        control.cancel(self.place.workspace, **OWNER, execution_id=self.id)

    def agrees(self) -> bool:
        found = disagreements.disagreements(self.place.database, self.place.instance, **OWNER)
        return self.id not in {each.execution_id for each in found}


def test_killed_run_leaves_nothing_open_and_its_timeline_says_why(place: WorkflowPlace) -> None:
    killed = Queued(place)
    assert killed.mirror() == Mirrored(looked_at=1)
    assert killed.kinds() == ["run.enqueued"]
    killed.started()
    place.instance.report_engine_event(
        f"Run execution process for {killed.run_id} was terminated by signal 9 (SIGKILL). This usually ...", killed.run
    )
    killed.fails()
    assert not killed.agrees()
    with ThreadPoolExecutor(4) as several:
        assert sum(done.closed for done in several.map(lambda _: killed.mirror(), range(4))) == 1
    assert killed.states() == "failed RunLostError; a=failed b=skipped; failed"
    assert f"workflow retry {killed.id}" in place.execution(killed.id).error_message
    assert killed.kinds() == ["run.enqueued", "run.started", "run.crashed", "run.failed"]
    assert killed.mirror() == Mirrored()
    assert killed.agrees()


def test_cancel_ends_a_queued_run_at_once(place: WorkflowPlace) -> None:
    queued = Queued(place)
    queued.cancel()
    assert queued.mirror().closed == 1
    assert (queued.run.status.value, queued.states()) == (
        "CANCELED",
        "cancelled CancelledError; a=cancelled b=cancelled",
    )
    assert queued.agrees()


def test_running_run_is_told_to_stop_and_after_a_while_said_to_have(
    place: WorkflowPlace, past: psycopg.Connection[Any]
) -> None:
    deaf = Queued(place).started()
    deaf.cancel()
    assert deaf.mirror().closed == 0
    assert deaf.run.status.value == "CANCELING"
    past.execute(
        "UPDATE app.workflow_executions SET cancel_requested_at = now() - interval '31 s' WHERE id = %s", [deaf.id]
    )
    assert deaf.mirror().closed == 1
    assert deaf.states() == "cancelled CancelledError; a=cancelled b=cancelled; cancelled"
    assert deaf.agrees()


def test_run_that_was_terminated_in_the_web_pages_is_cancelled(place: WorkflowPlace) -> None:
    run = Queued(place).started()
    place.instance.report_run_canceling(run.run)
    run.fails()
    run.mirror()
    assert run.states() == "cancelled CancelledError; a=cancelled b=cancelled; cancelled"
    assert "Dagster's pages" in place.execution(run.id).error_message


def test_run_that_took_too_long_has_failed(place: WorkflowPlace) -> None:
    slow = Queued(place).started()
    place.instance.report_run_canceling(slow.run, "Canceling due to exceeding maximum runtime of 9 seconds.")
    place.instance.report_run_canceled(slow.run)
    slow.mirror()
    assert slow.states() == "failed RunTimeoutError; a=failed b=skipped; failed"


def test_run_that_dagster_does_not_know_is_made_again_or_lost(
    place: WorkflowPlace, past: psycopg.Connection[Any]
) -> None:
    never = ExecutionId(place.ask_for(place.save(CHAIN), CHAIN))
    run_id = place.begin_run(never)  # and whoever was to create it dies

    def look(waited: str) -> tuple[Mirrored, str, bool]:
        past.execute(
            """UPDATE app.workflow_runs SET created_at = created_at - %(waited)s::interval,
                      updated_at = updated_at - %(waited)s::interval WHERE id = %(id)s""",
            {"waited": waited, "id": run_id},
        )
        done = mirror(place.database, place.instance, only=never)
        with place.database.transaction_with_rls(ALICE, HOME) as connection:
            row = workflow_runs.get(connection, **OWNER, run_id=UUID(run_id))
        return done, row.dagster_status, row.is_closed

    assert look("1 s") == (Mirrored(looked_at=1), "", False)
    assert look("10 s") == (Mirrored(looked_at=1), "UNSEEN", False)
    later = utc_now() + timedelta(seconds=11)
    assert workflow_launch.sweep(place.workspace, place.instance, clock=lambda: later).recovered == 1
    assert look("1 s") == (Mirrored(looked_at=1), "QUEUED", False)
    place.instance.delete_run(run_id)
    assert look("1 s") == (Mirrored(looked_at=1), "GONE", False)
    assert workflow_launch.sweep(place.workspace, place.instance, clock=lambda: later).recovered == 0
    assert look("119 s") == (Mirrored(looked_at=1), "GONE", False)
    assert look("2 s") == (Mirrored(looked_at=1, closed=1), "LOST", True)
    assert place.execution(never).error_class == "RunLostError"


def test_execution_that_nothing_works_on_any_more_is_ended(place: WorkflowPlace, past: psycopg.Connection[Any]) -> None:
    odd = Queued(place).started()
    past.execute("UPDATE app.workflow_runs SET is_closed = true WHERE id = %s", [odd.run_id])
    assert odd.mirror() == Mirrored(looked_at=1)  # Dagster still runs it
    odd.fails()
    assert odd.mirror() == Mirrored(looked_at=1, repaired=1)
    assert odd.states() == "failed RunLostError; a=failed b=skipped; failed"


def test_one_that_cannot_be_mirrored_holds_up_no_other(place: WorkflowPlace, past: psycopg.Connection[Any]) -> None:
    broken, whole = Queued(place).started(), Queued(place).started()
    past.execute("""UPDATE app.workflow_executions SET definition = '{"nodes": [{}]}' WHERE id = %s""", [broken.id])
    for each in (broken, whole):
        each.fails()
    done = mirror(place.database, place.instance)
    assert done.failures == (f"{broken.id} (KeyError)",)
    assert whole.states().startswith("failed RunLostError")
    past.execute("DELETE FROM app.workflow_executions WHERE id = %s", [broken.id])
    past.execute("DELETE FROM app.workflow_runs WHERE execution_id = %s", [broken.id])


def test_run_whose_process_is_gone_is_ended_and_one_that_beats_is_not(
    place: WorkflowPlace, past: psycopg.Connection[Any]
) -> None:
    run = Queued(place).started()

    def reaped(heard: str, *, seconds_later: float = 60) -> bool:
        past.execute(
            "UPDATE app.workflow_executions SET heartbeat_at = now() - %s::interval WHERE id = %s", [heard, run.id]
        )
        later = utc_now() + timedelta(seconds=seconds_later)
        return run.run_id in reaping.reconcile(place.database, place.instance, clock=lambda: later).run_ids

    assert not reaped("5 s")  # the server was restarted, which freed its lock
    with present(place.database, run.run_id):
        assert not reaped("50 s")  # it is busy
    assert not reaped("50 s", seconds_later=1)  # it writes its end
    assert reaped("50 s")
    run.mirror()
    assert run.states() == "failed RunLostError; a=failed b=skipped; failed"

    run = Queued(place).started()
    with present(place.database, run.run_id):
        assert reaped("91 s")  # it sleeps


def test_run_whose_process_never_came_up_is_ended(place: WorkflowPlace) -> None:
    run = Queued(place)
    run.happens("PIPELINE_STARTING")
    for seconds_later, is_reaped in ((60, False), (80, True)):
        later = utc_now() + timedelta(seconds=seconds_later)
        done = reaping.reconcile(place.database, place.instance, clock=lambda later=later: later)  # type: ignore[misc]
        assert (run.run_id in done.run_ids) is is_reaped


def test_idle_mirror_asks_the_database_once_and_dagster_nothing(place: WorkflowPlace) -> None:
    for execution in (Queued(place), Queued(place)):
        execution.cancel()
    mirror(place.database, place.instance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dg.DagsterInstance, "get_runs", None)
        assert mirror(place.database, place.instance) == Mirrored()
