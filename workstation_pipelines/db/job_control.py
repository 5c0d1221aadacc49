"""What people ask of sync jobs: to pause, to go on, to stop; and what they answer to a job that asks them.

Nothing here starts or stops anything by itself: a row that is not running changes at once, a running job reads its row
every few seconds. Every function takes the job's row under lock, and the caller commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db import job_queue
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import Counts, JobResult, JobStatus, JobType, SyncJobId, UserId

_WAITING = (JobStatus.PENDING, JobStatus.PAUSED, JobStatus.NEEDS_CONFIRMATION)


@dataclass(frozen=True, slots=True)
class AskedJob:
    """A job row as far as it decides what a run does. `is_held`: it was paused on request. `is_refused`: so were its deletes."""

    id: SyncJobId
    data_source_id: UUID
    status: JobStatus
    job_type: JobType
    confirm_deletes: bool
    is_held: bool
    is_refused: bool
    dagster_run_id: str | None
    message: str

    def stopped_before(self) -> JobResult | None:
        """Return the result of a job that is not to be started, because someone cancelled it or holds it."""
        is_held = self.status is JobStatus.PAUSED and self.is_held
        if self.status is not JobStatus.CANCELLED and not is_held:
            return None
        return JobResult(self.id, self.status, Counts(), 0, self.message)


def request_cancel(connection: Connection, *, user_id: UserId, job_id: UUID) -> JobStatus:
    """End a job: at once if it waits, within seconds if it runs; return its status. What is committed stays.

    Asking again changes nothing. Raises NotFoundError, and InvalidRequestError for a job that has ended otherwise.
    """
    job = _locked(connection, user_id=user_id, job_id=job_id)
    if job.status is JobStatus.CANCELLED:
        return job.status
    _refuse_if_ended(job)
    return _set(
        connection,
        user_id=user_id,
        job_id=job_id,
        status=JobStatus.CANCELLED if job.status in _WAITING else job.status,
        message="cancelled on request" if job.status in _WAITING else job.message,
        cancel=True,
    )


def request_pause(connection: Connection, *, user_id: UserId, job_id: UUID) -> JobStatus:
    """Hold a job until it is resumed: at once if it waits, within seconds if it runs; return its status.

    Asking again changes nothing. Raises NotFoundError, and InvalidRequestError for a job that has ended or awaits an answer.
    """
    job = _locked(connection, user_id=user_id, job_id=job_id)
    _refuse_if_ended(job)
    if job.status is JobStatus.NEEDS_CONFIRMATION:
        raise InvalidRequestError(f"sync job {job_id} waits for an answer already: confirm, refuse or cancel it")
    is_waiting = job.status in _WAITING
    return _set(
        connection,
        user_id=user_id,
        job_id=job_id,
        status=JobStatus.PAUSED if is_waiting else job.status,
        message=f"paused on request: `workstation jobs resume {job_id}` lets it go on" if is_waiting else job.message,
        pause=True,
    )


def resume(connection: Connection, *, user_id: UserId, job_id: UUID) -> JobStatus:
    """Let a paused job go on: it is pending until something starts it; return its status. It goes on where it stopped.

    A running job that was asked to pause runs on. Asking again changes nothing. Raises NotFoundError, and
    InvalidRequestError for a job that has ended or awaits an answer.
    """
    job = _locked(connection, user_id=user_id, job_id=job_id)
    _refuse_if_ended(job)
    if job.status is JobStatus.NEEDS_CONFIRMATION:
        raise InvalidRequestError(f"sync job {job_id} waits for an answer: confirm, refuse or cancel it")
    is_waiting = job.status in _WAITING
    return _set(
        connection,
        user_id=user_id,
        job_id=job_id,
        status=JobStatus.PENDING if is_waiting else job.status,
        message="" if is_waiting else job.message,
    )


def confirm(connection: Connection, *, user_id: UserId, job_id: UUID, new_job_id: SyncJobId) -> Row[Any]:
    """Answer a job that held deletes back: return the pending job that lists once more and deletes what is gone then.

    The question stands until that job has answered it by ending well. Asking again returns the same pending job.
    Raises NotFoundError, and InvalidRequestError for a job that asks nothing.
    """
    job = _asking(connection, user_id=user_id, job_id=job_id)
    pending = job_queue.enqueue(
        connection,
        user_id=user_id,
        data_source_id=job.data_source_id,
        job_id=new_job_id,
        job_type=job.job_type,
        confirm_deletes=True,
    )
    _set(
        connection,
        user_id=user_id,
        job_id=job_id,
        status=job.status,
        message=f"confirmed: job {pending.id} deletes what is gone from the source",
    )
    return pending


def refuse(connection: Connection, *, user_id: UserId, job_id: UUID) -> None:
    """Answer a job that held deletes back: nothing is deleted, and it is not asked again about the same items.

    What goes missing besides is judged by itself. Asking again changes nothing. Raises NotFoundError, and
    InvalidRequestError for a job that asks nothing.
    """
    job = _asking(connection, user_id=user_id, job_id=job_id, may_be_refused=True)
    connection.execute(
        text(
            """UPDATE app.sync_jobs SET confirm_deletes = false
                WHERE user_id = :user_id AND data_source_id = :source AND status IN ('pending', 'paused')"""
        ),
        {"user_id": user_id, "source": job.data_source_id},
    )
    connection.execute(
        text(
            """UPDATE app.sync_jobs SET status = 'cancelled', deletes_refused = true,
                      error_message = 'refused: what is gone from the source is kept here'
                WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": job_id},
    )


def asked(connection: Connection, *, user_id: UserId, job_id: UUID, lock: bool = False) -> AskedJob | None:
    """Return what a job's row asks for; None when there is no such row. With `lock` it stays so for this transaction."""
    row = connection.execute(
        text(
            f"""SELECT id, data_source_id, status, job_type, confirm_deletes, pause_requested, deletes_refused,
                       dagster_run_id, error_message
                  FROM app.sync_jobs WHERE user_id = :user_id AND id = :id {"FOR UPDATE" if lock else ""}"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "id": job_id},
    ).one_or_none()
    if row is None:
        return None
    return AskedJob(
        id=SyncJobId(row.id),
        data_source_id=row.data_source_id,
        status=JobStatus(row.status),
        job_type=JobType(row.job_type),
        confirm_deletes=row.confirm_deletes,
        is_held=row.pause_requested,
        is_refused=row.deletes_refused,
        dagster_run_id=row.dagster_run_id,
        message=row.error_message,
    )


def _locked(connection: Connection, *, user_id: UserId, job_id: UUID) -> AskedJob:
    job = asked(connection, user_id=user_id, job_id=job_id, lock=True)
    if job is None:
        raise NotFoundError(f"no sync job {job_id}: `workstation jobs list` shows yours")
    return job


def _refuse_if_ended(job: AskedJob) -> None:
    if job.status not in (*_WAITING, JobStatus.RUNNING):
        raise InvalidRequestError(f"sync job {job.id} has ended as {job.status}: start a new sync")


def _asking(connection: Connection, *, user_id: UserId, job_id: UUID, may_be_refused: bool = False) -> AskedJob:
    job = _locked(connection, user_id=user_id, job_id=job_id)
    if job.status is not JobStatus.NEEDS_CONFIRMATION and not (may_be_refused and job.is_refused):
        raise InvalidRequestError(
            f"sync job {job_id} is {job.status} and asks nothing: `workstation jobs list` says which do"
        )
    return job


def _set(
    connection: Connection,
    *,
    user_id: UserId,
    job_id: UUID,
    status: JobStatus,
    message: str,
    cancel: bool = False,
    pause: bool = False,
) -> JobStatus:
    """Store a status and what is asked. A cancel is never taken back; `pause` is as given."""
    connection.execute(
        text(
            """
            UPDATE app.sync_jobs
               SET status = :status, error_message = :message,
                   cancel_requested = cancel_requested OR :cancel, pause_requested = :pause,
                   not_before = CASE WHEN :status IN ('running', 'needs_confirmation') THEN not_before END,
                   completed_at = CASE WHEN :status = 'cancelled' THEN coalesce(completed_at, now())
                                       WHEN :status = 'pending' THEN NULL ELSE completed_at END,
                   stop_requested_at = CASE WHEN :status = 'running' AND (cancel_requested OR :cancel OR :pause)
                                            THEN coalesce(stop_requested_at, now()) END
             WHERE user_id = :user_id AND id = :id"""
        ),
        {
            "user_id": user_id,
            "id": job_id,
            "status": status.value,
            "message": message,
            "cancel": cancel,
            "pause": pause,
        },
    )
    return status
