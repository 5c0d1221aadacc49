"""Compiled workflows, run by Dagster: rows say what an independent reading of the same documents says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import dagster as dg
import pytest

from tests.defs.workflow_place import WorkflowPlace
from tests.pure.workflow_reference import Played, play
from tests.workflows.dags import acts_of, random_document, scripted_blocks
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import ExecutionId


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
    for seed in range(int(os.environ.get("WORKFLOWS", "12"))):
        document = random_document(Random(seed), most_nodes=18, least_nodes=6)  # noqa: S311
        expected = play(document, acts_of(document))
        expected.stood = []
        execution_id = place.ask_for(place.save(document, f"dag-{seed}"), document)
        place.run_to_the_end(execution_id)
        assert told(place, execution_id) == expected, seed
