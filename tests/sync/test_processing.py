"""Bulk processing: what becomes of each subject, what a second time changes, and what ends a job early."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.hostile import poison
from tests.sync.bulk import ALICE, Bench, enqueue
from tests.sync.parts import DigestEmbedder, FixedSplitter, PlainExtractor
from workstation_pipelines.db import budgets, documents, library, processing, tombstones, uploads
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, SourceUnavailableError
from workstation_pipelines.model import (
    BudgetPeriod,
    BudgetUnit,
    Content,
    Extracted,
    IndexConfigId,
    JobStatus,
    ProcessingKind,
)
from workstation_pipelines.sync import processing as engine
from workstation_pipelines.sync import restore
from workstation_pipelines.sync.delta import REMOVED_BY_USER
from workstation_pipelines.sync.index import check
from workstation_pipelines.sync.subjects import given, upload_subject
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import ExtractionLimits, SandboxedExtractor

POISON = ("encrypted docx", "truncated pdf", "zip bomb", "billion laughs", "blank text")


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def write(folder: Path, name: str, text: str = "some words") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_thirty_inputs_of_which_five_are_poison(bench: Bench, tmp_path: Path) -> None:
    subjects = [write(tmp_path, f"note{number}.md", f"# Note {number}\n\nSome words.") for number in range(25)]
    for number, kind in enumerate(POISON):
        name, make, _ = poison.REFUSED[kind]
        bad = tmp_path / f"{number}-{name}"
        bad.write_bytes(make())
        subjects.insert(number * 6, str(bad))
    bench.extractor = SandboxedExtractor(ExtractionLimits(wall_s=20))
    try:
        job_id = bench.process(*subjects, at_a_time=5)
    finally:
        bench.extractor.close()
    outcomes = bench.outcomes(job_id)
    expected = [poison.REFUSED[kind][2] for kind in POISON]
    assert [outcomes[number * 6][1] for number in range(5)] == expected
    assert Counter(outcomes)["done", "created"] == 25
    job = bench.job(job_id)
    assert job.status == "completed_with_errors"
    assert job.documents_total == job.documents_done + job.documents_skipped + job.documents_failed == 30
    assert bench.ask("SELECT count(*) FROM app.documents")[0][0] == 25
    assert check(bench.database, bench.parts().vectorizer, user_id=ALICE).is_clean


def test_again_updates_what_changed_and_embeds_nothing_else(bench: Bench, tmp_path: Path) -> None:
    subjects = [write(tmp_path, "a.txt", "one"), write(tmp_path, "b.txt", "two")]
    with bench.database.transaction_with_rls(ALICE) as connection:
        project_id = library.ensure_project(connection, user_id=ALICE, name="tax", new_id=uuid4)
    bench.process(*subjects, project_id=project_id, tags=["x", "y"])
    write(tmp_path, "b.txt", "three")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")  # another spelling of the same file
    job_id = bench.process(*subjects, str(tmp_path / "link.txt"), tags=["z"], at_a_time=1)
    assert bench.outcomes(job_id) == [("skipped", "unchanged"), ("done", "updated"), ("skipped", "unchanged")]
    assert bench.embedder.texts == ["three"]
    with bench.database.transaction_with_rls(ALICE) as connection:
        rows = library.documents(connection, user_id=ALICE)
    assert [(row.external_path, row.title, row.project_name, row.tags, row.sync_status) for row in rows] == [
        (str(tmp_path / name), name[0], "tax", ["x", "y", "z"], "synced") for name in ("a.txt", "b.txt")
    ]
    job = bench.job(job_id)
    assert (job.status, job.chunks_embedded, job.documents_skipped) == ("completed", 1, 2)


def test_document_with_index_settings_of_its_own_keeps_them(bench: Bench, tmp_path: Path) -> None:
    subject = write(tmp_path, "a.txt", "one")
    bench.process(subject)
    vectorizer = bench.parts().vectorizer
    chosen = replace(vectorizer.config, id=IndexConfigId(uuid4()), chunk_tokens=80)
    [row] = bench.ask("SELECT id FROM app.documents")
    bench.ask(
        """INSERT INTO app.index_configs (id, user_id, embedder, model, dimensions, chunk_tokens, overlap_tokens)
           VALUES (:id, 'alice', :embedder, :model, :dimensions, 80, 0)""",
        id=chosen.id, embedder=chosen.embedder, model=chosen.model, dimensions=chosen.dimensions,
    )  # fmt: skip
    bench.ask(
        "INSERT INTO app.index_settings (id, user_id, document_id, index_config_id) VALUES (:id, 'alice', :document, :config)",
        id=uuid4(), document=row.id, config=chosen.id,
    )  # fmt: skip
    bench.others = lambda _config_id: Vectorizer(FixedSplitter(), bench.embedder, chosen)
    write(tmp_path, "a.txt", "two")
    bench.process(subject)
    assert bench.ask("SELECT index_config_id FROM app.documents")[0][0] == chosen.id
    assert bench.outcomes(bench.process(subject)) == [("skipped", "unchanged")]


def test_deleted_document_comes_back_under_its_id_when_it_is_processed_again(bench: Bench, tmp_path: Path) -> None:
    subject = write(tmp_path, "a.txt")
    bench.process(subject)
    document_id: UUID = bench.ask("SELECT id FROM app.documents")[0][0]
    with bench.database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[document_id])
    assert bench.outcomes(bench.process(subject)) == [("done", "updated")]
    rows = bench.ask("SELECT id, deleted_at, chunk_count FROM app.documents")
    assert [tuple(row) for row in rows] == [(document_id, None, 1)]
    assert check(bench.database, bench.parts().vectorizer, user_id=ALICE).is_clean


def test_text_that_vanished_is_not_found_any_more(bench: Bench, tmp_path: Path) -> None:
    subject = write(tmp_path, "a.txt")
    bench.process(subject)
    write(tmp_path, "a.txt", "")
    assert bench.outcomes(bench.process(subject)) == [("skipped", "empty")]
    assert bench.ask("SELECT count(*) FROM app.chunks")[0][0] == 0
    write(tmp_path, "a.txt", "POISON")
    assert bench.outcomes(bench.process(subject)) == [("failed", "corrupt")]


def test_what_is_inside_becomes_documents_of_their_own(bench: Bench, tmp_path: Path) -> None:
    subject = write(tmp_path, "mail.txt", "hello\nattach one.txt: first\nattach two.txt: POISON")
    job_id = bench.process(subject)
    row = bench.ask("SELECT message FROM app.processing_outcomes")[0]
    assert "1 inside left out: it is damaged" in row.message
    write(tmp_path, "mail.txt", "hello\nattach two.txt: second\nattach three.txt: third")
    assert bench.outcomes(bench.process(subject)) == [("done", "updated")]
    assert bench.outcomes(bench.process(subject)) == [("skipped", "unchanged")]
    live = bench.ask("SELECT title, parent_document_id IS NULL FROM app.documents WHERE deleted_at IS NULL ORDER BY 1")
    assert [tuple(each) for each in live] == [("mail", True), ("three", False), ("two", False)]
    assert bench.job(job_id).documents_done == 1


def test_what_is_inside_goes_and_comes_back_with_its_document_or_outlives_it_alone(
    bench: Bench, tmp_path: Path
) -> None:
    subject = write(tmp_path, "mail.txt", "hello\nattach one.txt: first\nattach two.txt: second")
    bench.process(subject)
    named = {row.title: row.id for row in bench.ask("SELECT id, title FROM app.documents")}

    def delete_mail() -> None:
        gone = restore.delete(bench.database, user_id=ALICE, document_id=named["mail"], reason=REMOVED_BY_USER)
        assert set(gone) == set(named.values())

    def have_back(title: str) -> list[UUID]:
        using, reference = bench.parts().vectorizer, str(named[title])
        done = restore.restore(bench.database, using, user_id=ALICE, reference=reference, retention=timedelta(days=30))
        return sorted(done.document_ids)

    delete_mail()
    assert have_back("mail") == sorted(named.values())
    delete_mail()
    assert have_back("one") == [named["one"]]
    assert restore.purge(bench.database, user_id=ALICE, retention=timedelta(0)) == 2
    bench.process(subject)
    titles = [row.title for row in bench.ask("SELECT title FROM app.documents WHERE deleted_at IS NULL ORDER BY 1")]
    assert titles == ["mail", "one", "one", "two"]


def test_uploads_are_gone_once_their_outcome_is_known(bench: Bench) -> None:
    def upload(body: bytes, name: str = "a.txt") -> str:
        upload_id = uuid4()
        with bench.database.transaction_with_rls(ALICE) as connection:
            uploads.add(connection, user_id=ALICE, upload_id=upload_id, name=name, mime_type="", body=body)
        return upload_subject(upload_id)

    subjects = [upload(b"words"), upload(b"POISON"), upload_subject(uuid4()), "upload:x"]
    assert bench.outcomes(bench.process(*subjects)) == [
        ("done", "created"), ("failed", "corrupt"), ("failed", "gone"), ("failed", "refused"),
    ]  # fmt: skip
    assert bench.outcomes(bench.process(upload(b"words", "b.txt"))) == [("skipped", "unchanged")]
    assert bench.ask("SELECT count(*) FROM app.uploads")[0][0] == 0
    job_id = enqueue(bench.database, [upload(b"never")])
    bench.database.query_with_rls(
        ALICE, "UPDATE app.processing_jobs SET cancel_requested = true WHERE status = 'pending'"
    )
    parts = bench.parts()
    with bench.database.transaction_with_rls(ALICE) as connection:
        attempt = processing.start(connection, user_id=ALICE, job_id=job_id).attempt
    engine._Run(parts, processing.Started(attempt, _KIND, {}, None)).end(JobStatus.CANCELLED, "")
    assert bench.ask("SELECT count(*) FROM app.uploads")[0][0] == 0


_KIND = ProcessingKind.BULK_DOCUMENT_PROCESSING


def test_paths_lead_below_the_allowed_folders_only(bench: Bench, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    bench.folder_roots = (inside,)
    write(outside, "b.txt")
    (inside / "link.txt").symlink_to(outside / "b.txt")
    subjects = [
        write(inside, "a.txt"),
        str(outside / "b.txt"),
        str(inside / "link.txt"),
        str(inside),
        str(inside / "no"),
    ]
    assert bench.outcomes(bench.process(*subjects, "relative", "ftp://x/y", "https:///x")) == [
        ("done", "created"), ("failed", "refused"), ("failed", "refused"), ("failed", "refused"), ("failed", "gone"),
        ("failed", "refused"), ("failed", "refused"), ("failed", "refused"),
    ]  # fmt: skip
    bench.folder_roots = ()
    assert bench.outcomes(bench.process(subjects[0])) == [("failed", "refused")]


def test_words_become_subjects_that_mean_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = given(["a.txt", "./a.txt", "../x", "https://host/a#b", "b\udcff%25.txt"])
    assert found == [
        str(tmp_path / "a.txt"), str(tmp_path.parent / "x"), "https://host/a#b", f"{tmp_path}/b%FF%2525.txt",
    ]  # fmt: skip


class Buggy(PlainExtractor):
    """Fails in a way that nobody foresaw, and counts how many texts are read at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()
        self._together = threading.Barrier(3)

    def extract(self, content: Content) -> Extracted:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if content.name in ("0.txt", "1.txt", "2.txt"):
            self._together.wait(20)
        with self._lock:
            self.now -= 1
        if content.name == "2.txt":
            raise KeyError("what the document says")
        return super().extract(content)


def test_bug_over_one_document_leaves_the_others_alone(bench: Bench, tmp_path: Path) -> None:
    bench.extractor = buggy = Buggy()
    job_id = bench.process(*(write(tmp_path, f"{number}.txt", f"n {number}") for number in range(12)), at_a_time=3)
    assert bench.outcomes(job_id) == [("done", "created")] * 2 + [("failed", "bug")] + [("done", "created")] * 9
    message = bench.ask("SELECT message FROM app.processing_outcomes WHERE reason = 'bug'")[0][0]
    assert message.startswith("KeyError in test_processing.py:")
    assert "what the document says" not in message
    assert buggy.most == 3


class Failing(DigestEmbedder):
    """Raises its errors one after the other, then embeds."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.errors:
            raise self.errors.pop(0)
        return super().embed(texts)


def test_service_that_is_away_pauses_the_job_and_another_attempt_ends_it(bench: Bench, tmp_path: Path) -> None:
    bench.embedder = Failing(SourceUnavailableError("embeddings are away", wait_s=40))
    job_id = enqueue(bench.database, [write(tmp_path, "a.txt"), write(tmp_path, "b.txt")], at_a_time=1)
    result = bench.work(job_id)
    assert (result.status, result.wait_s) == (JobStatus.PAUSED, 40)
    assert bench.job(job_id).not_before is not None
    assert processing.to_start(bench.database, at_most=9) == []
    assert bench.work(job_id).status is JobStatus.COMPLETED
    with pytest.raises(NotFoundError):
        bench.work(job_id)


def test_what_concerns_all_documents_fails_the_job(bench: Bench, tmp_path: Path) -> None:
    bench.embedder = Failing(InvalidRequestError("the key is refused"), ZeroDivisionError())
    subject = write(tmp_path, "a.txt")
    for kind, message in (
        (InvalidRequestError, "the key is refused"),
        (ZeroDivisionError, "ZeroDivisionError: this is a bug"),
    ):
        job_id = enqueue(bench.database, [subject])
        with pytest.raises(kind):
            bench.work(job_id)
        job = bench.job(job_id)
        assert (job.status, job.error_message.startswith(message)) == ("failed", True)


def test_cancel_stops_between_two_documents_and_keeps_what_is_done(bench: Bench, tmp_path: Path) -> None:
    subjects = [write(tmp_path, f"{number}.txt", f"n {number}") for number in range(6)]
    job_id = enqueue(bench.database, subjects, at_a_time=1)
    running = engine.run_processing(bench.parts(), user_id=ALICE, job_id=job_id)
    next(running)
    with bench.database.transaction_with_rls(ALICE) as connection:
        assert processing.request_cancel(connection, user_id=ALICE, job_id=job_id) is JobStatus.RUNNING
    assert engine.drive(running).status is JobStatus.CANCELLED
    job = bench.job(job_id)
    assert job.status == "cancelled"
    assert 1 <= job.documents_done <= 3
    assert job.documents_pending == 6 - job.documents_done


def test_document_that_does_not_end_holds_up_no_cancel(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BEAT_S", 0.02)
    monkeypatch.setattr(engine, "CANCEL_WAIT_S", 0.1)
    gate = threading.Event()

    class Stuck(PlainExtractor):
        def extract(self, content: Content) -> Extracted:
            assert gate.wait(20)
            return super().extract(content)

    bench.extractor = Stuck()
    job_id = enqueue(bench.database, [write(tmp_path, "a.txt")])
    ended: list[JobStatus] = []
    worker = threading.Thread(target=lambda: ended.append(bench.work(job_id).status))
    worker.start()
    while bench.job(job_id).status != "running":
        time.sleep(0.01)
    with bench.database.transaction_with_rls(ALICE) as connection:
        processing.request_cancel(connection, user_id=ALICE, job_id=job_id)
    worker.join(20)
    assert ended == [JobStatus.CANCELLED]
    gate.set()
    while any(thread.name.startswith("process_") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert bench.ask("SELECT count(*) FROM app.documents")[0][0] == 0
    assert bench.outcomes(job_id) == [("pending", "")]


def test_two_jobs_over_the_same_file_store_it_once(bench: Bench, tmp_path: Path) -> None:
    subjects = [write(tmp_path, f"{number}.txt", f"n {number}") for number in range(8)]
    jobs = [enqueue(bench.database, subjects, at_a_time=4) for _ in range(2)]
    threads = [threading.Thread(target=bench.work, args=(job_id,)) for job_id in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {bench.job(job_id).status for job_id in jobs} == {"completed"}
    rows = bench.ask("SELECT count(*), count(DISTINCT origin), max(live_generation) FROM app.documents")
    assert tuple(rows[0]) == (8, 8, 1)


def put_budget(bench: Bench, period: BudgetPeriod, tokens: int) -> None:
    with bench.database.transaction_with_rls(ALICE) as connection:
        budgets.put(
            connection,
            user_id=ALICE,
            data_source_id=None,
            period=period,
            unit=BudgetUnit.TOKENS,
            amount=Decimal(tokens),
            new_id=uuid4,
        )


def test_budgets_pause_a_job_and_what_is_left_goes_on_later(bench: Bench, tmp_path: Path) -> None:
    tokens = bench.job(bench.process(write(tmp_path, "0.txt", "note 0"))).embedding_tokens
    put_budget(bench, BudgetPeriod.DAY, 3 * tokens)
    subjects = [write(tmp_path, f"{number}.txt", f"note {number}") for number in range(1, 5)]
    job_id = enqueue(bench.database, subjects, at_a_time=4)
    for occurrences in (1, 2):
        assert "budget of yours" in bench.work(job_id).message
        job = bench.job(job_id)
        assert (job.status, job.documents_done, job.embedding_tokens) == ("paused", 2, 2 * tokens)
        assert job.not_before is not None
        assert "and resume the job" in job.error_message
        told = bench.ask("SELECT kind, occurrences, resolved_at, detail FROM app.events")
        assert told == [("budget_reached", occurrences, None, {"processing_job_id": str(job_id)})]
        tried = bench.ask("SELECT attempts FROM app.processing_outcomes WHERE status = 'pending' ORDER BY ordinal")
        assert {row.attempts for row in tried} == {0}, "a budget is no reason to distrust a document"
    put_budget(bench, BudgetPeriod.DAY, 100 * tokens)
    assert bench.work(job_id).status is JobStatus.COMPLETED
    assert bench.ask("SELECT 1 FROM app.events WHERE resolved_at IS NULL") == []

    put_budget(bench, BudgetPeriod.RUN, 2 * tokens)
    more = [write(tmp_path, f"{number}.txt", f"note {number}") for number in range(5, 8)]
    job_id = bench.process(*more)
    assert (bench.job(job_id).status, bench.job(job_id).documents_done) == ("paused", 2)
    assert processing.to_start(bench.database, at_most=10) == []
    with bench.database.transaction_with_rls(ALICE) as connection:
        processing.release(connection, user_id=ALICE, job_id=job_id)
    assert [job.job_id for job in processing.to_start(bench.database, at_most=10)] == [job_id]
    assert bench.work(job_id).status is JobStatus.COMPLETED
    assert check(bench.database, bench.parts().vectorizer, user_id=ALICE).is_clean


def test_deleted_with_what_is_inside_and_had_back_or_processed_again(bench: Bench, tmp_path: Path) -> None:
    subject = write(tmp_path, "mail.txt", "the mail\nattach one: first\nattach two: second")
    bench.process(subject)
    before = bench.ask("SELECT id, title, origin, text FROM app.documents ORDER BY id")
    root = next(row.id for row in before if row.origin.startswith("file:"))
    using = bench.parts().vectorizer

    def live() -> Sequence[Any]:
        return bench.ask("SELECT id, title, origin, text FROM app.documents WHERE deleted_at IS NULL ORDER BY id")

    for reference in (str(root), "mail.txt", subject):
        deleted = restore.delete(bench.database, user_id=ALICE, document_id=root, reason="removed_by_user")
        assert sorted(deleted) == [row.id for row in before]
        assert live() == []
        with bench.database.transaction_with_rls(ALICE) as connection:
            listed = tombstones.listed(connection, user_id=ALICE, retention=timedelta(days=30))
        assert {row.reason for row in listed} == {"removed_by_user"}
        done = restore.restore(bench.database, using, user_id=ALICE, reference=reference, retention=timedelta(days=30))
        assert (sorted(done.document_ids), done.own, done.at_source) == (sorted(deleted), [], [])
        assert live() == before

    restore.delete(bench.database, user_id=ALICE, document_id=root, reason="removed_by_user")
    job_id = bench.process(subject)
    assert bench.outcomes(job_id) == [("done", "updated")]
    assert live() == before, "the same documents, not second ones"
    assert check(bench.database, using, user_id=ALICE).is_clean
