"""`workstation source connect`, `source check` and `keys`: from a bare row to an account, and back when access is withdrawn."""

from __future__ import annotations

import io
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from tests.cli.program import USER, Program
from tests.conftest import DatabaseUrls
from tests.fakes import oauth as fakes
from tests.fakes.composio import API_KEY, ConnectedAccount, FakeComposio
from tests.fakes.oauth import OAuthDesk
from tests.sources.parcel import ParcelOffice, registered
from tests.sources.test_oauth import STYLES
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.engine import Database
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.model import DataSourceId, SourceType
from workstation_pipelines.settings import Vendor, libpq_url
from workstation_pipelines.sources.sealing import new_key


@dataclass
class Browser:
    """Opens what the program asks it to, in a thread, as the person at it would. `pages` are what it showed last."""

    visits_first: list[str] = field(default_factory=list)
    pages: list[httpx.Response] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    is_there: bool = True
    _threads: list[threading.Thread] = field(default_factory=list)

    def open(self, url: str) -> bool:
        self.opened.append(url)
        if self.is_there:
            self._threads.append(threading.Thread(target=self._visit, args=(url,)))
            self._threads[-1].start()
        return self.is_there

    def _visit(self, url: str) -> None:
        landing = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        with httpx.Client(trust_env=False) as client:
            for query in self.visits_first:
                self.pages.append(client.get(landing + query))
            self.pages.append(client.get(url, follow_redirects=True))

    def close(self) -> None:
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    browser = Browser()
    monkeypatch.setattr(webbrowser, "open", browser.open)
    yield browser
    browser.close()


@pytest.fixture
def office() -> Iterator[ParcelOffice]:
    with ParcelOffice() as office:
        yield office
        assert office.violations == []


def use(workstation: Program, **changes: Any) -> None:
    workstation.settings = workstation.settings.model_copy(update=changes)


def at(desk: OAuthDesk) -> dict[str, Any]:
    return {"dropbox": Vendor.model_validate({**desk.settings, "api_url": desk.vendor.url})}


@pytest.fixture
def desk(workstation: Program, office: ParcelOffice) -> Iterator[OAuthDesk]:
    """A Dropbox that is none: its authorization server and API, in the settings of the program."""
    desk = OAuthDesk(office, fakes.GOOGLE)
    use(workstation, token_keys=SecretStr(new_key("first")), **at(desk))
    with registered(SourceType.DROPBOX):
        yield desk


@pytest.fixture
def added(workstation: Program, desk: OAuthDesk) -> Program:
    """The program with a source that is not connected yet."""
    insert(workstation)
    return workstation


def insert(workstation: Program) -> None:
    """Add a source as the command does, but without telling Dagster, which takes seconds."""
    database = Database(workstation.settings.database_url or "")
    try:
        with database.transaction_with_rls(USER) as connection:
            source = data_sources.add(
                connection,
                user_id=USER,
                data_source_id=DataSourceId(Uuid7()()),
                name="letters",
                source_type=SourceType.DROPBOX,
                config={},
            )
            data_sources.set_status(
                connection, user_id=USER, data_source_id=source.id, connection_status="disconnected", message=""
            )
    finally:
        database.close()


@pytest.mark.parametrize("vendor", STYLES)
def test_source_is_connected_by_a_consent_in_the_browser(
    workstation: Program, office: ParcelOffice, browser: Browser, vendor: str
) -> None:
    desk = OAuthDesk(office, STYLES[vendor])
    use(workstation, token_keys=SecretStr(new_key("first")), **at(desk))
    with registered(SourceType.DROPBOX, vendor):
        insert(workstation)
        ran = workstation("source", "connect", "letters")
        assert ran.code == 0, ran.err
        assert "Connected letters: User-1" in ran.out
        assert "2 files" in ran.out
        assert "Next: workstation sync letters" in ran.out
        shown = workstation("source", "show", "letters", "--json").value
        assert (shown["connection_status"], shown["external_account"]) == ("connected", "user-1")
        checked = workstation("source", "check", "letters", "--json")
        assert checked.code == 0
        assert checked.value["missing_scopes"] == []
    browser.close()
    assert browser.pages[-1].status_code == 200
    assert "close this page" in browser.pages[-1].text
    assert browser.pages[-1].headers["cache-control"] == "no-store"


def test_added_source_waits_to_be_connected(workstation: Program, desk: OAuthDesk, dagster_url: str) -> None:
    use(workstation, dagster_postgres_url=dagster_url)
    ran = workstation("source", "add", "dropbox", "letters")
    assert (ran.code, ran.err) == (0, "")
    assert "Next: workstation source connect letters" in ran.out
    shown = workstation("source", "show", "letters", "--json").value
    assert (shown["connection_status"], shown["external_account"]) == ("disconnected", None)


def test_source_that_is_not_connected_says_so(added: Program) -> None:
    ran = added("source", "check", "letters")
    assert ran.code == 5
    assert "`workstation source connect letters`" in ran.err
    assert "disconnected" in added("source", "list").out


def test_config_is_checked_before_anybody_is_asked(workstation: Program, desk: OAuthDesk) -> None:
    ran = workstation("source", "add", "dropbox", "letters", "--config", '{"colour": 1}')
    assert ran.code == 2
    assert "`colour`" in ran.err
    assert workstation("source", "add", "dropbox", "letters", "--path", "/tmp").code == 2
    assert workstation("source", "list", "--json").value == []


def test_address_is_printed_where_there_is_no_browser(added: Program, browser: Browser) -> None:
    browser.is_there = False
    ran = added("source", "connect", "letters", "--timeout", "1")
    assert ran.code == 1
    assert browser.opened[0] in ran.err
    assert "nobody gave consent within 1 s" in ran.err
    browser.opened.clear()
    ran = added("source", "connect", "letters", "--no-browser", "--timeout", "1", "--json")
    assert browser.opened == []
    assert "/oauth/authorize?" in ran.err
    assert ran.value["error"]["exit_code"] == 1


def test_answers_to_questions_nobody_asked_are_turned_away(added: Program, browser: Browser) -> None:
    forged = urlencode({"code": "stolen", "state": "guessed"})
    browser.visits_first = ["", "favicon.ico", f"?{forged}", "?error=access_denied", "?code=x"]
    assert added("source", "connect", "letters").code == 0
    browser.close()
    assert [page.status_code for page in browser.pages] == [404] * 5 + [200]


def test_refusal_stores_nothing(added: Program, desk: OAuthDesk, browser: Browser) -> None:
    desk.denies = True
    ran = added("source", "connect", "letters")
    assert ran.code == 5
    assert "access was not given (access_denied), so nothing was stored" in ran.err
    browser.close()
    assert "Not connected" in browser.pages[-1].text
    assert added("source", "show", "letters", "--json").value["connection_status"] == "disconnected"


def test_missing_permission_is_named_and_the_exit_code_tells(added: Program, desk: OAuthDesk, browser: Browser) -> None:
    desk.unticked = {"files.read"}
    ran = added("source", "connect", "letters")
    assert ran.code == 1
    assert "missing" in ran.out
    assert "files.read" in ran.out
    assert "permissions are missing" in ran.err
    checked = added("source", "check", "letters", "--json")
    assert (checked.code, checked.value["missing_scopes"]) == (1, ["files.read"])
    desk.unticked = set()
    assert added("source", "connect", "letters").code == 0
    assert added("source", "check", "letters").code == 0


def test_check_names_account_scopes_and_a_sample(added: Program, browser: Browser) -> None:
    added("source", "connect", "letters")
    lines = dict(line.split("  ", 1) for line in added("source", "check", "letters").out.splitlines())
    shown = {name.strip(): value.strip() for name, value in lines.items()}
    assert shown == {
        "source": "letters",
        "account": "User-1",
        "account id": "user-1",
        "granted": "files.read profile",
        "sample": "2 files",
    }


def test_other_account_is_refused_unless_confirmed(added: Program, desk: OAuthDesk, browser: Browser) -> None:
    added("source", "connect", "letters")
    desk.user_id = "user-2"
    ran = added("source", "connect", "letters")
    assert ran.code == 2
    assert "--confirm-account" in ran.err
    assert added("source", "check", "letters", "--json").value["external_account"] == "user-1"
    assert added("source", "connect", "letters", "--confirm-account").code == 0
    assert added("source", "check", "letters", "--json").value["external_account"] == "user-2"


def test_withdrawn_access_shows_and_connecting_again_mends_it(
    added: Program, desk: OAuthDesk, browser: Browser
) -> None:
    added("source", "connect", "letters")
    before = added("source", "show", "letters", "--json").value
    desk.revoke_all()
    ran = added("source", "check", "letters")
    assert ran.code == 5
    assert "connect" in ran.err
    assert "connect again" in added("source", "list").out
    assert added("source", "list", "--json").value[0]["needs_reauth"]
    assert added("source", "connect", "letters").code == 0
    after = added("source", "show", "letters", "--json").value
    assert (after["id"], after["connection_status"], after["needs_reauth"]) == (before["id"], "connected", False)


def test_lasting_token_is_taken_from_stdin(added: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, code in (("test-token\n", 0), ("", 2), ("two words\n", 2), ("ünicode\n", 2), ("unknown\n", 5)):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        ran = added("source", "connect", "letters", "--token-stdin")
        assert ran.code == code, ran
        assert "test-token" not in ran.out + ran.err
    assert added("source", "check", "letters").code == 0


@pytest.mark.parametrize("mode", ["proxy", "token"])
def test_account_at_composio_is_used_in_either_mode(added: Program, office: ParcelOffice, mode: str) -> None:
    with FakeComposio() as composio:
        composio.accounts["ca_1"] = ConnectedAccount("test-token", office.url)
        ran = added("source", "connect", "letters", "--composio", "ca_1", "--composio-mode", mode)
        assert ran.code == 2
        assert "COMPOSIO_API_KEY" in ran.err
        use(added, composio_api_url=composio.url, composio_api_key=SecretStr(API_KEY))
        ran = added("source", "connect", "letters", "--composio", "ca_1", "--composio-mode", mode)
        assert ran.code == 0, ran.err
        assert added("source", "check", "letters", "--json").value["external_account"] == "user-1"


def test_wrong_uses_are_refused_before_anyone_is_asked(added: Program, folder: Any, browser: Browser) -> None:
    added.connect("papers", folder)
    assert "not connected to an account" in added("source", "connect", "papers").err
    assert added("source", "connect", "letters", "--token-stdin", "--composio", "ca_1").code == 2
    use(added, dropbox=Vendor())
    ran = added("source", "connect", "letters")
    assert ran.code == 2
    assert "set DROPBOX_CLIENT_ID and DROPBOX_CLIENT_SECRET" in ran.err
    assert "--token-stdin" in ran.err
    assert browser.opened == []


def test_taken_port_is_told(added: Program, office: ParcelOffice, browser: Browser) -> None:
    ran = added("source", "connect", "letters", "--port", str(urlsplit(office.url).port))
    assert ran.code == 2
    assert "choose another --port" in ran.err


def test_without_keys_nothing_is_sealed_and_the_way_out_is_named(added: Program, browser: Browser) -> None:
    use(added, token_keys=None)
    ran = added("source", "connect", "letters")
    assert ran.code == 2
    assert "`workstation keys new`" in ran.err


def test_new_key_is_taken_into_use_and_the_old_one_retired(added: Program, browser: Browser) -> None:
    added("source", "connect", "letters")
    fresh = added("keys", "new").out.strip()
    assert added.settings.token_keys is not None
    use(added, token_keys=SecretStr(f"{fresh},{added.settings.token_keys.get_secret_value()}"))
    rotated = added("keys", "rotate", "--json")
    assert (rotated.code, rotated.value["rewrapped"], rotated.value["left"]) == (0, 1, {})
    assert "can be taken out" in added("keys", "rotate").out
    use(added, token_keys=SecretStr(fresh))
    assert added("source", "check", "letters").code == 0
    use(added, token_keys=SecretStr(new_key("stranger")))
    ran = added("source", "check", "letters")
    assert ran.code == 2
    assert "add it to WORKSTATION_TOKEN_KEYS" in ran.err
    ran = added("keys", "rotate")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "or connect these sources again" in ran.err


def test_no_token_is_printed_or_stored_in_clear(
    added: Program, desk: OAuthDesk, browser: Browser, database_urls: DatabaseUrls
) -> None:
    said = ""
    for arguments in (
        ["source", "connect", "letters", "--json"],
        ["source", "check", "letters"],
        ["source", "show", "letters"],
        ["source", "show", "letters", "--json"],
        ["keys", "rotate"],
    ):
        ran = added(*arguments)
        said += ran.out + ran.err
    desk.revoke_all()
    ran = added("source", "check", "letters", "--json")
    said += ran.out + ran.err
    with psycopg.connect(libpq_url(database_urls.admin_url)) as connection:
        row = connection.execute("SELECT d::text FROM app.data_sources d").fetchone()
    log = added.settings.home / "logs" / "workstation.log"
    assert "canary" not in said + str(row) + (log.read_text() if log.exists() else "")
