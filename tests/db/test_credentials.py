"""Stored credentials: sealed for one row, refreshed by one process at a time, rewrapped and reconnected while in use."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from tests.conftest import DatabaseUrls
from tests.db import refreshing
from tests.db.refreshing import Wish
from tests.fakes import oauth as fakes
from tests.fakes.oauth import OAuthDesk, Style
from tests.fakes.server import Answer
from tests.sources.parcel import ParcelOffice, registered
from workstation_pipelines.db import credentials as stored_credentials
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import (
    BusyError,
    InvalidRequestError,
    NotFoundError,
    ReauthorizeError,
    SourceUnavailableError,
)
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.model import DataSourceId, SourceType, UserId
from workstation_pipelines.sources.credentials import CredentialProvider, Secret, StaticToken, Tokens
from workstation_pipelines.sources.sealing import SealError, new_key
from workstation_pipelines.sync.connect import connect, rotate_keys
from workstation_pipelines.sync.credentials import SealedStore, Vault
from workstation_pipelines.sync.workspace import Workspace

ALICE, BOB = UserId("alice"), UserId("bob")
STYLES: dict[str, Style] = {"google": fakes.GOOGLE, "microsoft": fakes.MICROSOFT, "slack": fakes.SLACK}
new_id = Uuid7()

Admin = psycopg.Connection[Any]


@dataclass
class Place:
    """A database, a vendor with its authorization desk, and a workspace that knows both."""

    urls: DatabaseUrls
    database: Database
    desk: OAuthDesk
    keys: str
    folder: Path

    @property
    def office(self) -> ParcelOffice:
        assert isinstance(self.desk.vendor, ParcelOffice)
        return self.desk.vendor

    @property
    def workspace(self) -> Workspace:
        settings = refreshing.settings(self.urls.app_url, self.keys, refreshing.vendor_settings(self.desk))
        return Workspace(settings, self.database)

    @property
    def vault(self) -> Vault:
        return self.workspace.vault

    def add(self, user_id: UserId = ALICE, name: str = "letters") -> DataSource:
        with self.database.transaction_with_rls(user_id) as connection:
            return data_sources.add(
                connection,
                user_id=user_id,
                data_source_id=DataSourceId(new_id()),
                name=name,
                source_type=SourceType.DROPBOX,
                config={},
            )

    def get(self, source: DataSource) -> DataSource:
        with self.database.transaction_with_rls(source.user_id) as connection:
            return data_sources.get(connection, user_id=source.user_id, data_source_id=source.id)

    def granted(self, user: str = "user-1", *, is_expired: bool = False) -> Tokens:
        given = self.desk.grant(user, ["files.read", "profile"])
        given = given.get("authed_user", given)
        end = utc_now() + timedelta(seconds=-1 if is_expired else 3600)
        refresh_at = end - timedelta(minutes=5)
        refresh = Secret(given["refresh_token"])
        return Tokens(Secret(given["access_token"]), refresh, refresh_at, end, frozenset({"files.read", "profile"}))

    def connected(self, *, is_expired: bool = False, user_id: UserId = ALICE, name: str = "letters") -> DataSource:
        source = self.add(user_id, name)
        connect(self.workspace, source, self.granted())
        if is_expired:
            self.expire(source)
        return self.get(source)

    def expire(self, source: DataSource) -> None:
        """Let the stored access token be over, here and at the vendor."""
        store = SealedStore(self.vault, source.user_id, source.id)
        with store.locked() as held:
            over = utc_now() - timedelta(seconds=1)
            held.replace(replace(held.tokens, refresh_at=over, expires_at=over))
        self.desk.expire_access_tokens()

    def provider(self, source: DataSource) -> CredentialProvider:
        provider = self.vault.provider(source)
        assert provider is not None
        return provider

    def wish(self, source: DataSource, **changes: Any) -> Wish:
        vendor = refreshing.vendor_settings(self.desk)
        outcome = str(self.folder / f"{new_id()}.outcome")
        wish = Wish(self.urls.app_url, self.keys, vendor, source.user_id, str(source.id), outcome)
        return replace(wish, style=self.style, **changes)

    style: str = "google"


@pytest.fixture(params=["google"])
def place(
    request: pytest.FixtureRequest, database_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> Iterator[Place]:
    with registered(SourceType.DROPBOX, request.param), ParcelOffice() as office:
        place = Place(database_urls, database, OAuthDesk(office, STYLES[request.param]), new_key("first"), tmp_path)
        place.style = request.param
        yield place
        assert office.violations == []


in_every_style = pytest.mark.parametrize("place", list(STYLES), indirect=True)
where_tokens_rotate = pytest.mark.parametrize("place", ["microsoft", "slack"], indirect=True)


@in_every_style
def test_fifty_calls_with_an_expired_token_in_five_processes_refresh_once(place: Place) -> None:
    source = place.connected(is_expired=True)
    wishes = [place.wish(source, threads=10) for _ in range(5)]
    processes = [refreshing.start(wish) for wish in wishes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    answers = [answer for wish in wishes for answer in Path(wish.outcome).read_text().split()]
    assert len(answers) == 50
    assert len(set(answers)) == 1
    assert answers[0] in place.office.tokens
    assert (place.desk.refreshes, place.desk.reuses) == (1, 0)


def test_calls_whose_token_was_refused_in_several_processes_refresh_once(place: Place) -> None:
    source = place.connected()
    refused = place.provider(source).access_token()
    wishes = [place.wish(source, threads=10, rejected=refused) for _ in range(3)]
    for process in [refreshing.start(wish) for wish in wishes]:
        process.join(60)
    answers = {answer for wish in wishes for answer in Path(wish.outcome).read_text().split()}
    assert len(answers) == 1
    assert refused not in answers
    assert place.desk.refreshes == 1


@where_tokens_rotate
def test_rotated_refresh_token_is_stored_before_the_access_token_is_handed_out(place: Place) -> None:
    source = place.connected(is_expired=True)
    place.provider(source).access_token()
    place.desk.expire_access_tokens()
    after_restart = place.provider(source)
    refused = after_restart.access_token()
    assert after_restart.access_token(rejected=refused) in place.office.tokens
    assert (place.desk.refreshes, place.desk.reuses) == (2, 0)


@in_every_style
def test_process_killed_between_answer_and_commit_loses_at_most_a_rotated_grant(place: Place, admin: Admin) -> None:
    source = place.connected(is_expired=True)
    process = refreshing.start(place.wish(source, dies_before_storing=True))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert place.desk.refreshes == 1
    if place.style == "google":
        assert place.provider(source).access_token() in place.office.tokens
        return
    with pytest.raises(ReauthorizeError):
        place.provider(source).access_token()
    assert place.get(source).needs_reauth
    connect(place.workspace, place.get(source), place.granted())
    assert place.provider(source).access_token() in place.office.tokens


def test_running_sync_commits_while_a_refresh_waits_for_the_vendor(place: Place) -> None:
    source = place.connected(is_expired=True)
    is_asked, may_answer = threading.Event(), threading.Event()

    def wait() -> None:
        is_asked.set()
        assert may_answer.wait(20)

    place.desk.on_token = wait
    with data_sources.leased(place.database, source) as lease, ThreadPoolExecutor(1) as threads:
        refresh = threads.submit(place.provider(source).access_token)
        assert is_asked.wait(20)
        for _ in range(3):
            with place.database.transaction_with_rls(ALICE) as connection:
                connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
                data_sources.prove_lease(connection, lease)
                data_sources.set_status(
                    connection, user_id=ALICE, data_source_id=source.id, connection_status="syncing", message=""
                )
        may_answer.set()
        assert refresh.result(20) in place.office.tokens


def test_refresh_waits_for_a_commit_under_way_and_no_longer(place: Place, admin: Admin) -> None:
    from tests.db import waiting

    source = place.connected(is_expired=True)
    with data_sources.leased(place.database, source) as lease, ThreadPoolExecutor(1) as threads:
        with place.database.transaction_with_rls(ALICE) as connection:
            data_sources.prove_lease(connection, lease)
            refresh = threads.submit(place.provider(source).access_token)
            waiting.until_somebody_waits(admin)
            assert not refresh.done()
        assert refresh.result(20) in place.office.tokens


def test_vendor_that_is_down_leaves_everything_as_it_was(place: Place, admin: Admin) -> None:
    source = place.connected(is_expired=True)
    before = admin.execute("SELECT auth_data FROM app.data_sources").fetchone()
    place.office.fail("/oauth/token", answer=Answer(503))
    with pytest.raises(SourceUnavailableError):
        place.provider(source).access_token()
    assert admin.execute("SELECT auth_data FROM app.data_sources").fetchone() == before
    assert not place.get(source).needs_reauth
    assert place.provider(source).access_token() in place.office.tokens


@in_every_style
def test_withdrawn_grant_is_marked_and_the_vendor_left_alone(place: Place) -> None:
    source = place.connected(is_expired=True)
    place.desk.revoke_all()
    with pytest.raises(ReauthorizeError):
        place.provider(source).access_token()
    marked = place.get(source)
    assert (marked.needs_reauth, marked.connection_status) == (True, "error")
    assert "workstation source connect" in marked.status_message
    asked = place.office.calls("/oauth/token")
    for _ in range(3):
        with pytest.raises(ReauthorizeError, match="connects it again"):
            place.provider(source).access_token()
    assert place.office.calls("/oauth/token") == asked


def test_refused_static_token_is_marked(place: Place) -> None:
    source = place.add()
    connect(place.workspace, source, StaticToken("test-token"))
    provider = place.provider(source)
    assert provider.access_token() == "test-token"
    with pytest.raises(ReauthorizeError):
        provider.access_token(rejected="test-token")
    assert place.get(source).needs_reauth


def test_source_without_credentials_says_how_to_connect_it(place: Place) -> None:
    with pytest.raises(ReauthorizeError, match="`workstation source connect letters`"):
        place.provider(place.add()).access_token()


def test_sealed_record_opens_in_no_other_row(place: Place, admin: Admin) -> None:
    mine, other, bobs = place.connected(name="mine"), place.add(name="other"), place.add(BOB, "bobs")
    for stranger in (other, bobs):
        admin.execute(
            "UPDATE app.data_sources SET auth_data = (SELECT auth_data FROM app.data_sources WHERE id = %s) WHERE id = %s",
            [mine.id, stranger.id],
        )
        with pytest.raises(SealError, match="belong to another user or source"):
            place.provider(stranger).access_token()
    assert place.provider(mine).access_token() in place.office.tokens


def test_credentials_of_another_user_cannot_be_reached(place: Place) -> None:
    source = place.connected()
    with pytest.raises(NotFoundError):
        place.provider(replace(source, user_id=BOB)).access_token()


def test_reconnecting_keeps_the_source_and_what_came_of_it(place: Place, admin: Admin) -> None:
    source = place.connected()
    admin.execute("UPDATE app.data_sources SET cursor = '{\"at\": 1}', synced_scope = 's', needs_reauth = true")
    connect(place.workspace, place.get(source), place.granted())
    after = place.get(source)
    assert (after.cursor, after.synced_scope, after.needs_reauth) == ({"at": 1}, "s", False)
    assert (after.connection_status, after.external_account) == ("connected", "user-1")


def test_other_account_is_refused_and_its_tokens_thrown_away(place: Place, admin: Admin) -> None:
    source = place.connected()
    admin.execute("UPDATE app.data_sources SET cursor = '{\"at\": 1}'")
    before = admin.execute("SELECT auth_data, cursor, external_account FROM app.data_sources").fetchone()
    with pytest.raises(InvalidRequestError, match=r"connected to the account user-1.*User-2.*--confirm-account"):
        connect(place.workspace, source, place.granted("user-2"))
    assert admin.execute("SELECT auth_data, cursor, external_account FROM app.data_sources").fetchone() == before


def test_confirmed_other_account_makes_the_next_sync_list_everything(place: Place, admin: Admin) -> None:
    source = place.connected()
    admin.execute("UPDATE app.data_sources SET cursor = '{\"at\": 1}', synced_scope = 's', last_listed_at = now()")
    with data_sources.leased(place.database, source), pytest.raises(BusyError):
        connect(place.workspace, source, place.granted("user-2"), confirm_account=True)
    connect(place.workspace, source, place.granted("user-2"), confirm_account=True)
    after = place.get(source)
    assert (after.external_account, after.cursor, after.synced_scope, after.last_listed_at) == (
        "user-2",
        None,
        None,
        None,
    )
    assert place.office.tokens[place.provider(source).access_token()] == "user-2"


def test_credentials_that_do_not_work_are_not_stored(place: Place) -> None:
    source = place.add()
    with pytest.raises(ReauthorizeError):
        connect(place.workspace, source, StaticToken("made up"))
    with pytest.raises(ReauthorizeError, match="not connected"):
        place.provider(source).access_token()


def test_refresh_does_not_overwrite_a_connection_made_meanwhile(place: Place) -> None:
    source = place.connected()
    with place.database.transaction_with_rls(ALICE) as connection:
        stale = stored_credentials.read(connection, user_id=ALICE, data_source_id=source.id).record
    assert stale is not None
    connect(place.workspace, source, place.granted())
    with place.database.transaction_with_rls(ALICE) as connection:
        is_stored = stored_credentials.replace(
            connection, user_id=ALICE, data_source_id=source.id, before=stale, after=stale
        )
        stored_credentials.mark_revoked(
            connection, user_id=ALICE, data_source_id=source.id, record=stale, message="gone"
        )
    assert not is_stored
    assert not place.get(source).needs_reauth


def test_new_key_takes_over_while_tokens_are_refreshed(place: Place) -> None:
    sources = [place.connected(user_id=user, name=str(n)) for n, user in enumerate((ALICE, BOB, BOB))]
    place.keys = f"{new_key('second')},{place.keys}"
    is_over = threading.Event()

    def refresh(source: DataSource) -> int:
        provider, count = place.provider(source), 0
        token = provider.access_token()
        while not is_over.is_set() or count == 0:
            token = provider.access_token(rejected=token)
            count += 1
        return count

    operators = Database(place.urls.app_url, pool_size=1)  # as the command has a process of its own
    with ThreadPoolExecutor(3) as threads:
        refreshes = [threads.submit(refresh, source) for source in sources]
        vault = Vault(operators, place.workspace.settings, utc_now)
        rotations = [rotate_keys(vault) for _ in range(3)]
        is_over.set()
        assert all(each.result(30) for each in refreshes)
        rotations.append(rotate_keys(vault))
    operators.close()
    assert not rotations[-1].left
    assert not any(rotation.refused for rotation in rotations)
    place.keys = place.keys.partition(",")[0]
    for source in sources:
        assert place.provider(source).access_token() in place.office.tokens


def test_sweep_rewraps_what_is_there_and_then_has_nothing_to_do(place: Place, admin: Admin) -> None:
    sources = [place.connected(user_id=user, name=str(n)) for n, user in enumerate((ALICE, ALICE, BOB))]
    sealed = admin.execute("SELECT auth_data->>'ct' FROM app.data_sources ORDER BY id").fetchall()
    place.keys = f"{new_key('second')},{place.keys}"
    with place.database.transaction_with_rls(ALICE) as connection:  # as a sync that is just committing
        connection.execute(text("SELECT FROM app.data_sources WHERE id = :id FOR SHARE"), {"id": sources[0].id})
        first = rotate_keys(place.vault)
    assert (first.key_id, first.rewrapped, first.left) == ("second", 2, {"first": 1})
    assert rotate_keys(place.vault).rewrapped == 1
    again = rotate_keys(place.vault)
    assert (again.rewrapped, again.left, again.refused) == (0, {}, [])
    assert admin.execute("SELECT auth_data->>'ct' FROM app.data_sources ORDER BY id").fetchall() == sealed


def test_record_that_does_not_open_is_told_and_does_not_stop_the_sweep(place: Place) -> None:
    source = place.connected(name="old")
    place.keys = new_key("second")  # the first is lost
    fine = place.connected(name="new")
    place.keys = f"{new_key('third')},{place.keys}"
    rotation = rotate_keys(place.vault)
    assert (rotation.rewrapped, rotation.refused, rotation.left) == (1, [source.id], {"first": 1})
    assert place.provider(fine).access_token() in place.office.tokens
    with pytest.raises(SealError, match="the key 'first'"):
        place.provider(source).access_token()


def test_no_token_lies_in_any_table_in_clear(place: Place, admin: Admin) -> None:
    source = place.connected(is_expired=True)
    place.provider(source).access_token()
    place.desk.revoke_all()
    with pytest.raises(ReauthorizeError):
        place.provider(source).access_token(rejected=place.provider(source).access_token())
    tables = admin.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('app', 'app_private', 'public')"
    ).fetchall()
    rows = "".join(
        json.dumps(row)
        for schema, table in tables
        for row in admin.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))).fetchall()
    )
    assert "user-1" in rows
    assert "canary" not in rows
