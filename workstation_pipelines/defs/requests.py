"""Sync jobs that somebody wrote as rows, as runs: a row is asked for until a run has started it.

Nothing is confirmed here: the row leaves `pending` in the transaction in which the run starts it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from workstation_pipelines.defs import partitions, runs
from workstation_pipelines.defs.assets import op_name, sync_job_name
from workstation_pipelines.model import JobStatus, SourceType, SyncJobId

if TYPE_CHECKING:
    from workstation_pipelines.db.sync_requests import SyncRequested
    from workstation_pipelines.sync.workspace import Workspace

REQUESTS_PER_TICK = 100
"""A tick creates five to ten runs a second; what a user writes next is asked for by the tick after."""

MOST_FAILED_RUNS = 3
"""So many runs may fail before they start their job; then something is wrong that another run will not mend."""


def start_waiting(workspace: Workspace, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """Return a request for each job that should start and has no run; take queued runs away whose job is over."""
    from workstation_pipelines.db import sync_requests

    # In this order: a job that is still waiting after its run was found over has not been started by it.
    live = runs.unfinished_requested(instance)
    _withdraw(workspace, instance, live)
    submitted = [
        SyncJobId(UUID(run.tags[runs.SYNC_JOB_TAG]))
        for run in live
        if run.status is not dg.DagsterRunStatus.NOT_STARTED  # its tick died: the same key finds and submits it
    ]
    rows = sync_requests.waiting(workspace.database, started=submitted, at_most=REQUESTS_PER_TICK)
    ended = runs.finished_by_job(instance, [str(row.job_id) for row in rows])
    wanted = [row for row in rows if not _is_given_up(workspace, row, ended.get(str(row.job_id), ()))]
    by_type: dict[SourceType, list[UUID]] = defaultdict(list)
    for row in wanted:
        by_type[row.source_type].append(row.data_source_id)
    for source_type, data_source_ids in by_type.items():
        partitions.ensure_partitions(instance, source_type, data_source_ids)
    return [_request(row, attempt=len(ended.get(str(row.job_id), ()))) for row in wanted]


def _request(row: SyncRequested, *, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{row.job_id}:{attempt}",
        job_name=sync_job_name(row.source_type),
        partition_key=str(row.data_source_id),
        run_config={"ops": {op_name(row.source_type): {"config": {"sync_job_id": str(row.job_id)}}}},
        tags={
            **runs.tags_of(
                user_id=row.user_id,
                data_source_id=str(row.data_source_id),
                sync_job_id=str(row.job_id),
                trigger=runs.REQUEST,
            ),
            runs.PRIORITY_TAG: str(row.priority),
        },
    )


def _withdraw(workspace: Workspace, instance: dg.DagsterInstance, live: Sequence[dg.DagsterRun]) -> None:
    from workstation_pipelines.db import sync_requests

    queued = {
        SyncJobId(UUID(run.tags[runs.SYNC_JOB_TAG])): run
        for run in live
        if run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
    }
    for job_id in sync_requests.not_wanted(workspace.database, queued.keys()):
        runs.withdraw(instance, queued[job_id])


def _is_given_up(workspace: Workspace, row: SyncRequested, ended: Sequence[dg.DagsterRun]) -> bool:
    """End a job that its runs cannot start, or whose queued run a person has cancelled; return whether it was ended."""
    if ended and runs.was_cancelled_by_hand(ended[0]) and row.not_before is None:
        return _end(workspace, row, JobStatus.CANCELLED, "its Dagster run was cancelled before it began")
    failed = [run for run in ended if run.status is dg.DagsterRunStatus.FAILURE]
    if len(failed) < MOST_FAILED_RUNS:
        return False
    message = (
        f"{len(failed)} Dagster runs ended before they could start it, the last was {failed[0].run_id}:"
        " see its log in Dagster's pages, mend the cause, and ask for a new sync"
    )
    return _end(workspace, row, JobStatus.FAILED, message)


def _end(workspace: Workspace, row: SyncRequested, status: JobStatus, message: str) -> bool:
    from workstation_pipelines.db import sync_requests

    with workspace.database.transaction_with_rls(row.user_id) as connection:
        sync_requests.end_unstarted(
            connection, user_id=row.user_id, job_id=row.job_id, status=status.value, message=message
        )
    return True
