"""Uploads: bytes that wait to be processed, and go when their outcome is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.errors import InvalidRequestError, ItemTooLargeError
from workstation_pipelines.model import UserId

MOST_BYTES = 50 * 1024 * 1024
MOST_WAITING_BYTES = 1024 * 1024 * 1024
"""What one user may leave lying at a time."""

FORGOTTEN_AFTER_H = 24


@dataclass(frozen=True, slots=True)
class Upload:
    """`content_hash` is `sha256:` and the digest of the bytes."""

    id: UUID
    name: str
    mime_type: str
    content_hash: str
    body: bytes = field(repr=False)


def add(connection: Connection, *, user_id: UserId, upload_id: UUID, name: str, mime_type: str, body: bytes) -> UUID:
    """Keep bytes until they are processed; `name` decides with them what they are. What nobody came for in a day goes.

    Raises ItemTooLargeError, and InvalidRequestError for a name that is empty or too long.
    """
    if not 0 < len(name) <= 500:
        raise InvalidRequestError("an upload needs a name of 1 to 500 characters")
    if len(body) > MOST_BYTES:
        raise ItemTooLargeError(
            f"{name} has {len(body):,} bytes and an upload at most {MOST_BYTES:,}: split it", reason="too_large"
        )
    connection.execute(
        text(
            """
            DELETE FROM app.uploads
             WHERE user_id = :user_id AND created_at < now() - make_interval(hours => :forgotten_h)"""
        ),
        {"user_id": user_id, "forgotten_h": FORGOTTEN_AFTER_H},
    )
    waiting: int = connection.execute(
        text("SELECT coalesce(sum(length(body)), 0)::bigint FROM app.uploads WHERE user_id = :user_id"),
        {"user_id": user_id},
    ).scalar_one()
    if waiting + len(body) > MOST_WAITING_BYTES:
        raise ItemTooLargeError(
            f"{waiting:,} bytes of yours wait to be processed already: wait for that, then upload {name}",
            reason="too_large",
        )
    connection.execute(
        text(
            """
            INSERT INTO app.uploads (id, user_id, name, mime_type, content_hash, body)
            VALUES (:id, :user_id, :name, :mime_type, :content_hash, :body)"""
        ),
        {
            "id": upload_id,
            "user_id": user_id,
            "name": name,
            "mime_type": mime_type,
            "content_hash": f"sha256:{hashlib.sha256(body).hexdigest()}",
            "body": body,
        },
    )
    return upload_id


def get(connection: Connection, *, user_id: UserId, upload_id: UUID) -> Upload | None:
    """Return an upload, None when it was processed, forgotten or never yours."""
    row = connection.execute(
        text("SELECT id, name, mime_type, content_hash, body FROM app.uploads WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": upload_id},
    ).one_or_none()
    return Upload(row.id, row.name, row.mime_type, row.content_hash, bytes(row.body)) if row is not None else None


def remove(connection: Connection, *, user_id: UserId, upload_ids: Sequence[UUID]) -> None:
    """Idempotent."""
    connection.execute(
        text("DELETE FROM app.uploads WHERE user_id = :user_id AND id = ANY(:ids)"),
        {"user_id": user_id, "ids": list(upload_ids)},
    )


def remove_of_job(connection: Connection, *, user_id: UserId, job_id: UUID) -> None:
    """Remove what a job that is over will not come for any more. Idempotent."""
    connection.execute(
        text(
            """
            DELETE FROM app.uploads u USING app.processing_outcomes o
             WHERE u.user_id = :user_id AND o.user_id = :user_id AND o.processing_job_id = :job_id
               AND o.status = 'pending' AND o.subject = 'upload:' || u.id"""
        ),
        {"user_id": user_id, "job_id": job_id},
    )
