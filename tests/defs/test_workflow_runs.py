"""Compiled workflows, run by Dagster: rows say what an independent reading of the same documents says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import execute_run

from tests.defs.workflow_place import ALICE, HOME, WorkflowPlace
from tests.pure.workflow_reference import Played, play
from tests.workflows.dags import acts_of, random_document, scripted_blocks
from workstation_pipelines.defs import runs, workflow_launch
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, RunOwner


@pytest.fixture
def place(settings: Settings, instance: dg.DagsterInstance) -> Iterator[WorkflowPlace]:
    place = WorkflowPlace(settings, instance)
    with scripted_blocks():
        yield place
    place.workspace.close()


def told(place: WorkflowPlace, execution_id: ExecutionId) -> Played:
    """What the rows say, in the words of the reference."""
    execution = place.execution(execution_id)
    steps = place.steps(execution_id)
    return Played(
        status={node: step.status.value for node, step in steps.items()},
        reason={node: step.skip_reason.value for node, step in steps.items() if step.skip_reason},
        attempts={node: step.attempts for node, step in steps.items()},
        outputs={node: step.output for node, step in steps.items() if step.status == "completed"},
        execution=execution.status.value,
        output=execution.output,
        runs=execution.run_number,
    )


def test_random_workflows_end_as_the_reference_says(place: WorkflowPlace) -> None:
    first = int(os.environ.get("WORKFLOWS_SEED", "0"))
    for seed in range(first, first + int(os.environ.get("WORKFLOWS", "6"))):
        document = random_document(Random(seed), most_nodes=18, least_nodes=6)  # noqa: S311
        expected = play(document, acts_of(document))
        expected.stood = []
        execution_id = place.ask_for(place.save(document, f"dag-{seed}"), document)
        place.run_to_the_end(execution_id)
        assert told(place, execution_id) == expected, seed


@pytest.mark.slow
def test_isolated_nodes_work_each_in_a_process_of_its_own_that_finds_the_job_by_its_name(
    settings: Settings, queued: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("WORKSTATION_HOME", str(settings.home))
    monkeypatch.setenv("WORKSTATION_EMBEDDER", "hashing")
    place = WorkflowPlace(settings, queued)
    document = {
        "isolation": "processes",
        "max_parallel": 2,
        "nodes": [
            {"id": "one", "type": "transform", "config": {"expression": "`1`"}},
            {"id": "result", "type": "output", "config": {"values": {"one": "${nodes.one.output}"}}},
        ],
        "edges": [{"source": "one", "target": "result"}],
    }
    execution_id = place.ask_for(place.save(document), document)
    run_id = workflow_launch.start_execution(place.workspace, queued, RunOwner(execution_id, ALICE, HOME))
    assert run_id is not None
    begun = dg.DagsterEventType.PIPELINE_STARTING.value  # as the daemon does, before it starts a process for it
    run = queued.get_run_by_id(run_id)
    assert run is not None
    queued.report_dagster_event(DagsterEvent(event_type_value=begun, job_name=run.job_name), run_id=run_id)
    run = queued.get_run_by_id(run_id)
    assert run is not None
    location = ReconstructableRepository.for_module(runs.WORKFLOWS_MODULE, runs.WORKFLOWS)
    execute_run(location.get_reconstructable_job(run.job_name), run, queued)
    assert place.close(execution_id) is ExecutionStatus.COMPLETED
    assert place.execution(execution_id).output == {"one": 1}
    workers = [
        record.event_log_entry.dagster_event.step_key
        for record in queued.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED).records
        if record.event_log_entry.dagster_event is not None
    ]
    assert workers == ["one", "result"]
    place.workspace.close()
