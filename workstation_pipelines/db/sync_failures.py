"""The failure ledger: one open entry for each item that could not be taken, written before any cursor passes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.model import ItemFailure, NewId, SyncJobId, UserId

TRIES = 5
"""After so many failed tries an item waits for a change at its source, or for `sync --retry-failed`."""

# Backoff in minutes by attempts so far: 1, 5, 25, 125 minutes. The database's clock decides, so that workers agree.
_RECORD = text(
    """
    INSERT INTO app.sync_failures AS f (id, user_id, data_source_id, sync_job_id, external_id, external_path, stage,
                                        error_class, reason, message, attempts, next_try_at)
    VALUES (:id, :user_id, :source, :job_id, :external_id, :external_path, :stage, :error_class, :reason, :message, 1,
            CASE WHEN :permanent THEN NULL ELSE now() + interval '1 minute' END)
    ON CONFLICT (user_id, data_source_id, external_id) WHERE resolved_at IS NULL DO UPDATE
       SET sync_job_id = excluded.sync_job_id, external_path = excluded.external_path, stage = excluded.stage,
           error_class = excluded.error_class, reason = excluded.reason, message = excluded.message,
           attempts = f.attempts + 1,
           next_try_at = CASE WHEN :permanent OR f.attempts + 1 >= :tries THEN NULL
                              ELSE now() + interval '1 minute' * power(5, f.attempts) END"""
)


def record(
    connection: Connection, lease: Lease, *, job_id: SyncJobId | None, failures: Sequence[ItemFailure], new_id: NewId
) -> None:
    """Open or renew one entry an item. Permanent failures get no next try."""
    if not failures:
        return
    connection.execute(
        _RECORD,
        [
            {
                "id": new_id(),
                "user_id": lease.user_id,
                "source": lease.data_source_id,
                "job_id": job_id,
                "external_id": failure.external_id,
                "external_path": failure.external_path,
                "stage": failure.stage,
                "error_class": failure.error_class,
                "reason": failure.reason,
                "message": failure.message[:2000],
                "permanent": failure.permanent,
                "tries": TRIES,
            }
            for failure in failures
        ],
    )


def resolve(connection: Connection, lease: Lease, *, external_ids: Sequence[str]) -> None:
    """Close the entries of items that were taken, or are gone."""
    if external_ids:
        connection.execute(
            text(
                """
                UPDATE app.sync_failures SET resolved_at = now(), next_try_at = NULL
                 WHERE user_id = :user_id AND data_source_id = :source AND resolved_at IS NULL
                   AND external_id = ANY(:ids)"""
            ),
            {"user_id": lease.user_id, "source": lease.data_source_id, "ids": list(external_ids)},
        )


def resolve_unlisted(connection: Connection, lease: Lease, *, job_id: SyncJobId) -> None:
    """Close entries of things that could not be listed once and that this job's complete listing did not trip over."""
    connection.execute(
        text(
            """
            UPDATE app.sync_failures SET resolved_at = now(), next_try_at = NULL
             WHERE user_id = :user_id AND data_source_id = :source AND resolved_at IS NULL AND stage = 'list'
               AND sync_job_id IS DISTINCT FROM :job_id"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "job_id": job_id},
    )


def make_due(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> int:
    """Let every open failure of a source be tried again now; return how many."""
    return connection.execute(
        text(
            """
            UPDATE app.sync_failures SET next_try_at = now(), attempts = 0
             WHERE user_id = :user_id AND data_source_id = :source AND resolved_at IS NULL"""
        ),
        {"user_id": user_id, "source": data_source_id},
    ).rowcount


def open_failures(
    connection: Connection, *, user_id: UserId, data_source_id: UUID | None = None, limit: int = 100
) -> Sequence[Row[Any]]:
    return connection.execute(
        text(
            """
            SELECT f.data_source_id, f.sync_job_id, f.external_id, f.external_path, f.stage, f.error_class, f.reason,
                   f.message, f.attempts, f.next_try_at, f.updated_at
              FROM app.sync_failures f
             WHERE f.user_id = :user_id AND f.resolved_at IS NULL
               AND (CAST(:source AS uuid) IS NULL OR f.data_source_id = :source)
             ORDER BY f.updated_at DESC, f.external_path LIMIT :limit"""
        ),
        {"user_id": user_id, "source": data_source_id, "limit": limit},
    ).all()


def of_job(connection: Connection, *, user_id: UserId, job_id: UUID) -> Sequence[Row[Any]]:
    return connection.execute(
        text(
            """
            SELECT external_id, external_path, stage, error_class, reason, message, attempts, next_try_at, resolved_at
              FROM app.sync_failures WHERE user_id = :user_id AND sync_job_id = :job_id ORDER BY external_path"""
        ),
        {"user_id": user_id, "job_id": job_id},
    ).all()
