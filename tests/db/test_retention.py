"""Housekeeping removes what has had its day, of its own user alone, and nothing younger."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.db.conftest import ALICE, BOB
from tests.db.rows import populate
from workstation_pipelines.db import retention, tables
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import RetentionDays
from workstation_pipelines.sync import housekeeping

Admin = psycopg.Connection[Any]

DAYS = RetentionDays()
# What makes a row of each table one that has had its day; {} is the age.
OLD = {
    "tombstones": "UPDATE app.documents SET deleted_at = {}",
    "gone items": "UPDATE app.sync_items SET sync_status = 'deleted', local_document_id = NULL, updated_at = {}",
    "resolved failures": "UPDATE app.sync_failures SET resolved_at = {}",
    "sync jobs": "UPDATE app.sync_jobs SET status = 'failed', created_at = {0}, completed_at = {0}",
    "processing jobs": "UPDATE app.processing_jobs SET status = 'failed', completed_at = {}",
    "workflow executions": "UPDATE app.workflow_executions SET status = 'failed', completed_at = {}",
    "forgotten uploads": "UPDATE app.uploads SET updated_at = {}",
    "webhook deliveries": "UPDATE app.webhook_deliveries SET delivered_at = {}",
    "resolved events": "UPDATE app.events SET resolved_at = {}",
    "metrics": "UPDATE app.observability_metrics SET hour = date_trunc('hour', {}, 'UTC')",
}


def _swept(database: Database, user_id: UserId, **how: bool) -> dict[str, int]:
    return {each.rule: each.rows for each in housekeeping.sweep(database, DAYS, user_id=user_id, **how) if each.rows}


def _counts(admin: Admin) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for table in tables.metadata.sorted_tables:
        rows = admin.execute(f"SELECT user_id, count(*) FROM app.{table.name} GROUP BY 1".encode())  # noqa: S608
        counts |= {(table.name, user_id): count for user_id, count in rows}
    return counts


def _age(admin: Admin, statement: str, days: float, user_id: str) -> None:
    admin.execute("SET session_replication_role = replica")  # or `updated_at` would be now
    moment = f"now() - interval '{days * 24} hours'"
    admin.execute(f"{statement.format(moment, moment)} WHERE user_id = '{user_id}'".encode())
    admin.execute("RESET session_replication_role")


@pytest.fixture
def filled(database: Database) -> Database:
    for user_id in (ALICE, BOB):
        populate(database, user_id)
    return database


def test_every_rule_is_tried() -> None:
    assert list(OLD) == [rule.name for rule in retention.RULES]


def test_what_is_old_goes_of_its_user_alone_and_what_is_younger_stays(filled: Database, admin: Admin) -> None:
    for user, margin in (("alice", 0.1), ("bob", -0.1)):
        for rule in retention.RULES:
            whole_hours = 0.1 if margin > 0 else 0.0
            _age(admin, OLD[rule.name], getattr(DAYS, rule.kept_as) + margin + whole_hours, user)
        admin.execute(  # a job goes only when ten newer ones push it out
            """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, started_at, completed_at)
               SELECT gen_random_uuid(), user_id, id, 'manual', 'failed', now(), now() FROM app.data_sources, generate_series(1, %s)
                WHERE user_id = %s""",
            [retention.KEPT_OF_EACH, user],
        )
    before = _counts(admin)
    expected = _swept(filled, ALICE, is_dry=True)
    assert expected.keys() == set(OLD)
    assert _counts(admin) == before
    assert _swept(filled, ALICE) == expected
    after = _counts(admin)
    gone = {table: rows - after.get((table, user), 0) for (table, user), rows in before.items() if user == "alice"}
    assert {rule.name: gone[rule.table] for rule in retention.RULES} == expected
    assert {key: rows for key, rows in after.items() if key[1] == "bob"} == {
        key: rows for key, rows in before.items() if key[1] == "bob"
    }
    assert _swept(filled, ALICE) == _swept(filled, BOB) == {}


def test_what_the_owner_removed_is_remembered_for_good(filled: Database, admin: Admin) -> None:
    _age(
        admin,
        "UPDATE app.sync_items SET sync_status = 'deleted', reason = 'removed_by_user', updated_at = {}",
        99,
        "alice",
    )
    assert _swept(filled, ALICE) == {}


def test_portions_add_up(filled: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "ROWS_AT_ONCE", 1)
    admin.execute(
        """INSERT INTO app.uploads (id, user_id, name, mime_type, content_hash, body, updated_at)
           SELECT gen_random_uuid(), 'alice', 'n', 'm', 'h', '', now() - interval '40 days' FROM generate_series(1, 5)"""
    )
    assert _swept(filled, ALICE) == {"forgotten uploads": 5}


def test_users_are_found_in_order_whatever_they_have(filled: Database, admin: Admin) -> None:
    admin.execute("INSERT INTO app.projects (id, user_id, name) VALUES (gen_random_uuid(), 'abel', 'empty')")
    admin.execute(
        """INSERT INTO app.uploads (id, user_id, name, mime_type, content_hash, body)
           VALUES (gen_random_uuid(), 'carol', 'n', 'm', 'h', '')"""
    )
    assert list(housekeeping.every_user(filled)) == ["alice", "bob", "carol"]
    assert retention.users(filled, after="alice", at_most=1) == [BOB]
    assert retention.users(filled, at_most=1) == [ALICE]
