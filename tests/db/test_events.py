"""Events write themselves, whoever changes a status; one is open of a kind about one thing; the owner alone sees them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.db.conftest import ALICE, BOB
from tests.db.rows import add_source
from workstation_pipelines.db import events, freshness
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import EventKind, UserId

Admin = psycopg.Connection[Any]


@pytest.fixture
def alice(shared: Database) -> UserId:
    """A user of one's own in the module's database."""
    return UserId(f"alice-{uuid4().hex[:8]}")


@pytest.fixture
def source(shared: Database, alice: UserId) -> UUID:
    with shared.transaction_with_rls(alice) as connection:
        return add_source(connection, alice).id


def add_job(database: Database, user_id: UserId, source: UUID, status: str = "pending", message: str = "") -> UUID:
    job_id = uuid4()
    database.query_with_rls(
        user_id,
        """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, status, error_message)
           VALUES (:id, :user_id, :source, 'manual', :status, :message)""",
        {"id": job_id, "user_id": user_id, "source": source, "status": status, "message": message},
    )
    return job_id


def set_job(database: Database, user_id: UserId, job_id: UUID, status: str, message: str = "") -> None:
    database.query_with_rls(
        user_id,
        "UPDATE app.sync_jobs SET status = :status, error_message = :message WHERE id = :id",
        {"id": job_id, "status": status, "message": message},
    )


def listed(database: Database, user_id: UserId, *, is_open: bool = True) -> list[tuple[str, int]]:
    """Kinds and occurrences, by kind."""
    with database.transaction_with_rls(user_id) as connection:
        return sorted((e.kind, e.occurrences) for e in events.recent(connection, user_id=user_id, is_open=is_open))


@pytest.mark.parametrize(
    ("status", "kind", "severity"),
    [
        ("failed", "sync_failed", "error"),
        ("needs_confirmation", "confirmation_needed", "warning"),
        ("paused", "sync_paused", "info"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_status_opens_its_event_and_a_later_sync_resolves_it(
    shared: Database, alice: UserId, source: UUID, status: str, kind: str, severity: str, is_new: bool
) -> None:
    if is_new:
        job_id = add_job(shared, alice, source, status, "why it stopped")
    else:
        job_id = add_job(shared, alice, source, "running")
        assert listed(shared, alice) == []
        set_job(shared, alice, job_id, status, "why it stopped")
    with shared.transaction_with_rls(alice) as connection:
        (event,) = events.recent(connection, user_id=alice, is_open=True)
    assert (event.kind, event.severity, event.message) == (kind, severity, "why it stopped")
    assert (event.data_source_id, event.data_source_name, event.sync_job_id) == (source, "notes", job_id)
    if status == "needs_confirmation":
        set_job(shared, alice, job_id, "cancelled")
    else:
        set_job(shared, alice, add_job(shared, alice, source, "running"), "completed")
    assert listed(shared, alice) == []
    assert listed(shared, alice, is_open=False) == [(kind, 1)]


@pytest.mark.parametrize("status", ["pending", "running", "completed", "cancelled"])
def test_ordinary_status_opens_nothing(shared: Database, alice: UserId, source: UUID, status: str) -> None:
    set_job(shared, alice, add_job(shared, alice, source), status)
    add_job(shared, alice, source, status if status != "running" else "pending")
    assert listed(shared, alice, is_open=False) == []


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed"])
def test_pause_is_over_when_the_job_ends_and_not_when_it_goes_on_to_pause_again(
    shared: Database, alice: UserId, source: UUID, status: str
) -> None:
    job_id = add_job(shared, alice, source, "paused")
    for _ in range(2):
        set_job(shared, alice, job_id, "running")
        set_job(shared, alice, job_id, "paused")
    assert listed(shared, alice) == [("sync_paused", 3)]
    set_job(shared, alice, job_id, "running")
    set_job(shared, alice, job_id, status)
    assert listed(shared, alice) == ([("sync_failed", 1)] if status == "failed" else [])


def test_pause_for_a_budget_says_so_and_one_that_was_asked_for_is_no_event(
    shared: Database, alice: UserId, source: UUID
) -> None:
    job_id = add_job(shared, alice, source, "running")
    pause = "UPDATE app.sync_jobs SET status = 'paused', paused_by = :by, pause_requested = :asked WHERE id = :id"
    shared.query_with_rls(alice, pause, {"id": job_id, "by": "budget", "asked": False})
    assert listed(shared, alice) == [("budget_reached", 1)]
    set_job(shared, alice, job_id, "running")
    set_job(shared, alice, job_id, "completed")
    assert listed(shared, alice) == []
    shared.query_with_rls(alice, pause, {"id": job_id, "by": None, "asked": True})
    assert listed(shared, alice) == []


def test_failure_that_is_repeated_counts_up_until_it_is_resolved(shared: Database, alice: UserId, source: UUID) -> None:
    for attempt in range(5):
        newest = add_job(shared, alice, source, "running")
        set_job(shared, alice, newest, "failed", f"attempt {attempt}")
    with shared.transaction_with_rls(alice) as connection:
        (event,) = events.recent(connection, user_id=alice, is_open=True)
        assert (event.occurrences, event.message, event.sync_job_id) == (5, "attempt 4", newest)
        assert events.resolve(connection, user_id=alice, event_id=event.id) == 1
        assert events.resolve(connection, user_id=alice, event_id=event.id) == 0
    set_job(shared, alice, newest, "failed", "the same status says nothing new")
    assert listed(shared, alice) == []
    add_job(shared, alice, source, "failed")
    assert listed(shared, alice, is_open=False) == [("sync_failed", 1), ("sync_failed", 5)]


def test_two_sources_have_events_of_their_own(shared: Database, alice: UserId, source: UUID) -> None:
    with shared.transaction_with_rls(alice) as connection:
        other = add_source(connection, alice, "other").id
    for each in (source, other):
        add_job(shared, alice, each, "failed")
    set_job(shared, alice, add_job(shared, alice, other, "running"), "completed")
    with shared.transaction_with_rls(alice) as connection:
        (event,) = events.recent(connection, user_id=alice, is_open=True)
        assert event.data_source_id == source
        assert events.recent(connection, user_id=alice, is_open=True, data_source_id=other) == []


def test_lost_grant_opens_an_event_and_its_return_resolves_it(shared: Database, alice: UserId, source: UUID) -> None:
    update = "UPDATE app.data_sources SET needs_reauth = :needs, status_message = 'connect again' WHERE id = :id"
    for _ in range(2):
        shared.query_with_rls(alice, update, {"id": source, "needs": True})
    assert listed(shared, alice) == [("reauthorization_needed", 1)]
    shared.query_with_rls(alice, update, {"id": source, "needs": False})
    assert listed(shared, alice) == []


def test_change_by_a_superuser_or_by_a_function_for_all_users_counts(
    shared: Database, module_admin: Admin, alice: UserId, source: UUID
) -> None:
    job_id = add_job(shared, alice, source, "running")
    module_admin.execute("UPDATE app.sync_jobs SET status = 'failed' WHERE id = %s", [job_id])
    assert listed(shared, alice) == [("sync_failed", 1)]
    other = add_job(shared, alice, source, "running")
    with module_admin.transaction(force_rollback=True):
        module_admin.execute("GRANT UPDATE (status), SELECT ON app.sync_jobs TO wp_counter")
        module_admin.execute("SET LOCAL ROLE wp_counter")
        module_admin.execute("UPDATE app.sync_jobs SET status = 'failed' WHERE id = %s", [other])
        counted = module_admin.execute("SELECT occurrences FROM app.events WHERE user_id = %s", [alice]).fetchall()
    assert counted == [(2,)]


def test_removing_a_source_takes_its_events_along(shared: Database, alice: UserId, source: UUID) -> None:
    job_id = add_job(shared, alice, source, "failed")
    shared.query_with_rls(alice, "DELETE FROM app.sync_jobs WHERE id = :id", {"id": job_id})
    assert listed(shared, alice) == [("sync_failed", 1)]
    shared.query_with_rls(alice, "DELETE FROM app.data_sources WHERE id = :id", {"id": source})
    assert listed(shared, alice, is_open=False) == []


def test_event_of_another_cannot_be_seen_resolved_or_marked(shared: Database, alice: UserId, source: UUID) -> None:
    add_job(shared, alice, source, "failed")
    with shared.transaction_with_rls(alice) as connection:
        (event,) = events.recent(connection, user_id=alice, is_open=True)
    with shared.transaction_with_rls(BOB) as connection:
        with pytest.raises(NotFoundError, match="events list"):
            events.get(connection, user_id=BOB, event_id=event.id)
        with pytest.raises(NotFoundError):
            events.resolve(connection, user_id=BOB, event_id=event.id)
        assert events.resolve(connection, user_id=BOB, event_id=None) == 0
        events.mark_seen(connection, user_id=BOB, event_id=event.id)
    with shared.transaction_with_rls(alice) as connection:
        assert events.get(connection, user_id=alice, event_id=event.id).seen_at is None
        events.mark_seen(connection, user_id=alice, event_id=event.id)
        assert events.get(connection, user_id=alice, event_id=event.id).seen_at is not None


# Freshness


def _sync_ended(database: Database, source: UUID, user_id: UserId, ago: str, **columns: object) -> None:
    more = "".join(f", {name} = :{name}" for name in columns)
    database.query_with_rls(
        user_id,
        f"UPDATE app.data_sources SET last_sync_at = now() - CAST(:ago AS interval){more} WHERE id = :id",  # noqa: S608
        {"id": source, "ago": ago, **columns},
    )


def _settle(database: Database) -> int:
    found = freshness.changes(database, at_most=100)
    for user_id, data_source_id in found:
        with database.transaction_with_rls(user_id) as connection:
            freshness.settle(connection, user_id=user_id, data_source_id=data_source_id, new_id=uuid4)
    return len(found)


def _is_missed(database: Database, user_id: UserId, source: UUID) -> bool:
    query = "SELECT is_missed FROM app.source_freshness WHERE data_source_id = :id"
    return bool(database.query_with_rls(user_id, query, {"id": source})[0][0])


@pytest.mark.parametrize(
    ("frequency", "minutes", "kept", "missed"),
    [
        ("hourly", None, "2 hours 59 minutes", "3 hours 1 second"),
        ("daily", None, "25 hours 59 minutes", "26 hours 1 second"),
        ("weekly", None, "7 days 23 hours 59 minutes", "8 days 1 second"),
        ("manual", 360, "5 hours 59 minutes", "6 hours 1 second"),
        ("hourly", 5, "4 minutes 50 seconds", "5 minutes 1 second"),
    ],
)
def test_objective_is_missed_just_behind_its_bound(
    shared: Database, alice: UserId, source: UUID, frequency: str, minutes: int | None, kept: str, missed: str
) -> None:
    with shared.transaction_with_rls(alice) as connection:
        freshness.set_objective(connection, user_id=alice, data_source_id=source, minutes=minutes)
    _sync_ended(shared, source, alice, kept, sync_frequency=frequency)
    assert not _is_missed(shared, alice, source)
    _sync_ended(shared, source, alice, missed)
    assert _is_missed(shared, alice, source)
    for away in ("connection_status", "is_active", "freshness_minutes"):
        value: object = {"connection_status": "disconnected", "is_active": False, "freshness_minutes": 0}[away]
        with shared.transaction_with_rls(alice) as connection:
            _sync_ended(shared, source, alice, missed, **{away: value})
            connection.rollback()
        assert not _is_missed(shared, alice, source)
        _sync_ended(
            shared, source, alice, missed, connection_status="connected", is_active=True, freshness_minutes=minutes
        )


def test_source_by_hand_has_no_objective_and_a_new_one_counts_from_its_creation(
    shared: Database, alice: UserId, source: UUID
) -> None:
    _sync_ended(shared, source, alice, "300 days")
    assert not _is_missed(shared, alice, source)
    _sync_ended(shared, source, alice, "1 day", sync_frequency="hourly")
    shared.query_with_rls(alice, "UPDATE app.data_sources SET last_sync_at = NULL")
    assert not _is_missed(shared, alice, source)
    shared.query_with_rls(alice, "UPDATE app.data_sources SET created_at = now() - interval '4 hours'")
    assert _is_missed(shared, alice, source)


def test_miss_opens_one_event_and_the_next_sync_resolves_it_at_once(database: Database) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        source = add_source(connection, ALICE).id
    _sync_ended(database, source, ALICE, "4 hours", sync_frequency="hourly")
    assert [_settle(database) for _ in range(3)] == [1, 0, 0]
    with database.transaction_with_rls(ALICE) as connection:
        (event,) = events.recent(connection, user_id=ALICE, is_open=True)
        assert (event.kind, event.detail["objective_minutes"]) == ("freshness_missed", 180)
        assert "in 3 h" in event.message
        # By hand: it is not opened again for the same miss.
        events.resolve(connection, user_id=ALICE, event_id=event.id)
    assert _settle(database) == 0
    _sync_ended(database, source, ALICE, "0 s")
    assert _settle(database) == 0
    database.query_with_rls(ALICE, "UPDATE app.events SET created_at = now() - interval '1 day'")
    _sync_ended(database, source, ALICE, "4 hours")
    assert _settle(database) == 1
    _sync_ended(database, source, ALICE, "0 s")
    assert listed(database, ALICE) == []


def test_wider_objective_resolves_a_miss(database: Database) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        source = add_source(connection, ALICE).id
    _sync_ended(database, source, ALICE, "4 hours", sync_frequency="hourly")
    assert _settle(database) == 1
    with database.transaction_with_rls(ALICE) as connection:
        freshness.set_objective(connection, user_id=ALICE, data_source_id=source, minutes=24 * 60)
    assert [_settle(database), _settle(database)] == [1, 0]
    assert listed(database, ALICE) == []


@pytest.mark.parametrize("minutes", [-1, 4, 527041])
def test_objective_that_cannot_be_kept_is_refused(shared: Database, alice: UserId, source: UUID, minutes: int) -> None:
    with shared.transaction_with_rls(alice) as connection, pytest.raises(InvalidRequestError, match="use 5 to"):
        freshness.set_objective(connection, user_id=alice, data_source_id=source, minutes=minutes)
    with shared.transaction_with_rls(BOB) as connection, pytest.raises(NotFoundError):
        freshness.set_objective(connection, user_id=BOB, data_source_id=source, minutes=60)


def test_kinds_of_triggers_are_known(module_admin: Admin) -> None:
    written = module_admin.execute(
        r"""SELECT DISTINCT found[1] FROM pg_proc, regexp_matches(prosrc, '''([a-z]+_[a-z]+)''', 'g') AS found
             WHERE proname IN ('note_job_status', 'note_source_state')"""
    ).fetchall()
    assert {kind for (kind,) in written} - {"needs_confirmation", "paused_by"} - set(EventKind) == set()
