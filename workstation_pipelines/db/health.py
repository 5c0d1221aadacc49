"""How a data source stands: what an operator's checks and the sensors ask, in one statement a source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.model import DataSourceId, JobStatus, SyncJobId


@dataclass(frozen=True, slots=True)
class SourceState:
    """A data source's newest sync job and what is open. `now` is the database's clock in the same moment.

    `objective_minutes` is how old the last sync may become, None without an objective; `due_at` is when it does, and
    `is_late` whether that is past. `heartbeat_at` is the newest sign of life of that job, `not_before` when it may go on
    if it is paused, `is_held` that it is paused until someone resumes it, and `next_retry_at` the earliest next try of a
    failed item.
    """

    data_source_id: DataSourceId
    sync_frequency: str
    last_sync_at: datetime | None
    objective_minutes: int | None
    due_at: datetime | None
    is_late: bool
    last_job_id: SyncJobId | None
    last_job_status: JobStatus | None
    last_job_dagster_run_id: str | None
    heartbeat_at: datetime | None
    not_before: datetime | None
    open_failures: int
    next_retry_at: datetime | None
    missing_texts: int
    now: datetime
    is_held: bool = False


def of_source(
    connection: Connection, *, user_id: str, data_source_id: UUID, counts_texts: bool = False
) -> SourceState | None:
    """Return None for a data source that was removed. Missing texts are counted only when asked: that reads every document."""
    row = connection.execute(
        text(
            """
            SELECT s.id, s.sync_frequency, s.last_sync_at, o.objective_minutes, o.due_at, o.is_missed,
                   j.id AS job_id, j.status, j.dagster_run_id, j.heartbeat_at,
                   j.not_before, coalesce(j.pause_requested, false) AS is_held,
                   f.open_failures, f.next_retry_at, now() AS now,
                   CASE WHEN :counts_texts THEN
                       (SELECT count(*) FROM app.documents d
                         WHERE d.user_id = s.user_id AND d.data_source_id = s.id AND d.deleted_at IS NULL
                           AND d.text = '') ELSE 0 END AS missing_texts
              FROM app.data_sources s
              JOIN app.source_freshness o ON o.user_id = s.user_id AND o.data_source_id = s.id
              LEFT JOIN LATERAL (
                   SELECT j.id, j.status, j.dagster_run_id, j.heartbeat_at, j.not_before, j.pause_requested
                     FROM app.sync_jobs j
                    WHERE j.user_id = s.user_id AND j.data_source_id = s.id AND j.status <> 'pending'
                      AND NOT (j.status IN ('cancelled', 'paused') AND j.started_at IS NULL)
                    ORDER BY j.status = 'running' DESC, coalesce(j.started_at, j.created_at) DESC, j.id DESC
                    LIMIT 1) j ON true
              CROSS JOIN LATERAL (
                   SELECT count(*) AS open_failures, min(f.next_try_at) AS next_retry_at FROM app.sync_failures f
                    WHERE f.user_id = s.user_id AND f.data_source_id = s.id AND f.resolved_at IS NULL) f
             WHERE s.user_id = :user_id AND s.id = :id"""
        ),
        {"user_id": user_id, "id": data_source_id, "counts_texts": counts_texts},
    ).one_or_none()
    if row is None:
        return None
    return SourceState(
        data_source_id=DataSourceId(row.id),
        sync_frequency=row.sync_frequency,
        last_sync_at=row.last_sync_at,
        objective_minutes=row.objective_minutes,
        due_at=row.due_at,
        is_late=row.is_missed,
        last_job_id=SyncJobId(row.job_id) if row.job_id else None,
        last_job_status=JobStatus(row.status) if row.status else None,
        last_job_dagster_run_id=row.dagster_run_id,
        heartbeat_at=row.heartbeat_at,
        not_before=row.not_before,
        open_failures=row.open_failures,
        next_retry_at=row.next_retry_at,
        missing_texts=row.missing_texts,
        now=row.now,
        is_held=row.is_held,
    )
