"""The queue of sync jobs: pending rows that something else starts, one a data source and one a key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db import sync_jobs
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import JobType, SyncJobId, UserId

LEAST_PRIORITY, MOST_PRIORITY = -100, 100
LONGEST_KEY = 200

# Lets the pending job of a source, if it has one, do what a second one would.
_STRENGTHEN = text(
    """
    UPDATE app.sync_jobs
       SET job_type = CASE WHEN :job_type = 'full_sync' THEN 'full_sync' ELSE job_type END,
           priority = greatest(priority, :priority), confirm_deletes = confirm_deletes OR :confirm_deletes,
           idempotency_key = coalesce(idempotency_key, :key)
     WHERE user_id = :user_id AND id = (
           SELECT id FROM app.sync_jobs
            WHERE user_id = :user_id AND data_source_id = :source AND status = 'pending'
            ORDER BY created_at, id LIMIT 1 FOR UPDATE)
    RETURNING id, idempotency_key"""
)

# One that is merged into another is there for its key alone.
_INSERT = text(
    """
    INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, idempotency_key, priority, confirm_deletes,
                               merged_into, error_message, completed_at)
    SELECT :id, user_id, id, :job_type, CASE WHEN CAST(:merged_into AS uuid) IS NULL THEN 'pending' ELSE 'cancelled' END,
           :key, :priority, :confirm_deletes, CAST(:merged_into AS uuid),
           CASE WHEN CAST(:merged_into AS uuid) IS NULL THEN '' ELSE 'job ' || CAST(:merged_into AS uuid) || ' does it' END,
           CASE WHEN CAST(:merged_into AS uuid) IS NOT NULL THEN now() END
      FROM app.data_sources WHERE user_id = :user_id AND id = :source"""
)

# One that was asked to stop will not do what is wanted, nor will one that lists less than everything when that is wanted.
_RUNNING = text(
    """
    SELECT id FROM app.sync_jobs
     WHERE user_id = :user_id AND data_source_id = :source AND status = 'running'
       AND NOT (cancel_requested OR pause_requested) AND (:job_type <> 'full_sync' OR job_type = 'full_sync')
     ORDER BY started_at DESC LIMIT 1"""
)


def enqueue(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID,
    job_id: SyncJobId,
    job_type: JobType = JobType.MANUAL,
    idempotency_key: str | None = None,
    priority: int = 0,
    confirm_deletes: bool = False,
) -> Row[Any]:
    """Write a pending job and return its row of sync_job_summary, or the row of the job that does the same.

    A source has one pending job: a second request is merged into it, which then is the stronger of the two in each respect
    (a full sync, confirmed deletes, the higher priority). A key asks once: the same key again, even at the same moment,
    returns the same job, whatever has become of it. Raises NotFoundError for the source, InvalidRequestError for a key that
    was used for another source, and for a priority outside -100..100.
    """
    _refuse_unless_sensible(priority, idempotency_key)
    _lock_pending(connection, data_source_id)
    if idempotency_key is not None:
        _lock_key(connection, user_id=user_id, key=idempotency_key)
        known = _of_key(connection, user_id=user_id, key=idempotency_key)
        if known is not None:
            if known.data_source_id != data_source_id:
                raise InvalidRequestError(
                    f"the key {idempotency_key!r} was used for another source: choose a new one for each request"
                )
            return sync_jobs.get(connection, user_id=user_id, job_id=known.merged_into or known.id)
    wish = {
        "user_id": user_id,
        "source": data_source_id,
        "job_type": job_type.value,
        "key": idempotency_key,
        "priority": priority,
        "confirm_deletes": confirm_deletes,
    }
    pending = connection.execute(_STRENGTHEN, wish).one_or_none()
    pending_id = SyncJobId(pending.id) if pending else None
    if pending is None or (pending.idempotency_key != idempotency_key and idempotency_key is not None):
        inserted = connection.execute(_INSERT, {**wish, "id": job_id, "merged_into": pending_id})
        if inserted.rowcount != 1:
            raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")
    return sync_jobs.get(connection, user_id=user_id, job_id=pending_id or job_id)


def join_or_enqueue(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID,
    job_id: SyncJobId,
    idempotency_key: str,
    job_type: JobType = JobType.MANUAL,
) -> Row[Any]:
    """Return the row of the job that syncs this source now, if it does what is wanted; otherwise as enqueue() does.

    The key stands for the job that was joined, too: asked again when that is over, this still returns it. Raises as
    enqueue() does.
    """
    _refuse_unless_sensible(0, idempotency_key)
    _lock_pending(connection, data_source_id)
    _lock_key(connection, user_id=user_id, key=idempotency_key)
    running: UUID | None = None
    if _of_key(connection, user_id=user_id, key=idempotency_key) is None:
        running = connection.execute(
            _RUNNING, {"user_id": user_id, "source": data_source_id, "job_type": job_type.value}
        ).scalar_one_or_none()
    if running is None:
        return enqueue(
            connection,
            user_id=user_id,
            data_source_id=data_source_id,
            job_id=job_id,
            job_type=job_type,
            idempotency_key=idempotency_key,
        )
    connection.execute(
        _INSERT,
        {
            "id": job_id,
            "user_id": user_id,
            "source": data_source_id,
            "job_type": job_type.value,
            "key": idempotency_key,
            "priority": 0,
            "confirm_deletes": False,
            "merged_into": running,
        },
    )
    return sync_jobs.get(connection, user_id=user_id, job_id=running)


def _refuse_unless_sensible(priority: int, key: str | None) -> None:
    if not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
        raise InvalidRequestError(f"priority {priority}: choose one from {LEAST_PRIORITY} to {MOST_PRIORITY}")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise InvalidRequestError(f"an idempotency key has 1 to {LONGEST_KEY} characters")


def _lock_pending(connection: Connection, data_source_id: UUID) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('pending job of ' || :source, 0))"),
        {"source": str(data_source_id)},
    )


def _lock_key(connection: Connection, *, user_id: UserId, key: str) -> None:
    """Keys are the user's, not the source's: whoever asks with the same one waits here."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('key ' || :key || ' of ' || :user_id, 0))"),
        {"key": key, "user_id": user_id},
    )


def _of_key(connection: Connection, *, user_id: UserId, key: str) -> Row[Any] | None:
    return connection.execute(
        text(
            """SELECT id, data_source_id, merged_into FROM app.sync_jobs
                WHERE user_id = :user_id AND idempotency_key = :key"""
        ),
        {"user_id": user_id, "key": key},
    ).one_or_none()
