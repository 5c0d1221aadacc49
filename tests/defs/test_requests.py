"""Sync jobs that were written as rows: each gets a run, fairly, until one has started it; what nobody wants gets none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from tests.defs.place import ALICE, FOLDER, Place, create, end, status
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.sync_requests import waiting
from workstation_pipelines.defs import partitions, requests, runs
from workstation_pipelines.model import DataSourceId, UserId


@pytest.fixture(scope="module")
def instance(queued: dg.DagsterInstance) -> dg.DagsterInstance:
    return queued


def ask_for(
    place: Place, *, status: str = "pending", not_before: str = "NULL", priority: int = 0, source: UUID | None = None
) -> UUID:
    """Write a job as somebody does with SQL."""
    job_id = uuid4()
    place.ask(
        f"""INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, not_before, priority)
            VALUES (:id, 'alice', :source, 'full_sync', :status, {not_before}, :priority)""",  # noqa: S608 - constants
        id=job_id,
        source=source or place.data_source.id,
        status=status,
        priority=priority,
    )
    return job_id


def tick(place: Place) -> Sequence[dg.RunRequest]:
    return requests.start_waiting(place.workspace, place.instance)


def job(place: Place, job_id: UUID) -> Any:
    [row] = place.ask("SELECT * FROM app.sync_jobs WHERE id = :id", id=job_id)
    return row


def run_for(place: Place, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Do what the run of a request does."""
    config = request.run_config["ops"]["stream_local_folder"]["config"]
    return place.run(config=config, tags=request.tags)


def fail(place: Place, run: dg.DagsterRun) -> None:
    place.instance.report_run_failed(run)


def test_request_is_asked_for_until_a_run_has_started_it(place: Place) -> None:
    partitions.forget_partition(place.instance, FOLDER, place.data_source.id)
    place.write("a.md")
    job_id = ask_for(place, priority=7)
    [first] = tick(place)
    [again] = tick(place)  # nothing was created: the daemon died
    assert (first.run_key, first.job_name) == (f"{job_id}:0", "local_folder_sync")
    assert again.run_key == first.run_key
    assert first.partition_key == str(place.data_source.id)
    assert first.tags == {
        "workstation/user": "alice",
        "workstation/data_source": str(place.data_source.id),
        "workstation/sync_job": str(job_id),
        "workstation/trigger": "request",
        "dagster/priority": "7",
    }
    created = create(place, first, submit=False)  # its tick died before it was submitted
    assert [request.run_key for request in tick(place)] == [first.run_key]
    place.instance.submit_run(created.run_id, workspace=None)  # type: ignore[arg-type]  # the queue needs none
    assert tick(place) == []

    ran = run_for(place, first)
    end(place, created)
    assert ran.success
    assert (job(place, job_id).status, job(place, job_id).dagster_run_id) == ("completed", ran.run_id)
    assert tick(place) == []
    # Whoever runs it again gets a job of its own that does the same.
    again_ran = run_for(place, first)
    assert again_ran.success
    assert place.ask("SELECT count(*), count(DISTINCT job_type) FROM app.sync_jobs") == [(2, 1)]


@pytest.mark.parametrize(
    ("state", "not_before", "is_due"),
    [
        ("paused", "now() - interval '1 second'", True),
        ("paused", "now() + interval '1 hour'", False),
        ("paused", "NULL", False),  # somebody holds it
        ("needs_confirmation", "NULL", False),
        ("cancelled", "NULL", False),
    ],
)
def test_paused_job_is_asked_for_when_its_time_has_come(
    place: Place, state: str, not_before: str, is_due: bool
) -> None:
    ask_for(place, status=state, not_before=not_before)
    assert bool(tick(place)) is is_due


def test_job_whose_source_is_being_synced_waits(place: Place) -> None:
    ask_for(place)
    other = ask_for(place, status="running")
    assert tick(place) == []
    place.ask("UPDATE app.sync_jobs SET status = 'failed' WHERE id = :id", id=other)
    assert len(tick(place)) == 1


def test_run_that_finds_its_source_busy_leaves_the_job_waiting(place: Place) -> None:
    job_id = ask_for(place)
    [request] = tick(place)
    with data_sources.leased(place.database, place.data_source):
        assert status(place, run_for(place, request)) == "CANCELED"
    assert job(place, job_id).status == "pending"
    [again] = tick(place)
    assert again.run_key == f"{job_id}:1"


@pytest.mark.parametrize("stopped", ["status = 'cancelled'", "status = 'paused', not_before = NULL"])
def test_queued_run_of_a_job_that_was_stopped_is_taken_away(place: Place, stopped: str) -> None:
    job_id = ask_for(place)
    [request] = tick(place)
    run = create(place, request, submit=True)
    place.ask(f"UPDATE app.sync_jobs SET {stopped}")  # noqa: S608 - a constant above
    assert tick(place) == []
    assert found(place, run).status is dg.DagsterRunStatus.CANCELED
    assert status(place, run_for(place, request)) == "CANCELED"  # had it begun meanwhile
    place.ask("UPDATE app.sync_jobs SET status = 'pending'")
    [again] = tick(place)  # a person did not cancel that run: the job goes on when it is resumed
    assert again.run_key == f"{job_id}:2"


def test_queued_run_that_a_person_cancels_cancels_its_job(place: Place) -> None:
    job_id = ask_for(place)
    [request] = tick(place)
    end(place, create(place, request, submit=True))
    assert tick(place) == []
    assert (job(place, job_id).status, "cancelled before" in job(place, job_id).error_message) == ("cancelled", True)


def test_job_that_no_run_can_start_fails_after_three(place: Place) -> None:
    job_id = ask_for(place)
    for attempt in range(requests.MOST_FAILED_RUNS):
        [request] = tick(place)
        assert request.run_key == f"{job_id}:{attempt}"
        fail(place, create(place, request, submit=True))
    assert tick(place) == []
    assert job(place, job_id).status == "failed"
    assert "ask for a new sync" in job(place, job_id).error_message


def test_everybodys_first_comes_before_anybodys_second(place: Place) -> None:
    sources = {}
    for user in ("alice", "bob", "carol"):
        with place.database.transaction_with_rls(UserId(user)) as connection:
            sources[user] = [
                data_sources.add(
                    connection,
                    user_id=UserId(user),
                    data_source_id=DataSourceId(uuid4()),
                    name=f"folder {number}",
                    source_type=FOLDER,
                    config={"path": str(place.folder)},
                ).id
                for number in range(3)
            ]
    order = [("alice", 0, 0), ("alice", 1, 0), ("alice", 2, 5), ("bob", 0, 0), ("bob", 1, 0), ("carol", 0, 9)]
    for user, number, priority in order:
        place.database.query_with_rls(
            UserId(user),
            """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, priority)
               VALUES (:id, :user, :source, 'manual', :priority)""",
            {"id": uuid4(), "user": user, "source": sources[user][number], "priority": priority},
        )
    found = waiting(place.database, started=[], at_most=99)
    assert [(row.user_id, row.priority) for row in found] == [
        ("carol", 9),
        ("alice", 5),
        ("bob", 0),
        ("alice", 0),
        ("bob", 0),
        ("alice", 0),
    ]
    rest = waiting(place.database, started=[row.job_id for row in found[:3]], at_most=2)
    assert [row.job_id for row in rest] == [row.job_id for row in found[3:5]]


def test_sensor_evaluates_for_every_type(place: Place) -> None:
    ask_for(place)
    repository = place.definitions.get_repository_def()
    sensor = repository.get_sensor_def("pending_requests_sensor")
    with (
        dg.build_sensor_context(
            place.instance, repository_def=repository, resources={"workspace": place.resource}
        ) as context,
        partition_loading_context(dynamic_partitions_store=place.instance),
    ):
        assert sensor.evaluate_tick(context).run_requests
    assert {target.job_name for target in sensor.targets} >= {"local_folder_sync", "gmail_sync"}
    assert sensor.description


def found(place: Place, run: dg.DagsterRun) -> dg.DagsterRun:
    again = place.instance.get_run_by_id(run.run_id)
    assert again is not None
    return again


def test_tags_are_ids(place: Place) -> None:
    assert runs.tags_of(user_id=ALICE, data_source_id=str(place.data_source.id)).keys() == {
        "workstation/user",
        "workstation/data_source",
    }
