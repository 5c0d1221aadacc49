"""Turns messages into text for people: mrkdwn unescaped, ids replaced by names, times in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workstation_pipelines.sources.slack.messages import TOMBSTONE, Message, moment_of

TITLE_CHARACTERS = 60

_ESCAPED = re.compile(r"<([^<>\n]*)>")
_EMOJI = re.compile(r":([a-z0-9_+'-]+)(?:::(skin-tone-[2-6]))?:")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


@dataclass(frozen=True, slots=True)
class Names:
    """What ids are called: `user` and `channel` return a name without its sign, or the id where there is none."""

    user: Callable[[str], str]
    channel: Callable[[str], str]


def conversation(messages: Sequence[Message], names: Names, *, notes: Mapping[str, str], ending: str = "") -> str:
    """Return a thread as text, message by message. `notes` say by file id what became of a file that was not read."""
    parts = [_spoken(message, names, notes) for message in messages]
    return "\n\n".join([*parts, ending] if ending else parts) + "\n"


def title(channel: str, message: Message, names: Names) -> str:
    """Return `#channel · Author: first words`."""
    words = " ".join(plain(message, names).split())
    if not words and message.files:
        words = message.files[0].name
    if len(words) > TITLE_CHARACTERS:
        words = words[:TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"
    return f"{channel} · {author(message, names)}: {words}" if words else f"{channel} · {author(message, names)}"


def author(message: Message, names: Names) -> str:
    if message.subtype == TOMBSTONE:
        return "Someone"
    if message.is_bot:
        return message.bot_name or (names.user(message.user) if message.user else message.bot_id or "A bot")
    return names.user(message.user) if message.user else message.bot_name or "Someone"


def plain(message: Message, names: Names) -> str:
    """Return a message's text without Slack's escapes. Marks such as *bold* stay: they are part of how people write."""
    if message.subtype == TOMBSTONE:
        return "(deleted message)"
    text = _ESCAPED.sub(lambda found: _escape(found[1], names), message.text)
    if message.emoji:
        text = _EMOJI.sub(lambda found: message.emoji.get(found[1], found[0]), text)
    for entity, character in _ENTITIES:  # the ampersand last, or `&amp;lt;` would become `<`
        text = text.replace(entity, character)
    return text


def _spoken(message: Message, names: Names, notes: Mapping[str, str]) -> str:
    moment = moment_of(message.ts)
    lines = [f"{author(message, names)} ({moment:%Y-%m-%d %H:%M} UTC):" if moment else f"{author(message, names)}:"]
    text = plain(message, names).strip()
    if text:
        lines.append(text)
    for file in message.files:
        note = notes.get(file.id, "")
        lines.append(f"[file: {file.name}{', ' + note if note else ''}]")
    return "\n".join(lines)


def _escape(inside: str, names: Names) -> str:
    target, bar, label = inside.partition("|")
    if target.startswith("@"):
        return f"@{label.removeprefix('@') or names.user(target[1:])}"
    if target.startswith("#"):
        return f"#{label.removeprefix('#') or names.channel(target[1:])}"
    if target.startswith("!"):
        return _special(target[1:], label)
    if not bar or label == target or target.removeprefix("mailto:") == label:
        return target.removeprefix("mailto:").removeprefix("tel:")
    return f"{label} ({target})"


def _special(command: str, label: str) -> str:
    name, _, _ = command.partition("^")
    if name in ("here", "channel", "everyone"):
        return f"@{name}"
    if name == "subteam":
        return label if label.startswith("@") else f"@{label or 'group'}"
    return label or name
