"""Google's own client reads the fake, and sees what the connector sees."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import google.auth.credentials
import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.fakes.gmail_mailbox import YEAR, File, Mailbox
from tests.sources.gmail_stage import OpenedGmail
from tests.sources.mirror import Mirror


class Token(google.auth.credentials.Credentials):
    """The fake's token, which never needs a refresh."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "test-token"

    def refresh(self, request: Any) -> None:
        raise AssertionError("the fake refused its own token")


@pytest.fixture
def vendor() -> Iterator[OpenedGmail]:
    with OpenedGmail() as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


@pytest.fixture
def mailbox(vendor: OpenedGmail) -> Mailbox:
    """A mailbox with a bit of everything."""
    mailbox = vendor.mailbox
    thread = mailbox.receive("Roof", "the offer", files=[File("offer.txt", b"twelve thousand", "text/plain")])
    mailbox.reply(thread, "the answer", labels=("SENT",))
    mailbox.save_draft("Roof", "a draft", thread=thread)
    mailbox.receive("Old", html="<p>old news</p>", age=YEAR)
    mailbox.trash(mailbox.receive("Gone", "gone"))
    return mailbox


@pytest.fixture
def users(vendor: OpenedGmail) -> Iterator[Any]:
    service = build(
        "gmail",
        "v1",
        credentials=Token(),
        client_options={"api_endpoint": vendor.url},
        static_discovery=True,
        cache_discovery=False,
    )
    yield service.users()
    service.close()


def every(resource: Any, field: str, **params: Any) -> list[Any]:
    """All entries of all pages. The client's own `list_next` gives up on a parameter that is repeated."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = resource.list(userId="me", pageToken=token, **params).execute()
        found += page.get(field, [])
        token = page.get("nextPageToken")
        if token is None:
            return found


def test_a_full_listing_agrees(vendor: OpenedGmail, mailbox: Mailbox, users: Any) -> None:
    vendor.page_cap = 2
    mirror = Mirror()
    mirror.sync(vendor.open())
    listed = every(users.messages(), "messages")
    drafts = {entry["id"] for entry in every(users.messages(), "messages", labelIds=["DRAFT"])}
    assert {entry["threadId"] for entry in listed if entry["id"] not in drafts} == set(mirror.live)
    assert users.getProfile(userId="me").execute()["historyId"] == str(mailbox.history_id)


def test_bodies_and_attachments_agree(vendor: OpenedGmail, mailbox: Mailbox, users: Any) -> None:
    mirror = Mirror()
    mirror.sync(vendor.open())
    (thread,) = (key for key, item in mirror.live.items() if item.title == "Roof")
    first, second, _draft = users.threads().get(userId="me", id=thread, format="full").execute()["messages"]
    text = mirror.contents[thread].body.decode()
    for data in (first["payload"]["parts"][0]["body"]["data"], second["payload"]["body"]["data"]):
        assert base64.urlsafe_b64decode(data + "==").decode().strip() in text
    part = first["payload"]["parts"][1]
    attachment = (
        users.messages()
        .attachments()
        .get(userId="me", messageId=first["id"], id=part["body"]["attachmentId"])
        .execute()
    )
    (ours,) = mirror.contents[thread].attachments
    assert base64.urlsafe_b64decode(attachment["data"]) == ours.body == b"twelve thousand"
    assert ours.name == part["filename"]


def test_a_delta_agrees(vendor: OpenedGmail, mailbox: Mailbox, users: Any) -> None:
    mirror = Mirror()
    gmail = vendor.open()
    mirror.sync(gmail)
    assert mirror.cursor is not None
    since = mirror.cursor["history_id"]
    new = mailbox.receive("New", "new")
    mailbox.star(new)
    (old,) = (key for key, item in mirror.live.items() if item.title == "Old")
    mailbox.trash(old)
    vendor.page_cap = 1
    records = every(
        users.history(),
        "history",
        startHistoryId=since,
        historyTypes=["messageAdded", "messageDeleted", "labelAdded", "labelRemoved"],
    )
    added = {entry["message"]["threadId"] for record in records for entry in record.get("messagesAdded", [])}
    binned = {
        entry["message"]["threadId"]
        for record in records
        for entry in record.get("labelsAdded", [])
        if "TRASH" in entry["labelIds"]
    }
    report = mirror.sync(gmail)
    assert (set(report.upserted), set(report.deleted)) == (added, binned) == ({new}, {old})


def test_labels_and_refusals_are_as_the_client_knows_them(vendor: OpenedGmail, mailbox: Mailbox, users: Any) -> None:
    plans = mailbox.add_label("Plans")
    names = {label["id"]: label["name"] for label in users.labels().list(userId="me").execute()["labels"]}
    assert names[plans] == "Plans"
    with pytest.raises(HttpError) as found:
        users.history().list(userId="me", startHistoryId="1").execute()
    assert found.value.status_code == 404
    vendor.throttle("/profile")
    with pytest.raises(HttpError) as found:
        users.getProfile(userId="me").execute()
    assert (found.value.status_code, found.value.error_details[0]["reason"]) == (403, "userRateLimitExceeded")
