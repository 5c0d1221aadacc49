"""Where our token goes, which links are followed, and how far a request may get from the vendor."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import httpx
import pytest

from tests.fakes.server import Answer
from tests.sources.http_stage import CALLS, CONTENT, GET, LIST, OPEN, PlainVendor, RenewedToken, open_api
from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError, UnexpectedReplyError, WorkstationError
from workstation_pipelines.sources.http import VendorApi
from workstation_pipelines.sources.http_guard import UnsafeLinkError
from workstation_pipelines.sources.http_network import Network, NetworkTransport, is_public

BASE = "https://api.vendor.example/v1"


@pytest.fixture
def vendor() -> Iterator[PlainVendor]:
    with PlainVendor() as vendor:
        yield vendor


@pytest.fixture
def api(vendor: PlainVendor) -> Iterator[VendorApi]:
    api = open_api(vendor.url)
    yield api
    api.close()


class Recorder(httpx.BaseTransport):
    """Answers everything itself and keeps the requests."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else httpx.Response(200, json={})


def remote(recorder: Recorder, base: str = BASE) -> VendorApi:
    return open_api({"api": base, "files": "https://files.vendor.example"}, transport=recorder)


FOREIGN = [
    "https://api.vendor.example.evil.example/v1/next",
    "https://api.vendor.example@evil.example/v1/next",
    "https://user:pass@api.vendor.example/v1/next",
    "https://evil.example/v1/next#https://api.vendor.example/v1/",
    "https://evil.example/?u=https://api.vendor.example/v1/",
    "https://evil.example\\@api.vendor.example/v1/next",
    "https://api.vendor.example\\.evil.example/v1/next",
    "https://api.vendor.example:8443/v1/next",
    "https://api.vendor.example./v1/next",
    "http://api.vendor.example/v1/next",
    "//evil.example/v1/next",
    "//api.vendor.example/v1/next",
    "/v1/next",
    "ftp://api.vendor.example/v1/next",
    "javascript:alert(1)",
    "https:///v1/next",
    "https://api.vendor.example/v1",
    "https://api.vendor.example/v10/next",
    "https://api.vendor.example/v1/../admin",
    "https://api.vendor.example/v1/..%2fadmin",
    "https://api.vendor.example/v1/%2e%2e/admin",
    "https://api.vendor.example/v1/.%2E/admin",
    "https://api.vendor.example/v1/x%5c..%5cadmin",
    "https://api.vendor.example%2f@evil.example/v1/next",
    "https://api.vendor.example%00.evil.example/v1/next",
    "https://api.vendor.example\n.evil.example/v1/next",
    "https://\u0430pi.vendor.example/v1/next",
    "https://[::1]/v1/next",
    "https://[bad/v1/next",
    "",
]


@pytest.mark.parametrize("link", FOREIGN)
def test_link_that_leads_elsewhere_never_gets_our_token(link: str) -> None:
    recorder = Recorder()
    api = remote(recorder)
    with pytest.raises(UnexpectedReplyError, match="not followed"):
        api.json_at(LIST, link)
    assert recorder.requests == []
    try:
        api.download_at(CONTENT, link, limit_bytes=10)
    except UnexpectedReplyError:
        assert recorder.requests == []
    else:
        assert all("authorization" not in request.headers for request in recorder.requests)


@pytest.mark.parametrize(
    "link",
    [
        "https://api.vendor.example/v1/next?token=a%2Fb+c%20d&e=f..g/../h",
        "https://api.vendor.example:443/v1/next",
        "HTTPS://API.Vendor.Example/v1/next",
        "https://api.vendor.example/v1/drives('b!x')/root/delta(token='1;2')",
    ],
)
def test_link_of_the_vendor_itself_gets_our_token(link: str) -> None:
    recorder = Recorder()
    api = remote(recorder)
    api.json_at(LIST, link)
    assert recorder.requests[0].headers["authorization"] == "Bearer test-token"
    assert recorder.requests[0].url.query == httpx.URL(link).query


def test_link_below_another_base_is_not_followed_for_json() -> None:
    recorder = Recorder()
    with pytest.raises(UnexpectedReplyError):
        remote(recorder).json_at(LIST, "https://files.vendor.example/next")
    assert recorder.requests == []


def test_download_below_any_base_gets_our_token_and_elsewhere_none() -> None:
    recorder = Recorder()
    api = remote(recorder)
    for link in ("https://files.vendor.example/a", "https://cdn.example/a"):
        api.download_at(CONTENT, link, limit_bytes=10)
    assert [request.headers.get("authorization") for request in recorder.requests] == ["Bearer test-token", None]


def test_call_that_needs_no_token_sends_none(vendor: PlainVendor, api: VendorApi) -> None:
    api.json(OPEN, path={"item_id": "1"})
    assert vendor.requests[0].token is None


@pytest.mark.parametrize(
    "location", ["https://cdn.example/x?sig=1", "/v1/elsewhere", "https://api.vendor.example/v1/x"]
)
def test_redirect_is_followed_without_token_or_headers(location: str) -> None:
    recorder = Recorder(httpx.Response(302, headers={"Location": location}), httpx.Response(200, content=b"body"))
    api = remote(recorder)
    found = api.download(CONTENT, path={"item_id": "1"}, limit_bytes=10, headers={"X-Key": "secret"})
    assert found.body == b"body"
    first, second = recorder.requests
    assert first.headers["authorization"] == "Bearer test-token"
    assert "authorization" not in second.headers
    assert "x-key" not in second.headers
    assert second.method == "GET"
    assert second.extensions["is_authorized"] is False


@pytest.mark.parametrize(
    "location",
    [
        "http://cdn.example/x",
        "https://cdn.example:8443/x",
        "https://u:p@cdn.example/x",
        "file:///etc/passwd",
        "//",
        "https://",
    ],
)
def test_redirect_to_an_unsafe_link_is_not_followed(location: str) -> None:
    recorder = Recorder(*(httpx.Response(302, headers={"Location": location}) for _ in range(30)))
    with pytest.raises(WorkstationError):
        remote(recorder).download(CONTENT, path={"item_id": "1"}, limit_bytes=10)
    assert {request.url.host for request in recorder.requests} == {"api.vendor.example"}


def test_redirect_without_an_end_is_given_up() -> None:
    recorder = Recorder(*(httpx.Response(302, headers={"Location": f"/v1/{number}"}) for number in range(100)))
    with pytest.raises(UnexpectedReplyError, match="without end"):
        remote(recorder).download(CONTENT, path={"item_id": "1"}, limit_bytes=10)
    assert len(recorder.requests) == 5


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirect_to_nowhere_is_no_answer(status: int) -> None:
    recorder = Recorder(httpx.Response(status))
    with pytest.raises(UnexpectedReplyError, match=str(status)):
        remote(recorder).download(CONTENT, path={"item_id": "1"}, limit_bytes=10)
    assert len(recorder.requests) == 1


def test_question_is_not_redirected() -> None:
    recorder = Recorder(httpx.Response(302, headers={"Location": "https://api.vendor.example/v1/login"}))
    with pytest.raises(UnexpectedReplyError):
        remote(recorder).json(LIST)
    assert len(recorder.requests) == 1


def test_refused_token_is_replaced_once(vendor: PlainVendor) -> None:
    credentials = RenewedToken()
    api = open_api(vendor.url, credentials=credentials)
    refuse_old(vendor)
    assert api.json(LIST) == {"path": "/v1/items"}
    api.download(CONTENT, path={"item_id": "1"}, limit_bytes=100)
    assert credentials.renewals == 1
    assert [request.token for request in vendor.requests] == ["old-token", "test-token", "test-token"]
    api.close()


def test_second_refusal_asks_the_user(vendor: PlainVendor) -> None:
    credentials = RenewedToken(["old-token", "older-token", "never-asked-for"])
    api = open_api(vendor.url, credentials=credentials)
    refuse_old(vendor)
    with pytest.raises(ReauthorizeError, match="connected again"):
        api.json(LIST)
    assert len(vendor.requests) == 2
    api.close()


def test_lost_grant_asks_the_user(vendor: PlainVendor) -> None:
    api = open_api(vendor.url, credentials=RenewedToken(["old-token"]))
    refuse_old(vendor)
    with pytest.raises(ReauthorizeError, match="grant is gone"):
        api.json(LIST)
    assert len(vendor.requests) == 1
    api.close()


def test_missing_scope_is_not_cured_by_a_new_token(vendor: PlainVendor) -> None:
    credentials = RenewedToken()
    api = open_api(vendor.url, credentials=credentials, classify=lambda _reply: ReauthorizeError("scope is missing"))
    with pytest.raises(ReauthorizeError, match="scope is missing"):
        api.json(LIST)
    assert credentials.renewals == 0
    api.close()


def test_empty_token_leaves_it_to_the_transport(vendor: PlainVendor) -> None:
    api = open_api(vendor.url, credentials=RenewedToken([""]))
    api.json(LIST)
    assert "authorization" not in vendor.requests[0].headers
    api.close()


def refuse_old(vendor: PlainVendor) -> None:
    vendor.desk = lambda request: None if request.token == "test-token" else Answer.of({"error": "expired"}, 401)


@pytest.mark.parametrize(
    "base",
    [
        "http://api.vendor.example",
        "http://10.0.0.1",
        "ftp://api.vendor.example",
        "https://user:pass@api.vendor.example",
        "https://api.vendor.example/?q=1",
        "https://api.vendor.example/#x",
        "api.vendor.example",
        "https://",
        "",
    ],
)
def test_base_url_must_be_https_or_on_this_machine(base: str) -> None:
    with pytest.raises(InvalidRequestError, match="base URL"):
        open_api(base)


@pytest.mark.parametrize(
    "base", ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://x.example/v1/"]
)
def test_base_url_on_this_machine_may_be_http(base: str) -> None:
    open_api(base).close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "168.63.129.16",
        "192.88.99.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "100::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


class Names:
    """Name resolution of its own: each look-up takes the next answer, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"]]
)
def test_foreign_link_into_a_private_network_is_not_connected_to(addresses: list[str]) -> None:
    network = Network(["api.vendor.example"], resolve=Names(addresses))
    with pytest.raises(UnsafeLinkError, match="private network"):
        network.connect_tcp("cdn.example", 443, timeout=1)
    api = open_api(BASE, transport=NetworkTransport(network))
    with pytest.raises(UnexpectedReplyError, match="private network"):
        api.download_at(CONTENT, "https://cdn.example/x", limit_bytes=10)
    api.close()


def test_address_is_looked_up_once_and_that_one_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that turns private after it was looked at (DNS rebinding) is not asked for again."""
    connected: list[object] = []

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    names = Names(["8.8.8.8", "8.8.4.4"], ["127.0.0.1"])
    api = open_api(BASE, transport=NetworkTransport(Network(["api.vendor.example"], resolve=names)))
    with pytest.raises(WorkstationError):
        api.download_at(CONTENT, "https://cdn.example/x", limit_bytes=10)
    assert connected == [("8.8.8.8", 443), ("8.8.4.4", 443)]
    api.close()


def test_links_on_this_machine_are_followed_only_from_a_base_on_this_machine(vendor: PlainVendor) -> None:
    with PlainVendor() as files:
        api = open_api(vendor.url)
        assert api.download_at(CONTENT, f"{files.url}/x", limit_bytes=100).body == b'{"path": "/x"}'
        assert files.requests[0].token is None
        api.close()
        remote_api = open_api(BASE)
        with pytest.raises(UnexpectedReplyError, match="not https"):
            remote_api.download_at(CONTENT, f"{files.url}/x", limit_bytes=100)
        with pytest.raises(UnexpectedReplyError, match="private network"):
            remote_api.download_at(CONTENT, "https://127.0.0.1/x", limit_bytes=100)
        remote_api.close()
        assert len(files.requests) == 1


def test_unknown_host_is_an_outage() -> None:
    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    api = open_api(BASE, transport=NetworkTransport(Network(["api.vendor.example"], resolve=unknown)))
    with pytest.raises(WorkstationError, match="no answer"):
        api.download_at(CONTENT, "https://nowhere.example/x", limit_bytes=10)
    api.close()


def test_cookies_are_not_kept(vendor: PlainVendor, api: VendorApi) -> None:
    vendor.fail("items", answer=Answer.of({}, headers={"Set-Cookie": "session=1; Path=/"}), times=9)
    api.json(LIST)
    api.json(LIST)
    assert "cookie" not in vendor.requests[1].headers


def test_environment_names_no_proxy(vendor: PlainVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    api = open_api(vendor.url)
    assert api.json(LIST)
    api.close()


@pytest.mark.parametrize("step", ["a/b", "..%2f..", "a\\b", "a%2fb", "?x=1", "#x", "a b", "\u00e9", ";x", "a%", "."])
def test_id_stays_one_step_of_the_path_or_is_refused(vendor: PlainVendor, api: VendorApi, step: str) -> None:
    try:
        api.json(GET, path={"item_id": step})
    except InvalidRequestError:
        assert vendor.requests == []
        return
    assert vendor.requests[0].steps == ["v1", "items", step]
    assert vendor.requests[0].query == []


def test_calls_of_these_tests_are_all_declared() -> None:
    assert {GET, LIST, CONTENT, OPEN} <= set(CALLS)


@pytest.mark.parametrize("step", ["a/b", "../b", "/", "a\\b"])
def test_slash_in_an_id_is_refused_and_not_only_quoted(vendor: PlainVendor, api: VendorApi, step: str) -> None:
    """Some servers decode before they split, so that a quoted slash would be one."""
    with pytest.raises(InvalidRequestError):
        api.json(GET, path={"item_id": step})
    assert vendor.requests == []
