"""Slack: what becomes of a workspace's channels when they are listed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.slack import ALL_SCOPES, TOKEN, FakeSlack
from tests.sources.mirror import Mirror
from tests.sources.slack_account import context_of, open_slack, sync, sync_page_by_page
from workstation_pipelines.errors import CursorExpiredError, InvalidRequestError, ReauthorizeError
from workstation_pipelines.model import ChangeKind, ItemType, JobType
from workstation_pipelines.sources.slack.connector import Slack

DAY = timedelta(days=1)


@pytest.fixture
def vendor() -> Iterator[FakeSlack]:
    with FakeSlack() as vendor:
        yield vendor
        assert vendor.violations == []
        assert vendor.writes == []


@pytest.fixture
def general(vendor: FakeSlack) -> str:
    return vendor.add_channel("general")


def test_a_thread_is_one_item_with_its_replies(vendor: FakeSlack, general: str) -> None:
    parent = vendor.post(general, "Where is the <https://x.example/plan|plan>, <@U2BOB>?", ago=2 * DAY)
    vendor.post(general, "In <#C999|archive> &amp; here", user="U2BOB", thread=parent, ago=DAY)
    mirror = Mirror()

    sync(mirror, vendor)

    (item,) = mirror.live.values()
    assert item.external_id == f"T0ACME:{general}:{parent}"
    assert item.place == f"{general}:{parent}"
    assert item.item_type is ItemType.MESSAGE
    assert item.title == "#general · Ana Gómez: Where is the plan (https://x.example/plan), @Bob Lee?"
    assert item.external_path == f"#general/2026-11-20 {parent}"
    assert item.external_url == f"https://acme.slack.com/archives/{general}/p{parent.replace('.', '')}"
    assert item.external_created_at is not None
    assert item.external_created_at.isoformat() == f"2026-11-20T09:00:00.{parent[-6:]}+00:00"
    assert item.external_modified_at is not None
    assert item.external_modified_at.day == 21
    assert mirror.contents[item.external_id].body.decode() == (
        "Ana Gómez (2026-11-20 09:00 UTC):\nWhere is the plan (https://x.example/plan), @Bob Lee?\n\n"
        "Bob Lee (2026-11-21 09:00 UTC):\nIn #archive & here\n"
    )


def test_only_threads_with_replies_are_fetched(vendor: FakeSlack, general: str) -> None:
    for number in range(20):
        vendor.post(general, f"message {number}")
    parent = vendor.post(general, "parent")
    vendor.post(general, "answer", thread=parent)

    report = sync(Mirror(), vendor)

    assert report.fetched == [f"T0ACME:{general}:{parent}"]
    assert vendor.calls("replies") == 1
    assert vendor.calls("users.list") == 1
    assert vendor.calls("users.info") == 0


def test_history_is_read_in_pages_by_time_and_never_by_cursor(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 7
    for day in range(50):
        vendor.post(general, f"day {day}", ago=(50 - day) * DAY)
    mirror = Mirror()

    sync(mirror, vendor)

    assert len(mirror.live) == 50
    history = [request for request in vendor.requests if "history" in request.path]
    assert len(history) == 8
    assert all(request.one("latest") and request.one("cursor") is None for request in history)
    assert {request.one("limit") for request in history} == {"200"}


def test_pages_in_another_order_are_read_the_same(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 3
    vendor.is_reversed = True
    for day in range(10):
        vendor.post(general, f"day {day}", ago=(10 - day) * DAY)
    mirror = Mirror()

    sync(mirror, vendor)

    assert len(mirror.live) == 10


def test_a_listing_that_is_killed_after_each_page_goes_on_where_it_was(vendor: FakeSlack, general: str) -> None:
    other = vendor.add_channel("other")
    vendor.most_objects = 2
    for day in range(7):
        vendor.post(general, f"day {day}", ago=(10 - day) * DAY)
        vendor.post(other, f"day {day}", ago=(10 - day) * DAY)
    mirror = Mirror()

    runs = sync_page_by_page(mirror, vendor)

    assert len(mirror.live) == 14
    assert runs == 9
    # Eight pages of history, no page twice, and after them what the delta behind them asks.
    latest = [
        (request.one("channel"), request.one("latest")) for request in vendor.requests if "history" in request.path
    ]
    assert len(set(latest[:8])) == 8


def test_what_is_posted_while_a_listing_runs_is_found_by_the_next_delta(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 2
    for number in range(6):
        vendor.post(general, f"message {number}")
    mirror = Mirror()
    source = open_slack(vendor)
    mirror.sync(source, most_pages=1)
    source.close()
    late = vendor.post(general, "in the middle")
    new = vendor.add_channel("brand-new")  # sorts behind, or before: found either way
    vendor.post(new, "first")

    sync(mirror, vendor)
    sync(mirror, vendor)

    assert f"T0ACME:{general}:{late}" in mirror.live
    assert len(mirror.live) == 8


def test_only_channels_of_ones_own_are_read(vendor: FakeSlack, general: str) -> None:
    vendor.post(vendor.add_channel("others", members=["U2BOB"]), "not for Ana")
    vendor.post(vendor.add_channel("board", kind="private_channel", members=["U2BOB"]), "secret")
    mine = vendor.post(general, "for all")
    mirror = Mirror()

    sync(mirror, vendor, types=["public_channel", "private_channel", "im", "mpim"])

    assert list(mirror.live) == [f"T0ACME:{general}:{mine}"]


def test_the_types_decide_what_is_listed(vendor: FakeSlack, general: str) -> None:
    vendor.post(general, "public")
    vendor.post(vendor.add_channel("board", kind="private_channel"), "private")
    vendor.post(vendor.add_channel("dm", kind="im"), "direct")
    vendor.post(vendor.add_channel("mpdm-ana--bob--eve-1", kind="mpim"), "group")
    mirror = Mirror()

    sync(mirror, vendor)
    assert {path.partition("/")[0] for path in mirror.texts()} == {"#general"}
    sync(mirror, vendor, types=["public_channel", "private_channel", "im", "mpim"])
    assert {path.partition("/")[0] for path in mirror.texts()} == {"#general", "#board", "@Bob Lee", "@ana, @bob, @eve"}

    report = sync(mirror, vendor, types=["im"])

    assert len(report.deleted) == 3
    assert len(mirror.boxes) == 1


def test_channels_are_picked_by_name_or_id_and_a_renamed_one_stays_picked(vendor: FakeSlack, general: str) -> None:
    other = vendor.add_channel("other")
    vendor.post(general, "general")
    vendor.post(other, "other")
    vendor.post(vendor.add_channel("third"), "third")
    mirror = Mirror()
    picks = ["#general", other]

    sync(mirror, vendor, channels=picks)
    assert len(mirror.live) == 2
    vendor.rename_channel(general, "lobby")
    report = sync(mirror, vendor, channels=picks)

    assert report.deleted == []
    assert {path.partition("/")[0] for path in mirror.texts()} == {"#lobby", "#other"}


@pytest.mark.parametrize(
    "subtype", ["channel_join", "channel_topic", "pinned_item", "group_leave", "ekm_access_denied"]
)
def test_what_slack_writes_itself_is_left_out_unless_someone_answered(
    vendor: FakeSlack, general: str, subtype: str
) -> None:
    vendor.post(general, "<@U1ANA> did something", subtype=subtype)
    answered = vendor.post(general, "<@U2BOB> did something", subtype=subtype)
    vendor.post(general, "welcome!", thread=answered)
    mirror = Mirror()

    sync(mirror, vendor)

    assert list(mirror.live) == [f"T0ACME:{general}:{answered}"]


def test_unknown_subtypes_and_fields_do_not_matter(vendor: FakeSlack, general: str) -> None:
    vendor.post(general, "hello", subtype="something_new")
    mirror = Mirror()

    sync(mirror, vendor)

    assert len(mirror.live) == 1


def test_bots_speak_through_attachments_and_blocks(vendor: FakeSlack, general: str) -> None:
    bot: dict[str, Any] = {"user": None, "bot_id": "B1", "subtype": "bot_message", "username": "Builder"}
    vendor.post(
        general,
        "",
        **bot,
        attachments=[{"title": "Build 7", "text": "went well", "fields": [{"title": "by", "value": "ana"}]}],
    )
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "from a *block*"}}
    vendor.post(general, "", **{**bot, "username": None}, bot_profile={"name": "Other"}, blocks=[block])
    vendor.post(general, "", **bot)
    mirror = Mirror()

    sync(mirror, vendor)

    assert [text.partition(":\n")[2] for text in mirror.texts().values()] == [
        "from a *block*\n",
        "Build 7\nwent well\nby\nana\n",
    ]
    assert {item.title for item in mirror.live.values()} == {
        "#general · Builder: Build 7 went well by ana",
        "#general · Other: from a *block*",
    }


def test_bots_can_be_left_out(vendor: FakeSlack, general: str) -> None:
    vendor.post(general, "beep", user=None, bot_id="B1")
    parent = vendor.post(general, "a question")
    vendor.post(general, "a bot's answer", user=None, bot_id="B1", thread=parent)
    vendor.post(general, "an answer", thread=parent)
    mirror = Mirror()
    sync(mirror, vendor)
    assert len(mirror.live) == 2

    sync(mirror, vendor, skip_bots=True)

    (text,) = mirror.texts().values()
    assert "an answer" in text
    assert "bot's" not in text


def test_reactions_and_unfurled_links_change_nothing(vendor: FakeSlack, general: str) -> None:
    ts = vendor.post(general, "look: <https://x.example>")
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.message(general, ts).update(
        reactions=[{"name": "tada", "users": ["U2BOB"], "count": 1}],
        attachments=[{"text": "unfurled"}],
        client_msg_id="1",
    )

    assert sync(mirror, vendor).upserted == []


def test_someone_who_is_not_on_the_members_list_is_asked_for_once(vendor: FakeSlack, general: str) -> None:
    vendor.add_user("U7FAR", "far", "Far Away")
    vendor.users["U7FAR"]["is_stranger"] = True
    for _ in range(3):
        vendor.post(general, "hi", user="U7FAR")
    vendor.post(general, "hi <@U8NOBODY>", user="U9GONE")
    mirror = Mirror()

    sync(mirror, vendor)

    assert sum("Far Away" in text for text in mirror.texts().values()) == 3
    assert sum("U9GONE" in text and "@U8NOBODY" in text for text in mirror.texts().values()) == 1
    assert vendor.calls("users.info") == 3


def test_without_the_scope_for_names_people_are_ids(vendor: FakeSlack, general: str) -> None:
    vendor.scopes[TOKEN] = tuple(scope for scope in ALL_SCOPES if scope != "users:read")
    vendor.post(general, "hi")
    mirror = Mirror()

    sync(mirror, vendor)

    assert "U1ANA (" in next(iter(mirror.texts().values()))


def test_a_long_thread_is_read_to_its_end_without_repeats(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 10
    parent = vendor.post(general, "parent.")
    for number in range(45):
        vendor.post(general, f"answer {number}.", thread=parent)
    mirror = Mirror()

    sync(mirror, vendor)

    (text,) = mirror.texts().values()
    assert [text.count(f"answer {number}.") for number in range(45)] == [1] * 45
    assert text.count("parent.") == 1


def test_a_full_sync_reads_threads_again_and_nothing_else(vendor: FakeSlack, general: str) -> None:
    parent = vendor.post(general, "parent")
    vendor.post(general, "answer", thread=parent)
    vendor.post(general, "alone")
    mirror = Mirror()
    sync(mirror, vendor)

    assert sync(mirror, vendor, full=True).fetched == [f"T0ACME:{general}:{parent}"]


def test_a_thread_that_goes_before_it_is_fetched_is_left_out(vendor: FakeSlack, general: str) -> None:
    parent = vendor.post(general, "parent")
    reply = vendor.post(general, "answer", thread=parent)
    source = open_slack(vendor)
    mirror = Mirror()
    (page, _) = list(source.pages(None, mirror, JobType.DELTA))
    vendor.delete(general, reply)
    vendor.delete(general, parent)
    mirror._apply(source, page, report := mirror.sync(source), {})
    source.close()

    assert page.changes[0].kind is ChangeKind.UPSERT
    assert mirror.live == {}
    assert report.skipped == {}


def test_checking_names_the_person_the_channels_and_the_missing_scopes(vendor: FakeSlack, general: str) -> None:
    vendor.add_channel("random")
    source = open_slack(vendor)
    account = source.check()
    assert account.external_account == "T0ACME:U1ANA"
    assert account.label == "ana @ Acme"
    assert account.sample == "2 channels: #general, #random"
    assert account.missing_scopes == ()
    assert "channels:history" in account.scopes
    source.close()

    vendor.scopes[TOKEN] = ("channels:read", "users:read")
    source = open_slack(vendor)
    assert source.check().missing_scopes == ("channels:history", "files:read")
    source.close()


def test_checking_a_channel_that_is_not_there_says_what_to_do(vendor: FakeSlack, general: str) -> None:
    source = open_slack(vendor, channels=["general", "nowhere"])
    with pytest.raises(InvalidRequestError, match="no channel nowhere is visible"):
        source.check()
    source.close()


def test_a_poll_is_due_every_so_many_minutes_and_asks_nothing(vendor: FakeSlack) -> None:
    source = open_slack(vendor, poll_minutes=15)
    first = source.probe(None, None)
    assert source.probe(first, None) == first
    vendor.later(minutes=16)
    assert source.probe(first, None) != first
    source.close()
    assert vendor.requests == []


def test_opening_asks_nothing_and_without_a_grant_the_first_request_says_how_to_connect(vendor: FakeSlack) -> None:
    source = Slack.open({}, context_of(vendor, credentials=None))
    with pytest.raises(ReauthorizeError, match="workstation source connect NAME"):
        source.check()
    source.close()
    assert vendor.requests == []


@pytest.mark.parametrize("cursor", [{"v": 2}, {"v": 1, "mode": "other"}, {}, {"v": 1, "mode": "list", "ts": 5}])
def test_a_cursor_of_another_version_lists_everything(vendor: FakeSlack, cursor: dict[str, object]) -> None:
    source = open_slack(vendor)
    with pytest.raises(CursorExpiredError):
        list(source.pages(cursor, Mirror(), JobType.DELTA))
    source.close()


@pytest.mark.parametrize(
    "config", [{"types": []}, {"types": ["channel"]}, {"channel": ["x"]}, {"window_days": 0}, {"skip_bots": "yes"}]
)
def test_a_config_that_cannot_be_used_is_refused(vendor: FakeSlack, config: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="config cannot be used"):
        Slack.open(config, context_of(vendor))


def test_the_scope_is_what_is_listed_and_not_how_often(vendor: FakeSlack) -> None:
    def scope(**config: object) -> str:
        return Slack.open(config, context_of(vendor)).scope

    assert scope() == scope(types=["public_channel"], window_days=7.0, reread_days=1.0, poll_minutes=60.0)
    assert scope(channels=["a", "b"]) == scope(channels=["b", "a"])
    assert len({scope(), scope(channels=["a"]), scope(types=["im"]), scope(skip_bots=True)}) == 4
    assert Slack.open({"reconcile_days": 2}, context_of(vendor)).reconcile_every == timedelta(days=2)
    assert Slack.open({}, context_of(vendor)).reconcile_every == timedelta(days=30)


def test_cursors_are_small_and_without_content(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 2
    for number in range(5):
        vendor.post(general, f"secret words {number}", ago=DAY)
    mirror = Mirror()
    source = open_slack(vendor)
    for page in source.pages(None, mirror, JobType.DELTA):
        assert page.cursor_after is not None
        assert len(str(page.cursor_after)) < 200
        assert "secret" not in str(page.cursor_after) + str([box.details for box in page.containers])
    source.close()
