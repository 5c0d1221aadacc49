"""Slack has no feed: what a delta finds, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.fakes.server import Answer
from tests.fakes.slack import FakeSlack
from tests.sources.mirror import Mirror
from tests.sources.slack_account import PatientMirror, open_slack, sync, sync_page_by_page
from workstation_pipelines.model import ChangeKind, JobType

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


def text_of(mirror: Mirror, vendor: FakeSlack, channel: str, ts: str) -> str:
    return mirror.texts()[vendor.path(channel, ts)]


def test_a_delta_without_changes_fetches_nothing_and_describes_nothing(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    for _ in range(3):
        vendor.post(general, "words", thread=vendor.post(general, "parent"))
    sync(mirror, vendor)
    vendor.later(days=20)
    vendor.requests.clear()

    report = sync(mirror, vendor)

    assert (report.fetched, report.upserted, report.deleted) == ([], [], [])
    assert [request.path.removeprefix("/api/") for request in vendor.requests] == [
        "auth.test",
        "conversations.list",
        "conversations.history",  # new
        "users.list",
        "conversations.history",  # past
    ]


def test_new_messages_come_with_the_listing(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    sync(mirror, vendor)
    ts = vendor.post(general, "hello")
    vendor.requests.clear()

    report = sync(mirror, vendor)

    assert "hello" in text_of(mirror, vendor, general, ts)
    assert report.fetched == []
    assert vendor.calls("replies") == 0


def test_a_reply_ninety_days_after_its_parent_is_found_by_the_next_delta(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "an old question", ago=90 * DAY)
    sync(mirror, vendor)

    vendor.post(general, "a late answer", thread=parent, user="U2BOB")
    report = sync(mirror, vendor)

    assert "a late answer" in text_of(mirror, vendor, general, parent)
    assert len(report.upserted) == 1


def test_a_late_reply_in_a_large_channel_is_found_when_the_slice_comes_by(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.most_objects = 20
    parent = vendor.post(general, "the oldest question", ago=200 * DAY)
    for day in range(150):
        vendor.post(general, f"day {day}", ago=(199 - day) * DAY)
    sync(mirror, vendor)
    vendor.post(general, "a late answer", thread=parent)

    deltas = 0
    while "a late answer" not in text_of(mirror, vendor, general, parent):
        vendor.later(minutes=15)
        sync(mirror, vendor)
        deltas += 1
        assert deltas < 10

    assert deltas == 2  # 121 messages below the window at 100 a delta
    vendor.later(minutes=15)
    sync(mirror, vendor)
    assert len(mirror.live) == 151


def test_an_edited_reply_of_an_active_thread_is_found(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent", ago=20 * DAY)
    reply = vendor.post(general, "first words", thread=parent, ago=2 * DAY)
    sync(mirror, vendor)
    vendor.edit(general, reply, "second words")

    report = sync(mirror, vendor)

    text = text_of(mirror, vendor, general, parent)
    assert "second words" in text
    assert "first words" not in text
    assert len(report.upserted) == 1
    assert sync(mirror, vendor).upserted == []


def test_an_edited_reply_of_an_old_parent_is_found_while_its_thread_is_active(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent", ago=100 * DAY)
    sync(mirror, vendor)
    reply = vendor.post(general, "first words", thread=parent)
    sync(mirror, vendor)
    vendor.later(days=3)
    vendor.edit(general, reply, "second words")

    sync(mirror, vendor)

    assert "second words" in text_of(mirror, vendor, general, parent)
    vendor.later(days=10)
    sync(mirror, vendor)
    assert "late" not in mirror.boxes[general].details


def test_an_edited_reply_of_a_sleeping_thread_waits_for_a_full_sync(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent", ago=60 * DAY)
    reply = vendor.post(general, "first words", thread=parent, ago=59 * DAY)
    sync(mirror, vendor)
    vendor.edit(general, reply, "second words")

    sync(mirror, vendor)
    assert "first words" in text_of(mirror, vendor, general, parent)
    assert sync(mirror, vendor, full=True).fetched == [f"T0ACME:{general}:{parent}"]

    assert "second words" in text_of(mirror, vendor, general, parent)
    assert sync(mirror, vendor).upserted == []


def test_a_listing_does_not_forget_what_is_known_of_replies(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent")
    reply = vendor.post(general, "first words", thread=parent)
    sync(mirror, vendor)
    mirror.scope = "another"  # lists everything again, without reading replies
    assert sync(mirror, vendor).fetched == []
    vendor.edit(general, reply, "second words")

    sync(mirror, vendor)

    assert "second words" in text_of(mirror, vendor, general, parent)


@pytest.mark.parametrize("age", [timedelta(hours=1), 29 * DAY, 31 * DAY, 400 * DAY])
def test_a_deleted_message_goes(vendor: FakeSlack, general: str, age: timedelta) -> None:
    mirror = Mirror()
    gone = vendor.post(general, "regretted", ago=age)
    vendor.post(general, "stays", ago=age)
    vendor.post(general, "stays too")
    sync(mirror, vendor)
    vendor.delete(general, gone)

    report = sync(mirror, vendor)

    assert report.deleted == [f"T0ACME:{general}:{gone}"]
    assert len(mirror.live) == 2


@pytest.mark.parametrize("age", [timedelta(hours=1), 29 * DAY, 31 * DAY, 400 * DAY])
def test_an_edited_message_is_replaced(vendor: FakeSlack, general: str, age: timedelta) -> None:
    mirror = Mirror()
    ts = vendor.post(general, "first words", ago=age)
    sync(mirror, vendor)
    vendor.edit(general, ts, "second words")

    report = sync(mirror, vendor)

    assert "second words" in text_of(mirror, vendor, general, ts)
    assert report.fetched == []


def test_the_whole_window_is_compared_in_each_delta(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.most_objects = 5
    stamps = [vendor.post(general, f"message {number}", ago=(25 - number) * DAY) for number in range(25)]
    sync(mirror, vendor)
    vendor.delete(general, stamps[2])
    vendor.edit(general, stamps[0], "edited")

    report = sync(mirror, vendor)

    assert report.deleted == [f"T0ACME:{general}:{stamps[2]}"]
    assert "edited" in text_of(mirror, vendor, general, stamps[0])
    assert len(mirror.live) == 24


def test_a_deleted_reply_goes_from_its_thread(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent", ago=50 * DAY)
    replies = [vendor.post(general, f"answer {number}", thread=parent, ago=49 * DAY) for number in range(2)]
    sync(mirror, vendor)
    vendor.delete(general, replies[0])
    sync(mirror, vendor)
    assert "answer 0" not in text_of(mirror, vendor, general, parent)

    vendor.delete(general, replies[1])
    sync(mirror, vendor)

    assert "answer 1" not in text_of(mirror, vendor, general, parent)
    assert "parent" in text_of(mirror, vendor, general, parent)


def test_a_deleted_parent_with_replies_stays_as_a_thread_without_its_text(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "regretted")
    reply = vendor.post(general, "an answer", thread=parent)
    sync(mirror, vendor)
    vendor.delete(general, parent)

    sync(mirror, vendor)

    text = text_of(mirror, vendor, general, parent)
    assert "regretted" not in text
    assert "an answer" in text
    vendor.delete(general, reply)
    sync(mirror, vendor)
    assert mirror.live == {}


def test_a_reply_that_is_shown_in_the_channel_too_belongs_to_its_thread_alone(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    parent = vendor.post(general, "parent", ago=300 * DAY)
    vendor.most_objects = 1  # the slice of old history will not get there in this delta
    for day in range(12):
        vendor.post(general, f"day {day}", ago=(200 - day) * DAY)
    sync(mirror, vendor)
    vendor.post(general, "for all to see", thread=parent, is_broadcast=True)

    sync(mirror, vendor)

    assert len(mirror.live) == 13
    assert text_of(mirror, vendor, general, parent).count("for all to see") == 1


def test_a_message_that_turns_up_late_with_an_early_time_is_found(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "newest")
    sync(mirror, vendor)
    ts = vendor.post(general, "imported later", ago=10 * DAY)

    sync(mirror, vendor)

    assert "imported later" in text_of(mirror, vendor, general, ts)


def test_after_a_long_pause_everything_since_is_listed(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "first")
    sync(mirror, vendor)
    vendor.most_objects = 10
    for _ in range(90):
        vendor.later(days=1)
        vendor.post(general, "daily")

    sync(mirror, vendor)

    assert len(mirror.live) == 91


def test_a_channel_that_is_joined_is_read_whole(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    other = vendor.add_channel("other", members=["U2BOB"])
    vendor.most_objects = 2
    for day in range(5):
        vendor.post(other, f"day {day}", ago=(400 - day) * DAY)
    sync(mirror, vendor)
    assert mirror.live == {}

    vendor.join(other)
    report = sync(mirror, vendor)

    assert len(mirror.live) == 5
    assert report.listings == 0


def test_a_channel_that_is_left_goes(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    other = vendor.add_channel("other")
    for number in range(30):
        vendor.post(other, f"message {number}")
    kept = vendor.post(general, "stays")
    sync(mirror, vendor)
    vendor.leave(other)

    report = sync(mirror, vendor)

    assert len(report.deleted) == 30
    assert list(mirror.live) == [f"T0ACME:{general}:{kept}"]
    assert list(mirror.boxes) == [general]


@pytest.mark.parametrize("how", ["leave", "delete_channel"])
def test_a_private_channel_that_is_no_longer_visible_goes_when_slack_says_so(vendor: FakeSlack, how: str) -> None:
    mirror = Mirror()
    secret = vendor.add_channel("secret", kind="private_channel")
    vendor.post(secret, "plans")
    sync(mirror, vendor, types=["private_channel"])
    getattr(vendor, how)(secret)

    report = sync(mirror, vendor, types=["private_channel"])

    assert len(report.deleted) == 1
    assert vendor.calls("conversations.info") == 1


def test_a_channel_that_a_listing_forgets_is_asked_about_and_stays(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "stays")
    sync(mirror, vendor)
    for full in (False, True):
        nothing = Answer.of({"ok": True, "channels": [], "response_metadata": {"next_cursor": ""}})
        vendor.fail("conversations.list", answer=nothing)

        report = sync(mirror, vendor, full=full)

        assert report.deleted == []
        assert len(mirror.live) == 1


def test_what_is_stored_of_a_channel_stays_when_it_is_archived(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "history")
    sync(mirror, vendor)
    last = vendor.post(general, "last words")
    vendor.archive(general)

    sync(mirror, vendor)
    assert "last words" in text_of(mirror, vendor, general, last)
    vendor.requests.clear()
    sync(mirror, vendor)
    assert vendor.calls("history") == 0
    report = sync(mirror, vendor, full=True)

    assert report.deleted == []
    assert len(mirror.live) == 2
    vendor.unarchive(general)
    vendor.post(general, "again")
    sync(mirror, vendor)
    assert len(mirror.live) == 3


def test_a_channel_that_was_archived_before_is_not_taken(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "history")
    vendor.archive(general)

    sync(mirror, vendor)

    assert mirror.live == {}


def test_a_renamed_channel_renames_all_that_lies_in_it(vendor: FakeSlack, general: str) -> None:
    mirror = Mirror()
    vendor.post(general, "words", thread=vendor.post(general, "old", ago=300 * DAY))
    sync(mirror, vendor)
    vendor.rename_channel(general, "lobby")

    report = sync(mirror, vendor)

    assert all(path.startswith("#lobby/") for path in mirror.texts())
    assert all(item.title.startswith("#lobby · Ana") for item in mirror.live.values())
    assert report.fetched == []


@pytest.mark.parametrize("left", [0, 10])
def test_most_of_a_page_gone_at_once_is_only_absent(vendor: FakeSlack, general: str, left: int) -> None:
    mirror = Mirror()
    stamps = [vendor.post(general, f"message {number}") for number in range(31 + left)]
    sync(mirror, vendor)
    for ts in stamps[left:]:
        vendor.delete(general, ts)

    source = open_slack(vendor)
    kinds = {change.kind for page in source.pages(mirror.cursor, mirror, JobType.DELTA) for change in page.changes}
    source.close()

    assert kinds == {ChangeKind.ABSENT}


def test_one_request_a_minute_and_fifteen_messages_a_page_still_ends(vendor: FakeSlack, general: str) -> None:
    vendor.restrict()
    other = vendor.add_channel("other")
    for number in range(40):
        vendor.post(general, f"message {number}", ago=(60 - number) * DAY)
        vendor.post(other, f"message {number}")
    parents = [vendor.post(general, f"parent {number}") for number in range(3)]
    for parent in parents:
        vendor.post(general, "an answer", thread=parent)
    mirror = PatientMirror()

    report, runs = mirror.sync_patiently(vendor)

    assert len(mirror.contents) == 83
    assert len(report.fetched) == 3 + (runs - 6)  # each run but the last of a page ends at a request too many
    for parent in parents:
        assert "an answer" in text_of(mirror, vendor, general, parent)

    new = vendor.post(other, "new")
    vendor.edit(general, parents[0], "edited")
    vendor.later(minutes=1)
    report, runs = mirror.sync_patiently(vendor)

    assert "new" in text_of(mirror, vendor, other, new)
    assert "edited" in text_of(mirror, vendor, general, parents[0])
    assert report.deleted == []
    assert runs < 20


def test_a_thread_that_one_request_a_minute_cannot_show_is_taken_in_part_and_says_so(
    vendor: FakeSlack, general: str
) -> None:
    vendor.restrict()
    parent = vendor.post(general, "parent")
    for number in range(40):
        vendor.post(general, f"answer {number}.", thread=parent)
    mirror = PatientMirror()

    mirror.sync_patiently(vendor)

    text = text_of(mirror, vendor, general, parent)
    assert "answer 13." in text
    assert "(26 more replies were not read" in text
    vendor.most_objects, vendor.per_minute = 1000, {}
    sync(mirror, vendor)
    assert "answer 39." in text_of(mirror, vendor, general, parent)


def test_a_delta_that_is_cut_off_after_any_page_ends_like_one_that_is_not(vendor: FakeSlack, general: str) -> None:
    other = vendor.add_channel("other")
    vendor.most_objects = 3
    stamps = [vendor.post(channel, f"m {n}", ago=(90 - 9 * n) * DAY) for n in range(9) for channel in (general, other)]
    replied = vendor.post(general, "question", ago=50 * DAY)
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.delete(general, stamps[0])
    vendor.edit(other, stamps[1], "edited")
    vendor.post(general, "answer", thread=replied)
    vendor.post(vendor.add_channel("third"), "third", ago=DAY)

    assert sync_page_by_page(mirror, vendor) > 10

    straight = Mirror()
    sync(straight, vendor)
    assert mirror.texts() == straight.texts()
    assert mirror.cursor == straight.cursor


def test_a_delta_that_is_given_up_loses_nothing(vendor: FakeSlack, general: str) -> None:
    vendor.most_objects = 2
    mirror = Mirror()
    vendor.post(general, "first", ago=80 * DAY)
    sync(mirror, vendor)
    for number in range(9):
        vendor.later(days=5)
        vendor.post(general, f"message {number}")

    source = open_slack(vendor)
    mirror.sync(source, most_pages=1)
    source.close()
    mirror.resume = None
    sync(mirror, vendor)

    assert len(mirror.live) == 10
