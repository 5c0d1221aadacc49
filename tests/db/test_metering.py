"""Bills and metrics: what is written twice in an hour is one row, and what is read is the sum."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

from tests.db.conftest import ALICE, BOB
from workstation_pipelines.db import metering
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import BillBy, Measure, Usage, UserId

EMBEDDED = Usage("embed", "openai", "small", 100, Decimal("0.00000002"), document_id=uuid4(), job_id=uuid4())


def record(database: Database, user_id: UserId, *usages: Usage) -> None:
    with database.transaction_with_rls(user_id) as connection:
        metering.record(connection, user_id=user_id, usages=usages)


def test_equal_usages_of_an_hour_are_one_row_and_prices_are_exact(database: Database) -> None:
    record(database, ALICE, EMBEDDED, EMBEDDED)
    record(database, ALICE, EMBEDDED, replace(EMBEDDED, unit_price=None), replace(EMBEDDED, document_id=uuid4()))
    record(database, ALICE)
    rows = database.query_with_rls(
        ALICE, "SELECT quantity, cost, is_priced FROM app.billing_records ORDER BY quantity, is_priced"
    )
    assert [tuple(row) for row in rows] == [
        (100, 0, False),
        (100, Decimal("0.000002"), True),
        (300, Decimal("0.000006"), True),
    ]
    with database.transaction_with_rls(ALICE) as connection:
        (total,) = metering.total(connection, user_id=ALICE)
        assert (total.quantity, total.cost_usd, total.unpriced_quantity) == (500, Decimal("0.000008"), 100)
        by_document = metering.bill(connection, user_id=ALICE, by=BillBy.DOCUMENT)
        assert [(row.name, row.quantity) for row in by_document] == [
            ("a document that is gone", 400),
            ("a document that is gone", 100),
        ]
        ((day, cost),) = connection.exec_driver_sql(
            "SELECT day, cost FROM app.daily_cost_summary WHERE user_id = 'alice'"
        )
        assert (day, cost) == (
            connection.exec_driver_sql("SELECT (now() AT TIME ZONE 'UTC')::date").scalar(),
            total.cost_usd,
        )
    with database.transaction_with_rls(BOB) as connection:
        assert metering.total(connection, user_id=BOB) == []


def test_what_is_measured_at_the_same_time_adds_up(database: Database) -> None:
    def observe(seconds: float) -> None:
        measures = [Measure("fetch", "duration_s", 2, seconds, seconds / 2), Measure("cut", "duration_s", 1, 1.0, 1.0)]
        with database.transaction_with_rls(ALICE) as connection:
            metering.observe(connection, user_id=ALICE, data_source_id=None, measures=measures)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(observe, [1.0, 2.0, 4.0, 8.0] * 5))
    with database.transaction_with_rls(ALICE) as connection:
        cut, fetch = metering.metrics(connection, user_id=ALICE)
    assert (fetch.times, fetch.total, fetch.highest) == (40, 75.0, 4.0)
    assert (cut.times, cut.total, cut.highest) == (20, 20.0, 1.0)
