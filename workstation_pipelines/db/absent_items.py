"""Items that a complete listing did not show: which they are, and which of them are held back until somebody has decided."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.model import SyncJobId, UserId


def hold_back(connection: Connection, lease: Lease, *, job_id: SyncJobId, external_ids: Sequence[str]) -> None:
    """Remember that a job asks whether these items, which are gone from the source, may be deleted."""
    connection.execute(
        text(
            """UPDATE app.sync_items SET absent_job_id = :job_id
                WHERE user_id = :user_id AND data_source_id = :source AND external_id = ANY(:ids)"""
        ),
        {
            "user_id": lease.user_id,
            "source": lease.data_source_id,
            "job_id": job_id,
            "ids": list(external_ids),
        },
    )


def kept_though_absent(connection: Connection, lease: Lease) -> set[str]:
    """Return the items that were gone when someone refused to have them deleted."""
    rows = connection.execute(
        text(
            """
            SELECT i.external_id FROM app.sync_items i
              JOIN app.sync_jobs j ON j.user_id = i.user_id AND j.id = i.absent_job_id
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.absent_job_id IS NOT NULL
               AND j.deletes_refused"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id},
    )
    return {row.external_id for row in rows}


def forget_absence(connection: Connection, lease: Lease, *, still_absent: Sequence[str]) -> None:
    """Forget what was asked, and answered, of items that a complete listing has shown again."""
    connection.execute(
        text(
            """UPDATE app.sync_items SET absent_job_id = NULL
                WHERE user_id = :user_id AND data_source_id = :source AND absent_job_id IS NOT NULL
                  AND NOT external_id = ANY(:ids)"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "ids": list(still_absent)},
    )


def held_back(connection: Connection, *, user_id: UserId, job_id: UUID, limit: int) -> Sequence[str]:
    """Return paths of items that a job asks, or asked, about, in order; items that have come back are none of them."""
    return list(
        connection.execute(
            text(
                """SELECT external_path FROM app.sync_items WHERE user_id = :user_id AND absent_job_id = :job_id
                    ORDER BY external_path LIMIT :limit"""
            ),
            {"user_id": user_id, "job_id": job_id, "limit": limit},
        ).scalars()
    )


def unseen(connection: Connection, lease: Lease, *, sweep_id: UUID) -> list[str]:
    """Return the items that a complete sweep did not show, tombstones and items inside others left out."""
    rows = connection.execute(
        text(
            """
            SELECT external_id FROM app.sync_items
             WHERE user_id = :user_id AND data_source_id = :source AND sync_status <> 'deleted'
               AND parent_external_id IS NULL AND last_seen_sweep IS DISTINCT FROM :sweep
             ORDER BY external_id"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "sweep": sweep_id},
    )
    return [row[0] for row in rows]


def count_live(connection: Connection, lease: Lease) -> int:
    """Return how many items a listing would be expected to show."""
    count: int = connection.execute(
        text(
            """
            SELECT count(*) FROM app.sync_items
             WHERE user_id = :user_id AND data_source_id = :source AND sync_status <> 'deleted'
               AND parent_external_id IS NULL"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id},
    ).scalar_one()
    return count
