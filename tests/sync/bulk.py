"""Bulk processing jobs, worked on in this process or in one of their own that may be killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp
from typing import Any
from uuid import UUID

import psycopg

from tests.sync.parts import DigestEmbedder, FixedSplitter, PlainExtractor, vector_of
from tests.sync.syncing import _FORKS, Running, new_id, vectorizer
from workstation_pipelines.db import processing
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import IndexConfigId, ProcessingJobId, ProcessingKind, UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sources.web import WebFetcher
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.processing import ProcessingParts, ProcessingResult, drive, run_processing
from workstation_pipelines.sync.vectorize import Vectorizer

ALICE = UserId("alice")


@dataclass(frozen=True)
class Work:
    """An attempt to make at a job. `mutant` breaks the engine in a known way."""

    app_url: str
    job_id: ProcessingJobId
    fault: str | None = None
    is_mutant: bool = False


def enqueue(
    database: Database,
    subjects: Sequence[str],
    *,
    user_id: UserId = ALICE,
    project_id: UUID | None = None,
    **config: Any,
) -> ProcessingJobId:
    with database.transaction_with_rls(user_id) as connection:
        return processing.enqueue(
            connection,
            user_id=user_id,
            job_id=ProcessingJobId(new_id()),
            kind=ProcessingKind.BULK_DOCUMENT_PROCESSING,
            subjects=subjects,
            config=config,
            project_id=project_id,
        )


@dataclass
class Bench:
    """What jobs are worked on with here; `texts` are those that were embedded."""

    database: Database
    extractor: Extractor = field(default_factory=PlainExtractor)
    embedder: DigestEmbedder = field(default_factory=DigestEmbedder)
    fetcher: WebFetcher = field(default_factory=lambda: WebFetcher(clock=utc_now))
    folder_roots: tuple[Path, ...] | None = None
    user_id: UserId = ALICE
    others: Callable[[IndexConfigId], Vectorizer] | None = None

    def parts(self, fault: str | None = None) -> ProcessingParts:
        return ProcessingParts(
            database=self.database,
            fetcher=self.fetcher,
            folder_roots=self.folder_roots,
            extractor=self.extractor,
            vectorizer=self._vectorizer(),
            new_id=new_id,
            faults=Faults(fault),
        )

    def _vectorizer(self) -> Vectorizer:
        plain = vectorizer(self.database, self.user_id, self.embedder)
        return Vectorizer(FixedSplitter(), self.embedder, plain.config, plain.token_price, others=self.others)

    def work(self, job_id: ProcessingJobId, fault: str | None = None) -> ProcessingResult:
        return drive(run_processing(self.parts(fault), user_id=self.user_id, job_id=job_id))

    def process(self, *subjects: str, project_id: UUID | None = None, **config: Any) -> ProcessingJobId:
        """Enqueue a job and work on it to its end; return its id."""
        job_id = enqueue(self.database, subjects, user_id=self.user_id, project_id=project_id, **config)
        self.embedder.texts.clear()
        self.work(job_id)
        return job_id

    def outcomes(self, job_id: ProcessingJobId) -> list[tuple[str, str]]:
        with self.database.transaction_with_rls(self.user_id) as connection:
            rows = processing.outcomes(connection, user_id=self.user_id, job_id=job_id)
        return [(row.status, row.reason) for row in rows]

    def job(self, job_id: ProcessingJobId) -> Any:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.get(connection, user_id=self.user_id, job_id=job_id)

    def ask(self, statement: str, **parameters: Any) -> Sequence[Any]:
        return self.database.query_with_rls(self.user_id, statement, parameters)


def start(work: Work) -> Running:
    """Make an attempt in a process of its own."""
    handle, name = mkstemp(suffix=".outcome")
    os.close(handle)
    process = _FORKS.Process(target=_work_and_tell, args=(work, name))
    process.start()
    return Running(process, Path(name))


def _work_and_tell(work: Work, outcome_file: str) -> None:
    database = Database(work.app_url, pool_size=4)
    if work.is_mutant:
        record_in_a_transaction_of_its_own()
    try:
        outcome = Bench(database).work(work.job_id, work.fault).status.value
    except WorkstationError as error:
        outcome = type(error).__name__
    finally:
        database.close()
    Path(outcome_file).write_text(outcome)


def record_in_a_transaction_of_its_own() -> None:
    """Commits a document before its outcome: a kill in between does it a second time."""
    from workstation_pipelines.sync.standalone import StandaloneDocuments

    original = StandaloneDocuments.store

    def store(self: Any, _connection: Any, *arguments: Any) -> bool:
        with self._database.transaction_with_rls(self._user_id) as own:
            return original(self, own, *arguments)

    setattr(StandaloneDocuments, "store", store)  # noqa: B010 - mypy rightly objects to the assignment


def wrong(admin_url: str, truth: Mapping[str, tuple[str, int]]) -> list[str]:
    """Compare all that is stored with `truth`: path -> text and how often it has been given one."""
    found = []
    with psycopg.connect(libpq_url(admin_url)) as connection:
        documents = connection.execute(
            "SELECT substr(origin, 6), text, live_generation, id, chunk_count FROM app.documents WHERE deleted_at IS NULL"
        ).fetchall()
        chunks = connection.execute(
            "SELECT document_id, generation, ordinal, text, embedding::text FROM app.chunks ORDER BY 1, 3"
        ).fetchall()
        unbalanced = connection.execute(
            """
            SELECT j.id FROM app.processing_jobs j JOIN app.processing_outcomes o ON o.processing_job_id = j.id
             GROUP BY j.id HAVING count(*) <> j.documents_total OR count(*) FILTER (WHERE o.status = 'done') <> j.documents_done
                OR count(*) FILTER (WHERE o.status = 'failed') <> j.documents_failed
                OR count(*) FILTER (WHERE o.status = 'skipped') <> j.documents_skipped"""
        ).fetchall()
        unbilled = connection.execute(
            """
            SELECT j.id FROM app.processing_jobs j LEFT JOIN app.billing_records b ON b.job_id = j.id
             GROUP BY j.id HAVING coalesce(sum(b.quantity), 0) <> j.embedding_tokens OR j.embedding_tokens = 0"""
        ).fetchall()
    if sorted((path, (text, generation)) for path, text, generation, _, _ in documents) != sorted(truth.items()):
        found.append("documents")
    expected = {
        (document_id, generation, chunk.ordinal, chunk.text)
        for _, text, generation, document_id, _ in documents
        for chunk in FixedSplitter().split(text, [])
    }
    if sorted(expected) != sorted(chunk[:4] for chunk in chunks):
        found.append("chunks")
    for *_, text, embedding in chunks:
        values = [float(value) for value in embedding.strip("[]").split(",")]
        if max(abs(vector_of(text) - values)) > 0.01:
            found.append("vectors")
    return found + ["counts"] * len(unbalanced) + ["bill"] * len(unbilled)
