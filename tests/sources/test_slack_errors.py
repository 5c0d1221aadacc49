"""What Slack's refusals, lies and limits become."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.server import LOGIN_PAGE, Answer, Fault
from tests.fakes.slack import ALL_SCOPES, TOKEN, FakeSlack
from tests.sources.mirror import Mirror
from tests.sources.slack_account import context_of, open_slack, sync
from tests.sources.spoiling import Spoiling
from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import JobType
from workstation_pipelines.sources import http
from workstation_pipelines.sources.slack.api import error_of
from workstation_pipelines.sources.slack.connector import Slack

DAY = timedelta(days=1)


@pytest.fixture
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the transport waited for, without waiting."""
    waits_s: list[float] = []
    monkeypatch.setattr(time, "sleep", waits_s.append)
    monkeypatch.setattr(http.VendorApi.__init__, "__kwdefaults__", {**_defaults(), "sleep": waits_s.append})
    return waits_s


def _defaults() -> Mapping[str, Any]:
    return http.VendorApi.__init__.__kwdefaults__ or {}


@pytest.fixture
def vendor(waits_s: list[float]) -> Iterator[FakeSlack]:
    with FakeSlack() as vendor:
        yield vendor
        assert vendor.violations == []
        assert vendor.writes == []


@pytest.fixture
def general(vendor: FakeSlack) -> str:
    return vendor.add_channel("general")


def refusal(code: str, **fields: Any) -> Answer:
    return Answer.of({"ok": False, "error": code, **fields})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ratelimited", RateLimitedError),
        ("invalid_auth", ReauthorizeError),
        ("not_authed", ReauthorizeError),
        ("token_expired", ReauthorizeError),
        ("token_revoked", ReauthorizeError),
        ("account_inactive", ReauthorizeError),
        ("missing_scope", ReauthorizeError),
        ("no_permission", ReauthorizeError),
        ("access_denied", ReauthorizeError),
        ("not_allowed_token_type", ReauthorizeError),
        ("org_login_required", ReauthorizeError),
        ("two_factor_setup_required", ReauthorizeError),
        ("team_access_not_granted", ReauthorizeError),
        ("not_in_channel", SkipItemError),
        ("is_archived", SkipItemError),
        ("method_not_supported_for_channel_type", SkipItemError),
        ("channel_not_found", ItemGoneError),
        ("thread_not_found", ItemGoneError),
        ("message_not_found", ItemGoneError),
        ("user_not_found", ItemGoneError),
        ("file_not_found", ItemGoneError),
        ("file_deleted", ItemGoneError),
        ("internal_error", SourceUnavailableError),
        ("fatal_error", SourceUnavailableError),
        ("service_unavailable", SourceUnavailableError),
        ("request_timeout", SourceUnavailableError),
        ("team_added_to_org", SourceUnavailableError),
        ("invalid_cursor", UnexpectedReplyError),
        ("invalid_limit", UnexpectedReplyError),
        ("invalid_ts_latest", UnexpectedReplyError),
        ("invalid_arguments", UnexpectedReplyError),
        ("method_deprecated", UnexpectedReplyError),
        ("unknown_method", UnexpectedReplyError),
        ("made_up_tomorrow", UnexpectedReplyError),
        (None, UnexpectedReplyError),
        ("<script>words of someone</script>", UnexpectedReplyError),
    ],
)
def test_each_error_code_demands_one_thing(code: str | None, kind: type[WorkstationError]) -> None:
    error = error_of("conversations.history", code, needed="channels:history")
    assert type(error) is kind
    assert "someone" not in error.message
    assert "conversations.history" in error.message


def test_a_missing_scope_is_named() -> None:
    assert (
        "the scope groups:read is needed"
        in error_of("conversations.list", "missing_scope", needed="groups:read").message
    )


@pytest.mark.parametrize("code", ["invalid_auth", "token_revoked", "account_inactive"])
def test_a_revoked_token_ends_the_sync_with_nothing_deleted(vendor: FakeSlack, general: str, code: str) -> None:
    vendor.post(general, "stays")
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.refusals[TOKEN] = code

    with pytest.raises(ReauthorizeError):
        sync(mirror, vendor)

    assert len(mirror.live) == 1


def test_an_expired_token_is_replaced_once_though_slack_says_so_with_status_200(
    vendor: FakeSlack, general: str
) -> None:
    class Renewed:
        renewals = 0

        def access_token(self, *, rejected: str | None = None) -> str:
            if rejected is not None:
                self.renewals += 1
            return TOKEN if self.renewals else "expired"

        def scopes(self) -> frozenset[str]:
            return frozenset()

        def transport(self, inner: Any) -> Any:
            return inner

    vendor.post(general, "hello")
    vendor.refusals["expired"] = "token_expired"
    renewed, mirror = Renewed(), Mirror()
    source = Slack.open({}, context_of(vendor, credentials=renewed))

    mirror.sync(source)
    source.close()

    assert len(mirror.live) == 1
    assert renewed.renewals == 1


def test_a_missing_scope_for_a_kind_of_channel_names_it(vendor: FakeSlack, general: str) -> None:
    vendor.scopes[TOKEN] = tuple(scope for scope in ALL_SCOPES if scope != "groups:read")
    with pytest.raises(ReauthorizeError, match="groups:read"):
        sync(Mirror(), vendor, types=["private_channel"])


@pytest.mark.parametrize(
    "method", ["auth.test", "conversations.list", "conversations.history", "conversations.replies"]
)
@pytest.mark.parametrize(
    "answer",
    [
        LOGIN_PAGE,
        Answer.of({}),
        Answer.of([]),
        Answer.of({"messages": [], "channels": []}),
        Answer.of({"ok": True}),
        Answer(200, b""),
        Answer(200, b"{"),
        refusal("made_up_tomorrow"),
    ],
)
def test_an_answer_that_is_not_slacks_deletes_nothing(
    vendor: FakeSlack, general: str, method: str, answer: Answer
) -> None:
    parent = vendor.post(general, "parent")
    vendor.post(general, "answer", thread=parent)
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.post(general, "another answer", thread=parent)
    vendor.fail(method, answer=answer, times=9)

    with pytest.raises((SourceUnavailableError, ReauthorizeError)):
        sync(mirror, vendor)

    assert len(mirror.live) == 1


@pytest.mark.parametrize("code", ["internal_error", "fatal_error"])
def test_a_passing_error_is_tried_again(vendor: FakeSlack, general: str, waits_s: list[float], code: str) -> None:
    vendor.post(general, "hello")
    vendor.fail("conversations.history", answer=refusal(code), times=2)
    mirror = Mirror()

    sync(mirror, vendor)

    assert len(mirror.live) == 1
    assert len(waits_s) == 2


def test_a_short_wait_is_waited_for_and_a_long_one_is_told(
    vendor: FakeSlack, general: str, waits_s: list[float]
) -> None:
    limited = {"ok": False, "error": "ratelimited"}
    vendor.post(general, "hello")
    vendor.fail("conversations.history", answer=Answer.of(limited, 429, {"Retry-After": "2"}))
    sync(Mirror(), vendor)
    assert 2 <= waits_s[0] < 3

    vendor.fail("conversations.history", answer=Answer.of(limited, 429, {"Retry-After": "60"}))
    with pytest.raises(RateLimitedError) as raised:
        sync(Mirror(), vendor)
    assert raised.value.wait_s == 60


@pytest.mark.parametrize("user", ["\ud800", "a b", "U9\0"])
def test_an_id_that_slack_gave_to_nobody_is_not_asked_for(vendor: FakeSlack, general: str, user: str) -> None:
    ts = vendor.post(general, "hello")
    vendor.post(general, "hello again")
    mirror = Mirror()

    with Spoiling(vendor, ts).spoiled(("user",), user):
        sync(mirror, vendor)

    assert len(mirror.live) == 2
    assert vendor.calls("users.info") == 0


def test_a_limit_on_the_list_of_members_does_not_hold_up_the_messages(vendor: FakeSlack, general: str) -> None:
    vendor.post(general, "hello")
    limited = Answer.of({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": "60"})
    vendor.fail("users.list", answer=limited)
    mirror = Mirror()

    sync(mirror, vendor)

    assert "Ana Gómez" in next(iter(mirror.texts().values()))


@pytest.mark.parametrize("code", ["not_in_channel", "channel_not_found"])
@pytest.mark.parametrize("full", [False, True])
def test_a_channel_that_cannot_be_read_is_one_failure_and_the_others_go_on(
    vendor: FakeSlack, general: str, code: str, full: bool
) -> None:
    other = vendor.add_channel("other")
    vendor.post(general, "stays")
    vendor.post(other, "first")
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.post(other, "second")
    vendor.faults.append(_history_of(general, refusal(code)))

    report = sync(mirror, vendor, full=full)

    assert report.failures == [f"T0ACME:{general}"]
    assert report.deleted == []
    assert len(mirror.live) == 3


def test_a_bot_reads_where_it_was_invited(vendor: FakeSlack, general: str) -> None:
    vendor.add_user("U9BOT", "bot", "Bot")
    vendor.tokens["xoxb-1"], vendor.scopes["xoxb-1"] = "U9BOT", ALL_SCOPES
    vendor.bots.add("U9BOT")
    vendor.post(general, "not for the bot")
    invited = vendor.add_channel("invited", members=["U9BOT"])
    vendor.post(invited, "for the bot")
    mirror = Mirror()

    source = open_slack(vendor, token="xoxb-1")
    mirror.sync(source)
    source.close()

    assert len(mirror.live) == 1


@pytest.mark.parametrize("mend", [lambda one: None, lambda one: {**one, "text": 5}, lambda one: "text"])
def test_one_message_that_cannot_be_understood_is_one_failure(
    vendor: FakeSlack, general: str, mend: Callable[[dict[str, Any]], Any]
) -> None:
    stamps = [vendor.post(general, f"message {number}") for number in range(3)]
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.post(general, "new")
    shown = [vendor.message(general, ts) for ts in sorted(vendor.channels[general].messages, reverse=True)]
    shown[1] = mend(shown[1])
    vendor.fail("history", answer=Answer.of({"ok": True, "messages": shown, "has_more": False}))

    report = sync(mirror, vendor)

    assert len(report.failures) == 1
    assert report.deleted == []
    assert len(mirror.live) == 4
    assert stamps


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [], "has_more": True},
        {"messages": [{"type": "message", "text": "no ts"}], "has_more": True},
        {"messages": [{"type": "message", "ts": "2000000000.000000", "text": "tomorrow"}], "has_more": False},
    ],
)
def test_a_page_that_leads_nowhere_is_an_error(vendor: FakeSlack, general: str, fields: dict[str, Any]) -> None:
    vendor.fail("history", answer=Answer.of({"ok": True, **fields}))
    with pytest.raises(UnexpectedReplyError):
        sync(Mirror(), vendor)


def test_a_page_that_comes_twice_is_an_error(vendor: FakeSlack, general: str) -> None:
    ts = vendor.post(general, "message")
    page = Answer.of({"ok": True, "messages": [vendor.message(general, ts)], "has_more": True})
    vendor.fail("history", answer=page, times=5)
    with pytest.raises(UnexpectedReplyError):
        sync(Mirror(), vendor)
    assert vendor.calls("history") == 2


def test_an_empty_page_with_more_behind_it_is_followed_by_its_cursor(vendor: FakeSlack, general: str) -> None:
    ts = vendor.post(general, "message")
    nothing = {"ok": True, "messages": [], "has_more": True}
    cursor = "bmV4dDoyMDAwMDAwMDAwLjAwMDAwMA=="
    vendor.fail("history", answer=Answer.of({**nothing, "response_metadata": {"next_cursor": cursor}}))
    mirror = Mirror()

    sync(mirror, vendor)

    assert list(mirror.live) == [f"T0ACME:{general}:{ts}"]


@pytest.mark.parametrize("method", ["conversations.list", "conversations.replies", "users.list"])
def test_a_cursor_that_repeats_is_an_error(vendor: FakeSlack, general: str, method: str) -> None:
    parent = vendor.post(general, "parent")
    vendor.post(general, "answer", thread=parent)
    empty: dict[str, Any] = {"ok": True, "channels": [], "messages": [], "members": [], "has_more": True}
    vendor.fail(method, answer=Answer.of({**empty, "response_metadata": {"next_cursor": "same"}}), times=50)

    with pytest.raises(UnexpectedReplyError, match="repeat"):
        sync(Mirror(), vendor)
    assert vendor.calls(method) == 2


def test_members_and_channels_of_any_shape_are_survived(vendor: FakeSlack, general: str) -> None:
    vendor.post(general, "hello")
    members = [
        None,
        5,
        {},
        {"id": 7},
        {"id": "U5"},
        {"id": "U1ANA", "profile": {"display_name": 4}, "real_name": ["x"]},
    ]
    vendor.fail("users.list", answer=Answer.of({"ok": True, "members": members}))
    mine = {"id": general, "is_member": True, "name": "n" * 4000, "previous_names": "x"}
    channels = [None, {}, {"id": None}, {"id": "C5"}, {"id": "D6", "is_im": True, "user": 5, "is_archived": True}, mine]
    vendor.fail("conversations.list", answer=Answer.of({"ok": True, "channels": channels}))
    mirror = Mirror()

    sync(mirror, vendor)

    (item,) = mirror.live.values()
    assert len(item.external_path) < 200
    assert "U1ANA (" in mirror.contents[item.external_id].body.decode()


@pytest.mark.parametrize("fault", [{"truncate": True}, {"drop": True}, {"answer": Answer(502, b"<html>")}])
def test_a_broken_line_is_tried_again(vendor: FakeSlack, general: str, fault: dict[str, Any]) -> None:
    vendor.post(general, "hello")
    vendor.fail("history", **fault)
    mirror = Mirror()

    sync(mirror, vendor)

    assert len(mirror.live) == 1


def test_what_was_read_again_before_a_limit_is_kept(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parents = [vendor.post(general, f"parent {number}") for number in range(4)]
    replies = [vendor.post(general, "first words", thread=parent) for parent in parents]
    sync(mirror, vendor)
    for reply in replies:
        vendor.edit(general, reply, "second words")
    limited = Answer.of({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": "60"})
    vendor.fail("replies", answer=limited, after=2)

    source = open_slack(vendor)
    changed: list[str] = []

    def listen() -> None:
        for page in source.pages(mirror.cursor, mirror, JobType.DELTA):
            changed.extend(change.external_id for change in page.changes)

    with pytest.raises(RateLimitedError):
        listen()
    source.close()

    assert changed == [f"T0ACME:{general}:{parent}" for parent in parents[:2]]


def _history_of(channel: str, answer: Answer) -> Fault:
    return Fault(
        lambda request: "history" in request.path and request.one("channel") == channel, answer=answer, times=9
    )
