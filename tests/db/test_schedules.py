"""Rows of scheduled_syncs and the frequency of a source, changed in plain SQL: the database keeps them in step."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.db.conftest import ALICE
from tests.db.rows import add_source
from workstation_pipelines.db import schedules
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import SourceType

Admin = psycopg.Connection[Any]
LATER = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture
def source_id(database: Database) -> UUID:
    with database.transaction_with_rls(ALICE) as connection:
        return add_source(connection, ALICE).id


@pytest.fixture
def row_id(database: Database, source_id: UUID) -> UUID:
    """A row that is due later."""
    with database.transaction_with_rls(ALICE) as connection:
        return schedules.add(
            connection,
            user_id=ALICE,
            schedule_id=uuid4(),
            data_source_id=source_id,
            schedule_type="interval",
            config={"minutes": 60},
            timezone="UTC",
            next_at=LATER,
        ).id


def rows(database: Database) -> list[schedules.DueSync]:
    with database.transaction_with_rls(ALICE) as connection:
        return schedules.of_user(connection, user_id=ALICE)


def change(database: Database, statement: str, **values: Any) -> None:
    database.query_with_rls(ALICE, statement, values)


@pytest.mark.parametrize(
    ("assignments", "next_at"),
    [
        ("schedule_config = '{\"minutes\": 5}'", None),
        ("timezone = 'Europe/Oslo'", None),
        ("schedule_type = 'daily', schedule_config = '{\"at\": \"02:30\"}'", None),
        ("schedule_config = schedule_config", LATER),
        ("is_active = false", LATER),
        ("schedule_config = '{\"minutes\": 5}', next_run_at = '2032-01-01Z'", LATER.replace(year=2032)),
        # Times that no calendar of ours holds would make the whole tick fail.
        ("next_run_at = '-infinity'", None),
        ("next_run_at = 'infinity'", None),
        ("next_run_at = '0044-03-15 BC'", None),
    ],
)
@pytest.mark.usefixtures("row_id")
def test_changed_schedule_loses_the_time_that_it_did_not_make(
    database: Database, assignments: str, next_at: datetime | None
) -> None:
    change(database, f"UPDATE app.scheduled_syncs SET {assignments}")  # noqa: S608 - a constant above
    assert [row.next_run_at for row in rows(database)] == [next_at]


def test_error_is_forgotten_when_the_row_is_mended(database: Database, row_id: UUID) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        schedules.deactivate(connection, user_id=ALICE, schedule_id=row_id, error="no such zone")
    [row] = rows(database)
    assert (row.is_active, row.error, row.next_run_at) == (False, "no such zone", LATER)
    change(database, "UPDATE app.scheduled_syncs SET is_active = true")
    [row] = rows(database)
    assert (row.is_active, row.error, row.next_run_at) == (True, "", None)


def test_rows_without_a_time_are_told_even_of_sources_that_cannot_be_synced(database: Database, row_id: UUID) -> None:
    change(database, "UPDATE app.scheduled_syncs SET next_run_at = NULL")
    change(database, "UPDATE app.data_sources SET connection_status = 'disconnected'")
    [due] = schedules.due(database, SourceType.LOCAL_FOLDER, at_most=9)
    assert (due.id, due.next_run_at) == (row_id, None)
    with database.transaction_with_rls(ALICE) as connection:
        assert schedules.give_time(connection, user_id=ALICE, schedule_id=row_id, next_at=LATER)
        assert not schedules.give_time(connection, user_id=ALICE, schedule_id=row_id, next_at=LATER)
    assert schedules.due(database, SourceType.LOCAL_FOLDER, at_most=9) == []


@pytest.mark.parametrize("by", ["sql", "set_frequency"])
@pytest.mark.parametrize(
    ("frequency", "schedule_type", "config"),
    [
        ("hourly", "interval", {"minutes": 60}),
        ("daily", "daily", {"at": "{now:%H:%M}"}),
        ("weekly", "weekly", {"at": "{now:%H:%M}", "weekday": "{now:%A}"}),
    ],
)
def test_frequency_becomes_one_row_that_is_due_at_once(
    database: Database,
    source_id: UUID,
    row_id: UUID,
    by: str,
    frequency: str,
    schedule_type: str,
    config: Mapping[str, Any],
) -> None:
    def set_to(wanted: str) -> list[schedules.DueSync]:
        if by == "sql":
            change(
                database,
                "UPDATE app.data_sources SET sync_frequency = :wanted, sync_timezone = 'Asia/Tokyo'",
                wanted=wanted,
            )
        else:
            with database.transaction_with_rls(ALICE) as connection:
                schedules.set_frequency(
                    connection, user_id=ALICE, data_source_id=source_id, sync_frequency=wanted, timezone="Asia/Tokyo"
                )
        return [row for row in rows(database) if row.id != row_id]

    [row] = set_to(frequency)
    assert row.next_run_at is not None
    now = row.next_run_at.astimezone(ZoneInfo("Asia/Tokyo"))
    told = {name: each.format(now=now).lower() if isinstance(each, str) else each for name, each in config.items()}
    assert (row.schedule_type, row.timezone) == (schedule_type, "Asia/Tokyo")
    assert row.schedule_config == {**told, "frequency": frequency}
    assert [each.id for each in schedules.due(database, SourceType.LOCAL_FOLDER, at_most=9)] == [row.id]

    assert set_to(frequency) == [row]
    change(database, "DELETE FROM app.scheduled_syncs WHERE id = :id", id=row.id)
    assert len(set_to(frequency)) == 1  # said again, it is there again
    assert set_to("manual") == []
    assert [each.id for each in rows(database)] == [row_id]


def test_new_source_with_a_frequency_has_its_row(database: Database, source_id: UUID) -> None:
    change(
        database,
        """INSERT INTO app.data_sources (id, user_id, name, source_type, sync_frequency)
           SELECT gen_random_uuid(), user_id, 'second', source_type, 'hourly' FROM app.data_sources
            WHERE id = :source""",
        source=source_id,
    )
    assert [row.schedule_type for row in rows(database)] == ["interval"]


def test_unknown_time_zone_fails_the_statement_that_names_it(database: Database, source_id: UUID) -> None:
    del source_id
    with pytest.raises(Exception, match="Mars/Olympus"):
        change(database, "UPDATE app.data_sources SET sync_frequency = 'daily', sync_timezone = 'Mars/Olympus'")
    assert rows(database) == []


def test_removed_row_of_a_frequency_leaves_a_source_that_is_synced_by_hand(database: Database, source_id: UUID) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        schedules.set_frequency(connection, user_id=ALICE, data_source_id=source_id, sync_frequency="daily")
        [row] = schedules.of_user(connection, user_id=ALICE)
        schedules.remove(connection, user_id=ALICE, schedule_id=row.id)
        with pytest.raises(NotFoundError, match="schedule list"):
            schedules.remove(connection, user_id=ALICE, schedule_id=row.id)
    assert rows(database) == []
    assert database.query_with_rls(ALICE, "SELECT sync_frequency FROM app.data_sources") == [("manual",)]


def test_frequency_nobody_knows_and_sources_nobody_has_are_refused(database: Database, source_id: UUID) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        with pytest.raises(InvalidRequestError, match="manual"):
            schedules.set_frequency(connection, user_id=ALICE, data_source_id=source_id, sync_frequency="yearly")
        with pytest.raises(NotFoundError, match="source list"):
            schedules.set_frequency(connection, user_id=ALICE, data_source_id=uuid4(), sync_frequency="daily")


def test_pausing_and_resuming_a_row_that_nobody_has_is_refused(database: Database, row_id: UUID) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        schedules.pause(connection, user_id=ALICE, schedule_id=row_id)
        schedules.resume(connection, user_id=ALICE, schedule_id=row_id, next_at=LATER.replace(year=2040))
        assert schedules.get(connection, user_id=ALICE, schedule_id=row_id).next_run_at == LATER.replace(year=2040)
        for refused in (schedules.pause, schedules.get):
            with pytest.raises(NotFoundError, match="schedule list"):
                refused(connection, user_id=ALICE, schedule_id=uuid4())
        with pytest.raises(NotFoundError, match="schedule list"):
            schedules.resume(connection, user_id=ALICE, schedule_id=uuid4(), next_at=LATER)
