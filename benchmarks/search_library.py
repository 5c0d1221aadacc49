"""Puts documents into a database of their own, through the statements that the sync engine uses; for benchmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

from workstation_pipelines.db import data_sources, documents, embedded, migrate, vectors, wire
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index.contract import Embedder
from workstation_pipelines.model import Chunk, DataSourceId, DocumentId, IndexConfig, SourceType, UserId
from workstation_pipelines.text.lexemes import lexer_for


@dataclass(frozen=True, slots=True)
class Text:
    """A document to store, cut into chunks of `chunk_characters`; None makes one chunk of it."""

    title: str
    text: str
    language: str | None = None
    chunk_characters: int | None = None

    def chunks(self) -> list[str]:
        size = self.chunk_characters or len(self.text)
        return [self.text[start : start + size] for start in range(0, len(self.text), size)]


@contextmanager
def empty_database() -> Iterator[Database]:
    """A migrated database on a server of its own, gone afterwards."""
    with TemporaryDirectory(prefix="ws-bench-") as home:
        urls = embedded.ensure_running(Path(home))
        migrate.upgrade(urls.admin_url)
        database = Database(urls.app_url)
        try:
            yield database
        finally:
            database.close()
            embedded.stop(Path(home))


def index_config(database: Database, user_id: UserId, embedder: Embedder) -> IndexConfig:
    with database.transaction_with_rls(user_id) as connection:
        return vectors.index_config(
            connection,
            user_id=user_id,
            embedder=embedder.name,
            model=embedder.model,
            dimensions=embedder.dimensions,
            chunk_tokens=254,
            overlap_tokens=0,
            new_id=uuid4,
        )


def add_source(database: Database, user_id: UserId) -> UUID:
    with database.transaction_with_rls(user_id) as connection:
        source = data_sources.add(
            connection,
            user_id=user_id,
            data_source_id=DataSourceId(uuid4()),
            name="benchmark",
            source_type=SourceType.LOCAL_FOLDER,
            config={},
        )
    return source.id


def store(
    database: Database,
    user_id: UserId,
    *,
    source: UUID,
    config: IndexConfig,
    texts: Sequence[Text],
    halfvecs: Sequence[bytes],
) -> list[DocumentId]:
    """Store each text as a document; `halfvecs` are its chunks' in order. Returns the document ids in order."""
    vectors = iter(halfvecs)
    writes = [_write(text, [(chunk, next(vectors)) for chunk in text.chunks()], config) for text in texts]
    with database.transaction_with_rls(user_id) as connection:
        documents.store(
            connection,
            user_id=user_id,
            data_source_id=source,
            project_id=None,
            writes=writes,
            packer=wire.TsvectorPacker(),
        )
    return [write.id for write in writes]


def _write(text: Text, chunks: Sequence[tuple[str, bytes]], config: IndexConfig) -> documents.DocumentWrite:
    return documents.DocumentWrite(
        id=DocumentId(uuid4()),
        is_new=True,
        title=text.title,
        title_lexemes=lexer_for(None).counted(text.title),
        mime_type="text/markdown",
        external_url=None,
        size_bytes=len(text.text.encode()),
        source_created_at=None,
        source_modified_at=None,
        content_hash=_hash(text.text).hex(),
        language=text.language,
        text=text.text,
        index_config_id=config.id,
        chunks=list(_chunk_writes(text, chunks)),
    )


def _chunk_writes(text: Text, chunks: Sequence[tuple[str, bytes]]) -> Iterator[documents.ChunkWrite]:
    start = 0
    for ordinal, (piece, halfvec) in enumerate(chunks):
        chunk = Chunk(ordinal, piece, start, start + len(piece), "", max(1, len(piece) // 4))
        yield documents.ChunkWrite(chunk, _hash(piece), lexer_for(text.language).counted(piece), halfvec)
        start += len(piece)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
