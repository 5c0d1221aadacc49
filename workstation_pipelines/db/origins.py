"""Documents of no data source, by their origin.

An origin is `file:`, `url:`, `upload:` or `saved:` and what names the document, or what it was found inside of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.model import DocumentId, UserId

MOST_ORIGIN_BYTES = 2000
"""What an index entry leaves beside the user's id."""


@dataclass(frozen=True, slots=True)
class StoredOrigin:
    """What is stored of an origin: enough to tell whether its text is new, or what describes it."""

    document_id: DocumentId
    origin: str
    content_hash: str
    index_config_id: UUID | None
    live_generation: int
    is_deleted: bool
    rules_hash: str = ""
    is_original_forgotten: bool = False
    original_md5: str | None = None
    title: str = ""
    mime_type: str = ""
    external_url: str | None = None


def origin_of(kind: str, name: str) -> str:
    """Return the origin that `name` makes, or its digest if it is too long to be looked up."""
    plain = f"{kind}:{name}"
    if len(plain.encode()) <= MOST_ORIGIN_BYTES:
        return plain
    return f"{kind}:b2:{blake2b(name.encode(), digest_size=32).hexdigest()}"


def inside_of(document_id: UUID, key: str) -> str:
    """Return the origin of what was found under `key` in a document."""
    return origin_of("inside", f"{document_id}/{key}")


def lock(connection: Connection, *, user_id: UserId, origin: str) -> None:
    """Let nobody else store a document of this origin until the transaction ends: of two new ones the later would fail."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"origin {user_id} {origin}"}
    )


def find(connection: Connection, *, user_id: UserId, origin: str) -> list[StoredOrigin]:
    """Return the document of an origin, and behind it what was found inside; nothing when it is new."""
    rows = connection.execute(
        text(
            """
            SELECT d.id, d.origin, d.content_hash, d.index_config_id, d.live_generation, d.deleted_at, d.rules_hash,
                   d.is_original_forgotten, md5(d.extracted_text) AS original_md5, d.title, d.mime_type, d.external_url
              FROM app.documents d
             WHERE d.user_id = :user_id AND d.data_source_id IS NULL AND d.origin = :origin
             UNION ALL
            SELECT c.id, c.origin, c.content_hash, c.index_config_id, c.live_generation, c.deleted_at, c.rules_hash,
                   c.is_original_forgotten, md5(c.extracted_text) AS original_md5, c.title, c.mime_type, c.external_url
              FROM app.documents d JOIN app.documents c ON c.user_id = d.user_id AND c.parent_document_id = d.id
             WHERE d.user_id = :user_id AND d.data_source_id IS NULL AND d.origin = :origin AND c.origin IS NOT NULL"""
        ),
        {"user_id": user_id, "origin": origin},
    ).all()
    return [_from_row(row) for row in rows]


def inside(connection: Connection, *, user_id: UserId, document_id: UUID) -> list[DocumentId]:
    """Return the live documents that were found inside one of no data source."""
    rows = connection.execute(
        text(
            """
            SELECT d.id FROM app.documents d
             WHERE d.user_id = :user_id AND d.parent_document_id = :id AND d.deleted_at IS NULL ORDER BY d.id"""
        ),
        {"user_id": user_id, "id": document_id},
    )
    return [DocumentId(row.id) for row in rows]


def take_out(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Let those documents stand by themselves that were found inside a deleted one: else they would be erased with it."""
    connection.execute(
        text(
            """
            UPDATE app.documents d SET parent_document_id = NULL, origin = NULL
              FROM app.documents parent
             WHERE d.user_id = :user_id AND d.id = ANY(:ids) AND parent.user_id = :user_id
               AND parent.id = d.parent_document_id AND parent.deleted_at IS NOT NULL"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )


def assign(
    connection: Connection, *, user_id: UserId, document_id: UUID, origin: str, parent_document_id: UUID | None
) -> None:
    """Say where a document is from, in the transaction that stored it. Idempotent."""
    connection.execute(
        text(
            """
            UPDATE app.documents SET origin = :origin, parent_document_id = :parent
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": document_id, "origin": origin, "parent": parent_document_id},
    )


def _from_row(row: Row[Any]) -> StoredOrigin:
    return StoredOrigin(
        DocumentId(row.id),
        row.origin,
        row.content_hash,
        row.index_config_id,
        row.live_generation,
        row.deleted_at is not None,
        row.rules_hash,
        row.is_original_forgotten,
        row.original_md5,
        row.title,
        row.mime_type,
        row.external_url,
    )
