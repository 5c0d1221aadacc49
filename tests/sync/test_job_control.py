"""Jobs are asked for, held, resumed, stopped and answered; whatever they do meanwhile, nothing is lost by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask
from tests.sync.slow import SlowSource
from tests.sync.syncing import Wish, data_source, new_id
from tests.sync.told import ThreadedSource, ToldSource, item, listing, parts_with
from workstation_pipelines.db import job_control, job_queue, retention, sync_jobs
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import JobResult, JobStatus, JobType, SyncJobId, UserId
from workstation_pipelines.settings import RetentionDays
from workstation_pipelines.sync import housekeeping
from workstation_pipelines.sync.run import SyncRequest, drive, run_sync

ALICE, BOB = UserId("alice"), UserId("bob")
TEXT = "a text of more than forty characters, so that it has two chunks"
PAGES = [[item("a", TEXT), item("b", TEXT + " b")], [item("c", "c"), item("d", "d"), item("e", "e")], [item("f", "f")]]
TRUTH = {one.external_path: one.external_hash.removeprefix("tx:") for page in PAGES for one in page}
MANY = [[item(f"i{number:02}", f"text {number}") for number in range(30)]]
FEW = [MANY[0][:2]]

Request = Callable[..., JobStatus]


@pytest.fixture
def wish(database_urls: DatabaseUrls) -> Wish:
    return Wish(database_urls.app_url, "account.json")


def run(database: Database, wish: Wish, source: ToldSource, **request: Any) -> JobResult:
    parts = replace(parts_with(database, wish, source), beat_every_s=0.03)
    return drive(run_sync(parts, data_source(database, wish), SyncRequest(**request)))


def ask_of(database: Database, request: Request, job_id: UUID, user_id: UserId = ALICE) -> JobStatus:
    with database.transaction_with_rls(user_id) as connection:
        return request(connection, user_id=user_id, job_id=job_id)


def enqueue(database: Database, wish: Wish, **more: Any) -> Any:
    source = data_source(database, wish)
    with database.transaction_with_rls(ALICE) as connection:
        job_id = SyncJobId(new_id())
        return job_queue.enqueue(connection, user_id=ALICE, data_source_id=source.id, job_id=job_id, **more)


def status_of(database: Database, job_id: UUID) -> str:
    with database.transaction_with_rls(ALICE) as connection:
        return str(sync_jobs.get(connection, user_id=ALICE, job_id=job_id).status)


@contextmanager
def asked_while_it_hangs(database: Database, source: SlowSource, job_id: UUID, request: Request) -> Iterator[None]:
    def ask() -> None:
        assert source.hangs.wait(20)
        ask_of(database, request, job_id)

    asking = Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        source.go_on.set()
        asking.join()


@pytest.mark.parametrize("request_stop", [job_control.request_cancel, job_control.request_pause])
def test_stop_in_the_middle_of_a_page_keeps_what_was_fetched_and_the_rest_follows(
    request_stop: Request, database: Database, wish: Wish, database_urls: DatabaseUrls, ask: Ask
) -> None:
    job_id = enqueue(database, wish).id
    slow = SlowSource(listing(*PAGES), slow=("d",))
    with asked_while_it_hangs(database, slow, job_id, request_stop):
        stopped = run(database, wish, slow, job_id=job_id)
    is_paused = request_stop is job_control.request_pause
    assert stopped.status == (JobStatus.PAUSED if is_paused else JobStatus.CANCELLED)
    stored = {row[0] for row in ask("SELECT external_id FROM app.sync_items")}
    assert stored == {"a", "b", "c"}
    assert ask("SELECT connection_status FROM app.data_sources") == [("connected",)]
    if is_paused:
        assert ask_of(database, job_control.resume, job_id) is JobStatus.PENDING
    rest = ThreadedSource(listing(*PAGES))
    done = run(database, wish, rest, job_id=job_id if is_paused else None)
    assert done.status is JobStatus.COMPLETED
    assert (done.job_id == job_id) is is_paused
    assert {one.external_id for one in rest.asked} == {"d", "e", "f"}
    assert not checker.check(database_urls.admin_url, "alice", TRUTH)


def test_stop_is_heard_while_the_source_lists(database: Database, wish: Wish, ask: Ask) -> None:
    job_id = enqueue(database, wish).id
    slow = SlowSource(listing(*PAGES), slow_page=1)
    begun_s = time.monotonic()
    with asked_while_it_hangs(database, slow, job_id, job_control.request_cancel):
        assert run(database, wish, slow, job_id=job_id).status is JobStatus.CANCELLED
        assert time.monotonic() - begun_s < 10
    assert ask("SELECT count(*) FROM app.sync_items") == [(2,)]


def test_job_that_waits_changes_at_once_and_a_run_that_comes_too_late_ends_quietly(
    database: Database, wish: Wish, ask: Ask
) -> None:
    source = ThreadedSource(listing(*PAGES))
    held = enqueue(database, wish).id
    assert ask_of(database, job_control.request_pause, held) is JobStatus.PAUSED
    assert ask_of(database, job_control.request_pause, held) is JobStatus.PAUSED
    assert run(database, wish, source, job_id=held).status is JobStatus.PAUSED
    assert ask_of(database, job_control.resume, held) is JobStatus.PENDING
    assert ask_of(database, job_control.request_cancel, held) is JobStatus.CANCELLED
    assert ask_of(database, job_control.request_cancel, held) is JobStatus.CANCELLED
    late = run(database, wish, source, job_id=held)
    assert (late.status, late.job_id, source.asked) == (JobStatus.CANCELLED, held, [])
    for request in (job_control.request_pause, job_control.resume):
        with pytest.raises(InvalidRequestError, match="has ended as cancelled"):
            ask_of(database, request, held)
    with pytest.raises(NotFoundError):
        ask_of(database, job_control.request_cancel, held, BOB)
    assert ask("SELECT status FROM app.sync_jobs") == [("cancelled",)]


def test_paused_by_its_vendor_can_be_held_and_let_go(database: Database, wish: Wish, ask: Ask) -> None:
    job_id = enqueue(database, wish).id
    ask("UPDATE app.sync_jobs SET status = 'paused', not_before = now() + interval '1 hour'")
    assert ask_of(database, job_control.request_pause, job_id) is JobStatus.PAUSED
    assert ask("SELECT pause_requested, not_before FROM app.sync_jobs") == [(True, None)]
    assert ask_of(database, job_control.resume, job_id) is JobStatus.PENDING
    assert run(database, wish, ThreadedSource(listing(*PAGES)), job_id=job_id).status is JobStatus.COMPLETED


def test_pause_that_is_withdrawn_in_time_or_just_too_late_leaves_no_job_behind(
    database: Database, wish: Wish, ask: Ask
) -> None:
    job_id = enqueue(database, wish).id
    slow = SlowSource(listing(*PAGES), slow=("d",))

    def pause_and_resume_too_late(*_: Any, **__: Any) -> JobStatus:
        ask_of(database, job_control.request_pause, job_id)
        deadline_s = time.monotonic() + 10
        while not ask("SELECT 1 FROM app.sync_items WHERE external_id = 'c'"):  # the run has heard it, and ends
            assert time.monotonic() < deadline_s
        return ask_of(database, job_control.resume, job_id)

    with asked_while_it_hangs(database, slow, job_id, pause_and_resume_too_late):
        run(database, wish, slow, job_id=job_id)
    assert status_of(database, job_id) == "pending"
    assert run(database, wish, ThreadedSource(listing(*PAGES)), job_id=job_id).status is JobStatus.COMPLETED


def asking_job(database: Database, wish: Wish) -> UUID:
    """Sync thirty items, then lose all but two: the job that asks about the others."""
    run(database, wish, ThreadedSource(listing(*MANY)), job_type=JobType.FULL_SYNC)
    held = run(database, wish, ThreadedSource(listing(*FEW)), job_type=JobType.FULL_SYNC)
    assert held.status is JobStatus.NEEDS_CONFIRMATION
    return held.job_id


def live(ask: Ask) -> int:
    return int(ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL")[0][0])


def test_confirmed_deletes_are_done_by_a_job_of_their_own(database: Database, wish: Wish, ask: Ask) -> None:
    asking = asking_job(database, wish)
    with database.transaction_with_rls(ALICE) as connection:
        answers = [
            job_control.confirm(connection, user_id=ALICE, job_id=asking, new_job_id=SyncJobId(new_id())) for _ in "12"
        ]
    assert answers[0].id == answers[1].id
    assert (answers[0].status, answers[0].confirm_deletes, live(ask)) == ("pending", True, 30)
    done = run(database, wish, ThreadedSource(listing(*FEW)), job_id=answers[0].id)
    assert (done.status, done.counts.deleted, live(ask)) == (JobStatus.COMPLETED, 28, 2)
    assert status_of(database, asking) == "cancelled"
    with pytest.raises(InvalidRequestError, match="asks nothing"):
        ask_of(database, job_control.refuse, asking)  # type: ignore[arg-type]  # it returns nothing


def test_refused_deletes_are_not_asked_about_again_until_more_is_gone(database: Database, wish: Wish, ask: Ask) -> None:
    asking = asking_job(database, wish)
    for _ in range(2):
        ask_of(database, job_control.refuse, asking)  # type: ignore[arg-type]
    full = {"job_type": JobType.FULL_SYNC}
    again = run(database, wish, ThreadedSource(listing(*FEW)), **full)
    assert (again.status, again.counts.deleted, live(ask)) == (JobStatus.COMPLETED, 0, 30)
    one_less = run(database, wish, ThreadedSource(listing(FEW[0][:1])), **full)
    assert (one_less.status, one_less.counts.deleted, live(ask)) == (JobStatus.COMPLETED, 1, 29)
    # Housekeeping does not forget the answer, however old it is.
    ask("UPDATE app.sync_jobs SET created_at = now() - interval '1 year', completed_at = now() - interval '1 year'")
    for started_at, swept in (("NULL", 0), ("now()", 3)):
        ask(
            f"""INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, started_at, completed_at)
                SELECT gen_random_uuid(), 'alice', id, 'manual', 'failed', {started_at}, now()
                  FROM app.data_sources, generate_series(1, %s)""",  # noqa: S608 - constants
            retention.KEPT_OF_EACH,
        )
        done = {each.rule: each.rows for each in housekeeping.sweep(database, RetentionDays(), user_id=ALICE)}
        assert done["sync jobs"] == swept
    later = run(database, wish, ThreadedSource(listing(FEW[0][:1])), **full)
    assert (later.status, later.counts.deleted, live(ask)) == (JobStatus.COMPLETED, 0, 29)
    # What comes back is asked about anew when it goes once more.
    assert run(database, wish, ThreadedSource(listing(*MANY)), **full).status is JobStatus.COMPLETED
    assert run(database, wish, ThreadedSource(listing(*FEW)), **full).status is JobStatus.NEEDS_CONFIRMATION
    assert run(database, wish, ThreadedSource(listing(*FEW)), **full).status is JobStatus.NEEDS_CONFIRMATION
    assert ask("SELECT count(*) FROM app.sync_jobs WHERE status = 'needs_confirmation'") == [(1,)]
    assert run(database, wish, ThreadedSource(listing(*FEW)), confirm_deletes=True, **full).counts.deleted == 28


def test_same_key_asks_once_however_many_ask_at_the_same_moment(database: Database, wish: Wish, ask: Ask) -> None:
    data_source(database, wish)
    with ThreadPoolExecutor(20) as threads:
        asked = list(threads.map(lambda _: enqueue(database, wish, idempotency_key="k").id, range(20)))
    assert len(set(asked)) == 1
    assert ask("SELECT count(*) FROM app.sync_jobs") == [(1,)]
    run(database, wish, ThreadedSource(listing(*PAGES)), job_id=asked[0])
    assert enqueue(database, wish, idempotency_key="k").id == asked[0]
    assert enqueue(database, wish, idempotency_key="other").id != asked[0]
    with pytest.raises(InvalidRequestError, match="another source"):
        enqueue(database, replace(wish, place="other.json"), idempotency_key="k")


def test_source_has_one_pending_job_that_does_what_all_requests_wanted(
    database: Database, wish: Wish, ask: Ask
) -> None:
    first = enqueue(database, wish, priority=5, idempotency_key="1")
    second = enqueue(database, wish, job_type=JobType.FULL_SYNC, confirm_deletes=True, idempotency_key="2")
    assert (second.id, second.job_type, second.confirm_deletes, second.priority) == (first.id, "full_sync", True, 5)
    assert enqueue(database, wish, job_type=JobType.DELTA).job_type == "full_sync"
    assert enqueue(database, wish, idempotency_key="2").id == first.id
    with database.transaction_with_rls(ALICE) as connection:
        assert [row.id for row in sync_jobs.recent(connection, user_id=ALICE)] == [first.id]
    done = run(database, wish, ThreadedSource(listing(*PAGES)), job_id=first.id)
    assert (done.status, ask("SELECT DISTINCT job_type FROM app.sync_jobs")) == (JobStatus.COMPLETED, [("full_sync",)])
    assert enqueue(database, wish, idempotency_key="2").id == first.id
    for wrong in ({"priority": 101}, {"idempotency_key": ""}):
        with pytest.raises(InvalidRequestError):
            enqueue(database, wish, **wrong)


def test_retry_within_a_dagster_run_is_a_job_of_its_own(database: Database, wish: Wish) -> None:
    job_id = enqueue(database, wish, job_type=JobType.FULL_SYNC).id
    request = {"job_id": job_id, "dagster_run_id": "run-1"}
    with pytest.raises(KeyError):
        run(database, wish, ThreadedSource([KeyError("bug")]), **request)
    assert status_of(database, job_id) == "failed"
    retried = run(database, wish, ThreadedSource(listing(*PAGES)), **request)
    assert (retried.status, retried.job_id == job_id) == (JobStatus.COMPLETED, False)
    with pytest.raises(NotFoundError):
        run(database, wish, ThreadedSource(listing(*PAGES)), job_id=job_id, dagster_run_id="run-2")
