"""Jobs that say they run while their run is dead, or asleep: finding them, and ending them in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from workstation_pipelines.db.data_sources import lock_key
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import DataSourceId, JobStatus, SyncJobId, UserId


@dataclass(frozen=True, slots=True)
class SilentJob:
    """A running job from which nothing has been heard, or that does not do as it was told."""

    job_id: SyncJobId
    user_id: UserId
    data_source_id: DataSourceId


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that was ended in the place of its run, and the Dagster run that did its work, if one did."""

    job_id: SyncJobId
    status: JobStatus
    dagster_run_id: str | None


def silent(database: Database, *, silent_s: float, unheeded_s: float, at_most: int) -> list[SilentJob]:
    """Return running jobs of all users, the longest silent first, by the database's clock.

    Silent for more than `silent_s`, or asked to stop more than `unheeded_s` ago.
    """
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT sync_job_id, user_id, data_source_id FROM app.silent_sync_jobs(:silent_s, :unheeded_s, :n)"),
            {"silent_s": silent_s, "unheeded_s": unheeded_s, "n": at_most},
        )
        return [SilentJob(SyncJobId(row[0]), UserId(row[1]), DataSourceId(row[2])) for row in rows]


def running_on(connection: Connection, *, user_id: UserId, job_id: UUID) -> DataSourceId | None:
    """Return the data source of a job if it says that it runs."""
    found = connection.execute(
        text("SELECT data_source_id FROM app.sync_jobs WHERE user_id = :user_id AND id = :id AND status = 'running'"),
        {"user_id": user_id, "id": job_id},
    ).scalar_one_or_none()
    return DataSourceId(found) if found else None


@contextmanager
def held_if_free(database: Database, data_source_id: UUID) -> Iterator[bool]:
    """Hold the lock of a data source if nobody does, and tell whether: who held it is dead, and no run begins meanwhile."""
    key = [lock_key(data_source_id)]
    with database.direct_connection() as connection:
        found = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key).fetchone()
        is_held = bool(found and found[0])
        try:
            yield is_held
        finally:
            if is_held:
                connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", key)


def fence_off(connection: Connection, *, user_id: UserId, data_source_id: UUID, lock_wait_ms: int) -> None:
    """Have everything refused that the run would still write, and let its source no longer say that it is syncing.

    Raises SourceUnavailableError when the run sleeps in the middle of a transaction, which the server ends after a while.
    """
    connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{lock_wait_ms}ms"})
    connection.execute(
        text(
            """
            UPDATE app.data_sources
               SET fence = fence + 1,
                   connection_status = CASE WHEN connection_status <> 'syncing' THEN connection_status
                                            WHEN needs_reauth THEN 'error' ELSE 'connected' END
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": data_source_id},
    )


def end(
    connection: Connection, *, user_id: UserId, job_id: UUID, silent_s: float | None = None, unheeded_s: float = 0.0
) -> EndedJob:
    """End a running job as it was asked to, or as failed; with `silent_s` only if it is still as silent() finds it.

    Raises NotFoundError when there is no such job any more: nothing of the transaction may stay then.
    """
    row = connection.execute(
        text(
            """
            UPDATE app.sync_jobs
               SET status = CASE WHEN cancel_requested THEN 'cancelled' WHEN pause_requested THEN 'paused' ELSE 'failed' END,
                   error_message = CASE WHEN cancel_requested THEN 'cancelled on request; what is committed stays'
                       WHEN pause_requested THEN 'paused on request: `workstation jobs resume ' || id || '` lets it go on'
                       ELSE 'the process running it ended early; the next sync goes on from there' END,
                   completed_at = now(), stop_requested_at = NULL
             WHERE user_id = :user_id AND id = :id AND status = 'running'
               AND (CAST(:silent_s AS double precision) IS NULL
                    OR coalesce(heartbeat_at, created_at) < now() - make_interval(secs => :silent_s)
                    OR stop_requested_at < now() - make_interval(secs => :unheeded_s))
            RETURNING id, status, dagster_run_id"""
        ),
        {"user_id": user_id, "id": job_id, "silent_s": silent_s, "unheeded_s": unheeded_s},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"sync job {job_id} has ended, or is alive")
    return EndedJob(SyncJobId(row.id), JobStatus(row.status), row.dagster_run_id)


def disconnect_holder(connection: Connection, *, data_source_id: UUID) -> None:
    """Take the lock from a run that does not let go, where the server lets us: else it keeps it until it dies.

    Only for one that is fenced off, for it may yet wake up.
    """
    with suppress(ProgrammingError), connection.begin_nested():
        connection.execute(
            text(
                """
                SELECT pg_terminate_backend(l.pid)
                  FROM pg_locks l, LATERAL (SELECT hashtextextended(:key, 0) AS hash) k
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND (l.classid::bigint << 32 | l.objid::bigint) = k.hash"""
            ),
            {"key": lock_key(data_source_id)},
        )
