"""Sync jobs: counts move with their pages, a status cannot lie, and a dead run leaves where to go on from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError, NoResultFound

from tests.db.conftest import ALICE, BOB
from tests.db.rows import Library
from workstation_pipelines.db import job_control, sync_jobs
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import Counts, JobStatus, JobType, SyncJobId

NOTHING = sync_jobs.Asked(cancel=False, pause=False)
OUTCOMES = ("created", "updated", "unchanged", "skipped", "deleted", "failed")


def _start(database: Database, lease: Lease, job_id: SyncJobId | None = None, **progress: Any) -> SyncJobId:
    job_id = job_id or SyncJobId(uuid4())
    with database.transaction_with_rls(lease.user_id) as connection:
        sync_jobs.start(
            connection, lease, job_id=job_id, job_type=JobType.DELTA, progress=progress, dagster_run_id="run"
        )
    return job_id


def _advance(database: Database, lease: Lease, job_id: SyncJobId, counts: Counts, **progress: Any) -> sync_jobs.Asked:
    with database.transaction_with_rls(lease.user_id) as connection:
        return sync_jobs.advance(connection, lease, job_id=job_id, counts=counts, pages=1, progress=progress)


def _end(database: Database, job_id: SyncJobId, status: JobStatus, **more: Any) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        sync_jobs.end(connection, user_id=ALICE, job_id=job_id, status=status, **more)


def _row(database: Database, job_id: SyncJobId) -> Any:
    (row,) = database.query_with_rls(ALICE, "SELECT * FROM app.sync_jobs WHERE id = :id", {"id": job_id})
    return row


def test_pages_add_up(database: Database, alices: Library) -> None:
    page = Counts(
        10, 1, 2, 3, 1, 1, 2, fetched=5, bytes_fetched=100, chunks_embedded=7, chunks_reused=8, embedding_tokens=9
    )
    assert _advance(database, alices.lease, alices.job_id, page, page=2) == NOTHING
    assert _advance(database, alices.lease, alices.job_id, page, page=3) == NOTHING
    row = _row(database, alices.job_id)
    stored = [getattr(row, f"items_{name}") for name in ("found", *OUTCOMES, "fetched", "processed")]
    assert stored == [20, 2, 4, 6, 2, 2, 4, 10, 20]
    assert (row.bytes_processed, row.chunks_embedded, row.chunks_reused, row.embedding_tokens) == (200, 14, 16, 18)
    assert (row.pages, row.progress_data) == (2, {"page": 3})


def test_job_of_another_fence_does_not_advance(database: Database, alices: Library, bobs: Library) -> None:
    newer = Lease(alices.source.id, ALICE, alices.lease.fence + 1)
    for lease in (newer, bobs.lease):
        with pytest.raises(NoResultFound):
            _advance(database, lease, alices.job_id, Counts(found=1))
    assert _row(database, alices.job_id).items_found == 0


def test_cancel_request_is_told_at_the_next_page(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(BOB) as connection, pytest.raises(NotFoundError):
        job_control.request_cancel(connection, user_id=BOB, job_id=alices.job_id)
    assert _advance(database, alices.lease, alices.job_id, Counts()) == NOTHING
    with database.transaction_with_rls(ALICE) as connection:
        job_control.request_cancel(connection, user_id=ALICE, job_id=alices.job_id)
    assert _advance(database, alices.lease, alices.job_id, Counts()).cancel


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_balances_what_was_found(database: Database, alices: Library, outcome: str) -> None:
    _advance(database, alices.lease, alices.job_id, Counts(found=3, **{outcome: 3}))
    status = JobStatus.COMPLETED_WITH_ERRORS if outcome == "failed" else JobStatus.COMPLETED
    _end(database, alices.job_id, status)
    assert _row(database, alices.job_id).status == status


@pytest.mark.parametrize(
    ("counts", "status", "check"),
    [
        (Counts(found=3, created=2), JobStatus.COMPLETED, "conservation"),
        (Counts(found=2, created=3), JobStatus.COMPLETED, "conservation"),
        (Counts(found=3, created=1, failed=1), JobStatus.COMPLETED_WITH_ERRORS, "conservation"),
        (Counts(found=3, created=2, failed=1), JobStatus.COMPLETED, "honest_status"),
        (Counts(found=3, created=3), JobStatus.COMPLETED_WITH_ERRORS, "honest_status"),
    ],
)
def test_status_that_does_not_fit_the_counts_is_refused(
    database: Database, alices: Library, counts: Counts, status: JobStatus, check: str
) -> None:
    _advance(database, alices.lease, alices.job_id, counts)
    with pytest.raises(IntegrityError, match=f"sync_jobs_{check}"):
        _end(database, alices.job_id, status)
    _end(database, alices.job_id, JobStatus.FAILED)
    assert _row(database, alices.job_id).status == "failed"


def test_completed_job_cannot_be_recounted(database: Database, alices: Library) -> None:
    _end(database, alices.job_id, JobStatus.COMPLETED)
    with pytest.raises(IntegrityError, match="conservation"):
        _advance(database, alices.lease, alices.job_id, Counts(found=1))


def test_end_leaves_a_job_that_has_ended_as_it_is(database: Database, alices: Library) -> None:
    _end(database, alices.job_id, JobStatus.FAILED, message="m" * 3000)
    _end(database, alices.job_id, JobStatus.COMPLETED, message="late")
    row = _row(database, alices.job_id)
    assert (row.status, row.error_message) == ("failed", "m" * 2000)
    assert row.completed_at is not None


def test_paused_job_says_when_to_go_on_and_then_runs_as_if_it_had_not_stopped(
    database: Database, alices: Library
) -> None:
    _end(database, alices.job_id, JobStatus.PAUSED, message="rate limited", wait_s=90.5)
    paused = _row(database, alices.job_id)
    assert paused.not_before - paused.heartbeat_at == timedelta(seconds=90.5)
    _start(database, Lease(alices.source.id, ALICE, 1), alices.job_id, page=2)
    row = _row(database, alices.job_id)
    assert (row.status, row.fence, row.progress_data) == ("running", 1, {"page": 2})
    assert (row.completed_at, row.not_before, row.error_message) == (None, None, "")


def test_pending_job_starts_once(database: Database, alices: Library) -> None:
    _end(database, alices.job_id, JobStatus.FAILED)
    job_id = SyncJobId(uuid4())
    database.query_with_rls(
        ALICE,
        "INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type) VALUES (:id, 'alice', :source, 'manual')",
        {"id": job_id, "source": alices.source.id},
    )
    _start(database, alices.lease, job_id)
    with pytest.raises(NotFoundError, match="not pending"):
        _start(database, alices.lease, job_id)
    _end(database, job_id, JobStatus.COMPLETED)
    with pytest.raises(NotFoundError, match="not pending"):
        _start(database, alices.lease, job_id)


def test_only_one_job_of_a_source_runs(database: Database, alices: Library) -> None:
    with pytest.raises(IntegrityError, match="sync_jobs_one_running"):
        _start(database, alices.lease)


def test_dead_runs_job_is_buried_once_with_its_resume_point(database: Database, alices: Library) -> None:
    _advance(database, alices.lease, alices.job_id, Counts(found=5, created=4), page=9)
    successor = SyncJobId(uuid4())

    def bury() -> sync_jobs.Interrupted | None:
        with database.transaction_with_rls(ALICE) as connection:
            return sync_jobs.bury_interrupted(connection, alices.lease, successor=successor)

    assert bury() == sync_jobs.Interrupted(alices.job_id, JobType.FULL_SYNC, {"page": 9})
    assert bury() is None
    row = _row(database, alices.job_id)
    assert (row.status, str(successor) in row.error_message) == ("failed", True)
    _start(database, alices.lease, successor)
    assert bury() is None


@pytest.mark.parametrize(
    ("status", "is_resumable"),
    [
        (JobStatus.FAILED, True),
        (JobStatus.PAUSED, True),
        (JobStatus.CANCELLED, True),
        (JobStatus.COMPLETED, False),
        (JobStatus.NEEDS_CONFIRMATION, False),
    ],
)
def test_newest_job_that_stopped_half_way_can_be_resumed(
    database: Database, alices: Library, status: JobStatus, is_resumable: bool
) -> None:
    _end(database, alices.job_id, status)
    with database.transaction_with_rls(ALICE) as connection:
        found = sync_jobs.resumable(connection, alices.lease)
    assert found == (sync_jobs.Interrupted(alices.job_id, JobType.FULL_SYNC, {"page": 1}) if is_resumable else None)


def test_job_without_a_resume_point_or_behind_a_newer_one_is_not_resumed(database: Database, alices: Library) -> None:
    _end(database, alices.job_id, JobStatus.FAILED)
    newer = _start(database, alices.lease)

    def resumable() -> sync_jobs.Interrupted | None:
        with database.transaction_with_rls(ALICE) as connection:
            return sync_jobs.resumable(connection, alices.lease)

    assert resumable() is None
    _end(database, newer, JobStatus.FAILED)
    assert resumable() is None


def test_newer_sync_makes_a_confirmation_moot(database: Database, alices: Library) -> None:
    _end(database, alices.job_id, JobStatus.NEEDS_CONFIRMATION)
    with database.transaction_with_rls(ALICE) as connection:
        sync_jobs.supersede_unconfirmed(connection, alices.lease, successor=SyncJobId(uuid4()))
        job = sync_jobs.get(connection, user_id=ALICE, job_id=alices.job_id)
        assert (job.status, job.data_source_name) == ("cancelled", "notes")
        assert [row.id for row in sync_jobs.recent(connection, user_id=ALICE)] == [alices.job_id]
        assert sync_jobs.recent(connection, user_id=ALICE, data_source_id=uuid4()) == []
    with database.transaction_with_rls(BOB) as connection, pytest.raises(NotFoundError):
        sync_jobs.get(connection, user_id=BOB, job_id=alices.job_id)


def test_heartbeat_moves_while_the_job_runs(
    database: Database, alices: Library, admin: psycopg.Connection[Any]
) -> None:
    def beat() -> bool:
        admin.execute("UPDATE app.sync_jobs SET heartbeat_at = '2020-01-01'")
        with database.transaction_with_rls(ALICE) as connection:
            sync_jobs.heartbeat(connection, alices.lease, job_id=alices.job_id)
        return bool(_row(database, alices.job_id).heartbeat_at.year > 2020)

    assert beat()
    _end(database, alices.job_id, JobStatus.CANCELLED)
    assert not beat()
