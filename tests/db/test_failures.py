"""The failure ledger: one open entry an item, tried again after 1, 5, 25 and 125 minutes, and then not any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.db.conftest import ALICE
from tests.db.rows import Library, failure
from workstation_pipelines.db import sync_failures
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import ItemFailure


def _record(database: Database, alices: Library, *failures: ItemFailure) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        sync_failures.record(connection, alices.lease, job_id=alices.job_id, failures=failures, new_id=uuid4)


def _open(database: Database, alices: Library, external_id: str) -> Any:
    statement = """SELECT *, next_try_at - updated_at AS wait FROM app.sync_failures
                    WHERE user_id = 'alice' AND external_id = :id AND resolved_at IS NULL"""
    rows = database.query_with_rls(ALICE, statement, {"id": external_id})
    assert len(rows) <= 1
    assert alices.user_id == ALICE
    return rows[0] if rows else None


def test_waits_grow_fivefold_and_end_after_five_tries(database: Database, alices: Library) -> None:
    waits = []
    for _ in range(6):
        _record(database, alices, failure("x"))
        entry = _open(database, alices, "x")
        waits.append((entry.attempts, entry.wait))
    minutes = [timedelta(minutes=number) for number in (1, 5, 25, 125)]
    assert waits == [*enumerate(minutes, 1), (5, None), (6, None)]
    assert sync_failures.TRIES == 5


def test_permanent_failure_has_no_next_try_from_the_first_or_a_later_time(database: Database, alices: Library) -> None:
    _record(database, alices, failure("x", permanent=True), failure("y"))
    assert (_open(database, alices, "x").attempts, _open(database, alices, "x").next_try_at) == (1, None)
    _record(database, alices, failure("y", permanent=True))
    assert (_open(database, alices, "y").attempts, _open(database, alices, "y").next_try_at) == (2, None)


def test_entry_tells_the_latest_failure(database: Database, alices: Library) -> None:
    _record(database, alices, failure("x", message="first"))
    _record(database, alices, failure("x", message="m" * 5000))
    entry = _open(database, alices, "x")
    assert entry.message == "m" * 2000
    assert (entry.stage, entry.error_class, entry.reason) == ("fetch", "RetryableError", "timeout")
    assert entry.sync_job_id == alices.job_id


def test_resolved_item_starts_afresh(database: Database, alices: Library) -> None:
    for _ in range(3):
        _record(database, alices, failure("x"))
    with database.transaction_with_rls(ALICE) as connection:
        sync_failures.resolve(connection, alices.lease, external_ids=["x", "unheard of"])
        sync_failures.resolve(connection, alices.lease, external_ids=[])
    assert _open(database, alices, "x") is None
    assert _open(database, alices, "b.txt") is not None
    _record(database, alices, failure("x"))
    assert (_open(database, alices, "x").attempts, _open(database, alices, "x").wait) == (1, timedelta(minutes=1))


def test_retry_on_request_makes_all_due_and_the_waits_begin_again(database: Database, alices: Library) -> None:
    for _ in range(5):
        _record(database, alices, failure("x"))
    with database.transaction_with_rls(ALICE) as connection:
        assert sync_failures.make_due(connection, user_id=ALICE, data_source_id=alices.source.id) == 2
    assert _open(database, alices, "x").wait == timedelta(0)
    _record(database, alices, failure("x"))
    assert (_open(database, alices, "x").attempts, _open(database, alices, "x").wait) == (1, timedelta(minutes=1))


def test_open_failures_and_those_of_a_job_are_listed(database: Database, alices: Library) -> None:
    _record(database, alices, failure("x"), failure("y"))
    with database.transaction_with_rls(ALICE) as connection:
        sync_failures.resolve(connection, alices.lease, external_ids=["y"])
        opened = sync_failures.open_failures(connection, user_id=ALICE, data_source_id=alices.source.id)
        assert sorted(row.external_id for row in opened) == ["b.txt", "x"]
        assert len(sync_failures.open_failures(connection, user_id=ALICE, limit=1)) == 1
        assert sync_failures.open_failures(connection, user_id=ALICE, data_source_id=uuid4()) == []
        of_job = sync_failures.of_job(connection, user_id=ALICE, job_id=alices.job_id)
        assert [(row.external_id, row.resolved_at is None) for row in of_job] == [
            ("b.txt", True),
            ("x", True),
            ("y", False),
        ]


@pytest.mark.parametrize("stage", ["list", "fetch", "extract", "chunk", "embed"])
def test_every_stage_can_fail(database: Database, alices: Library, stage: str) -> None:
    _record(database, alices, ItemFailure("x", "x", stage, "SkipItemError", "r", "m", True))
    assert _open(database, alices, "x").stage == stage
