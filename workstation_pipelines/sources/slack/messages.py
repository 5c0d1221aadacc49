"""Messages as Slack tells them, read once and carefully, and the hashes by which a thread is known again.

A timestamp (`ts`) is a message's id within its channel: a string of ten digits, a dot and six more. It is compared as
text or as whole numbers and never becomes a float, which could not hold it.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeGuard

_TS = re.compile(r"[0-9]{10}\.[0-9]{6}")

TOMBSTONE = "tombstone"
"""Subtype of a deleted message whose replies are still there."""

NOISE = frozenset(
    f"{place}_{event}"
    for place in ("channel", "group")
    for event in ("join", "leave", "topic", "purpose", "name", "archive", "unarchive")
) | frozenset(
    (
        "app_conversation_join",
        "bot_add",
        "bot_disable",
        "bot_enable",
        "bot_remove",
        "channel_canvas_updated",
        "channel_convert_to_private",
        "channel_convert_to_public",
        "channel_posting_permissions",
        "ekm_access_denied",
        "message_deleted",
        "pinned_item",
        "reminder_add",
        "unpinned_item",
    )
)
"""Subtypes of messages that Slack itself writes about a channel."""

_HASH = "sl:"
_MOST_DEPTH = 20


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file in a message. `mode` and `needs_lookup` say how much of it there is to have."""

    id: str
    name: str
    mime_type: str
    size_bytes: int
    url: str
    mode: str
    needs_lookup: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `text` is mrkdwn; for a bot's that has none it is what its attachments and blocks say."""

    ts: str
    thread_ts: str
    user: str
    bot_id: str
    bot_name: str
    subtype: str
    text: str
    edited_ts: str
    reply_count: int
    latest_reply: str
    files: Sequence[SharedFile] = ()
    emoji: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_reply(self) -> bool:
        return self.thread_ts not in ("", self.ts)

    @property
    def is_bot(self) -> bool:
        return bool(self.bot_id) or self.subtype == "bot_message"

    @property
    def has_replies(self) -> bool:
        return self.reply_count > 0

    @property
    def active_ts(self) -> str:
        """When something last happened to the thread, as far as the parent tells."""
        return max(self.ts, self.edited_ts, self.latest_reply)


def is_shown(message: Message, *, skip_bots: bool) -> bool:
    """Return whether a message of a channel's history is the start of a thread worth having."""
    if message.is_reply:  # a reply that was also sent to the channel belongs to its thread
        return False
    if message.has_replies:
        return True
    if message.subtype in NOISE or message.subtype == TOMBSTONE or (skip_bots and message.is_bot):
        return False
    return bool(message.text.strip() or message.files)


def read_message(raw: Any) -> Message:
    """Read a message object. Raises ValueError for one that cannot be understood; unknown fields do not matter."""
    if not isinstance(raw, dict):
        raise ValueError("it is not an object")
    ts = raw.get("ts")
    if not is_ts(ts):
        raise ValueError("it has no readable `ts`")
    text = raw.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError("its `text` is not text")
    edited, profile = raw.get("edited"), raw.get("bot_profile")
    name = raw.get("username") or (profile.get("name") if isinstance(profile, dict) else None)
    count = raw.get("reply_count")
    return Message(
        ts=ts,
        thread_ts=_ts(raw.get("thread_ts")),
        user=_string(raw.get("user")),
        bot_id=_string(raw.get("bot_id")),
        bot_name=_string(name),
        subtype=_string(raw.get("subtype")),
        text=text if text and text.strip() else _fallback_text(raw),
        edited_ts=_ts(edited.get("ts")) if isinstance(edited, dict) else "",
        reply_count=count if isinstance(count, int) and count > 0 else 0,
        latest_reply=_ts(raw.get("latest_reply")),
        files=[read_file(file) for file in _dicts(raw.get("files")) if _string(file.get("id"))],
        emoji=dict(_emoji(raw.get("blocks"), _MOST_DEPTH)),
    )


def read_file(raw: Mapping[str, Any]) -> SharedFile:
    """Read a file object, of which everything but the id may be missing."""
    size = raw.get("size")
    mode = "external" if raw.get("is_external") is True else _string(raw.get("mode"))
    return SharedFile(
        id=_string(raw.get("id")),
        name=_string(raw.get("name")) or _string(raw.get("title")) or "file",
        mime_type=_string(raw.get("mimetype")),
        size_bytes=size if isinstance(size, int) and size >= 0 else -1,
        url=_string(raw.get("url_private_download")) or _string(raw.get("url_private")),
        mode=mode,
        needs_lookup=raw.get("file_access") == "check_file_info",
    )


def parent_hash(parent: Message, *, salt: str) -> str:
    """Digest what a channel's history shows of a thread. Reactions, unfurled links and readers do not count.

    `salt` is what else decides the content: a setting that leaves out replies, say.
    """
    return _HASH + _digest([salt, parent.reply_count, parent.latest_reply, *_visible(parent)])


def with_replies(parent_part: str, replies: Sequence[Message]) -> str:
    """Return the hash of a thread that was read with its replies."""
    return f"{parent_part}~{_digest([_visible(reply) for reply in replies])}" if replies else parent_part


def unknown_replies(parent_part: str) -> str:
    """Return a hash that equals none of a thread with replies, so that they are read again."""
    return f"{parent_part}~?"


def parent_part(external_hash: str) -> str:
    return external_hash.partition("~")[0]


def same_content(old_hash: str, new_hash: str) -> bool:
    """Compare what both hashes tell: one without a replies part says nothing about them."""
    old_parent, _, old_replies = old_hash.partition("~")
    new_parent, _, new_replies = new_hash.partition("~")
    if old_parent != new_parent:
        return False
    return not old_replies or not new_replies or old_replies == new_replies


def is_ts(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _TS.fullmatch(value) is not None


def moment_of(ts: str) -> datetime | None:
    """Return the moment a timestamp names; None for one that is empty."""
    if not is_ts(ts):
        return None
    seconds, _, microseconds = ts.partition(".")
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))


def ts_of(moment: datetime) -> str:
    """Return the timestamp of a moment, cut to the second."""
    return f"{max(timegm(moment.utctimetuple()), 0):010d}.000000"


def ts_after(ts: str) -> str:
    """Return the next possible timestamp."""
    seconds, _, microseconds = ts.partition(".")
    number = int(seconds) * 1_000_000 + int(microseconds or 0) + 1
    return f"{number // 1_000_000:010d}.{number % 1_000_000:06d}"


def _visible(message: Message) -> list[Any]:
    files = [[file.id, file.mode, file.name] for file in message.files]
    return [message.ts, message.edited_ts, message.subtype, message.text, files]


def _digest(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=12).hexdigest()


def _fallback_text(raw: Mapping[str, Any]) -> str:
    """What a message without text says: apps write into attachments and blocks."""
    lines: list[str] = []
    for attachment in _dicts(raw.get("attachments")):
        lines += [_string(attachment.get(name)) for name in ("pretext", "title", "text")]
        for row in _dicts(attachment.get("fields")):
            lines += [_string(row.get("title")), _string(row.get("value"))]
        if not any(attachment.get(name) for name in ("pretext", "title", "text", "fields")):
            lines.append(_string(attachment.get("fallback")))
    if not any(lines):
        lines = list(_block_texts(raw.get("blocks"), _MOST_DEPTH))
    return "\n".join(line for line in lines if line)


def _block_texts(block: Any, depth: int) -> list[str]:
    if depth == 0:
        return []
    if isinstance(block, list):
        return [text for part in block for text in _block_texts(part, depth - 1)]
    if not isinstance(block, dict):
        return []
    text = block.get("text")
    if isinstance(text, str):
        return [text]
    inner = (block.get(name) for name in ("text", "fields", "elements", "blocks"))
    return [found for part in inner for found in _block_texts(part, depth - 1)]


def _emoji(block: Any, depth: int) -> list[tuple[str, str]]:
    """Name and characters of each emoji that a message's blocks spell out."""
    if depth == 0:
        return []
    if isinstance(block, list):
        return [pair for part in block for pair in _emoji(part, depth - 1)]
    if not isinstance(block, dict):
        return []
    if block.get("type") == "emoji":
        characters = _characters(_string(block.get("unicode")))
        return [(_string(block.get("name")), characters)] if characters else []
    return [pair for part in block.values() if isinstance(part, dict | list) for pair in _emoji(part, depth - 1)]


def _characters(codes: str) -> str:
    try:
        return "".join(chr(int(code, 16)) for code in codes.split("-")) if codes else ""
    except (ValueError, OverflowError):
        return ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _ts(value: Any) -> str:
    return value if is_ts(value) else ""
