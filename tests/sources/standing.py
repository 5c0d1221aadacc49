"""A connected source as it stands in the database, synced by the real engine, here or in a process that may be killed."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg

from tests.sources.stage import Stage
from workstation_pipelines.db import data_sources, vectors
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.index.hashing import HashingEmbedder
from workstation_pipelines.index.search import search
from workstation_pipelines.model import (
    Chunk,
    DataSourceId,
    Heading,
    IndexConfig,
    JobResult,
    JobType,
    Scope,
    SourceType,
    UserId,
)
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sources import SourceContext, open_source
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor, detect_mime_type, has_text

ALICE = UserId("alice")
CHUNK_CHARACTERS = 2000
TWIN = "\x1e"
"""Parts the texts of things with the same path, where a vendor allows two of one name."""
NEWEST = 12
"""So many of the newest texts are searched for."""

new_id = Uuid7()
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.sources.standing", "httpx"])


class LongSplitter:
    """Cuts every 2,000 characters, so that a marker is never cut."""

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]:
        return [
            Chunk(ordinal, text[at : at + CHUNK_CHARACTERS], at, min(at + CHUNK_CHARACTERS, len(text)), "", 8)
            for ordinal, at in enumerate(range(0, len(text), CHUNK_CHARACTERS))
        ]


@dataclass(frozen=True)
class Connection:
    """What a process needs to sync one source; picklable."""

    app_url: str
    source_type: SourceType
    config: Mapping[str, Any]
    urls: Mapping[str, str]
    token: str = "test-token"
    name: str = field(default_factory=lambda: f"source {uuid4()}")

    def open(self) -> Source:
        context = SourceContext(
            clock=utc_now,
            new_id=new_id,
            detect=detect_mime_type,
            has_text=has_text,
            credentials=StaticToken(self.token),
            account="alice",
            urls=self.urls,
        )
        return open_source(self.source_type, self.config, context)

    def row(self, database: Database) -> DataSource:
        with database.transaction_with_rls(ALICE) as connection:
            for found in data_sources.all_of(connection, user_id=ALICE):
                if found.name == self.name:
                    return found
            return data_sources.add(
                connection,
                user_id=ALICE,
                data_source_id=DataSourceId(new_id()),
                name=self.name,
                source_type=self.source_type,
                config=dict(self.config),
            )

    def sync(self, *, job_type: str = "manual", confirm_deletes: bool = False, fault: str | None = None) -> JobResult:
        """Sync in this process."""
        database = Database(self.app_url, pool_size=4)
        extractor = SandboxedExtractor()
        try:
            parts = SyncParts(
                database=database,
                source=self.open(),
                extractor=extractor,
                vectorizer=Vectorizer(LongSplitter(), HashingEmbedder(), index_config(database)),
                new_id=new_id,
                faults=Faults(fault),
            )
            request = SyncRequest(job_type=JobType(job_type), confirm_deletes=confirm_deletes)
            return drive(run_sync(parts, self.row(database), request))
        finally:
            extractor.close()
            database.close()

    def killed(self, fault: str, *, job_type: str = "manual") -> bool:
        """Sync in a process of its own that is to die at a named point; return whether it got there."""
        with TemporaryDirectory() as folder:
            problem = Path(folder) / "problem"
            process = _FORKS.Process(target=_sync_and_tell, args=(self, fault, job_type, problem))
            process.start()
            process.join(60)
            assert process.exitcode in (0, -9), problem.read_text() if problem.exists() else process.exitcode
            return process.exitcode == -9


def _sync_and_tell(connection: Connection, fault: str, job_type: str, problem: Path) -> None:
    try:
        connection.sync(job_type=job_type, confirm_deletes=True, fault=fault)
    except WorkstationError:
        problem.write_text(traceback.format_exc())
        raise


def index_config(database: Database) -> IndexConfig:
    embedder = HashingEmbedder()
    with database.transaction_with_rls(ALICE) as connection:
        return vectors.index_config(
            connection,
            user_id=ALICE,
            embedder=embedder.name,
            model=embedder.model,
            dimensions=embedder.dimensions,
            chunk_tokens=512,
            overlap_tokens=0,
            new_id=new_id,
        )


class Standing:
    """One connected Stage: syncs it, and holds everything that is stored against the Stage's truth."""

    def __init__(self, stage: Stage, app_url: str, admin_url: str) -> None:
        self.stage = stage
        self.connection = Connection(app_url, stage.source_type, stage.config, stage.urls())
        self.admin_url = admin_url
        self.markers: dict[str, str] = {}

    def sync(self, **request: Any) -> JobResult:
        return self.connection.sync(**request)

    def text(self, words: str) -> str:
        """A text with a marker of its own, which no other text holds."""
        marker = f"zq{uuid4().hex[:14]}"
        text = f"{marker} {words}"
        self.markers[marker] = text
        return text

    def differences(self) -> list[str]:
        """Say how documents, chunks, vectors and search differ from the truth; empty when they do not."""
        truth = self.stage.truth()
        with psycopg.connect(libpq_url(self.admin_url)) as admin:
            documents = admin.execute(
                """
                SELECT i.external_path, d.text, d.id, d.live_generation
                  FROM app.documents d JOIN app.sync_items i ON i.local_document_id = d.id
                 WHERE d.user_id = 'alice' AND d.deleted_at IS NULL AND i.sync_status <> 'deleted'
                   AND i.parent_external_id IS NULL"""
            ).fetchall()
            chunks = admin.execute(
                """
                SELECT c.document_id, c.generation, c.text, c.embedding::text FROM app.chunks c
                 WHERE c.user_id = 'alice' ORDER BY c.document_id, c.generation, c.ordinal"""
            ).fetchall()
            states = admin.execute(
                "SELECT sync_status, count(*) FROM app.sync_items WHERE sync_status = 'failed' GROUP BY 1"
            ).fetchall()
        found = [f"items {status}: {count}" for status, count in states]
        stored: dict[str, str] = {}
        live = {}
        for path, text, document_id, generation in documents:
            if text in stored.get(path, "").split(TWIN):
                found.append(f"{path} is stored twice")
            stored[path] = f"{stored[path]}{TWIN}{text}" if path in stored else text
            live[document_id, generation] = text
        found += [f"{path} is lost" for path in truth.keys() - stored.keys()]
        found += [f"{path} should not be there" for path in stored.keys() - truth.keys()]
        for path in truth.keys() & stored.keys():
            found += self._wrong_text(path, truth[path], stored[path])
        return found + self._wrong_chunks(live, chunks) + self._wrong_hits(truth)

    def _wrong_text(self, path: str, wanted: str, text: str) -> list[str]:
        theirs = {marker for marker in self.markers if marker in wanted}
        there = {marker for marker in self.markers if marker in text}
        return [f"{path} holds {sorted(there)} instead of {sorted(theirs)}"] if there != theirs else []

    @staticmethod
    def _wrong_chunks(live: Mapping[Any, str], chunks: Sequence[Any]) -> list[str]:
        found = []
        by_document: dict[Any, list[str]] = {}
        for document_id, generation, text, embedding in chunks:
            by_document.setdefault((document_id, generation), []).append(text)
            vector = np.array([float(number) for number in (embedding or "[]").strip("[]").split(",") if number])
            wanted = HashingEmbedder().embed([text])[0]
            if vector.shape != wanted.shape or not np.allclose(vector, wanted, atol=2e-3):
                found.append(f"the vector of {text[:40]!r} is wrong")
        found += [f"chunks of {key} have no live document" for key in by_document.keys() - live.keys()]
        for key, text in live.items():
            if "".join(by_document.get(key, [])) != text:
                found.append(f"the chunks of {key} are not its text")
        return found

    def _wrong_hits(self, truth: Mapping[str, str]) -> list[str]:
        database = Database(self.connection.app_url, pool_size=1)
        try:
            config = index_config(database)
            found = []
            # Everything stored was compared above, and a search for what has long been settled finds no more than that.
            for marker in list(self.markers)[-NEWEST:]:
                wanted = {path for path, text in truth.items() if marker in text}
                result = search(database, HashingEmbedder(), config, marker, Scope(ALICE), mode="text")
                hits = {hit.external_path for hit in result.hits if marker in hit.text}
                if hits != wanted:
                    found.append(f"a search for {marker} finds {sorted(map(str, hits))} instead of {sorted(wanted)}")
            return found
        finally:
            database.close()
