"""What blocks ask of the syncs of data sources: one that is under way or a new one, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from workstation_pipelines.db import data_sources, job_queue, sync_jobs
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import JobStatus, JobType, SyncJobId
from workstation_pipelines.workflow_model import Wait, WaitKind
from workstation_pipelines.workflows.blocks.contract import BlockCall

COUNTED = ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed")
LONGEST_MINUTES = 30 * 24 * 60

_OPEN = (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED)
_WELL = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


@dataclass(frozen=True, slots=True)
class SourceSync:
    """A sync job as blocks see it; `counts` are its items by outcome, under the names in COUNTED."""

    job_id: SyncJobId
    data_source_id: UUID
    source_name: str
    status: JobStatus
    asked_at: datetime
    ended_at: datetime | None
    counts: Mapping[str, int]

    @classmethod
    def of_row(cls, row: Any) -> Self:
        """Read a row of sync_job_summary."""
        counts = {name: getattr(row, f"items_{name}") for name in COUNTED}
        return cls(
            job_id=SyncJobId(row.id),
            data_source_id=row.data_source_id,
            source_name=row.data_source_name,
            status=JobStatus(row.status),
            asked_at=row.created_at,
            ended_at=row.completed_at,
            counts=counts,
        )

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN

    @property
    def has_ended_well(self) -> bool:
        """Whether the source is in step now; some of its items may have failed all the same."""
        return self.status in _WELL

    @property
    def problem(self) -> str:
        """Why a job that has not ended well has not, and what to do."""
        job = f"sync job {self.job_id} of {self.source_name}"
        match self.status:
            case JobStatus.NEEDS_CONFIRMATION:
                return (
                    f"{job} holds back deletions: answer with `workstation jobs confirm {self.job_id}` or"
                    f" `workstation jobs refuse {self.job_id}`, then retry"
                )
            case JobStatus.CANCELLED:
                return f"{job} was cancelled: retry to start another one"
            case JobStatus.FAILED:
                return f"{job} failed: `workstation jobs show {self.job_id}` says why"
            case JobStatus.PAUSED:
                return f"{job} is paused for too long: `workstation jobs show {self.job_id}` says for what it waits"
            case _:
                return f"{job} is still {self.status}: see that something runs it (`workstation dev`), or wait longer"


def earlier_wait(call: BlockCall[Any]) -> Wait | None:
    """Return the wait for a sync that this node asked for when it was called before."""
    return call.wait if call.wait is not None and call.wait.kind is WaitKind.SYNC else None


def wait_for(call: BlockCall[Any], sync: SourceSync, *, max_wait_minutes: float) -> Wait:
    """Return a wait for a job; however often it is asked for, it ends so long after the first time."""
    earlier = earlier_wait(call)
    until = earlier.until if earlier is not None else call.clock() + timedelta(minutes=max_wait_minutes)
    message = f"waits for the sync of {sync.source_name}"
    return Wait(WaitKind.SYNC, until=until, sync_job_id=sync.job_id, message=message)


def has_waited_enough(call: BlockCall[Any]) -> bool:
    """Whether the time of the wait is over, by the clock or by what has been decided: that the job is still at it."""
    earlier = earlier_wait(call)
    if earlier is None:
        return False
    is_late = earlier.until is not None and call.clock() >= earlier.until
    return is_late or (earlier.decision or {}).get("status") in _OPEN


def ask_for(call: BlockCall[Any], source: DataSource, *, key: str, job_type: JobType = JobType.MANUAL) -> SourceSync:
    """Return the sync of a source: one that waits or runs already, else a new one. The same key gives the same job.

    Raises InvalidRequestError for a source that is switched off.
    """
    if not source.is_active:
        raise InvalidRequestError(f"{source.name} is inactive: {source.status_message or 'it was switched off'}")
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        row = job_queue.join_or_enqueue(
            connection,
            user_id=call.user_id,
            data_source_id=source.id,
            job_id=SyncJobId(call.new_id()),
            idempotency_key=key,
            job_type=job_type,
        )
    return SourceSync.of_row(row)


def job_of(call: BlockCall[Any], job_id: UUID) -> SourceSync:
    """Raises NotFoundError."""
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return SourceSync.of_row(sync_jobs.get(connection, user_id=call.user_id, job_id=job_id))


def done_since(call: BlockCall[Any], sync: SourceSync) -> SourceSync | None:
    """Return a sync of the same source that has ended well since this one was asked for.

    A person who answers a sync that holds deletions back, or starts a failed one anew, makes another job do it.
    """
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        for status in _WELL:
            rows = sync_jobs.recent(
                connection, user_id=call.user_id, data_source_id=sync.data_source_id, status=status, limit=1
            )
            found = next(map(SourceSync.of_row, rows), None)
            if found is not None and found.ended_at is not None and found.ended_at > sync.asked_at:
                return found
    return None


def source_named(call: BlockCall[Any], name: str) -> DataSource:
    """Raises NotFoundError."""
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return data_sources.named(connection, user_id=call.user_id, name=name)
