"""The streaming op: what a run reports, does again, and how each kind of error ends it."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from tests.defs.place import ALICE, Place, evaluated, failed_checks, failure, materialised, status
from workstation_pipelines.db import data_sources, job_control, sync_jobs
from workstation_pipelines.defs import stream
from workstation_pipelines.errors import RateLimitedError, ReauthorizeError, SourceUnavailableError
from workstation_pipelines.model import Counts, Progress, SyncJobId


def test_sync_materialises_every_stage_with_counts_and_passes_its_checks(place: Place) -> None:
    place.write("a.md", "b.md", "c.md")

    result = place.run()

    assert result.success
    seen = materialised(result)
    assert list(seen) == ["items", "documents", "embeddings"]
    assert (seen["items"]["found"], seen["items"]["created"], seen["items"]["fetched"]) == (3, 3, 3)
    assert seen["embeddings"]["chunks_embedded"] == 3
    [[job_id, run_id]] = place.ask("SELECT id, dagster_run_id FROM app.sync_jobs")
    assert run_id == result.run_id
    assert {metadata["sync_job"] for metadata in seen.values()} == {str(job_id)}
    assert failed_checks(result) == set()
    assert len(evaluated(result)) == 6
    partitions = {event.partition for event in result.get_asset_materialization_events()}
    assert partitions == {str(place.data_source.id)}


def test_second_sync_fetches_nothing(place: Place) -> None:
    place.write("a.md", "b.md")
    place.run()
    seen = materialised(place.run())
    assert place.fetched == []
    assert (seen["items"]["unchanged"], seen["items"]["fetched"]) == (2, 0)


def test_rework_without_items_mends_vectors_and_does_not_open_the_source(place: Place) -> None:
    place.write("a.md", "b.md")
    place.run()
    place.ask("UPDATE app.chunks SET embedding = NULL WHERE ordinal = 0")

    result = place.run("embeddings")

    assert materialised(result) == {
        "embeddings": {"documents": 2, "chunks": 2, "embedded": 2, "reused": 0, "tokens": pytest.approx(14, abs=10)}
    }
    assert (place.opened, place.fetched, place.jobs()) == (0, [], ["completed"])
    assert failed_checks(result) == set()
    assert set(evaluated(result)) == {"rows_chunks_vectors_agree", "index_outside_agrees"}


def test_items_alone_report_items_alone(place: Place) -> None:
    place.write("a.md")
    assert list(materialised(place.run("items"))) == ["items"]


def test_unreachable_source_is_tried_again_and_then_resumes(place: Place) -> None:
    place.write("a.md", "b.md", "c.md")
    failing = iter([True])

    def break_once(page: int) -> None:
        if page == 2 and next(failing, False):
            raise SourceUnavailableError("the share is away", wait_s=0.0)

    place.before_page = break_once
    result = place.run()

    assert result.success
    assert [event.event_type_value for event in result.all_events if "RETRY" in event.event_type_value] == [
        "STEP_UP_FOR_RETRY"
    ]
    assert place.jobs() == ["failed", "completed"]
    assert materialised(result)["items"]["unchanged"] == 2


@pytest.mark.parametrize(
    ("asked_s", "attempt", "waits_s"), [(0.5, 0, 1.0), (0.5, 2, 4.0), (60.0, 1, 60.0), (9e9, 0, 120.0)]
)
def test_wait_grows_and_heeds_the_source_within_bounds(asked_s: float, attempt: int, waits_s: float) -> None:
    context: Any = SimpleNamespace(retry_number=attempt, log=SimpleNamespace(warning=lambda *_: None))
    with pytest.raises(dg.RetryRequested) as retry, stream.as_outcomes(context, "x"):
        raise SourceUnavailableError("away", wait_s=asked_s)
    assert (retry.value.max_retries, retry.value.seconds_to_wait) == (stream.MAX_RETRIES, waits_s)


def test_busy_source_fails_at_once_and_names_the_holder(place: Place) -> None:
    place.write("a.md")
    place.run()
    with data_sources.leased(place.database, place.data_source) as lease:
        with place.database.transaction_with_rls(ALICE) as connection:
            job_id = SyncJobId(place.workspace.new_id())
            sync_jobs.start(
                connection, lease, job_id=job_id, job_type=_manual(), progress={}, dagster_run_id="the-other-run"
            )
        result = place.run()
    assert status(place, result) == "FAILURE"
    assert f"held by sync job {job_id} of Dagster run the-other-run" in failure(result)
    assert "notes" not in failure(result)
    assert not any("RETRY" in event.event_type_value for event in result.all_events)


def test_lost_grant_fails_without_a_retry(place: Place) -> None:
    def refuse(_page: int) -> None:
        raise ReauthorizeError("the token of carol@example.org no longer works")

    place.write("a.md")
    place.before_page = refuse
    result = place.run()
    assert status(place, result) == "FAILURE"
    assert "must be connected again" in failure(result)
    assert "carol" not in failure(result)
    assert place.ask("SELECT connection_status FROM app.data_sources") == [("error",)]


def test_bug_tells_its_class_and_place_only(place: Place) -> None:
    def stumble(_page: int) -> None:
        raise KeyError("a line of a letter")

    place.write("a.md")
    place.before_page = stumble
    result = place.run()
    assert status(place, result) == "FAILURE"
    text = failure(result)
    assert "KeyError" in text
    assert "a line of a letter" not in text
    event = next(event for event in result.all_events if event.is_step_failure)
    details = event.step_failure_data.user_failure_data
    assert details is not None
    assert any("sync/run.py" in frame for frame in cast("list[str]", details.metadata["frames"].value))


def test_cancel_request_ends_the_run_cancelled_and_keeps_what_is_committed(place: Place) -> None:
    place.write(*(f"{number}.md" for number in range(9)))

    def cancel_at_three(page: int) -> None:
        if page == 3:
            with place.database.transaction_with_rls(ALICE) as connection:
                [[job_id]] = place.ask("SELECT id FROM app.sync_jobs")
                job_control.request_cancel(connection, user_id=ALICE, job_id=job_id)

    place.before_page = cancel_at_three
    result = place.run()

    assert status(place, result) == "CANCELED"
    assert place.jobs() == ["cancelled"]
    [[kept]] = place.ask("SELECT count(*) FROM app.documents")
    assert 4 <= kept < 9
    assert materialised(result) == {}


def test_termination_ends_the_run_cancelled_and_keeps_what_is_committed(place: Place) -> None:
    place.write(*(f"{number}.md" for number in range(9)))

    def terminate_at_three(page: int) -> None:
        if page == 3:  # what "Terminate" does: the report, then SIGINT to the run's process
            [run] = place.instance.get_runs()
            place.instance.report_run_canceling(run)
            os.kill(os.getpid(), signal.SIGINT)

    place.before_page = terminate_at_three
    result = place.run()

    assert status(place, result) == "CANCELED"
    assert place.jobs() == ["cancelled"]
    [[kept]] = place.ask("SELECT count(*) FROM app.documents")
    assert 2 <= kept < 9
    place.before_page = lambda _page: None
    assert materialised(place.run())["items"]["unchanged"] == kept


def test_long_wait_pauses_and_succeeds_with_a_warning(place: Place) -> None:
    def ask_for_patience(page: int) -> None:
        if page == 2:
            raise RateLimitedError("slow down", wait_s=3600)

    place.write("a.md", "b.md", "c.md")
    place.before_page = ask_for_patience
    result = place.run()

    assert result.success
    assert {stage: metadata["status"] for stage, metadata in materialised(result).items()} == dict.fromkeys(
        stream.STAGES, "paused"
    )
    assert failed_checks(result) == {"last_sync_completed"}
    assert evaluated(result)["last_sync_completed"].severity is dg.AssetCheckSeverity.WARN


def test_suspicious_deletes_wait_for_a_confirmation(place: Place) -> None:
    place.write(*(f"{number}.md" for number in range(25)))
    place.run()
    for number in range(24):
        (place.folder / f"{number}.md").unlink()

    held = place.run()
    assert held.success
    assert materialised(held)["items"]["status"] == "needs_confirmation"
    assert failed_checks(held) == {"last_sync_completed"}
    assert place.ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL") == [(25,)]

    confirmed = place.run(config={"confirm_deletes": True})
    assert materialised(confirmed)["items"]["deleted"] == 24
    assert failed_checks(confirmed) == set()


def test_failed_items_are_a_success_with_warnings(place: Place) -> None:
    place.write("a.md")
    (place.folder / "blank.txt").write_text(" \n" * 40)

    result = place.run()

    assert result.success
    assert materialised(result)["items"]["failed"] == 1
    assert place.jobs() == ["completed_with_errors"]
    assert failed_checks(result) == {"last_sync_completed", "no_open_failures"}
    assert evaluated(result)["no_open_failures"].metadata["open_failures"].value == 1


def test_removed_source_fails_with_its_id(place: Place) -> None:
    with place.database.transaction_with_rls(ALICE) as connection:
        data_sources.remove(connection, user_id=ALICE, data_source_id=place.data_source.id)
    result = place.run()
    assert status(place, result) == "FAILURE"
    assert f"NotFoundError for {place.data_source.id}" in failure(result)


def test_full_sync_is_a_choice_of_the_run(place: Place) -> None:
    place.write("a.md")
    place.run(config={"full_sync": True})
    assert place.ask("SELECT job_type FROM app.sync_jobs") == [("full_sync",)]


def test_observations_are_fifteen_seconds_apart() -> None:
    logged: list[dg.AssetObservation] = []
    context: Any = SimpleNamespace(partition_key="p", log_event=logged.append)
    now_s = iter([0.0, 14.9, 15.0, 29.9, 30.1])
    observe = stream.Observer(context, dg.AssetKey(["t", "items"]), lambda: next(now_s))
    for pages in range(1, 5):
        observe(Progress(SyncJobId(_job_id()), pages, Counts()))
    assert [event.metadata["pages"].value for event in logged] == [2, 4]


def _job_id() -> Any:
    from uuid import uuid4

    return uuid4()


def _manual() -> Any:
    from workstation_pipelines.model import JobType

    return JobType.MANUAL
