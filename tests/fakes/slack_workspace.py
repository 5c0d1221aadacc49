"""What a Slack workspace holds, and what people do in it: the state of the fake."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from tests.fakes.server import FakeVendor

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
TEAM = "T0ACME"
TOKEN = "test-token"

ALL_SCOPES = (
    *(f"{kind}:{what}" for kind in ("channels", "groups", "im", "mpim") for what in ("read", "history")),
    "users:read",
    "files:read",
)
KINDS = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}


@dataclass
class FakeChannel:
    id: str
    name: str
    kind: str = "public_channel"
    members: set[str] = field(default_factory=set)
    is_archived: bool = False
    previous_names: list[str] = field(default_factory=list)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By ts: parents and replies alike."""


class SlackWorkspace(FakeVendor):
    """One workspace. `user-1`, whom the test token belongs to, is Ana; Slack's own ids are used, so she is U1ANA.

    `now` moves by a second with each message and when told to. `most_objects` is the largest page of messages;
    `per_minute` gives methods a limit of their own, which `restrict()` sets to what unlisted commercial apps get.
    """

    provider: ClassVar[str] = "slack"

    def __init__(self, *, latency_s: float = 0.0, now: datetime = START) -> None:
        super().__init__(latency_s=latency_s)
        self.now = now
        self.tokens = {TOKEN: "U1ANA"}
        self.scopes: dict[str, tuple[str, ...]] = {TOKEN: ALL_SCOPES}
        self.bots: set[str] = set()
        """Users that are bots: they read only channels they were invited to."""
        self.refusals: dict[str, str] = {}
        """Token -> the error code that it is refused with."""
        self.users: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, FakeChannel] = {}
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.checked_files: set[str] = set()
        """Files that messages show only as `check_file_info`."""
        self.most_objects = 1000
        self.is_reversed = False
        self.per_minute: dict[str, int] = {}
        self._calls: dict[str, list[datetime]] = {}
        self._counter = 0
        self._in_threads: dict[tuple[str, str], list[str]] = {}
        """Channel and parent -> the replies there ever were, in order."""
        for user_id, name, full in (
            ("U1ANA", "ana", "Ana Gómez"),
            ("U2BOB", "bob", "Bob Lee"),
            ("U3EVE", "eve", "Eve"),
        ):
            self.add_user(user_id, name, full)

    def add_user(self, user_id: str, name: str, full: str) -> None:
        profile = {"display_name": "", "real_name": full, "email": f"{name}@acme.example"}
        with self.lock:
            self.users[user_id] = {
                "id": user_id,
                "team_id": TEAM,
                "name": name,
                "deleted": False,
                "real_name": full,
                "profile": profile,
                "is_bot": False,
                "updated": 1,
            }

    def add_channel(
        self, name: str, *, kind: str = "public_channel", members: Iterable[str] = ("U1ANA", "U2BOB")
    ) -> str:
        with self.lock:
            self._counter += 1
            stem = "".join(character for character in name.upper() if character.isascii() and character.isalnum())[:6]
            letter = {"im": "D", "private_channel": "G"}.get(kind, "C")
            channel = FakeChannel(f"{letter}{self._counter:03d}{stem}", name, kind, set(members))
            self.channels[channel.id] = channel
            return channel.id

    def join(self, channel_id: str, user: str = "U1ANA") -> None:
        with self.lock:
            self.channels[channel_id].members.add(user)

    def leave(self, channel_id: str, user: str = "U1ANA") -> None:
        with self.lock:
            self.channels[channel_id].members.discard(user)

    def archive(self, channel_id: str) -> None:
        with self.lock:
            self.channels[channel_id].is_archived = True

    def unarchive(self, channel_id: str) -> None:
        with self.lock:
            self.channels[channel_id].is_archived = False

    def delete_channel(self, channel_id: str) -> None:
        with self.lock:
            del self.channels[channel_id]

    def rename_channel(self, channel_id: str, name: str) -> None:
        with self.lock:
            channel = self.channels[channel_id]
            channel.previous_names.append(channel.name)
            channel.name = name

    def later(self, **interval: float) -> None:
        """Let time pass."""
        with self.lock:
            self.now += timedelta(**interval)

    def clock(self) -> datetime:
        return self.now

    def post(
        self,
        channel_id: str,
        text: str,
        *,
        user: str | None = "U1ANA",
        thread: str | None = None,
        is_broadcast: bool = False,
        ago: timedelta | None = None,
        files: Iterable[str] = (),
        **fields: Any,
    ) -> str:
        """Write a message, or a reply in `thread`; returns its ts. With `ago` it was written so long before now."""
        with self.lock:
            ts = self._new_ts(ago)
            message: dict[str, Any] = {"type": "message", "user": user, "text": text, "ts": ts, "team": TEAM}
            message["blocks"] = [{"type": "rich_text", "block_id": "b1", "elements": []}]
            file_objects = [self._file_in_message(file_id) for file_id in files]
            if file_objects:
                message |= {"files": file_objects, "upload": False}
            if thread is not None:
                message |= {"thread_ts": thread, "parent_user_id": self.message(channel_id, thread).get("user", "")}
                if is_broadcast:
                    message |= {"subtype": "thread_broadcast", "root": {"ts": thread}}
            message |= fields
            self.channels[channel_id].messages[ts] = {
                name: value for name, value in message.items() if value is not None
            }
            if message.get("thread_ts", ts) != ts:
                self._in_threads.setdefault((channel_id, message["thread_ts"]), []).append(ts)
            return ts

    def edit(self, channel_id: str, ts: str, text: str) -> None:
        with self.lock:
            message = self.message(channel_id, ts)
            message |= {"text": text, "edited": {"user": message.get("user", "U1ANA"), "ts": self._new_ts(None)}}

    def delete(self, channel_id: str, ts: str) -> None:
        """Delete a message; a parent with replies leaves a tombstone, and goes with its last reply."""
        with self.lock:
            messages = self.channels[channel_id].messages
            gone = messages.pop(ts)
            parent_ts = gone.get("thread_ts", ts)
            replies = self._replies(channel_id, parent_ts)
            if parent_ts == ts and replies:
                messages[ts] = {
                    "type": "message",
                    "subtype": "tombstone",
                    "text": "This message was deleted.",
                    "user": "USLACKBOT",
                    "hidden": True,
                    "ts": ts,
                }
            elif parent_ts != ts and not replies and messages.get(parent_ts, {}).get("subtype") == "tombstone":
                del messages[parent_ts]

    def add_file(self, name: str, body: bytes, *, mime_type: str, **fields: Any) -> str:
        """Upload a file; share it with `post(files=[...])`."""
        with self.lock:
            self._counter += 1
            file_id = f"F{self._counter:04d}"
            link = f"{self.url}/files-pri/{TEAM}-{file_id}/download/{name}"
            file = {
                "id": file_id,
                "created": 1,
                "timestamp": 1,
                "name": name,
                "title": name,
                "mimetype": mime_type,
                "filetype": name.rpartition(".")[2],
                "user": "U1ANA",
                "size": len(body),
                "mode": "hosted",
                "is_external": False,
                "url_private": link,
                "url_private_download": link,
                "permalink": f"https://acme.slack.com/files/U1ANA/{file_id}/{name}",
            }
            self.files[file_id] = ({**file, **fields}, body)
            return file_id

    def delete_file(self, file_id: str) -> None:
        with self.lock:
            del self.files[file_id]
            for channel in self.channels.values():
                for message in channel.messages.values():
                    files = message.get("files", [])
                    message.update({"files": [_tombstone_of(file, file_id) for file in files]} if files else {})

    def message(self, channel_id: str, ts: str) -> dict[str, Any]:
        return self.channels[channel_id].messages[ts]

    def path(self, channel_id: str, ts: str) -> str:
        """What our items of it are called."""
        moment = datetime.fromtimestamp(int(ts.partition(".")[0]), UTC)
        return f"#{self.channels[channel_id].name}/{moment:%Y-%m-%d} {ts}"

    def restrict(self) -> None:
        """Be as mean as to commercial apps outside the marketplace: 15 objects, one request a minute."""
        self.most_objects = 15
        self.per_minute = {"conversations.history": 1, "conversations.replies": 1}

    def _new_ts(self, ago: timedelta | None) -> str:
        self._counter += 1
        if ago is None:
            self.now += timedelta(seconds=1)
        moment = self.now - (ago or timedelta(0))
        return f"{int(moment.timestamp()):010d}.{self._counter:06d}"

    def _file_in_message(self, file_id: str) -> dict[str, Any]:
        if file_id in self.checked_files:
            return {"id": file_id, "mode": "file_access", "file_access": "check_file_info"}
        return dict(self.files[file_id][0])

    def _replies(self, channel_id: str, parent_ts: str) -> list[str]:
        messages = self.channels[channel_id].messages
        return sorted(ts for ts in self._in_threads.get((channel_id, parent_ts), ()) if ts in messages)


def _tombstone_of(file: dict[str, Any], file_id: str) -> dict[str, Any]:
    return {"id": file_id, "mode": "tombstone"} if file["id"] == file_id else file
