"""Ends jobs whose run is dead, or deaf: within one call no row says `running` that nobody runs."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from workstation_pipelines.db import lost_runs
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError, RetryableError
from workstation_pipelines.model import DataSourceId, JobStatus, SyncJobId, UserId

SILENT_S = 90.0
"""A run says every few seconds that it lives."""

UNHEEDED_S = 30.0
"""A run that was told to stop has stopped by then."""

JOBS_A_CALL = 50
LOCK_WAIT_MS = 1000


@dataclass(frozen=True, slots=True)
class ReapedJob:
    """A job that was ended in the place of its run: failed, or as it was asked to end, cancelled or paused."""

    job_id: SyncJobId
    user_id: UserId
    data_source_id: DataSourceId
    dagster_run_id: str | None
    status: JobStatus


def reap(database: Database) -> list[ReapedJob]:
    """End the running jobs of all users that were silent for 90 s, or did not stop within 30 s of being told to.

    The database's clock decides. A run that is only asleep is fenced off first: whatever it does later is refused. At most
    50 jobs a call, the longest silent first; what cannot be ended just now is left to the next call. Idempotent, and safe
    in several processes at once. Raises SourceUnavailableError when the database cannot be reached.
    """
    found = lost_runs.silent(database, silent_s=SILENT_S, unheeded_s=UNHEEDED_S, at_most=JOBS_A_CALL)
    reaped = []
    for job in found:
        try:
            ended = _reap(database, job.user_id, job.job_id, job.data_source_id, is_deaf=True)
        except RetryableError:
            continue  # its run sleeps in the middle of a transaction: the server ends that within minutes
        if ended is not None:
            reaped.append(ended)
    return reaped


def reap_if_dead(database: Database, *, user_id: UserId, job_id: UUID) -> ReapedJob | None:
    """End a running job at once if nobody holds its data source, however short its silence; None when somebody does.

    None also for a job that does not run. Raises SourceUnavailableError.
    """
    with database.transaction_with_rls(user_id) as connection:
        data_source_id = lost_runs.running_on(connection, user_id=user_id, job_id=job_id)
    if data_source_id is None:
        return None
    return _reap(database, user_id, SyncJobId(job_id), data_source_id, is_deaf=False)


def _reap(
    database: Database, user_id: UserId, job_id: SyncJobId, data_source_id: DataSourceId, *, is_deaf: bool
) -> ReapedJob | None:
    with lost_runs.held_if_free(database, data_source_id) as is_dead:
        if not is_dead and not is_deaf:
            return None
        silent_s = None if is_dead else SILENT_S
        try:
            with database.transaction_with_rls(user_id) as connection:
                # The data source before the job: the order in which a run locks them.
                lost_runs.fence_off(
                    connection, user_id=user_id, data_source_id=data_source_id, lock_wait_ms=LOCK_WAIT_MS
                )
                ended = lost_runs.end(
                    connection, user_id=user_id, job_id=job_id, silent_s=silent_s, unheeded_s=UNHEEDED_S
                )
        except NotFoundError:
            return None  # it has ended, or given a sign of life, in this moment
    if not is_dead:
        with database.transaction_with_rls(user_id) as connection:
            lost_runs.disconnect_holder(connection, data_source_id=data_source_id)
    return ReapedJob(job_id, user_id, data_source_id, ended.dagster_run_id, ended.status)
