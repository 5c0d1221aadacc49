"""Composition root of the code location `workflows`: a lazy repository with one job a workflow version.

It is apart from the location `sync` so that a new or broken workflow cannot take the syncs down with it. Loading it reads
which workflows were used last, and nothing else.
"""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import dagster

from workstation_pipelines.defs import mirror_sensor, workflow_launch, workflow_schedules
from workstation_pipelines.defs.resources import workspace_resource
from workstation_pipelines.defs.workflow_repository import StoredWorkflows
from workstation_pipelines.settings import Settings


@dagster.repository(name="workflows")  # type: ignore[arg-type]  # it takes a RepositoryData, too
def workflows() -> StoredWorkflows:
    return StoredWorkflows(
        Settings.load,
        sensors=[workflow_launch.requests_sensor(), mirror_sensor.mirror_sensor()],
        schedules=[workflow_schedules.workflow_schedule()],
        jobs=[workflow_schedules.start_scheduled_workflows(workspace_resource(Settings.load))],
    )
