"""The minute's tick that turns due rows of `scheduled_workflows` into executions, for the location of workflows."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import dagster as dg

from workstation_pipelines.defs import stream
from workstation_pipelines.defs.resources import RESOURCE_KEY, WorkspaceResource
from workstation_pipelines.identity import utc_now

JOB = "start_scheduled_workflows"


@dg.op(description="Writes an execution for each row of `scheduled_workflows` that is due.")
def write_due_executions(context: dg.OpExecutionContext, workspace: dg.ResourceParam[WorkspaceResource]) -> None:
    from workstation_pipelines.workflows.schedules import start_due

    with stream.as_outcomes(context, "scheduled workflows"):
        opened = workspace.open()
        started = start_due(opened.database, opened.new_id, utc_now)
        context.add_output_metadata({"executions": started.executions, "deactivated": started.deactivated})


def start_scheduled_workflows(workspace: dg.ResourceDefinition) -> dg.JobDefinition:
    """Return the job that the schedule is attached to; `workspace` is what workspace_resource() returns."""

    @dg.job(
        name=JOB,
        resource_defs={RESOURCE_KEY: workspace},
        description="Does by hand what its schedule does every minute; a run of it is needed only while that is stopped.",
    )
    def job() -> None:
        write_due_executions()

    return job


def workflow_schedule() -> dg.ScheduleDefinition:
    """Return the schedule. A tick does the work itself and asks for no run; Dagster wants it to have a job all the same."""

    @dg.schedule(
        name="workflow_schedule",
        job_name=JOB,
        cron_schedule="* * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "Executes the workflows whose rows of `scheduled_workflows` are due. Rows that are new or were changed count"
            " from the next tick on, without a reload; after a downtime each is executed once."
        ),
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]
    ) -> dg.SkipReason:
        from workstation_pipelines.workflows.schedules import start_due

        opened = workspace.open()
        return dg.SkipReason(str(start_due(opened.database, opened.new_id, utc_now)))

    return schedule
