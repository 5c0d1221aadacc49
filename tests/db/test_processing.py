"""Processing jobs: each subject gets one outcome, counts never part from outcomes, and only the newest attempt records."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from tests.db.conftest import ALICE, BOB
from workstation_pipelines.db import processing, uploads
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.processing import Attempt, Outcome, Spent
from workstation_pipelines.errors import BusyError, FencedError, InvalidRequestError, ItemTooLargeError, NotFoundError
from workstation_pipelines.model import JobStatus, OutcomeStatus, ProcessingJobId, ProcessingKind, UserId

DONE, SKIPPED, FAILED = OutcomeStatus.DONE, OutcomeStatus.SKIPPED, OutcomeStatus.FAILED


class Jobs:
    """The module's functions, each in a transaction of its own."""

    def __init__(self, database: Database, user_id: UserId = ALICE) -> None:
        self.database = database
        self.user_id = user_id

    def enqueue(self, *subjects: str, key: str | None = None) -> ProcessingJobId:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.enqueue(
                connection,
                user_id=self.user_id,
                job_id=ProcessingJobId(uuid4()),
                kind=ProcessingKind.BULK_DOCUMENT_PROCESSING,
                subjects=subjects,
                config={"at_a_time": 5},
                idempotency_key=key,
            )

    def start(self, job_id: ProcessingJobId) -> Attempt:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.start(connection, user_id=self.user_id, job_id=job_id).attempt

    def take(self, attempt: Attempt, after: int = -1, at_most: int = 2) -> list[tuple[int, str, int]]:
        with self.database.transaction_with_rls(self.user_id) as connection:
            taken = processing.take(connection, attempt, after=after, at_most=at_most)
        return [(each.ordinal, each.subject, each.attempts) for each in taken]

    def record(self, attempt: Attempt, *outcomes: Outcome, spent: Spent | None = None) -> bool:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.record(connection, attempt, outcomes, spent)

    def end(self, attempt: Attempt, status: JobStatus, **more: Any) -> bool:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.end(connection, attempt, status=status, **more)

    def complete(self, attempt: Attempt) -> JobStatus:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.complete(connection, attempt)

    def cancel(self, job_id: ProcessingJobId) -> JobStatus:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.request_cancel(connection, user_id=self.user_id, job_id=job_id)

    def give_up(self, attempt: Attempt) -> JobStatus | None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.give_up(connection, user_id=self.user_id, job_id=attempt.job_id, attempt=attempt.number)

    def show(self, job_id: ProcessingJobId) -> Any:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.get(connection, user_id=self.user_id, job_id=job_id)

    def outcomes(self, job_id: ProcessingJobId) -> Sequence[Any]:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return processing.outcomes(connection, user_id=self.user_id, job_id=job_id)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def test_outcomes_and_counts_move_together_and_complete_the_job(jobs: Jobs) -> None:
    job_id = jobs.enqueue("/a", "/b", "/c")
    attempt = jobs.start(job_id)
    assert jobs.take(attempt) == [(0, "/a", 1), (1, "/b", 1)]
    assert jobs.take(attempt, after=1) == [(2, "/c", 1)]
    spent = Spent(chunks_embedded=3, chunks_reused=1, embedding_tokens=40, cost=Decimal("0.25"))
    assert jobs.record(attempt, Outcome(0, DONE, "created", duration_s=1.5), spent=spent) is False
    with pytest.raises(IntegrityError, match="conservation"):
        jobs.end(attempt, JobStatus.COMPLETED)
    jobs.record(attempt, Outcome(1, SKIPPED, "unchanged"), Outcome(2, FAILED, "corrupt", "it is damaged"), spent=spent)
    # Said twice: known already, so nothing is counted again.
    jobs.record(attempt, Outcome(0, FAILED, "corrupt"), Outcome(2, DONE, "created"))
    assert jobs.complete(attempt) is JobStatus.COMPLETED_WITH_ERRORS
    row = jobs.show(job_id)
    assert (row.documents_done, row.documents_skipped, row.documents_failed, row.documents_pending) == (1, 1, 1, 0)
    assert (row.chunks_embedded, row.embedding_tokens, row.cost) == (6, 80, Decimal("0.5"))
    assert str(job_id) in row.error_message
    assert row.completed_at is not None
    assert [(each.status, each.reason, each.duration_s) for each in jobs.outcomes(job_id)] == [
        ("done", "created", 1.5),
        ("skipped", "unchanged", 0.0),
        ("failed", "corrupt", 0.0),
    ]
    with pytest.raises(NotFoundError, match="over"):
        jobs.start(job_id)


def test_same_key_gives_the_same_job(jobs: Jobs) -> None:
    first = jobs.enqueue("/a", key="k")
    assert jobs.enqueue("/b", key="k") == first
    assert [each.subject for each in jobs.outcomes(first)] == ["/a"]
    assert jobs.enqueue("/b") != first
    with pytest.raises(InvalidRequestError, match="1 to"):
        jobs.enqueue()


def test_attempt_that_was_taken_over_records_nothing(jobs: Jobs) -> None:
    job_id = jobs.enqueue("/a", "/b")
    older = jobs.start(job_id)
    jobs.take(older)
    newer = jobs.start(job_id)
    for late in (lambda: jobs.record(older, Outcome(0, DONE)), lambda: jobs.complete(older)):
        with pytest.raises(FencedError):
            late()
    with jobs.database.transaction_with_rls(ALICE) as connection, pytest.raises(FencedError):
        processing.beat(connection, older)
    assert jobs.end(older, JobStatus.CANCELLED) is False
    # What ended an attempt shows in the number of attempts.
    assert jobs.take(newer) == [(0, "/a", 2), (1, "/b", 2)]
    jobs.record(newer, Outcome(0, DONE))
    assert [each.status for each in jobs.outcomes(job_id)] == ["done", "pending"]


def test_one_process_at_a_time_holds_a_job(jobs: Jobs) -> None:
    job_id = jobs.enqueue("/a")
    with (
        processing.held(jobs.database, job_id=job_id),
        pytest.raises(BusyError),
        processing.held(jobs.database, job_id=job_id),
    ):
        pass
    with processing.held(jobs.database, job_id=job_id):
        pass


def test_cancel_ends_what_waits_and_is_told_to_what_runs(jobs: Jobs) -> None:
    waiting, running, paused = jobs.enqueue("/a"), jobs.enqueue("/a", "/b"), jobs.enqueue("/a")
    assert jobs.cancel(waiting) is JobStatus.CANCELLED
    attempt = jobs.start(running)
    assert jobs.cancel(running) is JobStatus.RUNNING
    assert jobs.record(attempt, Outcome(0, DONE)) is True
    with jobs.database.transaction_with_rls(ALICE) as connection:
        assert processing.beat(connection, attempt) is True
    jobs.end(attempt, JobStatus.CANCELLED)
    assert jobs.cancel(running) is JobStatus.CANCELLED
    jobs.end(jobs.start(paused), JobStatus.PAUSED, wait_s=60)
    assert jobs.cancel(paused) is JobStatus.CANCELLED
    with pytest.raises(NotFoundError):
        jobs.cancel(ProcessingJobId(uuid4()))


def test_jobs_of_all_users_wait_for_a_start_until_they_are_due(database: Database) -> None:
    alices, bobs = Jobs(database), Jobs(database, BOB)
    first, second, third = alices.enqueue("/a"), bobs.enqueue("/b"), alices.enqueue("/c")
    alices.end(alices.start(first), JobStatus.PAUSED, wait_s=0)
    alices.end(alices.start(third), JobStatus.PAUSED, wait_s=60)
    kind = ProcessingKind.BULK_DOCUMENT_PROCESSING
    assert processing.to_start(database, at_most=9) == [
        processing.Waiting(first, ALICE, 1, kind),
        processing.Waiting(second, BOB, 0, kind),
    ]
    assert processing.owner_of(database, second) == BOB
    assert processing.owner_of(database, uuid4()) is None
    for strangers in (lambda: bobs.show(first), lambda: bobs.start(first), lambda: bobs.cancel(first)):
        with pytest.raises(NotFoundError):
            strangers()
    with database.transaction_with_rls(BOB) as connection:
        assert [row.id for row in processing.recent(connection, user_id=BOB)] == [second]
        assert processing.outcomes(connection, user_id=BOB, job_id=first) == []


def test_silent_attempt_gives_its_job_back_three_times(
    jobs: Jobs, database: Database, admin: psycopg.Connection[Any]
) -> None:
    job_id = jobs.enqueue("/a", "/b")
    for _ in range(processing.MOST_LOST_ATTEMPTS):
        attempt = jobs.start(job_id)
        assert processing.silent(database, silent_s=90, at_most=9) == []
        admin.execute("UPDATE app.processing_jobs SET heartbeat_at = now() - interval '91 s'")
        assert processing.silent(database, silent_s=90, at_most=9) == [
            processing.Waiting(job_id, ALICE, attempt.number)
        ]
        assert jobs.give_up(attempt) is JobStatus.PENDING
        assert jobs.give_up(attempt) is None
    attempt = jobs.start(job_id)
    jobs.record(attempt, Outcome(0, DONE))  # progress: the count begins anew
    assert jobs.give_up(attempt) is JobStatus.PENDING
    for _ in range(processing.MOST_LOST_ATTEMPTS - 1):
        assert jobs.give_up(jobs.start(job_id)) is JobStatus.PENDING
    assert jobs.give_up(jobs.start(job_id)) is JobStatus.FAILED
    assert "time and again" in jobs.show(job_id).error_message
    cancelled = jobs.enqueue("/a")
    attempt = jobs.start(cancelled)
    jobs.cancel(cancelled)
    assert jobs.give_up(attempt) is JobStatus.CANCELLED


def test_uploads_wait_within_a_cap_and_are_forgotten_after_a_day(
    database: Database, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(body: bytes, user_id: UserId = ALICE) -> Any:
        with database.transaction_with_rls(user_id) as connection:
            return uploads.add(
                connection, user_id=user_id, upload_id=uuid4(), name="a.txt", mime_type="text/plain", body=body
            )

    first = add(b"12345")
    with database.transaction_with_rls(ALICE) as connection:
        found = uploads.get(connection, user_id=ALICE, upload_id=first)
    assert found is not None
    assert (found.body, found.name, found.content_hash[:13]) == (b"12345", "a.txt", "sha256:599447")
    with database.transaction_with_rls(BOB) as connection:
        assert uploads.get(connection, user_id=BOB, upload_id=first) is None
    monkeypatch.setattr(uploads, "MOST_WAITING_BYTES", 8)
    with pytest.raises(ItemTooLargeError, match="wait to be processed"):
        add(b"12345")
    add(b"12345", BOB)
    admin.execute("UPDATE app.uploads SET created_at = now() - interval '25 h'")
    add(b"12345")
    assert admin.execute("SELECT user_id FROM app.uploads ORDER BY 1").fetchall() == [("alice",), ("bob",)]
    monkeypatch.setattr(uploads, "MOST_BYTES", 4)
    with pytest.raises(ItemTooLargeError, match="at most"):
        add(b"12345")
