"""Processing jobs as runs: what is enqueued is started once, shows its counts, and is started again when its process dies."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from tests.defs.place import ALICE, Place, failure, status
from workstation_pipelines.db import processing as rows
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.defs import processing, stream
from workstation_pipelines.defs.home import USER_TAG
from workstation_pipelines.model import JobStatus, ProcessingJobId, ProcessingKind
from workstation_pipelines.sync import reprocess
from workstation_pipelines.sync.subjects import given

SECRET = "canaryqx"


@pytest.fixture(scope="module")
def instance(queued: dg.DagsterInstance) -> dg.DagsterInstance:
    return queued


def enqueue(place: Place, *names: str) -> ProcessingJobId:
    with place.database.transaction_with_rls(ALICE) as connection:
        return rows.enqueue(
            connection,
            user_id=ALICE,
            job_id=ProcessingJobId(uuid4()),
            kind=ProcessingKind.BULK_DOCUMENT_PROCESSING,
            subjects=given(str(place.folder / name) for name in names),
            config={"at_a_time": 2},
        )


def run(place: Place, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    return place.definitions.resolve_job_def(request.job_name or "").execute_in_process(
        instance=place.instance,
        run_config=dict(request.run_config or {}),
        tags={**(request.tags or {}), "dagster/run_key": request.run_key or ""},
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def show(place: Place, job_id: ProcessingJobId) -> Any:
    with place.database.transaction_with_rls(ALICE) as connection:
        return rows.get(connection, user_id=ALICE, job_id=job_id)


def start(place: Place) -> list[dg.RunRequest]:
    return processing.start_waiting(place.workspace, place.instance)


def test_enqueued_job_is_started_once_and_shows_its_counts(place: Place) -> None:
    place.write("a.md", "b.md", text=f"{SECRET} about {{}}.")
    (place.folder / f"{SECRET}.txt").write_text(" \n" * 40)
    job_id = enqueue(place, "a.md", "b.md", f"{SECRET}.txt")
    [request] = start(place)
    [again] = start(place)
    assert request.run_key == again.run_key == f"{job_id}:0"
    assert request.tags[USER_TAG] == ALICE
    result = run(place, request)
    assert status(place, result) == "SUCCESS"
    shown = metadata(result)
    assert {name: shown[name] for name in ("status", "total", "done", "skipped", "failed", "pending")} == {
        "status": "completed_with_errors", "total": 3, "done": 2, "skipped": 0, "failed": 1, "pending": 0,
    }  # fmt: skip
    assert shown["embedding_tokens"] > 0
    assert show(place, job_id).dagster_run_id == result.run_id
    assert start(place) == []
    assert [row[0] for row in place.ask("SELECT count(*) FROM app.documents WHERE origin LIKE 'file:%'")] == [2]
    # Told twice, by a tick that saw the row before it was started: nothing is done, and nothing fails.
    again_result = run(place, request)
    assert (status(place, again_result), metadata(again_result)["done"]) == ("SUCCESS", 2)
    kept = str([place.instance.get_records_for_run(each.run_id).records for each in (result, again_result)])
    assert SECRET not in kept
    assert str(job_id) in kept


def test_run_that_ends_before_its_job_begins_is_followed_by_another(place: Place) -> None:
    place.write("a.md")
    job_id = enqueue(place, "a.md")
    keys = []
    for _ in range(processing.MOST_RUNS):
        [request] = start(place)
        keys.append(request.run_key)
        created = place.instance.create_run_for_job(
            job_def=processing.bulk_document_processing,
            run_config=request.run_config,
            tags={"dagster/run_key": request.run_key or ""},
            status=dg.DagsterRunStatus.STARTING,
        )
        assert start(place) == []  # it is on its way
        place.instance.report_run_failed(created)
    assert keys == [f"{job_id}:0", *(f"{job_id}:0:{number}" for number in range(1, processing.MOST_RUNS))]
    assert start(place) == []


def test_run_that_is_taken_out_of_the_queue_takes_its_job_along(place: Place) -> None:
    place.write("a.md")
    job_id = enqueue(place, "a.md")
    [request] = start(place)
    created = place.instance.create_run_for_job(
        job_def=processing.bulk_document_processing,
        run_config=request.run_config,
        tags={"dagster/run_key": request.run_key or ""},
        status=dg.DagsterRunStatus.STARTING,
    )
    place.instance.report_run_canceled(created)
    assert start(place) == []
    assert show(place, job_id).status == "cancelled"


def test_silent_job_is_given_up_and_goes_on_in_another_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "BUSY_WAIT_S", 0.01)
    monkeypatch.setattr(stream, "MAX_RETRIES", 1)
    place.write("a.md")
    job_id = enqueue(place, "a.md")
    with place.database.transaction_with_rls(ALICE) as connection:
        rows.start(connection, user_id=ALICE, job_id=job_id)
    assert (processing.give_up_silent(place.workspace), start(place)) == (0, [])
    place.ask("UPDATE app.processing_jobs SET heartbeat_at = now() - interval '2 minutes'")
    assert processing.give_up_silent(place.workspace) == 1
    [request] = start(place)
    assert request.run_key == f"{job_id}:1"
    # Another process still holds it: that is no failure yet.
    with rows.held(place.database, job_id=job_id):
        assert status(place, run(place, request)) != "SUCCESS"
    assert show(place, job_id).status == "pending"
    assert status(place, run(place, request)) == "SUCCESS"
    assert show(place, job_id).status == "completed"


def test_cancelled_job_ends_its_run_as_cancelled(place: Place) -> None:
    place.write("a.md")
    job_id = enqueue(place, "a.md")
    [request] = start(place)
    place.ask("UPDATE app.processing_jobs SET cancel_requested = true")
    result = run(place, request)
    assert status(place, result) == "CANCELED"
    assert show(place, job_id).status == "cancelled"


def test_error_that_concerns_all_fails_the_run_without_quoting_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a.md")
    job_id = enqueue(place, "a.md")
    [request] = start(place)

    def broken(_texts: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(place.workspace.embedder, "embed", broken)
    result = run(place, request)
    assert status(place, result) == "FAILURE"
    assert SECRET not in failure(result)
    assert show(place, job_id).status == JobStatus.FAILED


def test_job_of_nobody_fails_plainly(place: Place) -> None:
    config = {"ops": {"process_documents": {"config": {"processing_job_id": str(uuid4())}}}}
    job = place.definitions.resolve_job_def("bulk_document_processing")
    result = job.execute_in_process(instance=place.instance, run_config=config, raise_on_error=False)
    assert "NotFoundError" in failure(result)


def test_reprocessing_is_a_run_of_its_own_job(place: Place) -> None:
    place.write("a.md", "b.md")
    enqueue(place, "a.md", "b.md")
    [request] = start(place)
    run(place, request)
    config = place.workspace.chosen_config(ALICE, chunk_tokens=32)
    job_id = reprocess.choose(
        place.database,
        place.workspace.vectorizer(ALICE),
        user_id=ALICE,
        selection=Selection(),
        index_config_id=config.id,
        new_id=place.workspace.new_id,
    )
    [request] = start(place)
    assert request.job_name == "document_reprocessing"
    result = run(place, request)
    shown = metadata(result)
    assert (status(place, result), shown["status"], shown["done"]) == ("SUCCESS", "completed", 2)
    assert place.ask("SELECT DISTINCT index_config_id FROM app.documents") == [(config.id,)]
    assert show(place, job_id).dagster_run_id == result.run_id
