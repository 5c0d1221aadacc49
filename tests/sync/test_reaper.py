"""After any death of a run one call of the reaper leaves no row that says it runs; a sleeper that wakes writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask
from tests.sync.stories import story
from tests.sync.syncing import Wish, start, sync
from workstation_pipelines.db import job_control
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import JobStatus, UserId
from workstation_pipelines.sync.reaper import reap, reap_if_dead

ALICE = UserId("alice")
SILENT = "UPDATE app.sync_jobs SET heartbeat_at = now() - interval '91 seconds' WHERE status = 'running'"
UNHEEDED = "UPDATE app.sync_jobs SET stop_requested_at = now() - interval '31 seconds' WHERE status = 'running'"


def test_killed_runs_are_ended_in_one_call_and_the_next_sync_goes_on(
    database: Database, database_urls: DatabaseUrls, ask: Ask, tmp_path: Path
) -> None:
    version, where = next(story(tmp_path, "account.json"))
    wish = Wish(database_urls.app_url, str(where))
    for point, request, status in (
        ("job_started:1", None, JobStatus.FAILED),
        ("page_prepared:2", job_control.request_pause, JobStatus.PAUSED),
        ("page_before_commit:2", job_control.request_cancel, JobStatus.CANCELLED),
        ("end_before_commit:1", None, JobStatus.FAILED),
    ):
        assert start(Wish(database_urls.app_url, str(where), fault=point)).wait() == "killed"
        assert reap(database) == []  # it may be alive: it was heard of a moment ago
        [[job_id, source_id]] = ask("SELECT id, data_source_id FROM app.sync_jobs WHERE status = 'running'")
        if request is not None:
            with database.transaction_with_rls(ALICE) as connection:
                request(connection, user_id=ALICE, job_id=job_id)
            ask(UNHEEDED)
        else:
            ask(SILENT)
        [reaped] = reap(database)
        assert (reaped.job_id, reaped.user_id, reaped.data_source_id) == (job_id, ALICE, source_id)
        assert reaped.status is status
        assert ask("SELECT connection_status FROM app.data_sources") == [("connected",)]
        assert ask("SELECT status FROM app.sync_jobs WHERE id = %s", job_id) == [(status.value,)]
        assert reap(database) == []
    assert sync(wish).status is JobStatus.COMPLETED
    assert not checker.check(database_urls.admin_url, "alice", version.truth)


def test_death_is_found_at_once_by_whoever_asks_about_one_job(
    database: Database, database_urls: DatabaseUrls, ask: Ask, tmp_path: Path
) -> None:
    _, where = next(story(tmp_path, "folder"))
    running = start(Wish(database_urls.app_url, str(where), fault="page_listed:1:stop"))
    running.wait_until_stopped()
    [[job_id]] = ask("SELECT id FROM app.sync_jobs")
    assert reap_if_dead(database, user_id=ALICE, job_id=job_id) is None
    assert reap_if_dead(database, user_id=UserId("bob"), job_id=job_id) is None
    running.process.kill()
    running.process.join()
    reaped = reap_if_dead(database, user_id=ALICE, job_id=job_id)
    assert reaped is not None
    assert reaped.status is JobStatus.FAILED
    assert reap_if_dead(database, user_id=ALICE, job_id=job_id) is None


@pytest.mark.parametrize("point", ["page_listed:1", "page_committed:1", "page_lease_proven:2"])
def test_run_that_only_slept_is_fenced_off_and_writes_nothing_when_it_wakes(
    point: str, database: Database, database_urls: DatabaseUrls, ask: Ask, tmp_path: Path
) -> None:
    version, where = next(story(tmp_path, "folder"))
    sleeper = start(Wish(database_urls.app_url, str(where), fault=f"{point}:stop"))
    sleeper.wait_until_stopped()
    ask(SILENT)
    if point == "page_lease_proven:2":  # in the middle of a transaction, which holds the fence
        assert reap(database) == []
        sleeper.go_on()
        assert sleeper.wait() == "completed"
        return
    assert [reaped.status for reaped in reap(database)] == [JobStatus.FAILED]
    assert reap(database) == []
    if point == "page_committed:1":  # else it wakes before anybody else has moved the fence
        assert sync(Wish(database_urls.app_url, str(where))).status is JobStatus.COMPLETED
    written = "SELECT (SELECT max(updated_at) FROM app.sync_jobs), (SELECT max(updated_at) FROM app.sync_items)"
    before = ask(written)
    sleeper.go_on()
    assert sleeper.wait() in ("FencedError", "SourceUnavailableError")
    assert ask(written) == before
    assert sync(Wish(database_urls.app_url, str(where))).status is JobStatus.COMPLETED
    assert not checker.check(database_urls.admin_url, "alice", version.truth)
