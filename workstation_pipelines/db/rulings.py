"""Under which rules documents and items were made, what documents were made from, and which are to be made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db import index_settings
from workstation_pipelines.db.bulk import BulkStatement, encoded
from workstation_pipelines.db.staging import stage
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import DocumentId, Heading, UserId

DESCRIBED = "?"
"""Stands for the rules of what has another path or title since they were applied: the hash of no rules at all."""

FILTERED = "filtered"
"""Reason of an item that a rule leaves out."""


@dataclass(frozen=True, slots=True)
class Original:
    """What was extracted, before any rule: None for what is as it is in the document."""

    title: str | None
    language: str | None
    text: str | None = None
    headings: Sequence[Heading] | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules of `rules_hash` made of a document, beside its text and title.

    `original` is None when there were no rules, and when it `is_forgotten`: then only its source can bring it back.
    """

    rules_hash: str
    language: str | None
    headings: Sequence[Heading]
    original: Original | None = None
    is_forgotten: bool = False
    project: str | None = None
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ItemRuling:
    """What becomes of an item that still is in the state (`was_status`, `was_reason`) in which it was read."""

    document_id: DocumentId
    external_id: str
    was_status: str
    was_reason: str
    status: str
    reason: str
    reason_detail: str
    rules_hash: str


_COLUMNS = {
    "id": "uuid",
    "rules_hash": "text",
    "language": "text",
    "headings": "jsonb",
    "extracted": "jsonb",
    "extracted_text": "text",
    "forgotten": "int4",
}

_STORE = BulkStatement(
    """
    UPDATE app.documents d
       SET rules_hash = s.rules_hash, language = s.language, headings = s.headings, extracted = s.extracted,
           extracted_text = s.extracted_text, is_original_forgotten = s.forgotten = 1
      FROM {rows} WHERE d.user_id = $1 AND d.id = s.id""",
    _COLUMNS,
    constants=1,
)


def store(connection: Connection, *, user_id: UserId, rulings: Iterable[tuple[DocumentId, Ruling]]) -> None:
    """Note beside documents, which the caller has locked or inserted, how they were made."""
    rows = [
        (
            document_id,
            ruling.rules_hash,
            ruling.language,
            _packed(ruling.headings),
            json.dumps(_extracted(ruling.original)) if ruling.original is not None else None,
            ruling.original.text if ruling.original is not None else None,
            int(ruling.is_forgotten),
        )
        for document_id, ruling in rulings
    ]
    if rows:
        _STORE.execute(connection, encoded(_COLUMNS, rows), user_id)


def _extracted(original: Original) -> dict[str, Any]:
    kept: dict[str, Any] = {"title": original.title, "language": original.language}
    if original.headings is not None:
        kept["headings"] = [[each.offset, each.level, each.text] for each in original.headings]
    return kept


def _packed(headings: Sequence[Heading]) -> str:
    return json.dumps([[each.offset, each.level, each.text] for each in headings])


def outdated(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, rules_hash: str, after: UUID | None, limit: int
) -> Sequence[Row[Any]]:
    """Return documents made under other rules than those of `rules_hash`, tombstones too, with their items, by id.

    Left out are those whose item these rules have failed on already.
    """
    # Whoever has no rules and never had any is answered by a partial index that is empty.
    narrowed = "AND d.rules_hash <> ''" if not rules_hash else ""
    return connection.execute(
        text(
            f"""
            SELECT d.id, d.title, d.text, d.headings, d.language, d.mime_type, d.source_modified_at, d.content_hash,
                   d.index_config_id, d.live_generation, d.rules_hash, d.extracted_text, d.extracted, d.deleted_at,
                   d.is_original_forgotten, i.external_id, i.external_path, i.external_hash, i.item_type,
                   i.title AS item_title, coalesce(i.listed_mime_type, i.mime_type) AS listed_mime_type, i.size_bytes,
                   i.external_modified_at, i.external_created_at, i.external_url, i.parent_external_id, i.sync_status,
                   i.reason, i.rules_hash AS item_rules_hash, EXISTS (
                       SELECT FROM app.sync_items c
                        WHERE c.user_id = i.user_id AND c.data_source_id = i.data_source_id
                          AND c.parent_external_id = i.external_id) AS has_inside,
                   {index_settings.WANTED} AS wanted_index_config_id
              FROM app.documents d
              JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id
              {index_settings.JOINS}
             WHERE d.user_id = :user_id AND d.data_source_id = :source {narrowed} AND d.rules_hash <> :hash
               AND NOT (i.sync_status = 'failed' AND i.rules_hash = :hash)
               AND (CAST(:after AS uuid) IS NULL OR d.id > :after)
             ORDER BY d.id LIMIT :limit"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "source": data_source_id, "hash": rules_hash, "after": after, "limit": limit},
    ).all()


def outdated_processed(
    connection: Connection, *, user_id: UserId, rules_hash: str, after: UUID | None, limit: int
) -> Sequence[Row[Any]]:
    """Return processed documents made under other rules than those of `rules_hash`, tombstones too, by id.

    `item_title` is the title before any rule. What was found inside comes with what is known of its parent.
    """
    narrowed = "AND d.rules_hash <> ''" if not rules_hash else ""
    return connection.execute(
        text(
            f"""
            SELECT d.id, d.title, d.text, d.headings, d.language, d.mime_type, d.source_modified_at, d.content_hash,
                   d.index_config_id, d.live_generation, d.rules_hash, d.extracted_text, d.extracted, d.deleted_at,
                   d.deleted_reason, d.is_original_forgotten, d.origin, d.origin AS external_id, d.external_url,
                   d.size_bytes, coalesce(d.extracted ->> 'title', d.title) AS item_title, d.parent_document_id,
                   p.origin AS parent_origin, coalesce(p.extracted ->> 'title', p.title) AS parent_title,
                   coalesce(p.deleted_reason = 'filtered', false) AS is_parent_filtered,
                   {index_settings.WANTED} AS wanted_index_config_id
              FROM app.documents d
              LEFT JOIN app.documents p ON p.user_id = d.user_id AND p.id = d.parent_document_id
              {index_settings.JOINS}
             WHERE d.user_id = :user_id AND d.data_source_id IS NULL AND d.origin IS NOT NULL {narrowed}
               AND d.rules_hash <> :hash AND (CAST(:after AS uuid) IS NULL OR d.id > :after)
             ORDER BY d.id LIMIT :limit"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "hash": rules_hash, "after": after, "limit": limit},
    ).all()


def inside_processed(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> list[UUID]:
    """Return the live documents that were found inside processed ones; they are to be looked at by the next rules too."""
    rows = connection.execute(
        text(
            """
            UPDATE app.documents SET rules_hash = '?'
             WHERE user_id = :user_id AND parent_document_id = ANY(:ids) AND deleted_at IS NULL
            RETURNING id"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )
    return [row[0] for row in rows]


def document(connection: Connection, *, user_id: UserId, document_id: UUID) -> Row[Any]:
    """Return a document with its item and its source. Raises InvalidRequestError for one that has none."""
    row = connection.execute(
        text(
            """
            SELECT d.id, d.title, d.text, d.headings, d.language, d.external_url AS document_url, i.external_id,
                   i.external_path, i.external_hash, i.item_type, i.title AS item_title,
                   coalesce(i.listed_mime_type, i.mime_type) AS listed_mime_type, i.size_bytes, i.external_modified_at,
                   i.external_created_at, i.external_url, i.parent_external_id, s.name AS source_name, s.source_type
              FROM app.documents d
              JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id
              JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
             WHERE d.user_id = :user_id AND d.id = :id"""
        ),
        {"user_id": user_id, "id": document_id},
    ).one_or_none()
    if row is None:
        raise InvalidRequestError("this document came from no source, and rules are for what sources hold")
    return row


def still(connection: Connection, *, user_id: UserId, rows: Sequence[Row[Any]]) -> set[UUID]:
    """Lock documents and return those that nobody has changed since outdated() returned them."""
    if not rows:
        return set()
    states = {row.id: (row.live_generation, row.rules_hash, row.deleted_at) for row in rows}
    found = connection.execute(
        text(
            """
            SELECT id, live_generation, rules_hash, deleted_at FROM app.documents
             WHERE user_id = :user_id AND id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"""
        ),
        {"user_id": user_id, "ids": list(states)},
    )
    return {row.id for row in found if states[row.id] == (row.live_generation, row.rules_hash, row.deleted_at)}


def settle_items(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, rulings: Sequence[ItemRuling]
) -> set[str]:
    """Write what becomes of items and return those that still were as they were read; the others are left alone."""
    if not rulings:
        return set()
    columns = ("external_id", "was_status", "was_reason", "status", "reason", "reason_detail", "rules_hash")
    rows = ([getattr(ruling, name) for name in columns] for ruling in rulings)
    stage(connection, "stage_rulings", dict.fromkeys(columns, "text"), rows)
    settled = connection.execute(
        text(
            """
            UPDATE app.sync_items i
               SET sync_status = s.status, reason = s.reason, reason_detail = s.reason_detail, rules_hash = s.rules_hash
              FROM stage_rulings s
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = s.external_id
               AND i.sync_status = s.was_status AND i.reason = s.was_reason
            RETURNING i.external_id"""
        ),
        {"user_id": user_id, "source": data_source_id},
    )
    return {row[0] for row in settled}


def delete_inside(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, external_ids: Sequence[str]
) -> list[UUID]:
    """Turn what was found inside items into tombstones and return the documents of it."""
    rows = connection.execute(
        text(
            """
            WITH RECURSIVE inside AS (
                SELECT i.external_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.parent_external_id = ANY(:ids)
                 UNION
                SELECT i.external_id FROM app.sync_items i JOIN inside ON i.parent_external_id = inside.external_id
                 WHERE i.user_id = :user_id AND i.data_source_id = :source)
            UPDATE app.sync_items i SET sync_status = 'deleted'
              FROM inside
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = inside.external_id
               AND i.sync_status <> 'deleted'
            RETURNING i.local_document_id"""
        ),
        {"user_id": user_id, "source": data_source_id, "ids": list(external_ids)},
    )
    return [row[0] for row in rows if row[0] is not None]


def mark_for_refetch(connection: Connection, *, user_id: UserId, data_source_id: UUID, rules_hash: str) -> int:
    """Let the next sync fetch what other rules left out or failed on, and what nothing is kept of; return how many items.

    What came inside something comes with it again, so the outermost item is marked.
    """
    return connection.execute(
        text(
            """
            WITH RECURSIVE wanted AS (
                SELECT i.external_id, i.parent_external_id FROM app.sync_items i
                 WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.rules_hash <> ''
                   AND i.rules_hash <> :hash AND i.sync_status IN ('skipped', 'failed')
                   AND NOT EXISTS (
                       SELECT FROM app.documents d
                        WHERE d.user_id = i.user_id AND d.id = i.local_document_id AND NOT d.is_original_forgotten
                          AND i.reason = 'filtered' AND NOT EXISTS (
                              SELECT FROM app.sync_items c
                               WHERE c.user_id = i.user_id AND c.data_source_id = i.data_source_id
                                 AND c.parent_external_id = i.external_id))
                 UNION
                SELECT i.external_id, i.parent_external_id
                  FROM app.documents d
                  JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id
                 WHERE d.user_id = :user_id AND d.data_source_id = :source AND d.rules_hash <> ''
                   AND d.rules_hash <> :hash AND d.is_original_forgotten AND d.deleted_at IS NULL
                   AND i.sync_status = 'synced'
                 UNION
                SELECT p.external_id, p.parent_external_id
                  FROM app.sync_items p JOIN wanted ON p.external_id = wanted.parent_external_id
                 WHERE p.user_id = :user_id AND p.data_source_id = :source)
            UPDATE app.sync_items i SET is_refetch_due = true
              FROM wanted
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = wanted.external_id
               AND wanted.parent_external_id IS NULL AND NOT i.is_refetch_due"""
        ),
        {"user_id": user_id, "source": data_source_id, "hash": rules_hash},
    ).rowcount


def mark_described(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, external_ids: Sequence[str]
) -> None:
    """Let the rules be applied anew to items that have another path, title or URL now."""
    parameters = {"user_id": user_id, "source": data_source_id, "ids": list(external_ids)}
    connection.execute(
        text(
            """
            UPDATE app.documents d SET rules_hash = '?'
              FROM app.sync_items i
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = ANY(:ids)
               AND d.user_id = :user_id AND d.id = i.local_document_id"""
        ),
        parameters,
    )
    connection.execute(
        text(
            """
            UPDATE app.sync_items SET rules_hash = '?'
             WHERE user_id = :user_id AND data_source_id = :source AND external_id = ANY(:ids) AND rules_hash <> ''"""
        ),
        parameters,
    )


def forget_originals(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Keep nothing of what documents were made from: their source has something newer."""
    if document_ids:
        connection.execute(
            text(
                """
                UPDATE app.documents SET is_original_forgotten = true, extracted = NULL, extracted_text = NULL
                 WHERE user_id = :user_id AND id = ANY(:ids)"""
            ),
            {"user_id": user_id, "ids": list(document_ids)},
        )


@dataclass(frozen=True, slots=True)
class Redacted:
    """A hidden document from which secrets were taken; nothing that holds them is kept."""

    document_id: DocumentId
    title: str
    title_tsvector: bytes
    text: str
    headings: Sequence[Heading]
    content_hash: str


def keep_hidden(
    connection: Connection,
    *,
    user_id: UserId,
    rules_hash: str,
    unchanged: Sequence[UUID],
    redacted: Sequence[Redacted],
) -> None:
    """Note that hidden documents, which the caller has locked, hold no secret that the rules of `rules_hash` know."""
    connection.execute(
        text("UPDATE app.documents SET rules_hash = :hash WHERE user_id = :user_id AND id = ANY(:ids)"),
        {"user_id": user_id, "hash": rules_hash, "ids": list(unchanged)},
    )
    if not redacted:
        return
    columns = {
        "id": "uuid",
        "title": "text",
        "title_tsv": "tsvector",
        "text": "text",
        "headings": "jsonb",
        "content_hash": "text",
    }
    rows = (
        (each.document_id, each.title, each.title_tsvector, each.text, _packed(each.headings), each.content_hash)
        for each in redacted
    )
    stage(connection, "stage_redacted", columns, rows)
    connection.execute(
        text(
            """
            UPDATE app.documents d
               SET title = s.title, title_tsv = s.title_tsv, text = s.text, headings = s.headings,
                   content_hash = s.content_hash, rules_hash = :hash, is_original_forgotten = true, extracted = NULL,
                   extracted_text = NULL
              FROM stage_redacted s WHERE d.user_id = :user_id AND d.id = s.id"""
        ),
        {"user_id": user_id, "hash": rules_hash},
    )


def names_are_clean(connection: Connection, *, user_id: UserId, data_source_id: UUID, rules_hash: str) -> bool:
    """Return whether titles and paths of a source's items were brought under these rules already."""
    return bool(
        connection.execute(
            text(
                """
                SELECT names_rules_hash = :hash FROM app.data_sources
                 WHERE user_id = :user_id AND id = :source"""
            ),
            {"user_id": user_id, "source": data_source_id, "hash": rules_hash},
        ).scalar()
    )


def names(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, after: str, limit: int
) -> Sequence[Row[Any]]:
    """Return id, title and path of items in order of id, tombstones too."""
    return connection.execute(
        text(
            """
            SELECT external_id, title, external_path FROM app.sync_items
             WHERE user_id = :user_id AND data_source_id = :source AND external_id > :after
             ORDER BY external_id LIMIT :limit"""
        ),
        {"user_id": user_id, "source": data_source_id, "after": after, "limit": limit},
    ).all()


def rename(
    connection: Connection, *, user_id: UserId, data_source_id: UUID, cleaned: Sequence[tuple[str, str, str]]
) -> None:
    """Store (id, title, path) of items, and the paths in the failure ledger."""
    if not cleaned:
        return
    stage(connection, "stage_names", {"external_id": "text", "title": "text", "path": "text"}, cleaned)
    parameters = {"user_id": user_id, "source": data_source_id}
    connection.execute(
        text(
            """
            UPDATE app.sync_items i SET title = s.title, external_path = s.path FROM stage_names s
             WHERE i.user_id = :user_id AND i.data_source_id = :source AND i.external_id = s.external_id"""
        ),
        parameters,
    )
    connection.execute(
        text(
            """
            UPDATE app.sync_failures f SET external_path = s.path FROM stage_names s
             WHERE f.user_id = :user_id AND f.data_source_id = :source AND f.external_id = s.external_id"""
        ),
        parameters,
    )


def note_clean_names(connection: Connection, *, user_id: UserId, data_source_id: UUID, rules_hash: str) -> None:
    connection.execute(
        text("UPDATE app.data_sources SET names_rules_hash = :hash WHERE user_id = :user_id AND id = :source"),
        {"user_id": user_id, "source": data_source_id, "hash": rules_hash},
    )
