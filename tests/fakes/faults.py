"""Faults that every vendor may show, by name: the arguments of FakeVendor.fail for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.server import LOGIN_PAGE, Answer

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_GATEWAY = Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", {"Content-Type": "text/html"})

FAULTS: Mapping[str, Mapping[str, Any]] = {
    "throttle": {"answer": Answer.of({"error": "slow down"}, 429, {"Retry-After": "0"})},
    "throttle_long": {"answer": Answer.of({"error": "slow down"}, 429, {"Retry-After": "600"})},
    "server_error": {"answer": Answer.of({"error": "try again"}, 500)},
    "bad_gateway_html": {"answer": _GATEWAY},
    "login_page": {"answer": LOGIN_PAGE},
    "truncated_json": {"answer": Answer(200, b'{"items": [{"id": "1", "na', _JSON)},
    "truncated_body": {"truncate": True},
    "dropped": {"drop": True},
    "empty_body": {"answer": Answer(200, b"", _JSON)},
    "not_json": {"answer": Answer(200, b"OK", {"Content-Type": "text/plain"})},
    "json_list": {"answer": Answer.of([])},
    "slow": {"slow_s": 0.2},
}
"""None of them may delete, skip or duplicate anything; all but the long throttle, which pauses the job, may pass by themselves
or end it as retryable."""

RETRIED_AT_ONCE = frozenset({"throttle", "server_error", "bad_gateway_html", "truncated_body", "dropped", "slow"})
"""Those that one request of the same job outlives."""
