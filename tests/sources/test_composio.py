"""Credentials at Composio: its tokens where it gives them, its proxy where it does not; the connector is none the wiser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.composio import API_KEY, ConnectedAccount, FakeComposio
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.parcel import FILE, FILES, SEARCH, Parcel, ParcelOffice
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.composio import ComposioAccount, ComposioMode, ComposioProvider

PROXY = "/api/v3/tools/execute/proxy"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def office() -> Iterator[ParcelOffice]:
    with ParcelOffice() as office:
        yield office
        assert office.violations == []


@pytest.fixture
def composio(office: ParcelOffice) -> Iterator[FakeComposio]:
    with FakeComposio() as composio:
        composio.accounts["ca_1"] = ConnectedAccount("test-token", office.url)
        yield composio
        assert composio.violations == []


def provider(composio: FakeComposio, office: ParcelOffice, mode: ComposioMode, **changes: Any) -> ComposioProvider:
    given: dict[str, Any] = {"base_url": composio.url, "api_key": API_KEY, "vendor_urls": [office.url], **changes}
    return ComposioProvider(ComposioAccount("ca_1", mode), clock=lambda: NOW, **given)


class Opened:
    """Opens the connector with credentials at Composio; closes what it opened."""

    def __init__(self, composio: FakeComposio, office: ParcelOffice) -> None:
        self._composio = composio
        self._office = office
        self.sources: list[Parcel] = []

    def __call__(self, mode: ComposioMode = ComposioMode.PROXY, **changes: Any) -> Parcel:
        context = SourceContext(
            clock=lambda: NOW,
            new_id=Uuid7(),
            detect=lambda _name, _start: "text/plain",
            credentials=provider(self._composio, self._office, mode, **changes),
            urls={"api": self._office.url},
            account="ca_1",
        )
        self.sources.append(Parcel.open({}, context))
        return self.sources[-1]


@pytest.fixture
def source(composio: FakeComposio, office: ParcelOffice) -> Iterator[Opened]:
    opened = Opened(composio, office)
    yield opened
    for each in opened.sources:
        each.close()


@pytest.mark.parametrize("mode", list(ComposioMode))
def test_connector_reads_through_either_mode(
    source: Opened, composio: FakeComposio, office: ParcelOffice, mode: ComposioMode
) -> None:
    opened = source(mode)
    account = opened.check()
    assert (account.external_account, account.sample) == ("user-1", "2 files")
    assert opened.api.download(FILE, path={"id": "f1"}, limit_bytes=100).body == b"a letter"
    asked = {"query": "ships", "pages": [1, None]}
    assert opened.api.json(SEARCH, body=asked)["asked"] == asked
    with pytest.raises(ItemGoneError):
        opened.api.download(FILE, path={"id": "absent"}, limit_bytes=100)
    tokens = {request.token for request in office.requests}
    assert tokens == {"test-token"}


def test_proxy_sees_the_address_and_headers_as_they_are_and_no_token(
    source: Opened, composio: FakeComposio, office: ParcelOffice
) -> None:
    opened = source()
    parameters: list[tuple[str, str | int | bool | None]] = [("q", "a b&c"), ("q", "é"), ("n", 1)]
    opened.api.json(FILES, params=parameters, headers={"X-Version": "7"})
    seen = office.requests[-1]
    assert list(seen.query) == [("q", "a b&c"), ("q", "é"), ("n", "1")]
    assert seen.headers["x-version"] == "7"
    call = composio.requests[-1].json
    assert "test-token" not in str(call)
    assert {each["name"].lower() for each in call["parameters"]} <= {"accept", "x-version", "cookie"}
    assert all(request.headers.get("authorization") is None for request in composio.requests)


def test_link_to_another_host_goes_there_directly(source: Opened, composio: FakeComposio, office: ParcelOffice) -> None:
    with ParcelOffice() as elsewhere:
        elsewhere.desk = lambda request: Answer(200, b"stored there") if request.path == "/blob" else None
        office.fail("/v1/files/f1", answer=Answer(302, headers={"Location": elsewhere.url + "/blob"}))
        opened = source()
        assert opened.api.download(FILE, path={"id": "f1"}, limit_bytes=100).body == b"stored there"
        assert elsewhere.requests[0].token is None


def test_size_limit_holds_for_what_the_proxy_stores(
    source: Opened, composio: FakeComposio, office: ParcelOffice
) -> None:
    office.files["user-1"]["f1"] = "x" * 5000
    with pytest.raises(ItemTooLargeError):
        source().api.download(FILE, path={"id": "f1"}, limit_bytes=4999)


@pytest.mark.parametrize("masked", ["REDACTED", "redacted", "ya29.a0A...", "ya29****", "xxxxxxxx", "ya29…", ""])
def test_masked_token_is_never_used_and_the_message_names_proxy_mode(
    source: Opened, composio: FakeComposio, office: ParcelOffice, masked: str
) -> None:
    composio.accounts["ca_1"].masks = masked
    if not masked:
        composio.accounts["ca_1"].token = ""
    with pytest.raises(InvalidRequestError, match="--composio-mode proxy"):
        source(ComposioMode.TOKEN).check()
    assert office.requests == []


def test_refused_token_is_fetched_once_more(source: Opened, composio: FakeComposio, office: ParcelOffice) -> None:
    opened = source(ComposioMode.TOKEN)
    opened.check()
    del office.tokens["test-token"]
    office.tokens["next-token"] = "user-1"
    composio.accounts["ca_1"].token = "next-token"
    assert opened.check().external_account == "user-1"
    assert composio.calls("connected_accounts") == 2
    del office.tokens["next-token"]
    with pytest.raises(ReauthorizeError, match="connect it again there"):
        opened.check()


def test_refusal_of_the_vendor_through_the_proxy_asks_to_connect_again(
    source: Opened, composio: FakeComposio, office: ParcelOffice
) -> None:
    del office.tokens["test-token"]
    with pytest.raises(ReauthorizeError):
        source().check()


def test_inactive_or_unknown_account_asks_to_connect_again(
    source: Opened, composio: FakeComposio, office: ParcelOffice
) -> None:
    composio.accounts["ca_1"].status = "EXPIRED"
    with pytest.raises(ReauthorizeError, match="not active"):
        source(ComposioMode.TOKEN).check()
    composio.accounts.clear()
    for mode in ComposioMode:
        with pytest.raises(ReauthorizeError, match="knows no account ca_1"):
            source(mode).check()


@pytest.mark.parametrize(("key", "complaint"), [(None, "set COMPOSIO_API_KEY"), ("wrong", "check COMPOSIO_API_KEY")])
@pytest.mark.parametrize("mode", list(ComposioMode))
def test_missing_or_wrong_key_is_the_operators_to_mend(
    source: Opened, composio: FakeComposio, office: ParcelOffice, mode: ComposioMode, key: str | None, complaint: str
) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        source(mode, api_key=key).check()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer.of({}, 503), SourceUnavailableError),
        (Answer.of({}, 429, {"Retry-After": "60"}), RateLimitedError),
        (Answer.of({}, 422), UnexpectedReplyError),
        (LOGIN_PAGE, UnexpectedReplyError),
        (Answer.of({"data": {}}), UnexpectedReplyError),
        (Answer.of({"status": 9000}), UnexpectedReplyError),
        (Answer.of({"status": 200, "binary_data": {"url": "http://elsewhere.example/x"}}), UnexpectedReplyError),
        (Answer.of({"status": 200, "binary_data": {}}), UnexpectedReplyError),
        (Answer.of({"status": 200, "data": None}), UnexpectedReplyError),
        (Answer.of({"status": 429, "headers": {"Retry-After": "90"}}), RateLimitedError),
    ],
)
def test_odd_answers_of_the_proxy_are_never_taken_for_data(
    source: Opened, composio: FakeComposio, office: ParcelOffice, answer: Answer, expected: type[WorkstationError]
) -> None:
    composio.fail(PROXY, answer=answer, times=5)
    with pytest.raises(expected):
        source().check()


def test_lost_connection_to_composio_may_pass(source: Opened, composio: FakeComposio, office: ParcelOffice) -> None:
    composio.fail(PROXY, drop=True, times=5)
    with pytest.raises(SourceUnavailableError):
        source().check()


@pytest.mark.parametrize("name", ["", "ca_1/../x", "ca 1", "é"])
def test_account_id_that_could_change_the_address_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="letters, digits"):
        ComposioAccount(name)


def test_key_and_token_do_not_show(composio: FakeComposio, office: ParcelOffice) -> None:
    asked = provider(composio, office, ComposioMode.TOKEN)
    asked.access_token()
    assert API_KEY not in f"{asked!r}{vars(asked)}"
    assert "test-token" not in f"{vars(asked)}"
