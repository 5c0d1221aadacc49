"""A removed source leaves nothing behind, whatever kills the removal on the way, and a certificate says so."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import replace
from itertools import product

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import syncing
from tests.sync.conftest import Ask, Place
from tests.sync.scripted import VendorAccount
from tests.sync.syncing import Wish
from workstation_pipelines.db import audit, data_sources, tables
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BusyError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.sync import erasure
from workstation_pipelines.sync.faults import ERASURE_POINTS, Faults

ALICE = UserId("alice")
# The source's own rows, and those of which it has some after a sync.
ROWS = {"data_sources": 1, "documents": 3, "chunks": 3, "sync_items": 3, "sync_jobs": 2, "sync_containers": 0}

LEFT = {"audit_logs", "index_configs", "billing_records", "observability_metrics"}
"""What is about the user and no longer about the source."""


def _spent(ask: Ask) -> list[object]:
    return ask(
        """SELECT (SELECT sum(quantity) FROM app.billing_records WHERE user_id = 'alice'),
                  (SELECT sum(sum) FROM app.observability_metrics WHERE user_id = 'alice' AND name = 'spent_tokens')"""
    )


def _erase(wish: Wish, fault: str | None) -> None:
    database = Database(wish.app_url)
    try:
        erasure.erase(database, syncing.data_source(database, wish), faults=Faults(fault))
    finally:
        database.close()


def _filled(account: VendorAccount, place: Place) -> None:
    for name in "abc":
        account.put(name, f"note {name}" + " and on" * 8 * (name == "a"))
    place.sync()
    account.delete("b")
    place.sync()


def _rows_of(ask: Ask, user: str) -> dict[str, int]:
    counts = {
        table.name: ask(f"SELECT count(*) FROM app.{table.name} WHERE user_id = %s", user)[0][0]  # noqa: S608
        for table in tables.metadata.sorted_tables
    }
    return {table: count for table, count in counts.items() if count}


def _certificate(database: Database, user: UserId) -> audit.Logged:
    with database.transaction_with_rls(user) as connection:
        (entry,) = audit.entries(connection, user_id=user, action=erasure.ERASED)
    return entry


def test_nothing_is_left_and_the_certificate_counts_it(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask
) -> None:
    _filled(account, account_place)
    account_place.sync(user="bob")
    bobs = _rows_of(ask, "bob")
    spent = _spent(ask)
    _erase(account_place.wish, None)
    assert set(_rows_of(ask, "alice")) == LEFT
    assert _rows_of(ask, "bob") == bobs
    assert _spent(ask) == spent
    assert ask(
        "SELECT DISTINCT data_source_id, document_id, job_id FROM app.billing_records WHERE user_id = 'alice'"
    ) == [(None, None, None)]
    entry = _certificate(database, ALICE)
    assert {name: entry.detail["before"][name] for name in ROWS} == ROWS
    assert set(entry.detail["after"].values()) == {0}
    assert set(entry.detail["before"]) >= {
        table.name for table in tables.metadata.sorted_tables if {"data_source_id", "document_id"} & set(table.c.keys())
    }


@pytest.mark.crash
@pytest.mark.parametrize(("point", "nth"), list(product(ERASURE_POINTS, (1, 2))))
def test_removal_that_was_killed_is_finished_and_certified_as_a_whole(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask, point: str, nth: int
) -> None:
    _filled(account, account_place)
    wish = account_place.wish
    process = multiprocessing.get_context("forkserver").Process(target=_erase, args=(wish, f"{point}:{nth}"))
    process.start()
    process.join(60)
    was_killed = process.exitcode == -signal.SIGKILL
    assert was_killed == (nth == 1 or point == "erasure_step")
    if was_killed:
        assert ask("SELECT auth_data, is_active FROM app.data_sources WHERE user_id = 'alice'") == [(None, False)]
        _erase(wish, None)
    assert set(_rows_of(ask, "alice")) == LEFT
    entry = _certificate(database, ALICE)
    assert {name: entry.detail["before"][name] for name in ROWS} == ROWS
    with database.transaction_with_rls(ALICE) as connection:
        assert audit.breaks(connection) == []


def test_source_that_is_being_synced_is_not_touched(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask
) -> None:
    _filled(account, account_place)
    source = syncing.data_source(database, account_place.wish)
    before = _rows_of(ask, "alice")
    with data_sources.leased(database, source), pytest.raises(BusyError):
        erasure.erase(database, source, faults=Faults())
    assert _rows_of(ask, "alice") == before


def test_nobody_erases_the_source_of_another(
    account: VendorAccount, account_place: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    _filled(account, account_place)
    source = syncing.data_source(database, account_place.wish)
    before = _rows_of(ask, "alice")
    with pytest.raises(NotFoundError):
        erasure.erase(database, replace(source, user_id=UserId("bob")), faults=Faults())
    assert (_rows_of(ask, "alice"), _rows_of(ask, "bob")) == (before, {})
