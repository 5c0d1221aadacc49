"""What blocks ask of the syncs of data sources: one that is under way or a new one, and how it ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from workstation_pipelines.db import data_sources, job_queue, sync_jobs
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import JobStatus, JobType, SyncJobId
from workstation_pipelines.workflow_model import Wait, WaitKind
from workstation_pipelines.workflows.blocks.contract import BlockCall

if TYPE_CHECKING:
    from sqlalchemy import Row

COUNTED = ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed")
LONGEST_MINUTES = 30 * 24 * 60

_OPEN = (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED)
_WELL = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


def earlier_wait(call: BlockCall[Any]) -> Wait | None:
    """Return the wait for a sync that this node asked for when it was called before."""
    return call.wait if call.wait is not None and call.wait.kind is WaitKind.SYNC else None


def wait_for(call: BlockCall[Any], row: Row[Any], *, max_wait_minutes: float) -> Wait:
    """Return a wait for a job; however often it is asked for, it ends so long after the first time."""
    earlier = earlier_wait(call)
    until = earlier.until if earlier is not None else call.clock() + timedelta(minutes=max_wait_minutes)
    message = f"waits for the sync of {row.data_source_name}"
    return Wait(WaitKind.SYNC, until=until, sync_job_id=row.id, message=message)


def has_waited_enough(call: BlockCall[Any]) -> bool:
    earlier = earlier_wait(call)
    if earlier is None:
        return False
    is_late = earlier.until is not None and call.clock() >= earlier.until
    return is_late or bool((earlier.decision or {}).get("expired"))


def ask_for(call: BlockCall[Any], source: DataSource, *, key: str, job_type: JobType = JobType.MANUAL) -> Row[Any]:
    """Return the job that syncs a source: one that waits or runs already, else a new one. The same key gives the same job.

    Raises InvalidRequestError for a source that is switched off.
    """
    if not source.is_active:
        raise InvalidRequestError(f"{source.name} is inactive: {source.status_message or 'it was switched off'}")
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return job_queue.join_or_enqueue(
            connection,
            user_id=call.user_id,
            data_source_id=source.id,
            job_id=SyncJobId(call.new_id()),
            idempotency_key=key,
            job_type=job_type,
        )


def job_of(call: BlockCall[Any], job_id: UUID) -> Row[Any]:
    """Raises NotFoundError."""
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return sync_jobs.get(connection, user_id=call.user_id, job_id=job_id)


def source_named(call: BlockCall[Any], name: str) -> DataSource:
    """Raises NotFoundError."""
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return data_sources.named(connection, user_id=call.user_id, name=name)


def is_open(row: Row[Any]) -> bool:
    return JobStatus(row.status) in _OPEN


def has_ended_well(row: Row[Any]) -> bool:
    """Whether the source is in step now; some of its items may have failed all the same."""
    return JobStatus(row.status) in _WELL


def problem_of(row: Row[Any]) -> str:
    """Say why a job that did not end well did not, and what to do."""
    job = f"sync job {row.id} of {row.data_source_name}"
    match JobStatus(row.status):
        case JobStatus.NEEDS_CONFIRMATION:
            return (
                f"{job} holds back deletions: answer with `workstation jobs confirm {row.id}` or"
                f" `workstation jobs refuse {row.id}`, then retry"
            )
        case JobStatus.CANCELLED:
            return f"{job} was cancelled: retry to start another one"
        case JobStatus.FAILED:
            return f"{job} failed: `workstation jobs show {row.id}` says why"
        case JobStatus.PAUSED:
            return f"{job} is paused for too long: `workstation jobs show {row.id}` says for what it waits"
        case _:
            return f"{job} is still {row.status}: see that something runs it (`workstation dev`), or wait longer"
