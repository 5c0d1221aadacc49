"""URLs that a user typed: nothing private is ever connected to, and no answer takes more than its share."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import pytest

from tests.fakes.server import Answer
from tests.sources.http_stage import PlainVendor, head, raw_server
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    SourceUnavailableError,
    UnreadableContentError,
    WorkstationError,
)
from workstation_pipelines.sources.http_network import Resolve
from workstation_pipelines.sources.web import WebFetcher, is_url

MIB = 1024 * 1024


def clock() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def site() -> Iterator[PlainVendor]:
    with PlainVendor() as site:
        yield site


@pytest.fixture
def local() -> Iterator[WebFetcher]:
    with WebFetcher(clock=clock, allows_loopback=True, limit_bytes=MIB, request_s=10) as fetcher:
        yield fetcher


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that were connected to; nobody is reached."""
    found: list[object] = []

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return found


def answers(*each: Sequence[str]) -> Resolve:
    """Each look-up takes the next answer, the last one for ever."""
    left = list(each)
    return lambda _host, _port: left.pop(0) if len(left) > 1 else left[0]


PRIVATE = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://0/",
    "https://0.0.0.0/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fd00:ec2::254]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://10.0.0.1/",
    "https://172.31.255.1/",
    "https://192.168.0.1/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_no_spelling_of_a_private_address_is_connected_to(url: str, connected: list[object]) -> None:
    with WebFetcher(clock=clock, allows_http=True) as fetcher:
        for each in (url, url.replace("https:", "http:")):
            with pytest.raises(InvalidRequestError, match=r"private network|is no URL"):
                fetcher.fetch(each)
    assert connected == []


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example/x",
        "https://user@host.example/x",
        "https://user:pass@host.example/x",
        "https://:pass@host.example/x",
        "https://host.example:8443/x",
        "https://host.example:80/x",
        "http://127.0.0.1:8000/x",
        "ftp://host.example/x",
        "file:///etc/passwd",
        "gopher://host.example/x",
        "data:text/plain,x",
        "//host.example/x",
        "/etc/passwd",
        "https://",
        "https:///x",
        "https://[bad/x",
        "https://host.example\n.evil.example/",
        "https://host.example/" + "x" * 2000,
        "",
    ],
)
def test_url_of_a_form_that_is_never_asked_for_is_refused_before_any_look_up(url: str) -> None:
    def never(_host: str, _port: int) -> Sequence[str]:
        raise AssertionError("it was looked up")

    with WebFetcher(clock=clock, resolve=never) as fetcher, pytest.raises(InvalidRequestError):
        fetcher.fetch(url)


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["2606:4700::1", "::1"], ["169.254.169.254"], ["::ffff:10.0.0.1"]],
)
def test_name_that_may_lead_into_a_private_network_is_not_connected_to(
    addresses: list[str], connected: list[object]
) -> None:
    with (
        WebFetcher(clock=clock, resolve=answers(addresses)) as fetcher,
        pytest.raises(InvalidRequestError, match="private network"),
    ):
        fetcher.fetch("https://cdn.example/x")
    assert connected == []


def test_name_that_answers_otherwise_the_second_time_is_not_asked_twice(connected: list[object]) -> None:
    resolve = answers(["8.8.8.8", "8.8.4.4"], ["127.0.0.1"])
    with WebFetcher(clock=clock, resolve=resolve) as fetcher:
        with pytest.raises(SourceUnavailableError):
            fetcher.fetch("https://cdn.example/x")
        assert connected == [("8.8.8.8", 443), ("8.8.4.4", 443)]
        with pytest.raises(InvalidRequestError, match="private network"):  # a second request looks again
            fetcher.fetch("https://cdn.example/x")
    assert len(connected) == 2


def test_loopback_is_reached_only_where_it_is_allowed(site: PlainVendor, local: WebFetcher) -> None:
    for fetcher in (WebFetcher(clock=clock), WebFetcher(clock=clock, allows_http=True)):
        with fetcher, pytest.raises(InvalidRequestError):
            fetcher.fetch(f"{site.url}/x")
    assert site.requests == []
    assert local.fetch(f"{site.url}/x").body == b'{"path": "/x"}'
    with pytest.raises(InvalidRequestError, match="private network"):
        local.fetch("https://10.0.0.1/")


def test_name_is_sent_and_not_the_address_that_it_was_looked_up_to() -> None:
    hello: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            hello.append(connection.recv(65536))

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    with (
        WebFetcher(clock=clock, allows_loopback=True, resolve=answers(["127.0.0.1"])) as fetcher,
        pytest.raises(SourceUnavailableError),
    ):
        fetcher.fetch(f"https://localhost:{port}/x")
    thread.join(5)
    listener.close()
    assert b"localhost" in hello[0]  # the server name of the TLS hello
    assert b"127.0.0.1" not in hello[0]


def redirecting(site: PlainVendor, location: str, status: int = 302) -> None:
    site.fail("start", answer=Answer(status, b"moved", {"Location": location}), times=99)


@pytest.mark.parametrize(
    "location",
    [
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/",
        "https://[::ffff:10.0.0.1]/",
        "https://2852039166/",
        "//192.168.0.1/x",
        "http://host.example/x",
        "https://user:pass@host.example/",
        "https://host.example:8443/",
        "file:///etc/passwd",
        "https://",
    ],
)
def test_redirect_is_held_to_the_same_rules(site: PlainVendor, location: str) -> None:
    redirecting(site, location)
    with WebFetcher(clock=clock, allows_loopback=True) as fetcher, pytest.raises(InvalidRequestError):
        fetcher.fetch(f"{site.url}/start")
    assert len(site.requests) == 1


def test_host_that_turns_private_between_two_redirects_is_refused(site: PlainVendor) -> None:
    with PlainVendor() as other:
        redirecting(site, f"{other.url.replace('127.0.0.1', 'localhost')}/x")
        resolve = answers(["127.0.0.1"], ["10.0.0.1"])
        with (
            WebFetcher(clock=clock, allows_loopback=True, resolve=resolve) as fetcher,
            pytest.raises(InvalidRequestError, match="private network"),
        ):
            fetcher.fetch(f"{site.url.replace('127.0.0.1', 'localhost')}/start")
        assert other.requests == []


def test_five_redirects_are_followed_and_no_more(site: PlainVendor, local: WebFetcher) -> None:
    for number in range(5):
        site.fail(f"hop{number}", answer=Answer(301, b"", {"Location": f"hop{number + 1}"}), times=99)
    assert local.fetch(f"{site.url}/hop0").url == f"{site.url}/hop5"
    redirecting(site, "/start")
    site.requests.clear()
    with pytest.raises(UnreadableContentError, match="without end"):
        local.fetch(f"{site.url}/start")
    assert len(site.requests) == 6
    assert not any("cookie" in request.headers or "authorization" in request.headers for request in site.requests)


def test_answer_is_described_by_what_it_says(site: PlainVendor, local: WebFetcher) -> None:
    headers = {
        "Content-Type": "application/pdf",
        "Content-Disposition": 'attachment; filename="../../etc/report.pdf"',
        "Last-Modified": "Thu, 01 Jan 2026 10:00:00 GMT",
    }
    site.fail("doc", answer=Answer(200, b"%PDF-", headers))
    found = local.fetch(f"{site.url}/doc?key=1#part")
    assert (found.name, found.mime_type, found.modified_at) == (
        "report.pdf", "application/pdf", datetime(2026, 1, 1, 10, tzinfo=UTC),
    )  # fmt: skip
    assert site.requests[0].query == [("key", "1")]
    assert local.fetch(f"{site.url}/a/b%20c.txt").name == "b c.txt"
    assert local.fetch(site.url).name == "127.0.0.1"
    assert local.normalised("HTTPS://Host.Example/a?b#c") == "https://host.example/a?b"


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, ItemGoneError, "gone"),
        (410, ItemGoneError, "gone"),
        (401, UnreadableContentError, "permission_denied"),
        (403, UnreadableContentError, "permission_denied"),
        (418, UnreadableContentError, "http_418"),
        (204, UnreadableContentError, "http_204"),
        (302, UnreadableContentError, "http_302"),
        (429, RateLimitedError, None),
        (503, SourceUnavailableError, None),
    ],
)
def test_status_decides_what_can_be_done(
    site: PlainVendor, local: WebFetcher, status: int, kind: type[WorkstationError], reason: str | None
) -> None:
    site.fail("x", answer=Answer(status, b"", {"Retry-After": "7"} if status >= 429 else {}))
    with pytest.raises(kind) as raised:
        local.fetch(f"{site.url}/x?key=secret")
    assert getattr(raised.value, "reason", None) == reason
    assert getattr(raised.value, "wait_s", 7) == 7
    assert "secret" not in raised.value.message


def test_bomb_is_counted_unpacked(site: PlainVendor, local: WebFetcher) -> None:
    bomb = gzip.compress(b"\0" * (64 * MIB), 9)
    assert len(bomb) < MIB
    site.fail("bomb", answer=Answer(200, bomb, {"Content-Encoding": "gzip"}))
    site.fail("small", answer=Answer(200, zlib.compress(b"words"), {"Content-Encoding": "deflate"}))
    site.fail("odd", answer=Answer(200, b"x", {"Content-Encoding": "br"}))
    with pytest.raises(ItemTooLargeError, match="more than 1,048,576 bytes"):
        local.fetch(f"{site.url}/bomb")
    assert local.fetch(f"{site.url}/small").body == b"words"
    with pytest.raises(SourceUnavailableError, match="not asked for"):
        local.fetch(f"{site.url}/odd")


def drip(block: bytes, *before: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        for part in before:
            connection.sendall(part)
        pause = threading.Event()
        while not pause.wait(0.02):
            connection.sendall(block)

    return script


@pytest.mark.parametrize(
    "script",
    [drip(b"x", head("Content-Length: 900")), drip(b"x", b"HTTP/1.1 200 OK\r\nX-Slow: "), lambda each: each.recv(1)],
    ids=["body", "headers", "silence"],
)
def test_slow_answer_ends_at_the_deadline(script: Callable[[socket.socket], object]) -> None:
    with raw_server(script) as url, WebFetcher(clock=clock, allows_loopback=True, request_s=0.1) as fetcher:
        begun_s = time.monotonic()
        with pytest.raises(SourceUnavailableError):
            fetcher.fetch(f"{url}/x")
        assert time.monotonic() - begun_s < 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (head("Content-Length: 900") + b"short", SourceUnavailableError),
        (head("Content-Length: 99999999999") + b"x", ItemTooLargeError),
        (head("Content-Length: 5", "Content-Length: 7") + b"seven!!", SourceUnavailableError),
        (b"HTTP/1.1 nonsense\r\n\r\n", SourceUnavailableError),
        (b"", SourceUnavailableError),
    ],
)
def test_wrong_length_and_nonsense_are_no_answer(answer: bytes, kind: type[WorkstationError]) -> None:
    with (
        raw_server(lambda connection: connection.sendall(answer)) as url,
        WebFetcher(clock=clock, allows_loopback=True, limit_bytes=MIB, request_s=5) as fetcher,
        pytest.raises(kind),
    ):
        fetcher.fetch(f"{url}/x")


def test_environment_names_no_proxy(site: PlainVendor, local: WebFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert local.fetch(f"{site.url}/x").body


def test_url_is_told_from_a_path() -> None:
    assert [is_url(word) for word in ("https://x", "ftp://x", "a/b", "/a", "C:\\x", "mail:to", "x.http://y")] == [
        True, True, False, False, False, False, True,
    ]  # fmt: skip
