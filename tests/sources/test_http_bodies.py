"""Bodies that are too long, too slow, cut off, compressed to explode, or no JSON."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.http_stage import CONTENT, GET, LIST, PlainVendor, head, open_api, raw_server
from workstation_pipelines.errors import (
    ItemTooLargeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.sources.http import Download, VendorApi
from workstation_pipelines.sources.http_body import BrokenBodyError, TooLongError, json_object, read_body

MIB = 1024 * 1024
PACKED = {"Content-Encoding": "gzip", "Content-Type": "application/json"}


@pytest.fixture
def vendor() -> Iterator[PlainVendor]:
    with PlainVendor() as vendor:
        yield vendor


@pytest.fixture
def api(vendor: PlainVendor) -> Iterator[VendorApi]:
    api = open_api(vendor.url)
    yield api
    api.close()


def content(api: VendorApi, limit_bytes: int = MIB) -> Download:
    return api.download(CONTENT, path={"item_id": "1"}, limit_bytes=limit_bytes)


def say(vendor: PlainVendor, body: bytes, status: int = 200, **headers: str) -> None:
    vendor.fail("", answer=Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()}))


def never_ending(length: int, step: int = 65536) -> Iterator[bytes]:
    for _ in range(length // step):
        yield b"\0" * step


def response(blocks: Iterator[bytes], **headers: str) -> httpx.Response:
    return httpx.Response(
        200, headers={name.replace("_", "-"): value for name, value in headers.items()}, content=blocks
    )


def soon() -> float:
    return time.monotonic() + 10


def test_body_of_exactly_the_limit_is_taken(vendor: PlainVendor, api: VendorApi) -> None:
    say(vendor, b"12345")
    assert content(api, 5).body == b"12345"


def test_body_above_the_limit_is_too_large(vendor: PlainVendor, api: VendorApi) -> None:
    say(vendor, b"123456")
    with pytest.raises(ItemTooLargeError, match="max_file_bytes") as caught:
        content(api, 5)
    assert caught.value.reason == "too_large"


def test_announced_length_above_the_limit_is_refused_before_it_comes() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(head(f"Content-Length: {10**15}"))
        connection.recv(1)  # the client hangs up; nothing of the body is ever sent

    with raw_server(script) as url:
        api = open_api(url, request_s=5)
        with pytest.raises(ItemTooLargeError):
            content(api)
        api.close()


def test_endless_body_stops_at_the_limit() -> None:
    sent = []

    def script(connection: socket.socket) -> None:
        connection.sendall(head("Connection: close"))
        while True:
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    with raw_server(script) as url:
        api = open_api(url, request_s=5)
        with pytest.raises(ItemTooLargeError):
            content(api)
        api.close()
    assert sum(sent) < 16 * MIB


def test_endless_json_stops_at_its_cap() -> None:
    with pytest.raises(TooLongError):
        read_body(response(never_ending(8 * MIB)), MIB, until=soon())


def test_bomb_is_counted_unpacked_and_never_held(vendor: PlainVendor, api: VendorApi) -> None:
    bomb = gzip.compress(b"\0" * (200 * MIB), 9)
    assert len(bomb) < 300_000
    say(vendor, bomb, Content_Encoding="gzip")
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    tracemalloc.reset_peak()
    before_bytes, _ = tracemalloc.get_traced_memory()
    with pytest.raises(ItemTooLargeError):
        content(api, 4 * MIB)
    _, peak_bytes = tracemalloc.get_traced_memory()
    if not was_tracing:
        tracemalloc.stop()
    assert peak_bytes - before_bytes < 16 * MIB


def test_nested_compression_is_not_unpacked(vendor: PlainVendor, api: VendorApi) -> None:
    say(vendor, gzip.compress(gzip.compress(b"\0" * MIB)), Content_Encoding="gzip, gzip")
    say(vendor, gzip.compress(b"{}"), Content_Encoding="br")
    say(vendor, gzip.compress(b"{}"), Content_Encoding="zstd")
    with pytest.raises(SourceUnavailableError, match="not asked for"):
        content(api)


def test_packed_json_is_read(vendor: PlainVendor, api: VendorApi) -> None:
    vendor.fail("", answer=Answer(200, gzip.compress(b'{"a": 1}'), PACKED))
    assert api.json(LIST) == {"a": 1}
    assert vendor.requests[0].headers["accept-encoding"] == "gzip"


def test_content_is_asked_for_unpacked_so_that_its_length_can_be_checked(vendor: PlainVendor, api: VendorApi) -> None:
    content(api)
    assert vendor.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "pack", [gzip.compress, zlib.compress, lambda body: gzip.compress(body[:10]) + gzip.compress(body[10:])]
)
def test_packed_content_is_unpacked_whole(pack: Callable[[bytes], bytes]) -> None:
    body = bytes(range(256)) * 20_000
    packed = pack(body)
    for size in (1, 7, 65536) if len(packed) < 50_000 else (977, 65536):
        blocks = (packed[start : start + size] for start in range(0, len(packed), size))
        assert read_body(response(blocks, content_encoding="gzip"), 10 * MIB, until=soon()) == body


@pytest.mark.parametrize("cut", [1, 8, 9, 100])
def test_cut_compression_is_noticed(cut: int) -> None:
    packed = gzip.compress(bytes(range(256)) * 2000)
    with pytest.raises(BrokenBodyError):
        read_body(response(iter([packed[:-cut]]), content_encoding="gzip"), MIB, until=soon())


def test_damaged_compression_is_noticed() -> None:
    packed = bytearray(gzip.compress(bytes(range(256)) * 2000))
    packed[-6] ^= 1
    with pytest.raises(BrokenBodyError):
        read_body(response(iter([bytes(packed)]), content_encoding="gzip"), MIB, until=soon())


def test_body_shorter_than_announced_is_no_body(vendor: PlainVendor, api: VendorApi) -> None:
    vendor.answers["/v1/items/1/content"] = lambda _request: Answer(200, b"x" * 1000)
    vendor.fail("content", truncate=True, times=99)
    with pytest.raises(SourceUnavailableError, match="broke off"):
        content(api)


def test_length_is_checked_whatever_the_way() -> None:
    with pytest.raises(BrokenBodyError):
        read_body(response(iter([b"123"]), content_length="4"), MIB, until=soon())


def test_cut_body_is_fetched_again(vendor: PlainVendor, api: VendorApi) -> None:
    vendor.answers["/v1/items/1/content"] = lambda _request: Answer(200, b"x" * 1000)
    vendor.fail("content", truncate=True)
    assert content(api).body == b"x" * 1000


def drip(block: bytes, *before: bytes) -> Callable[[socket.socket], None]:
    """Keep a reader waiting: something comes before each read's own timeout, for ever."""

    def script(connection: socket.socket) -> None:
        for part in before:
            connection.sendall(part)
        pause = threading.Event()
        while not pause.wait(0.02):
            connection.sendall(block)

    return script


@pytest.mark.parametrize(
    "script",
    [
        drip(b"x", head("Content-Length: 900")),
        drip(b"1\r\nx\r\n", head("Transfer-Encoding: chunked")),
        drip(b"x", b"HTTP/1.1 200 OK\r\nX-Slow: "),
        lambda connection: connection.recv(1),
    ],
    ids=["body", "chunks", "headers", "silence"],
)
@pytest.mark.parametrize("kind", ["json", "download"])
def test_slow_answer_ends_at_the_deadline(script: Callable[[socket.socket], object], kind: str) -> None:
    with raw_server(script) as url:
        api = open_api(url, request_s=0.1)
        start = time.monotonic()
        with pytest.raises(SourceUnavailableError):
            _ = api.json(LIST) if kind == "json" else content(api, 1000)
        # Three attempts, and no more than each one's time.
        assert time.monotonic() - start < 3 * 0.1 + 1
        api.close()


def test_deadline_of_one_request_leaves_the_next_alone(vendor: PlainVendor) -> None:
    api = open_api(vendor.url, request_s=0.15)
    vendor.fail("items", slow_s=0.3, times=3)
    with pytest.raises(SourceUnavailableError):
        api.json(LIST)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _number: api.json(LIST), range(20)))
    api.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"OK",
        b"null",
        b"3",
        b'"text"',
        b"[]",
        b'[{"a": 1}]',
        b'{"a": 1',
        b'{"a": 1} {"b": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\xe9"}',
        b"\xff\xfe{",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' + b"[" * 500_000,
        b"{'a': 1}",
        LOGIN_PAGE.body,
    ],
)
def test_what_is_not_a_json_object_is_no_answer(vendor: PlainVendor, api: VendorApi, body: bytes) -> None:
    say(vendor, body, Content_Type="application/json")
    with pytest.raises(UnexpectedReplyError, match="not a JSON object"):
        api.json(LIST)
    assert len(vendor.requests) == 1, "asking again at once would not help"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "\u00e9"}'.encode("utf-16"), {"a": "\u00e9"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1.5, "b": 12345678901234567890}', {"a": 1.5, "b": 12345678901234567890}),
    ],
)
def test_json_objects_are_read_as_written(body: bytes, fields: dict[str, object]) -> None:
    assert json_object(body) == fields


@pytest.mark.parametrize("content_type", ["text/html", "", "application/json; charset=utf-8"])
def test_message_tells_the_type_and_never_more(vendor: PlainVendor, api: VendorApi, content_type: str) -> None:
    say(vendor, b"no json", Content_Type=content_type)
    with pytest.raises(UnexpectedReplyError) as caught:
        api.json(LIST)
    assert f"but {content_type.partition(';')[0] or 'of no type'};" in caught.value.message


def test_status_204_is_no_answer_to_a_question(vendor: PlainVendor, api: VendorApi) -> None:
    say(vendor, b"", 204)
    with pytest.raises(UnexpectedReplyError):
        api.json(LIST)


def test_connections_come_back_after_every_kind_of_failure(vendor: PlainVendor) -> None:
    api = open_api(vendor.url)
    try:
        for status in (400, 401, 403, 404, 410) * 10:
            vendor.fail("", answer=Answer.of({"error": "no"}, status))
            with pytest.raises(WorkstationError):
                api.json(GET, path={"item_id": "1"})
        for status in (200, 302, 400, 403) * 12:
            say(vendor, b"x" * 100_000, status)
            with pytest.raises(WorkstationError):
                content(api, 10)
        pool = api._transport._inner._pool  # type: ignore[attr-defined]  # nobody else knows
        assert all(connection.is_idle() for connection in pool.connections)
        assert api.json(LIST)
    finally:
        api.close()


@pytest.mark.parametrize("page", [b"", b"<html>moved</html>" * 100])
def test_redirects_go_over_the_same_connections(
    vendor: PlainVendor, api: VendorApi, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = vendor.url.replace("127.0.0.1", "localhost")
    moved = Answer(302, page, {"Location": f"{elsewhere}/download/1"})
    vendor.answers = {"/v1/items/1/content": lambda _request: moved, "/download/1": lambda _request: Answer(200, b"x")}
    opened: list[object] = []
    connect = socket.create_connection

    def watched(address: tuple[str, int], *_rest: object, **_more: object) -> socket.socket:
        opened.append(address)
        return connect(("127.0.0.1", address[1]))

    monkeypatch.setattr(socket, "create_connection", watched)
    for _ in range(5):
        assert content(api).body == b"x"
    assert len(opened) == 2


def test_endless_page_of_a_redirect_is_not_read_to_its_end(vendor: PlainVendor, api: VendorApi) -> None:
    moved = Answer(302, b"x" * MIB, {"Location": f"{vendor.url}/download/1"})
    vendor.answers = {"/v1/items/1/content": lambda _request: moved, "/download/1": lambda _request: Answer(200, b"x")}
    assert content(api).body == b"x"


def test_transport_that_has_read_everything_is_held_to_the_limit(vendor: PlainVendor) -> None:
    api = open_api(vendor.url, transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=b"x" * 11)))
    with pytest.raises(ItemTooLargeError):
        content(api, 10)
    assert content(api, 11).body == b"x" * 11
    api.close()
