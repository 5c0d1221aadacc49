"""Slack's own SDK reads the fake too, and sees what our connector sees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from tests.fakes.slack import TOKEN, FakeSlack
from tests.sources.mirror import Mirror
from tests.sources.slack_account import sync

DAY = timedelta(days=1)


@pytest.fixture
def vendor() -> Iterator[FakeSlack]:
    with FakeSlack() as vendor:
        yield vendor
        assert vendor.violations == []
        assert vendor.writes == []


@pytest.fixture
def client(vendor: FakeSlack) -> WebClient:
    return WebClient(token=TOKEN, base_url=f"{vendor.url}/api/")


def seen_by(client: WebClient) -> dict[str, list[str]]:
    """Read everything as the SDK's documentation says: id of each thread -> its messages' texts."""
    team = client.auth_test()["team_id"]
    found: dict[str, list[str]] = {}
    channels = [channel for page in client.conversations_list(limit=2) for channel in page["channels"]]
    for channel in (channel for channel in channels if channel["is_member"]):
        for page in client.conversations_history(channel=channel["id"], limit=2):
            for message in page["messages"]:
                if message.get("thread_ts", message["ts"]) != message["ts"]:
                    continue
                thread = [message]
                if message.get("reply_count"):
                    pages = client.conversations_replies(channel=channel["id"], ts=message["ts"], limit=2)
                    replies = {one["ts"]: one for page in pages for one in page["messages"]}
                    thread = [replies[ts] for ts in sorted(replies)]
                found[f"{team}:{channel['id']}:{message['ts']}"] = [one["text"] for one in thread]
    return found


def fill(vendor: FakeSlack) -> str:
    general = vendor.add_channel("general")
    vendor.add_channel("hidden", members=["U2BOB"])
    other = vendor.add_channel("other")
    for day in range(5):
        parent = vendor.post(general, f"general {day}", ago=(40 - day) * DAY)
        vendor.post(other, f"other {day}", ago=(40 - day) * DAY)
    for number in range(5):
        vendor.post(general, f"answer {number}", thread=parent, is_broadcast=number == 3)
    return general


def test_the_sdk_and_the_connector_find_the_same(vendor: FakeSlack, client: WebClient) -> None:
    fill(vendor)
    mirror = Mirror()
    sync(mirror, vendor)

    theirs = seen_by(client)

    assert theirs.keys() == mirror.live.keys()
    for external_id, texts in theirs.items():
        body = mirror.contents[external_id].body.decode()
        assert [text in body for text in texts] == [True] * len(texts)
        assert body.count("UTC):") == len(texts)


def test_after_changes_they_still_do(vendor: FakeSlack, client: WebClient) -> None:
    general = fill(vendor)
    mirror = Mirror()
    sync(mirror, vendor)
    first, second = sorted(vendor.channels[general].messages)[:2]
    vendor.delete(general, first)
    vendor.edit(general, second, "edited")
    vendor.post(general, "new")

    sync(mirror, vendor)

    theirs = seen_by(client)
    assert theirs.keys() == mirror.live.keys()
    assert theirs[f"T0ACME:{general}:{second}"] == ["edited"]
    assert "edited" in mirror.contents[f"T0ACME:{general}:{second}"].body.decode()


def test_the_sdk_reads_files_people_and_refusals(vendor: FakeSlack, client: WebClient) -> None:
    general = vendor.add_channel("general")
    file_id = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    vendor.post(general, "see", files=[file_id])
    mirror = Mirror()
    sync(mirror, vendor)

    file = client.files_info(file=file_id)["file"]
    body = httpx.get(file["url_private_download"], headers={"Authorization": f"Bearer {client.token}"}).content
    (content,) = mirror.contents.values()
    assert [attachment.body for attachment in content.attachments] == [body]
    assert client.users_info(user="U2BOB")["user"]["real_name"] == "Bob Lee"
    assert [user["id"] for page in client.users_list(limit=2) for user in page["members"]] == [
        "U1ANA",
        "U2BOB",
        "U3EVE",
    ]
    with pytest.raises(SlackApiError, match="thread_not_found"):
        client.conversations_replies(channel=general, ts="1795338001.999999")


def test_oldest_without_latest_begins_at_the_old_end_as_at_slack(vendor: FakeSlack, client: WebClient) -> None:
    general = vendor.add_channel("general")
    stamps = [vendor.post(general, f"message {number}") for number in range(5)]

    page = client.conversations_history(channel=general, oldest=stamps[0], limit=2)["messages"]

    assert [message["ts"] for message in page] == [stamps[2], stamps[1]]


def test_a_writing_method_would_be_noticed(vendor: FakeSlack, client: WebClient) -> None:
    general = vendor.add_channel("general")
    with pytest.raises(SlackApiError, match="unknown_method"):
        client.chat_postMessage(channel=general, text="hello")

    assert [request.path for request in vendor.writes] == ["/api/chat.postMessage"]
    assert len(vendor.violations) == 1
    vendor.requests.clear()
    vendor.violations.clear()
