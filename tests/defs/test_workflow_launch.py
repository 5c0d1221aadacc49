"""From an execution's row to a queued run, and the code location that finds what to run by its name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import execute_run

from tests.defs.workflow_place import ALICE, HOME, OWNER, WorkflowPlace
from tests.workflows.dags import scripted_blocks
from workstation_pipelines.db import run_presence, workflow_runs, workflows
from workstation_pipelines.defs import runs, workflow_jobs, workflow_launch
from workstation_pipelines.defs.workflow_repository import StoredWorkflows
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, RunOwner
from workstation_pipelines.workflows import catalog


def scripted(node_id: str, **more: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "scripted", "config": {"acts": [{"do": "complete", "score": 1}]}, **more}


ONE = {"nodes": [scripted("only")], "edges": []}
TWO = {"nodes": [scripted("first"), scripted("second")], "edges": [{"source": "first", "target": "second"}]}


@pytest.fixture
def place(settings: Settings, queued: dg.DagsterInstance) -> Iterator[WorkflowPlace]:
    place = WorkflowPlace(settings, queued)
    with scripted_blocks():
        yield place
    place.workspace.close()


def owner(execution_id: ExecutionId) -> RunOwner:
    return RunOwner(execution_id, ALICE, HOME)


def run_of(place: WorkflowPlace, run_id: str | None) -> dg.DagsterRun:
    assert run_id is not None
    run = place.instance.get_run_by_id(run_id)
    assert run is not None
    return run


def test_execution_is_queued_once_under_a_name_that_finds_its_version(place: WorkflowPlace, settings: Settings) -> None:
    execution_id = place.ask_for(place.save(TWO, "my-digest"), TWO)
    run = run_of(place, workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id)))
    assert run.status is dg.DagsterRunStatus.QUEUED
    assert (
        run.tags.items()
        >= {
            "workstation/execution": str(execution_id),
            "workstation/user": "alice",
            "workstation/tenant": "home",
            "dagster/priority": "0",
            "dagster/max_runtime": "3660",
        }.items()
    )
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "workflows"
    assert workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id)) is None
    assert workflow_launch.sweep(place.workspace, place.instance) == workflow_launch.Swept()

    # What the run's process does: the location, which has listed nothing of this, finds the job by its name.
    stored = StoredWorkflows(lambda: settings)
    assert sorted(node.name for node in stored.get_job(run.job_name).nodes) == ["first", "second"]


def test_edit_and_deactivation_while_a_run_is_queued_change_nothing_in_that_run_and_deletion_waits_for_it(
    place: WorkflowPlace, settings: Settings
) -> None:
    execution_id = place.ask_for(place.save(ONE), ONE)
    run = run_of(place, workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id)))
    place.save(TWO)
    workflow_id = place.execution(execution_id).workflow_id
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        workflows.set_active(connection, **OWNER, workflow_id=workflow_id, is_active=False)
        with pytest.raises(InvalidRequestError, match="not over"):
            workflows.delete(connection, **OWNER, workflow_id=workflow_id)
    job = StoredWorkflows(lambda: settings).get_job(run.job_name)
    assert [node.name for node in job.nodes] == ["only"]
    assert catalog.read(place.execution(execution_id).definition) == catalog.read(ONE)

    begun = dg.DagsterEventType.PIPELINE_STARTING.value  # as the daemon does, before it starts a process for it
    event = DagsterEvent(event_type_value=begun, job_name=run.job_name)
    place.instance.report_dagster_event(event, run_id=run.run_id)
    execute_run(InMemoryJob(job), run_of(place, run.run_id), place.instance)
    assert place.close(execution_id) is ExecutionStatus.COMPLETED
    assert place.steps(execution_id).keys() == {"only"}
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        workflows.delete(connection, **OWNER, workflow_id=workflow_id)


def test_sweep_starts_what_waits_and_makes_runs_that_were_only_written_down(place: WorkflowPlace) -> None:
    version_id = place.save(TWO)
    begun, asked = place.ask_for(version_id, TWO), place.ask_for(version_id, TWO)
    run_id = place.begin_run(begun)  # and its process dies here
    assert workflow_launch.sweep(place.workspace, place.instance) == workflow_launch.Swept(started=1)
    assert run_of(place, place.execution(asked).dagster_run_id).status is dg.DagsterRunStatus.QUEUED

    def later() -> datetime:
        return utc_now() + timedelta(seconds=11)

    assert place.instance.get_run_by_id(run_id) is None
    assert workflow_launch.sweep(place.workspace, place.instance, clock=later) == workflow_launch.Swept(recovered=1)
    assert run_of(place, run_id).status is dg.DagsterRunStatus.QUEUED
    assert workflow_launch.sweep(place.workspace, place.instance, clock=later) == workflow_launch.Swept()


def test_run_that_was_created_and_not_submitted_is_submitted(
    place: WorkflowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution_id = place.ask_for(place.save(ONE), ONE)
    with monkeypatch.context() as died:
        died.setattr(runs, "submit_if_forgotten", lambda *_: False)
        workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id))
    run = run_of(place, place.execution(execution_id).dagster_run_id)
    assert run.status is dg.DagsterRunStatus.NOT_STARTED
    workflow_launch.sweep(place.workspace, place.instance, clock=lambda: utc_now() + timedelta(seconds=11))
    assert run_of(place, run.run_id).status is dg.DagsterRunStatus.QUEUED


def test_execution_whose_blocks_are_gone_fails_with_the_reason(place: WorkflowPlace) -> None:
    version_id = place.save(ONE)
    execution_id = place.ask_for(version_id, ONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "BLOCKS", {})
        patch.setattr(catalog.read, "__defaults__", ({},))
        assert workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id)) is None
    execution = place.execution(execution_id)
    assert (execution.status, execution.error_class) == ("failed", "InvalidDefinitionError")
    assert "scripted" in execution.error_message
    [step] = place.steps(execution_id).values()
    assert (step.status, step.skip_reason) == ("skipped", "not_reached")


def test_later_runs_name_the_runs_before_them(place: WorkflowPlace) -> None:
    waits = {"nodes": [scripted("a")], "edges": []}
    waits["nodes"][0]["config"] = {"acts": [{"do": "wait"}, {"do": "complete"}]}
    execution_id = place.ask_for(place.save(waits), waits)
    first = place.begin_run(execution_id)
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        workflow_runs.close(connection, **OWNER, run_id=UUID(first))
    second = run_of(place, workflow_launch.start_execution(place.workspace, place.instance, owner(execution_id)))
    assert (second.parent_run_id, second.root_run_id) == (first, first)


def test_location_lists_recent_jobs_and_loads_without_a_database_or_with_broken_ones(
    place: WorkflowPlace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    place.save(ONE, "good")
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        good = workflows.by_slug(connection, **OWNER, slug="good")
    place.save({"nodes": [{"id": "a", "type": "gone"}], "edges": []}, "broken")
    sensors = [workflow_launch.requests_sensor()]
    with caplog.at_level(logging.WARNING):
        stored = StoredWorkflows(lambda: settings, sensors=sensors)
        assert list(stored.get_job_names()) == [f"wf_good_v1_{good.job_key}"]
        assert [sensor.name for sensor in stored.get_all_sensors()] == ["workflow_requests_sensor"]
        assert not stored.has_job("wf_nobodys_v1_0123456789ab")
        with pytest.raises(NotFoundError):
            stored.get_job("bulk_document_processing")
        away = settings.model_copy(update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/app"})
        assert StoredWorkflows(lambda: away, sensors=sensors).get_job_names() == []
    assert len(caplog.records) == 2


def test_two_users_workflows_share_ops_and_no_name(place: WorkflowPlace) -> None:
    job = workflow_jobs.compile_job("one", 1, "0" * 12, catalog.read(TWO))
    other = workflow_jobs.compile_job("other", 1, "1" * 12, catalog.read(TWO))

    @dg.repository(name="both")
    def both() -> list[dg.JobDefinition]:
        return [job, other]

    assert {each.name for each in both.get_all_jobs()} == {"wf_one_v1_000000000000", "wf_other_v1_111111111111"}


def test_runs_are_served_as_soon_as_dev_is_there_and_no_longer(place: WorkflowPlace) -> None:
    def is_served() -> bool:
        return runs.is_served(place.database, place.instance, utc_now)

    assert not is_served()
    with run_presence.present(place.database, runs.DEV):
        assert is_served()
    assert not is_served()
