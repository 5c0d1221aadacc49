"""A source whose fetches and pages hang until a test lets them go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from threading import Event
from typing import Any

from tests.sync.told import ThreadedSource
from workstation_pipelines.model import Content, Cursor, Item, JobType, Page
from workstation_pipelines.sources.contract import Known

LONGEST_S = 30.0
"""A test that fails does not hang."""


class SlowSource(ThreadedSource):
    """Hangs at the fetch of each item in `slow`, and before page `slow_page`; `hangs` is set as soon as it does."""

    def __init__(self, *told: Any, slow: Collection[str] = (), slow_page: int | None = None, **more: Any) -> None:
        super().__init__(*told, **more)
        self._slow = slow
        self._slow_page = slow_page
        self.hangs = Event()
        self.go_on = Event()

    def fetch(self, item: Item) -> Content:
        if item.external_id in self._slow:
            self._hang()
        return super().fetch(item)

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        for number, page in enumerate(super().pages(cursor, known, job_type)):
            if number == self._slow_page:
                self._hang()
            yield page

    def _hang(self) -> None:
        self.hangs.set()
        self.go_on.wait(LONGEST_S)
