"""Channels: which of them are taken, what they are called, and what is remembered of each between syncs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workstation_pipelines.model import Container
from workstation_pipelines.sources.slack.messages import is_ts
from workstation_pipelines.sources.tree import safe_name

BOTTOM = "0000000000.000000"
"""Older than every message."""

MOST_LATE = 500
MOST_LABEL_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Channel:
    """A conversation: public or private channel, direct message, group of people. `names` are its name and former ones."""

    id: str
    label: str
    names: Sequence[str]
    kind: str
    is_member: bool
    is_archived: bool


@dataclass(frozen=True, slots=True)
class Watermarks:
    """How far a channel has been read. All are timestamps, empty where there is none.

    `newest`: everything up to here has been seen. `filled`: its history has been listed from the top down to here, BOTTOM
    when wholly. `reach`: how far down this delta has compared the window. `past` and `past_at`: where the slow comparison
    of older history stands, and when it last moved. `late`: threads older than the window with recent replies, and their
    last activity.
    """

    newest: str = ""
    filled: str = ""
    reach: str = ""
    past: str = ""
    past_at: str = ""
    late: Mapping[str, str] = field(default_factory=dict)
    is_archived: bool = False

    @property
    def is_filled(self) -> bool:
        return self.filled == BOTTOM

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Watermarks:
        def ts(name: str) -> str:
            return details[name] if is_ts(details.get(name)) else ""

        late = details.get("late")
        return cls(
            newest=ts("newest"),
            filled=ts("filled"),
            reach=ts("reach"),
            past=ts("past"),
            past_at=ts("past_at"),
            late={key: value for key, value in late.items() if is_ts(key)} if isinstance(late, dict) else {},
            is_archived=details.get("is_archived") is True,
        )

    def noting(self, late: Mapping[str, str]) -> Watermarks:
        """Remember threads with late replies; the most recent ones where there are too many."""
        if not late:
            return self
        latest = {ts: max(self.late.get(ts, ""), active) for ts, active in {**self.late, **late}.items()}
        kept = sorted(latest, key=lambda ts: latest[ts], reverse=True)[:MOST_LATE]
        return replace(self, late={ts: latest[ts] for ts in kept})

    def container(self, channel: Channel) -> Container:
        details: dict[str, Any] = {
            "newest": self.newest,
            "filled": self.filled,
            "reach": self.reach,
            "past": self.past,
            "past_at": self.past_at,
            "late": dict(self.late),
            "is_archived": self.is_archived,
        }
        return Container(channel.id, channel.label, details={key: value for key, value in details.items() if value})


def read_channel(raw: Any, user_name: Callable[[str], str]) -> Channel | None:
    """Read a conversation object; None for one without an id."""
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not raw["id"]:
        return None
    previous = raw.get("previous_names")
    names = [raw.get("name"), *(previous if isinstance(previous, list) else [])]
    is_direct = raw.get("is_im") is True
    return Channel(
        id=raw["id"],
        label=_label(raw, user_name)[:MOST_LABEL_CHARACTERS],
        names=[name for name in names if isinstance(name, str)],
        kind=_kind(raw),
        # Direct messages do not say that one is a member: they are one's own.
        is_member=is_direct or raw.get("is_member", raw.get("is_mpim")) is True,
        is_archived=raw.get("is_archived") is True,
    )


def picked(channels: Sequence[Channel], picks: Sequence[str]) -> list[Channel]:
    """Return the channels that were picked by name or id, all when nothing is picked.

    A renamed channel is still found by its former name, unless another has taken that.
    """
    if not picks:
        return list(channels)
    wanted = {pick.removeprefix("#") for pick in picks}
    current = {name for channel in channels for name in channel.names[:1]}
    former = wanted - current
    return [
        channel
        for channel in channels
        if channel.id in wanted or wanted.intersection(channel.names[:1]) or former.intersection(channel.names[1:])
    ]


def missing_picks(channels: Sequence[Channel], picks: Sequence[str]) -> list[str]:
    known = {name for channel in channels for name in (channel.id, *channel.names)}
    return [pick for pick in picks if pick.removeprefix("#") not in known]


def taken(channels: Iterable[Channel], remembered: Mapping[str, Container]) -> dict[str, Channel]:
    """Return, by id and in its order, the channels to read: one's own, and archived ones that were read before.

    What is stored of a channel stays when it is archived; what was archived before it was ever seen is left alone.
    """
    return {
        channel.id: channel
        for channel in sorted(channels, key=lambda channel: channel.id)
        if (channel.id in remembered if channel.is_archived else channel.is_member)
    }


def _kind(raw: Mapping[str, Any]) -> str:
    """Return the type by which `conversations.list` picks it."""
    if raw.get("is_im") is True:
        return "im"
    if raw.get("is_mpim") is True:
        return "mpim"
    return "private_channel" if raw.get("is_private") is True else "public_channel"


def _label(raw: Mapping[str, Any], user_name: Callable[[str], str]) -> str:
    name = raw.get("name")
    if raw.get("is_im") is True and isinstance(raw.get("user"), str):
        return f"@{safe_name(user_name(raw['user']))}"
    if not isinstance(name, str) or not name:
        return f"#{raw['id']}"
    if raw.get("is_mpim") is True and name.startswith("mpdm-"):
        people = name.removeprefix("mpdm-").rpartition("-")[0].split("--")
        return ", ".join(f"@{safe_name(person)}" for person in people if person) or f"#{name}"
    return f"#{safe_name(name)}"
