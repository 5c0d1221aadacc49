"""The block http_request: what is sent, what comes out, and what every failure is."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import pytest

from tests.blocks.calls import CANARY, Desk, ScriptedStop
from tests.blocks.conftest import OpenDesk
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.http_stage import PlainVendor
from workstation_pipelines.errors import (
    CancelledError,
    InvalidRequestError,
    RateLimitedError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)

LEAKY = {"error": {"code": f"x-{CANARY}", "type": "too_bad", "message": f"you sent {CANARY}"}}


def failure(desk: Desk, config: dict[str, Any], **more: Any) -> WorkstationError:
    with pytest.raises(WorkstationError) as failed:
        desk.ask("http_request", config, **more)
    told = f"{failed.value} {failed.value.details} {failed.value!r}"
    assert CANARY not in told
    assert "you sent" not in told
    return failed.value


def test_all_parts_of_a_request_arrive_as_given(desk: Desk, site: PlainVendor) -> None:
    config = {
        "url": f"{site.url}/a%2Fb?x=1#here",
        "query": {"q": "ä&b", "tags": ["a", "b"], "on": True, "none": None, "n": 2},
        "headers": {"Authorization": f"Bearer {CANARY}", "X-One": "two"},
        "method": "POST",
        "json": {"name": "Zoë", "secret": CANARY},
    }
    output = desk.output("http_request", config)
    sent = site.requests[-1]
    assert (sent.method, sent.raw_path) == ("POST", "/a%2Fb")
    assert sent.query == [("x", "1"), ("q", "ä&b"), ("tags", "a"), ("tags", "b"), ("on", "true"), ("n", "2")]
    assert sent.json == {"name": "Zoë", "secret": CANARY}
    assert sent.headers["authorization"] == f"Bearer {CANARY}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["idempotency-key"] == f"{desk.execution_id}-node"
    assert output["status"] == 200
    assert output["body"] == {"path": "/a/b"}
    assert output["headers"]["content-type"].startswith("application/json")

    desk.output("http_request", {"url": site.url, "method": "PUT", "form": {"a": ["1", "2"], "b": False}})
    assert site.requests[-1].body == b"a=1&a=2&b=false"
    desk.output(
        "http_request", {"url": site.url, "method": "POST", "json": None, "headers": {"idempotency-key": "mine"}}
    )
    assert site.requests[-1].body == b"null"
    assert site.requests[-1].headers["idempotency-key"] == "mine"
    desk.output("http_request", {"url": site.url, "method": "PATCH", "body": "plain"})
    assert site.requests[-1].headers["content-type"].startswith("text/plain")
    desk.output("http_request", {"url": site.url, "method": "DELETE"})
    assert "idempotency-key" not in site.requests[-1].headers
    assert desk.output("http_request", {"url": site.url, "method": "HEAD"})["body"] is None


def test_answers_come_out_storable_and_without_what_is_secret(desk: Desk, site: PlainVendor) -> None:
    headers = {"Set-Cookie": f"a={CANARY}", "X-Auth-Token": "t", "X-Echo": f"<{CANARY}>", "X-Total": "7"}
    body = b'{"echo": "<' + CANARY.encode() + b'>", "nul": "a\\u0000b", "half": "\\ud800", "n\\u0000": [1.5, null]}'
    site.answers["/odd"] = lambda _request: Answer(200, body, headers)
    output = desk.output("http_request", {"url": f"{site.url}/odd"})
    assert output["body"] == {"echo": "<***>", "nul": "a�b", "half": "�", "n�": [1.5, None]}
    told = {name: value for name, value in output["headers"].items() if name.startswith(("x-", "set"))}
    assert told == {"x-echo": "<***>", "x-total": "7"}
    site.answers["/raw"] = lambda _request: Answer(200, b"a\x00\xff" + CANARY.encode())
    assert desk.output("http_request", {"url": f"{site.url}/raw", "parse": "text"})["body"] == "a��***"
    site.answers["/raw"] = lambda _request: Answer(200, b"a\x00\xff")
    encoded = desk.output("http_request", {"url": f"{site.url}/raw", "parse": "base64"})["body"]
    assert base64.b64decode(encoded) == b"a\x00\xff"
    site.answers["/none"] = lambda _request: Answer(204)
    assert desk.output("http_request", {"url": f"{site.url}/none"})["body"] is None


@pytest.mark.parametrize(
    ("answer", "method", "expected", "says"),
    [
        (Answer.of(LEAKY, 429, {"Retry-After": "7"}), "POST", RateLimitedError, "too_bad"),
        (Answer.of(LEAKY, 503, {"Retry-After": "7"}), "POST", RateLimitedError, "503"),
        (Answer.of(LEAKY, 503), "POST", SourceUnavailableError, "503"),
        (Answer.of(LEAKY, 500), "GET", SourceUnavailableError, "500"),
        (Answer.of(LEAKY, 502), "POST", InvalidRequestError, "may have been done"),
        (Answer.of(LEAKY, 408), "POST", InvalidRequestError, "may have been done"),
        (Answer.of(LEAKY, 400), "GET", InvalidRequestError, "400 (too_bad)"),
        (Answer.of({"error": CANARY.replace("-", "_")}, 401), "GET", InvalidRequestError, "credentials"),
        (Answer.of(LEAKY, 403), "GET", InvalidRequestError, "credentials"),
        (Answer.of({"code": 17}, 404), "GET", InvalidRequestError, "404 (code-17)"),
        (Answer(302, b"", {"Location": f"https://x/{CANARY}"}), "POST", InvalidRequestError, "302"),
        (Answer(404, b"<html>" * 1000), "GET", InvalidRequestError, "404"),
        (LOGIN_PAGE, "GET", UnexpectedReplyError, "text/html"),
        (LOGIN_PAGE, "POST", InvalidRequestError, "may have been done"),
        (Answer(200, b'{"a": NaN}'), "GET", UnexpectedReplyError, "is not JSON"),
        (Answer(200, b"[" * 100_000), "GET", UnexpectedReplyError, "is not JSON"),
    ],
)
def test_each_refusal_is_the_error_that_tells_what_to_do(
    desk: Desk, site: PlainVendor, answer: Answer, method: str, expected: type[WorkstationError], says: str
) -> None:
    site.answers["/x"] = lambda _request: answer
    error = failure(desk, {"url": f"{site.url}/x", "method": method, "query": {"key": CANARY}, "max_bytes": 200_000})
    assert type(error) is expected
    assert says in error.message
    if expected is RateLimitedError:
        assert error.wait_s == 7  # type: ignore[attr-defined]
    assert site.calls() == 1


def test_what_is_expected_is_no_error(desk: Desk, site: PlainVendor) -> None:
    site.answers["/x"] = lambda _request: Answer.of({"error": "none"}, 404)
    config = {"url": f"{site.url}/x", "expected": [200, 404]}
    assert desk.output("http_request", config)["status"] == 404
    assert "more than 5 bytes" in failure(desk, {**config, "max_bytes": 5}).message
    assert "answered 200" in failure(desk, {"url": site.url, "expected": [404]}).message


def test_a_lost_answer_is_asked_for_again_only_when_that_is_safe(desk: Desk, site: PlainVendor) -> None:
    for config, expected in (
        ({"method": "GET"}, SourceUnavailableError),
        ({"method": "PUT", "body": "x"}, SourceUnavailableError),
        ({"method": "POST", "json": {}}, InvalidRequestError),
        ({"method": "PATCH", "json": {}}, InvalidRequestError),
        ({"method": "POST", "json": {}, "is_idempotent": True}, SourceUnavailableError),
        ({"method": "GET", "is_idempotent": False}, InvalidRequestError),
    ):
        site.fail("/", drop=True)
        assert type(failure(desk, {"url": site.url, **config})) is expected
        site.fail("/", truncate=True)
        assert type(failure(desk, {"url": site.url, **config})) is expected
    key = {request.headers.get("idempotency-key") for request in site.requests if request.method == "POST"}
    assert len(key) == 1


def test_cancel_and_time_are_heard_while_it_hangs(desk: Desk, site: PlainVendor) -> None:
    over, stop = threading.Event(), ScriptedStop()
    site.answers["/hangs"] = lambda _request: (over.wait(10), Answer())[1]
    threading.Timer(0.1, stop.cancelled.set).start()
    began_s = time.monotonic()
    assert isinstance(failure(desk, {"url": f"{site.url}/hangs"}, stop=stop), CancelledError)
    assert time.monotonic() - began_s < 2
    over.set()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"content-length": "1"},
        {"Proxy-Authorization": CANARY},
        {"a b": CANARY},
        {"X": f"{CANARY}\r\nHost: y"},
        {"X": f"{CANARY}é"},
        {"X": CANARY * 1000},
        {"": "x"},
    ],
)
def test_headers_that_could_be_something_else_are_refused(
    desk: Desk, site: PlainVendor, headers: dict[str, str]
) -> None:
    assert type(failure(desk, {"url": site.url, "headers": headers})) is InvalidRequestError
    assert site.requests == []


def test_inside_is_out_of_reach_without_the_operators_word(open_desk: OpenDesk, site: PlainVendor) -> None:
    desk = open_desk(workstation_fetch_loopback=False, workstation_fetch_http=True)
    for url in (
        "http://127.0.0.1/",
        "https://[::1]/",
        "http://169.254.169.254/x",
        "https://10.1.2.3/",
        "http://2130706433/",
    ):
        assert "private network" in failure(desk, {"url": url}).message
    assert "port of its own" in failure(desk, {"url": site.url}).message
    assert "user name" in failure(desk, {"url": f"https://a:{CANARY}@host.example/"}).message
    assert site.requests == []


def test_a_config_shows_no_values(desk: Desk) -> None:
    call = desk.call("http_request", {"url": f"https://x/{CANARY}", "headers": {"A": CANARY}, "json": CANARY})
    assert CANARY not in repr(call)
    with pytest.raises(ValueError, match="give one of") as refused:
        desk.call("http_request", {"url": "https://x", "json": CANARY, "body": CANARY})
    assert CANARY not in str(refused.value)
