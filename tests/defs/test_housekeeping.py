"""The nightly job removes what has had its day, in our tables and in Dagster's, and says how much."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from tests.defs.place import FOLDER, Place
from workstation_pipelines.db import data_sources
from workstation_pipelines.defs import runs
from workstation_pipelines.defs.housekeeping import agreed
from workstation_pipelines.defs.runs import DATA_SOURCE_TAG
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import DataSourceId, UserId

DAY = timedelta(days=1)


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job
def job() -> None:
    nothing()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _run(instance: dg.DagsterInstance, source: str | None) -> str:
    return job.execute_in_process(instance=instance, tags={DATA_SOURCE_TAG: source} if source else {}).run_id


def _left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_old_runs_go_and_the_newest_of_each_source_stays(instance: dg.DagsterInstance) -> None:
    old = [_run(instance, source) for source in ("a", "a", "b", None)]
    waiting = instance.create_run_for_job(job_def=job, status=dg.DagsterRunStatus.STARTED).run_id
    tomorrow = datetime.now(UTC) + 2 * DAY

    def prune(at_most: int) -> int:
        return runs.prune(instance, kept=DAY, clock=lambda: tomorrow, at_once=1, at_most=at_most)

    assert runs.prune(instance, kept=DAY, clock=utc_now, at_once=10, at_most=10) == 0
    assert prune(1) == 1
    assert _left(instance) == {*old[1:], waiting}
    assert prune(10) == 1
    assert _left(instance) == {old[1], old[2], waiting}
    assert not instance.get_records_for_run(old[0]).records
    assert prune(10) == 0


def test_job_tells_what_it_removed(place: Place) -> None:
    place.write("a.md")
    assert place.run().success
    (place.folder / "a.md").unlink()
    assert place.run().success
    place.ask("UPDATE app.documents SET deleted_at = now() - interval '31 days'")
    result = place.definitions.resolve_job_def("housekeeping").execute_in_process(instance=place.instance)
    assert result.success
    (told,) = [
        event.step_output_data.metadata
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_OUTPUT and event.step_key == "sweep_rows"
    ]
    shown = {name: told[name].value for name in ("users", "tombstones", "metrics")}
    assert shown == {"users": 1, "tombstones": 1, "metrics": 0}
    assert place.ask("SELECT count(*) FROM app.documents") == [(0,)]


def test_drift_is_mended_without_fetching_and_becomes_an_event_until_the_next_check_is_clean(place: Place) -> None:
    place.write("a.md", "b.md")
    assert place.run().success
    place.ask("UPDATE app.chunks SET embedding = NULL")
    (place.folder / "a.md").unlink()
    job = place.definitions.resolve_job_def("agreement_check")
    assert job.execute_in_process(instance=place.instance).success
    assert place.ask("SELECT count(*) FROM app.chunks WHERE embedding IS NULL") == [(0,)]
    event = "SELECT kind, severity, (detail ->> 'stale_documents')::int, resolved_at IS NULL FROM app.events"
    assert place.ask(event) == [("index_drifted", "warning", 2, True)]
    assert job.execute_in_process(instance=place.instance).success
    assert place.ask(event) == [("index_drifted", "warning", 2, False)]


def test_a_user_whose_budget_is_spent_does_not_keep_the_check_from_others(place: Place) -> None:
    place.write("a.md")
    assert place.run().success
    place.ask("UPDATE app.chunks SET embedding = NULL")
    place.ask(
        """INSERT INTO app.budgets (id, user_id, period, unit, amount)
           VALUES (gen_random_uuid(), 'alice', 'day', 'tokens', 0)"""
    )
    bob = UserId("bob")
    with place.database.transaction_with_rls(bob) as connection:
        data_sources.add(
            connection, user_id=bob, data_source_id=DataSourceId(uuid4()), name="b", source_type=FOLDER, config={}
        )
    totals = agreed(place.workspace)
    assert (totals["users"], totals["users_not_clean"]) == (2, 1)
    ((kind, message),) = place.ask("SELECT kind, message FROM app.events")
    assert (kind, "mending it stopped: the budget" in message) == ("index_drifted", True)
