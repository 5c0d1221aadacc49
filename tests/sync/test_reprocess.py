"""Reprocessing: every document once and in one version for whoever searches, whatever happens to the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import DatabaseUrls
from tests.sync import checker, reworking
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder, FixedSplitter
from tests.sync.reworking import choose, searching, work
from tests.sync.syncing import Wish, index_config
from tests.sync.syncing import start as start_sync
from tests.sync.syncing import vectorizer as opened
from workstation_pipelines.db import documents, processing
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError
from workstation_pipelines.model import Chunk, Heading, JobStatus, ProcessingJobId, UserId
from workstation_pipelines.sync import index, recut, reprocess
from workstation_pipelines.sync.faults import REWORK_POINTS, Faults
from workstation_pipelines.sync.processing import drive
from workstation_pipelines.sync.vectorize import Vectorizer

ALICE = UserId("alice")
DOCUMENTS = 25


def text_of(number: int, edition: int = 1) -> str:
    # Each first chunk is another text, however short: equal ones are shown once.
    return f"{number:02} everywhere in edition {edition}, long enough to be cut in different ways"


@pytest.fixture
def synced(folder: Place) -> Place:
    for number in range(DOCUMENTS):
        (folder.path / f"n{number:02}.txt").write_text(text_of(number))
    folder.sync()
    return folder


def truth(place: Place) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.path.iterdir()}


def ids(ask: Ask) -> set[UUID]:
    return {row[0] for row in ask("SELECT id FROM app.documents WHERE deleted_at IS NULL")}


class Failing:
    """A splitter and an embedder of which each stops after a while."""

    def __init__(self, error: Exception, after: int) -> None:
        self.error = error
        self.left = after

    def _pass(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error


class FailingSplitter(Failing, FixedSplitter):
    def __init__(self, error: Exception, after: int) -> None:
        Failing.__init__(self, error, after)
        FixedSplitter.__init__(self, 33)

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]:
        self._pass()
        return FixedSplitter.split(self, text, headings)


class FailingEmbedder(Failing, DigestEmbedder):
    def __init__(self, error: Exception, after: int) -> None:
        Failing.__init__(self, error, after)
        DigestEmbedder.__init__(self)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._pass()
        return DigestEmbedder.embed(self, texts)


@pytest.mark.crash
def test_no_search_sees_a_document_twice_or_not_at_all_whatever_stops_the_work(
    synced: Place,
    database: Database,
    database_urls: DatabaseUrls,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with searching(database_urls.app_url, ids(ask)) as seen:
        for size, point in enumerate(REWORK_POINTS, 20):
            job_id = choose(database, index_config(database, "alice", "test", size))
            passage = 1 if point == "rework_before_end" else 2
            assert reworking.start(database_urls.app_url, job_id, f"{point}:{passage}").wait() == "killed", point
            assert work(database, job_id).status is JobStatus.COMPLETED
            assert not checker.check(database_urls.admin_url, "alice", truth(synced)), point

        job_id = choose(database, index_config(database, "alice", "test", 33))
        default = opened(database, "alice", DigestEmbedder())
        config = index_config(database, "alice", "test", 33)

        def using(splitter: FixedSplitter, embedder: DigestEmbedder) -> Vectorizer:
            return Vectorizer(
                default._splitter,
                default._embedder,
                default.config,
                others=lambda _: Vectorizer(splitter, embedder, config),
            )

        with pytest.raises(ZeroDivisionError):
            work(database, job_id, using=using(FailingSplitter(ZeroDivisionError(), 22), DigestEmbedder()))
        job_id = choose(database, config)
        away = FailingEmbedder(SourceUnavailableError("the embedder is away: try later"), 0)
        assert work(database, job_id, using=using(FixedSplitter(33), away)).status is JobStatus.PAUSED
        with monkeypatch.context() as broken:
            broken.setattr(documents, "_insert_chunks", _raise_after_a_few(documents._insert_chunks))
            with pytest.raises(ZeroDivisionError):
                work(database, job_id)
        job_id = choose(database, config)
        assert work(database, job_id).status is JobStatus.COMPLETED

        for number in range(DOCUMENTS):
            (synced.path / f"n{number:02}.txt").write_text(text_of(number, edition=2))
        for point in ("page_documents_written:1", "page_before_commit:3", "page_committed:5"):
            assert start_sync(_killed_at(synced, point)).wait() == "killed"
        assert synced.sync().status is JobStatus.COMPLETED
    assert seen.wrong == []
    assert seen.searches > 50
    assert not checker.check(database_urls.admin_url, "alice", truth(synced))
    assert index.check(database, opened(database, "alice", DigestEmbedder()), user_id=ALICE).is_clean


def _killed_at(place: Place, fault: str) -> Wish:
    return replace(place.wish, fault=fault)


def _raise_after_a_few(insert: Callable[..., None]) -> Callable[..., None]:
    def insert_and_raise(connection: Any, user_id: UserId, writes: Any, packer: Any) -> None:
        insert(connection, user_id, writes[:3], packer)
        raise ZeroDivisionError

    return insert_and_raise


def test_a_job_says_what_became_of_each_document_and_costs_only_what_is_new(
    synced: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    chosen = sorted(ids(ask))
    job_id = choose(database, index_config(database, "alice", "test", 20), Selection(document_ids=chosen[:10]))
    ask("UPDATE app.documents SET deleted_at = now() WHERE id = %s", chosen[3])
    ask("DELETE FROM app.chunks WHERE document_id = %s", chosen[3])
    assert work(database, job_id).status is JobStatus.COMPLETED
    again = choose(database, index_config(database, "alice", "test", 20), Selection(document_ids=chosen[:12]))
    assert work(database, again).status is JobStatus.COMPLETED
    with database.transaction_with_rls(ALICE) as connection:
        first, second = (processing.outcomes(connection, user_id=ALICE, job_id=each) for each in (job_id, again))
        jobs = [processing.get(connection, user_id=ALICE, job_id=each) for each in (job_id, again)]
    assert [row.reason for row in first].count("reprocessed") == 9
    assert first[3].reason == "deleted"
    assert [row.reason for row in second] == ["unchanged"] * 9 + ["reprocessed"] * 2
    billed = ask(
        "SELECT job_id, sum(quantity)::bigint FROM app.billing_records WHERE job_id = ANY(%s) GROUP BY 1",
        [job_id, again],
    )
    assert dict(billed) == {job.id: job.embedding_tokens for job in jobs}
    assert ask("SELECT count(*) FROM app.documents WHERE live_generation > 2") == [(0,)]


def test_a_cancel_keeps_what_is_done_and_an_empty_selection_is_refused(
    synced: Place, database: Database, ask: Ask
) -> None:
    job_id = choose(database, index_config(database, "alice", "test", 20))
    working = reprocess.run_reprocessing(
        reprocess.ReprocessingParts(database, opened(database, "alice", DigestEmbedder()), Faults()),
        user_id=ALICE,
        job_id=job_id,
    )
    assert next(working).done == reprocess.DOCUMENTS_A_BATCH
    with database.transaction_with_rls(ALICE) as connection:
        processing.request_cancel(connection, user_id=ALICE, job_id=job_id)
    with pytest.raises(StopIteration) as end:
        next(working)
    assert end.value.value.status is JobStatus.CANCELLED
    assert ask("SELECT documents_done, status FROM app.processing_jobs") == [(DOCUMENTS, "cancelled")]
    with pytest.raises(InvalidRequestError, match="no documents"):
        choose(database, None, Selection(document_ids=[]))


class BeatingEmbedder(DigestEmbedder):
    """Embeds its first texts only when the job has given a sign of life and heard that it is to be cancelled."""

    def __init__(self, database: Database, ask: Ask, job_id: ProcessingJobId) -> None:
        super().__init__()
        self.database, self.ask, self.job_id = database, ask, job_id

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.texts:
            self._beat()
            with self.database.transaction_with_rls(ALICE) as connection:
                processing.request_cancel(connection, user_id=ALICE, job_id=self.job_id)
            for _ in range(2):
                self._beat()
        return super().embed(texts)

    def _beat(self) -> None:
        (before,) = self.ask("SELECT heartbeat_at FROM app.processing_jobs")
        end_s = time.monotonic() + 10
        while self.ask("SELECT heartbeat_at FROM app.processing_jobs") == [before]:
            assert time.monotonic() < end_s, "no sign of life"
            time.sleep(0.02)


def test_a_long_batch_gives_signs_of_life_and_hears_of_a_cancel(
    synced: Place, database: Database, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recut, "EMBEDDED_AT_ONCE", 5)
    config = index_config(database, "alice", "test", 20)
    job_id = choose(database, config)
    default = opened(database, "alice", DigestEmbedder())
    embedder = BeatingEmbedder(database, ask, job_id)
    using = Vectorizer(
        default._splitter,
        default._embedder,
        default.config,
        others=lambda _: Vectorizer(FixedSplitter(20), embedder, config),
    )
    parts = reprocess.ReprocessingParts(database, using, Faults(), beat_every_s=0.02)
    result = drive(reprocess.run_reprocessing(parts, user_id=ALICE, job_id=job_id))
    assert result.status is JobStatus.CANCELLED
    assert len(embedder.texts) == 5
    assert ask("SELECT documents_done, status FROM app.processing_jobs") == [(0, "cancelled")]


def test_new_extraction_waits_for_the_next_full_sync(synced: Place, database: Database, ask: Ask) -> None:
    some = sorted(ids(ask))[:4]
    assert reprocess.fetch_again(database, user_id=ALICE, selection=Selection(document_ids=some)) == 4
    assert index.check(database, opened(database, "alice", DigestEmbedder()), user_id=ALICE).wrong_hash
    assert synced.sync(job_type="full_sync").counts.fetched == 4
