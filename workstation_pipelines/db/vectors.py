"""Index configs and pgvector: which embeddings exist, which are missing, and where a text was embedded before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import index_outbox, index_settings
from workstation_pipelines.db.engine import raw
from workstation_pipelines.db.staging import stage
from workstation_pipelines.model import DocumentId, Heading, IndexConfig, IndexConfigId, NewId, UserId


@dataclass(frozen=True, slots=True)
class StaleDocument:
    """A live document whose chunks or vectors do not fit its text under the wanted index config; `problem` says how.

    Or whose text is not what the rules of its source make of it now: 'rules changed' is said only where nothing else is wrong.
    """

    id: DocumentId
    title: str
    generation: int
    problem: str
    wanted_index_config_id: IndexConfigId
    data_source_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class StoredText:
    """What re-indexing a document needs, without asking its source."""

    id: DocumentId
    title: str
    language: str | None
    text: str
    headings: Sequence[Heading]
    generation: int


@dataclass(frozen=True, slots=True)
class Reprocessable:
    """A live document and the config it ought to have; `is_current` when it has that already, with all its chunks."""

    data_source_id: UUID | None
    wanted: IndexConfigId
    is_current: bool
    characters: int


_IS_BUILT = """EXISTS (
    SELECT FROM app.index_build_documents b
     WHERE b.user_id = c.user_id AND b.document_id = c.document_id
       AND c.generation IN (b.generation, b.previous_generation))"""
"""Whether a build keeps a chunk `c`, to be switched to or to go back to."""


def index_config(
    connection: Connection,
    *,
    user_id: UserId,
    embedder: str,
    model: str,
    dimensions: int,
    chunk_tokens: int,
    overlap_tokens: int,
    new_id: NewId,
) -> IndexConfig:
    """Return the user's config of exactly these values, created if it is new. Idempotent, also under concurrency."""
    values: dict[str, Any] = {
        "user_id": user_id,
        "embedder": embedder,
        "model": model,
        "dimensions": dimensions,
        "chunk_tokens": chunk_tokens,
        "overlap_tokens": overlap_tokens,
    }
    find = text(
        """
        SELECT id FROM app.index_configs
         WHERE user_id = :user_id AND embedder = :embedder AND model = :model AND dimensions = :dimensions
           AND chunk_tokens = :chunk_tokens AND overlap_tokens = :overlap_tokens"""
    )
    found = connection.execute(find, values).scalar_one_or_none()
    if found is None:
        connection.execute(
            text(
                """
                INSERT INTO app.index_configs (id, user_id, embedder, model, dimensions, chunk_tokens, overlap_tokens)
                VALUES (:id, :user_id, :embedder, :model, :dimensions, :chunk_tokens, :overlap_tokens)
                ON CONFLICT ON CONSTRAINT index_configs_same_key DO NOTHING"""
            ),
            {**values, "id": new_id()},
        )
        found = connection.execute(find, values).scalar_one()
    return IndexConfig(IndexConfigId(found), embedder, model, dimensions, chunk_tokens, overlap_tokens)


def embedded_before(
    connection: Connection, *, user_id: UserId, index_config_id: IndexConfigId, text_hashes: Iterable[bytes]
) -> dict[bytes, bytes]:
    """Return text hash -> halfvec value for those texts that this user has embedded under this config."""
    hashes = list(text_hashes)
    if not hashes:
        return {}
    with raw(connection).cursor(binary=True) as cursor:
        cursor.execute(
            """
            SELECT DISTINCT ON (text_hash) text_hash, halfvec_send(embedding) FROM app.chunks
             WHERE user_id = %s AND index_config_id = %s AND text_hash = ANY(%s) AND embedding IS NOT NULL""",
            [user_id, index_config_id, hashes],
        )
        return {bytes(text_hash): bytes(embedding) for text_hash, embedding in cursor}


# The rules of no source are those of processed documents; what its owner has as a copy of its own is under none.
_NO_SOURCE = "'00000000-0000-0000-0000-000000000000'::uuid"
_OF_SAME_SOURCE = f"coalesce({{rules}}.data_source_id, {_NO_SOURCE}) = coalesce(d.data_source_id, {_NO_SOURCE})"
_HAS_RULES = "(d.data_source_id IS NOT NULL OR d.origin IS NOT NULL)"


def stale(
    connection: Connection,
    *,
    user_id: UserId,
    index_config_id: IndexConfigId,
    data_source_id: UUID | None,
    limit: int,
    after: UUID | None = None,
    project_id: UUID | None = None,
) -> list[StaleDocument]:
    """Return live documents that need chunks or vectors, or their rules applied, in order of id, those behind `after` only.

    `index_config_id` is what is wanted for documents for which nobody chose.
    """
    rows = connection.execute(
        text(
            f"""
            WITH ruled AS MATERIALIZED (
                SELECT r.data_source_id, r.rules_hash FROM app.data_source_rules r WHERE r.user_id = :user_id)
            SELECT d.id, d.title, d.live_generation, d.data_source_id, w.config,
                   CASE WHEN d.index_config_id IS DISTINCT FROM w.config THEN 'older index config'
                        WHEN c.chunks <> d.chunk_count OR c.chunks <> c.last + 1 THEN 'chunks missing'
                        WHEN c.vectors <> c.chunks THEN 'vectors missing'
                        WHEN c.stray > 0 THEN 'chunks of another generation'
                        ELSE 'rules changed' END AS problem
              FROM app.documents d {index_settings.JOINS}
              LEFT JOIN ruled ON {_OF_SAME_SOURCE.format(rules="ruled")}
              CROSS JOIN LATERAL (SELECT coalesce({index_settings.WANTED}, :config) AS config) w
              CROSS JOIN LATERAL (
                   SELECT count(*) FILTER (WHERE c.generation = d.live_generation) AS chunks,
                          coalesce(max(c.ordinal) FILTER (WHERE c.generation = d.live_generation), -1) AS last,
                          count(c.embedding) FILTER (WHERE c.generation = d.live_generation) AS vectors,
                          count(*) FILTER (WHERE c.generation <> d.live_generation AND NOT {_IS_BUILT}) AS stray
                     FROM app.chunks c WHERE c.user_id = d.user_id AND c.document_id = d.id) c
             WHERE d.user_id = :user_id AND d.deleted_at IS NULL
               AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)
               AND (CAST(:project AS uuid) IS NULL OR d.project_id = :project)
               AND (CAST(:after AS uuid) IS NULL OR d.id > :after)
               AND (d.index_config_id IS DISTINCT FROM w.config OR c.chunks <> d.chunk_count OR c.chunks <> c.last + 1
                    OR c.vectors <> c.chunks OR c.stray > 0
                    OR {_HAS_RULES} AND d.rules_hash <> coalesce(ruled.rules_hash, ''))
             ORDER BY d.id LIMIT :limit"""  # noqa: S608 - constants
        ),
        {
            "user_id": user_id,
            "config": index_config_id,
            "source": data_source_id,
            "project": project_id,
            "after": after,
            "limit": limit,
        },
    )
    return [
        StaleDocument(
            DocumentId(row.id),
            row.title,
            row.live_generation,
            row.problem,
            IndexConfigId(row.config),
            row.data_source_id,
        )
        for row in rows
    ]


def reprocessable(
    connection: Connection, *, user_id: UserId, default: IndexConfigId, document_ids: Sequence[UUID]
) -> dict[UUID, Reprocessable]:
    """Return what is known of those documents that are live, by id; `default` is wanted where nobody chose."""
    rows = connection.execute(
        text(
            f"""
            SELECT d.id, d.data_source_id, w.config, length(d.text) AS characters,
                   d.index_config_id = w.config AND d.chunk_count = (
                       SELECT count(c.embedding) FROM app.chunks c
                        WHERE c.user_id = d.user_id AND c.document_id = d.id AND c.generation = d.live_generation)
                   AS is_current
              FROM app.documents d {index_settings.JOINS}
              CROSS JOIN LATERAL (SELECT coalesce({index_settings.WANTED}, :config) AS config) w
             WHERE d.user_id = :user_id AND d.id = ANY(:ids) AND d.deleted_at IS NULL"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "config": default, "ids": list(document_ids)},
    )
    return {
        row.id: Reprocessable(row.data_source_id, IndexConfigId(row.config), bool(row.is_current), row.characters)
        for row in rows
    }


def stored_texts(
    connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID], are_deleted: bool = False
) -> list[StoredText]:
    """Return the texts of live documents, or of tombstones, in order of id."""
    rows = connection.execute(
        text(
            """
            SELECT id, title, language, text, headings, live_generation FROM app.documents
             WHERE user_id = :user_id AND id = ANY(:ids) AND (deleted_at IS NOT NULL) = :are_deleted ORDER BY id"""
        ),
        {"user_id": user_id, "ids": list(document_ids), "are_deleted": are_deleted},
    )
    return [
        StoredText(
            DocumentId(row.id),
            row.title,
            row.language,
            row.text,
            [Heading(offset, level, words) for offset, level, words in row.headings],
            row.live_generation,
        )
        for row in rows
    ]


def missing(
    connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]
) -> list[tuple[DocumentId, int, int, bytes, str, int]]:
    """Return (document, generation, ordinal, text hash, text, tokens) of live chunks without an embedding."""
    rows = connection.execute(
        text(
            """
            SELECT c.document_id, c.generation, c.ordinal, c.text_hash, c.text, c.token_count
              FROM app.chunks c JOIN app.documents d ON d.user_id = c.user_id AND d.id = c.document_id
             WHERE c.user_id = :user_id AND c.document_id = ANY(:ids) AND c.generation = d.live_generation
               AND c.embedding IS NULL
             ORDER BY c.document_id, c.ordinal"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )
    return [(DocumentId(row[0]), row[1], row[2], bytes(row[3]), row[4], row[5]) for row in rows]


def fill(connection: Connection, *, user_id: UserId, vectors: Sequence[tuple[DocumentId, int, int, bytes]]) -> None:
    """Store embeddings: (document, generation, ordinal, halfvec value). Chunks that are gone meanwhile are passed over."""
    columns = {"document_id": "uuid", "generation": "int4", "ordinal": "int4", "embedding": "halfvec"}
    stage(connection, "stage_vectors", columns, vectors)
    connection.execute(
        text(
            """
            UPDATE app.chunks c SET embedding = s.embedding FROM stage_vectors s
             WHERE c.user_id = :user_id AND c.document_id = s.document_id AND c.generation = s.generation
               AND c.ordinal = s.ordinal"""
        ),
        {"user_id": user_id},
    )
    index_outbox.enqueue(connection, user_id=user_id, document_ids=[vector[0] for vector in vectors])


def remove_strays(connection: Connection, *, user_id: UserId) -> int:
    """Delete chunks of deleted documents and of generations that are neither live nor kept by a build; return how many."""
    return connection.execute(
        text(
            f"""
            DELETE FROM app.chunks c USING app.documents d
             WHERE c.user_id = :user_id AND d.user_id = :user_id AND d.id = c.document_id
               AND (d.deleted_at IS NOT NULL OR c.generation <> d.live_generation AND NOT {_IS_BUILT})"""  # noqa: S608
        ),
        {"user_id": user_id},
    ).rowcount


def census(connection: Connection, *, user_id: UserId, data_source_id: UUID | None) -> dict[str, int]:
    """Count live documents, the chunks they should have, the chunks and vectors there are, and chunks that nothing shows."""
    row = connection.execute(
        text(
            f"""
            SELECT (SELECT count(*) FROM app.documents d WHERE d.user_id = :user_id AND d.deleted_at IS NULL
                       AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)) AS documents,
                   (SELECT count(*) FROM app.documents d
                      LEFT JOIN app.data_source_rules r
                             ON r.user_id = d.user_id AND {_OF_SAME_SOURCE.format(rules="r")}
                     WHERE d.user_id = :user_id AND d.deleted_at IS NULL
                       AND {_HAS_RULES} AND d.rules_hash <> coalesce(r.rules_hash, '')
                       AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)) AS rules_changed,
                   (SELECT coalesce(sum(d.chunk_count), 0)::bigint FROM app.documents d
                     WHERE d.user_id = :user_id AND d.deleted_at IS NULL
                       AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)) AS chunks_expected,
                   count(*) FILTER (WHERE is_live) AS chunks,
                   count(embedding) FILTER (WHERE is_live) AS vectors,
                   count(*) FILTER (WHERE is_live IS FALSE) AS strays
              FROM (SELECT c.embedding, CASE WHEN d.deleted_at IS NULL AND c.generation = d.live_generation THEN true
                           WHEN d.deleted_at IS NULL AND {_IS_BUILT} THEN NULL ELSE false END AS is_live
                      FROM app.chunks c JOIN app.documents d ON d.user_id = c.user_id AND d.id = c.document_id
                     WHERE c.user_id = :user_id
                       AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)) seen"""  # noqa: S608
        ),
        {"user_id": user_id, "source": data_source_id},
    ).one()
    return dict(row._mapping)


def sample(connection: Connection, *, user_id: UserId, data_source_id: UUID | None, at_most: int) -> list[Any]:
    """Return some live documents, evenly spread, as (id, title, content_hash, text); for comparing hashes with texts."""
    return list(
        connection.execute(
            text(
                """
                SELECT id, title, content_hash, text FROM (
                    SELECT d.*, row_number() OVER (ORDER BY d.id) AS n, count(*) OVER () AS total FROM app.documents d
                     WHERE d.user_id = :user_id AND d.deleted_at IS NULL
                       AND (CAST(:source AS uuid) IS NULL OR d.data_source_id = :source)) numbered
                 WHERE n % greatest(1, total / :at_most) = 0 LIMIT :at_most"""
            ),
            {"user_id": user_id, "source": data_source_id, "at_most": at_most},
        )
    )
