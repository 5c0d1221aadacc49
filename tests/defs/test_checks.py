"""The checks notice what they are for, for the synced source and alone over all sources of a type."""

from __future__ import annotations

import dagster as dg
import pytest

from tests.defs.place import ALICE, Place, evaluated, failed_checks
from workstation_pipelines.db import data_sources


@pytest.fixture
def synced(place: Place) -> Place:
    place.write("a.md", "b.md")
    assert place.run().success
    return place


def test_checks_alone_pass_over_every_source_without_syncing(synced: Place) -> None:
    other = synced.folder.parent / "other"
    other.mkdir()
    (other / "c.md").write_text("Words.")
    second = synced.add_source("other", other)
    before = synced.jobs()

    result = synced.run_checks()

    assert synced.jobs() == before
    assert not list(result.get_asset_materialization_events())
    assert {check.metadata["data_sources"].value for check in evaluated(result).values()} == {2}
    assert failed_checks(result) == {"last_sync_completed"}
    assert evaluated(result)["last_sync_completed"].metadata["failing_data_sources"].value == [str(second.id)]


@pytest.mark.parametrize(
    ("damage", "check", "counted"),
    [
        ("UPDATE app.chunks SET embedding = NULL", "rows_chunks_vectors_agree", {"vectors_missing": 2, "vectors": 0}),
        ("DELETE FROM app.chunks", "rows_chunks_vectors_agree", {"chunks_missing": 2, "documents": 2}),
        (
            "UPDATE app.documents SET live_generation = live_generation + 1",
            "rows_chunks_vectors_agree",
            {"chunks_no_document_shows": 2},
        ),
        ("UPDATE app.documents SET text = text || ' and more'", "no_missing_text", {"wrong_hashes": 2}),
        ("UPDATE app.documents SET text = ''", "no_missing_text", {"missing_texts": 2}),
        (
            "UPDATE app.data_sources SET sync_frequency = 'hourly', last_sync_at = now() - interval '3 hours 1 second'",
            "synced_lately",
            {"late": 1},
        ),
        ("UPDATE app.sync_jobs SET status = 'paused'", "last_sync_completed", {"paused": 1}),
    ],
)
def test_damage_fails_its_check_alone(synced: Place, damage: str, check: str, counted: dict[str, int]) -> None:
    synced.ask(damage)
    result = synced.run_checks()
    assert failed_checks(result) == {check}
    metadata = evaluated(result)[check].metadata
    assert {name: metadata[name].value for name in counted} == counted
    assert metadata["failing_data_sources"].value == [str(synced.data_source.id)]


def test_late_sources_are_named_with_the_moment_since_when_and_their_objective(synced: Place) -> None:
    synced.ask("UPDATE app.data_sources SET freshness_minutes = 60, last_sync_at = '2026-01-02 03:00:00+00'")
    never = synced.add_source("never", synced.folder)
    synced.ask(
        "UPDATE app.data_sources SET freshness_minutes = 5, created_at = '2026-01-01 00:00:00+00' WHERE name = 'never'"
    )
    evaluation = evaluated(synced.run_checks())["synced_lately"]
    assert not evaluation.passed
    assert evaluation.metadata["late"].value == 2
    table = evaluation.metadata["late_data_sources"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records] == [
        {
            "data_source": str(never.id),
            "late_since": "2026-01-01T00:05:00+00:00",
            "last_sync": "never",
            "objective_minutes": 5,
        },
        {
            "data_source": str(synced.data_source.id),
            "late_since": "2026-01-02T04:00:00+00:00",
            "last_sync": "2026-01-02T03:00:00+00:00",
            "objective_minutes": 60,
        },
    ]
    # In the run that syncs the source too, and of that source alone: it ends fresh.
    assert "synced_lately" not in failed_checks(synced.run())


@pytest.mark.parametrize("frequency", ["hourly", "daily", "weekly", "manual"])
def test_source_within_its_frequency_is_not_late(synced: Place, frequency: str) -> None:
    synced.ask(
        "UPDATE app.data_sources SET sync_frequency = :f, last_sync_at = now() - interval '2 hours'", f=frequency
    )
    assert "synced_lately" not in failed_checks(synced.run_checks())


def test_checks_without_any_source_pass(place: Place) -> None:
    with place.database.transaction_with_rls(ALICE) as connection:
        data_sources.remove(connection, user_id=ALICE, data_source_id=place.data_source.id)
    result = place.run_checks()
    assert result.success
    assert failed_checks(result) == set()
