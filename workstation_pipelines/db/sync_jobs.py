"""Sync jobs: one attempt to sync one data source. Counts and the resume point move with the page they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import Counts, JobStatus, JobType, SyncJobId, UserId


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A job whose process is gone, with the resume point it had committed."""

    job_id: SyncJobId
    job_type: JobType
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a running job since it began."""

    cancel: bool
    pause: bool


_START = text(
    """
    INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, fence, progress_data, dagster_run_id,
                               idempotency_key, started_at, heartbeat_at)
    VALUES (:id, :user_id, :data_source_id, :job_type, 'running', :fence, :progress, :dagster_run_id, :key, now(), now())
    ON CONFLICT (id) DO UPDATE
       SET status = 'running', fence = excluded.fence, progress_data = excluded.progress_data,
           dagster_run_id = excluded.dagster_run_id, started_at = now(), heartbeat_at = now(), completed_at = NULL,
           not_before = NULL, error_message = '', stop_requested_at = NULL, paused_by = NULL
     WHERE sync_jobs.user_id = excluded.user_id AND sync_jobs.data_source_id = excluded.data_source_id
       AND sync_jobs.status IN ('pending', 'paused') AND NOT (sync_jobs.cancel_requested OR sync_jobs.pause_requested)
    RETURNING pages, items_found AS found, items_created AS created, items_updated AS updated,
              items_unchanged AS unchanged, items_skipped AS skipped, items_deleted AS deleted, items_failed AS failed,
              items_fetched AS fetched, bytes_processed AS bytes_fetched, provider_calls, chunks_embedded, chunks_reused,
              embedding_tokens"""
).bindparams(bindparam("progress", type_=JSONB))

_ADVANCE = text(
    """
    UPDATE app.sync_jobs
       SET items_found = items_found + :found, items_created = items_created + :created,
           items_updated = items_updated + :updated, items_unchanged = items_unchanged + :unchanged,
           items_skipped = items_skipped + :skipped, items_deleted = items_deleted + :deleted,
           items_failed = items_failed + :failed, items_fetched = items_fetched + :fetched,
           items_processed = items_processed + :processed, bytes_processed = bytes_processed + :bytes_fetched,
           provider_calls = provider_calls + :provider_calls, chunks_embedded = chunks_embedded + :chunks_embedded,
           chunks_reused = chunks_reused + :chunks_reused,
           embedding_tokens = embedding_tokens + :embedding_tokens, cost = cost + :cost, pages = pages + :pages,
           progress_data = :progress, heartbeat_at = now()
     WHERE user_id = :user_id AND id = :id AND fence = :fence
    RETURNING cancel_requested, pause_requested"""
).bindparams(bindparam("progress", type_=JSONB))

_END = text(
    """
    UPDATE app.sync_jobs
       SET status = CASE WHEN :is_on_request AND NOT pause_requested THEN 'pending' ELSE :status END,
           error_message = :message, completed_at = now(), heartbeat_at = now(), stop_requested_at = NULL,
           pause_requested = pause_requested OR :is_held,
           paused_by = :paused_by,
           provider_calls = provider_calls + :provider_calls,
           not_before = CASE WHEN CAST(:wait_s AS double precision) IS NULL THEN NULL
                             ELSE now() + make_interval(secs => :wait_s) END
     WHERE user_id = :user_id AND id = :id AND status = 'running'
       AND (CAST(:fence AS bigint) IS NULL OR fence = :fence)"""
)


def bury_interrupted(connection: Connection, lease: Lease, *, successor: SyncJobId) -> Interrupted | None:
    """Mark the job that a dead process left `running` as failed and return it. Call only while holding the lease."""
    row = connection.execute(
        text(
            """
            UPDATE app.sync_jobs
               SET status = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'failed' END, completed_at = now(),
                   stop_requested_at = NULL,
                   error_message = 'the process running it ended early; job ' || :successor || ' goes on from there'
             WHERE user_id = :user_id AND data_source_id = :source AND status = 'running' AND id <> :successor
            RETURNING id, job_type, progress_data"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "successor": successor},
    ).first()
    return Interrupted(SyncJobId(row.id), JobType(row.job_type), row.progress_data) if row else None


def resumable(connection: Connection, lease: Lease) -> Interrupted | None:
    """Return the job of this source that ran last if it stopped half way on purpose or by failing, with its resume point."""
    row = connection.execute(
        text(
            """
            SELECT id, job_type, status, progress_data FROM app.sync_jobs
             WHERE user_id = :user_id AND data_source_id = :source AND started_at IS NOT NULL
             ORDER BY started_at DESC, id DESC LIMIT 1"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id},
    ).first()
    # A paused job that is to go on is pending again.
    if row is None or row.status not in ("failed", "paused", "cancelled", "pending") or not row.progress_data:
        return None
    return Interrupted(SyncJobId(row.id), JobType(row.job_type), row.progress_data)


def awaits_confirmation(connection: Connection, lease: Lease) -> bool:
    """Return whether deletes are held back until someone confirms them."""
    return bool(
        connection.execute(
            text(
                """
                SELECT EXISTS (SELECT FROM app.sync_jobs
                 WHERE user_id = :user_id AND data_source_id = :source AND status = 'needs_confirmation')"""
            ),
            {"user_id": lease.user_id, "source": lease.data_source_id},
        ).scalar_one()
    )


def supersede_unconfirmed(connection: Connection, lease: Lease, *, successor: SyncJobId) -> None:
    """A newer complete listing has seen the source since: what waited for a confirmation is moot."""
    connection.execute(
        text(
            """
            UPDATE app.sync_jobs SET status = 'cancelled', error_message = 'superseded by job ' || :successor
             WHERE user_id = :user_id AND data_source_id = :source AND status = 'needs_confirmation'
               AND id <> :successor"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "successor": successor},
    )


def start(
    connection: Connection,
    lease: Lease,
    *,
    job_id: SyncJobId,
    job_type: JobType,
    progress: Mapping[str, Any],
    dagster_run_id: str | None,
    idempotency_key: str | None = None,
) -> tuple[Counts, int]:
    """Begin a job, new, pending or paused; return what it has counted before it was paused, and its pages.

    Raises NotFoundError when the id belongs to a job that has ended, or is another source's.
    """
    started = connection.execute(
        _START,
        {
            "id": job_id,
            "user_id": lease.user_id,
            "data_source_id": lease.data_source_id,
            "job_type": job_type.value,
            "fence": lease.fence,
            "progress": dict(progress),
            "dagster_run_id": dagster_run_id,
            "key": idempotency_key,
        },
    ).one_or_none()
    if started is None:
        raise NotFoundError(f"sync job {job_id} is not pending any more, or another source's: start a new sync")
    return Counts(**{name: getattr(started, name) for name in Counts.__slots__}), started.pages


def advance(
    connection: Connection,
    lease: Lease,
    *,
    job_id: SyncJobId,
    counts: Counts,
    pages: int,
    progress: Mapping[str, Any],
    cost: Decimal = Decimal(0),
) -> Asked:
    """Add a page's counts and its cost in USD and move the resume point, in the page's transaction.

    Returns what was asked of the job since it began.
    """
    processed = counts.created + counts.updated + counts.unchanged + counts.skipped + counts.deleted + counts.failed
    values = {name: getattr(counts, name) for name in Counts.__slots__}
    row = connection.execute(
        _ADVANCE,
        {
            **values,
            "processed": processed,
            "cost": cost,
            "pages": pages,
            "progress": dict(progress),
            "user_id": lease.user_id,
            "id": job_id,
            "fence": lease.fence,
        },
    ).one()
    return Asked(row.cancel_requested, row.pause_requested)


def end(
    connection: Connection,
    *,
    user_id: UserId,
    job_id: SyncJobId,
    status: JobStatus,
    message: str = "",
    wait_s: float | None = None,
    provider_calls: int = 0,
    fence: int | None = None,
    is_on_request: bool = False,
    is_held: bool = False,
    paused_by: str | None = None,
) -> bool:
    """Close a running job; return whether it was. One that has ended, or is of another fence by now, is left as it is.

    One that pauses on request, and was resumed before it did, is pending. One `is_held` waits until someone resumes it, or
    syncs anew. `paused_by` is what a paused one waits for, `vendor` or `budget`, and None when that is its owner.
    """
    ended = connection.execute(
        _END,
        {
            "user_id": user_id,
            "id": job_id,
            "status": status.value,
            "is_on_request": is_on_request,
            "is_held": is_held,
            "paused_by": paused_by,
            "message": message[:2000],
            "wait_s": wait_s,
            "provider_calls": provider_calls,
            "fence": fence,
        },
    )
    return ended.rowcount == 1


def heartbeat(connection: Connection, lease: Lease, *, job_id: SyncJobId) -> Asked | None:
    """Say that a job lives and return what was asked of it; None when it is this lease's no longer."""
    row = connection.execute(
        text(
            """
            UPDATE app.sync_jobs j SET heartbeat_at = now()
              FROM app.data_sources s
             WHERE j.user_id = :user_id AND j.id = :id AND j.status = 'running' AND j.fence = :fence
               AND s.user_id = j.user_id AND s.id = j.data_source_id AND s.fence = j.fence
            RETURNING j.cancel_requested, j.pause_requested"""
        ),
        {"user_id": lease.user_id, "id": job_id, "fence": lease.fence},
    ).one_or_none()
    return Asked(row.cancel_requested, row.pause_requested) if row else None


def recent(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None = None,
    status: JobStatus | None = None,
    limit: int = 20,
    offset: int = 0,
) -> Sequence[Row[Any]]:
    """Return rows of sync_job_summary, newest first, without requests that were merged into another."""
    return connection.execute(
        text(
            """
            SELECT * FROM app.sync_job_summary
             WHERE user_id = :user_id AND (CAST(:source AS uuid) IS NULL OR data_source_id = :source)
               AND (CAST(:status AS text) IS NULL OR status = :status) AND merged_into IS NULL
             ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"""
        ),
        {
            "user_id": user_id,
            "source": data_source_id,
            "status": status.value if status is not None else None,
            "limit": limit,
            "offset": offset,
        },
    ).all()


def get(connection: Connection, *, user_id: UserId, job_id: UUID) -> Row[Any]:
    """Return one row of sync_job_summary. Raises NotFoundError."""
    row = connection.execute(
        text("SELECT * FROM app.sync_job_summary WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": job_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no sync job {job_id}: `workstation jobs list` shows yours")
    return row
