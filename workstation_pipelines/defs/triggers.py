"""What starts runs by itself, for every source type: a sensor that looks for changes and a schedule of due rows.

Both emit, then confirm: a tick asks for runs and changes nothing; only a later tick that finds those runs moves the rows
or tokens on. A daemon that is killed anywhere then loses nothing and starts nothing twice.
"""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import due_rows, partitions, probing, reaping, requests, runs
from workstation_pipelines.defs.resources import WorkspaceResource
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Clock, SourceType

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from workstation_pipelines.sync.workspace import Workspace

PROBES_EVERY_S = 30
REAPED_EVERY_S = 30
REQUESTS_EVERY_S = 2
"""Dagster looks at sensors every five seconds; one that asked for just these five would miss every other look."""
RECONCILED_EVERY = timedelta(minutes=10)


def delta_sensor(source_type: SourceType, job: "UnresolvedAssetJobDefinition") -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{source_type.value}_delta_sensor",
        job=job,
        minimum_interval_seconds=PROBES_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Probes the change feeds of connected data sources, the one probed longest ago first, and syncs those that"
            " changed, failed an hour ago or have failed items due. Keeps the partitions equal to the data sources."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SensorResult:
        return look_for_changes(
            workspace.open(),
            context.instance,
            source_type,
            cursor=context.cursor,
            clock=utc_now,
            monotonic=time.monotonic,
        )

    return sensor


def sync_schedule(source_type: SourceType, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{source_type.value}_sync_schedule",
        job=job,
        cron_schedule="* * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "Syncs the data sources whose rows of `scheduled_syncs` are due. Rows that are new or were changed count from"
            " the next tick on, without a reload; after a downtime each runs once. `workstation schedule list` shows them."
        ),
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        due, confirmed = due_rows.start_due(workspace.open(), context.instance, source_type, clock=utc_now)
        return due or dg.SkipReason(f"{confirmed} runs confirmed, nothing new is due")

    return schedule


def requests_sensor(jobs: "Sequence[UnresolvedAssetJobDefinition]") -> dg.SensorDefinition:
    @dg.sensor(
        name="pending_requests_sensor",
        jobs=jobs,
        minimum_interval_seconds=REQUESTS_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Starts the sync jobs that somebody asked for: rows of `sync_jobs` that are pending, and paused ones whose time"
            " has come, everybody's first before anybody's second. Takes queued runs away whose job is over."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        asked = requests.start_waiting(workspace.open(), context.instance)
        return asked or dg.SkipReason("no sync job waits for a run")

    return sensor


def reaper_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="reaper_sensor",
        minimum_interval_seconds=REAPED_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Ends sync jobs and runs whose process is gone, so that nothing says `running` that nobody runs. `workstation"
            " dev` does the same from outside Dagster. It starts no run."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SkipReason:
        reconciled = reaping.reconcile(workspace.open().database, context.instance, clock=utc_now)
        return dg.SkipReason(str(reconciled))

    return sensor


def look_for_changes(
    workspace: "Workspace",
    instance: dg.DagsterInstance,
    source_type: SourceType,
    *,
    cursor: str | None,
    clock: Clock,
    monotonic: Callable[[], float],
) -> dg.SensorResult:
    """Return the runs to start, and now and then the partitions to add and delete.

    `cursor` says when partitions were compared last: losing it costs one comparison. What the probes saw is in our tables.
    """
    wishes = probing.wishes(workspace, instance, source_type, clock=clock, monotonic=monotonic)
    partitions.ensure_partitions(instance, source_type, [wish.data_source_id for wish in wishes])
    wanted = [
        dg.RunRequest(
            run_key=wish.run_key,
            partition_key=str(wish.data_source_id),
            tags=runs.tags_of(
                user_id=wish.user_id, data_source_id=str(wish.data_source_id), probe=wish.probe, trigger="change"
            ),
        )
        for wish in wishes
    ]
    changes: Sequence[partitions.Request] = ()
    now_s = clock().timestamp()
    if cursor is None or now_s - float(cursor) >= RECONCILED_EVERY.total_seconds():
        changes = compared_partitions(workspace, instance, source_type)
        # After a full portion the next tick goes on.
        is_whole = all(len(change.partition_keys) < partitions.CHANGED_AT_ONCE for change in changes)
        cursor = str(now_s) if is_whole else None
    return dg.SensorResult(
        run_requests=wanted,
        dynamic_partitions_requests=changes,
        cursor=cursor,
        skip_reason=None if wanted else dg.SkipReason("no probed source has changed"),
    )


def compared_partitions(
    workspace: "Workspace", instance: dg.DagsterInstance, source_type: SourceType
) -> list[partitions.Request]:
    from workstation_pipelines.db import data_sources

    known = partitions.known_keys(instance, source_type)  # before the ids, see differences()
    return partitions.differences(source_type, known, data_sources.ids_of_type(workspace.database, source_type))
