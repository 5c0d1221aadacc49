"""Each due row starts one run through any death of the daemon, however the row was written."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import dagster as dg
import pytest

from tests.defs.place import ALICE, FOLDER, Place, create
from workstation_pipelines.db import schedules
from workstation_pipelines.defs import due_rows, partitions, runs
from workstation_pipelines.identity import utc_now


@pytest.fixture(scope="module")
def instance(queued: dg.DagsterInstance) -> dg.DagsterInstance:
    return queued


def add_row(place: Place, minutes_ago: float, every_minutes: int = 60) -> schedules.DueSync:
    with place.database.transaction_with_rls(ALICE) as connection:
        return schedules.add(
            connection,
            user_id=ALICE,
            schedule_id=uuid4(),
            data_source_id=place.data_source.id,
            schedule_type="interval",
            config={"minutes": every_minutes},
            timezone="UTC",
            next_at=utc_now() - timedelta(minutes=minutes_ago),
        )


def rows(place: Place) -> list[schedules.DueSync]:
    with place.database.transaction_with_rls(ALICE) as connection:
        return schedules.of_user(connection, user_id=ALICE)


def tick(place: Place) -> tuple[list[dg.RunRequest], int]:
    return due_rows.start_due(place.workspace, place.instance, FOLDER, clock=utc_now)


def test_due_row_is_asked_for_until_its_run_exists_and_then_moves_on(place: Place) -> None:
    row = add_row(place, minutes_ago=1)
    [first], _ = tick(place)
    [again], _ = tick(place)  # nothing was created: the daemon died
    assert first.run_key == again.run_key
    assert first.tags == {
        "dagster/partition": str(place.data_source.id),
        "workstation/user": "alice",
        "workstation/data_source": str(place.data_source.id),
        "workstation/scheduled_sync": str(row.id),
        "workstation/trigger": "schedule",
    }
    assert rows(place)[0].next_run_at == row.next_run_at

    create(place, again, submit=True)
    requests, confirmed = tick(place)
    assert (requests, confirmed) == ([], 1)
    [moved] = rows(place)
    assert row.next_run_at is not None
    assert moved.next_run_at == row.next_run_at + timedelta(hours=1)
    assert moved.last_run_at == row.next_run_at


def test_run_created_by_a_dead_tick_is_submitted_once(place: Place) -> None:
    add_row(place, minutes_ago=1)
    [request], _ = tick(place)
    run = create(place, request, submit=False)

    assert tick(place) == ([], 1)
    found = place.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.QUEUED
    assert tick(place) == ([], 0)
    assert place.instance.get_runs_count(dg.RunsFilter(tags={runs.RUN_KEY_TAG: request.run_key or ""})) == 1


def test_downtime_is_answered_by_one_run(place: Place) -> None:
    row = add_row(place, minutes_ago=60 * 50 + 7)
    [request], _ = tick(place)
    create(place, request, submit=True)
    tick(place)
    [moved] = rows(place)
    assert moved.next_run_at is not None
    assert row.next_run_at is not None
    assert timedelta(minutes=52) < moved.next_run_at - utc_now() <= timedelta(minutes=53)
    assert tick(place) == ([], 0)


def test_row_edited_meanwhile_keeps_the_edit(place: Place) -> None:
    row = add_row(place, minutes_ago=1)
    edited = utc_now() + timedelta(days=3)
    place.ask("UPDATE app.scheduled_syncs SET next_run_at = :at", at=edited)
    assert row.next_run_at is not None
    with place.database.transaction_with_rls(ALICE) as connection:
        moved = schedules.advance(
            connection, user_id=ALICE, schedule_id=row.id, due_at=row.next_run_at, next_at=utc_now()
        )
    assert not moved
    assert rows(place)[0].next_run_at == edited


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("timezone = 'Europe/Atlantis'", "IANA"),
        ("schedule_config = '[1]'", "object"),
        ("schedule_config = '{}'", "minutes"),
        ("schedule_type = 'cron', schedule_config = '{\"expression\": \"* * * * *\"}'", "every 5 minutes"),
        # A row that was due before it was spoilt starts nothing either.
        ("schedule_config = '{}', next_run_at = now() - interval '1 hour'", "minutes"),
    ],
)
def test_malformed_row_is_deactivated_and_says_why(place: Place, change: str, says: str) -> None:
    add_row(place, minutes_ago=1)
    place.ask(f"UPDATE app.scheduled_syncs SET {change}")  # noqa: S608 - a constant above
    assert tick(place) == ([], 0)
    [row] = rows(place)
    assert not row.is_active
    assert says in row.error
    assert tick(place) == ([], 0)


def test_row_written_in_sql_gets_its_time_at_the_next_tick_and_starts_nothing(place: Place) -> None:
    place.ask(
        """INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type, schedule_config)
           VALUES (gen_random_uuid(), 'alice', :source, 'interval', '{"minutes": 30}')""",
        source=place.data_source.id,
    )
    before = utc_now()
    assert tick(place) == ([], 0)
    [row] = rows(place)
    assert row.next_run_at is not None
    assert timedelta(minutes=30) <= row.next_run_at - before < timedelta(minutes=31)

    place.ask("UPDATE app.scheduled_syncs SET schedule_config = '{\"minutes\": 45}'")
    assert tick(place) == ([], 0)
    [row] = rows(place)
    assert row.next_run_at is not None
    assert timedelta(minutes=45) <= row.next_run_at - before < timedelta(minutes=46)


def test_paused_row_starts_nothing_and_a_resumed_one_makes_up_for_nothing(place: Place) -> None:
    add_row(place, minutes_ago=60 * 50 + 7)
    place.ask("UPDATE app.scheduled_syncs SET is_active = false")
    assert tick(place) == ([], 0)
    place.ask("UPDATE app.scheduled_syncs SET is_active = true")
    assert tick(place) == ([], 0)
    [row] = rows(place)
    assert row.next_run_at is not None
    assert row.next_run_at > utc_now() + timedelta(minutes=59)


def test_rows_not_written_in_time_are_written_by_the_next_tick(place: Place) -> None:
    row = add_row(place, minutes_ago=1)
    [request], _ = tick(place)
    create(place, request, submit=True)
    now_s = iter([0.0, due_rows.LONGEST_WRITING_S + 1])
    due_rows.start_due(place.workspace, place.instance, FOLDER, clock=utc_now, monotonic=lambda: next(now_s))
    assert rows(place)[0].next_run_at == row.next_run_at
    assert tick(place) == ([], 1)
    assert rows(place)[0].next_run_at != row.next_run_at


@pytest.mark.parametrize("state", ["is_active = false", "connection_status = 'disconnected'", "needs_reauth = true"])
def test_rows_of_sources_that_cannot_be_synced_wait(place: Place, state: str) -> None:
    add_row(place, minutes_ago=1)
    place.ask(f"UPDATE app.data_sources SET {state}")  # noqa: S608 - a constant above
    assert tick(place) == ([], 0)
    place.ask("UPDATE app.data_sources SET is_active = true, connection_status = 'connected', needs_reauth = false")
    requests, _ = tick(place)
    assert len(requests) == 1


def test_due_row_of_an_unregistered_source_registers_it(place: Place) -> None:
    partitions.forget_partition(place.instance, FOLDER, place.data_source.id)
    add_row(place, minutes_ago=1)
    tick(place)
    assert str(place.data_source.id) in partitions.known_keys(place.instance, FOLDER)


def test_tick_that_dies_in_the_middle_of_many_rows_starts_each_once(place: Place) -> None:
    """Some runs were created and submitted, one was created only, the others not yet. 1,000 rows: benchmarks/due_rows.py."""
    many = {place.add_source(f"folder {number}", place.folder).id for number in range(12)}
    place.ask(
        """INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type, schedule_config, next_run_at)
           SELECT gen_random_uuid(), user_id, id, 'interval', '{"minutes": 60}', now() - interval '1 minute'
             FROM app.data_sources WHERE name LIKE 'folder %'"""
    )
    asked, _ = tick(place)
    assert {request.tags["dagster/partition"] for request in asked} == {str(each) for each in many}
    for request in asked[:5]:
        create(place, request, submit=True)
    create(place, asked[5], submit=False)

    rest, confirmed = tick(place)
    assert (confirmed, {request.run_key for request in rest}) == (6, {request.run_key for request in asked[6:]})
    for request in rest:
        create(place, request, submit=True)
    assert tick(place) == ([], 6)
    assert all(row.next_run_at and row.next_run_at > utc_now() for row in rows(place))
    keys = [request.run_key or "" for request in asked]
    found = place.instance.get_runs(dg.RunsFilter(tags={runs.RUN_KEY_TAG: keys}))
    assert len({run.tags[runs.RUN_KEY_TAG] for run in found}) == len(found) == 12
    assert {run.status for run in found} == {dg.DagsterRunStatus.QUEUED}
