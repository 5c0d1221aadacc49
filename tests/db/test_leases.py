"""One run a data source: the second is turned away at once, a dead holder is replaced, a sleeper writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.conftest import DatabaseUrls
from tests.db import waiting
from tests.db.conftest import ALICE, BOB
from tests.db.rows import Library
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import Lease, leased
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BusyError, FencedError, InvalidRequestError, NotFoundError
from workstation_pipelines.model import DataSourceId, SourceType, UserId

Admin = psycopg.Connection[Any]

_HOLDER = """
import sys, time
from uuid import UUID
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.engine import Database
database = Database(sys.argv[1])
with database.transaction_with_rls("alice") as connection:
    source = data_sources.get(connection, user_id="alice", data_source_id=UUID(sys.argv[2]))
with data_sources.leased(database, source) as lease:
    print(lease.fence, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(urls: DatabaseUrls, alices: Library) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the lease, and its fence."""
    command = [sys.executable, "-c", _HOLDER, urls.app_url, str(alices.source.id)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_second_process_is_turned_away_at_once(
    database: Database, database_urls: DatabaseUrls, alices: Library
) -> None:
    with _holder(database_urls, alices):
        started = time.monotonic()
        with pytest.raises(BusyError, match="notes"), leased(database, alices.source):
            pytest.fail("two runs hold one source")
        assert time.monotonic() - started < 10


@pytest.mark.crash
def test_killed_holder_is_replaced_at_once_by_a_higher_fence(
    database: Database, database_urls: DatabaseUrls, alices: Library, admin: Admin
) -> None:
    with _holder(database_urls, alices) as (process, fence):
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        waiting.until(
            admin,
            """
            SELECT NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                                WHERE locktype = 'advisory' AND datname = current_database())""",
        )
        with leased(database, alices.source) as lease:
            assert time.monotonic() - killed < 10
            assert lease.fence > fence


def test_each_lease_has_a_higher_fence_and_frees_the_source_after_an_error(database: Database, alices: Library) -> None:
    fences = []
    for _ in range(3):
        with ExitStack() as stack:
            fences.append(stack.enter_context(leased(database, alices.source)).fence)
            if len(fences) == 2:
                with pytest.raises(ZeroDivisionError), stack:
                    raise ZeroDivisionError
    assert fences == [1, 2, 3]


def test_leases_of_different_sources_do_not_meet(database: Database, alices: Library, bobs: Library) -> None:
    with leased(database, alices.source) as one, leased(database, bobs.source) as other:
        assert (one.user_id, other.user_id) == (ALICE, BOB)


def test_removed_source_cannot_be_leased(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        data_sources.remove(connection, user_id=ALICE, data_source_id=alices.source.id)
    with pytest.raises(NotFoundError, match=str(alices.source.id)), leased(database, alices.source):
        pytest.fail("leased what is gone")


def test_lease_is_proven_until_somebody_takes_over(database: Database, alices: Library) -> None:
    with leased(database, alices.source) as lease, database.transaction_with_rls(ALICE) as connection:
        data_sources.prove_lease(connection, lease)
    with leased(database, alices.source) as newer:
        assert newer.fence == lease.fence + 1
        with (
            database.transaction_with_rls(ALICE) as connection,
            pytest.raises(FencedError, match=rf"fence {newer.fence}, ours is {lease.fence}"),
        ):
            data_sources.prove_lease(connection, lease)


def test_lease_on_anothers_or_a_removed_source_is_not_proven(database: Database, alices: Library) -> None:
    for lease in (Lease(alices.source.id, BOB, 0), Lease(DataSourceId(uuid4()), BOB, 0)):
        with database.transaction_with_rls(BOB) as connection, pytest.raises(FencedError):
            data_sources.prove_lease(connection, lease)


def test_takeover_waits_for_a_transaction_that_has_proven_its_lease(
    database: Database, alices: Library, admin: Admin
) -> None:
    """A sleeper lost its lock, not its transaction: what it writes there counts, and the newer run sees it."""
    with leased(database, alices.source) as lease:
        pass

    def take_over() -> str:
        with leased(database, alices.source), database.transaction_with_rls(ALICE) as connection:
            return data_sources.get(connection, user_id=ALICE, data_source_id=alices.source.id).status_message

    with ThreadPoolExecutor(1) as thread:
        with database.transaction_with_rls(ALICE) as connection:
            data_sources.prove_lease(connection, lease)
            newer = thread.submit(take_over)
            waiting.until_somebody_waits(admin)
            _set_status(connection, alices, "written under the old fence")
        assert newer.result(timeout=20) == "written under the old fence"


def _set_status(connection: Connection, alices: Library, message: str) -> None:
    data_sources.set_status(
        connection, user_id=ALICE, data_source_id=alices.source.id, connection_status="syncing", message=message
    )


def test_end_of_a_sync_moves_cursor_status_and_totals(database: Database, alices: Library) -> None:
    with leased(database, alices.source) as lease, database.transaction_with_rls(ALICE) as connection:
        data_sources.promote(
            connection, lease, cursor={"token": "t1"}, scope="", is_listed=True, status="completed", items_synced=3
        )
        data_sources.promote(
            connection, lease, cursor=None, scope="s", is_listed=False, status="completed_with_errors", items_synced=4
        )
        stored = data_sources.get(connection, user_id=ALICE, data_source_id=alices.source.id)
    assert (stored.cursor, stored.total_items_synced) == ({"token": "t1"}, 7)
    assert (stored.last_sync_status, stored.connection_status) == ("completed_with_errors", "connected")
    assert stored.last_sync_at is not None


def test_old_fence_cannot_move_the_cursor(database: Database, alices: Library) -> None:
    with leased(database, alices.source) as lease:
        pass
    with leased(database, alices.source):
        with database.transaction_with_rls(ALICE) as connection, pytest.raises(FencedError):
            data_sources.promote(
                connection, lease, cursor={"token": "old"}, scope="", is_listed=True, status="completed", items_synced=1
            )
        with database.transaction_with_rls(ALICE) as connection:
            stored = data_sources.get(connection, user_id=ALICE, data_source_id=alices.source.id)
    assert (stored.cursor, stored.total_items_synced) == (None, 0)


def test_source_is_found_by_name_and_id_among_the_users_own(database: Database, alices: Library, bobs: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        for name in ("notes", str(alices.source.id)):
            assert data_sources.named(connection, user_id=ALICE, name=name) == alices.source
        assert data_sources.all_of(connection, user_id=ALICE) == [alices.source]
        assert [row.name for row in data_sources.summaries(connection, user_id=ALICE)] == ["notes"]
        for name in ("other", str(bobs.source.id)):
            with pytest.raises(NotFoundError):
                data_sources.named(connection, user_id=ALICE, name=name)


def test_second_source_of_one_name_is_refused(database: Database, alices: Library) -> None:
    def add_again() -> None:
        with database.transaction_with_rls(ALICE) as connection:
            data_sources.add(
                connection,
                user_id=ALICE,
                data_source_id=DataSourceId(uuid4()),
                name=alices.source.name,
                source_type=SourceType.NOTION,
                config={},
            )

    with pytest.raises(InvalidRequestError, match="another name"):
        add_again()


@pytest.mark.parametrize("key", ["access_token", "refresh_token", "token", "client_secret", "password"])
def test_secret_that_is_not_sealed_cannot_be_stored(admin: Admin, alices: Library, key: str) -> None:
    store = "UPDATE app.data_sources SET auth_data = %s::jsonb WHERE id = %s"
    sealed = '{"v": 1, "kid": "k", "wk": "w", "ct": "c"}'
    admin.execute(store, [sealed, alices.source.id])
    for auth_data in (f'{{"{key}": "x"}}', sealed.replace("wk", key)):
        with pytest.raises(psycopg.errors.CheckViolation):
            admin.execute(store, [auth_data, alices.source.id])


def test_schedulers_see_sources_of_all_users_in_order_of_their_last_probe(
    database: Database, alices: Library, bobs: Library
) -> None:
    def to_probe() -> list[tuple[UserId, DataSourceId]]:
        return data_sources.to_probe(database, SourceType.LOCAL_FOLDER, at_most=10)

    assert set(to_probe()) == {(ALICE, alices.source.id), (BOB, bobs.source.id)}
    with database.transaction_with_rls(ALICE) as connection:
        data_sources.set_probed(connection, user_id=ALICE, data_source_id=alices.source.id, token="7")
        data_sources.set_probed(connection, user_id=ALICE, data_source_id=alices.source.id, token=None)
        assert data_sources.probe_token(connection, user_id=ALICE, data_source_id=alices.source.id) == "7"
    assert to_probe() == [(BOB, bobs.source.id), (ALICE, alices.source.id)]
    assert sorted(data_sources.ids_of_type(database, SourceType.LOCAL_FOLDER)) == sorted(
        [alices.source.id, bobs.source.id]
    )
    assert data_sources.ids_of_type(database, SourceType.GMAIL) == []
    assert database.owner_of(bobs.source.id) == BOB
    assert database.owner_of(uuid4()) is None
    with database.transaction_with_rls(BOB) as connection:
        connection.execute(text("UPDATE app.data_sources SET is_active = false"))
    assert to_probe() == [(ALICE, alices.source.id)]
