"""A Slack account for the suite that every source passes: public channels are the scope, a private one lies outside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.slack import FakeSlack
from workstation_pipelines.model import SourceType


class SlackStage:
    """One account. Things are messages: `create` posts to one channel, `share_old` is being added to another."""

    source_type = SourceType.SLACK
    config: Mapping[str, Any] = {"types": ["public_channel"]}
    operations = frozenset(("create", "edit", "rename_folder", "share_old", "unshare", "delete", "recreate"))

    def __init__(self, vendor: FakeSlack | None = None) -> None:
        # What counts as recent is decided by the clock of whoever syncs.
        self.slack = vendor or FakeSlack(now=datetime.now(UTC) - timedelta(hours=1))
        self.vendor = self.slack
        self._general = self.slack.add_channel("general")
        outside = self.slack.add_channel("board", kind="private_channel")
        self.slack.post(outside, "Nobody outside the board may find this")
        self._messages: dict[str, tuple[str, str, str]] = {}
        """Key -> channel, ts and text; a key is the first id of the message."""

    def urls(self) -> dict[str, str]:
        return {"api": f"{self.slack.url}/api", "files": self.slack.url}

    def create(self, name: str, text: str) -> str:
        return self._put(self._general, name, text)

    def edit(self, key: str, text: str) -> None:
        channel, ts, _ = self._messages[key]
        self.slack.edit(channel, ts, text)
        self._messages[key] = (channel, ts, text)

    def rename(self, key: str, name: str) -> None:
        raise NotImplementedError("a message has no name")

    def rename_case(self, key: str) -> None:
        raise NotImplementedError("a message has no name")

    def move_in(self, name: str, text: str) -> str:
        raise NotImplementedError("messages stay in their channel")

    def move_out(self, key: str) -> None:
        raise NotImplementedError("messages stay in their channel")

    def rename_folder(self, name: str) -> None:
        self.slack.rename_channel(self._general, name.lower().replace(" ", "-"))

    def trash(self, key: str) -> None:
        raise NotImplementedError("Slack has no trash")

    def restore(self, key: str) -> None:
        raise NotImplementedError("Slack has no trash")

    def share_old(self, name: str, text: str) -> str:
        channel = self.slack.add_channel(f"old-{len(self._messages)}", members=["U2BOB"])
        key = self._put(channel, name, text, ago=timedelta(days=365), user="U2BOB")
        self.slack.join(channel)
        return key

    def unshare(self, key: str) -> None:
        self.slack.leave(self._messages.pop(key)[0])

    def delete(self, key: str) -> None:
        channel, ts, _ = self._messages.pop(key)
        self.slack.delete(channel, ts)

    def recreate(self, key: str, text: str) -> str:
        channel = self._messages[key][0]
        self.delete(key)
        return self._put(channel, "again", text)

    def expire_cursor(self) -> None:
        raise NotImplementedError("Slack has no cursors that expire")

    def set_page_size(self, items: int) -> None:
        self.slack.most_objects = items

    def truth(self) -> dict[str, str]:
        return {self.slack.path(channel, ts): text for channel, ts, text in self._messages.values()}

    def _put(self, channel: str, name: str, text: str, **more: Any) -> str:
        whole = f"{name}\n{text}"
        ts = self.slack.post(channel, whole, **more)
        key = f"{channel}:{ts}"
        self._messages[key] = (channel, ts, whole)
        return key
