"""Sync jobs as whoever starts runs for them sees them: those that wait for a run, and those that have one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import DataSourceId, SourceType, SyncJobId, UserId


@dataclass(frozen=True, slots=True)
class SyncRequested:
    """A job to start. `not_before` is the time that a paused one waited for, None for a pending one."""

    job_id: SyncJobId
    user_id: UserId
    data_source_id: DataSourceId
    source_type: SourceType
    priority: int
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a Dagster run is working on. `is_beating`: it has shown lately that it does."""

    job_id: SyncJobId
    user_id: UserId
    data_source_id: DataSourceId
    dagster_run_id: str
    is_beating: bool


def waiting(database: Database, *, started: Collection[SyncJobId], at_most: int) -> list[SyncRequested]:
    """Return all users' jobs that should start now, but for those in `started`, in the order to start them.

    First everybody's first, then everybody's second, and so on; of one user the most important first, then the oldest.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text(
                """
                SELECT sync_job_id, user_id, data_source_id, source_type, priority, not_before
                  FROM app.waiting_sync_jobs(:started, :at_most)"""
            ),
            {"started": list(started), "at_most": at_most},
        )
        return [
            SyncRequested(
                SyncJobId(row.sync_job_id),
                UserId(row.user_id),
                DataSourceId(row.data_source_id),
                SourceType(row.source_type),
                row.priority,
                row.not_before,
            )
            for row in rows
        ]


def not_wanted(database: Database, job_ids: Collection[SyncJobId]) -> set[SyncJobId]:
    """Return those jobs, of all users, that nobody needs to start or go on with: ended, paused by request, or gone."""
    if not job_ids:
        return set()
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT sync_job_id FROM app.unwanted_sync_jobs(:job_ids)"), {"job_ids": list(job_ids)}
        )
        return {SyncJobId(row.sync_job_id) for row in rows}


def running(database: Database, *, beating_s: float) -> list[RunningJob]:
    """Return all users' jobs that a Dagster run has started; those beat that have done so in the last `beating_s`."""
    with database.across_users() as connection:
        rows = connection.execute(
            text(
                """
                SELECT sync_job_id, user_id, data_source_id, dagster_run_id, is_beating
                  FROM app.running_sync_jobs(:beating_s)"""
            ),
            {"beating_s": beating_s},
        )
        return [
            RunningJob(
                SyncJobId(row.sync_job_id),
                UserId(row.user_id),
                DataSourceId(row.data_source_id),
                row.dagster_run_id,
                row.is_beating,
            )
            for row in rows
        ]


def end_unstarted(connection: Connection, *, user_id: UserId, job_id: UUID, status: str, message: str) -> bool:
    """End a job that nobody could start as `failed` or `cancelled`; False when it is not waiting any more."""
    ended = connection.execute(
        text(
            """
            UPDATE app.sync_jobs SET status = :status, error_message = :message, completed_at = now(), not_before = NULL
             WHERE user_id = :user_id AND id = :id
               AND (status = 'pending' OR (status = 'paused' AND not_before IS NOT NULL))"""
        ),
        {"user_id": user_id, "id": job_id, "status": status, "message": message},
    )
    return ended.rowcount == 1
