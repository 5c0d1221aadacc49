"""`workstation status`, `events` and `source objective`: a realistic mixture at a glance, one's own alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.program import USER, Program
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId


@pytest.fixture
def database(workstation: Program) -> Iterator[Database]:
    database = Database(workstation.settings.database_url or "")
    yield database
    database.close()


def ask(database: Database, statement: str, **parameters: Any) -> list[Any]:
    return list(database.query_with_rls(USER, statement, parameters))


def add_job(database: Database, source_id: object, status: str, message: str = "", user_id: UserId = USER) -> None:
    database.query_with_rls(
        user_id,
        """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, error_message)
           VALUES (:id, :user_id, :source, 'manual', :status, :message)""",
        {"id": uuid4(), "user_id": user_id, "source": source_id, "status": status, "message": message},
    )


def row_of(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(name))


def test_empty_account_says_how_to_begin(workstation: Program) -> None:
    ran = workstation("status")
    assert (ran.code, "workstation source add" in ran.out) == (0, True)
    assert "0 pending, 0 running, 0 paused" in ran.out
    assert "Workflows: 0 pending, 0 running, 0 waiting (0 for an approval), 0 failed in the last 24 hours." in ran.out
    assert "Events: none open." in ran.out
    assert workstation("events", "list").out == "No open events.\n"


def test_mixture_of_sources_reads_well(workstation: Program, folder: Path, database: Database) -> None:
    fresh, late, lost, paused = (workstation.connect(name, folder) for name in ("fresh", "late", "lost", "paused"))
    other = workstation.connect("hers", folder, user_id=UserId("someone"))
    assert workstation("sync", "fresh").code == 0
    ask(database, "UPDATE app.data_sources SET sync_frequency = 'hourly' WHERE id = :id", id=fresh.id)
    ask(
        database,
        """UPDATE app.data_sources SET sync_frequency = 'daily', last_sync_at = now() - interval '3 days',
                  last_sync_status = 'completed' WHERE id = :id""",
        id=late.id,
    )
    add_job(database, late.id, "failed", "the share is away")
    add_job(database, late.id, "failed", "the share is still away")
    add_job(database, late.id, "pending")
    for external_id, due in (("a", "-1 minute"), ("b", "1 day")):
        ask(
            database,
            """INSERT INTO app.sync_failures (id, user_id, data_source_id, external_id, external_path, stage, error_class,
                                              reason, message, next_try_at)
               VALUES (:id, 'dev', :source, :external_id, 'p', 'fetch', 'RetryableError', 'timeout', 'm',
                       now() + CAST(:due AS interval))""",
            **{"id": uuid4(), "source": late.id, "external_id": external_id, "due": due},
        )
    ask(
        database,
        "UPDATE app.data_sources SET needs_reauth = true, status_message = 'sign in again' WHERE id = :id",
        id=lost.id,
    )
    add_job(database, paused.id, "paused", "the vendor asked for an hour")
    ask(
        database,
        """INSERT INTO app.billing_records (user_id, hour, data_source_id, quantity, step, provider, model, unit, unit_price)
           VALUES ('dev', date_trunc('hour', now(), 'UTC'), :source, 1000, 'embed', 'p', 'm', 'tokens', 0.0001),
                  ('dev', date_trunc('hour', now(), 'UTC') - interval '40 days', :source, 1000, 'embed', 'p', 'm', 'tokens', 1)""",
        source=late.id,
    )
    add_job(database, other.id, "failed", "not yours", user_id=UserId("someone"))

    shown = workstation("status")
    assert shown.code == 0
    assert row_of(shown.out, "fresh").split()[1:] == [
        "local_folder",
        "connected",
        "now",
        "now",
        "0",
        "0",
        "ok",
        "0.0000",
        "USD",
    ]
    assert "pending" in row_of(shown.out, "late")
    assert "3 d ago" in row_of(shown.out, "late")
    assert "missed 46 h ago" in row_of(shown.out, "late")
    assert "0.1000 USD" in row_of(shown.out, "late")
    assert "connect again" in row_of(shown.out, "lost")
    assert "never" in row_of(shown.out, "lost")
    assert "paused" in row_of(shown.out, "paused")
    assert "Jobs: 1 pending, 0 running, 1 paused, 0 to be confirmed. Cost this month: 0.1000 USD." in shown.out
    assert "3 open" in shown.out
    assert "sync_failed: late: the share is still away" in shown.out
    assert "yours" not in shown.out

    told = workstation("status", "--json").value
    by_name = {row["name"]: row for row in told["sources"]}
    assert list(by_name) == ["fresh", "late", "lost", "paused"]
    assert {name: by_name["late"][name] for name in ("backlog", "due_failures", "open_failures", "pending_jobs")} == {
        **{"backlog": 2, "due_failures": 1, "open_failures": 2, "pending_jobs": 1}
    }
    assert [(row["is_late"], row["objective_minutes"]) for row in told["sources"]] == [
        *((False, 180), (True, 1560), (False, None), (False, None))
    ]
    assert told["queue"]["open_events"] == 3
    # Settings that changed: what the former config made is to be done anew.
    ask(
        database,
        """INSERT INTO app.index_configs (id, user_id, embedder, model, dimensions, chunk_tokens, overlap_tokens)
           VALUES (:id, 'dev', 'hashing', 'other', 8, 16, 0)""",
        id=(newer := uuid4()),
    )
    ask(
        database,
        "UPDATE app.documents SET index_config_id = :config WHERE id = (SELECT max(id::text)::uuid FROM app.documents)",
        config=newer,
    )
    assert workstation("status", "--json").value["sources"][0]["stale_documents"] == 2


def test_events_are_listed_shown_and_resolved(workstation: Program, folder: Path, database: Database) -> None:
    first, second = (workstation.connect(name, folder) for name in ("first", "second"))
    for source in (first, second, second):
        add_job(database, source.id, "failed", f"{source.name} is away")
    listed = workstation("events", "list", "--json").value
    assert [(event["data_source_name"], event["occurrences"]) for event in listed] == [("second", 2), ("first", 1)]
    assert [event["id"] for event in workstation("events", "list", "--source", "first", "--json").value] == [
        listed[1]["id"]
    ]
    shown = workstation("events", "show", listed[0]["id"])
    assert "second is away" in shown.out
    assert workstation("events", "show", listed[0]["id"], "--json").value["seen_at"] is not None
    assert workstation("events", "resolve", listed[0]["id"]).out == "Resolved 1.\n"
    assert workstation("events", "resolve", listed[0]["id"]).out == "It was resolved already.\n"
    assert workstation("events", "resolve", "--all", "--json").value == {"resolved": 1}
    assert workstation("events", "list").out == "No open events.\n"
    assert len(workstation("events", "list", "--all", "--json").value) == 2
    for arguments, complaint in (
        (["show", "x"], "is not an event's id"),
        (["show", str(uuid4())], "no event"),
        (["resolve"], "give either"),
        (["resolve", "x", "--all"], "give either"),
    ):
        ran = workstation("events", *arguments)
        assert (ran.code, complaint in ran.err) == (2, True)


def test_objective_is_set_read_and_taken_back(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    assert "within 6 h" in workstation("source", "objective", "papers", "--fresh-within", "6h").out
    assert "within 90 min" in workstation("source", "objective", "papers", "--fresh-within", "90m").out
    (row,) = workstation("status", "--json").value["sources"]
    assert row["objective_minutes"] == 90
    for none in ("none", "by-frequency"):
        ran = workstation("source", "objective", "papers", "--fresh-within", none)
        assert ran.out == "papers has no freshness objective.\n"
    assert workstation("source", "objective", "papers", "--fresh-within", "2d", "--json").value == {
        "name": "papers",
        "freshness_minutes": 2880,
        "objective_minutes": 2880,
    }
    for wrong in ("6", "1m", "500d", "-1h", "soon"):
        ran = workstation("source", "objective", "papers", "--fresh-within", wrong)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
