"""After a death jobs and runs agree again: neither says that it runs when the other is over, and nobody alive is ended."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from sqlalchemy import text

from tests.defs.place import Place, create
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.run_presence import is_present, present
from workstation_pipelines.defs import reaping
from workstation_pipelines.defs.resources import WorkspaceResource
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import Settings


@pytest.fixture(scope="module")
def instance(queued: dg.DagsterInstance) -> dg.DagsterInstance:
    return queued


def reconcile(place: Place, *, seconds_later: float = 60) -> tuple[int, int]:
    """Return how many jobs and runs were ended, so long after the runs began."""
    done = reaping.reconcile(place.database, place.instance, clock=lambda: utc_now() + timedelta(seconds=seconds_later))
    return len(done.jobs), len(done.run_ids)


def started_run(place: Place) -> dg.DagsterRun:
    """A run whose process has begun, and is gone unless the test holds its lock."""
    run = create(place, dg.RunRequest(partition_key=str(place.data_source.id)), submit=True)
    event = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name)
    place.instance.report_dagster_event(event, run.run_id)
    return run


def running_job(place: Place, run: dg.DagsterRun, heartbeat: str = "now()") -> UUID:
    job_id = uuid4()
    place.ask(
        f"""INSERT INTO app.sync_jobs
                   (id, user_id, data_source_id, job_type, status, dagster_run_id, heartbeat_at, started_at)
            VALUES (:id, 'alice', :source, 'manual', 'running', :run, {heartbeat}, now())""",  # noqa: S608 - constants
        id=job_id,
        source=place.data_source.id,
        run=run.run_id,
    )
    return job_id


def status_of(place: Place, run: dg.DagsterRun) -> str:
    found = place.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status.value


def test_killed_worker_ends_its_run_and_its_job(place: Place) -> None:
    run = started_run(place)
    running_job(place, run, heartbeat="now() - interval '50 seconds'")
    assert reconcile(place, seconds_later=10) == (0, 0)  # its op may not have begun
    assert reconcile(place) == (1, 1)
    assert (status_of(place, run), place.jobs()) == ("FAILURE", ["failed"])
    assert reconcile(place) == (0, 0)


def test_job_whose_run_is_over_is_ended_at_once_unless_somebody_holds_the_source(place: Place) -> None:
    run = started_run(place)
    running_job(place, run)
    place.instance.report_run_failed(run)
    with data_sources.leased(place.database, place.data_source):
        assert reconcile(place, seconds_later=0) == (0, 0)
    assert reconcile(place, seconds_later=0) == (1, 0)
    assert place.jobs() == ["failed"]


def test_job_silent_for_long_is_ended_with_its_run(place: Place) -> None:
    run = started_run(place)
    running_job(place, run, heartbeat="now() - interval '10 minutes'")
    assert reconcile(place, seconds_later=0) == (1, 1)
    assert (status_of(place, run), place.jobs()) == ("FAILURE", ["failed"])


def test_run_whose_process_lives_is_left_alone(place: Place) -> None:
    run = started_run(place)
    with present(place.database, run.run_id):
        assert reconcile(place) == (0, 0)
    assert status_of(place, run) == "STARTED"
    running_job(place, run)  # its lock is gone with a restart of the server, but its heart beats
    assert reconcile(place) == (0, 0)
    place.ask("UPDATE app.sync_jobs SET heartbeat_at = now() - interval '50 seconds'")
    assert reconcile(place) == (1, 1)


def test_long_run_that_has_closed_its_database_and_writes_its_end_is_left_alone(place: Place) -> None:
    run = started_run(place)
    long_ago = utc_now() - timedelta(hours=1)
    with place.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]  # of SQL storages
        moved = text("UPDATE runs SET start_time = :start_time WHERE run_id = :run_id")
        connection.execute(moved, {"start_time": long_ago.timestamp(), "run_id": run.run_id})
    assert reconcile(place, seconds_later=1) == (0, 0)
    assert status_of(place, run) == "STARTED"
    assert reconcile(place) == (0, 1)


def test_run_that_was_being_cancelled_ends_so(place: Place) -> None:
    run = started_run(place)
    place.instance.report_run_canceling(run)
    assert reconcile(place) == (0, 1)
    assert status_of(place, run) == "CANCELED"


def test_resource_of_a_run_shows_that_its_process_lives(place: Place, settings: Settings) -> None:
    resource = WorkspaceResource(lambda: settings, "run 1")
    resource.open()
    assert is_present(place.database, "run 1")
    resource.close()
    assert not is_present(place.database, "run 1")
    assert not is_present(place.database, "run 2")
