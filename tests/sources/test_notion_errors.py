"""What Notion's refusals become, bad input that one item brings, and what each request is allowed to cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.fakes.notion import error
from tests.fakes.server import LOGIN_PAGE, Answer, Fault, Request
from tests.sources.notion_account import NotionAccount
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnreadableContentError,
    WorkstationError,
)
from workstation_pipelines.model import JobType
from workstation_pipelines.sources.http import Call, Reply
from workstation_pipelines.sources.notion.calls import CALLS, MARKDOWN, PAGE, QUERY, SEARCH
from workstation_pipelines.sources.notion.errors import StartCursorError, error_of
from workstation_pipelines.sources.notion.objects import TOP, id_in_url, moment, read_parent

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotionAccount]:
    monkeypatch.setattr("time.sleep", lambda _wait_s: None)
    account = NotionAccount()
    yield account
    account.vendor.close()
    assert account.vendor.violations == []
    assert account.vendor.writes == []


def reply(call: Call, status: int, code: str, message: str = "", **more: Any) -> Reply:
    fields = {"object": "error", "status": status, "code": code, "message": message, **more}
    return Reply(call, status, httpx.Headers(more.pop("headers", {})), fields, is_json=True)


@pytest.mark.parametrize(
    ("call", "status", "code", "message", "kind"),
    [
        (SEARCH, 400, "invalid_json", "", UnexpectedReplyError),
        (SEARCH, 400, "invalid_request_url", "", UnexpectedReplyError),
        (SEARCH, 400, "invalid_request", "", UnexpectedReplyError),
        (SEARCH, 400, "validation_error", "body.filter is wrong", UnexpectedReplyError),
        (SEARCH, 400, "missing_version", "", UnexpectedReplyError),
        (SEARCH, 400, "validation_error", "body.start_cursor is wrong", StartCursorError),
        (QUERY, 400, "invalid_start_cursor", "", StartCursorError),
        (PAGE, 400, "validation_error", "path.page_id is wrong", UnreadableContentError),
        (MARKDOWN, 400, "validation_error", "", UnreadableContentError),
        (SEARCH, 403, "restricted_resource", "", ReauthorizeError),
        (QUERY, 403, "restricted_resource", "", SkipItemError),
        (PAGE, 403, "restricted_resource", "", SkipItemError),
        (PAGE, 404, "object_not_found", "", ItemGoneError),
        (QUERY, 404, "object_not_found", "", ItemGoneError),
        (SEARCH, 404, "something_else", "", UnexpectedReplyError),
        (PAGE, 409, "conflict_error", "", SourceUnavailableError),
        (PAGE, 429, "rate_limited", "", RateLimitedError),
        (PAGE, 500, "internal_server_error", "", SourceUnavailableError),
        (PAGE, 502, "bad_gateway", "", SourceUnavailableError),
        (PAGE, 503, "service_unavailable", "", SourceUnavailableError),
        (PAGE, 503, "database_connection_unavailable", "", SourceUnavailableError),
        (PAGE, 504, "gateway_timeout", "", SourceUnavailableError),
        (PAGE, 529, "service_overload", "", RateLimitedError),
    ],
)
def test_each_documented_error_is_one_of_ours(
    call: Call, status: int, code: str, message: str, kind: type[WorkstationError]
) -> None:
    assert type(error_of(reply(call, status, code, message), lambda: NOW)) is kind


def test_statuses_without_words_of_notion_are_left_to_the_shared_table() -> None:
    bare = Reply(PAGE, 401, httpx.Headers(), {}, is_json=False)
    assert error_of(bare, lambda: NOW) is None


def test_a_limit_tells_its_reason_and_how_long_to_wait() -> None:
    limited = reply(
        PAGE,
        429,
        "rate_limited",
        headers={"retry-after": "95"},
        additional_data={"rate_limit_reason": "workspace_limit"},
    )
    found = error_of(limited, lambda: NOW)
    assert isinstance(found, RateLimitedError)
    assert found.wait_s == 95
    assert "workspace_limit" in found.message


def test_all_calls_share_one_pace() -> None:
    assert {(call.pace, call.per_s, call.burst) for call in CALLS} == {("all", 3.0, 10)}


class TestRequests:
    def test_a_conflict_and_a_short_outage_are_tried_again(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.vendor.fail("/search", answer=error(409, "conflict_error"))
        account.vendor.fail(f"{page}/markdown", answer=error(502, "bad_gateway"))
        account.sync()
        assert account.paths == {"Page"}

    def test_a_refused_request_is_sent_once(self, account: NotionAccount) -> None:
        account.vendor.fail("/search", answer=error(400, "validation_error"), times=9)
        with pytest.raises(UnexpectedReplyError):
            account.sync()
        assert account.vendor.calls("/search") == 1

    def test_a_wait_of_more_than_a_minute_is_raised(self, account: NotionAccount) -> None:
        account.vendor.throttle("/search", retry_after_s=90)
        with pytest.raises(RateLimitedError) as caught:
            account.sync()
        assert caught.value.wait_s == 90

    def test_limits_on_every_third_request_are_outlived(self, account: NotionAccount) -> None:
        for number in range(4):
            account.workspace.page(f"page {number}")
        account.vendor.every_nth_limited = 3
        account.sync()
        assert len(account.paths) == 4

    def test_a_search_that_runs_out_of_time_asks_for_less(self, account: NotionAccount) -> None:
        for number in range(30):
            account.workspace.page(f"page {number}")
        account.vendor.faults.append(_too_much_above(25))
        account.sync()
        assert len(account.paths) == 30

    def test_a_token_that_is_refused_asks_to_connect_again(self, account: NotionAccount) -> None:
        account.token = "revoked"
        with pytest.raises(ReauthorizeError):
            account.sync()

    def test_a_connection_that_may_not_read_is_told_so_and_nothing_is_deleted(self, account: NotionAccount) -> None:
        account.workspace.page("Page")
        account.sync()
        account.vendor.lacks_capability = True
        for full in (False, True):
            with pytest.raises(ReauthorizeError, match="Read content"):
                account.sync(full=full)
        assert account.paths == {"Page"}

    @pytest.mark.parametrize(
        "answer",
        [
            LOGIN_PAGE,
            Answer.of({}),
            Answer.of({"results": []}),
            Answer.of({"results": None, "has_more": False}),
            Answer.of({"results": [], "has_more": True, "next_cursor": None}),
            Answer.of([]),
        ],
    )
    def test_an_answer_that_means_nothing_is_no_empty_workspace(self, account: NotionAccount, answer: Answer) -> None:
        account.workspace.page("Page")
        account.sync()
        account.vendor.fail("/search", answer=answer, times=99)
        for full in (False, True):
            with pytest.raises(UnexpectedReplyError):
                account.sync(full=full)
        assert account.paths == {"Page"}

    def test_the_version_goes_with_every_request(self, account: NotionAccount) -> None:
        account.workspace.page("Page")
        account.sync()
        assert {request.headers["notion-version"] for request in account.vendor.requests} == {"2026-03-11"}


class TestBadInput:
    def test_a_page_without_what_dates_it_is_one_failure(self, account: NotionAccount) -> None:
        bad = account.workspace.page("Bad")
        account.workspace.page("Good")
        account.vendor.missing = {bad: {"last_edited_time"}}
        report = account.sync()
        assert set(report.failures) == {bad}
        assert account.paths == {"Good"}

    def test_a_known_page_that_is_shown_wrongly_is_not_gone(self, account: NotionAccount) -> None:
        bad = account.workspace.page("Bad")
        account.sync()
        account.vendor.missing = {bad: {"parent"}}
        source = account.open()
        pages = list(source.pages(None, account.mirror, JobType.FULL_SYNC))
        source.close()
        assert {failure.external_id for page in pages for failure in page.failures} == {bad}
        assert not [change for page in pages for change in page.changes]

    @pytest.mark.parametrize("field", ["title", "database_parent", "created_time", "url", "properties"])
    def test_other_fields_may_be_missing(self, account: NotionAccount, field: str) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row")
        account.vendor.missing = {row: {field}, tasks: {field}}
        report = account.sync()
        assert report.failures == []
        assert len(account.paths) == 1

    def test_a_page_of_which_only_the_id_is_shown_is_asked_for(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.vendor.partial.add(page)
        report = account.sync()
        assert report.failures == [page]

    def test_an_object_that_is_none_is_one_failure(self, account: NotionAccount) -> None:
        body: dict[str, Any] = {
            "object": "list",
            "results": [None, 7, {"object": "page", "id": "../users"}],
            "has_more": False,
        }
        account.vendor.fail("/search", answer=Answer.of({**body, "next_cursor": None}), after=1)
        assert account.sync().failures == ["unknown"] * 3

    def test_a_very_long_title_is_survived(self, account: NotionAccount) -> None:
        top = account.workspace.page("t" * 4000)
        account.workspace.page("c" * 4000, parent=top)
        account.sync()
        assert sorted(map(len, account.paths)) == [4000, 8001]

    @pytest.mark.parametrize("value", ["1969-12-31T23:59:00.000Z", "yesterday", "", None, 7, "9999-99-99"])
    def test_times_before_1970_or_of_another_form_are_none(self, value: object) -> None:
        assert moment(value) is None

    @pytest.mark.parametrize("value", [None, {}, {"type": "agent_id", "agent_id": "x"}, {"page_id": "../x"}, "page"])
    def test_parents_that_cannot_be_read_are_the_top(self, value: object) -> None:
        assert read_parent(value) == TOP

    @pytest.mark.parametrize("url", ["", "https://www.notion.so/", "https://www.notion.so/123", "no address"])
    def test_addresses_without_an_id_have_none(self, url: str) -> None:
        assert id_in_url(url) is None

    def test_an_unknown_setting_is_refused(self, account: NotionAccount) -> None:
        with pytest.raises(InvalidRequestError, match="no_such_key"):
            account.open(no_such_key=1)


def test_the_fake_counts_what_would_write(account: NotionAccount) -> None:
    headers = {"Authorization": "Bearer test-token", "Notion-Version": "2026-03-11"}
    page = account.workspace.page("Page")
    httpx.patch(f"{account.vendor.url}/v1/pages/{page}", json={"in_trash": True}, headers=headers, trust_env=False)
    httpx.post(f"{account.vendor.url}/v1/pages", json={}, headers=headers, trust_env=False)
    assert [request.method for request in account.vendor.writes] == ["PATCH", "POST"]
    account.vendor.requests.clear()
    account.vendor.violations.clear()


def test_the_fake_reports_requests_that_notion_would_refuse(account: NotionAccount) -> None:
    headers = {"Authorization": "Bearer test-token", "Notion-Version": "2026-03-11"}
    refused: list[dict[str, Any]] = [
        {"page_size": 101},
        {"filter": {"property": "object", "value": "database"}},
        {"sorts": []},
    ]
    for body in refused:
        httpx.post(f"{account.vendor.url}/v1/search", json=body, headers=headers, trust_env=False)
    httpx.post(
        f"{account.vendor.url}/v1/search", json={}, headers={"Authorization": "Bearer test-token"}, trust_env=False
    )
    assert len(account.vendor.violations) == 4
    account.vendor.violations.clear()


def _too_much_above(results: int) -> Fault:
    def matches(request: Request) -> bool:
        return request.path == "/v1/search" and request.json.get("page_size", 0) > results

    return Fault(matches, answer=error(504, "gateway_timeout"), times=1000)
