"""The sensor that keeps executions and their runs in agreement; `workstation dev` does the same from outside of Dagster."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import dagster as dg

from workstation_pipelines.defs import mirroring
from workstation_pipelines.defs.resources import WorkspaceResource

MIRRORED_EVERY_S = 2
"""Dagster looks at sensors every five seconds; one that asked for just these five would miss every other look."""


def mirror_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="workflow_mirror_sensor",
        minimum_interval_seconds=MIRRORED_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Writes down in the rows of executions what has become of their runs, and stops the runs of those that somebody"
            " has cancelled. It starts no run."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SkipReason:
        return dg.SkipReason(str(mirroring.mirror(workspace.open().database, context.instance)))

    return sensor
