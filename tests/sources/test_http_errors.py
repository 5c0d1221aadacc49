"""Which error an answer becomes, how long it asks to wait, and what no error may hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.faults import FAULTS, RETRIED_AT_ONCE
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.http_stage import CONTENT, GET, LIST, NOW, QUERY, PlainVendor, open_api
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.http import Reply, VendorApi, bounded_wait_s, error_of_status, retry_after_s

CANARIES = ("canary-query", "canary-header", "canary-token", "canary-answer", "canary-sent", "canary-step")


@pytest.fixture
def vendor() -> Iterator[PlainVendor]:
    with PlainVendor() as vendor:
        yield vendor


@pytest.fixture
def api(vendor: PlainVendor) -> Iterator[VendorApi]:
    api = open_api(vendor.url)
    yield api
    api.close()


@pytest.mark.parametrize(
    ("status", "error", "wait_s"),
    [
        (304, UnexpectedReplyError, 60),
        (400, UnexpectedReplyError, 60),
        (401, ReauthorizeError, None),
        (403, SkipItemError, None),
        (404, ItemGoneError, None),
        (408, SourceUnavailableError, 1),
        (409, UnexpectedReplyError, 60),
        (410, ItemGoneError, None),
        (418, UnexpectedReplyError, 60),
        (425, SourceUnavailableError, 1),
        (429, RateLimitedError, 10),
        (500, SourceUnavailableError, 1),
        (503, SourceUnavailableError, 1),
        (529, SourceUnavailableError, 1),
    ],
)
def test_each_status_demands_one_action(status: int, error: type[WorkstationError], wait_s: float | None) -> None:
    found = error_of_status("plain", Reply(GET, status, httpx.Headers(), {}, is_json=False), lambda: NOW)
    assert type(found) is error
    assert getattr(found, "wait_s", None) == wait_s
    assert f"plain items.get: status {status}" in found.message


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("0.5", 0.5),
        ("0", 0),
        ("-5", 0),
        ("3601", 3600),
        ("1e308", 3600),
        ("inf", 3600),
        ("-inf", 0),
        ("nan", 7),
        ("9" * 5000, 3600),
        ("", 7),
        ("soon", 7),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30),
        ("Sun, 22 Nov 2020 12:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
        ("Fri, 99 Xyz 2026 25:61:61 GMT", 7),
        ("Sun, 22 Nov 2026 12:00:30 +9999999999999", 7),
    ],
)
def test_retry_after_is_read_and_bounded(value: str, wait_s: float) -> None:
    assert retry_after_s(httpx.Headers({"Retry-After": value}), lambda: NOW, default_s=7) == wait_s


def test_missing_retry_after_is_the_default() -> None:
    assert retry_after_s({}, lambda: NOW, default_s=7) == 7


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [(30, 30), (1.5, 1.5), ("300", 300), (-1, 0), (10**400, 7), (1e9, 3600), (True, 7), (None, 7), ({}, 7), ("x", 7)],
)
def test_wait_in_a_field_is_read_and_bounded(value: object, wait_s: float) -> None:
    assert bounded_wait_s(value, default_s=7) == wait_s


def test_wait_that_a_vendors_reading_returns_is_bounded(vendor: PlainVendor) -> None:
    vendor.fail("items", answer=Answer.of({"retry_after": 1e12}, 429))
    api = open_api(vendor.url, classify=lambda reply: RateLimitedError("slow", wait_s=reply.fields["retry_after"]))
    with pytest.raises(RateLimitedError) as caught:
        api.json(LIST)
    assert caught.value.wait_s == 3600
    api.close()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault_is_outlived_or_retryable(vendor: PlainVendor, api: VendorApi, name: str) -> None:
    vendor.fail("items", **FAULTS[name])
    if name in RETRIED_AT_ONCE:
        assert api.json(LIST) == {"path": "/v1/items"}
        return
    with pytest.raises(RetryableError):
        api.json(LIST)
    assert api.json(LIST) == {"path": "/v1/items"}, "the next request meets nothing of it"


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_as_a_web_page_says_nothing_of_an_item(vendor: PlainVendor, api: VendorApi, status: int) -> None:
    vendor.fail("items", answer=Answer(status, LOGIN_PAGE.body, LOGIN_PAGE.headers))
    with pytest.raises(UnexpectedReplyError, match="web page"):
        api.json(GET, path={"item_id": "1"})


def test_outage_with_an_endless_page_is_an_outage(vendor: PlainVendor, api: VendorApi) -> None:
    vendor.fail("items", answer=Answer(503, b"x" * 2_000_000, {"Content-Type": "text/html"}))
    assert api.json(LIST)


def test_vendors_own_words_come_before_the_status(vendor: PlainVendor) -> None:
    vendor.fail("items", answer=Answer.of({"error": "quota"}, 403), times=9)
    api = open_api(vendor.url, classify=lambda reply: RateLimitedError("quota", wait_s=100) if reply.fields else None)
    with pytest.raises(RateLimitedError):
        api.json(LIST)
    with pytest.raises(RateLimitedError):
        api.download(CONTENT, path={"item_id": "1"}, limit_bytes=10)
    api.close()


def test_answer_at_200_is_read_by_the_vendors_own_words(vendor: PlainVendor) -> None:
    vendor.fail("items", answer=Answer.of({"ok": False, "error": "not_in_channel"}))
    gone = SkipItemError("not in it", reason="not_in_channel")
    api = open_api(vendor.url, classify=lambda reply: gone if reply.fields.get("ok") is False else None)
    with pytest.raises(SkipItemError, match="not in it"):
        api.json(LIST)
    api.close()


def everything_told(error: BaseException) -> str:
    """All that a log, a pickle or a look at the chain of errors could show, source lines aside."""
    told = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        told += [repr(current), str(current), repr(current.args), repr(vars(current))]
        for value in vars(current).values():  # httpx's errors carry the request, json's the document
            told.append(repr(getattr(value, "headers", "")) + repr(getattr(value, "url", "")))
        told += [repr(getattr(current, "doc", "")), repr(getattr(current, "object", ""))]
        request = getattr(current, "_request", None)
        if request is not None:
            told.append(f"{request.url} {request.headers.raw}")
        waiting += [current.__cause__, current.__context__]
    if isinstance(error, WorkstationError):
        told.append(repr(pickle.dumps(error)))
    return "\n".join(told)


def _hostile(status: int, body: bytes, **headers: str) -> Callable[[PlainVendor], None]:
    def set_up(vendor: PlainVendor) -> None:
        vendor.fail("", answer=Answer(status, body, {"X-Said": "canary-answer", **headers}), times=99)

    return set_up


@pytest.mark.parametrize(
    "set_up",
    [
        *(_hostile(status, b'{"error": "canary-answer"}') for status in (301, 400, 401, 403, 404, 429, 500)),
        _hostile(302, b"", Location="https://canary-answer@[/"),
        _hostile(302, b"", Location="http://canary-answer.example/?canary-answer"),
        _hostile(200, b"canary-answer"),
        _hostile(200, b"canary-answer", **{"Content-Type": "canary-answer; x"}),
        _hostile(200, b'{"a": "canary-answer'),
        _hostile(200, b'["canary-answer"]'),
        _hostile(200, b'{"a": "canary-answer\xff"}'),
        _hostile(200, b"canary-answer" * 200_000),
        _hostile(200, b"canary-answer", **{"Content-Encoding": "gzip"}),
        lambda vendor: vendor.fail("", drop=True, times=99),
        lambda vendor: vendor.fail("", truncate=True, times=99),
        lambda vendor: vendor.close(),
    ],
)
@pytest.mark.parametrize("kind", ["json", "query", "download", "json_at", "download_at"])
def test_no_error_holds_a_query_a_header_a_token_or_a_body(
    vendor: PlainVendor, set_up: Callable[[PlainVendor], None], kind: str
) -> None:
    url = vendor.url
    set_up(vendor)
    api = open_api(url, credentials=StaticToken("canary-token"))
    link = f"{url}/v1/items?secret=canary-query"
    asks: dict[str, Callable[[], Any]] = {
        "json": lambda: api.json(LIST, params={"q": "canary-query"}, headers={"X-Key": "canary-header"}),
        "query": lambda: api.json(QUERY, body={"q": "canary-sent"}),
        "download": lambda: api.download(
            CONTENT, path={"item_id": "canary-step"}, limit_bytes=5, headers={"X-Key": "canary-header"}
        ),
        "json_at": lambda: api.json_at(LIST, link),
        "download_at": lambda: api.download_at(CONTENT, link, limit_bytes=5),
    }
    try:
        with pytest.raises(WorkstationError) as caught:
            asks[kind]()
        told = everything_told(caught.value)
        assert not [canary for canary in CANARIES if canary in told], told
    finally:
        api.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.json(GET, path={"item_id": "canary-step\ud800"}),
        lambda api: api.json(GET, path={"item_id": ".."}),
        lambda api: api.json(GET, path={"item_id": ""}),
        lambda api: api.json(LIST, params={"q": "canary-query\ud800"}),
        lambda api: api.json(LIST, headers={"X-Key": "canary-header\r\nX-Injected: 1"}),
        lambda api: api.json(LIST, headers={"X-Key": "canary-header\u00e9"}),
        lambda api: api.json(QUERY, body={"q": "canary-sent\ud800"}),
        lambda api: api.json(QUERY, body={"canary-sent": float("nan")}),
    ],
)
def test_what_cannot_be_written_is_refused_without_being_told(
    vendor: PlainVendor, api: VendorApi, ask: Callable[[VendorApi], Any]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ask(api)
    assert not [canary for canary in CANARIES if canary in everything_told(caught.value)]
    assert vendor.requests == []


@pytest.mark.parametrize(
    "token", ["canary-token\r\nX-Injected: 1", "canary-token\n", "canary token", "canary-tok\u00e9n"]
)
def test_token_cannot_end_its_header(vendor: PlainVendor, token: str) -> None:
    api = open_api(vendor.url, credentials=StaticToken(token))
    with pytest.raises(ReauthorizeError) as caught:
        api.json(LIST)
    assert "canary" not in everything_told(caught.value)
    assert vendor.requests == []
    api.close()


def test_nothing_of_a_request_is_logged(vendor: PlainVendor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        api = open_api(vendor.url, credentials=StaticToken("canary-token"))
        api.json(LIST, params={"q": "canary-query"})
        api.close()
    assert "canary" not in caplog.text
