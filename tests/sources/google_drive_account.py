"""An account at the fake Drive with what was synced of it, for the tests of Drive's own quirks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Self
from uuid import UUID

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.server import Request
from tests.sources.mirror import Mirror, Report
from workstation_pipelines.model import Content, Item
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import CredentialProvider, StaticToken
from workstation_pipelines.sources.google_drive.connector import GoogleDrive

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Account:
    """`config` is what the next sync is opened with; each sync opens the source anew, as a run does.

    At the end Drive must have been sent nothing that its contract does not know, and nothing that writes.
    """

    def __init__(self, fake: FakeGoogleDrive) -> None:
        fake.reset()
        self.fake = fake
        self.state = self.fake.state
        self.mirror = Mirror()
        self.config: dict[str, Any] = {}
        self.waits_s: list[float] = []
        self._ids = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.fake.violations == []
        assert self.fake.writes == []

    def open(
        self,
        *,
        credentials: CredentialProvider | None = None,
        text_types: Iterable[str] | None = None,
        urls: Mapping[str, str] | None = None,
    ) -> GoogleDrive:
        context = SourceContext(
            clock=lambda: NOW,
            new_id=lambda: UUID(int=next(self._ids)),
            detect=lambda name, _head: "text/markdown" if name.endswith(".md") else "application/octet-stream",
            credentials=credentials or StaticToken("test-token"),
            urls=urls or {"api": self.fake.url, "export": self.fake.export_url},
        )
        if text_types is not None:
            allowed = frozenset(text_types)
            context = replace(context, has_text=lambda mime_type: mime_type in allowed)
        source = GoogleDrive.open(self.config, context)
        source._api._sleep = self.waits_s.append
        return source

    def sync(self, *, full: bool = False, most_pages: int | None = None) -> Report:
        source = self.open()
        try:
            return self.mirror.sync(source, full=full, most_pages=most_pages)
        finally:
            source.close()

    def fetch(self, external_id: str, **more: Any) -> Content:
        """Fetch an item as it was listed last."""
        return self.fetch_item(self.mirror.live[external_id], **more)

    def fetch_item(self, item: Item, **more: Any) -> Content:
        source = self.open(**more)
        try:
            return source.fetch(item)
        finally:
            source.close()

    def paths(self) -> list[str]:
        return sorted(item.external_path for item in self.mirror.live.values())

    def texts(self) -> dict[str, str]:
        return self.mirror.texts()

    def requests(self, part: str) -> list[Request]:
        """Requests with `part` in their path or query, leaving out OAuth's."""
        return [request for request in self.fake.requests if part in request.path or part in str(request.query)]
