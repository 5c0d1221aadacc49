"""Whatever is asked of jobs, in any order, with deaths in between: one run a source, no way back from an end, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.syncing import Wish, data_source, new_id
from tests.sync.told import ToldSource, item, listing, parts_with
from workstation_pipelines.db import job_control, job_queue
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import FencedError, InvalidRequestError, NotFoundError, WorkstationError
from workstation_pipelines.model import JobResult, JobStatus, JobType, Progress, SyncJobId, UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync.reaper import reap
from workstation_pipelines.sync.run import SyncRequest, drive, run_sync

ITEMS = [item(f"i{number:02}", f"text {number}") for number in range(24)]
PAGES = [ITEMS[at : at + 8] for at in range(0, len(ITEMS), 8)]
TRUTH = {one.external_path: one.external_hash.removeprefix("tx:") for one in ITEMS}
FINAL = {"completed", "completed_with_errors", "failed", "cancelled"}
ENDLESS_S = 3600.0
"""No beat: what is asked is heard at the next commit, so that an example is the same each time."""


class JobLife(RuleBasedStateMachine):
    """One source of a user of its own. At most one run is alive, and goes on a commit at a time."""

    jobs = Bundle("jobs")

    def __init__(self, database: Database, urls: DatabaseUrls, admin: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.database, self.urls, self.admin = database, urls, admin
        self.user_id = UserId(f"u{uuid4().hex}")
        self.wish = Wish(urls.app_url, "account.json", user=self.user_id)
        self.source = data_source(database, self.wish)
        self.pages = PAGES
        self.live: Generator[Progress, None, JobResult] | None = None
        self.is_fenced = False
        self.dead: list[Generator[Progress, None, JobResult]] = []
        self.ended: dict[UUID, str] = {}

    def ask(self, statement: str) -> list[Any]:
        return self.admin.execute(statement.encode(), [self.user_id]).fetchall()

    def request(self, function: Callable[..., Any], job: UUID, **more: Any) -> Any:
        with suppress(InvalidRequestError), self.database.transaction_with_rls(self.user_id) as connection:
            return function(connection, user_id=self.user_id, job_id=job, **more)
        return None

    @rule(
        target=jobs,
        key=st.sampled_from([None, "k1", "k2"]),
        job_type=st.sampled_from(list(JobType)),
        sure=st.booleans(),
    )
    def enqueue(self, key: str | None, job_type: JobType, sure: bool) -> UUID:
        with self.database.transaction_with_rls(self.user_id) as connection:
            row = job_queue.enqueue(
                connection,
                user_id=self.user_id,
                data_source_id=self.source.id,
                job_id=SyncJobId(new_id()),
                job_type=job_type,
                idempotency_key=key,
                confirm_deletes=sure,
            )
        return UUID(str(row.id))

    @rule(job=jobs)
    def cancel(self, job: UUID) -> None:
        self.request(job_control.request_cancel, job)

    @rule(job=jobs)
    def pause(self, job: UUID) -> None:
        self.request(job_control.request_pause, job)

    @rule(job=jobs)
    def resume(self, job: UUID) -> None:
        self.request(job_control.resume, job)

    @rule(job=jobs)
    def refuse(self, job: UUID) -> None:
        self.request(job_control.refuse, job)

    @rule(target=jobs, job=consumes(jobs))
    def confirm(self, job: UUID) -> UUID:
        row = self.request(job_control.confirm, job, new_job_id=SyncJobId(new_id()))
        return UUID(str(row.id)) if row is not None else job

    @precondition(lambda self: self.live is None)
    @rule(job=jobs, commits=st.integers(0, 4))
    def start(self, job: UUID, commits: int) -> None:
        parts = replace(parts_with(self.database, self.wish, ToldSource(listing(*self.pages))), beat_every_s=ENDLESS_S)
        self.live = run_sync(parts, self.source, SyncRequest(job_id=SyncJobId(job)))
        self.is_fenced = False
        self.go_on(commits + 1)

    @precondition(lambda self: self.live is not None)
    @rule(commits=st.integers(1, 4))
    def go_on(self, commits: int) -> None:
        assert self.live is not None
        try:
            for _ in range(commits):
                next(self.live)
        except StopIteration:
            self.live = None
        except NotFoundError:  # that job has ended well already
            self.live = None
        except FencedError:
            self.live = None
            if not self.is_fenced:
                raise

    @precondition(lambda self: self.live is not None)
    @rule()
    def kill(self) -> None:
        """Free its lock, as the server does, and never let it go on."""
        assert self.live is not None
        self.dead.append(self.live)
        self.live = None
        self.admin.execute(
            """SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
                WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )

    @rule()
    def reap(self) -> None:
        """Also a live run is ended when nothing was heard of it: it has slept too long."""
        self.ask(
            "UPDATE app.sync_jobs SET heartbeat_at = now() - interval '91 s' WHERE user_id = %s AND status = 'running'"
            " RETURNING id"
        )
        reaped = reap(self.database)
        self.is_fenced = self.is_fenced or bool(reaped)
        assert self.ask("SELECT id FROM app.sync_jobs WHERE user_id = %s AND status = 'running'") == []
        assert reap(self.database) == []

    @rule()
    def lose_most(self) -> None:
        self.pages = [ITEMS[:1]]

    @rule()
    def find_all_again(self) -> None:
        self.pages = PAGES

    @invariant()
    def at_most_one_job_runs_and_no_end_is_taken_back(self) -> None:
        rows = self.ask(
            """SELECT id, status, items_found = items_created + items_updated + items_unchanged + items_skipped
                      + items_deleted + items_failed FROM app.sync_jobs WHERE user_id = %s"""
        )
        now = {job_id: status for job_id, status, _ in rows}
        assert list(now.values()).count("running") <= 1
        assert {job_id: now[job_id] for job_id in self.ended} == self.ended
        assert all(is_balanced for _, _, is_balanced in rows)
        self.ended |= {job_id: status for job_id, status in now.items() if status in FINAL}

    def teardown(self) -> None:
        self.reap()
        for run in [*self.dead, *([self.live] if self.live is not None else [])]:
            with suppress(WorkstationError):
                run.close()
        self.at_most_one_job_runs_and_no_end_is_taken_back()
        parts = parts_with(self.database, self.wish, ToldSource(listing(*PAGES)))
        result = drive(run_sync(parts, self.source, SyncRequest(job_type=JobType.FULL_SYNC, confirm_deletes=True)))
        assert result.status is JobStatus.COMPLETED
        assert not checker.check(self.urls.admin_url, self.user_id, TRUTH)


def test_any_order_of_requests_and_deaths_keeps_what_jobs_promise(
    database: Database, database_urls: DatabaseUrls
) -> None:
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
        run_state_machine_as_test(
            lambda: JobLife(database, database_urls, admin),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=12,
                stateful_step_count=25,
                derandomize=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
