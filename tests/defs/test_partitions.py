"""Partitions follow the data sources."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import dagster as dg

from tests.defs.place import ALICE, FOLDER, Place
from workstation_pipelines.db import data_sources
from workstation_pipelines.defs import partitions, triggers
from workstation_pipelines.identity import utc_now


def test_registering_and_forgetting_are_idempotent(instance: dg.DagsterInstance) -> None:
    data_source_id = uuid4()
    for _ in range(2):
        partitions.register_partition(instance, FOLDER, data_source_id)
    assert partitions.known_keys(instance, FOLDER) == [str(data_source_id)]
    for _ in range(2):
        partitions.forget_partition(instance, FOLDER, data_source_id)
    assert partitions.known_keys(instance, FOLDER) == []


def test_sensor_adds_missing_partitions_and_deletes_gone_ones(place: Place) -> None:
    unregistered = place.add_source("other", place.folder)
    gone = uuid4()
    partitions.register_partition(place.instance, FOLDER, gone)

    requests = triggers.compared_partitions(place.workspace, place.instance, FOLDER)

    assert [(type(request), list(request.partition_keys)) for request in requests] == [
        (dg.AddDynamicPartitionsRequest, [str(unregistered.id)]),
        (dg.DeleteDynamicPartitionsRequest, [str(gone)]),
    ]


def test_source_added_during_the_comparison_is_not_deleted(place: Place) -> None:
    known = partitions.known_keys(place.instance, FOLDER)
    late = place.add_source("late", place.folder)
    partitions.register_partition(place.instance, FOLDER, late.id)
    wanted = data_sources.ids_of_type(place.database, FOLDER)
    requests = partitions.differences(FOLDER, known, wanted)
    assert not any(isinstance(request, dg.DeleteDynamicPartitionsRequest) for request in requests)


def test_comparison_is_bounded_and_goes_on_at_the_next_tick() -> None:
    wanted = [uuid4() for _ in range(partitions.CHANGED_AT_ONCE + 1)]
    known: list[str] = []
    [first] = partitions.differences(FOLDER, known, wanted)
    assert len(first.partition_keys) == partitions.CHANGED_AT_ONCE
    [second] = partitions.differences(FOLDER, list(first.partition_keys), wanted)
    assert len(second.partition_keys) == 1


def test_partitions_are_compared_now_and_then_only(place: Place) -> None:
    start = utc_now()

    def cursor_after(cursor: str | None, later_s: float) -> tuple[str | None, int]:
        result = triggers.look_for_changes(
            place.workspace,
            place.instance,
            FOLDER,
            cursor=cursor,
            clock=lambda: start + timedelta(seconds=later_s),
            monotonic=lambda: 0.0,
        )
        return result.cursor, len(result.dynamic_partitions_requests or ())

    partitions.register_partition(place.instance, FOLDER, uuid4())
    first, changes = cursor_after(None, 0)
    assert changes == 1
    assert cursor_after(first, 599) == (first, 0)
    _, changes = cursor_after(first, 600)
    assert changes == 1


def test_removed_source_keeps_its_history_when_its_partition_goes(place: Place) -> None:
    place.write("a.md")
    run_id = place.run().run_id
    with place.database.transaction_with_rls(ALICE) as connection:
        data_sources.remove(connection, user_id=ALICE, data_source_id=place.data_source.id)
    partitions.forget_partition(place.instance, FOLDER, place.data_source.id)
    assert place.instance.get_run_by_id(run_id) is not None
