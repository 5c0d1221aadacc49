"""Containers: the folders, channels and databases of a data source, as its connector wants them remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.model import Container, UserId


def all_of(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> list[Container]:
    """Return every container of a data source, in no order."""
    rows = connection.execute(
        text(
            """SELECT external_id, name, parent_external_id, details FROM app.sync_containers
                WHERE user_id = :user_id AND data_source_id = :source"""
        ),
        {"user_id": user_id, "source": data_source_id},
    )
    return [Container(row.external_id, row.name, row.parent_external_id, row.details) for row in rows]


def write(connection: Connection, lease: Lease, *, sweep_id: UUID | None, containers: Sequence[Container]) -> None:
    """Remember and forget containers, the last one of an id counts. Does not commit."""
    latest = {container.external_id: container for container in containers}
    kept = [container for container in latest.values() if not container.is_deleted]
    gone = [container.external_id for container in latest.values() if container.is_deleted]
    if kept:
        connection.execute(
            text(
                """
                INSERT INTO app.sync_containers (user_id, data_source_id, last_seen_sweep, external_id, name,
                                                 parent_external_id, details)
                SELECT :user_id, :source, CAST(:sweep AS uuid), s.id, s.name, s.parent, CAST(s.details AS jsonb)
                  FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:parents AS text[]),
                              CAST(:details AS text[])) AS s (id, name, parent, details)
                ON CONFLICT ON CONSTRAINT sync_containers_pkey DO UPDATE
                   SET last_seen_sweep = excluded.last_seen_sweep, name = excluded.name,
                       parent_external_id = excluded.parent_external_id, details = excluded.details"""
            ),
            {
                "user_id": lease.user_id,
                "source": lease.data_source_id,
                "sweep": sweep_id,
                "ids": [container.external_id for container in kept],
                "names": [container.name for container in kept],
                "parents": [container.parent_external_id for container in kept],
                "details": [json.dumps(dict(container.details)) for container in kept],
            },
        )
    if gone:
        connection.execute(
            text(
                """DELETE FROM app.sync_containers
                    WHERE user_id = :user_id AND data_source_id = :source AND external_id = ANY(:ids)"""
            ),
            {"user_id": lease.user_id, "source": lease.data_source_id, "ids": gone},
        )


def forget_unseen(connection: Connection, lease: Lease, *, sweep_id: UUID) -> None:
    """Forget what a complete sweep did not show. Does not commit."""
    connection.execute(
        text(
            """DELETE FROM app.sync_containers
                WHERE user_id = :user_id AND data_source_id = :source AND last_seen_sweep IS DISTINCT FROM :sweep"""
        ),
        {"user_id": lease.user_id, "source": lease.data_source_id, "sweep": sweep_id},
    )
