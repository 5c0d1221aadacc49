"""Whatever a vendor answers by mistake, at the first request or in the middle: nothing is deleted, lost, doubled or listed anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.fakes.faults import FAULTS, RETRIED_AT_ONCE
from tests.fakes.server import Answer, FakeVendor, Fault
from tests.sources import stages
from tests.sources.standing import Standing
from workstation_pipelines.errors import ReauthorizeError, RetryableError
from workstation_pipelines.model import JobStatus, SourceType
from workstation_pipelines.settings import libpq_url

FOR_EVER = 10_000


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _wait_s: None)


@pytest.fixture(params=stages.VENDORS)
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    """Each vendor in its turn, synced, with a few things in its scope."""
    stage = stages.stage_of(SourceType(request.param))
    standing = Standing(stage, database_urls.app_url, database_urls.admin_url)
    stage.set_page_size(2)
    for number in range(4):
        stage.create(f"first {number}", standing.text("there before"))
    standing.sync()
    yield standing
    stages.close(stage)


def change(standing: Standing) -> set[str]:
    """Make something to find: one more, an edit, and one that was there is gone. Returns the paths that should stay."""
    stage, number = standing.stage, len(standing.markers)
    kept = stage.create(f"kept {number}", standing.text("added"))
    gone = stage.create(f"gone {number}", standing.text("to go"))
    standing.sync()
    stage.edit(kept, standing.text("edited"))
    stage.delete(gone)
    kept_paths = set(stage.truth())
    stage.create(f"new {number}", standing.text("added"))
    return kept_paths


def lost(standing: Standing, paths: set[str]) -> list[str]:
    """Which of `paths` are not there though they were synced before and still exist."""
    return [path for path in paths if f"{path} is lost" in standing.differences()]


def vendor(standing: Standing) -> FakeVendor:
    found = standing.stage.vendor
    assert found is not None
    return found


def live(standing: Standing) -> int:
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL").fetchone()
    return int(row[0]) if row else -1


def mode(standing: Standing) -> object:
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute(
            "SELECT progress_data ->> 'mode' FROM app.sync_jobs ORDER BY created_at DESC LIMIT 1"
        ).fetchone()
    return row[0] if row else None


def outcome(standing: Standing, **request: str) -> str:
    """Sync; return the job's status or `away` for an error that may pass, and refuse every other one."""
    told = ""
    try:
        return standing.sync(**request).status.value
    except RetryableError as error:
        told = str(error)
    assert "test-token" not in told
    assert "<html" not in told.lower()
    return "away"


def test_a_delta_that_meets_a_fault_every_time_changes_nothing_and_is_made_up_for(standing: Standing) -> None:
    for name, fault in FAULTS.items():
        change(standing)
        before = live(standing)
        vendor(standing).faults.append(Fault(lambda _request: True, times=FOR_EVER, **fault))
        if name != "slow":
            assert (name, outcome(standing) in ("away", "paused", "failed")) == (name, True)
            assert (name, live(standing)) == (name, before)
        vendor(standing).faults.clear()
        _forgive(standing)
        assert (name, outcome(standing), standing.differences()) == (name, "completed", [])
        assert (name, mode(standing)) == (name, "feed"), "a fault is no reason to list everything"
        assert (name, standing.sync().counts.fetched) == (name, 0)


def test_a_fault_in_the_middle_loses_nothing(standing: Standing) -> None:
    ways = product(("server_error", "login_page", "throttle_long"), (1, 3))
    # Each source meets each fault; a delta and a full sync meet it at every second source.
    for number, (name, after) in enumerate(ways, start=stages.VENDORS.index(standing.stage.source_type)):
        paths = change(standing)
        fault = Fault(lambda _request: True, times=FOR_EVER, after=after, **FAULTS[name])
        vendor(standing).faults.append(fault)
        outcome(standing, job_type="full_sync" if number % 2 else "manual")
        vendor(standing).faults.clear()
        assert (name, after, lost(standing, paths)) == (name, after, [])
        _forgive(standing)
        outcome(standing)
        _forgive(standing)
        assert (name, after, outcome(standing), standing.differences()) == (name, after, "completed", [])


def test_one_fault_is_outlived_by_the_same_job(standing: Standing) -> None:
    for name in sorted(RETRIED_AT_ONCE):
        change(standing)
        vendor(standing).faults.append(Fault(lambda _request: True, **FAULTS[name]))
        assert (name, outcome(standing), standing.differences()) == (name, "completed", [])


def test_a_refused_token_asks_for_the_account_and_keeps_everything(standing: Standing) -> None:
    before = live(standing)
    tokens = dict(vendor(standing).tokens)
    vendor(standing).tokens.clear()
    with pytest.raises(ReauthorizeError):
        standing.sync()
    assert live(standing) == before
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute("SELECT connection_status, needs_reauth FROM app.data_sources").fetchone()
    assert row == ("error", True)
    vendor(standing).tokens.update(tokens)
    assert standing.sync().status is JobStatus.COMPLETED
    assert standing.differences() == []


def test_a_vendor_that_cannot_be_reached_is_away(standing: Standing) -> None:
    before = live(standing)
    nowhere = dict.fromkeys(standing.connection.urls, "http://127.0.0.1:9")
    with pytest.raises(RetryableError):
        replace(standing.connection, urls=nowhere).sync()
    assert live(standing) == before


def test_answers_that_mean_nothing_are_never_taken_for_an_empty_account(standing: Standing) -> None:
    before = live(standing)
    for body in ({}, {"unexpected": True}, {"ok": True}, {"items": None}):
        vendor(standing).faults.append(Fault(lambda _request: True, answer=Answer.of(body), times=FOR_EVER))
        for job_type in ("manual", "full_sync"):
            assert outcome(standing, job_type=job_type) in ("away", "paused", "failed", "needs_confirmation")
            assert live(standing) == before
        vendor(standing).faults.clear()
    _forgive(standing)
    standing.sync()
    assert standing.differences() == []


def _forgive(standing: Standing) -> None:
    """Let everything that waits for a later time be due now."""
    with psycopg.connect(libpq_url(standing.admin_url), autocommit=True) as admin:
        admin.execute(
            "UPDATE app.sync_failures SET next_try_at = now() - interval '1 second' WHERE next_try_at IS NOT NULL"
        )
        admin.execute("UPDATE app.sync_jobs SET not_before = NULL")
