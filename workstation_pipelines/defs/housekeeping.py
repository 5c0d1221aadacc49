"""The daily jobs that look after what is stored: removing what has had its day, and holding the index against it."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import runs, stream
from workstation_pipelines.defs.resources import WorkspaceResource
from workstation_pipelines.errors import RetryableError, WorkstationError
from workstation_pipelines.identity import utc_now

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

RUNS_AT_ONCE = 100
RUNS_A_NIGHT = 20_000
"""Deleting a run takes about a tenth of a second."""

Sweep = dg.ResourceParam[WorkspaceResource]


def definitions() -> dg.Definitions:
    return dg.Definitions(
        jobs=[housekeeping, agreement_check],
        schedules=[
            dg.ScheduleDefinition(
                name="agreement_schedule",
                job=agreement_check,
                cron_schedule="50 4 * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="Once a night: do documents, chunks, vectors and an index outside the database agree?",
            ),
            dg.ScheduleDefinition(
                name="housekeeping_schedule",
                job=housekeeping,
                cron_schedule="20 3 * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="Once a night: removes what has had its day, by the days of WORKSTATION_RETENTION_DAYS.",
            ),
        ],
    )


@dg.op(description="Removes rows that nobody needs any more: old tombstones, jobs, failures, events, metrics.")
def sweep_rows(context: dg.OpExecutionContext, workspace: Sweep) -> None:
    with stream.as_outcomes(context, "housekeeping"):
        context.add_output_metadata(swept(workspace.open()))


@dg.op(description="Deletes ended runs of Dagster with their logs; the newest of each data source stays.")
def prune_dagster_runs(context: dg.OpExecutionContext, workspace: Sweep) -> None:
    with stream.as_outcomes(context, "pruning"):
        kept = timedelta(days=workspace.open().settings.retention_days.dagster_runs)
        deleted = runs.prune(context.instance, kept=kept, clock=utc_now, at_once=RUNS_AT_ONCE, at_most=RUNS_A_NIGHT)
        context.add_output_metadata({"runs_deleted": deleted, "kept_days": kept.days})


@dg.job(name="housekeeping", description="Keep what is stored from growing for ever; its counts are in the metadata.")
def housekeeping() -> None:
    sweep_rows()
    prune_dagster_runs()


def swept(workspace: "Workspace") -> dict[str, int]:
    """Sweep the rows of every user; return how many went, by rule."""
    from workstation_pipelines.sync.builds import purge_old_builds
    from workstation_pipelines.sync.housekeeping import every_user, sweep

    totals: Counter[str] = Counter()
    totals["documents_of_old_builds"] = purge_old_builds(workspace.database, clock=utc_now)
    for user_id in every_user(workspace.database):
        totals["users"] += 1
        for each in sweep(workspace.database, workspace.settings.retention_days, user_id=user_id):
            totals[each.rule.replace(" ", "_")] += each.rows
    return dict(totals)


@dg.op(description="Checks every user's index against the documents and mends it, without fetching anything.")
def check_and_mend(context: dg.OpExecutionContext, workspace: Sweep) -> None:
    with stream.as_outcomes(context, "agreement"):
        totals = agreed(workspace.open())
        context.add_output_metadata(totals)
    if totals["users_not_clean"]:
        raise dg.Failure(
            f"{totals['users_not_clean']} users' indexes could not be mended: their events say more.",
            allow_retries=False,
        )


@dg.job(
    name="agreement_check", description="Hold documents, chunks and vectors against each other, and mend what drifted."
)
def agreement_check() -> None:
    check_and_mend()


def agreed(workspace: "Workspace") -> dict[str, int]:
    """Check and mend every user's index; return totals. Drift becomes an event of its user, and so does what stops mending.

    Raises RetryableError: what is away is away for every user.
    """
    from workstation_pipelines.sync.agreement import agree, note, note_stopped
    from workstation_pipelines.sync.housekeeping import every_user

    totals: Counter[str] = Counter(dict.fromkeys(("users", "users_with_drift", "users_not_clean"), 0))
    for user_id in every_user(workspace.database):
        totals["users"] += 1
        try:
            done = agree(workspace, user_id=user_id)
        except RetryableError:
            raise
        except WorkstationError as stopped:  # a budget that is spent, settings that cannot be opened: this user's alone
            note_stopped(workspace, stopped, user_id=user_id)
            totals["users_not_clean"] += 1
            continue
        note(workspace, done, user_id=user_id)
        totals["users_with_drift"] += not done.was_clean
        totals["users_not_clean"] += not done.is_clean
        totals["documents"] += done.found.documents
        totals["documents_mended"] += done.reworked.documents
        totals["chunks_embedded"] += done.reworked.embedded
        totals["strays_removed"] += done.strays_removed
        totals["missing_outside"] += sum(report.missing for report in done.outside_found)
        totals["extra_outside"] += sum(report.extra for report in done.outside_found)
    return dict(totals)
