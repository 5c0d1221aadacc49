"""Messages as text for people, and their hashes: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from workstation_pipelines.sources.slack import messages
from workstation_pipelines.sources.slack import text as slack_text
from workstation_pipelines.sources.slack.text import Names

NAMES = Names(
    user=lambda id_: {"U1": "Ana", "U2": "Bob"}.get(id_, id_), channel=lambda id_: {"C1": "general"}.get(id_, id_)
)
TS = "1795338001.000003"


def message(text: str = "hello", **fields: Any) -> messages.Message:
    return messages.read_message({"type": "message", "user": "U1", "ts": TS, "text": text, **fields})


@pytest.mark.parametrize(
    ("mrkdwn", "plain"),
    [
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("&amp;lt;", "&lt;"),
        ("<@U1> and <@U2|bobby> and <@U3>", "@Ana and @bobby and @U3"),
        ("<#C1> <#C2|other> <#C3>", "#general #other #C3"),
        ("<!here> <!channel> <!everyone>", "@here @channel @everyone"),
        ("<!subteam^S1|@crew> <!subteam^S1>", "@crew @group"),
        ("<!date^1392734382^{date}|18 February 2014>", "18 February 2014"),
        ("<https://x.example/?a=1&amp;b=2>", "https://x.example/?a=1&b=2"),
        ("<https://x.example|here>", "here (https://x.example)"),
        ("<https://x.example|https://x.example>", "https://x.example"),
        ("<mailto:a@x.example|a@x.example>", "a@x.example"),
        ("*bold* _soft_ `code` :tada:", "*bold* _soft_ `code` :tada:"),
        ("< not an escape", "< not an escape"),
        ("<>", ""),
    ],
)
def test_escapes_become_what_people_see(mrkdwn: str, plain: str) -> None:
    assert slack_text.plain(message(mrkdwn), NAMES) == plain


def test_emoji_that_the_blocks_spell_out_become_characters() -> None:
    elements = [{"type": "emoji", "name": "tada", "unicode": "1f389"}, {"type": "emoji", "name": "party_parrot"}]
    blocks = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}]

    assert (
        slack_text.plain(message(":tada: :party_parrot: 12:30:00", blocks=blocks), NAMES)
        == "🎉 :party_parrot: 12:30:00"
    )


def test_a_title_is_the_channel_the_author_and_the_first_words() -> None:
    title = slack_text.title("#general", message("one two\nthree " + "x" * 4000), NAMES)
    assert title == "#general · Ana: one two three…"


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"edited": {"user": "U1", "ts": "1795338009.000000"}},
        {"subtype": "me_message"},
        {"reply_count": 1, "latest_reply": "1795338009.000000"},
        {"files": [{"id": "F1", "mode": "hosted"}]},
    ],
)
def test_the_hash_changes_with_what_is_visible(change: dict[str, Any]) -> None:
    before = messages.parent_hash(message(), salt="")
    assert not messages.same_content(before, messages.parent_hash(message(**change), salt=""))


@pytest.mark.parametrize(
    "change",
    [
        {"reactions": [{"name": "x"}]},
        {"attachments": [{"text": "unfurled"}]},
        {"subscribed": True, "last_read": TS, "reply_users": ["U1"]},
        {"blocks": [{"type": "rich_text"}]},
    ],
)
def test_the_hash_does_not_change_with_what_is_not(change: dict[str, Any]) -> None:
    assert messages.parent_hash(message(), salt="") == messages.parent_hash(message(**change), salt="")


def test_a_listings_hash_equals_a_fetchs_and_two_fetches_are_compared_whole() -> None:
    parent = messages.parent_hash(message(), salt="")
    one = messages.with_replies(parent, [message("first")])
    other = messages.with_replies(parent, [message("second")])

    assert messages.same_content(one, parent)
    assert messages.same_content(parent, one)
    assert messages.same_content(one, one)
    assert not messages.same_content(one, other)
    assert not messages.same_content(one, messages.unknown_replies(parent))
    assert messages.with_replies(parent, []) == parent


@pytest.mark.parametrize(
    "raw",
    [None, [], "text", {}, {"ts": None}, {"ts": 1795338001.000003}, {"ts": "1795338001"}, {"ts": TS, "text": 5}],
)
def test_what_is_no_message_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match="it"):
        messages.read_message(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"ts": TS},
        {"ts": TS, "user": 5, "files": "x", "edited": "x", "reply_count": "many", "latest_reply": 1, "thread_ts": []},
        {"ts": TS, "files": [None, {}, {"id": 3}], "blocks": {"a": [1]}, "attachments": [None, {"fields": 5}]},
        {"ts": TS, "text": None, "bot_profile": [], "username": {}},
    ],
)
def test_fields_of_another_type_count_as_missing(raw: dict[str, Any]) -> None:
    read = messages.read_message(raw)
    assert (read.user, read.files, read.reply_count, read.text) == ("", [], 0, "")
    assert slack_text.conversation([read], NAMES, notes={}) == "Someone (2026-11-22 09:00 UTC):\n"


def test_blocks_of_endless_depth_are_survived() -> None:
    block: dict[str, Any] = {"type": "emoji", "unicode": "zz"}
    for _ in range(5000):
        block = {"elements": [block]}
    assert messages.read_message({"ts": TS, "blocks": [block]}).text == ""


def test_timestamps_never_become_floats() -> None:
    assert messages.ts_after("1795338001.999999") == "1795338002.000000"
    assert messages.ts_after("9999999999.000000") == "9999999999.000001"
    moment = messages.moment_of("1795338001.000003")
    assert moment is not None
    assert moment.microsecond == 3
    assert messages.moment_of("") is None
