"""Dropbox's errors: every documented one, as the action it demands, and what nobody documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.fakes.dropbox import FakeDropbox
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.dropbox_bench import TOKEN, Opened, served, sources_of, truth
from tests.sources.mirror import Mirror
from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnsupportedContentError,
    WorkstationError,
)
from workstation_pipelines.model import Item, ItemType, JobType
from workstation_pipelines.sources.dropbox.connector import Dropbox


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDropbox]:
    monkeypatch.setattr("workstation_pipelines.sources.http.time.sleep", lambda _wait_s: None)
    with served() as vendor:
        yield vendor


@pytest.fixture
def opened(vendor: FakeDropbox) -> Iterator[Opened]:
    with sources_of(vendor) as opened:
        yield opened


@pytest.fixture
def source(opened: Opened) -> Dropbox:
    return opened()


@dataclass
class Refreshed:
    """Gives out one token after another, as a grant does that can be refreshed."""

    tokens: list[str]
    asked: int = field(default=0)

    def access_token(self, *, rejected: str | None = None) -> str:
        self.asked += rejected is not None
        if rejected is not None and rejected == self.tokens[0]:
            self.tokens.pop(0)
        return self.tokens[0]

    def scopes(self) -> frozenset[str]:
        return frozenset()

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return inner


def answer(status: int, error: Any, **headers: str) -> Answer:
    fields = {"error_summary": f"{error.get('.tag', 'error')}/..", "error": error}
    return Answer(status, json.dumps(fields).encode(), {"Content-Type": "application/json", **headers})


def path_error(tag: str) -> dict[str, Any]:
    return {".tag": "path", "path": {".tag": tag}}


def an_item() -> Item:
    return Item("id:a4ayc_80_OEAAAAAAAAAXw", "a.txt", "dbx:" + "0" * 64, ItemType.FILE, "a.txt", "text/plain", 3)


INVALID_ROOT = {
    ".tag": "invalid_root",
    "invalid_root": {".tag": "user", "root_namespace_id": "9", "home_namespace_id": "9"},
}


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (409, {".tag": "reset"}, CursorExpiredError),
        (409, path_error("not_found"), InvalidRequestError),
        (409, path_error("not_folder"), InvalidRequestError),
        (409, path_error("malformed_path"), InvalidRequestError),
        (409, path_error("restricted_content"), InvalidRequestError),
        (409, {".tag": "other"}, UnexpectedReplyError),
        (409, {".tag": "template_error"}, UnexpectedReplyError),
        (422, INVALID_ROOT, CursorExpiredError),
        (422, {".tag": "no_permission"}, ReauthorizeError),
        (401, {".tag": "expired_access_token"}, ReauthorizeError),
        (401, {".tag": "invalid_access_token"}, ReauthorizeError),
        (401, {".tag": "missing_scope", "required_scope": "files.metadata.read"}, ReauthorizeError),
        (401, {".tag": "user_suspended"}, ReauthorizeError),
        (401, {".tag": "other"}, ReauthorizeError),
        (403, {".tag": "invalid_account_type", "invalid_account_type": {".tag": "endpoint"}}, ReauthorizeError),
        (403, {".tag": "team_access_denied"}, ReauthorizeError),
        (404, {".tag": "other"}, UnexpectedReplyError),
        (500, {".tag": "other"}, SourceUnavailableError),
        (503, {".tag": "other"}, SourceUnavailableError),
    ],
)
def test_each_error_of_a_listing_is_the_action_it_demands(
    vendor: FakeDropbox, source: Dropbox, status: int, error: Any, expected: type[WorkstationError]
) -> None:
    mirror = Mirror()
    vendor.space.put("/secret name.txt", "one")
    mirror.sync(source)
    vendor.fail("list_folder/continue", answer=answer(status, error), times=9)
    with pytest.raises(expected) as raised:
        list(source.pages(mirror.cursor, mirror, JobType.DELTA))
    assert type(raised.value) is expected
    assert TOKEN not in raised.value.message
    assert "secret" not in raised.value.message
    if status < 500 and status != 401:
        assert vendor.calls("continue") == 1


@pytest.mark.parametrize(
    ("status", "error", "expected", "reason"),
    [
        (409, path_error("not_found"), ItemGoneError, "gone"),
        (409, path_error("not_file"), ItemGoneError, "gone"),
        (409, path_error("restricted_content"), SkipItemError, "restricted"),
        (409, path_error("unsupported_content_type"), UnsupportedContentError, "not_downloadable"),
        (409, path_error("locked"), SkipItemError, "not_ready"),
        (409, path_error("other"), SkipItemError, "refused"),
        (409, {".tag": "unsupported_file"}, UnsupportedContentError, "not_downloadable"),
        (409, {".tag": "non_exportable"}, UnsupportedContentError, "not_downloadable"),
        (409, {".tag": "invalid_export_format"}, UnsupportedContentError, "not_downloadable"),
        (409, {".tag": "retry_error"}, SkipItemError, "not_ready"),
        (403, {".tag": "no_permission"}, SkipItemError, "forbidden"),
    ],
)
def test_each_error_of_a_download_is_about_that_item_alone(
    vendor: FakeDropbox, source: Dropbox, status: int, error: Any, expected: type[SkipItemError], reason: str
) -> None:
    vendor.fail("download", answer=answer(status, error))
    with pytest.raises(expected) as raised:
        source.fetch(an_item())
    assert raised.value.reason == reason
    assert raised.value.transient == (reason in ("not_ready", "refused"))


@pytest.mark.parametrize("said_in", ["both", "header", "body", "text"])
def test_a_long_wait_is_raised_as_the_vendor_says_it(vendor: FakeDropbox, source: Dropbox, said_in: str) -> None:
    vendor.throttle("list_folder", retry_after_s=300, said_in=said_in)
    with pytest.raises(RateLimitedError) as limited:
        list(source.pages(None, Mirror(), JobType.DELTA))
    assert limited.value.wait_s == 300
    assert vendor.calls("list_folder") == 1


def test_a_wait_of_no_time_is_none_and_an_unsaid_one_is_not_long(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.throttle("list_folder", retry_after_s=0, said_in="text")
    assert list(source.pages(None, Mirror(), JobType.DELTA))[-1].complete
    vendor.fail("list_folder", answer=Answer(429, b"slow down", {"Content-Type": "text/plain"}))
    with pytest.raises(RateLimitedError) as limited:
        list(source.pages(None, Mirror(), JobType.DELTA))
    assert limited.value.wait_s == 10


def test_too_many_write_operations_is_a_wait_as_well(vendor: FakeDropbox, source: Dropbox) -> None:
    error = {"reason": {".tag": "too_many_write_operations"}, "retry_after": 60}
    vendor.fail("download", answer=answer(429, error))
    with pytest.raises(RateLimitedError) as limited:
        source.fetch(an_item())
    assert limited.value.wait_s == 60


def test_short_waits_at_every_second_call_are_waited_for(vendor: FakeDropbox, source: Dropbox) -> None:
    for number in range(6):
        vendor.space.put(f"/{number}.txt", f"text {number}")
    vendor.page_size, vendor.is_strict = 1, True
    mirror = Mirror()
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)


def test_a_pause_in_the_middle_of_a_listing_goes_on_at_the_page_it_stopped_at(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    for number in range(6):
        vendor.space.put(f"/{number}.txt", f"text {number}")
    vendor.page_size = 1
    mirror = Mirror()
    mirror.sync(source, most_pages=3)
    vendor.throttle("continue", retry_after_s=900)
    resume = mirror.resume
    with pytest.raises(RateLimitedError):
        mirror.sync(source)
    mirror.resume = resume
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)
    assert vendor.calls("list_folder") - vendor.calls("continue") == 1


def test_an_expired_token_is_replaced_once(vendor: FakeDropbox, opened: Opened) -> None:
    vendor.space.put("/a.txt", "one")
    grant = Refreshed(["stale", TOKEN])
    Mirror().sync(opened(grant))
    assert grant.asked == 1
    refused = Refreshed(["stale", "stale too", "never asked for"])
    with pytest.raises(ReauthorizeError):
        Mirror().sync(opened(refused))
    assert refused.asked == 1


def test_a_missing_scope_is_named_and_no_other_token_is_asked_for(vendor: FakeDropbox, opened: Opened) -> None:
    vendor.user.scopes -= {"files.metadata.read"}
    grant = Refreshed([TOKEN])
    with pytest.raises(ReauthorizeError, match=r"files\.metadata\.read"):
        Mirror().sync(opened(grant))
    assert grant.asked == 0


def test_a_request_refused_in_plain_text_is_not_tried_again(vendor: FakeDropbox, source: Dropbox) -> None:
    text = b'Error in call to API function "files/list_folder": request body: secret'
    vendor.fail("list_folder", answer=Answer(400, text, {"Content-Type": "text/plain; charset=utf-8"}))
    with pytest.raises(InvalidRequestError) as refused:
        list(source.pages(None, Mirror(), JobType.DELTA))
    assert "secret" not in refused.value.message
    assert vendor.calls("list_folder") == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"answer": LOGIN_PAGE},
        {"answer": Answer(403, LOGIN_PAGE.body, LOGIN_PAGE.headers)},
        {"answer": Answer(400, LOGIN_PAGE.body, LOGIN_PAGE.headers)},
        {"answer": Answer(409, b"conflict", {"Content-Type": "text/plain"})},
        {"answer": Answer(422, b"[]", {"Content-Type": "application/json"})},
        {"answer": Answer(502, b"<html>", {"Content-Type": "text/html"}), "times": 9},
        {"answer": Answer(200, b'{"entries": [', {"Content-Type": "application/json"})},
        {"answer": Answer(200, b"[]", {"Content-Type": "application/json"})},
        {"drop": True, "times": 9},
        {"truncate": True, "times": 9},
    ],
)
def test_what_dropbox_did_not_say_proves_nothing(vendor: FakeDropbox, source: Dropbox, fault: dict[str, Any]) -> None:
    mirror = Mirror()
    vendor.space.put("/a.txt", "one")
    mirror.sync(source)
    vendor.fail("list_folder/continue", **fault)
    with pytest.raises(SourceUnavailableError):
        mirror.sync(source)
    assert list(mirror.live) == [vendor.space.at("/a.txt").id]
    vendor.faults.clear()
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)


@pytest.mark.parametrize("fault", [{"drop": True}, {"truncate": True}, {"answer": Answer(503)}])
def test_a_short_outage_is_waited_out(vendor: FakeDropbox, source: Dropbox, fault: dict[str, Any]) -> None:
    vendor.space.put("/a.txt", "one")
    for part in ("list_folder", "get_current_account", "download"):
        vendor.fail(part, **fault)
    mirror = Mirror()
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)


@pytest.mark.parametrize("fields", [{}, {"account_id": 5}, {"account_id": "dbid:x", "root_info": "none"}])
def test_an_account_without_an_id_is_an_error_and_one_without_a_root_is_not(
    vendor: FakeDropbox, source: Dropbox, fields: dict[str, Any]
) -> None:
    vendor.fail("get_current_account", answer=Answer.of(fields))
    if fields.get("account_id") == "dbid:x":
        assert list(source.pages(None, Mirror(), JobType.DELTA))[-1].complete
    else:
        with pytest.raises(UnexpectedReplyError):
            list(source.pages(None, Mirror(), JobType.DELTA))
