"""The audit log holds what was done, whoever does it, and shows every later change of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from tests.db.conftest import ALICE, BOB
from tests.db.rows import add_source, lease_of
from workstation_pipelines.db import audit, data_sources, job_control, sync_jobs
from workstation_pipelines.db.audit import Entry
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import JobStatus, JobType, SyncJobId, UserId

Admin = psycopg.Connection[Any]


def _append(database: Database, user_id: UserId, *actions: str) -> int:
    with database.transaction_with_rls(user_id) as connection:
        return audit.append(connection, [Entry(action, "thing:1", {"n": n}) for n, action in enumerate(actions)])


def _breaks(database: Database, user_id: UserId) -> list[tuple[int, str]]:
    with database.transaction_with_rls(user_id) as connection:
        return [(each.seq, each.problem) for each in audit.breaks(connection)]


def _actions(database: Database, user_id: UserId, **wanted: Any) -> list[str]:
    with database.transaction_with_rls(user_id) as connection:
        return [each.action for each in audit.entries(connection, user_id=user_id, **wanted)]


def test_entries_are_numbered_in_order_for_each_user_alone(database: Database) -> None:
    assert _append(database, ALICE, "a.one", "a.two") == 2
    assert _append(database, BOB, "b.one") == 1
    assert _append(database, ALICE, "a.three") == 3
    assert _actions(database, ALICE) == ["a.one", "a.two", "a.three"]
    assert _actions(database, ALICE, newest_first=True, limit=1) == ["a.three"]
    assert _actions(database, BOB, subject="thing:1", action="b") == ["b.one"]
    assert (_breaks(database, ALICE), _breaks(database, BOB)) == ([], [])


def test_entry_of_a_transaction_that_rolls_back_was_never_there(database: Database) -> None:
    _append(database, ALICE, "a.one")
    with database.transaction_with_rls(ALICE) as connection:
        audit.append(connection, [Entry("a.two")])
        connection.rollback()
    assert _append(database, ALICE, "a.three") == 2
    assert _breaks(database, ALICE) == []


def _changed(admin: Admin, statement: str) -> None:
    admin.execute("SET session_replication_role = replica")  # what only a superuser can do
    admin.execute(statement.encode())
    admin.execute("RESET session_replication_role")


MISSING = "entries are missing before this one"


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE app.audit_logs SET detail = '{\"n\": 7}' WHERE seq = 2", [(2, "this entry was changed")]),
        ("UPDATE app.audit_logs SET action = 'x.y' WHERE seq = 4", [(4, "this entry was changed")]),
        (
            "UPDATE app.audit_logs SET created_at = created_at - interval '1 day', updated_at = updated_at - interval '1 day'"
            " WHERE seq = 1",
            [(1, "this entry was changed")],
        ),
        ("DELETE FROM app.audit_logs WHERE seq = 3", [(4, MISSING)]),
        ("DELETE FROM app.audit_logs WHERE seq = 1", [(2, MISSING)]),
        ("DELETE FROM app.audit_logs WHERE seq >= 3", [(4, "entries are missing at the end")]),
        ("DELETE FROM app.audit_logs", [(4, "entries are missing at the end")]),
        (
            "WITH seen AS (SELECT user_id, seq, created_at, subject, detail, prev_hash FROM app.audit_logs WHERE seq = 2)"
            " UPDATE app.audit_logs a SET action = 'x.y', hash = app.audit_digest(seen.user_id, seen.seq, seen.created_at,"
            " 'x.y', seen.subject, seen.detail, seen.prev_hash) FROM seen WHERE a.seq = 2",
            [(3, "this entry does not follow the one before")],
        ),
    ],
)
def test_whatever_is_changed_afterwards_is_named(
    database: Database, admin: Admin, tampering: str, found: list[tuple[int, str]]
) -> None:
    _append(database, ALICE, "a.one", "a.two")
    _append(database, ALICE, "a.three", "a.four")
    _changed(admin, tampering)
    assert _breaks(database, ALICE) == found


@pytest.mark.parametrize(
    "statement",
    ["UPDATE app.audit_logs SET action = 'x'", "DELETE FROM app.audit_logs", "TRUNCATE app.audit_logs"],
)
def test_log_cannot_be_changed_by_its_owner_nor_by_an_administrator(
    database: Database, admin: Admin, statement: str
) -> None:
    _append(database, ALICE, "a.one")
    for attempt in (lambda: admin.execute(statement.encode()), lambda: database.query_with_rls(ALICE, statement)):
        with pytest.raises(Exception, match=r"append-only|permission denied"):
            attempt()
    assert _actions(database, ALICE) == ["a.one"]


def test_nobody_writes_into_the_chain_of_another(database: Database) -> None:
    for statement in (
        """SELECT app.audit_append_for('bob', '[{"action": "x.y"}]')""",
        "INSERT INTO app.audit_logs (user_id, seq, action, prev_hash, hash, created_at, updated_at)"
        " VALUES ('alice', 1, 'x.y', '', '', now(), now())",
        "SELECT * FROM app_private.audit_heads",
    ):
        with pytest.raises(Exception, match="permission denied"):
            database.query_with_rls(ALICE, statement)


def test_appenders_at_the_same_time_make_one_chain(database: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(lambda n: _append(database, ALICE, f"t.{n}", f"u.{n}"), range(12)))
    assert sorted(numbers) == list(range(2, 25, 2))
    assert _breaks(database, ALICE) == []


def test_batch_beyond_the_limit_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="more than 5000"):
        _append(database, ALICE, *["a.b"] * 5001)


@pytest.fixture
def logged(database: Database) -> Callable[[], list[tuple[str, dict[str, Any]]]]:
    def read() -> list[tuple[str, dict[str, Any]]]:
        with database.transaction_with_rls(ALICE) as connection:
            return [(each.action, dict(each.detail)) for each in audit.entries(connection, user_id=ALICE)]

    return read


def test_changes_of_a_source_are_logged_however_they_are_made(
    database: Database, logged: Callable[[], list[tuple[str, dict[str, Any]]]]
) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        source = add_source(connection, ALICE)
        data_sources.set_config(connection, user_id=ALICE, data_source_id=source.id, config={"path": "/secret place"})
        data_sources.set_status(
            connection, user_id=ALICE, data_source_id=source.id, connection_status="syncing", message=""
        )  # no act of a person
        connection.execute(
            text(
                "INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type) VALUES (:id, :u, :s, 'daily')"
            ),
            {"id": uuid4(), "u": ALICE, "s": source.id},
        )
        data_sources.remove(connection, user_id=ALICE, data_source_id=source.id)
    schedule = {"data_source_id": str(source.id), "schedule_type": "daily"}
    assert logged() == [
        ("source.added", {"source_type": "local_folder"}),
        ("source.changed", {"source_type": "local_folder", "changed": ["config"]}),
        ("schedule.added", schedule),
        ("source.removed", {"source_type": "local_folder"}),
        ("schedule.removed", schedule),
    ]
    assert _breaks(database, ALICE) == []


def test_what_is_asked_of_a_job_is_logged_and_what_it_does_itself_is_not(
    database: Database, logged: Callable[[], list[tuple[str, dict[str, Any]]]]
) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        source = add_source(connection, ALICE)
        job_id = SyncJobId(uuid4())
        sync_jobs.start(
            connection, lease_of(source), job_id=job_id, job_type=JobType.MANUAL, progress={}, dagster_run_id=None
        )
        job_control.request_cancel(connection, user_id=ALICE, job_id=job_id)
        sync_jobs.end(connection, user_id=ALICE, job_id=job_id, status=JobStatus.CANCELLED)
    added, asked = logged()
    assert added[0] == "source.added"
    assert asked == (
        "job.changed",
        {"data_source_id": str(source.id), "status": "running", "changed": ["cancel_requested"]},
    )


def test_head_is_what_the_newest_entry_says(database: Database) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        assert audit.head(connection) == audit.Head(0, b"")
        last = audit.append(connection, [Entry("a.one"), Entry("a.two")])
        assert audit.head(connection) == audit.Head(last, audit.entry(connection, user_id=ALICE, seq=last).hash)
