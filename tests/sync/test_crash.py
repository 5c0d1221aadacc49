"""Kill the syncing process at every named point, in every version of a place; then one more sync must mend everything."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.mutants import MUTANTS
from tests.sync.scripted import ScriptedSource, fetched
from tests.sync.stories import story
from tests.sync.syncing import Wish, start, sync
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync.faults import POINTS

pytestmark = pytest.mark.crash

DELETES = ("deletes_before_commit", "deletes_committed")
ONCE = ("lease_taken", "job_started", *DELETES, "end_before_commit", "end_committed")
"""Each is passed once a sync; all others are tried at their first and second passage, of up to five pages."""

WAYS = [
    *(("folder", "manual", point) for point in POINTS),
    *(("account.json", "manual", point) for point in POINTS if point not in DELETES),
    *(
        ("account.json", "full_sync", point)
        for point in ("page_listed", "page_committed", *DELETES, "end_before_commit")
    ),
]
"""A folder deletes by absence, a feed says what is gone, and a full sync of an account compares sweeps."""


def killed(wish: Wish) -> bool:
    """Run a sync that is to die; return whether it did (a point may not be reached so often)."""
    return start(wish).wait() == "killed"


@pytest.mark.parametrize(("place", "job_type", "point"), WAYS)
def test_a_kill_anywhere_loses_nothing_and_doubles_nothing(
    place: str, job_type: str, point: str, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    deaths = 0
    for version, where in story(tmp_path, place):
        for nth in (1,) if point in ONCE else (1, 2):
            deaths += killed(Wish(database_urls.app_url, str(where), job_type=job_type, fault=f"{point}:{nth}"))
        before = len(fetched(where))
        result = sync(Wish(database_urls.app_url, str(where), job_type=job_type))
        assert result.status == "completed", result
        assert not checker.check(database_urls.admin_url, "alice", version.truth), version.name
        assert len(fetched(where)) - before <= len(version.truth) + ScriptedSource.page_size
        assert sync(Wish(database_urls.app_url, str(where))).counts.fetched == 0
    assert deaths > 0, f"the point {point} was never passed"


@pytest.mark.parametrize("passage", [1, 2, 3])
def test_the_next_run_refetches_at_most_one_page_more_than_what_remained(
    passage: int, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    version, where = next(story(tmp_path, "account.json"))
    total = len(version.truth)
    assert killed(Wish(database_urls.app_url, str(where), fault=f"page_committed:{passage}"))
    committed = passage * ScriptedSource.page_size
    before = len(fetched(where))
    sync(Wish(database_urls.app_url, str(where)))
    assert len(fetched(where)) - before <= total - committed + ScriptedSource.page_size


@pytest.mark.parametrize("mutant", [name for name in MUTANTS if name != "no_fence"])
def test_the_checker_catches_an_engine_built_wrong(mutant: str, database_urls: DatabaseUrls, tmp_path: Path) -> None:
    points = ("page_documents_written:1", "page_lease_proven:2", "page_committed:1", "page_before_commit:2")
    found = []
    for version, where in story(tmp_path, "account.json"):
        for fault in points:
            killed(Wish(database_urls.app_url, str(where), fault=fault, mutant=mutant))
        start(Wish(database_urls.app_url, str(where), mutant=mutant)).wait()
        found.append(checker.check(database_urls.admin_url, "alice", version.truth))
    assert any(found), f"{mutant} went unnoticed"


def test_a_second_sync_of_one_source_says_busy(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    version, where = next(story(tmp_path, "folder"))
    paused = start(Wish(database_urls.app_url, str(where), fault="page_listed:2:stop"))
    paused.wait_until_stopped()
    second = start(Wish(database_urls.app_url, str(where)))
    assert second.wait() == "BusyError"
    paused.go_on()
    assert paused.wait() == "completed"
    assert not checker.check(database_urls.admin_url, "alice", version.truth)


@pytest.mark.parametrize("point", ["page_listed:2", "page_prepared:2", "page_committed:1", "end_before_commit:1"])
def test_a_holder_that_slept_through_a_takeover_is_fenced(
    point: str, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    version, where = next(story(tmp_path, "folder"))
    sleeper = start(Wish(database_urls.app_url, str(where), fault=f"{point}:stop"))
    sleeper.wait_until_stopped()
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
        give_up_on_the_silent_client(admin)
        assert sync(Wish(database_urls.app_url, str(where))).status == "completed"
        jobs = admin.execute("SELECT count(*), max(updated_at) FROM app.sync_jobs").fetchone()
        sleeper.go_on()
        assert sleeper.wait() in ("FencedError", "SourceUnavailableError")
        assert admin.execute("SELECT count(*), max(updated_at) FROM app.sync_jobs").fetchone() == jobs
    assert not checker.check(database_urls.admin_url, "alice", version.truth)


def test_without_the_fence_the_sleeper_would_write(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    stories = story(tmp_path, "folder")
    _, where = next(stories)
    sleeper = start(Wish(database_urls.app_url, str(where), fault="page_listed:1:stop", mutant="no_fence"))
    sleeper.wait_until_stopped()
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
        give_up_on_the_silent_client(admin)
    version, _ = next(stories)
    sync(Wish(database_urls.app_url, str(where)))
    sleeper.go_on()
    sleeper.wait()
    assert checker.check(database_urls.admin_url, "alice", version.truth)


def test_a_holder_asleep_inside_a_transaction_is_waited_for_a_moment(
    database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    _, where = next(story(tmp_path, "folder"))
    sleeper = start(Wish(database_urls.app_url, str(where), fault="page_items_written:1:stop"))
    sleeper.wait_until_stopped()
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
        # The lease goes with its connection; the one that sleeps in a transaction stays.
        admin.execute(
            """
            SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND state = 'idle' AND datname = current_database()"""
        )
        assert start(Wish(database_urls.app_url, str(where))).wait() == "BusyError"
        give_up_on_the_silent_client(admin)
    sleeper.go_on()
    sleeper.wait()
    assert sync(Wish(database_urls.app_url, str(where))).status == "completed"


def give_up_on_the_silent_client(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """Do what the server does when a client's connection has died, or has idled too long; return when it is done."""
    admin.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'wp_app' AND datname = current_database()"
    )
