"""What Gmail's refusals and strange answers become: each documented error, and everything that is no answer of Gmail's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.faults import FAULTS
from tests.fakes.gmail import error
from tests.fakes.gmail_mailbox import START, Mailbox
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.gmail_stage import OpenedGmail
from tests.sources.mirror import Mirror
from tests.sources.spoiling import Spoiling
from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import JobType
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.gmail.connector import READ_SCOPE

NOT_FOUND = error(404, "notFound", "Requested entity was not found.")


@pytest.fixture
def vendor() -> Iterator[OpenedGmail]:
    with OpenedGmail() as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


@pytest.fixture
def mailbox(vendor: OpenedGmail) -> Mailbox:
    return vendor.mailbox


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (error(403, "domainPolicy"), ReauthorizeError, "administrators"),
        (error(403, "insufficientPermissions"), ReauthorizeError, "grant"),
        (error(403, "accessNotConfigured"), InvalidRequestError, "not enabled for the OAuth client"),
        (error(403, "forbidden", "Delegation denied for x"), ReauthorizeError, "denies access"),
        (error(400, "failedPrecondition", "Mail service not enabled"), ReauthorizeError, "has no Gmail"),
        (error(400, "invalidArgument"), UnexpectedReplyError, "parameter"),
        (error(404, "notFound"), UnexpectedReplyError, "not there"),
        (error(401, "authError"), ReauthorizeError, "."),
        (error(429, "rateLimitExceeded"), RateLimitedError, "wait 10 s"),
        (error(403, "dailyLimitExceeded"), RateLimitedError, "wait 3600 s"),
        (error(403, "rateLimitExceeded", headers={"Retry-After": "77"}), RateLimitedError, "wait 77 s"),
        (error(500, "backendError"), RetryableError, "500"),
        (error(503, "backendError"), RetryableError, "503"),
        (Answer(403, b"<html>blocked by a proxy</html>"), UnexpectedReplyError, "something between"),
        (Answer(404, b"<html>no such page</html>"), UnexpectedReplyError, "something between"),
        (LOGIN_PAGE, UnexpectedReplyError, "HTML|html|JSON"),
    ],
)
def test_each_refusal_demands_its_action(
    vendor: OpenedGmail, answer: Answer, kind: type[WorkstationError], words: str
) -> None:
    vendor.fail("/profile", answer=answer, times=99)
    with pytest.raises(kind, match=words) as found:
        vendor.open().check()
    assert type(found.value) in (kind, *kind.__subclasses__())


def test_a_rate_limit_tells_its_time_in_a_sentence(vendor: OpenedGmail) -> None:
    until = (START + timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%S.247Z")
    vendor.throttle("/profile", times=9, until=until)
    with pytest.raises(RateLimitedError) as found:
        vendor.open().check()
    assert 899 < found.value.wait_s < 902
    assert vendor.calls("/profile") == 1


def test_a_short_rate_limit_is_waited_for(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("One", "one")
    vendor.throttle("/threads/", times=2)
    mirror.sync(vendor.open())
    assert list(mirror.live) == [thread]


def test_a_spent_quota_is_told_with_its_minute(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    for number in range(3):
        mailbox.receive(f"Mail {number}", "text")
    vendor.units_left = 60
    with pytest.raises(RateLimitedError) as found:
        mirror.sync(vendor.open())
    assert found.value.wait_s == 30
    vendor.refill()
    mirror.sync(vendor.open())
    assert len(mirror.live) == 3


def test_a_grant_for_metadata_only_is_told_and_named_as_missing(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    scope = "https://www.googleapis.com/auth/gmail.metadata"
    mailbox.receive("One", "one")
    vendor.scopes["test-token"] = frozenset([scope])
    gmail = vendor.open(context={"credentials": StaticToken("test-token", frozenset([scope]))})
    assert gmail.check().missing_scopes == (READ_SCOPE,)
    with pytest.raises(ReauthorizeError, match="grant"):
        mirror.sync(gmail)


def test_a_wider_grant_is_enough(vendor: OpenedGmail) -> None:
    granted = frozenset(["https://mail.google.com/"])
    account = vendor.open(context={"credentials": StaticToken("test-token", granted)}).check()
    assert (account.scopes, account.missing_scopes) == (["https://mail.google.com/"], ())


def test_without_credentials_it_says_how_to_connect(vendor: OpenedGmail) -> None:
    with pytest.raises(ReauthorizeError, match="workstation source connect NAME"):
        vendor.open(context={"credentials": None})


def test_a_token_that_is_refused_asks_to_connect_again(vendor: OpenedGmail) -> None:
    with pytest.raises(ReauthorizeError):
        vendor.open(context={"credentials": StaticToken("another")}).check()


@pytest.mark.parametrize(
    ("answer", "is_expired"),
    [
        (NOT_FOUND, True),
        (error(400, "invalidArgument"), False),
        (error(500, "backendError"), False),
        (error(403, "rateLimitExceeded"), False),
        (Answer(404, b"<html>no such page</html>"), False),
        (Answer.of({"message": "no route"}, 404), False),
        (LOGIN_PAGE, False),
        (Answer.of({}), False),
        (Answer.of({"historyId": 12}), False),
        (Answer.of({"historyId": "x", "history": []}), False),
        (Answer.of({"historyId": "12", "history": "many"}), False),
    ],
)
def test_only_gmails_own_404_expires_a_position(
    vendor: OpenedGmail, mirror: Mirror, answer: Answer, is_expired: bool
) -> None:
    gmail = vendor.open()
    mirror.sync(gmail)
    vendor.fail("/history", answer=answer, times=99)
    with pytest.raises(CursorExpiredError if is_expired else RetryableError):
        list(gmail.pages(mirror.cursor, mirror, JobType.DELTA))


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("/profile", {"emailAddress": "me@example.com"}),
        ("/profile", {"emailAddress": "me@example.com", "historyId": 12}),
        ("/messages", {}),
        ("/messages", {"messages": None, "resultSizeEstimate": 3}),
        ("/messages", {"messages": {"id": "1"}}),
        ("/messages", {"messages": [], "nextPageToken": 7}),
        ("/labels", {}),
    ],
)
def test_a_page_without_what_it_promises_deletes_nothing(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror, part: str, fields: dict[str, Any]
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(vendor.open(labels=["INBOX"]))
    vendor.fail(part, answer=Answer.of(fields), times=99)
    with pytest.raises(UnexpectedReplyError):
        mirror.sync(vendor.open(labels=["INBOX"]), full=True)
    assert list(mirror.live) == [thread]


@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.parametrize("part", ["/profile", "/messages", "/threads/", "/history"])
def test_no_fault_of_the_way_deletes_or_skips_anything(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror, part: str, name: str
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(vendor.open())
    other = mailbox.receive("Two", "two")
    vendor.fail(part, **{**FAULTS[name], "slow_s": 0.0})
    try:
        mirror.sync(vendor.open(), full=part != "/history")
    except RetryableError:
        assert thread in mirror.live
    mirror.sync(vendor.open(), full=True)
    assert set(mirror.live) == {thread, other}


def test_an_entry_without_a_thread_is_one_failure_and_nothing_is_swept(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    first, second = mailbox.receive("One", "one"), mailbox.receive("Two", "two")
    mirror.sync(vendor.open())
    entries = [{"id": first, "threadId": first}, {"id": "m2"}, {"threadId": "t3"}, {"id": 4, "threadId": []}, "five"]
    vendor.fail("/messages", answer=Answer.of({"messages": entries, "resultSizeEstimate": 5}))
    report = mirror.sync(vendor.open(), full=True)
    assert report.failures == ["m2", "messages", "messages", "messages"]
    assert set(mirror.live) == {first, second}


def test_a_message_id_that_no_encoding_holds_holds_up_nobody(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    odd = mailbox.receive("odd", "with an odd id")
    mailbox.receive("plain", "with its own")
    with Spoiling(vendor, odd).spoiled(("id",), "a\ud800b"):
        mirror.sync(vendor.open())
    assert len(mirror.texts()) == 2


def test_a_change_without_a_thread_is_one_failure_and_the_others_go_on(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    gmail = vendor.open()
    mirror.sync(gmail)
    thread = mailbox.receive("One", "one")
    good = {"id": str(mailbox.history_id), "messagesAdded": [{"message": {"id": thread, "threadId": thread}}]}
    history = [
        "no record",
        {"id": "1", "messagesAdded": [{"message": {"id": "m1"}}, {}, "entry"], "labelsAdded": {}},
        {"id": [], "unknownKind": [{"message": {"id": "m2", "threadId": "t2"}}]},
        good,
    ]
    vendor.fail("/history", answer=Answer.of({"history": history, "historyId": str(mailbox.history_id)}))
    report = mirror.sync(gmail)
    assert report.failures == ["history", "m1", "history"]
    assert report.fetched == [thread]


def test_no_message_of_an_error_tells_what_the_mail_says(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("Secret subject", "secret text")
    vendor.fail("/threads/", answer=Answer.of({"messages": [{"snippet": "secret text"}]}), times=9)
    with pytest.raises(UnexpectedReplyError) as found:
        mirror.sync(vendor.open(query="secret"))
    told = f"{found.value.message} {found.value.details}"
    assert thread in told
    assert "ecret" not in told
    assert "test-token" not in told


def test_another_users_mailbox_is_not_seen(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    mailbox.receive("Mine", "mine")
    vendor.tokens["other-token"] = "user-2"
    vendor.mailboxes["user-2"] = Mailbox("other@example.com")
    theirs = vendor.mailboxes["user-2"].receive("Theirs", "theirs")
    mirror.sync(vendor.open(context={"credentials": StaticToken("other-token")}))
    assert list(mirror.live) == [theirs]
    assert "theirs" in mirror.contents[theirs].body.decode()


@pytest.mark.parametrize(
    "config", [{"labels": "INBOX"}, {"labels": [1]}, {"include_chats": True}, {"query": 3}, {"max_file_bytes": 0}]
)
def test_a_config_that_cannot_be_used_is_refused_by_key(vendor: OpenedGmail, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(config))):
        vendor.open(**config)
