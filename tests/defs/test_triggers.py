"""The schedule starts each due row exactly once through any death of its daemon; the sensor starts runs for changes only."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from tests.defs.place import ALICE, FOLDER, Place, create, end
from workstation_pipelines.db import data_sources, schedules
from workstation_pipelines.defs import probing, runs, triggers
from workstation_pipelines.errors import ReauthorizeError, SourceUnavailableError
from workstation_pipelines.identity import utc_now


@pytest.fixture(scope="module")
def instance(queued: dg.DagsterInstance) -> dg.DagsterInstance:
    return queued


def look(place: Place) -> list[dg.RunRequest]:
    result = triggers.look_for_changes(
        place.workspace, place.instance, FOLDER, cursor="9e9", clock=utc_now, monotonic=lambda: 0.0
    )
    return list(result.run_requests or ())


def settle(place: Place) -> None:
    """Sync what there is, as the sensor asks for it, and let the sensor find that it happened."""
    [request] = look(place)
    run = create(place, request, submit=True)
    end(place, run)
    place.run()
    assert look(place) == []


def test_change_is_asked_for_until_its_run_exists_and_once_only(place: Place) -> None:
    place.write("a.md")
    [first] = look(place)
    [again] = look(place)
    assert first.run_key == again.run_key
    run = create(place, again, submit=True)
    assert look(place) == []  # it is queued
    end(place, run)
    place.run()  # the fence moves, and with it the key that a new wish would have
    assert look(place) == []
    assert look(place) == []


def test_no_change_asks_for_nothing(place: Place) -> None:
    place.write("a.md")
    settle(place)
    assert look(place) == []


def test_every_kind_of_edit_is_a_change(place: Place) -> None:
    place.write("a.md", "b.md")
    settle(place)
    for edit in (
        lambda: place.write("a.md", text="Other words about {}."),
        lambda: (place.folder / "a.md").rename(place.folder / "c.md"),
        lambda: (place.folder / "b.md").unlink(),
    ):
        edit()
        settle(place)


def test_change_that_was_undone_and_done_again_gets_its_own_run(place: Place) -> None:
    first, second = place.folder / "a.md", place.folder / "b.md"
    place.write("a.md")
    settle(place)
    keys = set()
    for source, target in ((first, second), (second, first), (first, second)):
        source.rename(target)
        [request] = look(place)
        keys.add(request.run_key)
        end(place, create(place, request, submit=True))
        place.run()
        assert look(place) == []
    assert len(keys) == 3


def test_run_created_by_a_dead_tick_is_asked_for_by_the_same_key(place: Place) -> None:
    place.write("a.md")
    [request] = look(place)
    create(place, request, submit=False)
    assert [again.run_key for again in look_without_busy(place)] == [request.run_key]


def look_without_busy(place: Place) -> list[dg.RunRequest]:
    """As if the created run had been forgotten for hours."""
    result = triggers.look_for_changes(
        place.workspace,
        place.instance,
        FOLDER,
        cursor="9e9",
        clock=lambda: utc_now() + runs.FORGOTTEN_AFTER + timedelta(minutes=1),
        monotonic=lambda: 0.0,
    )
    return list(result.run_requests or ())


def test_source_that_is_being_synced_is_left_alone(place: Place) -> None:
    place.write("a.md")
    seen: list[list[dg.RunRequest]] = []
    place.before_page = lambda _page: seen.append(look(place))
    place.run()
    assert seen == [[]]


def test_probe_that_fails_goes_to_the_back_and_asks_for_nothing(place: Place) -> None:
    place.add_source("second", place.folder)

    def fail(_since: str | None) -> None:
        raise SourceUnavailableError("the share is away")

    place.before_probe = fail
    assert look(place) == []
    assert place.ask("SELECT count(*) FROM app.data_sources WHERE last_probe_at IS NULL") == [(0,)]
    assert place.ask("SELECT count(*) FROM app.data_sources WHERE last_probe_token IS NOT NULL") == [(0,)]


def test_bug_in_one_probe_does_not_hold_up_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("a.md")
    second = place.add_source("second", place.folder)
    calls = iter([True, False, True, True])

    def stumble(_since: str | None) -> None:
        if next(calls):
            raise KeyError("a bug")

    place.before_probe = stumble
    monkeypatch.setattr(probing, "PROBE_THREADS", 1)
    (request,) = look(place)
    assert request.partition_key in {str(place.data_source.id), str(second.id)}
    with pytest.raises(KeyError):
        look(place)


def test_lost_grant_takes_the_source_out_of_probing(place: Place) -> None:
    def refuse(_since: str | None) -> None:
        raise ReauthorizeError("connect again")

    place.before_probe = refuse
    assert look(place) == []
    assert place.ask("SELECT connection_status FROM app.data_sources") == [("error",)]
    assert data_sources.to_probe(place.database, FOLDER, at_most=9) == []


def test_paused_job_is_left_to_those_who_go_on_with_it(place: Place) -> None:
    place.write("a.md")
    settle(place)
    place.ask("UPDATE app.sync_jobs SET status = 'paused', not_before = now() - interval '1 second'")
    place.write("b.md")
    assert look(place) == []


def test_killed_sync_is_resumed_once_an_hour_at_most(place: Place) -> None:
    place.write("a.md")
    settle(place)
    [run] = place.instance.get_runs(limit=1)
    place.ask("UPDATE app.sync_jobs SET status = 'running', dagster_run_id = NULL, heartbeat_at = now()")
    assert look(place) == []
    place.ask("UPDATE app.sync_jobs SET dagster_run_id = :run", run=run.run_id)  # which is over
    [request] = look(place)
    assert ":crashed:" in (request.run_key or "")
    end(place, create(place, request, submit=True))
    assert look(place) == []  # unless the clock struck in between
    place.ask("UPDATE app.sync_jobs SET dagster_run_id = NULL, heartbeat_at = now() - interval '6 minutes'")
    assert look(place) == []


def test_failed_sync_is_tried_again_once_an_hour_at_most(place: Place) -> None:
    place.write("a.md")
    settle(place)
    place.ask("UPDATE app.sync_jobs SET status = 'failed'")
    [request] = look(place)
    assert ":failed:" in (request.run_key or "")
    end(place, create(place, request, submit=True))
    assert look(place) == []


def test_failed_item_is_tried_again_when_due(place: Place) -> None:
    place.write("a.md")
    (place.folder / "blank.txt").write_text(" \n" * 40)
    settle(place)
    place.ask("UPDATE app.sync_failures SET next_try_at = now() - interval '1 second'")
    [request] = look(place)
    assert ":retry:" in (request.run_key or "")
    end(place, create(place, request, submit=True))
    assert look(place) == []


def test_long_probing_ends_with_the_tick(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_THREADS", 1)
    place.add_source("second", place.folder)
    now_s = iter([0.0, 1.0, probing.LONGEST_TICK_S + 1, probing.LONGEST_TICK_S + 2])
    triggers.look_for_changes(
        place.workspace, place.instance, FOLDER, cursor="9e9", clock=utc_now, monotonic=lambda: next(now_s)
    )
    assert place.ask("SELECT count(*) FROM app.data_sources WHERE last_probe_at IS NULL") == [(1,)]


def test_a_listing_that_no_probe_would_ask_for_is_due_after_a_while_and_after_new_settings(place: Place) -> None:
    place.write("a.md")
    settle(place)
    place.reconcile_every = timedelta(days=7)
    place.ask("UPDATE app.data_sources SET last_listed_at = now() - interval '6 days'")
    assert look(place) == []
    place.ask("UPDATE app.data_sources SET last_listed_at = now() - interval '8 days'")
    (request,) = look(place)
    assert ":reconcile:" in (request.run_key or "")
    place.ask("UPDATE app.data_sources SET last_listed_at = now(), synced_scope = 'another'")
    (request,) = look(place)
    assert ":rescoped:" in (request.run_key or "")


def test_ten_thousand_sources_are_probed_in_turn_so_many_a_tick(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.ask(
        """INSERT INTO app.data_sources (id, user_id, name, source_type, config)
           SELECT gen_random_uuid(), 'alice', 'crowd ' || n, 'local_folder', '{"path": "/nowhere"}'
             FROM generate_series(1, 9999) n"""
    )
    probed: list[UUID] = []
    monkeypatch.setattr(probing, "_look", lambda _workspace, _instance, _user, source: probed.append(source))
    for _ in range(4):
        assert look(place) == []
    assert len(set(probed)) == len(probed) == 4 * probing.PROBES_PER_TICK
    (plan,) = place.workspace.database.query_with_rls(
        ALICE, "SELECT count(*) FROM app.sources_to_probe('local_folder', 300)"
    )
    assert plan[0] == probing.PROBES_PER_TICK


def test_a_tick_asks_for_so_many_runs_and_leaves_the_rest_to_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "RUNS_PER_TICK", 2)
    monkeypatch.setattr(probing, "PROBE_THREADS", 1)
    place.write("a.md")
    sources = {str(place.data_source.id)} | {str(place.add_source(f"s{n}", place.folder).id) for n in range(3)}
    asked = [request.partition_key for request in (*look(place), *look(place))]
    assert len(asked) == 4
    assert set(asked) == sources


def test_definitions_evaluate_with_their_resource(place: Place) -> None:
    with place.database.transaction_with_rls(ALICE) as connection:
        schedules.set_frequency(connection, user_id=ALICE, data_source_id=place.data_source.id, sync_frequency="hourly")
    place.write("a.md")
    repository = place.definitions.get_repository_def()
    resources = {"workspace": place.resource}
    with (
        dg.build_sensor_context(place.instance, repository_def=repository, resources=resources) as sensor_context,
        dg.build_schedule_context(place.instance, repository_def=repository, resources=resources) as schedule_context,
        partition_loading_context(dynamic_partitions_store=place.instance),
    ):
        looked = repository.get_sensor_def("local_folder_delta_sensor").evaluate_tick(sensor_context)
        scheduled = repository.get_schedule_def("local_folder_sync_schedule").evaluate_tick(schedule_context)
    [change] = looked.run_requests or ()
    [due] = scheduled.run_requests or ()
    assert change.tags["dagster/partition"] == due.tags["dagster/partition"] == str(place.data_source.id)
