"""The schedule of workflows as Dagster's daemon calls it, and its job, which does the same by hand."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import dagster as dg

from tests.defs.workflow_place import ALICE, HOME, OWNER, WorkflowPlace
from workstation_pipelines.db import executions, workflow_schedules, workflows
from workstation_pipelines.defs.workflow_repository import StoredWorkflows
from workstation_pipelines.defs.workflow_schedules import start_scheduled_workflows, workflow_schedule
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import Settings

ONE = {"nodes": [{"id": "only", "type": "transform", "config": {"expression": "input"}}], "edges": []}


def test_tick_and_job_write_executions_for_what_is_due(settings: Settings, queued: dg.DagsterInstance) -> None:
    place = WorkflowPlace(settings, queued)
    place.save(ONE)
    repository = StoredWorkflows(
        lambda: settings, schedules=[workflow_schedule()], jobs=[start_scheduled_workflows(place.resource)]
    )
    job = repository.get_job("start_scheduled_workflows")
    (schedule,) = repository.get_all_schedules()
    assert schedule.job_name == job.name
    with dg.build_schedule_context(queued, resources={"workspace": place.resource}) as context:
        assert _said(schedule.evaluate_tick(context)) == "Started(executions=0, timed=0, deactivated=0)"
        _schedule(place, minutes_ago=1)
        assert _said(schedule.evaluate_tick(context)) == "Started(executions=1, timed=0, deactivated=0)"
    _schedule(place, minutes_ago=2)
    with dg.instance_for_test() as instance:
        ran = job.execute_in_process(instance=instance)
    (event,) = [event for event in ran.get_step_success_events() if event.step_key == "write_due_executions"]
    assert event.is_step_success
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        assert [each.trigger for each in executions.listed(connection, **OWNER)] == ["schedule", "schedule"]
    place.workspace.close()


def _said(tick: object) -> str | None:
    message: str | None = getattr(tick, "skip_message", None)
    return message


def _schedule(place: WorkflowPlace, minutes_ago: int) -> None:
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        workflow_schedules.add(
            connection,
            **OWNER,
            schedule_id=uuid4(),
            workflow_id=workflows.by_slug(connection, **OWNER, slug="digest").id,
            schedule_type="interval",
            config={"minutes": 60},
            timezone="UTC",
            next_at=utc_now() - timedelta(minutes=minutes_ago),
            input={},
        )
