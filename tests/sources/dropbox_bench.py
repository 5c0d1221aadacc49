"""What the tests of Dropbox work with: a fake that must not have been broken or written to, and sources on it."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from tests.fakes.dropbox import FakeDropbox
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.dropbox.connector import Dropbox

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TOKEN = "test-token"
Opened = Callable[..., Dropbox]


@contextmanager
def served() -> Iterator[FakeDropbox]:
    with FakeDropbox() as vendor:
        yield vendor
    assert vendor.violations == []
    assert vendor.writes == []


@contextmanager
def sources_of(vendor: FakeDropbox) -> Iterator[Opened]:
    sources: list[Dropbox] = []

    def opened(credentials: Any = None, **config: Any) -> Dropbox:
        sources.append(Dropbox.open(config, context_of(vendor, credentials=credentials or StaticToken(TOKEN))))
        return sources[-1]

    yield opened
    for source in sources:
        source.close()


def context_of(vendor: FakeDropbox, **more: Any) -> SourceContext:
    numbers = count(1)
    return SourceContext(
        clock=lambda: NOW,
        new_id=lambda: UUID(int=next(numbers)),
        detect=lambda name, _head: mimetypes.guess_type(name)[0] or "application/octet-stream",
        has_text=lambda mime_type: mime_type.startswith("text/") or "officedocument" in mime_type,
        urls=vendor.urls(),
        **more,
    )


def truth(vendor: FakeDropbox, below: str = "") -> dict[str, str]:
    """Path -> text of all files."""
    space = vendor.space
    return {space.true_path(node)[1:]: node.body.decode() for node in space.below(below) if not node.is_folder}
