"""Google Drive: outages, limits, refusals and answers that are not what its contract says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.google_drive import FakeGoogleDrive, RefusalError
from tests.fakes.google_drive_state import COLLEAGUE, ME
from tests.fakes.server import LOGIN_PAGE, Answer, Fault
from tests.sources.google_drive_account import NOW, Account
from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnsupportedContentError,
    WorkstationError,
)
from workstation_pipelines.model import JobType
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.google_drive.calls import CHANGES, FILE, FILES
from workstation_pipelines.sources.google_drive.errors import classify
from workstation_pipelines.sources.http import Call, Reply


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGoogleDrive]:
    with FakeGoogleDrive() as opened:
        yield opened


@pytest.fixture
def account(fake: FakeGoogleDrive) -> Iterator[Account]:
    with Account(fake) as opened:
        yield opened


def classified(call: Call, status: int, reason: str, location: str = "") -> WorkstationError | None:
    fields = {"error": {"code": status, "errors": [{"reason": reason, "location": location}]}}
    return classify(Reply(call, status, httpx.Headers(), fields, is_json=True), lambda: NOW)


@pytest.mark.parametrize(
    ("call", "status", "reason", "expected"),
    [
        (FILE, 403, "rateLimitExceeded", RateLimitedError),
        (FILE, 403, "userRateLimitExceeded", RateLimitedError),
        (FILE, 403, "dailyLimitExceeded", RateLimitedError),
        (FILE, 429, "rateLimitExceeded", RateLimitedError),
        (FILE, 429, "", RateLimitedError),
        (FILE, 403, "exportSizeLimitExceeded", ItemTooLargeError),
        (FILE, 403, "fileNotExportable", UnsupportedContentError),
        (FILE, 403, "cannotDownloadAbusiveFile", SkipItemError),
        (FILE, 403, "downloadQuotaExceeded", SkipItemError),
        (FILE, 403, "cannotExportFile", SkipItemError),
        (FILE, 403, "cannotDownloadFile", SkipItemError),
        (FILE, 403, "fileNotDownloadable", SkipItemError),
        (FILE, 403, "insufficientFilePermissions", SkipItemError),
        (FILE, 403, "appNotAuthorizedToFile", SkipItemError),
        (FILES, 403, "insufficientPermissions", ReauthorizeError),
        (FILES, 403, "accessNotConfigured", ReauthorizeError),
        (FILES, 403, "domainPolicy", ReauthorizeError),
        (FILE, 404, "notFound", ItemGoneError),
    ],
)
def test_each_documented_reason_has_its_error(
    call: Call, status: int, reason: str, expected: type[WorkstationError]
) -> None:
    assert type(classified(call, status, reason)) is expected


@pytest.mark.parametrize(
    ("call", "status", "location", "is_expired"),
    [
        (CHANGES, 400, "pageToken", True),
        (CHANGES, 404, "pageToken", True),
        (CHANGES, 410, "", True),
        (CHANGES, 400, "fields", False),
        (CHANGES, 404, "driveId", False),
        (CHANGES, 500, "pageToken", False),
        (FILES, 400, "pageToken", True),
        (FILES, 400, "q", False),
        (FILE, 410, "", False),
    ],
)
def test_a_token_has_expired_only_where_drive_says_so_of_the_token(
    call: Call, status: int, location: str, is_expired: bool
) -> None:
    assert isinstance(classified(call, status, "invalid", location), CursorExpiredError) is is_expired


@pytest.mark.parametrize(
    "fields", [{}, {"error": "invalid_grant"}, {"error": {"errors": []}}, {"error": {"errors": ["x"]}}]
)
def test_a_refusal_without_a_reason_goes_by_its_status(fields: dict[str, Any]) -> None:
    assert classify(Reply(FILES, 403, httpx.Headers(), fields, is_json=True), lambda: NOW) is None


def test_a_short_limit_is_waited_for_and_a_long_one_is_raised(account: Account) -> None:
    account.state.add_file("a.txt", "alpha")
    account.fake.throttle("/files", status=403)
    account.fake.throttle("/changes", retry_after="2")
    account.sync()
    assert account.paths() == ["My Drive/a.txt"]
    assert account.waits_s == [pytest.approx(2, rel=0.3)] * 2
    account.fake.throttle("/changes", retry_after="600")
    with pytest.raises(RateLimitedError) as caught:
        account.sync()
    assert caught.value.wait_s == 600


def test_the_meanest_limit_slows_down_and_loses_nothing(account: Account) -> None:
    account.fake.strict_every, account.fake.page_cap = 2, 3
    for number in range(10):
        account.state.add_file(f"{number}.txt", str(number))
    account.sync()
    assert len(account.texts()) == 10


@pytest.mark.parametrize(
    "fault",
    [{"answer": Answer(503)}, {"truncate": True}, {"drop": True}, {"answer": Answer.of([])}, {"answer": LOGIN_PAGE}],
)
@pytest.mark.parametrize("part", ["/files", "/changes", "/drives", "startPageToken", "/files/root"])
def test_no_outage_is_ever_taken_for_an_answer(account: Account, part: str, fault: dict[str, Any]) -> None:
    account.state.add_file("a.txt", "alpha", account.state.add_drive("Sales"))
    account.sync()
    before, cursor = dict(account.mirror.live), account.mirror.cursor
    account.state.add_file("b.txt", "beta")
    account.fake.fail(part, times=9, **fault)
    with pytest.raises(SourceUnavailableError):
        account.sync(full=part != "/changes")
    account.fake.faults.clear()
    assert (account.mirror.live, account.mirror.cursor) == (before, cursor)
    account.sync()
    assert account.paths() == ["My Drive/b.txt", "Shared drives/Sales/a.txt"]


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("/files", {"incompleteSearch": False}),
        ("/files", {"files": {}}),
        ("/files", {"files": [], "nextPageToken": 7}),
        ("/drives", {"kind": "drive#driveList"}),
        ("startPageToken", {}),
        ("startPageToken", {"startPageToken": ""}),
    ],
)
def test_a_listing_page_without_what_makes_it_one_is_an_unexpected_reply(
    account: Account, part: str, answer: dict[str, Any]
) -> None:
    account.fake.faults.append(_fault(f"/drive/v3/changes/{part}" if part[0] != "/" else f"/drive/v3{part}", answer))
    with pytest.raises(UnexpectedReplyError):
        account.sync()


@pytest.mark.parametrize(
    "answer", [{"changes": []}, {"newStartPageToken": "9"}, {"changes": 7, "newStartPageToken": "9"}]
)
def test_a_log_page_without_what_makes_it_one_is_an_unexpected_reply(account: Account, answer: dict[str, Any]) -> None:
    account.sync()
    account.fake.faults.append(_fault("/drive/v3/changes", answer))
    with pytest.raises(UnexpectedReplyError):
        account.sync()


def _fault(path: str, answer: dict[str, Any], times: int = 1) -> Fault:
    return Fault(lambda request: request.path == path, answer=Answer.of(answer), times=times)


@pytest.mark.parametrize("path", ["/drive/v3/files", "/drive/v3/drives"])
def test_a_listing_that_gives_the_same_page_token_again_and_again_ends(account: Account, path: str) -> None:
    answer = {"files": [], "drives": [], "nextPageToken": "again"}
    account.fake.faults.append(_fault(path, answer, times=50))
    with pytest.raises(UnexpectedReplyError):
        account.sync()
    assert len(account.fake.requests) < 10


def test_a_log_that_gives_the_same_page_token_again_and_again_ends(account: Account) -> None:
    account.sync()
    account.fake.faults.append(_fault("/drive/v3/changes", {"changes": [], "nextPageToken": "again"}, times=50))
    with pytest.raises(UnexpectedReplyError):
        account.sync()


def test_a_listing_whose_page_tokens_are_always_refused_ends(account: Account) -> None:
    account.fake.page_cap = 1
    for number in range(3):
        account.state.add_file(f"{number}.txt", str(number))
    refused = RefusalError(400, "invalid", "Invalid Value", "pageToken").answer
    account.fake.faults.append(Fault(lambda request: request.one("pageToken") is not None, answer=refused, times=99))
    with pytest.raises(UnexpectedReplyError):
        account.sync()


@pytest.mark.parametrize(
    "field", ["name", "mimeType", "parents", "driveId", "sha256Checksum", "webViewLink", "resourceKey"]
)
def test_a_file_oddly_described_harms_no_other(account: Account, field: str) -> None:
    bad = account.state.add_file("bad.txt", "bad", instead={field: 7})
    account.state.add_file("good.txt", "good")
    assert account.sync().failures == [bad]
    account.state.touch(bad)
    assert account.sync().failures == [bad]
    assert account.paths() == ["My Drive/good.txt"]
    account.fake.violations.clear()  # it answered what Drive never does


@pytest.mark.parametrize("field", ["name", "mimeType"])
def test_a_file_without_a_name_or_a_type_is_a_failure(account: Account, field: str) -> None:
    bad = account.state.add_file("bad.txt", "bad", without={field})
    assert account.sync().failures == [bad]


@pytest.mark.parametrize(
    "field", ["parents", "createdTime", "modifiedTime", "size", "webViewLink", "ownedByMe", "trashed", "sha256Checksum"]
)
def test_any_other_field_may_be_missing(account: Account, field: str) -> None:
    account.state.add_file("a.txt", "alpha", without={field})
    account.sync()
    assert list(account.texts().values()) == ["alpha"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("createdTime", "1601-01-01T00:00:00.000Z"),
        ("modifiedTime", "yesterday"),
        ("modifiedTime", 7),
        ("size", "many"),
        ("size", 5),
        ("trashed", "no"),
        ("name", "n" * 4000),
        ("name", "a\x00b\ud800c"),
        ("name", "../../etc"),
    ],
)
def test_odd_values_are_survived(account: Account, field: str, value: object) -> None:
    key = account.state.add_file("a.txt", "alpha", instead={field: value})
    account.sync()
    item = account.mirror.live[key]
    assert item.external_path.count("/") == 1
    assert item.external_created_at is None or item.external_created_at.year == 2026
    account.fake.violations.clear()  # it answered what Drive never does


def test_entries_of_the_log_that_are_none_are_told_of(account: Account) -> None:
    account.sync()
    changes = [
        7,
        {},
        {"changeType": "file", "fileId": "1X"},
        {"changeType": "novel"},
        {"changeType": "drive", "removed": True},
    ]
    account.fake.faults.append(_fault("/drive/v3/changes", {"changes": changes, "newStartPageToken": "1001"}))
    assert account.sync().failures[0] == "an unnamed change"


def test_a_refused_token_asks_for_a_new_connection(account: Account) -> None:
    source = account.open(credentials=StaticToken("of yesterday"))
    with pytest.raises(ReauthorizeError):
        source.check()
    source.close()


def test_a_grant_for_own_files_only_is_told_as_too_little(account: Account) -> None:
    scope = "https://www.googleapis.com/auth/"
    for granted, missing in (
        ({"drive.file"}, (f"{scope}drive.readonly",)),
        ({"drive.readonly"}, ()),
        ({"drive"}, ()),
        (set(), ()),
    ):
        source = account.open(credentials=StaticToken("test-token", frozenset(f"{scope}{name}" for name in granted)))
        assert source.check().missing_scopes == missing
        source.close()


@pytest.mark.parametrize(
    ("config", "named"), [({"folders": ["1Nowhere"]}, "1Nowhere"), ({"shared_drives": ["0Nowhere"]}, "0Nowhere")]
)
def test_check_refuses_what_this_account_does_not_have(account: Account, config: dict[str, object], named: str) -> None:
    account.config = config
    source = account.open()
    with pytest.raises(InvalidRequestError, match=named):
        source.check()
    source.close()


def test_a_shared_drive_lost_while_it_is_listed_deletes_nothing(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("a.txt", "alpha", drive)
    account.sync()
    lost = RefusalError(404, "notFound", "Shared drive not found", "driveId").answer
    account.fake.faults.append(Fault(lambda request: request.one("corpora") == "drive", answer=lost))
    source = account.open()
    pages = list(source.pages(None, account.mirror, JobType.FULL_SYNC))
    source.close()
    assert [failure.external_id for page in pages for failure in page.failures] == [f"drive:{drive}"]
    assert not any(page.complete for page in pages)


def test_messages_carry_no_text_no_name_and_no_token(account: Account) -> None:
    key = account.state.add_file("secret.txt", "secret", owner=COLLEAGUE, readers={ME}, can_download=False)
    account.sync()
    with pytest.raises(SkipItemError) as caught:
        account.fetch(key)
    assert "secret" not in str(caught.value)
    assert "test-token" not in str(caught.value)


@pytest.mark.parametrize("part", ["/files/root", "/drives", "startPageToken"])
def test_a_refusal_of_the_whole_account_is_not_one_of_an_item(account: Account, part: str) -> None:
    account.fake.fail(part, answer=RefusalError(403, "forbidden", "Forbidden").answer)
    with pytest.raises(UnexpectedReplyError):
        account.sync()
