"""A Notion connection for tests: a fake, a clock that both sides share or not, and a mirror of what was synced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.fakes.notion import FakeNotion
from tests.sources.mirror import Mirror, Report
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.notion.connector import Notion

MUCH_LATER = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class NotionAccount:
    """`sync` opens a source anew each time, as runs do. `now` is our clock; None follows Notion's."""

    def __init__(self) -> None:
        self.vendor = FakeNotion()
        self.workspace = self.vendor.workspace
        self.mirror = Mirror()
        self.config: dict[str, Any] = {}
        self.token = "test-token"
        self.now: datetime | None = MUCH_LATER

    def open(self, **config: Any) -> Notion:
        context = SourceContext(
            clock=lambda: self.now or self.workspace.now,
            new_id=uuid4,
            detect=lambda _name, _head: "application/octet-stream",
            credentials=StaticToken(self.token),
            urls={"api": self.vendor.url},
        )
        return Notion.open({**self.config, **config}, context)

    def sync(self, *, full: bool = False, most_pages: int | None = None) -> Report:
        source = self.open()
        try:
            return self.mirror.sync(source, full=full, most_pages=most_pages)
        finally:
            source.close()

    def text(self, path: str) -> str:
        return self.mirror.texts()[path]

    @property
    def paths(self) -> set[str]:
        return set(self.mirror.texts())

    def together(self) -> None:
        """Let several changes fall into one minute: the workspace's time stands still until `advance`."""
        self.now = None
        self.workspace.step = timedelta()
