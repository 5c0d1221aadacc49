"""Documents as the engine writes them, in bulk: one transaction moves a batch from one state to the next."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db import rulings, wire
from workstation_pipelines.db.bulk import BulkStatement, Fields, encoded
from workstation_pipelines.db.rulings import Ruling
from workstation_pipelines.db.staging import stage
from workstation_pipelines.model import Chunk, DocumentId, Heading, IndexConfigId, UserId


@dataclass(frozen=True, slots=True)
class ChunkWrite:
    """A chunk with its hash, its lexemes, and its embedding as one halfvec value (None: still to be embedded).

    `lexemes` come by count, or as a tsvector value already: packed at once, those of a batch take a tenth of the memory.
    """

    chunk: Chunk
    text_hash: bytes
    lexemes: Mapping[str, int] | bytes
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document as it is to be stored. `chunks` of None leaves text, chunks and generation as they are.

    So does None for `size_bytes` and `source_created_at`, which not every listing tells. `generation` is at least what
    the text gets: a reindex may have been quicker. `ruling` is what rules said of it, None where there never were any.
    """

    id: DocumentId
    is_new: bool
    title: str
    title_lexemes: Mapping[str, int]
    mime_type: str
    external_url: str | None
    size_bytes: int | None
    source_created_at: datetime | None
    source_modified_at: datetime | None
    content_hash: str = ""
    language: str | None = None
    text: str = ""
    headings: Sequence[Heading] = ()
    generation: int = 0
    index_config_id: IndexConfigId | None = None
    chunks: Sequence[ChunkWrite] | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True)
class Generations:
    """A document's live generation, and the highest that was ever given out for it."""

    live: int
    last: int


_DESCRIPTION_COLUMNS = {
    "id": "uuid",
    "title": "text",
    "title_tsv": "tsvector",
    "mime_type": "text",
    "external_url": "text",
    "size_bytes": "int8",
    "source_created_at": "timestamptz",
    "source_modified_at": "timestamptz",
}

_DOCUMENT_COLUMNS = {
    **_DESCRIPTION_COLUMNS,
    "content_hash": "text",
    "language": "text",
    "text": "text",
    "headings": "jsonb",
    "live_generation": "int4",
    "index_config_id": "uuid",
    "chunk_count": "int4",
}

_CHUNK_COLUMNS = {
    "document_id": "uuid",
    "index_config_id": "uuid",
    "generation": "int4",
    "ordinal": "int4",
    "start_offset": "int4",
    "end_offset": "int4",
    "token_count": "int4",
    "text_hash": "bytea",
    "heading_path": "text",
    "text": "text",
    "embedding": "halfvec",
    "tsv": "tsvector",
}

_SET_DESCRIPTION = """
    title = s.title, title_tsv = s.title_tsv, mime_type = s.mime_type, external_url = s.external_url,
    size_bytes = coalesce(s.size_bytes, d.size_bytes),
    source_created_at = coalesce(s.source_created_at, d.source_created_at), source_modified_at = s.source_modified_at"""

_INSERT = BulkStatement(
    f"""
    INSERT INTO app.documents ({", ".join(_DOCUMENT_COLUMNS)}, user_id, data_source_id, project_id, project_assigned_by)
    SELECT s.*, $1, $2::uuid, $3::uuid, 'source' FROM {{rows}}""",  # noqa: S608 - constants
    _DOCUMENT_COLUMNS,
    constants=3,
)

_UPDATE = BulkStatement(
    f"""
    UPDATE app.documents d
       SET {_SET_DESCRIPTION}, content_hash = s.content_hash, language = s.language, text = s.text,
           headings = s.headings, live_generation = s.live_generation, index_config_id = s.index_config_id,
           chunk_count = s.chunk_count, deleted_at = NULL, deleted_reason = ''
      FROM {{rows}} WHERE d.user_id = $1 AND d.id = s.id""",  # noqa: S608 - constants
    _DOCUMENT_COLUMNS,
    constants=1,
)

_DESCRIBE = BulkStatement(
    f"""
    UPDATE app.documents d SET {_SET_DESCRIPTION}
      FROM {{rows}} WHERE d.user_id = $1 AND d.id = s.id""",  # noqa: S608 - constants
    _DESCRIPTION_COLUMNS,
    constants=1,
)

_INSERT_CHUNKS = BulkStatement(
    f"INSERT INTO app.chunks ({', '.join(_CHUNK_COLUMNS)}, user_id) SELECT s.*, $1 FROM {{rows}}",  # noqa: S608
    _CHUNK_COLUMNS,
    constants=1,
)

# What builds keep of a document is of its old text, or of a text that is gone.
_DROP_OTHER_GENERATIONS = text(
    """
    WITH forgotten AS (
        DELETE FROM app.index_build_documents WHERE user_id = :user_id AND document_id = ANY(:ids))
    DELETE FROM app.chunks c USING app.documents d
     WHERE c.user_id = :user_id AND d.user_id = :user_id AND c.document_id = d.id AND d.id = ANY(:ids)
       AND c.generation <> d.live_generation"""
)

# The text is the same, so candidates of builds stay. A way back leads to what is not the last state any more: it goes.
_DROP_UNBUILT_GENERATIONS = text(
    """
    WITH passed AS (
        DELETE FROM app.index_build_documents
         WHERE user_id = :user_id AND document_id = ANY(:ids) AND previous_generation IS NOT NULL)
    DELETE FROM app.chunks c USING app.documents d
     WHERE c.user_id = :user_id AND d.user_id = :user_id AND c.document_id = d.id AND d.id = ANY(:ids)
       AND c.generation <> d.live_generation AND NOT EXISTS (
           SELECT FROM app.index_build_documents b
            WHERE b.user_id = c.user_id AND b.document_id = c.document_id AND b.generation = c.generation
              AND b.previous_generation IS NULL)"""
)

_CHUNKS_A_STATEMENT = 1000
"""About 3 MB: the server holds a statement's rows in memory a few times over."""


def store(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None,
    project_id: UUID | None,
    writes: Sequence[DocumentWrite],
    packer: wire.TsvectorPacker,
) -> None:
    """Insert new documents, give changed ones their next generation, and rename those that only moved.

    Chunks of the new generation arrive and those of the old one leave in the caller's transaction, so a reader sees
    the one or the other. New documents go to `project_id`; existing ones stay in the project that their owner chose.
    """
    new = [write for write in writes if write.chunks is not None and write.is_new]
    given = lock(connection, user_id=user_id, document_ids=[write.id for write in writes if not write.is_new])
    # A reindex may have given a document a generation since it was read.
    changed = [
        replace(write, generation=max(write.generation, given[write.id].last + 1 if write.id in given else 1))
        for write in writes
        if write.chunks is not None and not write.is_new
    ]
    described = [write for write in writes if write.chunks is None]
    if new:
        _INSERT.execute(connection, _packed_documents(new, packer), user_id, data_source_id, project_id)
    if changed:
        _UPDATE.execute(connection, _packed_documents(changed, packer), user_id)
    if described:
        rows = (_description(write, packer) for write in described)
        _DESCRIBE.execute(connection, encoded(_DESCRIPTION_COLUMNS, rows), user_id)
    _insert_chunks(connection, user_id, [*new, *changed], packer)
    if changed:
        connection.execute(_DROP_OTHER_GENERATIONS, {"user_id": user_id, "ids": [write.id for write in changed]})
    rulings.store(
        connection, user_id=user_id, rulings=[(write.id, write.ruling) for write in writes if write.ruling is not None]
    )


def rechunk(
    connection: Connection, *, user_id: UserId, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker
) -> list[UUID]:
    """Give documents new chunks for the text they have; return those done.

    A write is made for generation n + 1; a document that has moved on from generation n since it was read is left alone.
    """
    return _give_generations(connection, user_id=user_id, writes=writes, packer=packer, are_deleted=False)


def add_candidates(
    connection: Connection, *, user_id: UserId, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker
) -> list[DocumentWrite]:
    """Store chunks that no search shows yet, as a generation that is given out for them; return the writes as stored.

    A write is made for generation n + 1; a document that has moved on from generation n since it was read is left out.
    The caller says who keeps them, in the same transaction, or they are strays.
    """
    given = lock(connection, user_id=user_id, document_ids=[write.id for write in writes])
    kept = [
        replace(write, generation=given[write.id].last + 1)
        for write in writes
        if write.id in given and given[write.id].live == write.generation - 1
    ]
    allotted = connection.execute(
        text(
            """
            UPDATE app.documents SET allotted_generation = greatest(live_generation, allotted_generation) + 1
             WHERE user_id = :user_id AND id = ANY(:ids) AND deleted_at IS NULL
            RETURNING id"""
        ),
        {"user_id": user_id, "ids": [write.id for write in kept]},
    )
    live = {row.id for row in allotted}
    kept = [write for write in kept if write.id in live]
    _insert_chunks(connection, user_id, kept, packer)
    return kept


def revive(
    connection: Connection, *, user_id: UserId, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker
) -> list[UUID]:
    """Turn tombstones into live documents with new chunks, as rechunk() does for live ones; return those done."""
    return _give_generations(connection, user_id=user_id, writes=writes, packer=packer, are_deleted=True)


def _give_generations(
    connection: Connection,
    *,
    user_id: UserId,
    writes: Sequence[DocumentWrite],
    packer: wire.TsvectorPacker,
    are_deleted: bool,
) -> list[UUID]:
    given = lock(connection, user_id=user_id, document_ids=[write.id for write in writes])
    # A build may have given out the number that comes next.
    kept = [
        replace(write, generation=given[write.id].last + 1)
        for write in writes
        if write.id in given and given[write.id].live == write.generation - 1
    ]
    columns = {"id": "uuid", "generation": "int4", "index_config_id": "uuid", "chunk_count": "int4"}
    rows = ((write.id, write.generation, write.index_config_id, len(write.chunks or ())) for write in kept)
    stage(connection, "stage_generations", columns, rows)
    updated = connection.execute(
        text(
            """
            UPDATE app.documents d
               SET live_generation = s.generation, index_config_id = s.index_config_id, chunk_count = s.chunk_count,
                   deleted_at = NULL, deleted_reason = ''
              FROM stage_generations s
             WHERE d.user_id = :user_id AND d.id = s.id AND (d.deleted_at IS NOT NULL) = :are_deleted
            RETURNING d.id"""
        ),
        {"user_id": user_id, "are_deleted": are_deleted},
    )
    done = {row[0] for row in updated}
    _insert_chunks(connection, user_id, [write for write in kept if write.id in done], packer)
    connection.execute(_DROP_UNBUILT_GENERATIONS, {"user_id": user_id, "ids": list(done)})
    return list(done)


def tombstone(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID], reason: str = "") -> list[UUID]:
    """Hide documents and remove their chunks at once; the text stays for an undo until it is purged.

    `reason` is kept of those that have no data source: `removed_by_user`, `filtered`, or "" for what is there no more.
    Return those that were live until now.
    """
    if not document_ids:
        return []
    parameters = {"user_id": user_id, "ids": list(document_ids), "reason": reason}
    lock(connection, user_id=user_id, document_ids=document_ids)
    hidden = connection.execute(
        text(
            """
            UPDATE app.documents
               SET deleted_at = now(), chunk_count = 0,
                   deleted_reason = CASE WHEN data_source_id IS NULL THEN :reason ELSE '' END
             WHERE user_id = :user_id AND id = ANY(:ids) AND deleted_at IS NULL
            RETURNING id"""
        ),
        parameters,
    )
    were_live = {row[0] for row in hidden}
    done = [each for each in document_ids if each in were_live]
    connection.execute(
        text(
            """
            WITH forgotten AS (
                DELETE FROM app.index_build_documents WHERE user_id = :user_id AND document_id = ANY(:ids))
            DELETE FROM app.chunks WHERE user_id = :user_id AND document_id = ANY(:ids)"""
        ),
        parameters,
    )
    return done


def forget_hashes(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Let the next text that is fetched for these documents count as new, whatever it is."""
    connection.execute(
        text("UPDATE app.documents SET content_hash = '' WHERE user_id = :user_id AND id = ANY(:ids)"),
        {"user_id": user_id, "ids": list(document_ids)},
    )


def lock(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> dict[UUID, Generations]:
    """Lock documents and return their generations.

    Whoever writes documents or their chunks does this first, and in one order, so that none waits for another in a ring.
    """
    if not document_ids:
        return {}
    rows = connection.execute(
        text(
            """
            SELECT id, live_generation, greatest(live_generation, allotted_generation) AS last_generation
              FROM app.documents
             WHERE user_id = :user_id AND id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"""
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )
    return {row.id: Generations(row.live_generation, row.last_generation) for row in rows}


def _description(write: DocumentWrite, packer: wire.TsvectorPacker) -> tuple[Any, ...]:
    return (
        write.id,
        write.title,
        packer.pack(write.title_lexemes),
        write.mime_type,
        write.external_url,
        write.size_bytes,
        write.source_created_at,
        write.source_modified_at,
    )


def _packed_documents(writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker) -> list[Fields]:
    rows = (
        (
            *_description(write, packer),
            write.content_hash,
            write.language,
            write.text,
            json.dumps([[heading.offset, heading.level, heading.text] for heading in write.headings]),
            write.generation,
            write.index_config_id,
            len(write.chunks or ()),
        )
        for write in writes
    )
    return encoded(_DOCUMENT_COLUMNS, rows)


def _insert_chunks(
    connection: Connection, user_id: UserId, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker
) -> None:
    owned = [(write, row) for write in writes if write.index_config_id is not None for row in write.chunks or ()]
    for at in range(0, len(owned), _CHUNKS_A_STATEMENT):
        columns = _packed_chunks(owned[at : at + _CHUNKS_A_STATEMENT], packer)
        _INSERT_CHUNKS.execute(connection, columns, user_id)


def _packed_chunks(owned: Sequence[tuple[DocumentWrite, ChunkWrite]], packer: wire.TsvectorPacker) -> list[Fields]:
    """Return the columns of _CHUNK_COLUMNS: column by column, since this is done for every chunk there is."""
    rows = [row for _, row in owned]
    chunks = [row.chunk for row in rows]
    integer = struct.Struct("!i").pack
    return [
        [write.id.bytes for write, _ in owned],
        [write.index_config_id.bytes for write, _ in owned if write.index_config_id is not None],
        [integer(write.generation) for write, _ in owned],
        [integer(chunk.ordinal) for chunk in chunks],
        [integer(chunk.start_offset) for chunk in chunks],
        [integer(chunk.end_offset) for chunk in chunks],
        [integer(chunk.token_count) for chunk in chunks],
        [row.text_hash for row in rows],
        [chunk.heading_path.encode() for chunk in chunks],
        [chunk.text.encode() for chunk in chunks],
        [row.embedding for row in rows],
        [row.lexemes if isinstance(row.lexemes, bytes) else packer.pack(row.lexemes) for row in rows],
    ]


def token_ratios(connection: Connection, *, user_id: UserId, newest: int = 2000) -> Sequence[Row[Any]]:
    """Return (mime_type, documents, size_bytes, tokens) of the newest live documents with an item, by the item's MIME type.

    Types are left out of which some document held others inside: their bytes are not its own text's alone.
    """
    return connection.execute(
        text(
            """
            SELECT i.mime_type, count(*) AS documents, sum(d.size_bytes)::bigint AS size_bytes,
                   sum(t.tokens)::bigint AS tokens
              FROM (SELECT id, user_id, live_generation, size_bytes FROM app.documents
                     WHERE user_id = :user_id AND deleted_at IS NULL AND data_source_id IS NOT NULL AND size_bytes > 0
                     ORDER BY id DESC LIMIT :newest) d
              JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id
              CROSS JOIN LATERAL (
                   SELECT coalesce(sum(c.token_count), 0) AS tokens FROM app.chunks c
                    WHERE c.user_id = d.user_id AND c.document_id = d.id AND c.generation = d.live_generation) t
             WHERE i.user_id = :user_id
             GROUP BY i.mime_type
            HAVING NOT bool_or(EXISTS (SELECT FROM app.sync_items o WHERE o.user_id = i.user_id
                       AND o.data_source_id = i.data_source_id AND o.parent_external_id = i.external_id))"""
        ),
        {"user_id": user_id, "newest": newest},
    ).all()
