"""Documents as the engine writes them, in bulk: one transaction moves a batch from one state to the next."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import wire
from workstation_pipelines.db.staging import stage, stage_packed
from workstation_pipelines.model import Chunk, DocumentId, Heading, IndexConfigId, UserId


@dataclass(frozen=True, slots=True)
class ChunkWrite:
    """A chunk with its hash, its lexemes by count, and its embedding as one halfvec value (None: still to be embedded)."""

    chunk: Chunk
    text_hash: bytes
    lexemes: Mapping[str, int]
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document as it is to be stored. `chunks` of None leaves text, chunks and generation as they are.

    So does None for `size_bytes` and `source_created_at`, which not every listing tells. `generation` is at least what
    the text gets: a reindex may have been quicker.
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

_INSERT = text(
    f"""
    INSERT INTO app.documents ({", ".join(_DOCUMENT_COLUMNS)}, user_id, data_source_id, project_id)
    SELECT s.*, :user_id, :source, :project_id FROM stage_documents s"""  # noqa: S608 - constants
)

_UPDATE = text(
    """
    UPDATE app.documents d
       SET title = s.title, title_tsv = s.title_tsv, mime_type = s.mime_type, external_url = s.external_url,
           size_bytes = coalesce(s.size_bytes, d.size_bytes),
           source_created_at = coalesce(s.source_created_at, d.source_created_at), source_modified_at = s.source_modified_at,
           content_hash = s.content_hash, language = s.language, text = s.text, headings = s.headings,
           live_generation = s.live_generation, index_config_id = s.index_config_id, chunk_count = s.chunk_count,
           deleted_at = NULL
      FROM stage_documents s WHERE d.user_id = :user_id AND d.id = s.id"""
)

_DESCRIBE = text(
    """
    UPDATE app.documents d
       SET title = s.title, title_tsv = s.title_tsv, mime_type = s.mime_type, external_url = s.external_url,
           size_bytes = coalesce(s.size_bytes, d.size_bytes),
           source_created_at = coalesce(s.source_created_at, d.source_created_at), source_modified_at = s.source_modified_at
      FROM stage_descriptions s WHERE d.user_id = :user_id AND d.id = s.id"""
)

_INSERT_CHUNKS = text(
    f"INSERT INTO app.chunks ({', '.join(_CHUNK_COLUMNS)}, user_id) SELECT s.*, :user_id FROM stage_chunks s"  # noqa: S608
)

_DROP_OTHER_GENERATIONS = text(
    """
    DELETE FROM app.chunks c USING app.documents d
     WHERE c.user_id = :user_id AND d.user_id = :user_id AND c.document_id = d.id AND d.id = ANY(:ids)
       AND c.generation <> d.live_generation"""
)

_BLOCK_BYTES = 1 << 18


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
    changed = _in_next_generation(
        connection, user_id, [write for write in writes if write.chunks is not None and not write.is_new]
    )
    described = [write for write in writes if write.chunks is None]
    if new:
        _stage_documents(connection, new, packer)
        connection.execute(_INSERT, {"user_id": user_id, "source": data_source_id, "project_id": project_id})
    if changed:
        _stage_documents(connection, changed, packer)
        connection.execute(_UPDATE, {"user_id": user_id})
    if described:
        rows = (_description(write, packer) for write in described)
        stage(connection, "stage_descriptions", _DESCRIPTION_COLUMNS, rows)
        connection.execute(_DESCRIBE, {"user_id": user_id})
    with_text = [*new, *changed]
    if any(write.chunks for write in with_text):
        stage_packed(connection, "stage_chunks", _CHUNK_COLUMNS, _packed_chunks(with_text, packer))
        connection.execute(_INSERT_CHUNKS, {"user_id": user_id})
    if changed:
        connection.execute(_DROP_OTHER_GENERATIONS, {"user_id": user_id, "ids": [write.id for write in changed]})


def rechunk(
    connection: Connection, *, user_id: UserId, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker
) -> list[UUID]:
    """Give documents new chunks for the text they have; return those done.

    A write is made for generation n + 1; a document that has moved on from generation n since it was read is left alone.
    """
    columns = {"id": "uuid", "generation": "int4", "index_config_id": "uuid", "chunk_count": "int4"}
    rows = ((write.id, write.generation, write.index_config_id, len(write.chunks or ())) for write in writes)
    stage(connection, "stage_generations", columns, rows)
    updated = connection.execute(
        text(
            """
            UPDATE app.documents d
               SET live_generation = s.generation, index_config_id = s.index_config_id, chunk_count = s.chunk_count
              FROM stage_generations s
             WHERE d.user_id = :user_id AND d.id = s.id AND d.live_generation = s.generation - 1 AND d.deleted_at IS NULL
            RETURNING d.id"""
        ),
        {"user_id": user_id},
    )
    done = {row[0] for row in updated}
    kept = [write for write in writes if write.id in done]
    if any(write.chunks for write in kept):
        stage_packed(connection, "stage_chunks", _CHUNK_COLUMNS, _packed_chunks(kept, packer))
        connection.execute(_INSERT_CHUNKS, {"user_id": user_id})
    connection.execute(_DROP_OTHER_GENERATIONS, {"user_id": user_id, "ids": list(done)})
    return list(done)


def tombstone(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Hide documents and remove their chunks at once; the text stays for an undo until it is purged."""
    if not document_ids:
        return
    parameters = {"user_id": user_id, "ids": list(document_ids)}
    connection.execute(text("DELETE FROM app.chunks WHERE user_id = :user_id AND document_id = ANY(:ids)"), parameters)
    connection.execute(
        text(
            """
            UPDATE app.documents SET deleted_at = now(), chunk_count = 0
             WHERE user_id = :user_id AND id = ANY(:ids) AND deleted_at IS NULL"""
        ),
        parameters,
    )


def forget_hashes(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Let the next text that is fetched for these documents count as new, whatever it is."""
    connection.execute(
        text("UPDATE app.documents SET content_hash = '' WHERE user_id = :user_id AND id = ANY(:ids)"),
        {"user_id": user_id, "ids": list(document_ids)},
    )


def _in_next_generation(
    connection: Connection, user_id: UserId, writes: Sequence[DocumentWrite]
) -> list[DocumentWrite]:
    """Lock the documents and number their new generations: a reindex may have given them one since they were read."""
    if not writes:
        return []
    rows = connection.execute(
        text(
            """
            SELECT id, live_generation FROM app.documents
             WHERE user_id = :user_id AND id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"""
        ),
        {"user_id": user_id, "ids": [write.id for write in writes]},
    )
    live = {row.id: row.live_generation for row in rows}
    return [replace(write, generation=max(write.generation, live.get(write.id, 0) + 1)) for write in writes]


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


def _stage_documents(connection: Connection, writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker) -> None:
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
    stage(connection, "stage_documents", _DOCUMENT_COLUMNS, rows)


_UUID_HEAD = struct.pack("!i", 16)
_FIELD_COUNT = struct.pack("!h", len(_CHUNK_COLUMNS))
_four_integers = struct.Struct("!8i")
_length = struct.Struct("!i")


def _packed_chunks(writes: Sequence[DocumentWrite], packer: wire.TsvectorPacker) -> Iterator[bytes]:
    """Yield the rows of stage_chunks in COPY format, in blocks: the engine's hottest loop, hence by hand."""
    parts: list[bytes] = [wire.COPY_HEADER]
    size_bytes = 0
    for write in writes:
        if not write.chunks or write.index_config_id is None:
            continue
        head = _FIELD_COUNT + _UUID_HEAD + write.id.bytes + _UUID_HEAD + write.index_config_id.bytes
        head += struct.pack("!ii", 4, write.generation)
        for row in write.chunks:
            chunk = row.chunk
            path, body, tsv = chunk.heading_path.encode(), chunk.text.encode(), packer.pack(row.lexemes)
            parts += (
                head,
                _four_integers.pack(
                    4, chunk.ordinal, 4, chunk.start_offset, 4, chunk.end_offset, 4, chunk.token_count
                ),
                _UUID_HEAD,  # a text hash has 16 bytes as well
                row.text_hash,
                _length.pack(len(path)),
                path,
                _length.pack(len(body)),
                body,
                wire.NULL if row.embedding is None else _length.pack(len(row.embedding)) + row.embedding,
                _length.pack(len(tsv)),
                tsv,
            )
            size_bytes += len(body) + len(tsv) + 1000
        if size_bytes > _BLOCK_BYTES:
            yield b"".join(parts)
            parts, size_bytes = [], 0
    parts.append(wire.COPY_TRAILER)
    yield b"".join(parts)
