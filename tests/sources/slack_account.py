"""Opens the connector on a fake workspace, and syncs as an engine does that is stopped by rate limits."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.fakes.slack import TOKEN, FakeSlack
from tests.sources.mirror import Mirror, Report
from workstation_pipelines.errors import RateLimitedError
from workstation_pipelines.model import Cursor, JobType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import CredentialProvider, StaticToken
from workstation_pipelines.sources.slack.connector import Slack

LISTED = {"v": 1, "mode": "list", "channel": "~"}
"""The cursor behind the last page of a full listing."""


def context_of(vendor: FakeSlack, **changes: Any) -> SourceContext:
    credentials: CredentialProvider = StaticToken(TOKEN)
    fields: dict[str, Any] = {
        "clock": vendor.clock,
        "new_id": uuid4,
        "detect": lambda name, _head: "text/plain" if name.endswith(".txt") else "application/octet-stream",
        "has_text": lambda mime_type: mime_type.startswith("text/"),
        "credentials": credentials,
        "account": "alice",
        "urls": {"api": f"{vendor.url}/api", "files": vendor.url},
    }
    return SourceContext(**{**fields, **changes})


def open_slack(vendor: FakeSlack, *, token: str = TOKEN, **config: Any) -> Slack:
    return Slack.open(config, context_of(vendor, credentials=StaticToken(token)))


def sync(mirror: Mirror, vendor: FakeSlack, *, full: bool = False, **config: Any) -> Report:
    """Sync once with a source of its own, as each run has."""
    source = open_slack(vendor, **config)
    try:
        return mirror.sync(source, full=full)
    finally:
        source.close()


def sync_page_by_page(mirror: Mirror, vendor: FakeSlack, **config: Any) -> int:
    """Sync in runs that are each killed after one page; returns how many there were."""
    for run in range(1, 200):
        source = open_slack(vendor, **config)
        mirror.sync(source, most_pages=1)
        source.close()
        # Killed behind the last page, a run would go on with the delta that follows.
        behind: Any = mirror.resume["cursor"] if mirror.resume is not None else None
        if behind == LISTED:
            sync(mirror, vendor, **config)
            return run
        if behind in (None, {"v": 1, "mode": "delta"}):
            mirror.cursor, mirror.resume = behind or mirror.cursor, None
            return run
    raise AssertionError("it never ends")


class PatientMirror(Mirror):
    """Runs again and again, each time a minute later, when Slack asks to wait; what was committed before it stays."""

    def sync_patiently(self, vendor: FakeSlack, *, most_runs: int = 500, **config: Any) -> tuple[Report, int]:
        """Return what was done, and in how many runs. Each must get further than the one before."""
        report = Report()
        cursor: Cursor | None = self.cursor
        pending: Cursor | None = None
        self._seen = set() if cursor is None else None
        if cursor is None:
            pending = open_slack(vendor, **config).start_cursor()
        for run in range(1, most_runs + 1):
            source = open_slack(vendor, **config)
            before = (report.pages, len(self.contents), len(report.fetched))
            wait_s = 0.0
            try:
                absent: dict[str, None] = {}
                for page in source.pages(cursor, self, JobType.DELTA):
                    self._apply(source, page, report, absent)
                    cursor = page.cursor_after or cursor
                    report.pages += 1
            except RateLimitedError as limited:
                wait_s = limited.wait_s
            finally:
                source.close()
            if wait_s:
                assert (report.pages, len(self.contents), len(report.fetched)) != before, "a run without progress"
                vendor.later(seconds=wait_s)
                continue
            for external_id in self.live.keys() - self._seen if self._seen is not None else ():
                self._delete(external_id, report)
            self.cursor = pending or cursor
            self.scope = source.scope
            self._seen = None
            return report, run
        raise AssertionError("it never ends")
